//! What was delivered is kept in the cache, so that nobody has to fetch what was here a moment ago; and what is open while
//! its name is given to another file, since its version may soon be gone from the server.
//!
//! One file at a time, behind everything else that the disk has to do; what is too much for that is not kept.

use std::sync::{Arc, Mutex};

use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::entity::{BLOCK_SIZE_BYTES, Entity};
use crate::read::{Reader, Source};
use crate::staging::{Local, State};

/// Files that wait at most. Each keeps its content on the disk meanwhile.
const WAITING_MAX: usize = 256;

/// Blocks handed to the cache at once.
const BLOCKS_AT_ONCE: u64 = 64;

/// A file may take this part of the cache at most, so that it does not drive out all the rest.
const LARGEST_PART: u64 = 4;

/// Largest version that is read for those who have it open.
const VANISHING_MAX_BYTES: u64 = 64 << 20;

/// Bytes of it read at once.
const READ_BYTES: u32 = 1 << 20;

/// Keeps content in the cache. Its drop ends that.
pub(super) struct Warmer {
    reader: Arc<Reader>,
    worker: Mutex<Option<(mpsc::Sender<Job>, JoinHandle<()>)>>,
}

enum Job {
    Delivered(Arc<Local>),
    Vanishing(Source),
}

impl Warmer {
    /// Keeps what it is given in the cache of `reader`.
    pub(super) fn new(reader: Arc<Reader>) -> Self {
        Self {
            reader,
            worker: Mutex::default(),
        }
    }

    /// `local` was delivered. Must be called inside a tokio runtime.
    pub(super) fn delivered(&self, local: Arc<Local>) {
        self.give(Job::Delivered(local));
    }

    /// `source` is open, and may soon be gone from the server. Must be called inside a tokio runtime.
    pub(super) fn vanishing(&self, source: Source) {
        if source.size_bytes <= VANISHING_MAX_BYTES {
            self.give(Job::Vanishing(source));
        }
    }

    fn give(&self, job: Job) {
        let mut worker = self.worker.lock().unwrap();
        let (queue, _) = worker.get_or_insert_with(|| {
            let (give, mut take) = mpsc::channel(WAITING_MAX);
            let reader = Arc::clone(&self.reader);
            let work = async move {
                while let Some(job) = take.recv().await {
                    match job {
                        Job::Delivered(local) => keep(&reader, local).await,
                        Job::Vanishing(source) => read(&reader, source).await,
                    }
                }
            };
            (give, tokio::spawn(work))
        });
        if queue.try_send(job).is_err() {
            log::debug!("a file is not kept in the cache: too many wait");
        }
    }
}

impl Drop for Warmer {
    fn drop(&mut self) {
        if let Some((_, worker)) = &*self.worker.lock().unwrap() {
            worker.abort();
        }
    }
}

/// Reads all of `source`, which keeps it where there is a cache.
async fn read(reader: &Arc<Reader>, source: Source) {
    let size_bytes = source.size_bytes;
    let stream = reader.open(source);
    for offset in (0..size_bytes).step_by(READ_BYTES as usize) {
        if let Err(err) = stream.read(offset, READ_BYTES).await {
            log::debug!("a version that is open and may soon be gone is not kept: {err}");
            return;
        }
    }
}

/// Gives the content of `local` to the cache, as that of its base, for as long as nobody writes to it.
async fn keep(reader: &Arc<Reader>, local: Arc<Local>) {
    let generation = local.generation();
    let Some(entity) = entity_of(&local) else {
        return;
    };
    if entity.size_bytes > reader.cache().usage().limit_bytes / LARGEST_PART {
        return;
    }
    let entity = Arc::new(entity);
    let kept = reader.cache().entity(&entity);
    for first in (0..entity.blocks()).step_by(BLOCKS_AT_ONCE as usize) {
        let blocks = first..(first + BLOCKS_AT_ONCE).min(entity.blocks());
        let range = entity.bytes_of(&blocks);
        let from = Arc::clone(&local);
        reader.cache().caught_up().await;
        let read = tokio::task::spawn_blocking(move || (range.end - range.start, from.read(range)));
        let Ok((len, Ok(bytes))) = read.await else {
            return;
        };
        // Compared after it was read, since a write changes the generation before it changes the bytes.
        if local.generation() != generation || bytes.len() as u64 != len {
            return;
        }
        kept.store(first, bytes);
    }
}

/// The version that the content of `local` is, if it is one.
fn entity_of(local: &Local) -> Option<Entity> {
    let is_delivered = local.state() == State::Delivered;
    let base = local.base().filter(|_| is_delivered)?;
    let is_all = base.entity.size_bytes == local.size_bytes() && local.missing().is_none();
    is_all.then_some(base.entity)
}

const _: () = assert!(BLOCKS_AT_ONCE * BLOCK_SIZE_BYTES == 1 << 20);
