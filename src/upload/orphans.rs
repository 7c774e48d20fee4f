//! Tries whose file is no more where it was: it was unlinked, replaced or renamed while the server did not answer.
//!
//! Such a try may have left a session, which locks its place, or a file that nobody knows of. It is noted among the steps
//! of the staging before its row goes, so that a restart does not forget it. What it achieved goes to the local file that
//! took its place; it is deleted only where it made a new file of which nobody else is the heir.

use std::sync::{Arc, Mutex};

use serde::{Deserialize, Serialize};
use tokio::sync::MutexGuard;

use super::attempt::{Attempt, Reached};
use super::body::{Flight, blocking};
use super::deliver::{Courier, OUTDATED};
use super::outcome::Failure;
use super::verdict::{Verdict, may_be_of};
use crate::api::Error;
use crate::asker;
use crate::entity::Entity;
use crate::entry::{FileKey, Tree};
use crate::model::{EntityId, FileId, FileInfo};
use crate::staging::{Local, LocalId, Place, Staging, State, StepsId};
use crate::uri::{FileSystem, FileUri};

/// As it is noted. Holds secrets.
#[derive(Clone, Serialize, Deserialize)]
struct Note {
    /// Number of the local file.
    orphan: u64,
    /// Where that belonged.
    uri: String,
    tree: u64,
    folder: String,
    attempt: Attempt,
    #[serde(default)]
    reached: Option<Reached>,
}

/// One of them, or a file that may become one.
#[derive(Clone)]
struct Orphan {
    id: LocalId,
    /// None where it is from before a restart.
    local: Option<Arc<Local>>,
    place: Place,
    attempt: Attempt,
    steps: Option<StepsId>,
    /// Somebody has it in his hands, and may be about to unlink it.
    held: bool,
    /// Nobody has looked yet what came of it, and nothing has taken its place.
    unseen: bool,
}

impl Orphan {
    /// What `local` has noted; none where that is nothing.
    fn of(local: &Arc<Local>) -> Option<Self> {
        Some(Self {
            id: local.id(),
            place: local.place(),
            attempt: Attempt::noted(&local.delivery())?,
            local: Some(Arc::clone(local)),
            steps: None,
            held: true,
            unseen: true,
        })
    }

    fn parse(steps: StepsId, text: &str) -> Option<Self> {
        let mut note: Note = serde_json::from_str(text).ok()?;
        if let Some(reached) = note.reached.take() {
            note.attempt.reaches(reached);
        }
        let uri = FileUri::parse_wire(&note.uri).ok()?;
        let place = Place {
            folder: FileKey {
                tree: Tree::of_number(note.tree),
                id: FileId(note.folder.as_str().into()),
            },
            folder_uri: uri.parent()?,
            name: uri.name()?.clone(),
            full: None,
        };
        Some(Self {
            id: LocalId(note.orphan),
            local: None,
            place,
            attempt: note.attempt,
            steps: Some(steps),
            held: false,
            unseen: true,
        })
    }

    /// What is noted of its try by now.
    fn newest(&self) -> Option<Attempt> {
        match &self.local {
            Some(local) => Attempt::noted(&local.delivery()),
            None => Some(self.attempt.clone()),
        }
    }

    fn text(&self) -> Option<String> {
        let note = Note {
            orphan: self.id.0,
            uri: self.place.uri().to_wire(),
            tree: self.place.folder.tree.number(),
            folder: self.place.folder.id.0.to_string(),
            reached: self.attempt.reached(),
            attempt: self.attempt.clone(),
        };
        serde_json::to_string(&note).ok()
    }

    /// Whether its file is no more.
    fn is_one(&self) -> bool {
        let state = self.local.as_ref().map(|local| local.state());
        state.is_none_or(|state| state == State::Unlinked)
    }

