//! One complete listing of a folder: never changed, shared by all who look at it.

use std::ffi::OsStr;
use std::sync::{Arc, OnceLock};

use crate::entry::Entry;
use crate::model::FileId;

/// A folder's entries, all of them, in the order in which they are shown.
#[derive(Debug)]
pub struct Listing {
    entries: Box<[Arc<Entry>]>,
    /// Indices into `entries`, by name.
    by_name: Box<[u32]>,
    /// Indices into `entries`, by id; made when somebody asks.
    by_id: OnceLock<Box<[u32]>>,
    version: u64,
    flat: bool,
}

impl Listing {
    /// A listing of `entries`, whose names differ. `version` is new, or that of a listing with the same names in the
    /// same order. In a `flat` one nothing can be asked for by name.
    pub fn new(entries: Vec<Arc<Entry>>, version: u64, flat: bool) -> Self {
        let by_name = sorted(&entries, |entry| &entry.name);
        Self {
            entries: entries.into(),
            by_name,
            by_id: OnceLock::new(),
            version,
            flat,
        }
    }

    /// The entries, in the order in which they are shown.
    pub fn entries(&self) -> &[Arc<Entry>] {
        &self.entries
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether the folder is empty.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Tells listings with different names, ids or order apart; never 0.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Whether the server answers for the folder's entries only by listing them.
    pub fn is_flat(&self) -> bool {
        self.flat
    }

    /// The entry called `name`.
    pub fn get(&self, name: &OsStr) -> Option<&Arc<Entry>> {
        self.index_of(name).map(|index| &self.entries[index])
    }

    /// Where the entry called `name` is among the entries.
    pub fn index_of(&self, name: &OsStr) -> Option<usize> {
        let at = |index: &u32| &self.entries[*index as usize];
        let found = self
            .by_name
            .binary_search_by(|index| (*at(index).name).cmp(name));
        found.ok().map(|found| self.by_name[found] as usize)
    }

    /// The entry with that id.
    pub fn by_id(&self, id: &FileId) -> Option<&Arc<Entry>> {
        let by_id = self
            .by_id
            .get_or_init(|| sorted(&self.entries, |entry| &entry.id));
        let at = |index: &u32| &self.entries[*index as usize];
        let found = by_id.binary_search_by(|index| at(index).id.cmp(id));
        found.ok().map(|found| at(&by_id[found]))
    }

    /// What `entry`, known from before, is now: under its name, or under another.
    pub fn find(&self, entry: &Entry) -> Option<&Arc<Entry>> {
        match self.get(&entry.name) {
            Some(found) if found.id == entry.id => Some(found),
            _ => self.by_id(&entry.id),
        }
    }

    /// Whether readdir(3) would show the same for `entries`.
    pub fn shows(&self, entries: &[Arc<Entry>]) -> bool {
        let same = |(a, b): (&Arc<Entry>, &Arc<Entry>)| {
            a.id == b.id && a.name == b.name && a.kind == b.kind
        };
        self.entries.len() == entries.len() && self.entries.iter().zip(entries).all(same)
    }
}

fn sorted<'a, K: Ord + ?Sized + 'a>(
    entries: &'a [Arc<Entry>],
    key: impl Fn(&'a Entry) -> &'a K,
) -> Box<[u32]> {
    let mut order: Box<[u32]> = (0..entries.len() as u32).collect();
    // Stable, because that is quick where runs of them are in order already.
    order.sort_by(|a, b| key(&entries[*a as usize]).cmp(key(&entries[*b as usize])));
    order
}
