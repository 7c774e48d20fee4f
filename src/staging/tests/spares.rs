//! Files that are used again.

use std::os::unix::fs::MetadataExt;

use super::*;
use crate::staging::database::Database;
use crate::staging::journal::{Change, Kept, Row};

/// The file of a content.
fn path(world: &World, local: &Local) -> PathBuf {
    world.slot().join(format!("content/{}", local.number()))
}

/// A file that was written, with this content.
fn written(staging: &Arc<Staging>, name: &str, bytes: &[u8]) -> Arc<Local> {
    let local = staging.create(place(name), None, at(0)).unwrap();
    local.write(0, bytes, at(1)).unwrap();
    local.stage(at(2)).unwrap();
    local
}

fn deliver(local: &Local) {
    let (file, entity) = (FileId("f".into()), EntityId("e".into()));
    local
        .delivered(local.generation(), file, entity, None)
        .unwrap();
}

#[test]
fn the_file_of_what_was_delivered_is_that_of_what_comes_next_and_nothing_of_it_is_left() {
    let world = World::new();
    let (staging, _) = world.open();
    let first = written(&staging, "first", &[1; 9000]);
    let (number, inode) = (first.id(), path(&world, &first).metadata().unwrap().ino());
    deliver(&first);
    drop(first);
    let second = written(&staging, "second", b"two");
    assert_eq!(path(&world, &second).metadata().unwrap().ino(), inode);
    assert_ne!(second.id(), number, "no number is used twice");
    assert_eq!(all(&second, &[]), b"two");
    second.truncate(9000, at(3)).unwrap();
    assert_eq!(all(&second, &[])[3..], [0; 8997]);
    let third = written(&staging, "third", b"three");
    assert_ne!(path(&world, &third).metadata().unwrap().ino(), inode);
    drop((second, third, staging));
    let (_staging, owed) = world.open();
    let mut names: Vec<_> = owed
        .iter()
        .map(|local| local.place().name.to_string())
        .collect();
    names.sort();
    assert_eq!(names, ["second", "third"]);
}

#[test]
fn a_file_that_somebody_still_has_open_is_not_used_again_and_keeps_its_content() {
    let world = World::new();
    let (staging, _) = world.open();
    let local = written(&staging, "a", b"content");
    let reader = std::fs::File::open(path(&world, &local)).unwrap();
    local.unlink().unwrap();
    drop(local);
    let other = written(&staging, "b", b"other");
    let is_same =
        path(&world, &other).metadata().unwrap().ino() == reader.metadata().unwrap().ino();
    assert!(!is_same);
    assert_eq!(std::io::read_to_string(reader).unwrap(), "content");
}

#[test]
fn a_row_that_a_power_cut_brings_back_never_finds_an_emptied_file() {
    let (world, after) = (World::new(), World::new());
    let (staging, _) = world.open();
    let local = written(&staging, "a", b"content");
    staging.slot.journal.flush().unwrap();
    let row = Change::Put(Box::new(Row {
        kept: Kept::OnDisk,
        ..local.row()
    }));
    deliver(&local);
    drop(local);
    // What the disk has now, and a row that it had before.
    let contents = |world: &World| world.slot().join("content");
    std::fs::create_dir_all(contents(&after)).unwrap();
    for name in world.all_files() {
        let copy = contents(&after).join(&name);
        std::fs::copy(contents(&world).join(&name), copy).unwrap();
    }
    let mut journal = Database::open(&after.slot().join("journal.sqlite")).unwrap();
    journal.write(&[&row], true).unwrap();
    drop(journal);
    let (_staging, owed) = Staging::open_in(options(after.dir()), 1).unwrap();
    assert!(owed.is_empty());
}

#[test]
fn spares_are_gone_with_the_mount() {
    let world = World::new();
    let (staging, _) = world.open();
    let locals: Vec<_> = (0..5)
        .map(|n| written(&staging, &n.to_string(), b"x"))
        .collect();
    locals.iter().for_each(|local| deliver(local));
    drop(locals);
    let files = || {
        std::fs::read_dir(world.slot().join("content"))
            .unwrap()
            .count()
    };
    assert_eq!(files(), 5);
    drop(staging);
    assert_eq!(files(), 0);
}
