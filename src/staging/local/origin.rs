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

    /// The version that all of the content, in `generation`, is a copy of: every byte was compared. None also where its
    /// mtime was set since it was copied. Reads all of it, and blocks on the disk.
    pub fn origin(&self, generation: u64) -> io::Result<Option<Origin>> {
        let Some(copied) = self.copied.lock().unwrap().clone() else {
            return Ok(None);
        };
        let size_bytes = copied.origin.entity.size_bytes;
        if copied.bytes != size_bytes
            || self.size_bytes() != size_bytes
            || self.mtime() != copied.mtime
            || self.missing().is_some()
        {
            return Ok(None);
        }
        let mut print = Xxh3::new();
        let mut at = 0;
        while at < size_bytes && self.generation() == generation {
            let bytes = self.read(at..size_bytes.min(at + STEP_BYTES))?;
            if bytes.is_empty() {
                return Ok(None);
            }
            print.update(&bytes);
            at += bytes.len() as u64;
        }
        let is_same = at == size_bytes && print.digest128() == copied.print.digest128();
        // What was read before a change is of that generation.
        Ok((is_same && self.generation() == generation).then_some(copied.origin))
    }
}
