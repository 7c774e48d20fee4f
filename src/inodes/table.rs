//! The table behind the inodes: what each number stands for, what holds it, and which numbers a file has.
//!
//! A file has one number as long as its versions are open one at a time. It may have several while more are; its name
//! stands for the last one then, and what is newly said of the file is noted of all.

use std::collections::HashMap;
use std::collections::hash_map::Entry as Place;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;

use super::{Ino, Node, Version};
use crate::entry::{Entry, FileKey, StableHash, Tree};
use crate::model::{FileId, FileKind};

/// All inodes by number.
#[derive(Debug)]
pub(super) struct Table {
    pub(super) slots: HashMap<Ino, Slot, BuildHasherDefault<Spread>>,
    /// Files that have, or had lately, another number than their own: all they have in the table, that of the name last.
    pub(super) numbers: HashMap<FileKey, Vec<Ino>>,
}

/// Hashes numbers, which are hashes already, by spreading them once more: neighbours, as clashes make them, too.
#[derive(Debug, Default)]
pub(super) struct Spread(u64);

impl Hasher for Spread {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }

    fn write_u64(&mut self, number: u64) {
        let spread = u128::from(self.0 ^ number) * 0x9e37_79b9_7f4a_7c15;
        self.0 = (spread >> 64) as u64 ^ spread as u64;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// What one number stands for, and what holds it.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) tree: Tree,
    pub(super) parent: Ino,
    pub(super) entry: Arc<Entry>,
    pub(super) lookups: u64,
    /// Inodes that name this one as their parent.
    pub(super) children: u64,
    pub(super) pin: Option<Box<Pin>>,
    /// What the kernel was told last of its size; none where that is not the size of any version.
    pub(super) told: Option<Arc<Entry>>,
    /// Of which version the kernel's pages are.
    pub(super) pages: Option<Arc<Entry>>,
    /// Version of the listing that was last shown.
    pub(super) listing: u64,
}

/// The version that open handles pin.
#[derive(Debug)]
pub(super) struct Pin {
    pub(super) version: Arc<Entry>,
    /// Never 0.
    pub(super) handles: u64,
    /// An open was sent back to the file's name, which nobody has looked up since.
    pub(super) sent_back: bool,
    /// The name leads elsewhere while this is pinned, whatever version it shows.
    pub(super) is_parted: bool,
}

impl Pin {
    /// `version`, of which no handle is counted yet.
    pub(super) fn new(version: &Arc<Entry>) -> Box<Self> {
        Box::new(Self {
            version: Arc::clone(version),
            handles: 0,
            sent_back: false,
            is_parted: false,
        })
    }
}

impl Slot {
    pub(super) fn new(tree: Tree, parent: Ino, entry: Arc<Entry>) -> Self {
        Self {
            tree,
            parent,
            entry,
            lookups: 0,
            children: 0,
            pin: None,
            told: None,
            pages: None,
            listing: 0,
        }
    }

    pub(super) fn node(&self) -> Node {
        Node {
            parent: self.parent,
            entry: Arc::clone(&self.entry),
            tree: self.tree,
            pinned: self.pinned(),
            is_parted: self.pin.as_ref().is_some_and(|pin| pin.is_parted),
        }
    }

    pub(super) fn tree_below(&self) -> Tree {
        match self.entry.shortcut {
            Some(_) if self.entry.kind == FileKind::Folder => self.tree.behind(&self.entry.id),
            _ => self.tree,
        }
    }

    pub(super) fn pinned(&self) -> Option<Version> {
        self.pin.as_ref().map(|pin| Version::of(&pin.version))
    }

    /// Whether it can show `version`; none is an unknown one.
    fn can_show(&self, version: Option<&Arc<Entry>>) -> bool {
        match (&self.pin, version) {
            (Some(pin), _) if pin.is_parted => false,
            (Some(pin), Some(version)) => is_same_version(&pin.version, version),
            _ => true,
        }
    }

    /// Notes what the kernel is told, which is always the pinned version where there is one.
    pub(super) fn tell(&mut self, shown: Option<&Arc<Entry>>) -> Option<Version> {
        if self.pin.is_none() {
            self.told = shown.cloned();
        }
        self.pinned()
    }

    pub(super) fn key(&self) -> FileKey {
        FileKey {
            tree: self.tree,
            id: self.entry.id.clone(),
        }
    }

    fn is(&self, tree: Tree, id: &FileId) -> bool {
        self.tree == tree && self.entry.id == *id
    }

    fn is_held(&self) -> bool {
        self.lookups > 0 || self.children > 0 || self.pin.is_some()
    }
}

