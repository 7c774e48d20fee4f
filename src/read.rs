//! Bytes of an entity: from blocks, or by one ranged GET for all who wait.
//!
//! Joins the gate and the keeper of blocks. Each open file is a [`Stream`] with a window of its own; missing blocks of all
//! streams are brought by fetches that belong to the [`Reader`], so a caller that goes away cancels nothing that another
//! waits for, and nothing before its response headers.
//!
//! Promises: the bytes of the pinned entity, exactly, or an error within the timeout; short only at the end. A read that
//! memory can answer completes at its first poll. Never decides what is absent, never looks at a path.

mod ahead;
mod fetch;
mod links;
mod origin;
mod route;
mod window;

pub use ahead::{Ahead, AheadCounts, Next};

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

use self::ahead::{Expected, Lanes};
use self::fetch::{Fetch, Interest, is_passing};
use self::links::Links;
use self::origin::Origin;
use self::route::Routes;
use self::window::{LARGEST_BYTES, Window};
use crate::api::{Api, Error};
use crate::blocks::{Blocks, Claim, Missed, Piece, Wanted};
use crate::cache::{Cache, Kept, Whole};
use crate::entity::{BLOCK_SIZE_BYTES, Entity};
use crate::model::{EntityId, FileId};
use crate::uri::FileUri;

/// Fetches under way at most of which nothing was demanded when they began: half of the requests for content that `api`
/// sends at once, so that a demand always finds one free.
const FETCHES_AHEAD: u64 = 16;

/// Times a read asks again for blocks that somebody claimed and gave up without a reason.
const ABANDONED_TRIES: u32 = 3;

/// How content is fetched.
#[derive(Debug, Clone)]
pub struct Options {
    /// Budget for blocks in memory, over all handles, in bytes.
    pub memory_bytes: u64,
    /// Which way the bytes take.
    pub download: Download,
    /// Longest a reader waits without bytes arriving.
    pub timeout: Duration,
}

/// Which way the bytes of a file take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Download {
    /// The signed URL as the server gave it, redirects followed. Content that the server hosts itself, under a name that
    /// does not answer from here, is asked at the server's address.
    Direct,
    /// By way of the server's own address: content that the server hosts itself is always asked there. What another
    /// storage hosts has a URL of that storage's, which only the server's administrator can relay.
    Server,
    /// A prefix, or a template with `{url}` in it; the URL is percent-encoded where it becomes part of a query.
    Proxy(String),
}

/// What is to be read.
#[derive(Clone)]
pub struct Source {
    /// The file, by identity.
    pub file: FileId,
    /// The version, pinned.
    pub entity: EntityId,
    /// Its size in bytes.
    pub size_bytes: u64,
    /// Where the file is by now (it may be renamed while it is read).
    pub locate: Arc<dyn Fn() -> FileUri + Send + Sync>,
}

/// Reads entities for everyone.
pub struct Reader {
    shared: Arc<Shared>,
    /// The fetches under way; they end with the reader.
    fetches: Mutex<JoinSet<()>>,
}

/// What fetches need of the reader.
struct Shared {
    options: Options,
    origin: Arc<Origin>,
    links: Links,
    routes: Routes,
    blocks: Arc<Blocks<Error>>,
    cache: Arc<Cache>,
    /// What sweeps fetch ahead.
    lanes: Lanes,
    /// Streams that read ahead now, among whom the memory is shared.
    reading_ahead: AtomicU64,
    /// Fetches under way that only read ahead.
    fetches_ahead: AtomicU64,
}

/// One handle's way through an entity.
pub struct Stream {
    reader: Arc<Reader>,
    source: Source,
    entity: Arc<Entity>,
    kept: Arc<Kept>,
    /// Where a sweep expected it to be opened.
    expected: Option<Expected>,
    progress: Mutex<Progress>,
}

struct Progress {
    window: Window,
    /// Its drop tells fetches that nobody goes that way any more.
    interest: watch::Sender<()>,
    share: Option<Share>,
}

/// One stream's part in the memory for reading ahead.
struct Share(Arc<Shared>);

impl Share {
    fn new(shared: &Arc<Shared>) -> Self {
        shared.reading_ahead.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(shared))
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.0.reading_ahead.fetch_sub(1, Ordering::Relaxed);
    }
}

/// One fetch's place among those that only read ahead.
struct AheadSlot(Arc<Shared>);

