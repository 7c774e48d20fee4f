//! What the daemon takes while it writes: memory with many uploads under way, and what many files leave behind.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::aim::Aim;
use crate::drain::HELD_BACK;
use crate::mounted::Mounted;
use crate::reading::folder;
use crate::table::{Row, Series, Unit, few_rounds};
use crate::world::{ROUND_TRIP, World, timed};
use crate::writing::{SAVED_BYTES, Until, run, set, write_set};
use crate::{Outcome, interrupt};

const UPLOADS: u64 = 16;
const UPLOAD_BYTES: u64 = 64 << 20;

/// How often it is looked how many uploads are under way.
const LOOK: Duration = Duration::from_millis(5);

/// Files of a batch that is written, delivered and removed; batches before and after the memory is looked at. The heap
/// has what it needs at most after some fifty thousand files.
const BATCH: u64 = 2000;
const BATCHES_BEFORE: u64 = 30;
const BATCHES_AFTER: u64 = 50;

/// Quiet before the memory is looked at.
const REST: Duration = Duration::from_secs(1);

/// The peak from the first byte written until all of sixteen files that go at once is delivered.
pub(crate) fn uploads(world: &World) -> Outcome<Vec<Row>> {
    let (mut peak, mut after) = (Series::default(), Series::default());
    let mut most = Series::default();
    // One is left to small files.
    let options = [&["--transfers", "17"], &HELD_BACK[..]].concat();
    for round in few_rounds() {
        interrupt::check()?;
        let mount = world.mount_with(&options)?;
        let name = folder("ours", round);
        std::fs::create_dir(mount.path(&name))?;
        let paths = set(&mount.path(&name), UPLOADS);
        write_set(&paths, UPLOAD_BYTES, 2, Until::Written)?;
        // What is sent waits for its answer, so that all are under way at some moment.
        world.server.set_latency(ROUND_TRIP);
        let open = while_counted(world, || mount.sync())?;
        world.server.set_latency(Duration::ZERO);
        most.note(round, open as f64);
        peak.note(round, mount.memory_mib("VmHWM")?);
        after.note(round, mount.memory_mib("VmRSS")?);
        world.holds(&name, UPLOADS)?;
        world.server.remove(&name);
    }
    let measured = "RSS, peak with 16 uploads of 64 MiB, 50 ms";
    let few = most.median() < UPLOADS as f64;
    let besides = format!("{most} uploads under way at most; {after} MiB just after it");
    let row = Row::alone(measured, Unit::Mib, peak).aim(Aim::at_most(200.0));
    Ok(vec![row.beside_the_point(few).besides(besides)])
}

/// Does `work`; gives the most upload sessions that were open at once meanwhile.
fn while_counted(world: &World, work: impl FnOnce() -> Outcome<()>) -> Outcome<usize> {
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let counter = scope.spawn(|| {
            let mut most = 0;
            while !done.load(Ordering::Relaxed) {
                most = most.max(world.server.open_uploads());
                std::thread::sleep(LOOK);
            }
            most
        });
        let outcome = work();
        done.store(true, Ordering::Relaxed);
        let most = counter.join().map_err(|_| "the counter died")?;
        outcome.map(|()| most)
    })
}

/// What 100,000 files leave behind that were written, delivered and removed. Without a cache, which keeps their content and
/// remembers what it has: some 110 bytes for each, and no more than its limit leaves room for.
pub(crate) fn growth(world: &World) -> Outcome<Vec<Row>> {
    let mount = world.mount_with(&["--upload-delay", "0", "--cache-size", "0"])?;
    let batches = |from: u64, count: u64| {
        (from..from + count).try_for_each(|number| {
            interrupt::check()?;
            batch(world, &mount, &folder("batch", number))
        })
    };
    batches(0, BATCHES_BEFORE)?;
    let memory = || {
        std::thread::sleep(REST);
        mount.memory_mib("VmRSS")
    };
    let half = BATCHES_AFTER / 2;
    let before = memory()?;
    let (first, ()) = timed(|| batches(BATCHES_BEFORE, half))?;
    let between = memory()?;
    let (second, ()) = timed(|| batches(BATCHES_BEFORE + half, half))?;
    let after = memory()?;
    let seconds = first + second;
    let each = 1000.0 * seconds / (BATCH * BATCHES_AFTER) as f64;
    let measured = "RSS, growth by 100,000 files written, delivered and removed, nothing cached";
    let row = Row::alone(measured, Unit::Mib, Series::of_all(after - before));
    let besides = format!("from {before:.1} by {between:.1} to {after:.1} MiB; {each:.2} ms each");
    // Ten bytes for each file: less than anything that could be forgotten.
    Ok(vec![row.aim(Aim::at_most(1.0)).besides(besides)])
}

fn batch(world: &World, mount: &Mounted, name: &str) -> Outcome<()> {
    let dir = mount.path(name);
    std::fs::create_dir(&dir)?;
    write_set(&set(&dir, BATCH), SAVED_BYTES, 1, Until::Written)?;
    mount.sync()?;
    world.holds(name, BATCH)?;
    run("rm", &["-r".as_ref(), &dir])
}
