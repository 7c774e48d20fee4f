//! Random operations by several processes on a mount, and on a directory of a local ext4, which is right by definition.
//!
//! After each one both sides said the same: result, errno, bytes, attributes, listings. In between processes are killed, the
//! drive is unmounted and mounted again, here or as on another machine, and the daemon is killed; after each of these, and now
//! and then, both directories are compared as a whole.
//!
//! The seed is printed, and `CLOUDREVE_TEST_SEED` repeats it; `CLOUDREVE_TEST_MODEL_OPERATIONS` says how many. A run that fails
//! tells its last steps, and leaves a file of all of them, one a line, that `CLOUDREVE_TEST_MODEL_REPLAY` plays again: lines
//! may be taken out of it as long as it fails. What differs on purpose is in `design`.

mod actor;
mod calls;
mod design;
mod generate;
mod op;
mod plain;
mod play;
mod seen;
mod tree;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant, SystemTime};

use crate::support::{dice, seed, xattr};
use design::Group;
use generate::Generator;
use play::{Play, Step};

/// Operations in the run that everybody waits for, and in the one that has the time: in several parts, each with a drive of
/// its own and few enough steps that a failure can be played again.
const FEW: usize = 2_000;
const MANY: usize = 100_000;
const PARTS: usize = 5;

/// Parts that are played at the same time: much of an operation is waiting.
const AT_ONCE: usize = 2;

const ALL: [Group; 9] = [
    Group::Bytes,
    Group::Names,
    Group::Looks,
    Group::Modes,
    Group::Owners,
    Group::Times,
    Group::Symlinks,
    Group::Pipes,
    Group::Xattrs,
];

fn operations(usual: usize) -> usize {
    let given = std::env::var("CLOUDREVE_TEST_MODEL_OPERATIONS");
    given.map_or(usual, |number| {
        number.parse().expect("a number of operations")
    })
}

/// Steps of an earlier run that are to be played again.
fn replay() -> Option<Vec<Step>> {
    let path = std::env::var("CLOUDREVE_TEST_MODEL_REPLAY").ok()?;
    let text = std::fs::read_to_string(&path).unwrap_or_else(|err| panic!("{path}: {err}"));
    Some(
        text.lines()
            .map(|line| serde_json::from_str(line).expect("a step"))
            .collect(),
    )
}

#[track_caller]
fn play(play: &mut Play, step: Step) -> Option<seen::Outcome> {
    play.step(step)
        .unwrap_or_else(|why| panic!("{}", play.failure(&why)))
}

fn on_a_mount(seed: u64, operations: usize) {
    let mut started = Play::mounted(ALL.to_vec(), &[]);
    if let Some(steps) = replay() {
        steps
            .into_iter()
            .for_each(|step| drop(play(&mut started, step)));
        return;
    }
    let mut random = Generator::new(dice(seed), started.plain_root(), ALL.to_vec());
    random_steps(&mut started, &mut random, operations, true);
    for end in [play::End::Killed, play::End::Ordered, play::End::Elsewhere] {
        let options = play::options(&mut random);
        play(&mut started, Step::Remount { end, options });
    }
}

fn random_steps<D: FnMut(u64) -> u64>(
    started: &mut Play,
    random: &mut Generator<D>,
    operations: usize,
    is_mount: bool,
) {
    let since = Instant::now();
    while started.tally.operations < operations {
        let step = play::next(random, is_mount);
        let plain = play(started, step.clone());
        play::learn(random, &step, plain.as_ref());
    }
    println!(
        "{:.0} operations a second; {:?}",
        started.speed(since),
        started.tally
    );
}

#[test]
fn a_mount_is_what_a_local_disk_is_to_several_processes_through_remounts_and_kills() {
    on_a_mount(seed(), operations(FEW));
}

