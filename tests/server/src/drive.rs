//! Files, folders and entities of all users: a tree with the server's invariants, and nothing of HTTP.
//!
//! Names are unique in a folder, files and folders together, as far as the database tells them apart
//! (→ api part 1 §4.4). An entity never changes; files point at entities, several may point at one, and it lives while one does
//! (→ api part 2 §1).

use std::collections::{BTreeMap, HashMap};

use crate::clock::Time;
use crate::content::Content;
use crate::options::{Collation, View};
use crate::policy::StoragePolicy;

/// Number of a file or folder.
pub(crate) type NodeId = u64;
/// Number of an entity; 0 is "no content".
pub(crate) type EntityId = u64;
/// Number of a user.
pub(crate) type UserId = u64;

/// Key of the mark of an unfinished upload; part of the public metadata.
pub(crate) const UPLOAD_MARK: &str = "sys:upload_session_id";
/// Key that makes an entry a share shortcut if it was there at its creation.
pub(crate) const REDIRECT: &str = "sys:shared_redirect";

/// What is below a folder, folders and files apart, each in byte order of names: the order of listings.
#[derive(Debug, Default)]
pub(crate) struct Children {
    pub(crate) folders: BTreeMap<String, NodeId>,
    pub(crate) files: BTreeMap<String, NodeId>,
}

impl Children {
    /// What the database finds where it is asked for a name.
    pub(crate) fn get(&self, name: &str, collation: Collation) -> Option<NodeId> {
        let exact = self.folders.get(name).or_else(|| self.files.get(name));
        if exact.is_some() || collation == Collation::Binary {
            return exact.copied();
        }
        let mut all = self.folders.iter().chain(&self.files);
        let same = all.find(|(other, _)| collation.is_same(other, name));
        same.map(|(_, id)| *id)
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = NodeId> {
        self.folders.values().chain(self.files.values()).copied()
    }
}

/// Where a trashed object came from.
#[derive(Clone, Debug)]
pub(crate) struct Trashed {
    /// The name it has in `cloudreve://trash/`.
    pub(crate) uuid: String,
    pub(crate) parent: NodeId,
}

/// A file or folder.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) owner: UserId,
    /// None for a root and for what lies in the trash.
    pub(crate) parent: Option<NodeId>,
    pub(crate) name: String,
    pub(crate) created: Time,
    pub(crate) updated: Time,
    pub(crate) size: u64,
    pub(crate) primary: EntityId,
    /// All of the file's entities, oldest first, unfinished ones included.
    pub(crate) entities: Vec<EntityId>,
    pub(crate) metadata: BTreeMap<String, String>,
    pub(crate) trashed: Option<Trashed>,
    /// A share shortcut: nothing below it can be walked into (→ api part 1 §5.4).
    pub(crate) symbolic: bool,
    pub(crate) view: Option<View>,
    /// None for a file.
    pub(crate) children: Option<Children>,
}

impl Node {
    pub(crate) fn is_folder(&self) -> bool {
        self.children.is_some()
    }
}

/// What an entity is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EntityKind {
    Version = 0,
    Thumbnail = 1,
}

/// One unchanging blob.
#[derive(Debug)]
pub(crate) struct Entity {
    pub(crate) kind: EntityKind,
    pub(crate) content: Content,
    pub(crate) created: Time,
    pub(crate) created_by: UserId,
    /// How many files have it.
    pub(crate) references: u32,
    /// Id of the upload session that has yet to complete it.
    pub(crate) session: Option<String>,
    /// Where the blob is.
    pub(crate) policy: StoragePolicy,
    /// The blob is not in clear.
    pub(crate) encrypted: bool,
    /// The blob is gone from the server's disk.
    pub(crate) lost: bool,
}

/// The tree. All numbers given in must exist; those of nodes found in it do.
#[derive(Debug, Default)]
pub(crate) struct Drive {
    nodes: HashMap<NodeId, Node>,
    entities: HashMap<EntityId, Entity>,
    last_node: NodeId,
    last_entity: EntityId,
    /// Which names the database takes for the same.
    pub(crate) collation: Collation,
    /// Bytes of all entities of each user's files, trash and unfinished uploads included.
    used: HashMap<UserId, u64>,
}

