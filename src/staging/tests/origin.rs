//! What a content is a copy of: said only while each of its bytes is one.

use std::os::unix::fs::FileExt;

use super::*;

const SIZE: u64 = 3 << 20;

fn origin(entity: &str) -> Origin {
    let Base { file, entity, .. } = base(entity, SIZE);
    Origin { file, entity }
}

fn content() -> Vec<u8> {
    (0..SIZE).map(|at| (at % 251) as u8).collect()
}

/// Copies these parts of the content, each from where it begins to where it ends, in this order.
fn copy(local: &Local, parts: &[(u64, u64)]) {
    for (start, end) in parts {
        let bytes = &content()[*start as usize..*end as usize];
        local.write(*start, bytes, at(1)).unwrap();
        local.is_copied(&origin("e"), *start, bytes);
    }
}

#[track_caller]
fn check(change: impl FnOnce(&Arc<Local>), expected: Option<Origin>) {
    let world = World::new();
    let (staging, _) = world.open();
    let local = staging.create(place("a"), None, at(0)).unwrap();
    change(&local);
    assert_eq!(proven(&local), expected);
}

/// What it is a copy of, by all of its bytes.
fn proven(local: &Local) -> Option<Origin> {
    let is_copy = |origin: &Origin| local.is_copy(origin, local.generation(), || true);
    local.origin().filter(|origin| is_copy(origin).unwrap())
}

#[test]
fn what_was_copied_from_one_end_to_the_other_is_a_copy() {
    check(|local| copy(local, &[(0, SIZE)]), Some(origin("e")));
    let parts = [(0, 1), (1, 4097), (4097, SIZE)];
    check(|local| copy(local, &parts), Some(origin("e")));
    // Begun anew.
    check(
        |local| copy(local, &[(0, 9), (100, 200), (0, 7), (7, SIZE)]),
        Some(origin("e")),
    );
}

#[test]
fn what_was_not_copied_whole_and_in_order_is_none() {
    check(|_| (), None);
    check(|local| copy(local, &[(0, SIZE - 1)]), None);
    check(|local| copy(local, &[(1, SIZE), (0, 1)]), None);
    check(|local| copy(local, &[(0, 5), (6, SIZE)]), None);
    let of_two = |local: &Arc<Local>| {
        copy(local, &[(0, 5)]);
        let bytes = &content()[5..];
        local.write(5, bytes, at(1)).unwrap();
        local.is_copied(&origin("other"), 5, bytes);
    };
    check(of_two, None);
}

#[test]
fn what_was_changed_since_is_none_also_with_the_same_size_and_time() {
    let all: &[(u64, u64)] = &[(0, SIZE)];
    let then = |change: fn(&Local)| {
        move |local: &Arc<Local>| {
            copy(local, all);
            change(local);
        }
    };
    check(then(|local| local.write(9, b"!", at(1)).unwrap()), None);
    check(then(|local| local.truncate(SIZE - 1, at(1)).unwrap()), None);
    check(then(|local| local.truncate(SIZE + 1, at(1)).unwrap()), None);
    check(then(|local| local.zero(5..6, at(1)).unwrap()), None);
    check(then(|local| local.set_mtime(at(5)).unwrap()), None);
}

#[test]
fn what_was_copied_to_a_lent_content_is_a_copy_unless_others_wrote_to_it() {
    for others in [false, true] {
        let world = World::new();
        let (staging, _) = world.open();
        let local = staging.create(place("a"), None, at(0)).unwrap();
        let loan = local.lend(false).unwrap().expect("all of it is here");
        copy(&local, &[(0, SIZE / 2), (SIZE / 2, SIZE)]);
        let path = world.slot().join("content/1");
        let kernel = std::fs::File::options().write(true).open(path).unwrap();
        let before = kernel.metadata().unwrap().modified().unwrap();
        if others {
            kernel.write_all_at(b"!", 9).unwrap();
            kernel.set_modified(before).unwrap();
        }
        drop((kernel, loan));
        let expected = (!others).then(|| origin("e"));
        assert_eq!(proven(&local), expected);
    }
}

#[test]
fn a_copy_in_another_generation_or_that_is_not_wanted_any_more_is_none() {
    let world = World::new();
    let (staging, _) = world.open();
    let local = staging.create(place("a"), None, at(0)).unwrap();
    copy(&local, &[(0, SIZE)]);
    let now = local.generation();
    let is_copy = |generation, wanted: bool| {
        let told = local.is_copy(&origin("e"), generation, || wanted);
        told.unwrap()
    };
    assert!(is_copy(now, true));
    assert!(!is_copy(now - 1, true) && !is_copy(now, false));
}
