//! How long fetches wait for the disk.
//!
//! What comes faster than the disk takes it is kept only in part, and who reads it again has to fetch the rest. So a fetch
//! lets the disk catch up, but all of them together do that for a tenth of the time at most: a disk that is slower than
//! the link for long does not slow the reading.

use std::sync::Mutex;
use std::time::Duration;

use tokio::time::Instant;

use crate::cache::Cache;

/// The part of the time that may be spent waiting: one in so many.
const PART: u32 = 10;

/// Most that can be saved up: enough for a burst of a few hundred megabytes.
const LARGEST: Duration = Duration::from_millis(500);

/// The waiting of all fetches.
pub(super) struct DiskWait(Mutex<Patience>);

/// One fetch's, until this is dropped.
struct Waiting<'a>(&'a DiskWait);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.0.lock().unwrap().ends(Instant::now());
    }
}

impl DiskWait {
    pub(super) fn new(now: Instant) -> Self {
        Self(Mutex::new(Patience::new(now)))
    }

    /// Lets the disk catch up with what was fetched, for as long as that is worth it.
    pub(super) async fn spare(&self, cache: &Cache) {
        if !cache.is_behind() {
            return;
        }
        let longest = self.0.lock().unwrap().begins(Instant::now());
        let _waiting = Waiting(self);
        // What it has not taken by then is not kept.
        let _ = tokio::time::timeout(longest, cache.caught_up()).await;
    }
}

/// What may yet be waited: arithmetic only, instants come in.
#[derive(Debug)]
struct Patience {
    left: Duration,
    /// When `left` was right.
    at: Instant,
    waiting: usize,
}

impl Patience {
    fn new(now: Instant) -> Self {
        Self {
            left: LARGEST,
            at: now,
            waiting: 0,
        }
    }

    /// Somebody begins to wait: for so long at most. Must be followed by [`Patience::ends`].
    fn begins(&mut self, now: Instant) -> Duration {
        self.count(now);
        self.waiting += 1;
        self.left
    }

    /// Somebody waits no longer.
    fn ends(&mut self, now: Instant) {
        self.count(now);
        self.waiting -= 1;
    }

    /// Time goes by; those who wait side by side spend it once.
    fn count(&mut self, now: Instant) {
        let time = now.saturating_duration_since(self.at);
        self.at = self.at.max(now);
        self.left = match self.waiting {
            0 => (self.left + time / PART).min(LARGEST),
            _ => self.left.saturating_sub(time),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenth_of_the_time_is_spent_waiting_at_most() {
        let begun = Instant::now();
        let mut patience = Patience::new(begun);
        let (mut now, mut waited) = (begun, Duration::ZERO);
        while now < begun + Duration::from_secs(100) {
            let longest = patience.begins(now);
            now += longest;
            waited += longest;
            patience.ends(now);
            now += Duration::from_millis(1);
        }
        assert!(waited <= LARGEST + Duration::from_secs(10), "{waited:?}");
        assert!(waited >= Duration::from_secs(8), "{waited:?}");
    }

    #[test]
    fn who_waits_side_by_side_spends_the_time_once() {
        let begun = Instant::now();
        let mut patience = Patience::new(begun);
        for _ in 0..4 {
            assert_eq!(patience.begins(begun), LARGEST);
        }
        let now = begun + LARGEST / 2;
        for _ in 0..4 {
            patience.ends(now);
        }
        assert_eq!(patience.begins(now), LARGEST / 2);
    }

    #[test]
    fn a_long_rest_saves_up_no_more_than_a_burst() {
        let begun = Instant::now();
        let mut patience = Patience::new(begun);
        assert_eq!(patience.begins(begun + Duration::from_secs(3600)), LARGEST);
    }
}
