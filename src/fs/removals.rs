//! Removals in batches: `rm -r` of many files is few requests.
//!
//! From the fourth removal in a row on, those of one folder are gathered and sent together: when the folder is quiet for a
//! moment, when there are as many as the server takes at once, when they have waited long enough, and before anything that
//! depends on them. Until then the names are `leaving`: nobody here sees them. What the server refuses to delete shows
//! again, and is said in the log; where it does not answer, all of a batch shows again, and the next removals are single
//! ones that fail in the call. Each is noted before the call returns, so that what was not sent when the process is killed is
//! sent by the next one.
//!
//! While the server cannot be reached each waits until it is back (`waiting`).
//!
//! Nobody who waits for a batch ends it by going away, and nobody waits longer than a call may.

mod emptied;
mod waiting;

pub use waiting::Unremoved;
pub(super) use waiting::{clear_removed, pause_after};

use std::collections::HashMap;
use std::ffi::OsStr;
use std::io;
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tokio::sync::{MutexGuard, oneshot};
use tokio::task::{AbortHandle, JoinSet};

use crate::api::{self, Api, Delete};
use crate::asker;
use crate::crash::{self, Point};
use crate::entry::{Entry, FileKey, Tree};
use crate::metadata::Metadata;
use crate::model::{EntityId, FileId, FileInfo};
use crate::names::NamePolicy;
use crate::reach::Reach;
use crate::staging::{LocalId, Place, Staging, StepsId};
use crate::uri::FileUri;

use super::changes::{End, is_lost};
use super::leaving::Leaving;
use super::namespace::Namespace;
use super::{Error, Fs};
use waiting::{Fate, Waiting};

/// Removals of one folder in a row, all done, that go to the server one by one; few files are gone when the call returns.
const ONE_BY_ONE: u32 = 3;
/// A longer break than this between two removals ends a row.
const ROW_GAP: Duration = Duration::from_secs(1);
/// A folder that is quiet for so long has seen the end of its row.
const QUIET: Duration = Duration::from_millis(50);
/// The longest that a removal waits for others.
const LONGEST: Duration = Duration::from_secs(2);
/// Sent at once to a server that does not say what it takes.
const BATCH_UNTOLD: usize = 1000;

/// The file that is removed by what is noted as `text`, if that is a removal.
pub(super) fn removed_by(text: &str) -> Option<FileId> {
    let gathered = serde_json::from_str::<Gathered>(text).ok()?;
    Some(gathered.file())
}

/// The removals that wait, and the task that sends them.
pub(super) struct Removals {
    shared: Arc<Shared>,
}

struct Shared {
    api: Api,
    metadata: Arc<Metadata>,
    leaving: Arc<Leaving>,
    staging: Option<Arc<Staging>>,
    reach: Reach,
    /// Those that the server does not do now.
    waiting: Waiting,
    rows: Mutex<HashMap<FileKey, Row>>,
    /// Held by who sends, so that who comes next finds all done that was sent before.
    sending: tokio::sync::Mutex<()>,
    /// Those who send, or wait for their turn.
    senders: Mutex<JoinSet<()>>,
    /// Longest that anybody waits for them.
    timeout: Duration,
    names: NamePolicy,
}

/// What happens in one folder.
struct Row {
    /// Removals in it that the server did.
    count: u32,
    last: Instant,
    waiting: Vec<Removal>,
    timer: Option<AbortHandle>,
}

/// A removal as it is noted.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Gathered {
    /// Id of the file.
    removed: String,
    at: String,
    /// The version that was seen: another one is not deleted.
    #[serde(default)]
    seen: Option<String>,
    /// Places to which a change of its name may have brought it, where it is not there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    or_at: Vec<Elsewhere>,
    /// Whether it is a folder, which goes if nothing is in it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    is_folder: bool,
    /// The folder in which it showed, …
    #[serde(default)]
    tree: u64,
    #[serde(default)]
    folder: Option<String>,
    /// … and all of its name, where the server has a part of it.
    #[serde(default)]
    full: Option<String>,
    /// Number of the local file that was written over it and goes with it.
    #[serde(default)]
    unlinked: Option<u64>,
}

/// A place of a file in what is mounted itself.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Elsewhere {
    folder: String,
    at: String,
}

