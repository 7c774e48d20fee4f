//! A machine that goes down: what its file system had not written is gone.
//!
//! The state lies on a file system in a file. A copy of that file, taken while nobody writes, has what was written to
//! the disk and nothing of what the kernel keeps in its cache.

use std::process::Command;

use super::*;

fn run(program: &str, args: &[&std::ffi::OsStr]) {
    let output = Command::new(program).args(args).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program}: {said}");
}

/// A file system in a file, mounted until its drop.
struct Mounted(PathBuf);

impl Mounted {
    fn new(image: &Path, dir: PathBuf) -> Self {
        std::fs::create_dir(&dir).unwrap();
        // The kernel's own time for its log would come in the middle of the copy.
        let options = ["-o".as_ref(), "loop,commit=600".as_ref()];
        run(
            "mount",
            &[options[0], options[1], image.as_ref(), dir.as_ref()],
        );
        Self(dir)
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        run("umount", &["--lazy".as_ref(), self.0.as_ref()]);
    }
}

/// A file that is closed, or flushed too.
struct Made {
    name: String,
    bytes: Vec<u8>,
    is_flushed: bool,
}

fn make(staging: &Arc<Staging>, name: String, dice: &mut Dice) -> Made {
    const LEN: usize = 50_000;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let mut bytes = vec![7; LEN];
    let local = staging
        .create(place(&name), Some(base("e", LEN as u64)), at(0))
        .unwrap();
    for _ in 0..1 + dice.below(5) {
        let range = dice.range(LEN as u64);
        let with = dice.below(200) as u8 + 8;
        let part = &mut bytes[range.start as usize..range.end as usize];
        part.fill(with);
        local.write(range.start, part, at(1)).unwrap();
        if dice.below(4) == 0 {
            local.fill(0, &[7; LEN / 2]).unwrap();
        }
    }
    local.set_mtime(at(2)).unwrap();
    local.stage(at(3)).unwrap();
    let is_flushed = dice.below(2) == 0;
    if is_flushed {
        runtime.block_on(local.durable()).unwrap();
    }
    Made {
        name,
        bytes,
        is_flushed,
    }
}

/// Leaves files behind that are used again, with something in them once that must not come back.
fn use_files(staging: &Arc<Staging>) {
    let used: Vec<_> = (0..30)
        .map(|number| {
            let local = staging.create(place(&format!("used {number}")), None, at(0));
            let local = local.unwrap();
            local.write(0, &[3; 60_000], at(0)).unwrap();
            local
        })
        .collect();
    staging.slot.disk.folder.sync_all().unwrap();
    used.iter().for_each(|local| local.unlink().unwrap());
}

#[test]
#[ignore = "needs root, loop devices and mkfs.ext4"]
fn what_was_flushed_is_whole_after_a_power_cut_and_nothing_torn_passes_for_whole() {
    let mut dice = Dice::new();
    for round in 0..4 {
        let world = World::new();
        let image = world.dir().join("image");
        let file = std::fs::File::create(&image).unwrap();
        file.set_len(128 << 20).unwrap();
        run("mkfs.ext4", &["-q".as_ref(), image.as_ref()]);
        let before = Mounted::new(&image, world.dir().join("before"));
        let state = |mounted: &Mounted| mounted.0.join("state");
        let (staging, _) = open(&state(&before));
        use_files(&staging);
        let seeds: Vec<_> = (0..4).map(|_| dice.below(1 << 50)).collect();
        let made: Vec<Made> = std::thread::scope(|scope| {
            let threads: Vec<_> = seeds
                .iter()
                .map(|seed| {
                    let staging = &staging;
                    scope.spawn(move || {
                        let mut dice = Dice(seed | 1);
                        let name = |file: i32| format!("{seed}-{file}");
                        let files = 0..15;
                        let make = |file| make(staging, name(file), &mut dice);
                        files.map(make).collect::<Vec<_>>()
                    })
                })
                .collect();
            let made = threads.into_iter().map(|thread| thread.join().unwrap());
            made.flatten().collect()
        });
        let copy = world.dir().join("copy");
        run("cp", &[image.as_ref(), copy.as_ref()]);
        drop((staging, before));

        let after = Mounted::new(&copy, world.dir().join("after"));
        let (staging, owed) = Staging::open_in(options(&state(&after)), 1).unwrap();
        let flushed = made.iter().filter(|made| made.is_flushed).count();
        println!(
            "round {round}: {} made, {flushed} flushed, {} left",
            made.len(),
            owed.len()
        );
        for made in &made {
            let is_it = |local: &&Arc<Local>| local.place().name.as_bytes() == made.name.as_bytes();
            let local = owed.iter().find(is_it);
            assert!(local.is_some() || !made.is_flushed, "{} is lost", made.name);
            let Some(local) = local else { continue };
            assert!(!(made.is_flushed && local.is_doubtful()), "{}", made.name);
            if !local.is_doubtful() {
                assert!(
                    all(local, &[7; 50_000]) == made.bytes,
                    "{} is torn",
                    made.name
                );
                assert_eq!(local.mtime(), at(2));
            }
        }
        drop((staging, owed));
    }
}
