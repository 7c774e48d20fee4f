//! What is deleted without a server: it waits, is told, and goes before anything new of its name comes.

use std::process::Command;
use std::time::{Duration, Instant};

use cloudreve_test_server::{Fault, Options, Route, Server};

use super::{finds_out, mount};
use crate::support::mounted::Mounted;
use crate::support::shell;

const OPTIONS: [&str; 4] = ["--timeout", "3s", "--upload-delay", "0s"];

/// The four files that [`deleted_and_made_again`] is about, and one more.
const FILES: [&str; 5] = ["made", "moved onto", "written over", "gone", "file.txt"];

/// A server with the files, and a mount that knows them and cannot reach it.
fn gone(server: &Server) -> Mounted {
    for name in &FILES[..4] {
        server.put(&format!("known/{name}"), format!("old {name}"));
    }
    let mount = mount(server);
    for name in FILES {
        std::fs::read(mount.path("known").join(name)).unwrap();
    }
    server.stop();
    finds_out(&mount);
    mount
}

/// Deletes names of the server's in all ways, and makes them again in all ways.
fn deleted_and_made_again(mount: &Mounted) {
    let at = |name: &str| mount.path("known").join(name);
    let write = |name: &str, content: &str| std::fs::write(at(name), content).unwrap();
    std::fs::remove_file(at("made")).unwrap();
    write("made", "new made");
    std::fs::remove_file(at("moved onto")).unwrap();
    write("temporary", "new moved onto");
    std::fs::rename(at("temporary"), at("moved onto")).unwrap();
    // What is deleted is theirs, and what was written over it.
    write("written over", "between");
    std::fs::remove_file(at("written over")).unwrap();
    write("written over", "new written over");
    std::fs::remove_file(at("gone")).unwrap();
    write("gone", "between");
    std::fs::remove_file(at("gone")).unwrap();
    shows_new(mount);
}

#[track_caller]
fn shows_new(mount: &Mounted) {
    for name in &FILES[..3] {
        let content = std::fs::read_to_string(mount.path("known").join(name)).unwrap();
        assert_eq!(content, format!("new {name}"));
    }
    let entries = std::fs::read_dir(mount.path("known")).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, NAMES);
}

/// What is in the folder in the end.
const NAMES: [&str; 5] = ["deep", "file.txt", "made", "moved onto", "written over"];

/// The server has all that was made, as new files; what was deleted is where its users find it.
#[track_caller]
fn is_told(server: &Server, ids: &[String]) {
    shell::wait_until("the server has what was made again", || {
        FILES[..3].iter().all(|name| {
            let content = server.content(&format!("known/{name}"));
            content.is_some_and(|content| content == format!("new {name}").as_bytes())
        })
    });
    shell::wait_until("nothing else is there", || {
        server.names("known").unwrap() == NAMES
    });
    for (name, id) in FILES[..3].iter().zip(ids) {
        let now = server.file_id(&format!("known/{name}"));
        assert_ne!(now, *id, "{name} is another file");
    }
}

fn ids(server: &Server) -> Vec<String> {
    let id = |name: &&str| server.file_id(&format!("known/{name}"));
    FILES[..3].iter().map(id).collect()
}

#[test]
fn a_name_that_was_deleted_without_a_server_is_made_again_without_it() {
    let server = Server::start(Options::default()).unwrap();
    let mount = gone(&server);
    let ids = ids(&server);
    deleted_and_made_again(&mount);
    server.restart().unwrap();
    is_told(&server, &ids);
    mount.sync();
    shows_new(&mount);
    assert_eq!(mount.status()["conflicts"], serde_json::json!([]));
    let trash = Mounted::new(&server, "cloudreve://trash", &[]);
    let entries = std::fs::read_dir(trash.path("")).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    let old = ["gone", "made", "moved onto", "written over"];
    assert_eq!(names, old, "what was deleted is in the trash, and no more");
}

#[test]
fn what_was_deleted_and_made_again_is_so_also_where_the_daemon_was_killed_before_the_server_was_back()
 {
    let server = Server::start(Options::default()).unwrap();
    let mut mount = gone(&server);
    let ids = ids(&server);
    deleted_and_made_again(&mount);
    shell::kill(mount.pid(), libc::SIGKILL);
    mount.wait();
    server.restart().unwrap();
    // What is new is ready to go long before what is old can.
    server.fail(Fault::on(Route::Delete).status(502).times(3));
    let mount = mount.again(&server, "cloudreve://my/", &OPTIONS);
    shows_new(&mount);
    is_told(&server, &ids);
    mount.sync();
    shows_new(&mount);
    assert_eq!(mount.status()["conflicts"], serde_json::json!([]));
}

