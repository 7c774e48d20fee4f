//! A server that cannot be reached: what is known counts until it is back, and its return is noticed.

mod folders;
mod removals;
mod renames;
mod states;

use std::collections::BTreeSet;
use std::process::Command;
use std::time::{Duration, Instant};

use cloudreve_test_server::{Fault, Options, Route, Server};

use crate::support::mounted::Mounted;
use crate::support::shell;

/// What an answer from memory may take: a program is started for it.
const AT_ONCE: Duration = Duration::from_millis(1500);

/// Mounts a drive of which the folder `known` was looked at and read, and waits until nothing of that is fresh.
fn mount(server: &Server) -> Mounted {
    server.put("known/file.txt", b"content".to_vec());
    server.put("known/deep/other.txt", b"other".to_vec());
    server.put("unknown/file.txt", b"content".to_vec());
    let options = ["--timeout", "3s", "--metadata-ttl", "1ms"];
    let mount = Mounted::new(server, "cloudreve://my/", &options);
    for folder in ["", "known", "known/deep"] {
        shell::stdout(Command::new("ls").arg("-l").arg(mount.path(folder)));
    }
    for (file, content) in [
        ("known/file.txt", "content"),
        ("known/deep/other.txt", "other"),
    ] {
        assert_eq!(std::fs::read_to_string(mount.path(file)).unwrap(), content);
    }
    mount
}

/// Everything known is answered, each within [`AT_ONCE`].
#[track_caller]
fn knows_all(mount: &Mounted) {
    let names = |folder: &str| {
        let began = Instant::now();
        let shown = shell::stdout(Command::new("ls").arg("-l").arg(mount.path(folder)));
        assert!(began.elapsed() < AT_ONCE, "ls took {:?}", began.elapsed());
        shown
            .lines()
            .filter_map(|line| Some(line.rsplit_once(' ')?.1.to_owned()))
            .collect::<Vec<_>>()
    };
    assert_eq!(names("known")[1..], ["deep", "file.txt"]);
    assert_eq!(names("known/deep")[1..], ["other.txt"]);
    assert_eq!(names("")[1..], ["known", "unknown"]);
    let began = Instant::now();
    let read = |file: &str| std::fs::read_to_string(mount.path(file)).unwrap();
    assert_eq!(read("known/file.txt"), "content");
    assert_eq!(read("known/deep/other.txt"), "other");
    let absent = mount.path("known/absent").symlink_metadata();
    assert_eq!(absent.unwrap_err().raw_os_error(), Some(libc::ENOENT));
    assert!(began.elapsed() < AT_ONCE, "it took {:?}", began.elapsed());
}

/// The first look may take as long as the server is waited for.
#[track_caller]
fn finds_out(mount: &Mounted) {
    shell::stdout(Command::new("ls").arg("-l").arg(mount.path("known")));
    let began = Instant::now();
    let unknown = std::fs::read_dir(mount.path("unknown"));
    assert!(unknown.is_err(), "nobody knows what is in there");
    let took = began.elapsed();
    assert!(
        took < 2 * AT_ONCE,
        "a second wait took {took:?}: {}",
        mount.log()
    );
}

#[track_caller]
fn finds_it_back(server: &Server, mount: &Mounted) {
    server.put("known/new.txt", b"new".to_vec());
    shell::wait_until("what is new shows", || {
        std::fs::read(mount.path("known/new.txt")).is_ok_and(|content| content == b"new")
    });
}

#[test]
fn what_is_known_of_a_server_that_is_gone_counts_until_it_is_back() {
    let server = Server::start(Options::default()).unwrap();
    let mount = mount(&server);
    server.stop();
    finds_out(&mount);
    knows_all(&mount);
    assert_eq!(mount.status()["server"]["state"], "offline");
    server.restart().unwrap();
    finds_it_back(&server, &mount);
    assert_ne!(mount.status()["server"]["state"], "offline");
}

#[test]
fn what_is_known_of_a_server_that_answers_nothing_counts_until_it_does() {
    let server = Server::start(Options::default()).unwrap();
    let mount = mount(&server);
    server.fail(Fault::everywhere().stall());
    finds_out(&mount);
    knows_all(&mount);
    server.clear_faults();
    finds_it_back(&server, &mount);
    assert_eq!(server.hung_up_before_headers(), 0);
}

