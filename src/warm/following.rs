//! What is pinned is kept here: all of it, in the version that it has now.
//!
//! In rounds: what lies below each pin is walked, as far as what is known of it is not believed any more; what is not here
//! is fetched; and what is there is held in the cache. A round begins when pins change, when something in the drive may have
//! changed, and from time to time. What cannot be looked at for now stays held as it was. Never unpins anything.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};

use super::fitting::fitting;
use super::{Counted, Failed, Refused, Wanted, Warmer, count, entities, not_fetched, unread};
use crate::cache::{Fit, Holding, whole_bytes};
use crate::cli::values::show_size;
use crate::entity::Entity;
use crate::failure::chain;
use crate::fs::{self, Below, FileBelow};
use crate::model::FileId;
use crate::pins::{Pin, Pins};
use crate::task::Task;

/// How long news is let gather before a round begins.
const SETTLE: Duration = Duration::from_millis(300);

/// After news a round rests for so many times as long as its walk took, so that pins of many folders do not keep a server
/// busy all the time: as the folders that programs use.
const RESTS: u32 = 9;

/// How often all is looked at anew, though nobody told of anything: what is on the disk, too. Rarer where that takes
/// long: a hundredth of the time.
const PERIOD: Duration = Duration::from_secs(60);
const PERIODS: u32 = 99;

/// When is tried again what could not be fetched or looked at.
const RETRY: Duration = Duration::from_secs(15);

/// What is pinned in one mount, and how much of it is here.
#[derive(Clone)]
pub struct Pinning(Arc<Shared>);

/// How a pin stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PinState {
    /// Where it is, below the mount point.
    pub path: PathBuf,
    /// How much of it is here.
    pub counted: Counted,
    /// Why not all of it is; none also where it is on its way.
    pub why: Option<String>,
}

struct Shared {
    warmer: Warmer,
    pins: Arc<Pins>,
    /// By which the cache knows this drive's pins.
    owner: String,
    kept: Mutex<Vec<Kept>>,
    rounds: watch::Sender<Rounds>,
}

/// Rounds that began, and how many of them came to their end.
#[derive(Debug, Clone, Copy, Default)]
struct Rounds {
    began: u64,
    ended: u64,
}

/// What is known of a pin.
#[derive(Clone)]
struct Kept {
    pin: Pin,
    /// In which round it was looked at.
    round: u64,
    /// In the order of their paths.
    files: Arc<Vec<Arc<Wanted>>>,
    /// How many of them find room in the cache, the first ones.
    fits: usize,
    /// Folders below that could not be read, or the pin itself.
    unread: Vec<Failed>,
}

/// What a round leaves to the next one.
#[derive(Default)]
struct Round {
    holding: Option<Holding>,
    listed: Option<HashSet<Arc<Entity>>>,
    /// What its walk took.
    walk: Duration,
}

impl Pinning {
    /// Of the drive that `warmer` fetches from.
    pub fn new(warmer: Warmer) -> Self {
        let pins = Arc::clone(warmer.fs.pins());
        Self(Arc::new(Shared {
            owner: pins.owner(),
            warmer,
            pins,
            kept: Mutex::default(),
            rounds: watch::Sender::default(),
        }))
    }

    /// Begins to follow. Must be called within a runtime.
    pub fn follow(&self) -> Task {
        let shared = Arc::clone(&self.0);
        Task::spawn(async move { Box::pin(shared.follow()).await })
    }

    /// Pins what is at `path` below the mount point, if the cache has room for all of it beside what is pinned already.
    pub async fn pin(&self, path: &Path) -> Result<FileId, Refused> {
        let Shared { warmer, owner, .. } = &*self.0;
        warmer.is_possible()?;
        let below = warmer.fs.files_below(path).await?;
        let mut wanted = entities(&below.files);
        for kept in self.0.kept.lock().unwrap().iter() {
            wanted.extend(kept.fitting().map(|file| Arc::clone(&file.entity)));
        }
        let fit = warmer.fit(Some(owner), wanted.clone()).await;
        if !fit.fits() {
            let own: u64 = unique(&entities(&below.files));
            let others = fit.needed_bytes - own;
            return Err(Refused::NoRoom(Fit {
                needed_bytes: own,
                room_bytes: fit.room_bytes.saturating_sub(others),
            }));
        }
        let found = warmer.fs.find(path).await?;
        warmer.fs.set_pinned(found.ino, true).await?;
        Ok(below.id)
    }

    /// Waits until what is pinned as `id` is here; what could not be fetched is tried again later.
    pub async fn fetched(&self, id: &FileId) -> Vec<Failed> {
        let mut rounds = self.0.rounds.subscribe();
        let is_over = |rounds: &Rounds| {
            let kept = self.0.kept.lock().unwrap();
            let seen = kept.iter().find(|kept| kept.pin.id == *id);
            // Somebody may have let go of it meanwhile.
            seen.map_or(!self.0.pins.has(id), |kept| kept.round <= rounds.ended)
        };
        // It is never closed while there is a `self`.
        rounds.wait_for(is_over).await.ok();
        let kept = self.0.kept.lock().unwrap();
        let kept = kept.iter().find(|kept| kept.pin.id == *id);
        kept.map(Kept::failed).unwrap_or_default()
    }