impl Table {
    /// The number under which a file is known as `shown`, or would be: the one that it has, its own one, or, while both
    /// are taken, one of that version.
    pub(super) fn number(
        &self,
        site: StableHash,
        tree: Tree,
        id: &FileId,
        shown: Option<&Arc<Entry>>,
    ) -> Ino {
        if let Some(ino) = self.numbers_of(tree, id).last()
            && self.slots.get(ino).is_some_and(|slot| slot.can_show(shown))
        {
            return *ino;
        }
        let own = self.free_from(own_number(site, tree, id), |slot| slot.is(tree, id));
        match (self.slots.get(&own), shown) {
            (Some(slot), Some(version)) if !slot.can_show(shown) => {
                let number = version_number(site, tree, version, id);
                self.free_from(number, |slot| slot.is(tree, id) && slot.can_show(shown))
            }
            (Some(slot), None) if !slot.can_show(None) => self
                .free_from(own.0.wrapping_add(1), |slot| {
                    slot.is(tree, id) && slot.can_show(None)
                }),
            _ => own,
        }
    }

    /// Whether `ino` stands for the file `id`.
    pub(super) fn is_of(&self, ino: Ino, tree: Tree, id: &FileId) -> bool {
        self.slots.get(&ino).is_some_and(|slot| slot.is(tree, id))
    }

    /// Counts `entry`, met in `parent` and shown as `shown`, under its own number, if nothing is special about it: no
    /// file has another number than its own, nobody has it open, and it is new or lies where it lay.
    pub(super) fn count_plainly(
        &mut self,
        own: Ino,
        (tree, parent): (Tree, Ino),
        entry: &Arc<Entry>,
        shown: Option<&Arc<Entry>>,
    ) -> bool {
        if !self.numbers.is_empty() || own <= Ino::ROOT {
            return false;
        }
        let is_new = match self.slots.entry(own) {
            Place::Vacant(place) => {
                let mut slot = Slot::new(tree, parent, Arc::clone(entry));
                slot.lookups = 1;
                slot.told = shown.cloned();
                place.insert(slot);
                true
            }
            Place::Occupied(place) => {
                let slot = place.into_mut();
                if !slot.is(tree, &entry.id) || slot.pin.is_some() || slot.parent != parent {
                    return false;
                }
                slot.entry = Arc::clone(entry);
                slot.lookups += 1;
                slot.told = shown.cloned();
                false
            }
        };
        if is_new && let Some(parent) = self.slots.get_mut(&parent) {
            parent.children += 1;
        }
        true
    }

    /// The first number from `number` on that no slot has but one that `fits`. 0 and 1 mean something to the kernel.
    fn free_from(&self, mut number: u64, fits: impl Fn(&Slot) -> bool) -> Ino {
        while number <= Ino::ROOT.0 || self.slots.get(&Ino(number)).is_some_and(|slot| !fits(slot))
        {
            number = number.wrapping_add(1);
        }
        Ino(number)
    }

    /// All numbers of a file that has another one than its own; none of each other file.
    fn numbers_of(&self, tree: Tree, id: &FileId) -> &[Ino] {
        if self.numbers.is_empty() {
            return &[];
        }
        let id = id.clone();
        let all = self.numbers.get(&FileKey { tree, id });
        all.map_or(&[], Vec::as_slice)
    }

    /// All numbers of the file that `ino` stands for.
    pub(super) fn all_of(&self, ino: Ino) -> Vec<Ino> {
        let slot = self.slots.get(&ino);
        let all = slot.map_or(&[][..], |slot| self.numbers_of(slot.tree, &slot.entry.id));
        if all.is_empty() {
            return vec![ino];
        }
        all.to_vec()
    }

    /// Adds `slot` under `ino`, which [`Table::number`] gave.
    pub(super) fn insert(&mut self, site: StableHash, ino: Ino, slot: Slot) {
        let (tree, id) = (slot.tree, &slot.entry.id);
        let own = Ino(own_number(site, tree, id));
        if own != ino || !self.numbers_of(tree, id).is_empty() {
            let before = self.slots.get(&own).filter(|before| before.is(tree, id));
            let before = before.map(|_| own);
            let all = self.numbers.entry(slot.key());
            let all = all.or_insert_with(|| before.into_iter().collect());
            all.push(ino);
            self.forget_shown(slot.parent);
        }
        if let Some(parent) = self.slots.get_mut(&slot.parent) {
            parent.children += 1;
        }
        self.slots.insert(ino, slot);
    }

