//! Below folders that were renamed here: what shows is at one path, and what the server has is at another one until it hears.
//!
//! A place is that of the server's, by its URI, or lies in a folder that was made here, by that folder's id; so it is told which
//! folders are above it, though another one may have come to the old name of one of them.

use std::sync::Arc;

use crate::api::{self, Api};
use crate::entry::{Entry, FileKey};
use crate::fs::changes::End;
use crate::fs::locals::Shown;
use crate::fs::removals::place_in;
use crate::fs::rename::{Stopped, moved};
use crate::fs::{Error, Fs};
use crate::listing::{Asked, Source};
use crate::model::{FileId, FileKind};
use crate::staging::Place;
use crate::uri::FileUri;

use super::{Change, State, Unheard, key_of};

/// How often it is looked where a folder is that is on its way: that takes three calls.
const LOOKS: usize = 4;

impl State {
    /// What waits of the nearest folder above `place` that was made or renamed here.
    fn above(&self, place: &Place) -> Option<&Change> {
        let own = self.changes.get(self.now(&place.folder));
        own.or_else(|| {
            let (key, _) = self.home_above(&place.folder_uri)?;
            self.changes.get(key)
        })
    }

    /// The folders that were made here and in which `place` lies, one in the other and in one of the server's, from the nearest
    /// one on.
    fn made_above(&self, place: &Place) -> impl Iterator<Item = &Change> {
        let made = |place: &Place| {
            let change = self.changes.get(self.now(&place.folder))?;
            change.home.is_none().then_some(change)
        };
        let all = std::iter::successors(made(place), move |change| made(&change.place));
        all.take(self.changes.len())
    }

    /// Whether `place` is below `folder`, by the paths that the server has, or in what was made here below that.
    fn is_below(&self, place: &Place, folder: &Folder) -> bool {
        let mut made = self.made_above(place);
        match folder {
            Folder::Made(key) => made.any(|change| change.key() == *key),
            Folder::OfServers(uri) => {
                let outermost = made.last().map_or(place, |change| &change.place);
                outermost.folder_uri.is_within(uri)
            }
        }
    }

    /// The nearest folder at or above `uri` on the server that was renamed here, and where it is there.
    fn home_above(&self, uri: &FileUri) -> Option<(&FileKey, &FileUri)> {
        self.homes_above(uri, |_| true)
    }

    /// As [`State::home_above`], of those that are `such`.
    fn homes_above(
        &self,
        uri: &FileUri,
        such: impl Fn(&FileKey) -> bool,
    ) -> Option<(&FileKey, &FileUri)> {
        let above = self.homes.iter().filter(|(_, home)| uri.is_within(home));
        let above = above.filter(|(key, _)| such(key));
        above.max_by_key(|(_, home)| home.names().len())
    }

    /// What waits of the folder in which `change` is to be, where that was made here, or is within what `change` is of as long as
    /// the server has not heard.
    pub(super) fn above_within(&self, change: &Change) -> Option<&Change> {
        let above = self.above(&change.place)?;
        let home = change.home.as_ref().map(Place::uri);
        let is_within = || home.is_some_and(|home| change.place.folder_uri.is_within(&home));
        (above.home.is_none() || is_within()).then_some(above)
    }

    /// Those folders, from the nearest one on.
    fn all_above(&self, place: &Place) -> impl Iterator<Item = &Change> {
        let all = std::iter::successors(self.above(place), |change| self.above(&change.place));
        // No folder is put into itself: it is a bound all the same.
        all.take(self.changes.len())
    }
}

impl Unheard {
    fn is_below(&self, place: &Place, folder: &Folder) -> bool {
        self.state.lock().unwrap().is_below(place, folder)
    }

    /// Where what belongs in `place` shows: its path here, in the server's words.
    pub(super) fn shown_at(&self, place: &Place) -> FileUri {
        let state = self.state.lock().unwrap();
        let (mut shown, mut at) = (place.uri(), place);
        for change in state.all_above(place) {
            let above = match &change.home {
                Some(home) => home.uri(),
                None => at.folder_uri.clone(),
            };
            at = &change.place;
            shown = shown.moved(&above, &at.uri()).unwrap_or(shown);
        }
        shown
    }

