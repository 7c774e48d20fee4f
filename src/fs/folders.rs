//! Open folders: opendir, readdir, closedir.
//!
//! A handle reads one listing from beginning to end: a complete one, or one that is under way, whose entries it hands
//! out as they come. An error of that listing is the reader's error, never the end of the folder. Offsets are places in
//! the listing, so they stay valid however the folder changes.

use std::ffi::OsStr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::api;
use crate::entry::{Entry, FileKey};
use crate::inodes::Ino;
use crate::listing::{Progress, Reached};
use crate::metadata::Listing;
use crate::model::FileKind;

use super::handles::Handles;
use super::namespace::Namespace;
use super::{Error, FolderEntry, HandleId, Opened};

/// Entries taken at once from a listing under way; about what the kernel asks for at once.
const BATCH: usize = 256;

/// Places of `.` and `..`; the listing's entries follow.
const DOTS: u64 = 2;

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
        let from = begin(space, ino).await?;
        let keep_cache = match &from {
            Origin::Listing(listing, _) => space.inodes.show_listing(ino, listing.version()),
            Origin::Progress(_) => {
                space.inodes.show_listing(ino, 0);
                false
            }
        };
        let reading = Mutex::new(Reading { from, begun: false });
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
            key,
            count,
            take,
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
            Origin::Progress(progress) => reader.follow(&progress, index, at > offset).await,
        }
    }
}

/// A listing of `ino` to read from: a believed one at once, else one that is under way and has its first page.
async fn begin(space: &Namespace, ino: Ino) -> Result<Origin, Error> {
    let key = space.folder_key(ino)?;
    if let Some((listing, asked)) = space.metadata.listing(&key, Instant::now()) {
        return Ok(Origin::Listing(listing, asked));
    }
    let folder = space.folder(ino)?;
    let timeout = space.options.timeout;
    let progress = space.listings.list(&folder.key, &folder.uri);
    let first = progress.folder(timeout).await;
    if let Err(error) = first {
        if matches!(error, api::Error::NotFound) {
            space.metadata.forget(&folder.key);
        }
        return Err(space.error(&folder, error));
    }
    match progress.ended() {
        Some(Ok((listing, asked))) => Ok(Origin::Listing(listing, asked)),
        _ => Ok(Origin::Progress(progress)),
    }
}

impl Handle {
    /// What to read from: a reader that comes back to the beginning sees the folder as it is by then.
    async fn begin_at(&self, space: &Namespace, offset: u64) -> Result<Origin, Error> {
        let reading = {
            let mut reading = self.reading.lock().unwrap();
            let before = reading.clone();
            reading.begun |= offset > 0;
            before
        };
        let again = offset == 0 && reading.begun;
        let believed = match &reading.from {
            Origin::Listing(_, asked) => space.metadata.left(*asked, Instant::now()).is_some(),
            Origin::Progress(progress) => progress.ended().is_none(),
        };
        if !again || believed {
            return Ok(reading.from);
        }
        let from = begin(space, self.ino).await?;
        *self.reading.lock().unwrap() = Reading {
            from: from.clone(),
            begun: false,
        };
        Ok(from)
    }
}

/// Hands entries of one folder to the caller until he has enough.
struct Reader<'a, 'b> {
    space: &'a Namespace,
    ino: Ino,
    key: FileKey,
    count: bool,
    take: &'b mut (dyn FnMut(FolderEntry<'_>) -> bool + Send),
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
        Ok((self.take)(FolderEntry {
            name: OsStr::new(name),
            ino,
            kind: FileKind::Folder,
            next_offset: at + 1,
            believed,
        }))
    }

    fn entries(&mut self, listing: &Listing, index: usize, asked: Instant) -> Result<(), Error> {
        let ttl = self.ttl(asked);
        for (index, entry) in listing.entries().iter().enumerate().skip(index) {
            if !self.entry(entry, index, ttl)? {
                break;
            }
        }
        Ok(())
    }

    /// Waits for an entry only if none was handed out yet.
    async fn follow(
        &mut self,
        progress: &Progress,
        mut index: usize,
        mut some: bool,
    ) -> Result<(), Error> {
        let timeout = self.space.options.timeout;
        while !some || progress.has(index) {
            match progress.entries(index, BATCH, timeout).await? {
                Reached::All(listing, asked) => return self.entries(&listing, index, asked),
                Reached::Some(entries, asked) => {
                    let ttl = self.ttl(asked);
                    for entry in entries {
                        if !self.entry(&entry, index, ttl)? {
                            return Ok(());
                        }
                        index += 1;
                        some = true;
                    }
                }
            }
        }
        Ok(())
    }

    fn entry(&mut self, entry: &Arc<Entry>, index: usize, ttl: Duration) -> Result<bool, Error> {
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
        let taken = (self.take)(FolderEntry {
            name: &entry.name,
            ino,
            kind: entry.kind,
            next_offset: DOTS + index as u64 + 1,
            believed,
        });
        if !taken && self.count {
            inodes.discount(ino);
        }
        Ok(taken)
    }

    fn ttl(&self, asked: Instant) -> Duration {
        let left = self.space.metadata.left(asked, Instant::now());
        left.unwrap_or_default()
    }
}
