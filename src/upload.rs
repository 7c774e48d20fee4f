//! Delivers what is staged: a bounded number of files at once, in fair order, until each is on the server.
//!
//! Promises: what was staged is delivered whole, once, and verified before the journal forgets it; nothing of the server's
//! is overwritten that the writer had not seen; what cannot be delivered stays staged, with its reason, and stops no other.
//! Never decides what the user sees: news of what became of a file go to who listens ([`Uploader::new`]).

mod aim;
mod attempt;
mod body;
mod cipher;
mod conflict;
mod copy;
mod deliver;
mod detour;
mod fleet;
mod halt;
mod home;
mod look;
mod orphans;
mod outcome;
mod place;
mod policy;
mod proof;
mod queue;
mod roll;
mod send;
mod shorten;
mod tell;
mod told;
mod verdict;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::task::JoinHandle;

use crate::api::{Api, Delete, Error};
use crate::entry::FileKey;
use crate::model::{EntityId, FileId, FileInfo};
use crate::names::ServerName;
use crate::staging::{Local, Place, Staging, Untold};
use crate::uri::FileUri;
use fleet::Fleet;
use tell::Teller;

/// Whether a note among the steps of a staging is one that the uploader finishes.
pub(crate) fn is_note(text: &str) -> bool {
    orphans::is_note(text) || detour::is_note(text)
}

/// Where the folder of `place` is now; where that is gone, the nearest that there still is above where it was.
pub(crate) async fn folder_of(api: &Api, place: &Place) -> Result<FileUri, Error> {
    place::find(api.clone(), place.clone()).await
}

/// Where the folder of `place` is now, wherever that is; [`Error::NotFound`] where it is gone, or is not found by its id.
pub(crate) async fn very_folder_of(api: &Api, place: &Place) -> Result<FileUri, Error> {
    place::find_exactly(api, place).await
}

/// Whether files and folders of `place` are found by their identity, wherever they are.
pub(crate) fn has_ids(place: &Place) -> bool {
    place::has_ids(place)
}

/// What becomes of the old content of a file that is overwritten.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Overwrite {
    /// A new version; the replaced one is dropped.
    Replace,
    /// A new version; the old one is kept.
    Version,
    /// Delete, then upload.
    Delete,
}

/// How it is delivered.
#[derive(Debug, Clone)]
pub struct Options {
    /// Quiet time after a file was staged before its upload begins.
    pub delay: Duration,
    /// Files at once.
    pub transfers: usize,
    /// See [`Overwrite`].
    pub overwrite: Overwrite,
    /// Where a file goes that [`Overwrite::Delete`] deletes.
    pub delete: Delete,
    /// This machine, for the names of conflict copies.
    pub host: String,
    /// How names are exchanged, for the names of conflict copies.
    pub names: crate::names::NamePolicy,
    /// Longest a call waits without bytes arriving.
    pub timeout: Duration,
}

/// Brings the parts of a local file that are only in its base, so that all of it is here; errors are those of reading.
pub type Complete = Arc<
    dyn Fn(Arc<Local>) -> futures_util::future::BoxFuture<'static, Result<(), crate::api::Error>>
        + Send
        + Sync,
>;

/// What became of a local file.
#[derive(Debug, Clone)]
pub enum News {
    /// It is on the server, as `info` says: content, name and place. `conflict`: not under its own name, because what is
    /// there had been changed by somebody else.
    Delivered {
        /// Which.
        local: crate::staging::LocalId,
        /// What the server says of it.
        info: Box<FileInfo>,
        /// Kept beside another version.
        conflict: bool,
        /// Which content of it was delivered (→ [`Local::generation`]).
        generation: u64,
    },
    /// The server heard what was told of a file: who believes it, calls [`Staging::told`].
    Told(Untold),
}

/// How one owed file stands, for `status` and `why`.
#[derive(Debug, Clone)]
pub struct Owed {
    /// Which.
    pub local: Arc<Local>,
    /// In words: `waiting`, `uploading`, `retrying`, `blocked`.
    pub state: &'static str,
    /// Bytes that the server has of it.
    pub sent_bytes: u64,
    /// When it is tried next.
    pub next_try: Option<SystemTime>,
}

/// Delivers what is staged. Dropping it stops the uploads; what is owed stays owed.
pub struct Uploader {
    fleet: Arc<Fleet>,
    teller: Arc<Teller>,
    tasks: [JoinHandle<()>; 2],
}

impl Drop for Uploader {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

impl Uploader {
    /// Begins with what `staging` owes already. Must be called inside a tokio runtime.
    pub fn new(
        api: Api,
        staging: Arc<Staging>,
        complete: Complete,
        options: Options,
    ) -> (Arc<Self>, tokio::sync::mpsc::UnboundedReceiver<News>) {
        let (news, listener) = tokio::sync::mpsc::unbounded_channel();
        let teller = Teller::new(api.clone(), Arc::clone(&staging), &options, news.clone());
        let teller = Arc::new(teller);
        let fleet = Arc::new(Fleet::new(api, staging, complete, options, news));
        let tasks = [
            tokio::spawn(Arc::clone(&fleet).run()),
            tokio::spawn(Arc::clone(&teller).run()),
        ];
        let uploader = Self {
            fleet,
            teller,
            tasks,
        };
        (Arc::new(uploader), listener)
    }

    /// `local` was staged, or staged anew: its upload begins after the delay, and one that is under way of an older
    /// content is stopped.
    pub fn staged(&self, local: &Arc<Local>) {
        self.fleet.staged(local);
    }

