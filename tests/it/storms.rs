//! Everything that goes wrong with content goes wrong at once, on the network and on the disk, while many read.
//!
//! Each read gives the right bytes of the version that was opened, as many as it asked for, or an error within a bounded
//! time; when the storm is over all is as before. The seed is printed; `CLOUDREVE_TEST_SEED` repeats it, as far as threads
//! can be repeated, and `CLOUDREVE_TEST_STORM_SECONDS` says how long the long ones last.

mod reader;

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use cloudreve_test_server::{Fault, Options, Route, Server, generated_bytes};

use self::reader::{Log, Reader, WAYS};
use crate::support::damage::Vandal;
use crate::support::mounted::Mounted;
use crate::support::shell::wait_until;
use crate::support::{dice, seed};

const MIB: u64 = 1 << 20;

/// Around what blocks, pages and windows are made of. Together they are more than memory and the disk hold, and so is the
/// last one alone.
const SIZES: [u64; 8] = [
    1,
    4097,
    16 << 10,
    100_000,
    MIB - 1,
    3 * MIB + 17,
    12 * MIB,
    24 * MIB + 65_535,
];

const READERS: u64 = 8;

const TIMEOUT: Duration = Duration::from_secs(2);

/// A call may wait for the timeout again for each part of it that makes progress (a URL, a block, the kernel's pieces);
/// more than this is a hang.
const HANG: Duration = Duration::from_secs(12);

/// How long a storm lasts that everybody runs, and one that has all the time.
const SHORT: Duration = Duration::from_secs(8);
const LONG_SECONDS: u64 = 300;

fn path(number: u64) -> String {
    format!("{number}.bin")
}

/// Which content version `version` of a file has; its length is longer than the first one's by `version`.
fn seed_of(number: u64, version: u64) -> u64 {
    number << 32 | version
}

/// The newest version of each file. It is noted before it lands.
#[derive(Default)]
struct Versions([AtomicU64; SIZES.len()]);

impl Versions {
    fn newest(&self, number: u64) -> u64 {
        self.0[number as usize].load(Relaxed)
    }

    fn put(&self, server: &Server, number: u64) {
        let version = self.0[number as usize].fetch_add(1, Relaxed) + 1;
        let size = SIZES[number as usize] + version;
        server.put_generated(&path(number), size, seed_of(number, version));
    }
}

fn faults(server: &Server, seed: u64) {
    let content = || Fault::on(Route::Content);
    let faults = [
        content().truncate_after(0),
        content().truncate_after(70_000),
        content().reset_after(0),
        content().reset_after(200_000),
        content().stall_after(0),
        content().stall_after(100_000),
        content().reset_before_headers(),
        content().status(500),
        content().status(503),
        content().status(404),
        content().status(429).retry_after(Duration::from_secs(1)),
        content().status(429).retry_after(Duration::from_secs(60)),
        content().ignore_range(),
        content().range_as_200(),
        content().wrong_range(),
        content().changed_length(),
        content().short_content(),
        content().empty_body(),
        content().html_page(),
        content().code(40005, "signature expired"),
        content().code(50001, "failed to get login user"),
        content().code(40016, "not found"),
        Fault::on(Route::Url).status(502),
        Fault::on(Route::Url).html_page(),
        Fault::on(Route::Url).reset_before_headers(),
        Fault::on(Route::Url).truncate_after(20),
        Fault::on(Route::Url).code(401, "login required"),
    ];
    for (fault, number) in faults.into_iter().zip(1..) {
        server.fail(fault.with_probability(0.02, seed + number));
    }
}

/// URLs and tokens end under the readers, files get new versions, and now and then the server is killed.
fn weather(server: &Server, versions: &Versions, seed: u64, until: Instant) {
    let mut dice = dice(seed);
    while Instant::now() < until {
        // Not a synchronisation: a storm has its own time.
        std::thread::sleep(Duration::from_millis(500));
        match dice(8) {
            0..3 => server.advance_clock(Duration::from_secs(40 * 60)),
            3..6 => versions.put(server, dice(SIZES.len() as u64)),
            6 => {
                server.stop();
                std::thread::sleep(Duration::from_millis(dice(1500)));
                server.restart().unwrap();
            }
            _ => {}
        }
    }
}

