//! What the daemon takes: memory, and time to be there. Nobody else does the same work, so there is no referee.

use std::time::Duration;

use crate::bytes::{complete, read};
use crate::mounted::Mounted;
use crate::table::{Row, Series, Unit, rounds};
use crate::world::{World, timed};
use crate::{Outcome, interrupt};

const STREAMS: u64 = 4;
const STREAM_BYTES: u64 = 128 << 20;

/// Quiet after the mount answers, before it counts as idle.
const REST: Duration = Duration::from_millis(500);

/// Resident memory of a fresh mount after it was looked at, and its peak once four readers were done.
pub(crate) fn memory(world: &World) -> Outcome<Vec<Row>> {
    for number in 0..STREAMS {
        world
            .server
            .put_generated(&stream(number), STREAM_BYTES, number);
    }
    let (mut idle, mut busy) = (Series::default(), Series::default());
    for round in rounds() {
        interrupt::check()?;
        let mount = world.mount()?;
        std::fs::read_dir(mount.path(""))?.count();
        std::thread::sleep(REST);
        idle.note(round, mount.memory_mib("VmRSS")?);
        read_at_once(&mount)?;
        busy.note(round, mount.memory_mib("VmHWM")?);
    }
    Ok(vec![
        Row::alone("RSS, idle", Unit::Mib, idle),
        Row::alone("RSS, peak with four streams of 128 MiB", Unit::Mib, busy),
    ])
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
    Ok(vec![Row::alone(measured, Unit::Milliseconds, times)])
}

fn stream(number: u64) -> String {
    format!("stream {number}.bin")
}

fn read_at_once(mount: &Mounted) -> Outcome<()> {
    let read_one = |number| {
        read(&mount.path(stream(number)))
            .and_then(|bytes| complete(bytes, STREAM_BYTES))
            .map_err(|err| err.to_string())
    };
    std::thread::scope(|scope| {
        let readers: Vec<_> = (0..STREAMS)
            .map(|number| scope.spawn(move || read_one(number)))
            .collect();
        readers.into_iter().try_for_each(|reader| {
            reader
                .join()
                .unwrap_or_else(|_| Err("a reader died".into()))
        })
    })?;
    Ok(())
}
