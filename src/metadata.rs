//! Metadata: what the server last said of folders and the names in them, and until when that is believed.
//!
//! Kept by folder: its last complete listing, and what was said of single names since. The newer of the two counts. In
//! a complete listing that is still believed, a name that is not there does not exist, and nobody need ask. What is no
//! longer believed stays until there is no room, for it tells what *was* known: nothing known is taken for deleted
//! because a listing lacks it. Folders go as a whole, the one unused for the longest first.
//!
//! What we changed ourselves ([`Metadata::change_name`]) is as good as an answer of the moment when the server confirmed
//! it: a listing that was asked for before cannot undo it, and one that is believed stays so, for the two are read
//! together ([`Metadata::changes`]). A folder of many entries is not listed anew for each name that we add.
//!
//! Never asks the server, and knows no inodes. Instants are those *before* a request was sent, so an answer is as old
//! as the oldest moment that it can speak of.

mod snapshot;
mod store;
pub use snapshot::Listing;
pub use store::{Kept, Room, Store, clear};

use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use lru::LruCache;

use crate::entry::{Entry, FileKey};
use crate::model::FileKind;
use crate::reach::Reach;

/// Listings that nobody waits for take the server no more of its time than one in so many parts (→ design §6.5).
const LISTINGS_APART: u32 = 100;

/// How long the kernel believes names and attributes at most (→ design §6.5): who uses a folder asks us for something of it at
/// least so often.
pub const KERNEL_TTL: Duration = Duration::from_secs(15);

/// How long what cannot be asked for is believed at a time: what the server says shows soon after it is back.
const MOMENT: Duration = Duration::from_secs(1);

/// Names of one folder that are known apart from its listing; when there are more, the old ones go.
const SINGLE_NAMES_MAX: usize = 4096;

/// Something that is believed for some time yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Belief<T> {
    /// What.
    pub what: T,
    /// For how long.
    pub left: Duration,
}

/// What is believed of a file that was met before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Known {
    /// It is in its folder, and looks like this now.
    Here(Belief<Arc<Entry>>),
    /// The server said that it is not there any more.
    Gone,
    /// A complete listing lacks it, which is no proof.
    Missed,
    /// Nothing is believed.
    Unknown,
}

/// A question about one name of a folder that nothing believed answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Question {
    /// Entries that the folder had when it was listed last; none where it never was.
    pub entries: Option<usize>,
    /// How many such questions there were since then, this one included.
    pub asked: u32,
}

/// The cache of metadata.
#[derive(Debug)]
pub struct Metadata {
    ttl: Duration,
    entries_max: usize,
    reach: Reach,
    /// Somebody keeps what is known.
    is_kept: bool,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    folders: LruCache<FileKey, Folder>,
    entries: usize,
    /// Listed folders of which something else is known than was kept of them.
    unkept: HashSet<FileKey>,
    /// When others were told to have changed something somewhere.
    others_changed: Option<Instant>,
}

#[derive(Debug, Default)]
struct Folder {
    listing: Option<Listed>,
    names: HashMap<Box<OsStr>, Single>,
    /// How many of `names` are our own changes, newer than the listing.
    own: usize,
    /// Some of those are not in the listing yet.
    unfolded: bool,
    /// Folders in it, by the listing and our own changes since.
    folders: u32,
    /// Asked about single names since the folder was listed last.
    questions: u32,
    /// When somebody last wanted to know something of it.
    used: Option<Instant>,
    /// When others were told to have changed something in it: pages asked for before may not show that.
    others_changed: Option<Instant>,
}

/// What we changed in a folder since it was listed.
#[derive(Debug)]
pub struct Changes {
    /// The listing, which is believed and knows nothing of them.
    pub listing: Arc<Listing>,
    /// What is behind each name now; none where nothing is.
    pub names: Vec<(Box<OsStr>, Option<Arc<Entry>>)>,
}

#[derive(Debug)]
struct Listed {
    listing: Arc<Listing>,
    /// When its first page was asked for: what was said of a single name since may be newer than its page.
    began: Instant,
    /// When its last page was asked for; it is believed from then on, or one that takes long never could be.
    asked: Instant,
    /// False once an answer contradicted it.
    believed: bool,
    /// A new one is on its way: believed until that has come, or has failed.
    held: bool,
}

#[derive(Debug)]
struct Single {
    entry: Option<Arc<Entry>>,
    asked: Instant,
    /// We made it so.
    own: bool,
    /// Something may have happened to it since: it counts only where nobody can be asked, as newer than the listing.
    doubted: bool,
}

impl Metadata {
    /// Believes for `ttl`, or for as long as the server cannot be reached, and remembers `entries_max` entries and names.
    pub fn new(ttl: Duration, entries_max: usize, reach: Reach) -> Self {
        Self {
            ttl,
            entries_max,
            reach,
            is_kept: false,
            state: Mutex::new(State {
                folders: LruCache::unbounded(),
                entries: 0,
                unkept: HashSet::new(),
                others_changed: None,
            }),
        }
    }

    /// Somebody keeps what is known for a later time, and asks for it by [`Metadata::take_unkept`].
    pub fn kept(mut self) -> Self {
        self.is_kept = true;
        self
    }

    /// How long an answer is believed.
    pub fn ttl(&self) -> Duration {
        self.ttl
    }

    /// How much of the time to live of an answer to a question of `asked` is left at `now`; none when it is over. What
    /// nobody can ask for anew lives on, from moment to moment.
    pub fn left(&self, asked: Instant, now: Instant) -> Option<Duration> {
        let left = self.ttl.checked_sub(now.saturating_duration_since(asked));
        match self.reach.is_down() {
            true => Some(left.unwrap_or_default().max(MOMENT)),
            false => left,
        }
    }

    /// Entries and names remembered.
    pub fn entries(&self) -> usize {
        self.state.lock().unwrap().entries
    }

