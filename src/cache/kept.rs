//! What is kept of one entity, for those who read it.
//!
//! Promises: bytes are handed out only if they match their checksum; what memory says of the disk may be out of date, and
//! then the read finds out. Never writes: what has to be changed on disk is a job for the writer.

mod read;

use std::fs::File;
use std::io;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, Weak};

use bytes::Bytes;

use crate::cache::Shared;
use crate::cache::handles::Right;
use crate::cache::index::{ID_MAX_BYTES, Seal, Stamp, page_of};
use crate::cache::names::{Kind, Name};
use crate::cache::pages::Pages;
use crate::cache::place::How;
use crate::cache::queue::Job;
use crate::cache::whole::Whole;
use crate::entity::{BLOCK_SIZE_BYTES, Entity};

/// Largest entity that is kept: no larger file fits on ext4.
const SIZE_MAX_BYTES: u64 = 16 << 40;

/// What is kept of one entity, as somebody who reads it holds it.
pub struct Kept {
    /// None keeps nothing.
    shared: Option<Arc<Shared>>,
    /// For jobs, which outlive the call that gives them.
    me: Weak<Self>,
    entity: Arc<Entity>,
    name: Name,
    seal: Seal,
    state: Mutex<State>,
}

/// What [`Kept::read_now`] found.
#[derive(Debug)]
pub enum Now {
    /// The bytes, verified.
    Here(Bytes),
    /// They have to come from the disk: ask [`Kept::read`], where waiting is allowed.
    OnDisk,
    /// They are not kept.
    Missing,
}

#[derive(Default)]
struct State {
    presence: Presence,
    pages: Pages,
    /// As it was read from the header, or written there.
    stamp: Option<Stamp>,
    whole: Weak<Whole>,
    /// Grows with each block that comes or goes.
    changes: u64,
    /// Not complete, or not to be stamped, when there had been this many changes.
    incomplete_at: Option<u64>,
    /// Where and in which minute a use was told last.
    told: Option<(u64, u64)>,
}

/// Whether there is a file of it.
#[derive(Default)]
enum Presence {
    /// Nobody has looked yet.
    #[default]
    Unknown,
    /// There was none in this period.
    Absent(u64),
    /// There is one; open, unless there are too many open files.
    Here(Option<Arc<Files>>),
}

/// The files of an entity of several blocks, open to read.
struct Files {
    index: File,
    data: OnceLock<File>,
    /// The header is that of this entity.
    is_ours: AtomicBool,
    /// Gives back the right to keep them open.
    _right: Option<Right>,
}

/// What is known of some blocks.
enum Sums {
    Missing,
    /// This page of the index has to be read first.
    Unread(Arc<Files>, u64),
    Here(Arc<Files>, Vec<u64>),
}

impl Kept {
    /// Of an entity of which nothing is kept, nor ever will.
    pub(super) fn nothing(entity: &Arc<Entity>) -> Arc<Self> {
        Self::of(None, entity)
    }

    pub(super) fn new(shared: &Arc<Shared>, entity: &Arc<Entity>) -> Arc<Self> {
        let is_odd = entity.size_bytes == 0
            || entity.size_bytes > SIZE_MAX_BYTES
            || entity.id.0.len() > ID_MAX_BYTES;
        Self::of((!is_odd).then(|| Arc::clone(shared)), entity)
    }

    fn of(shared: Option<Arc<Shared>>, entity: &Arc<Entity>) -> Arc<Self> {
        Arc::new_cyclic(|me| Self {
            shared,
            me: Weak::clone(me),
            name: Name::of(entity),
            seal: Seal::of(entity),
            entity: Arc::clone(entity),
            state: Mutex::default(),
        })
    }

    /// Whether `block` is kept, as far as memory knows. A read may find that it is not so any more.
    pub fn has(&self, block: u64) -> bool {
        let Some(shared) = &self.shared else {
            return false;
        };
        if block >= self.entity.blocks() {
            return false;
        }
        if self.is_small() {
            return self.may_be_here(shared, &mut self.state());
        }
        // A page that is not in memory yet is one read away, like the block itself.
        !matches!(self.sums(shared, &(block..block + 1)), Sums::Missing)
    }

    /// Bytes of the entity that are kept, as far as memory and the index tell. Reads the whole index.
    pub fn bytes(&self) -> u64 {
        let Some(shared) = &self.shared else {
            return 0;
        };
        if self.is_small() {
            return if self.has(0) {
                self.entity.size_bytes
            } else {
                0
            };
        }
        let mut bytes = 0;
        let is_seen = self.look_at_all(shared, &mut |block, is_kept| {
            bytes += if is_kept {
                self.entity.block_len(block)
            } else {
                0
            };
        });
        if is_seen { bytes } else { 0 }
    }

