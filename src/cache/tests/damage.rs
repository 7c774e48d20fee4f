use std::os::unix::fs::FileExt;

use super::*;

/// Changes something in one of the site's files.
fn hurt(path: &Path, dice: &mut Dice) {
    let mut bytes = fs::read(path).unwrap();
    let Some(len) = std::num::NonZeroU64::new(bytes.len() as u64) else {
        return;
    };
    let at = dice.below(len.get()) as usize;
    match dice.below(8) {
        // Torn: what comes after never reached the disk.
        0 => bytes[at..].fill(0),
        1 => bytes.truncate(at),
        2 => bytes.extend_from_slice(&[7; 100]),
        _ => bytes[at] ^= 1 << dice.below(8),
    }
    fs::write(path, bytes).unwrap();
}

#[test]
fn no_damage_anywhere_makes_a_wrong_byte_and_all_of_it_heals() {
    let mut dice = Dice::new();
    let world = World::new();
    let entities = [
        entity("a", 12 * B + 9),
        entity("b", 12 * B + 9),
        entity("s", 5000),
        entity("t", 5000),
    ];
    let mut cache = world.open(1 << 30);
    for round in 0..250 {
        for entity in &entities {
            store_all(&cache, entity);
        }
        // Half of the time under a cache that is at work, half of the time under one that comes after.
        let is_under_way = dice.below(2) == 0;
        let held: Vec<_> = entities.iter().map(|entity| cache.entity(entity)).collect();
        if !is_under_way {
            cache = Cache::off();
        }
        let mut files = world.files();
        files.push(world.dir().join("content/usage"));
        for _ in 0..4 {
            let at = dice.below(files.len() as u64) as usize;
            match dice.below(20) {
                0 => {
                    let other = dice.below(files.len() as u64) as usize;
                    let (one, two) = (
                        fs::read(&files[at]).unwrap(),
                        fs::read(&files[other]).unwrap(),
                    );
                    fs::write(&files[at], two).unwrap();
                    fs::write(&files[other], one).unwrap();
                }
                1 => drop(fs::remove_file(&files[at])),
                _ if files[at].exists() => hurt(&files[at], &mut dice),
                _ => {}
            }
            files.retain(|file| file.exists());
        }
        if !is_under_way {
            drop(held);
            cache = world.open(1 << 30);
        }
        for entity in &entities {
            let kept = cache.entity(entity);
            for block in 0..entity.blocks() {
                read(&kept, block..block + 1);
            }
            read(&kept, 0..entity.blocks());
            // Verified in the background, while other files are hurt.
            if round % 5 == 0
                && let Some(whole) = kept.whole()
            {
                assert!(
                    super::whole::is_right(&whole, entity),
                    "{} in round {round}",
                    entity.id
                );
            }
        }
        assert!(cache.flush(LONG));
    }
    for entity in &entities {
        let kept = store_all(&cache, entity);
        assert!(has_all(&kept), "all is well again: {}", entity.id);
        assert_eq!(kept.bytes(), entity.size_bytes);
    }
}

#[test]
fn data_that_was_removed_is_written_again_and_is_no_damage() {
    let world = World::new();
    let entity = entity("e", 5 * B);
    store_all(&world.open(1 << 30), &entity);
    fs::remove_file(world.file("data")).unwrap();
    let cache = world.open(1 << 30);
    assert!(has_all(&store_all(&cache, &entity)));
    assert_eq!(cache.usage().damaged_blocks, 0);
}

#[test]
fn a_damaged_block_is_found_counted_and_replaced() {
    for (size, file) in [(5 * B, "data"), (100, "small")] {
        let world = World::new();
        let cache = world.open(1 << 30);
        let entity = entity("e", size);
        let kept = store_all(&cache, &entity);
        let path = world.file(file);
        let mut bytes = fs::read(&path).unwrap();
        bytes[50] ^= 1;
        fs::write(&path, bytes).unwrap();
        assert!(read(&kept, 0..entity.blocks()).is_none());
        assert!(cache.flush(LONG));
        assert_eq!(cache.usage().damaged_blocks, 1);
        assert!(!kept.has(0), "it is forgotten");
        let kept = store_all(&cache, &entity);
        assert!(has_all(&kept));
    }
}

/// Exchanges two files by their names: who has them open reads on what is now elsewhere.
fn exchange(one: &Path, other: &Path) {
    let aside = one.with_extension("aside");
    for (from, to) in [(one, &*aside), (other, one), (&*aside, other)] {
        fs::rename(from, to).unwrap();
    }
}

#[test]
fn files_exchanged_while_they_are_open_are_kept_anew_and_not_fetched_for_ever() {
    let lasting = Tuning {
        rest: Duration::ZERO,
        recheck: Duration::from_secs(3600),
    };
    for (kinds, sizes) in [
        (["data", "data"], [5 * B, 5 * B]),
        (["data", "data"], [5 * B, 7 * B + 1]),
        (["index", "index"], [5 * B, 5 * B]),
        (["data", "index"], [5 * B, 7 * B + 1]),
    ] {
        let world = World::new();
        let entities = [entity("a", sizes[0]), entity("b", sizes[1])];
        let first = world.open(1 << 30);
        for entity in &entities {
            store_all(&first, entity);
        }
        drop(first);
        // Who only reads has them open, who writes has not yet.
        let cache = Cache::open_tuned(options(world.dir(), "site", 1 << 30), lasting);
        let kept = entities.each_ref().map(|entity| cache.entity(entity));
        assert!(kept.iter().all(|kept| has_all(kept)));
        let file = |at: usize| {
            let kind = match kinds[at] {
                "data" => names::Kind::Data,
                _ => names::Kind::Index,
            };
            world.site_dir().join(kept[at].name().file(kind))
        };
        let (one, other) = (file(0), file(1));
        exchange(&one, &other);
        for path in [&one, &other] {
            let file = fs::File::options().write(true).open(path).unwrap();
            // The first block, or its checksum.
            file.write_all_at(&[7; 8], 512).unwrap();
        }
        heal(&cache, &entities, &kept);
        // Who comes later finds what is under the names now.
        drop((kept, cache));
        let cache = world.open(1 << 30);
        let kept = entities.each_ref().map(|entity| cache.entity(entity));
        heal(&cache, &entities, &kept);
    }
}

