//! Content blocks: bytes of entities, kept near.
//!
//! Keeps blocks in memory under one budget for everybody, the least recently used leaving first, and knows of each
//! missing block whether its bytes are already on the way. The server never changes an entity, it makes a new one; so a
//! block cannot go stale, only a file can come to point at another entity.
//!
//! Promises: a missing block is claimed by exactly one who brings it, however many want it; who waits gets the
//! bytes even if they are evicted that moment; bytes on the way count against the budget like bytes that are here.
//! Never asks the network: who finds nothing here gets a [`Claim`] and brings the bytes.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use lru::LruCache;
use tokio::sync::watch;

use crate::entity::Entity;

type Key = (Arc<Entity>, u64);

/// What waiters see of a block on its way: nothing yet, then its bytes or why they do not come.
type Arrival<E> = Option<Result<Bytes, E>>;

/// The blocks of all entities. `E` is why a block could not be brought.
pub struct Blocks<E> {
    budget_bytes: u64,
    state: Mutex<State<E>>,
}

struct State<E> {
    here: LruCache<Key, Bytes>,
    here_bytes: u64,
    coming: HashMap<Key, watch::Sender<Arrival<E>>>,
    coming_bytes: u64,
}

/// What [`Blocks::want`] found and left to do.
pub struct Wanted<E> {
    /// The demanded blocks, in order.
    pub pieces: Vec<Piece<E>>,
    /// Runs of neighbouring blocks that the caller must now bring: nobody else will.
    pub claims: Vec<Claim<E>>,
    /// The block before which everything ahead is here or coming; less than asked where the budget is used up.
    pub ahead_until: u64,
    /// Some of the pieces were on their way already, by somebody else's doing.
    pub joined: bool,
}

/// One demanded block.
pub enum Piece<E> {
    /// Its bytes.
    Here(Bytes),
    /// They are on the way.
    Coming(Waiter<E>),
}

/// Waits for one block. Dropping it cancels nothing.
pub struct Waiter<E>(watch::Receiver<Arrival<E>>);

/// Why a waiter got no bytes.
#[derive(Debug, PartialEq, Eq)]
pub enum Missed<E> {
    /// They could not be brought.
    Failed(E),
    /// Whoever was to bring them gave up without a reason; ask again.
    Abandoned,
}

impl<E: Clone> Waiter<E> {
    /// The block's bytes, as soon as all of them are there.
    pub async fn bytes(mut self) -> Result<Bytes, Missed<E>> {
        match self.0.wait_for(Option::is_some).await {
            Ok(arrival) => match &*arrival {
                Some(Ok(bytes)) => Ok(bytes.clone()),
                Some(Err(error)) => Err(Missed::Failed(error.clone())),
                None => Err(Missed::Abandoned),
            },
            Err(_) => Err(Missed::Abandoned),
        }
    }
}

