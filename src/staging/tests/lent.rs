//! Content that is written to by others: here by a second handle of the file, as the kernel has one for a lent content.

use std::fs::File;
use std::os::unix::fs::FileExt;

use super::*;

/// Stages `local`, which nobody else writes to any more, at `seconds`. A program that another test starts in this moment has all
/// open for a moment that this process has.
#[track_caller]
fn check_staged(local: &Local, seconds: u64) {
    let until = std::time::Instant::now() + std::time::Duration::from_secs(10);
    while local.stage(at(seconds)).unwrap() == State::Dirty {
        assert!(std::time::Instant::now() < until, "it stays dirty");
        std::thread::yield_now();
    }
    assert_eq!(local.state(), State::Staged(at(seconds)));
}

/// What the kernel opens for a handle to which the first content of `world` is lent.
fn handle(world: &World) -> File {
    let path = world.slot().join("content/1");
    File::options().read(true).write(true).open(path).unwrap()
}

#[test]
fn what_is_lent_is_owed_and_not_to_be_sent_until_all_gave_it_back() {
    let world = World::new();
    let (staging, _) = world.open();
    let local = staging.create(place("a"), None, at(0)).unwrap();
    let before = local.generation();
    let first = local.lend(false).unwrap().expect("all of it is here");
    assert!(local.generation() > before, "lending counts as a change");
    let lent = local.generation();
    let kernel = handle(&world);
    kernel.write_all_at(b"content", 0).unwrap();
    assert_eq!(local.size_bytes(), 7);
    assert!(local.generation() > lent, "somebody looked");
    assert_eq!(all(&local, b""), b"content");
    assert_eq!(local.stage(at(1)).unwrap(), State::Dirty);
    let second = local.lend(false).unwrap().unwrap();
    drop(first);
    assert!(local.is_lent());
    assert_eq!(local.stage(at(2)).unwrap(), State::Dirty);
    kernel.write_all_at(b"more", 7).unwrap();
    let seen = local.generation();
    drop((kernel, second));
    assert!(!local.is_lent() && !local.lingers());
    assert!(local.generation() > seen);
    check_staged(&local, 3);
    assert_eq!(all(&local, b""), b"contentmore");
    let written = handle(&world).metadata().unwrap().modified().unwrap();
    assert_eq!(local.mtime(), written, "the time is that of the last write");
}

#[test]
fn what_the_daemon_does_to_a_lent_content_leaves_what_others_wrote() {
    let world = World::new();
    let (staging, _) = world.open();
    let local = staging.create(place("a"), None, at(0)).unwrap();
    local.write(0, b"begun", at(0)).unwrap();
    let loan = local.lend(false).unwrap().unwrap();
    let kernel = handle(&world);
    kernel.write_all_at(&[1; 10_000], 0).unwrap();
    local.write(10, b"daemon", at(1)).unwrap();
    assert_eq!(local.size_bytes(), 10_000);
    kernel.write_all_at(&[1; 10_000], 10_000).unwrap();
    local.zero(19_000..30_000, at(2)).unwrap();
    local.allocate(0..25_000, false, at(2)).unwrap();
    assert_eq!(local.size_bytes(), 20_000);
    local.allocate(0..25_000, true, at(2)).unwrap();
    kernel.write_all_at(&[2; 10], 26_000).unwrap();
    local.set_mtime(at(9)).unwrap();
    assert_eq!((local.size_bytes(), local.mtime()), (26_010, at(9)));
    let mut right = vec![1; 26_010];
    right[10..16].copy_from_slice(b"daemon");
    right[19_000..].fill(0);
    right[26_000..].fill(2);
    assert_eq!(all(&local, b""), right);
    local.truncate(5, at(10)).unwrap();
    kernel.write_all_at(b"z", 7).unwrap();
    drop((kernel, loan));
    assert_eq!(all(&local, b""), [1, 1, 1, 1, 1, 0, 0, b'z']);
}

#[test]
fn a_part_that_is_only_in_the_base_is_not_lent() {
    let world = World::new();
    let (staging, _) = world.open();
    let over = staging.create(place("a"), Some(base("e", 10)), at(0));
    let over = over.unwrap();
    assert!(over.lend(false).unwrap().is_none());
    over.truncate(0, at(1)).unwrap();
    assert!(over.lend(false).unwrap().is_some());
}

#[test]
fn what_could_be_mapped_is_not_to_be_sent_while_somebody_may_write_to_it() {
    let world = World::new();
    let (staging, _) = world.open();
    let local = staging.create(place("a"), None, at(0)).unwrap();
    let loan = local.lend(true).unwrap().unwrap();
    let kernel = handle(&world);
    drop(loan);
    assert!(local.lingers());
    assert_eq!(local.is_written().unwrap(), Some(true));
    assert_eq!(local.stage(at(1)).unwrap(), State::Dirty);
    kernel.write_all_at(b"late", 0).unwrap();
    drop(kernel);
    check_staged(&local, 2);
    assert!(!local.lingers());
    assert_eq!(all(&local, b""), b"late");
    local.write(4, b"r", at(3)).unwrap();
    assert_eq!(all(&local, b""), b"later");
}

#[test]
fn who_writes_on_after_a_restart_is_waited_for_and_what_he_wrote_is_owed() {
    let world = World::new();
    let (staging, _) = world.open();
    let local = staging.create(place("a"), None, at(0)).unwrap();
    let closed = staging.create(place("b"), None, at(0)).unwrap();
    closed.stage(at(1)).unwrap();
    let loan = local.lend(false).unwrap().unwrap();
    let kernel = handle(&world);
    kernel.write_all_at(b"be", 0).unwrap();
    // As at the end of a process, which takes with it all but what the kernel has open.
    drop((loan, local, closed, staging));
    let (staging, owed) = world.open();
    let states: Vec<_> = owed.iter().map(|local| local.state()).collect();
    assert_eq!(states, [State::Dirty, State::Staged(at(1))]);
    let local = &owed[0];
    assert!(local.lingers());
    kernel.write_all_at(b"fore", 2).unwrap();
    assert_eq!(local.stage(at(2)).unwrap(), State::Dirty);
    drop(kernel);
    check_staged(local, 3);
    assert_eq!(all(local, b""), b"before");
    drop(staging);
}

#[test]
fn a_content_that_was_delivered_is_owed_again_when_it_is_lent() {
    let world = World::new();
    let (staging, _) = world.open();
    let local = staging.create(place("a"), None, at(0)).unwrap();
    local.write(0, b"one", at(0)).unwrap();
    local.stage(at(1)).unwrap();
    let (file, entity) = (FileId("f".into()), EntityId("e".into()));
    let sent = local.generation();
    let state = local.delivered(sent, file.clone(), entity.clone(), None);
    assert_eq!(state.unwrap(), State::Delivered);
    let loan = local.lend(false).unwrap().unwrap();
    assert_eq!(local.state(), State::Dirty);
    assert_eq!(staging.owed().len(), 1);
    handle(&world).write_all_at(b"two", 0).unwrap();
    // An answer that comes late is of the older content.
    assert_eq!(
        local.delivered(sent, file, entity, None).unwrap(),
        State::Dirty
    );
    drop(loan);
    check_staged(&local, 2);
    assert_eq!(all(&local, b""), b"two");
}

#[test]
fn a_directory_tells_whether_its_contents_can_be_lent() {
    let world = World::new();
    can_lend(world.dir()).expect("it can on the usual file systems");
    assert!(can_lend(&world.dir().join("absent")).is_err());
    let process = Path::new("/proc");
    assert!(can_lend(process).is_err());
}
