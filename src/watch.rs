//! What changes on the server below one folder, as soon as it is told: one stream of events, kept alive.
//!
//! Promises: there is one stream at a time, on which nothing for three times as long as the server lets it be silent means
//! that it is lost; after a loss there is another one, sooner or later, however often that happens; whatever may not have been
//! told (before a stream began, between two, in a crowd of which the server drops the rest, or because the receiver is behind)
//! is a [`Happening::Gap`], never silence. What is told is a hint all the same: the stream may be muted and show no sign of it
//! (→ api part 1 §13.5), so who needs the truth looks now and then.
//!
//! Never asks the server for anything but the stream, and applies nothing. Its gate sends all changes as the client that
//! follows, whose own changes are not told; so a gate has one watch. The folder's own fate is not told: it is the mount's root.

mod pause;

use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::time::{Instant, sleep, timeout_at};

use crate::api::{Api, Change, ClientId, Error, Events, Told};
use crate::task::Task;
use crate::uri::FileUri;
use pause::{Attempts, Ids, long_pause};

/// The server lets a stream be silent for 30 s (→ api part 1 §13.2); one sign may be late, and one lost in a short trouble.
pub const SILENCE: Duration = Duration::from_secs(90);
/// What the server lets go at once comes within this much of each other.
const FLUSH_PAUSE: Duration = Duration::from_millis(150);
/// So long the changes of one go are waited for, however they trickle.
const LONGEST_FLUSH: Duration = Duration::from_secs(1);
/// The server lets no more than 17 go at once and drops the rest without a word; one less, since the reader's hand counts only
/// where it is empty (→ api part 1 §13.5).
const CROWD: usize = 16;
/// Ended and begun again within this, a stream has missed nothing that it does not tell.
const SHORT_ABSENCE: Duration = Duration::from_secs(10);
/// Happenings that wait for their receiver. More, and it is told to look at everything instead.
const WAITING: usize = 64;

/// What a receiver hears.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Happening {
    /// Something may have happened that is not told.
    Gap(Gap),
    /// What the server let go at once, never nothing. To be applied by id, what is gone first: two that swapped their names
    /// come as two renames.
    Changes(Vec<Change>),
}

/// Why something may not have been told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gap {
    /// The stream began just now, and nothing from before is told.
    Begun,
    /// It was away for longer than a moment, and only what the server kept is told.
    Away,
    /// So many changes came at once that the server may have dropped others.
    Crowd,
    /// Something was told that cannot be read.
    Unreadable,
    /// The receiver was behind, and what waited for it was dropped.
    Behind,
    /// The machine slept.
    Slept,
}

/// How the stream is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// It is being opened for the first time.
    Connecting,
    /// It is open, and began with nothing from before.
    Subscribed,
    /// It is open, and went on where an earlier one ended.
    Resumed,
    /// It is lost, or could not be opened, and is tried again.
    Lost(String),
    /// The server has none for this folder: it is too old, switched them off, or has none of this view. Asked again hourly.
    Unsupported,
}

/// For `status`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Health {
    /// How it is.
    pub state: State,
    /// Since when.
    pub since: SystemTime,
    /// When something came on it last.
    pub last_sign: Option<SystemTime>,
    /// Changes told so far.
    pub changes: u64,
    /// Gaps so far.
    pub gaps: u64,
}

/// A folder that is followed until this is dropped.
#[derive(Debug)]
pub struct Watch {
    health: Arc<Mutex<Health>>,
    _following: Task,
}

impl Watch {
    /// Follows what changes below `folder`; nothing for `silence` is a lost stream. Must be called inside a tokio runtime.
    pub fn new(api: Api, folder: FileUri, silence: Duration) -> (Self, Receiver<Happening>) {
        let (sender, receiver) = channel(WAITING);
        let health = Arc::new(Mutex::new(Health {
            state: State::Connecting,
            since: SystemTime::now(),
            last_sign: None,
            changes: 0,
            gaps: 0,
        }));
        let following = Following {
            api,
            folder,
            silence,
            health: Arc::clone(&health),
            sender,
            ended: None,
        };
        // A request under way to open a stream is the gate's, and lives on to its headers.
        let _following = Task::spawn(following.run());
        (Self { health, _following }, receiver)
    }

