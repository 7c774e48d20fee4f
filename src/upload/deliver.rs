//! One file to the server: what is left of earlier tries, where it goes, and what became of it.
//!
//! Each step may be the last one before the program is killed: what is asked for is noted before it is asked, and the
//! journal forgets a file only after a look at the server showed it there. Never overwrites a version other than the one
//! that the writer had before him, unless that is empty.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::aim::Aim;
use super::attempt::{Attempt, Content, Over};
use super::body::{Flight, blocking};
use super::detour::Detours;
use super::look::{Look, look};
use super::orphans::Orphans;
use super::outcome::Failure;
use super::place::{Places, Target};
use super::proof::{Proof, Witness};
use super::roll::Roll;
use super::verdict::{Verdict, came_between, judge};
use super::{Complete, Options, Overwrite};
use crate::api::{Api, Error};
use crate::crash::{self, Point};
use crate::entity::Entity;
use crate::expiry::Expiry;
use crate::model::{EntityId, FileInfo};
use crate::staging::{Local, Place, Staging, State, There};

/// Turns of one delivery: each ends with the file there, or with something learned that makes another turn worth while.
const ROUNDS: u32 = 6;
/// A generation that no content has.
pub(super) const OUTDATED: u64 = u64::MAX;

/// Delivers single files.
pub(super) struct Courier {
    pub(super) api: Api,
    pub(super) complete: Complete,
    pub(super) options: Options,
    pub(super) places: Places,
    pub(super) roll: Roll,
    pub(super) staging: Arc<Staging>,
    /// What is left of files that are no more.
    pub(super) orphans: Orphans,
    /// What copies went through and is still there.
    pub(super) detours: Detours,
}

/// How a delivery ended that did not fail.
pub(super) enum Outcome {
    /// It is on the server.
    Delivered {
        /// As the server says.
        info: Box<FileInfo>,
        /// Beside another version.
        conflict: bool,
        /// Which content it was.
        generation: u64,
    },
    /// It ended before its time: the content changed, or somebody wants the file.
    Overtaken,
}

/// What a turn came to.
pub(super) enum Step {
    /// The end.
    Done(Outcome),
    /// Something was learned: another turn.
    Again,
}

/// A content that is on the server.
pub(super) struct Landed {
    /// What is there.
    pub(super) info: FileInfo,
    /// As which version.
    pub(super) entity: EntityId,
    /// Which one it replaced.
    pub(super) over: Option<EntityId>,
    /// The one below it, if the server keeps one.
    pub(super) beneath: Option<Entity>,
    /// Which content of the local file it is; [`OUTDATED`] for one that it has no more.
    pub(super) generation: u64,
}

impl Courier {
    /// Delivers the file; `sent` is called when all of it is on its way and it only remains to be looked for.
    pub(super) async fn deliver(
        &self,
        flight: &Arc<Flight>,
        sent: &(dyn Fn() + Send + Sync),
    ) -> Result<Outcome, Failure> {
        for _ in 0..ROUNDS {
            match self.turn(flight, sent).await? {
                Step::Done(outcome) => return Ok(outcome),
                Step::Again => {}
            }
        }
        // Others are faster; the next try may find more peace.
        Err(Failure::Api(Error::Changed))
    }