#[test]
fn a_folder_in_use_is_known_also_in_the_moment_in_which_the_server_falls_silent() {
    let server = Server::start(Options::default()).unwrap();
    server.put("known/file.txt", b"content".to_vec());
    let options = ["--timeout", "6s", "--metadata-ttl", "3s"];
    let mount = Mounted::new(&server, "cloudreve://my/", &options);
    // What `ls -l` asks, without a program to start.
    let look = || {
        let began = Instant::now();
        for entry in std::fs::read_dir(mount.path("known")).unwrap() {
            entry.unwrap().metadata().unwrap();
        }
        began.elapsed()
    };
    look();
    // It is listed anew though nobody waits for that.
    let lists = server.count(Route::List);
    shell::wait_until("the folder is listed anew", || {
        look();
        server.count(Route::List) > lists + 2
    });
    server.fail(Fault::everywhere().stall());
    let until = Instant::now() + Duration::from_secs(14);
    while Instant::now() < until {
        // The daemon is to have the processor, too.
        std::thread::sleep(Duration::from_millis(20));
        let took = look();
        assert!(took < AT_ONCE, "{took:?}: {}", mount.log());
    }
    assert_eq!(mount.status()["server"]["state"], "offline");
    server.clear_faults();
    finds_it_back(&server, &mount);
}

#[test]
fn what_was_changed_here_is_known_of_a_server_that_is_gone_also_where_it_was_to_be_asked_again() {
    let server = Server::start(Options::default()).unwrap();
    server.put("known/file.txt", b"content".to_vec());
    server.put("known/deep/other.txt", b"other".to_vec());
    server.put("unknown/file.txt", b"content".to_vec());
    let options = ["--timeout", "3s", "--metadata-ttl", "10m"];
    let mount = Mounted::with(&server, "cloudreve://my/", &options, |command| {
        command.env("RUST_LOG", "debug,fuser=off");
    });
    server.wait_for_event_streams(1);
    let names = |folder: &str| {
        let entries = std::fs::read_dir(mount.path(folder)).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.collect::<BTreeSet<_>>()
    };
    let at = |name: &str| mount.path("known").join(name);
    assert_eq!(names("known").len() + names("known/deep").len(), 3);
    assert_eq!(std::fs::read(at("file.txt")).unwrap(), b"content");
    std::fs::rename(at("file.txt"), at("renamed.txt")).unwrap();
    std::fs::create_dir(at("made")).unwrap();
    std::fs::remove_file(at("deep/other.txt")).unwrap();
    mount.sync();
    // What nobody understands may be a change of anything.
    server.send_events("event:event\ndata:{\n\n");
    shell::wait_until("all is to be asked again", || {
        mount.log().contains("(Unreadable)")
    });
    server.stop();
    finds_out(&mount);
    let right = ["deep", "made", "renamed.txt"].map(str::to_owned);
    assert_eq!(names("known"), BTreeSet::from(right));
    assert_eq!(names("known/deep"), BTreeSet::new());
    assert_eq!(std::fs::read(at("renamed.txt")).unwrap(), b"content");
    for absent in ["file.txt", "deep/other.txt"] {
        let absent = at(absent).symlink_metadata();
        assert_eq!(absent.unwrap_err().raw_os_error(), Some(libc::ENOENT));
    }
}

