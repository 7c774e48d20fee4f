//! The orders in which programs read a folder's files.
//!
//! tar(1), grep(1) and find(1) take them as readdir(3) shows them; cp(1), and fts(3) in large folders, by inode number;
//! the shell's globs and rsync(1) by name, in the order of bytes or in that of the user's language.

use std::cmp::Ordering;
use std::ffi::OsStr;
use std::sync::Arc;

use crate::entry::Entry;
use crate::metadata::Listing;
use crate::model::FileKind;

/// One of the orders.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// As readdir(3) shows them.
    Shown,
    /// By inode number.
    Number,
    /// By name, in the order of bytes.
    Name,
    /// By name, upper and lower case alike: what languages order like, nearly. Where one differs, a sweep begins anew.
    Folded,
}

/// All of them, the likeliest first.
pub(super) const WAYS: [Way; 4] = [Way::Shown, Way::Number, Way::Name, Way::Folded];

/// Set in a sequence where a folder comes before the file.
const AFTER_FOLDER: u32 = 1 << 31;

/// The inode number of an entry.
pub(super) type Numbers<'a> = &'a dyn Fn(&Arc<Entry>) -> u64;

/// One folder's files in each order, as far as somebody wanted to know.
pub(super) struct Orders {
    listing: Arc<Listing>,
    /// Indices into the listing.
    sequences: [Option<Box<[u32]>>; WAYS.len()],
}

impl Orders {
    pub(super) fn of(listing: &Arc<Listing>) -> Self {
        Self {
            listing: Arc::clone(listing),
            sequences: Default::default(),
        }
    }

    /// The folder was listed anew. Whether places in the orders mean other files now.
    pub(super) fn follow(&mut self, listing: &Arc<Listing>) -> bool {
        let is_other = self.listing.version() != listing.version();
        self.listing = Arc::clone(listing);
        if is_other {
            self.sequences = Default::default();
        }
        is_other
    }

    /// The entry at `index` of the listing.
    pub(super) fn entry(&self, index: usize) -> &Arc<Entry> {
        &self.listing.entries()[index]
    }

    /// Where the file `name` is in the listing.
    pub(super) fn index_of(&self, name: &OsStr) -> Option<usize> {
        self.listing.index_of(name)
    }

    /// Whether the files at these indices come one after the other.
    pub(super) fn is_ascending(&self, way: Way, indices: &[usize], numbers: Numbers<'_>) -> bool {
        let is_less = |pair: &[usize]| self.compare(way, pair[0], pair[1], numbers).is_lt();
        indices.windows(2).all(is_less)
    }

    /// The place of the file at `index` of the listing.
    pub(super) fn place(&mut self, way: Way, index: usize, numbers: Numbers<'_>) -> usize {
        self.arrange(way, numbers);
        let is_before = |&other: &u32| self.compare(way, unmarked(other), index, numbers).is_lt();
        self.sequence(way).partition_point(is_before)
    }

    /// The file at `place`, and whether a folder comes before it that a program may go into first; none behind the end,
    /// and before anybody asked for a place.
    pub(super) fn at(&self, way: Way, place: usize) -> Option<(&Arc<Entry>, bool)> {
        let file = *self.sequence(way).get(place)?;
        Some((self.entry(unmarked(file)), file & AFTER_FOLDER != 0))
    }

    fn sequence(&self, way: Way) -> &[u32] {
        self.sequences[way as usize].as_deref().unwrap_or_default()
    }

    fn arrange(&mut self, way: Way, numbers: Numbers<'_>) {
        if self.sequences[way as usize].is_some() {
            return;
        }
        let mut all: Vec<u32> = (0..self.listing.len() as u32).collect();
        let entry = |index: &u32| self.entry(*index as usize);
        match way {
            Way::Shown => {}
            Way::Number => all.sort_by_cached_key(|index| numbers(entry(index))),
            Way::Name => all.sort_unstable_by(|a, b| entry(a).name.cmp(&entry(b).name)),
            Way::Folded => all.sort_by_cached_key(|index| {
                let name = &entry(index).name;
                (folded(name), name.clone())
            }),
        }
        // A glob's files come all before its folders, if those are gone into at all.
        let goes_into_folders = matches!(way, Way::Shown | Way::Number);
        let mut mark = 0;
        let mut files = Vec::with_capacity(all.len());
        for index in all {
            match entry(&index).kind {
                FileKind::File => files.push(index | std::mem::take(&mut mark)),
                FileKind::Folder if goes_into_folders => mark = AFTER_FOLDER,
                FileKind::Folder => {}
            }
        }
        self.sequences[way as usize] = Some(files.into());
    }

    fn compare(&self, way: Way, a: usize, b: usize, numbers: Numbers<'_>) -> Ordering {
        let (one, other) = (self.entry(a), self.entry(b));
        match way {
            Way::Shown => a.cmp(&b),
            Way::Number => numbers(one).cmp(&numbers(other)),
            Way::Name => one.name.cmp(&other.name),
            Way::Folded => folded(&one.name)
                .cmp(&folded(&other.name))
                .then_with(|| one.name.cmp(&other.name)),
        }
    }
}

fn unmarked(file: u32) -> usize {
    (file & !AFTER_FOLDER) as usize
}

fn folded(name: &OsStr) -> String {
    name.to_string_lossy().to_lowercase()
}