    /// Whether its file was given another place, and nobody knows yet what the try left in this one.
    fn is_moved(&self) -> bool {
        let Some(local) = &self.local else {
            return false;
        };
        if self.is_one() {
            return false;
        }
        let went_to = Attempt::noted(&local.delivery()).and_then(|attempt| attempt.uri());
        went_to.is_some_and(|uri| uri == self.place.uri() && uri != local.place().uri())
    }

    /// Whether `local` took its place.
    fn has_heir(&self, local: &Local) -> bool {
        if local.id() == self.id || !matches!(local.state(), State::Dirty | State::Staged(_)) {
            return false;
        }
        match (&self.attempt.over, local.base()) {
            (Some(_), Some(base)) => self.attempt.is_over(&base.file, &base.entity.id),
            (None, None) => self.attempt.is_to(&local.place()),
            _ => false,
        }
    }
}

/// All of them.
#[derive(Default)]
pub(super) struct Orphans {
    all: Mutex<Vec<Orphan>>,
    /// Whoever settles one.
    turn: tokio::sync::Mutex<()>,
}

/// Whether a note among the steps of a staging is one of these.
pub(super) fn is_note(text: &str) -> bool {
    serde_json::from_str::<Note>(text).is_ok()
}

impl Orphans {
    /// Those that were noted before the restart; what is owed still looks after its own.
    pub(super) fn found(staging: &Staging) -> Self {
        let noted = staging.unfinished().into_iter();
        let all = noted.filter_map(|(id, text)| Orphan::parse(id, &text));
        let owed = staging.owed();
        let all = all.map(|orphan| Orphan {
            local: owed.iter().find(|local| local.id() == orphan.id).cloned(),
            ..orphan
        });
        Self {
            all: Mutex::new(all.collect()),
            turn: Default::default(),
        }
    }

    /// Whether there is anything to be settled, or to be forgotten.
    pub(super) fn is_empty(&self) -> bool {
        self.all.lock().unwrap().iter().all(|orphan| orphan.held)
    }

    /// A session of `local` could not be cancelled: whoever holds it may unlink it now. Noted when this returns.
    pub(super) async fn expect(&self, staging: &Staging, local: &Arc<Local>) {
        let Some(mut orphan) = Orphan::of(local) else {
            return;
        };
        let known = {
            let all = self.all.lock().unwrap();
            all.iter().find(|one| one.id == orphan.id).cloned()
        };
        if let Some(known) = known {
            orphan.steps = known.steps;
            if known.attempt.uri() == orphan.attempt.uri() {
                // Its file was renamed since.
                orphan.place = known.place;
            }
        }
        let noted = match (orphan.steps, orphan.text()) {
            (Some(id), Some(text)) => staging.go_on(id, text).await,
            (None, Some(text)) => staging.begin(text).await.map(|id| orphan.steps = Some(id)),
            (_, None) => Ok(()),
        };
        if let Err(error) = noted {
            log::warn!("an upload session could not be noted before its file goes: {error}");
        }
        self.put(orphan);
    }

    /// Nobody holds `local` any more. Whether there is anything to be settled, or to be forgotten, now.
    pub(super) fn released(&self, local: &Arc<Local>) -> bool {
        let is_one = local.state() == State::Unlinked;
        let known = {
            let mut all = self.all.lock().unwrap();
            let known = all.iter_mut().find(|orphan| orphan.id == local.id());
            known.map(|known| known.held = false).is_some()
        };
        match Orphan::of(local) {
            Some(orphan) if is_one && !known => {
                self.put(Orphan {
                    held: false,
                    ..orphan
                });
                true
            }
            _ => known,
        }
    }

    /// Whether one is in somebody's hands whose try went to `place`.
    pub(super) fn is_held_at(&self, place: &Place) -> bool {
        let all = self.all.lock().unwrap();
        let mut held = all.iter().filter(|orphan| orphan.held);
        held.any(|orphan| orphan.attempt.is_to(place))
    }