#[test]
fn files_are_written_renamed_and_deleted_without_a_server_and_it_hears_of_that_when_it_is_back() {
    let server = Server::start(Options::default()).unwrap();
    server.put("known/theirs.txt", b"before".to_vec());
    let mount = mount(&server);
    let at = |name: &str| mount.path("known").join(name);
    server.stop();
    finds_out(&mount);
    for number in 0..100 {
        std::fs::write(at(&format!("new {number}")), format!("content {number}")).unwrap();
    }
    for number in 0..50 {
        let from = at(&format!("new {number}"));
        std::fs::rename(from, at(&format!("renamed {number}"))).unwrap();
    }
    for number in 50..60 {
        std::fs::remove_file(at(&format!("new {number}"))).unwrap();
    }
    // They are the server's.
    std::fs::remove_file(at("file.txt")).unwrap();
    std::fs::remove_file(at("theirs.txt")).unwrap();
    let names = || {
        let entries = std::fs::read_dir(mount.path("known")).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.collect::<BTreeSet<_>>()
    };
    let renamed = (0..50).map(|number| format!("renamed {number}"));
    let new = (60..100).map(|number| format!("new {number}"));
    let mut right: BTreeSet<_> = renamed.chain(new).chain(["deep".to_owned()]).collect();
    assert_eq!(names(), right);
    server.restart().unwrap();
    // Nobody here has seen that one.
    server.put("known/theirs.txt", b"after".to_vec());
    right.insert("theirs.txt".to_owned());
    shell::wait_until("the server has heard of all", || {
        let there = server.names("known").unwrap().into_iter();
        there.collect::<BTreeSet<_>>() == right
    });
    mount.sync();
    let other = Mounted::new(&server, "cloudreve://my/", &[]);
    let read = |name: &str| std::fs::read_to_string(other.path("known").join(name)).unwrap();
    assert_eq!(read("renamed 7"), "content 7");
    assert_eq!(read("new 99"), "content 99");
    assert_eq!(read("theirs.txt"), "after");
    shell::wait_until("what was changed there meanwhile shows again", || {
        std::fs::read(at("theirs.txt")).is_ok_and(|content| content == b"after")
    });
    assert_eq!(mount.status()["conflicts"], serde_json::json!([]));
}

#[test]
fn what_was_deleted_without_a_server_stays_deleted_when_it_is_back_and_gone_once_more() {
    let server = Server::start(Options::default()).unwrap();
    let mount = mount(&server);
    server.stop();
    finds_out(&mount);
    std::fs::remove_file(mount.path("known/file.txt")).unwrap();
    server.restart().unwrap();
    shell::wait_until("the server has heard of it", || {
        server.names("known").unwrap() == ["deep"]
    });
    shell::wait_until("that is known", || {
        mount.status()["server"]["state"] != "offline"
    });
    server.stop();
    finds_out(&mount);
    let names = std::fs::read_dir(mount.path("known")).unwrap();
    let names = names.map(|entry| entry.unwrap().file_name());
    assert_eq!(names.collect::<Vec<_>>(), ["deep"]);
    let absent = mount.path("known/file.txt").symlink_metadata();
    assert_eq!(absent.unwrap_err().raw_os_error(), Some(libc::ENOENT));
}

#[test]
fn the_return_of_a_server_is_noticed_though_nobody_asks_for_anything() {
    let server = Server::start(Options::default()).unwrap();
    let mount = mount(&server);
    server.stop();
    finds_out(&mount);
    server.restart().unwrap();
    shell::wait_until("the server is seen to be back", || {
        mount.log().contains("is back")
    });
}

/// A rename of `known/folder` to `to`, of which the server does the first part and then nothing for a while, is taken back once
/// it does.
#[track_caller]
fn is_taken_back(to: &str) {
    let server = Server::start(Options::default()).unwrap();
    let mount = mount(&server);
    server.mkdir("other/empty");
    server.put("known/folder/inner.txt", b"inner".to_vec());
    let there = || ["known", "other"].map(|folder| server.names(folder).unwrap());
    let shown = || {
        let find = ["-mindepth", "1", "-printf", "%P\n"];
        let shown = shell::stdout(Command::new("find").arg(mount.path("")).args(find));
        let shown = shown.lines().map(str::to_owned);
        shown.collect::<BTreeSet<_>>()
    };
    shell::wait_until("what is new shows", || {
        ["other/empty", "known/folder/inner.txt"]
            .iter()
            .all(|path| shown().contains(*path))
    });
    let before = (there(), shown());
    server.fail(Fault::on(Route::Move).status(503));
    server.fail(Fault::on(Route::Rename).after(1).status(503));
    let rename = || std::fs::rename(mount.path("known/folder"), mount.path(to));
    assert_eq!(rename().unwrap_err().raw_os_error(), Some(libc::EIO));
    assert_ne!(there(), before.0, "a part of it is done");
    server.clear_faults();
    shell::wait_until("it is taken back", || there() == before.0);
    shell::wait_until("that shows", || shown() == before.1);
    rename().unwrap();
    assert_eq!(
        std::fs::read(mount.path(to).join("inner.txt")).unwrap(),
        b"inner"
    );
}

#[test]
fn a_rename_of_which_the_server_did_a_part_is_taken_back_when_it_is_well_again() {
    is_taken_back("other/renamed");
    is_taken_back("other/empty");
}
