//! Open folders: opendir, readdir, closedir.
//!
//! A handle reads one listing from beginning to end: a complete one, or one that is under way, whose entries it hands
//! out as they come. An error of that listing is the reader's error, never the end of the folder. Offsets are places in
//! the listing, so they stay valid however the folder changes. What we changed ourselves since then, and what is not on
//! the server yet, shows all the same: in its place where the listing has the name, else behind the listing's end.

use std::collections::{BTreeSet, HashSet};
use std::ffi::{OsStr, OsString};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::api;
use crate::entry::{Entry, FileKey, Kind};
use crate::inodes::Ino;
use crate::listing::{Progress, Reached};
use crate::metadata::Listing;
use crate::staging::is_made;

use super::handles::Handles;
use super::locals::{Locals, Shown};
use super::namespace::Namespace;
use super::{Believed, Error, FolderEntry, HandleId, Opened};

/// Entries taken at once from a listing under way; about what the kernel asks for at once.
const BATCH: usize = 256;

/// Places of `.` and `..`; the listing's entries follow.
const DOTS: u64 = 2;

/// Of the listing of a folder that the server has not heard of, which has nothing in it: no version that any other has.
const MADE_VERSION: u64 = u64::MAX;

/// The open folders of a drive.
pub(super) struct Folders {
    handles: Handles<Handle>,
}

struct Handle {
    ino: Ino,
    reading: Mutex<Reading>,
}

#[derive(Clone)]
struct Reading {
    from: Origin,
    /// Something was read already: a reader at the beginning has come back to it.
    begun: bool,
    /// Names that are not in the listing, in the order in which they come behind it.
    behind: Vec<Box<OsStr>>,
}

/// What a handle reads.
#[derive(Clone)]
enum Origin {
    Listing(Arc<Listing>, Instant),
    Progress(Arc<Progress>),
}

impl Folders {
    /// Nothing is open.
    pub(super) fn new() -> Self {
        Self {
            handles: Handles::new(),
        }
    }

    /// Handles that are open.
    pub(super) fn count(&self) -> u64 {
        self.handles.count()
    }

    /// See [`super::Fs::open_folder`]. Waits for the first page, so that a folder that cannot be read cannot be opened.
    pub(super) async fn open(&self, space: &Namespace, ino: Ino) -> Result<Opened, Error> {
        let from = begin(space, ino).await.map_err(|error| match error {
            // The kernel, which came here by a name that it believed, looks that up again, and finds that there is nothing.
            Error::NotFound if has_name(space, ino) => Error::Gone,
            error => error,
        })?;
        let keep_cache = match &from {
            Origin::Listing(listing, _) if !is_overlaid(space, ino)? => {
                space.inodes.show_listing(ino, listing.version())
            }
            Origin::Listing(..) | Origin::Progress(_) => {
                space.inodes.show_listing(ino, 0);
                false
            }
        };
        let reading = Mutex::new(Reading::of(from));
        Ok(Opened {
            handle: self.handles.insert(Handle { ino, reading }),
            keep_cache,
        })
    }

    /// See [`super::Fs::release_folder`]. Which folder it was.
    pub(super) fn release(&self, handle: HandleId) -> Option<Ino> {
        let handle = self.handles.remove(handle)?;
        Some(handle.ino)
    }

