//! When names were last made or taken away in folders, by us: a folder's time of the last change.
//!
//! The server does not touch a folder for what happens in it (→ api part 1 §10), and telling it each time would double what
//! a new file costs. So this is remembered as long as the mount lives, of the folders that were changed last.

use std::num::NonZeroUsize;
use std::sync::Mutex;
use std::time::SystemTime;

use lru::LruCache;

use crate::attributes::ShownTimes;
use crate::entry::Entry;
use crate::model::{FileId, FileKind};

/// Folders that are remembered, some 10 MB.
const FOLDERS: NonZeroUsize = NonZeroUsize::new(100_000).unwrap();

/// The moments, by folder.
pub(super) struct Touched(Mutex<LruCache<FileId, SystemTime>>);

impl Default for Touched {
    fn default() -> Self {
        // Room is made as it is needed.
        let mut folders = LruCache::unbounded();
        folders.resize(FOLDERS);
        Self(Mutex::new(folders))
    }
}

impl Touched {
    /// A name in `folder` came or went at `now`.
    pub(super) fn touch(&self, folder: FileId, now: SystemTime) {
        self.0.lock().unwrap().put(folder, now);
    }

    /// Somebody sets the time himself.
    pub(super) fn forget(&self, folder: &FileId) {
        self.0.lock().unwrap().pop(folder);
    }

    /// The times that show of `entry`.
    pub(super) fn times(&self, entry: &Entry) -> ShownTimes {
        let times = entry.times();
        if entry.kind == FileKind::File {
            return times;
        }
        match self.0.lock().unwrap().peek(&entry.id) {
            None => times,
            Some(touched) => ShownTimes {
                modified: times.modified.max(*touched),
                changed: times.changed.max(*touched),
                ..times
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    #[test]
    fn a_folder_shows_the_later_of_what_happened_in_it_and_what_is_told_of_it() {
        let touched = Touched::default();
        let at = |seconds| UNIX_EPOCH + Duration::from_secs(seconds);
        let entry = Entry {
            updated: at(5),
            ..Entry::plain("f", "folder", FileKind::Folder)
        };
        touched.touch(entry.id.clone(), at(4));
        assert_eq!(touched.times(&entry), ShownTimes::all(at(5)));
        touched.touch(entry.id.clone(), at(9));
        let times = touched.times(&entry);
        assert_eq!((times.modified, times.changed), (at(9), at(9)));
        assert_eq!(times.accessed, at(5));
        let file = Entry {
            kind: FileKind::File,
            ..entry.clone()
        };
        assert_eq!(touched.times(&file), ShownTimes::all(at(5)));
        touched.forget(&entry.id);
        assert_eq!(touched.times(&entry), ShownTimes::all(at(5)));
    }
}
