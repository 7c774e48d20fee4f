//! Sweeps: programs that read a folder's files one after the other.
//!
//! Three opens of files of one folder, each a little further on in one of its orders, are a sweep; it ends with an open
//! elsewhere in that folder, or after some seconds of silence. Files left out on the way (a glob passes over them) do
//! not end it, and their kind is not expected any more. A sweep that goes on into a folder that nobody read before is
//! recognised there at the first file.
//!
//! What is expected of the next files is what was done with the last ones: whose files are read to the end gets whole
//! files, who looks at their beginnings gets beginnings, and who reads nothing from us - since the kernel has the pages -
//! gets nothing. Pure logic: asks nobody, and instants come in as arguments.

mod order;

use std::collections::{HashSet, VecDeque};
use std::ffi::OsStr;
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use lru::LruCache;

use crate::entry::{Entry, FileKey};
use crate::metadata::Listing;
use order::{Numbers, Orders, WAYS, Way};

/// Opens in order that make a sweep.
const OPENS: usize = 3;

/// Files that may be left out between two opens.
const GAP: usize = 4;

/// Files looked through for the next one that is not of a kind that is left out.
const FAR: usize = 64;

/// After so long without an open a sweep is over.
const SILENCE: Duration = Duration::from_secs(10);

/// So soon after an open in another folder a sweep has gone on into this one.
const RECURSION: Duration = Duration::from_secs(2);

/// Folders that are watched at once.
const FOLDERS: NonZeroUsize = NonZeroUsize::new(8).unwrap();

/// Files at the beginning of a sweep of which the next are given, and after that.
const FIRST_HANDED: usize = 32;
const HANDED: usize = 96;

/// The next files are given when no more than so many are left.
const HANDED_LOW: usize = 64;

/// Opens from which it is seen how much of a file is read.
const SEEN: usize = 8;

/// Larger files are not fetched whole: on a link of 400 Mbit/s the bytes of 1 MiB take 20 ms, so that of larger ones a
/// round trip is the lesser part, and reading ahead within the file hides the rest.
const SMALL_BYTES: u64 = 1 << 20;

/// One file that was opened.
pub(super) struct Opening<'a> {
    /// Its folder.
    pub(super) folder: &'a FileKey,
    /// The folder's last listing.
    pub(super) listing: &'a Arc<Listing>,
    /// The file's place there.
    pub(super) index: usize,
    /// What is asked of it from now on, in bytes; none where nothing can be learnt of that.
    pub(super) read_bytes: Option<Arc<AtomicU64>>,
    /// The inode numbers that the folder's entries have or would get.
    pub(super) numbers: Numbers<'a>,
    pub(super) now: Instant,
}

/// A file that will be opened.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Coming {
    pub(super) entry: Arc<Entry>,
    /// Bytes that will be read from its beginning.
    pub(super) bytes: u64,
}

/// The sweeps of a drive. `A` is what fetches ahead for one; its drop ends that.
pub(super) struct Sweeps<A> {
    folders: LruCache<FileKey, Folder<A>>,
    /// The folder that was swept last, how, and when.
    last: Option<(FileKey, Way, Instant)>,
}

struct Folder<A> {
    orders: Orders,
    /// The newest opens, oldest first; those of the folder before where a sweep came from there.
    opens: VecDeque<Open>,
    sweep: Option<Sweep<A>>,
    active: Instant,
}

#[derive(Clone)]
struct Open {
    entry: Arc<Entry>,
    read_bytes: Option<Arc<AtomicU64>>,
}

struct Sweep<A> {
    way: Way,
    /// The newest file's place in that order.
    at: usize,
    /// Files before this place were given.
    handed: usize,
    /// Files were given before.
    has_handed: bool,
    left_out: LeftOut,
    ahead: A,
}

/// How much of its files a sweep reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Depth {
    Whole,
    /// So many bytes from the beginning.
    Head(u64),
}

impl<A: Clone> Sweeps<A> {
    /// Nothing was opened yet.
    pub(super) fn new() -> Self {
        Self {
            folders: LruCache::new(FOLDERS),
            last: None,
        }
    }

