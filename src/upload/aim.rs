//! Where one content goes, what has to be done there first, and what goes beside what.
//!
//! A file is written over only where its current version is the one that the writer had before him, or is empty: with an
//! empty one nothing is lost. Everything else is kept, and ours goes beside it.

use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use tokio::time::Instant;

use super::attempt::{Attempt, Content};
use super::body::{Flight, blocking};
use super::deliver::{Courier, Landed, OUTDATED, Step, there};
use super::outcome::{Failure, is_refusal, of_name};
use super::place::Target;
use super::proof::{Proof, Witness};
use super::send::withdraw;
use super::told::of_empty;
use super::verdict::{below, came_between, is_near};
use super::{Options, Overwrite, conflict};
use crate::api::{Error, Part};
use crate::attributes::Attributes;
use crate::crash::{self, Point};
use crate::entity::Entity;
use crate::model::{EntityId, FileId, FileInfo, FileKind};
use crate::names::ServerName;
use crate::staging::Delivery;
use crate::uri::FileUri;

/// Why two versions are kept.
const CHANGED_ELSEWHERE: &str = "somebody else changed it";

/// Where content goes, or that it is there.
pub(super) enum Aim {
    /// Where.
    At(Target),
    /// It is, as our own or somebody's very same bytes.
    There(Landed),
}

impl Courier {
    /// Where it goes; none where that was found to be a matter of conflict, and is decided now.
    pub(super) async fn target(
        &self,
        flight: &Arc<Flight>,
        content: &Content,
    ) -> Result<Option<Aim>, Failure> {
        let local = &flight.local;
        let place = local.place();
        let decided = local.delivery().conflict;
        let beside = decided.as_ref().map(|name| name.as_bytes());
        if let Some(base) = local.base() {
            match self.places.file(&self.api, &place, &base.file).await {
                Ok(info) if beside.is_none_or(|name| name == info.name.as_bytes()) => {
                    return self.over(flight, info, &base.entity.id, content).await;
                }
                Ok(_) => {}
                Err(Error::NotFound) => {
                    log::info!("{} is gone on the server: it is made anew", place.uri());
                }
                Err(error) => return Err(error.into()),
            }
        }
        let name = match beside {
            Some(name) => ServerName::from_wire(name),
            None => place.name.clone(),
        };
        let folder = self.places.folder(&self.api, &place, Instant::now());
        let uri = folder.await?.child(name);
        Ok(Some(Aim::At(Target::New(uri))))
    }

    /// Over what is there, if that is what the writer had before him.
    async fn over(
        &self,
        flight: &Arc<Flight>,
        info: FileInfo,
        base: &EntityId,
        content: &Content,
    ) -> Result<Option<Aim>, Failure> {
        self.follow_name(flight, &info).await?;
        if flight.local.is_doubtful() && flight.local.delivery().conflict.is_none() {
            let why = "this computer went down before its version was all on the disk";
            self.beside(flight, why).await?;
            return Ok(None);
        }
        // Nothing is lost with an empty file, whoever emptied it.
        let empty = info.size_bytes == 0 && info.upload_session().is_none();
        if info.entity == *base || empty {
            return Ok(Some(Aim::At(Target::Over {
                uri: info.uri,
                file: info.id,
                entity: info.entity,
                empty,
            })));
        }
        match self.is_there(flight, &info, content).await? {
            Proof::Same => Ok(Some(Aim::There(there(info, content)))),
            Proof::Overtaken => Ok(None),
            Proof::Other => {
                self.beside(flight, CHANGED_ELSEWHERE).await?;
                Ok(None)
            }
        }
    }

    /// Somebody renamed the file to what the server stores a part of: what is told of it with the content is not to lose the
    /// rest.
    async fn follow_name(&self, flight: &Arc<Flight>, info: &FileInfo) -> Result<(), Failure> {
        let name = info.uri.name().unwrap_or(&info.name);
        let there = Attributes::of(info).unwrap_or_default();
        let known = flight.local.attributes();
        let is_known = known.is_some_and(|known| known.full_of(name).is_some());
        let Some(full) = there.full_of(name).filter(|_| !is_known).cloned() else {
            return Ok(());
        };
        let local = Arc::clone(&flight.local);
        let noted = move || local.set_attributes(|told| told.add_name(&full));
        blocking(noted).await?;
        Ok(())
    }

    /// Whether a file that we did not expect has our bytes: then somebody, perhaps we, brought them there.
    async fn is_there(
        &self,
        flight: &Arc<Flight>,
        info: &FileInfo,
        content: &Content,
    ) -> Result<Proof, Failure> {
        let entity = Entity {
            id: info.entity.clone(),
            size_bytes: info.size_bytes,
        };
        let looks_alike = info.kind == FileKind::File
            && info.upload_session().is_none()
            && info.size_bytes == content.size_bytes
            && is_near(info.updated, content.modified);
        if !looks_alike {
            return Ok(Proof::Other);
        }
        let Content {
            generation, sample, ..
        } = *content;
        let witness = Witness::of_content(&flight.local, generation, sample);
        witness.prove(&self.api, &info.uri, &entity).await
    }

