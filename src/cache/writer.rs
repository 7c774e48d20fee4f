//! The one thread that changes what is on disk.
//!
//! Takes jobs from the queue, keeps within the limit, and rests for a while where the disk is full or fails. It holds what
//! only it needs: the order in which things leave, and files that are being written.

use std::collections::{HashMap, HashSet};
use std::io;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use lru::LruCache;

use crate::cache::Shared;
use crate::cache::disk::{self, Open, Removed};
use crate::cache::kept::Kept;
use crate::cache::listed::{self, Listed};
use crate::cache::names::{self, Kind, Name};
use crate::cache::order::{Leaving, Order, Part};
use crate::cache::place::{Folder, How};
use crate::cache::queue::{Job, runs};
use crate::cache::scan::{self, PROVEN_ATIME};
use crate::cache::usage::{Ledger, Turn};
use crate::entity::BLOCK_SIZE_BYTES;

/// Longest wait for the turn; one who holds it longer than that is stuck or stopped.
const TURN: Duration = Duration::from_secs(10);

/// Largest part of an entity that leaves at once.
const PART_BYTES: u64 = 4 << 20;

/// Entities whose files stay open to write, and whose last use is remembered.
const OPEN: NonZeroUsize = NonZeroUsize::new(16).unwrap();

/// Parts that may refuse to leave before the rest is left alone.
const REFUSALS: usize = 256;

/// Time between two scans that look for what other processes wrote.
const SCAN_AGAIN: Duration = Duration::from_secs(30);

pub(super) struct Writer {
    shared: Arc<Shared>,
    order: Order,
    part_bytes: u64,
    disk: Option<Disk>,
    /// How often what stays had changed when that was last heeded.
    stays_seen: u64,
    /// Until when nothing is written.
    rest_until: Option<Instant>,
}

/// What is open while the directory is there.
struct Disk {
    ledger: Arc<Ledger>,
    /// All sites in the directory, by number.
    sites: Vec<Arc<Folder>>,
    /// What each of them says that stays.
    listed: Vec<Listed>,
    /// The number of ours.
    own: u16,
    scanned: Instant,
    open: LruCache<Name, Open>,
    /// The minute in which an entity's last use was noted.
    touched: LruCache<Name, u64>,
}

/// Tells those who wait that the writer is gone, also after a panic.
struct Ended(Arc<Shared>);

impl Drop for Ended {
    fn drop(&mut self) {
        self.0.queue.ended();
    }
}

impl Writer {
    pub(super) fn new(shared: &Arc<Shared>) -> Self {
        let limit = shared.options.size_bytes;
        let part_bytes = (limit / 16).clamp(BLOCK_SIZE_BYTES, PART_BYTES);
        Self {
            shared: Arc::clone(shared),
            order: Order::new(limit),
            part_bytes: part_bytes / BLOCK_SIZE_BYTES * BLOCK_SIZE_BYTES,
            disk: None,
            stays_seen: 0,
            rest_until: None,
        }
    }