impl Gathered {
    /// Of the file `id` at `place`, which was seen as `seen`.
    pub(super) fn of(
        place: &Place,
        id: &FileId,
        seen: &EntityId,
        unlinked: Option<LocalId>,
    ) -> Self {
        Self {
            removed: id.to_string(),
            at: place.uri().to_wire(),
            or_at: Vec::new(),
            is_folder: false,
            seen: Some(seen.0.to_string()),
            tree: place.folder.tree.number(),
            folder: Some(place.folder.id.to_string()),
            full: place.full.as_deref().map(str::to_owned),
            unlinked: unlinked.map(|local| local.0),
        }
    }

    /// Of the folder `id` at `place`, which is deleted if nothing is in it.
    fn of_folder(place: &Place, id: &FileId) -> Self {
        Self {
            is_folder: true,
            seen: None,
            ..Self::of(place, id, &EntityId("".into()), None)
        }
    }

    /// By which way it was reached.
    fn tree(&self) -> Tree {
        Tree::of_number(self.tree)
    }

    /// The same, where the file may be at one of `places` instead.
    pub(super) fn or_at(self, places: &[Place]) -> Self {
        let elsewhere = places.iter().map(|place| Elsewhere {
            folder: place.folder.id.to_string(),
            at: place.uri().to_wire(),
        });
        Self {
            or_at: elsewhere.collect(),
            ..self
        }
    }

    fn elsewhere(&self) -> Vec<(FileId, FileUri)> {
        let places = self.or_at.iter().filter_map(|place| {
            let uri = FileUri::parse_wire(&place.at).ok()?;
            Some((FileId(place.folder.as_str().into()), uri))
        });
        places.collect()
    }

    fn file(&self) -> FileId {
        FileId(self.removed.as_str().into())
    }

    /// All places where it may be, by their folders; as far as that was noted.
    fn places(&self) -> impl Iterator<Item = Place> {
        let own = FileUri::parse_wire(&self.at).ok().zip(self.folder());
        let own = own.and_then(|(uri, folder)| {
            let full = self.full.as_deref().map(Into::into);
            Some(Place {
                full,
                ..place_in(folder, &uri)?
            })
        });
        own.into_iter().chain(self.places_instead())
    }

    /// Those of them where a change of its name may have brought it.
    fn places_instead(&self) -> impl Iterator<Item = Place> {
        let elsewhere = self.elsewhere().into_iter();
        elsewhere.filter_map(|(id, uri)| {
            let tree = Tree::MAIN;
            place_in(FileKey { tree, id }, &uri)
        })
    }

    /// The folder in which it showed; none of what an older version noted.
    fn folder(&self) -> Option<FileKey> {
        Some(FileKey {
            tree: self.tree(),
            id: FileId(self.folder.as_deref()?.into()),
        })
    }
}

/// `uri`, which is in `folder`; none of a root.
pub(super) fn place_in(folder: FileKey, uri: &FileUri) -> Option<Place> {
    Some(Place {
        folder,
        folder_uri: uri.parent()?,
        name: uri.name()?.clone(),
        full: None,
    })
}

#[derive(Clone)]
struct Removal {
    noted: StepsId,
    gathered: Gathered,
    name: Box<OsStr>,
    uri: FileUri,
    /// Where it may be instead, with the folder.
    or_at: Vec<(FileId, FileUri)>,
    how: Delete,
    since: Instant,
}

impl Drop for Removals {
    fn drop(&mut self) {
        for (_, row) in self.shared.rows.lock().unwrap().drain() {
            if let Some(timer) = row.timer {
                timer.abort();
            }
        }
        self.shared.senders.lock().unwrap().abort_all();
    }
}

impl Removals {
    /// None wait.
    pub(super) fn new(api: &Api, space: &Namespace) -> Self {
        Self {
            shared: Arc::new(Shared {
                api: api.clone(),
                metadata: Arc::clone(&space.metadata),
                leaving: Arc::clone(&space.leaving),
                staging: space.staging.clone(),
                reach: api.reach().clone(),
                waiting: Waiting::default(),
                rows: Mutex::default(),
                sending: tokio::sync::Mutex::default(),
                senders: Mutex::default(),
                timeout: space.options.timeout,
                names: space.options.names,
            }),
        }
    }

