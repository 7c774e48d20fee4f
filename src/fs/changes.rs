//! What all verbs that change names share: where a name is, what stands behind it, and how a change of ours gets to the
//! server and into what is believed.
//!
//! A change that the server confirmed is believed at once. One whose answer was lost is looked up before anybody is told
//! anything. A lock that somebody holds for a moment is waited for; our own upload sessions are stopped by who calls.

use std::borrow::Cow;
use std::ffi::{OsStr, OsString};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use crate::api::{self, PagePosition, Steady};
use crate::asker;
use crate::attributes::{Attributes, Times};
use crate::entity::Entity;
use crate::entry::{Entry, FileKey};
use crate::inodes::{Ino, Node};
use crate::listing::name_of;
use crate::model::{Capabilities, FileId, FileInfo, FileKind};
use crate::names::{NAME_MAX_BYTES, NameError, ServerName, Stored};
use crate::staging::{Base, IsTold, Local, Place, Staging, State};
use crate::upload::{Held, Uploader};
use crate::uri::{FileSystem, FileUri};

use super::locals::{Locals, Shown, differing, gone_id, is_gone, is_of, local_id, server_id};
use super::namespace::{Folder, within};
use super::removals::clear_removed;
use super::root::PEEK;
use super::steps::is_aside;
use super::unheard::take_in;
use super::{Error, Fs};

/// First wait for a lock of somebody else; each further one is twice as long, up to [`LOCK_WAIT_MAX`].
const LOCK_WAIT: Duration = Duration::from_millis(50);
const LOCK_WAIT_MAX: Duration = Duration::from_secs(1);

/// "Somebody changed the way to it meanwhile", which passes like a short lock (→ api part 1 §11).
const CHANGED_ON_THE_WAY: i64 = 409;

/// What a mount that is written to owes, and who delivers it.
#[derive(Clone)]
pub struct Owing {
    /// What is here and not on the server.
    pub staging: Arc<Staging>,
    /// Brings it there.
    pub uploader: Arc<Uploader>,
}

/// One name in one folder, fit to be changed.
pub(super) struct End {
    pub(super) parent: Ino,
    pub(super) folder: Folder,
    pub(super) name: OsString,
    /// The name as the server has it, or is to have it.
    pub(super) stored: ServerName,
    /// All of the name, where that is a part of it.
    pub(super) full: Option<Arc<str>>,
}

/// What stands behind a name.
#[derive(Clone)]
pub(super) enum Found {
    /// Content that is here.
    Local(Shown),
    /// What the server has, and nothing else.
    Known(Arc<Entry>),
}

impl Found {
    pub(super) fn kind(&self) -> FileKind {
        match self {
            Self::Local(_) => FileKind::File,
            Self::Known(entry) => entry.kind,
        }
    }

    /// Whether the server has a file behind it.
    pub(super) fn is_on_server(&self) -> bool {
        match self {
            Self::Known(_) => true,
            Self::Local(shown) => shown.local.base().is_some(),
        }
    }

    /// Under what `inodes` knows it now, in the folder of `folder`.
    pub(super) fn key(&self, folder: &End, fs: &Fs) -> Result<FileKey, Error> {
        Ok(match self {
            Self::Local(shown) => fs.key_of(shown),
            Self::Known(entry) => fs.key_in(folder.parent, &entry.id)?,
        })
    }
}

impl End {
    /// Where it is on the server.
    pub(super) fn uri(&self) -> FileUri {
        self.folder.uri.child(self.stored.clone())
    }

    /// Where content of that name belongs.
    pub(super) fn place(&self) -> Place {
        Place {
            folder: self.folder.key.clone(),
            folder_uri: self.folder.uri.clone(),
            name: self.stored.clone(),
            full: self.full.clone(),
        }
    }

    pub(super) fn is(&self, other: &Self) -> bool {
        self.folder.key == other.folder.key && self.name == other.name
    }
}

impl Fs {
    /// What is owed, where this mount may be written to.
    pub(super) fn owing(&self) -> Result<&Owing, Error> {
        self.owing.as_ref().ok_or(Error::ReadOnly)
    }

