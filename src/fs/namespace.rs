//! Names and attributes: lookup, stat, forget, and how what is believed is kept fresh.
//!
//! What `metadata` believes is answered at once. Beyond that one question goes to the server: a listing of the parent
//! where one listing beats many questions, `info` otherwise. While handles read a version of a file, its inode shows
//! that version's size and time, for the kernel would cut the readers short at another's; the name leads to an inode of
//! the version that is current. What is here and not yet on the server (`locals`) shows over all that the server says.

use std::ffi::OsStr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::api;
use crate::asker;
use crate::attributes::Special;
use crate::entry::{Entry, FileKey};
use crate::inodes::{Ino, Inodes, Node, Version};
use crate::listing::{self, Listings, Source, carries_id, is_flat};
use crate::metadata::{Belief, KERNEL_TTL, Known, Listing, Metadata};
use crate::model::{EntityId, FileInfo, FileKind};
use crate::names::{NAME_MAX_BYTES, ServerName, Stored};
use crate::reach::Reach;
use crate::staging::{Staging, State, is_made};
use crate::uri::{FileSystem, FileUri};

use super::access::Access;
use super::changes::End;
use super::leaving::Leaving;
use super::locals::{Locals, Shown, is_gone, is_nameless};
use super::questions::{is_answered_by_listing, is_looked_through};
use super::recall::{Recall, Recalling};
use super::root::{self, root_entry, root_key};
use super::sizes::FolderSizes;
use super::steps::removed;
use super::touched::Touched;
use super::unheard::Unheard;
use super::{Attr, Believed, Error, Lookup, Options};

/// How long a question for one name waits for a listing of its folder that is under way.
const PATIENCE: Duration = Duration::from_secs(1);

/// How long a server is waited for that cannot be reached as far as is known.
const LAST_PATIENCE: Duration = Duration::from_secs(1);

/// Permission bits of a symbolic link, which nobody heeds (→ symlink(7)).
const LINK_MODE: u16 = 0o777;

/// The names and attributes of a drive.
pub(super) struct Namespace {
    pub(super) options: Options,
    pub(super) inodes: Arc<Inodes>,
    pub(super) metadata: Arc<Metadata>,
    pub(super) listings: Listings,
    pub(super) sizes: Option<FolderSizes>,
    pub(super) source: Source,
    pub(super) locals: Locals,
    pub(super) leaving: Arc<Leaving>,
    pub(super) unheard: Arc<Unheard>,
    pub(super) touched: Touched,
    /// None where nothing may be changed.
    pub(super) staging: Option<Arc<Staging>>,
    pub(super) shown: listing::Options,
    /// What has no content has this entity, on the whole site.
    pub(super) empty: Option<EntityId>,
    /// When the root was last seen to be there.
    pub(super) root_seen: Mutex<Instant>,
    pub(super) reach: Reach,
    /// None where nothing is kept of the drive.
    pub(super) recalling: Option<Recalling>,
}

/// Where a folder's entries are kept and asked for.
pub(super) struct Folder {
    pub(super) key: FileKey,
    pub(super) uri: FileUri,
    /// Its entries can be had by listing only.
    pub(super) flat: bool,
}

impl Folder {
    /// Whether it was deleted: the server lets nobody into such a folder, and says "not found" of all that lies there
    /// (→ api part 1 §9.2). That proves nothing absent.
    fn is_in_trash(&self) -> bool {
        *self.uri.file_system() == FileSystem::Trash && !self.uri.is_root()
    }
}

