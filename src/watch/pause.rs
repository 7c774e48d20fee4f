//! When a stream that ended is tried again, and as whom. Arithmetic only.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use crate::api::ClientId;

/// Before the first try after a stream that stood: enough that not all clients of a server that restarts come at once.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// No pause grows beyond this. Folders are looked at by themselves meanwhile, so nobody waits for it.
const LONGEST_PAUSE: Duration = Duration::from_secs(120);
/// After a server said that it has no events: it may be a newer one some day.
const UNSUPPORTED_PAUSE: Duration = Duration::from_secs(3600);
/// A stream that stood so long was none of those that always break.
const STOOD: Duration = Duration::from_secs(60);
/// After this the server has noticed that a connection is dead: it sends something each 30 s, and TCP gives up sending
/// after about 15 minutes (tcp_retries2 in tcp(7)).
const RESTED: Duration = Duration::from_secs(1800);

/// The pause before try number `attempt` (0 is the first) since a stream stood. `random` is a number from 0 to 1.
pub(super) fn pause(attempt: u32, random: f64) -> Duration {
    let full = FIRST_PAUSE.saturating_mul(1 << attempt.min(16));
    spread(full.min(LONGEST_PAUSE), random)
}

/// The pause where there are no events to be had.
pub(super) fn long_pause(random: f64) -> Duration {
    spread(UNSUPPORTED_PAUSE, random)
}

/// Somewhere in the upper half of `full`.
fn spread(full: Duration, random: f64) -> Duration {
    full.mul_f64(0.5 + random.clamp(0.0, 1.0) / 2.0)
}

/// How many tries there were since a stream stood.
#[derive(Debug, Default)]
pub(super) struct Attempts(u32);

impl Attempts {
    /// How long to wait now that a try is over at `now`; it brought a stream at `began`, if it did.
    pub(super) fn over(&mut self, began: Option<Instant>, now: Instant, random: f64) -> Duration {
        if began.is_some_and(|began| now.saturating_duration_since(began) >= STOOD) {
            self.0 = 0;
        }
        let pause = pause(self.0, random);
        self.0 = self.0.saturating_add(1);
        pause
    }
}

/// The ids as which one follows.
///
/// Of a stream that did not end in good order the server may keep its end for long, and would mute whoever comes under the
/// same id before it has noticed (→ api part 1 §13.5). So such an id rests; another is taken meanwhile. Ids are taken again,
/// and not made anew each time, because the server keeps two weeks of events for each that it knows.
#[derive(Debug, Default)]
pub(super) struct Ids(VecDeque<(ClientId, Option<Instant>)>);

impl Ids {
    /// One that no connection of the server can have.
    pub(super) fn take(&mut self, now: Instant) -> ClientId {
        let is_rested =
            |at: &Option<Instant>| at.is_none_or(|at| now.saturating_duration_since(at) >= RESTED);
        let rested = self.0.iter().position(|(_, at)| is_rested(at));
        match rested.and_then(|index| self.0.remove(index)) {
            Some((id, _)) => id,
            None => ClientId::random(),
        }
    }

    /// Its stream is over since `now`; `is_clean` where the server itself ended it, or never had it.
    pub(super) fn put_back(&mut self, id: ClientId, is_clean: bool, now: Instant) {
        match is_clean {
            true => self.0.push_front((id, None)),
            false => self.0.push_back((id, Some(now))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(start: Instant, seconds: u64) -> Instant {
        start + Duration::from_secs(seconds)
    }

    #[test]
    fn pauses_double_up_to_two_minutes_and_are_spread() {
        let seconds = |attempt| pause(attempt, 1.0).as_secs();
        let pauses: Vec<_> = (0..10).map(seconds).collect();
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 64, 120, 120, 120]);
        assert_eq!(seconds(u32::MAX), 120);
        assert_eq!(pause(3, 0.0), Duration::from_secs(4));
        assert_eq!(pause(3, 0.5), Duration::from_secs(6));
        assert!((1800..=3600).contains(&long_pause(0.3).as_secs()));
    }

    #[test]
    fn a_stream_that_stood_begins_the_pauses_anew_and_one_that_broke_at_once_does_not() {
        let start = Instant::now();
        let mut attempts = Attempts::default();
        let mut over = |began, now| attempts.over(began, after(start, now), 1.0).as_secs();
        assert_eq!(over(None, 0), 1);
        assert_eq!(over(None, 1), 2);
        assert_eq!(over(Some(start), 59), 4);
        assert_eq!(over(Some(start), 60), 1);
        assert_eq!(over(None, 61), 2);
    }

    #[test]
    fn an_id_is_taken_again_at_once_only_if_no_connection_can_have_it() {
        let start = Instant::now();
        let mut ids = Ids::default();
        let clean = ids.take(start);
        ids.put_back(clean.clone(), true, start);
        assert_eq!(ids.take(start), clean);
        ids.put_back(clean.clone(), false, start);
        let other = ids.take(after(start, 1799));
        assert_ne!(other, clean);
        ids.put_back(other.clone(), false, after(start, 1799));
        assert_eq!(ids.take(after(start, 1800)), clean, "it has rested");
        assert_ne!(ids.take(after(start, 1801)), other);
    }

    #[test]
    fn a_server_that_breaks_every_stream_gets_to_know_few_ids() {
        let start = Instant::now();
        let (mut ids, mut attempts) = (Ids::default(), Attempts::default());
        let mut known = std::collections::HashSet::new();
        let mut now = start;
        while now < after(start, 86_400) {
            let id = ids.take(now);
            known.insert(id.clone());
            ids.put_back(id, false, now);
            now += attempts.over(Some(now), now, 0.0);
        }
        assert!(known.len() < 40, "{}", known.len());
    }
}