    /// Whether `info` may be what came of one that nobody has looked for yet: a new file that was unlinked or renamed here.
    /// `now` tells where is what was at a place a moment ago.
    pub(super) fn may_be_left(&self, info: &FileInfo, now: impl Fn(&FileUri) -> FileUri) -> bool {
        let all = self.all.lock().unwrap();
        all.iter().any(|orphan| {
            let was = orphan.place.uri();
            may_be_of(&orphan.attempt, info)
                && ((orphan.unseen && orphan.is_one()) || orphan.is_moved())
                && (was == info.uri || now(&was) == info.uri)
        })
    }

    /// What came of `orphan` is known, or is for the one that took its place to find out.
    fn is_seen(&self, orphan: &Orphan) {
        let mut all = self.all.lock().unwrap();
        if let Some(orphan) = all.iter_mut().find(|one| one.id == orphan.id) {
            orphan.unseen = false;
        }
    }

    fn put(&self, orphan: Orphan) {
        let mut all = self.all.lock().unwrap();
        all.retain(|one| one.id != orphan.id);
        all.push(orphan);
    }

    fn those(&self, which: impl Fn(&Orphan) -> bool) -> Vec<Orphan> {
        let all = self.all.lock().unwrap();
        all.iter().filter(|orphan| which(orphan)).cloned().collect()
    }

    async fn forget(&self, staging: &Staging, orphan: &Orphan) {
        self.all.lock().unwrap().retain(|one| one.id != orphan.id);
        if let Some(id) = orphan.steps
            && let Err(error) = staging.done(id).await
        {
            log::warn!("what is left of an upload could not be noted as settled: {error}");
        }
    }
}

impl Courier {
    /// Settles what is left of tries of files that are no more, as far as that goes now.
    pub(super) async fn settle_orphans(&self) {
        let _turn = self.orphans.turn.lock().await;
        for orphan in self.orphans.those(|orphan| !orphan.held) {
            if orphan.is_moved() {
                // Its next try finds out.
            } else if !orphan.is_one() {
                // Its file is still there, and has its own note.
                self.orphans.forget(&self.staging, &orphan).await;
            } else if let Err(failure) = self.settle_orphan(&orphan, None).await {
                log::info!(
                    "what is left of an upload of {} stays for now: {}",
                    orphan.place.uri(),
                    failure.words()
                );
            }
        }
    }

    /// Settles what is left of files in whose place `flight` goes, before it looks there.
    pub(super) async fn inherit(&self, flight: &Arc<Flight>) -> Result<(), Failure> {
        let concerns = |orphan: &Orphan| orphan.is_one() && orphan.has_heir(&flight.local);
        if self.orphans.those(concerns).is_empty() {
            return Ok(());
        }
        let _turn = self.orphans.turn.lock().await;
        for orphan in self.orphans.those(concerns) {
            self.orphans.is_seen(&orphan);
            self.settle_orphan(&orphan, Some(flight)).await?;
        }
        Ok(())
    }