    /// Takes note of an open. Gives the files to fetch ahead now, and what fetches them, which `begin` makes.
    pub(super) fn opened(
        &mut self,
        opening: &Opening<'_>,
        begin: impl FnOnce() -> A,
    ) -> Option<(A, Vec<Coming>)> {
        self.forget_silent(opening.now);
        let came_from = self.came_from(opening);
        let new = || Folder::of(opening);
        let folder = self.folders.get_or_insert_mut_ref(opening.folder, new);
        if !folder.note(opening) {
            return None;
        }
        if folder.sweep.is_some() {
            folder.advance(opening);
        } else if let Some((way, opens)) = came_from {
            folder.begin_at_once(way, opens, opening, begin);
        } else {
            folder.recognise(opening, begin);
        }
        let sweep = folder.sweep.as_ref()?;
        self.last = Some((opening.folder.clone(), sweep.way, opening.now));
        folder.next()
    }

    fn forget_silent(&mut self, now: Instant) {
        let is_silent = |folder: &Folder<A>| now.saturating_duration_since(folder.active) > SILENCE;
        while let Some((_, folder)) = self.folders.peek_lru()
            && is_silent(folder)
        {
            self.folders.pop_lru();
        }
    }

    /// The sweep that may just have gone on into this folder, of which nothing was opened before: how it went, and what
    /// it opened.
    fn came_from(&self, opening: &Opening<'_>) -> Option<(Way, VecDeque<Open>)> {
        let (folder, way, at) = self.last.as_ref()?;
        let is_fresh = opening.now.saturating_duration_since(*at) <= RECURSION;
        if !is_fresh || self.folders.contains(opening.folder) {
            return None;
        }
        Some((*way, self.folders.peek(folder)?.opens.clone()))
    }
}

impl<A: Clone> Folder<A> {
    fn of(opening: &Opening<'_>) -> Self {
        Self {
            orders: Orders::of(opening.listing),
            opens: VecDeque::new(),
            sweep: None,
            active: opening.now,
        }
    }

    /// Remembers an open. False where it is the same file again.
    fn note(&mut self, opening: &Opening<'_>) -> bool {
        self.active = opening.now;
        let before = self.opens.back().map(|open| Arc::clone(&open.entry));
        if self.orders.follow(opening.listing) {
            self.find_place(before.as_deref(), opening);
        }
        let entry = self.orders.entry(opening.index);
        if before.is_some_and(|before| before.id == entry.id) {
            return false;
        }
        self.opens.push_back(Open {
            entry: Arc::clone(entry),
            read_bytes: opening.read_bytes.clone(),
        });
        if self.opens.len() > SEEN {
            self.opens.pop_front();
        }
        true
    }

    /// Places mean other files than before: the sweep goes on from its newest file, if that is still there.
    fn find_place(&mut self, newest: Option<&Entry>, opening: &Opening<'_>) {
        let index = newest.and_then(|newest| self.orders.index_of(&newest.name));
        self.sweep = self.sweep.take().zip(index).map(|(mut sweep, index)| {
            sweep.at = self.orders.place(sweep.way, index, opening.numbers);
            sweep.handed = sweep.at + 1;
            sweep
        });
    }

    /// The sweep has come to the newest file, or ends there.
    fn advance(&mut self, opening: &Opening<'_>) {
        let Some(sweep) = &mut self.sweep else {
            return;
        };
        let place = self.orders.place(sweep.way, opening.index, opening.numbers);
        if !sweep.go_to(place, &self.orders) {
            self.sweep = None;
            self.opens.drain(..self.opens.len() - 1);
        }
    }

    /// A sweep of another folder goes on here, if this is the first file.
    fn begin_at_once(
        &mut self,
        way: Way,
        mut opens: VecDeque<Open>,
        opening: &Opening<'_>,
        begin: impl FnOnce() -> A,
    ) {
        if self.orders.place(way, opening.index, opening.numbers) > GAP {
            return;
        }
        opens.append(&mut self.opens);
        self.opens = opens;
        if self.opens.len() > SEEN {
            self.opens.pop_front();
        }
        self.sweep = Some(Sweep::new(way, 0, begin()));
        self.advance(opening);
    }

    /// Whether the last opens are a sweep.
    fn recognise(&mut self, opening: &Opening<'_>, begin: impl FnOnce() -> A) {
        let Some(first) = self.opens.len().checked_sub(OPENS) else {
            return;
        };
        let opens = self.opens.range(first..);
        let indices: Option<Vec<usize>> = opens
            .map(|open| self.orders.index_of(&open.entry.name))
            .collect();
        let Some(indices) = indices else { return };
        for way in WAYS {
            if !self.orders.is_ascending(way, &indices, opening.numbers) {
                continue;
            }
            let places = indices.iter();
            let places: Vec<usize> = places
                .map(|index| self.orders.place(way, *index, opening.numbers))
                .collect();
            if places
                .windows(2)
                .all(|pair| pair[1].abs_diff(pair[0]) <= GAP + 1)
            {
                let mut sweep = Sweep::new(way, places[0], begin());
                for place in &places[1..] {
                    sweep.go_to(*place, &self.orders);
                }
                self.sweep = Some(sweep);
                return;
            }
        }
    }

