//! New files, which the kernel writes by itself: past the daemon, and with every promise kept that the daemon keeps.

use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::fs::FileExt;
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use cloudreve_test_server::{Options, Route, Server, generated_bytes};
use rustix::fs::{AtFlags, Timespec};

use crate::support::map::MapMut;
use crate::support::mounted::Mounted;
use crate::support::shell::{self, wait_until};
use crate::support::xattr;

const ROOT: &str = "cloudreve://my/";

/// A mount that delivers at once what was closed, of a drive with a file `old`.
fn drive(options: &[&str]) -> (Server, Mounted) {
    let server = Server::start(Options::default()).unwrap();
    server.put_generated("old", 500_000, 3);
    let options = [&["--upload-delay", "0s"], options].concat();
    let mount = Mounted::new(&server, ROOT, &options);
    (server, mount)
}

/// How many files the kernel reads and writes by itself.
fn by_itself(mount: &Mounted) -> u64 {
    let cache = &mount.status()["cache"];
    cache["passthrough_files"].as_u64().unwrap()
}

#[track_caller]
fn assert_same(found: &[u8], right: &[u8], what: &str) {
    // Not assert_eq: a megabyte of numbers helps nobody.
    let lengths = (found.len(), right.len());
    assert!(found == right, "{what}: bytes differ, of {lengths:?}");
}

#[track_caller]
fn assert_delivered(server: &Server, mount: &Mounted, name: &str, right: &[u8]) {
    wait_until("it is on the server", || {
        server.content(name).as_deref() == Some(right)
    });
    let shown = std::fs::read(mount.path(name)).unwrap();
    assert_same(&shown, right, "shown");
}

/// Time in which what would be uploaded is, on a machine that is not asleep: not a synchronisation, since no moment tells
/// that nothing happens.
fn a_while() {
    std::thread::sleep(Duration::from_millis(300));
}

#[test]
fn a_new_file_is_written_without_the_daemon_and_delivered_when_it_is_closed() {
    let (server, mount) = drive(&[]);
    let path = mount.path("new");
    let mut file = File::create(&path).unwrap();
    assert_eq!(by_itself(&mount), 1, "this test needs root, and Linux 6.9");
    let content = generated_bytes(1, 0..3_000_001);
    // Before the first write to an inode the kernel asks whether there is an attribute to be dropped.
    file.write_all(&content[..1]).unwrap();
    shell::kill(mount.pid(), libc::SIGSTOP);
    let written = file.write_all(&content[1..]);
    shell::kill(mount.pid(), libc::SIGCONT);
    written.unwrap();
    assert_eq!(file.metadata().unwrap().len(), 3_000_001, "fstat(2)");
    assert_eq!(std::fs::metadata(&path).unwrap().len(), 3_000_001);
    assert_same(&std::fs::read(&path).unwrap(), &content, "who opens it");
    a_while();
    assert_eq!(server.count(Route::UploadCreate), 0, "it is still open");
    drop(file);
    assert_delivered(&server, &mount, "new", &content);
    wait_until("nothing is kept open", || by_itself(&mount) == 0);
    let cached = || xattr::get(&path, "user.cloudreve.cached").unwrap() == b"100%";
    wait_until("it is kept in the cache", cached);
    assert_eq!(server.count(Route::UploadCreate), 1, "once");
}

#[test]
fn a_file_that_is_truncated_is_written_without_the_daemon_and_is_one_version_more() {
    let (server, mount) = drive(&[]);
    let path = mount.path("old");
    let id = server.file_id("old");
    let mut file = File::create(&path).unwrap();
    assert_eq!(by_itself(&mount), 1);
    assert_eq!(std::fs::metadata(&path).unwrap().len(), 0);
    file.write_all(b"short").unwrap();
    drop(file);
    assert_delivered(&server, &mount, "old", b"short");
    assert_eq!(server.file_id("old"), id);
    assert_eq!(server.names("").unwrap(), ["old"]);
}

#[test]
fn what_stays_open_is_kept_by_close_and_fsync_and_goes_to_the_server_at_the_last_close() {
    let (server, mount) = drive(&[]);
    let mut file = File::create(mount.path("log")).unwrap();
    file.write_all(b"first").unwrap();
    file.sync_all().unwrap();
    // Each of these is a close(2) of the same handle.
    drop(file.try_clone().unwrap());
    shell::stdout(Command::new("true").stdin(Stdio::from(file.try_clone().unwrap())));
    a_while();
    assert_eq!(server.count(Route::UploadCreate), 0);
    let owed = &mount.status()["owed"];
    assert!(owed.to_string().contains("log"), "it is shown: {owed}");
    let sync = mount
        .home
        .program()
        .arg("sync")
        .arg(mount.path(""))
        .output();
    let said = String::from_utf8(sync.unwrap().stdout).unwrap();
    assert!(said.contains("log"), "it is not there yet: {said}");
    file.write_all(b" and last").unwrap();
    drop(file);
    assert_delivered(&server, &mount, "log", b"first and last");
}

