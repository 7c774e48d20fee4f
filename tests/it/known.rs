//! A drive that was mounted before is mounted without its server, and shows what it was.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use cloudreve_test_server::{Fault, Options, Route, Server};

use crate::support::mounted::Mounted;
use crate::support::shell;

const ROOT: &str = "cloudreve://my/";

/// Nothing counts by its age, so that what shows is what is known.
const OPTIONS: &[&str] = &["--timeout", "3s", "--metadata-ttl", "1ms"];

/// Names below `folder` with what is in them, in order.
fn tree(folder: &Path) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    let mut names: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    names.sort();
    for path in names {
        match path.symlink_metadata().unwrap().is_dir() {
            true => {
                found.push((path.clone(), "a folder".to_owned()));
                found.extend(tree(&path));
            }
            false => found.push((path.clone(), fs::read_to_string(&path).unwrap())),
        }
    }
    found
}

fn below(mount: &Mounted) -> Vec<(PathBuf, String)> {
    let root = mount.path("");
    let found = tree(&root).into_iter();
    found
        .map(|(path, content)| (path.strip_prefix(&root).unwrap().to_owned(), content))
        .collect()
}

fn server() -> Server {
    let server = Server::start(Options::default()).unwrap();
    server.put("docs/a.txt", b"a".to_vec());
    server.put("docs/deep/b.txt", b"b".to_vec());
    server.put("c.txt", b"c".to_vec());
    server
}

#[test]
fn what_was_known_shows_without_a_server_also_after_a_kill() {
    let server = server();
    let mut mount = Mounted::new(&server, ROOT, OPTIONS);
    let before = below(&mount);
    assert_eq!(before.len(), 5);
    mount.end();
    server.stop();
    let began = Instant::now();
    let mut mount = mount.again(&server, ROOT, OPTIONS);
    assert!(began.elapsed() < Duration::from_secs(3), "{}", mount.log());
    assert_eq!(below(&mount), before);
    assert_eq!(mount.status()["server"]["state"], "offline");
    let absent = fs::symlink_metadata(mount.path("docs/absent"));
    assert_eq!(absent.unwrap_err().raw_os_error(), Some(libc::ENOENT));
    shell::kill(mount.pid(), libc::SIGKILL);
    mount.wait();
    let mount = mount.again(&server, ROOT, OPTIONS);
    assert_eq!(below(&mount), before);
    server.restart().unwrap();
    server.put("docs/new.txt", b"new".to_vec());
    shell::wait_until("what is new shows", || {
        fs::read(mount.path("docs/new.txt")).is_ok_and(|content| content == b"new")
    });
    assert_ne!(mount.status()["server"]["state"], "offline");
}

#[test]
fn what_is_done_without_a_server_outlives_two_mounts_without_one() {
    let server = server();
    let mut mount = Mounted::new(&server, ROOT, OPTIONS);
    below(&mount);
    mount.end();
    server.stop();
    let mut mount = mount.again(&server, ROOT, OPTIONS);
    for number in 0..100 {
        fs::write(mount.path(format!("docs/{number}")), number.to_string()).unwrap();
    }
    fs::rename(mount.path("docs/7"), mount.path("docs/seven")).unwrap();
    fs::write(mount.path("docs/a.txt"), "a, anew").unwrap();
    fs::remove_file(mount.path("docs/8")).unwrap();
    fs::remove_file(mount.path("docs/deep/b.txt")).unwrap();
    fs::remove_file(mount.path("c.txt")).unwrap();
    let after = below(&mount);
    assert_eq!(after.len(), 2 + 99 + 1);
    mount.end();
    let mut mount = mount.again(&server, ROOT, OPTIONS);
    assert_eq!(below(&mount), after);
    shell::kill(mount.pid(), libc::SIGKILL);
    mount.wait();
    let mount = mount.again(&server, ROOT, OPTIONS);
    assert_eq!(below(&mount), after);
    server.restart().unwrap();
    shell::wait_until("the server is back", || {
        mount.status()["server"]["state"] != "offline"
    });
    mount.sync();
    assert_eq!(below(&mount), after);
    shell::wait_until("the server has heard of all", || {
        server.content("c.txt").is_none() && server.content("docs/deep/b.txt").is_none()
    });
    assert_eq!(server.content("docs/seven").unwrap(), b"7");
    assert_eq!(server.content("docs/a.txt").unwrap(), b"a, anew");
    assert_eq!(server.content("docs/8"), None);
    let second = Mounted::new(&server, ROOT, OPTIONS);
    assert_eq!(below(&second), after);
}

#[test]
fn a_drive_that_was_never_mounted_is_not_mounted_without_its_server() {
    let server = server();
    let mut mount = Mounted::new(&server, ROOT, OPTIONS);
    below(&mount);
    mount.end();
    server.stop();
    let said = |options: &[&str], uri: &str| {
        let output = mount
            .home
            .program()
            .args(["mount", uri])
            .arg(mount.home.path("mnt"))
            .args(["--address", &server.address(), "--timeout", "3s"])
            .args(options)
            .env("CLOUDREVE_PASSWORD", server.user().password)
            .output()
            .unwrap();
        assert!(!output.status.success());
        String::from_utf8(output.stderr).unwrap()
    };
    let user = server.user().email;
    for (options, uri) in [
        (["--username", &user], "cloudreve://my/docs"),
        (["--username", "other@example.com"], ROOT),
    ] {
        let said = said(&options, uri);
        assert!(said.contains("cannot be reached"), "{said}");
    }
}

