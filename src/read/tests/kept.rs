//! Reading what the disk keeps, and what it was thought to keep.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::*;
use crate::cache;

const LONG: Duration = Duration::from_secs(60);
const SIZE: u64 = 8 * M + 5;

/// A directory for content, with the cache of a mount over it, and what that reads from.
struct Mount {
    dir: TempDir,
    cache: Arc<Cache>,
    world: Arc<World>,
}

fn cache_of(dir: &Path, size_bytes: u64) -> Arc<Cache> {
    Cache::open(cache::Options {
        dir: dir.to_owned(),
        instance_id: "site".to_owned(),
        size_bytes,
        waiting_bytes: 32 << 20,
    })
}

impl Mount {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self {
            cache: cache_of(dir.path(), 1 << 30),
            dir,
            world: Arc::new(World::new()),
        }
    }

    /// With no bytes in memory yet.
    fn reader(&self) -> Arc<Reader> {
        self.world.reader_over(&self.cache, 64 * M, TIMEOUT)
    }

    /// With all of a file of `size` bytes on the disk.
    async fn with_all_kept(size: u64) -> Self {
        let mount = Self::new();
        check_all(&open(&mount.reader(), size), 128 * K).await;
        assert!(mount.cache.flush(LONG));
        assert_eq!(mount.cache.entity(&entity(size)).bytes(), size);
        mount
    }

    /// Another mount has less room: what is more than that leaves.
    fn shrink_to(&self, size_bytes: u64) {
        assert!(cache_of(self.dir.path(), size_bytes).flush(LONG));
    }

    fn files(&self) -> Vec<PathBuf> {
        files(self.dir.path())
    }

    fn file(&self, extension: &str) -> PathBuf {
        let is = |path: &PathBuf| path.extension().is_some_and(|found| found == extension);
        self.files().into_iter().find(is).unwrap()
    }
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let site = fs::read_dir(dir.join("content/site"));
    let files = site.into_iter().flatten().flatten();
    files.map(|file| file.path()).collect()
}

fn entity(size_bytes: u64) -> Arc<Entity> {
    Arc::new(Entity {
        id: EntityId("e".into()),
        size_bytes,
    })
}

#[tokio::test(start_paused = true)]
async fn what_is_on_disk_is_read_without_a_request() {
    for size in [1000, SIZE] {
        let mount = Mount::with_all_kept(size).await;
        // As after a start of the machine.
        chill(&mount.files());
        let asked = (mount.world.signed(), mount.world.requests().len());
        let reader = mount.reader();
        check_all(&open(&reader, size), 100_000).await;
        let stats = reader.stats();
        assert_eq!((stats.disk_bytes, stats.fetched_bytes), (size, 0));
        assert_eq!((mount.world.signed(), mount.world.requests().len()), asked);
    }
}

#[tokio::test(start_paused = true)]
async fn one_read_takes_from_memory_disk_and_network_what_each_has() {
    let mount = Mount::new();
    let kept = mount.cache.entity(&entity(12 * B));
    kept.store(2, bytes(2 * B..4 * B));
    assert!(mount.cache.flush(LONG));
    let reader = mount.reader();
    let stream = open(&reader, 12 * B);
    check(&stream, 6 * B, 2 * B).await;
    check(&stream, 0, 12 * B).await;
    let Stats {
        memory_bytes,
        disk_bytes,
        network_bytes,
        ..
    } = reader.stats();
    assert_eq!((memory_bytes, disk_bytes), (2 * B, 2 * B));
    assert_eq!(network_bytes, 2 * B + 8 * B);
    assert_eq!(mount.world.requested_bytes(), 10 * B);
}

