//! Space: what statfs(2) shows, from the account's quota.
//!
//! Never waits for a server that is slow or gone, but for the first answer: after that the last one is shown while a
//! new one is fetched. Where there is no quota to be had (a share's owner does not tell, an old server does not let
//! applications ask), much free space is shown, so that no program refuses to work.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::task::AbortHandle;

use crate::api::Api;
use crate::listing::Asked;
use crate::model::Capacity;
use crate::uri::FileSystem;

use super::Space;

/// For so long an answer, or that there was none, is not asked for again (→ api part 1 §15.1).
const TTL: Duration = Duration::from_secs(30);

/// The first statfs(2) waits no longer than this.
const PATIENCE: Duration = Duration::from_secs(2);

/// What is shown where nothing is known: 1 PiB, all of it free.
const UNKNOWN: Space = Space {
    total_bytes: 1 << 50,
    free_bytes: 1 << 50,
};

/// Asks for the account's storage.
pub(super) type AskCapacity = Arc<dyn Fn() -> Asked<Capacity> + Send + Sync>;

/// The quota, as it was last heard of.
pub(super) struct Quota {
    /// None where there is none to ask for.
    capacity: Option<AskCapacity>,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    space: Option<Space>,
    asked: Option<Instant>,
    /// The question under way; ended with its owner.
    asking: Option<AbortHandle>,
}

impl Drop for Quota {
    fn drop(&mut self) {
        if let Some(task) = self.state.lock().unwrap().asking.take() {
            task.abort();
        }
    }
}

impl Quota {
    /// Asks `api`, unless what is mounted belongs to somebody else; the first question is sent at once.
    pub(super) fn of(api: &Api, file_system: &FileSystem) -> Self {
        let own = !matches!(file_system, FileSystem::Share { .. });
        let api = api.clone();
        let ask: AskCapacity = Arc::new(move || {
            let api = api.clone();
            Box::pin(async move { api.capacity().await })
        });
        Self::new(own.then_some(ask))
    }

    /// Asks by `capacity`, if there is anything to ask for. Must be called within a runtime.
    pub(super) fn new(capacity: Option<AskCapacity>) -> Self {
        let quota = Self {
            capacity,
            state: Arc::default(),
        };
        quota.refresh(Instant::now());
        quota
    }

    /// The space as far as it is known.
    pub(super) async fn space(&self) -> Space {
        self.refresh(Instant::now());
        let (known, asking) = {
            let state = self.state.lock().unwrap();
            (state.space, state.asking.is_some())
        };
        match known {
            Some(space) => space,
            None if asking => self.first().await,
            None => UNKNOWN,
        }
    }

    async fn first(&self) -> Space {
        let Some(capacity) = &self.capacity else {
            return UNKNOWN;
        };
        let answer = tokio::time::timeout(PATIENCE, capacity()).await;
        let space = answer.ok().and_then(Result::ok).map(space);
        let mut state = self.state.lock().unwrap();
        state.space = state.space.or(space);
        state.space.unwrap_or(UNKNOWN)
    }

    /// Asks again in the background if the last answer is old and nobody is asking.
    fn refresh(&self, now: Instant) {
        let Some(capacity) = &self.capacity else {
            return;
        };
        let mut state = self.state.lock().unwrap();
        let fresh = state
            .asked
            .is_some_and(|asked| now.saturating_duration_since(asked) < TTL);
        if fresh || state.asking.is_some() {
            return;
        }
        state.asked = Some(now);
        let (answer, kept) = (capacity(), Arc::clone(&self.state));
        // The state is locked until the task is noted in it, so its end cannot be missed.
        let task = tokio::spawn(async move {
            let answer = answer.await;
            let mut state = kept.lock().unwrap();
            state.asking = None;
            match answer {
                Ok(capacity) => state.space = Some(space(capacity)),
                Err(error) => log::debug!("the quota cannot be had: {error}"),
            }
        });
        state.asking = Some(task.abort_handle());
    }
}

/// An account may hold more than it is allowed to: then nothing is free.
fn space(capacity: Capacity) -> Space {
    Space {
        total_bytes: capacity.total_bytes.max(capacity.used_bytes),
        free_bytes: capacity.total_bytes.saturating_sub(capacity.used_bytes),
    }
}
