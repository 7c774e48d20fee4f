//! Which bytes of a file over a base are here: a file of records, only ever appended to.
//!
//! Data is written before its record: a process that is killed between the two leaves bytes that nobody counts on. Each
//! record carries its checksum and its place in the sum, so a torn tail ends the file where it begins.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::staging::ranges::Ranges;

/// Three words and their checksum, little-endian.
const RECORD_BYTES: usize = 32;

/// One change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Record {
    /// These bytes are here, since they were written; none where only the time of the last write matters.
    Written(Range<u64>),
    /// The base shows no further than this.
    Cut(u64),
    /// Bytes of the base are filled in from now on, until the next of [`Record::Written`] or [`Record::Cut`]: which is no
    /// change for who looks, so the file's time of modification is this.
    Filling(SystemTime),
    /// These bytes are here, since they were brought from the base.
    Filled(Range<u64>),
}

/// What the records say together.
#[derive(Debug, Default)]
pub(super) struct Told {
    /// Bytes that are here.
    pub(super) here: Ranges,
    /// How far the base shows; none where nothing limits it.
    pub(super) cut: Option<u64>,
    /// The time of modification, where the file's own is that of a fill.
    pub(super) mtime: Option<SystemTime>,
}

/// The file of records, open to append.
#[derive(Debug)]
pub(super) struct Map {
    file: Arc<File>,
    /// Identifies the local file, so that no record of another one counts.
    seed: u64,
    records: u64,
}

impl Map {
    /// One that is new and empty.
    pub(super) fn new(file: File, seed: u64) -> Self {
        Self::reopened(file, seed, 0)
    }

    /// The same file, opened again.
    pub(super) fn reopened(file: File, seed: u64, records: u64) -> Self {
        let file = Arc::new(file);
        Self {
            file,
            seed,
            records,
        }
    }

    /// Reads what is there, up to the first record that is not whole; what comes behind is cut off.
    pub(super) fn replay(file: File, seed: u64) -> io::Result<(Self, Told)> {
        let len = file.metadata()?.len();
        let mut bytes = vec![0; usize::try_from(len).map_err(io::Error::other)?];
        file.read_exact_at(&mut bytes, 0)?;
        let mut told = Told::default();
        let mut records = 0;
        for bytes in bytes.chunks_exact(RECORD_BYTES) {
            let Some(record) = decode(bytes, seed, records) else {
                break;
            };
            told.apply(record);
            records += 1;
        }
        let whole = records * RECORD_BYTES as u64;
        if whole < len {
            file.set_len(whole)?;
        }
        Ok((Self::reopened(file, seed, records), told))
    }

    /// How many records there are.
    pub(super) fn records(&self) -> u64 {
        self.records
    }

    /// Appends `record`. One that failed in its middle is overwritten by the next.
    pub(super) fn append(&mut self, record: &Record) -> io::Result<()> {
        let bytes = encode(record, self.seed, self.records);
        let at = self.records * RECORD_BYTES as u64;
        self.file.write_all_at(&bytes, at)?;
        self.records += 1;
        Ok(())
    }

    /// The file, for who makes sure that it is on the disk.
    pub(super) fn file(&self) -> Arc<File> {
        Arc::clone(&self.file)
    }
}

impl Told {
    fn apply(&mut self, record: Record) {
        match record {
            Record::Written(range) => {
                self.here.insert(range);
                self.mtime = None;
            }
            Record::Cut(to) => {
                self.here.clip(to);
                self.cut = Some(self.cut.map_or(to, |cut| cut.min(to)));
                self.mtime = None;
            }
            Record::Filling(mtime) => self.mtime = Some(mtime),
            Record::Filled(range) => self.here.insert(range),
        }
    }
}

fn encode(record: &Record, seed: u64, index: u64) -> [u8; RECORD_BYTES] {
    let words = match record {
        Record::Written(range) => [1, range.start, range.end],
        Record::Cut(to) => [2, *to, 0],
        Record::Filling(mtime) => {
            let (seconds, nanoseconds) = split(*mtime);
            [3, seconds as u64, u64::from(nanoseconds)]
        }
        Record::Filled(range) => [4, range.start, range.end],
    };
    let mut bytes = [0; RECORD_BYTES];
    for (to, word) in bytes.chunks_exact_mut(8).zip(words) {
        to.copy_from_slice(&word.to_le_bytes());
    }
    let sum = sum(&bytes, seed, index);
    bytes[24..].copy_from_slice(&sum.to_le_bytes());
    bytes
}

