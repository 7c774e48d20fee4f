//! Content: large files, small ones, and pieces of them.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Duration;

use cloudreve_test_server::{Server, generated_bytes};

use crate::Outcome;
use crate::mounted::Mounted;
use crate::table::{Row, Series, Unit, quantile, rounds};
use crate::world::{World, drop_caches, timed};

/// More than the memory that the program takes for content (128 MiB), and than most files are.
const LARGE_BYTES: u64 = 512 << 20;

/// Read again and again, once on the mount and once beside it.
const WARM_BYTES: u64 = 256 << 20;

/// What cat(1) reads at once.
const READ_BYTES: usize = 128 << 10;

/// A page, and what programs read to see what a file is.
const PIECE_BYTES: u64 = 4096;

/// A round trip to a server that is not near.
const ROUND_TRIP: Duration = Duration::from_millis(50);

const SMALL_FILES: u64 = 500;
const SMALL_BYTES: u64 = 16 << 10;
const CONNECTIONS: usize = 32;

/// Files whose beginning is read in a pass.
const BEGINNINGS: u64 = 20;
const BEGUN_BYTES: u64 = 1 << 20;

/// Pieces read at random in a pass.
const PIECES: u64 = 40;

/// A file that nobody read before, from begin to end; beside it a single GET whose URL is known.
pub(crate) fn cold_sequential(world: &World) -> Outcome<Vec<Row>> {
    let name = |side: &str, round: u64| format!("{side} {round}.bin");
    for round in rounds() {
        for (seed, side) in (2 * round..).zip(["ours", "raw"]) {
            world
                .server
                .put_generated(&name(side, round), LARGE_BYTES, seed);
        }
    }
    let mount = world.mount()?;
    let mut cpu = Series::default();
    let ours = |round| {
        drop_caches();
        let before = mount.cpu_seconds()?;
        let rate = read_rate(&mount.path(name("ours", round)), LARGE_BYTES)?;
        cpu.note(round, per_gib(mount.cpu_seconds()? - before, LARGE_BYTES));
        Ok(rate)
    };
    let raw = |round| {
        let url = world.raw.url(&name("raw", round))?;
        drop_caches();
        let (seconds, bytes) = timed(|| world.raw.fetch(&url, None))?;
        complete(bytes, LARGE_BYTES)?;
        Ok(mib(bytes) / seconds)
    };
    let row = Row::in_turns(
        "sequential 512 MiB, cold",
        Unit::MibPerSecond,
        ours,
        ("one raw GET", raw),
    )?;
    Ok(vec![row.besides(format!("CPU {cpu} s/GiB"))])
}

/// A file whose pages the kernel has, opened anew in each pass.
pub(crate) fn warm_sequential(world: &World) -> Outcome<Vec<Row>> {
    let (name, seed) = ("warm.bin", 1);
    world.server.put_generated(name, WARM_BYTES, seed);
    let plain = world.plain().join(name);
    std::fs::write(&plain, generated_bytes(seed, 0..WARM_BYTES))?;
    let mount = world.mount()?;
    let mut cpu = Series::default();
    let ours = |round| {
        let before = mount.cpu_seconds()?;
        let rate = read_rate(&mount.path(name), WARM_BYTES)?;
        cpu.note(round, per_gib(mount.cpu_seconds()? - before, WARM_BYTES));
        Ok(rate)
    };
    let row = Row::in_turns(
        "sequential 256 MiB, in the page cache",
        Unit::MibPerSecond,
        ours,
        ("plain file", |_| read_rate(&plain, WARM_BYTES)),
    )?;
    Ok(vec![row.besides(format!("CPU {cpu} s/GiB"))])
}

/// `cat` of a listed folder's files, in order.
pub(crate) fn small_files(world: &World) -> Outcome<Vec<Row>> {
    put_folders(&world.server, SMALL_FILES, SMALL_BYTES);
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
    Ok(vec![row])
}

/// open(2) and the first read(2) of a listed folder's files, in order; beside it URL and GET, one after the other.
pub(crate) fn first_bytes(world: &World) -> Outcome<Vec<Row>> {
    put_folders(&world.server, BEGINNINGS, BEGUN_BYTES);
    let mount = world.mount_that_remembers()?;
    for round in rounds() {
        listed(&mount, &folder("ours", round))?;
    }
    world.server.set_latency(ROUND_TRIP);
    let ours = |round| {
        let paths = paths(folder("ours", round), BEGINNINGS);
        let trips = paths.map(|path| round_trips(|| piece(&File::open(mount.path(path))?, 0)));
        Ok(quantile(&trips.collect::<Outcome<Vec<_>>>()?, 0.5))
    };
    let raw = |round| {
        let paths = paths(folder("raw", round), BEGINNINGS);
        let fetch = |path: String| {
            world
                .raw
                .fetch(&world.raw.url(&path)?, Some(0..PIECE_BYTES))
        };
        let trips = paths.map(|path| round_trips(|| complete(fetch(path)?, PIECE_BYTES)));
        Ok(quantile(&trips.collect::<Outcome<Vec<_>>>()?, 0.5))
    };
    let row = Row::in_turns(
        "first 4 KiB of a file in a listed folder, 50 ms, p50 of 20",
        Unit::RoundTrips,
        ours,
        ("raw URL and GET", raw),
    )?;
    Ok(vec![row])
}

