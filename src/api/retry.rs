//! How long a caller waits, and when a request that failed is sent once more.
//!
//! Arithmetic and the caller's patience only: sends nothing. A request is repeated only after its predecessor
//! ended, only where repeating changes nothing on the server or the predecessor did nothing there, and only while the
//! caller still waits.

use std::future::Future;
use std::time::Duration;

use tokio::time::Instant;

use super::{Error, UNCLASSIFIED};
use crate::asker;

/// Delay before the first repetition; the next ones double it.
const FIRST_DELAY: Duration = Duration::from_millis(200);
/// No delay grows beyond this, so that a server which comes back is noticed soon.
const LONGEST_DELAY: Duration = Duration::from_secs(5);
/// How long a link that answers nothing, or nonsense, is tried again: a server restarts within this, and a
/// network that is gone should be said soon.
const TRANSPORT_BUDGET: Duration = Duration::from_secs(6);
/// How long the unclassified code -1 is tried again: often a database that was interrupted, as often a request
/// that never can succeed (→ api part 1 §1.2).
const UNCLASSIFIED_BUDGET: Duration = Duration::from_secs(2);
/// The same where an earlier call already waited in vain and none has succeeded since: time for one repetition,
/// for a connection that the server's restart left half open, and not for another long wait.
const KNOWN_DOWN_BUDGET: Duration = Duration::from_millis(300);

/// Until when a caller waits; bytes that arrive extend it.
#[derive(Debug, Clone)]
pub(super) struct Patience {
    timeout: Duration,
    deadline: Instant,
}

impl Patience {
    /// Waits for `timeout` from `now`, or as long as who asked waits for all of it.
    pub(super) fn new(timeout: Duration, now: Instant) -> Self {
        Self {
            timeout,
            deadline: asker::no_later_than(now + timeout),
        }
    }

    /// Bytes came at `now`.
    pub(super) fn extend(&mut self, now: Instant) {
        self.deadline = asker::no_later_than(now + self.timeout);
    }

    /// What is left of it at `now`.
    pub(super) fn left(&self, now: Instant) -> Duration {
        self.deadline.saturating_duration_since(now)
    }

    /// Waits for `future`, at most until patience runs out; then the future is dropped, which must be harmless.
    pub(super) async fn wait<F: Future>(&self, future: F) -> Result<F::Output, Error> {
        asker::until(self.deadline, future)
            .await
            .map_err(|why| Error::gave_up(why, self.timeout))
    }
}

/// Why one try failed, with what decides about another one.
#[derive(Debug)]
pub(super) struct Failed {
    /// What the caller is told if there is no other try.
    pub(super) error: Error,
    /// When the server wants to be asked again.
    pub(super) retry_after: Option<Duration>,
}

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        Self {
            error,
            retry_after: None,
        }
    }
}

/// The delays between the tries of one call.
#[derive(Debug)]
pub(super) struct Backoff {
    began: Instant,
    next: Duration,
    limit: Duration,
}

impl Backoff {
    /// Before the first try, at `now`; `known_down` where an earlier call waited in vain already.
    pub(super) fn new(now: Instant, known_down: bool) -> Self {
        Self {
            began: now,
            next: FIRST_DELAY,
            limit: if known_down {
                KNOWN_DOWN_BUDGET
            } else {
                Duration::MAX
            },
        }
    }

    /// How long to wait before the next try; none: give up. `jitter` is a number from 0 to 1 that spreads
    /// clients which failed together.
    pub(super) fn delay(
        &mut self,
        failed: &Failed,
        patience: &Patience,
        now: Instant,
        jitter: f64,
    ) -> Option<Duration> {
        let budget = match &failed.error {
            Error::Transport { .. } => TRANSPORT_BUDGET,
            Error::Trouble {
                code: UNCLASSIFIED, ..
            } => UNCLASSIFIED_BUDGET,
            Error::Trouble { .. } => Duration::MAX,
            _ => return None,
        };
        let budget = budget.min(self.limit);
        let delay = self.next.mul_f64(0.5 + jitter.clamp(0.0, 1.0) / 2.0);
        let delay = delay.max(failed.retry_after.unwrap_or_default());
        self.next = (self.next * 2).min(LONGEST_DELAY);
        let asked_to_wait = failed.retry_after.is_some() && self.limit == Duration::MAX;
        let in_budget = asked_to_wait || (now - self.began).saturating_add(delay) <= budget;
        (in_budget && delay < patience.left(now)).then_some(delay)
    }
}

/// How long what is in the way for a moment is left alone, after so many tries.
pub(super) fn moment(tries: u32, jitter: f64) -> Duration {
    const FIRST: Duration = Duration::from_millis(100);
    let doubled = FIRST.saturating_mul(1 << tries.min(6));
    doubled.mul_f64(0.5 + jitter.clamp(0.0, 1.0) / 2.0)
}

/// A number from 0 to 1.
pub(super) fn jitter() -> f64 {
    f64::from(getrandom::u32().unwrap_or(u32::MAX / 2)) / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed(error: Error, retry_after: Option<u64>) -> Failed {
        Failed {
            error,
            retry_after: retry_after.map(Duration::from_secs),
        }
    }

    fn trouble(code: i64) -> Error {
        Error::Trouble {
            code,
            said: String::new(),
        }
    }

    #[test]
    fn delays_grow_and_end_with_the_callers_patience() {
        let start = Instant::now();
        let patience = Patience::new(Duration::from_secs(30), start);
        let mut backoff = Backoff::new(start, false);
        let mut now = start;
        let mut delays = Vec::new();
        while let Some(delay) = backoff.delay(&failed(trouble(503), None), &patience, now, 1.0) {
            delays.push(delay.as_millis());
            now += delay;
        }
        assert_eq!(&delays[..6], [200, 400, 800, 1600, 3200, 5000]);
        assert!(now < start + Duration::from_secs(30));
    }

    #[test]
    fn the_servers_wish_is_honoured_up_to_the_callers_patience() {
        let now = Instant::now();
        let patience = Patience::new(Duration::from_secs(30), now);
        let delay = |seconds| {
            Backoff::new(now, false).delay(
                &failed(trouble(429), Some(seconds)),
                &patience,
                now,
                0.0,
            )
        };
        assert_eq!(delay(7), Some(Duration::from_secs(7)));
        assert_eq!(delay(31), None);
    }

    #[test]
    fn what_the_server_decided_is_not_asked_again() {
        let now = Instant::now();
        let patience = Patience::new(Duration::from_secs(30), now);
        for error in [
            Error::NotFound,
            Error::EntityGone,
            Error::UrlExpired,
            Error::Timeout(Duration::ZERO),
        ] {
            let failed = failed(error, None);
            assert_eq!(
                Backoff::new(now, false).delay(&failed, &patience, now, 0.5),
                None
            );
        }
    }

    #[test]
    fn a_dead_link_is_given_up_before_a_server_in_trouble() {
        let start = Instant::now();
        let patience = Patience::new(Duration::from_secs(30), start);
        let later = start + Duration::from_secs(10);
        let mut backoff = Backoff::new(start, false);
        let dead = failed(Error::transport("cut"), None);
        assert_eq!(backoff.delay(&dead, &patience, later, 0.5), None);
        let busy = failed(trouble(503), None);
        assert!(backoff.delay(&busy, &patience, later, 0.5).is_some());
    }
}
