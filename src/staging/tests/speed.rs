//! Many at once: whole writes, and what they cost.

use std::time::Instant;

use super::*;

#[test]
fn readers_see_each_write_whole_or_not_at_all() {
    let world = World::new();
    let (staging, _) = world.open();
    let local = staging.create(place("a"), None, at(0)).unwrap();
    local.write(0, &[0; 20_000], at(0)).unwrap();
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            for turn in 0..300 {
                local.write(0, &[turn as u8; 20_000], at(turn)).unwrap();
            }
        });
        while !writer.is_finished() {
            let bytes = local.read(0..20_000).unwrap();
            assert!(bytes.iter().all(|byte| *byte == bytes[0]));
        }
    });
}

#[test]
fn a_file_that_is_written_while_it_is_delivered_and_unlinked_ends_in_one_state() {
    let world = World::new();
    let (staging, _) = world.open();
    for round in 0..100 {
        let local = staging.create(place("a"), None, at(0)).unwrap();
        local.write(0, b"0", at(0)).unwrap();
        local.stage(at(0)).unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for turn in 1..10 {
                    local.write(turn, b"x", at(turn)).unwrap();
                    local.stage(at(turn)).unwrap();
                }
            });
            scope.spawn(|| {
                let session = Some("s".into());
                local
                    .set_delivery(Delivery {
                        session,
                        ..Delivery::default()
                    })
                    .unwrap();
                let (file, entity) = (FileId("f".into()), EntityId("e".into()));
                local
                    .delivered(local.generation(), file, entity, None)
                    .unwrap();
            });
            if round % 3 == 0 {
                scope.spawn(|| local.unlink().unwrap());
            }
        });
        assert_eq!(all(&local, &[]), b"0xxxxxxxxx");
        let is_owed = matches!(local.state(), State::Dirty | State::Staged(_));
        assert_eq!(staging.owed().len(), usize::from(is_owed));
        staging.slot.journal.flush().unwrap();
        let journal = rusqlite::Connection::open(world.slot().join("journal.sqlite")).unwrap();
        let rows: i64 = journal
            .query_row("SELECT count(*) FROM local", [], |row| row.get(0))
            .unwrap();
        assert_eq!(rows, i64::from(is_owed), "the journal says the same");
        local.unlink().unwrap();
    }
}

/// Files a second that `threads` make with `make`, each `each` of them.
fn rate(threads: usize, each: usize, make: impl Fn(String) + Sync) -> f64 {
    let begun = Instant::now();
    std::thread::scope(|scope| {
        for thread in 0..threads {
            let make = &make;
            scope.spawn(move || (0..each).for_each(|file| make(format!("{thread}-{file}"))));
        }
    });
    (threads * each) as f64 / begun.elapsed().as_secs_f64()
}

#[test]
#[ignore = "measures, and says what it measured"]
fn how_fast() {
    let world = World::new();
    let (staging, _) = world.open();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let content = [5; 4096];
    let one = |name: String, flush: bool| {
        let local = staging
            .create(place(&name), None, SystemTime::now())
            .unwrap();
        local.write(0, &content, SystemTime::now()).unwrap();
        local.stage(SystemTime::now()).unwrap();
        if flush {
            runtime.block_on(local.durable()).unwrap();
        }
        local
    };
    let plain = |name: String, flush: bool| {
        use std::os::unix::fs::FileExt;
        let file = std::fs::File::create_new(world.dir().join(name)).unwrap();
        file.write_all_at(&content, 0).unwrap();
        if flush {
            file.sync_all().unwrap();
        }
    };
    for threads in [1, 8] {
        let staged = rate(threads, 5000 / threads, |name| drop(one(name, false)));
        let disk = rate(threads, 5000 / threads, |name| {
            plain(format!("{threads}p{name}"), false)
        });
        println!("{threads} threads: create+4K+close {staged:.0}/s, plain {disk:.0}/s");
    }
    for threads in [1, 8] {
        let staged = rate(threads, 1000 / threads, |name| drop(one(name, true)));
        let disk = rate(threads, 1000 / threads, |name| {
            plain(format!("{threads}f{name}"), true)
        });
        println!("{threads} threads with fsync: {staged:.0}/s, plain {disk:.0}/s");
    }
    let owed = staging.owed();
    let begun = Instant::now();
    for local in &owed {
        let (file, entity) = (FileId("f".into()), EntityId("e".into()));
        local
            .delivered(local.generation(), file, entity, None)
            .unwrap();
    }
    let rate = owed.len() as f64 / begun.elapsed().as_secs_f64();
    println!("delivered, one after the other: {rate:.0}/s");
    let big = staging
        .create(place("big"), None, SystemTime::now())
        .unwrap();
    let begun = Instant::now();
    let block = vec![7; 1 << 20];
    (0..512).for_each(|at| big.write(at << 20, &block, SystemTime::now()).unwrap());
    println!("512 MiB written in {:?}", begun.elapsed());
    let begun = Instant::now();
    (0..512).for_each(|at| drop(big.read(at << 20..(at + 1) << 20).unwrap()));
    println!("and read in {:?}", begun.elapsed());
    big.unlink().unwrap();
    let begun = Instant::now();
    drop((big, owed));
    println!("dropped in {:?}", begun.elapsed());
    let begun = Instant::now();
    drop(staging);
    println!("closed in {:?}", begun.elapsed());
}