impl Namespace {
    /// Looks for the root; its listing goes on in the background. What is to be removed since
    /// before does not show.
    pub(super) async fn new(
        mut options: Options,
        instance_id: &str,
        source: Source,
        sizes: Option<FolderSizes>,
        staging: Option<Arc<Staging>>,
        reach: Reach,
        recall: Option<Recall>,
    ) -> Result<Self, Error> {
        let root_seen = Instant::now();
        let metadata = Metadata::new(
            options.metadata_ttl,
            options.metadata_entries,
            reach.clone(),
        );
        let metadata = Arc::new(match recall {
            Some(_) => metadata.kept(),
            None => metadata,
        });
        let shown = listing::Options {
            names: options.names,
            order: options.order,
            hide_uploading: options.hide_uploading,
            sent: listing::Sent::default(),
            hidden: listing::Hidden::default(),
        };
        let noted = staging.as_ref().map(|staging| staging.unfinished());
        shown.hidden.set(removed(&noted.unwrap_or_default()));
        // Some of it may be under way by now.
        for local in staging.iter().flat_map(|staging| staging.owed()) {
            let place = local.place();
            if let Some(full) = &place.full {
                shown.sent.note(&place.name, full);
            }
        }
        let listings = Listings::new(source.clone(), shown.clone(), Arc::clone(&metadata));
        let known = recall.as_ref().and_then(|recall| recall.root.as_ref());
        let (entry, empty) = match known.and_then(|root| Some((root, root.place()?))) {
            Some((root, place)) => {
                options.root = place;
                (root.entry(), root.empty())
            }
            None => {
                let folder = ask_for_root(&mut options, &source, &listings).await?;
                let empty = Some(folder.entity.clone()).filter(|entity| !entity.0.is_empty());
                (root_entry(folder), empty)
            }
        };
        let inodes = Inodes::new(instance_id, options.root.clone(), Arc::new(entry));
        let recalling = recall.map(|recall| Recalling::new(recall.store, root_seen));
        Ok(Self {
            inodes: Arc::new(inodes),
            metadata,
            listings,
            sizes,
            source,
            locals: Locals::default(),
            leaving: Arc::default(),
            unheard: Arc::default(),
            touched: Touched::default(),
            staging,
            shown,
            empty,
            root_seen: Mutex::new(root_seen),
            reach,
            recalling,
            options,
        })
    }

    /// The server is about to be sent the part `stored` of the name `full`.
    pub(super) fn sends(&self, stored: &ServerName, full: Option<&Arc<str>>) {
        if let Some(full) = full {
            self.shown.sent.note(stored, full);
        }
    }

    /// See [`super::Fs::lookup`].
    pub(super) async fn lookup(&self, parent: Ino, name: &OsStr) -> Result<Lookup, Error> {
        if name.len() > NAME_MAX_BYTES {
            return Err(Error::NameTooLong);
        }
        let key = self.folder_key(parent)?;
        if let Some(shown) = self.locals.named(&key, name) {
            return self.count_local(parent, name, &shown).map(Lookup::Found);
        }
        let belief = self.believed_name(parent, &key, name).await?;
        let Some(entry) = belief.what else {
            let ttl = belief.left.min(KERNEL_TTL);
            return Ok(Lookup::Absent { ttl });
        };
        let shown = self.followed(&key, &entry).await?;
        let counted = self.inodes.count(parent, &entry, Some(&shown));
        let (ino, pinned) = counted.ok_or(Error::NotFound)?;
        Ok(Lookup::Found(self.believed(
            ino,
            &shown,
            pinned,
            belief.left,
        )))
    }

    /// What the server has under `name` in the folder `parent`, which is kept as `key`; that it has nothing where that is on
    /// its way out.
    pub(super) async fn believed_name(
        &self,
        parent: Ino,
        key: &FileKey,
        name: &OsStr,
    ) -> Result<Belief<Option<Arc<Entry>>>, Error> {
        if let Some(entry) = self.unheard.named(key, name) {
            return Ok(self.belief(Some(entry), Instant::now()));
        }
        // What the server has not heard of is not there.
        if self.leaving.has(key, name) || is_made(&key.id) {
            return Ok(self.belief(None, Instant::now()));
        }
        let known = |now| self.metadata.name(key, name, now);
        if let Some(belief) = self.known_or_recalled(key, known).await {
            return Ok(belief);
        }
        let found = self.find(&self.folder(parent)?, name).await;
        self.or_known(key, found, known).await
    }

    /// Counts a local file, which shows under `name` in `parent`, as looked up once more.
    pub(super) fn count_local(
        &self,
        parent: Ino,
        name: &OsStr,
        shown: &Shown,
    ) -> Result<Believed, Error> {
        let entry = Locals::entry(shown, name);
        if let Some(tree) = self.inodes.tree_below(parent) {
            // After a restart nobody knew yet on which way the file is reached.
            let id = shown.key.id.clone();
            self.locals.rekey(&shown.key, &FileKey { tree, id });
        }
        // It is the one that everybody has open: no version of it is told from another.
        let counted = self.inodes.count(parent, &entry, None);
        let (ino, _) = counted.ok_or(Error::NotFound)?;
        self.inodes.tell(ino, &entry);
        Ok(self.believed_local(ino, &entry, shown))
    }

