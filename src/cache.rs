//! Content on disk: blocks of entities, kept over a restart.
//!
//! Keeps the blocks of each entity in a sparse file of the entity's size, and beside it which of them are there and their
//! checksums; an entity of one block is one file. Plain files, shared by all mounts that use the directory: the same entity has
//! the same bytes, so nobody can hurt another. One thread of each process writes; who reads only reads.
//!
//! Promises: what is handed out is what was stored for that block, or nothing; never more bytes on disk than the limit;
//! anybody may delete the directory at any time; a full or failing disk means that less is kept. Never asks the network,
//! never makes a reader wait for a write, and never touches a file that is not its own.

mod disk;
mod handles;
mod held;
mod index;
mod kept;
mod listed;
mod names;
mod order;
mod pages;
mod place;
mod queue;
mod scan;
mod tools;
mod usage;
mod verify;
mod whole;
mod writer;

use std::collections::{HashMap, HashSet};
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

pub use self::held::{Holding, whole_bytes};
pub use self::kept::{Kept, Now};
pub use self::tools::{Cleared, Shown, SiteShown, clear, show};
pub use self::whole::Whole;

use self::handles::Handles;
use self::held::{Held, SPARE_BYTES};
use self::names::Name;
use self::place::{Folder, How};
use self::queue::{Job, Queue};
use self::usage::Ledger;
use self::verify::Verifier;
use self::writer::Writer;
use crate::entity::Entity;

/// Longest that the end of a mount waits for what is still to be written.
const END: Duration = Duration::from_secs(2);

/// Where content is kept, and how much of it.
#[derive(Debug, Clone)]
pub struct Options {
    /// The directory for caches of all sites.
    pub dir: PathBuf,
    /// The site whose entities these are: an id is unique only there.
    pub instance_id: String,
    /// Bytes on disk at most, all sites and all mounts that use `dir` together; 0 keeps nothing.
    pub size_bytes: u64,
    /// Bytes in memory at most that wait to be written; what comes while there are more is not kept.
    pub waiting_bytes: u64,
}

/// The cache of one site, for one mount. Its drop waits a moment for what is still to be written.
pub struct Cache {
    /// None keeps nothing.
    shared: Option<Arc<Shared>>,
}

/// For `status`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// Bytes on disk, as far as is known.
    pub disk_bytes: u64,
    /// The limit.
    pub limit_bytes: u64,
    /// Blocks found damaged, and fetched again.
    pub damaged_blocks: u64,
    /// Bytes that could not be kept: the disk was full, failing, or slower than the link.
    pub unkept_bytes: u64,
}

/// What some entities need on disk, and what there is for them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Fit {
    /// Bytes that all of them take, at most.
    pub needed_bytes: u64,
    /// Bytes that the limit leaves for them.
    pub room_bytes: u64,
}

impl Fit {
    /// Whether there is room for all of them.
    pub fn fits(self) -> bool {
        self.needed_bytes <= self.room_bytes
    }
}

/// Lengths of time that tests shorten.
#[derive(Debug, Clone, Copy)]
struct Tuning {
    /// How long nothing is written after the disk refused something.
    rest: Duration,
    /// How long what was not found on disk is taken for missing; other processes may write it.
    recheck: Duration,
}

impl Default for Tuning {
    fn default() -> Self {
        Self {
            rest: Duration::from_secs(30),
            recheck: Duration::from_secs(2),
        }
    }
}

/// Of the threads that write and verify: where processors are short they get a tenth of what a reader gets, and all of
/// it where they are not.
const NICENESS: i32 = 10;

/// What readers, the writer and the verifier share.
struct Shared {
    options: Options,
    tuning: Tuning,
    started: Instant,
    /// The site's directory, while there is one.
    folder: Mutex<Option<Arc<Folder>>>,
    /// The period in which it was looked for last.
    sought: AtomicU64,
    /// Entities that somebody holds.
    held: Mutex<HashMap<Name, Weak<Kept>>>,
    /// Entities of which there are files; None until somebody has looked.
    known: Mutex<Option<HashSet<Name>>>,
    /// Entities that stay.
    stays: Mutex<Held>,
    queue: Queue,
    verifier: Verifier,
    handles: Handles,
    disk_bytes: AtomicU64,
    damaged_blocks: AtomicU64,
    unkept_bytes: AtomicU64,
}

impl Cache {
    /// Opens the cache. A directory that cannot be used is said once in the log, and keeps nothing. Takes no longer than
    /// opening a file: what is on disk is counted in the background, and nothing is written before that is done.
    pub fn open(options: Options) -> Arc<Self> {
        Self::open_tuned(options, Tuning::default())
    }