    /// Resolves when this content of `local`, or a later one, is on the server, or with why it cannot be for now: that of
    /// the first try from here on, which is made at once. What was unlinked, or stays here, is not owed.
    pub async fn deliver(&self, local: &Arc<Local>) -> Result<(), Undelivered> {
        self.fleet.deliver(local, Duration::ZERO).await
    }

    /// As [`Uploader::deliver`], for who has the time: a reason that passes by itself, as a lock of somebody else's, is no
    /// answer before the timeout is over.
    pub async fn deliver_patiently(&self, local: &Arc<Local>) -> Result<(), Undelivered> {
        self.fleet.deliver(local, self.fleet.timeout()).await
    }

    /// Stops what is under way of `local` and cancels its session, so that neither it nor its folders are locked by us,
    /// until the guard is dropped. What was all sent already may be delivered meanwhile. Waits no longer than
    /// [`Options::timeout`], and is in vain where the server does not answer: then its lock is met, and what gets there all
    /// the same follows the file to its new place, or goes with it.
    pub async fn hold(&self, local: &Arc<Local>) -> Held {
        self.fleet.hold(local);
        let mut held = Held {
            fleet: Arc::clone(&self.fleet),
            local: Arc::clone(local),
            before: local.place(),
            is_up: false,
        };
        held.is_up = !self.fleet.grounded_soon(local).await;
        held
    }

    /// Clears away what is left at the server of files that were unlinked in `folder` while it did not answer. Whether there was
    /// any.
    pub async fn clear_left(&self, folder: &FileKey) -> Result<bool, Error> {
        let cleared = self.fleet.courier().settle_left_in(folder).await;
        cleared.map_err(Error::from)
    }

    /// Whether somebody holds a file of which an upload may have left something at `place`, and may be about to unlink it.
    pub fn is_held_at(&self, place: &Place) -> bool {
        self.fleet.courier().orphans.is_held_at(place)
    }

    /// Whether a file may be one of ours that was unlinked while the server did not answer, and that nobody has looked for since.
    pub fn may_be_left(&self, info: &FileInfo) -> bool {
        let courier = self.fleet.courier();
        let now = |uri: &FileUri| courier.api.moved_since(uri);
        courier.orphans.may_be_left(info, now)
    }

    /// Whether version `now` of `file` was brought by us over the version `seen`, for a file that was unlinked before anybody
    /// heard of it.
    pub async fn is_left(
        &self,
        file: &FileId,
        seen: &EntityId,
        now: &EntityId,
    ) -> Result<bool, Error> {
        let is_left = self.fleet.courier().is_left(file, seen, now).await;
        is_left.map_err(Error::from)
    }

    /// Folders have other places or names than a moment ago: none is looked for where it was.
    pub fn moved(&self) {
        self.fleet.moved();
    }

    /// All that is owed to the server, as it stands.
    pub fn owed(&self) -> Vec<Owed> {
        self.fleet.owed()
    }

    /// How many [`News`] were sent: all that concern what [`Uploader::deliver`] said is there are among them.
    pub fn told(&self) -> u64 {
        self.fleet.told()
    }

    /// The name under which what belongs in `place` is kept beside something else that has its name: the `nth` that is tried,
    /// from 1 on.
    pub fn name_beside(&self, place: &Place, nth: u32) -> ServerName {
        self.fleet.name_beside(place, nth)
    }

    /// Something is to be told of a file ([`Staging::tell`]): after the delay.
    pub fn tell(&self) {
        self.teller.wake();
    }

    /// Resolves when the server heard all that is told of files whose content it has, or with why it did not, for now.
    pub async fn told_all(&self) -> Result<(), Undelivered> {
        self.teller.told_all().await
    }

    /// The network is back: try now.
    pub fn wake(&self) {
        self.teller.hurry();
        self.fleet.wake();
    }

    /// Stops all uploads and cancels their sessions; for an ordered end. Takes no longer than about 20 seconds: what a
    /// server that does not answer keeps open is cancelled at the next start.
    pub async fn close(&self) {
        self.fleet.close().await;
    }
}

/// Why a file is not on the server yet.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Undelivered {
    /// The server or the wire; it is tried again.
    #[error("{0}")]
    Api(#[from] crate::api::Error),
    /// Not without somebody doing something.
    #[error("{0}")]
    Blocked(Blocked),
    /// Our own disk.
    #[error("{0}")]
    Disk(Arc<std::io::Error>),
}

/// What somebody has to do something about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Blocked {
    /// Why, and what.
    pub words: String,
    /// What is in the way, where who waits can be told more than that it failed.
    pub reason: Option<Reason>,
}

/// Why the server does not take a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// The account's storage is full.
    Full,
    /// The file is larger than the storage takes.
    TooLarge,
    /// The name is refused.
    Name,
}

impl From<String> for Blocked {
    fn from(words: String) -> Self {
        Self {
            words,
            reason: None,
        }
    }
}

impl std::fmt::Display for Blocked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.words)
    }
}

/// While it lives, nothing is uploaded of one file.
pub struct Held {
    fleet: Arc<Fleet>,
    local: Arc<Local>,
    /// Where it belonged.
    before: Place,
    is_up: bool,
}

impl Held {
    /// Whether its upload could not be stopped in time: it may be delivered while this is held.
    pub fn is_up(&self) -> bool {
        self.is_up
    }

    /// Whether its session may be open, though it was stopped: the server did not answer.
    pub fn is_in_vain(&self) -> bool {
        self.local.delivery().session.is_some()
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let moved = self.local.place() != self.before;
        self.fleet.release(&self.local, moved);
    }
}

#[cfg(test)]
mod tests;