    /// See [`super::Fs::read_folder`].
    pub(super) async fn read(
        &self,
        space: &Namespace,
        handle: HandleId,
        offset: u64,
        count: bool,
        take: &mut (dyn FnMut(FolderEntry<'_>) -> bool + Send),
    ) -> Result<(), Error> {
        let handle = self.handles.get(handle).ok_or(Error::BadHandle)?;
        let from = handle.begin_at(space, offset).await?;
        let key = space.folder_key(handle.ino)?;
        let mut reader = Reader {
            space,
            ino: handle.ino,
            overlay: Overlay::of(space, &key),
            key,
            reading: &handle.reading,
            count,
            take,
            is_any_taken: false,
        };
        let mut at = offset;
        while at < DOTS {
            if !reader.dot(at)? {
                return Ok(());
            }
            at += 1;
        }
        let index = usize::try_from(at - DOTS).map_err(|_| Error::BadHandle)?;
        match from {
            Origin::Listing(listing, asked) => reader.entries(&listing, index, asked),
            Origin::Progress(progress) => reader.follow(&progress, index).await,
        }
    }
}

/// Whether a listing of `ino` is not all that shows there.
fn is_overlaid(space: &Namespace, ino: Ino) -> Result<bool, Error> {
    let key = space.folder_key(ino)?;
    Ok(space.locals.any_in(&key)
        || space.leaving.any_in(&key)
        || space.unheard.any_in(&key)
        || is_made(&key.id))
}

impl Reading {
    fn of(from: Origin) -> Self {
        Self {
            from,
            begun: false,
            behind: Vec::new(),
        }
    }
}

/// A listing of `ino` to read from: a believed one at once, else one that is under way and has its first page.
async fn begin(space: &Namespace, ino: Ino) -> Result<Origin, Error> {
    let key = space.folder_key(ino)?;
    if is_made(&key.id) {
        let nothing = Arc::new(Listing::new(Vec::new(), MADE_VERSION, false));
        return Ok(Origin::Listing(nothing, Instant::now()));
    }
    let known = |now| {
        let (listing, asked) = space.listings.believed(&key, now)?;
        Some(Origin::Listing(listing, asked))
    };
    if let Some(known) = space.known_or_recalled(&key, known).await {
        return Ok(known);
    }
    let mut folder = space.folder(ino)?;
    let timeout = space.patience();
    let (progress, first) = loop {
        let progress = space.listings.list(&folder.key, &folder.uri);
        let first = progress.folder(timeout).await;
        match (&first, space.gone_on(&folder.key, &folder.uri)) {
            (Err(api::Error::NotFound), Some(now)) => folder.uri = now,
            _ => break (progress, first),
        }
    };
    if let Err(error) = first {
        if matches!(error, api::Error::NotFound) {
            space.metadata.forget(&folder.key);
            doubt_name(space, ino);
        }
        let error = space.error(&folder, error);
        return space.or_known(&key, Err(error), known).await;
    }
    match progress.ended() {
        Some(Ok((listing, asked))) => Ok(Origin::Listing(listing, asked)),
        _ => Ok(Origin::Progress(progress)),
    }
}

/// The name by which the folder `ino` was found is asked for again.
fn doubt_name(space: &Namespace, ino: Ino) {
    if let Some(node) = space.inodes.node(ino).filter(|_| has_name(space, ino))
        && let Ok(parent) = space.folder_key(node.parent)
    {
        space.metadata.doubt(&parent, &node.entry.name);
    }
}

/// Whether the folder `ino` has a name that goes with it. That of a shortcut stays when what it leads to is gone.
fn has_name(space: &Namespace, ino: Ino) -> bool {
    let node = space.inodes.node(ino);
    ino != Ino::ROOT && node.is_some_and(|node| node.entry.shortcut.is_none())
}

impl Handle {
    /// What to read from: a reader that comes back to the beginning sees the folder as it is by then.
    async fn begin_at(&self, space: &Namespace, offset: u64) -> Result<Origin, Error> {
        let (origin, begun) = {
            let mut reading = self.reading.lock().unwrap();
            let before = reading.begun;
            reading.begun |= offset > 0;
            (reading.from.clone(), before)
        };
        let again = offset == 0 && begun;
        let believed = match &origin {
            Origin::Listing(_, asked) => space.metadata.left(*asked, Instant::now()).is_some(),
            Origin::Progress(progress) => progress.ended().is_none(),
        };
        if !again || believed {
            return Ok(origin);
        }
        let from = begin(space, self.ino).await?;
        *self.reading.lock().unwrap() = Reading::of(from.clone());
        Ok(from)
    }
}

/// Hands entries of one folder to the caller until he has enough.
struct Reader<'a, 'b> {
    space: &'a Namespace,
    ino: Ino,
    key: FileKey,
    overlay: Overlay,
    reading: &'a Mutex<Reading>,
    count: bool,
    take: &'b mut (dyn FnMut(FolderEntry<'_>) -> bool + Send),
    /// Something was handed out: an answer without anything is the end of the folder.
    is_any_taken: bool,
}