    /// Whether the removal of `entry` at `end` is one of many, and will be sent with them; the name shows no more then.
    pub(super) async fn takes(&self, fs: &Fs, end: &End, entry: &Entry) -> bool {
        let key = &end.folder.key;
        if fs.namespace.is_out_of_reach(&end.folder.uri) {
            return self.postpones(fs, end, &entry.id, &entry.entity, None);
        }
        if !self.shared.is_row(key, Instant::now()) {
            return false;
        }
        let place = end.place();
        let gathered = Gathered::of(&place, &entry.id, &entry.entity, None);
        let Some(removal) = self.shared.noted(fs, &place, &end.name, gathered) else {
            return false;
        };
        let batch_max = self.shared.batch_max().await;
        let is_full = {
            let mut rows = self.shared.rows.lock().unwrap();
            if !fs.namespace.is_as_found(end) {
                // Its folder went elsewhere meanwhile: it is looked for by its id.
                drop(rows);
                self.shared.wait_for_server(key, [removal]);
                return true;
            }
            let row = rows.entry(key.clone());
            let row = row.or_insert_with(|| Row::new(removal.since));
            self.shared.leaving.add(key, &end.name, entry.id.clone());
            row.waiting.push(removal);
            if row.timer.is_none() {
                row.timer = Some(send_when_quiet(&self.shared, key.clone()));
            }
            row.waiting.len() >= batch_max
        };
        crash::pass(Point::RemovalGathered);
        if is_full && let Err(error) = self.shared.send(vec![key.clone()]).await {
            log::debug!("removals are slow: {error}");
        }
        true
    }

    /// Whether the removal of the file `id`, seen as `seen` at `end`, waits for the server from now on; the name shows no more
    /// then. With it goes the local file `unlinked`.
    pub(super) fn postpones(
        &self,
        fs: &Fs,
        end: &End,
        id: &FileId,
        seen: &EntityId,
        unlinked: Option<LocalId>,
    ) -> bool {
        let place = end.place();
        let gathered = Gathered::of(&place, id, seen, unlinked);
        self.postpones_at(fs, &place, &end.name, gathered)
    }

    /// As [`Removals::postpones`], of what the server has at `place`, which is called `name` here.
    pub(super) fn postpones_at(
        &self,
        fs: &Fs,
        place: &Place,
        name: &OsStr,
        gathered: Gathered,
    ) -> bool {
        let Some(removal) = self.shared.noted(fs, place, name, gathered) else {
            return false;
        };
        self.shared.wait_for_server(&place.folder, [removal]);
        true
    }

    /// A removal in `folder` that went to the server alone has ended: the time it took is no break. One that failed ends
    /// the row.
    pub(super) fn ended(&self, folder: &FileKey, is_done: bool) {
        if let Some(row) = self.shared.rows.lock().unwrap().get_mut(folder) {
            row.last = Instant::now();
            row.count = match is_done {
                true => row.count.saturating_add(1),
                false => 0,
            };
        }
    }

    /// Sends what waits of `folder`, and waits for what somebody else is sending. An error where that takes longer than a
    /// call may: it goes on then.
    pub(super) async fn send(&self, folder: &FileKey) -> Result<(), Error> {
        match self.shared.leaving.any_in(folder) {
            true => self.shared.send(vec![folder.clone()]).await,
            false => Ok(()),
        }
    }

    /// Whether what had the name of `place` is still to be deleted on the server.
    pub(super) fn any_at(&self, place: &Place) -> bool {
        self.shared.waits_at(place)
    }

    /// Whether a folder that had the name of `place` is still to be deleted on the server.
    pub(super) fn any_folder_at(&self, place: &Place) -> bool {
        self.shared.folder_waits_at(place)
    }

    /// Whether nobody is to see `info`: what it is of is to be deleted, and showed elsewhere.
    pub(super) fn hides(&self) -> impl Fn(&FileInfo) -> bool + use<> {
        let shared = Arc::downgrade(&self.shared);
        move |info| shared.upgrade().is_some_and(|shared| shared.hides(info))
    }

    /// Nothing is removed from the server while this lives, by the paths that it has now. An error where that takes too long.
    pub(super) async fn hold_still(&self, fs: &Fs) -> Result<MutexGuard<'_, ()>, Error> {
        fs.in_time_for(self.shared.sending.lock()).await
    }

    /// The folder that was at `from` on the server is at `to`, with all in it that is to be removed. Only while nothing
    /// [is sent](Removals::hold_still).
    pub(super) fn went(&self, from: &FileUri, to: &FileUri) {
        self.shared.went(from, to);
    }

    /// What waits for the server cannot be sent to it, or was not done in time.
    pub(super) fn unsent(&self) -> Error {
        Error::TimedOut(match self.shared.reach.is_down() {
            true => api::Error::Timeout(self.shared.timeout),
            // That says nothing of how the server can be reached.
            false => api::Error::Locked(Vec::new()),
        })
    }

    /// Sends all that wait for others. Errors as [`Removals::send`].
    async fn send_gathered(&self) -> Result<(), Error> {
        let mut folders: Vec<_> = self.shared.rows.lock().unwrap().keys().cloned().collect();
        folders.retain(|folder| self.shared.leaving.any_in(folder));
        match folders.is_empty() {
            true => Ok(()),
            false => self.shared.send(folders).await,
        }
    }
}

