//! Inodes: the numbers by which the kernel knows files, what they stand for, and how often they are held.
//!
//! A number is a hash of the site, the way to the file and its id, so it survives renames and remounts; where two
//! files hash alike the one met later gets the next free number. The table holds what the kernel holds, the folders
//! above it, and nothing else: what `forget` pays back is dropped. A file's URI is computed upward from the names on
//! the way and never stored, so a renamed folder renames all below it.
//!
//! Knows nothing of the server, and not for how long anything may be believed.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use crate::entry::{Entry, FileKey, Shortcut, Tree, stable_hash};
use crate::model::{EntityId, FileId, FileKind};
use crate::uri::{FileSystem, FileUri};

/// A number by which the kernel knows a file; stable for a file's id. The root of the mount is 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ino(pub u64);

impl Ino {
    /// The root of the mount.
    pub const ROOT: Self = Self(1);
}

/// Folders above each other at most; more is a circle, which moves seen at different times can make.
const DEPTH_MAX: usize = 4096;

/// What the table knows of an inode.
#[derive(Debug, Clone)]
pub struct Node {
    /// The folder it lies in; of the root, the root.
    pub parent: Ino,
    /// What was last said of it.
    pub entry: Arc<Entry>,
    /// The tree that it lies in itself.
    pub tree: Tree,
    /// The version that open handles read through the kernel's cache.
    pub pinned: Option<Version>,
}

impl Node {
    /// Tells it apart from each other file.
    pub fn key(&self) -> FileKey {
        FileKey {
            tree: self.tree,
            id: self.entry.id.clone(),
        }
    }
}

/// One version of a file, as far as the kernel sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    /// Its content.
    pub entity: EntityId,
    /// Its size.
    pub size_bytes: u64,
    /// When it was made.
    pub updated: SystemTime,
}

impl Version {
    /// The version that `entry` shows.
    pub fn of(entry: &Entry) -> Self {
        Self {
            entity: entry.entity.clone(),
            size_bytes: entry.size_bytes,
            updated: entry.updated,
        }
    }
}

/// The table of inodes.
#[derive(Debug)]
pub struct Inodes {
    instance_id: Box<str>,
    root: FileUri,
    table: Mutex<Table>,
}

#[derive(Debug)]
struct Table {
    slots: HashMap<Ino, Slot>,
    /// Files whose own number was taken when they came, and the number they have instead.
    displaced: HashMap<FileKey, Ino>,
}

#[derive(Debug)]
struct Slot {
    tree: Tree,
    parent: Ino,
    entry: Arc<Entry>,
    lookups: u64,
    /// Inodes that name this one as their parent.
    children: u64,
    pin: Option<Box<Pin>>,
    /// Version of the listing that was last shown.
    listing: u64,
}

/// The version that open handles pin.
#[derive(Debug)]
struct Pin {
    version: Version,
    /// Never 0.
    handles: u64,
}

impl Inodes {
    /// A table with nothing but the root, which `entry` describes and `root` names.
    pub fn new(instance_id: &str, root: FileUri, entry: Arc<Entry>) -> Self {
        let slot = Slot::new(Tree::MAIN, Ino::ROOT, entry);
        Self {
            instance_id: instance_id.into(),
            root,
            table: Mutex::new(Table {
                slots: HashMap::from([(Ino::ROOT, slot)]),
                displaced: HashMap::new(),
            }),
        }
    }

    /// How many inodes the table holds.
    pub fn len(&self) -> usize {
        self.table.lock().unwrap().slots.len()
    }

    /// Whether the table is empty; it never is.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What is known of `ino`; none once it is forgotten.
    pub fn node(&self, ino: Ino) -> Option<Node> {
        self.table.lock().unwrap().slots.get(&ino).map(Slot::node)
    }

    /// The number of `entry` in the folder `parent`, counted as looked up once more; and the version that handles pin,
    /// if one. None where the folder is forgotten.
    pub fn count(&self, parent: Ino, entry: &Arc<Entry>) -> Option<(Ino, Option<Version>)> {
        let mut table = self.table.lock().unwrap();
        let tree = table.slots.get(&parent)?.tree_below();
        let ino = table.number(&self.instance_id, tree, &entry.id);
        if !table.slots.contains_key(&ino) {
            table.insert(
                &self.instance_id,
                ino,
                Slot::new(tree, parent, Arc::clone(entry)),
            );
        }
        table.place(ino, parent, entry);
        let slot = table.slots.get_mut(&ino)?;
        slot.lookups += 1;
        Some((ino, slot.pinned()))
    }