#[test]
fn all_who_open_a_file_that_the_kernel_writes_see_each_other_at_once() {
    let (server, mount) = drive(&[]);
    let path = mount.path("shared");
    let mut first = File::create(&path).unwrap();
    first.write_all(b"abcdef").unwrap();
    let second = File::options().read(true).write(true).open(&path).unwrap();
    let mut follower = File::open(&path).unwrap();
    second.write_all_at(b"XY", 2).unwrap();
    let mut seen = String::new();
    follower.read_to_string(&mut seen).unwrap();
    assert_eq!(seen, "abXYef");
    first.write_all(b"gh").unwrap();
    follower.read_to_string(&mut seen).unwrap();
    assert_eq!(seen, "abXYefgh", "it grew");
    let mut appender = File::options().append(true).open(&path).unwrap();
    appender.write_all(b"!").unwrap();
    second.set_len(3).unwrap();
    assert_eq!(first.metadata().unwrap().len(), 3);
    appender.write_all(b"?").unwrap();
    let long_ago = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
    first.set_modified(long_ago).unwrap();
    assert_eq!(second.metadata().unwrap().modified().unwrap(), long_ago);
    drop((first, appender, second));
    wait_until("it is there, though it is still read", || {
        server.content("shared").as_deref() == Some(b"abX?")
    });
    // Who reads it keeps it open; who writes to it now is seen there, too.
    let mut late = File::options().append(true).open(&path).unwrap();
    late.write_all(b"late").unwrap();
    let mut tail = [0; 4];
    follower.read_exact_at(&mut tail, 4).unwrap();
    assert_eq!(&tail, b"late");
    drop((late, follower));
    assert_delivered(&server, &mount, "shared", b"abX?late");
    assert_eq!(mount.status()["conflicts"], serde_json::json!([]));
}

#[test]
fn a_mapping_that_outlives_its_handle_is_waited_for() {
    let (server, mount) = drive(&[]);
    let path = mount.path("mapped");
    let content = generated_bytes(7, 0..100_000);
    let mut first = File::create(&path).unwrap();
    first.write_all(&content).unwrap();
    let second = File::options().read(true).write(true).open(&path).unwrap();
    let mut map = MapMut::new(&second, content.len());
    drop((first, second));
    wait_until("nobody has it open", || by_itself(&mount) == 0);
    let mut right = content;
    for (at, byte) in (0..100_000).step_by(1000).zip(0..) {
        map.bytes()[at] = byte;
        right[at] = byte;
    }
    a_while();
    assert_eq!(server.count(Route::UploadCreate), 0, "it is mapped");
    // Whoever opens it by pages meanwhile sees what is there.
    assert_same(&std::fs::read(&path).unwrap(), &right, "opened beside");
    drop(map);
    assert_delivered(&server, &mount, "mapped", &right);
    assert_eq!(server.count(Route::UploadCreate), 1, "once");
}

#[test]
fn who_writes_on_after_the_daemon_was_killed_is_waited_for() {
    let (server, mut mount) = drive(&[]);
    let mut file = File::create(mount.path("new")).unwrap();
    let content = generated_bytes(9, 0..400_000);
    let (before, after) = content.split_at(150_000);
    file.write_all(before).unwrap();
    // A close(2), so what is there is owed whatever comes.
    drop(file.try_clone().unwrap());
    shell::kill(mount.pid(), libc::SIGKILL);
    mount.wait();
    mount = mount.again(&server, ROOT, &["--upload-delay", "0s"]);
    assert_same(
        &std::fs::read(mount.path("new")).unwrap(),
        before,
        "after the kill",
    );
    // The kernel needs no daemon for it.
    file.write_all(after).unwrap();
    a_while();
    assert_eq!(server.count(Route::UploadCreate), 0, "it is still open");
    drop(file);
    assert_delivered(&server, &mount, "new", &content);
    assert_eq!(server.count(Route::UploadCreate), 1, "once");
}

