//! Folders made here, and new names given here, of which the server has not heard: it could not be reached.
//!
//! They show over all that the server says, and are noted in the journal before the call returns, so that they survive the
//! process. Each file or folder has one such change at most, from where the server has it (its *home*) to where it shows:
//! what is renamed twice goes there in one way, and what comes home again before the server was asked for it was never gone.
//! Until the server has heard, the URI of a renamed file or folder is that of its home, and so are those of all that lies below
//! a folder: what is asked of the server has its paths there, whatever shows. `paths` tells the one from the other.
//!
//! This room remembers, and asks nobody; `hearing` and `moving` tell the server.

mod hearing;
mod making;
mod moving;
mod notes;
mod paths;
mod renaming;

pub(super) use notes::{is_note, take_in};
pub(super) use paths::also_where_it_went;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ffi::{OsStr, OsString};
use std::sync::{Arc, Mutex};
use std::time::{Instant, SystemTime};

use crate::entry::{Entry, FileKey, Tree};
use crate::inodes::Inodes;
use crate::listing::name_of;
use crate::model::{FileId, FileInfo, FileKind};
use crate::names::NamePolicy;
use crate::staging::{Place, Staging, StepsId, is_made};
use crate::uri::FileUri;

use super::leaving::Leaving;
use super::removals::pause_after;

/// Conflicts that are remembered by name.
const ASTRAY_MAX: usize = 100;
/// Moves without an answer that are remembered before all are forgotten. What became of them shows the next listing.
const SENT_MAX: usize = 10_000;

/// All of a mount.
#[derive(Default)]
pub(super) struct Unheard {
    state: Mutex<State>,
    /// Held by who tells the server of a change, or makes another one of it.
    pub(super) turn: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct State {
    changes: HashMap<FileKey, Change>,
    /// Folders among them that the server has, and where.
    homes: HashMap<FileKey, FileUri>,
    /// The names under which they show, by folder.
    names: HashMap<FileKey, BTreeMap<OsString, FileKey>>,
    /// What folders that were made here are known as since the server has them.
    became: HashMap<FileKey, FileKey>,
    /// Notes of those, which last until nothing is known by the old id.
    mapped: Vec<StepsId>,
    /// Where files may be for which nothing waits: the server was asked to bring them there, and nobody knows what became of it.
    sent: HashMap<FileKey, Place>,
    /// In which order they were made.
    next: u64,
    astray: Vec<Astray>,
    astray_count: u64,
}

/// What the server has not heard of a file or folder.
#[derive(Debug, Clone)]
pub(super) struct Change {
    noted: StepsId,
    order: u64,
    /// What shows.
    pub(super) entry: Arc<Entry>,
    /// Where it shows.
    pub(super) place: Place,
    /// Where the server has it; none of a folder that was made here.
    pub(super) home: Option<Place>,
    /// Whether the server was asked to bring it to its place, and may have done so unheard.
    is_tried: bool,
    /// Other places to which the server may have brought it.
    tried: Vec<Place>,
    tries: u32,
    why: Option<String>,
    due: Instant,
}

/// A folder that is made here, or a file or folder that was renamed here, and not on the server.
#[derive(Debug, Clone)]
pub struct Pending {
    /// Where it shows.
    pub place: Place,
    /// Where the server has it; none where it was made here.
    pub home: Option<Place>,
    /// Why the server has not heard; none where nobody tried.
    pub why: Option<String>,
    /// Tries that failed.
    pub tries: u32,
    /// When it is tried next; none where that is not to be said.
    pub next_try: Option<SystemTime>,
}

/// A change that did not come to be as it was made, because somebody else was faster.
#[derive(Debug, Clone)]
pub struct Astray {
    /// Where the file or folder is now, or was to be.
    pub uri: FileUri,
    /// What became of it, in words.
    pub words: String,
}

impl Change {
    /// One that nobody has tried to tell the server yet.
    fn new(
        noted: StepsId,
        order: u64,
        entry: Arc<Entry>,
        place: Place,
        home: Option<Place>,
    ) -> Self {
        Self {
            noted,
            order,
            entry,
            place,
            home,
            is_tried: false,
            tried: Vec::new(),
            tries: 0,
            why: None,
            due: Instant::now(),
        }
    }