    /// The number that `entry` has or would get in the folder `parent`, and the version that handles pin.
    pub fn number(&self, parent: Ino, entry: &Entry) -> Option<(Ino, Option<Version>)> {
        let table = self.table.lock().unwrap();
        let tree = table.slots.get(&parent)?.tree_below();
        let ino = table.number(&self.instance_id, tree, &entry.id);
        Some((ino, table.slots.get(&ino).and_then(Slot::pinned)))
    }

    /// Notes what was newly said of `ino`, which still lies in the same folder.
    pub fn renew(&self, ino: Ino, entry: &Arc<Entry>) {
        if let Some(slot) = self.table.lock().unwrap().slots.get_mut(&ino) {
            slot.entry = Arc::clone(entry);
        }
    }

    /// Gives back `lookups` references. More than there are count as all of them.
    pub fn forget(&self, ino: Ino, lookups: u64) {
        let mut table = self.table.lock().unwrap();
        if let Some(slot) = table.slots.get_mut(&ino) {
            slot.lookups = slot.lookups.saturating_sub(lookups);
            table.drop_unheld(ino);
        }
    }

    /// Whether `version` is of the listing that was shown last for `ino`; it is from now on.
    pub fn show_listing(&self, ino: Ino, version: u64) -> bool {
        let mut table = self.table.lock().unwrap();
        let slot = table.slots.get_mut(&ino);
        slot.is_some_and(|slot| std::mem::replace(&mut slot.listing, version) == version)
    }

    /// Pins `version` of `ino` for a handle that is open now; while another one is pinned, that stays. Paid back by
    /// [`Inodes::unpin`].
    pub fn pin(&self, ino: Ino, version: Version) {
        if let Some(slot) = self.table.lock().unwrap().slots.get_mut(&ino) {
            match &mut slot.pin {
                Some(pin) => pin.handles += 1,
                None => {
                    slot.pin = Some(Box::new(Pin {
                        version,
                        handles: 1,
                    }))
                }
            }
        }
    }

    /// A handle that pinned `ino` is closed.
    pub fn unpin(&self, ino: Ino) {
        let mut table = self.table.lock().unwrap();
        if let Some(slot) = table.slots.get_mut(&ino)
            && let Some(pin) = &mut slot.pin
        {
            pin.handles -= 1;
            if pin.handles == 0 {
                slot.pin = None;
            }
            table.drop_unheld(ino);
        }
    }

    /// Where `ino` is now. None where it is forgotten, or lies in a circle.
    pub fn uri(&self, ino: Ino) -> Option<FileUri> {
        if ino == Ino::ROOT {
            return Some(self.root.clone());
        }
        let node = self.node(ino)?;
        Some(self.folder_uri(node.parent)?.child(node.entry.segment()))
    }

    /// Where what lies in the folder `ino` is: behind a shortcut, in its share. None where the folder is forgotten,
    /// lies in a circle, or is a shortcut that is broken or leads back into a share on the way to it, which would
    /// make a tree without end.
    pub fn folder_uri(&self, ino: Ino) -> Option<FileUri> {
        let table = self.table.lock().unwrap();
        let mut names = Vec::new();
        let mut base: Option<&FileUri> = None;
        let mut at = ino;
        for _ in 0..DEPTH_MAX {
            let slot = table.slots.get(&at)?;
            let start = match (at, slot.entry.shortcut.as_deref()) {
                (Ino::ROOT, _) => Some(&self.root),
                (_, Some(Shortcut::To(uri))) => Some(uri),
                (_, Some(Shortcut::Broken)) => return None,
                (_, None) => None,
            };
            match (base, start) {
                (Some(base), Some(outer)) if same_share(base, outer) => return None,
                (None, Some(uri)) => base = Some(uri),
                (None, None) => names.push(slot.entry.segment()),
                _ => {}
            }
            if at == Ino::ROOT {
                let base = base.unwrap_or(&self.root).clone();
                return Some(
                    names
                        .into_iter()
                        .rev()
                        .fold(base, |uri, name| uri.child(name)),
                );
            }
            at = slot.parent;
        }
        None
    }
}

