//! Whole entities brought to the disk before anybody reads them.
//!
//! At low precedence: what programs read goes first, and the disk is let catch up. Dropping the future ends it; nothing
//! is hung up on before its response headers, for the fetches belong to the reader.

use std::ops::Range;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::{FutureExt, StreamExt, TryStreamExt, stream};
use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, sleep};

use super::fetch::{Fetch, Interest};
use super::lanes::Lanes;
use super::precedence::PIECES_AT_ONCE;
use super::{Reader, Source};
use crate::api::Error;
use crate::blocks::{Claim, Missed, Piece};
use crate::cache::Kept;
use crate::entity::{BLOCK_SIZE_BYTES, Entity};

/// A piece takes such a part of the memory for content at most: several are under way, and others read.
const MEMORY_PART: u64 = 16;

/// How long to wait for memory that others need now.
const NO_ROOM: Duration = Duration::from_millis(100);

/// Why an entity is not kept as a whole.
#[derive(Debug, thiserror::Error)]
pub enum NotKept {
    /// It could not be fetched.
    #[error("{0}")]
    Fetch(#[from] Error),
    /// The disk did not take it, or lost it again.
    #[error("the disk did not keep it: it is full, failing, or others need the room")]
    Disk,
}

/// One entity on its way to the disk.
struct Keeping<'a> {
    reader: &'a Arc<Reader>,
    source: &'a Source,
    entity: Arc<Entity>,
    kept: Arc<Kept>,
    /// Of the host that its content comes from, as far as is known.
    lanes: Arc<Mutex<Arc<Lanes>>>,
    /// Its drop tells the fetches that nobody wants the rest.
    interest: watch::Sender<()>,
}

impl Reader {
    /// Brings all of `source` to the disk; when it returns, the whole entity is kept. `came` is told how many bytes came,
    /// piece by piece.
    pub async fn keep(
        self: &Arc<Self>,
        source: &Source,
        came: &(dyn Fn(u64) + Send + Sync),
    ) -> Result<(), NotKept> {
        let entity = Arc::new(source.version());
        let keeping = Keeping {
            kept: self.shared.cache.entity(&entity),
            lanes: Arc::new(Mutex::new(self.shared.own_lanes())),
            interest: watch::channel(()).0,
            reader: self,
            source,
            entity,
        };
        keeping.run(came).await
    }

    /// Bytes of `entity` that are on the disk now. Waits for the disk.
    pub async fn bytes_here(&self, entity: &Arc<Entity>) -> u64 {
        let missing = missing(&self.shared.cache.entity(entity)).await;
        entity.size_bytes - bytes_of(entity, &missing)
    }

    /// Asks for the URLs of those of `sources` that are one's own files, in one request; for what is kept next.
    pub async fn sign_ahead(&self, sources: &[Source]) {
        let shared = &self.shared;
        shared.links.get_ahead(&shared.origin, sources).await;
    }
}

