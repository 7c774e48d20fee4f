//! The files on their way: starts them when their turn comes, and hands round what became of them.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use futures_util::future::join_all;
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::body::Flight;
use super::deliver::{Courier, Outcome, is_owed};
use super::detour::Detours;
use super::orphans::Orphans;
use super::outcome::Failure;
use super::place::Places;
use super::queue::{Queue, Rules, Stage};
use super::roll::Roll;
use super::{Complete, News, Options, Owed, Undelivered, conflict};
use crate::api::{Api, Error};
use crate::asker;
use crate::names::ServerName;
use crate::staging::{Local, LocalId, Place, Staging, State};

/// How often it is asked whether the network is back, while uploads fail for the lack of it.
const PULSE: Duration = Duration::from_secs(5);
/// How long an ordered end waits for sessions to be cancelled.
const CLOSING: Duration = Duration::from_secs(20);

/// After so many failures in a row a person is told what may help (→ api part 2 §0.1).
const ILL: u32 = 6;
/// Between two tries to cancel what belongs to no file any more.
const TIDYING: Duration = Duration::from_secs(60);

/// All files that are owed, and the uploads of some of them.
pub(super) struct Fleet {
    courier: Courier,
    staging: Arc<Staging>,
    news: UnboundedSender<News>,
    /// How many of them were sent.
    told: AtomicU64,
    /// Something may be to begin.
    changed: Notify,
    state: Mutex<Fleeting>,
}

struct Fleeting {
    queue: Queue<LocalId>,
    files: HashMap<LocalId, Known>,
    /// The last failure was one of the wire.
    cut_off: bool,
    /// When it is tried to cancel what was left of files that are no more.
    tidy_due: Option<Instant>,
    /// When it is looked at the queue next, if nothing happens before.
    look_due: Option<Instant>,
}

/// A file that is owed or held.
struct Known {
    local: Arc<Local>,
    flight: Option<Arc<Flight>>,
    /// How many tries have ended.
    ended: watch::Sender<u64>,
    /// How many of them failed, and why the last one did.
    failed: (u64, Option<Undelivered>),
}

impl Known {
    fn new(local: &Arc<Local>) -> Self {
        Self {
            local: Arc::clone(local),
            flight: None,
            ended: watch::Sender::new(0),
            failed: (0, None),
        }
    }
}

impl Fleet {
    /// With all that `staging` owes, due at once.
    pub(super) fn new(
        api: Api,
        staging: Arc<Staging>,
        complete: Complete,
        options: Options,
        news: UnboundedSender<News>,
    ) -> Self {
        let rules = Rules {
            delay: options.delay,
            transfers: options.transfers,
        };
        let now = Instant::now();
        let mut state = Fleeting {
            queue: Queue::new(rules),
            files: HashMap::new(),
            cut_off: false,
            tidy_due: None,
            look_due: None,
        };
        let (orphans, detours) = (Orphans::found(&staging), Detours::found(&staging));
        if !orphans.is_empty() || !detours.is_empty() {
            state.tidy_due = Some(now);
        }
        for local in staging.owed() {
            if is_owed(&local) {
                state.queue.owed(local.id(), local.size_bytes(), now);
                state.files.insert(local.id(), Known::new(&local));
            }
        }
        Self {
            courier: Courier {
                api,
                complete,
                options,
                places: Places::default(),
                roll: Roll::default(),
                staging: Arc::clone(&staging),
                orphans,
                detours,
            },
            staging,
            news,
            told: AtomicU64::new(0),
            changed: Notify::new(),
            state: Mutex::new(state),
        }
    }

