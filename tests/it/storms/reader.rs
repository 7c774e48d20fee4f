//! One who reads in a storm, in one of the ways in which programs read, and holds each byte against its source.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io;
use std::ops::AddAssign;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::time::{Duration, Instant};

use cloudreve_test_server::generated_bytes;

use super::{MIB, SIZES, Versions, path, seed_of};
use crate::support::map::Map;
use crate::support::{dice, drop_pages};

/// What direct reads are aligned to, on the disk too.
const PAGE: u64 = 4096;

/// Calls on one open file.
const CALLS: u64 = 16;

/// How somebody reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// In order, past the kernel's pages.
    Direct,
    /// In order, as cat(1) does.
    InOrder,
    /// Anywhere, past the kernel's pages.
    RandomDirect,
    /// Anywhere, through the kernel's pages.
    Random,
    /// A few bytes at a time.
    Small,
    /// Through a mapping.
    Mapped,
    /// A file is opened for each read.
    Reopening,
    /// Some in order, then elsewhere, as a player does.
    Seeking,
}

pub(super) const WAYS: [Way; 8] = [
    Way::Direct,
    Way::InOrder,
    Way::RandomDirect,
    Way::Random,
    Way::Small,
    Way::Mapped,
    Way::Reopening,
    Way::Seeking,
];

/// What the readers of a storm got.
#[derive(Debug, Default)]
pub(super) struct Log {
    pub(super) right: u64,
    /// By call and errno.
    pub(super) errors: BTreeMap<String, u64>,
    pub(super) longest: Duration,
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

/// A version of a file, open.
struct Open {
    file: File,
    number: u64,
    version: u64,
    size: u64,
    map: Option<Map>,
}

pub(super) struct Reader<'a> {
    root: &'a Path,
    versions: &'a Versions,
    way: Way,
    log: Log,
    /// What a mapping is copied through: an error is an error then, and no SIGBUS.
    copy: File,
}

impl<'a> Reader<'a> {
    pub(super) fn new(root: &'a Path, versions: &'a Versions, way: Way) -> Self {
        Self {
            root,
            versions,
            way,
            log: Log::default(),
            copy: tempfile::tempfile().unwrap(),
        }
    }

    pub(super) fn run(mut self, seed: u64, until: Instant) -> Log {
        let mut dice = dice(seed);
        while Instant::now() < until {
            let number = dice(SIZES.len() as u64);
            let Some(open) = self.timed("open", |reader| reader.open(number)) else {
                continue;
            };
            let calls = if self.way == Way::Reopening { 1 } else { CALLS };
            let mut start = dice(open.size);
            for call in 0..calls {
                let length = self.length(&mut dice);
                start = match self.way {
                    Way::RandomDirect | Way::Random | Way::Mapped => dice(open.size),
                    Way::Seeking if call % 4 == 0 => dice(open.size),
                    _ => start,
                };
                if self.is_direct() {
                    start -= start % PAGE;
                }
                self.timed("read", |reader| reader.read(&open, start, length));
                start += length;
            }
        }
        self.log
    }

    fn is_direct(&self) -> bool {
        matches!(self.way, Way::Direct | Way::RandomDirect)
    }

    fn length(&self, dice: &mut impl FnMut(u64) -> u64) -> u64 {
        match self.way {
            Way::Direct | Way::RandomDirect => (1 + dice(MIB / PAGE)) * PAGE,
            Way::InOrder => 128 << 10,
            Way::Small => 1 + dice(200),
            Way::Random | Way::Mapped | Way::Reopening | Way::Seeking => 1 + dice(100_000),
        }
    }

    /// Runs a call, notes how it ended and how long it took.
    fn timed<T>(&mut self, call: &str, run: impl FnOnce(&mut Self) -> io::Result<T>) -> Option<T> {
        let began = Instant::now();
        let done = run(self);
        self.log.longest = self.log.longest.max(began.elapsed());
        match done {
            Ok(done) => {
                self.log.right += 1;
                Some(done)
            }
            Err(err) => {
                self.note(call, &err);
                None
            }
        }
    }

    /// Only these tell what happened: that the server or the disk gave no bytes, that there was no answer in time, that the
    /// server said twice in a row that nobody is signed in, that two versions came during one open(2), or that a page of a
    /// mapping could not be had.
    fn note(&mut self, call: &str, err: &io::Error) {
        let is_told = match err.raw_os_error() {
            Some(libc::EIO | libc::ETIMEDOUT | libc::EACCES) => true,
            Some(libc::ESTALE) => call == "open",
            Some(libc::EFAULT) => self.way == Way::Mapped,
            _ => false,
        };
        assert!(is_told, "{call}, {:?}: {err}", self.way);
        *self.log.errors.entry(format!("{call}: {err}")).or_default() += 1;
    }

    fn open(&self, number: u64) -> io::Result<Open> {
        let flags = if self.is_direct() { libc::O_DIRECT } else { 0 };
        let mut options = OpenOptions::new();
        let options = options.read(true).custom_flags(flags);
        let file = options.open(self.root.join(path(number)))?;
        let size = file.metadata()?.len();
        let first = SIZES[number as usize];
        let newest = self.versions.newest(number);
        assert!(
            (first..=first + newest).contains(&size),
            "{size} is no size that file {number} ever had"
        );
        // Else the kernel would answer most of it by itself.
        drop_pages(&file);
        let map = match self.way {
            Way::Mapped => Some(Map::of(&file, size as usize)),
            _ => None,
        };
        Ok(Open {
            file,
            number,
            version: size - first,
            size,
            map,
        })
    }

    fn read(&self, open: &Open, start: u64, length: u64) -> io::Result<()> {
        let end = (start + length).min(open.size).max(start);
        let expected = generated_bytes(seed_of(open.number, open.version), start..end);
        let what = || {
            let Open { number, size, .. } = open;
            let way = self.way;
            format!("{way:?}: file {number} of {size}, {length} at {start}")
        };
        let found = match &open.map {
            Some(map) => self.copied(&map[start as usize..end as usize])?,
            None => self.whole(&open.file, start, length, expected.len() as u64)?,
        };
        assert_eq!(found.len(), expected.len(), "{}: length", what());
        if let Some(at) = (0..found.len()).find(|at| found[*at] != expected[*at]) {
            let from = at as u64 + start;
            panic!("{}: wrong from byte {from} on", what());
        }
        Ok(())
    }

    /// Mapped bytes, by way of a file.
    fn copied(&self, mapped: &[u8]) -> io::Result<Vec<u8>> {
        self.copy.write_all_at(mapped, 0)?;
        let mut found = vec![0; mapped.len()];
        self.copy.read_exact_at(&mut found, 0)?;
        Ok(found)
    }

    /// pread(2) until all has come. One that goes through the kernel's pages is short where a page in the middle could not
    /// be read; then the next one gives the rest or the error, but never the end of the file.
    fn whole(&self, file: &File, start: u64, length: u64, wanted: u64) -> io::Result<Vec<u8>> {
        let mut buffer = vec![0xAA; (length + PAGE) as usize];
        let aligned = buffer.as_ptr().align_offset(PAGE as usize);
        let buffer = &mut buffer[aligned..aligned + length as usize];
        let mut got = 0;
        loop {
            let more = file.read_at(&mut buffer[got..], start + got as u64)?;
            got += more;
            if more == 0 || got as u64 >= wanted {
                return Ok(buffer[..got].to_vec());
            }
            assert!(
                !self.is_direct() || (got as u64).is_multiple_of(PAGE),
                "a direct read was short"
            );
        }
    }
}
