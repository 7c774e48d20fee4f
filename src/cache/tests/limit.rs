use super::*;

/// The most that `du` ever saw below `dir`, every 10 ms or faster, until `stop`.
fn watch(dir: PathBuf, stop: Arc<AtomicBool>) -> std::thread::JoinHandle<u64> {
    std::thread::spawn(move || {
        let mut most = 0;
        while !stop.load(Ordering::Relaxed) {
            most = most.max(du(&dir));
            std::thread::sleep(Duration::from_millis(2));
        }
        most.max(du(&dir))
    })
}

#[test]
fn the_limit_is_never_exceeded_also_by_several_who_write_what_they_hold_open() {
    for limit in [64 << 10, 300 << 10, 1 << 20, 16 << 20] {
        let mut dice = Dice::new();
        let world = World::new();
        let stop = Arc::new(AtomicBool::new(false));
        let watched = watch(world.dir().to_owned(), Arc::clone(&stop));
        let caches = [
            world.open(limit),
            world.open(limit),
            world.open_site("other", limit),
        ];
        let held: Vec<Vec<_>> = caches
            .iter()
            .map(|cache| {
                let entities =
                    (0..12).map(|at| entity(&format!("e{at}"), [100, 9000, 5 * S, 90 * S][at % 4]));
                entities.map(|entity| cache.entity(&entity)).collect()
            })
            .collect();
        for _ in 0..600 {
            let cache = dice.below(3) as usize;
            let kept = &held[cache][dice.below(12) as usize];
            let first = dice.below(kept.entity().blocks());
            let end = (first + 1 + dice.below(4)).min(kept.entity().blocks());
            store(kept, first..end);
            read(kept, first..end);
            if dice.below(20) == 0 {
                assert!(caches[cache].flush(LONG));
            }
        }
        for cache in &caches {
            assert!(cache.flush(LONG));
        }
        stop.store(true, Ordering::Relaxed);
        // Who watches may have been kept from looking when most was there.
        let most = watched.join().unwrap().max(du(world.dir()));
        assert!(most <= limit + B, "{most} of {limit}");
        if (300 << 10..=1 << 20).contains(&limit) {
            // By chance it is hardly ever full: what counts is that it is not kept by keeping nothing.
            assert!(most > limit / 16, "it is used: {most} of {limit}");
        }
        assert_eq!(
            caches[0].usage().damaged_blocks,
            0,
            "what leaves is not damaged"
        );
    }
}

/// What is written from here on is younger than what was written before, by the clock of the disk, which stands for some
/// milliseconds at a time.
fn let_clock_of_files_go_on(dir: &Path) {
    let path = dir.with_extension("clock");
    let now = || {
        fs::write(&path, "x").unwrap();
        fs::metadata(&path).unwrap().modified().unwrap()
    };
    let before = now();
    while now() == before {
        std::thread::yield_now();
    }
    fs::remove_file(&path).unwrap();
}

#[test]
fn what_is_more_than_a_new_limit_leaves_at_the_start() {
    let world = World::new();
    {
        let cache = world.open(1 << 30);
        for at in 0..40 {
            if at == 38 {
                // What is written behind our back is older, too.
                assert!(cache.flush(LONG));
                let_clock_of_files_go_on(world.dir());
            }
            store_all(
                &cache,
                &entity(&format!("e{at}"), if at % 2 == 0 { 4 * S } else { 1000 }),
            );
        }
    }
    assert!(du(world.dir()) > 3 << 20);
    let cache = world.open(1 << 20);
    assert!(cache.flush(LONG));
    assert!(du(world.dir()) <= 1 << 20);
    assert!(cache.usage().disk_bytes <= 1 << 20);
    assert!(
        has_all(&cache.entity(&entity("e38", 4 * S))),
        "what was used last stays"
    );
}

#[test]
fn what_is_counted_is_what_is_there() {
    let mut dice = Dice::new();
    let world = World::new();
    let cache = world.open(4 << 20);
    for _ in 0..300 {
        let at = dice.below(50);
        store_all(
            &cache,
            &entity(&format!("e{at}"), [700, 3 * S, 17 * S][at as usize % 3]),
        );
    }
    let real = du(world.dir());
    let counted = cache.usage().disk_bytes;
    assert!(counted >= real - (16 << 10), "{counted} of {real}");
    // Data that is spread over the disk needs blocks that name the stretches: they are counted before they exist.
    let entities = world.files().len() as u64;
    assert!(counted <= real + entities * 4096, "{counted} of {real}");
    drop(cache);
    let again = world.open(4 << 20);
    assert!(again.flush(LONG));
    assert_eq!(again.usage().disk_bytes, counted);
}

#[test]
fn a_reader_who_comes_back_to_it_finds_it_and_a_long_scan_passes_by() {
    let world = World::new();
    let cache = world.open(4 << 20);
    let hot: Vec<_> = (0..8)
        .map(|at| entity(&format!("hot{at}"), 3 * S))
        .collect();
    for entity in &hot {
        store_all(&cache, entity);
    }
    // A program that was there before found them worth keeping.
    for file in world.files() {
        if file.extension().unwrap() == "index" {
            let file = fs::File::options().write(true).open(&file).unwrap();
            let proven = std::time::UNIX_EPOCH + Duration::from_secs(1);
            file.set_times(fs::FileTimes::new().set_accessed(proven))
                .unwrap();
        }
    }
    drop(cache);
    let cache = world.open(4 << 20);
    let scan = entity("scan", 40 << 20);
    let kept = cache.entity(&scan);
    for first in (0..scan.blocks()).step_by(8) {
        store(&kept, first..(first + 8).min(scan.blocks()));
        assert!(cache.flush(LONG));
    }
    for entity in &hot {
        assert!(has_all(&cache.entity(entity)));
    }
    assert!(kept.bytes() > 0 && kept.bytes() < 4 << 20);
}

#[test]
fn counting_does_not_touch_what_others_put_there() {
    let world = World::new();
    fs::create_dir_all(world.site_dir()).unwrap();
    let others = [
        world.dir().join("metadata.db"),
        world.dir().join("content/notes.txt"),
        world.site_dir().join("0123456789abcdef.txt"),
        world.site_dir().join("thesis.data"),
    ];
    for other in &others {
        fs::write(other, "not ours").unwrap();
    }
    let orphan = world.site_dir().join("0123456789abcdef.data");
    fs::write(&orphan, "half of an entity").unwrap();
    let cache = world.open(1 << 20);
    for at in 0..60 {
        store_all(&cache, &entity(&format!("e{at}"), 2 * S));
    }
    assert!(!orphan.exists());
    clear(world.dir()).unwrap();
    for other in &others {
        assert_eq!(fs::read(other).unwrap(), b"not ours");
    }
}