impl<E: Clone> Blocks<E> {
    /// Holds `budget_bytes` at most, demanded blocks on their way excepted: those are never refused.
    pub fn new(budget_bytes: u64) -> Arc<Self> {
        Arc::new(Self {
            budget_bytes,
            state: Mutex::new(State {
                here: LruCache::unbounded(),
                here_bytes: 0,
                coming: HashMap::new(),
                coming_bytes: 0,
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

    /// Whether the block `index` is here or coming. Does not count as use.
    pub fn knows(&self, entity: &Arc<Entity>, index: u64) -> bool {
        let key = (Arc::clone(entity), index);
        let state = self.state.lock().unwrap();
        state.here.contains(&key) || state.coming.contains_key(&key)
    }

    /// Lets go of those of `blocks` that are here, since nobody will come for them.
    pub fn forget(&self, entity: &Arc<Entity>, blocks: Range<u64>) {
        let mut state = self.state.lock().unwrap();
        for index in blocks {
            if let Some(bytes) = state.here.pop(&(Arc::clone(entity), index)) {
                state.here_bytes -= bytes.len() as u64;
            }
        }
    }

    /// Takes or awaits the blocks of `demanded`, and claims what is missing there and in `ahead`.
    ///
    /// Demanded blocks are claimed whatever the budget says, else readers could wait for each other for ever; blocks
    /// ahead only as far as they find room. A claim may span the two, so that one request brings both.
    pub fn want(
        self: &Arc<Self>,
        entity: &Arc<Entity>,
        demanded: Range<u64>,
        ahead: Range<u64>,
    ) -> Wanted<E> {
        let mut runs: Vec<Range<u64>> = Vec::new();
        let mut pieces = Vec::with_capacity((demanded.end - demanded.start) as usize);
        let mut joined = false;
        let mut state = self.state.lock().unwrap();
        for index in demanded.clone() {
            let key = (Arc::clone(entity), index);
            if let Some(bytes) = state.here.get(&key) {
                pieces.push(Piece::Here(bytes.clone()));
                continue;
            }
            if let Some(sender) = state.coming.get(&key) {
                pieces.push(Piece::Coming(Waiter(sender.subscribe())));
                joined = true;
                continue;
            }
            let receiver = state.expect(key, entity.block_len(index));
            pieces.push(Piece::Coming(Waiter(receiver)));
            extend(&mut runs, index);
        }
        let ahead = ahead.start.max(demanded.end)..ahead.end;
        let mut ahead_until = ahead.start;
        for index in ahead {
            let key = (Arc::clone(entity), index);
            if !state.here.contains(&key) && !state.coming.contains_key(&key) {
                let len = entity.block_len(index);
                if state.coming_bytes + len > self.budget_bytes {
                    break;
                }
                // Nobody waits for it yet: the receiver is not needed.
                drop(state.expect(key, len));
                extend(&mut runs, index);
            }
            ahead_until = index + 1;
        }
        state.evict(self.budget_bytes);
        drop(state);
        let claims = runs.into_iter().map(|run| Claim::new(self, entity, run));
        Wanted {
            pieces,
            claims: claims.collect(),
            ahead_until,
            joined,
        }
    }
}

fn extend(runs: &mut Vec<Range<u64>>, index: u64) {
    match runs.last_mut() {
        Some(run) if run.end == index => run.end += 1,
        _ => runs.push(index..index + 1),
    }
}

impl<E> State<E> {
    fn used_bytes(&self) -> u64 {
        self.here_bytes + self.coming_bytes
    }

    fn expect(&mut self, key: Key, len: u64) -> watch::Receiver<Arrival<E>> {
        let (sender, receiver) = watch::channel(None);
        self.coming.insert(key, sender);
        self.coming_bytes += len;
        receiver
    }

    /// Takes the block off the list of what is coming.
    fn arrived(&mut self, key: &Key) -> Option<watch::Sender<Arrival<E>>> {
        let sender = self.coming.remove(key)?;
        self.coming_bytes -= key.0.block_len(key.1);
        Some(sender)
    }

    /// Lets go what was not used for longest until the budget is kept, as far as that lies with what is here.
    fn evict(&mut self, budget_bytes: u64) {
        while self.used_bytes() > budget_bytes {
            match self.here.pop_lru() {
                Some((_, bytes)) => self.here_bytes -= bytes.len() as u64,
                None => break,
            }
        }
    }
}

/// The duty to bring a run of neighbouring blocks, in order. Dropped with blocks still owed, their waiters see
/// [`Missed::Abandoned`] and the next who wants them gets the claim.
pub struct Claim<E> {
    blocks: Arc<Blocks<E>>,
    entity: Arc<Entity>,
    owed: Range<u64>,
}

impl<E> Claim<E> {
    fn new(blocks: &Arc<Blocks<E>>, entity: &Arc<Entity>, owed: Range<u64>) -> Self {
        Self {
            blocks: Arc::clone(blocks),
            entity: Arc::clone(entity),
            owed,
        }
    }

    /// The blocks still owed.
    pub fn owed(&self) -> Range<u64> {
        self.owed.clone()
    }

    /// The bytes of the blocks still owed.
    pub fn owed_bytes(&self) -> Range<u64> {
        self.entity.bytes_of(&self.owed)
    }

    /// Bytes in the block that is owed next; 0 where none is.
    pub fn next_len(&self) -> u64 {
        match self.owed.is_empty() {
            true => 0,
            false => self.entity.block_len(self.owed.start),
        }
    }

    /// Delivers the next block: whoever waits for it has it, whatever becomes of the others.
    pub fn publish(&mut self, bytes: Bytes) {
        debug_assert_eq!(bytes.len() as u64, self.next_len());
        let key = (Arc::clone(&self.entity), self.owed.start);
        let mut state = self.blocks.state.lock().unwrap();
        let sender = state.arrived(&key);
        state.here_bytes += bytes.len() as u64;
        if let Some(old) = state.here.put(key, bytes.clone()) {
            state.here_bytes -= old.len() as u64;
        }
        state.evict(self.blocks.budget_bytes);
        drop(state);
        self.owed.start += 1;
        if let Some(sender) = sender {
            sender.send_replace(Some(Ok(bytes)));
        }
    }

    /// Gives the rest up, unless somebody waits for a part of it. Whether it did.
    pub fn abandon_if_unawaited(&mut self) -> bool {
        let blocks = Arc::clone(&self.blocks);
        let mut state = blocks.state.lock().unwrap();
        let awaited = |key: &Key| {
            let sender = state.coming.get(key);
            sender.is_some_and(|sender| sender.receiver_count() > 0)
        };
        if self.keys().any(|key| awaited(&key)) {
            return false;
        }
        self.take_rest(&mut state);
        true
    }

    fn keys(&self) -> impl Iterator<Item = Key> + use<'_, E> {
        let key = |index| (Arc::clone(&self.entity), index);
        self.owed.clone().map(key)
    }

    fn take_rest(&mut self, state: &mut State<E>) -> Vec<watch::Sender<Arrival<E>>> {
        let senders = self.keys().filter_map(|key| state.arrived(&key)).collect();
        self.owed.start = self.owed.end;
        senders
    }
}

impl<E: Clone> Claim<E> {
    /// Tells all who wait for the rest why it does not come. A later reader tries afresh.
    pub fn fail(mut self, error: E) {
        let blocks = Arc::clone(&self.blocks);
        let senders = self.take_rest(&mut blocks.state.lock().unwrap());
        for sender in senders {
            sender.send_replace(Some(Err(error.clone())));
        }
    }
}

impl<E> Drop for Claim<E> {
    fn drop(&mut self) {
        if self.owed.is_empty() {
            return;
        }
        let blocks = Arc::clone(&self.blocks);
        let senders = self.take_rest(&mut blocks.state.lock().unwrap());
        drop(senders);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entity::BLOCK_SIZE_BYTES;
    use crate::model::EntityId;

    const B: u64 = BLOCK_SIZE_BYTES;

    fn entity(size_bytes: u64) -> Arc<Entity> {
        Arc::new(Entity {
            id: EntityId("e".into()),
            size_bytes,
        })
    }

    fn block(fill: u8, len: u64) -> Bytes {
        Bytes::from(vec![fill; len as usize])
    }

    fn bring(claim: &mut Claim<&'static str>, fill: u8) {
        let bytes = block(fill, claim.next_len());
        claim.publish(bytes);
    }

    /// Claims and brings the given blocks, each in a call of its own.
    fn fill(blocks: &Arc<Blocks<&'static str>>, entity: &Arc<Entity>, indices: Range<u64>) {
        for index in indices {
            let mut wanted = blocks.want(entity, index..index + 1, 0..0);
            bring(&mut wanted.claims[0], index as u8);
        }
    }

    fn waiter(piece: Piece<&'static str>) -> Waiter<&'static str> {
        match piece {
            Piece::Coming(waiter) => waiter,
            Piece::Here(_) => panic!("it is here already"),
        }
    }

    #[tokio::test]
    async fn a_missing_block_is_claimed_once_and_reaches_all_who_wait() {
        let (blocks, entity) = (Blocks::new(B * 10), entity(B * 4));
        let mut first = blocks.want(&entity, 0..2, 0..0);
        let second = blocks.want(&entity, 1..3, 0..0);
        assert_eq!(first.claims.len(), 1);
        assert_eq!(first.claims[0].owed_bytes(), 0..B * 2);
        assert_eq!(second.claims[0].owed(), 2..3);
        bring(&mut first.claims[0], 7);
        bring(&mut first.claims[0], 8);
        let shared = second.pieces.into_iter().next().map(waiter).unwrap();
        assert_eq!(shared.bytes().await, Ok(block(8, B)));
    }

    #[tokio::test]
    async fn a_block_is_there_as_soon_as_it_is_complete_not_when_its_run_is() {
        let (blocks, entity) = (Blocks::new(B * 10), entity(B * 4));
        let mut wanted = blocks.want(&entity, 0..4, 0..0);
        bring(&mut wanted.claims[0], 1);
        let first = wanted.pieces.into_iter().next().map(waiter).unwrap();
        assert_eq!(first.bytes().await, Ok(block(1, B)));
        assert_eq!(wanted.claims[0].owed(), 1..4);
    }

    #[tokio::test]
    async fn a_failure_reaches_who_waits_and_the_next_gets_a_new_claim() {
        let (blocks, entity) = (Blocks::new(B * 10), entity(B));
        let mut wanted = blocks.want(&entity, 0..1, 0..0);
        wanted.claims.remove(0).fail("cut");
        let piece = wanted.pieces.remove(0);
        assert_eq!(waiter(piece).bytes().await, Err(Missed::Failed("cut")));
        assert_eq!(blocks.want(&entity, 0..1, 0..0).claims.len(), 1);
    }

    #[tokio::test]
    async fn a_dropped_claim_is_free_for_the_next_and_holds_no_memory() {
        let (blocks, entity) = (Blocks::new(B * 10), entity(B * 3));
        let mut wanted = blocks.want(&entity, 0..3, 0..0);
        wanted.claims.clear();
        let piece = wanted.pieces.remove(0);
        assert_eq!(waiter(piece).bytes().await, Err(Missed::Abandoned));
        assert_eq!(blocks.memory_bytes(), 0);
        assert_eq!(blocks.want(&entity, 0..3, 0..0).claims[0].owed(), 0..3);
    }

    #[test]
    fn what_was_not_used_for_longest_leaves_first() {
        let (blocks, entity) = (Blocks::new(B * 3), entity(B * 9));
        fill(&blocks, &entity, 0..3);
        blocks.want(&entity, 0..1, 0..0);
        fill(&blocks, &entity, 3..4);
        let known: Vec<bool> = (0..4).map(|index| blocks.knows(&entity, index)).collect();
        assert_eq!(known, [true, false, true, true]);
        assert_eq!(blocks.memory_bytes(), B * 3);
    }

    #[test]
    fn read_ahead_stops_at_the_budget_and_demand_does_not() {
        let (blocks, entity) = (Blocks::<&str>::new(B * 4), entity(B * 99));
        let wanted = blocks.want(&entity, 0..1, 1..50);
        assert_eq!((wanted.ahead_until, wanted.claims[0].owed()), (4, 0..4));
        let demand = blocks.want(&entity, 60..68, 68..99);
        assert_eq!((demand.ahead_until, demand.claims[0].owed()), (68, 60..68));
        assert_eq!(blocks.memory_bytes(), B * 12);
        drop((wanted, demand));
        assert_eq!(blocks.memory_bytes(), 0);
    }

    #[tokio::test]
    async fn who_waits_gets_bytes_that_found_no_room() {
        let (blocks, entity) = (Blocks::new(0), entity(B * 2));
        let mut wanted = blocks.want(&entity, 0..2, 0..0);
        bring(&mut wanted.claims[0], 1);
        bring(&mut wanted.claims[0], 2);
        assert_eq!(blocks.memory_bytes(), 0);
        let last = wanted.pieces.into_iter().next_back().map(waiter).unwrap();
        assert_eq!(last.bytes().await, Ok(block(2, B)));
    }

    #[test]
    fn a_claim_is_given_up_only_while_nobody_waits() {
        let (blocks, entity) = (Blocks::new(B * 10), entity(B * 4));
        let mut ahead = blocks.want(&entity, 0..1, 1..4);
        bring(&mut ahead.claims[0], 0);
        let waiting = blocks.want(&entity, 2..3, 0..0);
        assert!(!ahead.claims[0].abandon_if_unawaited());
        drop(waiting);
        assert!(ahead.claims[0].abandon_if_unawaited());
        assert_eq!(blocks.memory_bytes(), B);
    }

    #[test]
    fn known_blocks_split_a_claim_and_are_not_asked_again() {
        let (blocks, entity) = (Blocks::new(B * 20), entity(B * 9));
        fill(&blocks, &entity, 3..4);
        let wanted = blocks.want(&entity, 1..3, 3..7);
        let owed: Vec<_> = wanted.claims.iter().map(Claim::owed).collect();
        assert_eq!((owed, wanted.ahead_until), (vec![1..3, 4..7], 7));
    }

    #[test]
    fn the_same_id_with_another_size_is_another_content() {
        let blocks = Blocks::<&str>::new(B * 20);
        fill(&blocks, &entity(B), 0..1);
        assert!(!blocks.knows(&entity(B + 1), 0));
    }
}
