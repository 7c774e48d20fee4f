//! Names whose stored form is longer than every storage takes: a part of them is stored, and all of them is shown.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::time::Duration;

use cloudreve_fuse::names::{NamePolicy, Stored};
use cloudreve_test_server::{Fault, Options, Route, Server};

use crate::support::mounted::Mounted;
use crate::support::shell::{self, wait_until};

const ROOT: &str = "cloudreve://my/";
const NOW: &[&str] = &["--upload-delay", "0s"];
const LATER: &[&str] = &["--upload-delay", "1h"];
const KEY: &str = "customize:fuse";

/// One of 255 bytes, or nearly, of each kind.
fn kinds() -> Vec<OsString> {
    let of = |bytes: Vec<u8>| OsStr::from_bytes(&bytes).to_owned();
    vec![
        of(vec![b'a'; 255]),
        of(vec![b'b'; 231]),
        // Two with the same beginning, and one with another ending.
        of([&[b'a'; 254][..], b"b"].concat()),
        of([&[b'a'; 248][..], b".tar.gz"].concat()),
        of(["é".repeat(127).as_bytes(), b"x"].concat()),
        of("字".repeat(85).into_bytes()),
        of(vec![b'?'; 255]),
        of(vec![0xff; 255]),
        of("：".repeat(85).into_bytes()),
        of(vec![1; 255]),
        of([&[b' '; 127][..], &[b'.'; 128]].concat()),
    ]
}

fn long(letter: &str) -> OsString {
    letter.repeat(255 / letter.len()).into()
}

/// Under what the server has it.
fn stored(name: impl AsRef<OsStr>) -> String {
    let stored = Stored::of(name.as_ref(), NamePolicy::Encode).unwrap();
    assert!(stored.full.is_some() && stored.name.as_bytes().len() <= 230);
    stored.name.to_string()
}

fn listed(folder: &Path) -> BTreeSet<OsString> {
    let entries = fs::read_dir(folder).unwrap();
    entries.map(|entry| entry.unwrap().file_name()).collect()
}

fn set<const N: usize>(names: [&OsStr; N]) -> BTreeSet<OsString> {
    names.into_iter().map(OsStr::to_owned).collect()
}

/// What lies below the mount, as programs see it.
fn tree(root: &Path) -> BTreeMap<OsString, Option<Vec<u8>>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let content = match path.symlink_metadata().unwrap() {
                is if is.is_dir() => {
                    folders.push(path.clone());
                    None
                }
                is if is.is_symlink() => Some(
                    fs::read_link(&path)
                        .unwrap()
                        .as_os_str()
                        .as_bytes()
                        .to_vec(),
                ),
                _ => Some(fs::read(&path).unwrap()),
            };
            let path = path.strip_prefix(root).unwrap();
            found.insert(path.as_os_str().to_owned(), content);
        }
    }
    found
}

/// No name of the server's is longer than its disk takes.
fn stored_below(server: &Server, folder: &str) -> usize {
    let mut count = 0;
    for name in server.names(folder).unwrap() {
        assert!(name.len() <= 230, "{name}");
        let path = match folder {
            "" => name,
            _ => format!("{folder}/{name}"),
        };
        count += 1;
        if server.names(&path).is_some() {
            count += stored_below(server, &path);
        }
    }
    count
}

