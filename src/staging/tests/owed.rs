use super::*;

#[test]
fn a_file_is_found_again_with_all_that_is_known_of_it() {
    let world = World::new();
    let (staging, owed) = world.open();
    assert!(owed.is_empty());
    let local = staging.create(place("a"), None, at(0)).unwrap();
    local.write(0, b"hello", at(1)).unwrap();
    local.set_mtime(at(2)).unwrap();
    assert_eq!(local.stage(at(3)).unwrap(), State::Staged(at(3)));
    assert_eq!(
        local.stage(at(4)).unwrap(),
        State::Staged(at(3)),
        "staging again is no news"
    );
    let delivery = Delivery {
        tries: 3,
        session: Some("secret".into()),
        ..Delivery::default()
    };
    local.set_delivery(delivery.clone()).unwrap();
    let (id, generation) = (local.id(), local.generation());
    assert!(!format!("{local:?}").contains("secret"));
    drop((local, staging));
    let (staging, owed) = world.open();
    let [local] = owed.as_slice() else {
        panic!("one is owed")
    };
    assert_eq!(local.id(), id);
    assert_eq!(local.place(), place("a"));
    assert_eq!(local.base(), None);
    assert_eq!(local.state(), State::Staged(at(3)));
    assert_eq!(local.mtime(), at(2));
    assert_eq!(local.delivery(), delivery);
    assert_eq!(local.generation(), generation);
    assert_eq!(all(local, &[]), b"hello");
    assert!(staging.disk_bytes() >= 4096);
    assert_ne!(staging.create(place("b"), None, at(0)).unwrap().id(), id);
}

#[test]
fn what_changed_after_its_session_began_is_of_another_generation_after_a_restart() {
    for is_changed in [false, true] {
        let world = World::new();
        let (staging, _) = world.open();
        let local = staging.create(place("a"), None, at(0)).unwrap();
        local.write(0, b"hello", at(1)).unwrap();
        local.stage(at(1)).unwrap();
        let generation = local.generation();
        let delivery = Delivery {
            session: Some("s".into()),
            ..Delivery::default()
        };
        local.set_delivery(delivery).unwrap();
        if is_changed {
            local.write(0, b"j", at(2)).unwrap();
            local.set_mtime(at(1)).unwrap();
        }
        drop((local, staging));
        let (_staging, owed) = world.open();
        assert_eq!(owed[0].generation() == generation, !is_changed);
        assert_eq!(
            owed[0].delivery().session.as_deref(),
            Some("s"),
            "it is to be cancelled"
        );
    }
}

/// A staged file with a delivery of this session.
fn with_session(staging: &Arc<Staging>, session: &str) -> Arc<Local> {
    let local = staging.create(place("a"), None, at(0)).unwrap();
    local.write(0, b"hello", at(1)).unwrap();
    local.stage(at(1)).unwrap();
    let delivery = Delivery {
        session: Some(session.into()),
        ..Delivery::default()
    };
    local.set_delivery(delivery).unwrap();
    local
}

#[test]
fn a_session_is_written_once_however_often_its_progress_is() {
    let world = World::new();
    let (staging, _) = world.open();
    let local = with_session(&staging, "first");
    let journal = rusqlite::Connection::open(world.slot().join("journal.sqlite")).unwrap();
    let count = "CREATE TRIGGER counted AFTER INSERT ON sessions BEGIN
        INSERT INTO numbers VALUES ('test', 1) ON CONFLICT DO UPDATE SET number = number + 1; END";
    journal.execute_batch(count).unwrap();
    let written = || {
        let count = "SELECT coalesce(sum(number), 0) FROM numbers WHERE what = 'test'";
        journal.query_row(count, [], |row| row.get::<_, i64>(0))
    };
    for progress in 0..50 {
        let delivery = Delivery {
            progress: Some(progress.to_string()),
            ..local.delivery()
        };
        local.set_delivery(delivery).unwrap();
    }
    assert_eq!(written().unwrap(), 0);
    let delivery = Delivery {
        session: Some("second".into()),
        ..local.delivery()
    };
    local.set_delivery(delivery.clone()).unwrap();
    assert_eq!(written().unwrap(), 1);
    drop((local, staging));
    let (_staging, owed) = world.open();
    assert_eq!(owed[0].delivery(), delivery);
}

