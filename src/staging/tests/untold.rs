//! What the server is still to hear of files whose content it has.

use std::collections::BTreeMap;

use super::*;
use crate::attributes::{Attributes, KEY, ShownTimes, Times, whole_milliseconds};
use crate::model::{Capabilities, FileInfo, FileKind};
use crate::staging::database::Database;
use crate::staging::journal::Change;

/// For no time at all.
const NOW: Duration = Duration::ZERO;

fn mode(mode: u16) -> Attributes {
    Attributes {
        mode: Some(mode),
        ..Attributes::default()
    }
}

fn file(id: &str) -> FileId {
    FileId(id.into())
}

/// What the server says of a file that came with the time `updated`, and of which it was told `attributes`.
fn info(updated: SystemTime, attributes: Option<&Attributes>) -> FileInfo {
    let told = attributes.map(|told| (KEY.to_owned(), told.text()));
    FileInfo {
        id: file("f"),
        kind: FileKind::File,
        name: ServerName::from_wire(*b"a"),
        uri: place("a").uri(),
        size_bytes: 5,
        created: at(0),
        updated,
        entity: EntityId("new".into()),
        owned: true,
        shared: false,
        capabilities: Capabilities::default(),
        metadata: Some(told.into_iter().collect::<BTreeMap<_, _>>()),
    }
}

/// A closed file of five bytes, with these attributes, as of `at(1)`.
fn closed(staging: &Arc<Staging>, attributes: Attributes) -> Arc<Local> {
    let told = Some((Arc::new(attributes), false));
    let local = staging.create_telling(place("a"), None, at(0), told);
    let local = local.unwrap();
    local.write(0, b"hello", at(1)).unwrap();
    local.stage(at(1)).unwrap();
    local
}

fn deliver(local: &Local, there: &FileInfo) {
    let there = Some(There::of(there));
    let (generation, entity) = (local.generation(), EntityId("new".into()));
    let state = local.delivered(generation, file("f"), entity, there);
    assert_eq!(state.unwrap(), State::Delivered);
}

#[test]
fn what_is_to_be_told_is_the_newest_and_survives_a_new_start_until_it_was_heard() {
    let world = World::new();
    let (staging, _) = world.open();
    staging.tell(&file("f"), place("a"), mode(0o600)).unwrap();
    let older = staging.to_tell()[0].number;
    staging.tell(&file("f"), place("b"), mode(0o640)).unwrap();
    staging.tell(&file("g"), place("c"), mode(0o700)).unwrap();
    assert!(
        !staging.told(&file("f"), older, NOW).unwrap(),
        "there is a newer one"
    );
    drop(staging);
    let (staging, _) = world.open();
    let mut untold = staging.to_tell();
    untold.sort_by(|a, b| a.file.cmp(&b.file));
    let [f, g] = untold.as_slice() else {
        panic!("two are to be told: {untold:?}")
    };
    assert_eq!((&*f.attributes, &f.place), (&mode(0o640), &place("b")));
    assert_eq!(staging.untold(&file("f")).as_deref(), Some(&mode(0o640)));
    // It shows over what was asked before, though nobody is to hear it.
    assert!(
        staging
            .told(&f.file, f.number, Duration::from_secs(60))
            .unwrap()
    );
    assert_eq!(staging.untold(&file("f")).as_deref(), Some(&mode(0o640)));
    assert_eq!(staging.to_tell().len(), 1);
    staging.tell(&file("f"), place("b"), mode(0o644)).unwrap();
    let newest = staging
        .to_tell()
        .into_iter()
        .find(|untold| untold.file == f.file);
    assert!(staging.told(&f.file, newest.unwrap().number, NOW).unwrap());
    assert!(staging.tell_nothing(&g.file).unwrap());
    assert_eq!(staging.untold(&file("f")), None);
    drop(staging);
    let (staging, _) = world.open();
    assert!(staging.to_tell().is_empty());
}

#[test]
fn what_another_mount_left_untold_is_taken_over_and_the_newer_one_counts() {
    let world = World::new();
    let (first, _) = world.open();
    let (second, _) = world.open();
    second.tell(&file("f"), place("a"), mode(0o600)).unwrap();
    second.tell(&file("g"), place("b"), mode(0o600)).unwrap();
    first.tell(&file("f"), place("a"), mode(0o640)).unwrap();
    drop((first, second));
    let (staging, _) = world.open();
    assert_eq!(staging.untold(&file("f")).as_deref(), Some(&mode(0o640)));
    assert_eq!(staging.untold(&file("g")).as_deref(), Some(&mode(0o600)));
    // What is said anew is not undone by what the other one noted.
    staging.tell(&file("g"), place("b"), mode(0o755)).unwrap();
    drop(staging);
    let (staging, _) = world.open();
    assert_eq!(staging.untold(&file("g")).as_deref(), Some(&mode(0o755)));
}

#[test]
fn what_is_only_remembered_is_told_to_nobody_and_gone_with_the_mount() {
    let world = World::new();
    let (staging, _) = world.open();
    staging.remember(file("root"), mode(0o700));
    assert_eq!(staging.untold(&file("root")).as_deref(), Some(&mode(0o700)));
    assert!(staging.to_tell().is_empty());
    drop(staging);
    let (staging, _) = world.open();
    assert_eq!(staging.untold(&file("root")), None);
}

