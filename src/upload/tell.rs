//! Tells the server what changed of files whose content it has: mode, owner, times and the like, as their metadata.
//!
//! Promises: what is to be told is told, in the end, of the file that it is of, wherever that is by now; of a file that
//! changes again and again, once for many changes; and what the server does not take stays here and shows here. It never
//! changes content, and nobody waits for it but `sync` and the end.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::StreamExt;
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use super::outcome::Failure;
use super::place::Places;
use super::{News, Options, Undelivered};
use crate::api::{Api, Error};
use crate::attributes::{Attributes, KEY};
use crate::model::FileId;
use crate::staging::{Staging, Untold};

/// Files at once.
const AT_ONCE: usize = 4;
/// Files in one go, after which it is looked anew what there is to tell.
const ROUND: usize = 256;
/// How often a file is looked for that is somewhere else when it is told.
const MOVES: u32 = 3;
/// Before the first try after a failure; twice as long before each later one.
const AGAIN: Duration = Duration::from_secs(1);
/// No file waits longer than this for the next try.
const AGAIN_MAX: Duration = Duration::from_secs(300);

/// Tells what there is to tell.
pub(super) struct Teller {
    api: Api,
    staging: Arc<Staging>,
    places: Places,
    delay: Duration,
    news: UnboundedSender<News>,
    changed: Notify,
    files: Mutex<HashMap<FileId, Telling>>,
    /// How many rounds have ended.
    rounds: watch::Sender<u64>,
}

/// How it stands with one file.
#[derive(Debug)]
struct Telling {
    /// Of which change.
    number: u64,
    due: Instant,
    tries: u32,
    /// The server heard it; whoever listens is still to say that he knows.
    heard: bool,
    failed: Option<Undelivered>,
}

impl Teller {
    pub(super) fn new(
        api: Api,
        staging: Arc<Staging>,
        options: &Options,
        news: UnboundedSender<News>,
    ) -> Self {
        Self {
            api,
            staging,
            places: Places::default(),
            delay: options.delay,
            news,
            changed: Notify::new(),
            files: Mutex::default(),
            rounds: watch::Sender::new(0),
        }
    }

    /// Something is to be told.
    pub(super) fn wake(&self) {
        self.changed.notify_one();
    }

    /// All of it is due now.
    pub(super) fn hurry(&self) {
        self.hurry_those(|_| true);
    }

    fn hurry_those(&self, is_one: impl Fn(&FileId) -> bool) {
        self.look(Instant::now());
        let mut files = self.files.lock().unwrap();
        let now = Instant::now();
        let those = files.iter_mut().filter(|(file, _)| is_one(file));
        those.for_each(|(_, telling)| telling.due = telling.due.min(now));
        drop(files);
        self.changed.notify_one();
    }

    /// Tells until it is dropped.
    pub(super) async fn run(self: Arc<Self>) {
        loop {
            let now = Instant::now();
            match self.look(now) {
                None => self.changed.notified().await,
                Some(due) if due > now => {
                    tokio::select! {
                        () = tokio::time::sleep_until(due) => {}
                        () = self.changed.notified() => {}
                    }
                }
                Some(_) => self.round(now).await,
            }
        }
    }

    /// See [`Uploader::told_all`](super::Uploader::told_all).
    pub(super) async fn told_all(&self) -> Result<(), Undelivered> {
        let mut rounds = self.rounds.subscribe();
        let wanted = self.staging.to_tell().into_iter();
        let wanted: HashSet<_> = wanted.map(|untold| untold.file).collect();
        let began = *rounds.borrow();
        loop {
            // Also what was changed once more meanwhile; what is told of others from here on is not waited for.
            self.hurry_those(|file| wanted.contains(file));
            let mut untold = self.staging.to_tell();
            untold.retain(|untold| wanted.contains(&untold.file));
            let is_tried = *rounds.borrow() > began;
            let mut waits = false;
            {
                let files = self.files.lock().unwrap();
                for untold in &untold {
                    match files.get(&untold.file) {
                        Some(telling) if telling.number == untold.number && telling.heard => {}
                        Some(Telling {
                            failed: Some(why), ..
                        }) if is_tried => return Err(why.clone()),
                        _ => waits = true,
                    }
                }
            }
            if !waits {
                return Ok(());
            }
            // The sender lives as long as this does.
            rounds.changed().await.ok();
        }
    }