#[test]
fn a_session_that_is_only_noted_is_written_with_what_comes_after_it() {
    let world = World::new();
    let (staging, _) = world.open();
    let local = with_session(&staging, "first");
    let noted = Delivery {
        session: Some("second".into()),
        ..local.delivery()
    };
    local.set_delivery_soon(noted.clone()).unwrap();
    let delivery = Delivery { tries: 1, ..noted };
    local.set_delivery(delivery.clone()).unwrap();
    drop((local, staging));
    let (_staging, owed) = world.open();
    assert_eq!(owed[0].delivery(), delivery);
}

#[test]
fn a_session_in_a_journal_of_the_first_format_is_found() {
    let world = World::new();
    let (staging, _) = world.open();
    drop(with_session(&staging, "of another table"));
    drop(staging);
    let journal = rusqlite::Connection::open(world.slot().join("journal.sqlite")).unwrap();
    let first = r#"UPDATE local SET delivery = '{"tries":2,"session":"noted"}'; DROP TABLE sessions; PRAGMA user_version = 1"#;
    journal.execute_batch(first).unwrap();
    drop(journal);
    for _ in 0..2 {
        let (_staging, owed) = world.open();
        let delivery = owed[0].delivery();
        assert_eq!(delivery.session.as_deref(), Some("noted"));
        assert_eq!(delivery.tries, 2);
    }
}

#[test]
fn a_delivered_file_is_owed_again_when_it_is_written_to() {
    let world = World::new();
    let (staging, _) = world.open();
    let local = staging.create(place("a"), None, at(0)).unwrap();
    local.write(0, b"one", at(1)).unwrap();
    local.stage(at(1)).unwrap();
    let delivered = |local: &Local, generation, entity: &str| {
        local
            .delivered(
                generation,
                FileId("f".into()),
                EntityId(entity.into()),
                None,
            )
            .unwrap()
    };
    assert_eq!(
        delivered(&local, local.generation(), "e1"),
        State::Delivered
    );
    assert_eq!(local.stage(at(2)).unwrap(), State::Delivered);
    assert!(staging.owed().is_empty());
    assert_eq!(world.content().len(), 1, "it is still open");
    local.write(3, b"two", at(3)).unwrap();
    assert_eq!(local.state(), State::Dirty);
    assert_eq!(staging.owed().len(), 1);
    drop((local, staging));

    let (staging, owed) = world.open();
    let local = &owed[0];
    let now = local.base().unwrap();
    assert_eq!(
        (&*now.file.0, &*now.entity.id.0, now.visible_bytes),
        ("f", "e1", 0)
    );
    assert_eq!(all(local, &[]), b"onetwo");
    // Written to while it was sent.
    let generation = local.generation();
    local.write(6, b"three", at(4)).unwrap();
    assert_eq!(delivered(local, generation, "e2"), State::Dirty);
    assert_eq!(&*local.base().unwrap().entity.id.0, "e2");
    local.stage(at(5)).unwrap();
    assert_eq!(delivered(local, local.generation(), "e3"), State::Delivered);
    drop((owed, staging));
    assert!(world.content().is_empty());
    assert!(world.open().1.is_empty());
}

#[test]
fn an_unlinked_file_is_read_and_written_until_it_is_closed_and_owed_to_nobody() {
    let world = World::new();
    let (staging, _) = world.open();
    let local = staging.create(place("a"), None, at(0)).unwrap();
    local.write(0, b"one", at(1)).unwrap();
    local.unlink().unwrap();
    local.write(3, b"two", at(1)).unwrap();
    assert_eq!(local.stage(at(2)).unwrap(), State::Unlinked);
    assert_eq!(all(&local, &[]), b"onetwo");
    assert_eq!(local.place(), place("a"));
    assert!(staging.owed().is_empty());
    drop(local);
    assert!(world.content().is_empty());
}