    /// Lets files go until it is dropped, and those that are up with it.
    pub(super) async fn run(self: Arc<Self>) {
        let mut flights = JoinSet::new();
        let mut pulse = None;
        loop {
            // The same moment for both: nothing becomes due between them and is seen by neither.
            let now = Instant::now();
            while let Some(flight) = self.take_off(now) {
                flights.spawn(Arc::clone(&self).fly(flight));
            }
            let (due, tidy_due) = {
                let mut state = self.state.lock().unwrap();
                state.look_due = state.queue.next_due(now);
                (state.look_due, state.tidy_due)
            };
            if self.is_cut_off() {
                pulse.get_or_insert_with(|| Instant::now() + PULSE);
            } else {
                pulse = None;
            }
            tokio::select! {
                () = self.changed.notified() => {}
                () = at(due) => {}
                () = at(pulse) => {
                    pulse = None;
                    flights.spawn(Arc::clone(&self).feel_pulse());
                }
                () = at(tidy_due) => {
                    self.state.lock().unwrap().tidy_due = None;
                    flights.spawn(Arc::clone(&self).tidy());
                }
                Some(_) = flights.join_next() => {}
            }
        }
    }

    fn take_off(&self, now: Instant) -> Option<Arc<Flight>> {
        let mut state = self.state.lock().unwrap();
        let id = state.queue.next(now)?;
        let Some(known) = state.files.get_mut(&id) else {
            state.queue.forget(id);
            return None;
        };
        let flight = Arc::new(Flight::new(Arc::clone(&known.local)));
        known.flight = Some(Arc::clone(&flight));
        Some(flight)
    }

    async fn fly(self: Arc<Self>, flight: Arc<Flight>) {
        let id = flight.local.id();
        let mut landing = Landing {
            fleet: &self,
            flight: &flight,
            done: false,
        };
        let sent = || {
            self.state.lock().unwrap().queue.sent(id);
            self.changed.notify_one();
        };
        let result = self.courier.deliver(&flight, &sent).await;
        if let Err(failure) = &result {
            self.note(&flight, failure).await;
        }
        self.ended(&flight, result);
        landing.done = true;
    }

    /// Writes the failure down, for who asks after the next start.
    async fn note(&self, flight: &Arc<Flight>, failure: &Failure) {
        let words = failure.words();
        log::info!(
            "{} is not on the server yet: {words}",
            flight.local.place().uri()
        );
        let blocked = matches!(failure, Failure::Blocked(_)).then(|| words.clone());
        let noted = flight.note(move |delivery| {
            delivery.tries = delivery.tries.saturating_add(1);
            delivery.last_error = Some(words);
            delivery.blocked = blocked;
        });
        if let Err(err) = noted.await {
            log::error!("the journal of what is owed cannot be written: {err}");
        }
    }

    fn ended(&self, flight: &Arc<Flight>, result: Result<Outcome, Failure>) {
        let id = flight.local.id();
        let now = Instant::now();
        let mut state = self.state.lock().unwrap();
        // Under the lock: who stages it before this counts on it, and who does after this finds no flight.
        let owed = is_owed(&flight.local);
        state.cut_off = false;
        let mut failed = None;
        match result {
            Ok(Outcome::Delivered {
                info,
                conflict,
                generation,
            }) => {
                state.queue.delivered(id, !owed, now);
                self.tell(News::Delivered {
                    local: id,
                    info,
                    conflict,
                    generation,
                });
            }
            Ok(Outcome::Overtaken) => state.queue.overtaken(id, owed, now),
            Err(failure) => {
                state.cut_off = failure.is_of_the_wire();
                let jitter =
                    f64::from(getrandom::u32().unwrap_or(u32::MAX / 2)) / f64::from(u32::MAX);
                state.queue.failed(id, failure.fault(), now, jitter);
                if failure.is_of_the_server() && state.queue.fallen() == ILL {
                    log::warn!(
                        "the server fails one upload after the other; if it answers reads and keeps failing writes, it has to be restarted"
                    );
                }
                failed = Some(failure.into());
            }
        }
        state.land(id, failed);
        drop(state);
        if flight.local.state() == State::Unlinked && self.courier.orphans.released(&flight.local) {
            self.tidy_at(now);
        } else if !self.courier.detours.is_empty() {
            self.tidy_at(now + TIDYING);
        }
        self.changed.notify_one();
    }

