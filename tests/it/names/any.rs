//! Names of all bytes, made up anew each time, through a mount to a server that takes text only, and back.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

use cloudreve_test_server::{Options, Server};

use super::made_up::MadeUp;
use crate::support::mounted::Mounted;
use crate::support::seed;

/// How many names there are at once.
const NAMES: usize = 300;

const NOW: &[&str] = &["--upload-delay", "0s"];

/// Bytes of the stored form of a name, counted apart from the program: a look-alike has three, a quote three more, a byte
/// that is no UTF-8 a quote and two digits.
fn stored_bytes(name: &[u8]) -> usize {
    let letter = |c: char| match c {
        '\\' | ':' | '*' | '?' | '"' | '<' | '>' | '|' => 3,
        '‛' | '＼' | '：' | '＊' | '？' | '＂' | '＜' | '＞' | '｜' => 6,
        c => c.len_utf8(),
    };
    let chunks = name.utf8_chunks();
    chunks
        .map(|chunk| chunk.valid().chars().map(letter).sum::<usize>() + 5 * chunk.invalid().len())
        .sum()
}

/// What has a name: a file whose content is a number, or a folder where the storage of the server would take no file.
#[derive(Clone, Copy)]
enum What {
    File(usize),
    Folder,
}

fn below(mount: &Mounted, name: &[u8]) -> PathBuf {
    mount.path("names").join(OsStr::from_bytes(name))
}

fn listed(mount: &Mounted) -> BTreeSet<Vec<u8>> {
    let entries = fs::read_dir(mount.path("names")).unwrap();
    entries
        .map(|entry| entry.unwrap().file_name().into_vec())
        .collect()
}

#[track_caller]
fn check(mount: &Mounted, expected: &BTreeMap<Vec<u8>, What>) {
    let found = listed(mount);
    let names: BTreeSet<Vec<u8>> = expected.keys().cloned().collect();
    let differing: Vec<_> = found.symmetric_difference(&names).collect();
    assert!(differing.is_empty(), "{differing:x?}");
    for (name, what) in expected {
        let path = below(mount, name);
        match what {
            What::File(number) => {
                let content = fs::read(&path).unwrap_or_else(|err| panic!("{name:x?}: {err}"));
                assert_eq!(content, number.to_string().as_bytes(), "{name:x?}");
            }
            What::Folder => assert!(path.is_dir(), "{name:x?}"),
        }
    }
}

fn remounted(mut mount: Mounted, server: &Server) -> Mounted {
    mount.sync();
    assert!(mount.end().success(), "{}", mount.log());
    mount.again(server, "cloudreve://my/", NOW)
}

#[test]
fn names_of_any_bytes_are_made_listed_read_renamed_and_deleted_and_stay_what_they_are() {
    let server = Server::start(Options::default()).unwrap();
    server.configure(|settings| settings.names_are_text = true);
    server.mkdir("names");
    let mut made_up = MadeUp(seed());
    let mount = Mounted::new(&server, "cloudreve://my/", NOW);

    let mut expected = BTreeMap::new();
    let mut refused = 0;
    while expected.len() < NAMES {
        let name = made_up.name();
        if expected.contains_key(&name) {
            continue;
        }
        let (path, number) = (below(&mount, &name), expected.len());
        match stored_bytes(&name) {
            ..=230 => {
                let made = fs::write(&path, number.to_string());
                made.unwrap_or_else(|err| panic!("{name:x?}: {err}"));
                expected.insert(name, What::File(number));
            }
            231..=255 => {
                fs::create_dir(&path).unwrap_or_else(|err| panic!("{name:x?}: {err}"));
                expected.insert(name, What::Folder);
            }
            256.. => {
                for made in [fs::write(&path, ""), fs::create_dir(&path)] {
                    let errno = made.unwrap_err().raw_os_error();
                    assert_eq!(errno, Some(libc::ENAMETOOLONG), "{name:x?}");
                }
                refused += 1;
            }
        }
    }
    assert!(refused > 0, "no name was too long");
    check(&mount, &expected);
    let mount = remounted(mount, &server);
    let stored = server.names("names").unwrap();
    assert_eq!(stored.len(), NAMES, "the server has one name for each");
    // Asked for by name before the folder was listed, and after.
    for name in expected.keys().take(NAMES / 2) {
        assert!(below(&mount, name).exists(), "{name:x?}");
    }
    check(&mount, &expected);

    let mut renamed = BTreeMap::new();
    for (name, what) in expected {
        // One that something was called before may be among them.
        let new = loop {
            let new = made_up.name();
            let is_free = || below(&mount, &new).symlink_metadata().is_err();
            if stored_bytes(&new) <= 230 && is_free() {
                break new;
            }
        };
        let result = fs::rename(below(&mount, &name), below(&mount, &new));
        result.unwrap_or_else(|err| panic!("{name:x?} to {new:x?}: {err}"));
        renamed.insert(new, what);
    }
    check(&mount, &renamed);
    let mount = remounted(mount, &server);
    check(&mount, &renamed);

    for (name, what) in &renamed {
        let deleted = match what {
            What::File(_) => fs::remove_file(below(&mount, name)),
            What::Folder => fs::remove_dir(below(&mount, name)),
        };
        deleted.unwrap_or_else(|err| panic!("{name:x?}: {err}"));
    }
    assert_eq!(listed(&mount), BTreeSet::new());
    let mount = remounted(mount, &server);
    assert_eq!(listed(&mount), BTreeSet::new());
    assert_eq!(server.names("names"), Some(Vec::new()));
}