    /// What is believed of `name` in `folder`: an entry, or that there is none.
    pub fn name(
        &self,
        folder: &FileKey,
        name: &OsStr,
        now: Instant,
    ) -> Option<Belief<Option<Arc<Entry>>>> {
        let mut state = self.state.lock().unwrap();
        let folder = state.used(folder, now)?;
        if let Some(single) = folder.newest_single(name) {
            let left = self.left_of(single, now)?;
            return Some(Belief {
                what: single.entry.clone(),
                left,
            });
        }
        let (listing, left) = self.believed_listing(folder, now)?;
        Some(Belief {
            what: listing.get(name).cloned(),
            left,
        })
    }

    /// What is believed of `entry`, which was in `folder` once.
    pub fn known(&self, folder: &FileKey, entry: &Entry, now: Instant) -> Known {
        let mut state = self.state.lock().unwrap();
        let Some(folder) = state.used(folder, now) else {
            return Known::Unknown;
        };
        if let Some(single) = folder.newest_single(&entry.name) {
            match (&single.entry, self.left_of(single, now)) {
                (_, None) => return Known::Unknown,
                (None, Some(_)) => return Known::Gone,
                (Some(found), Some(left)) if found.id == entry.id => {
                    return Known::Here(Belief {
                        what: Arc::clone(found),
                        left,
                    });
                }
                (Some(_), Some(_)) => {}
            }
        }
        let Some((listing, left)) = self.believed_listing(folder, now) else {
            return Known::Unknown;
        };
        match listing.find(entry) {
            Some(found) => Known::Here(Belief {
                what: Arc::clone(found),
                left,
            }),
            None => Known::Missed,
        }
    }

    /// What we ourselves made of `name` in `folder`, where that is newer than the listing: an entry, or that there is none.
    pub fn own(&self, folder: &FileKey, name: &OsStr) -> Option<Option<Arc<Entry>>> {
        let state = self.state.lock().unwrap();
        let folder = state.folders.peek(folder).filter(|folder| folder.own > 0)?;
        let single = folder.names.get(name);
        let single = single.filter(|single| single.own && self.counts(single))?;
        Some(single.entry.clone())
    }

    /// Whether we changed anything in `folder` since it was listed.
    pub fn has_own(&self, folder: &FileKey) -> bool {
        let state = self.state.lock().unwrap();
        let folder = state.folders.peek(folder);
        folder.is_some_and(|folder| folder.own > 0)
    }

    /// Names in `folder` that we gave to something since it was listed, also where that is doubted since: who goes on to read an
    /// older listing may have come by them, and finds them nowhere else.
    pub fn added(&self, folder: &FileKey) -> Vec<Box<OsStr>> {
        let state = self.state.lock().unwrap();
        let folder = state.folders.peek(folder).filter(|folder| folder.own > 0);
        let names = folder.into_iter().flat_map(|folder| &folder.names);
        names
            .filter(|(_, single)| single.own && single.entry.is_some())
            .map(|(name, _)| name.clone())
            .collect()
    }

    /// Our own changes that the believed listing of `folder` does not show yet; none where there are no such.
    pub fn changes(&self, folder: &FileKey, now: Instant) -> Option<Changes> {
        let mut state = self.state.lock().unwrap();
        let folder = state.folders.get(folder).filter(|folder| folder.unfolded)?;
        let (listing, _) = self.believed_listing(folder, now)?;
        let own = folder.names.iter();
        let own = own.filter(|(_, single)| single.own && self.counts(single));
        Some(Changes {
            listing: Arc::clone(listing),
            names: own
                .map(|(name, single)| (name.clone(), single.entry.clone()))
                .collect(),
        })
    }

    /// `new` is what `changes` made of their listing: shown from now on, and as old as that one.
    pub fn fold(&self, folder: &FileKey, changes: &Changes, new: Arc<Listing>) {
        let mut state = self.state.lock().unwrap();
        state.change(folder, |folder| {
            let listed = folder.listing.as_mut();
            if let Some(listed) = listed
                && Arc::ptr_eq(&listed.listing, &changes.listing)
            {
                listed.listing = new;
                // Changes made since they were taken come with the next fold.
                let names = folder.names.values();
                let certain = names.filter(|single| single.own && !single.doubted).count();
                folder.unfolded = ![folder.own, certain].contains(&changes.names.len());
            }
        });
        state.make_room(self.entries_max);
    }

    /// The complete listing of `folder`, while it is believed, and when it was asked for.
    pub fn listing(&self, folder: &FileKey, now: Instant) -> Option<(Arc<Listing>, Instant)> {
        let mut state = self.state.lock().unwrap();
        let folder = state.used(folder, now)?;
        let (listing, _) = self.believed_listing(folder, now)?;
        Some((Arc::clone(listing), folder.listing.as_ref()?.asked))
    }

    /// The folder in use that is to be listed anew next, so that who uses it need not wait: its listing was not long in coming,
    /// and is believed for the last third of its time, or not any more since anything may have changed anywhere.
    pub fn due(&self, now: Instant) -> Option<FileKey> {
        if self.reach.is_down() {
            return None;
        }
        let state = self.state.lock().unwrap();
        self.due_in(&state, now).next()
    }

    /// [`Metadata::hold`]s all that are due.
    pub fn hold_due(&self, now: Instant) -> Vec<FileKey> {
        let due: Vec<_> = {
            let state = self.state.lock().unwrap();
            self.due_in(&state, now).collect()
        };
        due.iter().for_each(|folder| self.hold(folder));
        due
    }

