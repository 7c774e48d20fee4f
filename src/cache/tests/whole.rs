use std::os::unix::fs::FileExt;

use rustix::fs::FlockOperation;

use super::*;

/// What `whole` gives once the verifier has had its time.
fn whole(cache: &Cache, kept: &Kept) -> Option<Arc<Whole>> {
    if let Some(whole) = kept.whole() {
        return Some(whole);
    }
    until_idle(cache);
    kept.whole()
}

/// Waits for the verifier.
fn until_idle(cache: &Cache) {
    let shared = cache.shared.as_ref().unwrap();
    while !shared.verifier.is_idle() {
        std::thread::yield_now();
    }
}

pub(super) fn is_right(whole: &Whole, entity: &Entity) -> bool {
    let mut bytes = vec![0; entity.size_bytes as usize + 1];
    let len = whole.read_at(&mut bytes, 0).unwrap();
    bytes.truncate(len);
    bytes == content(entity)
}

#[test]
fn only_what_is_complete_and_verified_is_given_as_a_whole() {
    let world = World::new();
    let cache = world.open(1 << 30);
    let e = entity("e", 5 * B + 7);
    let kept = cache.entity(&e);
    assert!(whole(&cache, &kept).is_none());
    store(&kept, 0..5);
    assert!(cache.flush(LONG));
    assert!(whole(&cache, &kept).is_none());
    store(&kept, 5..6);
    assert!(cache.flush(LONG));
    assert!(kept.whole().is_none(), "never waits");
    let held = whole(&cache, &kept).unwrap();
    assert!(is_right(&held, &e));
    assert!(Arc::ptr_eq(&held, &kept.whole().unwrap()));
    drop((held, kept, cache));
    let cache = world.open(1 << 30);
    assert!(cache.entity(&e).whole().is_some(), "it stays known");
    let small = entity("s", 10);
    assert!(whole(&cache, &store_all(&cache, &small)).is_none());
}

#[test]
fn what_became_complete_just_before_the_end_is_known_to_be_good_at_the_next_beginning() {
    let world = World::new();
    let e = entity("e", 300 * B);
    let cache = world.open(1 << 30);
    let kept = store_all(&cache, &e);
    drop((kept, cache));
    let cache = world.open(1 << 30);
    assert!(cache.entity(&e).whole().is_some());
}

#[test]
fn what_somebody_wrote_to_is_no_whole_until_it_is_good_again() {
    let world = World::new();
    let cache = world.open(1 << 30);
    let e = entity("e", 5 * B);
    let kept = store_all(&cache, &e);
    drop(whole(&cache, &kept).unwrap());
    let data = fs::File::options()
        .write(true)
        .open(world.file("data"))
        .unwrap();
    let right = content(&e)[9];
    data.write_all_at(&[right ^ 1], 9).unwrap();
    assert!(kept.whole().is_none());
    assert!(whole(&cache, &kept).is_none());
    assert!(cache.flush(LONG) && !kept.has(0));
    assert_eq!(cache.usage().damaged_blocks, 1);
    store_all(&cache, &e);
    assert!(is_right(&whole(&cache, &kept).unwrap(), &e));
    // Touched, and still good: it has to be verified once more.
    data.write_all_at(&[right], 9).unwrap();
    assert!(kept.whole().is_none());
    assert!(is_right(&whole(&cache, &kept).unwrap(), &e));
}

#[test]
fn what_somebody_is_writing_to_is_not_verified_before_that_is_over() {
    let world = World::new();
    let cache = world.open(1 << 30);
    let e = entity("e", 5 * B);
    store(&cache.entity(&e), 0..4);
    assert!(cache.flush(LONG));
    let data = fs::File::open(world.file("data")).unwrap();
    let kept = store_all(&cache, &e);
    drop(whole(&cache, &kept));
    // Its times are new; its bytes are still the old ones.
    data.set_modified(std::time::SystemTime::now()).unwrap();
    rustix::fs::flock(&data, FlockOperation::NonBlockingLockExclusive).unwrap();
    assert!(whole(&cache, &kept).is_none());
    until_idle(&cache);
    rustix::fs::flock(&data, FlockOperation::Unlock).unwrap();
    assert!(kept.whole().is_none(), "verified while it was written to");
    assert!(is_right(&whole(&cache, &kept).unwrap(), &e));
}

#[test]
fn what_the_kernel_reads_stays_while_the_limit_presses() {
    let world = World::new();
    let cache = world.open(2 << 20);
    let e = entity("e", 10 * S);
    let kept = store_all(&cache, &e);
    let held = whole(&cache, &kept).unwrap();
    let other = world.open(2 << 20);
    for at in 0..60 {
        store_all(&cache, &entity(&format!("other{at}"), 2 * S));
        store_all(&other, &entity(&format!("another{at}"), 2 * S));
        assert!(du(world.dir()) <= 2 << 20);
    }
    assert_eq!(clear(world.dir()).unwrap().in_use, 1);
    assert!(is_right(&held, &e));
    assert!(has_all(&kept));
    drop(held);
    assert_eq!(clear(world.dir()).unwrap().in_use, 0);
    assert!(whole(&cache, &kept).is_none());
}

#[test]
fn a_cache_of_things_that_must_stay_refuses_what_does_not_fit() {
    let world = World::new();
    let cache = world.open(1 << 20);
    let e = entity("e", 12 * S);
    let kept = store_all(&cache, &e);
    let held = whole(&cache, &kept).unwrap();
    let large = store_all(&cache, &entity("large", 12 * S));
    assert!(!has_all(&large));
    assert!(cache.usage().unkept_bytes > 0);
    assert!(is_right(&held, &e) && du(world.dir()) <= 1 << 20);
}

#[test]
fn what_found_no_room_is_kept_once_there_is_some_when_it_is_read_from_memory() {
    let world = World::new();
    let cache = world.open(1 << 20);
    let held = whole(&cache, &store_all(&cache, &entity("e", 12 * S))).unwrap();
    let e = entity("large", 12 * S);
    let kept = store_all(&cache, &e);
    assert!(!has_all(&kept));
    drop(held);
    let bytes = slice(&e, &(0..e.blocks()));
    for _ in 0..12 {
        kept.store_again(0, &bytes);
        assert!(cache.flush(LONG));
    }
    assert!(has_all(&kept));
}
