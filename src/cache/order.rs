//! Which part of the cache leaves next: arithmetic only.
//!
//! Two queues and ghosts (2Q, Johnson and Shasha 1994): what comes is *new* and leaves in the order in which it came;
//! what is used again later, or comes back after it left, is *proven* and leaves by its last use. New parts give way
//! first while they hold more than their share, so a long scan passes through that share and leaves the proven ones alone.

use std::collections::HashMap;
use std::hash::{Hash, Hasher};

use lru::LruCache;
use xxhash_rust::xxh3::Xxh3;

use crate::cache::names::Name;

/// Uses within this many seconds are one: a reader takes a part in many small reads.
pub(super) const ONE_USE_SECONDS: u64 = 60;

/// The share of the capacity, in percent, above which new parts leave before proven ones. What the 2Q paper found best.
const NEW_PERCENT: u64 = 25;

/// Parts remembered after they left; each takes some 60 bytes of memory.
const GHOSTS: usize = 1 << 16;

/// A part of an entity that leaves as one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Part {
    /// Which of the sites in the directory.
    pub(super) site: u16,
    /// Counted from the start of the entity, in parts.
    pub(super) number: u32,
    /// The entity.
    pub(super) name: Name,
}

#[derive(Debug, Clone, Copy)]
struct Held {
    bytes: u64,
    used_s: u64,
}

/// A part whose turn it is to leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Leaving {
    pub(super) part: Part,
    /// Bytes it was thought to have.
    pub(super) bytes: u64,
    /// It was not proven.
    pub(super) is_new: bool,
}

/// What is here, in the order in which it leaves.
pub(super) struct Order {
    capacity_bytes: u64,
    new: LruCache<Part, Held>,
    new_bytes: u64,
    proven: LruCache<Part, Held>,
    /// Parts whose turn it was, and that stay.
    staying: HashMap<Part, Leaving>,
    /// Hashes of parts that left, with the bytes they had.
    ghosts: LruCache<u64, u64>,
    ghost_bytes: u64,
}

impl Order {
    pub(super) fn new(capacity_bytes: u64) -> Self {
        Self {
            capacity_bytes,
            new: LruCache::unbounded(),
            new_bytes: 0,
            proven: LruCache::unbounded(),
            staying: HashMap::new(),
            ghosts: LruCache::unbounded(),
            ghost_bytes: 0,
        }
    }

    /// Forgets what is here, but not what left.
    pub(super) fn clear(&mut self) {
        self.new.clear();
        self.proven.clear();
        self.staying.clear();
        self.new_bytes = 0;
    }

    /// `bytes` more of a part were written at `now_s`.
    pub(super) fn stored(&mut self, part: Part, bytes: u64, now_s: u64) {
        if let Some(staying) = self.staying.get_mut(&part) {
            staying.bytes += bytes;
        } else if let Some(held) = self.proven.peek_mut(&part) {
            held.bytes += bytes;
        } else if let Some(held) = self.new.peek_mut(&part) {
            held.bytes += bytes;
            self.new_bytes += bytes;
        } else {
            let is_back = self.ghosts.pop(&ghost(&part));
            self.ghost_bytes -= is_back.unwrap_or(0);
            self.insert(part, bytes, now_s, is_back.is_some());
        }
    }

    /// Puts in what is found on disk; who comes later leaves later.
    pub(super) fn insert(&mut self, part: Part, bytes: u64, used_s: u64, is_proven: bool) {
        let held = Held { bytes, used_s };
        if is_proven {
            self.proven.put(part, held);
        } else {
            self.new.put(part, held);
            self.new_bytes += bytes;
        }
    }

    /// A part was read at `now_s`. Whether that proves it: it was read or written before, and not just now.
    pub(super) fn used(&mut self, part: Part, now_s: u64) -> bool {
        if let Some(held) = self.proven.get_mut(&part) {
            held.used_s = now_s;
            return true;
        }
        let is_again = self
            .new
            .peek(&part)
            .is_some_and(|held| now_s >= held.used_s + ONE_USE_SECONDS);
        if is_again && let Some(held) = self.new.pop(&part) {
            self.new_bytes -= held.bytes;
            self.insert(part, held.bytes, now_s, true);
        }
        is_again
    }

