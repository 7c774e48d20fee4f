//! How content gets to the storage behind the server: one file here for each kind of storage.
//!
//! Promises: what a storage acknowledged is not sent twice but once in a stream, after a restart neither; nothing is taken
//! for delivered, which only a look at the file can tell (→ api part 2 §5.7). Never opens, cancels or verifies a session.

use std::collections::BTreeMap;
use std::future::Future;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::stream::{self, StreamExt, TryStreamExt};
use serde::{Deserialize, Serialize};

use super::halt::Halt;
use crate::api::{Api, Error, Part, Session};
use crate::crash::{self, Point};

mod local;
mod multipart;
mod obs;
mod onedrive;
mod oss;
mod qiniu;
mod remote;
mod s3;
mod store;
mod upyun;

/// Tries of one chunk before the whole upload waits for better times.
const TRIES: u32 = 4;
/// Before the second try of a chunk; each later one waits twice as long.
const FIRST_DELAY: Duration = Duration::from_millis(500);
/// Chunks that are smaller are noted several at once: so much is sent twice after a crash, and no more.
const NOTED_BYTES: u64 = 4 << 20;
/// What the server, or a storage node, says when its disk refused a chunk; also when it came before the one in front of
/// it, on a disk where room is not reserved (→ api part 2 §5.7).
const DISK_REFUSED: i64 = 50004;
/// More streams for one file gain nothing, whatever a server says.
const MOST_STREAMS: usize = 16;

/// How the content of one session gets to the storage behind the server.
pub(super) struct Transfer<'a> {
    /// The server.
    pub(super) api: &'a Api,
    /// The open session.
    pub(super) session: &'a Session,
    /// Bytes of the whole file; never 0.
    pub(super) size_bytes: u64,
    /// The bytes of a range, read as they are sent.
    pub(super) body: &'a (dyn Fn(Range<u64>) -> Part + Send + Sync),
    /// What is there already, and where what gets there is told.
    pub(super) progress: &'a Progress,
}

/// What of a session is on the other side already; kept in the journal beside the session.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Done {
    /// By index: the ETag, verbatim, or nothing where the storage gives none.
    pub(super) chunks: BTreeMap<u64, String>,
}

/// Writes down what is done, before the next chunk of a stream is sent. What cannot be written is sent again after a crash.
pub(super) type Note = Box<dyn Fn(Done) -> BoxFuture<'static, ()> + Send + Sync>;

/// How far one session is.
pub(super) struct Progress {
    done: Mutex<Done>,
    /// Bytes that were acknowledged and not noted yet.
    unnoted_bytes: AtomicU64,
    note: Note,
    halt: Arc<Halt>,
}

impl Progress {
    /// Goes on where `done` is.
    pub(super) fn new(done: Done, note: Note, halt: Arc<Halt>) -> Self {
        Self {
            done: Mutex::new(done),
            unnoted_bytes: AtomicU64::new(0),
            note,
            halt,
        }
    }

    /// Whether the storage has chunk `index`.
    pub(super) fn is_done(&self, index: u64) -> bool {
        self.done.lock().unwrap().chunks.contains_key(&index)
    }

    /// All that the storage has.
    pub(super) fn done(&self) -> Done {
        self.done.lock().unwrap().clone()
    }

    /// The storage has chunk `index`, of `bytes`; resolves when that is noted.
    pub(super) async fn chunk_done(&self, index: u64, bytes: u64, etag: &str) {
        crash::pass(Point::ChunkSent);
        self.done
            .lock()
            .unwrap()
            .chunks
            .insert(index, etag.to_owned());
        let unnoted = self.unnoted_bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        if unnoted >= NOTED_BYTES {
            self.unnoted_bytes.store(0, Ordering::Relaxed);
            (self.note)(self.done()).await;
        }
        crash::pass(Point::ChunkNoted);
    }

    /// Whether the upload is to end: its content changed, or somebody wants the file. Bodies that are being sent break off
    /// by themselves then; nothing more is to be begun or repeated.
    pub(super) fn is_halted(&self) -> bool {
        self.halt.is_set()
    }

    /// Waits for `delay`; false where the upload is to end instead.
    pub(super) async fn pause(&self, delay: Duration) -> bool {
        tokio::time::timeout(delay, self.halt.set()).await.is_err()
    }
}

