use std::fs;
use std::ops::Range;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use bytes::Bytes;
use tempfile::TempDir;

use super::*;
use crate::entity::BLOCK_SIZE_BYTES;
use crate::model::EntityId;

mod damage;
mod limit;
mod shared;
mod whole;

const B: u64 = BLOCK_SIZE_BYTES;
/// Bytes in larger steps, for sizes that count beside a limit whatever a block is.
const S: u64 = 64 << 10;
const LONG: Duration = Duration::from_secs(60);

/// A directory, and caches over it.
struct World {
    temp: TempDir,
}

impl World {
    fn new() -> Self {
        Self {
            temp: tempfile::tempdir().unwrap(),
        }
    }

    fn dir(&self) -> &Path {
        self.temp.path()
    }

    fn open(&self, size_bytes: u64) -> Arc<Cache> {
        self.open_site("site", size_bytes)
    }

    fn open_site(&self, site: &str, size_bytes: u64) -> Arc<Cache> {
        open(self.dir(), site, size_bytes)
    }

    fn site_dir(&self) -> PathBuf {
        self.dir().join("content/site")
    }

    /// All files of the site.
    fn files(&self) -> Vec<PathBuf> {
        let Ok(entries) = fs::read_dir(self.site_dir()) else {
            return Vec::new();
        };
        let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
        files.sort();
        files
    }

    fn file(&self, extension: &str) -> PathBuf {
        let is = |path: &PathBuf| path.extension().is_some_and(|found| found == extension);
        self.files().into_iter().find(is).unwrap()
    }
}

fn options(dir: &Path, site: &str, size_bytes: u64) -> Options {
    Options {
        dir: dir.to_owned(),
        instance_id: site.to_owned(),
        size_bytes,
        waiting_bytes: 32 << 20,
    }
}

fn open(dir: &Path, site: &str, size_bytes: u64) -> Arc<Cache> {
    let tuning = Tuning {
        rest: Duration::ZERO,
        recheck: Duration::from_nanos(1),
    };
    Cache::open_tuned(options(dir, site, size_bytes), tuning)
}

fn entity(id: &str, size_bytes: u64) -> Arc<Entity> {
    Arc::new(Entity {
        id: EntityId(id.into()),
        size_bytes,
    })
}

/// The content of an entity: bytes that tell what and where they are.
fn content(entity: &Entity) -> Bytes {
    slice(entity, &(0..entity.blocks()))
}

fn slice(entity: &Entity, blocks: &Range<u64>) -> Bytes {
    let seed = entity
        .id
        .0
        .bytes()
        .fold(7_u64, |hash, byte| hash.wrapping_mul(31) + u64::from(byte));
    let range = entity.bytes_of(blocks);
    let mut bytes = Vec::with_capacity((range.end - range.start) as usize + 8);
    for word in range.start / 8..range.end.div_ceil(8) {
        let word = (word + seed).wrapping_mul(6_364_136_223_846_793_005);
        bytes.extend_from_slice(&(word ^ word >> 29).to_le_bytes());
    }
    bytes.truncate((range.end - range.start) as usize);
    bytes.into()
}

fn store(kept: &Kept, blocks: Range<u64>) {
    kept.store(blocks.start, slice(kept.entity(), &blocks));
}

fn store_all(cache: &Arc<Cache>, entity: &Arc<Entity>) -> Arc<Kept> {
    let kept = cache.entity(entity);
    store(&kept, 0..entity.blocks());
    assert!(cache.flush(LONG));
    kept
}

/// Reads as the mover does: what can be had at once, else from disk. Whatever comes is right, or the test fails.
fn read(kept: &Kept, blocks: Range<u64>) -> Option<Bytes> {
    let bytes = match kept.read_now(blocks.clone()) {
        Now::Here(bytes) => Some(bytes),
        Now::OnDisk => kept.read(blocks.clone()),
        Now::Missing => None,
    };
    if let Some(bytes) = &bytes {
        assert!(
            *bytes == slice(kept.entity(), &blocks),
            "wrong bytes in {blocks:?} of {}",
            kept.entity().id
        );
    }
    bytes
}

fn has_all(kept: &Kept) -> bool {
    (0..kept.entity().blocks())
        .all(|block| kept.has(block) && read(kept, block..block + 1).is_some())
}