    /// What the kernel may believe of a local file, which shows as `entry`.
    pub(super) fn believed_local(&self, ino: Ino, entry: &Entry, shown: &Shown) -> Believed {
        let mut believed = self.believed(ino, entry, None, self.metadata.ttl());
        believed.attr.links = u32::from(shown.local.state() != State::Unlinked);
        believed
    }

    /// The content that is here of what `node` stands for.
    pub(super) fn local_of(&self, node: &Node) -> Option<Shown> {
        if node.is_parted {
            return None;
        }
        let shown = self.locals.keyed(&node.key())?;
        match (shown.local.state(), shown.local.base()) {
            // Delivered, and somebody else wrote a newer version since. While it shows, nobody has applied yet that it is
            // delivered.
            (State::Delivered, Some(base))
                if base.entity.id != node.entry.entity && !self.locals.shows(&shown.key) =>
            {
                None
            }
            _ => Some(shown),
        }
    }

    /// What `ino` is, and the content of it that is here.
    pub(super) fn node_and_local(&self, ino: Ino) -> Option<(Node, Option<Shown>)> {
        self.local_since(ino, self.inodes.node(ino)?)
    }

    /// As [`Namespace::node_and_local`] of `ino`, which was `node` a moment ago. What is delivered meanwhile is known as its new
    /// version before it shows no more, and would pass for one that somebody wrote over by what was known before.
    pub(super) fn local_since(&self, ino: Ino, mut node: Node) -> Option<(Node, Option<Shown>)> {
        loop {
            if let Some(shown) = self.local_of(&node) {
                return Some((node, Some(shown)));
            }
            let now = self.inodes.node(ino)?;
            if Arc::ptr_eq(&now.entry, &node.entry) {
                return Some((node, None));
            }
            node = now;
        }
    }

    /// See [`super::Fs::attr`].
    pub(super) async fn attr(&self, ino: Ino) -> Result<Believed, Error> {
        let (node, local) = self.node_and_local(ino).ok_or(Error::NotFound)?;
        if let Some(shown) = local {
            let entry = Locals::entry(&shown, &node.entry.name);
            self.inodes.tell(ino, &entry);
            return Ok(self.believed_local(ino, &entry, &shown));
        }
        if node.pinned.is_some() {
            let ttl = self.metadata.ttl();
            return Ok(self.believed(ino, &node.entry, node.pinned.clone(), ttl));
        }
        let Belief { what, left } = self.current(ino, &node).await?;
        let shown = self.followed(&self.folder_key(node.parent)?, &what).await?;
        if let Some(sizes) = &self.sizes
            && shown.kind == FileKind::Folder
            && shown.owned
            && let Some(uri) = self.inodes.folder_uri(ino)
        {
            sizes.ask(ino, uri).await;
        }
        let pinned = self.inodes.tell(ino, &shown);
        Ok(self.believed(ino, &shown, pinned, left))
    }

    /// What `ino` is now, which was `node` a moment ago; `Gone` where its file is, whoever has its name by now.
    pub(super) async fn current(&self, ino: Ino, node: &Node) -> Result<Belief<Arc<Entry>>, Error> {
        if ino == Ino::ROOT {
            return self.current_root(node).await;
        }
        let (node, local) = self.local_since(ino, node.clone()).ok_or(Error::Gone)?;
        if let Some(shown) = local {
            let entry = Locals::entry(&shown, &node.entry.name);
            return Ok(self.belief(entry, Instant::now()));
        }
        if let Some(entry) = self.unheard.entry(&node.key()) {
            self.inodes.renew(ino, &entry);
            return Ok(self.belief(entry, Instant::now()));
        }
        if is_nameless(&node.entry.id) {
            return Ok(self.belief(Arc::clone(&node.entry), Instant::now()));
        }
        let key = self.folder_key(node.parent)?;
        let known = |now| self.metadata.known(&key, &node.entry, now);
        if matches!(known(Instant::now()), Known::Unknown) {
            self.recall(&key).await;
        }
        let belief = match known(Instant::now()) {
            Known::Here(belief) => belief,
            Known::Gone => return Err(Error::Gone),
            Known::Missed => {
                self.confirm(&self.folder(node.parent)?, &node.entry)
                    .await?
            }
            Known::Unknown => {
                let fresh = self.refresh(&self.folder(node.parent)?, &node.entry).await;
                self.or_known(&key, fresh, |now| match known(now) {
                    Known::Here(belief) => Some(belief),
                    _ => None,
                })
                .await?
            }
        };
        if !Arc::ptr_eq(&belief.what, &node.entry) {
            self.inodes.renew(ino, &belief.what);
        }
        Ok(belief)
    }

