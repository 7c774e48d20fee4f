//! The count of what is used, shared by all processes; and the turn to change anything on disk.
//!
//! Whoever writes, shrinks or removes a file of the cache holds the lock of the file `usage` meanwhile, so one at a time
//! of all processes does. What is to be written is counted before it is written: a process that dies in between leaves the
//! count too high, never too low; the next scan puts it right. Two sums that only grow are kept, so that a scan can tell what
//! was added behind its back.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fs::FlockOperation;
use rustix::io::Errno;
use xxhash_rust::xxh3::xxh3_64;

use crate::cache::names::USAGE;
use crate::cache::place::{Folder, How, content_path, is_same};

/// The format this version writes, of everything in `content`.
const FORMAT: u32 = 1;

const MAGIC: &[u8; 8] = b"CRFcache";
const FILE_BYTES: usize = 48;

/// Waits between two tries to take the turn: others hold it for about as long as writing a few MiB takes.
const TRY_AGAIN: Duration = Duration::from_millis(2);

/// The file `usage`, open.
pub(super) struct Ledger {
    file: File,
    found: std::fs::Metadata,
    path: std::path::PathBuf,
}

/// The right to change what is on disk, until it is dropped.
pub(super) struct Turn<'a> {
    ledger: &'a Ledger,
    /// None where the count is lost: only a scan can tell.
    counts: Option<Counts>,
}

/// Bytes that were ever added and ever removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Counts {
    pub(super) added: u64,
    pub(super) removed: u64,
}

impl Counts {
    fn used(self) -> u64 {
        self.added.saturating_sub(self.removed)
    }
}

/// What the file says.
enum Head {
    /// A format of a later version, which only that version understands.
    Newer(u32),
    /// The count; None where it is damaged or was never made.
    Ours(Option<Counts>),
}

impl Ledger {
    /// Opens the count in `content`, the folder of the cache directory `dir`. A format newer than ours is refused as
    /// [`io::ErrorKind::Unsupported`].
    pub(super) fn open(dir: &Path, content: &Folder, how: How) -> io::Result<Self> {
        let file = content.open(USAGE, how)?;
        if let Head::Newer(format) = head(&file)? {
            return Err(io::Error::new(
                io::ErrorKind::Unsupported,
                format!(
                    "it has format {format}, made by a newer version of this program; this one knows {FORMAT}"
                ),
            ));
        }
        Ok(Self {
            found: file.metadata()?,
            path: content_path(dir).join(USAGE),
            file,
        })
    }

    /// Waits for the turn until `until`, or until `is_stopped`; `WouldBlock` then. `NotFound` where the directory was
    /// removed or replaced since it was opened.
    pub(super) fn turn(
        &self,
        until: Instant,
        is_stopped: impl Fn() -> bool,
    ) -> io::Result<Turn<'_>> {
        loop {
            match rustix::fs::flock(&self.file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => break,
                Err(Errno::WOULDBLOCK) if Instant::now() < until && !is_stopped() => {
                    std::thread::sleep(TRY_AGAIN);
                }
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        // From here the lock is given back by the drop, whatever goes wrong.
        let mut turn = Turn {
            ledger: self,
            counts: None,
        };
        if !is_same(&self.found, &std::fs::metadata(&self.path)?) {
            return Err(io::ErrorKind::NotFound.into());
        }
        match head(&self.file)? {
            Head::Newer(_) => return Err(io::ErrorKind::Unsupported.into()),
            Head::Ours(counts) => turn.counts = counts,
        }
        Ok(turn)
    }
}

impl Turn<'_> {
    /// Bytes in use, what is reserved included; None where that has to be counted by a scan.
    pub(super) fn used_bytes(&self) -> Option<u64> {
        self.counts.map(Counts::used)
    }

    /// The sums, to be handed to [`Self::counted`] after a scan.
    pub(super) fn counts(&self) -> Counts {
        self.counts.unwrap_or_default()
    }

    /// A scan that began when the sums were `before` found `bytes`.
    pub(super) fn counted(&mut self, before: Counts, bytes: u64) -> io::Result<()> {
        // What others added since may or may not have been seen: it is counted, at worst twice until the next scan.
        let added = self.counts().added.saturating_sub(before.added);
        self.counts = Some(Counts {
            added: self.counts().added,
            removed: self.counts().added.saturating_sub(bytes + added),
        });
        if self.counts().used() != bytes + added {
            self.counts = Some(Counts {
                added: bytes + added,
                removed: 0,
            });
        }
        self.write()
    }

    /// Counts `bytes` that will be written.
    pub(super) fn add(&mut self, bytes: u64) -> io::Result<()> {
        if let Some(counts) = &mut self.counts {
            counts.added += bytes;
        }
        self.write()
    }

    /// Counts `bytes` that are not there any more, or were reserved and not used.
    pub(super) fn remove(&mut self, bytes: u64) -> io::Result<()> {
        if bytes == 0 {
            return Ok(());
        }
        if let Some(counts) = &mut self.counts {
            counts.removed += bytes.min(counts.used());
        }
        self.write()
    }

    /// Of `reserved` bytes, what was really needed: so much as `after` is more than `before`.
    pub(super) fn settle(&mut self, reserved: u64, before: u64, after: u64) -> io::Result<()> {
        match after.checked_sub(before + reserved) {
            Some(more) => self.add(more),
            None => self.remove(before + reserved - after),
        }
    }

