//! One directory of a drive's: contents, journal and the lock that says whose they are.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fs::File;
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use rustix::fs::FlockOperation;
use sha2::{Digest, Sha256};

use crate::entry::stable_hash;
use crate::staging::about::About;
use crate::staging::database::Content;
use crate::staging::folder::{self, Folder, Kind};
use crate::staging::journal::{self, Change, Disk, Journal, Kept, Row};
use crate::staging::lease;
use crate::staging::remove::Remover;
use crate::staging::reserve::Reserve;
use crate::staging::settle::Unsettled;
use crate::staging::spare::Spares;
use crate::staging::untold::Untolds;
use crate::staging::{Delivery, Local, LocalId, LocalOnly, StepsId};

/// Numbers that are set aside at once, so that not each new file writes which number comes next.
const NUMBERS: u64 = 1024;

/// Below it in a [`LocalId`] or [`StepsId`] is the number in its slot, above it the slot's.
const SLOT_SHIFT: u32 = 40;

/// Local files whose files are held open at once: two each, a fraction of what a process may have open by default.
const OPEN: usize = 200;

/// How often a lock is tried, and how long between: one that was killed is held on to by a process that it was about to
/// start, until that begins to run.
const LOCK_TRIES: u32 = 5;
const LOCK_PAUSE: Duration = Duration::from_millis(10);

/// A slot that is ours.
#[derive(Debug)]
pub(super) struct Slot {
    number: u64,
    pub(super) path: PathBuf,
    pub(super) disk: Arc<SlotDisk>,
    pub(super) journal: Journal,
    /// What is owed, and what is being written; none at the end, when nothing is kept alive any more.
    owed: Mutex<Option<BTreeMap<u64, Arc<Local>>>>,
    /// Those with open files, the longest open first.
    open: Mutex<VecDeque<Weak<Local>>>,
    numbers: Mutex<Numbers>,
    steps: Mutex<BTreeMap<i64, String>>,
    /// Of which files the server is to hear.
    pub(super) untold: Arc<Untolds>,
    /// What of it is to be brought to the disk.
    pub(super) unsettled: Arc<Unsettled>,
    remover: Remover,
    /// None at the end.
    spares: Option<Spares>,
    /// Which of it stays here.
    pub(super) local_only: Arc<LocalOnly>,
    /// Held as long as the slot is ours.
    _lock: File,
}

/// A slot that was taken, and what it owes.
type Taken = (Arc<Slot>, Vec<Arc<Local>>);

/// What of a slot the journal's thread uses too.
#[derive(Debug)]
pub(super) struct SlotDisk {
    pub(super) folder: Arc<Folder>,
    pub(super) reserve: Reserve,
}

#[derive(Debug)]
struct Numbers {
    next: u64,
    aside: u64,
    next_steps: i64,
}

impl Disk for SlotDisk {
    fn before_flush(&self) -> io::Result<()> {
        self.folder.sync_names()
    }

    fn make_room(&self) {
        self.reserve.release();
    }
}

/// The directory of slot `number` of `drive`.
pub(super) fn path(dir: &Path, drive: &str, number: u64) -> PathBuf {
    let hash = Sha256::digest(drive.as_bytes());
    let hash: String = hash
        .iter()
        .take(10)
        .map(|byte| format!("{byte:02x}"))
        .collect();
    dir.join("drives").join(format!("{hash}-{number}"))
}