/// Reads as those do who fetch what is not there and offer it to the disk, until nothing is to be fetched.
#[track_caller]
fn heal(cache: &Arc<Cache>, entities: &[Arc<Entity>], kept: &[Arc<Kept>]) {
    let mut passes = 0;
    while !kept.iter().all(|kept| has_all(kept)) {
        for entity in entities {
            store_all(cache, entity);
        }
        passes += 1;
        // Each meets a block that is not as it should be, at least.
        assert!(passes < 30, "it is fetched again and again");
    }
}

#[test]
fn a_directory_that_is_removed_or_replaced_under_way_comes_back() {
    let world = World::new();
    let cache = world.open(1 << 30);
    let (large, small) = (entity("l", 5 * B), entity("s", 100));
    let content = world.dir().join("content");
    let aside = world.dir().join("aside");
    for round in 0..6 {
        let kept = store_all(&cache, &large);
        store_all(&cache, &small);
        assert!(
            has_all(&kept) && has_all(&cache.entity(&small)),
            "round {round}"
        );
        match round {
            0 => fs::remove_dir_all(&content).unwrap(),
            1 => fs::remove_dir_all(world.site_dir()).unwrap(),
            2 => fs::rename(&content, &aside).unwrap(),
            3 => fs::remove_file(content.join("usage")).unwrap(),
            4 => world
                .files()
                .iter()
                .for_each(|file| fs::remove_file(file).unwrap()),
            _ => fs::remove_dir_all(world.dir()).unwrap(),
        }
        // What is open may still be read; nothing else is there.
        read(&kept, 0..5);
        read(&cache.entity(&small), 0..1);
    }
    let kept = store_all(&cache, &large);
    assert!(has_all(&kept));
    assert_eq!(cache.usage().unkept_bytes, 0);
}

#[test]
fn a_file_in_the_place_of_the_directory_keeps_nothing_until_it_is_gone() {
    let world = World::new();
    let content = world.dir().join("content");
    fs::write(&content, "mine").unwrap();
    let cache = world.open(1 << 30);
    let e = entity("e", 3 * B);
    let kept = store_all(&cache, &e);
    assert!(!kept.has(0) && kept.read(0..3).is_none());
    assert_eq!(cache.usage().unkept_bytes, 3 * B);
    assert_eq!(fs::read(&content).unwrap(), b"mine");
    fs::remove_file(&content).unwrap();
    assert!(has_all(&store_all(&cache, &e)));
}

/// Runs a test of this file in another process, with a small file system of its own in `dir`.
#[test]
fn a_full_or_read_only_disk_keeps_less_and_never_says_anything_wrong() {
    let world = World::new();
    let script = "mount -t tmpfs -o size=1m none \"$DIR\" && exec \"$TEST\" --ignored --exact --nocapture cache::tests::damage::on_a_small_disk";
    // The user's own namespace: root may do without, others may not mount elsewhere.
    let output = std::process::Command::new("unshare")
        .args(["--user", "--map-root-user", "--mount", "sh", "-c", script])
        .env("DIR", world.dir())
        .env("TEST", std::env::current_exe().unwrap())
        .output()
        .expect("this test needs unshare(1)");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && said.contains("1 passed"),
        "this test needs user and mount namespaces, and a disk that behaves: {said}{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
#[ignore = "runs on a file system that another test makes for it"]
fn on_a_small_disk() {
    let dir = PathBuf::from(std::env::var_os("DIR").unwrap());
    let cache = open(&dir, "site", 1 << 30);
    let filler = dir.join("filler");
    fs::write(&filler, vec![1; 400 << 10]).unwrap();
    let entities: Vec<_> = (0..30)
        .map(|at| entity(&format!("e{at}"), [5000, 2 * S][at % 2]))
        .collect();
    let kept: Vec<_> = entities
        .iter()
        .map(|entity| store_all(&cache, entity))
        .collect();
    let full = cache.usage();
    assert!(
        full.unkept_bytes > 0 && full.damaged_blocks == 0,
        "{full:?}"
    );
    assert!(
        full.disk_bytes >= du(&dir) - (400 << 10),
        "also what was half written counts"
    );
    let there = || {
        kept.iter()
            .filter(|kept| read(kept, 0..kept.entity().blocks()).is_some())
            .count()
    };
    let before = there();
    assert!(before > 4);
    let remount = |how: &str| {
        let mounted = std::process::Command::new("mount")
            .args(["-o", how])
            .arg(&dir)
            .status();
        assert!(mounted.unwrap().success());
    };
    fs::remove_file(&filler).unwrap();
    // What is open to write keeps a file system writable.
    drop((kept, cache));
    remount("remount,ro");
    let cache = open(&dir, "site", 1 << 30);
    let kept: Vec<_> = entities
        .iter()
        .map(|entity| store_all(&cache, entity))
        .collect();
    let there = || {
        kept.iter()
            .filter(|kept| read(kept, 0..kept.entity().blocks()).is_some())
            .count()
    };
    assert_eq!(there(), before, "what is there can be read");
    assert!(cache.usage().unkept_bytes > 0);
    remount("remount,rw");
    for kept in &kept {
        store_all(&cache, kept.entity());
    }
    assert!(there() > before, "it comes back by itself");
}
