//! How far to read ahead of one handle: arithmetic only.
//!
//! A sequential reader gets a window that doubles for as long as it has to wait; who jumps, or reads backwards, gets exactly what was
//! asked. The kernel reads one file in several pieces at once and they arrive in any order, so a piece a little ahead of
//! the frontier is kept as an island until the gap before it is read. Never asks anybody and knows no time.

use std::ops::Range;

/// The first window: one round trip's worth on a slow link, and what a wrong guess costs.
const SMALLEST_BYTES: u64 = 256 * 1024;

/// The window is at most so many times what was read without a gap: a random reader that happens to read two neighbours
/// has not earned a window of [`SMALLEST_BYTES`].
const EARNED: u64 = 4;

/// The largest that a reader has before anything is known of the link: more than a link of 400 Mbit/s holds at 100 ms
/// (5 MB), since half of it is always in use.
pub(super) const LARGE_BYTES: u64 = 8 * 1024 * 1024;

/// Who read so much without a gap before a jump will read on after the next one too: a player, not a database.
const HABIT_BYTES: u64 = 512 * 1024;

/// What such a reader gets ahead at once where it jumps to: a second of a film, and no more if it jumps on.
const AFTER_JUMP_BYTES: u64 = 1024 * 1024;

/// How far from the frontier a read still belongs to it: four of the kernel's largest reads (1 MiB), as many as are
/// decoded side by side.
const NEAR_BYTES: u64 = 4 * 1024 * 1024;

/// An island that grew this long is where the reader is: the gap before it is late, or not needed because the kernel
/// has those pages already.
const MAINLAND_BYTES: u64 = 256 * 1024;

/// Islands remembered; a sequential reader makes about as many as the kernel has reads in flight for one file.
const ISLANDS: usize = 16;

/// What may be asked for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// The size of the entity.
    pub(super) size_bytes: u64,
    /// Bytes ahead at most.
    pub(super) largest: u64,
    /// Bytes that one request brings: it is sent when there is room for so much in the window.
    pub(super) part: u64,
    /// The reader has to wait for this read, so what lies ahead of it is not enough.
    pub(super) is_late: bool,
}

/// The state of one handle.
#[derive(Debug, Default)]
pub(super) struct Window {
    /// What was read without a gap begins here, and ends at the frontier.
    begin: u64,
    frontier: u64,
    /// What was read beyond a gap.
    islands: Vec<Range<u64>>,
    /// Bytes ahead of the frontier that are wanted; 0 until the reader is known to be sequential.
    length: u64,
    /// The end of what was asked for already.
    planned: u64,
    /// The reader had to wait since the window last grew.
    is_late: bool,
}

/// What one read means.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Step {
    /// The reader went elsewhere: what was planned before is no longer wanted.
    pub(super) seek: bool,
    /// Bytes to ask for now beyond those read; often empty.
    pub(super) ahead: Range<u64>,
}

impl Window {
    /// Takes note of a read of `range`.
    pub(super) fn read(&mut self, range: &Range<u64>, limits: Limits) -> Step {
        let seek = !self.is_near(range);
        if seek {
            let is_habit = self.frontier - self.begin >= HABIT_BYTES;
            *self = Self {
                begin: range.start,
                frontier: range.end,
                ..Self::default()
            };
            if is_habit {
                return Step {
                    seek,
                    ahead: self.extend(AFTER_JUMP_BYTES, limits),
                };
            }
        }
        self.is_late |= limits.is_late;
        let ahead = match !seek && self.advance(range) {
            true => self.plan(limits),
            false => self.frontier..self.frontier,
        };
        Step { seek, ahead }
    }

    /// The blocks before this are behind the reader.
    pub(super) fn behind(&self) -> u64 {
        let islands = self.islands.iter().map(|island| island.start);
        islands.fold(self.frontier, u64::min)
    }

    /// Only what lies before `end` could be asked for; the rest is planned again later.
    pub(super) fn granted(&mut self, end: u64) {
        self.planned = self.planned.min(end);
    }

    /// What was planned is not there: it is planned again from where the reader is.
    pub(super) fn forget_plan(&mut self) {
        self.planned = 0;
    }

    /// Whether bytes ahead are wanted, which then take a share of the memory.
    pub(super) fn is_reading_ahead(&self, size_bytes: u64) -> bool {
        self.length > 0 && self.frontier < size_bytes
    }

    fn is_near(&self, range: &Range<u64>) -> bool {
        let from = self.frontier.saturating_sub(NEAR_BYTES);
        // A jump into what is on its way anyway waits for it there.
        let to = self.planned.max(self.frontier.saturating_add(NEAR_BYTES));
        range.end >= from
            && range.start <= to
            && (range.start <= self.frontier || self.islands.len() < ISLANDS)
    }