    /// What was `asked` for of `folder`; where the server turned out not to be reached, what is known all the same.
    pub(super) async fn or_known<T>(
        &self,
        folder: &FileKey,
        asked: Result<T, Error>,
        known: impl FnOnce(Instant) -> Option<T>,
    ) -> Result<T, Error> {
        if let Err(Error::Io(error)) = &asked
            && error.is_of_the_link()
        {
            // Where other answers get through and this one never does, somebody has had his since.
            self.reach.set(false);
        }
        match asked {
            Err(error) if self.is_of_the_wire(&error) => {
                self.recall(folder).await;
                known(Instant::now()).ok_or(error)
            }
            asked => asked,
        }
    }

    /// Whether the server cannot be reached, as far as is known.
    pub(super) fn is_down(&self) -> bool {
        self.reach.is_down()
    }

    /// Whether what lies in the folder `uri` cannot be changed on the server now: that cannot be reached, or may have given the
    /// folder another place unheard.
    pub(super) fn is_out_of_reach(&self, uri: &FileUri) -> bool {
        self.is_down() || self.unheard.is_unsure(uri)
    }

    /// Whether the folder of `end` is for sure where it was when that was looked up.
    pub(super) fn is_as_found(&self, end: &End) -> bool {
        let now = self.inodes.folder_uri(end.parent);
        !self.unheard.is_unsure(&end.folder.uri) && now.as_ref() == Some(&end.folder.uri)
    }

    /// Whether `error` came of a change in the folder `uri` that is [out of reach](Namespace::is_out_of_reach).
    pub(super) fn is_of_reach(&self, error: &Error, uri: &FileUri) -> bool {
        self.is_of_the_wire(error) || self.unheard.is_unsure(uri)
    }

    /// Whether `error` came of a server that cannot be reached.
    pub(super) fn is_of_the_wire(&self, error: &Error) -> bool {
        if let Error::TimedOut(api::Error::Timeout(_)) = error {
            // Who asks the server hears of it at the same moment, and maybe later than we.
            self.reach.set(false);
        }
        matches!(error, Error::TimedOut(_) | Error::Io(_)) && self.reach.is_down()
    }

    /// How long an answer is waited for: from a server that others have waited for in vain it comes soon or not.
    pub(super) fn patience(&self) -> Duration {
        match self.reach.is_down() {
            true => self.options.timeout.min(LAST_PATIENCE),
            false => self.options.timeout,
        }
    }

    async fn refresh(&self, folder: &Folder, entry: &Entry) -> Result<Belief<Arc<Entry>>, Error> {
        if let Some((listing, asked)) = self.relisted(folder).await?
            && let Some(found) = listing.find(entry)
        {
            return Ok(self.belief(Arc::clone(found), asked));
        }
        self.confirm(folder, entry).await
    }

    /// The folder of which the entries are kept under `key`, where the kernel knows it.
    pub(super) fn folder_of(&self, key: &FileKey) -> Option<Ino> {
        match *key == root_key() {
            true => Some(Ino::ROOT),
            false => self.inodes.find(key),
        }
    }

    /// Under what the entries of the folder `ino` are kept.
    pub(super) fn folder_key(&self, ino: Ino) -> Result<FileKey, Error> {
        if ino == Ino::ROOT {
            return Ok(root_key());
        }
        let node = self.inodes.node(ino).ok_or(Error::NotFound)?;
        match node.entry.kind {
            FileKind::Folder => Ok(self.unheard.now(node.key())),
            FileKind::File => Err(Error::NotAFolder),
        }
    }

