//! One local file: what it is and how far it is. Its bytes are in [`content`], what becomes of it in [`owed`].
//!
//! Two locks, always in this order: `turn`, held by who changes what the journal says of the file, until that is
//! written; and `inner`, held for what a call does to the content, so that each call sees the others whole or not at
//! all. Reads wait for no commit, and neither do writes, unless what they are about to change is being forgotten
//! ([`Inner::is_leaving`]) or may be sent already ([`Inner::is_guarded`]).

mod content;
mod lent;
mod origin;
mod owed;
mod told;

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::MetadataExt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, RwLock, Weak};
use std::time::SystemTime;

use rustix::fs::{Timespec, Timestamps, UTIME_OMIT};

use crate::staging::about::About;
use crate::staging::folder::Kind;
use crate::staging::journal::{Kept, Row};
use crate::staging::map::{self, Map, Record};
use crate::staging::ranges::Ranges;
use crate::staging::slot::{self, Slot};
use crate::staging::{Base, Delivery, LocalId, Place, State};

use lent::Lent;
pub use lent::Loan;
use origin::Copied;
pub use origin::Origin;
pub use told::There;

/// A file whose current content is here. All methods may block on the disk for a moment, none on the network.
#[derive(Debug)]
pub struct Local {
    number: u64,
    me: Weak<Self>,
    slot: Arc<Slot>,
    /// Who has it changes what the journal says.
    turn: Mutex<()>,
    inner: RwLock<Inner>,
    /// Grows under the lock of `inner`, before the content changes.
    generation: AtomicU64,
    /// Whether it is lent; changes under the lock of `inner`.
    is_lent: AtomicBool,
    /// What was copied to it, if it was. Nothing else is locked while this is.
    copied: Mutex<Option<Box<Copied>>>,
    files: Mutex<Files>,
}

/// What there is to know of the file. `size_bytes` is never less than how far the base shows.
#[derive(Debug)]
struct Inner {
    /// The base's `visible_bytes` are those of now.
    about: About,
    state: State,
    size_bytes: u64,
    mtime: SystemTime,
    /// What is here of the part in which the base shows; all the rest is.
    here: Ranges,
    /// The map says last that bytes are filled in: the file's own time of modification is not ours.
    is_filling: bool,
    /// How far the base shows must be in the map before the file grows.
    cut_owed: bool,
    /// It is being forgotten by the journal: who wants to change it waits for the turn.
    is_leaving: bool,
    /// The journal has an upload session of just this content: it must know before it changes.
    is_guarded: bool,
    delivery: Delivery,
    kept: Kept,
    /// How often all of it was thrown away, as by O_TRUNC: what is on the disk says nothing of what comes then.
    wipes: u64,
    /// The disk did not take it when nobody waited: for the next who does.
    failed: Option<i32>,
    /// The newest generation that was delivered since the start.
    delivered: Option<u64>,
    lent: Lent,
}

/// Its files, as far as they are open. Nothing else is locked while this is.
#[derive(Debug, Default)]
struct Files {
    content: Option<Arc<File>>,
    map: Option<Map>,
    /// How many records the map has; none while there is no map.
    records: Option<u64>,
}

impl Local {
    /// A new one, described beside its content; its row is to be noted.
    pub(super) fn new(slot: &Arc<Slot>, about: About, mtime: SystemTime) -> io::Result<Arc<Self>> {
        let size_bytes = about.base.as_ref().map_or(0, |base| base.visible_bytes);
        let (number, file) = slot::make(slot, &about, size_bytes)?;
        let inner = Inner {
            about,
            state: State::Dirty,
            size_bytes,
            mtime,
            here: Ranges::default(),
            is_filling: false,
            cut_owed: false,
            is_leaving: false,
            is_guarded: false,
            delivery: Delivery::default(),
            kept: Kept::InCache,
            wipes: 0,
            failed: None,
            delivered: None,
            lent: Lent::default(),
        };
        Ok(Self::with(slot, number, inner, 1, file, None))
    }

