//! Bytes of an entity: from blocks, or by one ranged GET for all who wait.
//!
//! Joins the gate and the keeper of blocks. Each open file is a [`Stream`] with a window of its own; missing blocks of all
//! streams are brought by fetches that belong to the [`Reader`], so a caller that goes away cancels nothing that another
//! waits for, and nothing before its response headers.
//!
//! Promises: the bytes of the pinned entity, exactly, or an error within the timeout; short only at the end. A read that
//! memory can answer completes at its first poll. Never decides what is absent, never looks at a path.

mod ahead;
mod buffers;
mod disk;
mod disk_wait;
mod fetch;
mod gather;
mod keep;
mod lanes;
mod links;
mod origin;
mod pace;
mod precedence;
mod route;
mod tally;
mod window;

pub use ahead::{Ahead, AheadCounts, Next};
pub use keep::NotKept;

use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

use self::ahead::{Expected, Sweeps};
use self::buffers::Buffers;
use self::disk::Disk;
use self::disk_wait::DiskWait;
use self::fetch::{Fetch, Interest, is_passing};
use self::gather::{Gather, Lacking};
use self::lanes::{Hosts, Lanes};
use self::links::Links;
use self::origin::Origin;
use self::precedence::Precedence;
use self::route::Routes;
pub use self::tally::Stats;
use self::tally::Tally;
use self::window::{LARGE_BYTES, Limits, Window};
use crate::api::{Api, Error};
use crate::asker;
use crate::blocks::{Blocks, Missed, Parts, Piece, Reading, Wanted};
use crate::cache::{Cache, Kept, Whole};
use crate::entity::{BLOCK_SIZE_BYTES, Entity};
use crate::model::{EntityId, FileId};
use crate::uri::FileUri;

/// Longest an open waits for a few bytes from the disk.
const LOOK: Duration = Duration::from_millis(100);

/// Times a read asks again for blocks that somebody claimed and gave up without a reason.
const ABANDONED_TRIES: u32 = 3;

/// What a reader from begin to end leaves in memory behind it: the kernel has those pages, but not all of its reads come
/// in order.
const BEHIND_BYTES: u64 = 2 << 20;

/// How often memory is looked for that nobody uses; it goes after the third time without use.
const TRIM_EVERY: Duration = Duration::from_secs(12);

/// How often what was freed is given back once more, after nothing is in use: for two minutes, by which connections that
/// nobody uses are closed.
const GIVEN_BACK_AGAIN: u32 = 10;

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

impl Source {
    /// What is read, as what it is cached by.
    pub fn version(&self) -> Entity {
        Entity {
            id: self.entity.clone(),
            size_bytes: self.size_bytes,
        }
    }
}

/// Reads entities for everyone.
pub struct Reader {
    shared: Arc<Shared>,
    /// The fetches under way; they end with the reader.
    fetches: Mutex<JoinSet<()>>,
    /// Somebody looks for memory that nobody uses.
    is_trimmed: Arc<AtomicBool>,
}

/// What fetches need of the reader.
struct Shared {
    options: Options,
    origin: Arc<Origin>,
    links: Links,
    routes: Routes,
    blocks: Arc<Blocks<Error>>,
    cache: Arc<Cache>,
    disk: Disk,
    buffers: Arc<Buffers>,
    /// Bodies that are being received.
    receiving: AtomicUsize,
    /// How long fetches may yet wait for the disk.
    disk_wait: DiskWait,
    hosts: Hosts,
    precedence: Arc<Precedence>,
    /// What sweeps fetch ahead.
    sweeps: Sweeps,
    tally: Tally,
    /// Streams that read ahead now, among whom the memory is shared.
    reading_ahead: AtomicU64,
}

/// One handle's way through an entity.
pub struct Stream {
    reader: Arc<Reader>,
    source: Source,
    entity: Arc<Entity>,
    kept: Arc<Kept>,
    /// Where a sweep expected it to be opened.
    expected: Option<Expected>,
    tally: Arc<Tally>,
    /// Of the host that its content comes from; of the server itself until that is known.
    lanes: Arc<Mutex<Arc<Lanes>>>,
    progress: Mutex<Progress>,
    _reading: Reading<Error>,
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
                sweeps: Sweeps::new(options.memory_bytes),
                cache,
                disk: Disk::new(options.timeout),
                buffers: Buffers::new(),
                receiving: AtomicUsize::new(0),
                disk_wait: DiskWait::new(Instant::now()),
                hosts: Hosts::new(),
                precedence: Precedence::new(),
                tally: Tally::default(),
                links: Links::new(),
                origin: Arc::new(origin),
                reading_ahead: AtomicU64::new(0),
                options,
            }),
            fetches: Mutex::new(JoinSet::new()),
            is_trimmed: Arc::default(),
        })
    }

    /// Begins to read `source`. Sends nothing yet.
    pub fn open(self: &Arc<Self>, source: Source) -> Stream {
        let entity = Arc::new(source.version());
        Stream {
            reader: Arc::clone(self),
            kept: self.shared.cache.entity(&entity),
            expected: self.shared.sweeps.opened(&entity),
            _reading: self.shared.blocks.reading(&entity),
            tally: Arc::default(),
            lanes: Arc::new(Mutex::new(self.shared.own_lanes())),
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
        self.shared.sweeps.counts()
    }

    /// Bytes of `entity` that are on the disk, as far as is known. May read from the disk: blocks the thread.
    pub fn cached_bytes(&self, entity: &Arc<Entity>) -> u64 {
        self.shared.cache.entity(entity).bytes()
    }

    /// Bytes since the beginning, of all streams.
    pub fn stats(&self) -> Stats {
        let shared = &self.shared;
        shared.tally.stats(shared.blocks.wasted_bytes())
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
        if !self.is_trimmed.swap(true, Ordering::Relaxed) {
            fetches.spawn(trim(Arc::clone(&self.shared), Arc::clone(&self.is_trimmed)));
        }
    }
}

