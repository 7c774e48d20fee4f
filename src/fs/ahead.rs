//! Looks ahead for who opens a folder's files in order: joins the sweeps with what fetches ahead for them.

use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use crate::entry::Entry;
use crate::inodes::Ino;
use crate::read::{Ahead, Next, Reader, Source};

use super::namespace::Namespace;
use super::sweep::{Coming, Opening, Sweeps};

/// What is known of the sweeps of a drive.
pub(super) struct Foresight {
    reader: Arc<Reader>,
    sweeps: Mutex<Sweeps<Arc<Ahead>>>,
}

impl Foresight {
    /// Fetches ahead by `reader`.
    pub(super) fn new(reader: Arc<Reader>) -> Self {
        Self {
            reader,
            sweeps: Mutex::new(Sweeps::new()),
        }
    }

    /// The file `entry` of the folder `parent` was opened; `read_bytes` counts what is asked of it, where that tells
    /// something. Only what was listed can be looked ahead in.
    pub(super) fn opened(
        &self,
        space: &Namespace,
        parent: Ino,
        entry: &Entry,
        read_bytes: Option<Arc<AtomicU64>>,
    ) {
        let Ok(folder) = space.folder_key(parent) else {
            return;
        };
        let Some(listing) = space.metadata.last_listing(&folder) else {
            return;
        };
        let Some(index) = listing.index_of(&entry.name) else {
            return;
        };
        let number = |entry: &Arc<Entry>| {
            let number = space.inodes.number(parent, entry, Some(entry));
            number.map_or(0, |(ino, _)| ino.0)
        };
        let opening = Opening {
            folder: &folder,
            listing: &listing,
            index,
            read_bytes,
            numbers: &number,
            now: Instant::now(),
        };
        let begin = || Arc::new(self.reader.ahead());
        let next = self.sweeps.lock().unwrap().opened(&opening, begin);
        if let Some((ahead, coming)) = next {
            ahead.expect(sources(space, parent, coming));
        }
    }
}

/// What is to be read of files in the folder `parent`; nothing where it is forgotten.
fn sources(space: &Namespace, parent: Ino, coming: Vec<Coming>) -> Vec<Next> {
    let Some(folder) = space.inodes.folder_uri(parent) else {
        return Vec::new();
    };
    let source = |entry: &Entry| {
        let (inodes, folder) = (Arc::clone(&space.inodes), folder.clone());
        let segment = entry.segment();
        Source {
            file: entry.id.clone(),
            entity: entry.entity.clone(),
            size_bytes: entry.size_bytes,
            locate: Arc::new(move || {
                let folder = inodes.folder_uri(parent).unwrap_or_else(|| folder.clone());
                folder.child(segment.clone())
            }),
        }
    };
    let next = |Coming { entry, bytes }: Coming| Next {
        source: source(&entry),
        bytes,
    };
    coming.into_iter().map(next).collect()
}