    /// Runs of blocks that are not kept, as far as the index tells, which is read. Blocks the thread.
    pub fn missing(&self) -> Vec<Range<u64>> {
        let all = 0..self.entity.blocks();
        let nothing = || std::iter::once(all.clone()).collect();
        let Some(shared) = &self.shared else {
            return nothing();
        };
        if self.is_small() {
            // As cheap as to look whether its file is still there.
            return match self.read_small(shared, true) {
                Now::Here(_) => Vec::new(),
                Now::OnDisk | Now::Missing => nothing(),
            };
        }
        let mut missing: Vec<Range<u64>> = Vec::new();
        let is_seen = self.look_at_all(shared, &mut |block, is_kept| match missing.last_mut() {
            _ if is_kept => {}
            Some(run) if run.end == block => run.end += 1,
            _ => missing.push(block..block + 1),
        });
        if is_seen { missing } else { nothing() }
    }

    /// Tells of each block whether it is kept; false where there is no index to tell it, and nothing is told then.
    fn look_at_all(&self, shared: &Arc<Shared>, told: &mut dyn FnMut(u64, bool)) -> bool {
        let sums = self.sums_of_all(shared).or_else(|_| {
            // It was removed or replaced since it was opened.
            self.gone();
            self.sums_of_all(shared)
        });
        let sums = sums.ok().flatten();
        for (block, sum) in (0..).zip(sums.iter().flatten()) {
            told(block, *sum != 0);
        }
        sums.is_some()
    }

    /// The checksums of all blocks, 0 for what is not kept; none where there is no index.
    fn sums_of_all(&self, shared: &Arc<Shared>) -> io::Result<Option<Vec<u64>>> {
        let Some(files) = self.files(shared, &mut self.state()) else {
            return Ok(None);
        };
        let mut all = Vec::new();
        for page in 0..=page_of(self.entity.blocks() - 1) {
            let (sums, _) = self.load(&files, page, true)?;
            all.extend(sums);
        }
        Ok(Some(all))
    }

    /// The bytes of neighbouring `blocks`, if that needs no wait for the disk.
    pub fn read_now(&self, blocks: Range<u64>) -> Now {
        let Some(shared) = self.readable(&blocks) else {
            return Now::Missing;
        };
        if self.is_small() {
            return self.read_small(shared, false);
        }
        match self.sums(shared, &blocks) {
            Sums::Missing => Now::Missing,
            Sums::Unread(..) => Now::OnDisk,
            Sums::Here(files, sums) => self.read_blocks(shared, &files, blocks, &sums, false),
        }
    }

    /// The bytes of neighbouring `blocks`, verified. None where one is not kept, or damaged: it is forgotten then, so that
    /// [`Kept::has`] says so. Blocks the thread.
    pub fn read(&self, blocks: Range<u64>) -> Option<Bytes> {
        let shared = self.readable(&blocks)?;
        let now = if self.is_small() {
            self.read_small(shared, true)
        } else {
            let (files, sums) = self.sums_from_disk(shared, &blocks)?;
            self.read_blocks(shared, &files, blocks, &sums, true)
        };
        match now {
            Now::Here(bytes) => Some(bytes),
            Now::OnDisk | Now::Missing => None,
        }
    }

    /// Keeps `bytes`, which are those of whole neighbouring blocks from `first` on, if there is room and the disk keeps
    /// up. Never waits.
    pub fn store(&self, first: u64, bytes: Bytes) {
        let (Some(shared), Some(kept)) = (&self.shared, self.me.upgrade()) else {
            return;
        };
        let len = bytes.len() as u64;
        let blocks = first..first + len.div_ceil(BLOCK_SIZE_BYTES);
        let whole = self.entity.bytes_of(&blocks);
        if blocks.end > self.entity.blocks() || whole.end - whole.start != len {
            debug_assert!(false, "a piece of a block cannot be kept");
            return;
        }
        let job = Job::Store {
            kept,
            first,
            pieces: vec![bytes],
        };
        if !shared.queue.push(job) {
            shared.unkept_bytes.fetch_add(len, Ordering::Relaxed);
        }
    }

    /// As [`Kept::store`], of what was read from memory: kept now, if it could not be when it came. Content that is read
    /// again and again would never come to the disk else, since its place in memory spares it the way by the network.
    pub fn store_again(&self, first: u64, bytes: &Bytes) {
        let has_refused = |shared: &Arc<Shared>| shared.unkept_bytes.load(Ordering::Relaxed) > 0;
        if !self.shared.as_ref().is_some_and(has_refused) {
            return;
        }
        let blocks = first..first + (bytes.len() as u64).div_ceil(BLOCK_SIZE_BYTES);
        if blocks.into_iter().any(|block| !self.has(block)) {
            self.store(first, bytes.clone());
        }
    }