    fn tell(&self, news: News) {
        self.told.fetch_add(1, Ordering::AcqRel);
        // Nobody listens at the end of a mount.
        let _ = self.news.send(news);
    }

    /// See [`Uploader::name_beside`](super::Uploader::name_beside).
    pub(super) fn name_beside(&self, place: &Place, nth: u32) -> ServerName {
        let Options { host, names, .. } = &self.courier.options;
        let whole = match &place.full {
            Some(full) => full.as_bytes(),
            None => place.name.as_bytes(),
        };
        conflict::name(whole, host, SystemTime::now(), nth, *names)
    }

    /// See [`Uploader::told`](super::Uploader::told).
    pub(super) fn told(&self) -> u64 {
        self.told.load(Ordering::Acquire)
    }

    /// Longest that anybody waits for what may never come.
    pub(super) fn timeout(&self) -> Duration {
        self.courier.options.timeout
    }

    fn is_cut_off(&self) -> bool {
        let state = self.state.lock().unwrap();
        state.cut_off && !state.files.is_empty()
    }

    /// Tries the wire with the smallest request there is.
    async fn feel_pulse(self: Arc<Self>) {
        if self.courier.api.ping().await.is_ok() && self.is_cut_off() {
            log::info!("the server answers again: uploads go on");
            self.wake();
        }
    }

    /// Cancels what was left of files that are no more, and removes what copies left.
    async fn tidy(self: Arc<Self>) {
        let courier = &self.courier;
        courier.settle_orphans().await;
        courier.remove_detours().await;
        if !courier.orphans.is_empty() || !courier.detours.is_empty() {
            self.tidy_at(Instant::now() + TIDYING);
        }
    }

    fn tidy_at(&self, due: Instant) {
        let mut state = self.state.lock().unwrap();
        state.tidy_due = Some(state.tidy_due.map_or(due, |before| before.min(due)));
        drop(state);
        self.changed.notify_one();
    }

    /// See [`Uploader::staged`](super::Uploader::staged).
    pub(super) fn staged(&self, local: &Arc<Local>) {
        if !is_owed(local) {
            return;
        }
        let id = local.id();
        let mut state = self.state.lock().unwrap();
        let is_new = !state.files.contains_key(&id);
        let known = state.files.entry(id).or_insert_with(|| Known::new(local));
        let flight = known.flight.clone();
        let is_awaited = known.ended.receiver_count() > 0;
        if flight
            .as_ref()
            .is_some_and(|flight| flight.is_newest() && !flight.halt.is_set())
        {
            return;
        }
        let now = Instant::now();
        let flies = state.queue.staged(id, local.size_bytes(), now);
        if is_awaited {
            // Who waits for what was saved before waits for this.
            state.queue.urge(id, now);
        }
        if let Some(flight) = flight.filter(|_| flies) {
            flight.halt.raise();
        }
        // A new one is due after the delay. Whoever looks before that need not be woken for it, which costs more than all
        // the rest here.
        let due = now + self.courier.options.delay;
        let is_seen = is_new && !is_awaited && state.look_due.is_some_and(|look| look <= due);
        drop(state);
        if !is_seen {
            self.changed.notify_one();
        }
    }

