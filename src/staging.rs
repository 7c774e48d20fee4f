//! Content that is here and not yet on the server, and the journal of what we owe.
//!
//! A [`Local`] is a file whose current content lies in the state directory: new, or written over a version of the server's
//! (its *base*), of which only what was written is here. Promises: what a method returned is kept when the process is
//! killed at any moment, and after [`Local::durable`] when the power is cut; nothing that is owed leaves but by
//! [`Local::delivered`] or [`Local::unlink`]. Never asks the network, and knows no inodes.
//!
//! In the state directory: `drives/<hash of the drive>-<slot>/`, in which `content/N` is the content of local file N,
//! `content/N.map` which of its bytes are here, and `journal.sqlite` what is owed. What a content is lies beside it as
//! well (`folder`), so that it can be delivered without the journal; so the journal is what says that something is
//! owed no more, and what survives power cuts.

mod about;
mod clearing;
mod database;
mod folder;
mod journal;
mod lease;
mod local;
mod map;
mod ranges;
mod remove;
mod reserve;
mod settle;
mod slot;
mod spare;
mod stays;
mod untold;

#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::ffi::OsString;
use std::fmt;
use std::io;
use std::ops::Range;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use serde::{Deserialize, Serialize};

use crate::attributes::Attributes;
use crate::crash::{self, Point};
use crate::entity::Entity;
use crate::entry::FileKey;
use crate::model::FileId;
use crate::names::{NamePolicy, ServerName};
use crate::staging::about::About;
use crate::staging::settle::{Settler, Unsettled};
use crate::staging::slot::Slot;
use crate::staging::untold::Untolds;
use crate::uri::FileUri;

pub use clearing::{Clearing, is_made, made_id};
pub use local::{Loan, Local, Origin, There};
pub use stays::LocalOnly;
pub use untold::Untold;

/// Where what is owed is kept.
#[derive(Debug, Clone)]
pub struct Options {
    /// The state directory.
    pub dir: PathBuf,
    /// Which drive: the same text for each mount of the same root by the same account of the same site. Mounts of one
    /// drive that live at the same time get a slot each; a slot that nobody has any more is taken over with all it owes.
    pub drive: String,
    /// What stays here. A file whose name is no longer of these kinds is owed from the next start on.
    pub local_only: LocalOnly,
}

/// Number of a local file; never used twice in a slot, also not after a restart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LocalId(pub u64);

/// Where a local file belongs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The folder's identity here; its id is empty for the root of the mount.
    pub folder: FileKey,
    /// Where that folder was when it was seen last.
    pub folder_uri: FileUri,
    /// The name in it, as the server is to have it.
    pub name: ServerName,
    /// All of the name, where that is known to be a part of it; told to the server beside the content.
    pub full: Option<Arc<str>>,
}

impl Place {
    /// Where the file is, if nobody moved the folder.
    pub fn uri(&self) -> FileUri {
        self.folder_uri.child(self.name.clone())
    }

    /// What programs here call it; what is [`ServerName::to_local`] may be the name of something else, too.
    pub fn local_name(&self, names: NamePolicy) -> OsString {
        let own = self.name.local_of(self.full.as_deref(), names);
        own.unwrap_or_else(|| self.name.to_local(names))
    }
}

/// The file of the server's that gets the content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Base {
    /// Its identity.
    pub file: FileId,
    /// The version that the content is based on: what `previous` says. An empty file's is the site's sentinel, of size 0.
    pub entity: Entity,
    /// How much of that version, from its beginning, shows where nothing was written here. 0 where all was replaced, as by
    /// a rename of another file onto it.
    pub visible_bytes: u64,
}

/// Part of a local file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// Here: written, or a hole that reads as zeros. [`Local::read`] gives it.
    Here(Range<u64>),
    /// Still only in the base: who wants it reads it there, and may [`Local::fill`] it in.
    Base(Range<u64>),
}