    /// `name` in `parent`, for a change there. The server's form is the one it has for what is there, if anything is.
    pub(super) async fn end(
        &self,
        parent: Ino,
        name: &OsStr,
    ) -> Result<(End, Option<Found>), Error> {
        self.owing()?;
        if name.len() > NAME_MAX_BYTES {
            return Err(Error::NameTooLong);
        }
        let space = &self.namespace;
        let node = space.inodes.node(parent).ok_or(Error::NotFound)?;
        if is_gone(&node.entry.id) {
            return Err(Error::NotFound);
        }
        let folder = space.folder(parent)?;
        let found = self.found(parent, &folder, name).await?;
        let stored = match &found {
            Some(Found::Local(shown)) => {
                let place = shown.local.place();
                Stored {
                    name: place.name,
                    full: place.full,
                }
            }
            Some(Found::Known(entry)) => Stored {
                name: entry.segment(),
                full: space.with_untold(entry).full(),
            },
            None => stored(name, space.options.names)?,
        };
        space.sends(&stored.name, stored.full.as_ref());
        let end = End {
            parent,
            folder,
            name: name.to_owned(),
            stored: stored.name,
            full: stored.full,
        };
        Ok((end, found))
    }

    /// The folders of `ends` keep their places on the server while this lives. [`Error::Gone`] where one of them has another one
    /// than when that was looked up, or may have: somebody else here moved it, or the server is just hearing of its new name.
    pub(super) async fn steady(&self, ends: &[&End]) -> Result<Steady<'_>, Error> {
        let folders: Vec<_> = ends.iter().map(|end| &end.folder.uri).collect();
        let steady = self.api.steady(&folders).await;
        match ends.iter().all(|end| self.namespace.is_as_found(end)) {
            true => Ok(steady),
            false => Err(Error::Gone),
        }
    }

    async fn found(
        &self,
        parent: Ino,
        folder: &Folder,
        name: &OsStr,
    ) -> Result<Option<Found>, Error> {
        let space = &self.namespace;
        if let Some(shown) = space.locals.named(&folder.key, name) {
            return Ok(Some(Found::Local(shown)));
        }
        let belief = space.believed_name(parent, &folder.key, name).await?;
        // With what is told of it now: by the end of the change the server may have heard that, and this be older.
        let told = |entry: Arc<Entry>| match space.with_untold(&entry) {
            Cow::Owned(told) => Arc::new(told),
            Cow::Borrowed(_) => entry,
        };
        Ok(belief.what.map(told).map(Found::Known))
    }

    /// An error where the server, which is known to take names of other spelling for the same, would take that of `end` for
    /// what it has, unless that is `but`. Where it is not known yet, or does not answer, whoever makes something there finds
    /// out.
    pub(super) async fn is_told_apart(&self, end: &End, but: Option<&FileId>) -> Result<(), Error> {
        if !self.api.takes_for_same() || self.owing()?.staging.is_local_only(&end.place()) {
            return Ok(());
        }
        let timeout = self.namespace.options.timeout;
        let uri = end.uri();
        let other = || async {
            let asked = within(timeout, self.api.other_spelling(&uri)).await;
            let other = asked.unwrap_or_default();
            other.filter(|other| Some(&other.id) != but)
        };
        if other().await.is_none() {
            return Ok(());
        }
        // It may be on its way out.
        self.all_removed(&uri).await?;
        let Some(other) = other().await else {
            return Ok(());
        };
        log::warn!(
            "{uri}: the server takes this name for that of '{}', which is there",
            other.name
        );
        Err(Error::Exists)
    }

    /// Nothing new can have a place where names are given by what else is there.
    pub(super) fn may_add(&self, end: &End) -> Result<(), Error> {
        match end.folder.flat {
            true => Err(Error::NotPermitted),
            false => Ok(()),
        }
    }

    /// An error where the mount leads into somebody's share that may only be read. What the mount itself is of was looked at
    /// when it began.
    pub(super) async fn may_write(&self, folder: &Folder) -> Result<(), Error> {
        let space = &self.namespace;
        let share = folder.uri.file_system();
        let is_share = matches!(share, FileSystem::Share { .. });
        if !is_share || share == space.options.root.file_system() {
            return Ok(());
        }
        let asked = Instant::now();
        let known = self.shares.lock().unwrap().get(share).copied();
        let known =
            known.filter(|(_, asked)| space.metadata.left(*asked, Instant::now()).is_some());
        let may = match known {
            Some((may, _)) => may,
            None => {
                let root = FileUri::root(share.clone());
                let page = (space.source.page)(root, PagePosition::First, PEEK);
                let page = within(space.options.timeout, page).await;
                let page = page.map_err(|error| self.refused(folder, error))?;
                let allowed = page.folder.capabilities;
                allowed.has(Capabilities::CREATE) && allowed.has(Capabilities::UPLOAD)
            }
        };
        self.shares.lock().unwrap().insert(
            share.clone(),
            (may, known.map_or(asked, |(_, asked)| asked)),
        );
        match may {
            true => Ok(()),
            false => Err(Error::Denied(api::Error::Denied {
                code: 403,
                said: "this share may only be read".to_owned(),
            })),
        }
    }

    /// Under what `id` is known in the folder `parent`.
    pub(super) fn key_in(&self, parent: Ino, id: &FileId) -> Result<FileKey, Error> {
        let tree = self.namespace.inodes.tree_below(parent);
        Ok(FileKey {
            tree: tree.ok_or(Error::NotFound)?,
            id: id.clone(),
        })
    }

    /// What is done by `call`, waiting for locks that somebody holds. Never waits longer than a call may.
    pub(super) async fn unlocked<T, F>(&self, mut call: impl FnMut() -> F) -> Result<T, api::Error>
    where
        F: Future<Output = Result<T, api::Error>>,
    {
        let longest = self.namespace.options.timeout;
        let until = asker::no_later_than(tokio::time::Instant::now() + longest);
        let mut wait = LOCK_WAIT;
        loop {
            match call().await {
                Err(error) if is_locked(&error) && tokio::time::Instant::now() + wait < until => {
                    tokio::time::sleep(wait).await;
                    wait = (wait * 2).min(LOCK_WAIT_MAX);
                }
                answer => return answer,
            }
        }
    }

    /// What is at `uri` now, after an answer about it was lost; none where nothing is.
    pub(super) async fn whats_at(&self, uri: &FileUri) -> Result<Option<FileInfo>, api::Error> {
        match self.namespace.info(uri.clone()).await {
            Ok(info) => Ok(Some(info)),
            Err(api::Error::NotFound) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// An error of the server about `folder`, in the words of a caller.
    pub(super) fn refused(&self, folder: &Folder, error: api::Error) -> Error {
        self.namespace.error(folder, error)
    }

    /// `end` stands for `entry` from now on, or for nothing: the server confirmed it.
    pub(super) fn believe(&self, end: &End, entry: Option<Arc<Entry>>) {
        let now = Instant::now();
        let metadata = &self.namespace.metadata;
        metadata.change_name(&end.folder.key, &end.name, entry, now);
    }

    /// Nobody knows what `end` stands for.
    pub(super) fn doubt(&self, end: &End) {
        self.namespace.metadata.doubt(&end.folder.key, &end.name);
    }

    /// The file `key` has no name any more: whoever has it open keeps an inode that nothing else can come to, and nothing
    /// written to it goes to the server.
    pub(super) fn retire(&self, key: &FileKey) -> Result<(), Error> {
        let space = &self.namespace;
        let local = space.locals.keyed(key);
        if let Some(shown) = &local {
            shown.local.unlink().map_err(disk)?;
        }
        let id = match &local {
            Some(shown) => local_id(&shown.local),
            None => gone_id(&key.id, self.next_gone()),
        };
        let new = self.known_as(key, id);
        space.locals.hide(&new);
        Ok(())
    }

    /// What was known as `key` gets another id and stays what it is otherwise. Under what it is known.
    pub(super) fn known_as(&self, key: &FileKey, id: FileId) -> FileKey {
        let space = &self.namespace;
        let node = space
            .inodes
            .find(key)
            .and_then(|ino| space.inodes.node(ino));
        if let Some(node) = node {
            let mut entry = space.with_untold(&node.entry).into_owned();
            if let Some(shown) = space.locals.keyed(key) {
                // It may be dropped, as that of a pipe is, which nobody opens by way of us.
                let here = Locals::entry(&shown, &entry.name);
                (entry.attributes, entry.updated) = (here.attributes.clone(), here.updated);
            }
            return self.settled(key, &Arc::new(Entry { id, ..entry }));
        }
        let new = FileKey { tree: key.tree, id };
        space.locals.rekey(key, &new);
        new
    }

    /// Stops what is under way of `local`, so that the server has no lock of ours on it or above it.
    pub(super) async fn hold(&self, local: &Arc<Local>) -> Result<Held, Error> {
        Ok(self.owing()?.uploader.hold(local).await)
    }

    /// A local file for what is open as `ino` and read as the version `entity` up to now. It shows at once wherever `ino`
    /// does; where that has no name any more, it never goes to the server. The one that is there already, if one is. Where
    /// the name shows what was written over another version, it gets a place of its own beside that once it is delivered.
    pub(super) fn write_over(
        &self,
        ino: Ino,
        entity: Entity,
        mtime: SystemTime,
    ) -> Result<Arc<Local>, Error> {
        let owing = self.owing()?;
        let space = &self.namespace;
        let (node, local) = space.node_and_local(ino).ok_or(Error::NotFound)?;
        if let Some(shown) = local {
            return Ok(shown.local);
        }
        let folder = space.folder(node.parent)?;
        let place = Place {
            folder: folder.key.clone(),
            folder_uri: folder.uri,
            name: node.entry.segment(),
            full: space.with_untold(&node.entry).full(),
        };
        let base = Base {
            file: server_id(&node.entry.id),
            visible_bytes: entity.size_bytes,
            entity,
        };
        let file = base.file.clone();
        let told = self.as_told(&node.entry);
        let local = owing.staging.create_telling(place, Some(base), mtime, told);
        let local = local.map_err(disk)?;
        // It goes with the content from now on.
        for file in [&file, &node.entry.id] {
            owing.staging.tell_nothing(file).map_err(disk)?;
        }
        if is_gone(&node.entry.id) {
            // Its name may be another file's by now.
            local.unlink().map_err(disk)?;
            space.locals.keep(node.key(), &local);
            return Ok(local);
        }
        if self.is_superseded(&node, &folder.key) {
            self.keep_apart(ino, &node, &local);
            return Ok(local);
        }
        space.inodes.part_others(ino, |open| is_of(open, &local));
        let shown = Shown {
            key: node.key(),
            local: Arc::clone(&local),
        };
        space.locals.show(&folder.key, &node.entry.name, shown);
        Ok(local)
    }

    /// What is told of `entry` beside content that is about to change, and whether the server has heard that.
    pub(super) fn as_told(&self, entry: &Entry) -> Option<(Arc<Attributes>, IsTold)> {
        let is_told = matches!(self.namespace.with_untold(entry), Cow::Borrowed(_));
        let entry = self.namespace.with_untold(entry);
        let told = entry.attributes.as_deref()?;
        let times = Times::sent(entry.times());
        let told = Attributes {
            times: (!times.is_plain()).then_some(times),
            ..told.clone()
        };
        Some((Arc::new(told), is_told))
    }

    /// Whether the name of `node` in `folder` stands for other content that is here.
    fn is_superseded(&self, node: &Node, folder: &FileKey) -> bool {
        let locals = &self.namespace.locals;
        locals.named(folder, &node.entry.name).is_some() || locals.shows(&node.key())
    }

    /// `local` belongs to those who have `ino` open, and the name of that to other content.
    fn keep_apart(&self, ino: Ino, node: &Node, local: &Arc<Local>) {
        let space = &self.namespace;
        space.inodes.part(ino);
        let key = FileKey {
            tree: node.tree,
            id: local_id(local),
        };
        space.locals.keep(key, local);
    }

    /// The content, size or time of `local`, which is the content of `ino`, changed: one that was on the server already is
    /// owed again, and shows under its name.
    pub(super) fn changed(&self, ino: Ino, local: &Arc<Local>) {
        let space = &self.namespace;
        let Some(node) = space.inodes.node(ino) else {
            return;
        };
        let shown = Shown {
            key: node.key(),
            local: Arc::clone(local),
        };
        let entry = Locals::entry(&shown, &node.entry.name);
        let keyed = space.locals.keyed(&shown.key);
        if keyed.is_none_or(|keyed| keyed.local.id() != local.id()) {
            // Its name leads elsewhere; those who have it open see what they write.
            if space.locals.numbered(local.id()).is_none() {
                self.keep_apart(ino, &node, local);
            }
            space.inodes.repin(ino, &entry);
            return;
        }
        match node.is_parted {
            true => space.inodes.repin(ino, &entry),
            false => drop(space.inodes.tell(ino, &entry)),
        }
        let is_owed = matches!(local.state(), State::Dirty | State::Staged(_));
        if !is_owed || space.locals.shows(&shown.key) {
            return;
        }
        let Ok(folder) = space.folder_key(node.parent) else {
            return;
        };
        if space.locals.named(&folder, &node.entry.name).is_some() {
            self.keep_apart(ino, &node, local);
            space.inodes.repin(ino, &entry);
            return;
        }
        space.inodes.part_others(ino, |open| is_of(open, local));
        space.locals.show(&folder, &node.entry.name, shown);
    }

    /// What was known as `key` is known as `entry`. Under what that is.
    pub(super) fn settled(&self, key: &FileKey, entry: &Arc<Entry>) -> FileKey {
        let space = &self.namespace;
        let new = FileKey {
            tree: key.tree,
            id: entry.id.clone(),
        };
        // Whoever looks for it in between knows it by one or the other.
        space.locals.alias(key, &new);
        if let Some(node) = space
            .inodes
            .find(key)
            .and_then(|ino| space.inodes.node(ino))
        {
            space.inodes.settle(key, node.parent, entry);
        }
        space.locals.rekey(key, &new);
        new
    }

    /// Shows what staging owed when the mount began.
    pub(super) fn show_owed(&self, owed: Vec<Arc<Local>>) {
        for local in owed {
            let place = local.place();
            let id = match local.base() {
                Some(base) => base.file,
                None => local_id(&local),
            };
            let key = FileKey {
                tree: place.folder.tree,
                id,
            };
            let name = match local.base() {
                Some(base) => {
                    let full = place.full.as_deref();
                    name_of(&place.name, full, &base.file, self.namespace.options.names)
                }
                None => place.local_name(self.namespace.options.names),
            };
            let locals = &self.namespace.locals;
            let before = locals.named(&place.folder, &name);
            locals.show(&place.folder, &name, Shown { key, local });
            if let Some(Shown { key, local }) = before {
                // Written over another version of it: it is owed all the same, and gets a place beside it.
                let id = local_id(&local);
                locals.keep(FileKey { id, ..key }, &local);
            }
        }
    }
}

/// Drops copies that were under way when the process before this one ended: half of what is on the server, or all of it,
/// that was to replace something and did not. What they were made of is still there. Before anything is delivered.
pub fn drop_copies(staging: &Staging) {
    for local in staging.owed() {
        if is_aside(&local.place().name)
            && local.base().is_none()
            && let Err(error) = local.unlink()
        {
            log::warn!("what remained of a copy could not be dropped: {error}");
        }
    }
}

/// No new file goes where what was deleted is still to be deleted on the server, since before the process before this one
/// ended; nor where what was made or renamed here is still to be told. Before anything is delivered.
pub fn clear_first(staging: &Staging) {
    clear_removed(staging);
    take_in(staging);
}

/// An entry of the same file under another name.
pub(super) fn renamed(entry: &Entry, end: &End, info: Option<FileInfo>) -> Arc<Entry> {
    Arc::new(Entry {
        segment: differing(&end.name, end.stored.clone()),
        name: end.name.as_os_str().into(),
        updated: info.map_or_else(SystemTime::now, |info| info.updated),
        attributes: named(entry.attributes.clone(), end.full.as_ref()),
        ..entry.clone()
    })
}

/// `attributes` with the full name `full`, or with none.
pub(super) fn named(
    attributes: Option<Arc<Attributes>>,
    full: Option<&Arc<str>>,
) -> Option<Arc<Attributes>> {
    let names: Vec<_> = full.into_iter().cloned().collect();
    if attributes.as_ref().map_or(&[][..], |told| &told.names) == names {
        return attributes;
    }
    let named = Attributes {
        names,
        ..attributes.as_deref().cloned().unwrap_or_default()
    };
    (!named.is_plain()).then(|| Arc::new(named))
}

/// The version that `entry` shows, as what is to be replaced by something else altogether.
pub(super) fn replaced(entry: &Entry) -> Base {
    Base {
        file: entry.id.clone(),
        entity: entry.version(),
        visible_bytes: 0,
    }
}

/// What the server stores for `name`.
pub(super) fn stored(name: &OsStr, names: crate::names::NamePolicy) -> Result<Stored, Error> {
    Stored::of(name, names).map_err(|error| match error {
        NameError::TooLong => Error::NameTooLong,
        NameError::Refused => Error::InvalidName,
    })
}

/// An error of our own disk.
pub(super) fn disk(error: std::io::Error) -> Error {
    Error::Disk(Arc::new(error))
}

/// Whether the answer is lost: what was asked for may have been done.
pub(super) fn is_lost(error: &api::Error) -> bool {
    matches!(
        error,
        api::Error::Transport { .. }
            | api::Error::Timeout(_)
            | api::Error::Interrupted
            | api::Error::Trouble { .. }
    )
}

fn is_locked(error: &api::Error) -> bool {
    matches!(
        error,
        api::Error::Locked(_)
            | api::Error::Refused {
                code: CHANGED_ON_THE_WAY,
                ..
            }
    )
}

/// Whether what is deleted there can go to the trash: what is in it, or belongs to somebody else, cannot.
pub(super) fn has_trash(uri: &FileUri) -> bool {
    matches!(uri.file_system(), FileSystem::My { .. })
}
