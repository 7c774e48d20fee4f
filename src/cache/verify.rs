//! Verifies complete entities, so that the kernel may read them by itself.
//!
//! Reads everything once in the background and compares it with the checksums; then how the file of the data looks from
//! outside is written into the index as its stamp. It counts until the machine is started anew, so nothing need be made
//! durable for it: thousands of files that become complete must not have the disk flushed as often.

use std::collections::VecDeque;
use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant, SystemTime};

use rustix::fs::FlockOperation;

use crate::cache::index::{HEADER_BYTES, STAMP_AT, Stamp, boot, index_bytes, sum_at, words};
use crate::cache::kept::Kept;
use crate::cache::names::Kind;
use crate::cache::place::{Folder, How};
use crate::cache::usage::{Ledger, read_at_most};
use crate::cache::{Shared, give_way};
use crate::entity::BLOCK_SIZE_BYTES;

/// Entities that may wait to be verified; who asks again later is not forgotten.
const WAITING: usize = 1024;

/// Blocks that are read at once.
const BLOCKS_AT_ONCE: u64 = (1 << 20) / BLOCK_SIZE_BYTES;

/// A file that was changed less than this ago could be changed once more without its times telling: older kernels
/// keep them to a clock tick, of 10 ms at most. That is for what was written; what is being written is seen by its lock
/// alone, since the times are set before the bytes, by 300 ms where the disk is busy.
const SETTLED: Duration = Duration::from_millis(20);

/// Longest wait for the turn to write a stamp.
const TURN: Duration = Duration::from_secs(10);

#[derive(Default)]
struct State {
    waiting: VecDeque<Arc<Kept>>,
    /// A thread works on them.
    is_running: bool,
}

/// Entities to be verified; a thread exists while there are any.
#[derive(Default)]
pub(super) struct Verifier {
    state: Mutex<State>,
    /// Nothing waits or is under way.
    idle: Condvar,
    /// What is under way is to be left.
    is_over: AtomicBool,
}

impl Verifier {
    /// Has `kept` verified some time. Never waits.
    pub(super) fn ask(&self, shared: &Arc<Shared>, kept: Arc<Kept>) {
        let mut state = self.state.lock().unwrap();
        let is_asked = state.waiting.iter().any(|other| Arc::ptr_eq(other, &kept));
        if is_asked || state.waiting.len() >= WAITING || self.is_over() {
            return;
        }
        state.waiting.push_back(kept);
        if state.is_running {
            return;
        }
        state.is_running = true;
        drop(state);
        let shared = Arc::clone(shared);
        let spawned = std::thread::Builder::new()
            .name("cache-verify".into())
            .spawn(move || {
                give_way();
                while let Some(kept) = shared.verifier.next() {
                    verify(&shared, &kept);
                }
            });
        if let Err(error) = spawned {
            log::debug!("no thread to verify cached content: {error}");
            self.state.lock().unwrap().is_running = false;
        }
    }

    fn next(&self) -> Option<Arc<Kept>> {
        let mut state = self.state.lock().unwrap();
        if self.is_over() {
            let left = std::mem::take(&mut state.waiting);
            state.is_running = false;
            drop(state);
            drop(left);
            self.idle.notify_all();
            return None;
        }
        let next = state.waiting.pop_front();
        state.is_running = next.is_some();
        if next.is_none() {
            self.idle.notify_all();
        }
        next
    }

    /// Lets what was asked come to its end, for at most `longest`: a file that was read to its end just before the mount
    /// ended is worth it. Nothing is asked any more after that.
    pub(super) fn end(&self, longest: Duration) {
        let state = self.state.lock().unwrap();
        let is_running = |state: &mut State| state.is_running;
        drop(self.idle.wait_timeout_while(state, longest, is_running));
        self.is_over.store(true, Ordering::Relaxed);
    }

    fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Relaxed)
    }

    /// Whether nothing waits or is under way.
    #[cfg(test)]
    pub(super) fn is_idle(&self) -> bool {
        !self.state.lock().unwrap().is_running
    }
}

fn verify(shared: &Shared, kept: &Kept) {
    let changes = kept.changes();
    let stamp = match shared.folder().map(|folder| stamp(shared, kept, &folder)) {
        Some(Ok(stamp)) => stamp,
        // Somebody writes to it: who asks again finds out what became of it.
        Some(Err(error)) if error.kind() == io::ErrorKind::WouldBlock => return,
        Some(Err(error)) => {
            log::debug!(
                "cached content of {} was not verified: {error}",
                kept.entity().id
            );
            None
        }
        None => None,
    };
    kept.verified(changes, stamp);
}

