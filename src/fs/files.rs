//! Open files: open, read, release.
//!
//! A handle pins an entity when it is opened and reads that version until it is closed, whatever becomes of the file.
//! The kernel has one set of cached pages for a file, not one for a handle; so this room decides, at each open, whether
//! they may be kept (they are of the same entity), must go, or must not be used (a handle of another entity is open and
//! goes on filling them).

use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use lru::LruCache;

use super::handles::Handles;
use super::{Error, HandleId, Opened, ReadInto};
use crate::api;
use crate::inodes::Ino;
use crate::model::{EntityId, FileInfo, FileKind};
use crate::read::{Reader, Source, Stream};
use crate::uri::FileUri;

/// Files of which it is remembered whose pages the kernel may have. Of one that is forgotten the kernel's pages are
/// dropped when it is opened, which costs a read from our own cache.
const REMEMBERED: NonZeroUsize = NonZeroUsize::new(65_536).unwrap();

/// The open files of a drive.
pub(super) struct Files {
    reader: Arc<Reader>,
    handles: Handles<File>,
    pages: Mutex<Pages>,
}

struct File {
    ino: Ino,
    stream: Stream,
    /// Its reads go through the kernel's pages.
    cached: bool,
}

/// Whose bytes are in the kernel's pages, by inode.
struct Pages {
    /// Inodes open now through their pages: whose, and by how many handles.
    open: HashMap<Ino, (EntityId, u64)>,
    /// Inodes that were.
    closed: LruCache<Ino, EntityId>,
}

/// How an open file may use the kernel's pages.
#[derive(Debug, PartialEq, Eq)]
enum Use {
    /// They are of the right entity.
    Keep,
    /// They are of another one, or of an unknown one.
    Drop,
    /// They are of another one and being read.
    Avoid,
}

impl Pages {
    fn opened(&mut self, ino: Ino, entity: &EntityId) -> Use {
        if let Some((theirs, handles)) = self.open.get_mut(&ino) {
            if theirs != entity {
                return Use::Avoid;
            }
            *handles += 1;
            return Use::Keep;
        }
        self.open.insert(ino, (entity.clone(), 1));
        match self.closed.pop(&ino) {
            Some(before) if before == *entity => Use::Keep,
            _ => Use::Drop,
        }
    }

    fn released(&mut self, ino: Ino) {
        let Some((_, handles)) = self.open.get_mut(&ino) else {
            return;
        };
        *handles -= 1;
        if *handles == 0
            && let Some((entity, _)) = self.open.remove(&ino)
        {
            self.closed.put(ino, entity);
        }
    }
}

impl Files {
    /// Files read by `reader`.
    pub(super) fn new(reader: Arc<Reader>) -> Self {
        Self {
            reader,
            handles: Handles::new(),
            pages: Mutex::new(Pages {
                open: HashMap::new(),
                closed: LruCache::new(REMEMBERED),
            }),
        }
    }

    /// Opens the version that `info` shows. `locate` tells at any time where the file is by then.
    pub(super) fn open(
        &self,
        info: &FileInfo,
        ino: Ino,
        locate: Arc<dyn Fn() -> FileUri + Send + Sync>,
    ) -> Result<Opened, Error> {
        if info.kind == FileKind::Folder {
            return Err(Error::IsAFolder);
        }
        let stream = self.reader.open(Source {
            file: info.id.clone(),
            entity: info.entity.clone(),
            size_bytes: info.size_bytes,
            locate,
        });
        let pages = self.pages.lock().unwrap().opened(ino, &info.entity);
        let handle = self.handles.insert(File {
            ino,
            stream,
            cached: pages != Use::Avoid,
        });
        Ok(Opened {
            handle,
            keep_cache: pages == Use::Keep,
            direct_io: pages == Use::Avoid,
        })
    }

    /// pread(2): short only at the end of the version that was opened. Refuses to fill the kernel's pages for a handle
    /// that must not use them: a private mapping and readahead(2) do that also where reads go past them.
    pub(super) async fn read(
        &self,
        handle: HandleId,
        offset: u64,
        size_bytes: u32,
        into: ReadInto,
    ) -> Result<Bytes, Error> {
        let file = self.handles.get(handle).ok_or(Error::BadHandle)?;
        if into == ReadInto::Pages && !file.cached {
            let why = "opened while another version of the file was open: it can be read, and mapped by who opens it later";
            return Err(Error::Io(api::Error::Local(why.to_owned())));
        }
        file.stream.read(offset, size_bytes).await.map_err(error)
    }