/// What shows over the listing, so that nobody looks for what there is none of.
struct Overlay {
    locals: bool,
    unheard: bool,
    leaving: bool,
    own: bool,
}

impl Overlay {
    fn of(space: &Namespace, key: &FileKey) -> Self {
        Self {
            locals: space.locals.any_in(key),
            unheard: space.unheard.any_in(key),
            leaving: space.leaving.any_in(key),
            own: space.metadata.has_own(key),
        }
    }
}

/// What to hand out for one name.
enum Now {
    Nothing,
    Local(Shown),
    Known(Arc<Entry>),
}

impl Reader<'_, '_> {
    fn dot(&mut self, at: u64) -> Result<bool, Error> {
        let node = self.space.inodes.node(self.ino).ok_or(Error::NotFound)?;
        let (name, ino, entry) = match at {
            0 => (".", self.ino, node.entry),
            _ => {
                let parent = self.space.inodes.node(node.parent).ok_or(Error::NotFound)?;
                ("..", node.parent, parent.entry)
            }
        };
        let believed = self.space.believed(ino, &entry, None, Duration::ZERO);
        let taken = (self.take)(FolderEntry {
            name: OsStr::new(name),
            ino,
            kind: Kind::Folder,
            next_offset: at + 1,
            believed,
        });
        self.is_any_taken |= taken;
        Ok(taken)
    }

    fn entries(&mut self, listing: &Listing, index: usize, asked: Instant) -> Result<(), Error> {
        let ttl = self.ttl(asked);
        for (index, entry) in listing.entries().iter().enumerate().skip(index) {
            if !self.entry(entry, index, ttl)? {
                return Ok(());
            }
        }
        self.behind(listing, index, ttl)
    }

    /// What is here under names that the listing lacks. The names are looked for where the reader has come to the end of
    /// those that were found before.
    fn behind(&mut self, listing: &Listing, index: usize, ttl: Duration) -> Result<(), Error> {
        let mut at = index.saturating_sub(listing.len());
        while let Some(name) = self.name_behind(listing, at) {
            let now = self.now(&name, None);
            if !self.hand_out(&name, now, listing.len() + at, ttl)? {
                return Ok(());
            }
            at += 1;
        }
        Ok(())
    }

    fn name_behind(&self, listing: &Listing, at: usize) -> Option<Box<OsStr>> {
        let mut reading = self.reading.lock().unwrap();
        if at >= reading.behind.len() {
            let locals = self.space.locals.in_folder(&self.key).into_iter();
            let locals = locals.map(|(name, _)| name.into_boxed_os_str());
            let unheard = self.space.unheard.names_in(&self.key).into_iter();
            let unheard = unheard.map(OsString::into_boxed_os_str);
            let own = self.space.metadata.added(&self.key);
            let before: HashSet<Box<OsStr>> = reading.behind.iter().cloned().collect();
            let new: BTreeSet<_> = locals
                .chain(unheard)
                .chain(own)
                .filter(|name| listing.get(name).is_none() && !before.contains(name))
                .collect();
            reading.behind.extend(new);
        }
        reading.behind.get(at).cloned()
    }