impl Keeping<'_> {
    async fn run(&self, came: &(dyn Fn(u64) + Send + Sync)) -> Result<(), NotKept> {
        let entity = &self.entity;
        if entity.size_bytes == 0 {
            return Ok(());
        }
        // A second time for what the disk was too slow to take.
        for is_first in [true, false] {
            let missing = missing(&self.kept).await;
            if missing.is_empty() {
                return Ok(());
            }
            let size = self.piece_blocks();
            let pieces = missing.into_iter().flat_map(|run| pieces(run, size));
            let told = is_first.then_some(came);
            let brought = pieces.map(|piece| self.bring(piece, told).boxed());
            let brought = stream::iter(brought).buffer_unordered(PIECES_AT_ONCE);
            brought.try_collect::<()>().await?;
            self.reader.shared.cache.written().await;
        }
        match missing(&self.kept).await.is_empty() {
            true => Ok(()),
            false => Err(NotKept::Disk),
        }
    }

    /// Blocks that are fetched at once.
    fn piece_blocks(&self) -> u64 {
        let part = self.lanes.lock().unwrap().next_part_bytes();
        let most = self.reader.shared.blocks.budget_bytes() / MEMORY_PART;
        (part.min(most) / BLOCK_SIZE_BYTES).max(1)
    }

    /// Fetches `piece`, or finds it in memory, and gives it to the disk; tells `came` how much that was.
    async fn bring(
        &self,
        piece: Range<u64>,
        came: Option<&(dyn Fn(u64) + Send + Sync)>,
    ) -> Result<(), Error> {
        let shared = &self.reader.shared;
        let _place = shared.precedence.place().await;
        let mut fetched = Vec::new();
        let mut at = piece.start;
        while at < piece.end {
            shared.precedence.stand_aside().await;
            shared.cache.caught_up().await;
            let wanted = shared.blocks.want(&self.entity, 0..0, at..piece.end);
            fetched.extend(wanted.claims.iter().map(Claim::owed));
            self.fetch(wanted.claims).await;
            if wanted.ahead_until == at {
                sleep(NO_ROOM).await;
            }
            at = wanted.ahead_until;
        }
        let is_new = |blocks: &Range<u64>| {
            let is_apart = |new: &Range<u64>| new.end <= blocks.start || blocks.end <= new.start;
            !fetched.iter().all(is_apart)
        };
        self.settle(piece.clone(), is_new).await?;
        shared.blocks.forget(&self.entity, piece.clone());
        if let Some(came) = came {
            came(bytes_of(&self.entity, &[piece]));
        }
        Ok(())
    }

    async fn fetch(&self, claims: Vec<Claim<Error>>) {
        let ends = claims.into_iter().map(|claim| {
            let fetch = self.fetch_of(claim, self.interest.subscribe());
            let (end, ended) = oneshot::channel::<()>();
            self.reader.spawn(async move {
                fetch.run().await;
                drop(end);
            });
            ended
        });
        // Nothing is ever sent: a dropped sender says that it is over.
        futures_util::future::join_all(ends).await;
    }

    fn fetch_of(&self, claim: Claim<Error>, interest: Interest) -> Fetch {
        let shared = &self.reader.shared;
        let until = Instant::now() + shared.options.timeout;
        let lanes = Arc::clone(&self.lanes.lock().unwrap());
        let fetch = Fetch::new(shared, self.source, claim, interest, until);
        fetch.telling(&self.lanes).in_lane(&lanes)
    }

    /// Waits for what others bring of `piece`, asks once more for what nobody brought, and hears why it cannot be had. What
    /// was in memory before, which is not `is_new`, may never have been given to the disk.
    async fn settle(
        &self,
        piece: Range<u64>,
        is_new: impl Fn(&Range<u64>) -> bool,
    ) -> Result<(), Error> {
        let nothing_ahead = piece.end..piece.end;
        let wanted = self
            .reader
            .shared
            .blocks
            .want(&self.entity, piece, nothing_ahead);
        for claim in wanted.claims {
            let fetch = self.fetch_of(claim, self.interest.subscribe());
            self.reader.start(fetch);
        }
        for piece in wanted.pieces {
            match piece {
                Piece::Here(segment) if !is_new(&segment.blocks()) => {
                    if segment.blocks().any(|block| !self.kept.has(block)) {
                        self.kept.store(segment.first, segment.bytes);
                    }
                }
                Piece::Here(_) | Piece::Kept(_) => {}
                Piece::Coming(waiter) => match waiter.segments().await {
                    Ok(_) => {}
                    Err(Missed::Failed(error)) => return Err(error),
                    Err(Missed::Abandoned) => {
                        return Err(Error::Local("a fetch was given up".into()));
                    }
                },
            }
        }
        Ok(())
    }
}

/// `run` in pieces of `size` blocks.
fn pieces(run: Range<u64>, size: u64) -> impl Iterator<Item = Range<u64>> {
    let starts = (run.start..run.end).step_by(usize::try_from(size).unwrap_or(usize::MAX));
    starts.map(move |start| start..run.end.min(start + size))
}

fn bytes_of(entity: &Entity, runs: &[Range<u64>]) -> u64 {
    let bytes = runs.iter().map(|run| entity.bytes_of(run));
    bytes.map(|bytes| bytes.end - bytes.start).sum()
}

/// Runs of blocks that are not on the disk.
async fn missing(kept: &Arc<Kept>) -> Vec<Range<u64>> {
    let of = Arc::clone(kept);
    let missing = tokio::task::spawn_blocking(move || of.missing()).await;
    missing.unwrap_or_else(|error| {
        log::error!("looking for what is kept ended by itself: {error}");
        std::iter::once(0..kept.blocks()).collect()
    })
}
