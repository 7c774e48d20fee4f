//! What the kernel keeps of files, and which it reads by itself: those that are complete in the cache, past the daemon.

use std::fs::File;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Barrier, mpsc};
use std::time::Duration;

use cloudreve_test_server::{Options, Route, Server, generated_bytes};

use crate::support::damage::entries;
use crate::support::drop_pages;
use crate::support::map::Map;
use crate::support::mounted::Mounted;
use crate::support::shell::{self, wait_until};
use crate::support::xattr;

const MIB: u64 = 1 << 20;

/// How long a read that needs nobody may take.
const AT_ONCE: Duration = Duration::from_secs(20);

/// A daemon that cannot answer, until this is dropped.
struct Stopped(u32);

impl Stopped {
    fn new(mount: &Mounted) -> Self {
        shell::kill(mount.pid(), libc::SIGSTOP);
        Self(mount.pid())
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        shell::kill(self.0, libc::SIGCONT);
    }
}

/// What `read` gives while the daemon of `mount` cannot answer; none where it needs the daemon.
fn without_the_daemon<T: Send + 'static>(
    mount: &Mounted,
    read: impl FnOnce() -> T + Send + 'static,
) -> Option<T> {
    let stopped = Stopped::new(mount);
    let (done, waits) = mpsc::channel();
    // Goes on when the daemon does.
    let reader = std::thread::spawn(move || done.send(read()));
    let found = waits.recv_timeout(AT_ONCE).ok();
    drop(stopped);
    let sent = reader.join().expect("it read without a panic");
    assert!(found.is_none() || sent.is_ok());
    found
}

fn whole(file: &File) -> Vec<u8> {
    let mut bytes = vec![0; file.metadata().unwrap().len() as usize];
    file.read_exact_at(&mut bytes, 0).unwrap();
    bytes
}

/// How many files the kernel reads by itself.
fn by_itself(mount: &Mounted) -> u64 {
    mount.status()["cache"]["passthrough_files"]
        .as_u64()
        .unwrap()
}

#[track_caller]
fn assert_same(found: &[u8], expected: &[u8], what: &str) {
    // Not assert_eq: a megabyte of numbers helps nobody.
    assert!(found == expected, "{what}: {} bytes differ", found.len());
}

/// A drive with `file.bin` of `size` bytes, on a mount where the kernel may read the cache by itself.
fn drive(size: u64, options: &[&str]) -> (Server, Mounted) {
    let server = Server::start(Options::default()).unwrap();
    server.put_generated("file.bin", size, size);
    let options = [&["--cache-size", "1G"], options].concat();
    let mount = Mounted::new(&server, "cloudreve://my/", &options);
    let cache = &mount.status()["cache"];
    assert_eq!(
        cache["passthrough"], "on",
        "this test needs root, and Linux 6.9 or newer: {cache}"
    );
    (server, mount)
}

/// Reads all of `path`, until it is complete in the cache and known to be good.
fn complete(mount: &Mounted, path: &Path) {
    wait_until("the file is complete", || {
        std::fs::read(path).unwrap();
        xattr::get(path, "user.cloudreve.cached").unwrap() == b"100%"
    });
    wait_until("the kernel reads it by itself", || {
        let open = File::open(path).unwrap();
        let found = by_itself(mount);
        drop(open);
        found > 0
    });
    wait_until("it is closed", || by_itself(mount) == 0);
}

#[test]
fn a_file_that_is_complete_in_the_cache_is_read_by_the_kernel_without_the_daemon() {
    let size = 3 * MIB + 5;
    let (server, mount) = drive(size, &[]);
    let (path, source) = (mount.path("file.bin"), generated_bytes(size, 0..size));
    assert_same(&std::fs::read(&path).unwrap(), &source, "cold");
    complete(&mount, &path);
    server.reset_counters();
    let file = File::open(&path).unwrap();
    assert_eq!(by_itself(&mount), 1);
    assert_eq!(file.metadata().unwrap().len(), size);
    drop_pages(&file);
    let again = file.try_clone().unwrap();
    // In this order: after a read the kernel asks for the time of access, which is part of what stat(2) tells.
    let read = move || {
        let found = whole(&again);
        (found, Map::of(&again, size as usize).to_vec())
    };
    let (found, mapped) = without_the_daemon(&mount, read).expect("the kernel needs nobody");
    assert_same(&found, &source, "read");
    assert_same(&mapped, &source, "mapped");
    assert_eq!(
        file.read_at(&mut [0; 8], size).unwrap(),
        0,
        "beyond its end"
    );
    let beside = File::open(&path).unwrap();
    assert_same(&whole(&beside), &source, "opened twice");
    assert_eq!(by_itself(&mount), 1, "it is one file");
    drop((file, beside));
    wait_until("it is closed", || by_itself(&mount) == 0);
    assert_eq!(server.count(Route::Content), 0, "nothing was fetched again");
}

