//! `rm -rf` of a folder with many files that are on the server.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::Outcome;
use crate::aim::Aim;
use crate::reading::folder;
use crate::table::{Row, Series, Unit, few_rounds};
use crate::world::{World, timed};
use crate::writing::run;

const FILES: usize = 10_000;

/// How long the last requests may take to arrive, and how often it is looked for them.
const PATIENCE: Duration = Duration::from_secs(30);
const LOOK: Duration = Duration::from_millis(10);

/// A folder that a fresh mount has not listed, until the server has nothing of it.
pub(crate) fn many(world: &World) -> Outcome<Vec<Row>> {
    let (mut requests, mut routes) = (Series::default(), String::new());
    let ours = |round| {
        let name = folder("ours", round);
        world.server.add_many(&name, FILES);
        let mount = world.mount()?;
        // The root is looked at by whoever goes there; what is counted begins with the folder.
        mount.path(&name).symlink_metadata()?;
        world.server.reset_counters();
        let (seconds, ()) = timed(|| {
            run("rm", &["-rf".as_ref(), &mount.path(&name)])?;
            gone(world, &name)
        })?;
        requests.note(round, world.server.count_all() as f64);
        routes = by_route(world);
        Ok(1000.0 * seconds)
    };
    let plain = |round| {
        let path = world.plain().join(folder("plain", round));
        std::fs::create_dir(&path)?;
        for number in 0..FILES {
            std::fs::write(path.join(format!("file {number:06}")), "few bytes")?;
        }
        let (seconds, ()) = timed(|| run("rm", &["-rf".as_ref(), &path]))?;
        Ok(1000.0 * seconds)
    };
    let time = Row::in_turns_of(
        few_rounds(),
        "rm -rf of 10,000 files on the server, not listed before",
        Unit::Milliseconds,
        ours,
        ("plain directory", plain),
    )?;
    let requests = Row::alone(
        "requests for it, its listing among them",
        Unit::Requests,
        requests,
    )
    .aim(Aim::at_most(20.0));
    Ok(vec![time, requests.besides(routes)])
}

/// Waits until the server has no such folder.
fn gone(world: &World, name: &str) -> Outcome<()> {
    let began = Instant::now();
    while world.server.names(name).is_some() {
        if began.elapsed() > PATIENCE {
            return Err(format!("{name} is still on the server").into());
        }
        std::thread::sleep(LOOK);
    }
    Ok(())
}

/// What was asked, and how often.
fn by_route(world: &World) -> String {
    let mut counts = BTreeMap::new();
    for request in world.server.requests() {
        *counts.entry(request.route).or_insert(0) += 1;
    }
    let each = counts
        .iter()
        .map(|(route, count)| format!("{count} {route:?}"));
    each.collect::<Vec<_>>().join(", ")
}
