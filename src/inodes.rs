//! Inodes: the numbers by which the kernel knows files, what they stand for, and how often they are held.
//!
//! A number is a hash of the site, the way to the file and its id, so it survives renames and remounts; where two
//! files hash alike the one met later gets the next free number. The kernel has one size and one set of pages for a
//! number, so a number shows one version while handles are open: a version that comes meanwhile gets another number,
//! as a file that replaces an open one on a local disk does.
//!
//! The table holds what the kernel holds, the folders above it, and nothing else: what `forget` pays back is dropped.
//! A file's URI is computed upward from the names on the way and never stored, so a renamed folder renames all below it.
//!
//! Knows nothing of the server, and not for how long anything may be believed.

mod table;

use std::collections::HashMap;
use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use tokio::sync::mpsc::{Receiver, Sender, channel};

use crate::entity::Entity;
use crate::entry::{Entry, FileKey, Shortcut, StableHash, Tree};
use crate::model::EntityId;
use crate::uri::{FileSystem, FileUri};
use table::{Pin, Slot, Table, is_same_version, own_number};

/// A number by which the kernel knows a file; stable for a file's id. The root of the mount is 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ino(pub u64);

impl Ino {
    /// The root of the mount.
    pub const ROOT: Self = Self(1);
}

/// Folders above each other at most; more is a circle, which moves seen at different times can make.
const DEPTH_MAX: usize = 4096;

/// Names that were left and wait for who tells the kernel. Of more it finds out by itself, as soon as it asks again.
const LEFT_MAX: usize = 4096;

/// What the table knows of an inode.
#[derive(Debug, Clone)]
pub struct Node {
    /// The folder it lies in; of the root, the root.
    pub parent: Ino,
    /// What was last said of it.
    pub entry: Arc<Entry>,
    /// The tree that it lies in itself.
    pub tree: Tree,
    /// The version that open handles read.
    pub pinned: Option<Version>,
    /// It belongs to those handles alone: its name leads elsewhere (→ [`Inodes::part`]).
    pub is_parted: bool,
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
    /// Its content.
    pub fn content(&self) -> Entity {
        Entity {
            id: self.entity.clone(),
            size_bytes: self.size_bytes,
        }
    }

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
    /// The site's share in all numbers.
    site: StableHash,
    root: FileUri,
    table: Mutex<Table>,
    /// Where the server has files and folders of whose new names it has not heard.
    elsewhere: Mutex<HashMap<FileKey, FileUri>>,
    left: Sender<Left>,
    /// Until somebody listens.
    untaken: Mutex<Option<Receiver<Left>>>,
}

/// A name by which the kernel knows a file that was met under another one since, without a call of the kernel's: who opens
/// the one would come to the other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Left {
    /// The folder.
    pub folder: Ino,
    /// The name in it.
    pub name: OsString,
}

impl Inodes {
    /// A table with nothing but the root, which `entry` describes and `root` names.
    pub fn new(instance_id: &str, root: FileUri, entry: Arc<Entry>) -> Self {
        let slot = Slot::new(Tree::MAIN, Ino::ROOT, entry);
        let (left, untaken) = channel(LEFT_MAX);
        Self {
            left,
            untaken: Mutex::new(Some(untaken)),
            site: StableHash::default().with(instance_id.as_bytes()),
            root,
            table: Mutex::new(Table {
                slots: HashMap::from_iter([(Ino::ROOT, slot)]),
                numbers: HashMap::new(),
            }),
            elsewhere: Mutex::default(),
        }
    }

    /// The server has the file or folder `key` at `uri`, wherever it shows, until that is none.
    pub fn is_elsewhere(&self, key: FileKey, uri: Option<FileUri>) {
        let mut elsewhere = self.elsewhere.lock().unwrap();
        match uri {
            Some(uri) => elsewhere.insert(key, uri),
            None => elsewhere.remove(&key),
        };
    }

    fn elsewhere(&self, node: &Node) -> Option<FileUri> {
        let elsewhere = self.elsewhere.lock().unwrap();
        match elsewhere.is_empty() {
            true => None,
            false => elsewhere.get(&node.key()).cloned(),
        }
    }

