//! One sweep's files, in order: what was asked of each, and what is to be asked next.
//!
//! Begins nothing itself: gives [`Job`]s, each of which counts as begun when it is given.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};

use tokio::sync::watch;
use tokio::time::Instant;

use super::{Next, Sweep, Ticket};
use crate::entity::Entity;
use crate::read::fetch::Interest;
use crate::read::{Shared, Source};

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

/// Fetches that failed one after the other, after which a sweep goes on without us.
const FAILURES_MAX: u32 = 3;

/// The files, and how far ahead the sweep looks.
pub(super) struct State {
    me: Weak<Sweep>,
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
    pub(super) batch_under_way: bool,
    /// A file was not fetched for want of credit.
    pub(super) lacks_credit: bool,
    pub(super) failures: u32,
    /// Its drop tells fetches that nobody goes that way any more.
    interest: watch::Sender<()>,
    pub(super) active: Instant,
    pub(super) is_watched: bool,
    is_over: bool,
}

pub(super) struct File {
    source: Source,
    entity: Arc<Entity>,
    /// Bytes wanted.
    wanted: u64,
    pub(super) stage: Stage,
    pub(super) is_opened: bool,
    /// Bytes for which credit was taken.
    pub(super) taken: u64,
    /// The reader came so far.
    pub(super) read_until: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
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
pub(super) enum Job {
    /// URLs are to be asked for in one request.
    Sign(Vec<(u64, Source)>),
    /// So many bytes are to be brought; the URL alone, if none.
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
pub(super) struct Place {
    shared: Arc<Shared>,
    is_single: bool,
}

impl Place {
    fn take(shared: &Arc<Shared>, is_single: bool) -> Option<Self> {
        let sweeps = &shared.sweeps;
        if sweeps.under_way.load(Ordering::Relaxed) >= PARALLEL
            || (is_single && sweeps.singles.load(Ordering::Relaxed) >= SINGLES)
        {
            return None;
        }
        sweeps.under_way.fetch_add(1, Ordering::Relaxed);
        sweeps
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
        let sweeps = &self.shared.sweeps;
        sweeps.under_way.fetch_sub(1, Ordering::Relaxed);
        sweeps
            .singles
            .fetch_sub(usize::from(self.is_single), Ordering::Relaxed);
    }
}

impl State {
    /// Nothing is expected yet by the sweep `me`.
    pub(super) fn new(me: &Weak<Sweep>) -> Self {
        Self {
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
        }
    }

    /// Whether there is nothing to be fetched or given up.
    pub(super) fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// The file with this number, unless all is done with it.
    pub(super) fn file(&mut self, number: u64) -> Option<&mut File> {
        let at = number.checked_sub(self.first)?;
        self.files.get_mut(at as usize)?.as_mut()
    }

    pub(super) fn add(&mut self, shared: &Shared, next: Next) {
        let entity = Arc::new(Entity {
            id: next.source.entity.clone(),
            size_bytes: next.source.size_bytes,
        });
        let mut expected = shared.sweeps.expected.lock().unwrap();
        let is_known = expected
            .get(&entity)
            .is_some_and(|ticket| ticket.sweep.strong_count() > 0);
        // A copy of a file that is expected already has the same content.
        if is_known || entity.size_bytes == 0 || self.is_over {
            return;
        }
        let number = self.first + self.files.len() as u64;
        let ticket = Ticket {
            sweep: self.me.clone(),
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

    pub(super) fn opened(&mut self, shared: &Shared, number: u64) {
        self.opened_until = self.opened_until.max(number + 1);
        let Some(file) = self.file(number) else {
            return;
        };
        let is_first = !std::mem::replace(&mut file.is_opened, true);
        if !is_first || file.wanted == 0 {
            return;
        }
        let is_here = file.stage == Stage::Done;
        shared.sweeps.credit.lock().unwrap().opened(is_here);
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
    pub(super) fn leave_behind(&mut self, shared: &Shared) {
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
    pub(super) fn let_go(&mut self, shared: &Shared, number: u64) {
        let Some(at) = number.checked_sub(self.first) else {
            return;
        };
        let Some(file) = self.files.get_mut(at as usize).and_then(Option::take) else {
            return;
        };
        let unread = file.taken - file.read_until.min(file.taken);
        if unread > 0 {
            shared.sweeps.credit.lock().unwrap().waste(unread);
        }
        if file.taken > 0 && (unread == 0 || !file.is_opened) {
            // Of what was read the kernel has the pages.
            shared.blocks.forget(&file.entity, file.blocks());
        }
        self.expect_no_more(shared, &file.entity, number);
    }

    /// Who opens `entity` from now on does not come for the file with this number.
    fn expect_no_more(&self, shared: &Shared, entity: &Arc<Entity>, number: u64) {
        let mut expected = shared.sweeps.expected.lock().unwrap();
        let is_it = |ticket: &Ticket| ticket.number == number && ticket.sweep.ptr_eq(&self.me);
        if expected.get(entity).is_some_and(is_it) {
            expected.remove(entity);
        }
    }

    /// Nothing more is begun, and nobody expected; of files that are open it is still told what is read.
    pub(super) fn end(&mut self, shared: &Shared) {
        self.is_over = true;
        self.give_up(shared);
        for (number, file) in (self.first..).zip(&self.files) {
            if let Some(file) = file {
                self.expect_no_more(shared, &file.entity, number);
            }
        }
    }

    pub(super) fn give_up(&mut self, shared: &Shared) {
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
    pub(super) fn jobs(&mut self, shared: &Arc<Shared>) -> Vec<Job> {
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
        if !shared.sweeps.credit.lock().unwrap().take(self.wanted) {
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

/// Whether memory has, or awaits, `blocks`.
pub(super) fn is_here(shared: &Shared, entity: &Arc<Entity>, blocks: &Range<u64>) -> bool {
    blocks
        .clone()
        .all(|block| shared.blocks.knows(entity, block))
}
