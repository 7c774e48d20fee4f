//! Folders through which copies go: the server copies under the same name and into another folder only, and copies what
//! the original has by then. So a copy is made in a folder of its own, looked at, and moved where it belongs.
//!
//! Nothing else than the right file is ever seen there. The folder is noted among the steps of the staging before it is
//! made, and removed with whatever is left in it, also by the next start, and wherever somebody moved it.

use std::sync::Mutex;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::attempt::LATE;
use super::copy::has_only;
use super::deliver::Courier;
use crate::api::{Delete, Error};
use crate::crash::{self, Point};
use crate::entity::Entity;
use crate::entry::stable_hash;
use crate::model::{FileId, FileInfo};
use crate::names::ServerName;
use crate::staging::{Staging, StepsId};
use crate::uri::{FileSystem, FileUri};

/// How the names of these folders begin.
const PREFIX: &str = ".cloudreve-fuse-copy-";

/// As it is noted.
#[derive(Clone, Serialize, Deserialize)]
struct Note {
    /// Where it is to be made.
    detour: String,
    /// Which folder it is; none while that is not known.
    id: Option<String>,
    /// When this was noted, in seconds since 1970 by the server's clock.
    noted: u64,
}

/// One of them.
pub(super) struct Detour {
    steps: StepsId,
    folder: FileUri,
    note: Note,
}

/// Those that are to be removed.
#[derive(Default)]
pub(super) struct Detours(Mutex<Vec<Detour>>);

/// Whether a note among the steps of a staging is of one of them.
pub(super) fn is_note(text: &str) -> bool {
    serde_json::from_str::<Note>(text).is_ok()
}

/// Whether it has a name as they have.
fn is_detour(folder: &FileUri) -> bool {
    let name = folder.name();
    name.is_some_and(|name| name.as_bytes().starts_with(PREFIX.as_bytes()))
}

impl Detours {
    /// Those that were noted before the restart.
    pub(super) fn found(staging: &Staging) -> Self {
        let noted = staging.unfinished().into_iter();
        let found = noted.filter_map(|(steps, text)| {
            let note: Note = serde_json::from_str(&text).ok()?;
            let folder = FileUri::parse_wire(&note.detour).ok()?;
            // A journal that somebody wrote to by hand must not have us delete anything else.
            is_detour(&folder).then_some(Detour {
                steps,
                folder,
                note,
            })
        });
        Self(Mutex::new(found.collect()))
    }

    /// Whether none is left.
    pub(super) fn is_empty(&self) -> bool {
        self.0.lock().unwrap().is_empty()
    }
}

impl Courier {
    /// Notes a folder beside `to`, which is to be made for a copy of `from`.
    pub(super) async fn detour(&self, from: &FileInfo, to: &FileUri) -> Result<Detour, Error> {
        let (home, name) = place(to)?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let now = now.unwrap_or_default().as_nanos().to_le_bytes();
        let number = stable_hash([from.id.0.as_bytes(), name.as_bytes(), &now]);
        let folder = ServerName::from_wire(format!("{PREFIX}{number:016x}").into_bytes());
        let folder = home.child(folder);
        let noted = self.api.server_now().duration_since(UNIX_EPOCH);
        let note = Note {
            detour: folder.to_wire(),
            id: None,
            noted: noted.unwrap_or_default().as_secs(),
        };
        let steps = self.staging.begin(text(&note)?).await.map_err(local)?;
        crash::pass(Point::DetourNoted);
        Ok(Detour {
            steps,
            folder,
            note,
        })
    }

    /// Makes the folder and in it a copy of `from`, whose only version is `entity`, under the name of `to`. Gives where that
    /// is; [`Error::Changed`] where `from` has another version by now.
    pub(super) async fn copy_aside(
        &self,
        detour: &mut Detour,
        from: &FileInfo,
        entity: &Entity,
        to: &FileUri,
    ) -> Result<FileUri, Error> {
        let (_, name) = place(to)?;
        let folder = &detour.folder;
        let made = self.api.create_folder(folder, &Default::default()).await?;
        detour.note.id = Some(made.id.to_string());
        let known = self.staging.go_on(detour.steps, text(&detour.note)?);
        known.await.map_err(local)?;
        let original = std::slice::from_ref(&from.uri);
        self.api.copy_into(original, folder).await?;
        crash::pass(Point::DetourTaken);
        let copy = folder.child(from.name.clone());
        let (info, versions) = self.api.history(&copy).await?;
        if !has_only(&info, &versions, entity) {
            return Err(Error::Changed);
        }
        if info.name != *name {
            self.api.rename(&copy, name).await?;
        }
        Ok(folder.child(name.clone()))
    }

    /// Removes those that are left, as far as that goes now.
    pub(super) async fn remove_detours(&self) {
        let left = std::mem::take(&mut *self.detours.0.lock().unwrap());
        for detour in left {
            self.remove_detour(detour).await;
        }
    }

    /// Removes the folder with what is in it; what does not succeed now is tried again later.
    pub(super) async fn remove_detour(&self, detour: Detour) {
        match self.is_removed(&detour).await {
            Ok(true) => {
                if let Err(error) = self.staging.done(detour.steps).await {
                    log::warn!("a folder that is gone could not be noted as such: {error}");
                }
                return;
            }
            Ok(false) => {}
            Err(error) => log::info!("{} stays for now: {error}", detour.folder),
        }
        self.detours.0.lock().unwrap().push(detour);
    }

    /// Removes it. False where it may yet be made: the request for it got no answer.
    async fn is_removed(&self, detour: &Detour) -> Result<bool, Error> {
        let folder = match &detour.note.id {
            None => detour.folder.clone(),
            Some(id) => match self.api.info_by_id(&FileId(id.as_str().into())).await {
                Ok(info) if is_detour(&info.uri) && is_there(&info.uri) => info.uri,
                Ok(_) | Err(Error::NotFound) => return Ok(true),
                Err(error) => return Err(error),
            },
        };
        match self.api.delete_one(&folder, Delete::Permanent).await {
            Ok(()) => Ok(true),
            Err(Error::NotFound) => {
                let late = UNIX_EPOCH + Duration::from_secs(detour.note.noted) + LATE;
                Ok(detour.note.id.is_some() || self.api.server_now() > late)
            }
            Err(error) => Err(error),
        }
    }
}

fn is_there(uri: &FileUri) -> bool {
    *uri.file_system() != FileSystem::Trash
}

/// Folder and name of what is no root.
fn place(uri: &FileUri) -> Result<(FileUri, &ServerName), Error> {
    uri.parent().zip(uri.name()).ok_or(Error::NotFound)
}

fn text(note: &Note) -> Result<String, Error> {
    serde_json::to_string(note).map_err(|error| local(error.into()))
}

fn local(error: std::io::Error) -> Error {
    Error::Local(error.to_string())
}
