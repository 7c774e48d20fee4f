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

pub use credit::AheadCounts;

use std::collections::{HashMap, VecDeque};
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use super::fetch::{Fetch, Interest};
use super::links::is_ones_own;
use super::{Reader, Shared, Source};
use crate::entity::Entity;
use credit::Credit;

/// URLs asked for at once. The server takes about half a millisecond for each, and the first are waited for.
const BATCH: usize = 50;

/// Contents fetched side by side, over all sweeps: half of what `api` sends at once, so that who waits for content finds
/// a place. More gains nothing on a server with SQLite, whose requests share one connection to the database.
const PARALLEL: usize = 32;

/// Of those, files whose URL is not known: each asks for it alone, and the places for such requests are few.
const SINGLES: usize = 4;

/// The window, in files.
const SMALLEST_WINDOW: u64 = 8;
const LARGEST_WINDOW: u64 = 64;

/// So far behind the newest opened file, one that was not opened was left out.
const BEHIND: u64 = 16;

/// A sweep in which nobody opened a file for so long has ended, for all that memory is concerned.
const SILENCE: Duration = Duration::from_secs(10);

/// Fetches that failed one after the other, after which a sweep goes on without us.
const FAILURES_MAX: u32 = 3;

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
pub struct Ahead(Arc<Lane>);

/// What all sweeps have in common.
pub(super) struct Lanes {
    credit: Mutex<Credit>,
    /// Files that will be opened, and by which sweep.
    expected: Mutex<HashMap<Arc<Entity>, Ticket>>,
    under_way: AtomicUsize,
    singles: AtomicUsize,
}

/// One sweep's place in the order of files.
#[derive(Clone)]
pub(super) struct Ticket {
    lane: Weak<Lane>,
    number: u64,
}

/// An open file of a sweep: tells what is read of it.
pub(super) struct Expected(Ticket);

struct Lane {
    reader: Weak<Reader>,
    shared: Arc<Shared>,
    state: Mutex<State>,
}

struct State {
    me: Weak<Lane>,
    /// The files from number `first` on; none where all is done with one.
    files: VecDeque<Option<File>>,
    first: u64,
    /// The number after the newest one that was opened.
    opened_until: u64,
    /// So many files from there on have their content fetched.
    window: u64,
    /// The window does not grow again before this file is opened: what is waited for was asked for before it grew.
    grown_until: u64,
    /// Files opened without a wait, one after the other.
    smooth: u64,
    batch_under_way: bool,
    /// A file was not fetched for want of credit.
    lacks_credit: bool,
    failures: u32,
    /// Its drop tells fetches that nobody goes that way any more.
    interest: watch::Sender<()>,
    active: Instant,
    is_watched: bool,
    is_over: bool,
}

struct File {
    source: Source,
    entity: Arc<Entity>,
    /// Bytes wanted.
    wanted: u64,
    stage: Stage,
    is_opened: bool,
    /// Bytes for which credit was taken.
    taken: u64,
    /// The reader came so far.
    read_until: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Nothing was asked yet.
    New,
    /// Its URL is in the batch under way.
    Signing,
    /// Its URL is known.
    Signed,
    /// It lies in a storage whose URLs do not tell their version: its own is to be asked for alone.
    Unsigned,
    /// Its content is on the way.
    Coming,
    /// Nothing is left to do.
    Done,
}

/// What is to be done now.
enum Job {
    Sign(Vec<(u64, Source)>),
    Fetch {
        number: u64,
        source: Source,
        entity: Arc<Entity>,
        bytes: u64,
        interest: Interest,
        place: Place,
    },
}

/// A place among the contents under way.
struct Place {
    shared: Arc<Shared>,
    is_single: bool,
}

