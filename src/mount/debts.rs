//! What a mount owes to the server, as `status`, `sync`, `why`, `umount` and the service manager tell of it.
//!
//! Looks at `staging` and `upload` and remembers nothing of its own but how fast it went lately, and which files were put
//! beside another version. Stops and begins no upload.

mod conflicts;
mod pace;
mod told;
mod waited;

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use futures_util::{StreamExt, stream};
use tokio::sync::watch;

use crate::cli::values::show_moment;
use crate::config::MountPlan;
use crate::control::{Answer, Changes, Deletions, OwedFile, OwedSum, Progress, StaysHere, Tell};
use crate::failure::chain;
use crate::fs::{Astray, Fs, Owing, Unremoved, is_copy};
use crate::staging::{self, Local, LocalId, Staging, State};
use crate::upload::{News, Owed, Undelivered, Uploader};
use crate::uri::{FileSystem, FileUri};
use conflicts::Conflicts;
use pace::{Pace, Rate};
pub(super) use told::next;
use told::{Brief, LISTED_MAX, Seen, Shown, Stand};
pub(super) use waited::WaitedFor;

/// Files whose delivery is waited for at once. What is delivered when is the uploader's business; this bounds what
/// waiting costs.
const WAITED_AT_ONCE: usize = 256;

/// Deletions that are named in a status.
const DELETIONS_LISTED: usize = 100;

/// How often progress is told, …
const TICK: Duration = Duration::from_millis(500);
/// … and how many times longer than a look at all that is owed the pause after it is at least: with a hundred thousand
/// files it takes a while.
const LOOK_SHARE: u32 = 50;

/// How long we may be in hearing that a file was closed, and how long between two looks.
const CLOSING_MAX: Duration = Duration::from_secs(2);
const CLOSING_PAUSE: Duration = Duration::from_millis(2);

/// Which drive it is, for the slots of its state directory: the same text for each mount of the same root by the same
/// account of the same site, however the share's password was typed.
pub(super) fn staging_options(
    plan: &MountPlan,
    instance_id: &str,
    user_id: &str,
) -> staging::Options {
    staging::Options {
        dir: plan.state_dir.clone(),
        drive: drive(instance_id, user_id, &plan.fs.root),
        local_only: plan.writing.local_only.clone(),
    }
}

/// What a drive is called on this machine, where one installation and one account are told from others so.
pub(super) fn drive(instance_id: &str, user_id: &str, root: &FileUri) -> String {
    let file_system = match root.file_system() {
        FileSystem::Share { id, .. } => FileSystem::Share {
            id: id.clone(),
            password: None,
        },
        other => other.clone(),
    };
    let names = root.names().iter().cloned();
    let root = names.fold(FileUri::root(file_system), |uri, name| uri.child(name));
    // A line each: none of the three can hold a line break as it is written here.
    format!("{instance_id}\n{user_id}\n{}", root.to_wire())
}

/// What a mount owes.
pub(super) struct Debts {
    fs: Arc<Fs>,
    staging: Arc<Staging>,
    uploader: Arc<Uploader>,
    shown: Shown,
    pace: Mutex<Pace>,
    conflicts: Mutex<Conflicts>,
    /// Nothing is delivered any more.
    closed: watch::Sender<bool>,
    /// How many news of the uploader were applied.
    applied: watch::Sender<u64>,
}

impl Debts {
    /// Of the mount of `plan`.
    pub(super) fn new(plan: &MountPlan, fs: &Arc<Fs>, owing: Owing) -> Self {
        Self {
            fs: Arc::clone(fs),
            staging: owing.staging,
            uploader: owing.uploader,
            shown: Shown {
                point: plan.dir.clone(),
                root: fs.root(),
                names: plan.fs.names,
                at: {
                    let fs = Arc::clone(fs);
                    Arc::new(move |place| fs.shown_at(place))
                },
            },
            pace: Mutex::new(Pace::default()),
            conflicts: Mutex::new(Conflicts::default()),
            closed: watch::Sender::new(false),
            applied: watch::Sender::new(0),
        }
    }