    /// The part that leaves next; it is not here any more.
    pub(super) fn leave(&mut self) -> Option<Leaving> {
        let is_new = match (self.new.is_empty(), self.proven.is_empty()) {
            (true, true) => return None,
            (false, false) => self.new_bytes > self.capacity_bytes / 100 * NEW_PERCENT,
            (is_drained, _) => !is_drained,
        };
        let (part, held) = if is_new {
            let (part, held) = self.new.pop_lru()?;
            self.new_bytes -= held.bytes;
            (part, held)
        } else {
            self.proven.pop_lru()?
        };
        self.remember(&part, held.bytes);
        Some(Leaving {
            part,
            bytes: held.bytes,
            is_new,
        })
    }

    /// Takes back a part that could not leave: it counts as used now.
    pub(super) fn stayed(&mut self, leaving: Leaving, now_s: u64) {
        self.unremember(&leaving.part);
        self.insert(leaving.part, leaving.bytes, now_s, true);
    }

    /// Sets aside a part whose turn it was: it is not asked to leave again before [`Order::let_go`].
    pub(super) fn stay(&mut self, leaving: Leaving) {
        self.unremember(&leaving.part);
        self.staying.insert(leaving.part, leaving);
    }

    /// What was set aside leaves like everything else; it counts as used at `now_s`.
    pub(super) fn let_go(&mut self, now_s: u64) {
        for (part, leaving) in std::mem::take(&mut self.staying) {
            self.insert(part, leaving.bytes, now_s, !leaving.is_new);
        }
    }

    fn unremember(&mut self, part: &Part) {
        let ghost = self.ghosts.pop(&ghost(part));
        self.ghost_bytes -= ghost.unwrap_or(0);
    }

    fn remember(&mut self, part: &Part, bytes: u64) {
        let replaced = self.ghosts.put(ghost(part), bytes);
        self.ghost_bytes = self.ghost_bytes + bytes - replaced.unwrap_or(0);
        while self.ghost_bytes > self.capacity_bytes || self.ghosts.len() > GHOSTS {
            let Some((_, bytes)) = self.ghosts.pop_lru() else {
                break;
            };
            self.ghost_bytes -= bytes;
        }
    }
}