    async fn turn(
        &self,
        flight: &Arc<Flight>,
        sent: &(dyn Fn() + Send + Sync),
    ) -> Result<Step, Failure> {
        let Some(content) = self.content(flight).await? else {
            // What an earlier try left open is of a content that is no more, or in somebody's way.
            return Ok(Step::Done(self.abandon_noted(flight).await?));
        };
        if flight.local.is_local_only() {
            // All of it is here now, where it stays.
            return Ok(Step::Done(self.abandon_noted(flight).await?));
        }
        if let Some(step) = self.settle(flight, &content, sent).await? {
            return Ok(step);
        }
        self.inherit(flight).await?;
        self.may_go(flight)?;
        let Some(target) = self.target(flight, &content).await? else {
            return Ok(Step::Again);
        };
        let target = match target {
            Aim::At(target) => target,
            Aim::There(landed) => return self.land(flight, landed).await,
        };
        if flight.halt.is_set() {
            return Ok(Step::Done(Outcome::Overtaken));
        }
        self.is_clear(&target)?;
        let Some(target) = self.prepare(flight, target, &content).await? else {
            return Ok(Step::Again);
        };
        if let Some(step) = self.copy(flight, &target, &content, sent).await? {
            return Ok(step);
        }
        let refused = target.clone();
        let step = match content.size_bytes {
            0 => self.put_empty(flight, target, &content).await,
            _ => match self.open(flight, &target, &content).await {
                Ok(attempt) => self.send(flight, &content, attempt, sent).await,
                Err(Failure::Api(Error::Exists)) => self.taken(flight, &target, &content).await,
                Err(Failure::Api(Error::Changed)) => Ok(Step::Again),
                Err(failure) => Err(failure),
            },
        };
        match step {
            Err(Failure::Blocked(_)) if self.shorten(&refused).await => Ok(Step::Again),
            step => step,
        }
    }

    /// An error where the server is to hear first of what was made or renamed here.
    fn may_go(&self, flight: &Flight) -> Result<(), Failure> {
        let (place, base) = (flight.local.place(), flight.local.base());
        match self.staging.clearing().waits(&place, base.as_ref()) {
            Some(why) => Err(Failure::Api(Error::Local(why.to_owned()))),
            None => Ok(()),
        }
    }

    /// An error where what was deleted at the place of a new file is to go first.
    fn is_clear(&self, target: &Target) -> Result<(), Failure> {
        match target {
            Target::New(uri) if self.staging.clearing().has(uri) => {
                let why = "what was deleted under its name is to go from the server first";
                Err(Failure::Api(Error::Local(why.to_owned())))
            }
            Target::New(_) | Target::Over { .. } => Ok(()),
        }
    }

    /// What is to be sent, all of it here; none where it is not to be, now.
    async fn content(&self, flight: &Arc<Flight>) -> Result<Option<Content>, Failure> {
        let local = &flight.local;
        let generation = local.generation();
        if flight.halt.is_set() || !matches!(local.state(), State::Staged(_)) {
            return Ok(None);
        }
        flight.takes(generation);
        if local.missing().is_some() {
            tokio::select! {
                completed = (self.complete)(Arc::clone(local)) => completed?,
                () = flight.halt.set() => return Ok(None),
            }
        }
        let (size_bytes, modified) = (local.size_bytes(), local.mtime());
        let sample = flight.sample(generation, size_bytes).await;
        if local.generation() != generation || local.missing().is_some() {
            return Ok(None);
        }
        Ok(Some(Content {
            generation,
            size_bytes,
            modified,
            sample: sample?,
        }))
    }

    /// What an earlier try left behind: goes on with it, takes what it achieved, or clears it away. None: all is clear.
    async fn settle(
        &self,
        flight: &Arc<Flight>,
        content: &Content,
        sent: &(dyn Fn() + Send + Sync),
    ) -> Result<Option<Step>, Failure> {
        let local = &flight.local;
        let Some(attempt) = Attempt::noted(&local.delivery()) else {
            return Ok(None);
        };
        let same = attempt.is_of(content);
        let meant = attempt.is_meant(&local.place(), local.base().as_ref());
        let look = self.look(&flight.local.place(), &attempt).await?;
        let verdict = judge(&attempt, look.as_ref().map(|(info, all)| (info, &all[..])));
        let is_open = verdict == Verdict::Open;
        // What a power cut may have torn replaces nothing.
        let sound = attempt.over.is_none() || !local.is_doubtful();
        if is_open && same && meant && sound && !self.is_spent(&attempt) {
            return Ok(Some(self.send(flight, content, attempt, sent).await?));
        }
        match self.clear(flight, &attempt, look).await? {
            Some(landed) => Ok(Some(self.land(flight, landed).await?)),
            None => Ok(None),
        }
    }

