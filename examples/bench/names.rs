//! Names and attributes: folders that are known, and one that is not.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Instant;

use cloudreve_test_server::Route;

use crate::Outcome;
use crate::aim::Aim;
use crate::mounted::Mounted;
use crate::table::{Row, Series, Unit};
use crate::world::{World, drop_caches, timed};

const KNOWN: usize = 20_000;
pub(crate) const MANY: usize = 100_000;
pub(crate) const FOLDER: &str = "many";

/// stat(2) of each file of a folder, by its path.
pub(crate) fn known_stat(world: &World) -> Outcome<Vec<Row>> {
    let (folder, plain) = fill(world, KNOWN)?;
    let mount = world.mount_that_remembers()?;
    let paths = names(&mount.path(folder))?;
    let plain_paths = names(&plain)?;
    let rate = |paths: &[PathBuf]| {
        let stat_all = || paths.iter().try_for_each(|path| Ok(look(path)?));
        let (seconds, ()) = timed(stat_all)?;
        Ok(paths.len() as f64 / seconds)
    };
    let mut cpu = Series::default();
    let row = Row::in_turns(
        "stat of 20,000 known files",
        Unit::FilesPerSecond,
        |round| with_cpu(&mount, round, &mut cpu, || rate(&paths)),
        ("plain directory", |_| rate(&plain_paths)),
    )?;
    let row = row.aim(Aim::percent(80.0));
    Ok(vec![row.besides(format!("CPU {cpu} ms"))])
}

/// The names of a folder and stat(2) of each, as `ls -l` does.
pub(crate) fn known_listing(world: &World) -> Outcome<Vec<Row>> {
    let (folder, plain) = fill(world, MANY)?;
    let mount = world.mount_that_remembers()?;
    let mut cpu = Series::default();
    let row = Row::in_turns(
        "readdir and stat of 100,000 known entries",
        Unit::Milliseconds,
        |round| with_cpu(&mount, round, &mut cpu, || list_all(&mount.path(folder))),
        ("plain directory", |_| list_all(&plain)),
    )?;
    let row = row.aim(Aim::at_most(1000.0).goal(600.0));
    Ok(vec![row.besides(format!("CPU {cpu} ms"))])
}

/// The milliseconds that the names of a folder of [`MANY`] and stat(2) of each take.
pub(crate) fn list_all(folder: &Path) -> Outcome<f64> {
    let (seconds, paths) = timed(|| {
        let paths = names(folder)?;
        paths.iter().try_for_each(|path| look(path))?;
        Ok(paths)
    })?;
    all(paths.len())?;
    Ok(1000.0 * seconds)
}

/// The names of a folder on a fresh mount; beside it a client that asks for page after page.
pub(crate) fn cold_listing(world: &World) -> Outcome<Vec<Row>> {
    world.server.add_many(FOLDER, MANY);
    let (mut first, mut first_page) = (Series::default(), Series::default());
    let (mut pages, mut cpu) = (Series::default(), Series::default());
    let ours = |round| {
        drop_caches();
        let mount = world.mount()?;
        world.server.reset_counters();
        let before = mount.cpu_seconds()?;
        let began = Instant::now();
        let mut entries = std::fs::read_dir(mount.path(FOLDER))?;
        entries.next().transpose()?;
        pages.note(round, pages_asked(world) as f64);
        first.note(round, 1000.0 * began.elapsed().as_secs_f64());
        let rest = entries.try_fold(0, |count, entry| entry.map(|_| count + 1))?;
        all(1 + rest)?;
        let milliseconds = 1000.0 * began.elapsed().as_secs_f64();
        cpu.note(round, 1000.0 * (mount.cpu_seconds()? - before));
        Ok(milliseconds)
    };
    let raw = |round| {
        let (seconds, (count, page)) = timed(|| world.raw.list(FOLDER))?;
        all(count)?;
        first_page.note(round, 1000.0 * page.as_secs_f64());
        Ok(1000.0 * seconds)
    };
    let row = Row::in_turns(
        "listing of 100,000 entries, cold",
        Unit::Milliseconds,
        ours,
        ("raw, page after page of 2,000", raw),
    )?;
    let besides = format!("after {first} ms; first raw page {first_page} ms");
    let begin = Row::alone(
        "pages asked for when its first entry comes",
        Unit::Requests,
        pages,
    );
    Ok(vec![
        // At most 1.2 and 1.1 times as long.
        row.aim(Aim::percent(83.3).goal(90.9))
            .besides(format!("CPU {cpu} ms")),
        // The first, and the next ahead of need.
        begin.aim(Aim::at_most(2.0)).besides(besides),
    ])
}

/// Pages of the folder that the server was asked for.
pub(crate) fn pages_asked(world: &World) -> usize {
    let mut requests = world.server.requests();
    requests.retain(|request| request.route == Route::List && request.query.contains(FOLDER));
    requests.len()
}

/// Runs a pass and notes the daemon's processor time; next to none means that the kernel answered by itself.
fn with_cpu(
    mount: &Mounted,
    round: u64,
    cpu: &mut Series,
    pass: impl FnOnce() -> Outcome<f64>,
) -> Outcome<f64> {
    let before = mount.cpu_seconds()?;
    let figure = pass()?;
    cpu.note(round, 1000.0 * (mount.cpu_seconds()? - before));
    Ok(figure)
}

/// The same number of files on the server and in a plain directory.
pub(crate) fn fill(world: &World, count: usize) -> Outcome<(&'static str, PathBuf)> {
    world.server.add_many(FOLDER, count);
    let plain = world.plain().join(FOLDER);
    std::fs::create_dir(&plain)?;
    for number in 0..count {
        std::fs::write(plain.join(format!("file {number:06}")), "")?;
    }
    Ok((FOLDER, plain))
}

fn names(folder: &Path) -> io::Result<Vec<PathBuf>> {
    std::fs::read_dir(folder)?
        .map(|entry| Ok(entry?.path()))
        .collect()
}

fn look(path: &Path) -> io::Result<()> {
    path.symlink_metadata().map(|_| ())
}

fn all(count: usize) -> Outcome<()> {
    match count == MANY {
        true => Ok(()),
        false => Err(format!("{count} names came instead of {MANY}").into()),
    }
}
