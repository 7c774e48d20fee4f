//! Who waits, in the order in which they go, and how many are on their way.
//!
//! Promises: whatever is asked here takes no longer with a hundred thousand files than with ten, but where all of them
//! are meant. Knows no rules: who may go is decided above.

use std::collections::{BTreeSet, HashMap};
use std::hash::Hash;

use tokio::time::Instant;

use super::{SMALL_BYTES, Stage};

/// One file.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) stage: Stage,
    pub(super) size_bytes: u64,
    /// When it was staged first of all the times that no upload saw.
    pub(super) since: Instant,
    pub(super) due: Instant,
    pub(super) tries: u32,
    /// Who wants it left alone.
    pub(super) holds: u32,
    /// It was staged anew while it flew.
    pub(super) again: bool,
    /// Somebody waits for what the next try gives.
    pub(super) urgent: bool,
}

impl Entry {
    /// One that is due now, and that nobody tried yet.
    pub(super) fn new(size_bytes: u64, now: Instant) -> Self {
        Self {
            stage: Stage::Waiting,
            size_bytes,
            since: now,
            due: now,
            tries: 0,
            holds: 0,
            again: false,
            urgent: false,
        }
    }

    /// Whether it is on its way.
    pub(super) fn is_up(&self) -> bool {
        matches!(self.stage, Stage::Flying | Stage::Landing)
    }

    /// Whether it is sent in no time.
    pub(super) fn is_small(&self) -> bool {
        self.size_bytes <= SMALL_BYTES
    }

    /// Whether it was tried in vain.
    pub(super) fn has_failed(&self) -> bool {
        matches!(self.stage, Stage::Retrying | Stage::Blocked)
    }

    /// Whether it goes when it is due and there is a place.
    pub(super) fn is_waiting(&self) -> bool {
        !self.is_up() && self.holds == 0
    }
}

/// Files on their way.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Up {
    /// Whose content is being sent.
    pub(super) flying: usize,
    /// Those of them that are not small.
    pub(super) large: usize,
    /// That are being looked for at the server.
    pub(super) landing: usize,
}

/// Those who are waited for first, then the oldest.
type Turn<K> = (bool, Instant, K);

/// All files, by their numbers.
#[derive(Debug)]
pub(super) struct Line<K> {
    entries: HashMap<K, Entry>,
    up: Up,
    /// Who waits and is not due yet, or was not at the last look.
    later: BTreeSet<(Instant, K)>,
    /// Who is due, of the small ones and of the others.
    small: BTreeSet<Turn<K>>,
    large: BTreeSet<Turn<K>>,
}

impl<K> Default for Line<K> {
    fn default() -> Self {
        Self {
            entries: HashMap::new(),
            up: Up::default(),
            later: BTreeSet::new(),
            small: BTreeSet::new(),
            large: BTreeSet::new(),
        }
    }
}

impl<K: Copy + Eq + Hash + Ord> Line<K> {
    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// How many are on their way.
    pub(super) fn up(&self) -> Up {
        self.up
    }

    /// One of them.
    pub(super) fn get(&self, id: K) -> Option<&Entry> {
        self.entries.get(&id)
    }

    /// Changes one of them; none where it is not here.
    pub(super) fn change<R>(&mut self, id: K, change: impl FnOnce(&mut Entry) -> R) -> Option<R> {
        let mut entry = self.take(id)?;
        let changed = change(&mut entry);
        self.put(id, entry);
        Some(changed)
    }

    /// As [`Line::change`], of `new` where it is not here.
    pub(super) fn change_or<R>(
        &mut self,
        id: K,
        new: Entry,
        change: impl FnOnce(&mut Entry) -> R,
    ) -> R {
        let mut entry = self.take(id).unwrap_or(new);
        let changed = change(&mut entry);
        self.put(id, entry);
        changed
    }

    /// Takes one of them away.
    pub(super) fn remove(&mut self, id: K) {
        self.take(id);
    }

    /// The numbers of all that are `which`.
    pub(super) fn those(&self, which: impl Fn(&Entry) -> bool) -> Vec<K> {
        let entries = self.entries.iter();
        let those = entries.filter(|(_, entry)| which(entry));
        those.map(|(id, _)| *id).collect()
    }

    /// Who is due by `now`, in turn; `large`: not only the small ones.
    pub(super) fn due(&mut self, now: Instant, large: bool) -> impl Iterator<Item = (K, &Entry)> {
        self.look(now);
        let large = large.then_some(&self.large).into_iter().flatten();
        let mut large = large.peekable();
        let mut small = self.small.iter().peekable();
        let in_turn = std::iter::from_fn(move || match (small.peek(), large.peek()) {
            (Some(one), Some(other)) if other < one => large.next(),
            (None, Some(_)) => large.next(),
            _ => small.next(),
        });
        in_turn.filter_map(|(.., id)| Some((*id, self.entries.get(id)?)))
    }