impl Drive {
    pub(crate) fn get(&self, id: NodeId) -> Option<&Node> {
        self.nodes.get(&id)
    }

    pub(crate) fn nodes(&self) -> impl Iterator<Item = &Node> {
        self.nodes.values()
    }

    pub(crate) fn node(&self, id: NodeId) -> &Node {
        &self.nodes[&id]
    }

    pub(crate) fn node_mut(&mut self, id: NodeId) -> &mut Node {
        self.nodes
            .get_mut(&id)
            .unwrap_or_else(|| unreachable!("node {id} is gone"))
    }

    pub(crate) fn entity(&self, id: EntityId) -> Option<&Entity> {
        self.entities.get(&id)
    }

    pub(crate) fn entity_mut(&mut self, id: EntityId) -> Option<&mut Entity> {
        self.entities.get_mut(&id)
    }

    /// Bytes a user has in store.
    pub(crate) fn used(&self, owner: UserId) -> u64 {
        self.used.get(&owner).copied().unwrap_or(0)
    }

    /// A new root folder.
    pub(crate) fn root(&mut self, owner: UserId, now: Time) -> NodeId {
        self.insert(owner, None, "", true, now)
    }

    fn insert(
        &mut self,
        owner: UserId,
        parent: Option<NodeId>,
        name: &str,
        folder: bool,
        now: Time,
    ) -> NodeId {
        self.last_node += 1;
        let node = Node {
            owner,
            parent,
            name: name.to_owned(),
            created: now,
            // The server takes both times from its clock, one after the other.
            updated: Time(now.0 + 120),
            size: 0,
            primary: 0,
            entities: Vec::new(),
            metadata: BTreeMap::new(),
            trashed: None,
            symbolic: false,
            view: None,
            children: folder.then(Children::default),
        };
        self.nodes.insert(self.last_node, node);
        self.last_node
    }

    /// A new, empty file or folder in a folder that has no such name.
    pub(crate) fn create(&mut self, parent: NodeId, name: &str, folder: bool, now: Time) -> NodeId {
        let owner = self.node(parent).owner;
        let id = self.insert(owner, Some(parent), name, folder, now);
        self.link(parent, name.to_owned(), id, folder);
        id
    }

    fn link(&mut self, parent: NodeId, name: String, id: NodeId, folder: bool) {
        if let Some(children) = &mut self.node_mut(parent).children {
            let map = if folder {
                &mut children.folders
            } else {
                &mut children.files
            };
            map.insert(name, id);
        }
    }

    fn unlink(&mut self, id: NodeId) {
        let node = self.node_mut(id);
        let (name, parent) = (node.name.clone(), node.parent.take());
        if let Some(children) = parent.and_then(|parent| self.node_mut(parent).children.as_mut()) {
            children.folders.remove(&name);
            children.files.remove(&name);
        }
    }

    pub(crate) fn child(&self, folder: NodeId, name: &str) -> Option<NodeId> {
        let children = self.node(folder).children.as_ref()?;
        children.get(name, self.collation)
    }

    /// Gives an object a parent and a name, which must be free there; it may come from the trash.
    pub(crate) fn place(&mut self, id: NodeId, parent: NodeId, name: &str, now: Time) {
        self.unlink(id);
        let node = self.node_mut(id);
        node.parent = Some(parent);
        node.name = name.to_owned();
        node.updated = now;
        node.trashed = None;
        let folder = node.is_folder();
        self.link(parent, name.to_owned(), id, folder);
    }

    /// Detaches an object: its name is free at once, what is below it stays attached to it.
    pub(crate) fn trash(&mut self, id: NodeId, uuid: String, now: Time) {
        let parent = self.node(id).parent;
        self.unlink(id);
        let node = self.node_mut(id);
        node.updated = now;
        node.trashed = parent.map(|parent| Trashed { uuid, parent });
    }