    /// One that was there, as its row and its files say. With `is_written`, somebody may still write to it.
    pub(super) fn replayed(
        slot: &Arc<Slot>,
        row: Row,
        file: File,
        is_written: bool,
    ) -> io::Result<Arc<Self>> {
        let metadata = file.metadata()?;
        let mut about = row.about;
        let shown = about.base.as_ref().map_or(0, |base| base.visible_bytes);
        let mut told = map::Told::default();
        let mut map = None;
        if shown == 0 {
            slot.disk.folder.remove(row.number, Kind::Map)?;
        } else {
            match slot.disk.folder.get(row.number, Kind::Map) {
                Ok(file) => {
                    let (read, said) = Map::replay(file, slot.id(row.number).0)?;
                    (map, told) = (Some(read), said);
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        let noted = shown.min(told.cut.unwrap_or(shown));
        let visible = noted.min(metadata.len());
        if let Some(base) = &mut about.base {
            base.visible_bytes = visible;
        }
        told.here.clip(visible);
        let changed = map::joined(metadata.ctime(), metadata.ctime_nsec() as u32);
        let inner = Inner {
            about,
            state: match is_written {
                true => State::Dirty,
                false => State::Staged(row.since.unwrap_or(changed)),
            },
            size_bytes: metadata.len(),
            mtime: told.mtime.map_or_else(|| metadata.modified(), Ok)?,
            here: told.here,
            is_filling: told.mtime.is_some(),
            cut_owed: visible < noted,
            is_leaving: false,
            is_guarded: row.delivery.session.is_some(),
            delivery: row.delivery,
            kept: row.kept,
            wipes: 0,
            failed: None,
            delivered: None,
            lent: Lent::left(is_written),
        };
        Ok(Self::with(
            slot,
            row.number,
            inner,
            row.generation,
            file,
            map,
        ))
    }

    fn with(
        slot: &Arc<Slot>,
        number: u64,
        inner: Inner,
        generation: u64,
        content: File,
        map: Option<Map>,
    ) -> Arc<Self> {
        let files = Files {
            content: Some(Arc::new(content)),
            records: map.as_ref().map(Map::records),
            map,
        };
        let local = Arc::new_cyclic(|me| Self {
            number,
            me: Weak::clone(me),
            slot: Arc::clone(slot),
            turn: Mutex::new(()),
            is_lent: AtomicBool::new(inner.lent.is_out()),
            inner: RwLock::new(inner),
            generation: AtomicU64::new(generation),
            copied: Mutex::default(),
            files: Mutex::new(files),
        });
        slot.opened(Arc::downgrade(&local));
        local
    }

    /// Its number in its slot.
    pub(super) fn number(&self) -> u64 {
        self.number
    }

    /// Its number.
    pub fn id(&self) -> LocalId {
        self.slot.id(self.number)
    }

    /// Where it belongs; where it was, when it is unlinked.
    pub fn place(&self) -> Place {
        self.inner.read().unwrap().about.place.clone()
    }

    /// Whether it stays on this machine: its place is of a kind that never goes to the server, and it is owed to nobody
    /// while it lies there.
    pub fn is_local_only(&self) -> bool {
        self.slot
            .local_only
            .has(&self.inner.read().unwrap().about.place)
    }

    /// What it is written over; none of a new file. How much of it shows is as of now.
    pub fn base(&self) -> Option<Base> {
        self.inner.read().unwrap().about.base.clone()
    }

    /// How far it is.
    pub fn state(&self) -> State {
        self.inner.read().unwrap().state.clone()
    }

    /// Bytes in it.
    pub fn size_bytes(&self) -> u64 {
        self.look();
        self.inner.read().unwrap().size_bytes
    }

    /// As its writer set it, or the moment of the last write.
    pub fn mtime(&self) -> SystemTime {
        self.look();
        self.inner.read().unwrap().mtime
    }

    /// Grows with each change of its content, size or mtime. After a restart it is what it was when
    /// [`Local::set_delivery`] noted an upload session, if and only if nothing changed since.
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// The machine went down before all of it was on the disk, or the disk failed, so that it may be shorter than it was,
    /// or have holes. It is to be kept beside what is on the server, and to replace nothing.
    pub fn is_doubtful(&self) -> bool {
        self.inner.read().unwrap().kept == Kept::Doubtful
    }

    /// It is known to be on the disk as a whole. [`Local::truncate`] to nothing waits for the disk then: a power cut must
    /// not leave less than what was there, and nobody doubt it.
    pub fn is_settled(&self) -> bool {
        self.inner.read().unwrap().kept == Kept::OnDisk
    }

    /// Whether the content of `generation`, or a later one, is on the server, or owed to nobody.
    pub fn is_delivered(&self, generation: u64) -> bool {
        let inner = self.inner.read().unwrap();
        !inner.is_owed() || inner.delivered.is_some_and(|newest| newest >= generation)
    }

    /// Whether a newer content than that of `generation` was delivered since the start.
    pub fn is_outrun(&self, generation: u64) -> bool {
        let newest = self.inner.read().unwrap().delivered;
        newest.is_some_and(|newest| newest > generation)
    }

    /// How its delivery goes.
    pub fn delivery(&self) -> Delivery {
        self.inner.read().unwrap().delivery.clone()
    }

    /// Its content, open.
    fn content(&self) -> io::Result<Arc<File>> {
        let mut files = self.files.lock().unwrap();
        if let Some(file) = &files.content {
            return Ok(Arc::clone(file));
        }
        let file = Arc::new(self.slot.disk.folder.get(self.number, Kind::Content)?);
        files.content = Some(Arc::clone(&file));
        drop(files);
        self.slot.opened(Weak::clone(&self.me));
        Ok(file)
    }

    /// Closes its files; the next call that needs them opens them again.
    pub(super) fn close_files(&self) {
        let mut files = self.files.lock().unwrap();
        files.content = None;
        files.map = None;
    }

    /// Appends to the map, which is made if there is none.
    fn append(&self, record: &Record) -> io::Result<()> {
        let mut files = self.files.lock().unwrap();
        let mut map = match self.open_map(&mut files)? {
            Some(map) => map,
            None => {
                let file = self.slot.disk.folder.make_anew(self.number, Kind::Map)?;
                Map::new(file, self.id().0)
            }
        };
        let appended = map.append(record);
        files.keep_map(map);
        appended
    }

    /// The map's file; none if there is no map.
    fn map_file(&self) -> io::Result<Option<Arc<File>>> {
        let mut files = self.files.lock().unwrap();
        let map = self.open_map(&mut files)?;
        let file = map.as_ref().map(Map::file);
        map.into_iter().for_each(|map| files.keep_map(map));
        Ok(file)
    }

    /// Takes the map out of `files`, or opens it again; none if there is none.
    fn open_map(&self, files: &mut Files) -> io::Result<Option<Map>> {
        match (files.map.take(), files.records) {
            (None, Some(records)) => {
                let file = self.slot.disk.folder.get(self.number, Kind::Map)?;
                Ok(Some(Map::reopened(file, self.id().0, records)))
            }
            (map, _) => Ok(map),
        }
    }

    /// The map is not needed any more.
    fn drop_map(&self) -> io::Result<()> {
        let mut files = self.files.lock().unwrap();
        files.map = None;
        match files.records.take() {
            Some(_) => self.slot.disk.folder.remove(self.number, Kind::Map),
            None => Ok(()),
        }
    }
}

impl Files {
    /// Keeps it open only beside an open content, which is what the count of open files counts.
    fn keep_map(&mut self, map: Map) {
        self.records = Some(map.records());
        self.map = self.content.is_some().then_some(map);
    }
}

impl Inner {
    /// How far the base shows where nothing is here.
    fn visible(&self) -> u64 {
        let base = self.about.base.as_ref();
        base.map_or(0, |base| base.visible_bytes)
    }

    fn show_base_to(&mut self, limit: u64) {
        if let Some(base) = &mut self.about.base {
            base.visible_bytes = base.visible_bytes.min(limit);
        }
        self.here.clip(limit);
    }

    /// The first part that is only in the base.
    fn missing(&self) -> Option<Range<u64>> {
        self.here.gaps(0..self.visible()).next()
    }

    /// Whether the journal has it, or will have.
    fn is_owed(&self) -> bool {
        matches!(self.state, State::Dirty | State::Staged(_))
    }
}

/// Sets a file's time of modification, and leaves that of access.
fn set_mtime(file: &File, mtime: SystemTime) -> io::Result<()> {
    let (tv_sec, nanoseconds) = map::split(mtime);
    let time = |tv_sec, tv_nsec| Timespec { tv_sec, tv_nsec };
    let times = Timestamps {
        last_access: time(0, UTIME_OMIT),
        last_modification: time(tv_sec, i64::from(nanoseconds)),
    };
    Ok(rustix::fs::futimens(file, &times)?)
}

impl Drop for Local {
    fn drop(&mut self) {
        // After a panic nobody knows: the next start does.
        if let Ok(inner) = self.inner.get_mut()
            && !inner.is_owed()
        {
            self.close_files();
            let size_bytes = self.size_bytes();
            self.slot.let_go(self.number, size_bytes);
        }
    }
}