#[test]
fn every_kind_of_long_name_is_kept_listed_found_and_the_same_on_each_mount() {
    let server = Server::start(Options::default()).unwrap();
    server.configure(|settings| settings.names_are_text = true);
    let mount = Mounted::new(&server, ROOT, NOW);
    let kinds = kinds();
    for folder in ["files", "empty", "links"] {
        fs::create_dir(mount.path(folder)).unwrap();
    }
    for (number, name) in kinds.iter().enumerate() {
        let content = number.to_string();
        fs::write(mount.path("files").join(name), &content).unwrap();
        fs::write(mount.path("empty").join(name), "").unwrap();
        let link = mount.path("links").join(name);
        std::os::unix::fs::symlink(name, link).unwrap();
        // And below each other, of names, of which a path would be too long.
        let folder = mount.path(name);
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join(name), &content).unwrap();
        fs::write(folder.join("plain"), &content).unwrap();
    }
    let expected = tree(&mount.path(""));
    assert_eq!(expected.len(), 3 + 6 * kinds.len());
    mount.sync();
    assert_eq!(stored_below(&server, ""), expected.len());
    assert_eq!(tree(&mount.path("")), expected);

    // Found by name before anything was listed, and after.
    let second = Mounted::new(&server, ROOT, NOW);
    for name in &kinds {
        let content = fs::read(second.path("files").join(name)).unwrap();
        assert_eq!(
            Some(content),
            expected[&*Path::new("files").join(name).into_os_string()]
        );
        assert_eq!(
            fs::read_link(second.path("links").join(name)).unwrap(),
            *name
        );
        assert!(second.path(name).join(name).exists());
    }
    assert_eq!(tree(&second.path("")), expected);
    let mut mount = mount;
    assert!(mount.end().success(), "{}", mount.log());
    let mount = mount.again(&server, ROOT, NOW);
    server.reset_counters();
    assert_eq!(tree(&mount.path("")), expected);
    assert_eq!(server.count(Route::Info), 0, "listings tell the names");

    for name in &kinds {
        for folder in ["files", "empty", "links"] {
            fs::remove_file(mount.path(folder).join(name)).unwrap();
        }
        fs::remove_dir_all(mount.path(name)).unwrap();
    }
    mount.sync();
    assert_eq!(stored_below(&server, ""), 3);
    assert_eq!(tree(&mount.path("")).len(), 3);
}

#[test]
fn a_long_name_is_made_by_one_request_and_shown_at_once_elsewhere() {
    let server = Server::start(Options::default()).unwrap();
    let mount = Mounted::new(&server, ROOT, NOW);
    server.reset_counters();
    fs::write(mount.path(long("f")), "content").unwrap();
    fs::create_dir(mount.path(long("d"))).unwrap();
    mount.sync();
    assert_eq!(server.count(Route::Metadata), 0);
    let second = Mounted::new(&server, ROOT, NOW);
    assert_eq!(listed(&second.path("")), set([&long("f"), &long("d")]));
}

#[test]
fn a_file_is_renamed_to_a_long_name_to_another_and_away_from_it() {
    let server = Server::start(Options::default()).unwrap();
    server.put("known", "known");
    server.mkdir("folder");
    server.put("folder/below", "below");
    let mount = Mounted::new(&server, ROOT, &[NOW, &["--metadata-ttl", "0s"]].concat());
    let second = Mounted::new(&server, ROOT, &["--metadata-ttl", "0s"]);
    let mut here = ["known".into(), OsString::from("folder")];
    for round in [
        [long("x"), long("ü")],
        [long("y"), long("?")],
        ["k".into(), "f".into()],
    ] {
        for (old, new) in here.iter().zip(&round) {
            fs::rename(mount.path(old), mount.path(new)).unwrap();
            // Nobody sees it under a name that it never had.
            let seen = listed(&second.path(""));
            assert!(seen.contains(new) && !seen.contains(old), "{seen:?}");
        }
        here = round;
        assert_eq!(listed(&mount.path("")), set([&here[0], &here[1]]));
        assert_eq!(fs::read(mount.path(&here[0])).unwrap(), b"known");
        assert_eq!(
            fs::read(mount.path(&here[1]).join("below")).unwrap(),
            b"below"
        );
        let inner = mount.path(&here[1]).join(long("n"));
        fs::write(&inner, here[0].as_bytes()).unwrap();
        mount.sync();
        assert_eq!(listed(&second.path("")), set([&here[0], &here[1]]));
        assert_eq!(
            fs::read(second.path(&here[1]).join(long("n"))).unwrap(),
            here[0].as_bytes()
        );
    }
    // Nothing of the old names is left with them.
    assert!(
        !server
            .metadata("k", KEY)
            .unwrap_or_default()
            .contains("\"n\"")
    );
    assert!(
        !server
            .metadata("f", KEY)
            .unwrap_or_default()
            .contains("\"n\"")
    );
    assert_eq!(server.names("").unwrap(), ["f", "k"]);
}