    /// Waits until nobody else settles any, no longer than for an answer.
    async fn orphans_turn(&self) -> Result<MutexGuard<'_, ()>, Failure> {
        let longest = self.options.timeout;
        let turn = asker::within(longest, self.orphans.turn.lock()).await;
        turn.map_err(|gave_up| Failure::Api(Error::gave_up(gave_up, longest)))
    }

    /// Settles what is left of files that were in `folder`, of which one sees nothing here: they are no more, or were new and
    /// have another place. Whether there was any.
    pub(super) async fn settle_left_in(&self, folder: &FileKey) -> Result<bool, Failure> {
        let is_left = |orphan: &Orphan| !orphan.held && orphan.place.folder == *folder;
        let _turn = self.orphans_turn().await?;
        let is_gone = |orphan: &Orphan| {
            let is_new = orphan.attempt.over.is_none();
            orphan.is_one() || (is_new && orphan.is_moved())
        };
        let left = self
            .orphans
            .those(|orphan| is_left(orphan) && is_gone(orphan));
        for orphan in &left {
            self.settle_orphan(orphan, None).await?;
        }
        Ok(!left.is_empty())
    }

    /// Whether version `now` of `file` came of a try over the version `seen` whose file is no more: it is ours, though nobody
    /// has heard of it.
    pub(super) async fn is_left(
        &self,
        file: &FileId,
        seen: &EntityId,
        now: &EntityId,
    ) -> Result<bool, Failure> {
        let is_of_it = |orphan: &Orphan| orphan.attempt.is_over(file, seen);
        let _turn = self.orphans_turn().await?;
        for orphan in self
            .orphans
            .those(|orphan| is_of_it(orphan) && orphan.is_one())
        {
            let Some(newest) = orphan.newest() else {
                continue;
            };
            let achieved = self.achieved(&orphan.place, &newest).await?;
            if achieved.is_some_and(|(_, entity)| entity.id == *now) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    async fn settle_orphan(
        &self,
        orphan: &Orphan,
        heir: Option<&Arc<Flight>>,
    ) -> Result<(), Failure> {
        let newest = orphan.newest();
        let may_come = newest
            .as_ref()
            .is_some_and(|attempt| attempt.may_come_late(self.api.server_now()));
        if may_come && heir.is_none() && self.has_heir(orphan) {
            // A session of the heir's own might be taken for it; the heir looks before it opens one.
            return Ok(());
        }
        let achieved = match newest {
            Some(attempt) => self.achieved(&orphan.place, &attempt).await?,
            None => None,
        };
        if achieved.is_none() {
            self.orphans.is_seen(orphan);
        }
        if may_come && achieved.is_none() {
            return Ok(());
        }
        if let Some((info, entity)) = achieved {
            match heir {
                Some(flight) => {
                    let local = Arc::clone(&flight.local);
                    let file = info.id.clone();
                    blocking(move || local.delivered(OUTDATED, file, entity.id, None)).await?;
                }
                // It is told by its own upload, which knows what it goes over.
                None if self.has_heir(orphan) => return Ok(()),
                None if orphan.attempt.over.is_none() && info.entity == entity.id => {
                    self.delete_orphan(&info.id, &entity).await?;
                }
                // Its file is to be deleted: who does that asks whose version this is.
                None if self.staging.clearing().has(&info.uri) => return Ok(()),
                // A version more of a file that somebody else may have.
                None => {}
            }
        }
        self.orphans.forget(&self.staging, orphan).await;
        Ok(())
    }

    /// Whether something that is owed took its place.
    fn has_heir(&self, orphan: &Orphan) -> bool {
        let owed = self.staging.owed();
        owed.iter().any(|local| orphan.has_heir(local))
    }

    /// Cancels its session. The version that came of it, if one did.
    async fn achieved(
        &self,
        place: &Place,
        attempt: &Attempt,
    ) -> Result<Option<(FileInfo, Entity)>, Failure> {
        let look = self.look(place, attempt).await?;
        let (verdict, look) = self.cancelled(place, attempt, look).await?;
        match (verdict, look) {
            (Verdict::There { entity, .. }, Some((info, _)))
                if self.is_ours(None, attempt, &info, &entity).await? =>
            {
                Ok(Some((info, entity)))
            }
            _ => Ok(None),
        }
    }

    /// Deletes the file `id`, wherever it is, if nobody changed it and nothing that is owed goes there.
    pub(super) async fn delete_orphan(&self, id: &FileId, entity: &Entity) -> Result<(), Failure> {
        let has_base = |local: &Arc<Local>| local.base().is_some_and(|base| base.file == *id);
        if self.staging.owed().iter().any(has_base) {
            return Ok(());
        }
        let info = match self.api.info_by_id(id).await {
            Ok(info) => info,
            Err(Error::NotFound) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        let in_trash = *info.uri.file_system() == FileSystem::Trash;
        if info.id != *id || info.entity != entity.id || in_trash {
            return Ok(());
        }
        match self.api.delete_one(&info.uri, self.options.delete).await {
            Ok(()) | Err(Error::NotFound) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}