    /// How it is.
    pub fn health(&self) -> Health {
        self.health.lock().unwrap().clone()
    }

    /// Tells how it is, also when this is not at hand.
    pub fn pulse(&self) -> Pulse {
        Pulse(Arc::clone(&self.health))
    }
}

/// Tells how a watch is.
#[derive(Debug, Clone)]
pub struct Pulse(Arc<Mutex<Health>>);

impl Pulse {
    /// How it is.
    pub fn health(&self) -> Health {
        self.0.lock().unwrap().clone()
    }
}

/// The task behind a watch.
struct Following {
    api: Api,
    folder: FileUri,
    silence: Duration,
    health: Arc<Mutex<Health>>,
    sender: Sender<Happening>,
    /// When the last stream ended, and as whom.
    ended: Option<(ClientId, Instant)>,
}

/// How a stream ended.
enum End {
    /// The server has let go of it.
    Clean,
    /// The server wants another one.
    Reconnect,
    /// The server may still hold it.
    Lost(Error),
    /// Nobody listens any more.
    Unheard,
}

/// Nobody listens any more.
struct Unheard;

impl Following {
    async fn run(mut self) {
        let (mut ids, mut attempts) = (Ids::default(), Attempts::default());
        loop {
            let id = ids.take(Instant::now());
            let opened = self.api.events(&self.folder, &id).await;
            let random = random();
            let now = Instant::now();
            let wait = match opened {
                Ok(events) => {
                    let end = self.follow(events, &id).await;
                    let over = Instant::now();
                    ids.put_back(id.clone(), matches!(end, End::Clean), over);
                    self.ended = Some((id, over));
                    match end {
                        End::Unheard => return,
                        End::Clean => self.is(State::Lost("the server ended it".into())),
                        End::Reconnect => self.is(State::Lost("the server wants another".into())),
                        End::Lost(error) => self.is(State::Lost(error.to_string())),
                    }
                    attempts.over(Some(now), over, random)
                }
                Err(error) => {
                    // An answer other than a stream has let go of it; without one nobody knows.
                    let is_clean = !matches!(error, Error::Transport { .. } | Error::Timeout(_));
                    ids.put_back(id, is_clean, now);
                    self.could_not_open(&error, &mut attempts, now, random)
                }
            };
            log::debug!("events: another try in {wait:?}");
            tokio::select! {
                () = sleep(wait) => {}
                () = self.sender.closed() => return,
            }
        }
    }

    fn could_not_open(
        &self,
        error: &Error,
        attempts: &mut Attempts,
        now: Instant,
        random: f64,
    ) -> Duration {
        match error {
            // Of a view that has none the server says that it is not allowed.
            Error::Unsupported | Error::Denied { .. } => {
                log::info!("changes by others show late: no events here: {error}");
                self.is(State::Unsupported);
                long_pause(random)
            }
            error => {
                self.is(State::Lost(error.to_string()));
                attempts.over(None, now, random)
            }
        }
    }

    /// Tells what an open stream says, to its end.
    async fn follow(&mut self, mut events: Events, id: &ClientId) -> End {
        loop {
            let told = tokio::select! {
                told = events.next(self.silence) => told,
                () = self.sender.closed() => return End::Unheard,
            };
            let heard = match self.heard(told) {
                Ok(told) => told,
                Err(end) => return end,
            };
            let going_on = match heard {
                Told::Subscribed => self.begins(State::Subscribed, Some(Gap::Begun)).await,
                Told::Resumed => {
                    let gap = self.was_away(id).then_some(Gap::Away);
                    self.begins(State::Resumed, gap).await
                }
                Told::Alive => Ok(()),
                Told::Unreadable => self.gap(Gap::Unreadable).await,
                Told::Reconnect => return End::Reconnect,
                Told::Changes(first) => match self.flush(&mut events, first).await {
                    Ok(None) => Ok(()),
                    Ok(Some(end)) => return end,
                    Err(unheard) => Err(unheard),
                },
            };
            if going_on.is_err() {
                return End::Unheard;
            }
        }
    }