#[test]
fn a_long_name_is_taken_over_exchanged_and_carried_to_another_folder() {
    let server = Server::start(Options::default()).unwrap();
    server.mkdir("a");
    server.mkdir("b");
    let mount = Mounted::new(&server, ROOT, NOW);
    let [x, y, z] = ["x", "y", "z"].map(long);
    let (a, b) = (mount.path("a"), mount.path("b"));
    let check = |expected: &[(&Path, &OsStr, &str)]| {
        for root in [None, Some(())] {
            if root.is_some() {
                mount.sync();
            }
            for folder in [&a, &b] {
                let names: BTreeSet<OsString> = expected
                    .iter()
                    .filter(|(at, ..)| *at == *folder)
                    .map(|(_, name, _)| (*name).to_owned())
                    .collect();
                assert_eq!(listed(folder), names);
            }
            for (folder, name, content) in expected {
                assert_eq!(fs::read(folder.join(name)).unwrap(), content.as_bytes());
            }
        }
        let second = Mounted::new(&server, ROOT, NOW);
        assert_eq!(tree(&second.path("")), tree(&mount.path("")));
    };
    fs::write(a.join(&x), "1").unwrap();
    fs::write(a.join(&y), "2").unwrap();
    // What is only here, and what is on the server.
    fs::rename(a.join(&x), a.join(&y)).unwrap();
    check(&[(&a, &y, "1")]);
    fs::write(b.join("plain"), "3").unwrap();
    mount.sync();
    fs::rename(b.join("plain"), a.join(&y)).unwrap();
    check(&[(&a, &y, "3")]);
    fs::rename(a.join(&y), b.join(&y)).unwrap();
    check(&[(&b, &y, "3")]);
    fs::rename(b.join(&y), a.join(&z)).unwrap();
    check(&[(&a, &z, "3")]);
    fs::write(a.join("plain"), "4").unwrap();
    fs::write(a.join(&z), "5").unwrap();
    mount.sync();
    let how = rustix::fs::RenameFlags::EXCHANGE;
    let exchange = |one: &Path, other: &Path| {
        rustix::fs::renameat_with(rustix::fs::CWD, one, rustix::fs::CWD, other, how).unwrap();
    };
    exchange(&a.join("plain"), &a.join(&z));
    check(&[(&a, &z, "4"), (&a, OsStr::new("plain"), "5")]);
    fs::write(a.join(&z), "6").unwrap();
    fs::rename(a.join("plain"), a.join(&x)).unwrap();
    exchange(&a.join(&x), &a.join(&z));
    check(&[(&a, &x, "6"), (&a, &z, "5")]);
    // A large one is swapped rather than copied.
    fs::write(a.join("large"), vec![b'7'; 3 << 20]).unwrap();
    mount.sync();
    drop(mount.path("a"));
    fs::rename(a.join("large"), a.join(&x)).unwrap();
    check(&[(&a, &x, &"7".repeat(3 << 20)), (&a, &z, "5")]);
}

#[test]
fn what_is_on_its_way_shows_once_here_and_with_its_id_elsewhere_until_it_is_there() {
    let server = Server::start(Options::default()).unwrap();
    let mount = Mounted::new(&server, ROOT, &[NOW, &["--metadata-ttl", "0s"]].concat());
    let second = Mounted::new(&server, ROOT, &["--metadata-ttl", "0s"]);
    let name = long("w");
    let slowly = Fault::on(Route::UploadChunk).delay(Duration::from_secs(4));
    server.fail(slowly.times(1));
    fs::write(mount.path(&name), vec![b'w'; 1 << 20]).unwrap();
    wait_until("it is on its way", || server.open_uploads() == 1);
    assert_eq!(listed(&mount.path("")), set([&name]));
    let seen = listed(&second.path(""));
    let id = format!(" ({})", server.file_id(&stored(&name)));
    assert_eq!(seen.len(), 1);
    assert!(
        seen.iter()
            .all(|name| name.as_bytes().ends_with(id.as_bytes())),
        "{seen:?}"
    );
    assert_eq!(fs::metadata(mount.path(&name)).unwrap().len(), 1 << 20);
    mount.sync();
    for mount in [&mount, &second] {
        assert_eq!(listed(&mount.path("")), set([&name]));
    }
}

