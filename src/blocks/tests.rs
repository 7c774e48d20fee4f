//! The keeper of blocks, without anybody who brings them.

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

/// What the `at`th piece brings, in one piece of memory.
async fn arrival(wanted: Wanted<&'static str>, at: usize) -> Result<Bytes, Missed<&'static str>> {
    let mut pieces = wanted.pieces;
    let Piece::Coming(waiter) = pieces.swap_remove(at) else {
        panic!("it is not on its way");
    };
    let segments = waiter.segments().await?;
    let bytes: Vec<u8> = segments.iter().flat_map(|one| one.bytes.to_vec()).collect();
    Ok(bytes.into())
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
    assert_eq!(arrival(second, 0).await, Ok(block(8, B)));
}

#[tokio::test]
async fn a_block_is_there_as_soon_as_it_is_complete_not_when_its_run_is() {
    let (blocks, entity) = (Blocks::new(B * 10), entity(B * 4));
    let mut wanted = blocks.want(&entity, 0..1, 1..4);
    bring(&mut wanted.claims[0], 1);
    assert_eq!(wanted.claims[0].owed(), 1..4);
    let claims = std::mem::take(&mut wanted.claims);
    assert_eq!(arrival(wanted, 0).await, Ok(block(1, B)));
    drop(claims);
}

#[tokio::test]
async fn a_failure_reaches_who_waits_and_the_next_gets_a_new_claim() {
    let (blocks, entity) = (Blocks::new(B * 10), entity(B));
    let mut wanted = blocks.want(&entity, 0..1, 0..0);
    wanted.claims.remove(0).fail("cut");
    assert_eq!(arrival(wanted, 0).await, Err(Missed::Failed("cut")));
    assert_eq!(blocks.want(&entity, 0..1, 0..0).claims.len(), 1);
}

#[tokio::test]
async fn a_dropped_claim_is_free_for_the_next_and_holds_no_memory() {
    let (blocks, entity) = (Blocks::new(B * 10), entity(B * 3));
    let mut wanted = blocks.want(&entity, 0..3, 0..0);
    wanted.claims.clear();
    assert_eq!(arrival(wanted, 0).await, Err(Missed::Abandoned));
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
    let both = [block(1, B), block(2, B)].concat();
    assert_eq!(arrival(wanted, 0).await, Ok(both.into()));
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