    /// Where the server may have it by now, other than at home.
    pub(super) fn elsewhere(&self) -> Vec<Place> {
        let here = self.is_tried.then_some(&self.place);
        self.tried.iter().chain(here).cloned().collect()
    }

    /// Where the server has it, and where else it may have it by now, that it is to leave.
    fn left(&self) -> impl Iterator<Item = &Place> {
        self.home.iter().chain(&self.tried)
    }

    /// Tells it apart from all others.
    pub(super) fn key(&self) -> FileKey {
        key_of(&self.entry.id)
    }
}

fn is_same(one: &Place, other: &Place) -> bool {
    one.folder == other.folder && one.name == other.name
}

/// What the file `id` at `place` is called here.
fn shown_name(place: &Place, id: &FileId, names: NamePolicy) -> OsString {
    name_of(&place.name, place.full.as_deref(), id, names)
}

/// Changes wait in what is mounted itself only: elsewhere nothing is found by its id.
fn key_of(id: &FileId) -> FileKey {
    FileKey {
        tree: Tree::MAIN,
        id: id.clone(),
    }
}

impl Unheard {
    /// Whether there are any.
    pub(super) fn is_any(&self) -> bool {
        !self.state.lock().unwrap().changes.is_empty()
    }

    /// What shows under `name` in `folder`.
    pub(super) fn named(&self, folder: &FileKey, name: &OsStr) -> Option<Arc<Entry>> {
        let state = self.state.lock().unwrap();
        let key = state.names.get(state.now(folder))?.get(name)?;
        Some(Arc::clone(&state.changes.get(key)?.entry))
    }

    /// The names in `folder` that such changes gave.
    pub(super) fn names_in(&self, folder: &FileKey) -> Vec<OsString> {
        let state = self.state.lock().unwrap();
        let names = state.names.get(state.now(folder));
        names
            .into_iter()
            .flat_map(BTreeMap::keys)
            .cloned()
            .collect()
    }

    /// Whether any shows in `folder`.
    pub(super) fn any_in(&self, folder: &FileKey) -> bool {
        let state = self.state.lock().unwrap();
        state.names.contains_key(state.now(folder))
    }

    /// Whether `info` has another name here than the server says, wherever that has it by now.
    pub(super) fn shows_elsewhere(&self, info: &FileInfo) -> bool {
        let state = self.state.lock().unwrap();
        let change = state.changes.get(&key_of(&info.id));
        let home = change.and_then(|change| change.home.as_ref());
        home.is_some_and(|home| home.folder_uri.file_system() == info.uri.file_system())
    }

    /// Whether anything waits that the server has below `folder`, or is to have there.
    fn any_below(&self, folder: &FileUri) -> bool {
        let state = self.state.lock().unwrap();
        let mut changes = state.changes.values();
        changes.any(|change| {
            let mut places = change.home.iter().chain([&change.place]);
            places.any(|place| place.folder_uri.is_within(folder))
        })
    }

    /// What waits of the file or folder `key`.
    pub(super) fn keyed(&self, key: &FileKey) -> Option<Change> {
        self.state.lock().unwrap().changes.get(key).cloned()
    }

    /// What shows of the file or folder `key`, if something of it waits.
    pub(super) fn entry(&self, key: &FileKey) -> Option<Arc<Entry>> {
        let state = self.state.lock().unwrap();
        Some(Arc::clone(&state.changes.get(key)?.entry))
    }

    /// As what the folder `key` is known now: the server has given it an id since.
    pub(super) fn now(&self, key: FileKey) -> FileKey {
        match is_made(&key.id) {
            true => self.state.lock().unwrap().now(&key).clone(),
            false => key,
        }
    }

    /// What the server has at `place`, or may have there, and is to leave it.
    pub(super) fn away_from(&self, place: &Place) -> Vec<Change> {
        let state = self.state.lock().unwrap();
        let is_there = |change: &&Change| change.left().any(|left| is_same(left, place));
        state.changes.values().filter(is_there).cloned().collect()
    }

    /// What the server has to hear of before `change`: what is to leave its place, or may have to, the folder in which that is,
    /// where it was made here, and what is to leave the folder that `change` is of before that can go into it.
    fn before(&self, change: &Change) -> Vec<Change> {
        let mut before = self.away_from(&change.place);
        let state = self.state.lock().unwrap();
        before.extend(state.above_within(change).cloned());
        before.retain(|other| other.key() != change.key());
        before
    }

