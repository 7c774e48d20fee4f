//! A set of byte ranges: which part of a file is here.

use std::collections::BTreeMap;
use std::ops::Range;

/// Bytes that are in the set, as ranges that neither overlap nor touch.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Ranges(BTreeMap<u64, u64>);

impl Ranges {
    /// Puts all bytes of `range` in.
    pub(super) fn insert(&mut self, range: Range<u64>) {
        if range.is_empty() {
            return;
        }
        let Range { mut start, mut end } = range;
        if let Some((&before, &before_end)) = self.0.range(..=start).next_back()
            && before_end >= start
        {
            start = before;
            end = end.max(before_end);
        }
        while let Some((&after, &after_end)) = self.0.range(start..).next()
            && after <= end
        {
            self.0.remove(&after);
            end = end.max(after_end);
        }
        self.0.insert(start, end);
    }

    /// Takes out everything from `limit` on.
    pub(super) fn clip(&mut self, limit: u64) {
        self.0.split_off(&limit);
        if let Some(mut last) = self.0.last_entry() {
            let end = (*last.get()).min(limit);
            last.insert(end);
        }
    }

    /// The parts of `range` that are not in the set, in order.
    pub(super) fn gaps(&self, range: Range<u64>) -> impl Iterator<Item = Range<u64>> + '_ {
        let first = self.0.range(..=range.start).next_back();
        let mut at = first.map_or(range.start, |(_, end)| range.start.max(*end));
        let mut rest = self.0.range(range.start..);
        std::iter::from_fn(move || {
            while at < range.end {
                let (start, end) = rest
                    .next()
                    .map_or((range.end, range.end), |(start, end)| (*start, *end));
                let gap = at..start.min(range.end);
                at = at.max(end);
                if !gap.is_empty() {
                    return Some(gap);
                }
            }
            None
        })
    }

    /// Whether all of `range` is in the set.
    pub(super) fn covers(&self, range: Range<u64>) -> bool {
        self.gaps(range).next().is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_order_of_changes_gives_what_a_list_of_bytes_gives() {
        const LEN: usize = 40;
        let mut seed = 7_u64;
        let mut dice = move |below: u64| {
            seed = seed
                .wrapping_mul(6364136223846793005)
                .wrapping_add(1442695040888963407);
            (seed >> 33) % below
        };
        for _ in 0..2000 {
            let mut ranges = Ranges::default();
            let mut bytes = [false; LEN];
            for _ in 0..dice(12) {
                let start = dice(LEN as u64);
                let end = start + dice(LEN as u64 - start + 1);
                if dice(5) == 0 {
                    ranges.clip(start);
                    bytes[start as usize..].fill(false);
                } else {
                    ranges.insert(start..end);
                    bytes[start as usize..end as usize].fill(true);
                }
            }
            let from = dice(LEN as u64);
            let to = from + dice(LEN as u64 - from + 1);
            let mut left = [true; LEN];
            let mut at = from;
            for gap in ranges.gaps(from..to) {
                assert!(gap.start >= at && gap.end <= to && !gap.is_empty());
                at = gap.end + 1;
                left[gap.start as usize..gap.end as usize].fill(false);
            }
            for byte in from..to {
                assert_eq!(
                    left[byte as usize], bytes[byte as usize],
                    "{ranges:?} at {byte}"
                );
            }
            let all = bytes[from as usize..to as usize].iter().all(|here| *here);
            assert_eq!(ranges.covers(from..to), all);
        }
    }
}