impl Row {
    fn new(now: Instant) -> Self {
        Self {
            count: 0,
            last: now,
            waiting: Vec::new(),
            timer: None,
        }
    }

    /// Notes a removal at `now`; whether so many were done in a row that this one is to wait for others.
    fn goes_on(&mut self, now: Instant) -> bool {
        if now.saturating_duration_since(self.last) > ROW_GAP {
            self.count = 0;
        }
        self.last = now;
        self.count >= ONE_BY_ONE
    }

    /// How long those that wait may go on to; none where none wait.
    fn wait(&self, now: Instant) -> Option<Duration> {
        let oldest = self.waiting.first()?.since;
        let until = (self.last + QUIET).min(oldest + LONGEST);
        Some(until.saturating_duration_since(now))
    }
}

fn send_when_quiet(shared: &Arc<Shared>, folder: FileKey) -> AbortHandle {
    let shared = Arc::downgrade(shared);
    let task = async move {
        while let Some(wait) = wait(&shared, &folder) {
            if !wait.is_zero() {
                tokio::time::sleep(wait).await;
                continue;
            }
            let Some(shared) = shared.upgrade() else {
                return;
            };
            if let Err(error) = shared.send(vec![folder.clone()]).await {
                log::debug!("removals are slow: {error}");
            }
        }
    };
    tokio::spawn(task).abort_handle()
}

/// How long the timer of `folder` has to sleep yet. It is done with where none is left that waits.
fn wait(shared: &Weak<Shared>, folder: &FileKey) -> Option<Duration> {
    let shared = shared.upgrade()?;
    let mut rows = shared.rows.lock().unwrap();
    let row = rows.get_mut(folder)?;
    let wait = row.wait(Instant::now());
    if wait.is_none() {
        row.timer = None;
    }
    wait
}

impl Shared {
    /// Notes a removal in `folder` at `now`; whether so many came in a row that this one is to wait for others.
    fn is_row(&self, folder: &FileKey, now: Instant) -> bool {
        let mut rows = self.rows.lock().unwrap();
        rows.retain(|_, row| !row.waiting.is_empty() || now - row.last < ROW_GAP);
        let row = rows.entry(folder.clone());
        row.or_insert_with(|| Row::new(now)).goes_on(now)
    }

    /// The removal of what is at `place`, called `name` here, once it is noted; none where it cannot be.
    fn noted(&self, fs: &Fs, place: &Place, name: &OsStr, gathered: Gathered) -> Option<Removal> {
        let uri = place.uri();
        let staging = self.staging.as_ref()?;
        let note = |text: String| staging.begin_lightly(text);
        match serde_json::to_string(&gathered)
            .map_err(io::Error::from)
            .and_then(note)
        {
            Ok(noted) => Some(Removal {
                noted,
                or_at: gathered.elsewhere(),
                gathered,
                name: name.into(),
                how: fs.how_to_delete(&uri),
                uri,
                since: Instant::now(),
            }),
            Err(error) => {
                log::debug!("a removal is not gathered: {error}");
                None
            }
        }
    }

    /// It is removed, or shows again.
    fn is_over(&self, noted: StepsId) {
        if let Some(staging) = &self.staging
            && let Err(error) = staging.done_soon(noted)
        {
            log::error!("a removal could not be noted as done: {error}");
        }
    }

    async fn batch_max(&self) -> usize {
        self.api.batch_max().await.unwrap_or(BATCH_UNTOLD)
    }

