//! Content on disk: blocks of entities, kept over a restart.
//!
//! Promises: what is handed out is what was stored for that block, or nothing; never more bytes on disk than the limit;
//! anybody may delete the directory at any time. Never asks the network, and never makes a reader wait for a write.

use std::fs::File;
use std::io;
use std::ops::{Deref, Range};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;

use crate::entity::Entity;

/// Where content is kept, and how much of it.
#[derive(Debug, Clone)]
pub struct Options {
    /// The directory for caches of all sites.
    pub dir: PathBuf,
    /// The site whose entities these are: an id is unique only there.
    pub instance_id: String,
    /// Bytes on disk at most, all sites and all mounts that use `dir` together; 0 keeps nothing.
    pub size_bytes: u64,
}

/// The cache of one site, for one mount.
pub struct Cache {}

/// For `status`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// Bytes on disk, as far as is known.
    pub disk_bytes: u64,
    /// The limit.
    pub limit_bytes: u64,
    /// Blocks found damaged, and fetched again.
    pub damaged_blocks: u64,
    /// Bytes that could not be kept: the disk was full, failing, or slower than the link.
    pub unkept_bytes: u64,
}

/// What [`clear`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Cleared {
    /// Entities removed.
    pub entities: u64,
    /// Bytes on disk that are free now.
    pub bytes: u64,
    /// Entities left, because the kernel reads their files by itself just now.
    pub in_use: u64,
}

/// What [`show`] saw.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Shown {
    /// Bytes on disk, of everything together, directories included.
    pub disk_bytes: u64,
    /// Each site that has a directory.
    pub sites: Vec<SiteShown>,
}

/// What is kept of one site.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SiteShown {
    /// The site's instance id, or `=` and a hash where that is no name for a directory.
    pub site: String,
    /// Entities of which something is kept.
    pub entities: u64,
    /// Those that are kept as a whole.
    pub complete: u64,
    /// Bytes on disk.
    pub bytes: u64,
    /// When the entity that was not used for the longest time was used last.
    pub oldest_use: Option<SystemTime>,
    /// When any entity was used last.
    pub newest_use: Option<SystemTime>,
}

/// Removes all cached content below the cache directory `dir`, of all sites, while mounts may go on using it.
///
/// # Errors
/// What the disk says. A directory without a cache is no error.
pub fn clear(_dir: &Path) -> io::Result<Cleared> {
    Ok(Cleared::default())
}

/// Looks at all cached content below the cache directory `dir`, and changes nothing.
///
/// # Errors
/// As those of [`clear`].
pub fn show(_dir: &Path) -> io::Result<Shown> {
    Ok(Shown::default())
}

/// What is kept of one entity, as somebody who reads it holds it.
pub struct Kept {}

/// What [`Kept::read_now`] found.
pub enum Now {
    /// The bytes, verified.
    Here(Bytes),
    /// They have to come from the disk: ask [`Kept::read`], where waiting is allowed.
    OnDisk,
    /// They are not kept.
    Missing,
}

/// The whole content of an entity as a file that the kernel may read by itself. It stays as it is for as long as this
/// is held.
#[derive(Debug)]
pub struct Whole(File);

impl Deref for Whole {
    type Target = File;

    fn deref(&self) -> &File {
        &self.0
    }
}

impl Cache {
    /// Opens the cache. A directory that cannot be used is said once in the log, and keeps nothing.
    pub fn open(options: Options) -> Arc<Self> {
        let Options { .. } = options;
        Self::off()
    }

    /// A cache that keeps nothing.
    pub fn off() -> Arc<Self> {
        Arc::new(Self {})
    }

    /// What is kept of `entity`; shared with all who hold it.
    pub fn entity(self: &Arc<Self>, entity: &Arc<Entity>) -> Arc<Kept> {
        let _ = entity;
        Arc::new(Kept {})
    }

    /// For `status`.
    pub fn usage(&self) -> Usage {
        Usage::default()
    }
}

impl Kept {
    /// Whether `block` is kept, as far as memory knows. A read may find that it is not so any more.
    pub fn has(&self, _block: u64) -> bool {
        false
    }

    /// Bytes of the entity that are kept, as far as memory knows.
    pub fn bytes(&self) -> u64 {
        0
    }

    /// The bytes of neighbouring `blocks`, if that needs no wait for the disk.
    pub fn read_now(&self, _blocks: Range<u64>) -> Now {
        Now::Missing
    }

    /// The bytes of neighbouring `blocks`, verified. None where one is not kept, or damaged: it is forgotten then, so that
    /// [`Kept::has`] says so. Blocks the thread.
    pub fn read(&self, _blocks: Range<u64>) -> Option<Bytes> {
        None
    }

    /// Keeps `bytes`, which are those of whole neighbouring blocks from `first` on, if there is room and the disk keeps
    /// up. Never waits.
    pub fn store(&self, _first: u64, _bytes: Bytes) {}

    /// The whole content, if it is complete and known to be good. Never waits: what has yet to be verified is verified
    /// in the background, for the next who asks.
    pub fn whole(&self) -> Option<Arc<Whole>> {
        None
    }
}
