//! How fast content may come, or go: so many bytes a second each, over all connections.
//!
//! The limit is a line on which every piece lies for as long as its bytes take, one behind the other, in the order in
//! which they arrived. Pieces are small, and each body has one on the line at a time, so many bodies share it evenly and a
//! new one waits for one piece of each of the others. Time in which nobody took anything is no credit. What waits here is
//! not read from its connection meanwhile, so TCP slows the sender down, or not handed to it. Arithmetic only: sleeps nowhere.

use std::sync::Mutex;
use std::time::Duration;

use tokio::time::Instant;

/// Pieces a second that one body is cut into where it has the line for itself, until they would be larger than
/// [`LARGEST_PIECE_BYTES`].
const PIECES_A_SECOND: u64 = 64;
/// Larger pieces would save nothing.
const LARGEST_PIECE_BYTES: u64 = 64 << 10;
/// A timer wakes this late at most where all is well; without forgiveness for it a fast limit would never be reached.
const LATENESS: Duration = Duration::from_millis(10);

/// A limit of bytes a second, and how far it is used up.
pub(super) struct Pace {
    bytes_a_second: u64,
    /// When the last piece on the line is through; the past where it is free.
    busy_until: Mutex<Instant>,
}

impl Pace {
    /// A free line; none where there is no limit.
    pub(super) fn new(bytes_a_second: u64, now: Instant) -> Option<Self> {
        (bytes_a_second > 0).then(|| Self {
            bytes_a_second,
            busy_until: Mutex::new(now),
        })
    }

    /// The size of the pieces that bodies are to be cut into, in bytes; at least 1.
    pub(super) fn piece_bytes(&self) -> usize {
        let piece = self.bytes_a_second / PIECES_A_SECOND;
        // At most 64 KiB.
        piece.clamp(1, LARGEST_PIECE_BYTES) as usize
    }

    /// Puts `bytes`, which are there by `now`, behind all others; when they may be handed on.
    pub(super) fn take(&self, bytes: usize, now: Instant) -> Instant {
        let nanos = bytes as u128 * 1_000_000_000 / u128::from(self.bytes_a_second);
        let takes = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
        let mut busy_until = self.busy_until.lock().unwrap();
        let free_since = now.checked_sub(LATENESS).unwrap_or(now);
        let through = (*busy_until).max(free_since).checked_add(takes);
        // A piece that takes longer than clocks go is not one of ours.
        *busy_until = through.unwrap_or(*busy_until);
        *busy_until
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn so_many_bytes_take_so_long_however_they_are_cut() {
        let start = Instant::now();
        for (bytes_a_second, piece) in [(1_000, 1), (1_000, 999), (1_000_000, 16_384), (3, 1)] {
            let pace = Pace::new(bytes_a_second, start).unwrap();
            let mut now = start;
            for _ in 0..3 * bytes_a_second / piece {
                now = pace.take(piece as usize, now);
            }
            let took = now - start;
            let exact = (3 * bytes_a_second / piece * piece) as f64 / bytes_a_second as f64;
            let difference = (took.as_secs_f64() - exact).abs();
            assert!(difference < 0.011, "{bytes_a_second}/{piece}: {took:?}");
        }
    }

    #[test]
    fn time_in_which_nothing_came_is_no_credit() {
        let start = Instant::now();
        let pace = Pace::new(1000, start).unwrap();
        let later = start + 100 * SECOND;
        let through = pace.take(1000, later);
        assert!(through >= later + SECOND - LATENESS, "{through:?}");
    }

    #[test]
    fn a_timer_that_wakes_late_is_made_up_for() {
        let start = Instant::now();
        let pace = Pace::new(1_000_000, start).unwrap();
        let late = Duration::from_millis(2);
        let mut now = start;
        for _ in 0..1000 {
            now = pace.take(pace.piece_bytes(), now) + late;
        }
        let exact = Duration::from_secs_f64(1000.0 * pace.piece_bytes() as f64 / 1e6);
        assert!(now - start < exact + 2 * LATENESS, "{:?}", now - start);
    }

    #[test]
    fn who_comes_last_waits_for_one_piece_of_each_of_the_others() {
        let start = Instant::now();
        let pace = Pace::new(1 << 20, start).unwrap();
        for _ in 0..16 {
            pace.take(pace.piece_bytes(), start);
        }
        let waits = pace.take(pace.piece_bytes(), start) - start;
        assert!(waits <= SECOND / 3, "{waits:?}");
    }

    #[test]
    fn no_limit_is_none_and_the_lowest_has_pieces_of_a_byte() {
        let now = Instant::now();
        assert!(Pace::new(0, now).is_none());
        assert_eq!(Pace::new(1, now).unwrap().piece_bytes(), 1);
        assert_eq!(Pace::new(u64::MAX, now).unwrap().piece_bytes(), 64 << 10);
    }
}
