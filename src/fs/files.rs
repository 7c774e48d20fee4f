//! Open files: open, read, release.
//!
//! A handle pins an entity when it is opened and reads that version until it is closed, whatever becomes of the file.
//! The kernel has one set of cached pages for an inode, not one for a handle, and `inodes` has one version pinned for an
//! inode at a time; so all who read through these pages read one version.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use bytes::Bytes;

use super::handles::Handles;
use super::{Error, HandleId, Opened};
use crate::api;
use crate::cache::Whole;
use crate::entity::{BLOCK_SIZE_BYTES, Entity};
use crate::entry::Entry;
use crate::inodes::{Ino, Inodes};
use crate::read::{Reader, Source, Stream};
use crate::uri::FileUri;

/// The open files of a drive.
pub(super) struct Files {
    reader: Arc<Reader>,
    inodes: Arc<Inodes>,
    handles: Handles<File>,
}

struct File {
    ino: Ino,
    stream: Stream,
    /// Bytes asked for.
    read_bytes: Arc<AtomicU64>,
    /// Something was read, so the kernel is done with opening it.
    is_read: AtomicBool,
}

impl Files {
    /// Files read by `reader`; what is open pins its version in `inodes`.
    pub(super) fn new(reader: Arc<Reader>, inodes: Arc<Inodes>) -> Self {
        Self {
            reader,
            inodes,
            handles: Handles::new(),
        }
    }

    /// Opens the version of `ino` that `entry` shows; `Gone` where the kernel takes `ino` for another one, so that it
    /// looks the name up anew (→ [`Inodes::pin`]). `locate` tells at any time where the file is by then, and `read_bytes`
    /// counts what is asked for.
    pub(super) fn open(
        &self,
        ino: Ino,
        entry: &Arc<Entry>,
        locate: Arc<dyn Fn() -> FileUri + Send + Sync>,
        read_bytes: Arc<AtomicU64>,
    ) -> Result<Opened, Error> {
        let pinned = self.inodes.pin(ino, entry);
        let (version, keep_cache) = pinned.ok_or(Error::Gone)?;
        let stream = self.reader.open(Source {
            file: version.id.clone(),
            entity: version.entity.clone(),
            size_bytes: version.size_bytes,
            locate,
        });
        let handle = self.handles.insert(File {
            ino,
            stream,
            read_bytes,
            is_read: AtomicBool::new(false),
        });
        Ok(Opened { handle, keep_cache })
    }

    /// pread(2): short only at the end of the version that was opened.
    pub(super) async fn read(
        &self,
        handle: HandleId,
        offset: u64,
        size_bytes: u32,
    ) -> Result<Bytes, Error> {
        let file = self.handles.get(handle).ok_or(Error::BadHandle)?;
        if !file.is_read.swap(true, Relaxed) {
            self.inodes.fill_pages(file.ino);
        }
        file.read_bytes.fetch_add(size_bytes.into(), Relaxed);
        file.stream.read(offset, size_bytes).await.map_err(error)
    }

    /// Waits a moment for what the disk knows of the version that was opened.
    pub(super) async fn look(&self, handle: HandleId) {
        if let Some(file) = self.handles.get(handle)
            && file.stream.size_bytes() > BLOCK_SIZE_BYTES
        {
            file.stream.look().await;
        }
    }

    /// The version that was opened as a file on the disk, for the kernel to read by itself. Small files are not worth the
    /// calls that hand them over: a few pages that the kernel keeps are all there is.
    pub(super) fn whole(&self, handle: HandleId) -> Option<Arc<Whole>> {
        let file = self.handles.get(handle)?;
        let is_worth_it = file.stream.size_bytes() > BLOCK_SIZE_BYTES;
        is_worth_it.then(|| file.stream.whole()).flatten()
    }

    /// The last close(2).
    pub(super) fn release(&self, handle: HandleId) {
        if let Some(file) = self.handles.remove(handle) {
            self.inodes.unpin(file.ino);
        }
    }

    /// Bytes of `entity` that are on the disk.
    pub(super) async fn cached_bytes(&self, entity: Entity) -> u64 {
        let reader = Arc::clone(&self.reader);
        let looked = tokio::task::spawn_blocking(move || reader.cached_bytes(&Arc::new(entity)));
        match looked.await {
            Ok(bytes) => bytes,
            Err(error) => {
                log::error!("the cache could not be looked at: {error}");
                0
            }
        }
    }

    /// How many are open.
    pub(super) fn count(&self) -> u64 {
        self.handles.count()
    }
}

/// A failed read in the words of a caller. What is absent while it is open is stale: the name may be there all the same.
fn error(error: api::Error) -> Error {
    match error {
        api::Error::NotFound => Error::Stale(error),
        api::Error::Unsupported => Error::Io(error),
        error => error.into(),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::model::{EntityId, FileKind};
    use crate::read::{Download, Options};

    fn entry(id: &str, kind: FileKind) -> Arc<Entry> {
        Arc::new(Entry::plain(id, id, kind))
    }

    fn files() -> Files {
        // Nobody listens there: what these tests read is never asked for.
        let gate = api::Options {
            address: "http://127.0.0.1:9".parse().unwrap(),
            user_agent: "test".to_owned(),
            ca_file: None,
            timeout: Duration::from_secs(1),
            limit_down_bytes: 0,
            limit_up_bytes: 0,
        };
        let api = api::Api::new(gate, api::Credentials::Anonymous).unwrap();
        let options = Options {
            memory_bytes: 1 << 20,
            download: Download::Direct,
            timeout: Duration::from_secs(1),
        };
        let root = entry("root", FileKind::Folder);
        let inodes = Inodes::new("instance", FileUri::my(), root);
        Files::new(
            Reader::new(api, crate::cache::Cache::off(), options),
            Arc::new(inodes),
        )
    }

    #[tokio::test]
    async fn a_handle_reads_and_holds_its_inode_until_it_is_released_and_not_after() {
        let files = files();
        let entry = entry("f", FileKind::File);
        let (ino, _) = files.inodes.count(Ino::ROOT, &entry, Some(&entry)).unwrap();
        let open = || {
            files
                .open(ino, &entry, Arc::new(FileUri::my), Arc::default())
                .unwrap()
        };
        let (handle, other) = (open().handle, open());
        assert!(!other.keep_cache, "the kernel may not have opened it yet");
        files.inodes.forget(ino, 1);
        assert_eq!((files.count(), files.inodes.len()), (2, 2));
        assert!(files.read(handle, 0, 4096).await.unwrap().is_empty());
        assert!(open().keep_cache, "these are its pages");
        files.release(handle);
        let late = files.read(handle, 0, 4096).await;
        assert!(matches!(late, Err(Error::BadHandle)));
    }

    #[tokio::test]
    async fn what_the_kernel_takes_for_another_version_is_not_opened() {
        let files = files();
        let old = entry("f", FileKind::File);
        let (ino, _) = files.inodes.count(Ino::ROOT, &old, Some(&old)).unwrap();
        let new = Arc::new(Entry {
            entity: EntityId("new".into()),
            ..(*old).clone()
        });
        let opened = files.open(ino, &new, Arc::new(FileUri::my), Arc::default());
        assert!(matches!(opened, Err(Error::Gone)), "{opened:?}");
        assert_eq!(files.count(), 0);
    }

    #[test]
    fn what_is_gone_while_it_is_open_is_stale_not_absent() {
        assert!(matches!(error(api::Error::NotFound), Error::Stale(_)));
        assert!(matches!(error(api::Error::EntityGone), Error::Stale(_)));
        assert!(matches!(error(api::Error::UrlExpired), Error::Io(_)));
    }
}