    /// To be told each news of the uploader: what went how fast, and what ended beside another version.
    pub(super) fn heard(&self, news: &News) {
        match news {
            News::Delivered {
                local,
                info,
                conflict,
                ..
            } => {
                let now = Instant::now();
                self.pace
                    .lock()
                    .unwrap()
                    .delivered(*local, info.size_bytes, now);
                if *conflict {
                    let path = self.shown.path(&info.uri);
                    let at = show_moment(SystemTime::now());
                    let line = format!(
                        "another version had its place, so it is kept beside it: {path} ({at})"
                    );
                    self.conflicts.lock().unwrap().note(info.uri.clone(), line);
                }
            }
            News::Told(_) => {}
        }
    }

    /// To be told when that was applied.
    pub(super) fn applied(&self) {
        self.applied.send_modify(|count| *count += 1);
    }

    /// All that is owed, and what is open, in numbers.
    fn glance(&self) -> (HashMap<LocalId, Brief>, Option<Rate>) {
        let files = self.uploader.owed();
        let files = files.iter().filter_map(brief);
        let files: HashMap<_, _> = files.map(|brief| (brief.local, brief)).collect();
        let rate = self.rate(files.values());
        (files, rate)
    }

    /// The same with all that is known of each; in the order in which it is told.
    fn look(&self) -> (Vec<Seen>, Option<Rate>) {
        let files = self.uploader.owed();
        let files: Vec<Seen> = files.iter().filter_map(seen).collect();
        let rate = self.rate(files.iter().map(|file| &file.brief));
        (told::in_order(files), rate)
    }