/// How far a local file is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// Written to, and open; or lent, and not given back by all who may write.
    Dirty,
    /// Closed and journaled: owed to the server since then.
    Staged(SystemTime),
    /// What is here is on the server; kept only because somebody has it open.
    Delivered,
    /// Unlinked while open: never goes to the server.
    Unlinked,
}

/// How its delivery goes, journaled for the next start.
#[derive(Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Delivery {
    /// Tries that failed.
    pub tries: u32,
    /// Why the last one did, in words for a person, without secrets.
    pub last_error: Option<String>,
    /// It is of no use to try again before somebody does something; the text says what.
    pub blocked: Option<String>,
    /// What the uploader wants to find again after a crash (its upload session): opaque here, may hold secrets. May be
    /// megabytes, so it is shared, and written only where it changes.
    #[serde(skip)]
    pub session: Option<Arc<str>>,
    /// How far that is; changes often.
    pub progress: Option<String>,
    /// Content was put under this name because another version won its place.
    pub conflict: Option<String>,
}

impl fmt::Debug for Delivery {
    /// Without what may hold secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Delivery")
            .field("tries", &self.tries)
            .field("last_error", &self.last_error)
            .field("blocked", &self.blocked)
            .field("session", &self.session.as_ref().map(|_| "***"))
            .field("progress", &self.progress.as_ref().map(|_| "***"))
            .field("conflict", &self.conflict)
            .finish()
    }
}

/// Whether the server has heard what is told of a file.
pub type IsTold = bool;

/// Number of noted steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct StepsId(pub i64);

/// The staging of one mount. Its drop ends what is kept here; what is owed stays so for the next start.
#[derive(Debug)]
pub struct Staging {
    /// Where new files go.
    slot: Arc<Slot>,
    /// Slots that nobody else had any more, and that owe something. They are worked off where they are: nothing moves,
    /// so no crash can double or lose it.
    taken_over: Mutex<Vec<Arc<Slot>>>,
    untold: Arc<Untolds>,
    clearing: Clearing,
    /// Ends first.
    settler: Option<Settler>,
}

impl Staging {
    /// Takes a slot of the drive, and finds what it owes, the oldest first: those whose writer was killed are `Staged`
    /// now. Refused where the state was written by a newer version.
    pub fn open(options: Options) -> io::Result<(Arc<Self>, Vec<Arc<Local>>)> {
        Self::open_in(options, this_boot())
    }

    /// As [`Staging::open`], in the run of the kernel that `boot` stands for.
    fn open_in(options: Options, boot: u64) -> io::Result<(Arc<Self>, Vec<Arc<Local>>)> {
        let unsettled = Arc::new(Unsettled::default());
        let untold = Arc::new(Untolds::default());
        let shared = (&unsettled, &untold);
        let local_only = Arc::new(options.local_only);
        let mut number = 0;
        let (slot, mut locals) = loop {
            let path = slot::path(&options.dir, &options.drive, number);
            match Slot::take(path, number, boot, shared, &local_only)? {
                Some(taken) => break taken,
                None => number += 1,
            }
        };
        let mut taken_over = Vec::new();
        // Slots are taken from the lowest on: behind the first number that was never used there is none.
        for number in number + 1.. {
            let path = slot::path(&options.dir, &options.drive, number);
            if !path.exists() {
                break;
            }
            match Slot::take(path.clone(), number, boot, shared, &local_only) {
                Ok(Some((slot, found))) if !slot.is_idle() => {
                    log::info!("what was left in {} is taken over", path.display());
                    locals.extend(found);
                    taken_over.push(slot);
                }
                Ok(_) => {}
                // What this mount does itself is not held up by it.
                Err(error) => {
                    log::error!("what is owed in {} stays there: {error}", path.display())
                }
            }
        }
        drop_replaced(&mut locals)?;
        locals.sort_by_key(|local| match local.state() {
            State::Staged(since) => since,
            _ => SystemTime::UNIX_EPOCH,
        });
        let staging = Self {
            slot,
            taken_over: Mutex::new(taken_over),
            untold,
            clearing: Clearing::default(),
            settler: Some(Settler::new(unsettled)?),
        };
        Ok((Arc::new(staging), locals))
    }