#[test]
fn who_writes_to_what_the_kernel_reads_by_itself_leaves_the_readers_what_they_opened() {
    let size = 2 * MIB;
    let (server, mount) = drive(size, &["--upload-delay", "0s"]);
    let (path, source) = (mount.path("file.bin"), generated_bytes(size, 0..size));
    complete(&mount, &path);
    let reader = File::open(&path).unwrap();
    assert_eq!(by_itself(&mount), 1);
    let writer = File::options().read(true).write(true).open(&path).unwrap();
    writer.write_all_at(b"new", 7).unwrap();
    let mut written = source.clone();
    written[7..10].copy_from_slice(b"new");
    assert_same(&whole(&writer), &written, "who writes");
    assert_same(&std::fs::read(&path).unwrap(), &written, "who opens it now");
    let mut old = vec![0; size as usize];
    reader.read_exact_at(&mut old, 0).unwrap();
    assert_same(&old, &source, "who had it open");
    drop(writer);
    wait_until("it is delivered", || {
        server.content("file.bin").as_deref() == Some(&written[..])
    });
    shell::stdout(Command::new("truncate").args(["-s", "5"]).arg(&path));
    assert_same(
        &std::fs::read(&path).unwrap(),
        &source[..5],
        "cut by its name",
    );
    reader.read_exact_at(&mut old, 0).unwrap();
    assert_same(&old, &source, "who had it open, still");
    drop(reader);
    wait_until("it is delivered", || {
        server.content("file.bin").as_deref() == Some(&source[..5])
    });
}

#[test]
fn what_is_written_to_here_is_not_read_by_the_kernel_itself_so_that_followers_see_it_grow() {
    let size = 2 * MIB;
    let (_server, mount) = drive(size, &["--upload-delay", "0s"]);
    let path = mount.path("file.bin");
    complete(&mount, &path);
    let append = |text: &[u8]| {
        let mut file = File::options().append(true).open(&path).unwrap();
        std::io::Write::write_all(&mut file, text).unwrap();
    };
    append(b"first");
    let follower = File::open(&path).unwrap();
    assert_eq!(by_itself(&mount), 0);
    append(b"second");
    let mut end = [0; 6];
    follower.read_exact_at(&mut end, size + 5).unwrap();
    assert_eq!(&end, b"second");
    assert_eq!(follower.metadata().unwrap().len(), size + 11);
}

#[test]
fn the_first_who_opens_a_complete_file_after_a_remount_needs_no_daemon_also_from_a_cold_disk() {
    let size = 5 * MIB;
    let (server, mut mount) = drive(size, &[]);
    let source = generated_bytes(size, 0..size);
    complete(&mount, &mount.path("file.bin"));
    for _ in 0..2 {
        assert!(mount.end().success());
        for entry in entries(&mount.home.path("cache")) {
            if let Ok(file) = File::open(entry.path())
                && file.metadata().unwrap().is_file()
            {
                // What was not written back is not dropped.
                file.sync_all().unwrap();
                drop_pages(&file);
            }
        }
        mount = mount.again(&server, "cloudreve://my/", &["--cache-size", "1G"]);
        let file = File::open(mount.path("file.bin")).unwrap();
        assert_eq!(by_itself(&mount), 1);
        assert_eq!(file.metadata().unwrap().len(), size);
        let found = without_the_daemon(&mount, move || whole(&file));
        assert_same(&found.expect("the kernel needs nobody"), &source, "cold");
    }
}