    fn open_tuned(options: Options, tuning: Tuning) -> Arc<Self> {
        if options.size_bytes == 0 {
            return Self::off();
        }
        let folder = match find(&options) {
            Ok(folder) => Some(Arc::new(folder)),
            Err(error) if error.kind() == io::ErrorKind::Unsupported => {
                log::warn!(
                    "the cache in {} is left alone: {error}",
                    options.dir.display()
                );
                return Self::off();
            }
            // There is none yet, or the writer will say what is wrong with it.
            Err(_) => None,
        };
        let shared = Arc::new(Shared {
            tuning,
            started: Instant::now(),
            folder: Mutex::new(folder),
            sought: AtomicU64::new(0),
            held: Mutex::default(),
            known: Mutex::default(),
            stays: Mutex::default(),
            queue: Queue::new(options.waiting_bytes),
            options,
            verifier: Verifier::default(),
            handles: Handles::of_process(),
            disk_bytes: AtomicU64::new(0),
            damaged_blocks: AtomicU64::new(0),
            unkept_bytes: AtomicU64::new(0),
        });
        let writer = Writer::new(&shared);
        let spawned = std::thread::Builder::new()
            .name("cache-write".into())
            .spawn(move || {
                give_way();
                writer.run();
            });
        if let Err(error) = spawned {
            log::warn!("content is not cached: no thread to write it: {error}");
            shared.queue.ended();
        }
        Arc::new(Self {
            shared: Some(shared),
        })
    }

    /// A cache that keeps nothing.
    pub fn off() -> Arc<Self> {
        Arc::new(Self { shared: None })
    }

    /// Whether the disk is behind with what it was given to keep; a little more, and it keeps only a part.
    pub fn is_behind(&self) -> bool {
        self.shared
            .as_ref()
            .is_some_and(|shared| shared.queue.is_behind())
    }

    /// Waits until the disk has caught up.
    pub async fn caught_up(&self) {
        if let Some(shared) = &self.shared {
            shared.queue.room().await;
        }
    }

    /// Keeps what is here and what comes of `entities` from leaving for anything else, until the answer is dropped.
    pub fn hold(&self, entities: &[Arc<Entity>]) -> Holding {
        Holding::new(self.shared.as_ref(), entities)
    }

    /// What `owner` has pinned is `entities`, and nothing else: they stay for all who use the directory, whether this mount
    /// runs or not. False where nobody takes note of it now. Never waits.
    pub fn list(&self, owner: &str, entities: &[Arc<Entity>]) -> bool {
        let job = Job::List {
            owner: owner.to_owned(),
            names: held::sizes(entities),
        };
        self.shared
            .as_ref()
            .is_some_and(|shared| shared.queue.push(job))
    }

    /// Bytes on disk that there are for `entities`, beside what else stays and what others than `owner` have pinned. Reads
    /// the lists of what is pinned: blocks the thread.
    pub fn room(&self, owner: Option<&str>, entities: &[Arc<Entity>]) -> u64 {
        let Some(shared) = &self.shared else {
            return 0;
        };
        let wanted = held::sizes(entities);
        let mut others = match shared.folder() {
            Some(folder) => listed::read(&folder, owner),
            None => HashMap::new(),
        };
        others.extend(shared.stays.lock().unwrap().sizes());
        let others = others.iter().filter(|(name, _)| !wanted.contains_key(name));
        let others: u64 = others.map(|(_, bytes)| *bytes).sum();
        let limit = shared.options.size_bytes.saturating_sub(SPARE_BYTES);
        limit.saturating_sub(others)
    }

    /// Bytes on disk that all of `entities` need at most, and what there is for them (→ [`Cache::room`]).
    pub fn fit(&self, owner: Option<&str>, entities: &[Arc<Entity>]) -> Fit {
        Fit {
            needed_bytes: held::sizes(entities).values().sum(),
            room_bytes: self.room(owner, entities),
        }
    }

    /// Whether it keeps anything at all.
    pub fn is_on(&self) -> bool {
        self.shared.is_some()
    }

    /// Waits until what was stored so far is on disk, or turned out not to be kept.
    pub async fn written(&self) {
        let Some(shared) = &self.shared else {
            return;
        };
        let (done, is_done) = oneshot::channel();
        if shared.queue.push(Job::Mark(done)) {
            // The writer is gone, or has done it.
            is_done.await.ok();
        }
    }

