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

#[tokio::test]
async fn what_is_kept_elsewhere_is_neither_claimed_nor_read_ahead() {
    let (blocks, entity) = (Blocks::<&str>::new(B * 40), entity(B * 20));
    fill(&blocks, &entity, 3..4);
    let is_kept = |index| index < 2 || (8..12).contains(&index);
    let wanted = blocks.want_beside(&entity, 0..6, 6..14, Parts::WHOLE, is_kept);
    let owed: Vec<_> = wanted.claims.iter().map(Claim::owed).collect();
    assert_eq!(owed, [2..3, 4..8, 12..14]);
    let name = |piece: &Piece<_>| match piece {
        Piece::Kept(run) => format!("kept {run:?}"),
        Piece::Here(segment) => format!("here {:?}", segment.blocks()),
        Piece::Coming(_) => "coming".to_owned(),
    };
    let pieces: Vec<_> = wanted.pieces.iter().map(name).collect();
    assert_eq!(pieces, ["kept 0..2", "coming", "here 3..4", "coming"]);
    assert_eq!(wanted.ahead_until, 14);
}

#[test]
fn what_lies_ahead_is_claimed_in_parts_and_a_demand_is_not_cut() {
    let (blocks, entity) = (Blocks::<&str>::new(B * 40), entity(B * 20));
    let parts = Parts { blocks: 4 };
    let wanted = blocks.want_beside(&entity, 0..6, 6..15, parts, |_| false);
    let owed: Vec<_> = wanted.claims.iter().map(Claim::owed).collect();
    assert_eq!(owed, [0..6, 6..10, 10..14, 14..15]);
}

#[tokio::test]
async fn several_blocks_come_in_one_segment_and_their_waiters_are_told() {
    let (blocks, entity) = (Blocks::<&str>::new(B * 40), entity(B * 7 + 10));
    let mut ahead = blocks.want(&entity, 0..0, 0..8);
    let (early, late) = (
        blocks.want(&entity, 1..3, 0..0),
        blocks.want(&entity, 2..8, 0..0),
    );
    let claim = &mut ahead.claims[0];
    assert_eq!((claim.first_stop(), claim.last_stop(7)), (Some(3), Some(3)));
    claim.publish(block(1, B * 5));
    assert_eq!(arrival(early, 0).await, Ok(block(1, B * 5)));
    assert_eq!(claim.owed_bytes(), B * 5..B * 7 + 10);
    claim.publish(block(2, B * 2 + 10));
    let all = [block(1, B * 5), block(2, B * 2 + 10)].concat();
    assert_eq!(arrival(late, 0).await, Ok(all.into()));
    assert_eq!(blocks.memory_bytes(), B * 7 + 10);
}

#[test]
fn what_a_reader_has_passed_is_let_go_unless_another_reads_there() {
    let (blocks, entity) = (Blocks::<&str>::new(B * 40), entity(B * 20));
    fill(&blocks, &entity, 0..8);
    let one = blocks.reading(&entity);
    let two = blocks.reading(&entity);
    blocks.passed(&entity, 4);
    assert_eq!(blocks.memory_bytes(), B * 8);
    drop(two);
    blocks.passed(&entity, 4);
    assert_eq!(blocks.memory_bytes(), B * 4);
    assert!(!blocks.has(&entity, 3) && blocks.has(&entity, 4));
    drop(one);
}

#[test]
fn unused_memory_goes_in_time_and_nothing_is_remembered_of_it() {
    let (blocks, entity) = (Blocks::<&str>::new(B * 40), entity(B * 20));
    fill(&blocks, &entity, 0..2);
    blocks.drop_unused();
    blocks.drop_unused();
    drop(blocks.want(&entity, 1..2, 0..0));
    blocks.drop_unused();
    assert_eq!(blocks.memory_bytes(), B, "the one in use stays");
    blocks.drop_unused();
    blocks.drop_unused();
    assert_eq!(blocks.memory_bytes(), 0);
    assert!(blocks.state.lock().unwrap().contents.is_empty());
}

#[test]
fn a_hundred_thousand_readers_leave_nothing_behind() {
    let blocks = Blocks::<&str>::new(B * 40);
    for number in 0..100_000 {
        let entity = Arc::new(Entity {
            id: EntityId(number.to_string().into()),
            size_bytes: B,
        });
        let reading = blocks.reading(&entity);
        drop(blocks.want(&entity, 0..1, 0..0));
        drop(reading);
    }
    assert!(blocks.state.lock().unwrap().contents.is_empty());
    assert_eq!(blocks.memory_bytes(), 0);
}

#[test]
fn what_leaves_unread_is_counted() {
    let (blocks, entity) = (Blocks::<&str>::new(B * 2), entity(B * 20));
    let mut ahead = blocks.want(&entity, 0..0, 0..2);
    bring(&mut ahead.claims[0], 0);
    bring(&mut ahead.claims[0], 1);
    drop(blocks.want(&entity, 0..1, 0..0));
    fill(&blocks, &entity, 8..10);
    assert_eq!(blocks.wasted_bytes(), B);
}