    fn write(&self) -> io::Result<()> {
        let counts = self.counts();
        let mut bytes = Vec::with_capacity(FILE_BYTES);
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&u64::from(FORMAT).to_le_bytes());
        bytes.extend_from_slice(&xxh3_64(&bytes[..16]).to_le_bytes());
        bytes.extend_from_slice(&counts.added.to_le_bytes());
        bytes.extend_from_slice(&counts.removed.to_le_bytes());
        bytes.extend_from_slice(&xxh3_64(&bytes[24..40]).to_le_bytes());
        self.ledger.file.write_all_at(&bytes, 0)
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        if let Err(error) = rustix::fs::flock(&self.ledger.file, FlockOperation::Unlock) {
            log::debug!("the cache's turn was not given back: {error}");
        }
    }
}

fn head(file: &File) -> io::Result<Head> {
    let mut bytes = [0; FILE_BYTES];
    let len = read_at_most(file, &mut bytes, 0)?;
    let word = |at: usize| u64::from_le_bytes(std::array::from_fn(|byte| bytes[at + byte]));
    // A damaged head is as good as none; what is counted in it is found out again.
    if len < FILE_BYTES || &bytes[..8] != MAGIC || word(16) != xxh3_64(&bytes[..16]) {
        return Ok(Head::Ours(None));
    }
    if word(8) > u64::from(FORMAT) {
        return Ok(Head::Newer(word(8) as u32));
    }
    let is_whole = word(40) == xxh3_64(&bytes[24..40]);
    Ok(Head::Ours(is_whole.then(|| Counts {
        added: word(24),
        removed: word(32),
    })))
}

/// Bytes in use as all processes count them, without a turn; 0 where there is no such directory any more. None where the
/// count is damaged, or being written just now.
pub(super) fn counted_bytes(dir: &Path) -> Option<u64> {
    let path = content_path(dir).join(USAGE);
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Some(0),
        Err(_) => return None,
    };
    match head(&file) {
        Ok(Head::Ours(counts)) => counts.map(Counts::used),
        Ok(Head::Newer(_)) | Err(_) => None,
    }
}

/// Reads until `buffer` is full or the file ends; how many bytes came.
pub(super) fn read_at_most(file: &File, buffer: &mut [u8], at: u64) -> io::Result<usize> {
    let mut len = 0;
    while len < buffer.len() {
        match file.read_at(&mut buffer[len..], at + len as u64) {
            Ok(0) => break,
            Ok(more) => len += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(len)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(dir: &Path) -> Ledger {
        let content = Folder::content(dir, true).unwrap();
        Ledger::open(dir, &content, How::Make).unwrap()
    }

    fn turn(ledger: &Ledger) -> Turn<'_> {
        ledger.turn(Instant::now(), || true).unwrap()
    }

    #[test]
    fn one_at_a_time_has_the_turn_and_sees_what_the_one_before_counted() {
        let dir = tempfile::tempdir().unwrap();
        let (a, b) = (open(dir.path()), open(dir.path()));
        let mut first = turn(&a);
        assert_eq!(first.used_bytes(), None, "it has to be counted");
        let error = b.turn(Instant::now(), || true).err().unwrap();
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        first.counted(Counts::default(), 1000).unwrap();
        first.add(500).unwrap();
        drop(first);
        let mut second = turn(&b);
        assert_eq!(second.used_bytes(), Some(1500));
        second.settle(500, 100, 200).unwrap();
        assert_eq!(second.used_bytes(), Some(1100));
        second.settle(0, 300, 100).unwrap();
        second.settle(10, 0, 50).unwrap();
        assert_eq!(second.used_bytes(), Some(940));
    }

    #[test]
    fn what_others_add_during_a_scan_is_counted_whether_it_was_seen_or_not() {
        let dir = tempfile::tempdir().unwrap();
        let ledger = open(dir.path());
        turn(&ledger).counted(Counts::default(), 1000).unwrap();
        let before = turn(&ledger).counts();
        turn(&ledger).add(70).unwrap();
        turn(&ledger).remove(500).unwrap();
        let mut turn = turn(&ledger);
        turn.counted(before, 400).unwrap();
        assert_eq!(turn.used_bytes(), Some(470));
        turn.counted(turn.counts(), 5000).unwrap();
        assert_eq!(turn.used_bytes(), Some(5000), "more than was ever added");
    }

    #[test]
    fn who_only_asks_how_much_there_is_hears_what_all_count() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(counted_bytes(dir.path()), Some(0), "there is nothing");
        let ledger = open(dir.path());
        assert_eq!(counted_bytes(dir.path()), None, "it has to be counted");
        let mut turn = turn(&ledger);
        turn.counted(Counts::default(), 1000).unwrap();
        assert_eq!(counted_bytes(dir.path()), Some(1000), "also in a turn");
    }

    #[test]
    fn a_damaged_count_is_no_count_and_a_removed_one_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let ledger = open(dir.path());
        turn(&ledger).counted(Counts::default(), 1000).unwrap();
        let path = content_path(dir.path()).join(USAGE);
        for at in 0..FILE_BYTES {
            let good = std::fs::read(&path).unwrap();
            let mut bytes = good.clone();
            bytes[at] ^= 16;
            std::fs::write(&path, bytes).unwrap();
            assert_eq!(turn(&ledger).used_bytes(), None, "{at}");
            std::fs::write(&path, good).unwrap();
        }
        std::fs::remove_file(&path).unwrap();
        open(dir.path());
        let error = ledger.turn(Instant::now(), || true).err().unwrap();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }
}