impl Place {
    fn take(shared: &Arc<Shared>, is_single: bool) -> Option<Self> {
        let lanes = &shared.lanes;
        if lanes.under_way.load(Ordering::Relaxed) >= PARALLEL
            || (is_single && lanes.singles.load(Ordering::Relaxed) >= SINGLES)
        {
            return None;
        }
        lanes.under_way.fetch_add(1, Ordering::Relaxed);
        lanes
            .singles
            .fetch_add(usize::from(is_single), Ordering::Relaxed);
        Some(Self {
            shared: Arc::clone(shared),
            is_single,
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let lanes = &self.shared.lanes;
        lanes.under_way.fetch_sub(1, Ordering::Relaxed);
        lanes
            .singles
            .fetch_sub(usize::from(self.is_single), Ordering::Relaxed);
    }
}

impl Lanes {
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
        let ticket = self.expected.lock().unwrap().get(entity).cloned()?;
        ticket.lane.upgrade()?.opened(ticket.number);
        Some(Expected(ticket))
    }
}

impl Expected {
    /// The bytes of `range` are asked for.
    pub(super) fn read(&self, range: &Range<u64>) {
        if let Some(lane) = self.0.lane.upgrade() {
            lane.read(self.0.number, range.end);
        }
    }
}

impl Drop for Expected {
    fn drop(&mut self) {
        if let Some(lane) = self.0.lane.upgrade() {
            lane.state
                .lock()
                .unwrap()
                .let_go(&lane.shared, self.0.number);
        }
    }
}

impl Ahead {
    /// For a sweep that has just begun.
    pub(super) fn new(reader: &Arc<Reader>) -> Self {
        Self(Arc::new_cyclic(|me| Lane {
            reader: Arc::downgrade(reader),
            shared: Arc::clone(&reader.shared),
            state: Mutex::new(State {
                me: me.clone(),
                files: VecDeque::new(),
                first: 0,
                opened_until: 0,
                window: SMALLEST_WINDOW,
                grown_until: 0,
                smooth: 0,
                batch_under_way: false,
                lacks_credit: false,
                failures: 0,
                interest: watch::channel(()).0,
                active: Instant::now(),
                is_watched: false,
                is_over: false,
            }),
        }))
    }

    /// More files that will be opened, in that order, after those that were given before. Never waits. Must be called
    /// within a runtime.
    pub fn expect(&self, files: Vec<Next>) {
        let lane = &self.0;
        // A place is computed from the names on the way to it: not under the lock.
        let is_own = |next: &Next| is_ones_own(&(next.source.locate)());
        let files: Vec<Next> = files.into_iter().filter(is_own).collect();
        let watch = {
            let mut state = lane.state.lock().unwrap();
            state.active = Instant::now();
            state.failures = 0;
            for next in files {
                state.add(&lane.shared, next);
            }
            !state.files.is_empty() && !std::mem::replace(&mut state.is_watched, true)
        };
        if watch && let Some(reader) = lane.reader.upgrade() {
            reader.spawn(watch_silence(Arc::downgrade(lane)));
        }
        lane.go_on();
    }
}

impl Drop for Ahead {
    fn drop(&mut self) {
        let mut state = self.0.state.lock().unwrap();
        state.is_over = true;
        state.give_up(&self.0.shared);
    }
}

/// Gives up what nobody came for.
async fn watch_silence(lane: Weak<Lane>) {
    loop {
        let Some(active) = lane.upgrade().map(|lane| lane.state.lock().unwrap().active) else {
            return;
        };
        sleep_until(active + SILENCE).await;
        let Some(lane) = lane.upgrade() else {
            return;
        };
        let mut state = lane.state.lock().unwrap();
        if Instant::now() >= state.active + SILENCE {
            state.give_up(&lane.shared);
            state.is_watched = false;
            return;
        }
    }
}

impl Lane {
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
            let mut credit = self.shared.lanes.credit.lock().unwrap();
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
            let lane = Arc::clone(self);
            match job {
                Job::Sign(files) => reader.spawn(lane.sign(files)),
                Job::Fetch {
                    number,
                    source,
                    entity,
                    bytes,
                    interest,
                    place,
                } => {
                    reader.spawn(async move {
                        let blocks = entity.blocks_of(&(0..bytes));
                        let came = match bytes {
                            0 => ask(&lane.shared, &source).await,
                            _ => fetch(&lane.shared, &source, &entity, &blocks, interest).await,
                        };
                        drop(place);
                        lane.came(number, &entity, blocks, came);
                    });
                }
            }
        }
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
                        let mut credit = self.shared.lanes.credit.lock().unwrap();
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
        let fetch = Fetch::new(shared, source, claim, interest.clone(), None, until);
        fetch.run().await;
    }
    match is_here(shared, entity, blocks) {
        true => Came::Here,
        false if wanted.ahead_until < blocks.end => Came::NoRoom,
        false => Came::Failed,
    }
}