    /// The last close(2).
    pub(super) fn release(&self, handle: HandleId) {
        if let Some(file) = self.handles.remove(handle)
            && file.cached
        {
            self.pages.lock().unwrap().released(file.ino);
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
    use std::time::{Duration, SystemTime};

    use super::*;
    use crate::model::{Capabilities, FileId};
    use crate::names::ServerName;
    use crate::read::{Download, Options};

    const INO: Ino = Ino(7);

    fn pages() -> Pages {
        Pages {
            open: HashMap::new(),
            closed: LruCache::new(REMEMBERED),
        }
    }

    fn entity(name: &str) -> EntityId {
        EntityId(name.into())
    }

    #[test]
    fn the_kernels_pages_are_kept_while_the_version_is_the_same() {
        let mut pages = pages();
        assert_eq!(pages.opened(INO, &entity("old")), Use::Drop);
        assert_eq!(pages.opened(INO, &entity("old")), Use::Keep);
        pages.released(INO);
        pages.released(INO);
        assert_eq!(pages.opened(INO, &entity("old")), Use::Keep);
        pages.released(INO);
        assert_eq!(pages.opened(INO, &entity("new")), Use::Drop);
    }

    #[test]
    fn two_versions_open_at_once_never_share_the_kernels_pages() {
        let mut pages = pages();
        pages.opened(INO, &entity("old"));
        assert_eq!(pages.opened(INO, &entity("new")), Use::Avoid);
        pages.released(INO);
        assert_eq!(pages.opened(INO, &entity("new")), Use::Drop);
    }

    fn files() -> Files {
        // Nobody listens there: what these tests read is never asked for.
        let gate = api::Options {
            address: "http://127.0.0.1:9".parse().unwrap(),
            user_agent: "test".to_owned(),
            ca_file: None,
            timeout: Duration::from_secs(1),
        };
        let api = api::Api::new(gate, api::Credentials::Anonymous).unwrap();
        let options = Options {
            memory_bytes: 1 << 20,
            download: Download::Direct,
            timeout: Duration::from_secs(1),
        };
        Files::new(Reader::new(api, options))
    }

    fn open(files: &Files, kind: FileKind) -> Result<Opened, Error> {
        let info = FileInfo {
            id: FileId("f".into()),
            kind,
            name: ServerName::from_wire(*b"f"),
            uri: FileUri::my(),
            size_bytes: 0,
            created: SystemTime::UNIX_EPOCH,
            updated: SystemTime::UNIX_EPOCH,
            entity: entity("none"),
            owned: true,
            shared: false,
            capabilities: Capabilities::default(),
            metadata: None,
        };
        files.open(&info, INO, Arc::new(FileUri::my))
    }

    #[tokio::test]
    async fn a_handle_reads_until_it_is_released_and_not_after() {
        let files = files();
        let handle = open(&files, FileKind::File).unwrap().handle;
        assert_eq!(files.count(), 1);
        assert!(
            files
                .read(handle, 0, 4096, ReadInto::Caller)
                .await
                .unwrap()
                .is_empty()
        );
        files.release(handle);
        assert_eq!(files.count(), 0);
        let late = files.read(handle, 0, 4096, ReadInto::Caller).await;
        assert!(matches!(late, Err(Error::BadHandle)));
    }

    #[tokio::test]
    async fn a_folder_is_not_opened_as_a_file() {
        let opened = open(&files(), FileKind::Folder);
        assert!(matches!(opened, Err(Error::IsAFolder)));
    }

    #[test]
    fn what_is_gone_while_it_is_open_is_stale_not_absent() {
        assert!(matches!(error(api::Error::NotFound), Error::Stale(_)));
        assert!(matches!(error(api::Error::EntityGone), Error::Stale(_)));
        assert!(matches!(error(api::Error::UrlExpired), Error::Io(_)));
    }
}
