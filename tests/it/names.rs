//! Names with characters that the server refuses: stored as look-alikes, shown as what they stand for.

mod any;
#[path = "../../src/names/made_up.rs"]
mod made_up;
mod same;

use std::ffi::OsString;
use std::io::ErrorKind;

use cloudreve_test_server::{Options, Server};

use crate::support::mounted::Mounted;
use crate::support::xattr;

/// As a program here says it, and as the server has it.
const NAMES: [(&str, &str); 11] = [
    ("\\", "＼"),
    (":", "："),
    ("*", "＊"),
    ("?", "？"),
    ("\"", "＂"),
    ("<", "＜"),
    (">", "＞"),
    ("|", "｜"),
    ("what? 12:30 <a|b>.txt", "what？ 12：30 ＜a｜b＞.txt"),
    // A look-alike that is meant as such.
    ("really：", "really‛："),
    ("ordinary.txt", "ordinary.txt"),
];

fn drive() -> Server {
    let server = Server::start(Options::default()).unwrap();
    for (local, stored) in NAMES {
        server.put(&format!("names/{stored}"), local.as_bytes().to_vec());
        server.put(&format!("folders/{stored}/{stored}"), b"below".to_vec());
    }
    server
}

fn shown(mount: &Mounted, folder: &str) -> Vec<OsString> {
    let entries = std::fs::read_dir(mount.path(folder)).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    names
}

fn sorted(names: impl Iterator<Item = &'static str>) -> Vec<OsString> {
    let mut names: Vec<_> = names.map(OsString::from).collect();
    names.sort();
    names
}

#[test]
fn look_alikes_are_shown_as_what_they_stand_for_and_found_by_it() {
    let server = drive();
    // Asked for by name before and after the folder was listed: the way there and the way back.
    for listed in [false, true] {
        let mount = Mounted::new(&server, "cloudreve://my/", &["--names", "encode"]);
        if listed {
            let expected = sorted(NAMES.iter().map(|(local, _)| *local));
            assert_eq!(shown(&mount, "names"), expected);
            assert_eq!(shown(&mount, "folders"), expected);
        }
        for (local, stored) in NAMES {
            let path = mount.path("names").join(local);
            assert_eq!(std::fs::read(&path).unwrap(), local.as_bytes(), "{local}");
            assert_eq!(
                xattr::get(&path, "user.cloudreve.id").unwrap(),
                server.file_id(&format!("names/{stored}")).into_bytes(),
                "{local}"
            );
            let below = mount.path("folders").join(local).join(local);
            assert_eq!(std::fs::read(below).unwrap(), b"below", "{local}");
            if stored != local {
                let other = std::fs::read(mount.path("names").join(stored)).unwrap_err();
                assert_eq!(other.kind(), ErrorKind::NotFound, "two names for {local}");
            }
        }
    }
}

#[test]
fn where_refused_names_are_rejected_look_alikes_are_names_like_others() {
    let server = drive();
    let mount = Mounted::new(&server, "cloudreve://my/", &["--names", "reject"]);
    for listed in [false, true] {
        if listed {
            let expected = sorted(NAMES.iter().map(|(_, stored)| *stored));
            assert_eq!(shown(&mount, "names"), expected);
        }
        for (local, stored) in NAMES {
            let found = std::fs::read(mount.path("names").join(stored)).unwrap();
            assert_eq!(found, local.as_bytes(), "{stored}");
            if stored != local {
                let refused = std::fs::read(mount.path("names").join(local)).unwrap_err();
                assert_eq!(refused.kind(), ErrorKind::NotFound, "{local}");
            }
        }
    }
}