    /// Whether going on with its session is of no use.
    fn is_spent(&self, attempt: &Attempt) -> bool {
        const MOST_STRIKES: u32 = 3;
        const MARGIN: Duration = Duration::from_secs(60);
        let Some(session) = &attempt.session else {
            return true;
        };
        let expiry = SystemTime::UNIX_EPOCH + Duration::from_secs(session.expires);
        attempt.strikes >= MOST_STRIKES || Expiry::at(expiry).is_near(self.api.server_now(), MARGIN)
    }

    /// What the server has where a try goes whose file belongs to `place`.
    pub(super) async fn look(
        &self,
        place: &Place,
        attempt: &Attempt,
    ) -> Result<Option<Look>, Failure> {
        let Some(uri) = attempt.uri() else {
            return Ok(None);
        };
        Ok(look(&self.api, &self.places, place, attempt, &uri).await?)
    }

    /// Takes away what a try left on the server, and its note unless more may come of it; or gives what it achieved, if it
    /// was more than that.
    pub(super) async fn clear(
        &self,
        flight: &Arc<Flight>,
        attempt: &Attempt,
        look: Option<Look>,
    ) -> Result<Option<Landed>, Failure> {
        let place = flight.local.place();
        let (verdict, look) = self.cancelled(&place, attempt, look).await?;
        let landed = match (verdict, look) {
            (
                Verdict::There {
                    entity, beneath, ..
                },
                Some((info, _)),
            ) if self
                .is_ours(Some(&flight.local), attempt, &info, &entity)
                .await? =>
            {
                Some(Landed {
                    info,
                    entity: entity.id,
                    over: attempt.over.as_ref().map(Over::entity),
                    beneath,
                    generation: attempt.generation,
                })
            }
            _ => None,
        };
        if landed.is_none() && !attempt.may_come_late(self.api.server_now()) {
            flight.note(Attempt::forget_in).await?;
        }
        Ok(landed)
    }

    /// What a look at the place of a try shows once no session of it is open. Its session is cancelled by its id whatever
    /// `look` shows: a mark on the file tells that one is open, and no mark does not tell that none is.
    pub(super) async fn cancelled(
        &self,
        place: &Place,
        attempt: &Attempt,
        look: Option<Look>,
    ) -> Result<(Verdict, Option<Look>), Failure> {
        let judged = |look: &Option<Look>| {
            let shown = look.as_ref().map(|(info, all)| (info, &all[..]));
            judge(attempt, shown)
        };
        let verdict = judged(&look);
        let id = match &verdict {
            Verdict::Lost(mark) => Some(mark.clone()),
            _ => attempt.session_id().map(str::to_owned),
        };
        let (Some(id), Some((info, _))) = (id, &look) else {
            return Ok((verdict, look));
        };
        let cancelled = self.api.cancel_session(&id, &info.uri).await;
        let was_marked = matches!(verdict, Verdict::Open | Verdict::Lost(_));
        // An error may come after the deed, and its last request may have been at work still.
        let look = self.look(place, attempt).await?;
        let verdict = judged(&look);
        let is_marked = matches!(verdict, Verdict::Open | Verdict::Lost(_));
        match cancelled {
            Err(error) if is_marked || !(was_marked || is_ended(&error)) => Err(error.into()),
            Ok(()) if is_marked => Err(Failure::Api(Error::Locked(Vec::new()))),
            Ok(()) | Err(_) => Ok((verdict, look)),
        }
    }

    /// Whether a version that looks like it has the bytes that the try sent, or is the copy that it asked for. `local`, if
    /// there still is one, may have another content by now.
    pub(super) async fn is_ours(
        &self,
        local: Option<&Arc<Local>>,
        attempt: &Attempt,
        info: &FileInfo,
        entity: &Entity,
    ) -> Result<bool, Failure> {
        // With no bytes there is nothing to compare, and nothing that could be lost.
        if attempt.is_copy(info, &entity.id) || (attempt.size_bytes, entity.size_bytes) == (0, 0) {
            return Ok(true);
        }
        let witness = Witness::of_attempt(local, attempt);
        let proof = witness.prove(&self.api, &info.uri, entity).await?;
        // What cannot be told any more is somebody else's: then both are kept.
        Ok(proof == Proof::Same)
    }