#[test]
fn names_that_mean_something_in_an_address_reach_their_own_files_only() {
    let server = Server::start(Options::default()).unwrap();
    // Each of them is what some spelling below would reach, were it not encoded in full.
    for decoy in ["b", "a/b", "a/x"] {
        server.put(&format!("place/{decoy}"), format!("decoy {decoy}"));
    }
    let mount = Mounted::new(&server, "cloudreve://my/place", NOW);
    let names = [
        "a#b", "a?b", "a%2Fb", "a%2fb", "%2e%2e", "%2E", "a%23b", "%", "%%", "%zz", "a%00", "...",
        ". .", "a&b=c", "a+b", "~", "a;b", "a@b", "b ", " b", "b.", ".b", "#", "?", "a%252Fb",
        "b%20",
    ];
    for name in &names {
        fs::write(mount.path(name), name).unwrap();
    }
    mount.sync();
    for name in &names {
        assert_eq!(fs::read(mount.path(name)).unwrap(), name.as_bytes());
        assert!(fs::create_dir(mount.path(name)).is_err(), "{name}");
        fs::rename(mount.path(name), mount.path(format!("{name}%2F"))).unwrap();
        fs::create_dir(mount.path(name)).unwrap();
        fs::write(mount.path(format!("{name}/{name}")), "inside").unwrap();
    }
    mount.sync();
    for name in &names {
        assert_eq!(
            fs::read(mount.path(format!("{name}/{name}"))).unwrap(),
            b"inside"
        );
        fs::remove_dir_all(mount.path(name)).unwrap();
        fs::remove_file(mount.path(format!("{name}%2F"))).unwrap();
    }
    mount.sync();
    let decoys = |folder: &str| server.names(folder).unwrap();
    assert_eq!(decoys("place"), ["a", "b"]);
    assert_eq!(decoys("place/a"), ["b", "x"]);
    assert_eq!(server.content("place/b").unwrap(), b"decoy b");
    assert_eq!(server.content("place/a/b").unwrap(), b"decoy a/b");
}

#[test]
fn dots_and_spaces_at_the_ends_are_stored_as_they_are() {
    let server = Server::start(Options::default()).unwrap();
    let mount = Mounted::new(&server, "cloudreve://my/", NOW);
    let names = [
        " x", "  ", "...", "..x", "x", "x ", "x  ", "x.", "x..", "x. ",
    ];
    for name in names {
        fs::write(mount.path(name), name).unwrap();
    }
    let mount = remounted(mount, &server);
    for name in names {
        assert_eq!(fs::read(mount.path(name)).unwrap(), name.as_bytes());
        assert_eq!(server.content(name).unwrap(), name.as_bytes());
    }
}

#[test]
fn names_that_other_programs_stored_in_bytes_show_with_their_ids_and_can_be_used() {
    let server = Server::start(Options::default()).unwrap();
    // The test server's own spelling of a byte that is no UTF-8.
    let id = server.put("latin\u{10ffe9}", "foreign");
    let mount = Mounted::new(&server, "cloudreve://my/", NOW);
    let shown = [b"latin\xe9 (", id.as_bytes(), b")"].concat();
    let shown = mount.path(OsStr::from_bytes(&shown));
    assert_eq!(fs::read(&shown).unwrap(), b"foreign");
    let own = mount.path(OsStr::from_bytes(b"latin\xe9"));
    assert!(!own.exists());
    fs::write(&own, "ours").unwrap();
    fs::write(&shown, "changed").unwrap();
    mount.sync();
    assert_eq!(server.content("latin‛E9").unwrap(), b"ours");
    assert_eq!(server.content("latin\u{10ffe9}").unwrap(), b"changed");
    fs::rename(&shown, mount.path("plain")).unwrap();
    assert_eq!(fs::read(&own).unwrap(), b"ours");
    assert_eq!(server.names("").unwrap(), ["latin‛E9", "plain"]);
}

#[test]
fn where_names_are_rejected_what_the_server_refuses_is_an_invalid_name() {
    let server = Server::start(Options::default()).unwrap();
    let options = [NOW, &["--names", "reject"]].concat();
    let mount = Mounted::new(&server, "cloudreve://my/", &options);
    fs::write(mount.path("plain"), "x").unwrap();
    for refused in [&b"a:b"[..], b"\\", b"a\xff", b"\xc3", b"what?"] {
        let path = mount.path(OsStr::from_bytes(refused));
        let tried = [
            fs::write(&path, "x"),
            fs::create_dir(&path),
            fs::rename(mount.path("plain"), &path),
        ];
        for tried in tried {
            assert_eq!(
                tried.unwrap_err().raw_os_error(),
                Some(libc::EINVAL),
                "{refused:x?}"
            );
        }
    }
    for taken in ["a：b", "‛", "‛FF", "x. "] {
        fs::write(mount.path(taken), taken).unwrap();
    }
    mount.sync();
    for taken in ["a：b", "‛", "‛FF", "x. "] {
        assert_eq!(server.content(taken).unwrap(), taken.as_bytes());
    }
}
