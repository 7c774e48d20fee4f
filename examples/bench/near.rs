//! Content from a server on loopback: what the daemon and the kernel take, without a network.

use crate::aim::Aim;
use crate::mounted::Mounted;
use crate::reading::{
    complete, folder, listed, mib, paths, per_gib, put_folder, put_folders, read, read_rate,
};
use crate::table::{Row, Series, Unit, few_rounds, rounds};
use crate::world::{World, drop_caches, timed};
use crate::{Outcome, cpu, interrupt};

/// More than the memory that the program takes for content (128 MiB), and than most files are.
const LARGE_BYTES: u64 = 512 << 20;

const SMALL_FILES: u64 = 500;
const SMALL_BYTES: u64 = 16 << 10;
const CONNECTIONS: usize = 32;

/// A file that nobody read before, from begin to end; beside it a single GET whose URL is known.
pub(crate) fn cold_sequential(world: &World) -> Outcome<Vec<Row>> {
    let (row, busy) = cold(world, &[], "sequential 512 MiB, cold")?;
    let processor = Row::alone(
        "processor time of the daemon for it",
        Unit::CpuSecondsPerGib,
        busy.daemon.clone(),
    );
    Ok(vec![
        row.aim(Aim::percent(80.0).goal(100.0))
            .besides(busy.to_string()),
        processor.aim(Aim::at_most(1.2).goal(0.8)),
    ])
}

/// The same by a daemon that keeps nothing on disk: what keeping costs.
pub(crate) fn cold_without_disk(world: &World) -> Outcome<Vec<Row>> {
    let measured = "sequential 512 MiB, cold, nothing kept on disk";
    let (row, busy) = cold(world, &["--cache-size", "0"], measured)?;
    Ok(vec![row.besides(busy.to_string())])
}

/// Processor time of cold passes, in seconds a GiB.
#[derive(Default)]
struct Busy {
    daemon: Series,
    /// Of the server and the reader, which live in this process.
    others: Series,
    /// Of the server and the raw client.
    raw: Series,
    /// How fast a raw GET is whose bytes go through a pipe, in MiB a second.
    piped: Series,
    /// How much of the machine was busy in our passes, in percent.
    load: Series,
}

impl std::fmt::Display for Busy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (daemon, others, raw) = (&self.daemon, &self.others, &self.raw);
        write!(
            f,
            "CPU-s/GiB: daemon {daemon}, server and reader {others}, "
        )?;
        write!(f, "server and raw client {raw}; ")?;
        let (load, piped) = (&self.load, &self.piped);
        write!(
            f,
            "cores busy {load} %; raw GET through a pipe {piped} MiB/s"
        )
    }
}

fn cold(world: &World, options: &[&str], measured: &str) -> Outcome<(Row, Busy)> {
    let name = |side: &str, round: u64| format!("{side} {round}.bin");
    for round in rounds() {
        for (seed, side) in (2 * round..).zip(["ours", "raw"]) {
            world
                .server
                .put_generated(&name(side, round), LARGE_BYTES, seed);
        }
    }
    let mount = world.mount_with(options)?;
    let mut busy = Busy::default();
    let own = std::process::id();
    let (mut raw_cpu, mut piped) = (Series::default(), Series::default());
    let ours = |round| {
        drop_caches();
        let before = (mount.cpu_seconds()?, cpu::of_process(own)?, cpu::of_all()?);
        let rate = read_rate(&mount.path(name("ours", round)), LARGE_BYTES)?;
        let (daemon, others) = (mount.cpu_seconds()?, cpu::of_process(own)?);
        let work = cpu::of_all()? - before.2;
        let seconds = mib(LARGE_BYTES) / rate * cpu::cores() as f64;
        let note = |series: &mut Series, time| series.note(round, per_gib(time, LARGE_BYTES));
        note(&mut busy.daemon, daemon - before.0);
        note(&mut busy.others, others - before.1);
        busy.load.note(round, 100.0 * work / seconds);
        Ok(rate)
    };
    let raw = |round| {
        let url = world.raw.url(&name("raw", round))?;
        drop_caches();
        let before = cpu::of_process(own)?;
        let (seconds, bytes) = timed(|| world.raw.fetch(&url, None))?;
        let work = cpu::of_process(own)? - before;
        raw_cpu.note(round, per_gib(work, LARGE_BYTES));
        complete(bytes, LARGE_BYTES)?;
        let (slower, bytes) = timed(|| world.raw.fetch_through_pipe(&url))?;
        complete(bytes, LARGE_BYTES)?;
        piped.note(round, mib(bytes) / slower);
        Ok(mib(bytes) / seconds)
    };
    let row = Row::in_turns(measured, Unit::MibPerSecond, ours, ("one raw GET", raw))?;
    (busy.raw, busy.piped) = (raw_cpu, piped);
    Ok((row, busy))
}

/// `cat` of a listed folder's files, in order; and what was fetched for nothing when it ends halfway.
pub(crate) fn small_files(world: &World) -> Outcome<Vec<Row>> {
    put_folders(&world.server, SMALL_FILES, SMALL_BYTES);
    for round in few_rounds() {
        let half = folder("half", round);
        put_folder(&world.server, half, SMALL_FILES, SMALL_BYTES);
    }
    let mount = world.mount()?;
    let size = SMALL_FILES * SMALL_BYTES;
    let rate = |seconds: f64| SMALL_FILES as f64 / seconds;
    let ours = |round| {
        let paths = listed(&mount, &folder("ours", round))?;
        let (seconds, bytes) = timed(|| paths.iter().map(|path| read(path)).sum::<Outcome<u64>>())?;
        complete(bytes, size)?;
        Ok(rate(seconds))
    };
    let raw = |round| {
        let paths: Vec<_> = paths(folder("raw", round), SMALL_FILES).collect();
        let (seconds, bytes) = timed(|| world.raw.fetch_all(&paths, CONNECTIONS))?;
        complete(bytes, size)?;
        Ok(rate(seconds))
    };
    let row = Row::in_turns(
        "500 files of 16 KiB in order, cold",
        Unit::FilesPerSecond,
        ours,
        ("raw URL and GET, 32 connections", raw),
    )?;
    Ok(vec![
        row.aim(Aim::percent(60.0).goal(75.0)),
        half_a_sweep(world, &mount)?,
    ])
}

fn half_a_sweep(world: &World, mount: &Mounted) -> Outcome<Row> {
    let mut sent = Series::default();
    for round in few_rounds() {
        interrupt::check()?;
        let paths = listed(mount, &folder("half", round))?;
        world.quiet();
        let before = world.server.content_bytes_sent();
        let half = paths.iter().take(SMALL_FILES as usize / 2);
        let asked = half.map(|path| read(path)).sum::<Outcome<u64>>()?;
        world.quiet();
        let bytes = world.server.content_bytes_sent() - before;
        sent.note(round, bytes as f64 / asked as f64);
    }
    let measured = "bytes fetched for each read when it ends after 250 of 500";
    Ok(Row::alone(measured, Unit::Times, sent))
}