impl Slot {
    /// Takes the slot at `path`, which is made if it is not there; none if another mount has it. `boot` tells the runs of
    /// the kernel apart; a disk that is another device than before was away in between, so that counts as one.
    pub(super) fn take(
        path: PathBuf,
        number: u64,
        boot: u64,
        (unsettled, untold): (&Arc<Unsettled>, &Arc<Untolds>),
        local_only: &Arc<LocalOnly>,
    ) -> io::Result<Option<Taken>> {
        folder::make_dir(&path)?;
        let Some(lock) = lock(&path)? else {
            return Ok(None);
        };
        let folder = Arc::new(Folder::open(&folder::content_path(&path))?);
        let database = match journal::open(&path.join("journal.sqlite")) {
            Ok(database) => database,
            // There may be room once what was kept for this is given back.
            Err(error) if error.raw_os_error() == Some(libc::ENOSPC) => {
                Reserve::release_at(&path);
                journal::open(&path.join("journal.sqlite"))?
            }
            Err(error) => return Err(error),
        };
        let device = std::fs::metadata(&path)?.dev();
        let boot = stable_hash([&boot.to_le_bytes(), &device.to_le_bytes()]);
        let mut content = database.content()?;
        let to_tell = std::mem::take(&mut content.untold);
        let found = folder.numbers()?;
        let remover = Remover::new(&folder)?;
        let spares = Some(Spares::new(&folder));
        let disk = Arc::new(SlotDisk {
            folder,
            reserve: Reserve::new(&path),
        });
        let journal = Journal::new(database, Arc::clone(&disk) as Arc<dyn Disk>)?;
        let next = found.last().map_or(1, |last| last + 1).max(content.next);
        sync_dirs(&path)?;
        let slot = Arc::new(Self {
            number,
            path,
            disk,
            journal,
            owed: Mutex::new(Some(BTreeMap::new())),
            open: Mutex::default(),
            numbers: Mutex::new(Numbers {
                next,
                aside: next,
                next_steps: content.steps.last().map_or(1, |(id, _)| id + 1),
            }),
            steps: Mutex::new(content.steps.iter().cloned().collect()),
            local_only: Arc::clone(local_only),
            unsettled: Arc::clone(unsettled),
            untold: Arc::clone(untold),
            remover,
            spares,
            _lock: lock,
        });
        // A journal that does not say so is new, or was lost; what is there then most likely met a power cut.
        let is_same_run = content
            .boot
            .map_or(found.is_empty(), |before| before == boot);
        let locals = slot.replay(content, &found, is_same_run)?;
        slot.journal.commit_durably(Change::Boot(boot))?;
        for about in to_tell {
            slot.untold.found(&slot, about);
        }
        Ok(Some((slot, locals)))
    }

    /// Whether it owes anything.
    pub(super) fn is_idle(&self) -> bool {
        let owes = self.owed.lock().unwrap();
        let owes = owes.as_ref().is_some_and(|owed| !owed.is_empty());
        !owes && self.steps.lock().unwrap().is_empty() && !self.untold.any_of(self)
    }

    /// Makes of what is on the disk what was owed: all rows of the journal, and what lies described without one.
    fn replay(
        self: &Arc<Self>,
        content: Content,
        found: &BTreeSet<u64>,
        is_same_run: bool,
    ) -> io::Result<Vec<Arc<Local>>> {
        let mut rows: BTreeMap<u64, Row> = BTreeMap::new();
        rows.extend(content.rows.into_iter().map(|row| (row.number, row)));
        let mut locals = Vec::new();
        for number in rows.keys().chain(found).copied().collect::<BTreeSet<_>>() {
            let row = rows.remove(&number);
            let is_noted = row.is_some();
            let is_damaged = content.damaged.contains(&number);
            if let Some(local) = self.replay_one(number, row, is_damaged)? {
                let is_doubted = !is_same_run && local.doubt();
                if is_doubted || !is_noted {
                    local.note()?;
                }
                locals.push(local);
            }
        }
        Ok(locals)
    }

