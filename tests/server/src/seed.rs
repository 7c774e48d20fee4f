//! Seeding: files, shares and states of the first user's drive, as if somebody had made them by other means.
//!
//! Paths are names with slashes between, from the root of the first user's drive; nothing in them is decoded.
//! Missing folders are made. What cannot be is a mistake of the test, which panics.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;

use crate::clock::Time;
use crate::content::Content;
use crate::drive::{EntityKind, NodeId, REDIRECT, UPLOAD_MARK};
use crate::ids::Kind;
use crate::options::{ShareOptions, View};
use crate::server::Server;
use crate::site::{Share, Site};

impl Site {
    /// The object at a path below a folder.
    fn at(&self, root: NodeId, path: &str) -> Option<NodeId> {
        let names = path.split('/').filter(|name| !name.is_empty());
        names
            .into_iter()
            .try_fold(root, |folder, name| self.drive.child(folder, name))
    }

    /// The folder at a path, made with all above it where missing.
    fn folder(&mut self, root: NodeId, path: &str, now: Time) -> NodeId {
        let mut folder = root;
        for name in path.split('/').filter(|name| !name.is_empty()) {
            folder = match self.drive.child(folder, name) {
                Some(found) => found,
                None => self.made(folder, name, true, now),
            };
            assert!(
                self.drive.node(folder).is_folder(),
                "{path}: {name} is a file"
            );
        }
        folder
    }

    fn file(&mut self, root: NodeId, path: &str, now: Time) -> NodeId {
        let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
        let folder = self.folder(root, folder, now);
        match self.drive.child(folder, name) {
            Some(found) => found,
            None => self.made(folder, name, false, now),
        }
    }

    fn made(&mut self, parent: NodeId, name: &str, folder: bool, now: Time) -> NodeId {
        let node = self.drive.create(parent, name, folder, now);
        self.tell_created(node, now);
        node
    }

    fn put(&mut self, root: NodeId, path: &str, content: Content, now: Time) -> NodeId {
        let file = self.file(root, path, now);
        assert!(!self.drive.node(file).is_folder(), "{path} is a folder");
        let entity = self
            .drive
            .add_entity(file, EntityKind::Version, content.clone(), None, now);
        self.complete(file, entity, content, now, BTreeMap::new(), now);
        file
    }

    /// Adds a share and answers with its number.
    pub(crate) fn add_share(&mut self, share: Share) -> u64 {
        self.last_share += 1;
        self.shares.insert(self.last_share, share);
        self.last_share
    }
}

impl Server {
    fn root(&self) -> NodeId {
        self.site().accounts[&self.first_user()].root
    }

    /// The object at a path, which must exist.
    #[track_caller]
    fn existing(&self, path: &str) -> NodeId {
        let root = self.root();
        self.site()
            .at(root, path)
            .unwrap_or_else(|| panic!("{path} does not exist"))
    }

    /// Gives a file new content: a new file, or a new version of it, by other means than the API's: no lock keeps it off.
    /// Answers with the id of the file.
    pub fn put(&self, path: &str, content: impl Into<Bytes>) -> String {
        let (root, now) = (self.root(), self.now());
        let mut site = self.site();
        let file = site.put(root, path, Content::Kept(content.into()), now);
        site.file_id(file)
    }

    /// As [`Server::put`], but as the API does it: false, and nothing is done, while an upload of somebody's is open there.
    pub fn try_put(&self, path: &str, content: impl Into<Bytes>) -> bool {
        let (root, now) = (self.root(), self.now());
        let mut site = self.site();
        let file = site.file(root, path, now);
        if site.check_lock(file, false, now).is_err() {
            return false;
        }
        site.put(root, path, Content::Kept(content.into()), now);
        true
    }

    /// As [`Server::put`], with `size` bytes that are those of [`crate::generated_bytes`] and take no memory.
    pub fn put_generated(&self, path: &str, size: u64, seed: u64) -> String {
        let (root, now) = (self.root(), self.now());
        let mut site = self.site();
        let file = site.put(root, path, Content::Generated { size, seed }, now);
        site.file_id(file)
    }

    /// An empty file without any content, as made by `POST /file/create`.
    pub fn touch(&self, path: &str) -> String {
        let (root, now) = (self.root(), self.now());
        let mut site = self.site();
        let file = site.file(root, path, now);
        site.file_id(file)
    }

    /// Makes a folder, and those above it, where missing.
    pub fn mkdir(&self, path: &str) -> String {
        let (root, now) = (self.root(), self.now());
        let mut site = self.site();
        let folder = site.folder(root, path, now);
        site.file_id(folder)
    }

    /// Adds `count` small files to a folder: `file 000000` and on, each of a few bytes that differ.
    pub fn add_many(&self, folder: &str, count: usize) {
        let (root, now) = (self.root(), self.now());
        let mut site = self.site();
        let folder = site.folder(root, folder, now);
        let present = site
            .drive
            .node(folder)
            .children
            .as_ref()
            .map_or(0, |children| children.files.len());
        for number in present..present + count {
            let file = site.made(folder, &format!("file {number:06}"), false, now);
            let content = Content::Generated {
                size: 1 + number as u64 % 100,
                seed: number as u64,
            };
            let entity = site
                .drive
                .add_entity(file, EntityKind::Version, content, None, now);
            site.drive.make_current(file, entity, now);
        }
    }