    /// The object and what is above it, up to a root or to the top of what was trashed.
    pub(crate) fn ancestry(&self, id: NodeId) -> impl Iterator<Item = NodeId> {
        std::iter::successors(Some(id), |id| self.get(*id)?.parent)
    }

    /// The root above an object; none in the trash.
    pub(crate) fn root_of(&self, id: NodeId) -> Option<NodeId> {
        let top = self.ancestry(id).last()?;
        self.get(top)?.trashed.is_none().then_some(top)
    }

    /// Names from the root down to the object.
    pub(crate) fn segments(&self, id: NodeId) -> Vec<String> {
        let mut names: Vec<_> = self
            .ancestry(id)
            .map(|id| self.node(id).name.clone())
            .collect();
        names.pop();
        names.reverse();
        names
    }

    /// The object and everything below it, parents before children, but no more than `limit`.
    pub(crate) fn subtree(&self, id: NodeId, limit: usize) -> Vec<NodeId> {
        let mut found = vec![id];
        let mut next = 0;
        while next < found.len() && found.len() <= limit {
            if let Some(children) = &self.node(found[next]).children {
                found.extend(children.all());
            }
            next += 1;
        }
        found.truncate(limit);
        found
    }

    /// Deletes for good, with all below; entities that no other file has go with it.
    pub(crate) fn remove(&mut self, id: NodeId) {
        self.unlink(id);
        for id in self.subtree(id, usize::MAX) {
            if let Some(node) = self.nodes.remove(&id) {
                for entity in node.entities {
                    self.release(node.owner, entity);
                }
            }
        }
    }

    /// A new entity of a file. It becomes the current one by [`Drive::make_current`], or at completion of `session`.
    pub(crate) fn add_entity(
        &mut self,
        file: NodeId,
        kind: EntityKind,
        content: Content,
        session: Option<String>,
        now: Time,
    ) -> EntityId {
        self.last_entity += 1;
        let owner = self.node(file).owner;
        *self.used.entry(owner).or_default() += content.len();
        let created_by = owner;
        let entity = Entity {
            kind,
            content,
            created: now,
            created_by,
            references: 1,
            session,
            policy: StoragePolicy::Local,
            encrypted: false,
            lost: false,
        };
        let id = self.last_entity;
        self.entities.insert(id, entity);
        self.node_mut(file).entities.push(id);
        id
    }

    /// Makes one of its entities the content of a file.
    pub(crate) fn make_current(&mut self, file: NodeId, entity: EntityId, updated: Time) {
        let size = self.entity(entity).map_or(0, |entity| entity.content.len());
        let node = self.node_mut(file);
        node.size = size;
        node.primary = entity;
        node.updated = updated;
    }

    /// Drops an entity from a file.
    pub(crate) fn drop_entity(&mut self, file: NodeId, entity: EntityId) {
        let node = self.node_mut(file);
        let before = node.entities.len();
        node.entities.retain(|id| *id != entity);
        let (owner, had) = (node.owner, before != node.entities.len());
        if had {
            self.release(owner, entity);
        }
    }

    fn release(&mut self, owner: UserId, id: EntityId) {
        let Some(entity) = self.entities.get_mut(&id) else {
            return;
        };
        let used = self.used.entry(owner).or_default();
        *used = used.saturating_sub(entity.content.len());
        entity.references -= 1;
        if entity.references == 0 {
            self.entities.remove(&id);
        }
    }

    /// Keeps the newest finished versions of a file up to `max`; thumbnails of older content go too.
    pub(crate) fn cap_versions(&mut self, file: NodeId, max: usize) {
        let node = self.node(file);
        let is = |id: &EntityId, kind| {
            self.entity(*id)
                .is_some_and(|e| e.kind == kind && e.session.is_none())
        };
        let mut versions: Vec<_> = node
            .entities
            .iter()
            .filter(|id| is(id, EntityKind::Version))
            .copied()
            .collect();
        let thumbnails: Vec<_> = node
            .entities
            .iter()
            .filter(|id| is(id, EntityKind::Thumbnail))
            .copied()
            .collect();
        let excess = versions.len().saturating_sub(max);
        versions.truncate(excess);
        let primary = node.primary;
        for id in versions
            .into_iter()
            .filter(|id| *id != primary)
            .chain(thumbnails)
        {
            self.drop_entity(file, id);
        }
    }