/// Lets memory go that nobody uses, until there is none.
async fn trim(shared: Arc<Shared>, is_trimmed: Arc<AtomicBool>) {
    let mut fetched = None;
    loop {
        tokio::time::sleep(TRIM_EVERY).await;
        shared.blocks.drop_unused();
        let now = Some(shared.tally.fetched.get());
        if std::mem::replace(&mut fetched, now) != now {
            continue;
        }
        shared.buffers.clear();
        if shared.blocks.memory_bytes() > 0 {
            continue;
        }
        is_trimmed.store(false, Ordering::Relaxed);
        // A fetch may have begun meanwhile that found us at work.
        if shared.blocks.memory_bytes() == 0 || is_trimmed.swap(true, Ordering::Relaxed) {
            break;
        }
    }
    give_back().await;
    // What the disk has yet to take is free later, and so are the buffers of connections that nobody uses.
    for _ in 0..GIVEN_BACK_AGAIN {
        tokio::time::sleep(TRIM_EVERY).await;
        // Somebody reads again, and another one sees to it.
        if is_trimmed.load(Ordering::Relaxed) {
            return;
        }
        give_back().await;
    }
}

/// Gives memory that was freed back to the system. The allocator of glibc keeps it otherwise, for good where anything is
/// still in use behind it: after a busy hour an idle mount would take what it took at most.
async fn give_back() {
    #[cfg(target_env = "gnu")]
    {
        #[expect(unsafe_code, reason = "the standard library has no malloc_trim")]
        // SAFETY: it takes a number, and touches only what nobody has allocated.
        let trim = || unsafe { libc::malloc_trim(0) };
        // It takes some milliseconds. A failure costs memory, and nobody waits for it.
        tokio::task::spawn_blocking(trim).await.ok();
    }
}

impl Shared {
    /// Of what the server hosts itself.
    fn own_lanes(&self) -> Arc<Lanes> {
        self.hosts.of(&self.origin.address.to_string())
    }

    /// How far one stream may read ahead: as far as keeps the link busy, and half of the memory is shared among those that
    /// do, the other half is for what they are reading now and for who reads at random.
    fn largest_window_bytes(&self, lanes: &Lanes) -> u64 {
        let streams = self.reading_ahead.load(Ordering::Relaxed).max(1);
        let wanted = LARGE_BYTES.max(lanes.window_bytes());
        wanted.min(self.blocks.budget_bytes() / 2 / streams)
    }
}

impl Stream {
    /// Bytes in all.
    pub fn size_bytes(&self) -> u64 {
        self.entity.size_bytes
    }

    /// Waits a moment for what the disk knows of the entity, so that [`Stream::whole`] can tell.
    pub async fn look(&self) {
        if self.kept.is_unread() {
            let kept = Arc::clone(&self.kept);
            let look = tokio::task::spawn_blocking(move || kept.look());
            // A disk that is slower than that is not worth waiting for: the daemon reads for who opened.
            let _ = tokio::time::timeout(LOOK, look).await;
        }
    }