    fn replay_one(
        self: &Arc<Self>,
        number: u64,
        row: Option<Row>,
        is_damaged: bool,
    ) -> io::Result<Option<Arc<Local>>> {
        // In this order: whoever opens it to write to it is one who may, and so are we.
        let is_written = self.is_written(number);
        let file = match self.disk.folder.get(number, Kind::Content) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return self.without_content(number, row).map(|()| None);
            }
            other => other?,
        };
        let row = match row {
            Some(mut row) => {
                // What was told of it is beside the content before the journal has it.
                if let Some(Some(about)) = self.disk.folder.description(number, &file)?
                    && about.attributes != row.about.attributes
                {
                    row.about = row.about.telling(about.attributes, true);
                }
                row
            }
            None => match self.disk.folder.description(number, &file)? {
                Some(Some(about)) => Row {
                    number,
                    about,
                    since: None,
                    generation: 1,
                    kept: Kept::InCache,
                    delivery: Delivery::default(),
                },
                // Nobody is owed it: the process was killed before it was removed.
                None if !is_damaged => return self.disk.folder.remove_all(number).map(|()| None),
                _ => {
                    log::error!(
                        "nobody knows any more where the content {} belongs: it stays there",
                        folder::content_path(&self.path)
                            .join(number.to_string())
                            .display()
                    );
                    return Ok(None);
                }
            },
        };
        let local = Local::replayed(self, row, file, is_written)?;
        self.keep(&local);
        Ok(Some(local))
    }

    /// Whether a mount whose daemon was killed still has handles of a content that may write to it.
    fn is_written(&self, number: u64) -> bool {
        let file = self.disk.folder.look(number);
        // Where leases do not work, nothing is lent (→ `can_lend`).
        file.and_then(|file| lease::is_written(&file))
            .unwrap_or(false)
    }

    /// Something is known of a content that is not there.
    fn without_content(&self, number: u64, row: Option<Row>) -> io::Result<()> {
        if let Some(row) = row {
            log::error!(
                "the content of {} is lost: {} is not there any more",
                row.about.place.uri(),
                folder::content_path(&self.path)
                    .join(number.to_string())
                    .display()
            );
            self.journal.note(Change::Remove(number))?;
        }
        self.disk.folder.remove_all(number)
    }

    /// A number that no local file had.
    pub(super) fn number(&self) -> io::Result<u64> {
        let mut numbers = self.numbers.lock().unwrap();
        if numbers.next >= numbers.aside {
            let aside = numbers.next + NUMBERS;
            self.journal.note(Change::Next(aside))?;
            numbers.aside = aside;
        }
        numbers.next += 1;
        Ok(numbers.next - 1)
    }

    /// The number by which others know local file `number`.
    pub(super) fn id(&self, number: u64) -> LocalId {
        LocalId(self.number << SLOT_SHIFT | number)
    }

    /// `local` is owed, or will be.
    pub(super) fn keep(&self, local: &Arc<Local>) {
        if let Some(owed) = &mut *self.owed.lock().unwrap() {
            owed.insert(local.number(), Arc::clone(local));
        }
    }

    /// Nobody is owed it any more.
    pub(super) fn forget(&self, number: u64) {
        let mut owed = self.owed.lock().unwrap();
        let local = owed.as_mut().and_then(|owed| owed.remove(&number));
        // It may be the last one, whose end takes its time.
        drop(owed);
        drop(local);
    }

    /// All that is owed, the oldest first.
    pub(super) fn owed(&self) -> Vec<Arc<Local>> {
        let owed = self.owed.lock().unwrap();
        owed.iter().flat_map(BTreeMap::values).cloned().collect()
    }

    /// The end: nothing is kept alive from here on.
    pub(super) fn close(&self) {
        let owed = self.owed.lock().unwrap().take();
        drop(owed);
    }

    /// `local` has opened its files: closes those of another, if there are too many.
    pub(super) fn opened(&self, local: Weak<Local>) {
        let mut open = self.open.lock().unwrap();
        open.push_back(local);
        let over = (open.len() > OPEN).then(|| open.pop_front()).flatten();
        drop(open);
        if let Some(local) = over.and_then(|local| local.upgrade()) {
            local.close_files();
        }
    }

    /// The files of local file `number`, which is not owed and which nobody has open any more, are not needed.
    pub(super) fn let_go(&self, number: u64, size_bytes: u64) {
        let spares = self.spares.as_ref();
        if !spares.is_some_and(|spares| spares.keep(number, size_bytes, || self.number())) {
            self.remover.remove(number, size_bytes);
        }
    }

    /// The content of a new local file, empty and described nowhere, and its number.
    fn content(&self) -> io::Result<(u64, File)> {
        if let Some(spare) = self.spares.as_ref().and_then(Spares::take) {
            return Ok(spare);
        }
        let number = self.number()?;
        Ok((number, self.disk.folder.make(number, Kind::Content)?))
    }

    /// Notes steps under a new number.
    pub(super) fn begin(&self, steps: String) -> io::Result<StepsId> {
        let id = self.next_steps();
        self.set_steps(id, steps)?;
        Ok(self.steps_id(id))
    }

    /// As [`Slot::begin`], of what need not survive a power cut before the next flush.
    pub(super) fn begin_lightly(&self, steps: String) -> io::Result<StepsId> {
        let id = self.next_steps();
        self.set_steps_lightly(id, steps)?;
        Ok(self.steps_id(id))
    }

    /// As [`Slot::set_steps`], of what need not survive a power cut before the next flush.
    pub(super) fn set_steps_lightly(&self, id: i64, steps: String) -> io::Result<()> {
        self.journal.commit(Change::Steps(id, steps.clone()))?;
        self.steps.lock().unwrap().insert(id, steps);
        Ok(())
    }

    fn next_steps(&self) -> i64 {
        let mut numbers = self.numbers.lock().unwrap();
        numbers.next_steps += 1;
        numbers.next_steps - 1
    }

    fn steps_id(&self, id: i64) -> StepsId {
        StepsId((self.number as i64) << SLOT_SHIFT | id)
    }

    /// The slot and the number in it that are in `id`.
    pub(super) fn split(id: StepsId) -> (u64, i64) {
        ((id.0 >> SLOT_SHIFT) as u64, id.0 & ((1 << SLOT_SHIFT) - 1))
    }

    /// Notes steps under a number that is in use.
    pub(super) fn set_steps(&self, id: i64, steps: String) -> io::Result<()> {
        self.journal
            .commit_durably(Change::Steps(id, steps.clone()))?;
        self.steps.lock().unwrap().insert(id, steps);
        Ok(())
    }

    /// They are finished.
    pub(super) fn done(&self, id: i64) -> io::Result<()> {
        self.journal.commit_durably(Change::Done(id))?;
        self.steps.lock().unwrap().remove(&id);
        Ok(())
    }

    /// As [`Slot::done`], without waiting: after a crash they may be noted still.
    pub(super) fn done_soon(&self, id: i64) -> io::Result<()> {
        self.journal.note(Change::Done(id))?;
        self.steps.lock().unwrap().remove(&id);
        Ok(())
    }

    /// All that are noted, the oldest first.
    pub(super) fn steps(&self) -> Vec<(StepsId, String)> {
        let steps = self.steps.lock().unwrap();
        steps
            .iter()
            .map(|(id, steps)| (self.steps_id(*id), steps.clone()))
            .collect()
    }

    /// Its number among those of the drive.
    pub(super) fn slot_number(&self) -> u64 {
        self.number
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        drop(self.spares.take());
        // What owes nothing keeps no room for it.
        let is_idle = self
            .disk
            .folder
            .numbers()
            .is_ok_and(|found| found.is_empty());
        if is_idle {
            self.disk.reserve.remove();
        }
    }
}