/// Bytes on disk of everything below `dir`, as `du` counts them.
fn du(dir: &Path) -> u64 {
    let own = fs::symlink_metadata(dir).map_or(0, |found| found.blocks() * 512);
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let inside = entries.map(|entry| match entry.file_type() {
        Ok(kind) if kind.is_dir() => du(&entry.path()),
        _ => fs::symlink_metadata(entry.path()).map_or(0, |found| found.blocks() * 512),
    });
    own + inside.sum::<u64>()
}

/// Numbers without a pattern, the same for the same seed.
struct Dice(u64);

impl Dice {
    /// A new seed each time, which is printed for who wants to see it again.
    fn new() -> Self {
        let seed = std::env::var("SEED")
            .ok()
            .and_then(|seed| seed.parse().ok());
        let seed = seed.unwrap_or_else(|| getrandom::u64().unwrap());
        println!("SEED={seed}");
        Self(seed)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % end
    }
}

#[test]
fn what_is_stored_is_read_as_it_was_whatever_its_shape() {
    let world = World::new();
    let cache = world.open(1 << 30);
    for (at, size) in [1, 4095, 4096, B - 1, B, B + 1, 3 * B, 3 * B + 5, 40 * B + 1]
        .into_iter()
        .enumerate()
    {
        let entity = entity(&format!("e{at}"), size);
        let kept = store_all(&cache, &entity);
        assert!(has_all(&kept), "{size}");
        assert_eq!(kept.bytes(), size);
        assert!(read(&kept, 0..entity.blocks()).is_some());
        assert!(!kept.has(entity.blocks()));
        assert!(matches!(
            kept.read_now(0..entity.blocks() + 1),
            Now::Missing
        ));
    }
    assert_eq!(cache.usage().damaged_blocks, 0);
    assert_eq!(cache.usage().unkept_bytes, 0);
}

#[test]
fn blocks_come_in_any_order_and_only_those_that_came_are_there() {
    let world = World::new();
    let cache = world.open(1 << 30);
    let entity = entity("e", 600 * B + 3);
    let kept = cache.entity(&entity);
    assert!(!kept.has(0) && kept.bytes() == 0);
    for blocks in [500..503, 600..601, 2..3, 3..4, 447..449] {
        store(&kept, blocks);
    }
    assert!(cache.flush(LONG));
    let there: Vec<u64> = (0..601).filter(|block| kept.has(*block)).collect();
    assert_eq!(there, [2, 3, 447, 448, 500, 501, 502, 600]);
    for blocks in [500..503, 600..601, 2..4, 447..449] {
        assert!(read(&kept, blocks).is_some());
    }
    assert!(read(&kept, 1..3).is_none());
    assert!(read(&kept, 499..501).is_none());
    assert_eq!(kept.bytes(), 7 * B + 3);
}

#[test]
fn what_a_mount_stores_and_drops_itself_it_knows_at_once() {
    let world = World::new();
    let options = Options {
        dir: world.dir().to_owned(),
        instance_id: "site".to_owned(),
        size_bytes: 1 << 20,
        waiting_bytes: 32 << 20,
    };
    // Nothing is looked for again because time went by.
    let tuning = Tuning {
        rest: Duration::ZERO,
        recheck: LONG,
    };
    let cache = Cache::open_tuned(options, tuning);
    let kept = cache.entity(&entity("e", 20 * B));
    let known = || (0..20).filter(|block| kept.has(*block)).count() as u64;
    assert_eq!(known(), 0);
    for end in [4, 9, 20] {
        store(&kept, 0..end);
        assert!(cache.flush(LONG));
        assert_eq!(known(), end);
    }
    for at in 0..40 {
        store_all(&cache, &entity(&format!("other{at}"), S));
        assert_eq!(known() * B, kept.bytes(), "with {at} others");
    }
    assert_eq!(known(), 0, "all of it left, in parts");
}

#[test]
fn what_is_kept_outlives_the_mount() {
    let world = World::new();
    let (small, large) = (entity("s", 100), entity("l", 5 * B));
    {
        let cache = world.open(1 << 30);
        store_all(&cache, &small);
        store(&cache.entity(&large), 1..4);
    }
    let cache = world.open(1 << 30);
    let kept = cache.entity(&large);
    assert!(
        read(&kept, 1..4).is_some(),
        "also before anybody has looked at what is there"
    );
    assert!(cache.flush(LONG));
    assert!(has_all(&cache.entity(&small)));
    assert_eq!(
        (0..5).map(|block| kept.has(block)).collect::<Vec<_>>(),
        [false, true, true, true, false]
    );
}