#[tokio::test(start_paused = true)]
async fn a_file_of_which_a_part_left_the_disk_is_read_right_and_that_part_alone_is_fetched() {
    let mount = Mount::with_all_kept(SIZE).await;
    let reader = mount.reader();
    let stream = open(&reader, SIZE);
    // So that memory knows of all blocks that they are kept.
    check(&stream, 0, 128 * K).await;
    mount.shrink_to(4 * M);
    let left = mount.cache.entity(&entity(SIZE)).bytes();
    assert!(left > M && left < 4 * M, "{left}");
    let before = mount.world.requests().len();
    check_all(&stream, 128 * K).await;
    let fetched = reader.stats().fetched_bytes;
    assert!(fetched <= SIZE - left + M, "{fetched} with {left} left");
    let requests = mount.world.requests().len() - before;
    assert!(requests <= 24, "{requests} requests");
    assert_eq!(mount.cache.usage().damaged_blocks, 0);
    let stats = reader.stats();
    let sum = stats.memory_bytes + stats.disk_bytes + stats.network_bytes;
    assert_eq!(sum, stats.asked_bytes, "each byte came from one place");
}

#[tokio::test(start_paused = true)]
async fn what_is_damaged_on_disk_is_fetched_counted_and_kept_again() {
    for (size, extension) in [(1000, "small"), (SIZE, "data")] {
        let mount = Mount::with_all_kept(size).await;
        let file = fs::File::options().write(true).open(mount.file(extension));
        file.unwrap().write_all_at(b"damage", 500).unwrap();
        check_all(&open(&mount.reader(), size), 128 * K).await;
        assert!(mount.cache.flush(LONG));
        assert_eq!(mount.cache.usage().damaged_blocks, 1);
        let reader = mount.reader();
        check_all(&open(&reader, size), 128 * K).await;
        assert_eq!(reader.stats().disk_bytes, size, "it is whole again");
    }
}

#[tokio::test(start_paused = true)]
async fn what_the_disk_turns_out_to_lack_is_asked_for_beside_what_is_on_its_way() {
    let mount = Mount::new();
    mount
        .cache
        .entity(&entity(8 * B))
        .store(4, bytes(4 * B..8 * B));
    assert!(mount.cache.flush(LONG));
    let data = fs::File::options().write(true).open(mount.file("data"));
    data.unwrap().write_all_at(b"damage", 5 * B).unwrap();
    let begun = Instant::now();
    check(&open(&mount.reader(), 8 * B), 0, 8 * B).await;
    // A URL, and content.
    assert!(begun.elapsed() <= 2 * LATENCY, "{:?}", begun.elapsed());
    assert_eq!(mount.world.requests(), [0..4 * B, 4 * B..8 * B]);
}

/// Flips a bit of one of `files`.
fn damage(files: &[PathBuf], seed: &mut u64) {
    let Some(path) = files.get(random(seed, files.len().max(1) as u64) as usize) else {
        return;
    };
    // It may leave at any time.
    let Ok(file) = fs::File::options().read(true).write(true).open(path) else {
        return;
    };
    let len = file.metadata().map_or(0, |found| found.len());
    let at = random(seed, len.max(1));
    let mut byte = [0];
    if file.read_exact_at(&mut byte, at).is_ok() {
        file.write_all_at(&[byte[0] ^ 16], at).unwrap();
    }
}

/// Somebody who empties, shrinks and damages a cache, until this is dropped.
struct Vandal(Arc<AtomicBool>, Option<std::thread::JoinHandle<()>>);

impl Vandal {
    fn on(mount: &Mount) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, dir) = (Arc::clone(&stop), mount.dir.path().to_owned());
        let thread = std::thread::spawn(move || {
            let mut seed = 9;
            while !stopped.load(Ordering::Relaxed) {
                match random(&mut seed, 12) {
                    0 => drop(cache::clear(&dir)),
                    1 => drop(cache_of(&dir, 4 * M)),
                    _ => damage(&files(&dir), &mut seed),
                }
            }
        });
        Self(stop, Some(thread))
    }
}

impl Drop for Vandal {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
        if let Some(thread) = self.1.take() {
            thread.join().unwrap();
        }
    }
}