#[test]
fn a_delivered_file_of_which_the_server_heard_all_is_told_nothing_of() {
    for attributes in [Attributes::default(), mode(0o600)] {
        let world = World::new();
        let (staging, _) = world.open();
        let local = closed(&staging, attributes.clone());
        let told = local.to_tell();
        assert_eq!(told.is_some(), !attributes.is_plain());
        let when = whole_milliseconds(local.mtime());
        deliver(&local, &info(when, told.as_deref()));
        assert!(staging.to_tell().is_empty());
    }
}

#[test]
fn what_changed_after_content_was_sent_is_to_be_told_when_that_is_delivered() {
    let world = World::new();
    let (staging, _) = world.open();
    let local = closed(&staging, mode(0o600));
    let sent = local.to_tell().unwrap();
    assert!(
        local
            .set_attributes(|told| told.mode = Some(0o755))
            .unwrap()
    );
    let when = whole_milliseconds(local.mtime());
    deliver(&local, &info(when, Some(&sent)));
    drop((local, staging));
    let (staging, owed) = world.open();
    assert!(owed.is_empty());
    let untold = staging.untold(&file("f")).expect("it is to be told");
    assert_eq!(untold.mode, Some(0o755));
    // Its time counts for the version that it was of.
    let entity = Entity {
        id: EntityId("new".into()),
        size_bytes: 5,
    };
    let times = untold.shown_times(at(99), &entity);
    assert_eq!(times, ShownTimes::all(when));
}

#[test]
fn a_time_that_the_server_did_not_take_is_to_be_told() {
    let world = World::new();
    let (staging, _) = world.open();
    let local = closed(&staging, Attributes::default());
    // As a database of whole seconds has it.
    let coarse = SystemTime::UNIX_EPOCH + Duration::from_secs(1_600_000_001);
    deliver(&local, &info(coarse, None));
    let untold = staging.untold(&file("f")).expect("it is to be told");
    let when = whole_milliseconds(at(1));
    let entity = Entity {
        id: EntityId("new".into()),
        size_bytes: 5,
    };
    assert_eq!(
        untold.times,
        Some(Times::of_content(ShownTimes::all(when), &entity))
    );
}

#[test]
fn of_a_file_that_is_here_attributes_lie_with_the_content_and_of_a_delivered_one_they_do_not() {
    let world = World::new();
    let (staging, _) = world.open();
    let local = closed(&staging, Attributes::default());
    assert_eq!(local.to_tell(), None, "a plain new file has nothing to say");
    assert!(local.set_attributes(|told| *told = mode(0o600)).unwrap());
    drop((local, staging));
    let (staging, owed) = world.open();
    let local = &owed[0];
    assert_eq!(local.attributes().as_deref(), Some(&mode(0o600)));
    assert_eq!(local.to_tell().as_deref(), Some(&mode(0o600)));
    let when = whole_milliseconds(local.mtime());
    deliver(local, &info(when, Some(&mode(0o600))));
    assert!(!local.set_attributes(|told| *told = mode(0o640)).unwrap());
    assert!(staging.to_tell().is_empty(), "who changes it tells it");
}

#[test]
fn what_is_told_of_a_file_goes_with_it_onto_another_one() {
    let world = World::new();
    let (staging, _) = world.open();
    let local = closed(&staging, Attributes::default());
    assert_eq!(local.to_tell(), None);
    local.relocate(place("b"), Some(base("old", 7))).unwrap();
    // The other one may have been told of what does not hold any more.
    assert_eq!(local.to_tell().as_deref(), Some(&Attributes::default()));
    let same = local.base();
    local.relocate(place("c"), same).unwrap();
    assert!(local.to_tell().is_some());
}

#[test]
fn what_was_told_of_a_file_survives_a_kill_before_the_journal_has_it() {
    let (world, after) = (World::new(), World::new());
    let (staging, _) = world.open();
    let local = closed(&staging, Attributes::default());
    staging.slot.journal.flush().unwrap();
    let noted = Change::Put(Box::new(local.row()));
    assert!(local.set_attributes(|told| *told = mode(0o600)).unwrap());
    // What is on the disk then, and the row of before.
    let contents = |world: &World| world.slot().join("content");
    std::fs::create_dir_all(after.slot()).unwrap();
    let copied = std::process::Command::new("cp")
        .args(["-r", "--preserve=all"])
        .args([contents(&world), contents(&after)])
        .status();
    assert!(copied.unwrap().success());
    let mut journal = Database::open(&after.slot().join("journal.sqlite")).unwrap();
    journal.write(&[&noted], true).unwrap();
    drop(journal);
    let (_staging, owed) = after.open();
    assert_eq!(owed.len(), 1);
    assert_eq!(owed[0].attributes().as_deref(), Some(&mode(0o600)));
    assert_eq!(owed[0].to_tell().as_deref(), Some(&mode(0o600)));
}
