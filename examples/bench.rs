//! How fast the mount reads, beside referees in the same run.
//!
//! `cargo run --release --example bench [-- CASE…]`; without a case, all of them, which takes some minutes.
//!
//! **Method.** A test server on loopback lives in this process, the daemon in one of its own, started as a user
//! starts it. Each case runs ours and its referee in turns, drops the first pass of both and takes five more of each.
//! The referee does the same work without us: a raw HTTP client of the same library, or a plain directory under
//! `$TMPDIR`. What is cold is a file, folder or mount that nobody touched before, and as root the kernel's caches are
//! dropped as well. What is known was listed before, by a mount with `--metadata-ttl 1h`; the first pass, which is
//! dropped, fills the kernel's caches with it, so what follows is mostly the kernel's own answer. Latency is the server's: it waits before the headers of every answer, so a round trip is that.
//!
//! **Reading the table.** Figures are medians, with least and most in brackets. The last but one column is speed in
//! percent of the referee's, whatever the unit: 100 % is as fast, 50 % is half as fast. CPU is that of the daemon
//! alone, user and system. All processes share the machine, so figures of different runs or machines do not compare;
//! the percentages do. Last figures: `bench.md` beside this file.

#[path = "bench/bytes.rs"]
mod bytes;
#[path = "bench/daemon.rs"]
mod daemon;
#[path = "bench/footprint.rs"]
mod footprint;
#[path = "bench/interrupt.rs"]
mod interrupt;
#[path = "bench/mounted.rs"]
mod mounted;
#[path = "bench/names.rs"]
mod names;
#[path = "bench/raw.rs"]
mod raw;
#[path = "bench/table.rs"]
mod table;
#[path = "bench/world.rs"]
mod world;

use std::ffi::OsString;
use std::process::ExitCode;

use cloudreve_fuse::config::environment::Environment;
use table::Row;
use world::World;

/// What can go wrong in a benchmark ends it.
pub(crate) type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

/// A case: its name on the command line, and what it measures in a world of its own.
type Case = (&'static str, fn(&World) -> Outcome<Vec<Row>>);

const CASES: [Case; 10] = [
    ("cold", bytes::cold_sequential),
    ("warm", bytes::warm_sequential),
    ("small", bytes::small_files),
    ("first", bytes::first_bytes),
    ("random", bytes::random_reads),
    ("stat", names::known_stat),
    ("ls", names::known_listing),
    ("list", names::cold_listing),
    ("rss", footprint::memory),
    ("start", footprint::start),
];

fn main() -> ExitCode {
    // Before there is a thread, as in the program itself.
    let environment = Environment::take();
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    if arguments.first().is_some_and(|first| first == daemon::FLAG) {
        return daemon::be_the_program(&arguments[1..], &environment);
    }
    match choose(&arguments).and_then(|cases| bench(&cases)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(err) => {
            eprintln!("bench: {err}");
            ExitCode::FAILURE
        }
    }
}

fn choose(arguments: &[OsString]) -> Outcome<Vec<Case>> {
    if arguments.is_empty() {
        return Ok(CASES.to_vec());
    }
    let find = |wanted: &OsString| CASES.into_iter().find(|(name, _)| wanted == name);
    let names = CASES.map(|(name, _)| name).join(", ");
    arguments
        .iter()
        .map(|wanted| {
            find(wanted).ok_or_else(|| {
                format!("no case '{}'; there are {names}", wanted.to_string_lossy()).into()
            })
        })
        .collect()
}

fn bench(cases: &[Case]) -> Outcome<()> {
    interrupt::listen()?;
    println!("{}\n\n{}", world::conditions(), table::HEAD);
    for (name, measure) in cases {
        eprintln!("{name} …");
        let world = World::new()?;
        for row in measure(&world)? {
            println!("{row}");
        }
    }
    println!("\n{}", world::conditions());
    Ok(())
}
