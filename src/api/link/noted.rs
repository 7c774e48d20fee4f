//! How the last calls went, for `status`, and for the patience of the next ones with a server that is down.

use std::sync::Mutex;
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use crate::api::Error;

/// How long a failure is news; a mount of weeks is not in trouble for what failed in its first hour.
const NEWS: Duration = Duration::from_secs(600);

/// What is noted.
#[derive(Debug, Default)]
pub(in crate::api) struct Noted(Mutex<Last>);

#[derive(Debug, Default)]
struct Last {
    unreachable_since: Option<SystemTime>,
    error: Option<(Instant, String)>,
    /// A call used up its tries, and none has succeeded since.
    known_down: bool,
}

impl Last {
    fn failed(&mut self, error: &Error) {
        self.error = Some((Instant::now(), error.to_string()));
    }

    /// The server gave an answer of its own.
    fn reached(&mut self) {
        self.unreachable_since = None;
        self.known_down = false;
    }
}

impl Noted {
    /// Since when nothing of the server's came through, if the last call failed so.
    pub(in crate::api) fn unreachable_since(&self) -> Option<SystemTime> {
        self.0.lock().unwrap().unreachable_since
    }

    /// What failed last, while it is news.
    pub(in crate::api) fn last_error(&self) -> Option<String> {
        let last = self.0.lock().unwrap();
        let (at, error) = last.error.as_ref()?;
        (at.elapsed() < NEWS).then(|| error.clone())
    }

    /// A call was answered as it should be.
    pub(in crate::api) fn success(&self) {
        self.0.lock().unwrap().reached();
    }

    /// A call failed.
    pub(in crate::api) fn failure(&self, error: &Error) {
        let mut last = self.0.lock().unwrap();
        match error {
            Error::Transport { .. } | Error::Timeout(_) | Error::Trouble { .. } => {
                last.unreachable_since.get_or_insert(SystemTime::now());
                last.failed(error);
            }
            Error::SignedOut(_) | Error::Denied { .. } | Error::Refused { .. } => {
                last.reached();
                last.failed(error);
            }
            // Of our own making.
            Error::Local(_) | Error::Interrupted => {}
            _ => last.reached(),
        }
    }

    /// A call ended with `error` after all of its tries.
    pub(in crate::api) fn gave_up(&self, error: &Error) {
        let down = match error {
            // As often a request that never can succeed as a server in trouble.
            Error::Trouble { code: -1, .. } => false,
            Error::Transport { .. } | Error::Timeout(_) | Error::Trouble { .. } => true,
            _ => false,
        };
        self.0.lock().unwrap().known_down |= down;
    }

    /// Whether a call waited for the server in vain, and none has had an answer since.
    pub(in crate::api) fn is_known_down(&self) -> bool {
        self.0.lock().unwrap().known_down
    }

    /// Content could not be had, which says nothing of the server itself: a storage may be gone behind it.
    pub(in crate::api) fn no_content(&self, error: &Error) {
        if let Error::Transport { .. }
        | Error::Timeout(_)
        | Error::Trouble { .. }
        | Error::Refused { .. } = error
        {
            self.0.lock().unwrap().failed(error);
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