    /// Moves the frontier, if the read touches it. Whether it moved.
    fn advance(&mut self, range: &Range<u64>) -> bool {
        if range.end <= self.frontier {
            return false;
        }
        let island = self.join(range.clone());
        let reached = island.start <= self.frontier;
        let grew_forwards = island.start < range.start && island.end == range.end;
        if reached || (grew_forwards && island.end - island.start >= MAINLAND_BYTES) {
            if !reached && self.length == 0 {
                self.begin = island.start;
            }
            self.frontier = island.end;
            self.islands.retain(|other| other.end > island.end);
            return true;
        }
        self.islands.push(island);
        false
    }

    /// `range` with all islands that it touches, which are islands no longer.
    fn join(&mut self, mut range: Range<u64>) -> Range<u64> {
        while let Some(at) = self
            .islands
            .iter()
            .position(|island| island.start <= range.end && range.start <= island.end)
        {
            let island = self.islands.swap_remove(at);
            range = range.start.min(island.start)..range.end.max(island.end);
        }
        range
    }

    /// Asks for the next part of the window, once there is room for a request or half of the old one is read. It is
    /// made twice as long before, if the reader had to wait meanwhile: more than keeps it busy would only leave the
    /// processor's caches before it is read, and be for nothing after a jump.
    fn plan(&mut self, limits: Limits) -> Range<u64> {
        let left = self.planned.saturating_sub(self.frontier);
        let room = self.length.saturating_sub(left);
        if self.length > 0 && room < limits.part.min(self.length.div_ceil(2)) {
            return self.frontier..self.frontier;
        }
        let grown = match std::mem::take(&mut self.is_late) {
            true => self.length * 2,
            false => self.length,
        };
        let earned = EARNED * (self.frontier - self.begin);
        self.extend(grown.max(SMALLEST_BYTES).min(earned), limits)
    }