#[test]
fn what_is_owed_has_its_long_name_after_a_kill() {
    let server = Server::start(Options::default()).unwrap();
    server.put("known", "old");
    let mut mount = Mounted::new(&server, ROOT, LATER);
    let [x, y, d] = ["x", "ÿ", "d"].map(long);
    fs::create_dir(mount.path(&d)).unwrap();
    fs::write(mount.path(&x), "1").unwrap();
    fs::write(mount.path(&d).join(&x), "2").unwrap();
    // Made under one name, and renamed; over what the server has.
    fs::write(mount.path("plain"), "3").unwrap();
    fs::rename(mount.path("plain"), mount.path(&d).join(&y)).unwrap();
    fs::write(mount.path("known"), "4").unwrap();
    fs::rename(mount.path("known"), mount.path(&y)).unwrap();
    let expected = tree(&mount.path(""));
    assert_eq!(expected.len(), 5);
    // One file below a folder, by its name.
    let asked = mount.path(&d).join(&x);
    mount.command(&[OsStr::new("sync"), asked.as_os_str()]);
    let path = format!("{}/{}", stored(&d), stored(&x));
    assert_eq!(server.content(&path).unwrap(), b"2");
    assert_eq!(server.content(&stored(&x)), None);
    let owed = mount.status()["owed"].to_string();
    assert!(owed.contains(&*x.to_string_lossy()), "{owed}");
    assert!(owed.contains(&*y.to_string_lossy()), "{owed}");
    shell::kill(mount.pid(), libc::SIGKILL);
    mount.wait();
    let mount = mount.again(&server, ROOT, LATER);
    // Before and after a listing of its folder, and while it is delivered.
    assert_eq!(fs::read(mount.path(&d).join(&y)).unwrap(), b"3");
    assert_eq!(tree(&mount.path("")), expected);
    mount.sync();
    assert_eq!(stored_below(&server, ""), 5);
    let second = Mounted::new(&server, ROOT, NOW);
    assert_eq!(tree(&second.path("")), expected);
}

#[test]
fn a_daemon_that_dies_in_a_rename_to_a_long_name_leaves_the_old_name_or_the_new_one() {
    for (point, has_new) in [
        ("foretold:1", false),
        ("moved:1", true),
        ("described:1", true),
    ] {
        for old in [OsString::from("plain"), long("o")] {
            let server = Server::start(Options::default()).unwrap();
            let first = Mounted::new(&server, ROOT, NOW);
            fs::write(first.path(&old), "old").unwrap();
            first.sync();
            let is_written = point == "described:1";
            let mut mount = Mounted::with(&server, ROOT, LATER, |command| {
                command.env("CRASH_AT_POINT", point);
            });
            if is_written {
                fs::write(mount.path(&old), "new").unwrap();
            }
            let new = long("ñ");
            fs::rename(mount.path(&old), mount.path(&new)).unwrap_err();
            assert_eq!(mount.wait().signal(), Some(libc::SIGKILL));
            let now = if has_new { &new } else { &old };
            let other = Mounted::new(&server, ROOT, NOW);
            assert_eq!(listed(&other.path("")), set([now]), "{point}");
            let mount = mount.again(&server, ROOT, LATER);
            let content = if is_written { "new" } else { "old" };
            if is_written {
                // Until it is delivered, what was written shows where it was written, as nobody knows here that the file
                // is elsewhere.
                mount.sync();
            }
            assert_eq!(
                listed(&mount.path("")),
                set([now]),
                "{point} {}",
                mount.log()
            );
            assert_eq!(fs::read(mount.path(now)).unwrap(), content.as_bytes());
            fs::rename(mount.path(now), mount.path(long("q"))).unwrap();
            mount.sync();
            let other = Mounted::new(&server, ROOT, NOW);
            assert_eq!(listed(&other.path("")), set([&long("q")]));
            assert_eq!(fs::read(other.path(long("q"))).unwrap(), content.as_bytes());
        }
    }
}

