//! The ordered end: nothing that was asked of the server is hung up on.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::api::Api;
use crate::mount::debts::Debts;
use crate::mount::signals::Signals;
use crate::mount::status::StatusSource;
use crate::systemd::Manager;
use crate::task::Task;

/// Longest that requests under way are waited for. A server on SQLite that is hung up on in the middle of one fails
/// its other users for up to 45 seconds, so this is longer.
pub(super) const DRAIN_MAX: Duration = Duration::from_secs(60);

/// How often the service manager is asked for more time, and how much.
const EXTENSION_PERIOD: Duration = Duration::from_secs(5);
const EXTENSION: Duration = Duration::from_secs(20);

/// How often the service manager hears how we are, where no watchdog wants it more often.
const STATUS_PERIOD: Duration = Duration::from_secs(30);

/// Every way to a server that was used, so that none is forgotten at the end, however early that comes.
#[derive(Default)]
pub(super) struct Draining(Mutex<Vec<Api>>);

impl Draining {
    pub(super) fn add(&self, api: &Api) {
        self.0.lock().unwrap().push(api.clone());
    }
}

/// Lets no request begin any more and waits for those under way, at most [`DRAIN_MAX`]. A signal does not shorten it, but is told what is
/// waited for.
pub(super) async fn drain(draining: &Draining, signals: &mut Signals, manager: &Manager) {
    let apis = std::mem::take(&mut *draining.0.lock().unwrap());
    let waiting = "ending: requests are still under way at the server";
    let began = Instant::now();
    let all = async {
        for api in &apis {
            api.close().await;
        }
    };
    let bounded = tokio::time::timeout(DRAIN_MAX, all);
    tokio::pin!(bounded);
    loop {
        tokio::select! {
            biased;
            done = &mut bounded => {
                if done.is_err() {
                    log::warn!("requests are still under way after {DRAIN_MAX:?}; the server may be slow to answer others for a while");
                }
                return;
            }
            signal = signals.next() => {
                let left = DRAIN_MAX.saturating_sub(began.elapsed());
                log::warn!("{signal}: {waiting}, and hanging up would hurt its other users; at most {} s more", left.as_secs());
            }
            never = async { manager.status(waiting); keep_waiting(manager).await } => match never {},
        }
    }
}

/// Asks the service manager for more time, again and again.
pub(super) async fn keep_waiting(manager: &Manager) -> Infallible {
    loop {
        tokio::time::sleep(EXTENSION_PERIOD).await;
        manager.extend_timeout(EXTENSION);
    }
}

/// As [`keep_waiting`], and tells what is still owed.
pub(super) async fn keep_delivering(manager: &Manager, debts: &Debts) -> Infallible {
    loop {
        if let Some(owed) = debts.in_short() {
            manager.status(&format!("ending: {owed}"));
        }
        tokio::time::sleep(EXTENSION_PERIOD).await;
        manager.extend_timeout(EXTENSION);
    }
}

/// Tells the service manager that we live, as often as its watchdog wants, and how we are and what is owed when that
/// changes. `well` is what it was told at the start.
pub(super) fn heartbeat(manager: Arc<Manager>, status: Arc<StatusSource>, well: String) -> Task {
    Task::spawn(async move {
        let watchdog = manager.watchdog_period();
        let period = watchdog.unwrap_or(STATUS_PERIOD).min(STATUS_PERIOD);
        let mut said = None;
        loop {
            tokio::time::sleep(period).await;
            if watchdog.is_some() {
                manager.alive();
            }
            let now = status.in_short();
            if now != said {
                manager.status(now.as_deref().unwrap_or(&well));
                said = now;
            }
        }
    })
}