    /// Copies an object with all below into a folder: new ids, same finished entities, both times new
    /// (→ api part 1 §8.3). A mark of an upload is copied too, as the server does.
    pub(crate) fn copy(&mut self, id: NodeId, parent: NodeId, now: Time) -> NodeId {
        let source = self.node(id);
        let (name, folder, primary, size) = (
            source.name.clone(),
            source.is_folder(),
            source.primary,
            source.size,
        );
        let (metadata, symbolic) = (source.metadata.clone(), source.symbolic);
        let finished = |id: &EntityId| {
            self.entity(*id)
                .is_some_and(|entity| entity.session.is_none())
        };
        let entities: Vec<_> = source.entities.iter().copied().filter(finished).collect();
        let below: Vec<_> = source.children.iter().flat_map(Children::all).collect();
        let copy = self.create(parent, &name, folder, now);
        let owner = self.node(copy).owner;
        for id in &entities {
            if let Some(entity) = self.entities.get_mut(id) {
                entity.references += 1;
                *self.used.entry(owner).or_default() += entity.content.len();
            }
        }
        let node = self.node_mut(copy);
        (node.primary, node.size, node.entities) = (primary, size, entities);
        (node.metadata, node.symbolic) = (metadata, symbolic);
        for child in below {
            self.copy(child, copy, now);
        }
        copy
    }

    /// Bytes of all entities of a file.
    pub(crate) fn stored(&self, file: NodeId) -> u64 {
        let entities = self.node(file).entities.iter();
        entities
            .filter_map(|id| self.entity(*id))
            .map(|entity| entity.content.len())
            .sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Time = Time(0);

    fn content(size: u64) -> Content {
        Content::Generated { size, seed: 1 }
    }

    #[test]
    fn a_copy_shares_entities_and_both_are_charged_until_both_are_gone() {
        let mut drive = Drive::default();
        let root = drive.root(1, NOW);
        let file = drive.create(root, "a", false, NOW);
        let entity = drive.add_entity(file, EntityKind::Version, content(10), None, NOW);
        drive.make_current(file, entity, NOW);
        let folder = drive.create(root, "folder", true, NOW);
        let copy = drive.copy(file, folder, NOW);
        assert_eq!((drive.node(copy).primary, drive.used(1)), (entity, 20));
        drive.remove(file);
        assert_eq!((drive.used(1), drive.entity(entity).is_some()), (10, true));
        drive.remove(folder);
        assert_eq!((drive.used(1), drive.entity(entity).is_some()), (0, false));
    }

    #[test]
    fn a_trashed_name_is_free_at_once_and_what_is_below_stays_below() {
        let mut drive = Drive::default();
        let root = drive.root(1, NOW);
        let folder = drive.create(root, "a", true, NOW);
        let below = drive.create(folder, "b", false, NOW);
        drive.trash(folder, "uuid".to_owned(), NOW);
        assert_eq!(drive.child(root, "a"), None);
        assert_eq!(drive.root_of(below), None);
        drive.create(root, "a", false, NOW);
        drive.place(folder, root, "c", NOW);
        assert_eq!(drive.segments(below), ["c", "b"]);
    }

    #[test]
    fn only_the_newest_versions_are_kept() {
        let mut drive = Drive::default();
        let root = drive.root(1, NOW);
        let file = drive.create(root, "a", false, NOW);
        for size in 1..=4 {
            let entity = drive.add_entity(file, EntityKind::Version, content(size), None, NOW);
            drive.make_current(file, entity, NOW);
            drive.cap_versions(file, 2);
        }
        assert_eq!(
            (drive.stored(file), drive.used(1), drive.node(file).size),
            (7, 7, 4)
        );
    }
}