#[test]
fn a_long_name_that_somebody_else_gave_stays_when_content_and_modes_follow_it() {
    use std::os::unix::fs::PermissionsExt;
    for overwrite in ["--overwrite=replace", "--overwrite=delete"] {
        let server = Server::start(Options::default()).unwrap();
        for (first, then) in [("plain".into(), long("x")), (long("o"), long("ö"))] {
            let other = Mounted::new(&server, ROOT, NOW);
            for name in ["content", "mode"] {
                fs::create_dir(other.path(name)).unwrap();
                fs::write(other.path(name).join(&first), "1").unwrap();
            }
            other.sync();
            let here = Mounted::new(&server, ROOT, &[LATER, &[overwrite]].concat());
            fs::write(here.path("content").join(&first), "22").unwrap();
            let owner_only = PermissionsExt::from_mode(0o600);
            fs::set_permissions(here.path("mode").join(&first), owner_only).unwrap();
            for name in ["content", "mode"] {
                let folder = other.path(name);
                fs::rename(folder.join(&first), folder.join(&then)).unwrap();
            }
            other.sync();
            here.sync();
            let third = Mounted::new(&server, ROOT, NOW);
            for name in ["content", "mode"] {
                assert_eq!(listed(&third.path(name)), set([&then]), "{name}");
            }
            let path = third.path("content").join(&then);
            assert_eq!(fs::read(path).unwrap(), b"22");
            let path = third.path("mode").join(&then);
            let mode = fs::metadata(path).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
            for name in ["content", "mode"] {
                fs::remove_dir_all(third.path(name)).unwrap();
            }
            third.sync();
        }
    }
}

#[test]
fn a_name_that_the_server_has_in_whole_is_the_one_that_is_meant() {
    let server = Server::start(Options::default()).unwrap();
    // As another program made them, on a storage that takes them.
    let name = "w".repeat(250);
    server.put(&name, "theirs");
    for is_listed in [false, true] {
        let mount = Mounted::new(&server, ROOT, NOW);
        if is_listed {
            assert_eq!(listed(&mount.path("")), set([OsStr::new(&name)]));
        }
        assert_eq!(fs::read(mount.path(&name)).unwrap(), b"theirs");
        assert!(fs::create_dir(mount.path(&name)).is_err());
        let renamed = mount.path("short");
        fs::rename(mount.path(&name), &renamed).unwrap();
        fs::rename(&renamed, mount.path(&name)).unwrap();
        assert_eq!(server.names("").unwrap(), [stored(&name)]);
        fs::rename(mount.path(&name), &renamed).unwrap();
        mount.sync();
        server.rename("short", &name);
    }
    // Both: the one in part carries its id, and each is what it is.
    let mount = Mounted::new(&server, ROOT, NOW);
    fs::write(mount.path(&name), "theirs").unwrap_or_default();
    let other = Server::start(Options::default()).unwrap();
    let both = Mounted::new(&other, ROOT, NOW);
    fs::write(both.path(&name), "in part").unwrap();
    both.sync();
    drop(both);
    let id = other.put(&name, "in whole");
    let id_in_part = other.file_id(&stored(&name));
    for is_listed in [true, false] {
        let both = Mounted::new(&other, ROOT, NOW);
        let suffix = format!(" ({id_in_part})");
        let in_part = format!("{}{suffix}", &name[..(255 - suffix.len()).min(name.len())]);
        if is_listed {
            assert_eq!(
                listed(&both.path("")),
                set([OsStr::new(&name), OsStr::new(&in_part)])
            );
        }
        assert_eq!(fs::read(both.path(&name)).unwrap(), b"in whole");
        assert_eq!(fs::read(both.path(&in_part)).unwrap(), b"in part");
        assert_eq!(other.file_id(&name), id);
    }
    let both = Mounted::new(&other, ROOT, NOW);
    fs::remove_file(both.path(&name)).unwrap();
    both.sync();
    assert_eq!(other.names("").unwrap(), [stored(&name)]);
}

