//! Answers to who wants content at hand: `warm`, `pin`, `unpin`.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use tokio::time::MissedTickBehavior;

use crate::cache::Fit;
use crate::cli::values::show_size;
use crate::config::MountPlan;
use crate::control::{Answer, NotFetched, Progress, Tell};
use crate::failure::chain;
use crate::fs::{self, Fs, Pinned};
use crate::mount::rooms::Rooms;
use crate::warm::{Counted, Failed, Pinning, Refused, Warmer, count};

/// How often who waits is told how far it is.
const TICK: Duration = Duration::from_millis(500);

/// Most names in an answer.
const LISTED_MAX: usize = 10_000;

/// Makes the answers.
pub(super) struct AtHand {
    mount_point: PathBuf,
    cache_size_bytes: u64,
    fs: Arc<Fs>,
    warmer: Warmer,
    pinning: Pinning,
}

impl AtHand {
    pub(super) fn new(plan: &MountPlan, rooms: &Rooms) -> Self {
        Self {
            mount_point: plan.dir.clone(),
            cache_size_bytes: plan.cache_size_bytes,
            fs: Arc::clone(&rooms.fs),
            warmer: rooms.warmer.clone(),
            pinning: rooms.pinning.clone(),
        }
    }

    /// Fetches what is at `path` and below.
    pub(super) async fn warm(&self, path: &Path, tell: &Tell) -> Answer {
        let list = OnceLock::new();
        let counted = || count(list.get().into_iter().flatten());
        let warming = self.warmer.warm(path, &list);
        match telling(tell, &counted, warming).await {
            Ok(failed) => self.fetched(counted(), &failed),
            Err(refused) => self.failed(&refused),
        }
    }

    /// Pins what is at `path`, and waits until it is here.
    pub(super) async fn pin(&self, path: &Path, tell: &Tell) -> Answer {
        let pinned = telling(tell, &Counted::default, self.pinning.pin(path)).await;
        let id = match pinned {
            Ok(id) => id,
            Err(refused) => return self.failed(&refused),
        };
        let counted = || self.pinning.counted(&id);
        let failed = telling(tell, &counted, self.pinning.fetched(&id)).await;
        self.fetched(counted(), &failed)
    }

    /// Lets go of what is at `path`.
    pub(super) async fn unpin(&self, path: &Path) -> Answer {
        match self.let_go(path).await {
            Ok(Ok(was_pinned)) => Answer::Unpinned { was_pinned },
            Ok(Err(above)) => Answer::Failed {
                why: format!(
                    "it is not pinned itself, but a folder above it is: unpin {}",
                    self.mount_point.join(above).display()
                ),
            },
            Err(error) => self.failed(&Refused::Place(error)),
        }
    }

    /// Whether it was pinned; or else which folder above it is.
    async fn let_go(&self, path: &Path) -> Result<Result<bool, PathBuf>, fs::Error> {
        let found = match self.fs.find(path).await {
            Ok(found) => found,
            // What is gone from the server is let go by where it was.
            Err(error) => match self.fs.unpin_lost(path).await? {
                true => return Ok(Ok(true)),
                false => return Err(error),
            },
        };
        match self.fs.pinned(found.ino)? {
            Pinned::By(above) => Ok(Err(above)),
            Pinned::No => Ok(Ok(self.fs.unpin_lost(path).await?)),
            Pinned::Itself => Ok(Ok(self.fs.set_pinned(found.ino, false).await?)),
        }
    }

    fn fetched(&self, counted: Counted, failed: &[Failed]) -> Answer {
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

    fn failed(&self, refused: &Refused) -> Answer {
        Answer::Failed {
            why: self.refusal(refused),
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
async fn telling<T>(
    tell: &Tell,
    counted: &(dyn Fn() -> Counted + Sync),
    work: impl Future<Output = T>,
) -> T {
    tokio::pin!(work);
    let mut pace = Pace::default();
    let mut tick = tokio::time::interval(TICK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            biased;
            done = &mut work => return done,
            _ = tick.tick() => tell.tell(pace.progress(counted(), Instant::now())),
        }
    }
}

/// How fast bytes come.
#[derive(Default)]
struct Pace {
    /// When bytes came first, and how many that were.
    first: Option<(Instant, u64)>,
}

impl Pace {
    fn progress(&mut self, counted: Counted, now: Instant) -> Progress {
        let came = counted.bytes_came;
        if came > 0 && self.first.is_none() {
            self.first = Some((now, came));
        }
        let rate = self.first.and_then(|(at, before)| {
            let millis = (now - at).as_millis();
            (u128::from(came.saturating_sub(before)) * 1000).checked_div(millis)
        });
        let rate = rate.map_or(0, |rate| u64::try_from(rate).unwrap_or(u64::MAX));
        let left = counted.bytes - counted.bytes_done;
        Progress {
            files: counted.files,
            files_done: counted.files_done,
            bytes: counted.bytes,
            bytes_done: counted.bytes_done,
            bytes_per_second: rate,
            eta_seconds: left.checked_div(rate),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pace_is_of_what_came_and_not_of_what_was_here() {
        let mut pace = Pace::default();
        let counted = |bytes_done, bytes_came| Counted {
            files: 1,
            files_done: 0,
            bytes: 1000,
            bytes_done,
            bytes_came,
        };
        let began = Instant::now();
        assert_eq!(pace.progress(counted(500, 0), began).eta_seconds, None);
        assert_eq!(pace.progress(counted(510, 10), began).bytes_per_second, 0);
        let later = began + Duration::from_secs(10);
        let progress = pace.progress(counted(610, 110), later);
        assert_eq!(
            (progress.bytes_per_second, progress.eta_seconds),
            (10, Some(39))
        );
    }

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