    /// Decides that the content goes beside what has its name, and under which one.
    async fn beside(&self, flight: &Arc<Flight>, why: &str) -> Result<(), Failure> {
        let place = flight.local.place();
        let before = flight.local.delivery().conflict;
        let now = SystemTime::now();
        let whole = match &place.full {
            Some(full) => full.as_bytes(),
            None => place.name.as_bytes(),
        };
        let named = |nth| {
            let Options { host, names, .. } = &self.options;
            conflict::name(whole, host, now, nth, *names).to_string()
        };
        let name = (1..)
            .map(named)
            .find(|name| before.as_ref() != Some(name))
            .unwrap_or_default();
        log::warn!(
            "{}: {why}, and this computer's version goes beside it as '{name}'",
            place.uri()
        );
        let note = move |delivery: &mut Delivery| delivery.conflict = Some(name);
        flight.note(note).await?;
        crash::pass(Point::BesideDecided);
        Ok(())
    }

    /// What has to be done before the content goes there; none where it may have to go elsewhere by now.
    pub(super) async fn prepare(
        &self,
        flight: &Arc<Flight>,
        target: Target,
        content: &Content,
    ) -> Result<Option<Target>, Failure> {
        let Target::Over {
            uri,
            file,
            entity,
            empty,
        } = target
        else {
            return Ok(Some(target));
        };
        if self.options.overwrite == Overwrite::Delete && !empty {
            let deleted = self.delete_first(flight, &uri, &file, &entity).await?;
            return Ok(deleted.then_some(Target::New(uri)));
        }
        if !empty || content.size_bytes == 0 {
            return Ok(Some(Target::Over {
                uri,
                file,
                entity,
                empty,
            }));
        }
        // A file that never had content dies with a session that is cancelled over it (→ api part 2 §5.8), and with its id
        // go its shares. Empty content is content.
        let nothing = Part::from(Bytes::new());
        let entity = match self.api.put_content(&uri, Some(&entity), nothing).await {
            Ok(info) if info.id == file && info.size_bytes == 0 => {
                if self.unsee(&uri, &entity, &info.entity).await? {
                    return Ok(None);
                }
                info.entity
            }
            Ok(_) => entity,
            Err(error @ (Error::Transport { .. } | Error::Timeout(_))) => return Err(error.into()),
            Err(error) => {
                log::debug!("{uri} gets no empty content first: {error}");
                entity
            }
        };
        Ok(Some(Target::Over {
            uri,
            file,
            entity,
            empty,
        }))
    }

    /// Puts back a version that got between `before` and `ours` of no bytes, if one did: the server's check of what is
    /// replaced leaves a gap (→ api part 2 §5.6). What could not be put back is named, and stays below.
    async fn unsee(
        &self,
        uri: &FileUri,
        before: &EntityId,
        ours: &EntityId,
    ) -> Result<bool, Failure> {
        let (info, versions) = self.api.history(uri).await?;
        let beneath = below(&versions, ours);
        let Some(theirs) = came_between(Some(before), beneath.as_ref()) else {
            return Ok(false);
        };
        if info.entity == *ours {
            self.api.make_current(uri, &theirs.id).await.inspect_err(|_| {
                log::warn!(
                    "{uri} was changed by somebody else in the moment it was replaced: their version is {} of its versions",
                    theirs.id
                );
            })?;
        }
        Ok(true)
    }

    /// Deletes the file that is to be replaced; false where it is not to be by now. The content is on our disk, not only in
    /// its cache, before that; and what is owed then has a base that is gone, so that a restart makes the file anew.
    async fn delete_first(
        &self,
        flight: &Arc<Flight>,
        uri: &FileUri,
        file: &FileId,
        entity: &EntityId,
    ) -> Result<bool, Failure> {
        flight.local.durable().await?;
        // A disk may take its time: what is deleted is what the writer had before him, not what is there by now.
        let info = match self.api.info(uri).await {
            Ok(info) => info,
            Err(Error::NotFound) => return Ok(false),
            Err(error) => return Err(error.into()),
        };
        // A mark of an upload alone is none: it stays where a server was restarted, and a live one's lock refuses this.
        let is_seen = info.id == *file && info.entity == *entity;
        if !is_seen || flight.halt.is_set() {
            return Ok(false);
        }
        crash::pass(Point::DeletingFirst);
        match self.api.delete_one(uri, self.options.delete).await {
            Ok(()) | Err(Error::NotFound) => {}
            Err(error) => return Err(error.into()),
        }
        crash::pass(Point::DeletedFirst);
        Ok(true)
    }

