//! One upload session from its opening to the look at what came of it.

use std::ops::Range;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::FutureExt;

use super::attempt::{Attempt, Content, Over, meant};
use super::body::Flight;
use super::cipher::Cipher;
use super::deliver::{Courier, Landed, Outcome, Step, there};
use super::outcome::{Failure, is_refusal, of_name, of_room};
use super::place::Target;
use super::policy::{Done, Note, Progress, Transfer, transfer};
use super::roll::Coming;
use super::told::of_content;
use super::verdict::{Verdict, is_near, judge};
use crate::api::{Error, NewSession};
use crate::crash::{self, Point};
use crate::staging::Delivery;
use crate::uri::FileUri;

/// One kind of storage tells the server in its own time that all is there (→ api part 2 §6).
const TELLS_LATER: &str = "upyun";
/// How often, and …
const LOOKS: u32 = 6;
/// … how long after one another it is looked for then: twice as long each time.
const FIRST_LOOK: Duration = Duration::from_millis(500);

impl Courier {
    /// Opens a session; what failed for sure leaves the note that was there before.
    pub(super) async fn open(
        &self,
        flight: &Arc<Flight>,
        target: &Target,
        content: &Content,
    ) -> Result<Attempt, Failure> {
        let (uri, over) = match target {
            Target::New(uri) => {
                self.api.is_told_apart(uri).await?;
                (uri, None)
            }
            Target::Over {
                uri, file, entity, ..
            } => (uri, Some(Over::new(file, entity))),
        };
        let (mut attempt, lost) = self.intend(flight, uri, (over, None), content).await?;
        crash::pass(Point::SessionMeant);
        let new = NewSession {
            uri: uri.clone(),
            size_bytes: content.size_bytes,
            modified: content.modified,
            over: attempt.over.as_ref().map(Over::entity),
            metadata: of_content(&flight.local, content, attempt.over.is_none()),
        };
        let session = match self.api.open_session(&new).await {
            Ok(session) => session,
            Err(error) => {
                // After a lost answer the note stays: somebody has to look whether a session is open now.
                if is_refusal(&error) {
                    withdraw(flight, lost).await?;
                }
                if matches!(error, Error::NotFound) {
                    // Its folder has another place by now.
                    self.places.forget();
                }
                return Err(self.meaning(flight, target, content, error).await);
            }
        };
        crash::pass(Point::SessionOpened);
        let id = session.session_id.clone();
        attempt.session = Some(session);
        // Not waited for: after a crash in these milliseconds the intent is there, with which the session is found by its
        // mark, and a file that was sent whole by its bytes.
        let opened = attempt.clone();
        let noted = flight.note_soon(move |delivery| opened.note_in(delivery));
        if let Err(err) = noted.await {
            if let Err(error) = self.api.cancel_session(&id, uri).await {
                log::warn!("an upload session of {uri} is left open: {error}");
            }
            return Err(err.into());
        }
        crash::pass(Point::SessionNoted);
        Ok(attempt)
    }

    /// Notes the intent to bring the content there, over a version or as a copy of one; also the intent that was noted
    /// before, if its answer was lost and may yet come.
    pub(super) async fn intend(
        &self,
        flight: &Arc<Flight>,
        uri: &FileUri,
        (over, copied): (Option<Over>, Option<Over>),
        content: &Content,
    ) -> Result<(Attempt, Option<Attempt>), Failure> {
        let local = &flight.local;
        let mut attempt = Attempt::new(
            uri,
            over,
            meant(&local.place(), local.base().as_ref()),
            content,
            self.api.server_now(),
        );
        attempt.copied = copied;
        attempt.with_seen(local.base().map(|base| base.entity.id).as_ref());
        let lost = Attempt::noted(&local.delivery()).filter(|noted| noted.session.is_none());
        if let Some(lost) = &lost {
            attempt.comes_after(lost);
        }
        note(flight, &attempt).await?;
        Ok((attempt, lost))
    }

