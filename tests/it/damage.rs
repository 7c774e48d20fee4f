//! A cache directory that is damaged, full, failing or gone: slower, and never a wrong byte.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use cloudreve_test_server::{Options, Route, Server, generated_bytes};

use crate::support::damage::Vandal;
use crate::support::mounted::Mounted;
use crate::support::shell::{self, wait_until};
use crate::support::{drop_pages, seed, xattr};

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;

/// What the cache keeps, checks and counts one by one.
const BLOCK: u64 = 16 * KIB;

const FLIPS: u64 = 1000;

fn put(server: &Server, sizes: &[u64]) {
    for (size, number) in sizes.iter().zip(0..) {
        server.put_generated(&format!("{number}.bin"), *size, number);
    }
}

fn path(mount: &Mounted, number: usize) -> PathBuf {
    mount.path(format!("{number}.bin"))
}

/// Reads a file whole, in order, past the pages that the kernel has of it.
#[track_caller]
fn check(mount: &Mounted, number: usize, size: u64) {
    let file = File::open(path(mount, number)).unwrap();
    drop_pages(&file);
    let mut found = vec![0; MIB as usize];
    let mut start = 0;
    while start < size {
        let got = file.read_at(&mut found, start).unwrap() as u64;
        assert!(got > 0, "file {number} ends at {start} of {size}");
        let expected = generated_bytes(number as u64, start..start + got);
        let at = (0..got as usize).find(|at| found[*at] != expected[*at]);
        assert_eq!(at, None, "file {number}: wrong behind {start}");
        start += got;
    }
    drop_pages(&file);
}

#[track_caller]
fn check_all(mount: &Mounted, sizes: &[u64]) {
    for (number, size) in sizes.iter().enumerate() {
        check(mount, number, *size);
    }
}

/// Reads everything until all of it is on disk.
#[track_caller]
fn keep_all(mount: &Mounted, sizes: &[u64]) {
    let began = Instant::now();
    loop {
        check_all(mount, sizes);
        let cached = |number| xattr::get(&path(mount, number), "user.cloudreve.cached").unwrap();
        let missing = (0..sizes.len()).find(|number| cached(*number) != b"100%");
        let Some(number) = missing else {
            return;
        };
        // Longer than nothing is written after the disk refused something.
        assert!(
            began.elapsed() < Duration::from_secs(100),
            "file {number} of {} bytes is not kept: {}, {}",
            sizes[number],
            mount.status()["cache"],
            mount.log()
        );
    }
}

fn damaged_blocks(mount: &Mounted) -> u64 {
    mount.status()["cache"]["damaged_blocks"].as_u64().unwrap()
}

/// Several large files, one that ends in a block of one byte, and many of one block.
fn sizes() -> Vec<u64> {
    let mut sizes = vec![9 * MIB, 5 * MIB + 1, 2 * MIB + 77, MIB];
    sizes.extend((0..60).map(|number| 1 + number * 271));
    sizes
}

/// Damages what is kept by flipped bits. How many blocks are not what they were.
fn flip(vandal: &mut Vandal) -> u64 {
    let (large, small) = (vandal.files(".data"), vandal.files(".small"));
    let read = |paths: &[PathBuf]| -> Vec<_> {
        paths
            .iter()
            .map(|path| std::fs::read(path).unwrap())
            .collect()
    };
    let before = (read(&large), read(&small));
    for turn in 0..FLIPS as usize {
        // Most of them where most of the bytes are.
        let files = if turn % 8 == 0 { &small } else { &large };
        let file = &files[turn / 8 % files.len()];
        // Nothing is open, but what is written and verified behind the last read is held for a moment.
        wait_until("nobody holds it", || vandal.flip_bit(file).is_some());
    }
    let blocks = |before: &Vec<u8>, after: &Vec<u8>| {
        let blocks = before
            .chunks(BLOCK as usize)
            .zip(after.chunks(BLOCK as usize));
        blocks.filter(|(before, after)| before != after).count() as u64
    };
    let differ = |before: &[Vec<u8>], after: &[Vec<u8>]| {
        before
            .iter()
            .zip(after)
            .map(|(one, other)| blocks(one, other))
            .collect::<Vec<_>>()
    };
    let (large, small) = (
        differ(&before.0, &read(&large)),
        differ(&before.1, &read(&small)),
    );
    // What stands behind the bytes of a small file is no block of its own.
    large.iter().sum::<u64>() + small.iter().filter(|blocks| **blocks > 0).count() as u64
}