    /// Renames an object in its folder, where the new name must be free.
    #[track_caller]
    pub fn rename(&self, path: &str, new_name: &str) {
        let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
        self.place(path, folder, new_name);
    }

    /// Moves an object into another folder, which must exist and have no such name.
    #[track_caller]
    pub fn move_into(&self, path: &str, folder: &str) {
        let name = path.rsplit_once('/').map_or(path, |(_, name)| name);
        self.place(path, folder, name);
    }

    #[track_caller]
    fn place(&self, path: &str, folder: &str, name: &str) {
        let (node, parent, now) = (self.existing(path), self.existing(folder), self.now());
        let mut site = self.site();
        let taken = site
            .drive
            .child(parent, name)
            .is_some_and(|taken| taken != node);
        assert!(!taken, "{folder}/{name} is taken");
        match site.drive.node(node).parent == Some(parent) {
            true => site.tell_renamed(node, name, now),
            false => site.tell_moved(node, parent, now),
        }
        site.drive.place(node, parent, name, now);
    }

    /// Deletes an object for good, with all below.
    #[track_caller]
    pub fn remove(&self, path: &str) {
        let (node, now) = (self.existing(path), self.now());
        let mut site = self.site();
        site.tell_deleted(node, now);
        site.drive.remove(node);
    }

    /// Puts an object into the trash, and answers with the name it has there.
    #[track_caller]
    pub fn trash(&self, path: &str) -> String {
        let (node, now) = (self.existing(path), self.now());
        let mut site = self.site();
        let (uuid, uri) = (site.dice.uuid(), site.my_path(node));
        site.tell_deleted(node, now);
        site.drive.trash(node, uuid.clone(), now);
        let collect = now.unix_seconds() + 604_800;
        let metadata = &mut site.drive.node_mut(node).metadata;
        metadata.insert("sys:restore_uri".to_owned(), uri);
        metadata.insert("sys:expected_collect_time".to_owned(), collect.to_string());
        let user = self.first_user();
        if let Some(account) = site.accounts.get_mut(&user) {
            account.trash.insert(uuid.clone(), node);
        }
        uuid
    }

    /// The server's id of an object, which must exist.
    #[track_caller]
    pub fn file_id(&self, path: &str) -> String {
        let node = self.existing(path);
        self.site().file_id(node)
    }

    /// The id of a file's current content; the file must exist.
    #[track_caller]
    pub fn entity_id(&self, path: &str) -> String {
        let node = self.existing(path);
        let site = self.site();
        site.ids.encode(Kind::Entity, site.drive.node(node).primary)
    }

    /// A file's current content; none if there is no such file.
    pub fn content(&self, path: &str) -> Option<Vec<u8>> {
        let root = self.root();
        let site = self.site();
        let node = site.drive.node(site.at(root, path)?);
        match site.drive.entity(node.primary) {
            Some(entity) => Some(entity.content.read(0..entity.content.len()).to_vec()),
            None => (!node.is_folder()).then(Vec::new),
        }
    }

    /// Whether a file's current content lies enciphered in its storage.
    pub fn is_encrypted(&self, path: &str) -> bool {
        let root = self.root();
        let site = self.site();
        let node = site.at(root, path).map(|node| site.drive.node(node));
        let entity = node.and_then(|node| site.drive.entity(node.primary));
        entity.is_some_and(|entity| entity.encrypted)
    }

    /// All contents that finished uploads left in the drive of the first user: current ones and other versions, the trash too.
    pub fn contents(&self) -> Vec<Vec<u8>> {
        let owner = self.first_user();
        let site = self.site();
        let files = site.drive.nodes().filter(|node| node.owner == owner);
        let entities = files.flat_map(|node| node.entities.iter().copied());
        let finished = entities
            .filter_map(|entity| site.drive.entity(entity))
            .filter(|entity| entity.session.is_none() && entity.kind == EntityKind::Version);
        finished
            .map(|entity| entity.content.read(0..entity.content.len()).to_vec())
            .collect()
    }

    /// Names in a folder, folders first; none if there is no such folder.
    pub fn names(&self, folder: &str) -> Option<Vec<String>> {
        let root = self.root();
        let site = self.site();
        let children = site.drive.node(site.at(root, folder)?).children.as_ref()?;
        Some(
            children
                .folders
                .keys()
                .chain(children.files.keys())
                .cloned()
                .collect(),
        )
    }

    /// Sets a metadata key, whatever the rules.
    #[track_caller]
    pub fn set_metadata(&self, path: &str, key: &str, value: &str) {
        let node = self.existing(path);
        self.site()
            .drive
            .node_mut(node)
            .metadata
            .insert(key.to_owned(), value.to_owned());
    }