#[test]
fn a_mount_that_ends_by_force_leaves_what_is_written_to_the_next_one() {
    let (server, mut mount) = drive(&[]);
    let mut file = File::create(mount.path("new")).unwrap();
    file.write_all(b"half ").unwrap();
    let umount = ["umount", "--force"];
    let mut ends = mount.home.program();
    let ended = ends.args(umount).arg(mount.path("")).output().unwrap();
    let said = String::from_utf8_lossy(&ended.stdout).into_owned();
    mount.wait();
    file.write_all(b"and half").unwrap();
    assert_eq!(server.content("new"), None, "{said}");
    mount = mount.again(&server, ROOT, &["--upload-delay", "0s"]);
    drop(file);
    assert_delivered(&server, &mount, "new", b"half and half");
}

#[test]
fn an_unlinked_file_is_written_by_the_kernel_and_never_goes_to_the_server() {
    let (server, mount) = drive(&[]);
    let path = mount.path("gone");
    let mut file = File::create(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    file.write_all(b"content").unwrap();
    assert_eq!(file.metadata().unwrap().len(), 7);
    drop(file);
    std::fs::write(mount.path("other"), b"other").unwrap();
    assert_delivered(&server, &mount, "other", b"other");
    assert_eq!(server.names("").unwrap(), ["old", "other"]);
    assert_eq!(server.count(Route::UploadCreate), 1);
}

#[test]
fn a_file_that_is_moved_while_the_kernel_writes_it_arrives_at_its_new_place() {
    let (server, mount) = drive(&[]);
    let mut file = File::create(mount.path("part")).unwrap();
    file.write_all(b"new ").unwrap();
    std::fs::rename(mount.path("part"), mount.path("old")).unwrap();
    file.write_all(b"content").unwrap();
    assert_eq!(std::fs::read(mount.path("old")).unwrap(), b"new content");
    drop(file);
    assert_delivered(&server, &mount, "old", b"new content");
    assert_eq!(server.names("").unwrap(), ["old"]);
}

#[test]
fn nothing_is_lent_where_it_would_keep_something_from_the_server_for_long() {
    let (server, mount) = drive(&[]);
    let mut options = File::options();
    options.create(true).append(true);
    let mut log = options.open(mount.path("log")).unwrap();
    let mut options = File::options();
    options.create(true).truncate(true).read(true).write(true);
    let mut database = options.open(mount.path("database")).unwrap();
    assert_eq!(by_itself(&mount), 0);
    for file in [&mut log, &mut database] {
        file.write_all(b"durable").unwrap();
        file.sync_all().unwrap();
    }
    wait_until("both are there, and open", || {
        ["log", "database"].map(|name| server.content(name))
            == [b"durable"; 2].map(|c| Some(c.to_vec()))
    });
    let (server, mount) = drive(&["--durability", "server"]);
    let mut file = File::create(mount.path("new")).unwrap();
    assert_eq!(by_itself(&mount), 0);
    file.write_all(b"content").unwrap();
    drop(file.try_clone().unwrap());
    assert_eq!(server.content("new").as_deref(), Some(&b"content"[..]));
    let (_server, mount) = drive(&["--passthrough", "off"]);
    let file = File::create(mount.path("new")).unwrap();
    assert_eq!(by_itself(&mount), 0);
    drop(file);
}

#[test]
fn where_nothing_is_cached_new_files_are_written_by_the_kernel_all_the_same() {
    let (server, mount) = drive(&["--cache-size", "0"]);
    let mut file = File::create(mount.path("new")).unwrap();
    assert_eq!(by_itself(&mount), 1);
    file.write_all(b"content").unwrap();
    drop(file);
    assert_delivered(&server, &mount, "new", b"content");
}

#[test]
fn a_time_that_is_set_as_soon_as_a_file_is_closed_leaves_nothing_that_is_never_delivered() {
    let server = Server::start(Options::default()).unwrap();
    let mount = Mounted::new(&server, ROOT, &["--upload-delay", "1h"]);
    let time = Timespec {
        tv_sec: 1_000_000_000,
        tv_nsec: 0,
    };
    const FILES: u64 = 500;
    for number in 0..FILES {
        let path = mount.path(number.to_string());
        let mut file = File::create(&path).unwrap();
        file.write_all(b"content").unwrap();
        drop(file);
        // By its name, as git-clone(1) does it: the kernel releases the file in the same moment.
        let times = rustix::fs::Timestamps {
            last_access: time,
            last_modification: time,
        };
        rustix::fs::utimensat(rustix::fs::CWD, &path, &times, AtFlags::empty()).unwrap();
    }
    wait_until("all are owed, and none is open", || {
        mount.status()["owed_sum"]["files"].as_u64() == Some(FILES)
    });
}