    /// How far what is pinned as `id` is.
    pub fn counted(&self, id: &FileId) -> Counted {
        let kept = self.0.kept.lock().unwrap();
        let kept = kept.iter().find(|kept| kept.pin.id == *id);
        kept.map(|kept| count(kept.files.iter()))
            .unwrap_or_default()
    }

    /// How each pin stands, in the order in which they were made.
    pub fn states(&self) -> Vec<PinState> {
        let kept = self.0.kept.lock().unwrap().clone();
        let pins = self.0.pins.all().into_iter();
        pins.map(|pin| match kept.iter().find(|kept| kept.pin.id == pin.id) {
            Some(kept) => kept.state(),
            None => PinState {
                path: pin.path,
                counted: Counted::default(),
                why: Some("it was not looked at yet".to_owned()),
            },
        })
        .collect()
    }
}

impl Kept {
    fn fitting(&self) -> impl Iterator<Item = &Arc<Wanted>> {
        self.files.iter().take(self.fits)
    }

    fn failed(&self) -> Vec<Failed> {
        let (fit, left) = self.files.split_at(self.fits);
        let left = left.iter().filter(|file| !file.is_here());
        let left = left.map(|file| Failed {
            path: file.file.path.clone(),
            why: "the cache has no room for it".to_owned(),
        });
        let unread = self.unread.iter().cloned();
        unread.chain(not_fetched(fit)).chain(left).collect()
    }

    fn state(&self) -> PinState {
        let failed = self.files.iter().find_map(|file| {
            let why = file.why().filter(|_| !file.is_here())?;
            Some(format!("{}: {why}", file.file.path.display()))
        });
        let unread = self.unread.first().map(|failed| failed.why.clone());
        let left: Vec<_> = self.files.iter().skip(self.fits).cloned().collect();
        let no_room = (!left.is_empty()).then(|| {
            format!(
                "the cache has no room for {} of it: mount with a larger --cache-size, or unpin something",
                show_size(needs(&left).iter().sum())
            )
        });
        PinState {
            path: self.pin.path.clone(),
            counted: count(self.files.iter()),
            why: no_room.or(unread).or(failed),
        }
    }
}

impl Shared {
    async fn follow(&self) {
        let mut changes = self.pins.changes();
        let mut round = Round::default();
        let mut is_anew = true;
        loop {
            changes.borrow_and_update();
            self.rounds.send_modify(|rounds| rounds.began += 1);
            let began = self.rounds.borrow().began;
            tokio::select! {
                biased;
                () = self.round(&mut round, is_anew) => {}
                _ = changes.changed() => continue,
            }
            self.rounds.send_modify(|rounds| rounds.ended = began);
            let ended = Instant::now();
            let is_well = self
                .kept
                .lock()
                .unwrap()
                .iter()
                .all(|kept| kept.failed().is_empty());
            let period = match is_well {
                true => PERIOD.max(round.walk * PERIODS),
                false => RETRY.max(round.walk * RESTS),
            };
            is_anew = tokio::select! {
                _ = changes.changed() => false,
                () = self.news(ended + round.walk * RESTS) => false,
                () = sleep(period) => true,
            };
            if is_anew {
                self.pins.look_again();
            }
        }
    }

    /// Waits for news, and not less long than `earliest`.
    async fn news(&self, earliest: Instant) {
        self.warmer.fs.news().await;
        sleep_until(earliest.max(Instant::now() + SETTLE)).await;
    }

    /// `is_anew`: also what was here is looked for.
    async fn round(&self, round: &mut Round, is_anew: bool) {
        let walk = Instant::now();
        let before: HashMap<FileId, Kept> = {
            let kept = self.kept.lock().unwrap();
            kept.iter()
                .map(|kept| (kept.pin.id.clone(), kept.clone()))
                .collect()
        };
        let mut all = Vec::new();
        let mut is_sure = true;
        for pin in self.pins.all() {
            let known = before.get(&pin.id);
            // What nobody could look at yet stays as it is listed.
            let kept = self.look(pin, known).await;
            is_sure &= kept.unread.is_empty() || known.is_some();
            all.push(kept);
        }
        round.walk = walk.elapsed();
        self.fit(&mut all).await;
        self.hold(round, &all, is_sure);
        let files = all.iter().flat_map(Kept::fitting);
        let files: Vec<_> = files
            .filter(|file| is_anew || !file.is_here())
            .cloned()
            .collect();
        *self.kept.lock().unwrap() = all;
        self.warmer.fetch(&files).await;
    }

