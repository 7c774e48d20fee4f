//! Names that are given without a server to what it has: they count here at once, and there when it is back.

use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt;

use cloudreve_test_server::{Fault, Options, Route, Server};

use super::{finds_out, mount};
use crate::support::mounted::Mounted;
use crate::support::shell;

const OPTIONS: [&str; 4] = ["--timeout", "3s", "--upload-delay", "0s"];

/// Files of the server's, each of which says its name.
const FILES: [&str; 5] = ["one", "two", "three", "four", "deep/five"];

/// A server with the files, and a mount that has read them.
fn known(server: &Server) -> Mounted {
    for name in FILES {
        server.put(&format!("known/{name}"), format!("content of {name}"));
    }
    let mount = mount(server);
    for name in FILES {
        std::fs::read(mount.path("known").join(name)).unwrap();
    }
    mount
}

fn gone() -> (Server, Mounted) {
    let server = Server::start(Options::default()).unwrap();
    let mount = known(&server);
    server.stop();
    finds_out(&mount);
    (server, mount)
}

impl Mounted {
    #[track_caller]
    fn mv(&self, from: &str, to: &str) {
        std::fs::rename(self.path("known").join(from), self.path("known").join(to)).unwrap();
    }

    #[track_caller]
    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path("known").join(name)).unwrap()
    }

    fn names(&self, folder: &str) -> BTreeSet<String> {
        let entries = std::fs::read_dir(self.path("known").join(folder)).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.collect()
    }
}

fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().copied().map(str::to_owned).collect()
}

fn there(server: &Server, folder: &str) -> BTreeSet<String> {
    server
        .names(folder)
        .unwrap_or_default()
        .into_iter()
        .collect()
}

/// Names given in all ways.
fn rename_all(mount: &Mounted) {
    mount.mv("one", "between");
    mount.mv("between", "first");
    mount.mv("two", "three");
    mount.mv("four", "gone");
    std::fs::remove_file(mount.path("known/gone")).unwrap();
    mount.mv("deep/five", "deep/fifth");
    std::fs::create_dir(mount.path("known/made")).unwrap();
    mount.mv("file.txt", "made/file.txt");
    mount.mv("made", "deep/made");
    std::fs::write(mount.path("known/deep/new"), "new").unwrap();
    std::fs::write(mount.path("known/first"), "written").unwrap();
    is_renamed(mount);
}

#[track_caller]
fn is_renamed(mount: &Mounted) {
    assert_eq!(mount.names(""), set(&["deep", "first", "three"]));
    let deep = ["fifth", "made", "new", "other.txt"];
    assert_eq!(mount.names("deep"), set(&deep));
    assert_eq!(mount.names("deep/made"), set(&["file.txt"]));
    for (name, content) in [
        ("first", "written"),
        ("three", "content of two"),
        ("deep/fifth", "content of deep/five"),
        ("deep/other.txt", "other"),
        ("deep/new", "new"),
        ("deep/made/file.txt", "content"),
    ] {
        assert_eq!(mount.read(name), content, "{name}");
    }
    for name in ["one", "two", "four", "gone", "made", "deep/five"] {
        let absent = mount.path("known").join(name).symlink_metadata();
        assert_eq!(
            absent.unwrap_err().raw_os_error(),
            Some(libc::ENOENT),
            "{name}"
        );
    }
}

/// The server has it as it shows in [`is_renamed`].
#[track_caller]
fn is_there(server: &Server) {
    shell::wait_until("the server has heard of all", || {
        there(server, "known") == set(&["deep", "first", "three"])
            && there(server, "known/deep") == set(&["fifth", "made", "new", "other.txt"])
            && there(server, "known/deep/made") == set(&["file.txt"])
            && server.content("known/first").unwrap() == b"written"
    });
    assert_eq!(
        server.content("known/three").unwrap(),
        b"content of two".to_vec()
    );
}

