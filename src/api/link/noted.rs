//! How the last calls went, for `status`, and for the patience of the next ones with a server that is down.

use std::sync::Mutex;
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use crate::api::{Error, UNCLASSIFIED};
use crate::reach::Reach;

/// How long a failure is news; a mount of weeks is not in trouble for what failed in its first hour.
const NEWS: Duration = Duration::from_secs(600);

/// How long the pace of the server is.
const PACE_NEWS: Duration = Duration::from_secs(60);

/// What is noted.
#[derive(Debug, Default)]
pub(in crate::api) struct Noted {
    last: Mutex<Last>,
    /// Down from a call that used up its tries to the next that succeeds.
    pub(in crate::api) reach: Reach,
}

#[derive(Debug, Default)]
struct Last {
    unreachable_since: Option<SystemTime>,
    failing: Option<Failing>,
    error: Option<(Instant, String)>,
    /// How long small answers take, the last ones most, and when the last one came.
    pace: Option<(Instant, Duration)>,
}

/// A server that answers by its own word that it is in trouble.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Failing {
    /// Since when it said nothing else.
    pub since: SystemTime,
    /// Its last code.
    pub code: i64,
}

impl Last {
    fn failed(&mut self, error: &Error) {
        self.error = Some((Instant::now(), error.to_string()));
    }

    /// The server gave an answer of its own.
    fn reached(&mut self) {
        self.unreachable_since = None;
    }

    /// It gave one of trouble.
    fn failing(&mut self, code: i64) {
        let since = self
            .failing
            .map_or_else(SystemTime::now, |failing| failing.since);
        self.failing = Some(Failing { since, code });
    }
}

impl Noted {
    /// Since when nothing of the server's came through, if the last call failed so.
    pub(in crate::api) fn unreachable_since(&self) -> Option<SystemTime> {
        self.last.lock().unwrap().unreachable_since
    }

    /// Since when all that the server answers is that it is in trouble.
    pub(in crate::api) fn failing(&self) -> Option<Failing> {
        self.last.lock().unwrap().failing
    }

    /// How long it takes the server to answer, while that is news.
    pub(in crate::api) fn pace(&self) -> Option<Duration> {
        let (at, pace) = self.last.lock().unwrap().pace?;
        (at.elapsed() < PACE_NEWS).then_some(pace)
    }

    /// A small answer took so long.
    pub(in crate::api) fn took(&self, time: Duration) {
        let mut last = self.last.lock().unwrap();
        let pace = match last.pace {
            Some((at, pace)) if at.elapsed() < PACE_NEWS => pace * 3 / 4 + time / 4,
            _ => time / 4,
        };
        last.pace = Some((Instant::now(), pace));
    }

    /// What failed last, while it is news.
    pub(in crate::api) fn last_error(&self) -> Option<String> {
        let last = self.last.lock().unwrap();
        let (at, error) = last.error.as_ref()?;
        (at.elapsed() < NEWS).then(|| error.clone())
    }

    /// A call was answered as it should be. What is not asked as the account says nothing of how the server serves that.
    pub(in crate::api) fn success(&self, as_account: bool) {
        let mut last = self.last.lock().unwrap();
        last.reached();
        if as_account {
            last.failing = None;
        }
        drop(last);
        self.reach.set(true);
    }

    /// A call failed.
    pub(in crate::api) fn failure(&self, error: &Error) {
        let mut last = self.last.lock().unwrap();
        match error {
            // An answer of its own; a status of 500 and more may as well be a proxy's in front of it.
            Error::Trouble { code, .. } if !(500..600).contains(code) => {
                last.reached();
                // As often of a request that never can succeed.
                if *code != UNCLASSIFIED {
                    last.failing(*code);
                }
                last.failed(error);
            }
            Error::Transport { .. } | Error::Timeout(_) | Error::Trouble { .. } => {
                last.unreachable_since.get_or_insert(SystemTime::now());
                last.failed(error);
            }
            Error::SignedOut(_) | Error::Denied { .. } | Error::Refused { .. } => {
                last.reached();
                last.failing = None;
                last.failed(error);
                self.reach.set(true);
            }
            // Of our own making.
            Error::Local(_) | Error::Interrupted => {}
            _ => {
                last.reached();
                last.failing = None;
                self.reach.set(true);
            }
        }
    }

    /// A call ended with `error` after all of its tries.
    pub(in crate::api) fn gave_up(&self, error: &Error) {
        if error.is_of_the_link() {
            self.reach.set(false);
        }
    }

    /// Whether a call waited for the server in vain, and none has had an answer since.
    pub(in crate::api) fn is_known_down(&self) -> bool {
        self.reach.is_down()
    }

    /// Content could not be had, which says nothing of the server itself: a storage may be gone behind it.
    pub(in crate::api) fn no_content(&self, error: &Error) {
        if let Error::Transport { .. }
        | Error::Timeout(_)
        | Error::Trouble { .. }
        | Error::Refused { .. } = error
        {
            self.last.lock().unwrap().failed(error);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_failure_is_news_for_minutes_and_of_content_says_nothing_of_the_server() {
        let noted = Noted::default();
        noted.no_content(&Error::UrlExpired);
        assert_eq!(noted.last_error(), None, "that is everyday life");
        noted.no_content(&Error::transport("the store is gone"));
        assert_eq!(noted.last_error().as_deref(), Some("the store is gone"));
        assert_eq!(noted.unreachable_since(), None);
        tokio::time::advance(NEWS).await;
        assert_eq!(noted.last_error(), None);
    }
}