    /// Notes a sign of life, or what the end of one means.
    fn heard(&self, told: Result<Option<Told>, Error>) -> Result<Told, End> {
        match told {
            Ok(Some(told)) => {
                self.health.lock().unwrap().last_sign = Some(SystemTime::now());
                Ok(told)
            }
            Ok(None) => Err(End::Clean),
            Err(error) => Err(End::Lost(error)),
        }
    }

    /// Tells all that the server let go together with `changes`. Gives the end of the stream where that came.
    async fn flush(
        &mut self,
        events: &mut Events,
        mut changes: Vec<Change>,
    ) -> Result<Option<End>, Unheard> {
        let last = Instant::now() + LONGEST_FLUSH;
        let (mut end, mut is_unreadable) = (None, false);
        loop {
            let quiet = Instant::now() + FLUSH_PAUSE;
            // What `next` has of a frame that is not complete stays with it.
            let Ok(told) = timeout_at(quiet.min(last), events.next(self.silence)).await else {
                break;
            };
            match self.heard(told) {
                Ok(Told::Changes(more)) => changes.extend(more),
                Ok(Told::Unreadable) => is_unreadable = true,
                Ok(Told::Reconnect) => end = Some(End::Reconnect),
                Ok(Told::Alive | Told::Subscribed | Told::Resumed) => {}
                Err(over) => end = Some(over),
            }
            if end.is_some() {
                break;
            }
        }
        let is_crowd = changes.len() >= CROWD;
        self.health.lock().unwrap().changes += changes.len() as u64;
        if !changes.is_empty() {
            self.tell(Happening::Changes(changes)).await?;
        }
        if is_crowd {
            self.gap(Gap::Crowd).await?;
        }
        if is_unreadable {
            self.gap(Gap::Unreadable).await?;
        }
        Ok(end)
    }

    /// Whether the stream of `id` that goes on now ended more than a moment ago, or not as the last one.
    fn was_away(&self, id: &ClientId) -> bool {
        let recently =
            |(last, at): &(ClientId, Instant)| last == id && at.elapsed() <= SHORT_ABSENCE;
        !self.ended.as_ref().is_some_and(recently)
    }

    async fn begins(&self, state: State, gap: Option<Gap>) -> Result<(), Unheard> {
        self.is(state);
        match gap {
            Some(gap) => self.gap(gap).await,
            None => Ok(()),
        }
    }

    async fn gap(&self, gap: Gap) -> Result<(), Unheard> {
        self.health.lock().unwrap().gaps += 1;
        self.tell(Happening::Gap(gap)).await
    }

    /// Hands on. Where the receiver is behind, it hears of a gap instead, once it listens: the server would drop in silence
    /// what is not read meanwhile, and that gap comes after.
    async fn tell(&self, happening: Happening) -> Result<(), Unheard> {
        match self.sender.try_send(happening) {
            Ok(()) => Ok(()),
            Err(TrySendError::Closed(_)) => Err(Unheard),
            Err(TrySendError::Full(_)) => {
                self.health.lock().unwrap().gaps += 1;
                let behind = self.sender.send(Happening::Gap(Gap::Behind)).await;
                behind.map_err(|_| Unheard)
            }
        }
    }

    fn is(&self, state: State) {
        let mut health = self.health.lock().unwrap();
        if health.state != state {
            log::debug!("events: {state:?}");
            health.since = SystemTime::now();
            health.state = state;
        }
    }
}

/// A number from 0 to 1.
fn random() -> f64 {
    f64::from(getrandom::u32().unwrap_or(u32::MAX / 2)) / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests;