    /// See [`Uploader::deliver`](super::Uploader::deliver).
    pub(super) async fn deliver(
        &self,
        local: &Arc<Local>,
        patience: Duration,
    ) -> Result<(), Undelivered> {
        let mut failures = None;
        let until = Instant::now() + patience;
        loop {
            match local.state() {
                State::Dirty => {
                    return Err(Undelivered::Blocked(
                        "it is being written to".to_owned().into(),
                    ));
                }
                State::Staged(_) if is_owed(local) => {}
                State::Staged(_) | State::Delivered | State::Unlinked => {
                    // Who waited finds told what became of it.
                    self.landed(local.id()).await;
                    return Ok(());
                }
            }
            let mut ended = {
                let mut state = self.state.lock().unwrap();
                let id = local.id();
                if !state.files.contains_key(&id) {
                    state.queue.owed(id, local.size_bytes(), Instant::now());
                    state.files.insert(id, Known::new(local));
                }
                let known = &state.files[&id];
                let (count, why) = known.failed.clone();
                let ended = known.ended.subscribe();
                match (failures, why) {
                    (Some(before), Some(why)) if count > before => {
                        let is_passing = matches!(why, Undelivered::Api(_));
                        if !is_passing || Instant::now() >= until {
                            return Err(why);
                        }
                        failures = Some(count);
                    }
                    // Also where it was saved again meanwhile: it would wait for its delay once more.
                    (before, _) => {
                        failures = before.or(Some(count));
                        state.queue.urge(id, Instant::now());
                    }
                }
                ended
            };
            self.changed.notify_one();
            // The sender is gone where nothing is owed any more: the state tells.
            ended.changed().await.ok();
        }
    }

    /// Resolves when the upload of it that is under way, if one is, has ended.
    async fn landed(&self, id: LocalId) {
        let ended = {
            let state = self.state.lock().unwrap();
            let flying = state.files.get(&id).filter(|known| known.flight.is_some());
            flying.map(|known| known.ended.subscribe())
        };
        if let Some(mut ended) = ended {
            // The sender is gone where nothing is owed any more.
            ended.changed().await.ok();
        }
    }

    /// Who does it.
    pub(super) fn courier(&self) -> &Courier {
        &self.courier
    }

    /// Lets no upload of it begin, and stops one that is under way.
    pub(super) fn hold(&self, local: &Arc<Local>) {
        let id = local.id();
        let mut state = self.state.lock().unwrap();
        let known = state.files.entry(id).or_insert_with(|| Known::new(local));
        if let Some(flight) = &known.flight {
            flight.halt.raise();
        }
        state.queue.hold(id, Instant::now());
    }

    /// As [`Fleet::grounded`], but waits half as long as somebody waits for the network, and leaves him the rest of that.
    /// Whether no upload of it is under way.
    pub(super) async fn grounded_soon(&self, local: &Arc<Local>) -> bool {
        let longest = self.courier.options.timeout / 2;
        let is_grounded = asker::within(longest, self.grounded(local)).await.is_ok();
        if !is_grounded {
            log::info!(
                "the upload of {} could not be stopped in time",
                local.place().uri()
            );
        }
        if local.delivery().session.is_some() {
            self.courier.orphans.expect(&self.staging, local).await;
        }
        is_grounded || !self.state.lock().unwrap().queue.is_up(local.id())
    }

    /// Resolves when no upload of it is under way and no session of it known to be open.
    pub(super) async fn grounded(&self, local: &Arc<Local>) {
        let id = local.id();
        loop {
            let mut ended = {
                let state = self.state.lock().unwrap();
                match state.files.get(&id) {
                    Some(known) if state.queue.is_up(id) => known.ended.subscribe(),
                    _ => break,
                }
            };
            ended.changed().await.ok();
        }
        self.abandon(local).await;
    }

    /// Cancels what an earlier try of a file left open that is held, or not to go any more.
    async fn abandon(&self, local: &Arc<Local>) {
        if local.delivery().session.is_none() {
            return;
        }
        let flight = Arc::new(Flight::new(Arc::clone(local)));
        // Who waits for it holds it by value, over many calls, and none of these goes this far in most cases.
        match Box::pin(self.courier.abandon_noted(&flight)).await {
            Ok(Outcome::Delivered {
                info,
                conflict,
                generation,
            }) => self.tell(News::Delivered {
                local: local.id(),
                info,
                conflict,
                generation,
            }),
            Ok(Outcome::Overtaken) => {}
            Err(failure) => log::info!(
                "an upload session of {} may be left open for now: {}",
                local.place().uri(),
                failure.words()
            ),
        }
    }

