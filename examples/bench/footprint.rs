//! What the daemon takes: memory, disk, and time to be there. Nobody else does the same work, so there is no referee.

use std::collections::HashSet;
use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use cloudreve_fuse::entity::BLOCK_SIZE_BYTES;

use crate::aim::Aim;
use crate::mounted::Mounted;
use crate::reading::{at_once, complete, listed, mib, put_folder, read};
use crate::table::{Row, Series, Unit, few_rounds, rounds};
use crate::world::{ROUND_TRIP, World, timed};
use crate::{Outcome, interrupt};

const STREAMS: u64 = 4;
const STREAM_BYTES: u64 = 128 << 20;

/// Quiet after the mount answers, before it counts as idle.
const REST: Duration = Duration::from_millis(500);

/// Many readers of as many files.
const READERS: u64 = 64;
const READER_BYTES: u64 = 4 << 20;

/// Files that are opened again and again, and how often before and after the memory is looked at.
const OPENED: u64 = 1000;
const OPENED_BEFORE: u64 = 10;
const OPENED_AFTER: u64 = 100;

/// A disk cache far smaller than what is read, and how often it is measured.
const CACHE_LIMIT: (&str, u64) = ("64M", 64 << 20);
const LOOK: Duration = Duration::from_millis(10);

/// Resident memory of a fresh mount after it was looked at, and its peak once four readers were done.
pub(crate) fn memory(world: &World) -> Outcome<Vec<Row>> {
    put_streams(world);
    let (mut idle, mut busy) = (Series::default(), Series::default());
    let mut after = Series::default();
    for round in rounds() {
        interrupt::check()?;
        let mount = world.mount()?;
        std::fs::read_dir(mount.path(""))?.count();
        std::thread::sleep(REST);
        idle.note(round, mount.memory_mib("VmRSS")?);
        read_streams(&mount)?;
        busy.note(round, mount.memory_mib("VmHWM")?);
        after.note(round, mount.memory_mib("VmRSS")?);
    }
    let measured = "RSS, peak with four streams of 128 MiB";
    let streams = Row::alone(measured, Unit::Mib, busy)
        .aim(Aim::at_most(200.0).goal(150.0))
        .besides(format!("{after} MiB just after it"));
    let idle = Row::alone("RSS, idle", Unit::Mib, idle).aim(Aim::at_most(30.0).goal(20.0));
    Ok(vec![idle, streams])
}

/// The peak with many readers, whose requests take a round trip, so that what is on its way piles up.
pub(crate) fn many_readers(world: &World) -> Outcome<Vec<Row>> {
    for number in 0..READERS {
        world
            .server
            .put_generated(&stream(number), READER_BYTES, number);
    }
    let mut peak = Series::default();
    for round in few_rounds() {
        interrupt::check()?;
        world.server.set_latency(Duration::ZERO);
        let mount = world.mount()?;
        listed(&mount, "")?;
        world.server.set_latency(ROUND_TRIP);
        at_once(READERS, |number| {
            complete(read(&mount.path(stream(number)))?, READER_BYTES)
        })?;
        peak.note(round, mount.memory_mib("VmHWM")?);
    }
    let measured = "RSS, peak with 64 readers of 64 files, 50 ms";
    // As with four: the memory for content is one, however many share it.
    let row = Row::alone(measured, Unit::Mib, peak).aim(Aim::at_most(200.0));
    Ok(vec![row])
}

/// What a hundred thousand opens leave behind.
pub(crate) fn opens(world: &World) -> Outcome<Vec<Row>> {
    put_folder(&world.server, "opened".to_owned(), OPENED, 100);
    let mount = world.mount_that_remembers()?;
    let paths = listed(&mount, "opened")?;
    let open_all = |times| {
        (0..times).try_for_each(|_| {
            interrupt::check()?;
            Ok(paths
                .iter()
                .try_for_each(|path| File::open(path).map(drop))?)
        })
    };
    open_all(OPENED_BEFORE)?;
    std::thread::sleep(REST);
    let before = mount.memory_mib("VmRSS")?;
    let (seconds, ()) = timed(|| open_all(OPENED_AFTER))?;
    std::thread::sleep(REST);
    let after = mount.memory_mib("VmRSS")?;
    let each = 1e6 * seconds / (OPENED * OPENED_AFTER) as f64;
    let row = Row::alone(
        "RSS, growth by 100,000 opens and closes of 1,000 files",
        Unit::Mib,
        Series::of_all(after - before),
    );
    let besides = format!("from {before:.1} to {after:.1} MiB; {each:.0} µs each");
    // Ten bytes for each open: less than anything that could be forgotten.
    Ok(vec![row.aim(Aim::at_most(1.0)).besides(besides)])
}