#[test]
fn an_entity_of_another_size_or_site_is_another() {
    let world = World::new();
    let cache = world.open(1 << 30);
    store_all(&cache, &entity("e", 3 * B));
    assert!(!cache.entity(&entity("e", 3 * B - 1)).has(0));
    let other = world.open_site("other", 1 << 30);
    assert!(!other.entity(&entity("e", 3 * B)).has(0));
    assert!(has_all(&cache.entity(&entity("e", 3 * B))));
}

#[test]
fn who_holds_the_same_entity_holds_the_same() {
    let world = World::new();
    let cache = world.open(1 << 30);
    let a = cache.entity(&entity("e", 2 * B));
    let b = cache.entity(&entity("e", 2 * B));
    assert!(Arc::ptr_eq(&a, &b));
    drop((a, b));
    for _ in 0..1000 {
        cache.entity(&entity("e", 2 * B));
    }
    assert_eq!(cache.shared.as_ref().unwrap().held.lock().unwrap().len(), 0);
}

#[test]
fn a_cache_that_is_off_keeps_nothing_and_makes_nothing() {
    let world = World::new();
    for cache in [Cache::off(), world.open(0)] {
        let kept = store_all(&cache, &entity("e", 2 * B));
        assert!(!kept.has(0) && kept.read(0..1).is_none() && kept.whole().is_none());
        assert_eq!(cache.usage(), Usage::default());
    }
    assert_eq!(fs::read_dir(world.dir()).unwrap().count(), 0);
}

#[test]
fn only_the_owner_may_look() {
    let world = World::new();
    let cache = world.open(1 << 30);
    store_all(&cache, &entity("e", 2 * B));
    store_all(&cache, &entity("s", 2));
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&world.dir().join("content")), 0o700);
    assert_eq!(mode(&world.site_dir()), 0o700);
    assert_eq!(mode(&world.dir().join("content/usage")), 0o600);
    assert_eq!(world.files().len(), 3);
    for file in world.files() {
        assert_eq!(mode(&file), 0o600);
    }
}

#[test]
fn a_newer_format_is_left_alone() {
    let world = World::new();
    let e = entity("e", 2 * B);
    store_all(&world.open(1 << 30), &e);
    let usage = world.dir().join("content/usage");
    let mut bytes = fs::read(&usage).unwrap();
    bytes[8] = 2;
    let sum = xxhash_rust::xxh3::xxh3_64(&bytes[..16]);
    bytes[16..24].copy_from_slice(&sum.to_le_bytes());
    fs::write(&usage, &bytes).unwrap();
    let cache = world.open(1 << 30);
    let kept = store_all(&cache, &e);
    assert!(!kept.has(0));
    for refused in [
        clear(world.dir()).map(|_| ()),
        show(world.dir()).map(|_| ()),
    ] {
        assert_eq!(refused.unwrap_err().kind(), io::ErrorKind::Unsupported);
    }
    assert_eq!(fs::read(&usage).unwrap(), bytes);
    assert_eq!(world.files().len(), 2);
}

#[test]
fn a_hundred_thousand_opens_leave_nothing_open() {
    let world = World::new();
    let cache = world.open(1 << 30);
    store_all(&cache, &entity("e1", 2 * B));
    let open_files = || fs::read_dir("/proc/self/fd").unwrap().count();
    let before = open_files();
    for at in 0..10_000 {
        let kept = cache.entity(&entity(&format!("e{}", at % 100), 2 * B));
        assert_eq!(kept.has(0), at % 100 == 1);
    }
    // Other tests of this process open files, too.
    assert!(open_files() < before + 100);
}

#[test]
fn with_thousands_open_files_are_opened_for_each_read() {
    let handles = Handles::new(2);
    let rights = [handles.right(), handles.right()];
    assert!(rights.iter().all(Option::is_some) && handles.right().is_none());
    drop(rights);
    assert!(handles.right().is_some());
}