    /// The files to give now, if it is time to.
    fn next(&mut self) -> Option<(A, Vec<Coming>)> {
        let depth = self.depth()?;
        let sweep = self.sweep.as_mut()?;
        let from = sweep.handed.max(sweep.at + 1);
        if sweep.has_handed && from - sweep.at > HANDED_LOW {
            return None;
        }
        let to = sweep.at
            + 1
            + if sweep.has_handed {
                HANDED
            } else {
                FIRST_HANDED
            };
        let mut coming = Vec::new();
        let mut place = from;
        while place < to
            && let Some((entry, is_after_folder)) = self.orders.at(sweep.way, place)
            // Who goes into folders will come back here later, if ever.
            && !is_after_folder
        {
            let is_plain = entry.shortcut.is_none() && entry.size_bytes > 0;
            if is_plain && !sweep.left_out.has(&entry.name) {
                coming.push(Coming {
                    bytes: depth.bytes(entry.size_bytes),
                    entry: Arc::clone(entry),
                });
            }
            place += 1;
        }
        sweep.handed = place;
        sweep.has_handed |= !coming.is_empty();
        (!coming.is_empty()).then(|| (sweep.ahead.clone(), coming))
    }

    /// How much of the files opened before the newest was asked for; none where nothing was, or nothing is known.
    fn depth(&self) -> Option<Depth> {
        let (mut files, mut whole, mut most) = (0, 0, 0);
        for open in self.opens.iter().rev().skip(1) {
            let size_bytes = open.entry.size_bytes;
            let Some(read_bytes) = open.read_bytes.as_ref().filter(|_| size_bytes > 0) else {
                continue;
            };
            let read_bytes = read_bytes.load(Ordering::Relaxed);
            files += 1;
            whole += u32::from(read_bytes >= size_bytes / 2 && read_bytes > 0);
            most = most.max(read_bytes);
        }
        match whole * 2 >= files {
            _ if most == 0 => None,
            true => Some(Depth::Whole),
            false => Some(Depth::Head(most)),
        }
    }
}

impl<A> Sweep<A> {
    fn new(way: Way, at: usize, ahead: A) -> Self {
        Self {
            way,
            at,
            handed: at + 1,
            has_handed: false,
            left_out: LeftOut::default(),
            ahead,
        }
    }

    /// Whether the file at `place` is in order; the sweep has come there then.
    fn go_to(&mut self, place: usize, orders: &Orders) -> bool {
        if place <= self.at {
            // Programs that read several at once do not keep to the order in small things.
            return self.at - place <= GAP;
        }
        if place - self.at > FAR {
            return false;
        }
        let between = (self.at + 1..place).filter_map(|place| orders.at(self.way, place));
        let names: Vec<&OsStr> = between.map(|(entry, _)| &*entry.name).collect();
        let unknown = names.iter().filter(|name| !self.left_out.has(name));
        if unknown.count() > GAP {
            return false;
        }
        for name in names {
            self.left_out.add(name);
        }
        if let Some((entry, _)) = orders.at(self.way, place) {
            self.left_out.take_back(&entry.name);
        }
        self.at = place;
        true
    }
}

impl Depth {
    fn bytes(self, size_bytes: u64) -> u64 {
        match self {
            Self::Whole if size_bytes > SMALL_BYTES => 0,
            Self::Whole => size_bytes,
            Self::Head(bytes) => bytes.min(size_bytes).min(SMALL_BYTES),
        }
    }
}

/// The endings of names that a sweep passes over, as `*.jpg` does with all others.
#[derive(Debug, Default)]
struct LeftOut(HashSet<Box<OsStr>>);

impl LeftOut {
    fn has(&self, name: &OsStr) -> bool {
        self.0.contains(ending(name))
    }

    fn add(&mut self, name: &OsStr) {
        if self.0.len() < FAR {
            self.0.insert(ending(name).into());
        }
    }

    fn take_back(&mut self, name: &OsStr) {
        self.0.remove(ending(name));
    }
}

fn ending(name: &OsStr) -> &OsStr {
    Path::new(name).extension().unwrap_or_default()
}

#[cfg(test)]
mod tests;
