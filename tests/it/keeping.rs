//! What was read once is there: after a kill, and for another mount of the account. Both stay within one limit.

use std::fs::File;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use cloudreve_test_server::{Options, Route, Server, generated_bytes};

use crate::support::damage::disk_bytes;
use crate::support::mounted::Mounted;
use crate::support::shell::{self, wait_until};
use crate::support::xattr;

const MIB: u64 = 1 << 20;

/// One that is complete at once, and some of several blocks.
const SIZES: [u64; 4] = [9000, MIB + 1, 7 * MIB + 4099, 20 * MIB];

fn put(server: &Server) {
    for (size, number) in SIZES.into_iter().zip(0..) {
        server.put_generated(&format!("{number}.bin"), size, number);
    }
}

#[track_caller]
fn check(mount: &Mounted) {
    for (size, number) in SIZES.into_iter().zip(0..) {
        let found = std::fs::read(mount.path(format!("{number}.bin"))).unwrap();
        assert!(found == generated_bytes(number, 0..size), "file {number}");
    }
}

fn keep(mount: &Mounted) {
    wait_until("all is on disk", || {
        check(mount);
        (0..SIZES.len()).all(|number| {
            let path = mount.path(format!("{number}.bin"));
            xattr::get(&path, "user.cloudreve.cached").unwrap() == b"100%"
        })
    });
}

/// Requests for content, and for what content is asked with.
fn asked(server: &Server) -> (u64, u64) {
    (server.count(Route::Content), server.count(Route::Url))
}

#[test]
fn what_was_read_is_not_fetched_again_after_the_daemon_was_killed() {
    for passthrough in ["off", "auto"] {
        let server = Server::start(Options::default()).unwrap();
        put(&server);
        let options = ["--cache-size=1G", "--passthrough", passthrough];
        let mut mount = Mounted::new(&server, "cloudreve://my/", &options);
        keep(&mount);
        for _ in 0..2 {
            shell::kill(mount.pid(), libc::SIGKILL);
            mount.wait();
            mount = mount.again(&server, "cloudreve://my/", &options);
            server.reset_counters();
            check(&mount);
            assert_eq!(asked(&server).0, 0, "content was asked for");
            assert_eq!(mount.status()["cache"]["damaged_blocks"], 0);
        }
    }
}

#[test]
fn a_daemon_killed_while_it_writes_leaves_what_is_right() {
    let server = Server::start(Options::default()).unwrap();
    put(&server);
    server.set_bandwidth(Some(30 * MIB));
    let options = ["--cache-size=1G", "--memory=8M"];
    let mut mount = Mounted::new(&server, "cloudreve://my/", &options);
    for round in 1..6 {
        let path = mount.path("3.bin");
        std::thread::scope(|scope| {
            let reading = scope.spawn(|| std::fs::read(&path));
            server.reset_counters();
            wait_until("it reads", || server.content_bytes_sent() > round * MIB);
            shell::kill(mount.pid(), libc::SIGKILL);
            assert!(reading.join().unwrap().is_err(), "its mount is gone");
        });
        mount.wait();
        mount = mount.again(&server, "cloudreve://my/", &options);
    }
    server.reset_counters();
    check(&mount);
    assert_eq!(mount.status()["cache"]["damaged_blocks"], 0);
    let sent = server.content_bytes_sent();
    assert!(sent < SIZES.iter().sum(), "nothing of it was left: {sent}");
}

#[test]
fn what_one_mount_of_an_account_read_another_need_not_fetch() {
    let server = Server::start(Options::default()).unwrap();
    put(&server);
    let dir = tempfile::tempdir().unwrap();
    let options = [
        "--cache-size=1G",
        "--cache-dir",
        dir.path().to_str().unwrap(),
    ];
    let reader = Mounted::new(&server, "cloudreve://my/", &options);
    server.put("first", vec![1; 20_000]);
    let first = reader.path("first");
    wait_until("something is on disk", || {
        std::fs::read(&first).is_ok()
            && xattr::get(&first, "user.cloudreve.cached").unwrap() == b"100%"
    });
    // It runs before the rest is there.
    let other = Mounted::new(&server, "cloudreve://my/", &options);
    keep(&reader);
    server.reset_counters();
    check(&other);
    assert_eq!(asked(&server).0, 0, "content was asked for");
    let later = Mounted::new(&server, "cloudreve://my/", &options);
    check(&later);
    assert_eq!(asked(&server).0, 0, "content was asked for");
}

/// The most that was on disk while `work` ran, looked at every 10 ms.
fn most_on_disk(cache: &Path, work: impl FnOnce()) -> (u64, u64) {
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let looking = scope.spawn(|| {
            let (mut most, mut looks) = (0, 0);
            while !is_over.load(Relaxed) {
                std::thread::sleep(std::time::Duration::from_millis(10));
                // A look takes a moment, in which a file may be counted before and another one after a change: the least of
                // some looks in a row is below what was there in between.
                let seen = (0..4).map(|_| disk_bytes(cache)).min();
                most = most.max(seen.unwrap_or(0));
                looks += 1;
            }
            (most, looks)
        });
        work();
        is_over.store(true, Relaxed);
        looking.join().unwrap()
    })
}

const BLOCK: u64 = 16 << 10;

/// Four streams over all files of both mounts.
fn streams(mounts: &[&Mounted], files: u64) {
    std::thread::scope(|scope| {
        for stream in 0..4 {
            let mount = mounts[stream as usize % mounts.len()];
            scope.spawn(move || {
                for number in (stream % 2..files).chain(0..stream % 2) {
                    let mut file = File::open(mount.path(format!("{number}.bin"))).unwrap();
                    std::io::copy(&mut file, &mut std::io::sink()).unwrap();
                }
            });
        }
    });
}

#[track_caller]
fn within(limit: &str, bytes: u64, count: usize) {
    const FILES: u64 = 8;
    let server = Server::start(Options::default()).unwrap();
    for number in 0..FILES {
        server.put_generated(&format!("{number}.bin"), 10 * MIB + number * 4097, number);
    }
    for number in 0..400 {
        server.put_generated(&format!("small/{number}"), 200 + number * 40, number);
    }
    let dir = tempfile::tempdir().unwrap();
    let cache = dir.path().to_str().unwrap();
    let options = ["--memory=8M", "--cache-size", limit, "--cache-dir", cache];
    let mounts: Vec<_> = (0..count)
        .map(|_| Mounted::new(&server, "cloudreve://my/", &options))
        .collect();
    let mounts: Vec<_> = mounts.iter().collect();
    let (most, looks) = most_on_disk(dir.path(), || {
        streams(&mounts, FILES);
        for mount in &mounts {
            shell::stdout(
                Command::new("sh")
                    .args(["-c", r#"cat "$0"/small/* | wc -c"#])
                    .arg(mount.path("")),
            );
        }
    });
    println!("{limit}: at most {most} of {bytes}, {looks} looks");
    // The directory itself is counted by us, and not by the limit.
    assert!(
        most <= bytes + 4 * BLOCK + 4096,
        "{most} instead of {bytes}"
    );
    assert!(most > bytes / 2, "hardly anything is kept: {most}");
    assert!(looks > 20, "{looks}");
}

#[test]
fn the_cache_is_never_larger_than_its_limit_under_four_streams() {
    within("1M", MIB, 1);
    within("16M", 16 * MIB, 1);
}

#[test]
fn two_mounts_of_an_account_keep_within_one_limit() {
    within("1M", MIB, 2);
    within("16M", 16 * MIB, 2);
}