    /// Ends what is noted of a file that is not to be uploaded now.
    pub(super) async fn abandon_noted(&self, flight: &Arc<Flight>) -> Result<Outcome, Failure> {
        let Some(attempt) = Attempt::noted(&flight.local.delivery()) else {
            return Ok(Outcome::Overtaken);
        };
        let look = self.look(&flight.local.place(), &attempt).await?;
        match self.clear(flight, &attempt, look).await? {
            Some(landed) => match self.land(flight, landed).await? {
                Step::Done(outcome) => Ok(outcome),
                Step::Again => Ok(Outcome::Overtaken),
            },
            None => Ok(Outcome::Overtaken),
        }
    }

    /// It is there: the journal forgets it, and the version that it replaced goes.
    pub(super) async fn land(&self, flight: &Arc<Flight>, landed: Landed) -> Result<Step, Failure> {
        let landed = match self.at_home(flight, landed).await? {
            Some(landed) => landed,
            None => {
                flight.note(Attempt::forget_in).await?;
                return Ok(Step::Again);
            }
        };
        crash::pass(Point::Seen);
        let conflict = flight.local.delivery().conflict.is_some();
        let local = Arc::clone(&flight.local);
        let (generation, file) = (landed.generation, landed.info.id.clone());
        let entity = landed.entity.clone();
        let there = Some(There::of(&landed.info));
        let state = blocking(move || local.delivered(generation, file, entity, there)).await?;
        if state == State::Unlinked {
            // What is there is one of the orphans, by the note that stays.
            return Ok(Step::Done(Outcome::Overtaken));
        }
        crash::pass(Point::Forgotten);
        flight
            .note(|delivery| {
                Attempt::forget_in(delivery);
                delivery.conflict = None;
            })
            .await?;
        let between = came_between(landed.over.as_ref(), landed.beneath.as_ref());
        let conflict = conflict || between.is_some();
        if let Some(theirs) = between {
            log::warn!(
                "{} was changed by somebody else in the moment it was replaced: their version is {} of its versions",
                landed.info.uri,
                theirs.id
            );
        } else if self.options.overwrite == Overwrite::Replace
            && landed.over.is_some()
            && landed.over == landed.beneath.as_ref().map(|beneath| beneath.id.clone())
        {
            self.drop_replaced(&landed).await;
            crash::pass(Point::ReplacedDropped);
        }
        Ok(Step::Done(Outcome::Delivered {
            generation,
            info: Box::new(landed.info),
            conflict,
        }))
    }

    /// Drops the replaced version, where the server keeps it. What does not succeed leaves a version more.
    async fn drop_replaced(&self, landed: &Landed) {
        let Some(over) = &landed.over else { return };
        let dropped = match self.api.keeps_versions(&landed.info.name).await {
            Ok(true) => self.api.delete_version(&landed.info.uri, over).await,
            Ok(false) => Ok(()),
            Err(error) => Err(error),
        };
        match dropped {
            Ok(()) | Err(Error::EntityGone) => {}
            Err(error) => log::debug!("the replaced version of {} stays: {error}", landed.info.uri),
        }
    }
}

/// Whether the server's answer to a cancellation says that it knows no such session at that file: another one is open
/// there, or nothing is (→ api part 2 §5.8).
fn is_ended(error: &Error) -> bool {
    matches!(
        error,
        Error::NotFound | Error::SessionGone | Error::Locked(_) | Error::Refused { code: 404, .. }
    )
}

/// The content is what `info` shows.
pub(super) fn there(info: FileInfo, content: &Content) -> Landed {
    Landed {
        entity: info.entity.clone(),
        info,
        over: None,
        beneath: None,
        generation: content.generation,
    }
}

/// Whether there is anything to do for it. Of what stays here that is so while a part of it is only in a version of the
/// server's, which may go at any time, or while a session is open that was begun under another name.
pub(super) fn is_owed(local: &Local) -> bool {
    let is_done = || local.missing().is_none() && local.delivery().session.is_none();
    matches!(local.state(), State::Staged(_)) && !(local.is_local_only() && is_done())
}