    /// What an answer to the opening of a session means.
    async fn meaning(
        &self,
        flight: &Arc<Flight>,
        target: &Target,
        content: &Content,
        error: Error,
    ) -> Failure {
        let (Target::New(uri) | Target::Over { uri, .. }) = target;
        match (&error, target, flight.local.base()) {
            (Error::Full, Target::Over { .. }, Some(base)) => match self.api.capacity().await {
                Ok(capacity) => {
                    let free = capacity.total_bytes.saturating_sub(capacity.used_bytes);
                    of_room(content.size_bytes, base.entity.size_bytes, free)
                }
                Err(_) => error.into(),
            },
            _ => of_name(error, uri),
        }
    }

    /// Sends what the session does not have yet, and looks what came of it.
    pub(super) async fn send(
        &self,
        flight: &Arc<Flight>,
        content: &Content,
        attempt: Attempt,
        sent: &(dyn Fn() + Send + Sync),
    ) -> Result<Step, Failure> {
        let before = attempt.done.chunks.len();
        let coming = self.coming(&attempt);
        let shared = Arc::new(Mutex::new(attempt));
        let result = self.transfer(flight, content, &shared).await;
        let mut attempt = shared.lock().unwrap().clone();
        // How far the session is belongs to it alone from here on.
        flight.sent_bytes.store(0, Ordering::Relaxed);
        if result.is_ok() {
            flight.is_sent();
            crash::pass(Point::AllSent);
            sent();
            if let Some(landed) = self.seen(coming, &attempt, content).await {
                return self.land(flight, landed).await;
            }
            return self.verify(flight, content, &attempt).await;
        }
        let error = match result {
            Err(error) if !flight.halt.is_set() => error,
            _ => return self.stopped(flight, &attempt).await,
        };
        log::debug!("upload of {}: {error}", flight.local.place().uri());
        if is_refusal(&error) {
            return self.refused(flight, &attempt, error).await;
        }
        attempt.strikes = match attempt.done.chunks.len() > before {
            true => 0,
            false => attempt.strikes + 1,
        };
        note(flight, &attempt).await?;
        Err(error.into())
    }

    async fn transfer(
        &self,
        flight: &Arc<Flight>,
        content: &Content,
        shared: &Arc<Mutex<Attempt>>,
    ) -> Result<(), Error> {
        let (session, done) = {
            let attempt = shared.lock().unwrap();
            (attempt.session.clone(), attempt.done.clone())
        };
        let Some(session) = session else {
            return Err(Error::SessionGone);
        };
        let generation = content.generation;
        let cipher = Cipher::of(&session)?;
        let body = |range: Range<u64>| cipher.part(range.start, flight.part(generation, range));
        let progress = Progress::new(done, journal(flight, shared), Arc::clone(&flight.halt));
        let whole = Transfer {
            api: &self.api,
            session: &session,
            size_bytes: content.size_bytes,
            body: &body,
            progress: &progress,
        };
        let result = transfer(&whole).await;
        let mut attempt = shared.lock().unwrap();
        attempt.done = progress.done();
        attempt.prints.merge(flight.prints(generation));
        drop(attempt);
        result
    }

    /// A new file is on its way to its folder, where others may be, too.
    fn coming(&self, attempt: &Attempt) -> Option<Coming> {
        let uri = attempt.uri().filter(|_| attempt.over.is_none())?;
        self.roll.coming(&uri)
    }

    /// What came of a new file, where it is seen among others that went the same way and is beyond doubt.
    async fn seen(
        &self,
        coming: Option<Coming>,
        attempt: &Attempt,
        content: &Content,
    ) -> Option<Landed> {
        let name = attempt.uri()?.name()?.clone();
        let info = coming?.seen(&self.api, &name).await?;
        let verdict = judge(attempt, Some((&info, &[])));
        let is_beyond_doubt = info.upload_session().is_none()
            && matches!(verdict, Verdict::There { current: true, .. });
        is_beyond_doubt.then(|| there(info, content))
    }