/// How often something was damaged.
fn vandalism(cache: &Path, seed: u64, until: Instant) -> u64 {
    let mut vandal = Vandal::new(cache.to_owned(), seed);
    let mut dice = dice(seed + 1);
    let mut done = 0;
    while Instant::now() < until {
        std::thread::sleep(Duration::from_millis(20));
        if dice(250) == 0 {
            vandal.remove_all();
        } else {
            done += u64::from(vandal.damage_something());
        }
    }
    done
}

#[track_caller]
fn storm(passthrough: &str, length: Duration) {
    let seed = seed();
    let server = Server::start(Options::default()).unwrap();
    for (size, number) in SIZES.into_iter().zip(0..) {
        server.put_generated(&path(number), size, seed_of(number, 0));
    }
    let (timeout, passthrough) = (format!("{}s", TIMEOUT.as_secs()), passthrough);
    let options = [
        "--memory=8M",
        "--cache-size=16M",
        "--metadata-ttl=1s",
        "--timeout",
        &timeout,
        "--passthrough",
        passthrough,
    ];
    let mount = Mounted::new(&server, "cloudreve://my/", &options);
    let (root, cache) = (mount.path(""), mount.home.path("cache"));
    let versions = Versions::default();
    // Something is on disk when it begins.
    for number in 0..SIZES.len() as u64 {
        std::fs::read(root.join(path(number))).unwrap();
    }
    faults(&server, seed);
    let until = Instant::now() + length;
    let (log, damage) = std::thread::scope(|scope| {
        let (server, root, versions, cache) = (&server, &root, &versions, &cache);
        let readers: Vec<_> = (0..READERS)
            .map(|number| {
                let reader = Reader::new(root, versions, WAYS[number as usize % WAYS.len()]);
                scope.spawn(move || reader.run(seed * READERS + number, until))
            })
            .collect();
        let vandal = scope.spawn(move || vandalism(cache, seed + 1000, until));
        weather(server, versions, seed + 2000, until);
        let mut log = Log::default();
        for reader in readers {
            log += reader.join().unwrap();
        }
        (log, vandal.join().unwrap())
    });
    let status = mount.status()["cache"].clone();
    let asked = server.count(Route::Content);
    println!("{log:?}, {asked} requests for content, {damage} times damaged, {status}");
    server.clear_faults();
    assert!(log.right > 200, "hardly anything was read: {log:?}");
    assert!(asked > 100, "the storm was hardly met: {asked}");
    assert!(damage > 20, "the disk was never met: {damage}");
    assert!(log.longest < HANG, "a call hung: {log:?}");
    assert!(!mount.log().contains("panicked"), "{}", mount.log());
    for number in 0..SIZES.len() as u64 {
        let version = versions.newest(number);
        let size = SIZES[number as usize] + version;
        let path = root.join(path(number));
        wait_until("the newest version shows", || {
            std::fs::metadata(&path).is_ok_and(|found| found.len() == size)
        });
        let found = std::fs::read(&path).unwrap();
        let expected = generated_bytes(seed_of(number, version), 0..size);
        assert!(found == expected, "afterwards, {number}");
    }
    assert_eq!(server.hung_up_before_headers(), 0);
}

fn long() -> Duration {
    let given = std::env::var("CLOUDREVE_TEST_STORM_SECONDS").ok();
    let seconds = given.and_then(|seconds| seconds.parse().ok());
    Duration::from_secs(seconds.unwrap_or(LONG_SECONDS))
}

#[test]
fn eight_readers_in_a_storm_of_every_fault_get_the_right_bytes_or_an_error() {
    storm("off", SHORT);
}

#[test]
fn eight_readers_in_a_storm_get_the_right_bytes_or_an_error_where_the_kernel_reads_by_itself() {
    storm("auto", SHORT);
}

#[test]
#[ignore = "it lasts five minutes"]
fn five_minutes_of_storm_give_the_right_bytes_or_an_error() {
    storm("off", long());
}

#[test]
#[ignore = "it lasts five minutes"]
fn five_minutes_of_storm_give_the_right_bytes_or_an_error_where_the_kernel_reads_by_itself() {
    storm("auto", long());
}