    fn due_in<'a>(&self, state: &'a State, now: Instant) -> impl Iterator<Item = FileKey> + 'a {
        let ttl = self.ttl;
        let is_within = move |used, time| now.saturating_duration_since(used) < time;
        // What was used last comes first. What nobody has used yet may lie between.
        let recent = state
            .folders
            .iter()
            .take_while(move |(_, folder)| folder.used.is_none_or(|used| is_within(used, ttl)));
        let due = recent.filter(move |(_, folder)| {
            folder.listing.as_ref().is_some_and(|listed| {
                let age = now.saturating_duration_since(listed.asked);
                let took = listed.asked.saturating_duration_since(listed.began);
                let is_old = listed.believed && age >= ttl * 2 / 3 && age < ttl;
                let is_doubted = state.others_changed >= Some(listed.began)
                    && !listed.believed
                    && folder.used.is_some_and(|used| is_within(used, KERNEL_TTL));
                let is_used = folder.used >= Some(listed.began);
                (is_old || is_doubted) && is_used && !listed.held && age >= took * LISTINGS_APART
            })
        });
        due.map(|(key, _)| key.clone())
    }

    /// The listing of `folder` is believed until a new one is there, or [`Metadata::let_go`].
    pub fn hold(&self, folder: &FileKey) {
        let mut state = self.state.lock().unwrap();
        let folder = state.folders.peek_mut(folder);
        if let Some(listed) = folder.and_then(|folder| folder.listing.as_mut()) {
            listed.held = true;
        }
    }

    /// The listing of `folder` is believed no longer than its time.
    pub fn release(&self, folder: &FileKey) {
        let mut state = self.state.lock().unwrap();
        let folder = state.folders.peek_mut(folder);
        if let Some(listed) = folder.and_then(|folder| folder.listing.as_mut()) {
            listed.held = false;
        }
    }

    /// No new listing of `folder` comes: the old one is believed no longer than its time, and counts as unused.
    pub fn let_go(&self, folder: &FileKey) {
        let mut state = self.state.lock().unwrap();
        if let Some(folder) = state.folders.peek_mut(folder) {
            folder.used = None;
            if let Some(listed) = &mut folder.listing {
                listed.held = false;
            }
        }
    }

    /// How many folders there are in `folder`, as long as its listing is believed.
    pub fn folders_in(&self, folder: &FileKey, now: Instant) -> Option<u32> {
        let state = self.state.lock().unwrap();
        let folder = state.folders.peek(folder)?;
        self.believed_listing(folder, now)?;
        Some(folder.folders)
    }

    /// The last complete listing of `folder`, believed or not.
    pub fn last_listing(&self, folder: &FileKey) -> Option<Arc<Listing>> {
        let mut state = self.state.lock().unwrap();
        let listed = state.folders.get(folder)?.listing.as_ref()?;
        Some(Arc::clone(&listed.listing))
    }

    /// Whether `folder` was not listed yet.
    pub fn is_unlisted(&self, folder: &FileKey) -> bool {
        let state = self.state.lock().unwrap();
        let folder = state.folders.peek(folder);
        folder.is_none_or(|folder| folder.listing.is_none())
    }

    /// `listing` is what was kept of `folder`, unless that was listed meanwhile; believed as one that was asked for at `asked`,
    /// or not at all.
    pub fn recall(
        &self,
        folder: &FileKey,
        listing: Arc<Listing>,
        asked: Option<Instant>,
        now: Instant,
    ) {
        let mut state = self.state.lock().unwrap();
        let anywhere = state.others_changed;
        state.change(folder, |folder| {
            if folder.listing.is_some() {
                return;
            }
            let changed = folder.others_changed.max(anywhere);
            let began = asked.or(now.checked_sub(self.ttl)).unwrap_or(now);
            folder.listing = Some(Listed {
                listing,
                began,
                asked: began,
                believed: asked.is_some() && changed.is_none_or(|changed| began > changed),
                held: false,
            });
            folder.count_own();
            folder.count_folders();
        });
        state.make_room(self.entries_max);
    }

    /// A listed folder of which something else is known than was kept: its listing, what was said of single names since, and when
    /// the listing was asked for, while that is not contradicted. It counts as kept from now on.
    pub fn take_unkept(&self) -> Option<(FileKey, Changes, Option<Instant>)> {
        let mut state = self.state.lock().unwrap();
        loop {
            let key = state.unkept.iter().next()?.clone();
            state.unkept.remove(&key);
            let folder = state.folders.peek(&key);
            let Some((folder, listed)) =
                folder.and_then(|folder| Some((folder, folder.listing.as_ref()?)))
            else {
                continue;
            };
            let names = folder.names.iter();
            let names = names.filter(|(name, _)| folder.newest_single(name).is_some());
            let changes = Changes {
                listing: Arc::clone(&listed.listing),
                names: names
                    .map(|(name, single)| (name.clone(), single.entry.clone()))
                    .collect(),
            };
            return Some((key, changes, listed.believed.then_some(listed.asked)));
        }
    }

    /// Counts a question about one name of `folder` that nothing believed answers.
    pub fn question(&self, folder: &FileKey) -> Question {
        let mut state = self.state.lock().unwrap();
        let mut question = Question {
            entries: None,
            asked: 0,
        };
        state.change(folder, |folder| {
            folder.questions = folder.questions.saturating_add(1);
            question.asked = folder.questions;
            question.entries = folder.listing.as_ref().map(|listed| listed.listing.len());
        });
        state.make_room(self.entries_max);
        question
    }

    /// Keeps the complete listing of the folder `key` of which the first page was asked for at `began` or later, and the last at
    /// `asked`. One that is larger than the whole cache is not kept.
    pub fn keep_listing(
        &self,
        key: &FileKey,
        listing: Arc<Listing>,
        began: Instant,
        asked: Instant,
    ) {
        let mut state = self.state.lock().unwrap();
        let anywhere = state.others_changed;
        state.change(key, |folder| {
            let changed = folder.others_changed.max(anywhere);
            let believed = changed.is_none_or(|changed| began > changed);
            folder.names.retain(|_, single| single.asked > began);
            folder.count_own();
            folder.questions = 0;
            folder.listing = Some(Listed {
                listing,
                began,
                asked,
                believed,
                held: false,
            });
            folder.count_folders();
        });
        self.is_news(&mut state, key);
        state.make_room(self.entries_max);
    }

    /// Keeps what the server answered when asked at `asked` for `name` in the folder `key`, unless something newer is known.
    pub fn keep_name(
        &self,
        key: &FileKey,
        name: &OsStr,
        entry: Option<Arc<Entry>>,
        asked: Instant,
    ) {
        let mut state = self.state.lock().unwrap();
        let mut is_news = false;
        state.change(key, |folder| {
            let before = folder.names.get(name);
            if before.is_some_and(|before| before.asked > asked) {
                return;
            }
            let is_as_we_left_it = before.is_some_and(|before| before.own && before.entry == entry);
            if let Some(listed) = &mut folder.listing
                && listed.began <= asked
                && listed.listing.get(name) != entry.as_ref()
                && !is_as_we_left_it
            {
                listed.believed = false;
                is_news = true;
            }
            let own = is_as_we_left_it;
            let doubted = false;
            let single = Single {
                entry,
                asked,
                own,
                doubted,
            };
            self.put(folder, name, single);
        });
        if is_news {
            self.is_news(&mut state, key);
        }
        state.make_room(self.entries_max);
    }

    /// We made `entry` of `name` in the folder `key`, or took it away, and the server confirmed that at `at`. The listing is
    /// believed as before.
    pub fn change_name(&self, key: &FileKey, name: &OsStr, entry: Option<Arc<Entry>>, at: Instant) {
        let mut state = self.state.lock().unwrap();
        state.change(key, |folder| {
            let single = Single {
                entry,
                asked: at,
                own: true,
                doubted: false,
            };
            let before = folder.has_folder(name);
            let after = is_folder(single.entry.as_ref());
            folder.folders = (folder.folders + u32::from(after)).saturating_sub(u32::from(before));
            self.put(folder, name, single);
            folder.unfolded = true;
        });
        self.is_news(&mut state, key);
        state.make_room(self.entries_max);
    }

    /// Believes nothing of `name` in the folder `key` any more, nor the listing: something happened there that we did not see.
    /// What was known stays known.
    pub fn doubt(&self, key: &FileKey, name: &OsStr) {
        let mut state = self.state.lock().unwrap();
        if !state.folders.contains(key) {
            return;
        }
        state.change(key, |folder| {
            if let Some(single) = folder.names.get_mut(name) {
                single.doubted = true;
            }
            if let Some(listed) = &mut folder.listing {
                listed.believed = false;
            }
        });
        self.is_news(&mut state, key);
    }

    /// Others changed something behind `name` in `folder`, as was told at `at`: as [`Metadata::doubt`], and a listing that is
    /// under way since before is not believed either.
    pub fn others_changed(&self, folder: &FileKey, name: &OsStr, at: Instant) {
        self.doubt(folder, name);
        let mut state = self.state.lock().unwrap();
        state.change(folder, |folder| folder.others_changed = Some(at));
        state.make_room(self.entries_max);
    }

    /// Whether an answer to what was asked at `began` of `folder` shows all that others are known to have changed there.
    pub fn is_recent(&self, folder: &FileKey, began: Instant) -> bool {
        let state = self.state.lock().unwrap();
        let here = state.folders.peek(folder);
        let changed = here.and_then(|folder| folder.others_changed);
        let changed = changed.max(state.others_changed);
        changed.is_none_or(|changed| began > changed)
    }

    /// As [`Metadata::others_changed`], of any name in any folder.
    pub fn others_changed_anything(&self, at: Instant) {
        let mut state = self.state.lock().unwrap();
        state.others_changed = Some(at);
        for (_, folder) in &mut state.folders {
            for single in folder.names.values_mut() {
                single.doubted = true;
            }
            if let Some(listed) = &mut folder.listing {
                listed.believed = false;
            }
        }
    }

    /// What was behind `name` in `folder` when that was known last, believed or not.
    pub fn last_name(&self, folder: &FileKey, name: &OsStr) -> Option<Arc<Entry>> {
        let state = self.state.lock().unwrap();
        let folder = state.folders.peek(folder)?;
        if let Some(single) = folder.newest_single(name) {
            return single.entry.clone();
        }
        folder.listing.as_ref()?.listing.get(name).cloned()
    }

    /// Something else is known of the folder `key` than before.
    fn is_news(&self, state: &mut State, key: &FileKey) {
        if self.is_kept {
            state.unkept.insert(key.clone());
        }
    }

    fn put(&self, folder: &mut Folder, name: &OsStr, single: Single) {
        if folder.names.len() - folder.own >= SINGLE_NAMES_MAX {
            // A listing is read together with our own changes, and would be wrong without.
            let listed = folder.listing.is_some();
            let left = |other: &Single| self.left(other.asked, single.asked).is_some();
            let names = &mut folder.names;
            names.retain(|_, other| other.own && listed || left(other));
            folder.count_own();
            if folder.names.len() - folder.own >= SINGLE_NAMES_MAX {
                folder.names.retain(|_, other| other.own);
            }
        }
        folder.own += usize::from(single.own);
        if let Some(before) = folder.names.insert(name.into(), single) {
            folder.own -= usize::from(before.own);
        }
    }

    /// Forgets all that was said of what lies in `folder`.
    pub fn forget(&self, folder: &FileKey) {
        let mut state = self.state.lock().unwrap();
        if let Some(folder) = state.folders.pop(folder) {
            state.entries -= folder.weight();
        }
    }

    /// Whether what was said of a single name may be gone by: what is doubted may be where nobody can be asked.
    fn counts(&self, single: &Single) -> bool {
        !single.doubted || self.reach.is_down()
    }

    /// As [`Metadata::left`], of what was said of a single name.
    fn left_of(&self, single: &Single, now: Instant) -> Option<Duration> {
        self.counts(single)
            .then(|| self.left(single.asked, now))
            .flatten()
    }

    fn believed_listing<'a>(
        &self,
        folder: &'a Folder,
        now: Instant,
    ) -> Option<(&'a Arc<Listing>, Duration)> {
        let is_down = self.reach.is_down();
        let listed = folder.listing.as_ref();
        let listed = listed.filter(|listed| listed.believed || is_down)?;
        let left = self.left(listed.asked, now);
        let left = match listed.held {
            true => Some(left.unwrap_or_default().max(MOMENT)),
            false => left,
        };
        Some((&listed.listing, left?))
    }
}