#[track_caller]
fn flipped_bits(passthrough: &str) {
    let server = Server::start(Options::default()).unwrap();
    let sizes = sizes();
    put(&server, &sizes);
    let options = [
        "--cache-size=1G",
        "--memory=8M",
        "--passthrough",
        passthrough,
    ];
    let mut mount = Mounted::new(&server, "cloudreve://my/", &options);
    keep_all(&mount, &sizes);
    let mut vandal = Vandal::new(mount.home.path("cache"), seed());

    // While it is mounted and nothing is open. What memory still has is right without the disk.
    let hit = flip(&mut vandal);
    wait_until("a third of the damaged blocks is met", || {
        check_all(&mount, &sizes);
        damaged_blocks(&mount) >= hit / 3
    });
    let found = damaged_blocks(&mount);
    println!("{found} of {hit} damaged blocks were met");
    assert!(found <= hit, "{found} of {hit}");
    settle(&server, &mount, &sizes);
    assert!(mount.end().success());

    // While it is not mounted.
    let mut mount = mount.again(&server, "cloudreve://my/", &options);
    check_all(&mount, &sizes);
    keep_all(&mount, &sizes);
    assert!(mount.end().success());
    let hit = flip(&mut vandal);
    let mount = mount.again(&server, "cloudreve://my/", &options);
    // A disk that is too busy to answer is left alone for half a minute: its blocks are met after that.
    wait_until("each damaged block is counted", || {
        check_all(&mount, &sizes);
        damaged_blocks(&mount) >= hit
    });
    settle(&server, &mount, &sizes);
    assert_eq!(damaged_blocks(&mount), hit, "each is counted once");
}

#[test]
fn a_thousand_flipped_bits_give_no_wrong_byte_and_each_damaged_block_is_counted() {
    flipped_bits("off");
}

#[test]
fn a_thousand_flipped_bits_give_no_wrong_byte_where_the_kernel_reads_by_itself() {
    flipped_bits("auto");
}

/// Reads everything until nothing of it has to be fetched. What is left of an index may tell less than is there, and what
/// memory has goes to disk only when it is read again.
#[track_caller]
fn settle(server: &Server, mount: &Mounted, sizes: &[u64]) {
    wait_until("nothing has to be fetched", || {
        server.reset_counters();
        check_all(mount, sizes);
        server.count(Route::Content) == 0
    });
}

#[test]
fn torn_truncated_exchanged_and_missing_files_give_no_wrong_byte() {
    let server = Server::start(Options::default()).unwrap();
    let sizes = sizes();
    put(&server, &sizes);
    let seed = seed();
    for passthrough in ["off", "auto"] {
        let options = [
            "--cache-size=1G",
            "--memory=8M",
            "--passthrough",
            passthrough,
        ];
        let mut mount = Mounted::new(&server, "cloudreve://my/", &options);
        let mut vandal = Vandal::new(mount.home.path("cache"), seed);
        for round in 0..6 {
            settle(&server, &mount, &sizes);
            if round % 2 == 0 {
                assert!(mount.end().success());
            }
            // All kinds of files, also the ones that say what is kept and how much.
            for _ in 0..40 {
                vandal.damage_something();
            }
            if round % 2 == 0 {
                mount = mount.again(&server, "cloudreve://my/", &options);
            }
            check_all(&mount, &sizes);
        }
        settle(&server, &mount, &sizes);
        assert!(!mount.log().contains("panicked"), "{}", mount.log());
    }
}

/// A file system in memory, mounted in a place of its own; unmounted on drop.
struct Tmpfs(PathBuf);

impl Tmpfs {
    fn over(place: &Path, options: &str) -> Self {
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", options, "cache-of-a-test"]);
        shell::stdout(mount.arg(place));
        Self(place.to_owned())
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        // Lazily, since a daemon of a failed test may still be there.
        shell::output(Command::new("umount").arg("-l").arg(&self.0));
    }
}

/// How often the log says that nothing can be kept.
fn said(mount: &Mounted) -> usize {
    mount.log().matches("content cannot be cached").count()
}

const STREAMS: [u64; 4] = [6 * MIB, 5 * MIB + 1, 9 * MIB, 7 * MIB + 100];

