//! Folders that are made without a server: all works in them, and the server has them when it is back.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use cloudreve_test_server::{Fault, Options, Route, Server};

use super::{finds_out, mount};
use crate::support::mounted::Mounted;
use crate::support::shell;

const OPTIONS: [&str; 4] = ["--timeout", "3s", "--upload-delay", "0s"];

/// A server, and a mount that knows it and cannot reach it.
fn gone() -> (Server, Mounted) {
    let server = Server::start(Options::default()).unwrap();
    let mount = mount(&server);
    server.stop();
    finds_out(&mount);
    (server, mount)
}

/// All paths below `folder`, in order.
fn tree(folder: &Path) -> Vec<String> {
    let find = ["-mindepth", "1", "-printf", "%P\n"];
    let shown = shell::stdout(std::process::Command::new("find").arg(folder).args(find));
    let mut shown: Vec<_> = shown.lines().map(str::to_owned).collect();
    shown.sort();
    shown
}

/// The paths that a status tells of as made or renamed here and not on the server.
fn waiting(mount: &Mounted) -> Vec<String> {
    let status = mount.status();
    let files = status["changes"]["files"].as_array().unwrap();
    let path = |file: &serde_json::Value| file["path"].as_str().unwrap().to_owned();
    let paths: Vec<_> = files.iter().map(path).collect();
    assert_eq!(status["changes"]["waiting"], paths.len());
    assert_eq!(status["owed_sum"]["unheard"], paths.len());
    paths
}

/// A tree of two folders and two files.
fn make(mount: &Mounted) {
    std::fs::create_dir(mount.path("known/made")).unwrap();
    std::fs::write(mount.path("known/made/file"), "one").unwrap();
    std::fs::create_dir(mount.path("known/made/inner")).unwrap();
    std::fs::write(mount.path("known/made/inner/file"), "two").unwrap();
    is_made(mount);
}

const MADE: [&str; 3] = ["file", "inner", "inner/file"];

#[track_caller]
fn is_made(mount: &Mounted) {
    let at = mount.path("known/made");
    assert_eq!(tree(&at), MADE);
    assert_eq!(std::fs::read(at.join("file")).unwrap(), b"one");
    assert_eq!(std::fs::read(at.join("inner/file")).unwrap(), b"two");
    assert!(at.join("absent").symlink_metadata().is_err());
}

/// The server has what [`make`] made.
#[track_caller]
fn is_there(server: &Server) {
    let content = |path: &str| server.content(&format!("known/made/{path}"));
    shell::wait_until("the server has all of it", || {
        content("file").is_some_and(|content| content == b"one")
            && content("inner/file").is_some_and(|content| content == b"two")
    });
    assert_eq!(server.names("known/made").unwrap().len(), 2);
}

#[test]
fn folders_are_made_without_a_server_and_it_has_them_when_it_is_back() {
    let (server, mount) = gone();
    make(&mount);
    let path = |name: &str| mount.path("known").join(name).display().to_string();
    assert_eq!(waiting(&mount), ["made", "made/inner"].map(path));
    let text = mount.command(&["status"]);
    let line = format!("{}: made here", path("made"));
    assert!(text.contains(&line), "{text}");
    let dir = mount.path("").display().to_string();
    let said = mount.report(&["sync", &dir]);
    let line = format!(
        "{}: made here, and the server could not be told",
        path("made")
    );
    assert!(said.contains(&line), "{said}");
    let number = mount.path("known/made").metadata().unwrap().ino();
    let open = std::fs::File::open(mount.path("known/made/inner/file")).unwrap();
    server.restart().unwrap();
    is_there(&server);
    mount.sync();
    is_made(&mount);
    assert_eq!(waiting(&mount), [""; 0]);
    assert_eq!(mount.path("known/made").metadata().unwrap().ino(), number);
    assert_eq!(std::io::read_to_string(&open).unwrap(), "two");
    std::fs::remove_dir_all(mount.path("known/made")).unwrap();
    mount.sync();
    assert!(server.names("known/made").is_none());
    assert_eq!(mount.status()["conflicts"], serde_json::json!([]));
}

#[test]
fn folders_made_without_a_server_are_there_on_a_mount_that_is_made_without_it() {
    let (server, mut mount) = gone();
    make(&mount);
    let dir = mount.path("").display().to_string();
    let made = mount.path("known/made").display().to_string();
    let said = mount.report(&["umount", "--timeout", "2s", &dir]);
    assert!(said.contains(&format!("{made} (made)")), "{said}");
    mount.wait();
    let mut mount = mount.again(&server, "cloudreve://my/", &OPTIONS);
    is_made(&mount);
    std::fs::create_dir(mount.path("known/made/later")).unwrap();
    shell::kill(mount.pid(), libc::SIGKILL);
    mount.wait();
    let mount = mount.again(&server, "cloudreve://my/", &OPTIONS);
    assert_eq!(tree(&mount.path("known/made")).len(), 4);
    std::fs::remove_dir(mount.path("known/made/later")).unwrap();
    is_made(&mount);
    server.restart().unwrap();
    is_there(&server);
    mount.sync();
    is_made(&mount);
    assert_eq!(waiting(&mount), [""; 0]);
}

#[test]
fn a_folder_is_made_by_who_is_the_first_to_find_that_the_server_is_gone() {
    let server = Server::start(Options::default()).unwrap();
    let mount = mount(&server);
    server.stop();
    std::fs::create_dir(mount.path("known/made")).unwrap();
    std::fs::write(mount.path("known/made/file"), "one").unwrap();
    server.restart().unwrap();
    shell::wait_until("the server has it", || {
        server.content("known/made/file").is_some()
    });
}

#[test]
fn a_folder_that_the_server_does_not_make_for_now_is_tried_again_and_nothing_goes_elsewhere() {
    let (server, mount) = gone();
    make(&mount);
    server.fail(Fault::on(Route::Create).code(50001, "in trouble"));
    server.restart().unwrap();
    let files = || mount.status()["changes"]["files"].clone();
    shell::wait_until("two tries failed", || {
        files()[0]["tries"].as_u64().is_some_and(|tries| tries >= 2)
    });
    let reason = files()[0]["last_reason"].clone();
    assert!(reason.as_str().unwrap().contains("in trouble"), "{reason}");
    assert_eq!(server.names("known").unwrap(), ["deep", "file.txt"]);
    is_made(&mount);
    server.clear_faults();
    mount.sync();
    is_there(&server);
}

#[test]
fn what_somebody_else_made_of_the_name_of_a_folder_meanwhile_stays_beside_it() {
    let (server, mount) = gone();
    make(&mount);
    server.restart().unwrap();
    server.put("known/made", b"theirs".to_vec());
    let beside = || {
        let mut names = server.names("known").unwrap().into_iter();
        names.find(|name| name.starts_with("made (conflict"))
    };
    shell::wait_until("ours is there", || beside().is_some());
    mount.sync();
    let beside = beside().unwrap();
    let content = server.content(&format!("known/{beside}/inner/file"));
    assert_eq!(content.unwrap(), b"two");
    assert_eq!(server.content("known/made").unwrap(), b"theirs");
    assert_eq!(tree(&mount.path("known").join(&beside)), MADE);
    let conflicts = mount.status()["conflicts"].to_string();
    assert!(conflicts.contains(&beside), "{conflicts}");
}