fn same_share(a: &FileUri, b: &FileUri) -> bool {
    match (a.file_system(), b.file_system()) {
        (FileSystem::Share { id: a, .. }, FileSystem::Share { id: b, .. }) => a == b,
        _ => false,
    }
}

impl Slot {
    fn new(tree: Tree, parent: Ino, entry: Arc<Entry>) -> Self {
        Self {
            tree,
            parent,
            entry,
            lookups: 0,
            children: 0,
            pin: None,
            listing: 0,
        }
    }

    fn node(&self) -> Node {
        Node {
            parent: self.parent,
            entry: Arc::clone(&self.entry),
            tree: self.tree,
            pinned: self.pinned(),
        }
    }

    fn tree_below(&self) -> Tree {
        match self.entry.shortcut {
            Some(_) if self.entry.kind == FileKind::Folder => self.tree.behind(&self.entry.id),
            _ => self.tree,
        }
    }

    fn pinned(&self) -> Option<Version> {
        self.pin.as_ref().map(|pin| pin.version.clone())
    }

    fn is(&self, tree: Tree, id: &FileId) -> bool {
        self.tree == tree && self.entry.id == *id
    }

    fn is_held(&self) -> bool {
        self.lookups > 0 || self.children > 0 || self.pin.is_some()
    }
}

impl Table {
    /// The number of a file that is in the table, or the one it gets when it comes.
    fn number(&self, instance_id: &str, tree: Tree, id: &FileId) -> Ino {
        if !self.displaced.is_empty() {
            let key = FileKey {
                tree,
                id: id.clone(),
            };
            if let Some(ino) = self.displaced.get(&key) {
                return *ino;
            }
        }
        let mut number = own_number(instance_id, tree, id);
        // 0 and 1 mean something to the kernel; a taken number leaves the next free one.
        while number <= Ino::ROOT.0
            || self
                .slots
                .get(&Ino(number))
                .is_some_and(|slot| !slot.is(tree, id))
        {
            number = number.wrapping_add(1);
        }
        Ino(number)
    }

    fn insert(&mut self, instance_id: &str, ino: Ino, slot: Slot) {
        if own_number(instance_id, slot.tree, &slot.entry.id) != ino.0 {
            let key = FileKey {
                tree: slot.tree,
                id: slot.entry.id.clone(),
            };
            self.displaced.insert(key, ino);
        }
        if let Some(parent) = self.slots.get_mut(&slot.parent) {
            parent.children += 1;
        }
        self.slots.insert(ino, slot);
    }

    /// Notes that `ino` was met in `parent` as `entry`.
    fn place(&mut self, ino: Ino, parent: Ino, entry: &Arc<Entry>) {
        let Some(slot) = self.slots.get_mut(&ino) else {
            return;
        };
        slot.entry = Arc::clone(entry);
        let old = std::mem::replace(&mut slot.parent, parent);
        if old != parent {
            if let Some(parent) = self.slots.get_mut(&parent) {
                parent.children += 1;
            }
            self.drop_child_of(old);
        }
    }

    fn drop_child_of(&mut self, parent: Ino) {
        if let Some(slot) = self.slots.get_mut(&parent) {
            slot.children = slot.children.saturating_sub(1);
            self.drop_unheld(parent);
        }
    }

    /// Drops `ino` if nothing holds it, and the folders above that only it held.
    fn drop_unheld(&mut self, ino: Ino) {
        let mut at = ino;
        while at != Ino::ROOT && self.slots.get(&at).is_some_and(|slot| !slot.is_held()) {
            let Some(slot) = self.slots.remove(&at) else {
                return;
            };
            if !self.displaced.is_empty() {
                let key = FileKey {
                    tree: slot.tree,
                    id: slot.entry.id.clone(),
                };
                self.displaced.remove(&key);
            }
            at = slot.parent;
            if let Some(parent) = self.slots.get_mut(&at) {
                parent.children = parent.children.saturating_sub(1);
            }
        }
    }
}