    /// Sends what waits of `folders` in a task of its own, and waits for that as long as a call may.
    async fn send(self: &Arc<Self>, folders: Vec<FileKey>) -> Result<(), Error> {
        let (done, ended) = oneshot::channel::<()>();
        let shared = Arc::clone(self);
        let work = async move {
            let _sending = shared.sending.lock().await;
            for folder in &folders {
                shared.send_folder(folder).await;
            }
            drop(done);
        };
        {
            let mut senders = self.senders.lock().unwrap();
            while senders.try_join_next().is_some() {}
            senders.spawn(work);
        }
        match asker::within(self.timeout, ended).await {
            // It is over when the other end is dropped.
            Ok(_) => Ok(()),
            Err(why) => Err(api::Error::gave_up(why, self.timeout).into()),
        }
    }

    async fn send_folder(&self, folder: &FileKey) {
        loop {
            let batch = self.next_batch(folder, self.batch_max().await);
            if batch.is_empty() {
                return;
            }
            self.send_batch(folder, &batch).await;
        }
    }

    fn next_batch(&self, folder: &FileKey, most: usize) -> Vec<Removal> {
        let mut rows = self.rows.lock().unwrap();
        let Some(row) = rows.get_mut(folder) else {
            return Vec::new();
        };
        let count = row.waiting.len().min(most);
        row.waiting.drain(..count).collect()
    }

    async fn send_batch(&self, folder: &FileKey, batch: &[Removal]) {
        let uris: Vec<FileUri> = batch.iter().map(|removal| removal.uri.clone()).collect();
        let how = batch.first().map_or(Delete::Trash, |first| first.how);
        match self.api.delete(&uris, how).await {
            Ok(answers) => {
                crash::pass(Point::RemovalsSent);
                for (removal, answer) in batch.iter().zip(for_each(answers)) {
                    self.end(folder, removal, answer);
                }
            }
            Err(error) if is_of_few(&error) => self.send_singly(folder, batch, how).await,
            Err(error) if is_lost(&error) && self.reach.is_down() => {
                let rest = self.rest_of(folder);
                log::warn!(
                    "{} files are deleted once the server is back",
                    batch.len() + rest.len()
                );
                self.wait_for_server(folder, batch.iter().cloned().chain(rest));
            }
            Err(error) => self.give_back(folder, batch, &error),
        }
    }

    /// One that is locked makes the server do none of them.
    async fn send_singly(&self, folder: &FileKey, batch: &[Removal], how: Delete) {
        for (index, removal) in batch.iter().enumerate() {
            match self.api.delete_one(&removal.uri, how).await {
                Err(error) if !is_of_few(&error) => {
                    self.give_back(folder, &batch[index..], &error);
                    return;
                }
                answer => self.end(folder, removal, answer),
            }
        }
    }

    /// Nobody knows what became of `batch`: it is looked for again, as all that waits behind it, and what comes next is not
    /// believed to succeed.
    fn give_back(&self, folder: &FileKey, batch: &[Removal], error: &api::Error) {
        let what = match is_lost(error) {
            true => "may not be deleted",
            false => "could not be deleted",
        };
        let rest = self.rest_of(folder);
        if let Some(first) = batch.first() {
            let count = batch.len() + rest.len();
            log::warn!("{count} files, the first {}, {what}: {error}", first.uri);
        }
        for removal in batch.iter().chain(&rest) {
            self.is_decided(Some(folder), removal, &Fate::Changed);
        }
    }

    /// All that waits of `folder`, whose row ends with that.
    fn rest_of(&self, folder: &FileKey) -> Vec<Removal> {
        let mut rows = self.rows.lock().unwrap();
        let Some(row) = rows.get_mut(folder) else {
            return Vec::new();
        };
        row.count = 0;
        std::mem::take(&mut row.waiting)
    }

    /// The server said `answer` to `removal`.
    fn end(&self, folder: &FileKey, removal: &Removal, answer: Result<(), api::Error>) {
        let fate = match answer {
            Ok(()) | Err(api::Error::NotFound) => Fate::Gone,
            Err(error) => Fate::Refused(error),
        };
        self.is_decided(Some(folder), removal, &fate);
    }
}

/// The answer for each of a batch. One that is missing is one of success: what failed is told.
fn for_each(answers: Vec<Result<(), api::Error>>) -> impl Iterator<Item = Result<(), api::Error>> {
    answers.into_iter().chain(std::iter::repeat_with(|| Ok(())))
}

/// Whether it says something of single files, so that the others can be deleted all the same.
fn is_of_few(error: &api::Error) -> bool {
    matches!(
        error,
        api::Error::Locked(_)
            | api::Error::Refused { .. }
            | api::Error::Denied { .. }
            | api::Error::NotFound
    )
}
