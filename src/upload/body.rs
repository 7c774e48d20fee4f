//! The bytes of one upload, all of one content.
//!
//! Writers write on while a file is sent. Each piece is read from the local file, and handed on only if nothing was
//! written meanwhile; otherwise the request breaks off in mid-body, which the server does not count (→ api part 2 §0.1).

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use bytes::{Bytes, BytesMut};
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::Xxh3;

use super::halt::Halt;
use crate::api::Part;
use crate::staging::{Delivery, Local};

/// Content up to this size is its own sample, in bytes: what of it is on the server is known for ours after a crash, also
/// when the local file has another content by then. To hash so much takes milliseconds.
const WHOLE_SAMPLE_BYTES: u64 = 8 << 20;
/// A sample of more has so many pieces, the first bytes and the last ones among them, …
const SAMPLE_PIECES: u64 = 16;
/// … of so many bytes each.
const SAMPLE_BYTES: u64 = 16 << 10;

/// Content up to this size is read once, for its sample and to be sent, in bytes: less than it costs to go to the disk
/// twice, and so little that many of them fit into memory.
const IN_MEMORY_BYTES: u64 = 64 << 10;

/// So many bytes of a local file are read at a time where only their hash is wanted.
const STEP_BYTES: u64 = 1 << 20;

/// Hashes over the parts of a content as they were read to be sent: what tells it from another one when the local file has
/// neither any more.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Prints {
    /// By first byte: the byte behind the last one, and the hash.
    parts: BTreeMap<u64, (u64, u64)>,
}

impl Prints {
    fn add(&mut self, part: Range<u64>, print: u64) {
        self.parts.insert(part.start, (part.end, print));
    }

    /// Takes over what `other` has.
    pub(super) fn merge(&mut self, other: Self) {
        self.parts.extend(other.parts);
    }

    /// Whether they are of all bytes, each once.
    pub(super) fn cover(&self, size_bytes: u64) -> bool {
        let up_to = self
            .parts
            .iter()
            .try_fold(0, |at, (start, (end, _))| (*start == at).then_some(*end));
        up_to == Some(size_bytes)
    }

    /// Each part with its hash, in order.
    pub(super) fn parts(&self) -> Vec<(Range<u64>, Option<u64>)> {
        let parts = self.parts.iter();
        parts
            .map(|(start, (end, print))| (*start..*end, Some(*print)))
            .collect()
    }
}

/// A local file on its way.
pub(super) struct Flight {
    /// The file.
    pub(super) local: Arc<Local>,
    /// Set where it is to end: its content changed, or somebody wants the file.
    pub(super) halt: Arc<Halt>,
    /// Bytes that were handed on and not taken back, for `status`.
    pub(super) sent_bytes: AtomicU64,
    /// Which content goes; the highest number until that is decided.
    generation: AtomicU64,
    /// What was read to be sent, and of which generation.
    prints: Mutex<(u64, Prints)>,
    /// All of a small content, and of which generation.
    whole: Mutex<Option<(u64, Bytes)>>,
    /// Why its bytes could not be read here.
    broken: Mutex<Option<Arc<io::Error>>>,
    /// Who writes to the journal.
    turn: Arc<tokio::sync::Mutex<()>>,
}

impl Flight {
    /// A file that is about to go.
    pub(super) fn new(local: Arc<Local>) -> Self {
        Self {
            local,
            halt: Arc::default(),
            sent_bytes: AtomicU64::new(0),
            generation: AtomicU64::new(u64::MAX),
            prints: Mutex::default(),
            whole: Mutex::new(None),
            broken: Mutex::new(None),
            turn: Arc::default(),
        }
    }

    /// The content that goes is that of `generation`.
    pub(super) fn takes(&self, generation: u64) {
        self.generation.store(generation, Ordering::Release);
    }

    /// What was read of `generation` to be sent.
    pub(super) fn prints(&self, generation: u64) -> Prints {
        let prints = self.prints.lock().unwrap();
        match prints.0 == generation {
            true => prints.1.clone(),
            false => Prints::default(),
        }
    }

    fn printed(&self, generation: u64, part: Range<u64>, print: u64) {
        let mut prints = self.prints.lock().unwrap();
        if prints.0 != generation {
            *prints = (generation, Prints::default());
        }
        prints.1.add(part, print);
    }