impl AheadSlot {
    fn new(shared: &Arc<Shared>) -> Self {
        shared.fetches_ahead.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(shared))
    }
}

impl Drop for AheadSlot {
    fn drop(&mut self) {
        self.0.fetches_ahead.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Reader {
    /// Reads through `api`, and from `cache` what is kept there.
    pub fn new(api: Api, cache: Arc<Cache>, options: Options) -> Arc<Self> {
        Self::over(Origin::new(api), cache, options)
    }

    fn over(origin: Origin, cache: Arc<Cache>, options: Options) -> Arc<Self> {
        Arc::new(Self {
            shared: Arc::new(Shared {
                routes: Routes::new(options.download.clone(), origin.address.clone()),
                blocks: Blocks::new(options.memory_bytes),
                lanes: Lanes::new(options.memory_bytes),
                cache,
                links: Links::new(),
                origin: Arc::new(origin),
                reading_ahead: AtomicU64::new(0),
                fetches_ahead: AtomicU64::new(0),
                options,
            }),
            fetches: Mutex::new(JoinSet::new()),
        })
    }

    /// Begins to read `source`. Sends nothing yet.
    pub fn open(self: &Arc<Self>, source: Source) -> Stream {
        let entity = Arc::new(Entity {
            id: source.entity.clone(),
            size_bytes: source.size_bytes,
        });
        Stream {
            reader: Arc::clone(self),
            kept: self.shared.cache.entity(&entity),
            expected: self.shared.lanes.opened(&entity),
            entity,
            source,
            progress: Mutex::new(Progress {
                window: Window::default(),
                interest: watch::channel(()).0,
                share: None,
            }),
        }
    }

    /// Bytes held in memory now, those on their way included.
    pub fn memory_bytes(&self) -> u64 {
        self.shared.blocks.memory_bytes()
    }

    /// For a sweep that begins: it will be told which files come next.
    pub fn ahead(self: &Arc<Self>) -> Ahead {
        Ahead::new(self)
    }

    /// What became of content fetched for sweeps, for `status`.
    pub fn ahead_counts(&self) -> AheadCounts {
        self.shared.lanes.counts()
    }

    /// Bytes of `entity` that are on the disk, as far as is known. May read from the disk: blocks the thread.
    pub fn cached_bytes(&self, entity: &Arc<Entity>) -> u64 {
        self.shared.cache.entity(entity).bytes()
    }

    /// The disk's part, for `status`.
    pub fn cache(&self) -> &Arc<Cache> {
        &self.shared.cache
    }

    fn start(&self, fetch: Fetch) {
        self.spawn(fetch.run());
    }

    /// Runs `task` until it ends, or the reader does.
    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let mut fetches = self.fetches.lock().unwrap();
        while let Some(ended) = fetches.try_join_next() {
            if let Err(error) = ended {
                log::error!("a fetch ended by itself: {error}");
            }
        }
        fetches.spawn(task);
    }
}

impl Shared {
    /// How far one stream may read ahead: half of the memory is shared among those that do, the other half is for what
    /// they are reading now and for who reads at random.
    fn largest_window_bytes(&self) -> u64 {
        let streams = self.reading_ahead.load(Ordering::Relaxed).max(1);
        LARGEST_BYTES.min(self.blocks.budget_bytes() / 2 / streams)
    }
}

impl Stream {
    /// Bytes in all.
    pub fn size_bytes(&self) -> u64 {
        self.entity.size_bytes
    }

    /// The whole content as a file, if it is on the disk and known to be good.
    pub fn whole(&self) -> Option<Arc<Whole>> {
        let whole = self.kept.whole();
        if whole.is_some()
            && let Some(expected) = &self.expected
        {
            // The kernel will read it by itself.
            expected.read(&(0..self.source.size_bytes));
        }
        whole
    }