fn decode(bytes: &[u8], seed: u64, index: u64) -> Option<Record> {
    let word = |at: usize| {
        let bytes = bytes.get(at * 8..at * 8 + 8)?;
        Some(u64::from_le_bytes(bytes.try_into().ok()?))
    };
    if word(3)? != sum(bytes, seed, index) {
        return None;
    }
    let (a, b) = (word(1)?, word(2)?);
    match word(0)? {
        1 => Some(Record::Written(a..b)),
        2 => Some(Record::Cut(a)),
        3 => Some(Record::Filling(joined(a as i64, u32::try_from(b).ok()?))),
        4 => Some(Record::Filled(a..b)),
        _ => None,
    }
}

fn sum(bytes: &[u8], seed: u64, index: u64) -> u64 {
    xxh3_64_with_seed(&bytes[..24], seed ^ index.rotate_left(32))
}

/// Seconds since 1970, rounded down, and nanoseconds above them.
pub(super) fn split(time: SystemTime) -> (i64, u32) {
    match time.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(after) => (after.as_secs() as i64, after.subsec_nanos()),
        Err(before) => {
            let before = before.duration();
            match before.subsec_nanos() {
                0 => (-(before.as_secs() as i64), 0),
                nanoseconds => (-(before.as_secs() as i64) - 1, 1_000_000_000 - nanoseconds),
            }
        }
    }
}

/// What [`split`] took apart. Nanoseconds beyond a second count as seconds.
pub(super) fn joined(seconds: i64, nanoseconds: u32) -> SystemTime {
    let whole = Duration::from_secs(seconds.unsigned_abs());
    let time = match seconds {
        0.. => SystemTime::UNIX_EPOCH.checked_add(whole),
        _ => SystemTime::UNIX_EPOCH.checked_sub(whole),
    };
    let time = time.unwrap_or(SystemTime::UNIX_EPOCH);
    time.checked_add(Duration::from_nanos(nanoseconds.into()))
        .unwrap_or(time)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_come_back_and_a_torn_tail_is_cut_off_wherever_it_is_torn() {
        let before_1970 = SystemTime::UNIX_EPOCH - Duration::new(5, 1);
        let records = [
            Record::Written(10..20),
            Record::Filling(before_1970),
            Record::Filled(30..40),
            Record::Cut(35),
            Record::Written(0..0),
            Record::Filling(before_1970),
        ];
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("map");
        let open = || {
            let mut options = File::options();
            options.read(true).write(true).create(true).truncate(false);
            options.open(&path).unwrap()
        };
        let mut map = Map::new(open(), 9);
        for record in &records {
            map.append(record).unwrap();
        }
        let whole = std::fs::read(&path).unwrap();
        for len in (0..=whole.len()).rev() {
            for hurt in [false, true] {
                let mut bytes = whole[..len].to_vec();
                if hurt && len > 0 {
                    bytes[len - 1] ^= 4;
                }
                std::fs::write(&path, &bytes).unwrap();
                let (map, told) = Map::replay(open(), 9).unwrap();
                let good = (len - usize::from(hurt && len > 0)) / RECORD_BYTES;
                assert_eq!(map.records(), good as u64);
                assert_eq!(
                    open().metadata().unwrap().len(),
                    (good * RECORD_BYTES) as u64
                );
                let mut expected = Told::default();
                records[..good]
                    .iter()
                    .cloned()
                    .for_each(|record| expected.apply(record));
                assert_eq!(
                    (told.here, told.cut, told.mtime),
                    (expected.here, expected.cut, expected.mtime)
                );
            }
        }
        std::fs::write(&path, &whole).unwrap();
        let (_, told) = Map::replay(open(), 9).unwrap();
        assert_eq!(told.mtime, Some(before_1970));
        assert_eq!(told.cut, Some(35));
        assert!(told.here.covers(30..35) && !told.here.covers(35..36));
        let (map, _) = Map::replay(open(), 8).unwrap();
        assert_eq!(map.records(), 0, "records of another file do not count");
    }
}