    /// The value of a metadata key; none where it has none.
    #[track_caller]
    pub fn metadata(&self, path: &str, key: &str) -> Option<String> {
        let node = self.existing(path);
        self.site().drive.node(node).metadata.get(key).cloned()
    }

    /// Makes `picture` the thumbnail of a file's current content; whatever it is, it is handed out.
    #[track_caller]
    pub fn set_thumbnail(&self, path: &str, picture: impl Into<Bytes>) {
        let node = self.existing(path);
        let (content, now) = (Content::Kept(picture.into()), self.now());
        self.site()
            .drive
            .add_entity(node, EntityKind::Thumbnail, content, None, now);
    }

    /// Sets when a file was last changed; before 1970 is 1970.
    #[track_caller]
    pub fn set_updated(&self, path: &str, updated: SystemTime) {
        let node = self.existing(path);
        let since_1970 = updated.duration_since(UNIX_EPOCH).unwrap_or_default();
        self.site().drive.node_mut(node).updated = Time(since_1970.as_nanos() as i128);
    }

    /// Stores view settings on a folder, as the web UI does; they are inherited.
    #[track_caller]
    pub fn set_view(&self, folder: &str, view: Option<View>) {
        let node = self.existing(folder);
        self.site().drive.node_mut(node).view = view;
    }

    /// Shares an object and answers with the share's id.
    #[track_caller]
    pub fn share(&self, path: &str, options: ShareOptions) -> String {
        let (source, created) = (self.existing(path), self.now());
        let mut site = self.site();
        let share = Share {
            owner: self.first_user(),
            source,
            password: options.password.unwrap_or_default(),
            remaining: options.downloads,
            downloaded: 0,
            visited: 0,
            created,
            expires: options.expires_after.map(|length| created.plus(length)),
            view: options.share_view,
        };
        let id = site.add_share(share);
        site.ids.encode(Kind::Share, id)
    }

    /// Ends a share.
    pub fn unshare(&self, id: &str) {
        let mut site = self.site();
        if let Some(id) = site.ids.decode(Kind::Share, id) {
            site.shares.remove(&id);
        }
    }

    /// Downloads left of a share; none if it has no limit or is not there.
    pub fn downloads_left(&self, id: &str) -> Option<u32> {
        let site = self.site();
        site.shares
            .get(&site.ids.decode(Kind::Share, id)?)?
            .remaining
    }

    /// A shortcut to a shared folder, in the first user's drive and so in `shared_with_me` (→ api part 1 §5.4).
    pub fn add_shortcut(&self, path: &str, redirect: &str) -> String {
        self.shortcut(path, redirect, true)
    }

    /// As [`Server::add_shortcut`], to a shared file.
    pub fn add_file_shortcut(&self, path: &str, redirect: &str) -> String {
        self.shortcut(path, redirect, false)
    }

    fn shortcut(&self, path: &str, redirect: &str, folder: bool) -> String {
        let (root, now) = (self.root(), self.now());
        let mut site = self.site();
        let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
        let parent = site.folder(root, parent, now);
        let node = site.made(parent, name, folder, now);
        let owner = site.ids.encode(Kind::User, self.first_user());
        let shortcut = site.drive.node_mut(node);
        shortcut.symbolic = true;
        shortcut
            .metadata
            .insert(REDIRECT.to_owned(), redirect.to_owned());
        shortcut
            .metadata
            .insert("sys:shared_owner".to_owned(), owner);
        site.file_id(node)
    }

    /// The placeholder of another client's upload that is not finished; its session is long gone.
    pub fn add_unfinished_upload(&self, path: &str, size: u64) -> String {
        let (root, now) = (self.root(), self.now());
        let mut site = self.site();
        let file = site.file(root, path, now);
        let session = site.dice.uuid();
        let reserved = Content::Generated { size, seed: 0 };
        site.drive.add_entity(
            file,
            EntityKind::Version,
            reserved,
            Some(session.clone()),
            now,
        );
        site.drive
            .node_mut(file)
            .metadata
            .insert(UPLOAD_MARK.to_owned(), session);
        site.file_id(file)
    }

    /// Loses the blob of a file's current content from the server's disk.
    #[track_caller]
    pub fn lose_blob(&self, path: &str) {
        let node = self.existing(path);
        let mut site = self.site();
        let entity = site.drive.node(node).primary;
        if let Some(entity) = site.drive.entity_mut(entity) {
            entity.lost = true;
        }
    }

    /// Retention of versions for the first user: `max` counts the current one, 0 is unlimited.
    pub fn set_retention(&self, enabled: bool, max: usize) {
        let user = self.first_user();
        self.site()
            .accounts
            .entry(user)
            .and_modify(|account| (account.retention, account.retention_max) = (enabled, max));
    }

    /// Storage of the first user, in bytes.
    pub fn set_quota(&self, total_bytes: u64) {
        let user = self.first_user();
        self.site()
            .accounts
            .entry(user)
            .and_modify(|account| account.capacity = total_bytes);
    }

    /// Bytes that the first user's files take, versions and trash included.
    pub fn used_bytes(&self) -> u64 {
        self.site().drive.used(self.first_user())
    }
}