#[test]
fn what_the_server_has_is_renamed_without_it_and_it_hears_of_that_when_it_is_back() {
    let (server, mount) = gone();
    let ids = ["one", "two", "deep/five"].map(|name| server.file_id(&format!("known/{name}")));
    let numbers = ["one", "deep/five"].map(|name| mount.path("known").join(name));
    let numbers = numbers.map(|path| path.metadata().unwrap().ino());
    rename_all(&mount);
    let now = ["first", "deep/fifth"].map(|name| mount.path("known").join(name));
    let now = now.map(|path| path.metadata().unwrap().ino());
    assert_eq!(numbers, now);
    let status = mount.status();
    // The file that is gone waits as deleted, and the one that was replaced.
    assert_eq!(status["changes"]["waiting"], 5, "{status}");
    assert_eq!(status["deletions"]["waiting"], 2, "{status}");
    let text = mount.command(&["status"]);
    let path = |name: &str| mount.path("known").join(name).display().to_string();
    let line = format!("{}: renamed here from {}", path("first"), path("one"));
    assert!(text.contains(&line), "{text}");
    assert!(text.contains(&path("deep/new")), "{text}");
    let said = mount.report(&["sync", &path("deep")]);
    let line = "renamed here, and the server could not be told";
    assert!(
        said.contains(&format!("{}: {line}", path("deep/fifth"))),
        "{said}"
    );
    server.restart().unwrap();
    is_there(&server);
    mount.sync();
    is_renamed(&mount);
    let after = ["first", "three", "deep/fifth"];
    let after = after.map(|name| server.file_id(&format!("known/{name}")));
    assert_eq!(after, ids, "they are the same files");
    let status = mount.status();
    assert_eq!(status["changes"]["waiting"], 0, "{status}");
    assert_eq!(status["conflicts"], serde_json::json!([]));
    let other = Mounted::new(&server, "cloudreve://my/", &[]);
    is_renamed(&other);
}

#[test]
fn names_given_without_the_server_are_there_on_mounts_that_are_made_without_it_and_after_kills() {
    let (server, mut mount) = gone();
    rename_all(&mount);
    shell::kill(mount.pid(), libc::SIGKILL);
    mount.wait();
    let mut mount = mount.again(&server, "cloudreve://my/", &OPTIONS);
    is_renamed(&mount);
    mount.mv("deep/made", "again");
    mount.mv("deep/fifth", "last");
    let dir = mount.path("").display().to_string();
    let last = mount.path("known/last").display().to_string();
    let said = mount.report(&["umount", "--timeout", "2s", &dir]);
    assert!(said.contains(&format!("{last} (renamed)")), "{said}");
    mount.wait();
    let mount = mount.again(&server, "cloudreve://my/", &OPTIONS);
    assert_eq!(mount.read("last"), "content of deep/five");
    mount.mv("last", "deep/fifth");
    mount.mv("again", "deep/made");
    is_renamed(&mount);
    server.restart().unwrap();
    is_there(&server);
    mount.sync();
    is_renamed(&mount);
    assert_eq!(mount.status()["conflicts"], serde_json::json!([]));
}

#[test]
fn a_name_that_the_server_gave_half_is_given_in_whole_by_who_comes_after_a_kill() {
    let (server, mut mount) = gone();
    // Both folder and name are others, which takes two calls.
    mount.mv("one", "deep/first");
    server.fail(Fault::on(Route::Move).status(502));
    server.restart().unwrap();
    shell::wait_until("it was tried", || {
        server.count(Route::Move) > 0 && server.count(Route::Rename) > 0
    });
    shell::kill(mount.pid(), libc::SIGKILL);
    mount.wait();
    server.clear_faults();
    let mount = mount.again(&server, "cloudreve://my/", &OPTIONS);
    assert_eq!(mount.read("deep/first"), "content of one");
    shell::wait_until("it is where it belongs", || {
        server.content("known/deep/first").is_some()
    });
    mount.sync();
    assert!(!there(&server, "known").contains("one"));
    assert_eq!(
        there(&server, "known/deep"),
        set(&["first", "five", "other.txt"])
    );
    assert_eq!(mount.names("deep"), set(&["first", "five", "other.txt"]));
    assert_eq!(mount.status()["conflicts"], serde_json::json!([]));
}

/// `deep` is `moved`, with another file and a file of another content in it, and a new folder has its old name.
#[track_caller]
fn is_moved(mount: &Mounted) {
    assert_eq!(mount.read("moved/five"), "written without it");
    assert_eq!(mount.read("moved/other.txt"), "other");
    assert_eq!(mount.read("moved/six"), "content of six");
    assert_eq!(mount.names("moved"), set(&["five", "other.txt", "six"]));
    assert_eq!(mount.names("deep"), set(&["five"]));
    assert_eq!(mount.read("deep/five"), "another five");
}