    /// Works until the queue is closed and empty.
    pub(super) fn run(mut self) {
        let _ended = Ended(Arc::clone(&self.shared));
        self.attempt(|writer| match writer.reach(false) {
            // Nothing is kept yet, nor is there a reason to make directories.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                writer.shared.set_known(HashSet::new());
                Ok(true)
            }
            other => other.map(|()| true),
        });
        while let Some(job) = self.shared.queue.next() {
            self.work(job);
        }
    }

    fn work(&mut self, job: Job) {
        match job {
            Job::Store {
                kept,
                first,
                pieces,
            } => {
                for (first, pieces) in runs(first, pieces, self.part_bytes) {
                    let bytes: usize = pieces.iter().map(Bytes::len).sum();
                    if !self.attempt(|writer| writer.store(&kept, first, &pieces)) {
                        self.shared
                            .unkept_bytes
                            .fetch_add(bytes as u64, Ordering::Relaxed);
                    }
                }
            }
            Job::Forget { kept, block } => {
                self.attempt(|writer| writer.forget(&kept, block));
            }
            Job::Used { kept, block } => {
                self.attempt(|writer| writer.used(&kept, block));
            }
            Job::List { owner, names } => {
                self.attempt(|writer| writer.list(&owner, &names));
            }
            // Who asked may have gone away.
            Job::Mark(done) => drop(done.send(())),
        }
    }

    /// Does something to the disk. Whether it is done; where the disk refuses, nothing more is tried for a while.
    fn attempt(&mut self, mut what: impl FnMut(&mut Self) -> io::Result<bool>) -> bool {
        if self.rest_until.is_some_and(|until| Instant::now() < until) {
            return false;
        }
        // Somebody may remove the directory at any time, also while it is made again.
        for is_last in [false, false, true] {
            let error = match what(self) {
                Ok(is_done) => return is_done,
                Err(error) => error,
            };
            match error.kind() {
                io::ErrorKind::NotFound if !is_last => self.lose(),
                // Somebody else is at work, we are to end, or the file system has no files as large as this one.
                io::ErrorKind::WouldBlock
                | io::ErrorKind::Interrupted
                | io::ErrorKind::FileTooLarge => {
                    return false;
                }
                _ => return self.fail(&error),
            }
        }
        false
    }

    /// The directory is not what it was.
    fn lose(&mut self) {
        self.disk = None;
        self.order.clear();
        self.shared.set_folder(None);
    }

    fn fail(&mut self, error: &io::Error) -> bool {
        let rest = self.shared.tuning.rest;
        if self.rest_until.is_none() {
            log::warn!(
                "content cannot be cached in {}: {error}; files are read without for now",
                self.shared.options.dir.display()
            );
        }
        // Where only room is missing, what is known of the disk stays true.
        let is_full = matches!(
            error.kind(),
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
        );
        if !is_full {
            self.disk = None;
        }
        self.rest_until = Some(Instant::now() + rest);
        false
    }

    /// Opens what is needed to write, and looks at what is there. Only with `make` is the directory made where it is
    /// missing.
    fn reach(&mut self, make: bool) -> io::Result<()> {
        if self.disk.is_some() {
            return Ok(());
        }
        let options = &self.shared.options;
        let content = Folder::content(&options.dir, make)?;
        let ledger = Arc::new(Ledger::open(&options.dir, &content, How::Make)?);
        content.folder(&names::site(&options.instance_id), true)?;
        self.scan(content, ledger)
    }

    /// Looks at all that is on disk, and counts it.
    fn scan(&mut self, content: Folder, ledger: Arc<Ledger>) -> io::Result<()> {
        let is_stopped = || self.shared.queue.is_closed();
        let before = self.turn(&ledger)?.counts();
        let mut seen = scan::scan(content, self.part_bytes, &is_stopped)?;
        let name = names::site(&self.shared.options.instance_id);
        let own = seen.sites.iter().position(|(site, _)| *site == name);
        let own = own.ok_or(io::ErrorKind::NotFound)? as u16;
        self.order.clear();
        for found in &seen.found {
            self.order
                .insert(found.part, found.bytes, found.used_s, found.is_proven);
        }
        let ours = seen.found.iter().filter(|found| found.part.site == own);
        self.shared
            .set_known(ours.map(|found| found.part.name).collect());
        let mut turn = self.turn(&ledger)?;
        for (site, name, kind) in std::mem::take(&mut seen.orphans) {
            seen.drop_orphan(site, name, kind)?;
        }
        turn.counted(before, seen.bytes)?;
        let sites: Vec<_> = seen
            .sites
            .into_iter()
            .map(|(_, folder)| Arc::new(folder))
            .collect();
        self.shared
            .set_folder(Some(Arc::clone(&sites[usize::from(own)])));
        self.disk = Some(Disk {
            ledger: Arc::clone(&ledger),
            listed: sites.iter().map(|_| Listed::default()).collect(),
            sites,
            own,
            scanned: Instant::now(),
            open: LruCache::new(OPEN),
            touched: LruCache::new(OPEN),
        });
        self.make_room(&mut turn, 0)?;
        self.publish(&turn);
        Ok(())
    }

    /// Scans once more, if that was not done just now. Whether it was.
    fn scan_again(&mut self, is_urgent: bool) -> io::Result<bool> {
        let Some(disk) = &self.disk else {
            return Ok(false);
        };
        if !is_urgent && disk.scanned.elapsed() < SCAN_AGAIN {
            return Ok(false);
        }
        let ledger = Arc::clone(&disk.ledger);
        let content = Folder::content(&self.shared.options.dir, false)?;
        self.scan(content, ledger)?;
        Ok(true)
    }

    fn turn<'a>(&self, ledger: &'a Ledger) -> io::Result<Turn<'a>> {
        ledger.turn(Instant::now() + TURN, || self.shared.queue.is_closed())
    }

    fn ledger(&self) -> io::Result<Arc<Ledger>> {
        let disk = self.disk.as_ref().ok_or(io::ErrorKind::NotFound)?;
        Ok(Arc::clone(&disk.ledger))
    }

    /// Stores neighbouring blocks. False where there is no room for them.
    fn store(&mut self, kept: &Arc<Kept>, first: u64, pieces: &[Bytes]) -> io::Result<bool> {
        self.reach(true)?;
        let ledger = self.ledger()?;
        let len: usize = pieces.iter().map(Bytes::len).sum();
        let need = disk::need_bytes(kept.entity(), first, len as u64);
        let mut turn = self.turn(&ledger)?;
        if !self.make_room(&mut turn, need)? {
            let is_urgent = turn.used_bytes().is_none();
            drop(turn);
            // Others may have written what could leave, or somebody removed files by hand.
            if need > self.shared.options.size_bytes || !self.scan_again(is_urgent)? {
                return Ok(false);
            }
            turn = self.turn(&ledger)?;
            if !self.make_room(&mut turn, need)? {
                return Ok(false);
            }
        }
        let Some(disk) = &mut self.disk else {
            return Ok(false);
        };
        let folder = Arc::clone(&disk.sites[usize::from(disk.own)]);
        let charge = || disk::charge_of(&folder, kept.name(), kept.is_small());
        let before = charge();
        turn.add(need)?;
        let written = disk.write(&folder, kept, first, pieces);
        let after = charge();
        turn.settle(need, before, after)?;
        self.publish(&turn);
        drop(turn);
        // Also what was half written takes room, until it leaves.
        self.note_stored(kept, first, len as u64);
        let sums = written?;
        kept.stored(first, &sums);
        self.shared.learn(kept.name());
        if !kept.is_small() && after >= kept.entity().size_bytes {
            // Perhaps that was the last of it: who opens it next finds it verified.
            self.shared.verifier.ask(&self.shared, Arc::clone(kept));
        }
        if self.rest_until.take().is_some() {
            log::info!("content is cached again");
        }
        Ok(true)
    }

    fn note_stored(&mut self, kept: &Kept, first: u64, len: u64) {
        let range = first * BLOCK_SIZE_BYTES..first * BLOCK_SIZE_BYTES + len;
        let now_s = now_s();
        for number in range.start / self.part_bytes..range.end.div_ceil(self.part_bytes) {
            let part = self.part(kept, number);
            let start = range.start.max(number * self.part_bytes);
            let end = range.end.min((number + 1) * self.part_bytes);
            self.order.stored(part, end - start, now_s);
        }
    }

    fn part(&self, kept: &Kept, number: u64) -> Part {
        Part {
            site: self.disk.as_ref().map_or(0, |disk| disk.own),
            number: number as u32,
            name: kept.name(),
        }
    }

    /// Has parts leave until `need` more bytes are within the limit. Whether they are.
    fn make_room(&mut self, turn: &mut Turn<'_>, need: u64) -> io::Result<bool> {
        let limit = self.shared.options.size_bytes;
        let mut refusals = 0;
        let mut is_heeded = false;
        loop {
            let Some(used) = turn.used_bytes() else {
                return Ok(false);
            };
            if used.saturating_add(need) <= limit {
                return Ok(true);
            }
            if need > limit || refusals > REFUSALS {
                return Ok(false);
            }
            if !std::mem::replace(&mut is_heeded, true) {
                self.heed_what_stays();
            }
            let Some(leaving) = self.order.leave() else {
                return Ok(false);
            };
            if self.stays(leaving.part) {
                self.order.stay(leaving);
            } else if !self.remove(turn, leaving)? {
                refusals += 1;
                self.order.stayed(leaving, now_s());
            }
        }
    }

    /// Where other things stay than before, all are asked again.
    fn heed_what_stays(&mut self) {
        let changes = self.shared.stays.lock().unwrap().changes();
        let mut is_other = std::mem::replace(&mut self.stays_seen, changes) != changes;
        if let Some(disk) = &mut self.disk {
            for (site, listed) in disk.sites.iter().zip(&mut disk.listed) {
                is_other |= listed.refresh(site);
            }
        }
        if is_other {
            self.order.let_go(now_s());
        }
    }

    /// Whether somebody holds what `part` is of, or has pinned it.
    fn stays(&self, part: Part) -> bool {
        let Some(disk) = &self.disk else {
            return false;
        };
        let is_listed = disk.listed[usize::from(part.site)].has(part.name);
        let is_held = || self.shared.stays.lock().unwrap().has(part.name);
        is_listed || part.site == disk.own && is_held()
    }

    /// Writes down what `owner` has pinned.
    fn list(&mut self, owner: &str, names: &HashMap<Name, u64>) -> io::Result<bool> {
        match self.reach(!names.is_empty()) {
            // Nothing is kept, and nothing is to be written down.
            Err(error) if names.is_empty() && error.kind() == io::ErrorKind::NotFound => {
                return Ok(true);
            }
            other => other?,
        }
        let ledger = self.ledger()?;
        let mut turn = self.turn(&ledger)?;
        let need = listed::need_bytes(names);
        // Where there is no room, what this mount holds stays all the same, for as long as it runs.
        if !self.make_room(&mut turn, need)? {
            return Ok(false);
        }
        let Some(disk) = &self.disk else {
            return Ok(false);
        };
        let site = &disk.sites[usize::from(disk.own)];
        let before = listed::charge(site);
        turn.add(need)?;
        let written = listed::write(site, owner, names);
        turn.settle(need, before, listed::charge(site))?;
        self.publish(&turn);
        written.map(|()| true)
    }

    /// Removes a part. Whether it is gone.
    fn remove(&mut self, turn: &mut Turn<'_>, leaving: Leaving) -> io::Result<bool> {
        let Some(disk) = &mut self.disk else {
            return Ok(true);
        };
        let Part { site, number, name } = leaving.part;
        let folder = Arc::clone(&disk.sites[usize::from(site)]);
        let index = folder.stat(&name.file(Kind::Index));
        let is_small = index.is_err();
        // Another process found it worth keeping.
        let is_proven = index
            .or_else(|_| folder.stat(&name.file(Kind::Small)))
            .is_ok_and(|stat| stat.st_atime == PROVEN_ATIME);
        if leaving.is_new && is_proven {
            return Ok(false);
        }
        let before = disk::charge_of(&folder, name, is_small);
        let removed = disk::remove_part(&folder, name, u64::from(number), self.part_bytes);
        turn.settle(0, before, disk::charge_of(&folder, name, is_small))?;
        let kept = (site == disk.own).then(|| self.shared.held(name)).flatten();
        match removed {
            Ok(Removed::Stays) => return Ok(false),
            Ok(Removed::Part) => {
                let blocks = self.part_bytes / BLOCK_SIZE_BYTES;
                let first = u64::from(number) * blocks;
                if let Some(kept) = kept {
                    kept.lost(first..first + blocks);
                }
            }
            Ok(Removed::All) => {
                disk.open.pop(&name);
                if site == disk.own {
                    self.shared.forget(name);
                }
                if let Some(kept) = kept {
                    kept.gone();
                }
            }
            Err(error) => {
                log::debug!("cached content could not be removed: {error}");
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Takes a block that does not match its checksum out of the books.
    fn forget(&mut self, kept: &Kept, block: u64) -> io::Result<bool> {
        let Some(disk) = &mut self.disk else {
            return Ok(false);
        };
        let ledger = Arc::clone(&disk.ledger);
        let mut turn = self.turn(&ledger)?;
        let Some(disk) = &mut self.disk else {
            return Ok(false);
        };
        let folder = Arc::clone(&disk.sites[usize::from(disk.own)]);
        if kept.is_small() {
            let Ok(file) = folder.file(kept.name(), Kind::Small, How::Write) else {
                return Ok(true);
            };
            if !disk::is_good(&file, kept).unwrap_or(false) {
                let before = disk::charge_of(&folder, kept.name(), true);
                folder.remove(kept.name(), Kind::Small)?;
                turn.settle(0, before, disk::charge_of(&folder, kept.name(), true))?;
                kept.gone();
                self.shared.forget(kept.name());
                self.count_damage();
            }
            return Ok(true);
        }
        if disk.open_to_write(&folder, kept)?.forget(kept, block)? {
            self.count_damage();
            // Who read the index meanwhile still has it.
            kept.lost(block..block + 1);
        } else {
            // Files were exchanged under who reads, or another has just told of it: to be opened anew.
            kept.gone();
        }
        Ok(true)
    }

    fn count_damage(&self) {
        self.shared.damaged_blocks.fetch_add(1, Ordering::Relaxed);
    }

    /// Notes that an entity was used, here and, once a minute, on disk.
    fn used(&mut self, kept: &Kept, block: Option<u64>) -> io::Result<bool> {
        let numbers = match block {
            Some(block) => {
                let number = block * BLOCK_SIZE_BYTES / self.part_bytes;
                number..number + 1
            }
            None => 0..kept.entity().size_bytes.div_ceil(self.part_bytes),
        };
        let now_s = now_s();
        let mut is_proven = false;
        for number in numbers {
            let part = self.part(kept, number);
            is_proven |= self.order.used(part, now_s);
        }
        let minute = self.shared.minute();
        let Some(disk) = &mut self.disk else {
            return Ok(false);
        };
        if disk.touched.put(kept.name(), minute) == Some(minute) && !is_proven {
            return Ok(true);
        }
        let kind = if kept.is_small() {
            Kind::Small
        } else {
            Kind::Index
        };
        let folder = &disk.sites[usize::from(disk.own)];
        match folder.touch(&kept.name().file(kind), is_proven.then_some(PROVEN_ATIME)) {
            // It left meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            other => other.map(|()| true),
        }
    }

    fn publish(&self, turn: &Turn<'_>) {
        let used = turn.used_bytes().unwrap_or(0);
        self.shared.disk_bytes.store(used, Ordering::Relaxed);
    }
}

impl Disk {
    /// Writes blocks; the checksums of all of them.
    fn write(
        &mut self,
        folder: &Folder,
        kept: &Kept,
        first: u64,
        pieces: &[Bytes],
    ) -> io::Result<Vec<u64>> {
        if kept.is_small() {
            disk::store_small(folder, kept, pieces)?;
            return Ok(Vec::new());
        }
        let open = self.open_to_write(folder, kept)?;
        open.store(kept, first, &disk::blocks(pieces))
    }

    fn open_to_write(&mut self, folder: &Folder, kept: &Kept) -> io::Result<&Open> {
        let is_current = self
            .open
            .get(&kept.name())
            .is_some_and(|open| open.is_current(folder, kept));
        if !is_current {
            self.open.put(kept.name(), Open::make(folder, kept)?);
        }
        self.open
            .get(&kept.name())
            .ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

/// Seconds since 1970, as files have them.
fn now_s() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}