    /// The whole content, if it is complete and known to be good. Never waits: what has yet to be verified is verified
    /// in the background, for the next who asks. Entities of one block are never given: their file holds more than they do.
    pub fn whole(&self) -> Option<Arc<Whole>> {
        let shared = self.shared.as_ref()?;
        if self.is_small() {
            return None;
        }
        let mut state = self.state();
        if let Some(whole) = state.whole.upgrade() {
            return Some(whole);
        }
        let sums = self.sums_in(shared, &mut state, &(0..1));
        if matches!(sums, Sums::Missing) {
            return None;
        }
        if let Some(stamp) = state.stamp
            && let Some(whole) = shared.folder().and_then(|folder| {
                let data = folder.file(self.name, Kind::Data, How::Read).ok()?;
                Whole::hold(data, stamp)
            })
        {
            let whole = Arc::new(whole);
            state.whole = Arc::downgrade(&whole);
            self.tell_use(shared, &mut state, None);
            return Some(whole);
        }
        state.stamp = None;
        if state.incomplete_at != Some(state.changes)
            && let Some(me) = self.me.upgrade()
        {
            shared.verifier.ask(shared, me);
        }
        None
    }

    /// Whether what is known of it has to come from the disk first, so that [`Kept::whole`] can tell nothing yet.
    pub fn is_unread(&self) -> bool {
        let Some(shared) = self.shared.as_ref().filter(|_| !self.is_small()) else {
            return false;
        };
        matches!(self.sums(shared, &(0..1)), Sums::Unread(..))
    }

    /// Reads what is known of it. Blocks the thread.
    pub fn look(&self) {
        if let Some(shared) = &self.shared {
            // What it finds is remembered.
            self.sums_from_disk(shared, &(0..1));
        }
    }

    /// Blocks that there are, kept or not.
    pub fn blocks(&self) -> u64 {
        self.entity.blocks()
    }

    pub(super) fn entity(&self) -> &Arc<Entity> {
        &self.entity
    }

    pub(super) fn name(&self) -> Name {
        self.name
    }

    pub(super) fn seal(&self) -> Seal {
        self.seal
    }

    /// Whether one file holds the bytes and their checksum.
    pub(super) fn is_small(&self) -> bool {
        self.entity.blocks() == 1
    }

    /// How many blocks came and went so far.
    pub(super) fn changes(&self) -> u64 {
        self.state().changes
    }

    /// The writer wrote blocks from `first` on.
    pub(super) fn stored(&self, first: u64, sums: &[u64]) {
        let mut state = self.state();
        state.changes += 1;
        if !matches!(state.presence, Presence::Here(_)) {
            state.presence = Presence::Here(None);
            state.pages.clear();
        }
        for (block, sum) in (first..).zip(sums) {
            state.pages.set(block, *sum);
        }
    }

    /// These blocks are not kept any more.
    pub(super) fn lost(&self, blocks: Range<u64>) {
        let mut state = self.state();
        state.changes += 1;
        state.stamp = None;
        for block in blocks {
            state.pages.set(block, 0);
        }
    }

    /// The index is not what memory says, around `block` at least: somebody else took blocks away.
    pub(super) fn outdated(&self, block: u64) {
        let mut state = self.state();
        state.changes += 1;
        state.stamp = None;
        state.pages.remove(page_of(block));
    }

    /// Nothing is kept any more, or the files are others than they were.
    pub(super) fn gone(&self) {
        let mut state = self.state();
        state.changes += 1;
        state.presence = Presence::Unknown;
        state.pages.clear();
        state.stamp = None;
    }

    /// The verifier found that all is good (`stamp`), or not when there had been `changes`.
    pub(super) fn verified(&self, changes: u64, stamp: Option<Stamp>) {
        let mut state = self.state();
        if stamp.is_none() {
            state.incomplete_at = Some(changes);
        } else if state.changes == changes {
            state.stamp = stamp;
        }
    }

    /// A block that was read does not match its checksum. The writer looks at it once more, when nobody is writing it, and
    /// counts it.
    pub(super) fn damaged(&self, shared: &Shared, block: u64) {
        log::debug!(
            "a block of cached content was damaged: {block} of {}",
            self.entity.id
        );
        self.lost(block..block + 1);
        // A full queue loses only the note on disk: the block is found damaged again.
        if let Some(kept) = self.me.upgrade() {
            shared.queue.push(Job::Forget { kept, block });
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// What is shared, if `blocks` are some of the entity's.
    fn readable(&self, blocks: &Range<u64>) -> Option<&Arc<Shared>> {
        let are_ours = !blocks.is_empty() && blocks.end <= self.entity.blocks();
        self.shared.as_ref().filter(|_| are_ours)
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        if let Some(shared) = &self.shared {
            shared.dropped(self.name);
        }
    }
}
