//! What is owed on its way to the server: from the last close until `sync` says that all is there.
//!
//! Nothing is sent before the last close (`--upload-delay 1h`; `sync` does not wait for that), so that both sides begin
//! with all of it. The raw client reads the same files from a plain directory.

use std::time::Duration;

use crate::aim::Aim;
use crate::mounted::Mounted;
use crate::reading::{folder, mib};
use crate::table::{Row, Series, Unit, few_rounds};
use crate::world::{ROUND_TRIP, World, timed};
use crate::writing::{SAVED_BYTES, Until, set, write_set};
use crate::{Outcome, cpu};

/// Nothing is sent until somebody asks for it.
pub(crate) const HELD_BACK: [&str; 2] = ["--upload-delay", "1h"];

/// Files at once: the program's default for `transfers`.
const AT_ONCE: usize = 8;

const FLOOR: f64 = 85.0;

/// What is owed in a pass.
struct Debt {
    files: u64,
    each_bytes: u64,
}

const SMALL: Debt = Debt {
    files: 2000,
    each_bytes: SAVED_BYTES,
};

/// As many take some six seconds where each costs two round trips.
const SMALL_FAR: Debt = Debt {
    files: 500,
    each_bytes: SAVED_BYTES,
};

const LARGER: Debt = Debt {
    files: 64,
    each_bytes: 1 << 20,
};

/// Processor time of passes, in seconds, and requests for each file.
#[derive(Default)]
struct Cost {
    daemon: Series,
    /// Of the server and this process's threads.
    others: Series,
    /// Of the server and the raw client.
    raw: Series,
    requests: Series,
    /// What the raw client reaches that looks at each file.
    looking: Series,
}

/// Small files on loopback; and what the daemon takes for a thousand, from the first create on.
pub(crate) fn small(world: &World) -> Outcome<Vec<Row>> {
    let (row, cost) = drained(world, &SMALL, "drain of 2,000 files of 4 KiB", per_second)?;
    let thousands = Row::alone(
        "processor time of the daemon for 1,000 of them, written and delivered",
        Unit::CpuMillisecondsPerThousand,
        cost.daemon.clone(),
    );
    let row = row.besides(cost.said());
    Ok(vec![row.aim(Aim::percent(FLOOR)), thousands])
}

/// Files of one chunk, whose bytes count, on loopback.
pub(crate) fn larger(world: &World) -> Outcome<Vec<Row>> {
    let (row, cost) = drained(world, &LARGER, "drain of 64 files of 1 MiB", megabytes)?;
    Ok(vec![row.aim(Aim::percent(FLOOR)).besides(cost.said())])
}

/// Small files to a server that is far.
pub(crate) fn small_far(world: &World) -> Outcome<Vec<Row>> {
    let measured = "drain of 500 files of 4 KiB, 50 ms";
    let (row, cost) = drained_at(world, &SMALL_FAR, measured, per_second, ROUND_TRIP)?;
    Ok(vec![row.aim(Aim::percent(FLOOR)).besides(cost.said())])
}

/// Files of one chunk to a server that is far.
pub(crate) fn larger_far(world: &World) -> Outcome<Vec<Row>> {
    let measured = "drain of 64 files of 1 MiB, 50 ms";
    let (row, cost) = drained_at(world, &LARGER, measured, megabytes, ROUND_TRIP)?;
    Ok(vec![row.aim(Aim::percent(FLOOR)).besides(cost.said())])
}

/// What a pass is counted in, and its figure by the seconds it took.
type Counted = fn(&Debt, f64) -> f64;

fn per_second(debt: &Debt, seconds: f64) -> f64 {
    debt.files as f64 / seconds
}

fn megabytes(debt: &Debt, seconds: f64) -> f64 {
    mib(debt.files * debt.each_bytes) / seconds
}

fn drained(world: &World, debt: &Debt, measured: &str, counted: Counted) -> Outcome<(Row, Cost)> {
    drained_at(world, debt, measured, counted, Duration::ZERO)
}

fn drained_at(
    world: &World,
    debt: &Debt,
    measured: &str,
    counted: Counted,
    latency: Duration,
) -> Outcome<(Row, Cost)> {
    let mount = world.mount_with(&HELD_BACK)?;
    let plain = set(world.plain(), debt.files);
    write_set(&plain, debt.each_bytes, 1, Until::Written)?;
    let unit = match debt.each_bytes {
        SAVED_BYTES => Unit::FilesPerSecond,
        _ => Unit::MibPerSecond,
    };
    let mut cost = Cost::default();
    let (mut raw_cpu, mut looking) = (Series::default(), Series::default());
    let ours = |round| {
        let seconds = drain(world, &mount, debt, round, latency, &mut cost)?;
        Ok(counted(debt, seconds))
    };
    let pass = |name: &str, looks| {
        world.server.mkdir(name);
        settle_disk();
        world.server.set_latency(latency);
        let before = cpu::of_process(std::process::id())?;
        let (seconds, ()) = timed(|| world.raw.upload_all(&plain, name, AT_ONCE, looks))?;
        let work = cpu::of_process(std::process::id())? - before;
        world.server.set_latency(Duration::ZERO);
        world.holds(name, debt.files)?;
        world.server.remove(name);
        Outcome::Ok((counted(debt, seconds), work))
    };
    let raw = |round| {
        let (looked, _) = pass(&folder("raw-looking", round), true)?;
        looking.note(round, looked);
        let (figure, work) = pass(&folder("raw", round), false)?;
        raw_cpu.note(round, thousand(work, debt));
        Ok(figure)
    };
    let referee = ("raw session and chunk, 8 files at once", raw);
    let row = Row::in_turns_of(few_rounds(), measured, unit, ours, referee)?;
    (cost.raw, cost.looking) = (raw_cpu, looking);
    Ok((row, cost))
}

/// Writes what is owed, and waits until it is delivered; gives how long the latter took, in seconds.
fn drain(
    world: &World,
    mount: &Mounted,
    debt: &Debt,
    round: u64,
    latency: Duration,
    cost: &mut Cost,
) -> Outcome<f64> {
    let name = folder("ours", round);
    std::fs::create_dir(mount.path(&name))?;
    let paths = set(&mount.path(&name), debt.files);
    let daemon = mount.cpu_seconds()?;
    write_set(&paths, debt.each_bytes, 1, Until::Written)?;
    settle_disk();
    world.server.reset_counters();
    world.server.set_latency(latency);
    let own = cpu::of_process(std::process::id())?;
    let (seconds, ()) = timed(|| mount.sync())?;
    let others = cpu::of_process(std::process::id())? - own;
    world.server.set_latency(Duration::ZERO);
    let requests = world.server.count_all();
    cost.daemon
        .note(round, thousand(mount.cpu_seconds()? - daemon, debt));
    cost.others.note(round, thousand(others, debt));
    cost.requests
        .note(round, requests as f64 / debt.files as f64);
    world.holds(&name, debt.files)?;
    Ok(seconds)
}

/// What is dirty is the disk's to write, and is not to be written while something is measured.
fn settle_disk() {
    rustix::fs::sync();
}

fn thousand(seconds: f64, debt: &Debt) -> f64 {
    1e6 * seconds / debt.files as f64
}

impl Cost {
    fn said(&self) -> String {
        let Self {
            daemon,
            others,
            raw,
            requests,
            looking,
        } = self;
        format!(
            "raw with a look at each file: {looking}; requests for each file: {requests}; CPU-ms for 1,000 files: daemon \
             {daemon}, server beside it {others}, server and raw client {raw}"
        )
    }
}