    /// Whether anything of the server's shows in the folder `key`, as far as is known; none where it was never listed.
    pub(super) async fn shows_any(&self, key: &FileKey) -> Option<bool> {
        self.recall(key).await;
        let listing = self.metadata.last_listing(key)?;
        let is_gone = |name: &OsStr| {
            let own = self.metadata.own(key, name);
            self.leaving.has(key, name) || own.is_some_and(|own| own.is_none())
        };
        let mut listed = listing.entries().iter();
        let added = self.metadata.added(key);
        let is_any = listed.any(|entry| !is_gone(&entry.name));
        Some(is_any || added.iter().any(|name| !is_gone(name)))
    }

    /// The folder `ino`, ready to be asked for what lies in it.
    pub(super) fn folder(&self, ino: Ino) -> Result<Folder, Error> {
        let key = self.folder_key(ino)?;
        let uri = self.inodes.folder_uri(ino).ok_or(Error::NotFound)?;
        let flat = is_flat(&uri)
            || self
                .metadata
                .last_listing(&key)
                .is_some_and(|last| last.is_flat());
        Ok(Folder { key, uri, flat })
    }

    async fn find(
        &self,
        folder: &Folder,
        name: &OsStr,
    ) -> Result<Belief<Option<Arc<Entry>>>, Error> {
        let stored = Stored::of(name, self.options.names).ok();
        if stored.is_none() && !carries_id(name) {
            // What the server cannot store is not there.
            return Ok(self.belief(None, Instant::now()));
        }
        if let Some((listing, asked)) = self.relisted(folder).await? {
            return Ok(self.newest(folder, name, || {
                self.belief(listing.get(name).cloned(), asked)
            }));
        }
        let asked = Instant::now();
        let answer = match stored {
            Some(stored) => self.stored_at(folder, stored).await,
            None => Err(api::Error::NotFound),
        };
        let entry = match answer {
            Ok(info) => self
                .entry(info)
                .filter(|entry| *entry.name == *name)
                .map(Arc::new),
            Err(api::Error::NotFound) if carries_id(name) => {
                let (listing, asked) = self.listed(folder, self.patience()).await?;
                return Ok(self.belief(listing.get(name).cloned(), asked));
            }
            Err(api::Error::NotFound) if !folder.is_in_trash() => None,
            Err(error) => return Err(self.error(folder, error)),
        };
        self.metadata
            .keep_name(&folder.key, name, entry.clone(), asked);
        Ok(self.newest(folder, name, || self.belief(entry, asked)))
    }

    /// What the server has under one of the names for `stored`.
    async fn stored_at(&self, folder: &Folder, stored: Stored) -> Result<FileInfo, api::Error> {
        if let Some(in_whole) = stored.in_whole() {
            match self.info_in(folder, in_whole).await {
                Err(api::Error::NotFound) => {}
                answer => return answer,
            }
        }
        self.info_in(folder, stored.name).await
    }

    /// What the server has as `name` in `folder`. Asked again where that got another place meanwhile: the answer may be of
    /// another folder, which is at the old one by now.
    async fn info_in(&self, folder: &Folder, name: ServerName) -> Result<FileInfo, api::Error> {
        let mut at = folder.uri.clone();
        loop {
            let answer = self.info(at.child(name.clone())).await;
            match self.gone_on(&folder.key, &at) {
                Some(now) => at = now,
                None => return answer,
            }
        }
    }

    /// What we did to `name` ourselves while the server answered is newer than the answer.
    fn newest(
        &self,
        folder: &Folder,
        name: &OsStr,
        answer: impl FnOnce() -> Belief<Option<Arc<Entry>>>,
    ) -> Belief<Option<Arc<Entry>>> {
        let own = self.metadata.own(&folder.key, name);
        match own.and_then(|_| self.metadata.name(&folder.key, name, Instant::now())) {
            Some(newer) => newer,
            None => answer(),
        }
    }