    /// Finds the way to the content while the file can still be found, for one that is about to lose its name. Nothing is
    /// read. What could not be found out now is tried again by the first read.
    pub async fn prepare(&self) -> Result<(), Error> {
        let shared = &self.reader.shared;
        let found = shared.links.get(&shared.origin, &self.source);
        let timeout = shared.options.timeout;
        let found = asker::within(timeout, found).await;
        found.unwrap_or_else(|why| Err(Error::gave_up(why, timeout)))?;
        Ok(())
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

    /// Bytes that were asked for here, and what was fetched for them; what only the reader as a whole knows is 0.
    pub fn stats(&self) -> Stats {
        self.tally.stats(0)
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
        let shared = &self.reader.shared;
        let until = Instant::now() + shared.options.timeout;
        let gather = Gather {
            kept: &self.kept,
            disk: &shared.disk,
            buffers: &shared.buffers,
            tally: &shared.tally,
            range: &range,
        };
        let mut abandoned = 0;
        let mut joined_failed = false;
        let mut disk_failed = false;
        loop {
            let (pieces, joined) = self.want(&range, until, disk_failed);
            match gather.bytes(pieces).await {
                Ok(bytes) => {
                    shared.tally.asked.add(bytes.len() as u64);
                    self.tally.asked.add(bytes.len() as u64);
                    return Ok(bytes);
                }
                // The rest of this read does without the disk, so that it ends.
                Err(Lacking::NotKept) => disk_failed = true,
                Err(Lacking::Missed(Missed::Abandoned)) if abandoned < ABANDONED_TRIES => {
                    abandoned += 1;
                }
                Err(Lacking::Missed(Missed::Abandoned)) => {
                    return Err(Error::Local("a fetch was given up".into()));
                }
                // Somebody else's fetch, whose patience was used up before we came: that is not our whole timeout.
                Err(Lacking::Missed(Missed::Failed(error)))
                    if joined && !joined_failed && is_passing(&error) && Instant::now() < until =>
                {
                    joined_failed = true;
                }
                Err(Lacking::Missed(Missed::Failed(error))) => return Err(error),
            }
        }
    }

    /// Finds the blocks of `range`, and sets fetches going for what is missing and what comes next. Whether some are
    /// brought by a fetch that was under way.
    fn want(
        &self,
        range: &Range<u64>,
        until: Instant,
        without_disk: bool,
    ) -> (Vec<Piece<Error>>, bool) {
        let shared = &self.reader.shared;
        let lanes = Arc::clone(&self.lanes.lock().unwrap());
        let demanded = self.entity.blocks_of(range);
        let last = demanded.end - 1;
        let without_disk = without_disk || shared.disk.rests();
        let is_kept = !without_disk && self.kept.has(last);
        let is_known = is_kept || shared.blocks.knows(&self.entity, last);
        let limits = Limits {
            size_bytes: self.source.size_bytes,
            largest: shared.largest_window_bytes(&lanes),
            part: lanes.next_part_bytes(),
            is_late: !is_kept && !shared.blocks.has(&self.entity, last),
        };
        let (ahead, interest) = self.note(range, is_known, limits);
        // What is missing now is fetched anyway, and what follows it comes with the same request.
        let ahead_blocks = match ahead.is_empty() {
            true => demanded.end..demanded.end,
            false => self.entity.blocks_of(&ahead),
        };
        let parts = Parts {
            blocks: limits.part / BLOCK_SIZE_BYTES,
        };
        let Wanted {
            pieces,
            claims,
            ahead_until,
            joined,
        } = shared.blocks.want_beside(
            &self.entity,
            demanded.clone(),
            ahead_blocks,
            parts,
            |index| !without_disk && self.kept.has(index),
        );
        if !ahead.is_empty() {
            let granted = ahead_until * BLOCK_SIZE_BYTES;
            self.progress.lock().unwrap().window.granted(granted);
        }
        for claim in claims {
            let is_demanded = claim.owed().start < demanded.end;
            let interest = interest.clone();
            let fetch = Fetch::new(shared, &self.source, claim, interest, until);
            let fetch = fetch.of_stream(self, demanded.end);
            self.reader.start(match is_demanded {
                true => fetch,
                false => fetch.in_lane(&lanes),
            });
        }
        (pieces, joined)
    }

    /// Moves the window: the bytes to read ahead now, and what tells their fetches when that is over.
    fn note(&self, range: &Range<u64>, is_known: bool, limits: Limits) -> (Range<u64>, Interest) {
        let shared = &self.reader.shared;
        let mut progress = self.progress.lock().unwrap();
        if !is_known {
            progress.window.forget_plan();
        }
        let step = progress.window.read(range, limits);
        if step.seek {
            progress.interest = watch::channel(()).0;
        }
        if !progress.window.is_reading_ahead(limits.size_bytes) {
            progress.share = None;
        } else if progress.share.is_none() {
            progress.share = Some(Share::new(shared));
        }
        let behind = progress.window.behind().saturating_sub(BEHIND_BYTES);
        let interest = progress.interest.subscribe();
        drop(progress);
        if !step.seek && !step.ahead.is_empty() && behind > 0 {
            let end = behind / BLOCK_SIZE_BYTES;
            shared.blocks.passed(&self.entity, end);
        }
        (step.ahead, interest)
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let Stats {
            asked_bytes,
            fetched_bytes,
            ..
        } = self.stats();
        let entity = &self.entity.id;
        log::debug!("entity {entity}: {asked_bytes} bytes asked for, {fetched_bytes} fetched");
    }
}

#[cfg(test)]
mod tests;
