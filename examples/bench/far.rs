//! Content from a server that is far: a round trip of 50 ms for every request, and a line of 400 Mbit/s.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

use crate::Outcome;
use crate::aim::Aim;
use crate::flow::Flow;
use crate::reading::{
    PIECE_BYTES, at_once, complete, folder, listed, offsets, paths, piece, put_folders, read,
    read_flow, round_trips, trips,
};
use crate::table::{Row, Series, Unit, few_rounds, quantile, rounds};
use crate::world::{LINE, World, drop_caches, timed};

/// Takes the line five seconds.
const LONG_BYTES: u64 = 256 << 20;

/// Takes longer than anybody waits for it here.
const ENDLESS_BYTES: u64 = 1 << 30;

/// From here on readers and clients are held against each other: they know the line by then.
const KNOWN_AFTER: f64 = 1.0;

/// Numbers of ranges that the raw client tries, in the pass that is dropped.
const RANGES: [u64; 3] = [1, 4, 8];

/// What a connection carries where connections are limited, in bytes a second: a tenth of the line.
const CONNECTION: u64 = LINE / 10;

/// Enough connections for such a line, and some more.
const MANY_RANGES: u64 = 16;

/// When readers on such a line are looked at, for a second each.
const LOOKS: [f64; 2] = [2.0, 5.0];
const LOOKED_AT: Duration = Duration::from_millis(6100);

/// Files whose beginning is read in a pass.
const BEGINNINGS: u64 = 20;
const BEGUN_BYTES: u64 = 1 << 20;

/// The file that is read at random.
const RANDOM_BYTES: u64 = 256 << 20;

/// Pieces read at random in a pass, one after the other.
const PIECES: u64 = 40;

/// Readers at once, and pieces for each.
const DEPTH: u64 = 32;
const PIECES_AT_DEPTH: u64 = 20;

const SMALL_FILES: u64 = 500;
const SMALL_BYTES: u64 = 16 << 10;
const CONNECTIONS: usize = 64;

/// Who is slow is not read to the end.
const SMALL_TIME: Duration = Duration::from_secs(8);

/// Seeks in a film, what a player wants to go on, and what it plays before the next.
const SEEKS: u64 = 20;
const SHOWN_BYTES: u64 = 64 << 10;
const PLAYED_BYTES: u64 = 1 << 20;

fn name(side: &str, round: u64) -> String {
    format!("{side} {round}.bin")
}

/// A file from begin to end, once the reader knows the line; beside it the best that ranges at once can do.
pub(crate) fn long_file(world: &World) -> Outcome<Vec<Row>> {
    for round in few_rounds() {
        let elsewhere = format!("{}/file", folder("unlisted", round));
        world.server.put_generated(&elsewhere, BEGUN_BYTES, round);
        for side in ["ours", "raw"] {
            world
                .server
                .put_generated(&name(side, round), LONG_BYTES, round);
        }
    }
    let mount = world.mount_that_remembers()?;
    listed(&mount, "")?;
    world.go_far();
    let (mut first, mut unlisted) = (Series::default(), Series::default());
    let ours = |round| {
        drop_caches();
        let path = mount.path(folder("unlisted", round)).join("file");
        unlisted.note(round, round_trips(|| piece(&File::open(path)?, 0))?);
        world.quiet();
        let flow = Flow::begin();
        read_flow(&mount.path(name("ours", round)), &flow, Duration::MAX)?;
        first.note(round, trips(flow.first()));
        Ok(after_begin(&flow))
    };
    let mut best = RANGES[0];
    let raw = |round| {
        drop_caches();
        if round > 0 {
            return raw_rate(world, round, best);
        }
        let rates = RANGES.map(|ranges| raw_rate(world, round, ranges));
        let mut most = 0.0;
        for (rate, ranges) in rates.into_iter().zip(RANGES) {
            let rate = rate?;
            if rate > most {
                (most, best) = (rate, ranges);
            }
        }
        Ok(most)
    };
    let row = Row::in_turns_of(
        few_rounds(),
        "sequential 256 MiB from the second second on, 50 ms, 400 Mbit/s",
        Unit::MibPerSecond,
        ours,
        ("raw, the best of 1, 4 and 8 ranges", raw),
    )?;
    let begin = Row::alone("its first bytes, folder listed", Unit::RoundTrips, first);
    let besides = format!("{unlisted} round trips in a folder that was not listed");
    Ok(vec![
        row.aim(Aim::percent(95.0))
            .besides(format!("best: {best} at once")),
        begin.aim(Aim::at_most(3.0)).besides(besides),
    ])
}