    /// Whether what the server has to hear of before `change` waits for that itself.
    fn is_tied(&self, change: &Change) -> bool {
        let key = change.key();
        let (mut next, mut seen) = (self.before(change), HashSet::from([key.clone()]));
        while let Some(other) = next.pop() {
            let behind = self.before(&other);
            if behind.iter().any(|last| last.key() == key) {
                return true;
            }
            let is_new = |other: &Change| seen.insert(other.key());
            next.extend(behind.into_iter().filter(is_new));
        }
        false
    }

    /// All, in the order in which they were made.
    fn all(&self) -> Vec<Change> {
        let state = self.state.lock().unwrap();
        let mut all: Vec<_> = state.changes.values().cloned().collect();
        all.sort_by_key(|change| change.order);
        all
    }

    /// `change` waits from now on, in place of what waited of the same file, which had the same home.
    fn put(&self, change: Change, around: &Around<'_>) {
        let key = change.key();
        let before = {
            let mut state = self.state.lock().unwrap();
            let before = state.changes.insert(key.clone(), change.clone());
            if let Some(before) = &before {
                state.take_name(&key, &before.place.folder);
            }
            state.note_home(&change);
            let name = change.entry.name.to_os_string();
            let names = state.names.entry(change.place.folder.clone());
            names.or_default().insert(name, key);
            before
        };
        match before {
            None => around.begin(&change),
            Some(_) => around.keep_clear(&change),
        }
    }

    /// Nothing waits of `key` any more.
    fn take(&self, key: &FileKey, around: &Around<'_>) -> Option<Change> {
        self.take_leaving(key, around, false)
    }

    /// As [`Unheard::take`]; where it `stays_away`, nothing shows at its home again.
    fn take_leaving(&self, key: &FileKey, around: &Around<'_>, stays_away: bool) -> Option<Change> {
        let change = {
            let mut state = self.state.lock().unwrap();
            let change = state.changes.remove(key)?;
            state.take_name(key, &change.place.folder);
            state.homes.remove(key);
            change
        };
        around.end(&change, stays_away);
        Some(change)
    }

    /// `change` has another home than before.
    fn rehome(&self, change: Change, around: &Around<'_>) {
        let (before, now) = {
            let mut state = self.state.lock().unwrap();
            let Some(before) = state.changes.get(&change.key()).cloned() else {
                return;
            };
            // News of it may have come meanwhile.
            let entry = Arc::clone(&before.entry);
            let change = Change { entry, ..change };
            state.note_home(&change);
            state.changes.insert(change.key(), change.clone());
            (before, change)
        };
        around.leaves_alone(&before, false);
        around.begin(&now);
    }

    /// What waits of `key`, which shows as `entry` from now on.
    fn shows_as(&self, key: &FileKey, entry: Arc<Entry>) -> Option<Change> {
        let mut state = self.state.lock().unwrap();
        let change = state.changes.get_mut(key)?;
        change.entry = entry;
        Some(change.clone())
    }

    /// The server is about to be asked for the change of `key`.
    fn is_tried(&self, key: &FileKey) {
        let mut state = self.state.lock().unwrap();
        if let Some(change) = state.changes.get_mut(key) {
            change.is_tried = true;
        }
    }

    /// The server is about to be asked to bring `key` to `place`.
    fn may_be_at(&self, key: &FileKey, place: Place, around: &Around<'_>) {
        let mut state = self.state.lock().unwrap();
        if let Some(change) = state.changes.get_mut(key) {
            change.tried.push(place);
            around.keep_clear(change);
        }
    }

    /// The server has `key` at home, and nowhere that it was asked to bring it.
    fn is_at_home(&self, key: &FileKey) {
        let mut state = self.state.lock().unwrap();
        if let Some(change) = state.changes.get_mut(key) {
            change.is_tried = false;
            change.tried.clear();
        }
    }

    /// The server was asked to bring `file`, for which nothing waits, to `place`, and nobody knows what became of it.
    pub(super) fn was_sent(&self, file: &FileId, place: Place) {
        let mut state = self.state.lock().unwrap();
        if state.sent.len() >= SENT_MAX {
            state.sent.clear();
        }
        state.sent.insert(key_of(file), place);
    }

    /// Where the server may have brought `file`, as was sent before: nobody has to remember that any more.
    pub(super) fn take_sent(&self, file: &FileId) -> Option<Place> {
        self.state.lock().unwrap().sent.remove(&key_of(file))
    }