/// Four streams at once, each from the first byte to the last.
#[track_caller]
fn check_streams(mount: &Mounted, sizes: &[u64]) {
    std::thread::scope(|scope| {
        let streams: Vec<_> = sizes
            .iter()
            .enumerate()
            .map(|(number, size)| scope.spawn(move || check(mount, number, *size)))
            .collect();
        streams
            .into_iter()
            .for_each(|stream| stream.join().unwrap());
    });
}

#[test]
fn a_full_cache_disk_costs_speed_and_one_line_in_the_log() {
    let dir = tempfile::tempdir().unwrap();
    let _tmpfs = Tmpfs::over(dir.path(), "size=2M");
    let server = Server::start(Options::default()).unwrap();
    put(&server, &STREAMS);
    let cache = dir.path().to_str().unwrap();
    let options = ["--cache-dir", cache, "--cache-size=1G", "--memory=8M"];
    let mount = Mounted::new(&server, "cloudreve://my/", &options);
    for _ in 0..3 {
        check_streams(&mount, &STREAMS);
    }
    wait_until("it is said", || said(&mount) > 0);
    assert_eq!(said(&mount), 1, "{}", mount.log());
    let cache = &mount.status()["cache"];
    assert!(
        cache["unkept_bytes"].as_u64().unwrap() > 10 * MIB,
        "{cache}"
    );
}

#[test]
fn a_cache_directory_that_turns_read_only_costs_speed_and_one_line_in_the_log() {
    let server = Server::start(Options::default()).unwrap();
    put(&server, &STREAMS);
    let options = ["--cache-size=1G", "--memory=8M"];
    let mount = Mounted::new(&server, "cloudreve://my/", &options);
    check(&mount, 0, STREAMS[0]);
    let _read_only = Tmpfs::over(&mount.home.path("cache"), "ro");
    for _ in 0..3 {
        check_streams(&mount, &STREAMS);
    }
    wait_until("it is said", || said(&mount) > 0);
    assert_eq!(said(&mount), 1, "{}", mount.log());
}

#[test]
fn a_cache_directory_that_is_replaced_by_a_file_costs_speed_and_one_line_in_the_log() {
    let server = Server::start(Options::default()).unwrap();
    put(&server, &STREAMS);
    let options = ["--cache-size=1G", "--memory=8M"];
    let mount = Mounted::new(&server, "cloudreve://my/", &options);
    check(&mount, 0, STREAMS[0]);
    let cache = mount.home.path("cache");
    std::fs::rename(&cache, mount.home.path("aside")).unwrap();
    std::fs::write(&cache, "in its place").unwrap();
    for _ in 0..3 {
        check_streams(&mount, &STREAMS);
    }
    wait_until("it is said", || said(&mount) > 0);
    assert_eq!(said(&mount), 1, "{}", mount.log());
    assert_eq!(std::fs::read(&cache).unwrap(), b"in its place");
}

#[test]
fn a_cache_directory_deleted_under_four_streams_gives_no_wrong_byte_and_is_used_again() {
    let sizes = [12 * MIB + 5, 14 * MIB, 10 * MIB + 4097, 13 * MIB];
    for passthrough in ["off", "auto"] {
        let server = Server::start(Options::default()).unwrap();
        put(&server, &sizes);
        server.set_bandwidth(Some(20 * MIB));
        let options = [
            "--cache-size=1G",
            "--memory=8M",
            "--passthrough",
            passthrough,
        ];
        let mount = Mounted::new(&server, "cloudreve://my/", &options);
        let vandal = Vandal::new(mount.home.path("cache"), 1);
        let is_over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let is_over = &is_over;
            let deleting = scope.spawn(move || {
                let mut times = 0;
                while !is_over.load(Relaxed) {
                    std::thread::sleep(Duration::from_millis(150));
                    vandal.remove_all();
                    times += 1;
                }
                times
            });
            let began = Instant::now();
            check_streams(&mount, &sizes);
            is_over.store(true, Relaxed);
            let times = deleting.join().unwrap();
            println!("deleted {times} times in {:?}", began.elapsed());
            assert!(times > 3);
        });
        server.set_bandwidth(None);
        settle(&server, &mount, &sizes);
        // More than memory holds.
        let kept = mount.status()["cache"]["disk_bytes"].as_u64().unwrap();
        assert!(
            kept > sizes.iter().sum::<u64>() / 2,
            "it is used again: {kept}"
        );
        assert_eq!(said(&mount), 0, "{}", mount.log());
    }
}