impl Transfer<'_> {
    /// Bytes in each chunk but the last.
    pub(super) fn chunk_bytes(&self) -> u64 {
        match self.session.chunk_size {
            0 => self.size_bytes,
            bytes => bytes,
        }
    }

    /// How many chunks there are; at least one.
    pub(super) fn chunks(&self) -> u64 {
        self.size_bytes.div_ceil(self.chunk_bytes().max(1)).max(1)
    }

    /// The bytes of chunk `index`.
    pub(super) fn range(&self, index: u64) -> Range<u64> {
        let start = index.saturating_mul(self.chunk_bytes());
        start.min(self.size_bytes)
            ..start
                .saturating_add(self.chunk_bytes())
                .min(self.size_bytes)
    }

    /// Chunk `index`, to be sent.
    pub(super) fn part(&self, index: u64) -> Part {
        (self.body)(self.range(index))
    }

    /// Streams for one file, as the storage wants it.
    pub(super) fn streams(&self) -> usize {
        (self.session.chunk_concurrency as usize).clamp(1, MOST_STREAMS)
    }

    /// Sends the chunks of `indices` that are not there yet, `streams` at once, each again where that may help. `send`
    /// gives the ETag, or an empty text.
    pub(super) async fn send_chunks<F, Fut>(
        &self,
        indices: Range<u64>,
        streams: usize,
        send: F,
    ) -> Result<(), Error>
    where
        F: Fn(u64, Part) -> Fut,
        Fut: Future<Output = Result<String, Error>>,
    {
        let send = &send;
        stream::iter(indices.filter(|index| !self.progress.is_done(*index)))
            .map(Ok)
            .try_for_each_concurrent(streams, |index| async move {
                let etag = self.repeat(|| send(index, self.part(index))).await?;
                let range = self.range(index);
                let bytes = range.end - range.start;
                self.progress.chunk_done(index, bytes, &etag).await;
                Ok(())
            })
            .await
    }

    /// As [`Transfer::send_chunks`], to one of Cloudreve's own disks. The last chunk goes last and alone: servers before 4.18
    /// complete when it arrives, whatever else is missing. It is sent once: whether it did its work can only be seen at
    /// the file.
    pub(super) async fn send_to_disk<F, Fut>(&self, send: F) -> Result<(), Error>
    where
        F: Fn(u64, Part) -> Fut,
        Fut: Future<Output = Result<String, Error>>,
    {
        let (last, streams) = (self.chunks() - 1, self.streams());
        match self.send_chunks(0..last, streams, &send).await {
            Err(Error::Trouble { code, .. }) if code == DISK_REFUSED && streams > 1 => {
                log::debug!("chunks are taken in order only");
                self.send_chunks(0..last, 1, &send).await?;
            }
            sent => sent?,
        }
        store::go_on(self)?;
        send(last, self.part(last)).await.map(drop)
    }

    /// Does what may be done twice, again where that may help, until it is done or the upload is to end.
    pub(super) async fn repeat<T, F, Fut>(&self, call: F) -> Result<T, Error>
    where
        F: Fn() -> Fut,
        Fut: Future<Output = Result<T, Error>>,
    {
        let mut delay = FIRST_DELAY;
        for _ in 1..TRIES {
            match call().await {
                Err(error) if may_pass(&error) && !self.progress.is_halted() => {
                    log::debug!("a piece of an upload is sent again: {error}");
                    if !self.progress.pause(delay).await {
                        return Err(error);
                    }
                }
                answer => return answer,
            }
            delay *= 2;
        }
        call().await
    }
}

/// Whether the same request may go well a moment later.
fn may_pass(error: &Error) -> bool {
    matches!(
        error,
        Error::Transport { .. } | Error::Timeout(_) | Error::Trouble { .. }
    )
}

/// Sends everything that is not there yet, completes and calls back; the caller verifies, also after an error: it may
/// have come after the deed.
pub(super) async fn transfer(t: &Transfer<'_>) -> Result<(), Error> {
    if t.session.relay {
        return local::send(t).await;
    }
    match t.session.policy.as_str() {
        "local" => local::send(t).await,
        "remote" => remote::send(t).await,
        "s3" | "ks3" => s3::send(t, &s3::PLAIN).await,
        "cos" => s3::send(t, &s3::COS).await,
        "oss" => oss::send(t).await,
        "obs" => obs::send(t).await,
        "qiniu" => qiniu::send(t).await,
        "upyun" => upyun::send(t).await,
        "onedrive" => onedrive::send(t).await,
        kind => Err(Error::Refused {
            code: 0,
            said: format!("uploads to storage of type '{kind}' are not known here"),
        }),
    }
}

#[cfg(test)]
mod tests;