/// The stamp of what is now known to be good; None where it is not complete, or was changed meanwhile.
fn stamp(shared: &Shared, kept: &Kept, folder: &Folder) -> io::Result<Option<Stamp>> {
    let entity = kept.entity();
    let index = folder.file(kept.name(), Kind::Index, How::Write)?;
    let data = folder.file(kept.name(), Kind::Data, How::Write)?;
    let before = at_rest(&data)?;
    if before.size() != entity.size_bytes || before.blocks() * 512 < entity.size_bytes {
        return Ok(None);
    }
    settle(&before);
    let mut header = vec![0; HEADER_BYTES as usize];
    read_at_most(&index, &mut header, 0)?;
    if !kept.seal().is_header(entity, &header) {
        return Ok(None);
    }
    let known = Stamp::decode(kept.seal(), boot(), &header[STAMP_AT as usize..]);
    if known.is_some_and(|known| known == Stamp::of(&before)) {
        return Ok(known);
    }
    let is_complete = || -> io::Result<bool> {
        let mut sums = vec![0; (index_bytes(entity) - HEADER_BYTES) as usize];
        read_at_most(&index, &mut sums, HEADER_BYTES)?;
        Ok(words(&sums).iter().all(|sum| *sum != 0))
    };
    if !is_complete()? {
        return Ok(None);
    }
    let mut bytes = vec![0; (BLOCKS_AT_ONCE * BLOCK_SIZE_BYTES) as usize];
    let mut first = 0;
    while first < entity.blocks() {
        let blocks = first..(first + BLOCKS_AT_ONCE).min(entity.blocks());
        if shared.verifier.is_over()
            || !are_good(shared, kept, (&index, &data), &blocks, &mut bytes)?
        {
            return Ok(None);
        }
        first = blocks.end;
    }
    let ledger = Ledger::open(
        &shared.options.dir,
        &Folder::content(&shared.options.dir, false)?,
        How::Write,
    )?;
    let _turn = ledger.turn(Instant::now() + TURN, || shared.verifier.is_over())?;
    let stamp = Stamp::of(&at_rest(&data)?);
    // The same file and times as before: nobody wrote to it while it was read. Nor was a block taken out of the index.
    if stamp != Stamp::of(&before) || !is_complete()? {
        return Ok(None);
    }
    index.write_all_at(&stamp.encode(kept.seal(), boot()), STAMP_AT)?;
    Ok(Some(stamp))
}

/// How `data` looks while nobody writes to it; `WouldBlock` where somebody does. It is locked for no longer than that, so
/// that it may leave the cache while it is read.
fn at_rest(data: &File) -> io::Result<Metadata> {
    rustix::fs::flock(data, FlockOperation::NonBlockingLockShared)?;
    let found = data.metadata();
    rustix::fs::flock(data, FlockOperation::Unlock)?;
    found
}

/// Waits until a change after now would show in the times of the file.
fn settle(file: &Metadata) {
    let changed = Duration::new(file.ctime().max(0) as u64, file.ctime_nsec() as u32);
    let changed = SystemTime::UNIX_EPOCH + changed;
    let age = SystemTime::now()
        .duration_since(changed)
        .unwrap_or_default();
    std::thread::sleep(SETTLED.saturating_sub(age));
}

fn are_good(
    shared: &Shared,
    kept: &Kept,
    (index, data): (&File, &File),
    blocks: &std::ops::Range<u64>,
    buffer: &mut [u8],
) -> io::Result<bool> {
    let mut sums = vec![0; (blocks.end - blocks.start) as usize * 8];
    read_at_most(index, &mut sums, sum_at(blocks.start))?;
    let sums = words(&sums);
    if sums.contains(&0) {
        return Ok(false);
    }
    let range = kept.entity().bytes_of(blocks);
    let bytes = &mut buffer[..(range.end - range.start) as usize];
    let len = read_at_most(data, bytes, range.start)?;
    for ((block, sum), bytes) in blocks
        .clone()
        .zip(sums)
        .zip(bytes.chunks(BLOCK_SIZE_BYTES as usize))
    {
        if len < (range.end - range.start) as usize || kept.seal().sum(block, bytes) != sum {
            kept.doubt(shared, index, block, sum);
            return Ok(false);
        }
    }
    Ok(true)
}