#[test]
fn folders_of_the_servers_are_renamed_without_it_with_all_that_is_in_them() {
    let (server, mut mount) = gone();
    let id = server.file_id("known/deep");
    let known = mount.path("known");
    let number = known.join("deep").metadata().unwrap().ino();
    mount.mv("deep", "moved");
    std::fs::write(known.join("moved/five"), "written without it").unwrap();
    std::fs::write(known.join("moved/six"), "content of six").unwrap();
    std::fs::create_dir(known.join("deep")).unwrap();
    std::fs::write(known.join("deep/five"), "another five").unwrap();
    assert_eq!(known.join("moved").metadata().unwrap().ino(), number);
    is_moved(&mount);
    let status = mount.status();
    let paths = |files: &serde_json::Value| {
        let files = files.as_array().unwrap().iter();
        let path = |file: &serde_json::Value| file["path"].as_str().unwrap().to_owned();
        files.map(path).collect::<BTreeSet<_>>()
    };
    let path = |name: &str| known.join(name).display().to_string();
    let owed = ["moved/five", "moved/six", "deep/five"].map(path);
    assert_eq!(paths(&status["owed_files"]), BTreeSet::from(owed));
    let changed = ["moved", "deep"].map(path);
    assert_eq!(paths(&status["changes"]["files"]), changed.into());
    assert!(mount.end().success());
    let mount = mount.again(&server, "cloudreve://my/", &OPTIONS);
    is_moved(&mount);
    server.restart().unwrap();
    mount.sync();
    is_moved(&mount);
    assert_eq!(server.file_id("known/moved"), id);
    assert_eq!(there(&server, "known/deep"), set(&["five"]));
    assert_eq!(
        there(&server, "known/moved"),
        set(&["five", "other.txt", "six"])
    );
    assert_eq!(
        server.content("known/moved/five").unwrap(),
        b"written without it"
    );
    assert_eq!(mount.status()["conflicts"], serde_json::json!([]));
}

#[test]
fn an_editor_saves_without_the_server_by_setting_the_old_file_aside() {
    let (server, mount) = gone();
    let id = server.file_id("known/two");
    for (name, keeps) in [("one", false), ("two", true)] {
        let aside = format!("{name}~");
        mount.mv(name, &aside);
        std::fs::write(mount.path("known").join(name), format!("saved {name}")).unwrap();
        if !keeps {
            std::fs::remove_file(mount.path("known").join(&aside)).unwrap();
        }
    }
    server.restart().unwrap();
    shell::wait_until("the server has both", || {
        ["one", "two"].iter().all(|name| {
            let content = server.content(&format!("known/{name}"));
            content.is_some_and(|content| content == format!("saved {name}").into_bytes())
        })
    });
    mount.sync();
    assert_eq!(server.file_id("known/two~"), id);
    assert_eq!(mount.read("two~"), "content of two");
    assert!(!there(&server, "known").contains("one~"));
    assert_eq!(mount.status()["conflicts"], serde_json::json!([]));
}

#[test]
fn what_somebody_else_did_to_both_names_meanwhile_stays_and_is_told() {
    let (server, mount) = gone();
    mount.mv("one", "first");
    mount.mv("two", "second");
    mount.mv("three", "third");
    server.restart().unwrap();
    // The name is taken, the file was written to, the file was moved.
    server.put("known/first", b"theirs".to_vec());
    server.put("known/two", b"written".to_vec());
    server.rename("known/three", "theirs");
    let beside = || {
        let mut names = there(&server, "known").into_iter();
        names.find(|name| name.starts_with("first (conflict"))
    };
    shell::wait_until("the server has heard of all", || {
        beside().is_some() && server.content("known/second").is_some()
    });
    mount.sync();
    let beside = beside().unwrap();
    assert_eq!(server.content("known/first").unwrap(), b"theirs");
    shell::wait_until("the mount shows it so", || {
        mount.read("first") == "theirs" && mount.names("").contains("theirs")
    });
    assert_eq!(mount.read(&beside), "content of one");
    assert_eq!(mount.read("second"), "written");
    assert_eq!(mount.read("theirs"), "content of three");
    let conflicts = mount.status()["conflicts"].to_string();
    for words in [&beside, "another place"] {
        assert!(conflicts.contains(words), "{conflicts}");
    }
}

#[test]
fn a_file_is_renamed_by_who_is_the_first_to_find_that_the_server_is_gone() {
    let server = Server::start(Options::default()).unwrap();
    let mount = known(&server);
    server.stop();
    mount.mv("one", "first");
    assert_eq!(mount.read("first"), "content of one");
    server.restart().unwrap();
    shell::wait_until("the server has heard of it", || {
        server.content("known/first").is_some()
    });
}