#[test]
fn what_was_deleted_and_made_again_is_so_on_a_mount_that_was_made_without_the_server() {
    let server = Server::start(Options::default()).unwrap();
    let mut mount = gone(&server);
    let ids = ids(&server);
    deleted_and_made_again(&mount);
    shell::kill(mount.pid(), libc::SIGKILL);
    mount.wait();
    let mut mount = mount.again(&server, "cloudreve://my/", &OPTIONS);
    shows_new(&mount);
    assert_eq!(waiting(&mount).len(), 4);
    std::fs::remove_file(mount.path("known/made")).unwrap();
    std::fs::write(mount.path("known/made"), "new made").unwrap();
    mount.end();
    let mount = mount.again(&server, "cloudreve://my/", &OPTIONS);
    shows_new(&mount);
    server.restart().unwrap();
    is_told(&server, &ids);
    mount.sync();
    shows_new(&mount);
    assert_eq!(waiting(&mount), [""; 0]);
    assert_eq!(mount.status()["conflicts"], serde_json::json!([]));
}

#[test]
fn what_somebody_else_wrote_meanwhile_under_a_name_that_was_made_again_stays_and_ours_goes_beside_it()
 {
    let server = Server::start(Options::default()).unwrap();
    let mount = gone(&server);
    let at = mount.path("known/made");
    std::fs::remove_file(&at).unwrap();
    std::fs::write(&at, "ours").unwrap();
    server.restart().unwrap();
    server.put("known/made", b"theirs".to_vec());
    let beside = || {
        let names = server.names("known").unwrap().into_iter();
        let mut beside = names.filter(|name| name.starts_with("made (conflict"));
        beside.next()
    };
    shell::wait_until("ours is there", || beside().is_some());
    mount.sync();
    let ours = server.content(&format!("known/{}", beside().unwrap()));
    assert_eq!(ours.unwrap(), b"ours");
    assert_eq!(server.content("known/made").unwrap(), b"theirs");
    shell::wait_until("the mount shows it so", || {
        std::fs::read(&at).is_ok_and(|content| content == b"theirs")
    });
}

#[test]
fn a_file_is_deleted_by_who_is_the_first_to_find_that_the_server_is_gone() {
    let server = Server::start(Options::default()).unwrap();
    let mount = mount(&server);
    server.stop();
    std::fs::remove_file(mount.path("known/file.txt")).unwrap();
    std::fs::write(mount.path("known/file.txt"), "new").unwrap();
    server.restart().unwrap();
    shell::wait_until("the server has the new one", || {
        server
            .content("known/file.txt")
            .is_some_and(|content| content == b"new")
    });
}

#[test]
fn a_folder_gets_a_name_that_was_deleted_and_is_made_there_once_that_is_gone() {
    let server = Server::start(Options::default()).unwrap();
    let mount = gone(&server);
    let at = mount.path("known/made");
    std::fs::remove_file(&at).unwrap();
    std::fs::create_dir(&at).unwrap();
    std::fs::write(at.join("inner"), "inner").unwrap();
    server.fail(Fault::on(Route::Delete).status(502).times(2));
    server.restart().unwrap();
    shell::wait_until("the folder is made", || {
        server.content("known/made/inner").is_some()
    });
    mount.sync();
    assert_eq!(mount.status()["conflicts"], serde_json::json!([]));
    assert_eq!(server.content("known/made/inner").unwrap(), b"inner");
    assert!(mount.log().contains("is back"));
}

/// The paths that a status tells of as deleted here and not on the server.
fn waiting(mount: &Mounted) -> Vec<String> {
    let status = mount.status();
    let files = status["deletions"]["files"].as_array().unwrap();
    let path = |file: &serde_json::Value| file["path"].as_str().unwrap().to_owned();
    let paths: Vec<_> = files.iter().map(path).collect();
    assert_eq!(status["deletions"]["waiting"], paths.len());
    assert_eq!(status["owed_sum"]["undeleted"], paths.len());
    paths
}