    /// Who is due after `now`, the first one first.
    pub(super) fn later(&mut self, now: Instant) -> impl Iterator<Item = &Entry> {
        self.look(now);
        self.later.iter().filter_map(|(_, id)| self.entries.get(id))
    }

    /// Notes who has become due.
    fn look(&mut self, now: Instant) {
        while let Some((due, id)) = self.later.first().copied()
            && due <= now
        {
            self.later.pop_first();
            if let Some(entry) = self.entries.get(&id) {
                let turn = (!entry.urgent, entry.since, id);
                match entry.is_small() {
                    true => self.small.insert(turn),
                    false => self.large.insert(turn),
                };
            }
        }
    }

    fn take(&mut self, id: K) -> Option<Entry> {
        let entry = self.entries.remove(&id)?;
        self.count(&entry, |count| *count -= 1);
        if entry.is_waiting() && !self.later.remove(&(entry.due, id)) {
            let turn = (!entry.urgent, entry.since, id);
            match entry.is_small() {
                true => self.small.remove(&turn),
                false => self.large.remove(&turn),
            };
        }
        Some(entry)
    }

    fn put(&mut self, id: K, entry: Entry) {
        self.count(&entry, |count| *count += 1);
        if entry.is_waiting() {
            self.later.insert((entry.due, id));
        }
        self.entries.insert(id, entry);
    }

    fn count(&mut self, entry: &Entry, count: impl Fn(&mut usize)) {
        match entry.stage {
            Stage::Flying => {
                count(&mut self.up.flying);
                if !entry.is_small() {
                    count(&mut self.up.large);
                }
            }
            Stage::Landing => count(&mut self.up.landing),
            Stage::Waiting | Stage::Retrying | Stage::Blocked => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// The same numbers each time, without a pattern.
    struct Dice(u64);

    impl Dice {
        fn roll(&mut self, sides: u64) -> u64 {
            self.0 = self
                .0
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (self.0 >> 33) % sides
        }
    }

    fn changed(entry: &mut Entry, dice: &mut Dice, now: Instant) {
        match dice.roll(6) {
            0 => entry.stage = Stage::Flying,
            1 => entry.stage = Stage::Landing,
            2 => entry.stage = Stage::Waiting,
            3 => entry.due = now + Duration::from_millis(dice.roll(50)),
            4 => entry.holds = dice.roll(2) as u32,
            _ => {
                entry.urgent = dice.roll(2) == 0;
                entry.size_bytes = dice.roll(2) * 2 * SMALL_BYTES;
            }
        }
    }

    /// What a look through all of them says.
    fn check(line: &mut Line<u64>, now: Instant) {
        let all = line.those(|_| true);
        let of = |line: &Line<u64>, id| line.get(id).map(|e| (!e.urgent, e.since, id));
        for large in [false, true] {
            let due = |e: &Entry| e.is_waiting() && e.due <= now && (large || e.is_small());
            let mut expected = line.those(due);
            expected.sort_by_key(|id| of(line, *id));
            let found: Vec<u64> = line.due(now, large).map(|(id, _)| id).collect();
            assert_eq!(found, expected);
        }
        let mut expected: Vec<Instant> = all
            .iter()
            .filter_map(|id| line.get(*id))
            .filter(|e| e.is_waiting() && e.due > now)
            .map(|e| e.due)
            .collect();
        expected.sort();
        let found: Vec<Instant> = line.later(now).map(|e| e.due).collect();
        assert_eq!(found, expected);
        let count = |which: fn(&Entry) -> bool| line.those(which).len();
        let expected = Up {
            flying: count(|e| e.stage == Stage::Flying),
            large: count(|e| e.stage == Stage::Flying && !e.is_small()),
            landing: count(|e| e.stage == Stage::Landing),
        };
        assert_eq!((line.up(), line.len()), (expected, all.len()));
    }

    #[test]
    fn order_and_counts_are_those_of_a_look_through_all() {
        let start = Instant::now();
        let mut dice = Dice(1);
        let mut line = Line::default();
        for step in 0..3000 {
            let now = start + Duration::from_millis(step);
            let id = dice.roll(40);
            match dice.roll(10) {
                0 => line.remove(id),
                _ => line.change_or(id, Entry::new(1, now), |entry| {
                    changed(entry, &mut dice, now)
                }),
            }
            check(&mut line, now);
        }
    }
}