#[test]
fn a_file_that_becomes_complete_while_it_is_open_is_opened_in_the_way_of_who_has_it_open() {
    let size = 2 * MIB;
    let (_server, mount) = drive(size, &[]);
    let (path, source) = (mount.path("file.bin"), generated_bytes(size, 0..size));
    let first = File::open(&path).unwrap();
    first.read_exact_at(&mut [0; 10], 0).unwrap();
    wait_until("the file is complete", || {
        assert_same(&std::fs::read(&path).unwrap(), &source, "beside it");
        xattr::get(&path, "user.cloudreve.cached").unwrap() == b"100%"
    });
    let mut held = Vec::new();
    for _ in 0..3 {
        held.push(File::open(&path).unwrap());
        assert_eq!(
            by_itself(&mount),
            0,
            "the first one goes through the daemon"
        );
    }
    for file in held.iter().chain([&first]) {
        drop_pages(file);
        assert_same(&whole(file), &source, "through the daemon");
    }
    drop(first);
    assert_same(&whole(&File::open(&path).unwrap()), &source, "not the last");
    assert_eq!(by_itself(&mount), 0);
    drop(held);
    complete(&mount, &path);
    let file = File::open(&path).unwrap();
    assert_eq!(by_itself(&mount), 1);
    assert_same(&whole(&file), &source, "by the kernel");
}

#[test]
fn a_new_version_comes_while_the_kernel_reads_the_old_one_by_itself() {
    let size = MIB + 77;
    let (server, mount) = drive(size, &["--metadata-ttl", "0s"]);
    let (path, old) = (mount.path("file.bin"), generated_bytes(size, 0..size));
    complete(&mount, &path);
    let file = File::open(&path).unwrap();
    assert_eq!(by_itself(&mount), 1);
    let map = Map::of(&file, old.len());
    let new: Vec<u8> = old.iter().map(|byte| !byte).chain(*b"more").collect();
    server.put("file.bin", new.clone());
    for round in 0..2 {
        wait_until("the new version shows", || {
            std::fs::metadata(&path).unwrap().len() == new.len() as u64
        });
        assert_same(&std::fs::read(&path).unwrap(), &new, "the new version");
        assert_same(&whole(&file), &old, "the old version");
        assert_same(&map, &old, "the map of the old version");
        assert_eq!(file.metadata().unwrap().len(), size);
        if round == 0 {
            wait_until("the kernel reads both by itself", || {
                let _open = File::open(&path).unwrap();
                by_itself(&mount) == 2
            });
        }
    }
    let number = file.metadata().unwrap().ino();
    assert_ne!(std::fs::metadata(&path).unwrap().ino(), number);
}

#[test]
fn a_hundred_who_open_and_close_a_file_while_it_becomes_complete_see_no_error() {
    const READERS: u64 = 100;
    const ROUNDS: u64 = 40;
    let size = 4 * MIB;
    let (server, mount) = drive(size, &[]);
    let (path, source) = (mount.path("file.bin"), generated_bytes(size, 0..size));
    server.set_bandwidth(Some(8 * MIB));
    // Between two rounds nobody has it open, so that each may have another way.
    let between = Barrier::new(READERS as usize);
    let most = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for reader in 0..READERS {
            let (path, source, between) = (&path, &source, &between);
            let (mount, most) = (&mount, &most);
            scope.spawn(move || {
                let mut errors = Vec::new();
                for round in 0..ROUNDS {
                    for turn in 0..10 {
                        let at =
                            (reader * 40_009 + round * 1_000_003 + turn * 70_001) % (size - 5000);
                        let mut found = [0; 5000];
                        let read = File::open(path).and_then(|file| {
                            file.read_exact_at(&mut found, at)?;
                            if (reader, turn) == (0, 5) {
                                most.fetch_max(by_itself(mount), Relaxed);
                            }
                            Ok(())
                        });
                        let expected = &source[at as usize..at as usize + found.len()];
                        errors.extend(read.err());
                        assert!(!errors.is_empty() || found == *expected, "at {at}");
                    }
                    between.wait();
                }
                assert!(errors.is_empty(), "{errors:?}");
            });
        }
    });
    assert_eq!(
        most.into_inner(),
        1,
        "the kernel read it by itself in the end"
    );
    wait_until("all is closed", || by_itself(&mount) == 0);
    assert!(!mount.log().contains("panicked"), "{}", mount.log());
}