    /// A file of no bytes: no session is opened for it, since some storages refuse that (→ api part 2 §4.3). Its time is
    /// the server's, which is the one thing that gets lost on this way.
    pub(super) async fn put_empty(
        &self,
        flight: &Arc<Flight>,
        target: Target,
        content: &Content,
    ) -> Result<Step, Failure> {
        let (uri, over) = match &target {
            Target::New(uri) => {
                // Where its answer is lost, who unlinks it meanwhile must know that there may be one.
                let (_, lost) = self.intend(flight, uri, (None, None), content).await?;
                let made = self.new_file(flight, uri).await;
                if made.as_ref().is_err_and(is_refusal) {
                    withdraw(flight, lost).await?;
                }
                return match made {
                    Ok(info) => {
                        crash::pass(Point::EmptyMade);
                        self.land(flight, there(info, content)).await
                    }
                    Err(Error::Exists) => self.taken(flight, &target, content).await,
                    Err(error) => Err(error.into()),
                };
            }
            Target::Over { uri, entity, .. } => (uri, entity),
        };
        if let Target::Over { empty: true, .. } = &target {
            let info = self.api.info(uri).await?;
            return match info.size_bytes {
                0 => self.land(flight, there(info, content)).await,
                _ => Ok(Step::Again),
            };
        }
        let nothing = Part::from(Bytes::new());
        match self.api.put_content(uri, Some(over), nothing).await {
            Ok(_) => {}
            Err(Error::Changed) => return Ok(Step::Again),
            Err(error) => return Err(of_name(error, uri)),
        }
        let (info, versions) = self.api.history(uri).await?;
        if info.size_bytes != 0 || info.entity == *over {
            return Ok(Step::Again);
        }
        let landed = Landed {
            over: Some(over.clone()),
            beneath: below(&versions, &info.entity),
            ..there(info, content)
        };
        self.land(flight, landed).await
    }

    async fn new_file(&self, flight: &Flight, uri: &FileUri) -> Result<FileInfo, Error> {
        self.api.is_told_apart(uri).await?;
        let made = self.api.create_file(uri, &of_empty(&flight.local)).await;
        if matches!(made, Err(Error::NotFound)) {
            // Its folder has another place by now.
            self.places.forget();
        }
        made
    }

    /// A name that was to be free is taken: by an empty file, by our own bytes, or by something that has to be kept.
    pub(super) async fn taken(
        &self,
        flight: &Arc<Flight>,
        target: &Target,
        content: &Content,
    ) -> Result<Step, Failure> {
        let (Target::New(uri) | Target::Over { uri, .. }) = target;
        self.places.forget();
        let info = match self.api.info(uri).await {
            Ok(info) => info,
            Err(Error::NotFound) => {
                if let Some(other) = self.api.other_spelling(uri).await? {
                    let why = format!("the server takes its name for that of '{}'", other.name);
                    self.beside(flight, &why).await?;
                }
                return Ok(Step::Again);
            }
            Err(error) => return Err(error.into()),
        };
        let noted = Attempt::noted(&flight.local.delivery());
        if let Some(attempt) = noted.filter(|attempt| attempt.is_copy(&info, &info.entity)) {
            // The copy that an earlier try asked for.
            let landed = Landed {
                generation: attempt.generation,
                ..there(info, content)
            };
            return self.land(flight, landed).await;
        }
        let empty =
            info.kind == FileKind::File && info.size_bytes == 0 && info.upload_session().is_none();
        if empty && content.size_bytes > 0 {
            // Taken over by its identity: the next turn finds it as what this content is written over.
            return self.adopt(flight, info).await;
        }
        if info.kind == FileKind::File && info.size_bytes == 0 && !empty {
            // Nothing is there yet, and perhaps never: an upload is under way, which may be one of ours whose answer was
            // lost. What comes of it tells whether there are two versions.
            return Err(Failure::Api(Error::Locked(Vec::new())));
        }
        if empty {
            return self.land(flight, there(info, content)).await;
        }
        match self.is_there(flight, &info, content).await? {
            Proof::Same => self.land(flight, there(info, content)).await,
            Proof::Overtaken => Ok(Step::Again),
            Proof::Other => {
                self.beside(flight, CHANGED_ELSEWHERE).await?;
                Ok(Step::Again)
            }
        }
    }

    /// The empty file that has our name is the one that gets the content.
    async fn adopt(&self, flight: &Arc<Flight>, info: FileInfo) -> Result<Step, Failure> {
        let local = Arc::clone(&flight.local);
        blocking(move || local.delivered(OUTDATED, info.id, info.entity, None)).await?;
        Ok(Step::Again)
    }
}