fn raw_rate(world: &World, round: u64, ranges: u64) -> Outcome<f64> {
    let flow = Flow::begin();
    let url = world.raw.url(&name("raw", round))?;
    world
        .raw
        .fetch_ranges(&url, LONG_BYTES, ranges, &flow, Duration::MAX)?;
    Ok(after_begin(&flow))
}

fn after_begin(flow: &Flow) -> f64 {
    flow.rate(KNOWN_AFTER, f64::INFINITY)
}

/// A file on a line that takes ten connections to fill: how soon enough of them are found.
pub(crate) fn limited_connections(world: &World) -> Outcome<Vec<Row>> {
    for round in few_rounds() {
        for side in ["ours", "raw"] {
            world
                .server
                .put_generated(&name(side, round), ENDLESS_BYTES, round);
        }
    }
    let mount = world.mount_that_remembers()?;
    listed(&mount, "")?;
    world.go_far();
    world.server.set_connection_bandwidth(Some(CONNECTION));
    let [mut ours_late, mut raw_late] = [Series::default(), Series::default()];
    let look = |flow: &Flow, at| flow.rate(at, at + 1.0);
    let ours = |round| {
        drop_caches();
        world.quiet();
        let flow = Flow::begin();
        read_flow(&mount.path(name("ours", round)), &flow, LOOKED_AT)?;
        ours_late.note(round, look(&flow, LOOKS[1]));
        Ok(look(&flow, LOOKS[0]))
    };
    let raw = |round| {
        drop_caches();
        world.quiet();
        let flow = Flow::begin();
        let url = world.raw.url(&name("raw", round))?;
        world
            .raw
            .fetch_ranges(&url, ENDLESS_BYTES, MANY_RANGES, &flow, LOOKED_AT)?;
        raw_late.note(round, look(&flow, LOOKS[1]));
        Ok(look(&flow, LOOKS[0]))
    };
    let row = Row::in_turns_of(
        few_rounds(),
        "sequential in the third second, 50 ms, 400 Mbit/s, 40 for each connection",
        Unit::MibPerSecond,
        ours,
        ("raw, 16 ranges", raw),
    )?;
    let measured = "the same in the sixth second";
    let late = Row::beside(
        measured,
        Unit::MibPerSecond,
        ours_late,
        ("raw, 16 ranges", raw_late),
    );
    Ok(vec![row, late])
}

/// open(2) and the first read(2) of a listed folder's files, in order; beside it URL and GET, one after the other.
pub(crate) fn first_bytes(world: &World) -> Outcome<Vec<Row>> {
    put_folders(&world.server, BEGINNINGS, BEGUN_BYTES);
    let mount = world.mount_that_remembers()?;
    for round in rounds() {
        listed(&mount, &folder("ours", round))?;
    }
    world.go_far();
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
    Ok(vec![row.aim(Aim::at_most(2.2).goal(1.2))])
}