#[test]
#[ignore = "a hundred thousand operations take minutes; .ci/run runs this"]
fn a_mount_is_what_a_local_disk_is_for_a_hundred_thousand_operations() {
    let mut dice = dice(seed());
    let operations = operations(MANY) / PARTS;
    // Even ones are the same as the odd ones behind them.
    let parts: Vec<u64> = (0..PARTS).map(|_| dice(1 << 31) | 1).collect();
    let next = AtomicUsize::new(0);
    let play = || {
        while let Some(seed) = parts.get(next.fetch_add(1, Relaxed)) {
            println!(
                "CLOUDREVE_TEST_SEED={seed} CLOUDREVE_TEST_MODEL_OPERATIONS={operations} in the short test plays this part"
            );
            on_a_mount(*seed, operations);
        }
    };
    std::thread::scope(|scope| (0..AT_ONCE).for_each(|_| drop(scope.spawn(play))));
}

#[test]
fn two_local_directories_never_differ_in_any_operation() {
    let mut started = Play::plain(ALL.to_vec());
    let mut random = Generator::new(dice(seed()), started.plain_root(), ALL.to_vec());
    random_steps(&mut started, &mut random, operations(FEW), false);
    play(&mut started, Step::Compare);
    assert!(started.tally.failed_on_both > 0, "{:?}", started.tally);
}

/// Does one thing to the tried directory that nobody told of.
type Damage = fn(&Path) -> std::io::Result<()>;

#[test]
fn whatever_differs_is_noticed() {
    let damages: [(&str, Damage); 14] = [
        ("a byte", |root| {
            fs::write(root.join("d/file"), "some bYtes")
        }),
        ("a byte more", |root| {
            fs::write(root.join("d/file"), "some bytes.")
        }),
        ("a file less", |root| fs::remove_file(root.join("d/file"))),
        ("a file more", |root| fs::write(root.join("d/more"), "")),
        ("a folder less", |root| fs::remove_dir(root.join("d/empty"))),
        ("a letter of a name", |root| {
            fs::rename(root.join("d/file"), root.join("d/File"))
        }),
        ("what it is", |root| {
            fs::remove_file(root.join("d/file"))?;
            fs::create_dir(root.join("d/file"))
        }),
        ("one file for two", |root| {
            fs::remove_file(root.join("d/other"))?;
            fs::hard_link(root.join("d/file"), root.join("d/other"))
        }),
        ("a mode", |root| {
            fs::set_permissions(root.join("d/file"), fs::Permissions::from_mode(0o640))
        }),
        ("a folder's mode", |root| {
            fs::set_permissions(root.join("d"), fs::Permissions::from_mode(0o700))
        }),
        ("an owner", |root| {
            std::os::unix::fs::chown(root.join("d/file"), Some(7), None)
        }),
        ("a time", |root| {
            let day = SystemTime::UNIX_EPOCH + Duration::from_secs(86_400);
            fs::File::open(root.join("d/file"))?.set_modified(day)
        }),
        ("where a link leads", |root| {
            fs::remove_file(root.join("link"))?;
            std::os::unix::fs::symlink("d/empty", root.join("link"))
        }),
        ("an attribute", |root| {
            xattr::set(&root.join("d/file"), "user.a", b"other")
        }),
    ];
    for (what, damage) in damages {
        let mut started = Play::plain(ALL.to_vec());
        for root in [started.tried_root(), started.plain_root()] {
            fs::create_dir_all(root.join("d/empty")).unwrap();
            for name in ["d/file", "d/other"] {
                fs::write(root.join(name), "some bytes").unwrap();
                xattr::set(&root.join(name), "user.a", b"value").unwrap();
            }
            std::os::unix::fs::symlink("d/file", root.join("link")).unwrap();
        }
        play(&mut started, Step::Compare);
        damage(&started.tried_root()).unwrap_or_else(|err| panic!("{what}: {err}"));
        let noticed = started.step(Step::Compare);
        assert!(noticed.is_err(), "{what} differs, and nobody noticed");
    }
}
