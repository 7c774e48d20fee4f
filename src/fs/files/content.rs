//! What all who have one inode open share: the version that they pinned, or the local file that was written over it.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

use super::Locate;
use super::pieces::source_of;
use crate::entry::Entry;
use crate::inodes::Ino;
use crate::model::EntityId;
use crate::read::Source;
use crate::staging::Local;

/// The content of an open inode.
pub(in crate::fs) struct Content {
    ino: Ino,
    /// The version that was pinned when it was opened first.
    version: Arc<Entry>,
    locate: Locate,
    /// What was written over it. Once there, it stays.
    local: Mutex<Option<Arc<Local>>>,
    /// Handles that may write.
    writers: AtomicU64,
}

impl Content {
    /// `version` of `ino`, which is where `locate` tells, or the `local` file that it shows.
    pub(super) fn new(
        ino: Ino,
        version: Arc<Entry>,
        locate: Locate,
        local: Option<Arc<Local>>,
    ) -> Self {
        Self {
            ino,
            version,
            locate,
            local: Mutex::new(local),
            writers: AtomicU64::new(0),
        }
    }

    /// The inode.
    pub(in crate::fs) fn ino(&self) -> Ino {
        self.ino
    }

    /// The version that was opened.
    pub(in crate::fs) fn version(&self) -> &Arc<Entry> {
        &self.version
    }

    /// The version that was opened, to be read.
    pub(super) fn source(&self) -> Source {
        Source {
            file: self.version.id.clone(),
            entity: self.version.entity.clone(),
            size_bytes: self.version.size_bytes,
            locate: Arc::clone(&self.locate),
        }
    }

    /// What still has to be read from the server: the version that was opened, or what lies below what was written.
    pub(super) fn below(&self) -> Option<Source> {
        match self.local() {
            None => Some(self.source()),
            Some(local) => {
                let base = local.base().filter(|_| local.missing().is_some())?;
                Some(source_of(&base, self.locate()))
            }
        }
    }

    /// Where it is, at any time.
    pub(super) fn locate(&self) -> Locate {
        Arc::clone(&self.locate)
    }

    /// What was written.
    pub(in crate::fs) fn local(&self) -> Option<Arc<Local>> {
        self.local.lock().unwrap().clone()
    }

    /// Nothing was written.
    pub(super) fn is_clean(&self) -> bool {
        self.local.lock().unwrap().is_none()
    }

    /// What was written, or what `begin` makes for it. Whoever writes first makes it, and the others wait for that.
    pub(super) fn local_or<E>(
        &self,
        begin: impl FnOnce() -> Result<Arc<Local>, E>,
    ) -> Result<Arc<Local>, E> {
        let mut local = self.local.lock().unwrap();
        if let Some(local) = &*local {
            return Ok(Arc::clone(local));
        }
        Ok(Arc::clone(local.insert(begin()?)))
    }

    /// `local` is the content of the same file by now. Who has an older version open than the one that it was written over
    /// goes on with that.
    pub(super) fn join(&self, local: Arc<Local>) {
        let mut held = self.local.lock().unwrap();
        let base = local.base();
        if held.is_none() && base.is_some_and(|base| base.entity.id == self.version.entity) {
            *held = Some(local);
        }
    }

    /// `local` is a copy of the version `entity`, which is about to go from the server: who has that open goes on with the copy.
    pub(super) fn adopt(&self, entity: &EntityId, local: &Arc<Local>) {
        let mut held = self.local.lock().unwrap();
        if held.is_none() && self.version.entity == *entity {
            *held = Some(Arc::clone(local));
        }
    }

    /// One more is open, which `writes` or does not.
    pub(super) fn count_writer(&self, writes: bool) {
        self.writers.fetch_add(u64::from(writes), Relaxed);
    }

    /// One that may write is closed.
    pub(super) fn drop_writer(&self) {
        self.writers.fetch_sub(1, Relaxed);
    }

    /// Whether anybody may write.
    pub(super) fn has_writers(&self) -> bool {
        self.writers.load(Relaxed) > 0
    }
}