/// Locks the slot at `path`; none if somebody else has it.
fn lock(path: &Path) -> io::Result<Option<File>> {
    let file = File::options()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path.join("lock"))?;
    for _ in 0..LOCK_TRIES {
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(Some(file)),
            Err(rustix::io::Errno::WOULDBLOCK) => std::thread::sleep(LOCK_PAUSE),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(None)
}

/// The names of the slot's directory and of those above it are on the disk.
fn sync_dirs(path: &Path) -> io::Result<()> {
    // The slot, `drives`, the state directory and the one that has it in it.
    for path in path.ancestors().take(4) {
        match File::open(path) {
            Ok(dir) => dir.sync_all()?,
            // The directory above need not be ours to read.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Makes the content of a new local file, `size_bytes` of holes, and describes it: from here on it is owed.
pub(super) fn make(slot: &Arc<Slot>, about: &About, size_bytes: u64) -> io::Result<(u64, File)> {
    slot.disk.reserve.allow()?;
    let (number, file) = slot.content()?;
    let made = match size_bytes {
        0 => Ok(()),
        _ => file.set_len(size_bytes),
    };
    match made.and_then(|()| slot.disk.folder.describe(number, &file, about)) {
        Ok(()) => Ok((number, file)),
        Err(error) => {
            // Without a description it is removed at the next start, too.
            slot.disk.folder.remove_all(number)?;
            Err(error)
        }
    }
}