    /// A new file in `place`. With `base`, over that version, as much of it as is to show; else empty. Journaled when
    /// this returns.
    pub fn create(
        self: &Arc<Self>,
        place: Place,
        base: Option<Base>,
        mtime: SystemTime,
    ) -> io::Result<Arc<Local>> {
        self.create_telling(place, base, mtime, None)
    }

    /// As [`Staging::create`], with what is told of the file beside its content; with `is_told`, the server has heard it.
    pub fn create_telling(
        self: &Arc<Self>,
        place: Place,
        base: Option<Base>,
        mtime: SystemTime,
        told: Option<(Arc<Attributes>, IsTold)>,
    ) -> io::Result<Arc<Local>> {
        let mut about = About::new(place, base);
        if let Some((attributes, is_told)) = told {
            about = about.telling(Some(attributes), !is_told);
        }
        let local = Local::new(&self.slot, about, mtime)?;
        local.keep();
        if let Err(error) = local.note() {
            // Nobody is told that it is there, so it must not be owed.
            local.unlink()?;
            return Err(error);
        }
        crash::pass(Point::Created);
        Ok(local)
    }

    /// All that is owed, oldest first, with what is being written ([`State::Dirty`]) and what stays here
    /// ([`Local::is_local_only`]).
    pub fn owed(&self) -> Vec<Arc<Local>> {
        self.slots().iter().flat_map(|slot| slot.owed()).collect()
    }

    /// Places to which no new file goes yet.
    pub fn clearing(&self) -> &Clearing {
        &self.clearing
    }

    /// Whether a file at `place` stays here.
    pub fn is_local_only(&self, place: &Place) -> bool {
        self.slot.local_only.has(place)
    }

    /// What is told of `file` that the server has not heard, where its content is not here.
    pub fn untold(&self, file: &FileId) -> Option<Arc<Attributes>> {
        self.untold.get(file)
    }

    /// All files of which the server is to hear, whose content is not here.
    pub fn to_tell(&self) -> Vec<Untold> {
        self.untold.all()
    }

    /// The server is to hear of `attributes` of `file`, which lies in `place`. Survives the end of the process when this
    /// returns.
    pub fn tell(&self, file: &FileId, place: Place, attributes: Attributes) -> io::Result<()> {
        let commit = |change| self.slot.journal.commit(change);
        let attributes = Arc::new(attributes);
        self.untold
            .tell(&self.slot, file, place, attributes, commit)
    }

    /// What is to be told survives a power cut.
    pub async fn tell_durably(&self) -> io::Result<()> {
        if self.untold.all_durable() {
            return Ok(());
        }
        let (slot, untold) = (Arc::clone(&self.slot), Arc::clone(&self.untold));
        on_disk(move || {
            let newest = untold.newest();
            slot.journal.flush()?;
            untold.durable(newest);
            Ok(())
        })
        .await
    }

    /// `attributes` show of `file` as long as the mount lives, and nobody hears of them.
    pub fn remember(&self, file: FileId, attributes: Attributes) {
        self.untold.remember(file, Arc::new(attributes));
    }

    /// The server heard of `file` what was to tell with this number. It shows for `still` so long, over what was asked before.
    pub fn told(&self, file: &FileId, number: u64, still: Duration) -> io::Result<bool> {
        self.untold.heard(file, number, Instant::now() + still)
    }

    /// Nothing is to be told of `file` any more: it is gone, or its content is here and carries it.
    pub fn tell_nothing(&self, file: &FileId) -> io::Result<bool> {
        self.untold.forget(file)
    }

    /// Notes that `steps` are under way until [`Staging::done`]: work of several calls to the server that must be
    /// finished or undone after a crash (opaque here). Journaled, durable against power cuts, when this returns.
    pub async fn begin(&self, steps: String) -> io::Result<StepsId> {
        let slot = Arc::clone(&self.slot);
        on_disk(move || slot.begin(steps)).await
    }

