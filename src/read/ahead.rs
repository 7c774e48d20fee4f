//! Fetching ahead for a sweep: the files that will be opened next, before they are.
//!
//! A sweep hands over files in the order in which they will be opened. Their URLs are asked for in batches; the contents
//! follow, as many side by side as the reader turns out to need: the window doubles when an opened file has not arrived
//! yet, and shrinks while all have. What is held unread is bounded by a [`Credit`] that only reading earns.
//!
//! Promises: nothing on shares; nothing for what is in memory or on the disk; a reader that comes for a file on its way
//! waits for that answer. Whatever goes wrong is nobody's failure: the file is fetched again when it is needed. What was
//! fetched and not read leaves memory soon after its sweep ends or falls silent. Never waits, and never decides what
//! comes next.

mod credit;
mod queue;

pub use credit::AheadCounts;

use std::collections::HashMap;
use std::ops::Range;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::fetch::{Fetch, Interest};
use super::links::is_ones_own;
use super::{Reader, Shared, Source};
use crate::entity::Entity;
use credit::Credit;
use queue::{Job, Stage, State, is_here};

/// A sweep in which nobody opened a file for so long has ended, for all that memory is concerned.
const SILENCE: Duration = Duration::from_secs(10);

/// Part of the memory for content that may wait to be read.
const MEMORY_PART: u64 = 4;

/// A file that will be opened.
pub struct Next {
    /// The file, and the version that will be read.
    pub source: Source,
    /// Bytes wanted from its beginning; with none its URL alone.
    pub bytes: u64,
}

/// Fetches ahead for one sweep. Its drop ends that: what was fetched and not read is given up.
pub struct Ahead(Arc<Sweep>);

/// What all sweeps have in common.
pub(super) struct Sweeps {
    credit: Mutex<Credit>,
    /// Files that will be opened, and by which sweep.
    expected: Mutex<HashMap<Arc<Entity>, Ticket>>,
    under_way: AtomicUsize,
    singles: AtomicUsize,
}

/// One sweep's place in the order of files.
#[derive(Clone)]
pub(super) struct Ticket {
    sweep: Weak<Sweep>,
    number: u64,
}

/// An open file of a sweep: tells what is read of it. Keeps the sweep, which may end before the file is closed, so that
/// all that was fetched for it is accounted for.
pub(super) struct Expected {
    sweep: Arc<Sweep>,
    number: u64,
}

struct Sweep {
    reader: Weak<Reader>,
    shared: Arc<Shared>,
    state: Mutex<State>,
}

impl Sweeps {
    /// For a reader with so much memory for content.
    pub(super) fn new(memory_bytes: u64) -> Self {
        Self {
            credit: Mutex::new(Credit::new(memory_bytes / MEMORY_PART)),
            expected: Mutex::default(),
            under_way: AtomicUsize::new(0),
            singles: AtomicUsize::new(0),
        }
    }

    pub(super) fn counts(&self) -> AheadCounts {
        self.credit.lock().unwrap().counts()
    }

    /// `entity` is opened. Gives what is to be told of it, if a sweep expected that.
    pub(super) fn opened(&self, entity: &Arc<Entity>) -> Option<Expected> {
        let Ticket { sweep, number } = self.expected.lock().unwrap().get(entity).cloned()?;
        let sweep = sweep.upgrade()?;
        sweep.opened(number);
        Some(Expected { sweep, number })
    }
}

impl Expected {
    /// The bytes of `range` are asked for.
    pub(super) fn read(&self, range: &Range<u64>) {
        self.sweep.read(self.number, range.end);
    }
}

impl Drop for Expected {
    fn drop(&mut self) {
        let mut state = self.sweep.state.lock().unwrap();
        state.let_go(&self.sweep.shared, self.number);
    }
}

impl Ahead {
    /// For a sweep that has just begun.
    pub(super) fn new(reader: &Arc<Reader>) -> Self {
        Self(Arc::new_cyclic(|me| Sweep {
            reader: Arc::downgrade(reader),
            shared: Arc::clone(&reader.shared),
            state: Mutex::new(State::new(me)),
        }))
    }

    /// More files that will be opened, in that order, after those that were given before. Never waits. Must be called
    /// within a runtime.
    pub fn expect(&self, files: Vec<Next>) {
        let sweep = &self.0;
        // A place is computed from the names on the way to it: not under the lock.
        let is_own = |next: &Next| is_ones_own(&(next.source.locate)());
        let files: Vec<Next> = files.into_iter().filter(is_own).collect();
        let watch = {
            let mut state = sweep.state.lock().unwrap();
            state.active = Instant::now();
            state.failures = 0;
            for next in files {
                state.add(&sweep.shared, next);
            }
            !state.is_empty() && !std::mem::replace(&mut state.is_watched, true)
        };
        if watch && let Some(reader) = sweep.reader.upgrade() {
            reader.spawn(watch_silence(Arc::downgrade(sweep)));
        }
        sweep.go_on();
    }
}

impl Drop for Ahead {
    fn drop(&mut self) {
        self.0.state.lock().unwrap().end(&self.0.shared);
    }
}

