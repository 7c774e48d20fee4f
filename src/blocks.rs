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

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use lru::LruCache;
use tokio::sync::{Notify, oneshot};

pub use self::claim::Claim;
use crate::entity::Entity;

/// The blocks of all entities. `E` is why a block could not be brought.
pub struct Blocks<E> {
    budget_bytes: u64,
    state: Mutex<State<E>>,
}

struct State<E> {
    contents: HashMap<Arc<Entity>, Content<E>>,
    /// All segments, by number, in the order of their use.
    held: LruCache<u64, Held>,
    next_number: u64,
    here_bytes: u64,
    coming_bytes: u64,
    /// Bytes that left without having been demanded.
    wasted_bytes: u64,
    /// How often unused memory was looked for.
    round: u64,
}

/// What is known of one entity. No two of its segments and claims overlap.
struct Content<E> {
    /// Numbers of segments, by first block.
    here: BTreeMap<u64, u64>,
    /// Claims by the block owed next.
    coming: BTreeMap<u64, Coming<E>>,
    /// Who reads it now.
    readers: usize,
}

impl<E> Default for Content<E> {
    fn default() -> Self {
        Self {
            here: BTreeMap::new(),
            coming: BTreeMap::new(),
            readers: 0,
        }
    }
}

struct Held {
    entity: Arc<Entity>,
    segment: Segment,
    is_demanded: bool,
    /// The round of its last use.
    used: u64,
}

struct Coming<E> {
    end: u64,
    waiting: Vec<Waiting<E>>,
    /// Told when somebody begins to wait.
    awaited: Arc<Notify>,
}

struct Waiting<E> {
    blocks: Range<u64>,
    got: Vec<Segment>,
    tell: oneshot::Sender<Result<Vec<Segment>, E>>,
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
            state: Mutex::new(State {
                contents: HashMap::new(),
                held: LruCache::unbounded(),
                next_number: 0,
                here_bytes: 0,
                coming_bytes: 0,
                wasted_bytes: 0,
                round: 0,
            }),
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

/// Where a block is.
enum Spot {
    /// In the segment with this number, which ends before the block `end`.
    Here {
        number: u64,
        end: u64,
    },
    /// On its way with the claim under this key.
    Coming {
        key: u64,
        end: u64,
    },
    Missing,
}

impl<E> State<E> {
    fn used_bytes(&self) -> u64 {
        self.here_bytes + self.coming_bytes
    }

    fn content(&mut self, entity: &Arc<Entity>) -> &mut Content<E> {
        self.contents.entry(Arc::clone(entity)).or_default()
    }

    fn forget_if_empty(&mut self, entity: &Arc<Entity>) {
        let is_empty = |content: &Content<E>| {
            content.readers == 0 && content.here.is_empty() && content.coming.is_empty()
        };
        if self.contents.get(entity).is_some_and(is_empty) {
            self.contents.remove(entity);
        }
    }

    fn spot(&self, entity: &Arc<Entity>, index: u64) -> Spot {
        let Some(content) = self.contents.get(entity) else {
            return Spot::Missing;
        };
        if let Some((_, number)) = content.here.range(..=index).next_back() {
            let end = self.held.peek(number).map(|held| held.segment.blocks().end);
            if let Some(end) = end.filter(|end| index < *end) {
                let number = *number;
                return Spot::Here { number, end };
            }
        }
        match content.coming.range(..=index).next_back() {
            Some((key, coming)) if index < coming.end => Spot::Coming {
                key: *key,
                end: coming.end,
            },
            _ => Spot::Missing,
        }
    }

    /// Calls `each` for the missing ones of `blocks` until it says no. Whether some of them are on their way.
    fn missing(
        &self,
        entity: &Arc<Entity>,
        blocks: &Range<u64>,
        mut each: impl FnMut(u64) -> bool,
    ) -> bool {
        let mut joined = false;
        let mut index = blocks.start;
        while index < blocks.end {
            match self.spot(entity, index) {
                Spot::Here { end, .. } => index = end,
                Spot::Coming { end, .. } => (index, joined) = (end, true),
                Spot::Missing if each(index) => index += 1,
                Spot::Missing => break,
            }
        }
        joined
    }

    fn claim(
        &mut self,
        blocks: &Arc<Blocks<E>>,
        entity: &Arc<Entity>,
        run: Range<u64>,
    ) -> Claim<E> {
        let bytes = entity.bytes_of(&run);
        self.coming_bytes += bytes.end - bytes.start;
        let awaited = Arc::new(Notify::new());
        let coming = Coming {
            end: run.end,
            waiting: Vec::new(),
            awaited: Arc::clone(&awaited),
        };
        self.content(entity).coming.insert(run.start, coming);
        Claim::new(blocks, entity, run, awaited)
    }

    /// The blocks of `demanded`, none of which is missing by now unless it is kept elsewhere.
    fn pieces(&mut self, entity: &Arc<Entity>, demanded: &Range<u64>) -> Vec<Piece<E>> {
        let mut pieces = Vec::new();
        let mut index = demanded.start;
        while index < demanded.end {
            match self.spot(entity, index) {
                Spot::Here { number, end } => {
                    pieces.extend(self.take(number).map(Piece::Here));
                    index = end;
                }
                Spot::Coming { key, end } => {
                    let end = end.min(demanded.end);
                    let waiter = self.wait(entity, key, index..end);
                    pieces.push(Piece::Coming(waiter));
                    index = end;
                }
                Spot::Missing => {
                    match pieces.last_mut() {
                        Some(Piece::Kept(run)) if run.end == index => run.end += 1,
                        _ => pieces.push(Piece::Kept(index..index + 1)),
                    }
                    index += 1;
                }
            }
        }
        pieces
    }

    fn take(&mut self, number: u64) -> Option<Segment> {
        let round = self.round;
        let held = self.held.get_mut(&number)?;
        held.is_demanded = true;
        held.used = round;
        Some(held.segment.clone())
    }

    fn wait(&mut self, entity: &Arc<Entity>, key: u64, blocks: Range<u64>) -> Waiter<E> {
        let (tell, waiter) = oneshot::channel();
        if let Some(coming) = self.content(entity).coming.get_mut(&key) {
            coming.waiting.push(Waiting {
                blocks,
                got: Vec::new(),
                tell,
            });
            coming.awaited.notify_one();
        }
        Waiter(waiter)
    }

    fn hold(&mut self, entity: &Arc<Entity>, segment: Segment, is_demanded: bool) {
        let number = self.next_number;
        self.next_number += 1;
        self.here_bytes += segment.bytes.len() as u64;
        self.content(entity).here.insert(segment.first, number);
        let held = Held {
            entity: Arc::clone(entity),
            segment,
            is_demanded,
            used: self.round,
        };
        self.held.put(number, held);
    }

    fn drop_segment(&mut self, number: u64) {
        let Some(held) = self.held.pop(&number) else {
            return;
        };
        let bytes = held.segment.bytes.len() as u64;
        self.here_bytes -= bytes;
        if !held.is_demanded {
            self.wasted_bytes += bytes;
        }
        if let Some(content) = self.contents.get_mut(&held.entity) {
            content.here.remove(&held.segment.first);
        }
        self.forget_if_empty(&held.entity);
    }

    /// Lets go what was not used for longest until the budget is kept, as far as that lies with what is here.
    fn evict(&mut self, budget_bytes: u64) {
        while self.used_bytes() > budget_bytes {
            match self.held.peek_lru() {
                Some((&number, _)) => self.drop_segment(number),
                None => break,
            }
        }
    }
}

#[cfg(test)]
mod tests;
