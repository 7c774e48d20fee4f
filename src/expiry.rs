//! Until when something may be believed, by the clock of whoever set the limit.
//!
//! Signed URLs and tokens expire by the *server's* clock, which may be hours away from ours. [`ServerClock`]
//! learns it from the `Date` header of every answer and carries it on with the monotonic clock, so a jump of
//! the local wall clock changes nothing. Instants come in as arguments: nothing here asks for the time.

use std::sync::Mutex;
use std::time::{Duration, Instant, SystemTime};

/// The server's wall clock as its answers show it.
#[derive(Debug, Default)]
pub struct ServerClock {
    seen: Mutex<Option<Seen>>,
}

#[derive(Debug, Clone, Copy)]
struct Seen {
    at: Instant,
    server_time: SystemTime,
}

impl ServerClock {
    /// A clock that has not met its server yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Notes that an answer which arrived at `at` carried `server_time` in its `Date` header.
    pub fn observe(&self, at: Instant, server_time: SystemTime) {
        *self.seen.lock().unwrap() = Some(Seen { at, server_time });
    }

    /// The server's time at the instant `at`; before the first answer, `local`, our own wall clock.
    pub fn now(&self, at: Instant, local: SystemTime) -> SystemTime {
        match *self.seen.lock().unwrap() {
            Some(seen) => seen.server_time + at.saturating_duration_since(seen.at),
            None => local,
        }
    }

    /// How far the server's clock is ahead of `local` (first) or behind it (second); zero where unknown.
    pub fn skew(&self, at: Instant, local: SystemTime) -> (Duration, Duration) {
        let server = self.now(at, local);
        match server.duration_since(local) {
            Ok(ahead) => (ahead, Duration::ZERO),
            Err(behind) => (Duration::ZERO, behind.duration()),
        }
    }
}

/// A moment, by the server's clock, after which something is no longer accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Expiry(SystemTime);

impl Expiry {
    /// Expires at `moment`.
    pub fn at(moment: SystemTime) -> Self {
        Self(moment)
    }

    /// The moment itself.
    pub fn moment(self) -> SystemTime {
        self.0
    }

    /// Whether, at the server's time `server_now`, less than `margin` is left.
    pub fn is_near(self, server_now: SystemTime, margin: Duration) -> bool {
        match self.0.duration_since(server_now) {
            Ok(left) => left <= margin,
            Err(_) => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EPOCH: SystemTime = SystemTime::UNIX_EPOCH;

    #[test]
    fn the_servers_time_runs_on_from_its_last_answer_whatever_the_local_clock_does() {
        let clock = ServerClock::new();
        let start = Instant::now();
        clock.observe(start, EPOCH + Duration::from_secs(1000));
        let later = start + Duration::from_secs(5);
        assert_eq!(clock.now(later, EPOCH), EPOCH + Duration::from_secs(1005));
    }

    #[test]
    fn before_the_first_answer_our_own_clock_counts() {
        let local = EPOCH + Duration::from_secs(7);
        assert_eq!(ServerClock::new().now(Instant::now(), local), local);
    }

    #[test]
    fn an_expiry_is_near_within_its_margin_and_after_it() {
        let expiry = Expiry::at(EPOCH + Duration::from_secs(100));
        let margin = Duration::from_secs(60);
        assert!(!expiry.is_near(EPOCH + Duration::from_secs(39), margin));
        assert!(expiry.is_near(EPOCH + Duration::from_secs(40), margin));
        assert!(expiry.is_near(EPOCH + Duration::from_secs(500), margin));
    }
}
