//! How fast the mount reads and writes, beside referees in the same run, and what became of each floor.
//!
//! `cargo run --release --example bench [-- [--plot] CASE…]`; without a case, all of them, which takes some minutes.
//! `--plot` draws the lines that have a floor into `bench.svg` beside this file.
//!
//! **Method.** A test server on loopback lives in this process, the daemon in one of its own, started as a user
//! starts it. Each case runs ours and its referee in turns, drops the first pass of both and takes five more of each,
//! three where a pass takes seconds. The referee does the same work without us: a raw HTTP client of the same library,
//! or a plain directory under `$TMPDIR`. What is cold is a file, folder or mount that nobody touched before, and as
//! root the kernel's caches are dropped as well. What is known was listed before, by a mount with `--metadata-ttl 1h`;
//! the first pass, which is dropped, fills the kernel's caches with it, so what follows is mostly the kernel's own
//! answer. Latency is the server's: it waits before the headers of every answer, so a round trip is that. So is
//! bandwidth: it hands bodies out no faster. What is written is on the server before the next pass begins: a pass
//! after which a name is missing, or an upload is open, fails.
//!
//! **Reading the table.** Figures are medians, with least and most in brackets. The fourth column is speed in percent
//! of the referee's, whatever the unit: 100 % is as fast, 50 % is half as fast. The fifth says what is wanted at least,
//! the goal beyond in brackets, and what became of it; it counts the median, but for what may never be the worst.
//! CPU is that of the daemon alone, user and system, unless said. All processes share the machine, so figures of
//! different runs or machines do not compare; the percentages do. Last figures: `bench.md` beside this file.

#[path = "bench/accept.rs"]
mod accept;
#[path = "bench/aim.rs"]
mod aim;
#[path = "bench/burden.rs"]
mod burden;
#[path = "bench/cpu.rs"]
mod cpu;
#[path = "bench/daemon.rs"]
mod daemon;
#[path = "bench/disk.rs"]
mod disk;
#[path = "bench/drain.rs"]
mod drain;
#[path = "bench/far.rs"]
mod far;
#[path = "bench/flow.rs"]
mod flow;
#[path = "bench/footprint.rs"]
mod footprint;
#[path = "bench/interrupt.rs"]
mod interrupt;
#[path = "bench/large.rs"]
mod large;
#[path = "bench/many.rs"]
mod many;
#[path = "bench/mounted.rs"]
mod mounted;
#[path = "bench/names.rs"]
mod names;
#[path = "bench/near.rs"]
mod near;
#[path = "bench/plot.rs"]
mod plot;
#[path = "bench/raw.rs"]
mod raw;
#[path = "bench/reading.rs"]
mod reading;
#[path = "bench/remount.rs"]
mod remount;
#[path = "bench/removal.rs"]
mod removal;
#[path = "bench/table.rs"]
mod table;
#[path = "bench/upload.rs"]
mod upload;
#[path = "bench/watchdog.rs"]
mod watchdog;
#[path = "bench/world.rs"]
mod world;
#[path = "bench/writing.rs"]
mod writing;

use std::ffi::OsString;
use std::process::ExitCode;

use cloudreve_fuse::config::environment::Environment;
use table::Row;
use world::World;

/// What can go wrong in a benchmark ends it.
pub(crate) type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

/// A case: its name on the command line, and what it measures in a world of its own.
type Case = (&'static str, fn(&World) -> Outcome<Vec<Row>>);

const CASES: [Case; 35] = [
    ("cold", near::cold_sequential),
    ("cold-diskless", near::cold_without_disk),
    ("cached", disk::cached),
    ("cached-passthrough", disk::cached_passthrough),
    ("warm", disk::warm),
    ("warm-passthrough", disk::warm_passthrough),
    ("small", near::small_files),
    ("stat", names::known_stat),
    ("ls", names::known_listing),
    ("list", names::cold_listing),
    ("start", footprint::start),
    ("remount", remount::known),
    ("rss", footprint::memory),
    ("readers", footprint::many_readers),
    ("opens", footprint::opens),
    ("cache-size", footprint::cache_size),
    ("far", far::long_file),
    ("far-limited", far::limited_connections),
    ("far-first", far::first_bytes),
    ("far-random", far::random_reads),
    ("far-deep", far::deep_random_reads),
    ("far-small", far::small_files),
    ("far-seeks", far::seeks),
    ("create", accept::closed),
    ("fsync", accept::flushed),
    ("drain", drain::small),
    ("drain-larger", drain::larger),
    ("far-drain", drain::small_far),
    ("far-drain-larger", drain::larger_far),
    ("copy", large::copied),
    ("edit", disk::edited),
    ("rm", removal::many),
    ("uploads", burden::uploads),
    ("written", burden::growth),
    ("owed", many::owed),
];

/// Draws the plot.
const PLOT: &str = "--plot";

fn main() -> ExitCode {
    // Before there is a thread, as in the program itself.
    let environment = Environment::take();
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    if arguments.first().is_some_and(|first| first == daemon::FLAG) {
        return daemon::be_the_program(&arguments[1..], &environment);
    }
    match choose(&arguments).and_then(|(cases, plot)| bench(&cases, plot)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(err) => {
            eprintln!("bench: {err}");
            ExitCode::FAILURE
        }
    }
}

/// The cases to run, and whether to draw what they give.
fn choose(arguments: &[OsString]) -> Outcome<(Vec<Case>, bool)> {
    let plot = arguments.iter().any(|argument| argument == PLOT);
    let wanted: Vec<_> = arguments
        .iter()
        .filter(|argument| *argument != PLOT)
        .collect();
    if wanted.is_empty() {
        return Ok((CASES.to_vec(), plot));
    }
    let names = CASES.map(|(name, _)| name).join(", ");
    let find = |wanted: &OsString| {
        let mut cases = CASES.into_iter();
        let found = cases.find(|(name, _)| wanted == name);
        found.ok_or_else(|| format!("no case '{}'; there are {names}", wanted.to_string_lossy()))
    };
    let cases: Result<Vec<_>, _> = wanted.into_iter().map(find).collect();
    Ok((cases?, plot))
}

/// A case that fails says so in its place, and the others go on.
fn bench(cases: &[Case], plot: bool) -> Outcome<()> {
    interrupt::listen()?;
    let conditions = world::conditions();
    println!("{conditions}\n\n{}", table::HEAD);
    let (mut rows, mut failed) = (Vec::new(), Vec::new());
    for (name, measure) in cases {
        interrupt::check()?;
        eprintln!("{name} …");
        let _watched = watchdog::watch();
        match World::new().and_then(|world| measure(&world)) {
            Ok(measured) => {
                measured.iter().for_each(|row| println!("{row}"));
                rows.extend(measured);
            }
            Err(err) => {
                interrupt::check()?;
                println!("{}", table::failure(name, &err.to_string()));
                failed.push(*name);
            }
        }
    }
    println!("\n{}", world::conditions());
    if plot {
        eprintln!("{}", plot::write(&rows, &conditions)?.display());
    }
    match failed.is_empty() {
        true => Ok(()),
        false => Err(format!("failed: {}", failed.join(", ")).into()),
    }
}