/// Pieces of an open file, one after the other. One read before them is not counted: it brings the URL.
pub(crate) fn random_reads(world: &World) -> Outcome<Vec<Row>> {
    put_random(world);
    let mount = world.mount()?;
    world.go_far();
    let (mut all, mut amplified) = (Vec::new(), Series::default());
    let ours = |round| {
        let file = File::open(mount.path(name("random", round)))?;
        piece(&file, 0)?;
        world.quiet();
        let before = world.server.content_bytes_sent();
        let trips = offsets(round, PIECES, RANDOM_BYTES)
            .map(|offset| round_trips(|| piece(&file, offset)))
            .collect::<Outcome<Vec<_>>>()?;
        world.quiet();
        let sent = world.server.content_bytes_sent() - before;
        amplified.note(round, sent as f64 / (PIECES * PIECE_BYTES) as f64);
        if round > 0 {
            all.extend_from_slice(&trips);
        }
        Ok(quantile(&trips, 0.5))
    };
    let raw = |round| {
        let url = world.raw.url(&name("random", round))?;
        let fetch = |offset| world.raw.fetch(&url, Some(offset..offset + PIECE_BYTES));
        let trips = offsets(round, PIECES, RANDOM_BYTES)
            .map(|offset| round_trips(|| complete(fetch(offset)?, PIECE_BYTES)));
        Ok(quantile(&trips.collect::<Outcome<Vec<_>>>()?, 0.5))
    };
    let row = Row::in_turns(
        "random 4 KiB, cold, depth 1, 50 ms, p50 of 40",
        Unit::RoundTrips,
        ours,
        ("raw GET", raw),
    )?;
    let slowest = Series::of_all(quantile(&all, 0.99));
    Ok(vec![
        row.aim(Aim::at_most(1.3)),
        Row::alone(
            "random 4 KiB, cold, depth 1, 50 ms, p99 of all",
            Unit::RoundTrips,
            slowest,
        )
        .aim(Aim::at_most(3.0)),
        fetched(1, amplified),
    ])
}

/// Pieces of one open file, by many readers at once.
pub(crate) fn deep_random_reads(world: &World) -> Outcome<Vec<Row>> {
    put_random(world);
    let mount = world.mount()?;
    world.go_far();
    let count = DEPTH * PIECES_AT_DEPTH;
    let mut amplified = Series::default();
    let ours = |round| {
        let file = File::open(mount.path(name("random", round)))?;
        piece(&file, 0)?;
        world.quiet();
        let before = world.server.content_bytes_sent();
        let offsets: Vec<_> = offsets(round, count, RANDOM_BYTES).collect();
        let shares: Vec<_> = offsets.chunks(PIECES_AT_DEPTH as usize).collect();
        let read_share = |reader: u64| {
            let mut share = shares[reader as usize].iter();
            share.try_for_each(|offset| piece(&file, *offset))
        };
        let (seconds, ()) = timed(|| at_once(DEPTH, read_share))?;
        world.quiet();
        let sent = world.server.content_bytes_sent() - before;
        amplified.note(round, sent as f64 / (count * PIECE_BYTES) as f64);
        Ok(count as f64 / seconds)
    };
    let raw = |round| {
        let url = world.raw.url(&name("random", round))?;
        let pieces: Vec<_> = offsets(round, count, RANDOM_BYTES)
            .map(|offset| offset..offset + PIECE_BYTES)
            .collect();
        let fetch = || world.raw.fetch_pieces(&url, &pieces, DEPTH as usize);
        let (seconds, bytes) = timed(fetch)?;
        complete(bytes, count * PIECE_BYTES)?;
        Ok(count as f64 / seconds)
    };
    let row = Row::in_turns(
        "random 4 KiB, cold, depth 32, 50 ms, 400 Mbit/s",
        Unit::ReadsPerSecond,
        ours,
        ("raw GET, 32 connections", raw),
    )?;
    Ok(vec![row.aim(Aim::percent(70.0)), fetched(DEPTH, amplified)])
}

fn put_random(world: &World) {
    for round in rounds() {
        world
            .server
            .put_generated(&name("random", round), RANDOM_BYTES, round);
    }
}

