//! A body on its way out: read piece by piece, held back by the limit, broken off where that must be.
//!
//! Promise: no piece is handed on after it was abandoned, and it cannot be abandoned after its last piece was handed on; so a
//! receiver has either all of it, and is waited for, or never counts it. Holds about one piece in memory.

use std::io;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures_util::stream::try_unfold;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep_until};

use crate::api::pace::Pace;
use crate::api::{Error, Part};

/// Bytes read and handed on at once: few enough that many bodies fit into memory beside each other, and enough that going
/// to a thread that may block for each costs nothing beside sending them.
const PIECE_BYTES: usize = 128 << 10;

/// One body of at least one byte, for one request.
pub(super) struct Outgoing {
    part: Part,
    pace: Option<Arc<Pace>>,
    /// Told of each piece.
    progress: watch::Sender<()>,
    moved: Notify,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Bytes handed on.
    out: u64,
    abandoned: bool,
    /// Why it cannot be read.
    failure: Option<Error>,
}

impl Outgoing {
    /// Of `part`, no faster than `pace`.
    pub(super) fn new(
        part: Part,
        pace: Option<Arc<Pace>>,
        progress: watch::Sender<()>,
    ) -> Arc<Self> {
        Arc::new(Self {
            part,
            pace,
            progress,
            moved: Notify::new(),
            state: Mutex::default(),
        })
    }

    /// The stream of it, which is read once.
    pub(super) fn body(self: &Arc<Self>) -> reqwest::Body {
        let start = (Arc::clone(self), 0);
        reqwest::Body::wrap_stream(try_unfold(start, |(this, offset)| async move {
            if offset >= this.part.len {
                return Ok::<_, io::Error>(None);
            }
            let piece = this.piece(offset).await?;
            let next = offset + piece.len() as u64;
            Ok(Some((piece, (this, next))))
        }))
    }

    /// Whether its last byte was handed on.
    pub(super) fn is_all_out(&self) -> bool {
        self.state.lock().unwrap().out == self.part.len
    }

    /// Resolves when a piece was handed on since the last time.
    pub(super) async fn moved(&self) {
        self.moved.notified().await;
    }

    /// Lets no further piece go out, if there is one; otherwise it is too late, and false.
    pub(super) fn abandon(&self) -> bool {
        let mut state = self.state.lock().unwrap();
        state.abandoned = state.out < self.part.len;
        state.abandoned
    }

    /// Why it broke off, where its source is what failed.
    pub(super) fn failure(&self) -> Option<Error> {
        self.state.lock().unwrap().failure.clone()
    }

    async fn piece(&self, offset: u64) -> io::Result<Bytes> {
        let piece = self.read(offset).await.inspect_err(|err| {
            let failure = Error::Local(format!("what is to be sent cannot be read: {err}"));
            self.state.lock().unwrap().failure = Some(failure);
        })?;
        if let Some(pace) = &self.pace {
            sleep_until(pace.take(piece.len(), Instant::now())).await;
        }
        {
            let mut state = self.state.lock().unwrap();
            if state.abandoned {
                return Err(io::Error::other("nobody waits for it any more"));
            }
            state.out = offset + piece.len() as u64;
        }
        self.moved.notify_one();
        self.progress.send_replace(());
        Ok(piece)
    }

    async fn read(&self, offset: u64) -> io::Result<Bytes> {
        let most = self
            .pace
            .as_ref()
            .map_or(PIECE_BYTES, |pace| pace.piece_bytes().min(PIECE_BYTES));
        let left = self.part.len - offset;
        // No more than `most`, so that the cast cuts nothing off.
        let wanted = left.min(most as u64) as usize;
        let read = Arc::clone(&self.part.read);
        let piece = match self.part.in_memory {
            true => read(offset, wanted)?,
            false => tokio::task::spawn_blocking(move || read(offset, wanted))
                .await
                .map_err(io::Error::other)??,
        };
        match piece.len() {
            0 => Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "it is shorter than its length",
            )),
            len if len > wanted => Err(io::Error::other("more bytes came than were asked for")),
            _ => Ok(piece),
        }
    }
}