    /// Where the file or folder `id` shows, which the server has at `uri`.
    pub(in crate::fs) fn now_shown(&self, id: &FileId, uri: &FileUri) -> FileUri {
        if let Some(change) = self.keyed(&key_of(id)) {
            return self.shown_at(&change.place);
        }
        let nowhere = key_of(&FileId("".into()));
        match place_in(nowhere, uri) {
            Some(place) => self.shown_at(&place),
            None => uri.clone(),
        }
    }

    /// Whether nobody knows where the server has what was at `uri`: it was asked to rename a folder above, and did not answer.
    pub(in crate::fs) fn is_unsure(&self, uri: &FileUri) -> bool {
        self.unsure_above(uri).is_some()
    }

    /// The nearest folder at or above `uri` of which nobody knows where the server has it, with its home.
    fn unsure_above(&self, uri: &FileUri) -> Option<(FileId, FileUri)> {
        let state = self.state.lock().unwrap();
        let is_unsure = |key: &FileKey| {
            let change = state.changes.get(key);
            change.is_some_and(|change| change.is_tried || !change.tried.is_empty())
        };
        let (key, home) = state.homes_above(uri, is_unsure)?;
        Some((key.id.clone(), home.clone()))
    }

    /// Those of which a place is below `folder`, each with which of its places those are.
    fn below(&self, folder: &Folder) -> Vec<(FileKey, Vec<Place>)> {
        let state = self.state.lock().unwrap();
        let places = |change: &Change| {
            let all = change.tried.iter().chain(&change.home);
            let below = all.chain([&change.place]);
            let below = below.filter(|place| state.is_below(place, folder));
            below.cloned().collect::<Vec<_>>()
        };
        let all = state.changes.values();
        let all = all.map(|change| (change.key(), places(change)));
        all.filter(|(_, places)| !places.is_empty()).collect()
    }

    /// Of what waits of `key`, what had a place among `those`, below `from`, has it below `to`.
    fn went(&self, key: &FileKey, those: &[Place], from: &FileUri, to: &FileUri) -> Option<Change> {
        let mut state = self.state.lock().unwrap();
        let change = state.changes.get_mut(key)?;
        let tried = change.tried.iter_mut();
        for place in tried.chain(&mut change.home).chain([&mut change.place]) {
            if those.contains(place)
                && let Some(now) = moved(place, from, to)
            {
                *place = now;
            }
        }
        let change = change.clone();
        state.note_home(&change);
        Some(change)
    }

    /// The folder at or above `uri` on the server that was renamed here, and where that is there.
    pub(in crate::fs) fn renamed_above(&self, uri: &FileUri) -> Option<(FileKey, FileUri)> {
        let state = self.state.lock().unwrap();
        let (key, home) = state.home_above(uri)?;
        Some((key.clone(), home.clone()))
    }
}

/// A folder, for what is to be below it.
pub(super) enum Folder {
    /// One that was made here.
    Made(FileKey),
    /// One that the server has there.
    OfServers(FileUri),
}

/// What belongs below a folder.
pub(super) struct Below {
    folder: Folder,
    locals: Vec<Shown>,
    changes: Vec<(FileKey, Vec<Place>)>,
}

impl Below {
    /// Stops the uploads of all of it.
    pub(super) async fn stop(&self, fs: &Fs) -> Result<Stopped, Error> {
        let locals = self.locals.iter().map(|shown| Arc::clone(&shown.local));
        fs.stop_all(&locals.collect::<Vec<_>>()).await
    }
}

impl Fs {
    /// Where what belongs in `place` shows, with the names that the server has or is to have.
    pub fn shown_at(&self, place: &Place) -> FileUri {
        self.namespace.unheard.shown_at(place)
    }

    /// What is here below `folder`.
    pub(super) fn all_below(&self, folder: Folder) -> Below {
        let unheard = &self.namespace.unheard;
        let mut locals = self.namespace.locals.all();
        locals.retain(|shown| unheard.is_below(&shown.local.place(), &folder));
        Below {
            changes: unheard.below(&folder),
            folder,
            locals,
        }
    }