#[tokio::test(start_paused = true)]
async fn whoever_empties_shrinks_and_damages_the_cache_readers_get_right_bytes() {
    let mount = Mount::with_all_kept(SIZE).await;
    let _vandal = Vandal::on(&mount);
    let mut seed = 5;
    for _ in 0..40 {
        // Little memory, so that the disk is asked.
        let reader = mount.world.reader_over(&mount.cache, 40 * B, TIMEOUT);
        let [one, two] = [open(&reader, SIZE), open(&reader, SIZE)];
        let small = open(&reader, 900);
        for _ in 0..10 {
            let (here, there) = (random(&mut seed, SIZE), random(&mut seed, SIZE));
            tokio::join!(
                check(&one, here, 300_000),
                check(&two, there, 5000),
                check(&small, there % 900, 100),
            );
        }
    }
}

/// Has the kernel forget what it holds of `files`, where it does that.
fn chill(files: &[PathBuf]) {
    for path in files {
        let file = fs::File::open(path).unwrap();
        file.sync_all().unwrap();
        rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).unwrap();
    }
}

#[test]
fn a_disk_that_does_not_answer_is_not_waited_for_long_and_then_left_alone() {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    // One thread waits for the disk, and something else has it: the disk does not answer.
    let runtime = runtime.enable_all().max_blocking_threads(1).build();
    let runtime = runtime.unwrap();
    let (answer, hanging) = std::sync::mpsc::channel::<()>();
    runtime.block_on(async {
        let mount = Mount::with_all_kept(SIZE).await;
        let before = mount.world.requests().len();
        chill(&mount.files());
        let timeout = Duration::from_millis(900);
        let reader = mount.world.reader_over(&mount.cache, 64 * M, timeout);
        drop(tokio::task::spawn_blocking(move || hanging.recv()));
        let stream = open(&reader, SIZE);
        let begun = Instant::now();
        check(&stream, 4 * M, 4096).await;
        assert!(begun.elapsed() < timeout, "{:?}", begun.elapsed());
        if mount.world.requests().len() == before {
            // A file system in memory has nothing to wait for.
            return;
        }
        // What the disk did not say, it is not asked again.
        check_all(&stream, 128 * K).await;
        assert_eq!(reader.stats().disk_bytes, 0);
    });
    drop(answer);
}

/// What is read of a file of `size` bytes.
fn source(size: u64) -> Source {
    let reader = Mount::new().reader();
    open(&reader, size).source.clone()
}

#[tokio::test(start_paused = true)]
async fn what_is_to_be_kept_is_fetched_as_far_as_the_disk_lacks_it() {
    for size in [0, 1000, SIZE] {
        let mount = Mount::new();
        let here = size.min(2 * B);
        if here > 0 {
            mount.cache.entity(&entity(size)).store(0, bytes(0..here));
            assert!(mount.cache.flush(LONG));
        }
        let reader = mount.reader();
        let came = AtomicU64::new(0);
        let count = |bytes| {
            came.fetch_add(bytes, Ordering::Relaxed);
        };
        reader.keep(&source(size), &count).await.unwrap();
        assert_eq!(came.load(Ordering::Relaxed), size - here);
        assert_eq!(reader.stats().fetched_bytes, size - here);
        assert_eq!(reader.bytes_here(&entity(size)).await, size);
        assert_eq!(reader.memory_bytes(), 0, "nobody reads it");
        check_all(&open(&mount.reader(), size), 100_000).await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_fetched_to_be_kept_is_an_error_and_what_came_stays() {
    let mut mount = Mount::new();
    let faults = std::iter::repeat_n(Mishap::Refuse(Error::EntityGone), 100);
    mount.world = World::with_faults(faults);
    let kept = mount.reader().keep(&source(SIZE), &|_| ()).await;
    assert!(
        matches!(kept, Err(NotKept::Fetch(Error::EntityGone))),
        "{kept:?}"
    );
    let nowhere = mount.world.reader_over(&Cache::off(), 64 * M, TIMEOUT);
    mount.world.faults.lock().unwrap().clear();
    let kept = nowhere.keep(&source(1000), &|_| ()).await;
    assert!(matches!(kept, Err(NotKept::Disk)), "{kept:?}");
}