/// How far the disk cache goes over its limit, while four readers bring more than it may hold.
pub(crate) fn cache_size(world: &World) -> Outcome<Vec<Row>> {
    put_streams(world);
    let (text, limit) = CACHE_LIMIT;
    let (mut over, mut most) = (Series::default(), Series::default());
    let (mut looks, mut folders) = (0, 0);
    for round in few_rounds() {
        interrupt::check()?;
        let mount = world.mount_with(&["--cache-size", text])?;
        let seen = while_watched(&mount, || read_streams(&mount))?;
        over.note(round, (mib(seen.bytes) - mib(limit)).max(0.0));
        most.note(round, mib(seen.bytes));
        looks += seen.looks;
        folders = folders.max(seen.folder_bytes);
    }
    let allowed = mib(STREAMS * BLOCK_SIZE_BYTES);
    let measured = "disk cache over --cache-size 64M, every 10 ms, four streams";
    let besides = format!(
        "at most {most} MiB in files, in {looks} looks; folders {:.2} MiB more",
        mib(folders)
    );
    let row = Row::alone(measured, Unit::Mib, over).aim(Aim::never_above(allowed));
    // What keeps hardly anything is within any limit.
    let idle = most.median() < mib(limit) / 2.0;
    Ok(vec![row.beside_the_point(idle).besides(besides)])
}

/// From the start of the process, with sign-in by password, until stat(2) of the root is answered.
pub(crate) fn start(world: &World) -> Outcome<Vec<Row>> {
    let mut times = Series::default();
    for round in rounds() {
        interrupt::check()?;
        let (seconds, mount) = timed(|| {
            let mount = world.mount()?;
            mount.path("").symlink_metadata()?;
            Ok(mount)
        })?;
        drop(mount);
        times.note(round, 1000.0 * seconds);
    }
    let measured = "from start to mounted and answering";
    let row = Row::alone(measured, Unit::Milliseconds, times);
    Ok(vec![row.aim(Aim::at_most(150.0).goal(60.0))])
}

fn stream(number: u64) -> String {
    format!("stream {number}.bin")
}

fn put_streams(world: &World) {
    for number in 0..STREAMS {
        world
            .server
            .put_generated(&stream(number), STREAM_BYTES, number);
    }
}

fn read_streams(mount: &Mounted) -> Outcome<()> {
    at_once(STREAMS, |number| {
        complete(read(&mount.path(stream(number)))?, STREAM_BYTES)
    })
}

/// The most that was seen on disk.
#[derive(Default)]
struct Seen {
    looks: u64,
    /// Of files, the deleted ones that the daemon still has open included.
    bytes: u64,
    folder_bytes: u64,
}

/// Does `work`, and measures the daemon's disk cache again and again meanwhile and a moment longer.
fn while_watched(mount: &Mounted, work: impl FnOnce() -> Outcome<()>) -> Outcome<Seen> {
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let watcher = scope.spawn(|| {
            let mut seen = Seen::default();
            while !done.load(Ordering::Relaxed) {
                seen.look(mount);
                std::thread::sleep(LOOK);
            }
            seen
        });
        let outcome = work();
        // Writing to the cache may lag behind reading.
        std::thread::sleep(REST);
        done.store(true, Ordering::Relaxed);
        let seen = watcher.join().map_err(|_| "the watcher died")?;
        outcome.map(|()| seen)
    })
}

impl Seen {
    fn look(&mut self, mount: &Mounted) {
        let mut usage = Usage::default();
        // What goes away under the look counts as far as it was seen.
        usage.add_dir(&mount.cache_dir()).ok();
        usage.add_open(mount).ok();
        self.looks += 1;
        self.bytes = self.bytes.max(usage.file_bytes);
        self.folder_bytes = self.folder_bytes.max(usage.folder_bytes);
    }
}

/// Disk space at one moment, as du(1) counts it.
#[derive(Default)]
struct Usage {
    counted: HashSet<(u64, u64)>,
    file_bytes: u64,
    folder_bytes: u64,
}

impl Usage {
    fn add_dir(&mut self, dir: &Path) -> io::Result<()> {
        for entry in std::fs::read_dir(dir)? {
            let entry = entry?;
            // Gone since it was listed, and so no use.
            let Ok(metadata) = entry.metadata() else {
                continue;
            };
            if metadata.is_dir() {
                self.folder_bytes += metadata.blocks() * 512;
                self.add_dir(&entry.path()).ok();
            } else {
                self.add_file(&metadata);
            }
        }
        Ok(())
    }

    /// Files without a name take their space until they are closed.
    fn add_open(&mut self, mount: &Mounted) -> io::Result<()> {
        let device = mount.cache_dir().metadata()?.dev();
        for entry in std::fs::read_dir(format!("/proc/{}/fd", mount.pid()))? {
            let Ok(metadata) = entry?.path().metadata() else {
                continue;
            };
            if metadata.is_file() && metadata.nlink() == 0 && metadata.dev() == device {
                self.add_file(&metadata);
            }
        }
        Ok(())
    }

    fn add_file(&mut self, metadata: &std::fs::Metadata) {
        if self.counted.insert((metadata.dev(), metadata.ino())) {
            self.file_bytes += metadata.blocks() * 512;
        }
    }
}
