//! What waits to be written: bounded, so that a slow disk costs neither memory nor a reader's time.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::{Notify, oneshot};

use crate::cache::kept::Kept;
use crate::cache::names::Name;
use crate::entity::BLOCK_SIZE_BYTES;

/// Jobs that may wait, whatever their bytes.
const QUEUE_JOBS: usize = 1 << 13;

/// Bytes that are written in one go: others wait for their turn meanwhile.
pub(super) const BATCH_BYTES: usize = 4 << 20;

/// Something to do on disk, where nobody waits for it.
pub(super) enum Job {
    /// Neighbouring whole blocks from `first` on, in pieces.
    Store {
        kept: Arc<Kept>,
        first: u64,
        pieces: Vec<Bytes>,
    },
    /// A block did not match its checksum.
    Forget { kept: Arc<Kept>, block: u64 },
    /// A block was read from disk; None for all of them.
    Used { kept: Arc<Kept>, block: Option<u64> },
    /// What `owner` has pinned is this, and nothing else.
    List {
        owner: String,
        names: HashMap<Name, u64>,
    },
    /// Tells that all before it is done, or will not be.
    Mark(oneshot::Sender<()>),
}

struct State {
    jobs: VecDeque<Job>,
    bytes: usize,
    /// A job is being done.
    is_busy: bool,
    is_closed: bool,
    /// Nobody takes jobs any more.
    has_ended: bool,
}

/// The way to the writer.
pub(super) struct Queue {
    state: Mutex<State>,
    /// That may wait.
    bytes_max: usize,
    /// Less than half of what may wait does so.
    room: Notify,
    /// There is something to do, or no more will come.
    more: Condvar,
    /// The queue is empty and nothing is being done, or nobody is there to do it.
    idle: Condvar,
}

impl Queue {
    /// An empty queue for at most so many bytes, whose writer has something to do before it takes the first job.
    pub(super) fn new(bytes_max: u64) -> Self {
        Self {
            bytes_max: usize::try_from(bytes_max).unwrap_or(usize::MAX),
            state: Mutex::new(State {
                jobs: VecDeque::new(),
                bytes: 0,
                is_busy: true,
                is_closed: false,
                has_ended: false,
            }),
            room: Notify::new(),
            more: Condvar::new(),
            idle: Condvar::new(),
        }
    }

    /// Adds a job; false where there is no room. Never waits.
    pub(super) fn push(&self, job: Job) -> bool {
        let bytes = job.bytes();
        let mut state = self.state.lock().unwrap();
        if state.is_closed
            || state.jobs.len() >= QUEUE_JOBS
            || (bytes > 0 && state.bytes + bytes > self.bytes_max)
        {
            return false;
        }
        state.bytes += bytes;
        state.jobs.push_back(job);
        drop(state);
        self.more.notify_one();
        true
    }

    /// The next job, neighbours joined to it; None when no more will come.
    pub(super) fn next(&self) -> Option<Job> {
        let mut state = self.state.lock().unwrap();
        state.is_busy = false;
        loop {
            if let Some(job) = state.jobs.pop_front() {
                let job = state.join(job);
                state.bytes -= job.bytes();
                state.is_busy = true;
                if !state.is_behind(self.bytes_max) {
                    self.room.notify_waiters();
                }
                return Some(job);
            }
            self.idle.notify_all();
            if state.is_closed {
                return None;
            }
            state = self.more.wait(state).unwrap();
        }
    }

    /// Whether more waits than should.
    pub(super) fn is_behind(&self) -> bool {
        self.state.lock().unwrap().is_behind(self.bytes_max)
    }

    /// Resolves when there is room again, or nobody will make any.
    pub(super) async fn room(&self) {
        let mut room = std::pin::pin!(self.room.notified());
        // From here on a notice is not missed.
        room.as_mut().enable();
        if self.is_behind() {
            room.await;
        }
    }

    /// No more jobs are taken.
    pub(super) fn close(&self) {
        self.state.lock().unwrap().is_closed = true;
        self.more.notify_all();
    }

    /// The writer says that it is gone.
    pub(super) fn ended(&self) {
        let mut state = self.state.lock().unwrap();
        state.has_ended = true;
        state.is_closed = true;
        state.is_busy = false;
        // Jobs hold what they are for, which holds us.
        let left = std::mem::take(&mut state.jobs);
        state.bytes = 0;
        drop(state);
        drop(left);
        self.room.notify_waiters();
        self.idle.notify_all();
    }

    /// Waits until all that was asked is done, at most `longest`. Whether it is.
    pub(super) fn wait_idle(&self, longest: Duration) -> bool {
        let until = Instant::now() + longest;
        let mut state = self.state.lock().unwrap();
        while (state.is_busy || !state.jobs.is_empty()) && !state.has_ended {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            state = self.idle.wait_timeout(state, left).unwrap().0;
        }
        true
    }

    /// Waits until the writer is gone, at most `longest`.
    pub(super) fn wait_ended(&self, longest: Duration) {
        let state = self.state.lock().unwrap();
        let waited = self
            .idle
            .wait_timeout_while(state, longest, |state| !state.has_ended);
        drop(waited);
    }

    /// Whether no more jobs are taken.
    pub(super) fn is_closed(&self) -> bool {
        self.state.lock().unwrap().is_closed
    }
}

impl State {
    fn is_behind(&self, bytes_max: usize) -> bool {
        self.bytes > bytes_max / 2 || self.jobs.len() > QUEUE_JOBS / 2
    }

