//! Content that is on this machine already: in the disk cache, or in the kernel's pages.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use cloudreve_test_server::generated_bytes;

use crate::Outcome;
use crate::aim::Aim;
use crate::mounted::{Home, Mounted};
use crate::reading::{mib, offsets, per_gib, piece, read, read_rate};
use crate::table::{Row, Series, Unit};
use crate::world::{REMEMBERING, World, drop_caches, timed};
use crate::writing::change_byte;

const BYTES: u64 = 256 << 20;
const NAME: &str = "kept.bin";
const SEED: u64 = 1;

/// Pages read at random in a pass.
const PAGES: u64 = 200_000;

/// How long the daemon may take to keep what was read, and how often it is asked.
const KEEP_TIME: Duration = Duration::from_secs(5);
const LOOK: Duration = Duration::from_millis(50);

/// How often the file is read for it: what the disk is too slow for is not kept at first.
const TRIES: u32 = 4;

/// What the daemon says of a file that it has all of.
const WHOLE: &str = "100%";

/// Time for what the daemon does in the background with a file that is whole.
const REST: Duration = Duration::from_secs(1);

/// A file that an earlier mount kept, read for the first time by a new one, no page of anything in memory.
pub(crate) fn cached(world: &World) -> Outcome<Vec<Row>> {
    let measured = "256 MiB from the disk cache, no pages, without passthrough";
    let row = from_disk(world, measured, "off")?;
    Ok(vec![row.aim(Aim::percent(60.0))])
}

/// The same, read by the kernel itself.
pub(crate) fn cached_passthrough(world: &World) -> Outcome<Vec<Row>> {
    let measured = "256 MiB from the disk cache, no pages, with passthrough";
    let row = from_disk(world, measured, "auto")?;
    Ok(vec![row.aim(Aim::percent(90.0))])
}

fn from_disk(world: &World, measured: &str, passthrough: &str) -> Outcome<Row> {
    let kept = Kept::new(world, passthrough)?;
    let (mut cpu, mut sent) = (Series::default(), Series::default());
    let ours = |round| {
        let mount = kept.mount(world)?;
        mount.path(NAME).symlink_metadata()?;
        drop_caches();
        let before = (mount.cpu_seconds()?, world.server.content_bytes_sent());
        let rate = read_rate(&mount.path(NAME), BYTES)?;
        cpu.note(round, per_gib(mount.cpu_seconds()? - before.0, BYTES));
        let bytes = world.server.content_bytes_sent() - before.1;
        sent.note(round, mib(bytes));
        if round == 0 {
            // What it found out of the file is written down for the mounts to come.
            std::thread::sleep(REST);
        }
        Ok(rate)
    };
    let plain = |_| {
        drop_caches();
        read_rate(&kept.plain, BYTES)
    };
    let row = Row::in_turns(
        measured,
        Unit::MibPerSecond,
        ours,
        ("plain file, no pages", plain),
    )?;
    let word = &kept.word;
    Ok(row.beside_the_point(!kept.whole).besides(format!(
        "{word}; {sent} MiB from the server; CPU {cpu} s/GiB"
    )))
}

/// A file whose pages the kernel has, opened anew in each pass.
pub(crate) fn warm(world: &World) -> Outcome<Vec<Row>> {
    let kept = Kept::new(world, "off")?;
    let mount = kept.mount(world)?;
    let row = from_pages(
        &kept,
        &mount,
        "256 MiB in the page cache, without passthrough",
    )?;
    Ok(vec![row.aim(Aim::percent(60.0))])
}

/// The same where the pages are those of the kept file itself; and pages of it at random.
pub(crate) fn warm_passthrough(world: &World) -> Outcome<Vec<Row>> {
    let kept = Kept::new(world, "auto")?;
    let mount = kept.mount(world)?;
    // Whole or not is found out when it is first opened, by the daemon beside.
    File::open(mount.path(NAME))?;
    std::thread::sleep(REST);
    let row = from_pages(&kept, &mount, "256 MiB in the page cache, with passthrough")?;
    let random = at_random(&kept, &mount)?;
    Ok(vec![
        row.aim(Aim::percent(60.0).goal(85.0)),
        random.aim(Aim::percent(75.0)).beside_the_point(!kept.whole),
    ])
}

