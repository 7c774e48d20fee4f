//! Brings what was closed to the disk a few seconds later, as nobody waits for it.
//!
//! A power cut may leave a content shorter than it was, or with holes, though the journal has it: such a one must not
//! replace a version of the server's. The journal knows of which contents this cannot be (`OnDisk`); this room sees to
//! it that it soon does, without a call having to wait for the disk. At the end all that is left is brought there.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Condvar, Mutex, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::staging::Local;
use crate::staging::slot::Slot;

/// How long a content may be in the kernel's cache alone. What is delivered within this time costs no disk at all.
const SETTLE_AFTER: Duration = Duration::from_secs(5);

/// What is due so soon after something else is brought to the disk with it: while one file after the other is written or
/// delivered, the disk is waited for now and then instead of all the time.
const TOGETHER: Duration = Duration::from_millis(500);

/// From so many on, all that the file system has not written yet is written at once: one wait instead of many.
const MANY: usize = 16;

/// What is to be brought to the disk.
#[derive(Debug, Default)]
pub(super) struct Unsettled {
    state: Mutex<State>,
    more: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// From when on, and what; the first is due first.
    waiting: VecDeque<(Instant, Weak<Slot>, Weak<Local>)>,
    closed: bool,
}

/// The thread that does it. Its drop brings all to the disk that waits, and ends it.
#[derive(Debug)]
pub(super) struct Settler {
    unsettled: Arc<Unsettled>,
    thread: Option<JoinHandle<()>>,
}

impl Settler {
    /// Begins.
    pub(super) fn new(unsettled: Arc<Unsettled>) -> io::Result<Self> {
        let theirs = Arc::clone(&unsettled);
        let thread = std::thread::Builder::new()
            .name("settler".into())
            .spawn(move || theirs.settle_all())?;
        Ok(Self {
            unsettled,
            thread: Some(thread),
        })
    }
}

impl Drop for Settler {
    fn drop(&mut self) {
        self.unsettled.state.lock().unwrap().closed = true;
        self.unsettled.more.notify_one();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            log::error!("the thread that brings contents to the disk ended by a panic");
        }
    }
}

impl Unsettled {
    /// `local` was staged or delivered at `now`.
    pub(super) fn add(&self, slot: &Arc<Slot>, local: Weak<Local>, now: Instant) {
        let mut state = self.state.lock().unwrap();
        let due = now + SETTLE_AFTER;
        state.waiting.push_back((due, Arc::downgrade(slot), local));
        if state.waiting.len() == 1 {
            self.more.notify_one();
        }
    }

    /// The thread.
    fn settle_all(&self) {
        while let Some(due) = self.next() {
            let alive = due
                .iter()
                .filter_map(|(slot, local)| Some((slot.upgrade()?, local.upgrade())));
            if let Err(error) = settle(alive.collect()) {
                log::warn!("contents could not be brought to the disk: {error}");
            }
        }
    }

    /// Waits until some are due; none at the end.
    fn next(&self) -> Option<Vec<(Weak<Slot>, Weak<Local>)>> {
        let mut state = self.state.lock().unwrap();
        loop {
            let now = Instant::now();
            let pause = state
                .waiting
                .front()
                .map(|(due, ..)| due.saturating_duration_since(now));
            match pause {
                None if state.closed => return None,
                None => state = self.more.wait(state).unwrap(),
                Some(pause) if !pause.is_zero() && !state.closed => {
                    state = self.more.wait_timeout(state, pause).unwrap().0;
                }
                Some(_) => {
                    let closed = state.closed;
                    let due = state
                        .waiting
                        .iter()
                        .take_while(|(due, ..)| closed || *due <= now + TOGETHER);
                    let count = due.count();
                    let due = state.waiting.drain(..count);
                    return Some(due.map(|(_, slot, local)| (slot, local)).collect());
                }
            }
        }
    }
}

/// Brings contents to the disk, and then the journals.
fn settle(due: Vec<(Arc<Slot>, Option<Arc<Local>>)>) -> io::Result<()> {
    let mut slots: Vec<&Arc<Slot>> = Vec::new();
    for (slot, _) in &due {
        if !slots.iter().any(|known| Arc::ptr_eq(known, slot)) {
            slots.push(slot);
        }
    }
    let locals = due.iter().filter_map(|(_, local)| local.as_ref());
    let locals = locals.filter_map(|local| Some((local, local.unsettled()?)));
    let locals: Vec<_> = locals.collect();
    let sync_all = || {
        slots
            .iter()
            .try_for_each(|slot| slot.disk.folder.sync_all())
    };
    // It does not say which file it was that the disk did not take.
    if locals.len() < MANY || sync_all().is_err() {
        locals.iter().for_each(|(local, _)| local.sync_unasked());
    }
    for (local, wipes) in locals {
        local.settled(wipes)?;
    }
    slots.iter().try_for_each(|slot| slot.journal.flush())
}
