//! What a daemon takes of the machine stays bounded, however many read and however often files are opened.

use std::fs::File;
use std::os::unix::fs::FileExt;

use cloudreve_test_server::{Options, Server, generated_bytes};

use crate::support::dice;
use crate::support::mounted::Mounted;
use crate::support::shell::wait_until;

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;

/// A line of /proc/PID/status, in KiB.
fn memory_kib(mount: &Mounted, line: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", mount.pid())).unwrap();
    let found = status.lines().find_map(|found| found.strip_prefix(line));
    let number = found
        .unwrap()
        .trim_start_matches(':')
        .trim()
        .split(' ')
        .next();
    number.unwrap().parse().unwrap()
}

fn descriptors(mount: &Mounted) -> usize {
    std::fs::read_dir(format!("/proc/{}/fd", mount.pid()))
        .unwrap()
        .count()
}

#[test]
fn sixty_four_readers_take_no_more_memory_than_was_allowed_for_content() {
    const READERS: u64 = 64;
    const SIZE: u64 = 8 * MIB;
    /// Beside `--memory`: the program itself (24 MiB), what is yet to be written to disk (a quarter of `--memory`, by
    /// buffers that may be half empty), and for each reader 3 MiB: its connection's buffers (408 KiB each, of which the
    /// next is filled while content still points into the last), what it has received and its answer to the kernel
    /// (256 KiB each), once more as much that the heap holds in between. The last grows while the disk is too busy to
    /// take anything: 2.3 MiB a reader were seen behind a build that had just written gigabytes, 1.5 on a quiet machine.
    const BESIDE_KIB: u64 = (24 + 8 + 3 * READERS) * KIB;
    let server = Server::start(Options::default()).unwrap();
    for number in 0..READERS {
        server.put_generated(&format!("{number}.bin"), SIZE, number);
    }
    for cache in ["--cache-size=1G", "--cache-size=0"] {
        let options = ["--memory=16M", "--passthrough=off", cache];
        let mount = Mounted::new(&server, "cloudreve://my/", &options);
        let before = memory_kib(&mount, "VmRSS");
        std::thread::scope(|scope| {
            for reader in 0..READERS {
                let path = mount.path(format!("{reader}.bin"));
                scope.spawn(move || {
                    let file = File::open(path).unwrap();
                    let mut dice = dice(reader + 1);
                    // Half of them in order, half of them at random.
                    for piece in 0..SIZE / (256 * KIB) {
                        let start = match reader % 2 {
                            0 => piece * 256 * KIB,
                            _ => dice(SIZE - 256 * KIB),
                        };
                        let mut found = vec![0; 256 << 10];
                        file.read_exact_at(&mut found, start).unwrap();
                        let expected = generated_bytes(reader, start..start + 256 * KIB);
                        assert!(found == expected, "reader {reader} at {start}");
                    }
                });
            }
        });
        let most = memory_kib(&mount, "VmHWM");
        println!("{cache}: {before} KiB before, {most} KiB at most");
        assert!(most < 16 * KIB + BESIDE_KIB, "{most} KiB, {before} before");
        // Both caches let go of memory in one way, and it takes half a minute.
        if cache.ends_with('G') {
            // Connections that may be used again, and what they have room for, stay for a while.
            wait_until("what is idle is given back", || {
                memory_kib(&mount, "VmRSS") < before + 48 * KIB
            });
        }
    }
}

/// `times` opens of `files` files from four threads, with a read in each.
fn open_many(mount: &Mounted, files: u64, times: u64) {
    std::thread::scope(|scope| {
        for reader in 0..4 {
            scope.spawn(move || {
                for turn in 0..times / 4 {
                    let number = (turn * 7 + reader * 13) % files;
                    let file = File::open(mount.path(format!("{number}.bin"))).unwrap();
                    let mut found = [0; 100];
                    file.read_exact_at(&mut found, number * 10).unwrap();
                    let expected = generated_bytes(number, number * 10..number * 10 + 100);
                    assert!(found == *expected, "file {number}");
                }
            });
        }
    });
}

#[track_caller]
fn opens(times: u64, passthrough: &str) {
    const FILES: u64 = 300;
    let server = Server::start(Options::default()).unwrap();
    for number in 0..FILES {
        server.put_generated(&format!("{number}.bin"), 6000 + number * 200, number);
    }
    let options = ["--cache-size=1G", "--passthrough", passthrough];
    let mount = Mounted::new(&server, "cloudreve://my/", &options);
    // Until everything is as it stays.
    open_many(&mount, FILES, times / 10);
    let before = (memory_kib(&mount, "VmRSS"), descriptors(&mount));
    open_many(&mount, FILES, times);
    let after = (memory_kib(&mount, "VmRSS"), descriptors(&mount));
    println!("{times} opens: {before:?} KiB and descriptors before, {after:?} after");
    assert!(after.0 < before.0 + 6 * KIB, "{before:?} became {after:?}");
    wait_until("as many files are open as before", || {
        descriptors(&mount) <= before.1 + 4
    });
    assert_eq!(mount.status()["open_handles"], 0);
}

#[test]
fn ten_thousand_opens_leave_nothing_behind() {
    opens(10_000, "auto");
}

#[test]
#[ignore = "it takes minutes"]
fn a_hundred_thousand_opens_leave_nothing_behind() {
    opens(100_000, "off");
    opens(100_000, "auto");
}
