//! Where content goes: to the file it was written over, wherever that is now, or into its folder, or what is left of that.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};
use tokio::time::Instant;

use crate::api::{Api, Error};
use crate::entry::Tree;
use crate::model::{EntityId, FileId, FileInfo, FileKind};
use crate::staging::{Place, is_made};
use crate::task::Task;
use crate::uri::{FileSystem, FileUri};

/// How long it is believed where a folder is, while one file after the other goes there.
const BELIEVED: Duration = Duration::from_secs(1);
/// How old an answer is when it is asked for anew by the next file that goes there: early enough for a slow server.
const ASKED_ANEW: Duration = Duration::from_millis(400);
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
    folders: Arc<Mutex<HashMap<FileId, Folder>>>,
    /// Questions so far.
    questions: AtomicU64,
}

/// One folder that is asked for, or was.
#[derive(Default)]
struct Folder {
    /// Where it is, and when that was asked.
    found: Option<(FileUri, Instant)>,
    /// The question that is under way.
    asked: Option<Asked>,
}

/// A question whose answer all have who want to know.
struct Asked {
    number: u64,
    answer: Answer,
    /// What brings it on while nobody waits for it.
    _anew: Option<Task>,
}

type Answer = Shared<BoxFuture<'static, Result<FileUri, Error>>>;

impl Folder {
    fn is_older(&self, age: Duration, now: Instant) -> bool {
        let seen = self.found.as_ref().map(|(_, seen)| *seen);
        seen.is_none_or(|seen| now >= seen + age)
    }
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
    /// was. However many want to know it at the same time, it is asked once; and it is asked anew before it is too old,
    /// so that files which go there one after the other wait for it once.
    pub(super) async fn folder(
        &self,
        api: &Api,
        place: &Place,
        now: Instant,
    ) -> Result<FileUri, Error> {
        let id = &place.folder.id;
        let answer = {
            let mut folders = self.folders.lock().unwrap();
            if folders.len() >= MOST_FOLDERS && !folders.contains_key(id) {
                folders.retain(|_, folder| !folder.is_older(BELIEVED, now));
            }
            let is_full = folders.len() >= MOST_FOLDERS && !folders.contains_key(id);
            if is_full {
                find(api.clone(), place.clone()).boxed().shared()
            } else {
                let folder = folders.entry(id.clone()).or_default();
                let is_old = folder.is_older(BELIEVED, now);
                if folder.asked.is_none() && folder.is_older(ASKED_ANEW, now) {
                    folder.asked = Some(self.ask(api, place, now, !is_old));
                }
                match (&folder.found, &folder.asked) {
                    (Some((uri, _)), _) if !is_old => return Ok(uri.clone()),
                    (_, Some(asked)) => asked.answer.clone(),
                    (_, None) => find(api.clone(), place.clone()).boxed().shared(),
                }
            }
        };
        answer.await
    }

    /// Asks where the folder of `place` is; `anew`: while another answer is still believed, so that nobody waits.
    fn ask(&self, api: &Api, place: &Place, now: Instant, anew: bool) -> Asked {
        let (api, place) = (api.clone(), place.clone());
        let number = self.questions.fetch_add(1, Ordering::Relaxed);
        let folders = Arc::downgrade(&self.folders);
        let question = async move {
            let id = place.folder.id.clone();
            let found = find(api, place).await;
            if let Some(folders) = folders.upgrade() {
                let mut folders = folders.lock().unwrap();
                // None where it was forgotten meanwhile: then another question may be under way.
                let asked = folders.get_mut(&id).and_then(|folder| {
                    let asked = folder.asked.take_if(|asked| asked.number == number)?;
                    if let Ok(uri) = &found {
                        folder.found = Some((uri.clone(), now));
                    }
                    Some(asked)
                });
                drop(folders);
                drop(asked);
            }
            found
        };
        let answer = question.boxed().shared();
        let task = answer.clone();
        let anew = anew.then(|| {
            // Who needs it once it is too old asks again, and is told of a failure.
            Task::spawn(async move { drop(task.await) })
        });
        Asked {
            number,
            answer,
            _anew: anew,
        }
    }

    /// What is known of folders is not to be believed, and neither is an answer that is under way.
    pub(super) fn forget(&self) {
        let forgotten = std::mem::take(&mut *self.folders.lock().unwrap());
        drop(forgotten);
    }
}

/// Where the folder of `place` is, or what is left of it.
pub(super) async fn find(api: Api, place: Place) -> Result<FileUri, Error> {
    let id = &place.folder.id;
    let known = match has_ids(&place) && !id.0.is_empty() && !is_made(id) {
        true => by_id(&api, id).await,
        false => Err(Error::NotFound),
    };
    match known {
        Ok(info) if info.kind == FileKind::Folder => Ok(info.uri),
        Ok(_) | Err(Error::NotFound) => nearest(&api, place.folder_uri.clone()).await,
        Err(error) => Err(error),
    }
}

/// Where the folder of `place` is, and no other one: [`Error::NotFound`] where it is gone, or is not found by its id.
pub(super) async fn find_exactly(api: &Api, place: &Place) -> Result<FileUri, Error> {
    let id = &place.folder.id;
    if !has_ids(place) || is_made(id) {
        return Err(Error::NotFound);
    }
    if id.0.is_empty() {
        // The root is where it was.
        return Ok(place.folder_uri.clone());
    }
    let info = by_id(api, id).await?;
    match info.kind {
        FileKind::Folder => Ok(info.uri),
        FileKind::File => Err(Error::NotFound),
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
pub(super) fn has_ids(place: &Place) -> bool {
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