    /// The answer was that all is well; only the file tells.
    async fn verify(
        &self,
        flight: &Arc<Flight>,
        content: &Content,
        attempt: &Attempt,
    ) -> Result<Step, Failure> {
        let mut delay = FIRST_LOOK;
        for nth in 1.. {
            let look = self.look(&flight.local.place(), attempt).await?;
            let shown = look.as_ref().map(|(info, all)| (info, &all[..]));
            let later = attempt
                .session
                .as_ref()
                .is_some_and(|session| session.policy == TELLS_LATER && !session.relay);
            match judge(attempt, shown) {
                Verdict::Open if later && nth < LOOKS => {
                    tokio::time::sleep(delay).await;
                    delay *= 2;
                    continue;
                }
                Verdict::There {
                    entity, beneath, ..
                } if look.as_ref().is_some_and(|(info, _)| {
                    entity.id == info.entity && is_near(info.updated, attempt.modified())
                }) =>
                {
                    let Some((info, _)) = look else { break };
                    let landed = Landed {
                        info,
                        entity: entity.id,
                        over: attempt.over.as_ref().map(Over::entity),
                        beneath,
                        generation: content.generation,
                    };
                    return self.land(flight, landed).await;
                }
                // What only looks like it may be what an open session has so far.
                _ => match self.clear(flight, attempt, look).await? {
                    Some(landed) => return self.land(flight, landed).await,
                    None => break,
                },
            }
        }
        Err(Failure::Api(Error::Refused {
            code: 0,
            said: "it said that the upload is complete, and the file does not show it".into(),
        }))
    }

    /// The content changed under way, our disk failed, or somebody wants the file.
    async fn stopped(&self, flight: &Arc<Flight>, attempt: &Attempt) -> Result<Step, Failure> {
        note(flight, attempt).await?;
        let look = self.look(&flight.local.place(), attempt).await?;
        let landed = self.clear(flight, attempt, look).await?;
        match (landed, flight.broken()) {
            (Some(landed), _) => self.land(flight, landed).await,
            (None, Some(broken)) => Err(Failure::Disk(broken)),
            (None, None) => Ok(Step::Done(Outcome::Overtaken)),
        }
    }

    /// The server or the storage does not take it, or does not know the session any more.
    async fn refused(
        &self,
        flight: &Arc<Flight>,
        attempt: &Attempt,
        error: Error,
    ) -> Result<Step, Failure> {
        let look = self.look(&flight.local.place(), attempt).await?;
        let landed = self.clear(flight, attempt, look).await?;
        match (landed, &error) {
            (Some(landed), _) => self.land(flight, landed).await,
            (None, Error::SessionGone | Error::NotFound) => Ok(Step::Again),
            (None, _) => Err(error.into()),
        }
    }
}

/// What was intended was refused: what was noted `before` is so again.
pub(super) async fn withdraw(flight: &Arc<Flight>, before: Option<Attempt>) -> std::io::Result<()> {
    let restore = |delivery: &mut Delivery| match before {
        Some(before) => before.note_in(delivery),
        None => Attempt::forget_in(delivery),
    };
    flight.note(restore).await
}

async fn note(flight: &Arc<Flight>, attempt: &Attempt) -> std::io::Result<()> {
    let attempt = attempt.clone();
    flight.note(move |delivery| attempt.note_in(delivery)).await
}

/// Notes how far `shared` is, when it is written. What cannot be written is sent again after a crash.
async fn write(flight: &Arc<Flight>, shared: &Arc<Mutex<Attempt>>) {
    let attempt = Arc::clone(shared);
    let written = flight.note(move |delivery| {
        attempt.lock().unwrap().note_progress_in(delivery);
    });
    if let Err(err) = written.await {
        log::warn!("how far an upload is cannot be noted: {err}");
    }
}

fn journal(flight: &Arc<Flight>, shared: &Arc<Mutex<Attempt>>) -> Note {
    let (flight, shared) = (Arc::clone(flight), Arc::clone(shared));
    Box::new(move |done: Done| {
        let (flight, shared) = (Arc::clone(&flight), Arc::clone(&shared));
        async move {
            {
                let mut attempt = shared.lock().unwrap();
                attempt.done = done;
                let prints = flight.prints(attempt.generation);
                attempt.prints.merge(prints);
                attempt.strikes = 0;
            }
            write(&flight, &shared).await;
        }
        .boxed()
    })
}
