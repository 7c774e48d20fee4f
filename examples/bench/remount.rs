//! A mount that begins with all that the one before it knew.

use crate::aim::Aim;
use crate::mounted::{Home, Mounted};
use crate::names::{MANY, fill, list_all, pages_asked};
use crate::table::{Row, Series, Unit, rounds};
use crate::world::{World, drop_caches, timed};
use crate::{Outcome, interrupt};

/// How soon it answers, how long a known folder takes that the kernel has forgotten, and what that takes of memory.
pub(crate) fn known(world: &World) -> Outcome<Vec<Row>> {
    let (folder, plain) = fill(world, MANY)?;
    let home = Home::new()?;
    let mount = || Mounted::new(&world.server, &home, &[]);
    list_all(&mount()?.path(folder))?;
    let (mut start, mut memory) = (Series::default(), Series::default());
    let (mut again, mut pages) = (Series::default(), Series::default());
    let ours = |round| {
        interrupt::check()?;
        drop_caches();
        let (seconds, mount) = timed(|| {
            let mount = mount()?;
            mount.path("").symlink_metadata()?;
            Ok(mount)
        })?;
        start.note(round, 1000.0 * seconds);
        world.server.reset_counters();
        let milliseconds = list_all(&mount.path(folder))?;
        pages.note(round, pages_asked(world) as f64);
        again.note(round, list_all(&mount.path(folder))?);
        memory.note(round, mount.memory_mib("VmHWM")?);
        Ok(milliseconds)
    };
    let referee = |_| {
        drop_caches();
        list_all(&plain)
    };
    let listing = Row::in_turns_of(
        rounds(),
        "readdir and stat of 100,000 entries that the mount before knew",
        Unit::Milliseconds,
        ours,
        ("plain directory, from the disk", referee),
    )?;
    let besides = format!("again: {again} ms; pages asked for before it was there: {pages}");
    let start = Row::alone(
        "from start to mounted and answering, 100,000 entries known",
        Unit::Milliseconds,
        start,
    );
    let memory = Row::alone("RSS, peak of that", Unit::Mib, memory);
    Ok(vec![
        start.aim(Aim::at_most(300.0)),
        listing.aim(Aim::at_most(1000.0)).besides(besides),
        memory.aim(Aim::at_most(150.0)),
    ])
}