    /// Takes in what there is to tell, and gives when the first of it is due; none where nothing is.
    fn look(&self, now: Instant) -> Option<Instant> {
        let untold = self.staging.to_tell();
        let mut files = self.files.lock().unwrap();
        let mut left = HashMap::with_capacity(untold.len());
        for untold in untold {
            let telling = files.remove(&untold.file);
            let telling = telling.filter(|telling| telling.number == untold.number);
            let new = || Telling {
                number: untold.number,
                due: now + self.delay,
                tries: 0,
                heard: false,
                failed: None,
            };
            left.insert(untold.file, telling.unwrap_or_else(new));
        }
        *files = left;
        let waiting = files.values().filter(|telling| !telling.heard);
        waiting.map(|telling| telling.due).min()
    }

    async fn round(&self, now: Instant) {
        let due: Vec<Untold> = {
            let files = self.files.lock().unwrap();
            let is_due = |untold: &Untold| {
                let telling = files.get(&untold.file);
                telling.is_some_and(|telling| !telling.heard && telling.due <= now)
            };
            let untold = self.staging.to_tell().into_iter();
            untold.filter(is_due).take(ROUND).collect()
        };
        let telling = due.into_iter().map(|untold| async move {
            let result = self.say(&untold).await;
            self.said(untold, result);
        });
        let mut telling = futures_util::stream::iter(telling).buffer_unordered(AT_ONCE);
        while telling.next().await.is_some() {}
        drop(telling);
        self.rounds.send_modify(|rounds| *rounds += 1);
    }

    async fn say(&self, untold: &Untold) -> Result<(), Failure> {
        for _ in 0..MOVES {
            // Where it is now: another file may have its place by now, and must not be told of.
            let file = self.places.file(&self.api, &untold.place, &untold.file);
            let file = file.await?;
            let there = Attributes::of(&file).unwrap_or_default();
            let name = file.uri.name().unwrap_or(&file.name);
            let told = Arc::clone(&untold.attributes).renamed_as(name, &there);
            let change = BTreeMap::from([(KEY.to_owned(), Some(told.text()))]);
            match self.api.patch_metadata(&file.uri, &change).await {
                // It was a moment ago: somebody gave it another name, and it is looked for there.
                Err(Error::NotFound) => {}
                told => return Ok(told?),
            }
        }
        Err(Failure::Api(Error::Changed))
    }

    fn said(&self, untold: Untold, result: Result<(), Failure>) {
        let mut files = self.files.lock().unwrap();
        let Some(telling) = files.get_mut(&untold.file) else {
            return;
        };
        if telling.number != untold.number {
            return;
        }
        match result {
            Ok(()) => {
                telling.heard = true;
                drop(files);
                // Nobody listens at the end of a mount: then it is said once more.
                let _ = self.news.send(News::Told(untold));
            }
            Err(Failure::Api(Error::NotFound)) => {
                files.remove(&untold.file);
                drop(files);
                log::debug!("{} is gone: nothing is told of it", untold.place.uri());
                if let Err(err) = self.staging.tell_nothing(&untold.file) {
                    log::error!("the journal of what is owed cannot be written: {err}");
                }
            }
            Err(failure) => {
                let wait = AGAIN.saturating_mul(1 << telling.tries.min(16));
                telling.due = Instant::now() + wait.min(AGAIN_MAX);
                telling.tries += 1;
                log::info!(
                    "what is told of {} is not on the server yet: {}",
                    untold.place.uri(),
                    failure.words()
                );
                telling.failed = Some(failure.into());
            }
        }
    }
}