#[test]
fn a_moved_file_is_found_where_it_was_moved_and_replaces_what_was_there() {
    let world = World::new();
    let (staging, _) = world.open();
    let local = staging.create(place("a~"), None, at(0)).unwrap();
    local.write(0, b"one", at(1)).unwrap();
    local.stage(at(1)).unwrap();
    local.relocate(place("b"), None).unwrap();
    assert_eq!(local.base(), None);
    local.relocate(place("a"), Some(base("old", 50))).unwrap();
    let over = Base {
        visible_bytes: 0,
        ..base("old", 50)
    };
    assert_eq!(local.base().as_ref(), Some(&over));
    drop((local, staging));
    let (_staging, owed) = world.open();
    assert_eq!(owed[0].place(), place("a"));
    assert_eq!(owed[0].base(), Some(over));
    assert_eq!(all(&owed[0], &[]), b"one");
}

#[test]
fn where_a_file_goes_is_made_of_the_place_that_it_has_by_then() {
    let world = World::new();
    let (staging, _) = world.open();
    let local = staging.create(place("a"), None, at(0)).unwrap();
    let seen = local.place();
    local.relocate(place("b"), None).unwrap();
    local
        .relocate_from(|now| (now == seen).then(|| place("c")))
        .unwrap();
    assert_eq!(local.place(), place("b"), "it was moved meanwhile");
    local
        .relocate_from(|now| (now == place("b")).then(|| place("c")))
        .unwrap();
    assert_eq!(local.place(), place("c"));
    drop((local, staging));
    let (_staging, owed) = world.open();
    assert_eq!(owed[0].place(), place("c"));
}

#[test]
fn of_two_files_one_of_which_took_the_others_place_a_crash_leaves_one() {
    let world = World::new();
    for is_killed in [false, true] {
        let (staging, owed) = world.open();
        owed.iter().for_each(|local| local.unlink().unwrap());
        let make = |name: &str, content: &[u8]| {
            let local = staging.create(place(name), None, at(0)).unwrap();
            local.write(0, content, at(1)).unwrap();
            local.stage(at(1)).unwrap();
            local
        };
        let (newer, older) = (make("a~", b"new"), make("a", b"old"));
        match is_killed {
            false => newer.relocate_over(place("a"), None, &older).unwrap(),
            true => newer.relocate_before(place("a"), None, &older).unwrap(),
        }
        drop((newer, older, owed, staging));
        let (_staging, owed) = world.open();
        let [local] = owed.as_slice() else {
            panic!("{} are owed", owed.len())
        };
        assert_eq!(all(local, &[]), b"new");
        assert_eq!(local.place(), place("a"));
    }
}

#[test]
fn a_file_whose_base_still_shows_is_moved_with_it_and_over_no_other() {
    let world = World::new();
    let (staging, _) = world.open();
    let local = staging
        .create(place("a"), Some(base("e", 9)), at(0))
        .unwrap();
    local.write(0, b"one", at(1)).unwrap();
    local.relocate(place("b"), None).unwrap();
    local.relocate(place("b"), Some(base("e", 9))).unwrap();
    assert_eq!(local.missing(), Some(3..9));
    assert!(local.relocate(place("c"), Some(base("f", 9))).is_err());
    assert_eq!(local.place(), place("b"));
    local.fill(0, &[7; 9]).unwrap();
    local.relocate(place("c"), Some(base("f", 9))).unwrap();
    drop((local, staging));
    assert_eq!(world.content().len(), 1, "the map is not needed any more");
    let (_staging, owed) = world.open();
    assert_eq!(all(&owed[0], &[]), b"one\x07\x07\x07\x07\x07\x07");
    assert_eq!(owed[0].mtime(), at(1), "filling in is no change");
}

#[tokio::test]
async fn steps_stay_noted_until_they_are_done() {
    let world = World::new();
    let (staging, _) = world.open();
    let one = staging.begin("one".into()).await.unwrap();
    let two = staging.begin("two".into()).await.unwrap();
    staging.go_on(one, "one, further".into()).await.unwrap();
    drop(staging);
    let (staging, _) = world.open();
    assert_eq!(
        staging.unfinished(),
        [(one, "one, further".into()), (two, "two".into())]
    );
    staging.done(one).await.unwrap();
    let three = staging.begin("three".into()).await.unwrap();
    drop(staging);
    let (staging, _) = world.open();
    assert_eq!(
        staging.unfinished(),
        [(two, "two".into()), (three, "three".into())]
    );
}