    /// One who held it is done; `moved`: it belongs elsewhere than before.
    pub(super) fn release(&self, local: &Arc<Local>, moved: bool) {
        let id = local.id();
        let mut state = self.state.lock().unwrap();
        if moved {
            state.queue.moved(id, Instant::now());
        }
        state.queue.release(id, is_owed(local));
        state.drop_idle(id);
        drop(state);
        if self.courier.orphans.released(local) {
            self.tidy_at(Instant::now() + TIDYING);
        }
        self.changed.notify_one();
    }

    /// See [`Uploader::owed`](super::Uploader::owed).
    pub(super) fn owed(&self) -> Vec<Owed> {
        let owed = self.staging.owed();
        let state = self.state.lock().unwrap();
        let (now, clock) = (Instant::now(), SystemTime::now());
        owed.into_iter()
            .filter(|local| !local.is_local_only())
            .map(|local| {
                let (stage, due) = state
                    .queue
                    .stage(local.id())
                    .unwrap_or((Stage::Waiting, None));
                let flight = state
                    .files
                    .get(&local.id())
                    .and_then(|known| known.flight.as_ref());
                Owed {
                    state: match stage {
                        Stage::Waiting => "waiting",
                        Stage::Flying | Stage::Landing => "uploading",
                        Stage::Retrying => "retrying",
                        Stage::Blocked => "blocked",
                    },
                    sent_bytes: flight
                        .map_or(0, |flight| flight.sent_bytes.load(Ordering::Relaxed)),
                    next_try: due.map(|due| clock + due.saturating_duration_since(now)),
                    local,
                }
            })
            .collect()
    }

    /// See [`Uploader::moved`](super::Uploader::moved).
    pub(super) fn moved(&self) {
        self.courier.places.forget();
    }

    /// All that failed is tried now.
    pub(super) fn wake(&self) {
        let now = Instant::now();
        let mut state = self.state.lock().unwrap();
        state.queue.wake(now);
        state.tidy_due = state.tidy_due.map(|_| now);
        drop(state);
        self.changed.notify_one();
    }

    /// See [`Uploader::close`](super::Uploader::close).
    pub(super) async fn close(&self) {
        let locals: Vec<Arc<Local>> = {
            let mut state = self.state.lock().unwrap();
            state.queue.close();
            for flight in state
                .files
                .values()
                .filter_map(|known| known.flight.as_ref())
            {
                flight.halt.raise();
            }
            let known = state.files.values();
            known.map(|known| Arc::clone(&known.local)).collect()
        };
        let grounded = join_all(locals.iter().map(|local| self.grounded(local)));
        if tokio::time::timeout(CLOSING, grounded).await.is_err() {
            log::warn!("upload sessions are left open, to be cancelled at the next start");
        }
    }
}

impl Fleeting {
    /// A flight of it is over; `failed` is why it was in vain.
    fn land(&mut self, id: LocalId, failed: Option<Undelivered>) {
        if let Some(known) = self.files.get_mut(&id) {
            known.flight = None;
            if failed.is_some() {
                known.failed = (known.failed.0 + 1, failed);
            }
            known.ended.send_modify(|count| *count += 1);
        }
        self.drop_idle(id);
    }

    fn drop_idle(&mut self, id: LocalId) {
        if self.queue.stage(id).is_none() {
            self.files.remove(&id);
        }
    }
}

/// What takes a file from the list of those that are up also where its task broke down.
struct Landing<'a> {
    fleet: &'a Fleet,
    flight: &'a Arc<Flight>,
    done: bool,
}

impl Drop for Landing<'_> {
    fn drop(&mut self) {
        if !self.done {
            let why = Error::Local("the upload broke down".into());
            self.fleet.ended(self.flight, Err(Failure::Api(why)));
        }
    }
}

/// Resolves at the instant; never where there is none.
async fn at(instant: Option<Instant>) {
    match instant {
        Some(instant) => tokio::time::sleep_until(instant).await,
        None => std::future::pending().await,
    }
}