fn fetched(depth: u64, times: Series) -> Row {
    let measured = format!("bytes fetched for each asked, depth {depth}");
    Row::alone(&measured, Unit::Times, times).aim(Aim::at_most(16.0))
}

/// `cat` of a listed folder's files, in order.
pub(crate) fn small_files(world: &World) -> Outcome<Vec<Row>> {
    put_folders(&world.server, SMALL_FILES, SMALL_BYTES);
    let mount = world.mount_that_remembers()?;
    for round in rounds() {
        listed(&mount, &folder("ours", round))?;
    }
    world.go_far();
    let (mut sent, mut cut) = (Series::default(), false);
    let ours = |round| {
        world.quiet();
        let before = world.server.content_bytes_sent();
        let (began, mut files) = (Instant::now(), 0);
        for path in paths(folder("ours", round), SMALL_FILES) {
            complete(read(&mount.path(path))?, SMALL_BYTES)?;
            files += 1;
            if began.elapsed() > SMALL_TIME {
                cut = true;
                break;
            }
        }
        let rate = files as f64 / began.elapsed().as_secs_f64();
        world.quiet();
        let bytes = world.server.content_bytes_sent() - before;
        sent.note(round, bytes as f64 / (files * SMALL_BYTES) as f64);
        Ok(rate)
    };
    let raw = |round| {
        let paths: Vec<_> = paths(folder("raw", round), SMALL_FILES).collect();
        let (seconds, bytes) = timed(|| world.raw.fetch_all(&paths, CONNECTIONS))?;
        complete(bytes, SMALL_FILES * SMALL_BYTES)?;
        Ok(SMALL_FILES as f64 / seconds)
    };
    let row = Row::in_turns_of(
        few_rounds(),
        "500 files of 16 KiB in order, cold, 50 ms, 400 Mbit/s",
        Unit::FilesPerSecond,
        ours,
        ("raw URL and GET, 64 connections", raw),
    )?;
    let word = if cut { "passes ended after 8 s" } else { "" };
    let row = row
        .aim(Aim::at_least(250.0).goal(400.0))
        .besides(word.to_owned());
    let sent = Row::alone(
        "bytes fetched for each read of these files",
        Unit::Times,
        sent,
    );
    Ok(vec![row, sent.aim(Aim::at_most(1.1))])
}

/// A film looked into here and there: how long until the player can go on.
pub(crate) fn seeks(world: &World) -> Outcome<Vec<Row>> {
    put_random(world);
    let mount = world.mount_that_remembers()?;
    world.go_far();
    let places = |round| offsets(round, SEEKS, RANDOM_BYTES - PLAYED_BYTES);
    let ours = |round| {
        let file = File::open(mount.path(name("random", round)))?;
        let mut buffer = vec![0; PLAYED_BYTES as usize];
        let (shown, played) = buffer.split_at_mut(SHOWN_BYTES as usize);
        file.read_exact_at(shown, 0)?;
        let trips = places(round).map(|offset| {
            let trips = round_trips(|| Ok(file.read_exact_at(shown, offset)?))?;
            file.read_exact_at(played, offset + SHOWN_BYTES)?;
            Ok(trips)
        });
        Ok(quantile(&trips.collect::<Outcome<Vec<_>>>()?, 0.95))
    };
    let raw = |round| {
        world.quiet();
        let url = world.raw.url(&name("random", round))?;
        let trips = places(round).map(|offset| {
            let range = offset..offset + PLAYED_BYTES;
            Ok(trips(world.raw.fetch_timed(&url, range, SHOWN_BYTES)?))
        });
        Ok(quantile(&trips.collect::<Outcome<Vec<_>>>()?, 0.95))
    };
    let row = Row::in_turns_of(
        few_rounds(),
        "64 KiB after a seek in a film, 50 ms, 400 Mbit/s, p95 of 20",
        Unit::RoundTrips,
        ours,
        ("raw GET of 1 MiB", raw),
    )?;
    Ok(vec![row.aim(Aim::at_most(4.0))])
}