    /// Makes the window `length` bytes long, within its limits, and asks for its new part.
    fn extend(&mut self, length: u64, limits: Limits) -> Range<u64> {
        self.length = length.min(limits.largest);
        let start = self.planned.max(self.frontier);
        let end = self.frontier.saturating_add(self.length);
        let end = end.min(limits.size_bytes);
        if start >= end {
            return self.frontier..self.frontier;
        }
        self.planned = end;
        start..end
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const K: u64 = 1024;
    const M: u64 = 1024 * K;
    const SIZE: u64 = 1 << 30;

    const LIMITS: Limits = limits(SIZE, LARGE_BYTES);

    const fn limits(size_bytes: u64, largest: u64) -> Limits {
        Limits {
            size_bytes,
            largest,
            part: 1 << 20,
            is_late: true,
        }
    }

    fn read(window: &mut Window, range: Range<u64>) -> Range<u64> {
        window.read(&range, LIMITS).ahead
    }

    /// Reads `pieces` in order; the bytes asked for ahead.
    fn ahead_of(window: &mut Window, pieces: impl Iterator<Item = Range<u64>>) -> u64 {
        let ahead = pieces.map(|piece| read(window, piece));
        ahead.map(|ahead| ahead.end - ahead.start).sum()
    }

    fn pieces(from: u64, size: u64) -> impl DoubleEndedIterator<Item = Range<u64>> {
        (0..64).map(move |i| from + i * size..from + (i + 1) * size)
    }

    #[test]
    fn a_sequential_reader_gets_a_window_that_doubles_up_to_its_largest() {
        let mut window = Window::default();
        let mut lengths = Vec::new();
        let mut at = 0;
        while lengths.last() != Some(&LARGE_BYTES) {
            read(&mut window, at..at + 128 * K);
            at += 128 * K;
            if lengths.last() != Some(&window.length) {
                lengths.push(window.length);
            }
            assert!(at < 64 << 20, "it never became large: {lengths:?}");
        }
        assert_eq!(lengths, [256, 512, 1024, 2048, 4096, 8192].map(|k| k * K));
    }

    #[test]
    fn what_is_asked_ahead_has_no_gaps_and_comes_in_large_parts() {
        let mut window = Window::default();
        let (mut end, mut parts) = (128 * K, 0);
        for at in (0..256).map(|i| i * 128 * K) {
            let ahead = read(&mut window, at..at + 128 * K);
            if !ahead.is_empty() {
                assert_eq!(ahead.start, end);
                (end, parts) = (ahead.end, parts + 1);
            }
            assert!(end >= at + 128 * K, "the reader overtook its window");
        }
        assert!(parts <= 40, "{parts} requests of 1 MiB for 32 MiB");
    }

    #[test]
    fn pieces_out_of_order_are_still_sequential() {
        let mut window = Window::default();
        for four in (0..16).map(|i| i * 512 * K) {
            for piece in [1, 0, 3, 2] {
                let start = four + piece * 128 * K;
                assert!(!window.read(&(start..start + 128 * K), LIMITS).seek);
            }
        }
        assert_eq!((window.frontier, window.islands.len()), (8192 * K, 0));
        assert!(window.length >= 4096 * K);
    }

    #[test]
    fn a_backwards_reader_gets_nothing_ahead() {
        assert_eq!(
            ahead_of(&mut Window::default(), pieces(SIZE / 2, 128 * K).rev()),
            0
        );
        assert_eq!(
            ahead_of(&mut Window::default(), pieces(SIZE / 2, 4 * K).rev()),
            0
        );
    }

    #[test]
    fn a_random_reader_gets_next_to_nothing_ahead_also_within_a_small_file() {
        let jumps = |span: u64| (1..200u64).map(move |i| (i * 7_919_123) % span / 4096 * 4096);
        for span in [SIZE, 4096 * K] {
            let mut window = Window::default();
            let reads = jumps(span).map(|at| at..at + 4 * K);
            let ahead = ahead_of(&mut window, reads);
            assert!(ahead <= 64 * K, "{ahead} bytes ahead, of {span}");
        }
    }

    #[test]
    fn a_seek_ends_the_window_and_reading_on_begins_a_small_one() {
        let mut window = Window::default();
        ahead_of(&mut window, pieces(0, 4 * K));
        let step = window.read(&(SIZE / 2..SIZE / 2 + 4 * K), LIMITS);
        assert!(step.seek && step.ahead.is_empty());
        let ahead = read(&mut window, SIZE / 2 + 4 * K..SIZE / 2 + 8 * K);
        assert_eq!(ahead.end - ahead.start, EARNED * 8 * K);
        let ahead = read(&mut window, SIZE / 2 + 8 * K..SIZE / 2 + 136 * K);
        assert_eq!(ahead.end - ahead.start, SMALLEST_BYTES);
    }

    #[test]
    fn a_gap_that_nobody_reads_does_not_stop_the_window() {
        let mut window = Window::default();
        ahead_of(&mut window, pieces(0, 128 * K));
        assert!(ahead_of(&mut window, pieces(64 * 128 * K + 64 * K, 128 * K)) > 4096 * K);
    }

    #[test]
    fn nothing_is_asked_beyond_the_end() {
        let mut window = Window::default();
        assert_eq!(
            window.read(&(0..100), limits(300, LARGE_BYTES)).ahead,
            100..300
        );
        assert!(window.is_reading_ahead(300));
        assert!(
            window
                .read(&(100..300), limits(300, LARGE_BYTES))
                .ahead
                .is_empty()
        );
        assert!(!window.is_reading_ahead(300));
    }

    #[test]
    fn the_share_of_memory_bounds_the_window_down_to_nothing() {
        let mut window = Window::default();
        assert_eq!(
            window.read(&(0..32 * K), limits(SIZE, 64 * K)).ahead,
            32 * K..96 * K
        );
        assert!(
            Window::default()
                .read(&(0..4 * K), limits(SIZE, 0))
                .ahead
                .is_empty()
        );
    }

    #[test]
    fn what_was_not_granted_is_asked_for_again() {
        let mut window = Window::default();
        assert_eq!(read(&mut window, 0..128 * K), 128 * K..384 * K);
        window.granted(192 * K);
        assert_eq!(read(&mut window, 128 * K..256 * K).start, 256 * K);
    }

    #[test]
    fn the_window_of_a_reader_that_never_waits_stays_small() {
        let mut window = Window::default();
        let in_time = Limits {
            is_late: false,
            ..LIMITS
        };
        window.read(&(0..128 * K), LIMITS);
        for piece in pieces(0, 128 * K).skip(1) {
            window.read(&piece, in_time);
        }
        assert!(window.length <= 2 * SMALLEST_BYTES, "{}", window.length);
        ahead_of(&mut window, pieces(64 * 128 * K, 128 * K));
        assert!(window.length >= 4 * M, "{}", window.length);
    }

    #[test]
    fn who_reads_on_after_each_jump_gets_the_next_part_with_it() {
        let mut window = Window::default();
        ahead_of(&mut window, pieces(0, 128 * K));
        let at = SIZE / 2;
        let step = window.read(&(at..at + 128 * K), LIMITS);
        assert!(step.seek);
        assert_eq!(step.ahead, at + 128 * K..at + 128 * K + AFTER_JUMP_BYTES);
        let step = window.read(&(0..4 * K), LIMITS);
        assert!(step.seek && step.ahead.is_empty(), "it did not read on");
    }

    #[test]
    fn a_jump_into_what_is_on_its_way_is_none() {
        let mut window = Window::default();
        ahead_of(
            &mut window,
            (0..256).map(|i| i * 128 * K..(i + 1) * 128 * K),
        );
        let planned = window.planned;
        assert!(planned > window.frontier + NEAR_BYTES);
        let there = planned - 128 * K..planned;
        assert!(!window.read(&there, LIMITS).seek);
        let beyond = planned + M..planned + M + 128 * K;
        assert!(window.read(&beyond, LIMITS).seek);
    }
}
