//! What one side shows, in all that is compared and nothing else.

use rustix::fs::{FileType, Stat, Statx};
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use super::op::Text;

/// Seconds by which two clocks of one machine may be apart: file systems take the time of the last tick.
const CLOCK_SECONDS: i64 = 5;

/// What came of an operation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Outcome {
    Done,
    Number(i64),
    Bytes(Seen),
    Attr(Attr),
    /// Last access, where it was set, and last modification, where it was set or nothing but that changes it.
    Times(Option<Stamp>, Option<Stamp>),
    Entries(Vec<(Text, String)>),
    Names(Vec<Text>),
    Text(Text),
    /// It failed with this errno.
    Failed(i32),
    /// It is wrong whatever the other side says.
    Broken(String),
}

impl Outcome {
    pub(crate) fn is_error(&self) -> bool {
        matches!(self, Self::Failed(_))
    }

    /// Whether it is right where `right` is what a local disk says.
    pub(crate) fn is_as(&self, right: &Self) -> bool {
        self == right && !matches!(self, Self::Broken(_))
    }

    /// Where bytes differ first.
    pub(crate) fn difference(&self, right: &Self) -> Option<String> {
        let (Self::Bytes(found), Self::Bytes(right)) = (self, right) else {
            return None;
        };
        if found == right {
            return None;
        }
        let pairs = found.bytes.iter().zip(&right.bytes).enumerate();
        let mut differ = pairs.filter(|(_, (found, right))| found != right);
        let first = differ.next()?.0;
        let last = differ.next_back().map_or(first, |(last, _)| last);
        let all = &found.bytes[first..=last];
        let zeros = all.iter().filter(|byte| **byte == 0).count();
        Some(format!(
            "the bytes differ from {first} to {last}; of the {} found there {zeros} are zero, first {:02x?}, not {:02x?}",
            all.len(),
            &all[..all.len().min(8)],
            &right.bytes[first..][..all.len().min(8)],
        ))
    }
}

/// Bytes that were read. Only their number and a digest go from process to process.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Seen {
    len: usize,
    digest: u64,
    #[serde(skip)]
    bytes: Vec<u8>,
}

impl Seen {
    pub(crate) fn of(bytes: Vec<u8>) -> Self {
        Self {
            len: bytes.len(),
            digest: xxh3_64(&bytes),
            bytes,
        }
    }
}

impl std::fmt::Debug for Seen {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(to, "{} with digest {:x}", self.len, self.digest)
    }
}

impl PartialEq for Seen {
    fn eq(&self, other: &Self) -> bool {
        (self.len, self.digest) == (other.len, other.digest)
    }
}

impl Eq for Seen {}

/// A time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Stamp {
    /// Since the test began: nobody set it, and the two sides are not called at the same moment.
    ByItself,
    /// Seconds and nanoseconds; the times that operations set are long past or far away.
    At(i64, i64),
}

impl Stamp {
    /// `began` is when the test did, in seconds since 1970.
    pub(crate) fn of(seconds: i64, nanoseconds: i64, began: i64) -> Self {
        let now = std::time::SystemTime::now().duration_since(std::time::SystemTime::UNIX_EPOCH);
        let now = now.expect("it is after 1970").as_secs() as i64;
        if (began - CLOCK_SECONDS..=now + CLOCK_SECONDS).contains(&seconds) {
            Self::ByItself
        } else {
            Self::At(seconds, nanoseconds)
        }
    }
}

/// What stat(2) tells, as far as a mount must tell the same as a disk.
///
/// Not in here: `st_dev` and `st_ino`, which are numbers of their own (whether two files are *the same* is compared);
/// `st_blocks` and `st_blksize`, which are the disk's; `st_ctime`, for which the server has no place; `st_atime`, which
/// reading changes on a disk; and of folders:
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Attr {
    pub(crate) kind: String,
    /// In octal, with the bits for set-user-id and such.
    mode: String,
    uid: u32,
    gid: u32,
    /// None of a folder: on a disk it is the room that its names take.
    size: Option<u64>,
    /// None of a folder: a mount shows 1 always, so that find(1) and the like do not count on it.
    links: Option<u64>,
    /// None of a folder, whose names the server knows no time of, so that a mount remembers it for as long as it lives; nor
    /// of a pipe, into which the kernel writes without telling anybody.
    mtime: Option<Stamp>,
    /// Which of the actor's open files are this file.
    same_as: Vec<usize>,
}

impl Attr {
    pub(crate) fn of(stat: &Stat, began: i64, same_as: Vec<usize>) -> Self {
        let mtime = Stamp::of(stat.st_mtime, stat.st_mtime_nsec as i64, began);
        let raw = Raw {
            mode: stat.st_mode,
            owner: (stat.st_uid, stat.st_gid),
            size: stat.st_size as u64,
            links: stat.st_nlink,
            mtime,
        };
        raw.attr(same_as)
    }

    pub(crate) fn of_statx(found: &Statx, began: i64, same_as: Vec<usize>) -> Self {
        let mtime = Stamp::of(
            found.stx_mtime.tv_sec,
            found.stx_mtime.tv_nsec.into(),
            began,
        );
        let raw = Raw {
            mode: found.stx_mode.into(),
            owner: (found.stx_uid, found.stx_gid),
            size: found.stx_size,
            links: found.stx_nlink.into(),
            mtime,
        };
        raw.attr(same_as)
    }
}

struct Raw {
    mode: u32,
    owner: (u32, u32),
    size: u64,
    links: u64,
    mtime: Stamp,
}

/// Whether a time of modification that nobody set is compared.
pub(crate) fn has_mtime(kind: FileType) -> bool {
    !matches!(kind, FileType::Directory | FileType::Fifo)
}

impl Raw {
    fn attr(self, same_as: Vec<usize>) -> Attr {
        let kind = FileType::from_raw_mode(self.mode);
        let of_a_file = kind != FileType::Directory;
        Attr {
            kind: format!("{kind:?}"),
            mode: format!("{:o}", self.mode & 0o7777),
            uid: self.owner.0,
            gid: self.owner.1,
            size: of_a_file.then_some(self.size),
            links: of_a_file.then_some(self.links),
            mtime: has_mtime(kind).then_some(self.mtime),
            same_as,
        }
    }
}
