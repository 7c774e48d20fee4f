//! Servers whose database takes names for the same that differ in case, or in spaces at their ends: nothing of either file
//! is lost, and whoever wants both is told.

use std::fs;
use std::io::ErrorKind;

use cloudreve_test_server::{Collation, Options, Route, Server};

use crate::support::mounted::Mounted;
use crate::support::shell::wait_until;

const NOW: &[&str] = &["--upload-delay", "0s"];

fn server(collation: Collation) -> Server {
    let server = Server::start(Options::default()).unwrap();
    server.set_collation(collation);
    server
}

fn listed(mount: &Mounted) -> Vec<String> {
    let entries = fs::read_dir(mount.path("")).unwrap();
    let mut names: Vec<_> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// What has one name, and who asks for the other.
#[track_caller]
fn check(collation: Collation, there: &str, other: &str) {
    let server = server(collation);
    server.put(there, "theirs");
    server.put("x", "ours");
    // Whether the folder was listed or not makes no difference to what a name means.
    for is_listed in [false, true] {
        let mount = Mounted::new(&server, "cloudreve://my/", NOW);
        if is_listed {
            assert_eq!(listed(&mount), [there, "x"]);
        }
        let missing = fs::read(mount.path(other)).unwrap_err();
        assert_eq!(missing.kind(), ErrorKind::NotFound, "{other}");
        // The first look at a name that the server takes for another tells what it does; a listing does not.
        let made = fs::create_dir(mount.path(other)).unwrap_err();
        assert_eq!(made.kind(), ErrorKind::AlreadyExists);
        let renamed = fs::rename(mount.path("x"), mount.path(other)).unwrap_err();
        assert_eq!(renamed.kind(), ErrorKind::AlreadyExists);
        let made = fs::write(mount.path(other), "ours").unwrap_err();
        assert_eq!(made.kind(), ErrorKind::AlreadyExists);
        mount.sync();
        assert_eq!(listed(&mount), [there, "x"]);
        let log = mount.log();
        assert!(log.contains("takes this name for that of"), "{log}");
    }
    assert_eq!(server.names("").unwrap(), [there, "x"]);
    assert_eq!(server.content(there).unwrap(), b"theirs");
    assert_eq!(server.content("x").unwrap(), b"ours");
}

#[test]
fn a_name_that_the_server_takes_for_another_is_free_for_nobody_and_finds_nothing() {
    check(Collation::FoldCase, "report", "Report");
    check(Collation::PadSpace, "report", "report ");
    check(Collation::PadSpace, "report ", "report");
}

#[test]
fn a_file_that_meets_another_spelling_when_it_is_delivered_goes_beside_it() {
    for content in ["ours", ""] {
        let server = server(Collation::FoldCase);
        let mount = Mounted::new(&server, "cloudreve://my/", &["--upload-delay", "1h"]);
        fs::write(mount.path("Report.txt"), content).unwrap();
        server.put("report.txt", "theirs");
        let _ = mount.report(&["sync"]);
        wait_until("both are on the server", || {
            server.names("").unwrap().len() == 2
        });
        assert_eq!(server.content("report.txt").unwrap(), b"theirs");
        let names = server.names("").unwrap();
        let beside = names
            .iter()
            .find(|name| name.starts_with("Report (conflict "));
        let beside = beside.unwrap_or_else(|| panic!("{names:?}; {}", mount.log()));
        assert_eq!(server.content(beside).unwrap(), content.as_bytes());
        let told = mount.status()["conflicts"].to_string();
        assert!(told.contains("Report"), "{told}");
        let log = mount.log();
        assert!(log.contains("'report.txt'"), "{log}");
    }
}

#[test]
fn two_new_files_that_the_server_takes_for_one_are_both_kept() {
    let server = server(Collation::FoldCase);
    let mount = Mounted::new(&server, "cloudreve://my/", &["--upload-delay", "1h"]);
    for name in ["a", "A", "b"] {
        fs::write(mount.path(name), format!("of {name}")).unwrap();
    }
    let _ = mount.report(&["sync"]);
    wait_until("all are on the server", || {
        server.names("").unwrap().len() == 3
    });
    let mut contents: Vec<_> = server
        .names("")
        .unwrap()
        .iter()
        .map(|name| String::from_utf8(server.content(name).unwrap()).unwrap())
        .collect();
    contents.sort();
    assert_eq!(contents, ["of A", "of a", "of b"]);
}

#[test]
fn the_case_of_a_name_can_be_changed_and_a_freed_name_taken_in_another() {
    let server = server(Collation::FoldCase);
    server.put("name", "content");
    server.mkdir("folder");
    server.put("folder/below", "below");
    let mount = Mounted::new(&server, "cloudreve://my/", NOW);
    fs::rename(mount.path("name"), mount.path("Name")).unwrap();
    fs::rename(mount.path("folder"), mount.path("FOLDER")).unwrap();
    assert_eq!(listed(&mount), ["FOLDER", "Name"]);
    assert_eq!(fs::read(mount.path("Name")).unwrap(), b"content");
    assert_eq!(fs::read(mount.path("FOLDER/below")).unwrap(), b"below");
    assert_eq!(server.names("").unwrap(), ["FOLDER", "Name"]);
    fs::remove_file(mount.path("Name")).unwrap();
    fs::write(mount.path("NAME"), "new").unwrap();
    fs::remove_file(mount.path("FOLDER/below")).unwrap();
    fs::remove_dir(mount.path("FOLDER")).unwrap();
    fs::create_dir(mount.path("Folder")).unwrap();
    mount.sync();
    assert_eq!(server.names("").unwrap(), ["Folder", "NAME"]);
    assert_eq!(server.content("NAME").unwrap(), b"new");
}

#[test]
fn where_the_server_tells_names_apart_it_is_asked_that_once() {
    let server = server(Collation::Binary);
    let mount = Mounted::new(&server, "cloudreve://my/", NOW);
    for number in 0..20 {
        fs::write(mount.path(format!("file{number:02}")), "x").unwrap();
    }
    fs::create_dir(mount.path("folder")).unwrap();
    mount.sync();
    let asked = server.requests().into_iter().filter(|request| {
        let is_other = request.query.contains("FILE") || request.query.contains("FOLDER");
        request.route == Route::Info && is_other
    });
    assert_eq!(asked.count(), 1);
    let names = ["A", "a", "a ", "Ä", "ä"];
    for name in names {
        fs::write(mount.path(format!("folder/{name}")), name).unwrap();
    }
    mount.sync();
    for name in names {
        let content = server.content(&format!("folder/{name}"));
        assert_eq!(content.unwrap(), name.as_bytes());
    }
}