    /// How fast it goes, now that so much is sent.
    fn rate<'a>(&self, files: impl Iterator<Item = &'a Brief>) -> Option<Rate> {
        let now = Instant::now();
        let mut pace = self.pace.lock().unwrap();
        let sent = files.filter(|file| file.sent_bytes > 0);
        pace.look(sent.map(|file| (file.local, file.sent_bytes)), now);
        pace.rate(now)
    }

    /// For `status`: the files, all in numbers, and what a person should do.
    pub(super) fn status(&self) -> (Vec<OwedFile>, OwedSum, Vec<String>) {
        let (files, rate) = self.look();
        let sum = OwedSum {
            disk_bytes: self.staging.disk_bytes(),
            untold: self.staging.to_tell().len() as u64,
            undeleted: self.fs.unremoved().len() as u64,
            unheard: self.fs.unheard().len() as u64,
            ..told::sum(files.iter().map(|file| file.brief), rate)
        };
        (
            told::list(&files, &self.shown, rate),
            sum,
            told::next_steps(&files, &self.shown),
        )
    }

    /// What is deleted here and not on the server.
    pub(super) fn deletions(&self) -> Deletions {
        let waiting = self.fs.unremoved();
        let (refused, last) = self.fs.refused_removals();
        let told = |all: &[Unremoved]| {
            let shown = all.iter().take(DELETIONS_LISTED);
            shown.map(|one| told::deleted(one, &self.shown)).collect()
        };
        Deletions {
            waiting: waiting.len() as u64,
            files: told(&waiting),
            refused,
            refused_files: told(&last),
        }
    }

    /// What is made or renamed here and not on the server.
    pub(super) fn changes(&self) -> Changes {
        let waiting = self.fs.unheard();
        let shown = waiting.iter().take(DELETIONS_LISTED);
        Changes {
            waiting: waiting.len() as u64,
            files: shown.map(|one| told::unheard(one, &self.shown)).collect(),
        }
    }

    /// What was made or renamed at or below `path` and the server has not heard of.
    fn unheard(&self, path: &Path) -> Vec<OwedFile> {
        let waiting = self.fs.unheard().into_iter();
        let within = waiting.filter(|one| self.shown.is_within(&self.shown.uri(&one.place), path));
        within.map(|one| told::unheard(&one, &self.shown)).collect()
    }

    /// A line for each change that came to something else than was wanted, but the first `before`.
    fn astray(&self, before: u64) -> Vec<(FileUri, String)> {
        let (count, last) = self.fs.astray();
        let new = usize::try_from(count - before).unwrap_or(usize::MAX);
        let new = last.iter().skip(last.len().saturating_sub(new));
        let line = |one: &Astray| format!("{}: {}", one.words, self.shown.path(&one.uri));
        new.map(|one| (one.uri.clone(), line(one))).collect()
    }

    /// What was deleted at or below `path` and the server still has: what waits for it, and what it refused but the first
    /// `before`.
    fn undeleted(&self, path: &Path, before: u64) -> Vec<OwedFile> {
        let (refused, last) = self.fs.refused_removals();
        let new = usize::try_from(refused - before).unwrap_or(usize::MAX);
        let new = last.into_iter().rev().take(new);
        let all = self.fs.unremoved().into_iter().chain(new);
        let within = all.filter(|one| self.shown.is_within(&self.shown.uri(&one.place), path));
        within.map(|one| told::deleted(&one, &self.shown)).collect()
    }

    /// What is owed to nobody.
    pub(super) fn stays_here(&self) -> StaysHere {
        let mut all = self.staging.owed();
        all.retain(|local| local.is_local_only());
        let paths = all.iter().take(LISTED_MAX);
        StaysHere {
            files: all.len() as u64,
            bytes: all.iter().map(|local| local.size_bytes()).sum(),
            paths: paths
                .map(|local| self.shown.path_of(&local.place()))
                .collect(),
        }
    }

    /// Whether what is at `path` below the mount point is owed to nobody.
    pub(super) fn is_local_only(&self, path: &Path) -> bool {
        let all = self.staging.owed();
        all.iter().any(|local| {
            local.is_local_only() && self.shown.is_at(&self.shown.uri(&local.place()), path)
        })
    }

    /// For the service manager: in a few words; none where nothing is owed.
    pub(super) fn in_short(&self) -> Option<String> {
        let (files, rate) = self.glance();
        told::in_short(&OwedSum {
            untold: self.staging.to_tell().len() as u64,
            undeleted: self.fs.unremoved().len() as u64,
            unheard: self.fs.unheard().len() as u64,
            ..told::sum(files.into_values(), rate)
        })
    }

    /// Files at or below `path` that are owed or still open.
    pub(super) fn count_below(&self, path: &Path) -> usize {
        let owed = self.staging.owed();
        let below = owed.iter().filter(|local| {
            !matches!(local.state(), State::Delivered | State::Unlinked)
                && !local.is_local_only()
                && self.shown.is_within(&self.shown.uri(&local.place()), path)
        });
        below.count()
    }

    /// A line for each conflict of this mount, and for each file that is about to become one.
    pub(super) fn conflicts(&self) -> Vec<String> {
        let coming = self.uploader.owed().into_iter().filter_map(|owed| {
            let name = owed.local.delivery().conflict?;
            let path = self.shown.path_of(&owed.local.place());
            Some(format!(
                "another version has the place of {path}; it will be kept as {name}"
            ))
        });
        let ended = self.conflicts.lock().unwrap();
        let ended: Vec<String> = ended.all().map(str::to_owned).collect();
        let astray = self.astray(0).into_iter().map(|(_, line)| line);
        let all = ended.into_iter().chain(astray).chain(coming);
        all.take(LISTED_MAX).collect()
    }

    /// The one at `path` below the mount point, as it is told.
    pub(super) fn at(&self, path: &Path) -> Option<OwedFile> {
        let (files, rate) = self.look();
        let at = |file: &Seen| self.shown.is_at(&self.shown.uri(&file.place), path);
        let index = files.iter().position(at)?;
        // With all before it, since it waits for them.
        told::list(&files[..=index], &self.shown, rate)
            .pop()
            .or_else(|| files.get(index).map(|file| told::tell(file, &self.shown)))
    }

    /// What is closed and owed, and lies at or below `path`.
    fn owed_below(&self, path: &Path) -> Vec<Arc<Local>> {
        let mut owed = self.staging.owed();
        owed.retain(|local| {
            matches!(local.state(), State::Staged(_))
                && !is_copy(local)
                && !local.is_local_only()
                && self.shown.is_within(&self.shown.uri(&local.place()), path)
        });
        owed
    }

    /// Waits for what was lent and is closed, at or below `path`, to be owed: close(2) returns before we hear that it was
    /// the last one, and a process that is about to become another program has it open for a moment longer. Gives what
    /// was closed by one and is open for another all the same. What nobody closed yet is not waited for.
    async fn closed_below(&self, path: &Path) -> Vec<Arc<Local>> {
        let until = Instant::now() + CLOSING_MAX;
        let mut open = Vec::new();
        for local in self.staging.owed() {
            let is_meant = self.shown.is_within(&self.shown.uri(&local.place()), path);
            if !is_meant || !local.is_promised() {
                continue;
            }
            // Also when it was given back just now: who did that is about to say that it is owed.
            while local.state() == State::Dirty && local.is_promised() && Instant::now() < until {
                let asked = Arc::clone(&local);
                let asked = tokio::task::spawn_blocking(move || asked.stage(SystemTime::now()));
                match asked.await {
                    Ok(Ok(State::Staged(_))) => self.uploader.staged(&local),
                    Ok(Ok(_)) => tokio::time::sleep(CLOSING_PAUSE).await,
                    Ok(Err(_)) | Err(_) => break,
                }
            }
            if local.is_lent() {
                open.push(local);
            }
        }
        open
    }

    /// Waits until the server knows of all that was deleted here.
    pub(super) async fn settle(&self) {
        self.fs.settle().await;
    }

    /// Waits until what is owed now at or below `path` is on the server, or cannot be for now. What was deleted, anywhere, is
    /// deleted there then.
    pub(super) async fn sync(&self, path: &Path, tell: &Tell) -> Answer {
        let conflicts_before = self.conflicts.lock().unwrap().count();
        let (refused_before, _) = self.fs.refused_removals();
        let (astray_before, _) = self.fs.astray();
        let open = self.closed_below(path).await;
        let mut owed = self.owed_below(path);
        owed.extend(open);
        let waited_for = WaitedFor::of(&owed);
        let failed = async {
            self.settle().await;
            let failed = self.deliver(owed).await;
            if self.fs.has_late() {
                // What was delivered may have been in the way.
                self.settle().await;
            }
            (failed, self.told().await)
        };
        tokio::pin!(failed);
        let mut pause = Duration::ZERO;
        let (failed, untold) = loop {
            tokio::select! {
                biased;
                failed = &mut failed => break failed,
                () = tokio::time::sleep(pause) => {
                    let began = Instant::now();
                    tell.tell(self.progress(&waited_for));
                    pause = TICK.max(began.elapsed() * LOOK_SHARE);
                }
            }
        };
        self.caught_up().await;
        let mut undeleted = self.undeleted(path, refused_before);
        undeleted.extend(self.unheard(path));
        let more_undeleted = undeleted.len().saturating_sub(LISTED_MAX);
        let undeleted = undeleted.into_iter().take(LISTED_MAX);
        let conflicts = self.conflicts.lock().unwrap();
        let new = conflicts.since(conflicts_before);
        let astray = self.astray(astray_before);
        let new = new.chain(&astray);
        let new = new.filter(|(uri, _)| self.shown.is_within(uri, path));
        Answer::Synced {
            files: waited_for.files(),
            left: self
                .failures(&failed)
                .into_iter()
                .chain(untold)
                .chain(undeleted)
                .collect(),
            more_left: (failed.len().saturating_sub(LISTED_MAX) + more_undeleted) as u64,
            conflicts: new.map(|(_, line)| line.clone()).collect(),
        }
    }

    /// Waits until the server heard all that is told of files whose content it has; otherwise one of which it did not.
    async fn told(&self) -> Option<OwedFile> {
        let told = tokio::select! {
            biased;
            told = self.uploader.told_all() => told,
            ended = self.ended() => Err(ended),
        };
        let why = told.err()?;
        let untold = self.staging.to_tell();
        let place = &untold.first()?.place;
        Some(OwedFile {
            path: self.shown.path_of(place),
            last_reason: Some(format!(
                "its mode, owner, times or the like: {}",
                chain(&why)
            )),
            ..OwedFile::default()
        })
    }

    /// Resolves when all was applied that the uploader has told by now.
    async fn caught_up(&self) {
        let told = self.uploader.told();
        let mut applied = self.applied.subscribe();
        tokio::select! {
            // The sender lives as long as `self`.
            _ = applied.wait_for(|applied| *applied >= told) => {}
            _ = self.ended() => {}
        }
    }

    /// No program can write any more: what is still open is owed as it is. May block on the disk for a moment.
    fn stage_all(&self) {
        for local in self.staging.owed() {
            // What a rename that was cut short has half copied is dropped at the next start.
            if local.state() != State::Dirty || is_copy(&local) {
                continue;
            }
            // Programs to which it was lent may write on, if they were not waited for: then it stays as it is.
            local.forget_handles();
            match local.stage(SystemTime::now()) {
                Ok(_) => self.uploader.staged(&local),
                // It is kept, and owed as it is from the next start on.
                Err(err) => log::warn!("{}: {err}", self.shown.path_of(&local.place())),
            }
        }
    }

    /// For when no program can write any more: waits until all that is owed is on the server, or cannot be for now.
    pub(super) async fn delivered(self: &Arc<Self>) {
        let debts = Arc::clone(self);
        let staged = tokio::task::spawn_blocking(move || debts.stage_all()).await;
        if let Err(err) = staged {
            log::error!("what was open is owed from the next start on: {err}");
        }
        self.deliver(self.owed_below(Path::new(""))).await;
        if let Some(OwedFile {
            path,
            last_reason: Some(why),
            ..
        }) = self.told().await
        {
            log::warn!("{path}: {why}; it is told at the next mount");
        }
    }

    /// Waits for each of `owed`, and tells which of them failed.
    async fn deliver(&self, owed: Vec<Arc<Local>>) -> Vec<(Arc<Local>, Undelivered)> {
        let each = owed.into_iter().map(|local| async move {
            let outcome = tokio::select! {
                biased;
                outcome = self.uploader.deliver_patiently(&local) => outcome,
                ended = self.ended() => Err(ended),
            };
            outcome.err().map(|why| (local, why))
        });
        let outcomes = stream::iter(each).buffer_unordered(WAITED_AT_ONCE);
        outcomes
            .filter_map(|failed| async { failed })
            .collect()
            .await
    }

    fn failures(&self, failed: &[(Arc<Local>, Undelivered)]) -> Vec<OwedFile> {
        let owed = self.uploader.owed();
        let owed: HashMap<LocalId, &Owed> =
            owed.iter().map(|owed| (owed.local.id(), owed)).collect();
        let failed = failed.iter().take(LISTED_MAX);
        failed
            .map(|(local, why)| {
                let known = owed.get(&local.id()).and_then(|owed| seen(owed));
                let told = match known {
                    Some(file) => told::tell(&file, &self.shown),
                    // Gone since then, by whoever deleted it.
                    None => OwedFile {
                        path: self.shown.path_of(&local.place()),
                        ..OwedFile::default()
                    },
                };
                OwedFile {
                    last_reason: Some(chain(why)),
                    ..told
                }
            })
            .collect()
    }

    /// How far the delivery of those that are waited for is.
    pub(super) fn progress(&self, waited_for: &WaitedFor) -> Progress {
        let (files, rate) = self.glance();
        waited_for.progress(&files, rate)
    }

    /// All that is owed now, to be waited for.
    pub(super) fn all(&self) -> WaitedFor {
        WaitedFor::of(&self.owed_below(Path::new("")))
    }

    /// Stops the uploads, so that nothing of ours is locked at the server. Who waits for them is told.
    pub(super) async fn close(&self) {
        self.uploader.close().await;
        self.closed.send_replace(true);
    }

    /// Resolves when nothing is delivered any more.
    async fn ended(&self) -> Undelivered {
        let mut closed = self.closed.subscribe();
        // The sender lives as long as `self`.
        closed.wait_for(|closed| *closed).await.ok();
        let why = "the mount ended before it was delivered; the next one delivers it";
        Undelivered::Blocked(why.to_owned().into())
    }

    /// Paths of what stays owed when the mount ends, those that are still open among them; and how many more there are.
    pub(super) fn stays_queued(&self) -> (Vec<String>, u64) {
        let mut owed = self.staging.owed();
        owed.retain(|local| {
            !matches!(local.state(), State::Delivered | State::Unlinked) && !local.is_local_only()
        });
        let untold = self.staging.to_tell().into_iter();
        let places = owed.iter().map(|local| local.place());
        let places = places.chain(untold.map(|untold| untold.place));
        let paths = places.map(|place| self.shown.path_of(&place));
        let deleted = self.fs.unremoved().into_iter();
        let deleted = deleted.map(|one| format!("{} (deleted)", self.shown.path_of(&one.place)));
        let unheard = self.fs.unheard().into_iter().map(|one| {
            let word = told::unheard_word(&one);
            format!("{} ({word})", self.shown.path_of(&one.place))
        });
        let mut paths: Vec<_> = paths.chain(deleted).chain(unheard).collect();
        let more = paths.len().saturating_sub(LISTED_MAX) as u64;
        paths.truncate(LISTED_MAX);
        (paths, more)
    }
}

