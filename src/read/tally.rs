//! Bytes counted: what was asked for, and where it came from.

use std::sync::atomic::{AtomicU64, Ordering};

/// Bytes since the mount began, for `status`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stats {
    /// Given to those who read.
    pub asked_bytes: u64,
    /// Brought over the network, for them and ahead of them.
    pub fetched_bytes: u64,
    /// Of what was asked for: here in memory already.
    pub memory_bytes: u64,
    /// Of what was asked for: read from the disk.
    pub disk_bytes: u64,
    /// Of what was asked for: waited for from the network.
    pub network_bytes: u64,
    /// Of what was brought: left memory again before anybody asked for it. Counted by the pieces that came together, of
    /// which a part may have been read.
    pub wasted_ahead_bytes: u64,
}

/// One sum.
#[derive(Debug, Default)]
pub(super) struct Sum(AtomicU64);

impl Sum {
    pub(super) fn add(&self, bytes: u64) {
        self.0.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The sums of the reader, or of one stream of it.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) asked: Sum,
    pub(super) fetched: Sum,
    pub(super) memory: Sum,
    pub(super) disk: Sum,
    pub(super) network: Sum,
}

impl Tally {
    pub(super) fn stats(&self, wasted_ahead_bytes: u64) -> Stats {
        Stats {
            asked_bytes: self.asked.get(),
            fetched_bytes: self.fetched.get(),
            memory_bytes: self.memory.get(),
            disk_bytes: self.disk.get(),
            network_bytes: self.network.get(),
            wasted_ahead_bytes,
        }
    }
}
