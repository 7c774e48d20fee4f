//! Sizes of folders: what lies below them, asked of the server for one folder at a time, when somebody wants to know.
//!
//! The server walks the tree for it and keeps the result for minutes, so a size is a hint of some age. It is never
//! asked for while a folder is read.

use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use lru::LruCache;

use crate::inodes::Ino;
use crate::listing::Asked;
use crate::model::FolderSummary;
use crate::uri::FileUri;

/// As long as the server itself keeps a sum (→ api part 1 §14, `folder_props_timeout`).
const TTL: Duration = Duration::from_secs(300);

/// stat(2) waits no longer than this for a sum; it shows the one from before then, or none.
const PATIENCE: Duration = Duration::from_secs(2);

/// Folders whose size is remembered.
const FOLDERS_MAX: NonZeroUsize = NonZeroUsize::new(10_000).unwrap();

/// Asks for the sum of a folder.
pub(super) type AskSummary = Arc<dyn Fn(FileUri) -> Asked<FolderSummary> + Send + Sync>;

/// The sizes of folders.
pub(super) struct FolderSizes {
    summary: AskSummary,
    known: Mutex<LruCache<Ino, Size>>,
}

#[derive(Clone, Copy)]
struct Size {
    size_bytes: u64,
    asked: Instant,
}

impl FolderSizes {
    pub(super) fn new(summary: AskSummary) -> Self {
        Self {
            summary,
            known: Mutex::new(LruCache::new(FOLDERS_MAX)),
        }
    }

    /// The size in bytes as it was last heard of; none where that is long ago.
    pub(super) fn known(&self, ino: Ino) -> Option<u64> {
        let size = self.known.lock().unwrap().get(&ino).copied()?;
        (size.asked.elapsed() < TTL).then_some(size.size_bytes)
    }

    /// Sees to it that the size of `ino`, which is at `uri`, is known, if the server tells it soon.
    pub(super) async fn ask(&self, ino: Ino, uri: FileUri) {
        if self.known(ino).is_some() {
            return;
        }
        let asked = Instant::now();
        let answer = tokio::time::timeout(PATIENCE, (self.summary)(uri)).await;
        let mut known = self.known.lock().unwrap();
        let before = known.peek(&ino).map_or(0, |size| size.size_bytes);
        let size_bytes = match answer {
            Ok(Ok(summary)) => summary.size_bytes,
            // Asked again when this is as old as a sum may be: a server that cannot tell is not asked at each stat.
            Ok(Err(_)) | Err(_) => before,
        };
        known.put(ino, Size { size_bytes, asked });
    }
}
