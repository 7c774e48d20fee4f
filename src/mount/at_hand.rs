//! Answers to who wants content at hand: `warm`.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::MissedTickBehavior;

use crate::cache::Fit;
use crate::cli::values::show_size;
use crate::config::MountPlan;
use crate::control::{Answer, NotFetched, Progress, Tell};
use crate::failure::chain;
use crate::fs;
use crate::mount::rooms::Rooms;
use crate::warm::{Count, Failed, Refused, Warmer};

/// How often who waits is told how far it is.
const TICK: Duration = Duration::from_millis(500);

/// Most names in an answer.
const LISTED_MAX: usize = 10_000;

/// Makes the answers.
pub(super) struct AtHand {
    mount_point: PathBuf,
    cache_size_bytes: u64,
    warmer: Warmer,
}

impl AtHand {
    pub(super) fn new(plan: &MountPlan, rooms: &Rooms) -> Self {
        Self {
            mount_point: plan.dir.clone(),
            cache_size_bytes: plan.cache_size_bytes,
            warmer: rooms.warmer.clone(),
        }
    }

    /// Fetches what is at `path` and below.
    pub(super) async fn warm(&self, path: &Path, tell: &Tell) -> Answer {
        let count = Arc::new(Count::default());
        let warming = self.warmer.warm(path, &count);
        match telling(tell, &count, warming).await {
            Ok(failed) => self.fetched(&count, &failed),
            Err(refused) => Answer::Failed {
                why: self.refusal(&refused),
            },
        }
    }

    fn fetched(&self, count: &Count, failed: &[Failed]) -> Answer {
        let counted = count.counted();
        let listed = failed.iter().take(LISTED_MAX).map(|failed| NotFetched {
            path: self.mount_point.join(&failed.path).display().to_string(),
            reason: failed.why.clone(),
        });
        Answer::Fetched {
            files: counted.files_done,
            bytes: counted.bytes_done,
            failed: listed.collect(),
            more_failed: failed.len().saturating_sub(LISTED_MAX) as u64,
        }
    }

    fn refusal(&self, refused: &Refused) -> String {
        match refused {
            Refused::Place(fs::Error::NotFound) => "there is no such file or folder".to_owned(),
            Refused::Place(fs::Error::NotAFolder) => "it lies below a file".to_owned(),
            Refused::Place(error) => chain(error),
            Refused::NoRoom(fit) => no_room(*fit, self.cache_size_bytes),
            Refused::Off => refused.to_string(),
        }
    }
}

/// What is needed, what there is, and what to do.
fn no_room(fit: Fit, cache_size_bytes: u64) -> String {
    let (needed, room) = (show_size(fit.needed_bytes), show_size(fit.room_bytes));
    let of = show_size(cache_size_bytes);
    format!(
        "{needed} are needed on disk, and the cache has room for {room} (--cache-size {of}, without what is pinned): choose less, or mount with a larger --cache-size"
    )
}

/// Waits for `work`, and tells meanwhile how far it is.
async fn telling<T>(tell: &Tell, count: &Count, work: impl Future<Output = T>) -> T {
    tokio::pin!(work);
    let mut tick = tokio::time::interval(TICK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            biased;
            done = &mut work => return done,
            _ = tick.tick() => tell.tell(progress(count)),
        }
    }
}

fn progress(count: &Count) -> Progress {
    let counted = count.counted();
    let left = counted.bytes - counted.bytes_done;
    Progress {
        files: counted.files,
        files_done: counted.files_done,
        bytes: counted.bytes,
        bytes_done: counted.bytes_done,
        bytes_per_second: counted.bytes_per_second,
        eta_seconds: left.checked_div(counted.bytes_per_second),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_no_room_is_told_how_much_is_needed_and_how_much_there_is() {
        let fit = Fit {
            needed_bytes: 3 << 30,
            room_bytes: 1 << 30,
        };
        let said = no_room(fit, 2 << 30);
        assert!(
            said.starts_with("3.00 GiB are needed on disk, and the cache has room for 1.00 GiB"),
            "{said}"
        );
        assert!(said.contains("--cache-size 2.00 GiB"), "{said}");
    }
}