    /// Whether what is in the file now is what goes, or will be taken.
    pub(super) fn is_newest(&self) -> bool {
        let taken = self.generation.load(Ordering::Acquire);
        taken == u64::MAX || taken == self.local.generation()
    }

    /// Changes what is noted of the delivery, one change after the other also where who waited for one is gone.
    pub(super) async fn note(
        &self,
        change: impl FnOnce(&mut Delivery) + Send + 'static,
    ) -> io::Result<()> {
        self.change(change, Local::set_delivery).await
    }

    /// As [`Flight::note`], of what may be missing after a crash: it is written with the next change that is waited for.
    pub(super) async fn note_soon(
        &self,
        change: impl FnOnce(&mut Delivery) + Send + 'static,
    ) -> io::Result<()> {
        self.change(change, Local::set_delivery_soon).await
    }

    async fn change(
        &self,
        change: impl FnOnce(&mut Delivery) + Send + 'static,
        write: fn(&Local, Delivery) -> io::Result<()>,
    ) -> io::Result<()> {
        let turn = Arc::clone(&self.turn).lock_owned().await;
        let before = self.local.delivery();
        let mut delivery = before.clone();
        change(&mut delivery);
        if delivery == before {
            return Ok(());
        }
        let local = Arc::clone(&self.local);
        blocking(move || {
            let _turn = turn;
            write(&local, delivery)
        })
        .await
    }

    /// The [`sample`] of `generation`, which is what the file has; a small content is kept in memory with it, until
    /// [`Flight::is_sent`].
    pub(super) async fn sample(self: &Arc<Self>, generation: u64, size: u64) -> io::Result<u64> {
        let flight = Arc::clone(self);
        blocking(move || {
            if size > IN_MEMORY_BYTES {
                return sample(&flight.local, size);
            }
            let bytes = read_all(&flight.local, 0..size)?;
            let mut hash = Xxh3::new();
            hash.update(&bytes);
            // What was read before a change is of the content that goes.
            if flight.local.generation() == generation {
                *flight.whole.lock().unwrap() = Some((generation, bytes));
            }
            Ok(hash.digest())
        })
        .await
    }

    /// All of it was sent: none of it is needed in memory any more.
    pub(super) fn is_sent(&self) {
        *self.whole.lock().unwrap() = None;
    }

    /// All of the content of `generation`, if it is in memory.
    fn whole(&self, generation: u64) -> Option<Bytes> {
        let whole = self.whole.lock().unwrap();
        let (_, bytes) = whole.as_ref().filter(|(of, _)| *of == generation)?;
        Some(bytes.clone())
    }

    /// Why its bytes could not be read here, if they could not.
    pub(super) fn broken(&self) -> Option<Arc<io::Error>> {
        self.broken.lock().unwrap().clone()
    }

    /// The bytes of `range`, as long as they are those of `generation`.
    pub(super) fn part(self: &Arc<Self>, generation: u64, range: Range<u64>) -> Part {
        let flight = Arc::clone(self);
        let whole = self.whole(generation);
        let in_memory = whole.is_some();
        let (start, end) = (range.start, range.end);
        let handed_on = AtomicU64::new(0);
        let hash = Mutex::new((0, Xxh3::new()));
        let read = move |offset: u64, most: usize| {
            if offset == 0 {
                let again = handed_on.swap(0, Ordering::Relaxed);
                flight.sent_bytes.fetch_sub(again, Ordering::Relaxed);
            }
            let at = (start + offset).min(end);
            let piece = at..end.min(at + most as u64);
            let bytes = flight.piece(generation, piece, whole.as_ref())?;
            let len = bytes.len() as u64;
            {
                let mut hash = hash.lock().unwrap();
                if offset == 0 {
                    *hash = (0, Xxh3::new());
                }
                // What is not read in order is not printed.
                if hash.0 == offset {
                    hash.0 += len;
                    hash.1.update(&bytes);
                    if at + len == end {
                        flight.printed(generation, start..end, hash.1.digest());
                    }
                }
            }
            handed_on.fetch_add(len, Ordering::Relaxed);
            flight.sent_bytes.fetch_add(len, Ordering::Relaxed);
            Ok(bytes)
        };
        Part {
            len: end - start,
            read: Arc::new(read),
            in_memory,
        }
    }

