//! How much content may be fetched before anybody asks for it: arithmetic only.
//!
//! What sweeps read earns credit, what was fetched and never read spends it for good. So over time less than a tenth as
//! much is wasted as is read, beside a small beginning; and who wastes all of it can still earn, since what a sweep reads
//! counts whether it was fetched ahead or not.

/// What may be wasted before anything was read. Sixty-four files of 16 KiB, which is what a round trip of 50 ms needs to
/// have on its way; one photo.
const INITIAL_BYTES: u64 = 1 << 20;

/// Of so many bytes that sweeps read, one may be wasted.
const EARNED_PART: u64 = 10;

/// What became of content that was fetched ahead, since the mount began.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct AheadCounts {
    /// Asked for before anybody needed it.
    pub fetched_bytes: u64,
    /// Of those: read.
    pub used_bytes: u64,
    /// Of those: never read, and given up.
    pub wasted_bytes: u64,
    /// Files that were here when they were opened, among those that were expected.
    pub early_files: u64,
    /// Files that were not here yet.
    pub late_files: u64,
}

/// The account of all sweeps.
#[derive(Debug)]
pub(super) struct Credit {
    /// Never more than this waits to be read.
    held_max: u64,
    /// Read by sweeps, fetched ahead or not.
    read_bytes: u64,
    counts: AheadCounts,
}

impl Credit {
    /// With at most `held_max` bytes that wait to be read.
    pub(super) fn new(held_max: u64) -> Self {
        Self {
            held_max,
            read_bytes: 0,
            counts: AheadCounts::default(),
        }
    }

    pub(super) fn counts(&self) -> AheadCounts {
        self.counts
    }

    /// Takes leave to fetch so many bytes. Whether there is.
    pub(super) fn take(&mut self, bytes: u64) -> bool {
        let counts = &mut self.counts;
        let held = counts.fetched_bytes - counts.used_bytes - counts.wasted_bytes;
        let earned = INITIAL_BYTES + self.read_bytes / EARNED_PART;
        let allowed = earned
            .saturating_sub(counts.wasted_bytes)
            .min(self.held_max);
        let is_granted = held + bytes <= allowed;
        if is_granted {
            counts.fetched_bytes += bytes;
        }
        is_granted
    }

    /// Of what was taken, so many bytes were not fetched after all.
    pub(super) fn give_back(&mut self, bytes: u64) {
        self.counts.fetched_bytes -= bytes;
    }

    /// A sweep read so many bytes, and of those so many had been taken leave for.
    pub(super) fn read(&mut self, bytes: u64, taken: u64) {
        self.read_bytes += bytes;
        self.counts.used_bytes += taken;
    }

    /// A file was opened that was expected, and was here or not.
    pub(super) fn opened(&mut self, is_here: bool) {
        match is_here {
            true => self.counts.early_files += 1,
            false => self.counts.late_files += 1,
        }
    }

    /// So many bytes were fetched for nothing.
    pub(super) fn waste(&mut self, bytes: u64) {
        self.counts.wasted_bytes += bytes;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const M: u64 = 1 << 20;

    #[test]
    fn what_is_read_makes_room_for_more_and_what_is_wasted_does_not() {
        let mut credit = Credit::new(100 * M);
        assert!(credit.take(M) && !credit.take(1));
        credit.read(M / 2, M / 2);
        assert!(credit.take(M / 2) && !credit.take(M / 10));
        credit.waste(M);
        assert!(!credit.take(M / 10));
    }

    #[test]
    fn who_wasted_everything_earns_by_what_a_sweep_reads_by_itself() {
        let mut credit = Credit::new(100 * M);
        assert!(credit.take(M));
        credit.waste(M);
        assert!(!credit.take(1));
        credit.read(M, 0);
        assert!(credit.take(M / 10));
    }

    #[test]
    fn no_more_than_a_tenth_of_what_is_read_is_ever_wasted_beside_the_beginning() {
        let mut credit = Credit::new(100 * M);
        let (mut read, mut seed) = (0, 1_u64);
        for _ in 0..10_000 {
            seed = seed
                .wrapping_mul(6364136223846793005)
                .wrapping_add(1442695040888963407);
            let bytes = (seed >> 40) % 100_000;
            let taken = if credit.take(bytes) { bytes } else { 0 };
            match seed >> 62 {
                0 => credit.waste(taken),
                _ => {
                    credit.read(bytes, taken);
                    read += bytes;
                }
            }
            assert!(credit.counts().wasted_bytes <= M + read / 10);
        }
    }

    #[test]
    fn what_waits_to_be_read_is_bounded_and_what_was_not_fetched_is_given_back() {
        let mut credit = Credit::new(M / 4);
        assert!(!credit.take(M / 2));
        assert!(credit.take(M / 4));
        credit.give_back(M / 4);
        assert_eq!(credit.counts(), AheadCounts::default());
    }
}