    /// As [`Staging::begin`], and it survives the end of the process when this returns, a power cut only from the next flush
    /// on. For what is done again without harm.
    pub fn begin_lightly(&self, steps: String) -> io::Result<StepsId> {
        self.slot.begin_lightly(steps)
    }

    /// As [`Staging::done`], without waiting: after a crash they may be unfinished still.
    pub fn done_soon(&self, id: StepsId) -> io::Result<()> {
        let (slot, id) = self.slot_of(id)?;
        slot.done_soon(id)
    }

    /// Those that were begun and are not done, oldest first.
    pub fn unfinished(&self) -> Vec<(StepsId, String)> {
        self.slots().iter().flat_map(|slot| slot.steps()).collect()
    }

    /// Replaces what is noted of them.
    pub async fn go_on(&self, id: StepsId, steps: String) -> io::Result<()> {
        let (slot, id) = self.slot_of(id)?;
        on_disk(move || slot.set_steps(id, steps)).await
    }

    /// As [`Staging::go_on`], and it survives the end of the process when this returns, a power cut only from the next flush on.
    pub fn go_on_lightly(&self, id: StepsId, steps: String) -> io::Result<()> {
        let (slot, id) = self.slot_of(id)?;
        slot.set_steps_lightly(id, steps)
    }

    /// They are finished, or undone.
    pub async fn done(&self, id: StepsId) -> io::Result<()> {
        let (slot, id) = self.slot_of(id)?;
        on_disk(move || slot.done(id)).await
    }

    /// Bytes on disk of all local files, for `status`. Asks the disk for each.
    pub fn disk_bytes(&self) -> u64 {
        let bytes = |slot: &Arc<Slot>| slot.disk.folder.disk_bytes().unwrap_or_default();
        self.slots().iter().map(bytes).sum()
    }

    /// Those taken over first: they are older.
    fn slots(&self) -> Vec<Arc<Slot>> {
        let taken_over = self.taken_over.lock().unwrap();
        taken_over.iter().chain([&self.slot]).cloned().collect()
    }

    fn slot_of(&self, id: StepsId) -> io::Result<(Arc<Slot>, i64)> {
        let (number, id) = Slot::split(id);
        let slot = self
            .slots()
            .into_iter()
            .find(|slot| slot.slot_number() == number);
        let slot = slot.ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
        Ok((slot, id))
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        drop(self.settler.take());
        for slot in self.slots() {
            slot.close();
        }
    }
}

/// Whether contents in the state directory `dir` can be lent ([`Local::lend`]): an error says why not.
pub fn can_lend(dir: &Path) -> io::Result<()> {
    let mut options = std::fs::File::options();
    let nameless = options
        .read(true)
        .write(true)
        .custom_flags(libc::O_TMPFILE)
        .open(dir)?;
    lease::is_known(&nameless)
}

/// Ends what was interrupted between two steps: a file that took the place of another one, which was still to be unlinked.
fn drop_replaced(locals: &mut Vec<Arc<Local>>) -> io::Result<()> {
    let replaced: HashSet<LocalId> = locals.iter().filter_map(|local| local.replaces()).collect();
    let (gone, owed) = std::mem::take(locals)
        .into_iter()
        .partition(|local| replaced.contains(&local.id()));
    *locals = owed;
    let gone: Vec<Arc<Local>> = gone;
    gone.iter().try_for_each(|local| local.unlink())
}

/// Whether no slot of the state directory `dir` is in use: threads and tasks that were told to end, and children of the
/// process that are yet to become another program, keep one for a moment.
#[cfg(test)]
pub(crate) fn is_free(dir: &std::path::Path) -> bool {
    let Ok(slots) = std::fs::read_dir(dir.join("drives")) else {
        return true;
    };
    slots.flatten().all(|slot| {
        let lock = std::fs::File::open(slot.path().join("lock")).expect("each slot has a lock");
        lock.try_lock().is_ok()
    })
}

/// A number for this run of the kernel; the same for all where it does not say.
fn this_boot() -> u64 {
    let id = std::fs::read("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    crate::entry::stable_hash([&id])
}

async fn on_disk<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(io::Error::other)?
}
