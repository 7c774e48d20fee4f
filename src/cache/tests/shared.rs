use super::*;

#[test]
fn two_mounts_see_what_the_other_keeps_and_survive_what_it_drops() {
    let world = World::new();
    let (a, b) = (world.open(1 << 20), world.open(1 << 20));
    assert!(a.flush(LONG) && b.flush(LONG));
    for size in [100, 5 * B] {
        let e = entity("e", size);
        let missing = b.entity(&e);
        assert!(!missing.has(0));
        store_all(&a, &e);
        assert!(
            has_all(&missing),
            "{size}: what was missed is looked for again"
        );
        store_all(&b, &e);
    }
    let e = b.entity(&entity("e", 5 * B));
    for at in 0..40 {
        store_all(&a, &entity(&format!("other{at}"), 2 * S));
    }
    assert!(!(0..5).any(|block| read(&e, block..block + 1).is_some()));
    assert_eq!(
        b.usage().damaged_blocks,
        0,
        "it was taken away, not damaged"
    );
}

#[test]
fn a_mount_that_dies_hinders_nobody() {
    let world = World::new();
    let dead = world.open(1 << 20);
    store_all(&dead, &entity("e", 5 * B));
    std::mem::forget(dead);
    let cache = world.open(1 << 20);
    assert!(has_all(&cache.entity(&entity("e", 5 * B))));
    for at in 0..40 {
        store_all(&cache, &entity(&format!("other{at}"), 2 * S));
    }
    assert!(has_all(&cache.entity(&entity("other39", 2 * S))));
    assert!(du(world.dir()) <= 1 << 20);
}

#[test]
fn a_mount_that_is_killed_while_it_writes_leaves_right_bytes_and_no_more_than_the_limit() {
    let world = World::new();
    let limit = 1 << 20;
    for round in 0..4 {
        let mut child = std::process::Command::new(std::env::current_exe().unwrap())
            .args([
                "--ignored",
                "--exact",
                "cache::tests::shared::write_until_killed",
            ])
            .env("DIR", world.dir())
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        let until = Instant::now() + LONG;
        while du(world.dir()) < limit / 2 + round * 90_000 {
            assert!(Instant::now() < until && child.try_wait().unwrap().is_none());
            std::thread::yield_now();
        }
        child.kill().unwrap();
        child.wait().unwrap();
        let cache = world.open(limit);
        for at in 0..100 {
            for size in [3000, 7 * S] {
                let e = entity(&format!("e{at}"), size);
                let kept = cache.entity(&e);
                for block in 0..e.blocks() {
                    read(&kept, block..block + 1);
                }
            }
        }
        store_all(&cache, &entity("mine", 3 * S));
        assert!(du(world.dir()) <= limit);
        assert!(
            cache.usage().damaged_blocks <= 1,
            "what it was just writing"
        );
        assert!(has_all(&cache.entity(&entity("mine", 3 * S))));
    }
}

#[test]
#[ignore = "runs until another test kills it"]
fn write_until_killed() {
    let dir = PathBuf::from(std::env::var_os("DIR").unwrap());
    let cache = open(&dir, "site", 1 << 20);
    for at in (0..100).cycle() {
        store_all(&cache, &entity(&format!("e{at}"), 3000));
        store_all(&cache, &entity(&format!("e{at}"), 7 * S));
    }
}

#[test]
fn clearing_empties_the_cache_under_a_mount_that_goes_on() {
    let world = World::new();
    let cache = world.open(1 << 30);
    let (large, small) = (entity("l", 5 * B), entity("s", 100));
    let kept = store_all(&cache, &large);
    store_all(&cache, &small);
    let shown = show(world.dir()).unwrap();
    assert_eq!(shown.sites.len(), 1);
    let site = &shown.sites[0];
    assert_eq!(
        (site.site.as_str(), site.entities, site.complete),
        ("site", 2, 2)
    );
    assert!(site.oldest_use.is_some() && site.newest_use >= site.oldest_use);
    assert!(site.bytes > 5 * B && shown.disk_bytes > site.bytes);

    let cleared = clear(world.dir()).unwrap();
    assert_eq!((cleared.entities, cleared.in_use), (2, 0));
    assert!(cleared.bytes > 5 * B);
    assert_eq!(show(world.dir()).unwrap().sites, []);
    read(&kept, 0..5);
    assert!(!cache.entity(&small).has(0) || read(&cache.entity(&small), 0..1).is_none());
    let kept = store_all(&cache, &large);
    store_all(&cache, &small);
    assert!(has_all(&kept) && has_all(&cache.entity(&small)));
    assert_eq!(clear(world.dir()).unwrap().entities, 2);
}

#[test]
fn who_reads_on_after_a_clear_finds_what_is_kept_from_then_on() {
    let world = World::new();
    let (cache, other) = (world.open(1 << 30), world.open(1 << 30));
    let e = entity("e", 6 * B);
    let kept = cache.entity(&e);
    store(&kept, 0..2);
    assert!(cache.flush(LONG) && read(&kept, 0..2).is_some());
    clear(world.dir()).unwrap();
    store(&kept, 2..4);
    assert!(cache.flush(LONG));
    // What is open may be found out by one read in vain.
    assert!(read(&kept, 2..4).is_some() || read(&kept, 2..4).is_some());
    clear(world.dir()).unwrap();
    let by_other = other.entity(&e);
    store(&by_other, 0..6);
    assert!(other.flush(LONG));
    // What was missed is fetched, and kept.
    store(&kept, 0..1);
    assert!(cache.flush(LONG));
    assert!(read(&kept, 4..6).is_some() || read(&kept, 4..6).is_some());
    assert!(has_all(&kept));
    assert_eq!(cache.usage().damaged_blocks, 0);
}

#[test]
fn how_much_is_kept_is_told_right_also_after_a_clear() {
    let world = World::new();
    let cache = world.open(1 << 30);
    let e = entity("e", 6 * B);
    let kept = store_all(&cache, &e);
    assert!(read(&kept, 0..6).is_some() && kept.bytes() == 6 * B);
    clear(world.dir()).unwrap();
    assert_eq!(kept.bytes(), 0);
    store(&kept, 0..2);
    assert!(cache.flush(LONG));
    assert_eq!(kept.bytes(), 2 * B);
}

#[test]
fn clearing_where_there_is_nothing_is_no_error() {
    let world = World::new();
    assert_eq!(clear(world.dir()).unwrap(), Cleared::default());
    assert_eq!(
        clear(&world.dir().join("missing")).unwrap(),
        Cleared::default()
    );
    assert_eq!(show(world.dir()).unwrap(), Shown::default());
    fs::create_dir_all(world.dir().join("content/letters")).unwrap();
    assert_eq!(clear(world.dir()).unwrap(), Cleared::default());
    assert!(world.dir().join("content/letters").exists());
}
