//! How far one listing has come, for all who wait for it.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use crate::api::{self, Page};
use crate::asker;
use crate::entry::Entry;
use crate::metadata::Listing;
use crate::model::FileInfo;

/// A listing under way, or how it ended.
#[derive(Debug)]
pub struct Progress {
    state: Mutex<State>,
    /// Counts what happened, so that a waiter who looks and then waits misses nothing.
    steps: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct State {
    entries: Vec<Arc<Entry>>,
    /// When the last page that arrived was asked for.
    asked: Option<Instant>,
    folder: Option<FileInfo>,
    flat: bool,
    outcome: Option<Result<(Arc<Listing>, Instant), api::Error>>,
}

/// What a listing has for a reader.
#[derive(Debug)]
pub enum Reached {
    /// Entries from where the reader is, a few at most, and when they were asked for.
    Some(Vec<Arc<Entry>>, Instant),
    /// All of it, and when its last page was asked for.
    All(Arc<Listing>, Instant),
}

impl Progress {
    pub(super) fn new(flat: bool) -> Self {
        let state = State {
            flat,
            ..State::default()
        };
        Self {
            state: Mutex::new(state),
            steps: watch::Sender::new(0),
        }
    }

    pub(super) fn page(&self, page: &Page, new: Vec<Arc<Entry>>, asked: Instant) {
        let mut state = self.state.lock().unwrap();
        state.entries.extend(new);
        state.asked = Some(asked);
        state.flat |= page.single_file;
        if state.folder.is_none() {
            state.folder = Some(page.folder.clone());
        }
        drop(state);
        self.steps.send_modify(|steps| *steps += 1);
    }

    pub(super) fn finish(&self, outcome: Result<(Arc<Listing>, Instant), api::Error>) {
        let mut state = self.state.lock().unwrap();
        state.outcome = Some(outcome);
        state.entries = Vec::new();
        drop(state);
        self.steps.send_modify(|steps| *steps += 1);
    }

    /// The server answered something that brought no entries: who waits need not lose patience.
    pub(super) fn answered(&self) {
        self.steps.send_modify(|steps| *steps += 1);
    }

    pub(super) fn early(&self) -> Vec<Arc<Entry>> {
        self.state.lock().unwrap().entries.clone()
    }

    pub(super) fn is_flat(&self) -> bool {
        self.state.lock().unwrap().flat
    }

    /// How the listing ended, if it did.
    pub fn ended(&self) -> Option<Result<(Arc<Listing>, Instant), api::Error>> {
        self.state.lock().unwrap().outcome.clone()
    }

    /// Whether the `index`th entry is there already, or the whole listing.
    pub fn has(&self, index: usize) -> bool {
        let state = self.state.lock().unwrap();
        index < state.entries.len() || matches!(state.outcome, Some(Ok(_)))
    }

    /// What the first page said of the folder itself; waits for that page.
    pub async fn folder(&self, timeout: Duration) -> Result<FileInfo, api::Error> {
        self.wait(timeout, |state| match (&state.folder, &state.outcome) {
            (Some(folder), _) => Some(Ok(folder.clone())),
            (None, Some(Err(error))) => Some(Err(error.clone())),
            (None, _) => None,
        })
        .await
    }

    /// The complete listing, and when its last page was asked for.
    pub async fn complete(&self, timeout: Duration) -> Result<(Arc<Listing>, Instant), api::Error> {
        self.wait(timeout, |state| state.outcome.clone()).await
    }

    /// Entries from the `index`th on, at most `count`, or all of it; waits until one is there or the listing has ended.
    pub async fn entries(
        &self,
        index: usize,
        count: usize,
        timeout: Duration,
    ) -> Result<Reached, api::Error> {
        self.wait(timeout, |state| match &state.outcome {
            Some(Ok((listing, asked))) => Some(Ok(Reached::All(Arc::clone(listing), *asked))),
            Some(Err(error)) => Some(Err(error.clone())),
            None => {
                let there = state
                    .entries
                    .get(index..)
                    .filter(|there| !there.is_empty())?;
                let there = there[..there.len().min(count)].to_vec();
                Some(Ok(Reached::Some(there, state.asked?)))
            }
        })
        .await
    }

    /// What `look` finds, as soon as it finds something. Gives up when no answer comes for as long as `timeout`.
    async fn wait<T>(
        &self,
        timeout: Duration,
        look: impl Fn(&State) -> Option<Result<T, api::Error>>,
    ) -> Result<T, api::Error> {
        if let Some(found) = look(&self.state.lock().unwrap()) {
            return found;
        }
        let mut steps = self.steps.subscribe();
        loop {
            if let Some(found) = look(&self.state.lock().unwrap()) {
                return found;
            }
            match asker::within(timeout, steps.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return Err(api::Error::Timeout(timeout)),
                Err(why) => return Err(api::Error::gave_up(why, timeout)),
            }
        }
    }
}
