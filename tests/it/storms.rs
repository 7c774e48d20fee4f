//! Everything that goes wrong with content goes wrong at once, while many read.
//!
//! Each read gives the right bytes, as many as it asked for, or an error within a bounded time; when the storm is over all
//! is as before. The seed is printed; `CLOUDREVE_TEST_SEED` repeats it, as far as threads can be repeated.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::ErrorKind;
use std::ops::AddAssign;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use cloudreve_test_server::{Fault, Options, Route, Server, generated_bytes};

use crate::support::dice;
use crate::support::mounted::Mounted;

const MIB: u64 = 1 << 20;

/// Around what blocks, pages and windows are made of; together more than the mount keeps in memory.
const SIZES: [u64; 6] = [1, 4097, MIB - 1, 3 * MIB + 17, 12 * MIB, 24 * MIB + 65_535];

const READERS: u64 = 8;

const STORM: Duration = Duration::from_secs(10);

const TIMEOUT: Duration = Duration::from_secs(2);

/// A read may wait for the timeout again for each part of it that makes progress (a URL, a block, the kernel's pieces);
/// more than this is a hang.
const HANG: Duration = Duration::from_secs(20);

/// What the readers of a storm got.
#[derive(Debug, Default)]
struct Log {
    right: u64,
    errors: BTreeMap<String, u64>,
    longest: Duration,
}

impl AddAssign for Log {
    fn add_assign(&mut self, other: Self) {
        self.right += other.right;
        self.longest = self.longest.max(other.longest);
        for (error, times) in other.errors {
            *self.errors.entry(error).or_default() += times;
        }
    }
}

impl Log {
    /// One pread(2), held against the source.
    fn read(&mut self, file: &File, number: u64, start: u64, length: u64) {
        let began = Instant::now();
        let mut found = vec![0xAA; length as usize];
        let end = (start + length).min(SIZES[number as usize]);
        match file.read_at(&mut found, start) {
            Ok(got) => {
                let what = format!("file {number}, {length} at {start}");
                assert_eq!(got as u64, end.saturating_sub(start), "{what}: length");
                let expected = generated_bytes(number, start..start + got as u64);
                assert!(found[..got] == expected, "{what}: wrong bytes");
                self.right += 1;
            }
            Err(err) => self.error(&err),
        }
        self.longest = self.longest.max(began.elapsed());
    }

    fn error(&mut self, err: &std::io::Error) {
        assert_ne!(err.kind(), ErrorKind::NotFound, "a file vanished");
        *self.errors.entry(err.to_string()).or_default() += 1;
    }
}

fn path(number: u64) -> String {
    format!("{number}.bin")
}

/// Past the kernel's pages, or through them: both ways to us are read.
fn open(root: &Path, number: u64, flags: i32) -> std::io::Result<File> {
    let mut options = OpenOptions::new();
    let options = options.read(true).custom_flags(flags);
    options.open(root.join(path(number)))
}

/// A pread through the kernel's pages is short where a page in the middle could not be read, and the error comes with the
/// next one; so of those only one page at a time is held to be whole.
fn reader(root: &Path, seed: u64, until: Instant) -> Log {
    let mut dice = dice(seed);
    let mut log = Log::default();
    while Instant::now() < until {
        let number = dice(SIZES.len() as u64);
        let size = SIZES[number as usize];
        let direct = dice(4) > 0;
        let flags = if direct { libc::O_DIRECT } else { 0 };
        let file = match open(root, number, flags) {
            Ok(file) => file,
            Err(err) => {
                log.error(&err);
                continue;
            }
        };
        let length = if direct { 1 + dice(MIB) } else { 4096 };
        let mut start = dice(size);
        let sequential = dice(2) == 0;
        for _ in 0..12 {
            log.read(&file, number, start, length);
            start = if sequential {
                start + length
            } else {
                dice(size)
            };
            if !direct {
                start -= start % 4096;
            }
        }
    }
    log
}

fn storm(server: &Server, seed: u64) {
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
        server.fail(fault.with_probability(0.03, seed + number));
    }
}

#[test]
fn eight_readers_in_a_storm_of_every_fault_get_the_right_bytes_or_an_error() {
    let seed = std::env::var("CLOUDREVE_TEST_SEED").ok();
    let seed = seed.and_then(|seed| seed.parse().ok()).unwrap_or_else(|| {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        u64::from(now.unwrap_or_default().subsec_nanos())
    });
    println!("CLOUDREVE_TEST_SEED={seed}");
    let server = Server::start(Options::default()).unwrap();
    for (size, number) in SIZES.into_iter().zip(0..) {
        server.put_generated(&path(number), size, number);
    }
    let timeout = format!("{}s", TIMEOUT.as_secs());
    let options = ["--memory", "8M", "--timeout", &timeout];
    let mount = Mounted::new(&server, "cloudreve://my/", &options);
    let root = mount.path("");
    storm(&server, seed);
    let mut log = Log::default();
    let until = Instant::now() + STORM;
    std::thread::scope(|scope| {
        let root = &root;
        let readers: Vec<_> = (0..READERS)
            .map(|number| scope.spawn(move || reader(root, seed * READERS + number, until)))
            .collect();
        while Instant::now() < until {
            // Not a synchronisation: a storm has its own time. URLs and tokens end under the readers.
            std::thread::sleep(Duration::from_millis(700));
            server.advance_clock(Duration::from_secs(40 * 60));
        }
        for reader in readers {
            log += reader.join().unwrap();
        }
    });
    println!("{log:?}");
    server.clear_faults();
    assert!(log.right > 200, "hardly anything was read: {log:?}");
    assert!(!log.errors.is_empty(), "the storm was never met");
    assert!(log.longest < HANG, "a read hung: {log:?}");
    assert!(!mount.log().contains("panicked"), "{}", mount.log());
    for (size, number) in SIZES.into_iter().zip(0..) {
        let found = std::fs::read(root.join(path(number))).unwrap();
        assert!(
            found == generated_bytes(number, 0..size),
            "afterwards, {number}"
        );
    }
    assert_eq!(server.hung_up_before_headers(), 0);
}