#[test]
fn new_content_of_a_name_that_the_server_has_in_whole_gets_there() {
    for content in ["new", ""] {
        let server = Server::start(Options::default()).unwrap();
        let name = "w".repeat(250);
        let id = server.put(&name, "old");
        let mount = Mounted::new(&server, ROOT, NOW);
        fs::write(mount.path(&name), content).unwrap();
        mount.sync();
        assert_eq!(server.names("").unwrap(), [stored(&name)]);
        assert_eq!(server.file_id(&stored(&name)), id, "its shares stay");
        assert_eq!(server.content(&stored(&name)).unwrap(), content.as_bytes());
        let second = Mounted::new(&server, ROOT, NOW);
        for mount in [&mount, &second] {
            assert_eq!(listed(&mount.path("")), set([OsStr::new(&name)]));
            assert_eq!(fs::read(mount.path(&name)).unwrap(), content.as_bytes());
        }
    }
}

#[test]
fn a_name_of_which_the_rest_is_lost_or_foreign_carries_its_id() {
    let server = Server::start(Options::default()).unwrap();
    let mount = Mounted::new(&server, ROOT, NOW);
    let names = ["a", "b", "c"].map(long);
    for name in &names {
        fs::write(mount.path(name), name.as_bytes()).unwrap();
    }
    mount.sync();
    drop(mount);
    let other = server.metadata(&stored(&names[1]), KEY).unwrap();
    for value in [
        "",
        "{}",
        "what?",
        r#"{"v":2,"n":["x"]}"#,
        r#"{"v":1,"n":"x"}"#,
        r#"{"v":1,"n":["../../etc"]}"#,
        &other,
    ] {
        server.set_metadata(&stored(&names[0]), KEY, value);
        let mount = Mounted::new(&server, ROOT, NOW);
        let shown = listed(&mount.path(""));
        assert_eq!(shown.len(), 3, "{value}");
        assert!(shown.contains(&names[1]) && shown.contains(&names[2]));
        let lost = shown.iter().find(|name| !names.contains(name)).unwrap();
        let id = format!(" ({})", server.file_id(&stored(&names[0])));
        assert!(lost.as_bytes().ends_with(id.as_bytes()), "{lost:?}");
        assert_eq!(fs::read(mount.path(lost)).unwrap(), names[0].as_bytes());
    }
    let mount = Mounted::new(&server, ROOT, NOW);
    let shown = listed(&mount.path(""));
    let lost = shown.iter().find(|name| !names.contains(name)).unwrap();
    fs::rename(mount.path(lost), mount.path(&names[0])).unwrap();
    mount.sync();
    assert_eq!(listed(&mount.path("")), names.iter().cloned().collect());
    let second = Mounted::new(&server, ROOT, NOW);
    assert_eq!(listed(&second.path("")), names.iter().cloned().collect());
}

#[test]
fn a_conflict_of_a_long_name_is_kept_under_a_name_that_the_server_takes() {
    let server = Server::start(Options::default()).unwrap();
    let name = OsString::from("?".repeat(250) + ".odt");
    let mount = Mounted::new(&server, ROOT, LATER);
    fs::write(mount.path(&name), "ours").unwrap();
    server.put(&stored(&name), "theirs, longer");
    let _ = mount.report(&["sync"]);
    wait_until("both are there", || server.names("").unwrap().len() == 2);
    stored_below(&server, "");
    let second = Mounted::new(&server, ROOT, NOW);
    let shown = listed(&second.path(""));
    let copy = shown
        .iter()
        .find(|name| name.to_string_lossy().contains("(conflict "));
    let copy = copy.unwrap_or_else(|| panic!("{shown:?}"));
    assert!(copy.as_bytes().starts_with(b"????") && copy.as_bytes().ends_with(b").odt"));
    assert_eq!(fs::read(second.path(copy)).unwrap(), b"ours");
}

