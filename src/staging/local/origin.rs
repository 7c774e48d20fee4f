//! Content that was copied from a version of the server's, byte by byte, and may still be that.
//!
//! A hint, and no more: writes are not held against it, and some are not even seen here (→ [`super::lent`]). So the bytes
//! are printed as they are copied, and who wants to act on it has all of them read once more.

use std::fmt;
use std::io;
use std::time::SystemTime;

use xxhash_rust::xxh3::Xxh3;

use super::Local;
use crate::entity::Entity;
use crate::model::FileId;

/// Bytes that are held against the print at once.
const STEP_BYTES: u64 = 1 << 20;

/// A version of a file of the server's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// Which file.
    pub file: FileId,
    /// Which version.
    pub entity: Entity,
}

/// The first bytes of a version, which were copied in order.
#[derive(Clone)]
pub(super) struct Copied {
    origin: Origin,
    /// So many of them.
    bytes: u64,
    print: Xxh3,
    /// That of the copy when the last ones came: another one was set since, or something was written.
    mtime: SystemTime,
}

impl fmt::Debug for Copied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { origin, bytes, .. } = self;
        write!(f, "{bytes} bytes of {origin:?}")
    }
}

impl Local {
    /// `bytes`, which were just written at `offset`, are those of `origin` at the same place. It counts where all are told
    /// from the first one on, in order.
    pub fn is_copied(&self, origin: &Origin, offset: u64, bytes: &[u8]) {
        let mtime = self.mtime();
        let mut copied = self.copied.lock().unwrap();
        let follows = |copied: &Copied| copied.bytes == offset && copied.origin == *origin;
        let mut now = match copied.take() {
            Some(before) if follows(&before) => before,
            _ if offset == 0 => Box::new(Copied {
                origin: origin.clone(),
                bytes: 0,
                print: Xxh3::new(),
                mtime,
            }),
            _ => return,
        };
        now.mtime = mtime;
        now.print.update(bytes);
        now.bytes += bytes.len() as u64;
        *copied = Some(now);
    }

    /// The version that it may be a copy of, by how much was copied and by its time; [`Local::is_copy`] tells whether it is.
    /// None also where its mtime was set since.
    pub fn origin(&self) -> Option<Origin> {
        let (size_bytes, mtime) = (self.size_bytes(), self.mtime());
        let copied = self.copied.lock().unwrap();
        let copied = copied.as_ref().filter(|copied| {
            let all = copied.origin.entity.size_bytes;
            copied.bytes == all && size_bytes == all && mtime == copied.mtime
        });
        copied.map(|copied| copied.origin.clone())
    }

    /// Nobody is to take it for a copy any more.
    pub fn forget_origin(&self) {
        *self.copied.lock().unwrap() = None;
    }

    /// Whether each byte of the content, in `generation`, is the one that was copied from `origin`. Reads all of it, as long
    /// as it is `wanted`, and blocks on the disk.
    pub fn is_copy(
        &self,
        origin: &Origin,
        generation: u64,
        wanted: impl Fn() -> bool,
    ) -> io::Result<bool> {
        let copied = self.copied.lock().unwrap().clone();
        let Some(copied) = copied.filter(|copied| copied.origin == *origin) else {
            return Ok(false);
        };
        let mut print = Xxh3::new();
        let mut at = 0;
        while at < copied.bytes {
            if self.generation() != generation || self.missing().is_some() || !wanted() {
                return Ok(false);
            }
            let bytes = self.read(at..copied.bytes.min(at + STEP_BYTES))?;
            if bytes.is_empty() {
                return Ok(false);
            }
            print.update(&bytes);
            at += bytes.len() as u64;
        }
        let is_same = print.digest128() == copied.print.digest128();
        let is_all = self.size_bytes() == origin.entity.size_bytes && at == self.size_bytes();
        // Asked last: what was read before a change is of that generation.
        Ok(is_same && is_all && self.generation() == generation)
    }
}