fn own_number(instance_id: &str, tree: Tree, id: &FileId) -> u64 {
    stable_hash([
        instance_id.as_bytes(),
        &tree.number().to_le_bytes(),
        id.0.as_bytes(),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::names::ServerName;

    fn entry(id: &str, name: &str, kind: FileKind) -> Arc<Entry> {
        Arc::new(Entry {
            id: FileId(id.into()),
            kind,
            name: std::ffi::OsStr::new(name).into(),
            segment: None,
            size_bytes: 0,
            created: SystemTime::UNIX_EPOCH,
            updated: SystemTime::UNIX_EPOCH,
            entity: EntityId("e".into()),
            owned: true,
            shared: false,
            unfinished: false,
            shortcut: None,
        })
    }

    fn folder(id: &str, name: &str) -> Arc<Entry> {
        entry(id, name, FileKind::Folder)
    }

    fn file(id: &str, name: &str) -> Arc<Entry> {
        entry(id, name, FileKind::File)
    }

    fn shortcut(id: &str, name: &str, target: &str) -> Arc<Entry> {
        let to = Shortcut::To(FileUri::parse_wire(target).unwrap());
        Arc::new(Entry {
            shortcut: Some(Box::new(to)),
            ..(*folder(id, name)).clone()
        })
    }

    fn inodes() -> Inodes {
        Inodes::new("instance", FileUri::my(), folder("root", ""))
    }

    fn count(inodes: &Inodes, parent: Ino, entry: &Arc<Entry>) -> Ino {
        inodes.count(parent, entry).unwrap().0
    }

    fn place(inodes: &Inodes, ino: Ino) -> String {
        inodes.uri(ino).unwrap().to_wire()
    }

    #[test]
    fn a_folder_that_only_a_moved_file_held_is_dropped_with_all_above_it() {
        let inodes = inodes();
        let outer = count(&inodes, Ino::ROOT, &folder("o", "outer"));
        let inner = count(&inodes, outer, &folder("i", "inner"));
        let file = file("f", "file");
        count(&inodes, inner, &file);
        inodes.forget(inner, 1);
        inodes.forget(outer, 1);
        assert_eq!(inodes.len(), 4, "they are on the way to the file");
        count(&inodes, Ino::ROOT, &file);
        assert_eq!(inodes.len(), 2);
    }

    #[test]
    fn a_number_is_the_same_at_each_mount_and_under_each_name() {
        let (one, other) = (inodes(), inodes());
        let ino = count(&one, Ino::ROOT, &file("abcd", "a"));
        assert_eq!(count(&other, Ino::ROOT, &file("abcd", "b")), ino);
        let third = Inodes::new("another site", FileUri::my(), folder("root", ""));
        assert_ne!(count(&third, Ino::ROOT, &file("abcd", "a")), ino);
        let fourth = count(&one, Ino::ROOT, &file("abcD", "a"));
        assert_ne!(fourth, ino, "ids are told apart by case");
    }

    #[test]
    fn a_taken_number_leaves_the_next_one_and_it_stays() {
        let inodes = inodes();
        let (first, second) = (file("first", "first"), file("second", "second"));
        let own = Ino(own_number("instance", Tree::MAIN, &second.id));
        // Two files that hash alike are not to be found, so the first one sits where the second one belongs.
        inodes.table.lock().unwrap().insert(
            "instance",
            own,
            Slot {
                lookups: 1,
                ..Slot::new(Tree::MAIN, Ino::ROOT, Arc::clone(&first))
            },
        );
        assert_eq!(count(&inodes, Ino::ROOT, &first), own);
        let displaced = count(&inodes, Ino::ROOT, &second);
        assert_eq!(displaced, Ino(own.0.wrapping_add(1)));
        inodes.forget(own, 2);
        assert_eq!(count(&inodes, Ino::ROOT, &second), displaced);
        inodes.forget(displaced, 2);
        assert_eq!(count(&inodes, Ino::ROOT, &second), own);
    }

    #[test]
    fn what_is_forgotten_takes_no_memory_and_neither_do_the_folders_above_it() {
        let inodes = inodes();
        let dir = count(&inodes, Ino::ROOT, &folder("d", "dir"));
        let leaf = count(&inodes, dir, &file("f", "file"));
        count(&inodes, dir, &file("f", "file"));
        inodes.forget(dir, 1);
        inodes.forget(leaf, 1);
        assert_eq!(place(&inodes, leaf), "cloudreve://my/dir/file");
        inodes.forget(leaf, 1);
        assert_eq!(inodes.len(), 1);
        assert!(inodes.node(dir).is_none() && inodes.node(leaf).is_none());
        inodes.forget(Ino::ROOT, 7);
        assert_eq!(inodes.len(), 1, "the root stays");
    }

    #[test]
    fn a_renamed_folder_renames_all_below_it() {
        let inodes = inodes();
        let dir = count(&inodes, Ino::ROOT, &folder("d", "old"));
        let leaf = count(&inodes, dir, &file("f", "a b"));
        count(&inodes, Ino::ROOT, &folder("d", "new"));
        assert_eq!(place(&inodes, leaf), "cloudreve://my/new/a%20b");
        let other = count(&inodes, Ino::ROOT, &folder("o", "other"));
        count(&inodes, other, &folder("d", "new"));
        assert_eq!(place(&inodes, leaf), "cloudreve://my/other/new/a%20b");
        inodes.forget(other, 1);
        assert!(inodes.node(other).is_some(), "a child holds it");
    }

    #[test]
    fn a_name_that_is_another_on_the_server_has_that_one_in_its_uri() {
        let inodes = inodes();
        let mut entry = (*file("f", "a:b")).clone();
        entry.segment = Some(ServerName::from_wire("a：b".as_bytes()));
        let ino = count(&inodes, Ino::ROOT, &Arc::new(entry));
        assert_eq!(place(&inodes, ino), "cloudreve://my/a%EF%BC%9Ab");
    }

    #[test]
    fn behind_two_shortcuts_to_one_share_each_folder_has_two_numbers() {
        let inodes = inodes();
        let a = count(
            &inodes,
            Ino::ROOT,
            &shortcut("a", "a", "cloudreve://S:pw@share"),
        );
        let b = count(
            &inodes,
            Ino::ROOT,
            &shortcut("b", "b", "cloudreve://S:pw@share/x"),
        );
        let below_a = count(&inodes, a, &folder("d", "dir"));
        let below_b = count(&inodes, b, &folder("d", "dir"));
        assert_ne!(below_a, below_b);
        assert_eq!(place(&inodes, a), "cloudreve://my/a");
        assert_eq!(place(&inodes, below_a), "cloudreve://S:pw@share/dir");
        assert_eq!(place(&inodes, below_b), "cloudreve://S:pw@share/x/dir");
    }

    #[test]
    fn a_shortcut_that_leads_back_into_its_own_share_leads_nowhere() {
        let inodes = inodes();
        let a = count(
            &inodes,
            Ino::ROOT,
            &shortcut("a", "a", "cloudreve://S@share"),
        );
        let dir = count(&inodes, a, &folder("d", "dir"));
        let back = count(
            &inodes,
            dir,
            &shortcut("b", "back", "cloudreve://S@share/dir"),
        );
        let on = count(&inodes, dir, &shortcut("c", "on", "cloudreve://T@share"));
        assert_eq!(inodes.folder_uri(back), None);
        assert!(inodes.folder_uri(on).is_some());
    }

    #[test]
    fn folders_in_a_circle_have_no_place() {
        let inodes = inodes();
        let a = count(&inodes, Ino::ROOT, &folder("a", "a"));
        let b = count(&inodes, a, &folder("b", "b"));
        count(&inodes, b, &folder("a", "a"));
        assert_eq!(inodes.uri(a), None);
    }

    #[test]
    fn the_version_that_handles_read_stays_until_the_last_is_closed() {
        let inodes = inodes();
        let ino = count(&inodes, Ino::ROOT, &file("f", "file"));
        let version = |size_bytes| Version {
            size_bytes,
            ..Version::of(&file("f", "file"))
        };
        inodes.pin(ino, version(1));
        inodes.pin(ino, version(2));
        inodes.forget(ino, 1);
        inodes.unpin(ino);
        let pinned = inodes.node(ino).unwrap().pinned;
        assert_eq!(pinned, Some(version(1)));
        inodes.unpin(ino);
        assert!(inodes.node(ino).is_none());
    }
}