    /// What is under `name`, of which the listing said `entry`.
    fn now(&self, name: &OsStr, entry: Option<&Arc<Entry>>) -> Now {
        let space = self.space;
        if (self.overlay.locals || entry.is_none())
            && let Some(shown) = space.locals.named(&self.key, name)
        {
            return Now::Local(shown);
        }
        if (self.overlay.unheard || entry.is_none())
            && let Some(entry) = space.unheard.named(&self.key, name)
        {
            return Now::Known(entry);
        }
        if self.overlay.leaving && space.leaving.has(&self.key, name) {
            return Now::Nothing;
        }
        let own =
            (self.overlay.own || entry.is_none()).then(|| space.metadata.own(&self.key, name));
        match (own.flatten(), entry) {
            (Some(Some(own)), _) => Now::Known(own),
            (Some(None), _) => Now::Nothing,
            (None, Some(entry)) => Now::Known(Arc::clone(entry)),
            // It was here when it was looked for, and is in a newer listing since: that one may be doubted again by now.
            (None, None) => {
                let last = space.metadata.last_name(&self.key, name);
                last.map_or(Now::Nothing, Now::Known)
            }
        }
    }

    /// Waits for an entry only if none was handed out yet: what is gone by now is none.
    async fn follow(&mut self, progress: &Progress, mut index: usize) -> Result<(), Error> {
        let timeout = self.space.patience();
        while !self.is_any_taken || progress.has(index) {
            match progress.entries(index, BATCH, timeout).await? {
                Reached::All(listing, asked) => return self.entries(&listing, index, asked),
                Reached::Some(entries, asked) => {
                    let ttl = self.ttl(asked);
                    for entry in entries {
                        if !self.entry(&entry, index, ttl)? {
                            return Ok(());
                        }
                        index += 1;
                    }
                }
            }
        }
        Ok(())
    }

    fn entry(&mut self, entry: &Arc<Entry>, index: usize, ttl: Duration) -> Result<bool, Error> {
        let now = self.now(&entry.name, Some(entry));
        self.hand_out(&entry.name, now, index, ttl)
    }

    fn hand_out(
        &mut self,
        name: &OsStr,
        now: Now,
        index: usize,
        ttl: Duration,
    ) -> Result<bool, Error> {
        let (ino, kind, believed) = match now {
            Now::Nothing => return Ok(true),
            Now::Local(shown) => self.local(name, &shown)?,
            Now::Known(entry) => self.known(&entry, ttl)?,
        };
        let taken = (self.take)(FolderEntry {
            name,
            ino,
            kind,
            next_offset: DOTS + index as u64 + 1,
            believed,
        });
        self.is_any_taken |= taken;
        if !taken && self.count {
            self.space.inodes.discount(ino);
        }
        Ok(taken)
    }

    fn local(&self, name: &OsStr, shown: &Shown) -> Result<(Ino, Kind, Believed), Error> {
        let space = self.space;
        let believed = if self.count {
            space.count_local(self.ino, name, shown)?
        } else {
            let entry = Locals::entry(shown, name);
            let number = space.inodes.number(self.ino, &entry, None);
            let (ino, _) = number.ok_or(Error::NotFound)?;
            space.believed_local(ino, &entry, shown)
        };
        Ok((believed.attr.ino, believed.attr.kind, believed))
    }

    fn known(&self, entry: &Arc<Entry>, ttl: Duration) -> Result<(Ino, Kind, Believed), Error> {
        let inodes = &self.space.inodes;
        let shown = self.space.glimpse(&self.key, entry);
        let number = match self.count {
            true => inodes.count(self.ino, entry, shown.as_ref()),
            false => inodes.number(self.ino, entry, shown.as_ref()),
        };
        let (ino, pinned) = number.ok_or(Error::NotFound)?;
        let believed = match &shown {
            Some(shown) => self.space.believed(ino, shown, pinned, ttl),
            // The kernel comes back and asks, if anybody wants to know.
            None => self.space.believed(ino, entry, pinned, Duration::ZERO),
        };
        Ok((ino, believed.attr.kind, believed))
    }

    fn ttl(&self, asked: Instant) -> Duration {
        let left = self.space.metadata.left(asked, Instant::now());
        left.unwrap_or_default()
    }
}