/// One byte in the middle of a file that is kept: open, write and close, until the program may go on.
pub(crate) fn edited(world: &World) -> Outcome<Vec<Row>> {
    let mut kept = Kept::new(world, "auto")?;
    let mount = kept.mount(world)?;
    let path = mount.path(NAME);
    let middle = BYTES / 2;
    let (mut fetched, mut delivery) = (Series::default(), Series::default());
    let mut whole = kept.whole;
    let edit = |path: &Path, round| {
        let (seconds, ()) = timed(|| change_byte(path, middle, round as u8))?;
        Ok(1000.0 * seconds)
    };
    let ours = |round| {
        whole &= keep_again(&mount)?;
        let before = world.server.content_bytes_sent();
        let milliseconds = edit(&path, round)?;
        let (seconds, ()) = timed(|| mount.sync())?;
        delivery.note(round, 1000.0 * seconds);
        let bytes = world.server.content_bytes_sent() - before;
        fetched.note(round, mib(bytes));
        delivered(world, middle, round as u8)?;
        Ok(milliseconds)
    };
    let row = Row::in_turns(
        "one byte in the middle of a cached 256 MiB file: open, write, close",
        Unit::Milliseconds,
        ours,
        ("plain file", |round| edit(&kept.plain, round)),
    )?;
    kept.whole = whole;
    let besides = format!("on the server {delivery} ms later; {fetched} MiB fetched for it");
    let row = row.aim(Aim::at_most(20.0)).besides(besides);
    Ok(vec![row.beside_the_point(!kept.whole)])
}

/// Whether all of the file is kept; reads what is not.
fn keep_again(mount: &Mounted) -> Outcome<bool> {
    for _ in 0..TRIES {
        let began = Instant::now();
        while began.elapsed() < KEEP_TIME {
            if mount.cached(NAME)? == WHOLE {
                return Ok(true);
            }
            std::thread::sleep(LOOK);
        }
        read(&mount.path(NAME))?;
    }
    Ok(false)
}

/// An error unless the server has the new byte, and the old ones beside it.
fn delivered(world: &World, offset: u64, byte: u8) -> Outcome<()> {
    let content = world.server.content(NAME).unwrap_or_default();
    let around = offset - 1..offset + 2;
    let mut expected = generated_bytes(SEED, around.clone());
    expected[1] = byte;
    let found = content.get(around.start as usize..around.end as usize);
    match content.len() as u64 == BYTES && found == Some(&expected[..]) {
        true => Ok(()),
        false => Err("the server has other bytes than were written".into()),
    }
}

fn from_pages(kept: &Kept, mount: &Mounted, measured: &str) -> Outcome<Row> {
    let mut cpu = Series::default();
    let ours = |round| {
        let before = mount.cpu_seconds()?;
        let rate = read_rate(&mount.path(NAME), BYTES)?;
        cpu.note(round, per_gib(mount.cpu_seconds()? - before, BYTES));
        Ok(rate)
    };
    let row = Row::in_turns(
        measured,
        Unit::MibPerSecond,
        ours,
        ("plain file", |_| read_rate(&kept.plain, BYTES)),
    )?;
    let beside_the_point = kept.passthrough != "off" && !kept.whole;
    let row = row.beside_the_point(beside_the_point);
    Ok(row.besides(format!("{}; CPU {cpu} s/GiB", kept.word)))
}

fn at_random(kept: &Kept, mount: &Mounted) -> Outcome<Row> {
    let files = [File::open(mount.path(NAME))?, File::open(&kept.plain)?];
    let rate = |file: &File, round| {
        let all = || offsets(round, PAGES, BYTES).try_for_each(|offset| piece(file, offset));
        let (seconds, ()) = timed(all)?;
        Ok(PAGES as f64 / seconds)
    };
    Row::in_turns(
        "random 4 KiB of it, in the page cache, with passthrough",
        Unit::ReadsPerSecond,
        |round| rate(&files[0], round),
        ("plain file", |round| rate(&files[1], round)),
    )
}

/// A file of the drive that a mount has read and kept, and the same bytes in a plain file.
struct Kept {
    home: Home,
    plain: PathBuf,
    passthrough: String,
    /// All of it was kept.
    whole: bool,
    /// How much was kept.
    word: String,
}

impl Kept {
    fn new(world: &World, passthrough: &str) -> Outcome<Self> {
        world.server.put_generated(NAME, BYTES, SEED);
        let plain = world.plain().join(NAME);
        std::fs::write(&plain, generated_bytes(SEED, 0..BYTES))?;
        let mut kept = Self {
            home: Home::new()?,
            plain,
            passthrough: passthrough.to_owned(),
            whole: false,
            word: String::new(),
        };
        let cached = kept.fill(world)?;
        kept.whole = cached == WHOLE;
        kept.word = format!("{cached} was kept");
        Ok(kept)
    }

    fn mount(&self, world: &World) -> Outcome<Mounted> {
        let [flag, ttl] = REMEMBERING;
        let options = [flag, ttl, "--passthrough", &self.passthrough];
        Mounted::new(&world.server, &self.home, &options)
    }

    /// Reads the file until all of it is kept, or gives up; tells how much of it is.
    fn fill(&self, world: &World) -> Outcome<String> {
        let mount = self.mount(world)?;
        let mut cached = String::new();
        for _ in 0..TRIES {
            drop_caches();
            read(&mount.path(NAME))?;
            let began = Instant::now();
            while began.elapsed() < KEEP_TIME {
                cached = mount.cached(NAME)?;
                if cached == WHOLE {
                    std::thread::sleep(REST);
                    return Ok(cached);
                }
                std::thread::sleep(LOOK);
            }
        }
        Ok(cached)
    }
}