/// Gives up what nobody came for.
async fn watch_silence(sweep: Weak<Sweep>) {
    loop {
        let Some(active) = sweep
            .upgrade()
            .map(|sweep| sweep.state.lock().unwrap().active)
        else {
            return;
        };
        sleep_until(active + SILENCE).await;
        let Some(sweep) = sweep.upgrade() else {
            return;
        };
        let mut state = sweep.state.lock().unwrap();
        if Instant::now() >= state.active + SILENCE {
            state.give_up(&sweep.shared);
            state.is_watched = false;
            return;
        }
    }
}

impl Sweep {
    fn opened(self: &Arc<Self>, number: u64) {
        {
            let mut state = self.state.lock().unwrap();
            state.active = Instant::now();
            state.opened(&self.shared, number);
            state.leave_behind(&self.shared);
        }
        self.go_on();
    }

    fn read(self: &Arc<Self>, number: u64, end: u64) {
        let may_go_on = {
            let mut state = self.state.lock().unwrap();
            let Some(file) = state.file(number) else {
                return;
            };
            let end = end.max(file.read_until);
            let held = |until: u64| until.min(file.taken);
            let (bytes, used) = (end - file.read_until, held(end) - held(file.read_until));
            file.read_until = end;
            let mut credit = self.shared.sweeps.credit.lock().unwrap();
            credit.read(bytes, used);
            drop(credit);
            std::mem::take(&mut state.lacks_credit)
        };
        if may_go_on {
            self.go_on();
        }
    }

    /// Begins what can be begun now.
    fn go_on(self: &Arc<Self>) {
        let Some(reader) = self.reader.upgrade() else {
            return;
        };
        let jobs = self.state.lock().unwrap().jobs(&self.shared);
        for job in jobs {
            let sweep = Arc::clone(self);
            match job {
                Job::Sign(files) => reader.spawn(sweep.sign(files)),
                Job::Fetch {
                    number,
                    source,
                    entity,
                    bytes,
                    interest,
                    place,
                } => {
                    reader.spawn(async move {
                        if !sweep.wants(number) {
                            drop(place);
                            return sweep.go_on();
                        }
                        let blocks = entity.blocks_of(&(0..bytes));
                        let came = match bytes {
                            0 => ask(&sweep.shared, &source).await,
                            _ => fetch(&sweep.shared, &source, &entity, &blocks, interest).await,
                        };
                        drop(place);
                        sweep.came(number, &entity, blocks, came);
                    });
                }
            }
        }
    }

    /// Whether anybody may still come for a file; it may have been opened, read and closed since its fetch was planned.
    fn wants(&self, number: u64) -> bool {
        self.state.lock().unwrap().file(number).is_some()
    }

    async fn sign(self: Arc<Self>, files: Vec<(u64, Source)>) {
        let (numbers, sources): (Vec<u64>, Vec<Source>) = files.into_iter().unzip();
        let shared = &self.shared;
        let batch = shared.links.get_ahead(&shared.origin, &sources).await;
        {
            let mut state = self.state.lock().unwrap();
            state.batch_under_way = false;
            state.failures += u32::from(batch.failed);
            for (number, source) in numbers.into_iter().zip(sources) {
                if let Some(file) = state.file(number)
                    && file.stage == Stage::Signing
                {
                    file.stage = match shared.links.knows(&shared.origin, &source.entity) {
                        true => Stage::Signed,
                        false if batch.elsewhere.contains(&source.entity) => Stage::Unsigned,
                        // It has another version by now, or none: who opens it will see.
                        false => Stage::Done,
                    };
                }
            }
        }
        self.go_on();
    }

    /// The fetch for a file ended; `came` where all is here that was wanted.
    fn came(self: &Arc<Self>, number: u64, entity: &Arc<Entity>, blocks: Range<u64>, came: Came) {
        {
            let mut state = self.state.lock().unwrap();
            match state.file(number) {
                Some(file) => {
                    file.stage = Stage::Done;
                    if came != Came::Here {
                        let unused = file.taken - file.read_until.min(file.taken);
                        file.taken -= unused;
                        let mut credit = self.shared.sweeps.credit.lock().unwrap();
                        credit.give_back(unused);
                    }
                }
                // It was given up meanwhile.
                None => self.shared.blocks.forget(entity, blocks),
            }
            state.failures = match came {
                Came::Here => 0,
                Came::NoRoom => state.failures,
                Came::Failed => state.failures + 1,
            };
        }
        self.go_on();
    }
}

/// How a fetch ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Came {
    /// All that was wanted is here.
    Here,
    /// Others need the memory now.
    NoRoom,
    Failed,
}

/// Asks for the URL alone.
async fn ask(shared: &Arc<Shared>, source: &Source) -> Came {
    let url = shared.links.get(&shared.origin, source);
    match tokio::time::timeout(shared.options.timeout, url).await {
        Ok(Ok(_)) => Came::Here,
        _ => Came::Failed,
    }
}

/// Brings `blocks`, which are the first of `entity`, to memory.
async fn fetch(
    shared: &Arc<Shared>,
    source: &Source,
    entity: &Arc<Entity>,
    blocks: &Range<u64>,
    interest: Interest,
) -> Came {
    let until = Instant::now() + shared.options.timeout;
    let wanted = shared.blocks.want(entity, 0..0, blocks.clone());
    for claim in wanted.claims {
        let fetch = Fetch::new(shared, source, claim, interest.clone(), until);
        fetch.for_a_program().run().await;
    }
    match is_here(shared, entity, blocks) {
        true => Came::Here,
        false if wanted.ahead_until < blocks.end => Came::NoRoom,
        false => Came::Failed,
    }
}
