//! A large file: how long cp(1) takes, and how long after it until all is on the server.

use std::fs::File;
use std::io::Write;

use cloudreve_test_server::generated_bytes;

use crate::Outcome;
use crate::aim::Aim;
use crate::drain::HELD_BACK;
use crate::reading::{folder, per_gib};
use crate::table::{Row, Series, Unit, few_rounds};
use crate::world::{World, timed};
use crate::writing::run;

const LARGE_BYTES: u64 = 512 << 20;

/// What is made and written at once.
const PIECE_BYTES: u64 = 1 << 20;

const NAME: &str = "large.bin";

/// 512 MiB from a plain file that is in the page cache.
pub(crate) fn copied(world: &World) -> Outcome<Vec<Row>> {
    let plain = world.plain().join(NAME);
    let mut file = File::create(&plain)?;
    for start in (0..LARGE_BYTES).step_by(PIECE_BYTES as usize) {
        file.write_all(&generated_bytes(1, start..start + PIECE_BYTES))?;
    }
    drop(file);
    let mount = world.mount_with(&HELD_BACK)?;
    let (mut delivery, mut raw_delivery) = (Series::default(), Series::default());
    let (mut cpu, mut accepting) = (Series::default(), Series::default());
    let ours = |round| {
        let name = folder("ours", round);
        std::fs::create_dir(mount.path(&name))?;
        rustix::fs::sync();
        let before = mount.cpu_seconds()?;
        let (copy, ()) = timed(|| run("cp", &[&plain, &mount.path(&name)]))?;
        accepting.note(round, per_gib(mount.cpu_seconds()? - before, LARGE_BYTES));
        rustix::fs::sync();
        let (seconds, ()) = timed(|| mount.sync())?;
        delivery.note(round, 1000.0 * seconds);
        cpu.note(round, per_gib(mount.cpu_seconds()? - before, LARGE_BYTES));
        world.holds(&name, 1)?;
        let path = format!("{name}/{NAME}");
        whole(world.server.content(&path))?;
        // Other programs' removals are nothing of what is measured, and the server's memory is this process's.
        world.server.remove(&path);
        Ok(1000.0 * copy)
    };
    let referee = |round| {
        let name = folder("raw", round);
        let copies = world.plain().join(&name);
        std::fs::create_dir(&copies)?;
        rustix::fs::sync();
        let (copy, ()) = timed(|| run("cp", &[&plain, &copies]))?;
        std::fs::remove_dir_all(&copies)?;
        world.server.mkdir(&name);
        rustix::fs::sync();
        let one = std::slice::from_ref(&plain);
        let (seconds, ()) = timed(|| world.raw.upload_all(one, &name, 1, false))?;
        raw_delivery.note(round, 1000.0 * seconds);
        world.holds(&name, 1)?;
        world.server.remove(&format!("{name}/{NAME}"));
        Ok(1000.0 * copy)
    };
    let copy = Row::in_turns_of(
        few_rounds(),
        "cp of 512 MiB",
        Unit::Milliseconds,
        ours,
        ("to a plain directory", referee),
    )?;
    let delivery = Row::beside(
        "512 MiB on the server after the close",
        Unit::Milliseconds,
        delivery,
        ("raw session and chunks", raw_delivery),
    );
    let measured = "processor time of the daemon for it, written and delivered";
    let cpu = Row::alone(measured, Unit::CpuSecondsPerGib, cpu);
    Ok(vec![
        // At most 1.5 and 1.2 times as long.
        copy.aim(Aim::percent(66.7)),
        delivery.aim(Aim::percent(83.3)),
        cpu.besides(format!("{accepting} of it until the close")),
    ])
}

/// A figure is for the right bytes or for nothing.
fn whole(content: Option<Vec<u8>>) -> Outcome<()> {
    let content = content.unwrap_or_default();
    let right = |(start, piece): (u64, &[u8])| {
        piece == generated_bytes(1, start..start + piece.len() as u64)
    };
    let mut pieces = (0..)
        .step_by(PIECE_BYTES as usize)
        .zip(content.chunks(PIECE_BYTES as usize));
    match content.len() as u64 == LARGE_BYTES && pieces.all(right) {
        true => Ok(()),
        false => Err("the server has other bytes than were written".into()),
    }
}