#[test]
fn a_file_that_is_overwritten_all_the_time_is_one_version_for_each_who_opens_it() {
    const ROUNDS: u64 = 40;
    let length = |round: u64| 70_000 + round * 4099;
    let (server, mount) = drive(1, &["--metadata-ttl", "0s"]);
    // The length tells which version it is, and so does each byte.
    let put = |round| server.put("file.bin", vec![round as u8; length(round) as usize]);
    put(0);
    let path = mount.path("file.bin");
    let (is_over, opened) = (AtomicBool::new(false), AtomicU64::new(0));
    let most = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..6 {
            let (path, is_over, opened) = (&path, &is_over, &opened);
            scope.spawn(move || {
                while !is_over.load(Relaxed) {
                    // Two versions that come between two steps of one open(2) are one too many for the kernel.
                    let file = match File::open(path) {
                        Err(err) if err.raw_os_error() == Some(libc::ESTALE) => continue,
                        file => file.unwrap(),
                    };
                    opened.fetch_add(1, Relaxed);
                    let found = whole(&file);
                    let version = (found.len() as u64 - 70_000) / 4099;
                    let other = found.iter().position(|byte| *byte != version as u8);
                    assert_eq!(other, None, "in version {version}");
                }
            });
        }
        let over = OnDrop(&is_over);
        for round in 1..=ROUNDS {
            put(round);
            let from = opened.load(Relaxed);
            wait_until("it was opened", || opened.load(Relaxed) > from + 50);
            most.fetch_max(by_itself(&mount), Relaxed);
        }
        drop(over);
    });
    assert!(most.into_inner() > 0, "the kernel read none by itself");
    assert_same(
        &std::fs::read(&path).unwrap(),
        &vec![ROUNDS as u8; length(ROUNDS) as usize],
        "in the end",
    );
}

struct OnDrop<'a>(&'a AtomicBool);

impl Drop for OnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}

#[test]
fn what_the_kernel_reads_by_itself_outlives_a_cleared_cache() {
    let size = 2 * MIB;
    let (_server, mount) = drive(size, &[]);
    let (path, source) = (mount.path("file.bin"), generated_bytes(size, 0..size));
    complete(&mount, &path);
    let file = File::open(&path).unwrap();
    assert_eq!(by_itself(&mount), 1);
    let said = mount.command(&["cache", "clear"]);
    assert!(
        said.contains(mount.home.path("cache").to_str().unwrap()),
        "{said}"
    );
    std::fs::remove_dir_all(mount.home.path("cache")).unwrap();
    assert_same(&whole(&file), &source, "held open");
    assert_same(&Map::of(&file, source.len()), &source, "mapped");
    assert_same(&std::fs::read(&path).unwrap(), &source, "opened beside it");
    drop(file);
    assert_same(&std::fs::read(&path).unwrap(), &source, "opened afterwards");
}

#[test]
fn small_files_are_kept_in_pages_and_read_by_the_kernel_from_there() {
    let (_server, mount) = drive(5000, &[]);
    let path = mount.path("file.bin");
    wait_until("the file is complete", || {
        std::fs::read(&path).unwrap();
        xattr::get(&path, "user.cloudreve.cached").unwrap() == b"100%"
    });
    let _file = File::open(&path).unwrap();
    assert_eq!(by_itself(&mount), 0);
}

#[test]
fn more_files_are_open_than_the_daemon_may_open_itself() {
    const FILES: u64 = 300;
    let size = 70_000;
    let server = Server::start(Options::default()).unwrap();
    for number in 0..FILES {
        server.put_generated(&number.to_string(), size, number);
    }
    let options = ["--cache-size", "1G"];
    let mount = Mounted::with(&server, "cloudreve://my/", &options, |command| {
        let mut limited = Command::new("prlimit");
        limited.arg("--nofile=128:256").arg(command.get_program());
        limited.args(command.get_args());
        shell::take_environment(&mut limited, command);
        *command = limited;
    });
    let path = |number: u64| mount.path(number.to_string());
    let check = |file: &File, number| {
        let source = generated_bytes(number, 0..size);
        assert_same(&whole(file), &source, &format!("file {number}"));
    };
    (0..FILES).for_each(|number| check(&File::open(path(number)).unwrap(), number));
    wait_until("the files are complete", || {
        let cached = |number| xattr::get(&path(number), "user.cloudreve.cached").unwrap();
        (0..FILES).all(|number| cached(number) == b"100%")
    });
    wait_until("the kernel reads as many by itself as it may", || {
        let open: Vec<_> = (0..FILES)
            .map(|number| File::open(path(number)).unwrap())
            .collect();
        let found = by_itself(&mount);
        (0..FILES).for_each(|number| check(&open[number as usize], number));
        found == 256 / 4
    });
}