    /// The names that are left from now on, and those that were since the table was made. Theirs who asks first.
    pub fn left(&self) -> Option<Receiver<Left>> {
        self.untaken.lock().unwrap().take()
    }

    /// `entry` was met in `parent`, which may not be where the kernel has `ino`.
    fn met(&self, table: &Table, ino: Ino, parent: Ino, entry: &Entry) {
        if let Some(slot) = table.slots.get(&ino)
            && slot.lookups > 0
            && (slot.parent != parent || slot.entry.name != entry.name)
        {
            let _ = self.left.try_send(Left {
                folder: slot.parent,
                name: slot.entry.name.to_os_string(),
            });
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

    /// The number under which the kernel gets to know `entry` in the folder `parent`, counted as looked up once more;
    /// and the version that handles pin, if one, which is the one of `shown` then. `shown` is what the kernel is told of
    /// its size; none where that is not known yet. None where the folder is forgotten.
    pub fn count(
        &self,
        parent: Ino,
        entry: &Arc<Entry>,
        shown: Option<&Arc<Entry>>,
    ) -> Option<(Ino, Option<Version>)> {
        let mut table = self.table.lock().unwrap();
        let tree = table.slots.get(&parent)?.tree_below();
        let own = Ino(own_number(self.site, tree, &entry.id));
        if table.is_of(own, tree, &entry.id) {
            self.met(&table, own, parent, entry);
        }
        if table.count_plainly(own, (tree, parent), entry, shown) {
            return Some((own, None));
        }
        let ino = table.number(self.site, tree, &entry.id, shown);
        for other in table.all_of(ino) {
            if other != own {
                self.met(&table, other, parent, entry);
            }
        }
        if !table.slots.contains_key(&ino) {
            let slot = Slot::new(tree, parent, Arc::clone(entry));
            table.insert(self.site, ino, slot);
        }
        table.place(ino, parent, entry);
        let slot = table.slots.get_mut(&ino)?;
        slot.lookups += 1;
        Some((ino, slot.tell(shown)))
    }

    /// Takes back one lookup of which the kernel was not told after all.
    pub fn discount(&self, ino: Ino) {
        if let Some(slot) = self.table.lock().unwrap().slots.get_mut(&ino) {
            slot.tell(None);
        }
        self.forget(ino, 1);
    }

    /// The number that `entry` has or would get in the folder `parent`, and the version that handles pin.
    pub fn number(
        &self,
        parent: Ino,
        entry: &Entry,
        shown: Option<&Arc<Entry>>,
    ) -> Option<(Ino, Option<Version>)> {
        let table = self.table.lock().unwrap();
        let tree = table.slots.get(&parent)?.tree_below();
        let ino = table.number(self.site, tree, &entry.id, shown);
        Some((ino, table.slots.get(&ino).and_then(Slot::pinned)))
    }

    /// The kernel is told the size of `shown` for `ino`, or that of the version that handles pin, which is the answer.
    pub fn tell(&self, ino: Ino, shown: &Arc<Entry>) -> Option<Version> {
        let mut table = self.table.lock().unwrap();
        table.slots.get_mut(&ino)?.tell(Some(shown))
    }

    /// Notes what was newly said of `ino`, which still lies in the same folder.
    pub fn renew(&self, ino: Ino, entry: &Arc<Entry>) {
        let mut table = self.table.lock().unwrap();
        for ino in table.all_of(ino) {
            let Some(parent) = table.slots.get(&ino).map(|slot| slot.parent) else {
                continue;
            };
            self.met(&table, ino, parent, entry);
            if let Some(slot) = table.slots.get_mut(&ino) {
                slot.entry = Arc::clone(entry);
            }
        }
    }

    /// The number by which the name of the file `key` is known; none where nobody has met it.
    pub fn find(&self, key: &FileKey) -> Option<Ino> {
        self.table.lock().unwrap().find(self.site, key)
    }

    /// The tree of what lies in the folder `ino`.
    pub fn tree_below(&self, ino: Ino) -> Option<Tree> {
        Some(self.table.lock().unwrap().slots.get(&ino)?.tree_below())
    }

    /// Whether `ino` is `folder`, or lies below it.
    pub fn is_within(&self, ino: Ino, folder: Ino) -> bool {
        let table = self.table.lock().unwrap();
        let mut at = ino;
        for _ in 0..DEPTH_MAX {
            if at == folder {
                return true;
            }
            match table.slots.get(&at) {
                Some(slot) if at != Ino::ROOT => at = slot.parent,
                _ => return false,
            }
        }
        false
    }

    /// The file `key` lies in `parent` as `entry` now, which may give it another id: its numbers and what holds them stay.
    /// Where another file was known by that id, the name stands for this one's number from now on.
    pub fn settle(&self, key: &FileKey, parent: Ino, entry: &Arc<Entry>) {
        let mut table = self.table.lock().unwrap();
        table.rekey(self.site, key, entry);
        let key = FileKey {
            tree: key.tree,
            id: entry.id.clone(),
        };
        for ino in table.all_by_key(self.site, &key) {
            table.put(ino, parent, entry);
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

    /// Pins `version` of `ino` for a handle that is opened now, until [`Inodes::unpin`]. Gives the version that is to be
    /// read, and whether the kernel's pages are of it. None where the kernel takes `ino` for another version, by whose
    /// size it would cut this one, or with whose pages it would mix it: the name must be looked up anew. Who comes again
    /// without that did not come by the name, but by what is open (`/dev/stdin`), and gets the version that is.
    pub fn pin(&self, ino: Ino, version: &Arc<Entry>) -> Option<(Arc<Entry>, bool)> {
        let mut table = self.table.lock().unwrap();
        let slot = table.slots.get_mut(&ino)?;
        let is_parted = slot.pin.as_ref().is_some_and(|pin| pin.is_parted);
        if is_parted || !is_same_version(slot.told.as_deref()?, version) {
            let pin = slot.pin.as_mut()?;
            pin.sent_back = !pin.sent_back;
            if pin.sent_back {
                return None;
            }
        }
        let pin = slot.pin.get_or_insert_with(|| Pin::new(version));
        pin.handles += 1;
        let pages = slot.pages.take();
        slot.pages = pages.filter(|pages| is_same_version(pages, &pin.version));
        Some((Arc::clone(&pin.version), slot.pages.is_some()))
    }

    /// Pins `ino`, whose content is here and shows as `entry` now, for a handle that is opened now, until [`Inodes::unpin`].
    /// It has no versions, and no pages are known to be right. None where it is forgotten.
    pub fn pin_local(&self, ino: Ino, entry: &Arc<Entry>) -> Option<(Arc<Entry>, bool)> {
        let mut table = self.table.lock().unwrap();
        let slot = table.slots.get_mut(&ino)?;
        let pin = slot.pin.get_or_insert_with(|| Pin::new(entry));
        pin.handles += 1;
        slot.pages = None;
        Some((Arc::clone(&pin.version), false))
    }

    /// `ino` is written to: the kernel's pages are of no version any more.
    pub fn soil(&self, ino: Ino) {
        if let Some(slot) = self.table.lock().unwrap().slots.get_mut(&ino) {
            slot.pages = None;
        }
    }

    /// What handles have open as `ino` is the version `entry` by now, which is what its name leads to.
    pub fn repin(&self, ino: Ino, entry: &Arc<Entry>) {
        if let Some(slot) = self.table.lock().unwrap().slots.get_mut(&ino)
            && let Some(pin) = &mut slot.pin
        {
            pin.version = Arc::clone(entry);
            slot.told = Some(Arc::clone(entry));
        }
    }

    /// The name of `ino` leads elsewhere from now on, as if another file had replaced this one; who has it open keeps it.
    /// No change where nobody has.
    pub fn part(&self, ino: Ino) {
        let mut table = self.table.lock().unwrap();
        if let Some(slot) = table.slots.get_mut(&ino)
            && let Some(pin) = &mut slot.pin
        {
            pin.is_parted = true;
        }
    }

    /// As [`Inodes::part`], for each other number of the file of `ino` under which a version is open that `keeps` refuses.
    pub fn part_others(&self, ino: Ino, keeps: impl Fn(&EntityId) -> bool) {
        let mut table = self.table.lock().unwrap();
        for other in table.all_of(ino) {
            if other != ino
                && let Some(slot) = table.slots.get_mut(&other)
                && let Some(pin) = &mut slot.pin
                && !keeps(&pin.version.entity)
            {
                pin.is_parted = true;
            }
        }
    }

    /// A handle of `ino` is read from: pages that the kernel had from before it was opened are gone.
    pub fn fill_pages(&self, ino: Ino) {
        if let Some(slot) = self.table.lock().unwrap().slots.get_mut(&ino)
            && let Some(pin) = &slot.pin
        {
            slot.pages = Some(Arc::clone(&pin.version));
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
        match self.elsewhere(&node) {
            Some(uri) => Some(uri),
            None => Some(self.folder_uri(node.parent)?.child(node.entry.segment())),
        }
    }

    /// The names on the way to `ino` from the mount's root. None where it is forgotten, or lies in a circle.
    pub fn path(&self, ino: Ino) -> Option<PathBuf> {
        let table = self.table.lock().unwrap();
        let mut names = Vec::new();
        let mut at = ino;
        for _ in 0..DEPTH_MAX {
            if at == Ino::ROOT {
                return Some(names.into_iter().rev().collect());
            }
            let slot = table.slots.get(&at)?;
            names.push(&*slot.entry.name);
            at = slot.parent;
        }
        None
    }

    /// Where what lies in the folder `ino` is: behind a shortcut, in its share. None where the folder is forgotten,
    /// lies in a circle, or is a shortcut that is broken or leads back into a share on the way to it, which would
    /// make a tree without end. Below a folder that [is elsewhere](Inodes::is_elsewhere) it is there.
    pub fn folder_uri(&self, ino: Ino) -> Option<FileUri> {
        let table = self.table.lock().unwrap();
        let elsewhere = self.elsewhere.lock().unwrap();
        let mut names = Vec::new();
        let mut base: Option<&FileUri> = None;
        let mut at = ino;
        for _ in 0..DEPTH_MAX {
            let slot = table.slots.get(&at)?;
            if base.is_none()
                && !elsewhere.is_empty()
                && let Some(there) = elsewhere.get(&slot.key())
            {
                let below = names.into_iter().rev();
                return Some(below.fold(there.clone(), |uri, name| uri.child(name)));
            }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::FileKind;
    use crate::names::ServerName;

    fn entry(id: &str, name: &str, kind: FileKind) -> Arc<Entry> {
        Arc::new(Entry::plain(id, name, kind))
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
        inodes.count(parent, entry, Some(entry)).unwrap().0
    }

    fn place(inodes: &Inodes, ino: Ino) -> String {
        inodes.uri(ino).unwrap().to_wire()
    }

    #[test]
    fn a_path_follows_the_names_here_also_after_a_move_and_behind_a_shortcut() {
        let inodes = inodes();
        let outer = count(&inodes, Ino::ROOT, &folder("o", "outer"));
        let inner = count(&inodes, outer, &folder("i", "inner"));
        let path = |ino| inodes.path(ino).map(|path| path.display().to_string());
        assert_eq!(path(Ino::ROOT).as_deref(), Some(""));
        assert_eq!(path(inner).as_deref(), Some("outer/inner"));
        let link = shortcut("s", "link", "cloudreve://AbCd@share/far");
        let link = count(&inodes, inner, &link);
        let behind = count(&inodes, link, &file("f", "file"));
        assert_eq!(path(behind).as_deref(), Some("outer/inner/link/file"));
        count(&inodes, Ino::ROOT, &folder("i", "moved"));
        assert_eq!(path(behind).as_deref(), Some("moved/link/file"));
        assert_eq!(path(Ino(12345)), None);
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
        let site = StableHash::default().with(b"instance");
        let own = Ino(own_number(site, Tree::MAIN, &second.id));
        // Two files that hash alike are not to be found, so the first one sits where the second one belongs.
        inodes.table.lock().unwrap().insert(
            site,
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
    fn what_lies_below_a_folder_that_is_elsewhere_is_there() {
        let inodes = inodes();
        let dir = count(&inodes, Ino::ROOT, &folder("d", "new"));
        let inner = count(&inodes, dir, &folder("i", "inner"));
        let leaf = count(&inodes, inner, &file("f", "a b"));
        let old = FileUri::parse_wire("cloudreve://my/there/old").unwrap();
        let key = inodes.node(dir).unwrap().key();
        inodes.is_elsewhere(key.clone(), Some(old));
        for (ino, there) in [(dir, ""), (inner, "/inner"), (leaf, "/inner/a%20b")] {
            let there = format!("cloudreve://my/there/old{there}");
            assert_eq!(place(&inodes, ino), there);
        }
        let within = inodes.folder_uri(inner).unwrap();
        assert_eq!(within.to_wire(), "cloudreve://my/there/old/inner");
        assert_eq!(inodes.path(leaf).unwrap().to_str(), Some("new/inner/a b"));
        inodes.is_elsewhere(key, None);
        assert_eq!(place(&inodes, leaf), "cloudreve://my/new/inner/a%20b");
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

    fn version(entity: &str) -> Arc<Entry> {
        Arc::new(Entry {
            entity: EntityId(entity.into()),
            ..(*file("f", "file")).clone()
        })
    }

    fn keeps(inodes: &Inodes, ino: Ino, version: &Arc<Entry>) -> Option<bool> {
        let (pinned, keeps) = inodes.pin(ino, version)?;
        assert_eq!(&pinned, version);
        Some(keeps)
    }

    #[test]
    fn who_does_not_come_by_the_name_gets_the_version_that_is_open() {
        let inodes = inodes();
        let (old, new) = (version("old"), version("new"));
        let ino = count(&inodes, Ino::ROOT, &old);
        inodes.pin(ino, &old).unwrap();
        assert_eq!(inodes.pin(ino, &new), None);
        count(&inodes, Ino::ROOT, &new);
        assert_eq!(inodes.pin(ino, &new), None, "the name was looked up");
        let again = inodes.pin(ino, &new).map(|(pinned, _)| pinned);
        assert_eq!(again, Some(old));
        assert_eq!(inodes.pin(ino, &new), None, "that was for one open");
    }

    #[test]
    fn the_version_that_handles_read_stays_until_the_last_is_closed() {
        let inodes = inodes();
        let old = version("old");
        let ino = count(&inodes, Ino::ROOT, &old);
        assert_eq!(inodes.pin(ino, &version("new")), None);
        assert_eq!(keeps(&inodes, ino, &old), Some(false));
        assert_eq!(inodes.tell(ino, &version("new")), Some(Version::of(&old)));
        inodes.renew(ino, &version("new"));
        assert_eq!(inodes.pin(ino, &version("new")), None);
        assert!(inodes.pin(ino, &old).is_some());
        inodes.forget(ino, 1);
        inodes.unpin(ino);
        let pinned = inodes.node(ino).unwrap().pinned;
        assert_eq!(pinned, Some(Version::of(&old)));
        inodes.unpin(ino);
        assert!(inodes.node(ino).is_none());
    }

    #[test]
    fn a_version_that_comes_while_an_older_one_is_open_has_another_number_until_that_is_forgotten()
    {
        let inodes = inodes();
        let (old, new) = (version("old"), version("new"));
        let first = count(&inodes, Ino::ROOT, &old);
        inodes.pin(first, &old).unwrap();
        assert_eq!(count(&inodes, Ino::ROOT, &old), first, "it has not changed");
        let announced = inodes.number(Ino::ROOT, &new, Some(&new)).unwrap();
        let second = count(&inodes, Ino::ROOT, &new);
        assert_ne!(second, first);
        assert_eq!(announced, (second, None), "readdir(3) says the same");
        assert!(inodes.pin(second, &new).is_some());
        inodes.unpin(first);
        assert_eq!(count(&inodes, Ino::ROOT, &new), second, "it is held");
        inodes.unpin(second);
        inodes.forget(second, 2);
        assert!(inodes.node(second).is_none());
        assert_eq!(count(&inodes, Ino::ROOT, &new), first);
        inodes.forget(first, 3);
        assert_eq!(inodes.len(), 1);
        assert!(inodes.table.lock().unwrap().numbers.is_empty());
    }

    #[test]
    fn of_many_versions_open_at_once_each_has_a_number_and_one_that_comes_back_its_own_again() {
        let inodes = inodes();
        let versions = ["a", "b", "c"].map(version);
        let numbers = versions.each_ref().map(|version| {
            let ino = count(&inodes, Ino::ROOT, version);
            inodes.pin(ino, version).unwrap();
            ino
        });
        for (version, number) in versions.iter().zip(numbers) {
            assert_eq!(count(&inodes, Ino::ROOT, version), number);
        }
        assert_eq!(inodes.len(), 4);
        for number in numbers {
            inodes.forget(number, 2);
            inodes.unpin(number);
        }
        assert_eq!(inodes.len(), 1);
        assert!(inodes.table.lock().unwrap().numbers.is_empty());
    }

    #[test]
    fn all_numbers_of_a_file_go_with_it_where_it_goes() {
        let inodes = inodes();
        let (old, new) = (version("old"), version("new"));
        let first = count(&inodes, Ino::ROOT, &old);
        inodes.pin(first, &old).unwrap();
        let second = count(&inodes, Ino::ROOT, &new);
        let dir = count(&inodes, Ino::ROOT, &folder("d", "dir"));
        assert_eq!(count(&inodes, dir, &new), second);
        for ino in [first, second] {
            assert_eq!(place(&inodes, ino), "cloudreve://my/dir/file");
        }
        inodes.forget(second, 2);
        inodes.forget(dir, 1);
        assert!(inodes.node(dir).is_some(), "what is open lies in it");
        inodes.forget(first, 1);
        inodes.unpin(first);
        assert_eq!(inodes.len(), 1);
    }

    #[test]
    fn what_the_kernel_was_not_told_is_not_opened_and_its_pages_are_kept_only_if_it_has_filled_them()
     {
        let inodes = inodes();
        let (old, new) = (version("old"), version("new"));
        let ino = count(&inodes, Ino::ROOT, &old);
        count(&inodes, Ino::ROOT, &new);
        inodes.discount(ino);
        assert_eq!(
            inodes.pin(ino, &new),
            None,
            "it knows the size of the old one"
        );
        inodes.tell(ino, &new);
        assert_eq!(keeps(&inodes, ino, &new), Some(false));
        assert_eq!(keeps(&inodes, ino, &new), Some(false));
        inodes.fill_pages(ino);
        assert_eq!(keeps(&inodes, ino, &new), Some(true));
        (0..3).for_each(|_| inodes.unpin(ino));
        inodes.tell(ino, &old);
        assert_eq!(keeps(&inodes, ino, &old), Some(false));
    }

    #[test]
    fn a_folder_is_not_shown_from_the_kernels_memory_once_a_number_in_it_is_another() {
        let inodes = inodes();
        let (old, new) = (version("old"), version("new"));
        let first = count(&inodes, Ino::ROOT, &old);
        inodes.pin(first, &old).unwrap();
        inodes.show_listing(Ino::ROOT, 7);
        assert!(inodes.show_listing(Ino::ROOT, 7));
        let second = count(&inodes, Ino::ROOT, &new);
        assert!(!inodes.show_listing(Ino::ROOT, 7));
        inodes.forget(second, 1);
        assert!(!inodes.show_listing(Ino::ROOT, 7));
    }

    fn key(id: &str) -> FileKey {
        FileKey {
            tree: Tree::MAIN,
            id: crate::model::FileId(id.into()),
        }
    }

    #[test]
    fn a_file_that_gets_another_id_keeps_its_number_its_lookups_and_its_place() {
        let inodes = inodes();
        let ino = count(&inodes, Ino::ROOT, &file("local:1", "new"));
        let there = file("f", "new");
        inodes.settle(&key("local:1"), Ino::ROOT, &there);
        assert_eq!(inodes.find(&key("f")), Some(ino));
        assert_eq!(inodes.find(&key("local:1")), None);
        assert_eq!(count(&inodes, Ino::ROOT, &there), ino);
        assert_eq!(inodes.node(ino).unwrap().entry.id, there.id);
        assert_eq!(place(&inodes, ino), "cloudreve://my/new");
        inodes.forget(ino, 1);
        assert!(inodes.node(ino).is_some(), "it was looked up twice");
        inodes.forget(ino, 1);
        assert_eq!((inodes.len(), inodes.find(&key("f"))), (1, None));
    }

    #[test]
    fn the_number_of_a_file_that_took_anothers_id_is_the_one_of_the_name_and_the_other_lives_while_it_is_held()
     {
        let inodes = inodes();
        let target = file("t", "name");
        let old = count(&inodes, Ino::ROOT, &target);
        inodes.pin(old, &target);
        let new = count(&inodes, Ino::ROOT, &file("local:1", "temp"));
        let after = Arc::new(Entry {
            size_bytes: 9,
            entity: crate::model::EntityId("second".into()),
            ..(*target).clone()
        });
        inodes.settle(&key("local:1"), Ino::ROOT, &after);
        assert_eq!(count(&inodes, Ino::ROOT, &after), new);
        let pinned = inodes.node(old).unwrap().pinned.unwrap();
        assert_eq!(pinned, Version::of(&target));
        inodes.forget(new, 2);
        inodes.forget(old, 1);
        inodes.unpin(old);
        assert_eq!(inodes.len(), 1);
    }

    #[test]
    fn a_file_that_is_moved_takes_its_hold_from_the_old_folder_to_the_new() {
        let inodes = inodes();
        let (a, b) = (folder("a", "a"), folder("b", "b"));
        let (a, b) = (count(&inodes, Ino::ROOT, &a), count(&inodes, Ino::ROOT, &b));
        let ino = count(&inodes, a, &file("f", "old"));
        inodes.settle(&key("f"), b, &file("f", "new"));
        assert_eq!(place(&inodes, ino), "cloudreve://my/b/new");
        assert!(inodes.is_within(ino, b) && !inodes.is_within(ino, a));
        assert!(inodes.is_within(b, Ino::ROOT) && !inodes.is_within(Ino::ROOT, b));
        inodes.forget(a, 1);
        inodes.forget(b, 1);
        assert_eq!(inodes.len(), 3, "the file holds its folder");
    }

    #[test]
    fn a_number_that_is_left_to_its_readers_keeps_its_version_and_the_name_gets_another() {
        let inodes = inodes();
        let file = file("f", "file");
        let old = count(&inodes, Ino::ROOT, &file);
        inodes.part(old);
        assert_eq!(count(&inodes, Ino::ROOT, &file), old, "nobody reads it");
        inodes.pin(old, &file).unwrap();
        inodes.part(old);
        let new = count(&inodes, Ino::ROOT, &file);
        assert_ne!(new, old);
        assert_eq!(count(&inodes, Ino::ROOT, &file), new);
        assert!(
            inodes.pin(old, &file).is_none(),
            "it did not come by the name"
        );
        // What is written there has no version, and is found by the name all the same.
        inodes.pin_local(new, &file).unwrap();
        assert_eq!(inodes.count(Ino::ROOT, &file, None).unwrap().0, new);
        inodes.unpin(new);
        inodes.forget(new, 9);
        assert_ne!(inodes.count(Ino::ROOT, &file, None).unwrap().0, old);
        inodes.forget(old, 9);
        assert!(inodes.node(old).is_some_and(|node| node.is_parted));
        inodes.unpin(old);
        assert!(inodes.node(old).is_none());
    }

    #[test]
    fn what_handles_wrote_is_the_version_of_its_name_once_that_is_said() {
        let inodes = inodes();
        let before = file("f", "file");
        let ino = count(&inodes, Ino::ROOT, &before);
        inodes.pin(ino, &before).unwrap();
        inodes.fill_pages(ino);
        inodes.soil(ino);
        let after = Arc::new(Entry {
            size_bytes: 9,
            entity: crate::model::EntityId("second".into()),
            ..(*before).clone()
        });
        inodes.repin(ino, &after);
        assert_eq!(count(&inodes, Ino::ROOT, &after), ino);
        let (version, keeps_pages) = inodes.pin(ino, &after).unwrap();
        assert_eq!((&version, keeps_pages), (&after, false));
    }
}