    /// Notes that the file of `ino` was met in `parent` as `entry`, and that its name stands for `ino` now.
    pub(super) fn place(&mut self, ino: Ino, parent: Ino, entry: &Arc<Entry>) {
        let all = self.all_of(ino);
        if all.last() != Some(&ino) {
            let key = self.slots.get(&ino).map(Slot::key);
            if let Some(all) = key.and_then(|key| self.numbers.get_mut(&key)) {
                all.retain(|other| *other != ino);
                all.push(ino);
            }
            self.forget_shown(parent);
        }
        for ino in all {
            self.put(ino, parent, entry);
            if let Some(pin) = self.slots.get_mut(&ino).and_then(|slot| slot.pin.as_mut()) {
                pin.sent_back = false;
            }
        }
    }

    /// The number that the name of a file stands for.
    pub(super) fn find(&self, site: StableHash, key: &FileKey) -> Option<Ino> {
        self.all_by_key(site, key).last().copied()
    }

    /// All numbers of a file, that of its name last; those that stand for nothing left out.
    pub(super) fn all_by_key(&self, site: StableHash, key: &FileKey) -> Vec<Ino> {
        let all = self.numbers_of(key.tree, &key.id);
        if !all.is_empty() {
            return all.to_vec();
        }
        let own = self.free_from(own_number(site, key.tree, &key.id), |slot| {
            slot.is(key.tree, &key.id)
        });
        self.slots
            .contains_key(&own)
            .then_some(own)
            .into_iter()
            .collect()
    }

    /// All numbers of `key` are of the file `entry` from now on, and its name stands for the last of them.
    pub(super) fn rekey(&mut self, site: StableHash, key: &FileKey, entry: &Arc<Entry>) {
        let inos = self.all_by_key(site, key);
        let is_other = key.id != entry.id;
        let new = FileKey {
            tree: key.tree,
            id: entry.id.clone(),
        };
        if is_other && !inos.is_empty() {
            let mut all = self.all_by_key(site, &new);
            all.extend(&inos);
            self.numbers.remove(key);
            self.numbers.insert(new, all);
        }
        for ino in inos {
            let Some(slot) = self.slots.get_mut(&ino) else {
                continue;
            };
            slot.entry = Arc::clone(entry);
            // The kernel has the size right, and need not be sent back to the name.
            if slot
                .told
                .as_ref()
                .is_some_and(|told| told.size_bytes == entry.size_bytes)
                && slot.pin.is_none()
            {
                slot.told = Some(Arc::clone(entry));
            }
            if is_other {
                let parent = slot.parent;
                self.forget_shown(parent);
            }
        }
    }

    pub(super) fn put(&mut self, ino: Ino, parent: Ino, entry: &Arc<Entry>) {
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

    /// A number in `folder` is another by now, and the kernel remembers folders with the numbers in them.
    fn forget_shown(&mut self, folder: Ino) {
        if let Some(slot) = self.slots.get_mut(&folder) {
            slot.listing = 0;
        }
    }

    /// `ino`, whose slot was `slot`, is a number of its file no more.
    fn drop_number(&mut self, ino: Ino, slot: &Slot) {
        if self.numbers.is_empty() {
            return;
        }
        let key = slot.key();
        let Some(all) = self.numbers.get_mut(&key) else {
            return;
        };
        all.retain(|other| *other != ino);
        if all.is_empty() {
            self.numbers.remove(&key);
        }
        self.forget_shown(slot.parent);
    }

    fn drop_child_of(&mut self, parent: Ino) {
        if let Some(slot) = self.slots.get_mut(&parent) {
            slot.children = slot.children.saturating_sub(1);
            self.drop_unheld(parent);
        }
    }

    /// Drops `ino` if nothing holds it, and the folders above that only it held.
    pub(super) fn drop_unheld(&mut self, ino: Ino) {
        let mut at = ino;
        while at != Ino::ROOT && self.slots.get(&at).is_some_and(|slot| !slot.is_held()) {
            let Some(slot) = self.slots.remove(&at) else {
                return;
            };
            self.drop_number(at, &slot);
            at = slot.parent;
            if let Some(parent) = self.slots.get_mut(&at) {
                parent.children = parent.children.saturating_sub(1);
            }
        }
    }
}

/// The number of a file, if nothing has it yet.
pub(super) fn own_number(site: StableHash, tree: Tree, id: &FileId) -> u64 {
    site.with(&tree.number().to_le_bytes())
        .with(id.0.as_bytes())
        .finish()
}

/// The number of a version, while the file's own shows another one.
fn version_number(site: StableHash, tree: Tree, version: &Entry, id: &FileId) -> u64 {
    site.with(&tree.number().to_le_bytes())
        .with(id.0.as_bytes())
        .with(version.entity.0.as_bytes())
        .finish()
}

/// Whether two entries of a file are of one content.
pub(super) fn is_same_version(a: &Entry, b: &Entry) -> bool {
    a.entity == b.entity && a.size_bytes == b.size_bytes
}
