//! What is here and what is coming, and the bytes of both: the books of [`Blocks`], which is locked around each use.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::sync::Arc;

use lru::LruCache;
use tokio::sync::{Notify, oneshot};

use super::{Blocks, Claim, Piece, Segment, Waiter};
use crate::entity::Entity;

/// All that is known of all entities.
pub(super) struct State<E> {
    pub(super) contents: HashMap<Arc<Entity>, Content<E>>,
    /// All segments, by number, in the order of their use.
    pub(super) held: LruCache<u64, Held>,
    pub(super) next_number: u64,
    pub(super) here_bytes: u64,
    pub(super) coming_bytes: u64,
    /// Bytes that left without having been demanded.
    pub(super) wasted_bytes: u64,
    /// How often unused memory was looked for.
    pub(super) round: u64,
}

/// What is known of one entity. No two of its segments and claims overlap.
pub(super) struct Content<E> {
    /// Numbers of segments, by first block.
    pub(super) here: BTreeMap<u64, u64>,
    /// Claims by the block owed next.
    pub(super) coming: BTreeMap<u64, Coming<E>>,
    /// Who reads it now.
    pub(super) readers: usize,
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

pub(super) struct Held {
    pub(super) entity: Arc<Entity>,
    pub(super) segment: Segment,
    pub(super) is_demanded: bool,
    /// The round of its last use.
    pub(super) used: u64,
}

pub(super) struct Coming<E> {
    pub(super) end: u64,
    pub(super) waiting: Vec<Waiting<E>>,
    /// Told when somebody begins to wait.
    pub(super) awaited: Arc<Notify>,
}

pub(super) struct Waiting<E> {
    pub(super) blocks: Range<u64>,
    pub(super) got: Vec<Segment>,
    pub(super) tell: oneshot::Sender<Result<Vec<Segment>, E>>,
}

/// Where a block is.
pub(super) enum Spot {
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
    /// Nothing is here or on its way.
    pub(super) fn new() -> Self {
        Self {
            contents: HashMap::new(),
            held: LruCache::unbounded(),
            next_number: 0,
            here_bytes: 0,
            coming_bytes: 0,
            wasted_bytes: 0,
            round: 0,
        }
    }

    pub(super) fn used_bytes(&self) -> u64 {
        self.here_bytes + self.coming_bytes
    }

    pub(super) fn content(&mut self, entity: &Arc<Entity>) -> &mut Content<E> {
        self.contents.entry(Arc::clone(entity)).or_default()
    }

    pub(super) fn forget_if_empty(&mut self, entity: &Arc<Entity>) {
        let is_empty = |content: &Content<E>| {
            content.readers == 0 && content.here.is_empty() && content.coming.is_empty()
        };
        if self.contents.get(entity).is_some_and(is_empty) {
            self.contents.remove(entity);
        }
    }

    pub(super) fn spot(&self, entity: &Arc<Entity>, index: u64) -> Spot {
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
    pub(super) fn missing(
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

    pub(super) fn claim(
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
    pub(super) fn pieces(&mut self, entity: &Arc<Entity>, demanded: &Range<u64>) -> Vec<Piece<E>> {
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

    pub(super) fn take(&mut self, number: u64) -> Option<Segment> {
        let round = self.round;
        let held = self.held.get_mut(&number)?;
        held.is_demanded = true;
        held.used = round;
        Some(held.segment.clone())
    }

    pub(super) fn wait(&mut self, entity: &Arc<Entity>, key: u64, blocks: Range<u64>) -> Waiter<E> {
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

    pub(super) fn hold(&mut self, entity: &Arc<Entity>, segment: Segment, is_demanded: bool) {
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

    pub(super) fn drop_segment(&mut self, number: u64) {
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
    pub(super) fn evict(&mut self, budget_bytes: u64) {
        while self.used_bytes() > budget_bytes {
            match self.held.peek_lru() {
                Some((&number, _)) => self.drop_segment(number),
                None => break,
            }
        }
    }
}
