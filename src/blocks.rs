//! Content blocks: bytes of entities, kept near.
//!
//! Keeps neighbouring blocks as they came, in segments, under one budget for everybody; the segment that was not used for
//! longest leaves first. Knows of each missing block whether its bytes are already on the way. The server never changes
//! an entity, it makes a new one; so a block cannot go stale, only a file can come to point at another entity.
//!
//! Promises: a missing block is claimed by exactly one who brings it, however many want it; who waits gets the
//! bytes even if they are evicted that moment; bytes on the way count against the budget like bytes that are here.
//! Never asks the network or the disk: who finds nothing here gets a [`Claim`] and brings the bytes.

mod claim;
mod state;

use std::ops::Range;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use tokio::sync::oneshot;

pub use self::claim::Claim;
use self::state::{Spot, State};
use crate::entity::Entity;

/// The blocks of all entities. `E` is why a block could not be brought.
pub struct Blocks<E> {
    budget_bytes: u64,
    state: Mutex<State<E>>,
}

/// Neighbouring blocks in one piece of memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment {
    /// The first of them.
    pub first: u64,
    /// All their bytes.
    pub bytes: Bytes,
}

impl Segment {
    /// The blocks.
    pub fn blocks(&self) -> Range<u64> {
        self.first..self.first + crate::entity::blocks_in(self.bytes.len() as u64)
    }
}

/// How runs of missing blocks become claims.
#[derive(Debug, Clone, Copy)]
pub struct Parts {
    /// Blocks in one claim at most; what is demanded may be more than that.
    pub blocks: u64,
}

impl Parts {
    /// Each run is one claim.
    pub const WHOLE: Self = Self { blocks: u64::MAX };
}

/// What [`Blocks::want`] found and left to do.
pub struct Wanted<E> {
    /// The demanded blocks, in order.
    pub pieces: Vec<Piece<E>>,
    /// Runs of neighbouring blocks that the caller must now bring: nobody else will.
    pub claims: Vec<Claim<E>>,
    /// The block before which everything ahead is here, kept or coming; less than asked where the budget is used up.
    pub ahead_until: u64,
    /// Some of the pieces were on their way already, by somebody else's doing.
    pub joined: bool,
}

/// Neighbours among the demanded blocks.
pub enum Piece<E> {
    /// They are in this segment, perhaps among others.
    Here(Segment),
    /// They are on the way.
    Coming(Waiter<E>),
    /// They are kept elsewhere, by the word of whoever asked.
    Kept(Range<u64>),
}

/// Waits for blocks. Dropping it cancels nothing.
pub struct Waiter<E>(oneshot::Receiver<Result<Vec<Segment>, E>>);

/// Why a waiter got no bytes.
#[derive(Debug, PartialEq, Eq)]
pub enum Missed<E> {
    /// They could not be brought.
    Failed(E),
    /// Whoever was to bring them gave up without a reason; ask again.
    Abandoned,
}

impl<E> Waiter<E> {
    /// The segments that hold the blocks, in order, as soon as all of them are there.
    pub async fn segments(self) -> Result<Vec<Segment>, Missed<E>> {
        match self.0.await {
            Ok(Ok(segments)) => Ok(segments),
            Ok(Err(error)) => Err(Missed::Failed(error)),
            Err(_) => Err(Missed::Abandoned),
        }
    }
}

/// Somebody reads an entity, until this is dropped.
pub struct Reading<E> {
    blocks: Arc<Blocks<E>>,
    entity: Arc<Entity>,
}

impl<E> Drop for Reading<E> {
    fn drop(&mut self) {
        let mut state = self.blocks.state.lock().unwrap();
        if let Some(content) = state.contents.get_mut(&self.entity) {
            content.readers -= 1;
        }
        state.forget_if_empty(&self.entity);
    }
}

impl<E: Clone> Blocks<E> {
    /// Holds `budget_bytes` at most, demanded blocks on their way excepted: those are never refused.
    pub fn new(budget_bytes: u64) -> Arc<Self> {
        Arc::new(Self {
            budget_bytes,
            state: Mutex::new(State::new()),
        })
    }

    /// Bytes here and on the way.
    pub fn memory_bytes(&self) -> u64 {
        self.state.lock().unwrap().used_bytes()
    }

    /// The budget, in bytes.
    pub fn budget_bytes(&self) -> u64 {
        self.budget_bytes
    }

    /// Bytes that were brought and left again without having been demanded, counted by segments.
    pub fn wasted_bytes(&self) -> u64 {
        self.state.lock().unwrap().wasted_bytes
    }

    /// Lets go of those of `blocks` that are here, by whole segments, since nobody will come for them.
    pub fn forget(&self, entity: &Arc<Entity>, blocks: Range<u64>) {
        let mut state = self.state.lock().unwrap();
        let State { contents, held, .. } = &mut *state;
        let Some(content) = contents.get(entity) else {
            return;
        };
        let within = content
            .here
            .range(blocks.clone())
            .map(|(_, number)| *number);
        let is_within = |number: &u64| {
            let held = held.peek(number);
            held.is_some_and(|held| held.segment.blocks().end <= blocks.end)
        };
        let gone: Vec<u64> = within.filter(is_within).collect();
        for number in gone {
            state.drop_segment(number);
        }
    }

