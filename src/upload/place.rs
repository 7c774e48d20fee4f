//! Where content goes: to the file it was written over, wherever that is now, or into its folder, or what is left of that.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Duration;

use tokio::time::Instant;

use crate::api::{Api, Error};
use crate::entry::Tree;
use crate::model::{EntityId, FileId, FileInfo, FileKind};
use crate::staging::Place;
use crate::uri::{FileSystem, FileUri};

/// How long it is believed where a folder is, while one file after the other goes there.
const BELIEVED: Duration = Duration::from_secs(1);
/// Folders that are remembered at most.
const MOST_FOLDERS: usize = 64;

/// Where content goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Target {
    /// To a name that is to be free.
    New(FileUri),
    /// Over a version of a file.
    Over {
        /// Where the file is.
        uri: FileUri,
        /// Which one it is.
        file: FileId,
        /// Its current version.
        entity: EntityId,
        /// There is nothing in that.
        empty: bool,
    },
}

/// Finds places, and remembers folders for a moment.
#[derive(Default)]
pub(super) struct Places {
    folders: Mutex<HashMap<FileId, (FileUri, Instant)>>,
}

impl Places {
    /// Where `file` is; [`Error::NotFound`] where it is no more.
    pub(super) async fn file(
        &self,
        api: &Api,
        place: &Place,
        file: &FileId,
    ) -> Result<FileInfo, Error> {
        if has_ids(place) {
            return by_id(api, file).await;
        }
        match api.info(&place.uri()).await {
            Ok(info) if info.id == *file => Ok(info),
            Ok(_) => Err(Error::NotFound),
            Err(error) => Err(error),
        }
    }

    /// The folder that `place` speaks of, wherever it is; where it is gone, the nearest that there still is above where it
    /// was.
    pub(super) async fn folder(
        &self,
        api: &Api,
        place: &Place,
        now: Instant,
    ) -> Result<FileUri, Error> {
        let id = &place.folder.id;
        if let Some((uri, seen)) = self.folders.lock().unwrap().get(id)
            && now < *seen + BELIEVED
        {
            return Ok(uri.clone());
        }
        let known = match has_ids(place) && !id.0.is_empty() {
            true => by_id(api, id).await,
            false => Err(Error::NotFound),
        };
        let uri = match known {
            Ok(info) if info.kind == FileKind::Folder => info.uri,
            Ok(_) | Err(Error::NotFound) => nearest(api, place.folder_uri.clone()).await?,
            Err(error) => return Err(error),
        };
        let mut folders = self.folders.lock().unwrap();
        if folders.len() >= MOST_FOLDERS {
            folders.retain(|_, (_, seen)| now < *seen + BELIEVED);
        }
        if folders.len() < MOST_FOLDERS {
            folders.insert(id.clone(), (uri.clone(), now));
        }
        Ok(uri)
    }

    /// What is known of folders is not to be believed.
    pub(super) fn forget(&self) {
        self.folders.lock().unwrap().clear();
    }
}

/// Where something is; what was deleted and can be restored is gone.
async fn by_id(api: &Api, id: &FileId) -> Result<FileInfo, Error> {
    let info = api.info_by_id(id).await?;
    match info.uri.file_system() {
        FileSystem::Trash => Err(Error::NotFound),
        _ => Ok(info),
    }
}

/// Whether files are asked for by identity there: the server answers that for one's own files only.
fn has_ids(place: &Place) -> bool {
    place.folder.tree == Tree::MAIN
        && matches!(place.folder_uri.file_system(), FileSystem::My { .. })
}

/// `folder`, or the first folder above it that there is.
async fn nearest(api: &Api, mut folder: FileUri) -> Result<FileUri, Error> {
    let wanted = folder.clone();
    // A root is there, and `info` is refused for it.
    while let Some(above) = folder.parent() {
        match api.info(&folder).await {
            Ok(info) if info.kind == FileKind::Folder => break,
            Ok(_) | Err(Error::NotFound) => folder = above,
            Err(error) => return Err(error),
        }
    }
    if folder != wanted {
        log::warn!("{wanted} is gone: what belongs there goes to {folder}");
    }
    Ok(folder)
}
