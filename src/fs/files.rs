//! Open files: open, read, write, release.
//!
//! A handle pins an entity when it is opened and reads that version until it is closed, whatever becomes of the file.
//! The kernel has one set of cached pages for an inode, not one for a handle, and `inodes` has one version pinned for an
//! inode at a time; so all who have an inode open share one [`Content`]. The first write turns it into a local file over
//! that version, and from that moment all of them read what was written.
//!
//! Writes land on the local disk and nowhere else; what was written is owed to the server from close(2) or fsync(2) on.

mod content;
mod copy_range;
mod fill;
mod lent;
mod pieces;
mod sync;
mod warm;
mod write;

pub use copy_range::At;
pub use fill::complete;
pub use write::{Change, Reserve, SetTime};

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

use bytes::Bytes;

use super::handles::Handles;
use super::{Error, HandleId, Opened};
use crate::api;
use crate::cache::Whole;
use crate::entity::{BLOCK_SIZE_BYTES, Entity};
use crate::entry::Entry;
use crate::inodes::{Ino, Inodes};
use crate::model::EntityId;
use crate::read::{Reader, Source, Stream};
use crate::staging::{Loan, Local};
use crate::uri::FileUri;
use content::Content;
use lent::Lingering;
use warm::Warmer;

/// Tells where a file is by now.
pub(super) type Locate = Arc<dyn Fn() -> FileUri + Send + Sync>;

/// The open files of a drive.
pub(super) struct Files {
    reader: Arc<Reader>,
    inodes: Arc<Inodes>,
    handles: Handles<File>,
    contents: Mutex<HashMap<Ino, Shared>>,
    warmer: Warmer,
    lingering: Lingering,
}

/// What all who have one inode open share.
struct Shared {
    content: Arc<Content>,
    /// Never 0.
    handles: u64,
}

/// One open.
pub(super) struct File {
    content: Arc<Content>,
    /// This handle's way through the version that it reads, or that lies under what was written.
    stream: Mutex<Option<Way>>,
    /// It may write.
    writes: bool,
    /// Bytes asked for.
    read_bytes: Arc<AtomicU64>,
    /// Something was read, so the kernel is done with opening it.
    is_read: AtomicBool,
    /// It was told that what it wrote cannot be delivered.
    is_told: AtomicBool,
    /// The kernel writes to the content by itself.
    loan: Mutex<Option<Loan>>,
}

/// A way through an entity.
type Way = (Entity, Arc<Stream>);

/// What is opened.
pub(super) struct Opening<'a> {
    /// The version that is current now, as its folder shows it.
    pub(super) entry: &'a Arc<Entry>,
    /// The content, where it is here.
    pub(super) local: Option<Arc<Local>>,
    /// Where it is at any time.
    pub(super) locate: Locate,
    /// Counts what is asked for.
    pub(super) read_bytes: Arc<AtomicU64>,
    /// To be written to.
    pub(super) writes: bool,
}

impl Files {
    /// Files read by `reader`; what is open pins its version in `inodes`.
    pub(super) fn new(reader: Arc<Reader>, inodes: Arc<Inodes>) -> Self {
        Self {
            warmer: Warmer::new(Arc::clone(&reader)),
            reader,
            inodes,
            handles: Handles::new(),
            contents: Mutex::default(),
            lingering: Lingering::default(),
        }
    }

    /// Opens `ino`: the content that is here, or the version that its folder shows; `Gone` where the kernel takes `ino`
    /// for another version, so that it looks the name up anew (→ [`Inodes::pin`]).
    pub(super) fn open(&self, ino: Ino, opening: Opening<'_>) -> Result<Opened, Error> {
        let (content, is_shared, mut keep_cache) = self.share(ino, &opening)?;
        if is_shared && let Some(local) = opening.local {
            content.join(local);
        }
        if !content.is_clean() {
            // All that the kernel has of an open inode came by way of these handles.
            keep_cache = is_shared;
        }
        let way = content.is_clean().then(|| self.way(content.source()));
        let handle = self.handles.insert(File {
            content,
            stream: Mutex::new(way),
            writes: opening.writes,
            read_bytes: opening.read_bytes,
            is_read: AtomicBool::new(false),
            is_told: AtomicBool::new(false),
            loan: Mutex::default(),
        });
        Ok(Opened { handle, keep_cache })
    }

    /// Counts one who opens `ino`: the content, whether others have it open already, and whether the kernel's pages are of
    /// the version that is pinned.
    fn share(&self, ino: Ino, opening: &Opening<'_>) -> Result<(Arc<Content>, bool, bool), Error> {
        let mut contents = self.contents.lock().unwrap();
        let (version, are_its_pages) = match &opening.local {
            None => self.inodes.pin(ino, opening.entry),
            Some(_) => self.inodes.pin_local(ino, opening.entry),
        }
        .ok_or(Error::Gone)?;
        let shared = contents.entry(ino).or_insert_with(|| {
            let (locate, local) = (Arc::clone(&opening.locate), opening.local.clone());
            Shared {
                content: Arc::new(Content::new(ino, version, locate, local)),
                handles: 0,
            }
        });
        shared.handles += 1;
        shared.content.count_writer(opening.writes);
        let content = Arc::clone(&shared.content);
        Ok((content, shared.handles > 1, are_its_pages))
    }