#[test]
fn what_is_deleted_only_here_is_told_by_status_sync_and_umount() {
    let server = Server::start(Options::default()).unwrap();
    let mut mount = gone(&server);
    assert_eq!(waiting(&mount), [""; 0]);
    let path = |name: &str| mount.path("known").join(name).display().to_string();
    let gone = ["made", "gone"].map(path);
    for path in &gone {
        std::fs::remove_file(path).unwrap();
    }
    assert_eq!(waiting(&mount), gone);
    let text = mount.command(&["status"]);
    let line = |words: &str| text.lines().any(|line| line.contains(words));
    assert!(line("2 files that the server still has"), "{text}");
    assert!(line(&format!("{}: deleted when", gone[0])), "{text}");
    let dir = mount.path("").display().to_string();
    let said = mount.report(&["sync", &dir]);
    for path in &gone {
        let line = format!("{path}: deleted here, and the server could not be told");
        assert!(said.contains(&line), "{said}");
    }
    let said = mount.report(&["umount", "--timeout", "2s", &dir]);
    for path in &gone {
        assert!(said.contains(&format!("{path} (deleted)")), "{said}");
    }
    mount.wait();
    server.restart().unwrap();
    let mount = mount.again(&server, "cloudreve://my/", &OPTIONS);
    mount.sync();
    assert_eq!(waiting(&mount), [""; 0]);
    let there = server.names("known").unwrap();
    assert_eq!(there, ["deep", "file.txt", "moved onto", "written over"]);
}

#[test]
fn who_asks_for_all_to_be_there_in_the_moment_in_which_the_server_is_back_gets_it() {
    let server = Server::start(Options::default()).unwrap();
    let mount = gone(&server);
    std::fs::remove_file(mount.path("known/gone")).unwrap();
    std::fs::create_dir(mount.path("known/folder")).unwrap();
    server.restart().unwrap();
    mount.sync();
    let names = server.names("known").unwrap();
    assert!(!names.iter().any(|name| name == "gone"), "{names:?}");
    assert!(names.iter().any(|name| name == "folder"), "{names:?}");
}

#[test]
fn a_deletion_that_the_server_refuses_for_now_is_tried_again_with_growing_pauses() {
    let server = Server::start(Options::default()).unwrap();
    let mount = gone(&server);
    let at = mount.path("known/made");
    std::fs::remove_file(&at).unwrap();
    server.fail(Fault::on(Route::Delete).code(50001, "in trouble"));
    let deletions = server.count(Route::Delete);
    server.restart().unwrap();
    let began = Instant::now();
    let file = || mount.status()["deletions"]["files"][0].clone();
    shell::wait_until("three tries failed", || {
        file()["tries"].as_u64().is_some_and(|tries| tries >= 3)
    });
    // After one second, and two.
    assert!(began.elapsed() >= Duration::from_secs(3));
    assert!(server.count(Route::Delete) - deletions <= 4);
    let told = file();
    assert!(told["next_try"].is_string(), "{told}");
    let reason = told["last_reason"].as_str().unwrap();
    assert!(reason.contains("in trouble"), "{told}");
    assert!(!at.exists(), "it stays gone here");
    server.clear_faults();
    // Who waits for it does not wait for the pause.
    mount.sync();
    assert!(server.content("known/made").is_none());
    assert_eq!(waiting(&mount), [""; 0]);
}

#[test]
fn a_file_that_the_server_refuses_to_delete_for_good_shows_again_and_is_told() {
    let server = Server::start(Options::default()).unwrap();
    let mount = gone(&server);
    let at = mount.path("known/made");
    std::fs::remove_file(&at).unwrap();
    server.fail(Fault::on(Route::Delete).code(40088, "not allowed"));
    server.restart().unwrap();
    shell::wait_until("it shows again", || {
        std::fs::read(&at).is_ok_and(|content| content == b"old made")
    });
    let told = mount.status()["deletions"].clone();
    assert_eq!((&told["waiting"], &told["refused"]), (&0.into(), &1.into()));
    let file = &told["refused_files"][0];
    assert_eq!(file["path"], at.display().to_string());
    assert!(
        file["last_reason"]
            .as_str()
            .unwrap()
            .contains("not allowed"),
        "{told}"
    );
    mount.sync();
}

#[test]
fn a_known_tree_is_removed_without_a_server_and_is_gone_there_when_it_is_back() {
    let server = Server::start(Options::default()).unwrap();
    for path in ["a", "deep/b", "deep/deeper/c"] {
        server.put(&format!("tree/{path}"), b"content".to_vec());
    }
    server.put("untouched/file", b"content".to_vec());
    let mount = mount(&server);
    shell::stdout(Command::new("ls").arg("-lR").arg(mount.path("tree")));
    server.stop();
    finds_out(&mount);
    shell::stdout(Command::new("rm").arg("-r").arg(mount.path("tree")));
    assert!(!mount.path("tree").exists());
    let unlisted = std::fs::remove_dir(mount.path("untouched")).unwrap_err();
    assert_eq!(unlisted.raw_os_error(), Some(libc::ETIMEDOUT));
    server.restart().unwrap();
    shell::wait_until("it is gone there", || server.names("tree").is_none());
    mount.sync();
    assert_eq!(server.names("untouched").unwrap(), ["file"]);
}
