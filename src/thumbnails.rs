//! Fills the desktop's thumbnail cache from the server's thumbnails, so that a file manager that shows a folder of photos
//! need not read the photos.
//!
//! A folder whose names somebody has read waits here for a moment: a person stays in it, a program that walks through the
//! drive has gone on by then, and the server, which makes a thumbnail when it is first asked for it, is left alone. The
//! folder that was looked at last comes first, its files in the order in which they are listed, a few at a time through
//! the gate's slow lane; the folders that were looked at longest ago are forgotten when there are too many.
//!
//! Promises: asks for thumbnails only, never for content; only of the account's own files, since a thumbnail is made at
//! the expense of the file's owner; only where no valid one of the same modification time is there. What the server sends
//! is not trusted: a picture that is broken or too large is none. Never waited for by anybody, and ends with its owner.

mod desktop;
mod picture;
mod queue;

use std::collections::HashSet;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use lru::LruCache;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use crate::api::{Api, Error};
use crate::entry::Entry;
use crate::metadata::Listing;
use crate::model::FileKind;
use crate::uri::{FileSystem, FileUri};
use desktop::{Desktop, Original, Size};
use queue::Queue;

/// How long after the last folder was read the server is asked: longer than a walk takes from one to the next.
const SETTLED: Duration = Duration::from_millis(200);

/// Files under way at once. The gate sends fewer questions at once than that; the others fetch and draw meanwhile.
const FILES_AT_ONCE: usize = 4;

/// Pictures that are decoded at once: each takes a processor and some ten MiB.
const DRAWN_AT_ONCE: usize = 2;

/// Files without a thumbnail that are remembered, so that they are not asked about at each look.
const HOPELESS_MAX: NonZeroUsize = NonZeroUsize::new(20_000).unwrap();

/// Where thumbnails go, and what they are of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// The desktop's cache, `…/thumbnails`; made when the first one is written.
    pub cache_dir: PathBuf,
    /// Where the drive is mounted: file managers know the originals by their paths.
    pub mount_point: PathBuf,
}

/// A folder that somebody has read.
pub struct Folder {
    /// Its path below the mount point.
    pub path: PathBuf,
    /// Its place on the server.
    pub uri: FileUri,
    /// What it shows.
    pub listing: Arc<Listing>,
}

/// Keeps the thumbnails of looked-at folders coming.
pub struct Thumbnails {
    shared: Arc<Shared>,
    /// When a folder was read last.
    read: watch::Sender<Instant>,
    /// Ends with its owner.
    _worker: JoinSet<()>,
}

type Answer<T> = BoxFuture<'static, Result<T, Error>>;

/// What is asked of the server, as functions.
struct Source {
    /// Lower-case extensions of the files of which it makes thumbnails.
    extensions: Box<dyn Fn() -> Answer<Vec<String>> + Send + Sync>,
    /// The picture for a file, if there is one.
    picture: Box<dyn Fn(FileUri) -> Answer<Option<Bytes>> + Send + Sync>,
}

struct Shared {
    source: Source,
    desktop: Desktop,
    queue: Mutex<Queue>,
    drawing: Semaphore,
    /// By URI: the modification time at which there was no thumbnail to be had.
    hopeless: Mutex<LruCache<String, i64>>,
}

/// Why a file got no thumbnail.
enum Failed {
    /// There is none of this version of the file.
    Hopeless(String),
    /// This file could not be asked about now.
    Passing(Error),
    /// Nothing can be asked or written now: the other files of the queue would fare no better.
    All(String),
}

impl Source {
    fn new(api: &Api) -> Self {
        let (asks, fetches) = (api.clone(), api.clone());
        Self {
            extensions: Box::new(move || {
                let api = asks.clone();
                Box::pin(async move { api.thumbnail_extensions().await })
            }),
            picture: Box::new(move |uri| {
                let api = fetches.clone();
                Box::pin(async move {
                    api.wait_for_pace().await;
                    api.thumbnail(&uri).await
                })
            }),
        }
    }
}

impl Thumbnails {
    /// Asks `api`, when there is something to ask. To be called inside a tokio runtime.
    pub fn new(api: &Api, options: Options) -> Self {
        Self::over(Source::new(api), options)
    }

    fn over(source: Source, options: Options) -> Self {
        let shared = Arc::new(Shared {
            source,
            desktop: Desktop::new(options.cache_dir, options.mount_point),
            queue: Mutex::new(Queue::default()),
            drawing: Semaphore::new(DRAWN_AT_ONCE),
            hopeless: Mutex::new(LruCache::new(HOPELESS_MAX)),
        });
        let (read, reads) = watch::channel(Instant::now());
        let mut worker = JoinSet::new();
        worker.spawn(work(Arc::clone(&shared), reads));
        Self {
            shared,
            read,
            _worker: worker,
        }
    }

    /// Somebody has read `folder`. Never waits.
    pub fn folder_was_read(&self, folder: Folder) {
        // Elsewhere the owner is somebody else, or the server gives no content.
        if !matches!(folder.uri.file_system(), FileSystem::My { .. }) {
            return;
        }
        self.shared.queue.lock().unwrap().push(folder);
        self.read.send_replace(Instant::now());
    }
}

