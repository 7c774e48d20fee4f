//! A line of limited bandwidth, which all who send over it take in turns.
//!
//! It keeps until when it is taken, and nothing of who took it. It never waits itself.

use std::sync::Mutex;
use std::time::Duration;

use tokio::time::Instant;

/// By how much a sender who comes late is as good as in time. Timers are exact to a millisecond and threads wake when
/// they can; without it a single sender, who waits for each piece, would get much less than the line has.
const LATENESS: Duration = Duration::from_millis(5);

/// When the line is free again.
#[derive(Debug, Default)]
pub(crate) struct Line(Mutex<Option<Instant>>);

impl Line {
    /// Takes the line for `bytes` at `rate` bytes a second; gives when the last of them is through.
    pub(crate) fn take(&self, bytes: u64, rate: u64, now: Instant) -> Instant {
        let mut free_at = self.0.lock().unwrap();
        let soonest = now.checked_sub(LATENESS).unwrap_or(now);
        let begin = free_at.map_or(now, |at| at.max(soonest));
        let end = begin + Duration::from_secs_f64(bytes as f64 / rate.max(1) as f64);
        *free_at = Some(end);
        end
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn who_comes_while_it_is_taken_is_next() {
        let (line, now) = (Line::default(), Instant::now());
        assert_eq!(line.take(10, 1000, now), now + 10 * MS);
        assert_eq!(line.take(5, 1000, now + MS), now + 15 * MS);
    }

    #[test]
    fn a_little_late_is_in_time_and_a_pause_saves_nothing_up() {
        let (line, now) = (Line::default(), Instant::now());
        line.take(10, 1000, now);
        assert_eq!(line.take(10, 1000, now + 12 * MS), now + 20 * MS);
        let later = now + Duration::from_secs(1);
        assert_eq!(line.take(10, 1000, later), later + 10 * MS - LATENESS);
    }
}
