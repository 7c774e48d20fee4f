//! Content that the server has already, under another name: it makes a copy, and nothing is sent.
//!
//! A copy brings all versions of its original along and counts all of them (→ api part 2 §11), so only a file of one version
//! is copied; and its time is that of the copy, so only what is large is: the more there is to send, the less a few
//! seconds matter. Whatever does not suit is sent like any other content.

use std::sync::Arc;

use tokio::time::Instant;

use super::attempt::{Content, Over};
use super::body::{Flight, blocking};
use super::deliver::{Courier, Outcome, Step, there};
use super::outcome::{Failure, is_refusal};
use super::place::Target;
use super::send::withdraw;
use super::told::of_content;
use crate::api::{Error, Version};
use crate::crash::{self, Point};
use crate::entity::Entity;
use crate::model::{FileInfo, FileKind};
use crate::staging::Origin;
use crate::uri::{FileSystem, FileUri};

/// Smaller content is sent: it is there in a moment, with the time of its writer.
const LEAST_BYTES: u64 = 16 << 20;

impl Courier {
    /// Has the server copy the content to `target`, if it was copied here from a file that still has that version; none
    /// where it has to be sent.
    pub(super) async fn copy(
        &self,
        flight: &Arc<Flight>,
        target: &Target,
        content: &Content,
        sent: &(dyn Fn() + Send + Sync),
    ) -> Result<Option<Step>, Failure> {
        let Target::New(uri) = target else {
            return Ok(None);
        };
        if content.size_bytes < LEAST_BYTES || !is_own(uri) {
            return Ok(None);
        }
        let Some(origin) = flight.local.origin() else {
            return Ok(None);
        };
        let Some(from) = self.suits(flight, &origin).await? else {
            return Ok(None);
        };
        if !is_still_copy(flight, &origin, content.generation).await? {
            if flight.halt.is_set() {
                return Ok(Some(Step::Done(Outcome::Overtaken)));
            }
            flight.local.forget_origin();
            return Ok(None);
        }
        // To read it all took its time: its folder may be elsewhere by now.
        let place = flight.local.place();
        let home = self.places.folder(&self.api, &place, Instant::now());
        if uri.parent() != Some(home.await?) {
            return Ok(Some(Step::Again));
        }
        let mut detour = match self.detour(&from, uri).await {
            Ok(detour) => detour,
            Err(error) => return self.not_copied(flight, uri, error),
        };
        let aside = self.copy_aside(&mut detour, &from, &origin.entity, uri);
        let step = match aside.await {
            Ok(copy) => match self.name_copy(flight, &copy, content).await {
                Ok(()) => self.put(flight, (copy, uri), &origin, content, sent).await,
                Err(error) => self.not_copied(flight, uri, error),
            },
            Err(error) => self.not_copied(flight, uri, error),
        };
        self.remove_detour(detour).await;
        step
    }

    /// Tells the server all of the name that `copy` is to have, where it stores a part of it, before anybody sees that.
    async fn name_copy(
        &self,
        flight: &Arc<Flight>,
        copy: &FileUri,
        content: &Content,
    ) -> Result<(), Error> {
        if flight.local.place().full.is_none() {
            return Ok(());
        }
        let told = of_content(&flight.local, content, true).into_iter();
        let told = told.map(|(key, text)| (key, Some(text))).collect();
        self.api.patch_metadata(copy, &told).await
    }

    /// Puts a `copy` of `origin` into its place.
    async fn put(
        &self,
        flight: &Arc<Flight>,
        (copy, uri): (FileUri, &FileUri),
        origin: &Origin,
        content: &Content,
        sent: &(dyn Fn() + Send + Sync),
    ) -> Result<Option<Step>, Failure> {
        let Some(home) = uri.parent() else {
            return Ok(None);
        };
        let copied = Some(Over::new(&origin.file, &origin.entity.id));
        let (_, before) = self.intend(flight, uri, (None, copied), content).await?;
        crash::pass(Point::CopyMeant);
        match self.api.move_into(&[copy], &home).await {
            Ok(()) => {}
            Err(Error::Exists) => {
                // Perhaps by a copy that was asked for before, which the note tells.
                let target = Target::New(uri.clone());
                let step = self.taken(flight, &target, content).await?;
                return Ok(Some(step));
            }
            Err(error) if is_refusal(&error) => {
                withdraw(flight, before).await?;
                return self.not_copied(flight, uri, error);
            }
            Err(error) => return Err(error.into()),
        }
        crash::pass(Point::Copied);
        sent();
        let info = self.api.info(uri).await?;
        if info.entity == origin.entity.id && info.size_bytes == content.size_bytes {
            return self.land(flight, there(info, content)).await.map(Some);
        }
        // Somebody was faster than the look at it: what is noted tells what is there.
        Ok(Some(Step::Again))
    }

    /// Nothing came into its place: it is sent where the server does not want to copy, and tried again where it did not
    /// answer.
    fn not_copied(
        &self,
        flight: &Flight,
        uri: &FileUri,
        error: Error,
    ) -> Result<Option<Step>, Failure> {
        if !is_refusal(&error) {
            return Err(error.into());
        }
        log::debug!("{uri} is sent, not copied: {error}");
        flight.local.forget_origin();
        Ok(None)
    }

    /// The file that `origin` speaks of, if a copy of it has the content and nothing else.
    async fn suits(
        &self,
        flight: &Arc<Flight>,
        origin: &Origin,
    ) -> Result<Option<FileInfo>, Failure> {
        let place = flight.local.place();
        let found = match self.places.file(&self.api, &place, &origin.file).await {
            Ok(info) => self.api.history(&info.uri).await,
            Err(error) => Err(error),
        };
        let (info, versions) = match found {
            Ok(found) => found,
            Err(Error::NotFound | Error::Denied { .. }) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let is_it = info.id == origin.file
            && info.kind == FileKind::File
            && has_only(&info, &versions, &origin.entity);
        Ok((is_it && is_own(&info.uri)).then_some(info))
    }
}

/// Whether all of the content, of `generation`, is what was copied from `origin`.
async fn is_still_copy(
    flight: &Arc<Flight>,
    origin: &Origin,
    generation: u64,
) -> std::io::Result<bool> {
    let (flight, origin) = (Arc::clone(flight), origin.clone());
    blocking(move || {
        let wanted = || !flight.halt.is_set();
        flight.local.is_copy(&origin, generation, wanted)
    })
    .await
}

/// Whether a file has this version, and neither another one nor the mark of an upload, which is copied with it and stays
/// for ever.
pub(super) fn has_only(info: &FileInfo, versions: &[Version], entity: &Entity) -> bool {
    info.entity == entity.id
        && info.size_bytes == entity.size_bytes
        && versions.len() == 1
        && info.upload_session().is_none()
}

/// Whether it is in the account's own files: nothing else can be copied, or copied to.
fn is_own(uri: &FileUri) -> bool {
    matches!(uri.file_system(), FileSystem::My { .. })
}