/// None where nothing of it is owed by now, nor will be.
fn brief(owed: &Owed) -> Option<Brief> {
    let local = &owed.local;
    let stand = match local.state() {
        State::Dirty => Stand::Open,
        State::Staged(_) => Stand::of(owed.state),
        State::Delivered | State::Unlinked => return None,
    };
    Some(Brief {
        local: local.id(),
        stand,
        size_bytes: local.size_bytes(),
        sent_bytes: owed.sent_bytes,
    })
}

fn seen(owed: &Owed) -> Option<Seen> {
    let local = &owed.local;
    Some(Seen {
        brief: brief(owed)?,
        place: local.place(),
        since: match local.state() {
            State::Staged(since) => Some(since),
            State::Dirty | State::Delivered | State::Unlinked => None,
        },
        next_try: owed.next_try,
        base_entity: local.base().map(|base| base.entity.id.to_string()),
        delivery: local.delivery(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uri(text: &str) -> FileUri {
        FileUri::parse_wire(text).unwrap()
    }

    #[test]
    fn a_drive_is_the_same_however_the_shares_password_was_typed() {
        let of = |root: &str| drive("site", "user", &uri(root));
        assert_eq!(
            of("cloudreve://AbCd:hunter2@share/a"),
            of("cloudreve://AbCd@share/a")
        );
        assert!(!of("cloudreve://AbCd:hunter2@share/a").contains("hunter2"));
        assert_ne!(of("cloudreve://my/a"), of("cloudreve://my"));
        assert_ne!(
            of("cloudreve://my"),
            drive("site", "other", &uri("cloudreve://my"))
        );
    }
}
