//! What was known of the drive when it was mounted last: shown where nobody can be asked, and for as long as it would be
//! believed by its age.
//!
//! Folders are kept in the background once something else is known of them, and at the end of the mount. What is removed here
//! and not on the server yet is not kept.

use std::collections::HashSet;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant, SystemTime};

use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;
use tokio::task::spawn_blocking;
use tokio::time::{sleep, timeout};

use crate::entry::{Entry, FileKey};
use crate::metadata::{Kept, Store};
use crate::model::{EntityId, FileId};
use crate::task::Task;
use crate::uri::FileUri;

use super::Fs;
use super::namespace::Namespace;
use super::root::root_entry_of;

/// How often it is looked what to keep.
const PERIOD: Duration = Duration::from_secs(2);

/// Pauses are so many times as long as what was kept before took.
const PAUSES: u32 = 20;

/// How long the disk is waited for; what it has after that does not count.
const PATIENCE: Duration = Duration::from_secs(3);

/// What is kept of the drive, for who mounts it.
#[derive(Debug, Clone)]
pub struct Recall {
    /// Where.
    pub store: Arc<Store>,
    /// What the root was, where the server cannot be asked for it.
    pub root: Option<Root>,
}

/// The root of a drive, as it was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Root {
    place: String,
    id: String,
    entity: String,
    empty: Option<String>,
    created: SystemTime,
    updated: SystemTime,
    owned: bool,
    shared: bool,
}

/// What was known of the drive before this mount.
pub(super) struct Recalling {
    store: Arc<Store>,
    /// When this mount began: what was asked for later may have been followed by events.
    since: Instant,
    /// Folders that were looked for. Held by who looks, so that who comes next finds what was found.
    sought: Mutex<HashSet<FileKey>>,
}

impl Root {
    pub(super) fn new(place: &FileUri, entry: &Entry, empty: Option<&EntityId>) -> Self {
        Self {
            place: place.to_wire(),
            id: entry.id.to_string(),
            entity: entry.entity.0.to_string(),
            empty: empty.map(|empty| empty.0.to_string()),
            created: entry.created,
            updated: entry.updated,
            owned: entry.owned,
            shared: entry.shared,
        }
    }

    /// Where it is; none where that cannot be read.
    pub(super) fn place(&self) -> Option<FileUri> {
        FileUri::parse_wire(&self.place).ok()
    }

    /// The entity of what has no content.
    pub(super) fn empty(&self) -> Option<EntityId> {
        self.empty.as_deref().map(|empty| EntityId(empty.into()))
    }

    pub(super) fn entry(&self) -> Entry {
        let entry = root_entry_of(
            FileId(self.id.as_str().into()),
            EntityId(self.entity.as_str().into()),
            self.created,
            self.updated,
        );
        Entry {
            owned: self.owned,
            shared: self.shared,
            ..entry
        }
    }
}

impl Recalling {
    /// What is in `store`.
    pub(super) fn new(store: Arc<Store>, since: Instant) -> Self {
        Self {
            store,
            since,
            sought: Mutex::default(),
        }
    }

    async fn find(&self, folder: &FileKey) -> Option<Kept> {
        let (store, folder) = (Arc::clone(&self.store), folder.clone());
        let found = spawn_blocking(move || store.folder(&folder));
        timeout(PATIENCE, found).await.ok()?.ok()?
    }
}

impl Namespace {
    /// What is `known` of `folder`, or is once that was recalled.
    pub(super) async fn known_or_recalled<T>(
        &self,
        folder: &FileKey,
        known: impl Fn(Instant) -> Option<T>,
    ) -> Option<T> {
        if let Some(known) = known(Instant::now()) {
            return Some(known);
        }
        match self.recall(folder).await {
            true => known(Instant::now()),
            false => None,
        }
    }

    /// What was known of `folder` before this mount is known again, where the server cannot be asked or it counts by its age.
    /// Whether that was so.
    pub(super) async fn recall(&self, folder: &FileKey) -> bool {
        let Some(recalling) = &self.recalling else {
            return false;
        };
        let is_new =
            |now: Instant| now.saturating_duration_since(recalling.since) < self.metadata.ttl();
        let is_of_use = self.reach.is_down() || is_new(Instant::now());
        if !is_of_use || !self.metadata.is_unlisted(folder) {
            return false;
        }
        let mut sought = recalling.sought.lock().await;
        if !sought.insert(folder.clone()) {
            return !self.metadata.is_unlisted(folder);
        }
        let Some(kept) = recalling.find(folder).await else {
            return false;
        };
        let age = kept
            .asked
            .and_then(|asked| SystemTime::now().duration_since(asked).ok());
        let asked = age.and_then(|age| Instant::now().checked_sub(age));
        let asked = asked.filter(|asked| *asked < recalling.since);
        self.listings.recall(folder, kept, asked);
        true
    }
}

impl Fs {
    /// What a later mount must know of the root before it can ask for it.
    pub fn root_to_keep(&self) -> Option<Root> {
        let space = &self.namespace;
        let node = space.inodes.node(crate::inodes::Ino::ROOT)?;
        Some(Root::new(&self.root(), &node.entry, space.empty.as_ref()))
    }

    /// Keeps all that is known by now, for the next mount.
    pub async fn keep_known(&self) {
        let space = &self.namespace;
        let Some(recalling) = &space.recalling else {
            return;
        };
        while let Some((folder, mut kept)) = space.listings.take_unkept() {
            if space.leaving.any_in(&folder) {
                kept.entries
                    .retain(|entry| !space.leaving.has(&folder, &entry.name));
            }
            recalling.sought.lock().await.remove(&folder);
            let store = Arc::clone(&recalling.store);
            let now = SystemTime::now();
            let done = spawn_blocking(move || store.keep(&folder, &kept, now)).await;
            if done.is_err() {
                return;
            }
        }
    }

    /// As [`Fs::keep_known`], at the end of a mount after which nothing is done on the server any more.
    pub async fn keep_whole(&self) {
        self.keep_known().await;
        if let Some(recalling) = &self.namespace.recalling {
            let store = Arc::clone(&recalling.store);
            let done = spawn_blocking(move || store.is_whole()).await;
            done.unwrap_or_else(|error| log::debug!("what was kept does not count: {error}"));
        }
    }
}

/// Keeps what is known of `fs` from time to time. Must be called within a runtime.
pub fn keep(fs: &Arc<Fs>) -> Task {
    Task::spawn(keep_now_and_then(Arc::downgrade(fs)))
}

async fn keep_now_and_then(fs: Weak<Fs>) {
    let mut pause = PERIOD;
    loop {
        sleep(pause).await;
        let Some(fs) = fs.upgrade() else { return };
        let began = Instant::now();
        fs.keep_known().await;
        pause = PERIOD.max(began.elapsed() * PAUSES);
    }
}