/// Content reads right again and again, and `status` says why the kernel does not read it by itself.
#[track_caller]
fn check_off(mount: &Mounted, reason: &str, cat: impl Fn() -> Vec<u8>, source: &[u8]) {
    for _ in 0..3 {
        assert_same(&cat(), source, "content");
    }
    let cache = &mount.status()["cache"];
    assert_eq!(cache["passthrough"], "off");
    let why = cache["passthrough_off_reason"].as_str().unwrap();
    assert!(why.contains(reason), "{why}");
    let shown = mount.command(&["status"]);
    assert!(shown.contains(why), "{shown}");
}

#[test]
fn where_the_kernel_may_not_read_by_itself_content_comes_all_the_same_and_status_says_why() {
    let size = 2 * MIB + 1;
    let server = Server::start(Options::default()).unwrap();
    server.put_generated("file.bin", size, size);
    let source = generated_bytes(size, 0..size);
    for (option, reason) in [
        ("--passthrough=off", "--passthrough=off"),
        ("--cache-size=0", "nothing is kept on disk"),
    ] {
        let mount = Mounted::new(&server, "cloudreve://my/", &[option]);
        let path = mount.path("file.bin");
        check_off(&mount, reason, || std::fs::read(&path).unwrap(), &source);
    }
    let mount = Mounted::unprivileged(&server, "cloudreve://my/", &[]);
    let path = mount.path("file.bin");
    let cat = || {
        let output = shell::output(&mut mount.as_nobody(Command::new("cat").arg(&path)));
        assert!(output.status.success(), "{output:?}");
        output.stdout
    };
    check_off(&mount, "root", cat, &source);
    let log = mount.log();
    assert!(
        !log.contains("reads no file by itself"),
        "said aloud: {log}"
    );
}

#[test]
fn pages_of_a_file_stay_until_it_has_a_new_version() {
    // More than the daemon keeps.
    let size = 24 * MIB;
    let server = Server::start(Options::default()).unwrap();
    server.put_generated("file.bin", size, 1);
    let options = ["--cache-size=0", "--memory=8M", "--metadata-ttl=0s"];
    let mount = Mounted::new(&server, "cloudreve://my/", &options);
    let path = mount.path("file.bin");
    for version in 1..=2 {
        let source = generated_bytes(version, 0..size);
        assert_same(&std::fs::read(&path).unwrap(), &source, "cold");
        // Not at the first time where somebody drops the machine's caches meanwhile.
        wait_until("its pages are kept", || {
            server.reset_counters();
            assert_same(&std::fs::read(&path).unwrap(), &source, "warm");
            server.count(Route::Content) == 0
        });
        server.put_generated("file.bin", size, 2);
    }
}

#[test]
fn the_kernel_reads_ahead_further_where_the_daemon_may_ask_for_it() {
    let server = Server::start(Options::default()).unwrap();
    server.put("file.txt", b"content".to_vec());
    let read_ahead = |mount: &Mounted| -> u64 {
        let table = std::fs::read_to_string(format!("/proc/{}/mountinfo", mount.pid())).unwrap();
        let point = mount.path("");
        let point = point.to_str().unwrap().trim_end_matches('/');
        let line = table
            .lines()
            .find(|line| line.split(' ').nth(4) == Some(point));
        let device = line.unwrap().split(' ').nth(2).unwrap();
        let file = format!("/sys/class/bdi/{device}/read_ahead_kb");
        std::fs::read_to_string(file)
            .unwrap()
            .trim()
            .parse()
            .unwrap()
    };
    let mount = Mounted::new(&server, "cloudreve://my/", &[]);
    assert_eq!(read_ahead(&mount), 512);
    let mount = Mounted::unprivileged(&server, "cloudreve://my/", &[]);
    assert_eq!(read_ahead(&mount), 128, "the kernel's own");
}