    /// Takes note that somebody begins to read `entity`.
    pub fn reading(self: &Arc<Self>, entity: &Arc<Entity>) -> Reading<E> {
        let mut state = self.state.lock().unwrap();
        state.content(entity).readers += 1;
        Reading {
            blocks: Arc::clone(self),
            entity: Arc::clone(entity),
        }
    }

    /// Whether the block `index` is here or coming. Does not count as use.
    pub fn knows(&self, entity: &Arc<Entity>, index: u64) -> bool {
        let state = self.state.lock().unwrap();
        !matches!(state.spot(entity, index), Spot::Missing)
    }

    /// Whether the block `index` is here. Does not count as use.
    pub fn has(&self, entity: &Arc<Entity>, index: u64) -> bool {
        let state = self.state.lock().unwrap();
        matches!(state.spot(entity, index), Spot::Here { .. })
    }

    /// A reader has gone past the blocks before `end`: they are let go, unless somebody else reads the entity too.
    pub fn passed(&self, entity: &Arc<Entity>, end: u64) {
        let mut state = self.state.lock().unwrap();
        let State { contents, held, .. } = &mut *state;
        let Some(content) = contents.get(entity).filter(|content| content.readers <= 1) else {
            return;
        };
        let before = content.here.range(..end).map(|(_, number)| *number);
        let is_over = |number: &u64| {
            let held = held.peek(number);
            held.is_some_and(|held| held.segment.blocks().end <= end)
        };
        let over: Vec<u64> = before.filter(is_over).collect();
        for number in over {
            state.drop_segment(number);
        }
    }

    /// Lets go what was not used since the last call but two.
    pub fn drop_unused(&self) {
        let mut state = self.state.lock().unwrap();
        state.round += 1;
        while let Some((number, held)) = state.held.peek_lru() {
            if held.used + 3 > state.round {
                break;
            }
            let number = *number;
            state.drop_segment(number);
        }
    }

    /// [`Blocks::want_beside`] where nothing is kept elsewhere, each run in one claim.
    pub fn want(
        self: &Arc<Self>,
        entity: &Arc<Entity>,
        demanded: Range<u64>,
        ahead: Range<u64>,
    ) -> Wanted<E> {
        self.want_beside(entity, demanded, ahead, Parts::WHOLE, |_| false)
    }

    /// Takes or awaits the blocks of `demanded`, and claims what is missing there and in `ahead`, except what is kept
    /// elsewhere by the word of `is_kept`, which is quick and does not come back here.
    ///
    /// Demanded blocks are claimed whatever the budget says, else readers could wait for each other for ever; blocks
    /// ahead only as far as they find room. A claim may span the two, so that one request brings both.
    pub fn want_beside(
        self: &Arc<Self>,
        entity: &Arc<Entity>,
        demanded: Range<u64>,
        ahead: Range<u64>,
        parts: Parts,
        is_kept: impl Fn(u64) -> bool,
    ) -> Wanted<E> {
        let mut runs = Runs {
            runs: Vec::new(),
            parts,
            demanded_end: demanded.end,
        };
        let mut state = self.state.lock().unwrap();
        let joined = state.missing(entity, &demanded, |index| {
            if !is_kept(index) {
                runs.add(index);
            }
            true
        });
        let ahead = ahead.start.max(demanded.end)..ahead.end;
        let mut ahead_until = ahead.end.max(ahead.start);
        let mut claimed_bytes: u64 = runs.bytes(entity);
        let coming_bytes = state.coming_bytes;
        state.missing(entity, &ahead, |index| {
            if is_kept(index) {
                return true;
            }
            claimed_bytes += entity.block_len(index);
            if coming_bytes + claimed_bytes > self.budget_bytes {
                ahead_until = index;
                return false;
            }
            runs.add(index);
            true
        });
        let claims = runs.runs.into_iter();
        let claims = claims.map(|run| state.claim(self, entity, run)).collect();
        let pieces = state.pieces(entity, &demanded);
        state.evict(self.budget_bytes);
        state.forget_if_empty(entity);
        drop(state);
        Wanted {
            pieces,
            claims,
            ahead_until,
            joined,
        }
    }
}

/// Missing blocks, gathered into claims.
struct Runs {
    runs: Vec<Range<u64>>,
    parts: Parts,
    demanded_end: u64,
}

impl Runs {
    fn add(&mut self, index: u64) {
        match self.runs.last_mut() {
            Some(run)
                if run.end == index
                    && (index < self.demanded_end || run.end - run.start < self.parts.blocks) =>
            {
                run.end += 1;
            }
            _ => self.runs.push(index..index + 1),
        }
    }

    fn bytes(&self, entity: &Entity) -> u64 {
        let bytes = self.runs.iter().map(|run| entity.bytes_of(run));
        bytes.map(|bytes| bytes.end - bytes.start).sum()
    }
}

#[cfg(test)]
mod tests;