    /// What is kept of `entity`; shared with all who hold it. Never waits for the disk, nor opens a file.
    pub fn entity(self: &Arc<Self>, entity: &Arc<Entity>) -> Arc<Kept> {
        let Some(shared) = &self.shared else {
            return Kept::nothing(entity);
        };
        let mut held = shared.held.lock().unwrap();
        match held.get(&Name::of(entity)).and_then(Weak::upgrade) {
            Some(kept) if kept.entity() == entity => kept,
            // Two entities with the same name on disk: the one that is held has it.
            Some(other) => {
                drop(held);
                drop(other);
                Kept::nothing(entity)
            }
            None => {
                let kept = Kept::new(shared, entity);
                held.insert(kept.name(), Arc::downgrade(&kept));
                kept
            }
        }
    }

    /// For `status`. Reads the count of all processes: another mount, `cache clear` or a person may have changed it since
    /// this mount wrote last.
    pub fn usage(&self) -> Usage {
        let Some(shared) = &self.shared else {
            return Usage::default();
        };
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Usage {
            disk_bytes: usage::counted_bytes(&shared.options.dir)
                .unwrap_or_else(|| count(&shared.disk_bytes)),
            limit_bytes: shared.options.size_bytes,
            damaged_blocks: count(&shared.damaged_blocks),
            unkept_bytes: count(&shared.unkept_bytes),
        }
    }

    /// Waits, at most `longest`, until what was stored so far is on disk or given up. Whether it is. Blocks the thread.
    pub fn flush(&self, longest: Duration) -> bool {
        self.shared
            .as_ref()
            .is_none_or(|shared| shared.queue.wait_idle(longest))
    }
}

impl Drop for Cache {
    fn drop(&mut self) {
        if let Some(shared) = &self.shared {
            shared.queue.close();
            shared.queue.wait_ended(END);
            shared.verifier.end(END);
        }
    }
}

/// The directory of a site, if there is one in a format that is understood.
fn find(options: &Options) -> io::Result<Folder> {
    let content = Folder::content(&options.dir, false)?;
    Ledger::open(&options.dir, &content, How::Read)?;
    content.folder(&names::site(&options.instance_id), false)
}

impl Shared {
    /// The time in steps, within which what was missing stays missing.
    fn period(&self) -> u64 {
        (self.started.elapsed().as_nanos() / self.tuning.recheck.as_nanos().max(1)) as u64
    }

    fn minute(&self) -> u64 {
        self.started.elapsed().as_secs() / 60
    }

    /// The site's directory. Where there was none it is looked for again now and then: another process may have made it.
    fn folder(&self) -> Option<Arc<Folder>> {
        if let Some(folder) = &*self.folder.lock().unwrap() {
            return Some(Arc::clone(folder));
        }
        let now = self.period();
        if self.sought.swap(now, Ordering::Relaxed) == now {
            return None;
        }
        let found = Arc::new(find(&self.options).ok()?);
        self.set_folder(Some(Arc::clone(&found)));
        Some(found)
    }

    fn set_folder(&self, folder: Option<Arc<Folder>>) {
        let old = std::mem::replace(&mut *self.folder.lock().unwrap(), folder);
        drop(old);
    }

    /// Whether there are files of `name`; None before anybody has looked.
    fn knows(&self, name: Name) -> Option<bool> {
        let known = self.known.lock().unwrap();
        known.as_ref().map(|known| known.contains(&name))
    }

    fn set_known(&self, known: HashSet<Name>) {
        *self.known.lock().unwrap() = Some(known);
    }

    fn learn(&self, name: Name) {
        if let Some(known) = &mut *self.known.lock().unwrap() {
            known.insert(name);
        }
    }

    fn forget(&self, name: Name) {
        if let Some(known) = &mut *self.known.lock().unwrap() {
            known.remove(&name);
        }
    }

    /// Who holds `name`, if anybody does.
    fn held(&self, name: Name) -> Option<Arc<Kept>> {
        self.held.lock().unwrap().get(&name).and_then(Weak::upgrade)
    }

    /// The last holder of `name` went away; a new one may have come meanwhile.
    fn dropped(&self, name: Name) {
        let mut held = self.held.lock().unwrap();
        if held.get(&name).is_some_and(|kept| kept.strong_count() == 0) {
            held.remove(&name);
        }
    }
}

/// Has this thread, which works for later, give way to those that somebody waits for (→ nice(2), of a thread on Linux).
fn give_way() {
    let thread = rustix::thread::gettid();
    if let Err(error) = rustix::process::setpriority_process(Some(thread), NICENESS) {
        log::debug!("the cache's threads are as important as all others: {error}");
    }
}

#[cfg(test)]
mod tests;
