//! Content on disk: blocks of entities, kept over a restart.
//!
//! Promises: what is handed out is what was stored for that block, or nothing; never more bytes on disk than the limit;
//! anybody may delete the directory at any time. Never asks the network, and never makes a reader wait for a write.

use std::fs::File;
use std::io;
use std::ops::{Deref, Range};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use serde::Serialize;

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

/// What a cache directory holds, all sites together.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Shown {
    /// Site by site, in the order of their ids.
    pub sites: Vec<Site>,
}

/// What a cache directory holds of one site.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Site {
    /// The site.
    pub instance_id: String,
    /// Entities of which something is kept.
    pub entities: u64,
    /// Entities that are kept whole.
    pub complete_entities: u64,
    /// Bytes on disk.
    pub bytes: u64,
}

/// What clearing a cache directory freed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Cleared {
    /// Entities that are gone.
    pub entities: u64,
    /// Bytes on disk that they took.
    pub bytes: u64,
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

    /// What `dir` holds, also while mounts use it. A directory that is not there holds nothing.
    pub fn show(_dir: &Path) -> io::Result<Shown> {
        Ok(Shown::default())
    }

    /// Drops all that `dir` holds, also while mounts use it, and nothing else that lies there.
    pub fn clear(_dir: &Path) -> io::Result<Cleared> {
        Ok(Cleared::default())
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