    fn way(&self, source: Source) -> Way {
        let entity = Entity {
            id: source.entity.clone(),
            size_bytes: source.size_bytes,
        };
        (entity, Arc::new(self.reader.open(source)))
    }

    /// An open file.
    pub(super) fn get(&self, handle: HandleId) -> Result<Arc<File>, Error> {
        self.handles.get(handle).ok_or(Error::BadHandle)
    }

    /// pread(2): short only at the end of what was opened.
    pub(super) async fn read(
        &self,
        handle: HandleId,
        offset: u64,
        size_bytes: u32,
    ) -> Result<Bytes, Error> {
        let file = self.get(handle)?;
        file.read_bytes.fetch_add(size_bytes.into(), Relaxed);
        if let Some(local) = file.content.local() {
            return self.read_local(&file, &local, offset, size_bytes).await;
        }
        if !file.is_read.swap(true, Relaxed) {
            self.inodes.fill_pages(file.content.ino());
        }
        let stream = self.stream_of(&file, file.content.source());
        match stream.read(offset, size_bytes).await {
            Ok(bytes) => Ok(bytes),
            Err(err) => match file.content.local() {
                // Written to meanwhile, and delivered, so that the version below may be gone.
                Some(local) => self.read_local(&file, &local, offset, size_bytes).await,
                None => Err(error(err)),
            },
        }
    }

    /// The way of `file` through `source`: the one that it has, or a new one where it goes through another version by now.
    fn stream_of(&self, file: &File, source: Source) -> Arc<Stream> {
        let mut held = file.stream.lock().unwrap();
        if let Some((entity, stream)) = &*held
            && entity.id == source.entity
            && entity.size_bytes == source.size_bytes
        {
            return Arc::clone(stream);
        }
        let (entity, stream) = self.way(source);
        *held = Some((entity, Arc::clone(&stream)));
        stream
    }

    /// Waits a moment for what the disk knows of the version that was opened.
    pub(super) async fn look(&self, handle: HandleId) {
        if let Some(stream) = self.whole_stream(handle) {
            stream.look().await;
        }
    }

    /// The version that was opened as a file on the disk, for the kernel to read by itself.
    pub(super) fn whole(&self, handle: HandleId) -> Option<Arc<Whole>> {
        self.whole_stream(handle)?.whole()
    }

    /// The way through a version that is worth being handed over as a file. Small ones are not worth the calls that it
    /// takes: a few pages that the kernel keeps are all there is. Nor is what may change.
    fn whole_stream(&self, handle: HandleId) -> Option<Arc<Stream>> {
        let file = self.handles.get(handle)?;
        let (_, stream) = file.stream.lock().unwrap().clone()?;
        let is_worth_it = stream.size_bytes() > BLOCK_SIZE_BYTES && file.content.is_clean();
        is_worth_it.then_some(stream)
    }

    /// The last close(2).
    pub(super) fn release(&self, handle: HandleId) {
        let Some(file) = self.handles.remove(handle) else {
            return;
        };
        let ino = file.content.ino();
        let mut contents = self.contents.lock().unwrap();
        if let Some(shared) = contents.get_mut(&ino) {
            if file.writes {
                shared.content.drop_writer();
            }
            shared.handles -= 1;
            if shared.handles == 0 {
                contents.remove(&ino);
            }
        }
        self.inodes.unpin(ino);
    }

    /// Whether anybody has `ino` open who may write to it.
    pub(super) fn is_written(&self, ino: Ino) -> bool {
        let contents = self.contents.lock().unwrap();
        contents
            .get(&ino)
            .is_some_and(|shared| shared.content.has_writers())
    }

    /// `ino` is about to lose its name, and its content may go from the server after that: those who have it open keep a
    /// way to it.
    pub(super) async fn vanishing(&self, ino: Ino) {
        let shared = self
            .contents
            .lock()
            .unwrap()
            .get(&ino)
            .map(|shared| Arc::clone(&shared.content));
        let Some(source) = shared.and_then(|content| content.below()) else {
            return;
        };
        if source.size_bytes == 0 {
            return;
        }
        if let Err(err) = self.reader.open(source.clone()).prepare().await {
            log::debug!("what is open loses its name, and may not be read any more: {err}");
        }
        self.warmer.vanishing(source);
    }

    /// `local`, a copy of the version `entity`, is the content of `ino` from now on.
    pub(super) fn adopt(&self, ino: Ino, entity: &EntityId, local: &Arc<Local>) {
        if let Some(shared) = self.contents.lock().unwrap().get(&ino) {
            shared.content.adopt(entity, local);
        }
    }

    /// `local` is on the server: its content is worth keeping.
    pub(super) fn delivered(&self, local: Arc<Local>) {
        self.warmer.delivered(local);
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
mod tests;