impl Folder {
    /// Counts our own changes anew, after the listing or the names became others.
    fn count_own(&mut self) {
        self.own = self.names.values().filter(|single| single.own).count();
        self.unfolded = self.own > 0;
    }

    /// Counts the folders in it anew, after the listing became another one.
    fn count_folders(&mut self) {
        let Some(listed) = &self.listing else { return };
        let listing = &listed.listing;
        let entries = listing.entries().iter();
        let mut folders = entries
            .filter(|entry| entry.kind == FileKind::Folder)
            .count();
        for (name, single) in self.names.iter().filter(|(_, single)| single.own) {
            folders += usize::from(is_folder(single.entry.as_ref()));
            folders -= usize::from(is_folder(listing.get(name)));
        }
        self.folders = folders as u32;
    }

    /// Whether `name` stands for a folder, as far as is known.
    fn has_folder(&self, name: &OsStr) -> bool {
        match self.newest_single(name) {
            Some(single) => is_folder(single.entry.as_ref()),
            None => {
                let listed = self.listing.as_ref();
                is_folder(listed.and_then(|listed| listed.listing.get(name)))
            }
        }
    }

    /// What was said of `name` alone, unless all of the listing is newer.
    fn newest_single(&self, name: &OsStr) -> Option<&Single> {
        let single = self.names.get(name)?;
        let listed = self.listing.as_ref().filter(|listed| listed.believed);
        listed
            .is_none_or(|listed| listed.began <= single.asked)
            .then_some(single)
    }