fn ghost(part: &Part) -> u64 {
    let mut hasher = Xxh3::new();
    part.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Parts that fit.
    const FIT: u64 = 200;
    const PART: u64 = 100;

    /// Something that keeps `FIT` parts.
    trait Keeper {
        /// Whether it was here.
        fn access(&mut self, name: u64, now_s: u64) -> bool;
    }

    struct Ours {
        order: Order,
        here: std::collections::HashSet<u64>,
    }

    fn part(name: u64) -> Part {
        Part {
            site: 0,
            number: 0,
            name: Name(name),
        }
    }

    impl Ours {
        fn new() -> Self {
            Self {
                order: Order::new(FIT * PART),
                here: Default::default(),
            }
        }
    }

    impl Keeper for Ours {
        fn access(&mut self, name: u64, now_s: u64) -> bool {
            if self.here.contains(&name) {
                self.order.used(part(name), now_s);
                return true;
            }
            while self.here.len() as u64 >= FIT {
                let leaving = self.order.leave().unwrap();
                assert_eq!(leaving.bytes, PART);
                assert!(self.here.remove(&leaving.part.name.0));
            }
            self.order.stored(part(name), PART, now_s);
            self.here.insert(name);
            false
        }
    }

    struct Plain(LruCache<u64, ()>);

    impl Keeper for Plain {
        fn access(&mut self, name: u64, _now_s: u64) -> bool {
            self.0.put(name, ()).is_some()
        }
    }

    fn plain() -> Plain {
        Plain(LruCache::new(
            std::num::NonZeroUsize::new(FIT as usize).unwrap(),
        ))
    }

    /// Of the last half of the accesses, how many in a hundred were here. Each is a use of its own.
    fn hits(keeper: &mut dyn Keeper, trace: &[u64]) -> u64 {
        let mut hits = 0;
        for (at, name) in (0..).zip(trace) {
            let is_hit = keeper.access(*name, at * ONE_USE_SECONDS);
            hits += u64::from(is_hit && at >= trace.len() as u64 / 2);
        }
        hits * 200 / trace.len() as u64
    }

    fn dice(state: &mut u64) -> f64 {
        *state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (*state >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Names of which the first is asked most, the second half as often, and so on.
    fn zipf(count: usize) -> Vec<u64> {
        let mut state = 7;
        (0..count)
            .map(|_| 2000_f64.powf(dice(&mut state)) as u64)
            .collect()
    }

    #[test]
    fn a_scan_of_ten_times_the_cache_takes_nothing_that_was_used_twice() {
        let mut trace: Vec<u64> = (0..140).chain(0..140).collect();
        trace.extend(1000..1000 + 10 * FIT);
        let after = |keeper: &mut dyn Keeper| {
            hits(keeper, &trace);
            (0..140)
                .filter(|name| keeper.access(*name, 1 << 40))
                .count()
        };
        assert_eq!(after(&mut Ours::new()), 140);
        assert_eq!(after(&mut plain()), 0, "which is what plain LRU loses");
    }

    #[test]
    fn a_scan_while_others_work_costs_them_little() {
        let mut state = 3;
        let work = |at: u64| 1 + (dice(&mut state) * 120.0) as u64 + u64::from(at == 0);
        let work: Vec<u64> = (0..8000).map(work).collect();
        let trace: Vec<u64> = work
            .into_iter()
            .zip(10_000..)
            .flat_map(|(name, scan)| [name, scan, scan + 100_000])
            .collect();
        let (ours, lru) = (hits(&mut Ours::new(), &trace), hits(&mut plain(), &trace));
        // A third of the accesses are not of the scan.
        assert!(ours >= 32 && lru < 24, "{ours} and {lru}");
    }

    #[test]
    fn what_is_asked_often_stays_at_least_as_well_as_with_plain_lru() {
        let trace = zipf(40_000);
        let (ours, lru) = (hits(&mut Ours::new(), &trace), hits(&mut plain(), &trace));
        assert!(ours >= lru, "{ours} and {lru}");
    }

    #[test]
    fn a_loop_larger_than_the_cache_finds_a_part_of_it() {
        let trace: Vec<u64> = (0..20 * FIT).map(|at| at % (FIT * 5 / 4)).collect();
        let (ours, lru) = (hits(&mut Ours::new(), &trace), hits(&mut plain(), &trace));
        assert!(ours >= lru, "{ours} and {lru}");
    }

    #[test]
    fn reading_once_in_many_small_reads_is_one_use() {
        let mut order = Order::new(1000);
        order.stored(part(1), 10, 100);
        for now_s in 100..100 + ONE_USE_SECONDS {
            assert!(!order.used(part(1), now_s));
        }
        assert!(order.used(part(1), 100 + ONE_USE_SECONDS));
        assert!(!order.used(part(2), 0), "it is not here");
    }

    #[test]
    fn what_could_not_leave_is_here_again_and_what_left_is_remembered() {
        let mut order = Order::new(1000);
        order.stored(part(1), 10, 0);
        let leaving = order.leave().unwrap();
        assert_eq!(
            (leaving.part, leaving.bytes, leaving.is_new),
            (part(1), 10, true)
        );
        assert_eq!(order.leave(), None);
        order.stayed(leaving, 5);
        assert!(!order.leave().unwrap().is_new);
        order.stored(part(1), 10, 9);
        assert!(!order.leave().unwrap().is_new, "it came back");
        for name in 0..500 {
            order.stored(part(name), 10, 0);
            order.leave();
        }
        assert!(order.ghost_bytes <= 1000 && order.ghosts.len() <= 100);
    }

    #[test]
    fn what_stays_is_passed_over_until_it_is_let_go() {
        let mut order = Order::new(10 * PART);
        for name in 0..4 {
            order.stored(part(name), PART, 0);
        }
        let first = order.leave().unwrap();
        assert_eq!(first.part, part(0));
        order.stay(first);
        order.stored(part(0), PART, 0);
        assert_eq!(order.leave().map(|leaving| leaving.part), Some(part(1)));
        order.let_go(0);
        let left: Vec<_> = std::iter::from_fn(|| order.leave()).collect();
        let parts: Vec<_> = left.iter().map(|leaving| leaving.part).collect();
        assert_eq!(parts, [part(2), part(3), part(0)]);
        assert_eq!(left[2].bytes, 2 * PART, "it grew meanwhile");
    }
}