    /// Asks for `entry`, which was in `folder` once.
    async fn confirm(&self, folder: &Folder, entry: &Entry) -> Result<Belief<Arc<Entry>>, Error> {
        let asked = Instant::now();
        let is_trash = *folder.uri.file_system() == FileSystem::Trash;
        let told = match folder.flat && !is_trash {
            // Such a place has no other answer than its listing, which was just asked.
            true => None,
            false => match self.info_in(folder, entry.segment()).await {
                Ok(info) => self.entry(info),
                Err(api::Error::NotFound) => None,
                Err(error) => return Err(self.error(folder, error)),
            },
        };
        let found = self.keep_told(folder, entry, told, asked);
        let found = found.ok_or(Error::Gone)?;
        Ok(self.belief(found, asked))
    }

    /// Keeps what was `told` of the place of `entry`: the file itself, which is handed on, nothing, or another file that
    /// has its name by now and is as much there as any.
    fn keep_told(
        &self,
        folder: &Folder,
        entry: &Entry,
        told: Option<Entry>,
        asked: Instant,
    ) -> Option<Arc<Entry>> {
        let keep = |name: &OsStr, entry| self.metadata.keep_name(&folder.key, name, entry, asked);
        let is_it = told.as_ref().is_some_and(|told| told.id == entry.id);
        // Where somebody else has all of its name, a listing gave it another one.
        let yields = told.as_ref().is_some_and(|told| {
            is_it
                && told.name != entry.name
                && told.segment() == entry.segment()
                && carries_id(&entry.name)
        });
        if folder.flat || yields {
            // Names are given there by what else is in the listing: a single answer knows none, and denies none.
            let found = told.filter(|_| is_it).map(|found| {
                Arc::new(Entry {
                    name: entry.name.clone(),
                    segment: entry.segment.clone(),
                    ..found
                })
            });
            if found.is_some() {
                keep(&entry.name, found.clone());
            }
            return found;
        }
        let told = told.map(Arc::new);
        let (same_name, renamed) = match told {
            Some(told) if told.name != entry.name => (None, Some(told)),
            told => (told, None),
        };
        if let Some(renamed) = &renamed {
            keep(&renamed.name, Some(Arc::clone(renamed)));
        }
        keep(&entry.name, same_name.clone());
        same_name.or(renamed).filter(|_| is_it)
    }

    /// A listing of `folder` that answers better than a single question: one that is under way, or one that makes many
    /// questions needless. None where there is no such, or it takes too long.
    async fn relisted(&self, folder: &Folder) -> Result<Option<(Arc<Listing>, Instant)>, Error> {
        let question = self.metadata.question(&folder.key);
        if folder.flat || is_answered_by_listing(question) {
            return self.listed(folder, self.patience()).await.map(Some);
        }
        let progress = match self.listings.under_way(&folder.key) {
            Some(progress) => progress,
            None if is_looked_through(question) => self.listings.list(&folder.key, &folder.uri),
            None => return Ok(None),
        };
        let complete = progress.complete(self.patience());
        // A listing that failed, or takes long, says nothing of a single name.
        let complete = tokio::time::timeout(PATIENCE, complete).await;
        Ok(complete.ok().and_then(Result::ok))
    }

    async fn listed(
        &self,
        folder: &Folder,
        timeout: Duration,
    ) -> Result<(Arc<Listing>, Instant), Error> {
        let mut at = folder.uri.clone();
        loop {
            let progress = self.listings.list(&folder.key, &at);
            let complete = progress.complete(timeout).await;
            match (complete, self.gone_on(&folder.key, &at)) {
                (Err(api::Error::NotFound), Some(now)) => at = now,
                (complete, _) => return complete.map_err(|error| self.error(folder, error)),
            }
        }
    }

    /// Where the folder `key` is by now, if that is not `uri`, where it was a moment ago.
    pub(super) fn gone_on(&self, key: &FileKey, uri: &FileUri) -> Option<FileUri> {
        let now = self.inodes.folder_uri(self.folder_of(key)?)?;
        (now != *uri).then_some(now)
    }

    pub(super) async fn info(&self, uri: FileUri) -> Result<FileInfo, api::Error> {
        within(self.patience(), (self.source.info)(uri)).await
    }

    pub(super) fn entry(&self, info: FileInfo) -> Option<Entry> {
        self.shown.entry(info, self.empty.as_ref())
    }