#[test]
fn a_mount_that_begins_anew_believes_what_is_young_and_asks_for_the_rest() {
    let server = server();
    let young = ["--metadata-ttl", "1h"];
    let mut mount = Mounted::new(&server, ROOT, &young);
    let before = below(&mount);
    mount.end();
    let mut mount = mount.again(&server, ROOT, &young);
    let lists = server.count(Route::List);
    assert_eq!(below(&mount), before);
    // That of the root, for what the mount is.
    assert!(server.count(Route::List) <= lists + 1);
    mount.end();
    server.put("docs/new.txt", b"new".to_vec());
    let mount = mount.again(&server, ROOT, OPTIONS);
    assert_eq!(below(&mount).len(), before.len() + 1);
}

#[test]
fn what_was_saved_last_is_there_for_the_next_mount_also_after_a_kill() {
    let server = server();
    // Nobody tells that anything has changed.
    server.configure_events(|events| events.enabled = false);
    let options = ["--metadata-ttl", "1h", "--upload-delay", "1h"];
    let mut mount = Mounted::new(&server, ROOT, &options);
    below(&mount);
    mount.end();
    let mut mount = mount.again(&server, ROOT, &options);
    fs::write(mount.path("docs/new.txt"), "before a kill").unwrap();
    mount.sync();
    shell::kill(mount.pid(), libc::SIGKILL);
    mount.wait();
    let mut mount = mount.again(&server, ROOT, &options);
    let read = |mount: &Mounted, name: &str| fs::read_to_string(mount.path("docs").join(name));
    assert_eq!(read(&mount, "new.txt").unwrap(), "before a kill");
    mount.end();
    let mut mount = mount.again(&server, ROOT, &options);
    // It is delivered after all that is known was kept.
    fs::write(mount.path("docs/newer.txt"), "before the end").unwrap();
    mount.end();
    let mount = mount.again(&server, ROOT, &options);
    assert_eq!(read(&mount, "newer.txt").unwrap(), "before the end");
}

#[test]
fn nothing_is_kept_where_nothing_is_to_be_kept_and_cache_clear_forgets() {
    let server = server();
    let mut mount = Mounted::new(&server, ROOT, OPTIONS);
    below(&mount);
    mount.end();
    let kept = || {
        let names = fs::read_dir(mount.home.path("cache/metadata")).unwrap();
        let names = names.map(|name| name.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name.ends_with(".sqlite")).count()
    };
    assert_eq!(kept(), 1);
    let mut clear = mount.home.program();
    shell::stdout(clear.args(["cache", "clear"]));
    assert_eq!(kept(), 0);
    let nothing = Mounted::new(&server, ROOT, &["--cache-size", "0"]);
    below(&nothing);
    assert!(!nothing.home.path("cache/metadata").exists());
}

#[test]
fn what_is_kept_may_be_damaged_or_gone_and_the_mount_begins_all_the_same() {
    let server = server();
    let mut mount = Mounted::new(&server, ROOT, OPTIONS);
    let before = below(&mount);
    mount.end();
    let file = fs::read_dir(mount.home.path("cache/metadata"))
        .unwrap()
        .map(|name| name.unwrap().path())
        .find(|path| path.extension().is_some_and(|kind| kind == "sqlite"))
        .unwrap();
    let length = fs::metadata(&file).unwrap().len() as usize;
    for damage in [b"x".repeat(length), Vec::new(), b"SQLite format 3".to_vec()] {
        fs::write(&file, damage).unwrap();
        mount = mount.again(&server, ROOT, OPTIONS);
        assert_eq!(below(&mount), before);
        mount.end();
    }
    fs::remove_dir_all(mount.home.path("cache")).unwrap();
    let mount = mount.again(&server, ROOT, OPTIONS);
    assert_eq!(below(&mount), before);
}

#[test]
fn a_mount_waits_for_no_server_that_swallows_what_it_is_sent() {
    let server = server();
    let mut mount = Mounted::new(&server, ROOT, OPTIONS);
    let before = below(&mount);
    mount.end();
    server.fail(Fault::everywhere().stall());
    let began = Instant::now();
    let mount = mount.again(&server, ROOT, &["--metadata-ttl", "1ms"]);
    let took = began.elapsed();
    assert!(took < Duration::from_secs(6), "{took:?}: {}", mount.log());
    let shown = shell::stdout(Command::new("ls").arg(mount.path("docs")));
    assert_eq!(shown, "a.txt\ndeep\n");
    server.clear_faults();
    shell::wait_until("the server is back", || {
        mount.status()["server"]["state"] != "offline"
    });
    assert_eq!(below(&mount), before);
}