    fn weight(&self) -> usize {
        1 + self.names.len()
            + self
                .listing
                .as_ref()
                .map_or(0, |listed| listed.listing.len())
    }
}

fn is_folder(entry: Option<&Arc<Entry>>) -> bool {
    entry.is_some_and(|entry| entry.kind == FileKind::Folder)
}

impl State {
    /// What is known of `folder`, for who uses it.
    fn used(&mut self, folder: &FileKey, now: Instant) -> Option<&Folder> {
        let folder = self.folders.get_mut(folder)?;
        folder.used = folder.used.max(Some(now));
        Some(folder)
    }

    /// Changes what is known of a folder, which is no use of it.
    fn change(&mut self, key: &FileKey, change: impl FnOnce(&mut Folder)) {
        if !self.folders.contains(key) {
            self.folders.put(key.clone(), Folder::default());
            self.entries += Folder::default().weight();
        }
        let folder = self.folders.peek_mut(key).expect("it is there");
        let before = folder.weight();
        change(folder);
        self.entries = self.entries - before + folder.weight();
    }

    fn make_room(&mut self, entries_max: usize) {
        while self.entries > entries_max {
            let Some((_, folder)) = self.folders.pop_lru() else {
                return;
            };
            self.entries -= folder.weight();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::Tree;
    use crate::model::FileId;

    const TTL: Duration = Duration::from_secs(15);

    fn key(id: &str) -> FileKey {
        FileKey {
            tree: Tree::MAIN,
            id: FileId(id.into()),
        }
    }

    fn entry(id: &str, name: &str) -> Arc<Entry> {
        Arc::new(Entry::plain(id, name, FileKind::File))
    }

    fn listing(entries: &[(&str, &str)]) -> Arc<Listing> {
        let entries = entries.iter().map(|(id, name)| entry(id, name)).collect();
        Arc::new(Listing::new(entries, 1, false))
    }

    struct Kept {
        metadata: Metadata,
        start: Instant,
    }

    impl Kept {
        /// A folder listed at second 0 with files `a` and `b`.
        fn new() -> Self {
            let kept = Self {
                metadata: Metadata::new(TTL, 100, Reach::default()),
                start: Instant::now(),
            };
            let entries = listing(&[("1", "a"), ("2", "b")]);
            kept.metadata
                .keep_listing(&key("d"), entries, kept.start, kept.start);
            kept
        }

        fn at(&self, seconds: u64) -> Instant {
            self.start + Duration::from_secs(seconds)
        }

        /// Id that is believed to be behind a name, `-` for none, `?` where nothing is believed.
        #[track_caller]
        fn check(&self, name: &str, seconds: u64, expected: &str) {
            let belief = self
                .metadata
                .name(&key("d"), name.as_ref(), self.at(seconds));
            let found = match belief.map(|belief| belief.what) {
                Some(Some(entry)) => entry.id.to_string(),
                Some(None) => "-".to_owned(),
                None => "?".to_owned(),
            };
            assert_eq!(found, expected, "{name} after {seconds} s");
        }
    }

    #[test]
    fn a_folder_in_use_is_due_before_its_listing_is_over_and_held_until_the_new_one_is_there() {
        let kept = Kept::new();
        let due = |seconds| kept.metadata.due(kept.at(seconds)).is_some();
        assert!(!due(12), "nobody uses it");
        kept.check("a", 3, "1");
        assert!(!due(9));
        assert!(due(10));
        assert!(!due(15), "who uses it by now asks anyway");
        kept.metadata.hold(&key("d"));
        assert!(!due(12), "it is on its way");
        kept.check("a", 40, "1");
        kept.metadata.let_go(&key("d"));
        kept.check("a", 40, "?");
        let entries = listing(&[("1", "a")]);
        let listed = |began, asked| {
            let (began, asked) = (kept.at(began), kept.at(asked));
            let entries = Arc::clone(&entries);
            kept.metadata.keep_listing(&key("d"), entries, began, asked);
        };
        listed(41, 41);
        assert!(!due(52), "nobody has used it since");
        kept.check("a", 52, "1");
        assert!(due(52));
        listed(100, 101);
        kept.check("a", 102, "1");
        assert!(!due(112), "it takes its time to come");
    }

    #[test]
    fn what_is_told_of_folders_that_nobody_uses_does_not_hide_one_that_is_due() {
        let kept = Kept::new();
        let entries = listing(&[("1", "a")]);
        kept.metadata
            .keep_listing(&key("unused"), entries, kept.start, kept.start);
        kept.check("a", 3, "1");
        for folder in ["unused", "unknown"] {
            kept.metadata
                .others_changed(&key(folder), "a".as_ref(), kept.at(9));
        }
        assert_eq!(kept.metadata.due(kept.at(10)), Some(key("d")));
    }

    #[test]
    fn folders_in_use_are_due_at_once_when_anything_may_have_changed_and_the_last_used_first() {
        let kept = Kept::new();
        let due = |seconds| kept.metadata.due(kept.at(seconds));
        let list = |folder: &str, began, asked| {
            let (began, asked) = (kept.at(began), kept.at(asked));
            let entries = listing(&[("1", "a")]);
            kept.metadata
                .keep_listing(&key(folder), entries, began, asked);
        };
        let look = |folder: &str, seconds| {
            let at = kept.at(seconds);
            kept.metadata.name(&key(folder), "a".as_ref(), at);
        };
        list("e", 0, 0);
        list("unused", 0, 0);
        list("large", 0, 1);
        for folder in ["large", "d", "e"] {
            look(folder, 2);
        }
        kept.metadata
            .others_changed(&key("d"), "a".as_ref(), kept.at(3));
        assert_eq!(due(3), None, "who looks at that one asks for it");
        kept.metadata.others_changed_anything(kept.at(4));
        assert_eq!(due(4), Some(key("e")));
        kept.metadata.hold(&key("e"));
        kept.metadata.name(&key("e"), "a".as_ref(), kept.at(4));
        kept.check("a", 4, "?");
        assert_eq!(due(4), Some(key("d")));
        list("e", 3, 3);
        look("e", 4);
        assert_eq!(due(4), Some(key("e")), "it was asked for before");
        list("e", 5, 5);
        list("d", 5, 5);
        assert_eq!(due(6), None, "listings of the large one take their time");
        kept.metadata.others_changed_anything(kept.at(6));
        look("d", 7);
        assert_eq!(due(21), Some(key("d")));
        assert_eq!(due(22), None, "nobody has used it for long");
    }

    #[test]
    fn all_folders_that_are_due_can_be_held_beyond_their_time_and_released() {
        let kept = Kept::new();
        kept.check("a", 3, "1");
        assert_eq!(kept.metadata.hold_due(kept.at(9)), []);
        assert_eq!(kept.metadata.hold_due(kept.at(12)), [key("d")]);
        assert_eq!(kept.metadata.hold_due(kept.at(13)), []);
        kept.check("a", 40, "1");
        kept.metadata.release(&key("d"));
        kept.check("a", 40, "?");
    }

    #[test]
    fn what_nobody_can_be_asked_for_is_believed_from_moment_to_moment() {
        let reach = Reach::default();
        let start = Instant::now();
        let kept = Kept {
            metadata: Metadata::new(TTL, 100, reach.clone()),
            start,
        };
        let entries = listing(&[("1", "a")]);
        kept.metadata.keep_listing(&key("d"), entries, start, start);
        kept.metadata.doubt(&key("d"), "b".as_ref());
        kept.check("a", 1, "?");
        reach.set(false);
        kept.check("a", 1, "1");
        kept.check("a", 1000, "1");
        kept.check("b", 1000, "-");
        let left = kept.metadata.left(start, kept.at(1000));
        assert_eq!(left, Some(MOMENT));
        reach.set(true);
        kept.check("a", 1000, "?");
    }

    #[test]
    fn folders_are_counted_by_the_listing_and_our_own_changes_as_long_as_it_is_believed() {
        let kept = Kept::new();
        let folder = |id: &str, name: &str| Arc::new(Entry::plain(id, name, FileKind::Folder));
        let count = |seconds| kept.metadata.folders_in(&key("d"), kept.at(seconds));
        let change = |name: &str, entry| {
            let at = kept.at(1);
            kept.metadata
                .change_name(&key("d"), name.as_ref(), entry, at);
        };
        assert_eq!(count(15), Some(0));
        assert_eq!(count(16), None);
        assert_eq!(kept.metadata.folders_in(&key("e"), kept.start), None);
        change("c", Some(folder("3", "c")));
        change("a", Some(folder("4", "a")));
        assert_eq!(count(2), Some(2));
        change("c", None);
        change("b", None);
        assert_eq!(count(2), Some(1));
        // A listing that was asked for before knows nothing of it.
        let old = Listing::new(
            vec![entry("1", "a"), folder("3", "c"), folder("5", "d")],
            2,
            false,
        );
        let (began, asked) = (kept.start, kept.at(2));
        kept.metadata
            .keep_listing(&key("d"), Arc::new(old), began, asked);
        assert_eq!(count(3), Some(2), "a and d");
    }

    #[test]
    fn a_complete_listing_answers_for_names_that_are_there_and_for_those_that_are_not() {
        let kept = Kept::new();
        kept.check("a", 15, "1");
        kept.check("c", 15, "-");
        kept.check("a", 16, "?");
        kept.check("c", 16, "?");
        let left = kept.metadata.name(&key("d"), "a".as_ref(), kept.at(5));
        assert_eq!(left.unwrap().left, Duration::from_secs(10));
    }

    #[test]
    fn the_newer_of_listing_and_single_answer_counts() {
        let kept = Kept::new();
        let d = key("d");
        kept.metadata
            .keep_name(&d, "c".as_ref(), Some(entry("3", "c")), kept.at(10));
        kept.check("c", 20, "3");
        kept.check("a", 14, "?");
        kept.metadata
            .keep_listing(&d, listing(&[("1", "a")]), kept.at(11), kept.at(11));
        kept.check("c", 20, "-");
        kept.metadata.keep_name(&d, "a".as_ref(), None, kept.at(12));
        kept.check("a", 20, "-");
        kept.check("a", 28, "?");
    }

    #[test]
    fn what_was_said_of_a_name_while_its_folder_was_listed_is_not_taken_back() {
        let kept = Kept::new();
        let d = key("d");
        let said = |name: &str, entry, seconds| {
            kept.metadata
                .keep_name(&d, name.as_ref(), entry, kept.at(seconds));
        };
        said("c", Some(entry("3", "c")), 5);
        said("b", None, 6);
        said("a", Some(entry("1", "a")), 2);
        let pages = listing(&[("1", "a"), ("2", "b")]);
        kept.metadata
            .keep_listing(&d, pages, kept.at(4), kept.at(12));
        kept.check("c", 13, "3");
        kept.check("b", 13, "-");
        kept.check("a", 27, "1");
        // Beyond its time neither it nor the listing, which may be older, is the answer.
        kept.check("c", 21, "?");
        let known = kept.metadata.known(&d, &entry("2", "b"), kept.at(22));
        assert_eq!(known, Known::Unknown);
    }

    #[test]
    fn a_listing_that_an_answer_contradicts_is_not_believed_any_more() {
        let kept = Kept::new();
        let d = key("d");
        kept.metadata
            .keep_name(&d, "a".as_ref(), Some(entry("1", "a")), kept.at(1));
        assert!(kept.metadata.listing(&d, kept.at(2)).is_some(), "it agrees");
        kept.metadata.keep_name(&d, "a".as_ref(), None, kept.at(3));
        assert!(kept.metadata.listing(&d, kept.at(4)).is_none());
        assert_eq!(kept.metadata.last_listing(&d).unwrap().len(), 2);
    }

    #[test]
    fn a_known_file_is_gone_only_if_the_server_said_so_of_itself() {
        let kept = Kept::new();
        let d = key("d");
        let known = |entry: &Entry, seconds| kept.metadata.known(&d, entry, kept.at(seconds));
        assert!(matches!(known(&entry("1", "a"), 1), Known::Here(_)));
        let Known::Here(renamed) = known(&entry("1", "old name"), 1) else {
            panic!("it is there under another name");
        };
        assert_eq!(&*renamed.what.name, "a");
        assert_eq!(known(&entry("3", "c"), 1), Known::Missed);
        kept.metadata.keep_name(&d, "c".as_ref(), None, kept.at(2));
        assert_eq!(known(&entry("3", "c"), 3), Known::Gone);
        assert_eq!(known(&entry("3", "c"), 30), Known::Unknown);
    }

    #[test]
    fn what_was_unused_for_longest_goes_first_and_the_count_is_right() {
        let metadata = Metadata::new(TTL, 6, Reach::default());
        let now = Instant::now();
        for folder in ["x", "y"] {
            metadata.keep_listing(&key(folder), listing(&[("1", "a"), ("2", "b")]), now, now);
        }
        assert_eq!(metadata.entries(), 6);
        assert!(metadata.listing(&key("x"), now).is_some());
        metadata.keep_name(&key("z"), "a".as_ref(), None, now);
        assert!(metadata.last_listing(&key("y")).is_none());
        assert!(metadata.last_listing(&key("x")).is_some());
        assert_eq!(metadata.entries(), 5);
        metadata.keep_listing(&key("z"), listing(&[]), now, now);
        metadata.keep_name(&key("z"), "a".as_ref(), None, now);
        metadata.forget(&key("x"));
        assert_eq!(metadata.entries(), 2);
    }

    #[test]
    fn names_asked_for_without_end_take_bounded_memory() {
        let metadata = Metadata::new(TTL, 1_000_000, Reach::default());
        let start = Instant::now();
        for number in 0..3 * SINGLE_NAMES_MAX {
            let name = number.to_string();
            metadata.keep_name(&key("d"), name.as_ref(), None, start);
            assert!(metadata.entries() <= SINGLE_NAMES_MAX + 1);
        }
    }

    fn change(kept: &Kept, name: &str, id: Option<&str>, seconds: u64) {
        let entry = id.map(|id| entry(id, name));
        let at = kept.at(seconds);
        kept.metadata
            .change_name(&key("d"), name.as_ref(), entry, at);
    }

    #[test]
    fn what_we_changed_ourselves_counts_and_leaves_the_listing_believed() {
        let kept = Kept::new();
        change(&kept, "c", Some("3"), 2);
        change(&kept, "a", None, 3);
        kept.check("c", 5, "3");
        kept.check("a", 5, "-");
        kept.check("b", 5, "2");
        assert!(kept.metadata.listing(&key("d"), kept.at(5)).is_some());
        let added = kept.metadata.added(&key("d"));
        assert_eq!(added, [Box::from(OsStr::new("c"))]);
    }

    #[test]
    fn a_listing_asked_for_before_our_change_does_not_undo_it_and_a_later_one_replaces_it() {
        let kept = Kept::new();
        let d = key("d");
        change(&kept, "c", Some("3"), 5);
        let stale = || listing(&[("1", "a"), ("2", "b")]);
        kept.metadata
            .keep_listing(&d, stale(), kept.at(4), kept.at(6));
        kept.check("c", 7, "3");
        kept.metadata.keep_name(&d, "c".as_ref(), None, kept.at(4));
        kept.check("c", 7, "3");
        kept.metadata
            .keep_listing(&d, stale(), kept.at(8), kept.at(8));
        kept.check("c", 9, "-");
        assert!(kept.metadata.changes(&d, kept.at(9)).is_none());
    }

    #[test]
    fn changes_are_folded_into_the_listing_once_and_those_made_meanwhile_come_later() {
        let kept = Kept::new();
        let d = key("d");
        change(&kept, "c", Some("3"), 1);
        let changes = kept.metadata.changes(&d, kept.at(2)).unwrap();
        assert_eq!((changes.listing.len(), changes.names.len()), (2, 1));
        change(&kept, "e", Some("4"), 2);
        let folded = listing(&[("1", "a"), ("2", "b"), ("3", "c")]);
        kept.metadata.fold(&d, &changes, folded);
        let (shown, _) = kept.metadata.listing(&d, kept.at(3)).unwrap();
        assert_eq!(shown.len(), 3);
        let rest = kept.metadata.changes(&d, kept.at(3)).unwrap();
        kept.metadata.fold(&d, &rest, listing(&[("4", "e")]));
        assert!(kept.metadata.changes(&d, kept.at(3)).is_none());
        kept.check("c", 3, "3");
    }

    #[test]
    fn nothing_is_believed_of_a_name_that_is_doubted() {
        let kept = Kept::new();
        change(&kept, "c", Some("3"), 1);
        kept.metadata.doubt(&key("d"), "c".as_ref());
        kept.check("c", 2, "?");
        kept.check("a", 2, "?");
        assert!(kept.metadata.last_listing(&key("d")).is_some());
    }

    #[test]
    fn what_others_changed_is_asked_for_again_and_a_listing_from_before_does_not_hide_it() {
        let kept = Kept::new();
        let d = key("d");
        let list = |seconds| {
            let at = kept.at(seconds);
            kept.metadata
                .keep_listing(&d, listing(&[("1", "a"), ("2", "b")]), at, at);
        };
        kept.metadata.others_changed(&d, "c".as_ref(), kept.at(2));
        kept.check("a", 3, "?");
        list(1);
        kept.check("a", 3, "?");
        list(3);
        kept.check("a", 4, "1");
        change(&kept, "c", Some("3"), 4);
        kept.metadata.others_changed_anything(kept.at(5));
        kept.check("a", 6, "?");
        kept.check("c", 6, "?");
        list(4);
        kept.check("a", 6, "?");
        assert_eq!(
            kept.metadata.last_name(&d, "a".as_ref()),
            Some(entry("1", "a"))
        );
        list(6);
        kept.check("a", 7, "1");
        // Of a folder that is being listed for the first time.
        let e = key("e");
        kept.metadata.others_changed(&e, "x".as_ref(), kept.at(8));
        kept.metadata
            .keep_listing(&e, listing(&[]), kept.at(7), kept.at(9));
        assert!(kept.metadata.listing(&e, kept.at(9)).is_none());
    }

    #[test]
    fn what_we_changed_after_a_listing_is_what_was_known_last_also_once_it_is_doubted() {
        for others_changed_anything in [true, false] {
            let reach = Reach::default();
            let kept = Kept {
                metadata: Metadata::new(TTL, 100, reach.clone()),
                start: Instant::now(),
            };
            let d = key("d");
            let entries = listing(&[("1", "a"), ("2", "b")]);
            kept.metadata
                .keep_listing(&d, entries, kept.start, kept.start);
            change(&kept, "a", None, 1);
            change(&kept, "c", Some("3"), 1);
            match others_changed_anything {
                true => kept.metadata.others_changed_anything(kept.at(2)),
                false => ["a", "c"].iter().for_each(|name| {
                    kept.metadata.others_changed(&d, name.as_ref(), kept.at(2));
                }),
            }
            kept.check("a", 3, "?");
            kept.check("c", 3, "?");
            let added = [Box::from(OsStr::new("c"))];
            assert_eq!(kept.metadata.added(&d), added);
            assert_eq!(kept.metadata.own(&d, "c".as_ref()), None);
            reach.set(false);
            for (name, known) in [("a", "-"), ("b", "2"), ("c", "3")] {
                kept.check(name, 60, known);
            }
            let changes = kept.metadata.changes(&d, kept.at(60)).unwrap();
            assert_eq!(changes.names.len(), 2);
            assert_eq!(kept.metadata.added(&d), added);
            // What the server says next counts alone.
            reach.set(true);
            let entries = listing(&[("1", "a")]);
            let now = kept.at(70);
            kept.metadata.keep_listing(&d, entries, now, now);
            kept.check("a", 71, "1");
            kept.check("c", 71, "-");
        }
    }

    #[test]
    fn our_own_changes_outlive_a_crowd_of_single_answers() {
        let kept = Kept {
            metadata: Metadata::new(TTL, 100_000, Reach::default()),
            start: Instant::now(),
        };
        let d = key("d");
        kept.metadata
            .keep_listing(&d, listing(&[]), kept.start, kept.start);
        change(&kept, "ours", Some("1"), 1);
        for number in 0..3 * SINGLE_NAMES_MAX {
            let name = number.to_string();
            kept.metadata.keep_name(&d, name.as_ref(), None, kept.at(2));
        }
        kept.check("ours", 3, "1");
        let singles = kept.metadata.entries();
        assert!(singles < 2 * SINGLE_NAMES_MAX, "{singles}");
    }
}