#[test]
fn long_names_stay_local_where_they_are_of_such_a_kind() {
    let server = Server::start(Options::default()).unwrap();
    let options = [NOW, &["--local-only", "*middle*"]].concat();
    let mount = Mounted::new(&server, ROOT, &options);
    let name = OsString::from("?".repeat(200) + "middle" + &"?".repeat(49));
    fs::write(mount.path(&name), "here").unwrap();
    fs::write(mount.path("other"), "there").unwrap();
    mount.sync();
    assert_eq!(server.names("").unwrap(), ["other"]);
    let mut mount = mount;
    assert!(mount.end().success());
    let mount = mount.again(&server, ROOT, &options);
    assert_eq!(fs::read(mount.path(&name)).unwrap(), b"here");
    assert_eq!(listed(&mount.path("")), set([&name, OsStr::new("other")]));
    let why = mount.command(&[OsStr::new("why"), mount.path(&name).as_os_str()]);
    assert!(why.contains("stays on this machine"), "{why}");
    // Owed from then on.
    fs::rename(mount.path(&name), mount.path(long("z"))).unwrap();
    mount.sync();
    assert_eq!(server.content(&stored(long("z"))).unwrap(), b"here");
}

#[test]
fn a_full_name_is_kept_by_changes_of_other_attributes_and_by_new_content() {
    use std::os::unix::fs::PermissionsExt;
    let server = Server::start(Options::default()).unwrap();
    let name = long("k");
    // Also where names are what they are: there the file is called as it is stored.
    for (options, shown) in [
        (&["--upload-delay=0s"][..], name.clone()),
        (
            &["--upload-delay=0s", "--names=reject"],
            stored(&name).into(),
        ),
    ] {
        let mount = Mounted::new(&server, ROOT, NOW);
        fs::write(mount.path(&name), "1").unwrap();
        mount.sync();
        drop(mount);
        let mount = Mounted::new(&server, ROOT, options);
        assert_eq!(listed(&mount.path("")), set([&shown]));
        let path = mount.path(&shown);
        fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
        mount.sync();
        fs::write(&path, "22").unwrap();
        fs::set_permissions(&path, PermissionsExt::from_mode(0o640)).unwrap();
        mount.sync();
        let second = Mounted::new(&server, ROOT, NOW);
        assert_eq!(listed(&second.path("")), set([&name]));
        assert_eq!(fs::read(second.path(&name)).unwrap(), b"22");
        let mode = fs::metadata(second.path(&name))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o640);
        fs::remove_file(second.path(&name)).unwrap();
        second.sync();
    }
}

#[test]
fn the_trash_shows_all_of_a_long_name() {
    let server = Server::start(Options::default()).unwrap();
    let mount = Mounted::new(&server, ROOT, NOW);
    let name = long("t");
    fs::write(mount.path(&name), "1").unwrap();
    mount.sync();
    fs::remove_file(mount.path(&name)).unwrap();
    mount.sync();
    let trash = Mounted::new(&server, "cloudreve://trash", &[]);
    assert_eq!(listed(&trash.path("")), set([&name]));
}

#[test]
fn a_large_file_is_copied_to_a_long_name_by_the_server() {
    let server = Server::start(Options::default()).unwrap();
    server.put_generated("large", 17 << 20, 5);
    let mount = Mounted::new(&server, ROOT, NOW);
    let name = long("l");
    fs::copy(mount.path("large"), mount.path(&name)).unwrap();
    mount.sync();
    fs::copy(mount.path(&name), mount.path("again")).unwrap();
    mount.sync();
    let second = Mounted::new(&server, ROOT, NOW);
    assert_eq!(
        listed(&second.path("")),
        set([&name, "again".as_ref(), "large".as_ref()])
    );
    let content = fs::read(second.path(&name)).unwrap();
    assert!(content == server.content("large").unwrap());
}
