//! Small files as they are accepted: how fast a program that saves them goes on, whatever is on the server by then.

use crate::Outcome;
use crate::aim::Aim;
use crate::mounted::Mounted;
use crate::reading::folder;
use crate::table::{Row, Unit, rounds};
use crate::world::{World, timed};
use crate::writing::{SAVED_BYTES, Until, set, write_set};

/// Fewer than what the default `upload-delay` lets pass before the first upload begins, at the rate that is wanted.
const FILES: u64 = 2000;

const FLUSHED_FILES: u64 = 800;

/// Programs that save at once.
const THREADS: u64 = 8;

/// create, 4 KiB, close: by one thread, and by eight, in one folder.
pub(crate) fn closed(world: &World) -> Outcome<Vec<Row>> {
    let mount = world.mount()?;
    let measured = "2,000 files of 4 KiB accepted, one thread";
    let one = saved(world, &mount, measured, FILES, 1, Until::Written)?;
    let measured = "2,000 files of 4 KiB accepted, eight threads";
    let eight = saved(world, &mount, measured, FILES, THREADS, Until::Written)?;
    Ok(vec![
        one.aim(Aim::at_least(2000.0)),
        eight.aim(Aim::at_least(2000.0)),
    ])
}

/// create, 4 KiB, fsync, close by eight threads.
pub(crate) fn flushed(world: &World) -> Outcome<Vec<Row>> {
    let mount = world.mount()?;
    let measured = "800 files of 4 KiB with fsync, eight threads";
    let row = saved(
        world,
        &mount,
        measured,
        FLUSHED_FILES,
        THREADS,
        Until::OnDisk,
    )?;
    Ok(vec![row.aim(Aim::percent(30.0))])
}

/// Each pass in a folder of its own; what it owes is on the server before the next begins.
fn saved(
    world: &World,
    mount: &Mounted,
    measured: &str,
    count: u64,
    threads: u64,
    until: Until,
) -> Outcome<Row> {
    let rate = |folder: &std::path::Path| {
        std::fs::create_dir(folder)?;
        let paths = set(folder, count);
        rustix::fs::sync();
        let (seconds, ()) = timed(|| write_set(&paths, SAVED_BYTES, threads, until))?;
        Ok(count as f64 / seconds)
    };
    let name = |round| folder(&format!("{threads} at once"), round);
    let ours = |round| {
        let rate = rate(&mount.path(name(round)))?;
        mount.sync()?;
        world.holds(&name(round), count)?;
        Ok(rate)
    };
    let plain = |round| rate(&world.plain().join(name(round)));
    Row::in_turns_of(
        rounds(),
        measured,
        Unit::FilesPerSecond,
        ours,
        ("plain directory", plain),
    )
}