/// Works the queue off whenever a folder was read, until the sender is gone.
async fn work(shared: Arc<Shared>, mut reads: watch::Receiver<Instant>) {
    let mut extensions = None;
    let mut files = JoinSet::new();
    while reads.changed().await.is_ok() {
        loop {
            settle(&mut reads).await;
            let known = match &extensions {
                Some(known) => known,
                None => match (shared.source.extensions)().await {
                    Ok(told) => extensions.insert(told.into_iter().collect::<HashSet<_>>()),
                    Err(Error::Unsupported) => {
                        log::warn!(
                            "no thumbnails: the server does not tell of which files it makes them"
                        );
                        extensions.insert(HashSet::new())
                    }
                    Err(error) => {
                        shared.give_up(&error.to_string());
                        break;
                    }
                },
            };
            let next = shared
                .queue
                .lock()
                .unwrap()
                .next(|entry| entry.owned && is_of_interest(entry, known));
            let Some((folder, entry)) = next else { break };
            if files.len() >= FILES_AT_ONCE {
                ended(files.join_next().await);
            }
            files.spawn(Arc::clone(&shared).fill(folder, entry));
        }
        // They go on; what ended is taken note of with the next folder at the latest.
        while let Some(file) = files.try_join_next() {
            ended(Some(file));
        }
    }
}

/// Waits until no folder has been read for a while.
async fn settle(reads: &mut watch::Receiver<Instant>) {
    loop {
        let settled = *reads.borrow_and_update() + SETTLED;
        if settled <= Instant::now() {
            return;
        }
        sleep_until(settled).await;
    }
}

fn ended(file: Option<Result<(), tokio::task::JoinError>>) {
    if let Some(Err(error)) = file {
        log::error!("a thumbnail ended by itself: {error}");
    }
}

fn is_of_interest(entry: &Entry, extensions: &HashSet<String>) -> bool {
    let is_whole = entry.kind == FileKind::File && entry.size_bytes > 0 && !entry.unfinished;
    is_whole
        && !entry.thumbless
        && entry.shortcut.is_none()
        && extension(entry).is_some_and(|extension| extensions.contains(&extension))
}

fn extension(entry: &Entry) -> Option<String> {
    let name = entry.name.to_str()?;
    let (_, extension) = name.rsplit_once('.')?;
    Some(extension.to_ascii_lowercase())
}

/// Whole seconds since 1970, rounded as stat(2) shows them.
fn seconds(time: SystemTime) -> i64 {
    match time.duration_since(UNIX_EPOCH) {
        Ok(since) => i64::try_from(since.as_secs()).unwrap_or(i64::MAX),
        Err(before) => {
            let before = before.duration();
            let whole = before.as_secs() + u64::from(before.subsec_nanos() > 0);
            -i64::try_from(whole).unwrap_or(i64::MAX)
        }
    }
}

impl Shared {
    /// Brings the thumbnails of one file that are missing.
    async fn fill(self: Arc<Self>, folder: Arc<Folder>, entry: Arc<Entry>) {
        let original = Original {
            uri: self.desktop.uri(&folder.path.join(&*entry.name)),
            mtime: seconds(entry.updated),
            size_bytes: entry.size_bytes,
            kind: extension(&entry).and_then(|extension| desktop::kind(&extension)),
        };
        let known = self.hopeless.lock().unwrap().get(&original.uri).copied();
        if known == Some(original.mtime) {
            return;
        }
        let place = folder.uri.child(entry.segment());
        let original = Arc::new(original);
        match self.bring(&original, place).await {
            Ok(()) => {}
            Err(Failed::Hopeless(why)) => {
                log::debug!("no thumbnail of {}: {why}", original.uri);
                let (uri, mtime) = (original.uri.clone(), original.mtime);
                self.hopeless.lock().unwrap().put(uri, mtime);
            }
            Err(Failed::Passing(error)) => {
                log::debug!("no thumbnail of {} now: {error}", original.uri);
            }
            Err(Failed::All(why)) => self.give_up(&why),
        }
    }

    async fn bring(
        self: &Arc<Self>,
        original: &Arc<Original>,
        place: FileUri,
    ) -> Result<(), Failed> {
        let missing = {
            let (shared, original) = (Arc::clone(self), Arc::clone(original));
            aside(move || Ok(shared.desktop.missing(&original))).await?
        };
        if missing.is_empty() {
            return Ok(());
        }
        let picture = (self.source.picture)(place).await.map_err(judge)?;
        let picture = picture.ok_or_else(|| Failed::Hopeless("the server has none".into()))?;
        let _place = self.drawing.acquire().await;
        let (shared, original) = (Arc::clone(self), Arc::clone(original));
        aside(move || shared.draw(&picture, &original, &missing)).await
    }

    fn draw(&self, picture: &[u8], original: &Original, sizes: &[&Size]) -> Result<(), Failed> {
        let hopeless = |why: String| Failed::Hopeless(why);
        let picture = picture::decode(picture).map_err(hopeless)?;
        for size in sizes {
            let png = picture::png(&picture, size.edge, &original.texts()).map_err(hopeless)?;
            let written = self.desktop.write(original, size, &png);
            written.map_err(|err| {
                let dir = self.desktop.dir().display();
                Failed::All(format!("{dir} cannot be written: {err}"))
            })?;
        }
        Ok(())
    }

    /// Leaves the rest of the queue: it is looked at again with the next look at its folders.
    fn give_up(&self, why: &str) {
        let left = self.queue.lock().unwrap().clear();
        if left > 0 {
            log::warn!("no more thumbnails for now: {why}");
        }
    }
}

/// Runs what reads and writes files or computes for long, where that keeps nobody waiting.
async fn aside<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Failed> + Send + 'static,
) -> Result<T, Failed> {
    let outcome = tokio::task::spawn_blocking(work).await;
    // A decoder that gave up on a picture in its own way, or the end of the runtime.
    outcome.unwrap_or_else(|error| Err(Failed::Hopeless(error.to_string())))
}

fn judge(error: Error) -> Failed {
    match error {
        Error::Transport { .. }
        | Error::Timeout(_)
        | Error::Trouble { .. }
        | Error::SignedOut(_)
        | Error::Local(_) => Failed::All(error.to_string()),
        error => Failed::Passing(error),
    }
}

#[cfg(test)]
mod tests;