    /// What is below `pin` now; where that cannot be told, what was `known` of it.
    async fn look(&self, pin: Pin, known: Option<&Kept>) -> Kept {
        let (path, below) = match self.below(&pin).await {
            Ok(found) => found,
            Err(why) => {
                let path = pin.path.clone();
                let is_gone = why.is_none();
                let why =
                    why.unwrap_or_else(|| "the server has it no more, or not here".to_owned());
                let files = known
                    .filter(|_| !is_gone)
                    .map(|known| Arc::clone(&known.files));
                return Kept {
                    pin,
                    round: self.rounds.borrow().began,
                    files: files.unwrap_or_default(),
                    fits: 0,
                    unread: vec![Failed { path, why }],
                };
            }
        };
        let unread = unread(&below);
        let old = known.map(|known| known.files.iter()).into_iter().flatten();
        // What lies where nobody could look is there as it was.
        let hidden = old.clone().filter(|file| {
            let path = &file.file.path;
            unread.iter().any(|failed| path.starts_with(&failed.path))
        });
        let known: HashMap<&Arc<Entity>, &Arc<Wanted>> =
            old.clone().map(|file| (&file.entity, file)).collect();
        let files = below.files.into_iter().map(|file| wanted(file, &known));
        let mut files: Vec<_> = files.chain(hidden.cloned()).collect();
        files.sort_by(|one, other| one.file.path.cmp(&other.file.path));
        Kept {
            pin: Pin { path, ..pin },
            round: self.rounds.borrow().began,
            files: Arc::new(files),
            fits: 0,
            unread,
        }
    }

    /// What is below `pin`, and where that is; where it is not there, why that is not known, or nothing if it is.
    async fn below(&self, pin: &Pin) -> Result<(PathBuf, Below), Option<String>> {
        let fs = &self.warmer.fs;
        match fs.files_below(&pin.path).await {
            Ok(below) if below.id == pin.id => return Ok((pin.path.clone(), below)),
            Ok(_) | Err(fs::Error::NotFound | fs::Error::NotAFolder) => {}
            Err(error) => return Err(Some(chain(&error))),
        }
        let path = match fs.place_of(&pin.id).await {
            Ok(Some(path)) => path,
            Ok(None) | Err(fs::Error::NotFound) => return Err(None),
            Err(error) => return Err(Some(chain(&error))),
        };
        match fs.files_below(&path).await {
            Ok(below) if below.id == pin.id => {
                self.note_place(&pin.id, &path).await;
                Ok((path, below))
            }
            // It is on its way somewhere; the next round finds it.
            Ok(_) => Err(Some("it was moved just now".to_owned())),
            Err(error) => Err(Some(chain(&error))),
        }
    }

    async fn note_place(&self, id: &FileId, path: &Path) {
        let (pins, id, path) = (Arc::clone(&self.pins), id.clone(), path.to_owned());
        let noted = tokio::task::spawn_blocking(move || pins.moved(&id, &path)).await;
        if let Ok(Err(error)) = noted {
            log::debug!("the new place of what is pinned is not noted: {error}");
        }
    }

    /// Finds out what of `all` the cache has room for.
    async fn fit(&self, all: &mut [Kept]) {
        let needs: Vec<Vec<u64>> = all.iter().map(|kept| needs(&kept.files)).collect();
        let files = all.iter().flat_map(|kept| kept.files.iter());
        let entities = files.map(|file| Arc::clone(&file.entity)).collect();
        let fit = self.warmer.fit(Some(&self.owner), entities).await;
        for (kept, fits) in all.iter_mut().zip(fitting(&needs, fit.room_bytes)) {
            kept.fits = fits;
        }
    }

    /// Keeps what finds room from leaving the cache.
    fn hold(&self, round: &mut Round, all: &[Kept], is_sure: bool) {
        let files = all.iter().flat_map(Kept::fitting);
        let files = files.filter(|file| !file.file.is_owed);
        let entities: HashSet<Arc<Entity>> = files.map(|file| Arc::clone(&file.entity)).collect();
        if round.listed.as_ref() == Some(&entities) {
            return;
        }
        let held: Vec<_> = entities.iter().cloned().collect();
        let cache = self.warmer.reader.cache();
        round.holding = Some(cache.hold(&held));
        if is_sure && cache.list(&self.owner, &held) {
            round.listed = Some(entities);
        }
    }
}

/// Bytes on disk that each of `files` needs.
fn needs(files: &[Arc<Wanted>]) -> Vec<u64> {
    let needs = files.iter().map(|file| match file.file.is_owed {
        true => 0,
        false => whole_bytes(&file.entity),
    });
    needs.collect()
}

/// Bytes on disk that `entities` need, those that are there twice once.
fn unique(entities: &[Arc<Entity>]) -> u64 {
    let unique: HashSet<_> = entities.iter().collect();
    unique.into_iter().map(|entity| whole_bytes(entity)).sum()
}

/// A file, of which something may be known.
fn wanted(file: FileBelow, known: &HashMap<&Arc<Entity>, &Arc<Wanted>>) -> Arc<Wanted> {
    let new = Wanted::new(file);
    match known.get(&new.entity) {
        Some(old) if old.file.path == new.file.path && old.file.is_owed == new.file.is_owed => {
            Arc::clone(old)
        }
        Some(old) if !old.file.is_owed => Arc::new(old.moved(new.file)),
        _ => Arc::new(new),
    }
}