    fn piece(
        &self,
        generation: u64,
        range: Range<u64>,
        whole: Option<&Bytes>,
    ) -> io::Result<Bytes> {
        if self.halt.is_set() {
            return Err(io::Error::other("the upload was stopped"));
        }
        let bytes = match whole {
            // No longer than what is in memory, so that the casts cut nothing off.
            Some(whole) => Ok(whole.slice(range.start as usize..range.end as usize)),
            None => read_all(&self.local, range),
        };
        // After the reading: what was read before a change is of the content that goes.
        if self.local.generation() != generation {
            self.halt.raise();
            return Err(io::Error::other("the file was written to"));
        }
        bytes.inspect_err(|err| {
            let same = io::Error::new(err.kind(), err.to_string());
            *self.broken.lock().unwrap() = Some(Arc::new(same));
            self.halt.raise();
        })
    }
}

/// Does what blocks on the disk where that hinders nobody.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(err) => Err(io::Error::other(err)),
    }
}

/// All of `range`, which is here and within the file.
pub(super) fn read_all(local: &Local, range: Range<u64>) -> io::Result<Bytes> {
    let first = local.read(range.clone())?;
    if first.len() as u64 == range.end - range.start {
        return Ok(first);
    }
    let mut all = BytesMut::from(first.as_ref());
    while (all.len() as u64) < range.end - range.start {
        let more = local.read(range.start + all.len() as u64..range.end)?;
        if more.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        all.extend_from_slice(&more);
    }
    Ok(all.freeze())
}

/// The parts of content of `size_bytes` that tell whether two are the same, as far as that is worth asking for.
pub(super) fn sampled(size_bytes: u64) -> Vec<Range<u64>> {
    if size_bytes <= WHOLE_SAMPLE_BYTES {
        return std::iter::once(0..size_bytes).collect();
    }
    let last = size_bytes - SAMPLE_BYTES;
    (0..SAMPLE_PIECES)
        .map(|nth| {
            let start = (u128::from(last) * u128::from(nth) / u128::from(SAMPLE_PIECES - 1)) as u64;
            start..start + SAMPLE_BYTES
        })
        .collect()
}

/// A hash over the [`sampled`] parts of a local file. Blocks on the disk.
pub(super) fn sample(local: &Local, size_bytes: u64) -> io::Result<u64> {
    print(local, sampled(size_bytes))
}

/// A hash over these parts of a local file, one after the other. Blocks on the disk.
pub(super) fn print(local: &Local, parts: impl IntoIterator<Item = Range<u64>>) -> io::Result<u64> {
    let mut hash = Xxh3::new();
    for part in parts {
        let mut at = part.start;
        while at < part.end {
            let step = at..part.end.min(at + STEP_BYTES);
            at = step.end;
            hash.update(&read_all(local, step)?);
        }
    }
    Ok(hash.digest())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_with_a_gap_or_an_overlap_are_not_of_all_bytes() {
        let made = |parts: &[(u64, u64)]| {
            let mut prints = Prints::default();
            for (start, end) in parts {
                prints.add(*start..*end, 1);
            }
            prints
        };
        assert!(made(&[(4, 9), (0, 4)]).cover(9));
        assert!(!made(&[(0, 4), (5, 9)]).cover(9));
        assert!(!made(&[(0, 5), (4, 9)]).cover(9));
        assert!(!made(&[(0, 4)]).cover(9));
        assert!(!made(&[(4, 9)]).cover(9));
        assert!(!made(&[]).cover(9));
    }

    #[test]
    fn samples_lie_within_the_content_and_hold_its_ends() {
        for size in [0, WHOLE_SAMPLE_BYTES] {
            let parts = sampled(size);
            assert_eq!((parts.len(), parts[0].clone()), (1, 0..size));
        }
        for size in [WHOLE_SAMPLE_BYTES + 1, 1 << 30, u64::MAX] {
            let parts = sampled(size);
            assert_eq!(parts.first().map(|part| part.start), Some(0));
            assert_eq!(parts.last().map(|part| part.end), Some(size));
            assert!(
                parts
                    .iter()
                    .all(|part| part.end - part.start == SAMPLE_BYTES)
            );
        }
    }
}