    /// Adds to a job those behind it that store what follows.
    fn join(&mut self, job: Job) -> Job {
        let Job::Store {
            kept,
            first,
            mut pieces,
        } = job
        else {
            return job;
        };
        let mut len: usize = pieces.iter().map(Bytes::len).sum();
        while let Some(Job::Store {
            kept: other,
            first: next,
            pieces: more,
        }) = self.jobs.front_mut()
        {
            let end = first + (len as u64).div_ceil(BLOCK_SIZE_BYTES);
            let more_len: usize = more.iter().map(Bytes::len).sum();
            if !Arc::ptr_eq(&kept, other) || *next != end || len + more_len > BATCH_BYTES {
                break;
            }
            pieces.append(more);
            len += more_len;
            self.jobs.pop_front();
        }
        Job::Store {
            kept,
            first,
            pieces,
        }
    }
}

impl Job {
    fn bytes(&self) -> usize {
        match self {
            Self::Store { pieces, .. } => pieces.iter().map(Bytes::len).sum(),
            Self::Forget { .. } | Self::Used { .. } | Self::List { .. } | Self::Mark(_) => 0,
        }
    }
}

/// Pieces of whole blocks, from `first` on, in runs of at most `most` bytes, a multiple of a block: a small limit has no
/// room for all of them at once.
pub(super) fn runs(first: u64, pieces: Vec<Bytes>, most: u64) -> Vec<(u64, Vec<Bytes>)> {
    let most = most as usize;
    let mut runs: Vec<(u64, Vec<Bytes>)> = Vec::new();
    let (mut at, mut room) = (first, 0);
    for mut piece in pieces {
        while !piece.is_empty() {
            if room == 0 {
                runs.push((at, Vec::new()));
                room = most;
            }
            let len = piece.len().min(room);
            at += (len as u64).div_ceil(BLOCK_SIZE_BYTES);
            room -= len;
            if let Some((_, run)) = runs.last_mut() {
                run.push(piece.split_to(len));
            }
        }
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entity::{BLOCK_SIZE_BYTES, Entity};
    use crate::model::EntityId;

    fn kept(id: &str) -> Arc<Kept> {
        Kept::nothing(&Arc::new(Entity {
            id: EntityId(id.into()),
            size_bytes: 1 << 40,
        }))
    }

    fn store(kept: &Arc<Kept>, first: u64, blocks: usize) -> Job {
        Job::Store {
            kept: Arc::clone(kept),
            first,
            pieces: vec![Bytes::from(vec![0; blocks * BLOCK_SIZE_BYTES as usize])],
        }
    }

    #[test]
    fn neighbours_are_written_together_and_others_are_not() {
        let queue = Queue::new(32 << 20);
        let (a, b) = (kept("a"), kept("b"));
        for job in [
            store(&a, 3, 1),
            store(&a, 4, 2),
            store(&a, 6, 1),
            store(&a, 9, 1),
            store(&b, 10, 1),
        ] {
            assert!(queue.push(job));
        }
        queue.close();
        let next = || match queue.next() {
            Some(Job::Store { first, pieces, .. }) => Some((first, pieces.len())),
            _ => None,
        };
        assert_eq!(
            [next(), next(), next(), next()],
            [Some((3, 3)), Some((9, 1)), Some((10, 1)), None]
        );
        assert!(!queue.push(store(&a, 0, 1)), "it is closed");
    }

    #[test]
    fn what_does_not_fit_is_refused_at_once() {
        let queue = Queue::new(32 << 20);
        let a = kept("a");
        let mib = ((1 << 20) / BLOCK_SIZE_BYTES) as usize;
        let fit = (0..100)
            .filter(|at| queue.push(store(&a, at * 1000, mib)))
            .count();
        assert_eq!(fit, 32);
        assert!(
            queue.push(Job::Forget {
                kept: Arc::clone(&a),
                block: 0
            }),
            "it has no bytes"
        );
        let used = || Job::Used {
            kept: Arc::clone(&a),
            block: None,
        };
        assert!((0..2 * QUEUE_JOBS).filter(|_| queue.push(used())).count() < QUEUE_JOBS);
        assert!(!queue.wait_idle(Duration::ZERO));
        queue.ended();
        assert!(
            queue.wait_idle(Duration::ZERO) && Arc::strong_count(&a) == 1,
            "nothing is held for ever"
        );
    }

    #[test]
    fn runs_begin_at_blocks_and_hold_every_byte_in_order() {
        let block = BLOCK_SIZE_BYTES as usize;
        let bytes: Vec<u8> = (0..7 * block + 9).map(|at| (at / 100) as u8).collect();
        let bytes = Bytes::from(bytes);
        let pieces = vec![bytes.slice(..3 * block), bytes.slice(3 * block..)];
        let runs = runs(5, pieces, 2 * BLOCK_SIZE_BYTES);
        let firsts: Vec<u64> = runs.iter().map(|(first, _)| *first).collect();
        assert_eq!(firsts, [5, 7, 9, 11]);
        let sizes = runs.iter().map(|(_, run)| run.iter().map(Bytes::len).sum());
        assert_eq!(sizes.max(), Some(2 * block));
        let joined: Vec<u8> = runs.iter().flat_map(|(_, run)| run.concat()).collect();
        assert_eq!(joined, bytes);
    }
}
