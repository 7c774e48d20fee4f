//! Files that are wanted here, and how much of each is.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

use crate::entity::Entity;
use crate::fs::FileBelow;

/// A file that is wanted here; shared by who fetches it and who shows how far that is.
pub struct Wanted {
    /// Where it is, and its content.
    pub file: FileBelow,
    /// What that is cached by.
    pub entity: Arc<Entity>,
    here_bytes: AtomicU64,
    /// All of it was seen to be here.
    is_here: AtomicBool,
    came_bytes: AtomicU64,
    /// Why it could not be fetched, when that was last tried.
    why: Mutex<Option<String>>,
}

/// What some files come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counted {
    /// Files.
    pub files: u64,
    /// Of those: here as a whole.
    pub files_done: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Of those: here.
    pub bytes_done: u64,
    /// Of those: fetched.
    pub bytes_came: u64,
}

impl Wanted {
    /// Of which nothing is known to be here. What is owed to the server lies here as a whole.
    pub(super) fn new(file: FileBelow) -> Self {
        let entity = Arc::new(file.source.version());
        let here_bytes = match file.is_owed {
            true => entity.size_bytes,
            false => 0,
        };
        let wanted = Self {
            file,
            entity,
            here_bytes: AtomicU64::new(0),
            is_here: AtomicBool::new(false),
            came_bytes: AtomicU64::new(0),
            why: Mutex::default(),
        };
        wanted.set_here(here_bytes);
        wanted
    }

    /// The same content, by now at another place.
    pub(super) fn moved(&self, file: FileBelow) -> Self {
        let moved = Self::new(file);
        if self.is_here() {
            moved.set_here(self.entity.size_bytes);
        }
        moved
    }

    /// Whether all of it is here.
    pub(super) fn is_here(&self) -> bool {
        self.is_here.load(Relaxed)
    }

    /// So many of its bytes are here, as somebody has seen.
    pub(super) fn set_here(&self, bytes: u64) {
        self.here_bytes.store(bytes, Relaxed);
        self.is_here.store(bytes >= self.entity.size_bytes, Relaxed);
    }

    /// So many more were fetched.
    pub(super) fn came(&self, bytes: u64) {
        self.here_bytes.fetch_add(bytes, Relaxed);
        self.came_bytes.fetch_add(bytes, Relaxed);
    }

    /// It was tried to fetch it; why that failed, if it did.
    pub(super) fn tried(&self, why: Option<String>) {
        *self.why.lock().unwrap() = why;
    }

    /// Why it could not be fetched, if it could not.
    pub fn why(&self) -> Option<String> {
        self.why.lock().unwrap().clone()
    }
}

/// What `files` come to now.
pub fn count<'a>(files: impl IntoIterator<Item = &'a Arc<Wanted>>) -> Counted {
    let mut all = Counted::default();
    for file in files {
        let size_bytes = file.entity.size_bytes;
        all.files += 1;
        all.files_done += u64::from(file.is_here());
        all.bytes += size_bytes;
        // Of a block that came twice, once.
        all.bytes_done += file.here_bytes.load(Relaxed).min(size_bytes);
        all.bytes_came += file.came_bytes.load(Relaxed);
    }
    all
}