/// Whether memory has, or awaits, `blocks`.
fn is_here(shared: &Shared, entity: &Arc<Entity>, blocks: &Range<u64>) -> bool {
    blocks
        .clone()
        .all(|block| shared.blocks.knows(entity, block))
}

impl State {
    fn file(&mut self, number: u64) -> Option<&mut File> {
        let at = number.checked_sub(self.first)?;
        self.files.get_mut(at as usize)?.as_mut()
    }

    fn add(&mut self, shared: &Shared, next: Next) {
        let entity = Arc::new(Entity {
            id: next.source.entity.clone(),
            size_bytes: next.source.size_bytes,
        });
        let mut expected = shared.lanes.expected.lock().unwrap();
        let is_known = expected
            .get(&entity)
            .is_some_and(|ticket| ticket.lane.strong_count() > 0);
        // A copy of a file that is expected already has the same content.
        if is_known || entity.size_bytes == 0 || self.is_over {
            return;
        }
        let number = self.first + self.files.len() as u64;
        let ticket = Ticket {
            lane: self.me.clone(),
            number,
        };
        expected.insert(Arc::clone(&entity), ticket);
        self.files.push_back(Some(File {
            wanted: next.bytes.min(entity.size_bytes),
            source: next.source,
            entity,
            stage: Stage::New,
            is_opened: false,
            taken: 0,
            read_until: 0,
        }));
    }

    fn opened(&mut self, shared: &Shared, number: u64) {
        self.opened_until = self.opened_until.max(number + 1);
        let Some(file) = self.file(number) else {
            return;
        };
        let is_first = !std::mem::replace(&mut file.is_opened, true);
        if !is_first || file.wanted == 0 {
            return;
        }
        let is_here = file.stage == Stage::Done;
        shared.lanes.credit.lock().unwrap().opened(is_here);
        if is_here {
            self.smooth += 1;
            if self.smooth >= self.window {
                self.smooth = 0;
                self.window = (self.window * 3 / 4).max(SMALLEST_WINDOW);
            }
            return;
        }
        self.smooth = 0;
        if number >= self.grown_until {
            self.window = (self.window * 2).min(LARGEST_WINDOW);
            self.grown_until = self.opened_until + self.window / 2;
        }
    }

    /// What was passed over long ago will not be opened.
    fn leave_behind(&mut self, shared: &Shared) {
        let end = self.opened_until.saturating_sub(BEHIND);
        for number in self.first..end {
            if self.file(number).is_some_and(|file| !file.is_opened) {
                self.let_go(shared, number);
            }
        }
        while let Some(None) = self.files.front() {
            self.files.pop_front();
            self.first += 1;
        }
    }