    /// At most `size_bytes` bytes from `offset`; fewer only at the end of the entity, none beyond it. Completes at once
    /// where all is in memory.
    pub async fn read(&self, offset: u64, size_bytes: u32) -> Result<Bytes, Error> {
        let end = offset.saturating_add(u64::from(size_bytes));
        let range = offset..end.min(self.source.size_bytes);
        if range.is_empty() {
            return Ok(Bytes::new());
        }
        if let Some(expected) = &self.expected {
            expected.read(&range);
        }
        let until = Instant::now() + self.reader.shared.options.timeout;
        let mut abandoned = 0;
        let mut joined_failed = false;
        loop {
            let (pieces, joined) = self.want(&range, until);
            match gather(pieces, &range).await {
                Ok(bytes) => return Ok(bytes),
                Err(Missed::Abandoned) if abandoned < ABANDONED_TRIES => abandoned += 1,
                Err(Missed::Abandoned) => return Err(Error::Local("a fetch was given up".into())),
                // Somebody else's fetch, whose patience was used up before we came: that is not our whole timeout.
                Err(Missed::Failed(error))
                    if joined && !joined_failed && is_passing(&error) && Instant::now() < until =>
                {
                    joined_failed = true;
                }
                Err(Missed::Failed(error)) => return Err(error),
            }
        }
    }

    /// Finds the blocks of `range`, and sets fetches going for what is missing and what comes next. Whether some are
    /// brought by a fetch that was under way.
    fn want(&self, range: &Range<u64>, until: Instant) -> (Vec<Piece<Error>>, bool) {
        let shared = &self.reader.shared;
        let demanded = self.entity.blocks_of(range);
        let is_known = shared.blocks.knows(&self.entity, demanded.end - 1);
        let (ahead, interest) = self.note(range, is_known);
        // What is missing now is fetched anyway, and what follows it comes with the same request.
        let is_crowded = shared.fetches_ahead.load(Ordering::Relaxed) >= FETCHES_AHEAD;
        let ahead_blocks = match ahead.is_empty() || (is_known && is_crowded) {
            true => demanded.end..demanded.end,
            false => self.entity.blocks_of(&ahead),
        };
        let Wanted {
            pieces,
            claims,
            ahead_until,
            joined,
        } = shared
            .blocks
            .want(&self.entity, demanded.clone(), ahead_blocks);
        if !ahead.is_empty() {
            let granted = ahead_until * BLOCK_SIZE_BYTES;
            self.progress.lock().unwrap().window.granted(granted);
        }
        let is_demanded = |claim: &Claim<Error>| claim.owed().start < demanded.end;
        for claim in claims {
            let slot = (!is_demanded(&claim)).then(|| AheadSlot::new(shared));
            let interest = interest.clone();
            self.reader.start(Fetch::new(
                shared,
                &self.source,
                claim,
                interest,
                slot,
                until,
            ));
        }
        (pieces, joined)
    }

    /// Moves the window: the bytes to read ahead now, and what tells their fetches when that is over.
    fn note(&self, range: &Range<u64>, is_known: bool) -> (Range<u64>, Interest) {
        let shared = &self.reader.shared;
        let size_bytes = self.source.size_bytes;
        let mut progress = self.progress.lock().unwrap();
        if !is_known {
            progress.window.forget_plan();
        }
        let step = progress
            .window
            .read(range, size_bytes, shared.largest_window_bytes());
        if step.seek {
            progress.interest = watch::channel(()).0;
        }
        if !progress.window.is_reading_ahead(size_bytes) {
            progress.share = None;
        } else if progress.share.is_none() {
            progress.share = Some(Share::new(shared));
        }
        (step.ahead, progress.interest.subscribe())
    }
}

/// The bytes of `range` out of its blocks, without a copy where one block holds them all.
async fn gather(pieces: Vec<Piece<Error>>, range: &Range<u64>) -> Result<Bytes, Missed<Error>> {
    let mut blocks = Vec::with_capacity(pieces.len());
    // Blocks arrive in order: who waits for the last one first is woken once.
    for piece in pieces.into_iter().rev() {
        blocks.push(match piece {
            Piece::Here(bytes) => bytes,
            Piece::Coming(waiter) => waiter.bytes().await?,
        });
    }
    blocks.reverse();
    let skip = (range.start % BLOCK_SIZE_BYTES) as usize;
    let len = (range.end - range.start) as usize;
    if let [block] = blocks.as_slice() {
        return Ok(block.slice(skip..skip + len));
    }
    let mut bytes = BytesMut::with_capacity(len);
    for (at, block) in blocks.iter().enumerate() {
        let from = if at == 0 { skip } else { 0 };
        let to = block.len().min(from + len - bytes.len());
        bytes.extend_from_slice(&block[from..to]);
    }
    Ok(bytes.freeze())
}

#[cfg(test)]
mod tests;
