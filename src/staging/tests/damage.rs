//! Journals that are hurt, and machines that went down.

use super::*;

/// Some files of each kind: what is in them, by name; and one that is unlinked and open.
fn some_files(staging: &Arc<Staging>) -> (Vec<(&'static str, Vec<u8>)>, Arc<Local>) {
    let new = staging.create(place("new"), None, at(0)).unwrap();
    new.write(0, b"new", at(1)).unwrap();
    new.stage(at(1)).unwrap();
    let over = staging
        .create(place("before"), Some(base("e", 9)), at(0))
        .unwrap();
    over.write(3, b"mid", at(1)).unwrap();
    over.stage(at(1)).unwrap();
    over.relocate(place("over"), None).unwrap();
    let open = staging.create(place("open"), None, at(0)).unwrap();
    open.write(0, b"open", at(1)).unwrap();
    let gone = staging.create(place("gone"), None, at(0)).unwrap();
    gone.write(0, b"gone", at(1)).unwrap();
    gone.stage(at(1)).unwrap();
    gone.unlink().unwrap();
    let files = vec![
        ("new", b"new".to_vec()),
        ("over", b"\x07\x07\x07mid\x07\x07\x07".to_vec()),
        ("open", b"open".to_vec()),
    ];
    (files, gone)
}

fn check(owed: &[Arc<Local>], expected: &[(&str, Vec<u8>)]) {
    let mut names: Vec<_> = owed
        .iter()
        .map(|local| local.place().name.to_string())
        .collect();
    names.sort();
    let mut expected_names: Vec<_> = expected.iter().map(|(name, _)| *name).collect();
    expected_names.sort();
    assert_eq!(names, expected_names);
    for local in owed {
        let name = local.place().name.to_string();
        let (_, bytes) = expected
            .iter()
            .find(|(expected, _)| *expected == name)
            .unwrap();
        assert_eq!(&all(local, &[7; 9]), bytes);
        assert_eq!(local.mtime(), at(1), "{name}");
    }
}

/// The files of a slot as they were when the process was killed, in another state directory.
fn copied(world: &World) -> World {
    let copy = World::new();
    let status = std::process::Command::new("cp")
        .arg("-a")
        .arg(world.dir().join("drives"))
        .arg(copy.dir())
        .status();
    assert!(status.unwrap().success());
    copy
}

#[test]
fn what_is_owed_is_found_however_the_journal_is_hurt() {
    let world = World::new();
    let (staging, _) = world.open();
    let (files, _gone) = some_files(&staging);
    // The open file was closed, so that its time is exact.
    staging
        .owed()
        .iter()
        .for_each(|local| assert!(local.stage(at(1)).is_ok()));
    drop(staging);
    let mut dice = Dice::new();
    for round in 0..60 {
        let copy = copied(&world);
        let journal = copy.slot().join("journal.sqlite");
        let mut bytes = std::fs::read(&journal).unwrap();
        let len = bytes.len() as u64;
        match round {
            0 => std::fs::remove_file(&journal).unwrap(),
            1 => std::fs::write(&journal, b"").unwrap(),
            2 => std::fs::write(&journal, vec![0; 5000]).unwrap(),
            _ => {
                let range = dice.range(len);
                match round % 3 {
                    0 => bytes.truncate(range.start as usize),
                    1 => bytes[range.start as usize..range.end as usize].fill(0),
                    // The header, of which most things hang.
                    _ => bytes[(range.start % 100) as usize] ^= 1 << dice.below(8),
                }
                std::fs::write(&journal, bytes).unwrap();
            }
        }
        let opened = Staging::open(options(copy.dir()));
        let (_staging, owed) = match opened {
            Ok(opened) => opened,
            // One that a flipped bit made a newer version's is not touched.
            Err(error) if error.to_string().contains("newer version") => continue,
            Err(error) => panic!("round {round}: {error}"),
        };
        check(&owed, &files);
    }
}

#[test]
fn a_write_ahead_log_that_is_torn_anywhere_loses_no_owed_file() {
    let world = World::new();
    let (staging, _) = world.open();
    let (files, _gone) = some_files(&staging);
    staging
        .owed()
        .iter()
        .for_each(|local| assert!(local.stage(at(1)).is_ok()));
    // All rows are written, and none is carried over into the database.
    staging.slot.journal.flush().unwrap();
    let log = std::fs::read(world.slot().join("journal.sqlite-wal")).unwrap();
    let mut dice = Dice::new();
    for _ in 0..40 {
        let copy = copied(&world);
        let len = dice.below(log.len() as u64 + 1);
        std::fs::write(copy.slot().join("journal.sqlite-wal"), &log[..len as usize]).unwrap();
        let (_staging, mut owed) = copy.open();
        // That it was unlinked, or moved, may be forgotten with the log: where the rows before it are there.
        owed.retain(|local| local.place().name.to_string() != "gone");
        let mut files = files.clone();
        if owed.iter().any(|local| local.place() == place("before")) {
            files[1].0 = "before";
        }
        check(&owed, &files);
    }
}

#[test]
fn a_damaged_journal_is_kept_for_who_wants_to_look() {
    let world = World::new();
    let (staging, _) = world.open();
    let (files, gone) = some_files(&staging);
    staging
        .owed()
        .iter()
        .for_each(|local| assert!(local.stage(at(1)).is_ok()));
    drop((gone, staging));
    std::fs::write(world.slot().join("journal.sqlite"), b"this is no journal").unwrap();
    check(&world.open().1, &files);
    let entries = std::fs::read_dir(world.slot()).unwrap();
    let aside = entries
        .map(|entry| entry.unwrap().path())
        .find(|path| path.to_str().unwrap().contains(".damaged-"));
    assert_eq!(
        std::fs::read(aside.unwrap()).unwrap(),
        b"this is no journal"
    );
}

#[test]
fn a_newer_version_s_journal_is_refused_and_left_alone() {
    let world = World::new();
    drop(world.open());
    let path = world.slot().join("journal.sqlite");
    let journal = rusqlite::Connection::open(&path).unwrap();
    journal.pragma_update(None, "user_version", 99).unwrap();
    drop(journal);
    let error = Staging::open(options(world.dir())).unwrap_err();
    assert!(error.to_string().contains("newer version"), "{error}");
    let journal = rusqlite::Connection::open(&path).unwrap();
    let found: i64 = journal
        .query_row("PRAGMA user_version", [], |row| row.get(0))
        .unwrap();
    assert_eq!(found, 99);
}

#[test]
fn a_content_that_is_gone_holds_up_nothing_else() {
    let world = World::new();
    let (staging, _) = world.open();
    for name in ["a", "b"] {
        staging
            .create(place(name), None, at(0))
            .unwrap()
            .stage(at(0))
            .unwrap();
    }
    let first = staging.owed()[0].number();
    drop(staging);
    std::fs::remove_file(world.slot().join(format!("content/{first}"))).unwrap();
    for _ in 0..2 {
        let (_staging, owed) = world.open();
        assert_eq!(owed.len(), 1);
        assert_eq!(owed[0].place(), place("b"));
    }
}

#[test]
fn files_of_nobody_are_removed_and_those_of_somebody_else_are_not() {
    let world = World::new();
    drop(world.open());
    let content = world.slot().join("content");
    for name in ["7", "7.map", "8.about.new", "notes.txt"] {
        std::fs::write(content.join(name), b"x").unwrap();
    }
    let (staging, owed) = world.open();
    assert!(owed.is_empty());
    assert_eq!(world.content(), ["notes.txt"]);
    // A number is never used again.
    assert!(staging.create(place("a"), None, at(0)).unwrap().number() > 8);
}

#[tokio::test]
async fn what_was_closed_just_before_a_power_cut_replaces_nothing_and_what_was_flushed_does() {
    let world = World::new();
    let (staging, _) = world.open();
    let make = |name: &str| {
        let local = staging
            .create(place(name), Some(base("e", 0)), at(0))
            .unwrap();
        local.write(0, b"content", at(1)).unwrap();
        local.stage(at(1)).unwrap();
        local
    };
    make("closed");
    let flushed = make("flushed");
    flushed.durable().await.unwrap();
    // Written to in place after that: as on any disk.
    flushed.write(0, b"C", at(2)).unwrap();
    let wiped = make("wiped");
    wiped.durable().await.unwrap();
    wiped.truncate(0, at(2)).unwrap();
    wiped.write(0, b"new", at(2)).unwrap();
    // As it is while the process lives; its drop would bring all to the disk.
    staging.slot.journal.flush().unwrap();
    let copy = copied(&world);
    let doubtful = |boot: u64| {
        let (staging, owed) = Staging::open_in(options(copy.dir()), boot).unwrap();
        drop(staging);
        let doubtful = owed.iter().filter(|local| local.is_doubtful());
        doubtful
            .map(|local| local.place().name.to_string())
            .collect::<Vec<_>>()
    };
    assert_eq!(doubtful(this_boot()), [""; 0], "it was only killed");
    let copy_of_killed = copied(&world);
    let (_staging, owed) = Staging::open_in(options(copy_of_killed.dir()), 1).unwrap();
    let names: Vec<_> = owed
        .iter()
        .filter(|local| local.is_doubtful())
        .map(|local| local.place().name.to_string())
        .collect();
    assert_eq!(names, ["closed", "wiped"]);
    // Thrown away and written anew, it is what its writer wrote.
    owed[0].truncate(0, at(3)).unwrap();
    assert!(!owed[0].is_doubtful());
}

#[test]
fn an_orderly_end_leaves_nothing_that_a_power_cut_could_take() {
    let world = World::new();
    let (staging, _) = world.open();
    for name in 0..40 {
        let local = staging
            .create(place(&name.to_string()), None, at(0))
            .unwrap();
        local.write(0, b"content", at(1)).unwrap();
        local.stage(at(1)).unwrap();
    }
    drop(staging);
    let (_staging, owed) = Staging::open_in(options(world.dir()), 1).unwrap();
    assert_eq!(owed.len(), 40);
    assert!(owed.iter().all(|local| !local.is_doubtful()));
}

#[test]
fn a_content_that_the_disk_did_not_take_is_told_to_the_next_who_asks_and_replaces_nothing() {
    let world = World::new();
    let (staging, _) = world.open();
    let local = staging.create(place("a"), None, at(0)).unwrap();
    local.stage(at(0)).unwrap();
    local.fail_to_sync(libc::EIO);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let told = runtime.block_on(local.durable()).unwrap_err();
    assert_eq!(told.raw_os_error(), Some(libc::EIO));
    runtime.block_on(local.durable()).unwrap();
    assert!(local.is_doubtful());
    drop((local, staging));
    assert!(world.open().1[0].is_doubtful());
}