    /// Nothing more is done for a file; what is held of it unread is given up.
    fn let_go(&mut self, shared: &Shared, number: u64) {
        let Some(at) = number.checked_sub(self.first) else {
            return;
        };
        let Some(file) = self.files.get_mut(at as usize).and_then(Option::take) else {
            return;
        };
        let unread = file.taken - file.read_until.min(file.taken);
        if unread > 0 {
            shared.lanes.credit.lock().unwrap().waste(unread);
        }
        if file.taken > 0 && (unread == 0 || !file.is_opened) {
            // Of what was read the kernel has the pages.
            shared.blocks.forget(&file.entity, file.blocks());
        }
        let mut expected = shared.lanes.expected.lock().unwrap();
        let is_it = |ticket: &Ticket| ticket.number == number && ticket.lane.ptr_eq(&self.me);
        if expected.get(&file.entity).is_some_and(is_it) {
            expected.remove(&file.entity);
        }
    }

    fn give_up(&mut self, shared: &Shared) {
        self.interest = watch::channel(()).0;
        for number in self.first..self.first + self.files.len() as u64 {
            if self.file(number).is_some_and(|file| !file.is_opened) {
                self.let_go(shared, number);
            }
        }
        // What is expected from now on is next.
        self.opened_until = self.first + self.files.len() as u64;
    }

    /// What can be begun now; it counts as begun.
    fn jobs(&mut self, shared: &Arc<Shared>) -> Vec<Job> {
        let mut jobs = Vec::new();
        if self.failures >= FAILURES_MAX || self.is_over {
            return jobs;
        }
        let mut unsigned = Vec::new();
        let from = self.opened_until.saturating_sub(self.first) as usize;
        let end = self.opened_until + self.window;
        let mut may_fetch = true;
        for (at, file) in self.files.iter_mut().enumerate().skip(from) {
            let Some(file) = file else { continue };
            let number = self.first + at as u64;
            let is_next = !self.batch_under_way && unsigned.len() < BATCH;
            if file.stage == Stage::New && is_next {
                file.look_around(shared);
            }
            match file.stage {
                Stage::New if is_next => {
                    file.stage = Stage::Signing;
                    unsigned.push((number, file.source.clone()));
                }
                Stage::Signed if file.wanted == 0 => file.stage = Stage::Done,
                Stage::Signed | Stage::Unsigned if may_fetch && number < end => {
                    // In order: a small file is not to overtake a large one until the credit suffices for it.
                    match file.begin(shared, number, &self.interest) {
                        Some(job) => jobs.push(job),
                        None => {
                            may_fetch = false;
                            self.lacks_credit = true;
                        }
                    }
                }
                _ => {}
            }
        }
        if !unsigned.is_empty() {
            self.batch_under_way = true;
            jobs.push(Job::Sign(unsigned));
        }
        jobs
    }
}

impl File {
    fn blocks(&self) -> Range<u64> {
        self.entity.blocks_of(&(0..self.wanted))
    }

    /// Nothing is to be done for what is here already.
    fn look_around(&mut self, shared: &Shared) {
        let kept = shared.cache.entity(&self.entity);
        // Whose URL alone is wanted will be read from the beginning too.
        let mut blocks = self.entity.blocks_of(&(0..self.wanted.max(1)));
        if is_here(shared, &self.entity, &blocks) || blocks.all(|block| kept.has(block)) {
            self.stage = Stage::Done;
        } else if shared.links.knows(&shared.origin, &self.source.entity) {
            self.stage = Stage::Signed;
        }
    }

    /// Its content is on the way from now on, if there is a place and credit for it.
    fn begin(
        &mut self,
        shared: &Arc<Shared>,
        number: u64,
        interest: &watch::Sender<()>,
    ) -> Option<Job> {
        let place = Place::take(shared, self.stage == Stage::Unsigned)?;
        if !shared.lanes.credit.lock().unwrap().take(self.wanted) {
            return None;
        }
        self.taken = self.wanted;
        self.stage = Stage::Coming;
        Some(Job::Fetch {
            number,
            source: self.source.clone(),
            entity: Arc::clone(&self.entity),
            bytes: self.wanted,
            interest: interest.subscribe(),
            place,
        })
    }
}