/// Pieces of an open file, one after the other. One read before them is not counted: it brings the URL.
pub(crate) fn random_reads(world: &World) -> Outcome<Vec<Row>> {
    let name = |round: u64| format!("random {round}.bin");
    for round in rounds() {
        world.server.put_generated(&name(round), LARGE_BYTES, round);
    }
    let mount = world.mount()?;
    world.server.set_latency(ROUND_TRIP);
    let (mut all, mut amplified) = (Vec::new(), Series::default());
    let ours = |round| {
        let file = File::open(mount.path(name(round)))?;
        piece(&file, 0)?;
        world.server.reset_counters();
        let trips = offsets(round).map(|offset| round_trips(|| piece(&file, offset)));
        let trips = trips.collect::<Outcome<Vec<_>>>()?;
        let sent = world.server.body_bytes_sent() as f64;
        amplified.note(round, sent / (PIECES * PIECE_BYTES) as f64);
        if round > 0 {
            all.extend_from_slice(&trips);
        }
        Ok(quantile(&trips, 0.5))
    };
    let raw = |round| {
        let url = world.raw.url(&name(round))?;
        let fetch = |offset| world.raw.fetch(&url, Some(offset..offset + PIECE_BYTES));
        let trips =
            offsets(round).map(|offset| round_trips(|| complete(fetch(offset)?, PIECE_BYTES)));
        Ok(quantile(&trips.collect::<Outcome<Vec<_>>>()?, 0.5))
    };
    let row = Row::in_turns(
        "random 4 KiB, cold, depth 1, 50 ms, p50 of 40",
        Unit::RoundTrips,
        ours,
        ("raw GET", raw),
    )?;
    let besides = format!(
        "p99 of all {:.2} round trips; {amplified} bytes sent for each asked",
        quantile(&all, 0.99)
    );
    Ok(vec![row.besides(besides)])
}

/// Reads a file to its end as cat(1) does; gives the number of bytes.
pub(crate) fn read(path: &Path) -> Outcome<u64> {
    let mut file = File::open(path)?;
    let mut buffer = vec![0; READ_BYTES];
    let mut bytes = 0;
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(bytes),
            length => bytes += length as u64,
        }
    }
}

/// A figure is for all the bytes or for nothing.
pub(crate) fn complete(bytes: u64, wanted: u64) -> Outcome<()> {
    match bytes == wanted {
        true => Ok(()),
        false => Err(format!("{bytes} bytes came instead of {wanted}").into()),
    }
}

fn read_rate(path: &Path, size: u64) -> Outcome<f64> {
    let (seconds, bytes) = timed(|| read(path))?;
    complete(bytes, size)?;
    Ok(mib(bytes) / seconds)
}

fn piece(file: &File, offset: u64) -> Outcome<()> {
    Ok(file.read_exact_at(&mut [0; PIECE_BYTES as usize], offset)?)
}

fn round_trips(work: impl FnOnce() -> Outcome<()>) -> Outcome<f64> {
    let (seconds, ()) = timed(work)?;
    Ok(seconds / ROUND_TRIP.as_secs_f64())
}

/// Where a pass reads: pages of the file that look like chance, the same on both sides.
fn offsets(round: u64) -> impl Iterator<Item = u64> {
    let pages = LARGE_BYTES / PIECE_BYTES;
    (1..=PIECES).map(move |number| {
        // Steps of the golden ratio: spread over the file, and no two near each other.
        let scattered = (round * PIECES + number).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        scattered % pages * PIECE_BYTES
    })
}

fn folder(side: &str, round: u64) -> String {
    format!("{side} {round}")
}

fn paths(folder: String, count: u64) -> impl Iterator<Item = String> {
    (0..count).map(move |number| format!("{folder}/{number:03}"))
}

/// A folder for each side and pass, so that no pass finds what another one brought.
fn put_folders(server: &Server, count: u64, size: u64) {
    for round in rounds() {
        for side in ["ours", "raw"] {
            for (seed, path) in paths(folder(side, round), count).enumerate() {
                server.put_generated(&path, size, seed as u64);
            }
        }
    }
}

/// The files of a folder in the order of its listing, each looked at once, as a shell and `ls -l` do.
fn listed(mount: &Mounted, folder: &str) -> io::Result<Vec<std::path::PathBuf>> {
    std::fs::read_dir(mount.path(folder))?
        .map(|entry| {
            let path = entry?.path();
            path.symlink_metadata()?;
            Ok(path)
        })
        .collect()
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

fn per_gib(seconds: f64, bytes: u64) -> f64 {
    seconds * 1024.0 / mib(bytes)
}
