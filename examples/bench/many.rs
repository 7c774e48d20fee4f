//! A hundred thousand files that are owed at once: what they take, how long the next start is, and whether each is
//! delivered as fast as if it were alone.

use std::time::Duration;

use cloudreve_test_server::Route;

use crate::aim::Aim;
use crate::drain::HELD_BACK;
use crate::mounted::{Home, Mounted};
use crate::reading::folder;
use crate::table::{Row, Series, Unit};
use crate::world::{World, timed};
use crate::writing::{SAVED_BYTES, Until, set, write_set};
use crate::{Outcome, interrupt};

const FOLDERS: u64 = 10;
const EACH: u64 = 10_000;
const ALL: u64 = FOLDERS * EACH;

/// Nothing is kept on disk that was delivered: a hundred thousand files more, and how fast a file system makes and
/// removes them, would be most of what is measured.
fn options() -> Vec<&'static str> {
    [&HELD_BACK[..], &["--cache-size", "0"]].concat()
}

/// How often it is looked how many have gone.
const LOOK: Duration = Duration::from_millis(20);

/// Ten folders of ten thousand files, written, found again after a kill, and delivered.
pub(crate) fn owed(world: &World) -> Outcome<Vec<Row>> {
    let home = Home::new()?;
    let mount = Mounted::new(&world.server, &home, &options())?;
    for number in 0..FOLDERS {
        interrupt::check()?;
        let dir = mount.path(folder("owed", number));
        std::fs::create_dir(&dir)?;
        write_set(&set(&dir, EACH), SAVED_BYTES, 2, Until::Written)?;
    }
    let written = mount.memory_mib("VmRSS")?;
    mount.killed()?;
    world.server.reset_counters();
    // What is found at the start is due at once.
    let (start, mount) = timed(|| Mounted::new(&world.server, &home, &options()))?;
    let found = mount.memory_mib("VmRSS")?;
    let tenth = ALL / 10;
    let (first, ()) = timed(|| gone(world, 2 * tenth))?;
    let (_, ()) = timed(|| gone(world, 8 * tenth))?;
    let (last, ()) = timed(|| gone(world, ALL))?;
    mount.sync()?;
    for number in 0..FOLDERS {
        world.holds(&folder("owed", number), EACH)?;
    }
    let left = mount.memory_mib("VmRSS")?;
    let start = Row::alone(
        "from start to mounted and answering, 100,000 files owed",
        Unit::Milliseconds,
        Series::of_all(1000.0 * start),
    );
    let memory = Row::alone(
        "RSS with 100,000 files owed",
        Unit::Mib,
        Series::of_all(written),
    );
    let besides = format!("{found:.1} MiB after the start, {left:.1} when all are delivered");
    let slower = Row::alone(
        "time to deliver the first 20,000 of them, beside the last",
        Unit::Times,
        Series::of_all(first / last),
    );
    let each = |seconds: f64| 1000.0 * seconds / (2 * tenth) as f64;
    let delivered = format!("{:.2} and {:.2} ms each", each(first), each(last));
    Ok(vec![
        start,
        memory.besides(besides),
        slower.aim(Aim::at_most(1.5)).besides(delivered),
    ])
}

/// Waits until the server has the content of so many files.
fn gone(world: &World, files: u64) -> Outcome<()> {
    while world.server.count(Route::UploadChunk) < files {
        interrupt::check()?;
        std::thread::sleep(LOOK);
    }
    Ok(())
}