    /// What is here below `entry`, which the server has at `uri`; none of a file.
    pub(super) fn all_below_of(&self, entry: &Entry, uri: FileUri) -> Option<Below> {
        let is_folder = entry.kind == FileKind::Folder;
        is_folder.then(|| self.all_below(Folder::OfServers(uri)))
    }

    /// `entry`, which was at `from` on the server, is at `to`, with all that is noted below it by now.
    pub(in crate::fs) fn takes_along(&self, from: &End, entry: &Entry, to: &End) {
        let (from, to) = (from.uri(), to.uri());
        match self.all_below_of(entry, from.clone()) {
            Some(below) => self.went(below, &from, &to),
            None => self.relocate_below(Vec::new(), &from, &to),
        }
    }

    /// The folder that was at `from` on the server, or was to be there, is at `to`, and so is all that is `below` it.
    pub(super) fn went(&self, below: Below, from: &FileUri, to: &FileUri) {
        let space = &self.namespace;
        let mut changes = Vec::new();
        // First what others are led by, and then what takes its time.
        for (key, places) in below.changes {
            let Some(change) = space.unheard.went(&key, &places, from, to) else {
                continue;
            };
            if let Some(home) = &change.home {
                space.inodes.is_elsewhere(change.key(), Some(home.uri()));
            }
            changes.push(change);
        }
        if matches!(below.folder, Folder::OfServers(_)) {
            self.removals.went(from, to);
        }
        self.relocate_below(below.locals, from, to);
        for change in changes {
            if let Err(error) = self.note_again(&change) {
                // It is found by its folder's id all the same.
                log::warn!("the new place of a change could not be noted: {error}");
            }
        }
    }
}

/// `source`, by which what lies below a renamed folder is looked for where that is by now, while nobody knows where the server has
/// it: it is not there any more, and another folder may be, or it is, or it is just on its way.
pub(in crate::fs) fn also_where_it_went(
    source: Source,
    api: &Api,
    unheard: &Arc<Unheard>,
) -> Source {
    let (info, page) = (source.info, source.page);
    let [to_tell, to_list] = [(); 2].map(|()| (api.clone(), Arc::clone(unheard)));
    Source {
        info: Arc::new(move |uri| {
            let ((api, unheard), info) = (to_tell.clone(), Arc::clone(&info));
            Box::pin(async move { follow(&api, &unheard, uri, |at| info(at)).await })
        }),
        page: Arc::new(move |uri, position, size| {
            let ((api, unheard), page) = (to_list.clone(), Arc::clone(&page));
            let ask = move |at| page(at, position.clone(), size);
            Box::pin(async move { follow(&api, &unheard, uri, ask).await })
        }),
    }
}

/// What is told of what was at `uri`, by who is asked for it where it is by now.
async fn follow<T>(
    api: &Api,
    unheard: &Unheard,
    uri: FileUri,
    ask: impl Fn(FileUri) -> Asked<T>,
) -> Result<T, api::Error> {
    let mut at = now_at(api, unheard, &uri).await?;
    for _ in 0..LOOKS {
        match ask(at.clone()).await {
            // It may have gone on meanwhile.
            Err(api::Error::NotFound) if unheard.is_unsure(&uri) => {}
            answer => return answer,
        }
        let now = now_at(api, unheard, &uri).await?;
        if std::mem::replace(&mut at, now) == at {
            return Err(api::Error::NotFound);
        }
    }
    ask(at).await
}

/// Where the server has by now what was at `uri`, where that is below a folder of which nobody knows whether it was moved.
async fn now_at(api: &Api, unheard: &Unheard, uri: &FileUri) -> Result<FileUri, api::Error> {
    let Some((folder, home)) = unheard.unsure_above(uri) else {
        return Ok(uri.clone());
    };
    let now = api.info_by_id(&folder).await?.uri;
    match now.file_system() == uri.file_system() {
        true => Ok(uri.moved(&home, &now).unwrap_or_else(|| uri.clone())),
        // Somebody deleted it.
        false => Err(api::Error::NotFound),
    }
}
