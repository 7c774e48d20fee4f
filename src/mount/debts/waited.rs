//! How far a wait is: arithmetic only.

use std::collections::HashMap;
use std::sync::Arc;

use super::pace::Rate;
use super::told::{Brief, Stand};
use crate::control::Progress;
use crate::staging::{Local, LocalId};

/// Files that somebody waits for, as they were when he began.
pub(in crate::mount) struct WaitedFor(HashMap<LocalId, u64>);

impl WaitedFor {
    pub(super) fn of(owed: &[Arc<Local>]) -> Self {
        let sizes = owed.iter().map(|local| (local.id(), local.size_bytes()));
        Self(sizes.collect())
    }

    pub(super) fn files(&self) -> u64 {
        self.0.len() as u64
    }

    /// `owed` is what is owed by now: what is not among it has been done.
    pub(super) fn progress(&self, owed: &HashMap<LocalId, Brief>, rate: Option<Rate>) -> Progress {
        let mut progress = Progress {
            files: self.files(),
            files_done: self.files(),
            bytes: self.0.values().sum(),
            ..Progress::default()
        };
        progress.bytes_done = progress.bytes;
        for (local, size_bytes) in &self.0 {
            // One that is written to again was overtaken, and comes anew.
            let still = owed.get(local).filter(|file| file.stand != Stand::Open);
            if let Some(file) = still {
                progress.files_done -= 1;
                progress.bytes_done -= size_bytes.saturating_sub(file.sent_bytes);
            }
        }
        if let Some(rate) = rate {
            let files = progress.files - progress.files_done;
            let bytes = progress.bytes - progress.bytes_done;
            progress.bytes_per_second = rate.bytes();
            progress.eta_seconds = Some(rate.seconds(files, bytes));
        }
        progress
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_owed_no_more_is_done_and_what_came_later_does_not_count() {
        let waited_for = WaitedFor(
            [(1, 100), (2, 50), (3, 7)]
                .map(|(n, size)| (LocalId(n), size))
                .into(),
        );
        let brief = |local, stand, sent_bytes| {
            let local = LocalId(local);
            let size_bytes = 100;
            let brief = Brief {
                local,
                stand,
                size_bytes,
                sent_bytes,
            };
            (local, brief)
        };
        let owed = HashMap::from([
            brief(1, Stand::Uploading, 60),
            brief(3, Stand::Open, 0),
            brief(9, Stand::Waiting, 0),
        ]);
        let progress = waited_for.progress(&owed, None);
        assert_eq!(
            (
                progress.files,
                progress.files_done,
                progress.bytes,
                progress.bytes_done
            ),
            (3, 2, 157, 117)
        );
        assert_eq!(progress.eta_seconds, None);
        // A file may have grown since, and more of it be there than there was in all.
        let grown = HashMap::from([brief(2, Stand::Uploading, 80)]);
        let grown = waited_for.progress(&grown, None);
        assert_eq!((grown.files_done, grown.bytes_done), (2, 157));
    }
}
