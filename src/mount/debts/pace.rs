//! How fast what is owed gets to the server, and so how long the rest will take.
//!
//! Instants come in as arguments. Looked at by whoever asks how far it is, and often enough without anybody.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use crate::staging::LocalId;

/// What a file costs beside its bytes, counted in bytes. A server makes some hundred small files in a second and takes
/// tens of megabytes of a large one, so that many small ones would be thought done at once by their bytes alone.
pub(super) const FILE_COST_BYTES: u64 = 256 << 10;

/// How far back is looked. A link that became slow is believed to be slow after half of it.
const WINDOW: Duration = Duration::from_secs(60);

/// Looks that are closer together than this count as one.
const STEP: Duration = Duration::from_millis(250);

/// Below this length nothing is concluded.
const LEAST: Duration = Duration::from_secs(1);

/// Costs of all that went to the server, by the time.
#[derive(Debug, Default)]
pub(super) struct Pace {
    /// Of each file under way: what of it was counted.
    counted: HashMap<LocalId, u64>,
    cost: u64,
    bytes: u64,
    /// When, cost and bytes until then; in the order of time.
    looks: VecDeque<(Instant, u64, u64)>,
}

/// Lately, in a second.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Rate {
    cost: f64,
    bytes: f64,
}

impl Pace {
    /// The server has `sent` bytes of each of these files now, and of no other that is under way.
    pub(super) fn look(&mut self, sent: impl Iterator<Item = (LocalId, u64)>, now: Instant) {
        let mut under_way = HashMap::new();
        for (local, sent_bytes) in sent {
            let before = self.counted.get(&local).copied().unwrap_or(0);
            // One that began anew sends again what was counted.
            let more = sent_bytes.saturating_sub(before);
            self.cost += more;
            self.bytes += more;
            under_way.insert(local, sent_bytes.max(before));
        }
        self.counted = under_way;
        self.note(now);
    }

    /// A file of `size_bytes` got there.
    pub(super) fn delivered(&mut self, local: LocalId, size_bytes: u64, now: Instant) {
        let before = self.counted.remove(&local).unwrap_or(0);
        let rest = size_bytes.saturating_sub(before);
        self.cost += rest + FILE_COST_BYTES;
        self.bytes += rest;
        self.note(now);
    }

    fn note(&mut self, now: Instant) {
        let look = (now, self.cost, self.bytes);
        let len = self.looks.len();
        match self.looks.back_mut() {
            // The first one is where counting begins, and stays.
            Some(last) if len > 1 && now.saturating_duration_since(last.0) < STEP => {
                (last.1, last.2) = (look.1, look.2);
            }
            _ => self.looks.push_back(look),
        }
        while self.looks.len() > 2
            && self
                .looks
                .get(1)
                .is_some_and(|second| now.saturating_duration_since(second.0) > WINDOW)
        {
            self.looks.pop_front();
        }
    }

    /// None while nothing went, or not for long enough to tell.
    pub(super) fn rate(&self, now: Instant) -> Option<Rate> {
        let (from, cost, bytes) = *self.looks.front()?;
        let time = now.saturating_duration_since(from);
        let more = self.cost.saturating_sub(cost);
        if time < LEAST || more == 0 {
            return None;
        }
        let a_second = |amount: u64| amount as f64 / time.as_secs_f64();
        Some(Rate {
            cost: a_second(more),
            bytes: a_second(self.bytes.saturating_sub(bytes)),
        })
    }
}

impl Rate {
    /// How long so much takes.
    pub(super) fn seconds(self, files: u64, bytes: u64) -> u64 {
        let cost = files as f64 * FILE_COST_BYTES as f64 + bytes as f64;
        // Saturates, as `as` does.
        (cost / self.cost).ceil() as u64
    }

    /// Bytes a second.
    pub(super) fn bytes(self) -> u64 {
        self.bytes as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn at(start: Instant, seconds: u64) -> Instant {
        start + Duration::from_secs(seconds)
    }

    #[test]
    fn a_large_file_takes_as_long_as_its_bytes() {
        let (mut pace, start) = (Pace::default(), Instant::now());
        let one = LocalId(1);
        for second in 0..=10 {
            pace.look([(one, second * MIB)].into_iter(), at(start, second));
        }
        let rate = pace.rate(at(start, 10)).unwrap();
        assert_eq!(rate.bytes(), MIB);
        assert_eq!(rate.seconds(0, 30 * MIB), 30);
        pace.delivered(one, 11 * MIB, at(start, 11));
        assert_eq!(pace.rate(at(start, 11)).unwrap().bytes(), MIB);
    }

    #[test]
    fn many_small_files_take_as_long_as_there_are_files() {
        let (mut pace, start) = (Pace::default(), Instant::now());
        pace.look(std::iter::empty(), start);
        for file in 0..100 {
            let moment = start + Duration::from_millis(file * 100);
            pace.delivered(LocalId(file), 10, moment);
        }
        let rate = pace.rate(at(start, 10)).unwrap();
        assert_eq!(
            rate.seconds(50, 500),
            5,
            "ten a second, whatever their bytes"
        );
    }

    #[test]
    fn nothing_is_foretold_before_anything_went() {
        let (mut pace, start) = (Pace::default(), Instant::now());
        assert_eq!(pace.rate(start), None);
        pace.look([(LocalId(1), 0)].into_iter(), start);
        assert_eq!(pace.rate(at(start, 30)), None);
        pace.look([(LocalId(1), 5)].into_iter(), start);
        assert_eq!(pace.rate(start), None, "not long enough");
    }

    #[test]
    fn what_is_sent_again_does_not_count_twice_and_a_stall_is_noticed() {
        let (mut pace, start) = (Pace::default(), Instant::now());
        let one = LocalId(1);
        pace.look([(one, 0)].into_iter(), start);
        pace.look([(one, 8 * MIB)].into_iter(), at(start, 1));
        pace.look([(one, 0)].into_iter(), at(start, 2));
        pace.look([(one, 8 * MIB)].into_iter(), at(start, 4));
        assert_eq!(pace.rate(at(start, 4)).unwrap().bytes(), 2 * MIB);
        for second in 5..300 {
            pace.look([(one, 8 * MIB)].into_iter(), at(start, second));
        }
        assert_eq!(pace.rate(at(start, 300)), None);
    }

    #[test]
    fn its_memory_is_bounded() {
        let (mut pace, start) = (Pace::default(), Instant::now());
        for step in 0..100_000 {
            let moment = start + Duration::from_millis(step * 10);
            pace.delivered(LocalId(step), 1, moment);
        }
        assert!(pace.counted.is_empty() && pace.looks.len() < 300);
    }
}