    /// The next number in the order.
    fn next(&self) -> u64 {
        let mut state = self.state.lock().unwrap();
        state.next += 1;
        state.next
    }

    /// The folder `made` is known as `there` from now on, and shows by what the server says.
    fn became(&self, made: &Change, there: &FileKey) {
        let mut state = self.state.lock().unwrap();
        state.became.insert(made.key(), there.clone());
        state.mapped.push(made.noted);
        if let Some(names) = state.names.remove(&made.key()) {
            state.names.entry(there.clone()).or_default().extend(names);
        }
    }

    /// What has failed `error` is tried again later; one that did not get through says nothing of the next.
    fn is_to_wait(&self, key: &FileKey, why: String, got_through: bool) {
        let mut state = self.state.lock().unwrap();
        let Some(change) = state.changes.get_mut(key) else {
            return;
        };
        change.why = Some(why);
        if got_through {
            change.tries = change.tries.saturating_add(1);
            change.due = Instant::now() + pause_after(change.tries);
        }
    }

    fn is_astray(&self, uri: FileUri, words: String) {
        log::warn!("{words}: {uri}");
        let mut state = self.state.lock().unwrap();
        state.astray_count += 1;
        state.astray.push(Astray { uri, words });
        if state.astray.len() > ASTRAY_MAX {
            state.astray.remove(0);
        }
    }

    /// What waits for the server.
    pub(super) fn pending(&self) -> Vec<Pending> {
        let (now, clock) = (Instant::now(), SystemTime::now());
        let told = |change: Change| {
            let next_try = clock + change.due.saturating_duration_since(now);
            Pending {
                place: change.place,
                home: change.home,
                why: change.why,
                tries: change.tries,
                next_try: (change.tries > 0).then_some(next_try),
            }
        };
        self.all().into_iter().map(told).collect()
    }

    /// Those that came to something else since the mount began: how many, and the last of them.
    pub(super) fn astray(&self) -> (u64, Vec<Astray>) {
        let state = self.state.lock().unwrap();
        (state.astray_count, state.astray.clone())
    }
}

impl State {
    fn now<'a>(&'a self, folder: &'a FileKey) -> &'a FileKey {
        self.became.get(folder).unwrap_or(folder)
    }

    fn note_home(&mut self, change: &Change) {
        if let Some(home) = &change.home
            && change.entry.kind == FileKind::Folder
        {
            self.homes.insert(change.key(), home.uri());
        }
    }

    fn take_name(&mut self, key: &FileKey, folder: &FileKey) {
        if let Some(names) = self.names.get_mut(folder) {
            names.retain(|_, shown| shown != key);
            if names.is_empty() {
                self.names.remove(folder);
            }
        }
    }
}

/// What goes by such changes.
struct Around<'a> {
    staging: &'a Staging,
    leaving: &'a Leaving,
    inodes: &'a Inodes,
    names: NamePolicy,
}

impl Around<'_> {
    /// Nothing new gets to the places that `change` is to leave.
    fn keep_clear(&self, change: &Change) {
        for place in change.left() {
            let id = change.entry.id.clone();
            self.staging.clearing().add_move(id, place);
        }
    }

    fn begin(&self, change: &Change) {
        let key = change.key();
        match &change.home {
            Some(home) => {
                let name = shown_name(home, &key.id, self.names);
                self.leaving.add(&home.folder, &name, key.id.clone());
                self.keep_clear(change);
                self.inodes.is_elsewhere(key, Some(home.uri()));
            }
            None => self.staging.clearing().add_folder(key.id),
        }
    }

    /// The places of `change` are kept clear by it no more; where it `stays_away`, nothing shows at its home again.
    fn leaves_alone(&self, change: &Change, stays_away: bool) {
        let key = change.key();
        self.staging.clearing().move_done(&key.id);
        if let Some(home) = change.home.as_ref().filter(|_| !stays_away) {
            let name = shown_name(home, &key.id, self.names);
            self.leaving.take_of(&home.folder, &name, &key.id);
        }
    }

    fn end(&self, change: &Change, stays_away: bool) {
        self.leaves_alone(change, stays_away);
        let key = change.key();
        match &change.home {
            Some(_) => self.inodes.is_elsewhere(key, None),
            None => self.staging.clearing().folder_done(&key.id),
        }
    }
}