    /// The same of what is known for a file that shows.
    pub(super) fn known_entry(&self, info: FileInfo) -> Entry {
        self.shown.known(info, self.empty.as_ref())
    }

    /// Behind a shortcut, a share that is gone is a place that is not there; only the mount's own share is stale.
    pub(super) fn error(&self, folder: &Folder, error: api::Error) -> Error {
        match error {
            api::Error::ShareGone(_)
                if folder.uri.file_system() != self.options.root.file_system() =>
            {
                Error::NotFound
            }
            api::Error::NotFound if folder.is_in_trash() => Error::Denied(api::Error::Denied {
                code: 40016,
                said: "a folder in the trash cannot be looked into".into(),
            }),
            error => error.into(),
        }
    }

    pub(super) fn belief<T>(&self, what: T, asked: Instant) -> Belief<T> {
        let left = self
            .metadata
            .left(asked, Instant::now())
            .unwrap_or_default();
        Belief { what, left }
    }

    /// What the kernel may believe of `entry`.
    pub(super) fn believed(
        &self,
        ino: Ino,
        entry: &Entry,
        pinned: Option<Version>,
        ttl: Duration,
    ) -> Believed {
        // Who has an older version of a file open, which has its name.
        let is_named = match pinned.is_some() {
            true => !is_gone(&entry.id),
            false => !is_nameless(&entry.id),
        };
        let entry = &*self.with_untold(entry);
        let folder = entry.kind == FileKind::Folder;
        let (mut size_bytes, times) = match pinned {
            Some(version) => (
                version.size_bytes,
                entry.times_of(&version.content(), version.updated),
            ),
            None => (entry.size_bytes, self.touched.times(entry)),
        };
        let mut access = self.access(entry);
        if let Some(Special::Symlink(target)) = entry.special() {
            size_bytes = target.len() as u64;
            access.mode = LINK_MODE;
        }
        let mut ttl = ttl;
        if let Some(sizes) = self.sizes.as_ref().filter(|_| folder && entry.owned) {
            match sizes.known(ino) {
                Some(known) => size_bytes = known,
                // The kernel comes back and asks for this folder alone, if anybody wants to know.
                None => ttl = Duration::ZERO,
            }
        }
        let ttl = ttl.min(KERNEL_TTL);
        let Access { mode, uid, gid } = access;
        let attr = Attr {
            ino,
            kind: entry.shown_kind(),
            size_bytes,
            times,
            created: entry.created,
            mode,
            uid,
            gid,
            links: match folder {
                true => self.links(ino, entry),
                false => u32::from(is_named),
            },
        };
        Believed { attr, ttl }
    }
}

impl Namespace {
    /// Links of a folder: its name, its own `.`, and the `..` of each folder in it, where these are known; otherwise 1, which
    /// says that they are not counted (as btrfs says it).
    fn links(&self, ino: Ino, entry: &Entry) -> u32 {
        if is_gone(&entry.id) {
            return 0;
        }
        let key = self.folder_key(ino).ok();
        let folders = key.and_then(|key| self.metadata.folders_in(&key, Instant::now()));
        folders.map_or(1, |folders| folders.saturating_add(2))
    }
}

/// What the root is; where that is behind a shortcut, `options` say so from then on.
async fn ask_for_root(
    options: &mut Options,
    source: &Source,
    listings: &Listings,
) -> Result<FileInfo, Error> {
    let listed = listings.list(&root_key(), &options.root);
    let folder = match listed.folder(options.timeout).await {
        Ok(folder) => folder,
        Err(error) => {
            options.root = root::behind(source, options, error).await?;
            let listed = listings.list(&root_key(), &options.root);
            listed.folder(options.timeout).await?
        }
    };
    match folder.kind {
        FileKind::Folder => Ok(folder),
        // A server lists the file of a single-file share as if it were a folder with itself in it.
        FileKind::File => Err(Error::NotAFolder),
    }
}

/// Waits for an answer no longer than `timeout`; the question itself goes on.
pub(super) async fn within<T>(
    timeout: Duration,
    answer: impl Future<Output = Result<T, api::Error>>,
) -> Result<T, api::Error> {
    let answer = asker::within(timeout, answer).await;
    answer.unwrap_or_else(|why| Err(api::Error::gave_up(why, timeout)))
}
