//! Folders through which a copy goes: the server copies under the same name and into another folder only, and copies what
//! the original has by then. So the copy is made in a folder of its own, looked at, and moved where it belongs.
//!
//! Nothing else than the right file is ever seen there. The folder is noted among the steps of the staging
//! before it is made, and is removed with whatever is left in it, after a crash by the next start.

use std::sync::Mutex;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use super::deliver::Courier;
use crate::api::{Delete, Error};
use crate::crash::{self, Point};
use crate::entity::Entity;
use crate::entry::stable_hash;
use crate::model::FileInfo;
use crate::names::ServerName;
use crate::staging::{Staging, StepsId};
use crate::uri::FileUri;

/// How the names of these folders begin.
const PREFIX: &str = ".cloudreve-fuse-copy-";

/// As it is noted.
#[derive(Serialize, Deserialize)]
struct Note {
    detour: String,
}

/// One of them, to be removed.
#[derive(Clone)]
struct Detour {
    steps: StepsId,
    folder: FileUri,
}

/// Those that are still to be removed.
#[derive(Default)]
pub(super) struct Detours(Mutex<Vec<Detour>>);

/// Whether a note among the steps of a staging is of one of them.
pub(super) fn is_note(text: &str) -> bool {
    serde_json::from_str::<Note>(text).is_ok()
}

impl Detours {
    /// Those that were noted before the restart.
    pub(super) fn found(staging: &Staging) -> Self {
        let noted = staging.unfinished().into_iter();
        let found = noted.filter_map(|(steps, text)| {
            let note: Note = serde_json::from_str(&text).ok()?;
            let folder = FileUri::parse_wire(&note.detour).ok()?;
            // A journal that somebody wrote to by hand must not have us delete anything else.
            let is_ours = folder
                .name()
                .is_some_and(|name| name.as_bytes().starts_with(PREFIX.as_bytes()));
            is_ours.then_some(Detour { steps, folder })
        });
        Self(Mutex::new(found.collect()))
    }

    /// Whether none is left.
    pub(super) fn is_empty(&self) -> bool {
        self.0.lock().unwrap().is_empty()
    }
}

impl Courier {
    /// Has the server make a copy of `from`, whose only version is `entity`, at `to`, by way of a folder beside that.
    /// [`Error::Exists`] where the name is taken, [`Error::Changed`] where `from` has another version by now.
    pub(super) async fn copy_by_detour(
        &self,
        from: &FileInfo,
        entity: &Entity,
        to: &FileUri,
    ) -> Result<(), Error> {
        let (Some(home), Some(name)) = (to.parent(), to.name()) else {
            return Err(Error::NotFound);
        };
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let now = now.unwrap_or_default().as_nanos().to_le_bytes();
        let number = stable_hash([from.id.0.as_bytes(), name.as_bytes(), &now]);
        let folder = ServerName::from_wire(format!("{PREFIX}{number:016x}").into_bytes());
        let folder = home.child(folder);
        let note = serde_json::to_string(&Note {
            detour: folder.to_wire(),
        });
        let local = |error: std::io::Error| Error::Local(error.to_string());
        let note = note.map_err(|error| local(error.into()))?;
        let steps = self.staging.begin(note).await.map_err(local)?;
        crash::pass(Point::DetourNoted);
        let copied = self.copy_through(from, entity, &folder, to).await;
        self.remove(Detour { steps, folder }).await;
        copied
    }

    async fn copy_through(
        &self,
        from: &FileInfo,
        entity: &Entity,
        folder: &FileUri,
        to: &FileUri,
    ) -> Result<(), Error> {
        let (Some(home), Some(name)) = (to.parent(), to.name()) else {
            return Err(Error::NotFound);
        };
        self.api.create_folder(folder).await?;
        let original = std::slice::from_ref(&from.uri);
        self.api.copy_into(original, folder).await?;
        crash::pass(Point::DetourTaken);
        let copy = folder.child(from.name.clone());
        let (info, versions) = self.api.history(&copy).await?;
        if info.entity != entity.id || info.size_bytes != entity.size_bytes || versions.len() != 1 {
            return Err(Error::Changed);
        }
        if info.name != *name {
            self.api.rename(&copy, name).await?;
        }
        let copy = folder.child(name.clone());
        self.api.move_into(&[copy], &home).await
    }

    /// Removes those that are left, as far as that goes now.
    pub(super) async fn remove_detours(&self) {
        let left = std::mem::take(&mut *self.detours.0.lock().unwrap());
        for detour in left {
            self.remove(detour).await;
        }
    }

    async fn remove(&self, detour: Detour) {
        let one = std::slice::from_ref(&detour.folder);
        let removed = match self.api.delete(one, Delete::Permanent).await {
            Ok(outcomes) => outcomes.into_iter().next().unwrap_or(Ok(())),
            Err(error) => Err(error),
        };
        match removed {
            Ok(()) | Err(Error::NotFound) => {
                if let Err(error) = self.staging.done(detour.steps).await {
                    log::warn!("a folder that is gone could not be noted as such: {error}");
                }
            }
            Err(error) => {
                log::info!("{} stays for now: {error}", detour.folder);
                self.detours.0.lock().unwrap().push(detour);
            }
        }
    }
}
