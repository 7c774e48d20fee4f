//! Two mounts and a client of the API change the same names, and the stream that tells of it is cut at random.
//!
//! Who changes a name has seen what it was, so nothing conflicts. Each look at it sees what it was at most a moment ago, on the
//! mount that changed it what it is; and when all are quiet, both mounts show the same as the server, within the time in which
//! it tells, or `--metadata-ttl` where it did not: because the stream was cut, or because so many changes came at once that it
//! dropped some. A name that others took from a file leads to what that became for no longer than the mount does not know it.
//! What meets at the same moment is in `races`.
//!
//! The seed is printed; `CLOUDREVE_TEST_SEED` repeats it, as far as threads can be repeated, and
//! `CLOUDREVE_TEST_TOGETHER_OPERATIONS` says how many operations there are.

mod actor;
mod history;

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use cloudreve_test_server::{Options, Server};

use self::actor::{Actor, Tally, names, seen};
use self::history::{Histories, Value, Who, clock, number};
use crate::support::mounted::Mounted;
use crate::support::{dice, seed};

const FOLDERS: usize = 4;
const NAMES_IN_EACH: usize = 20;

/// Operations in the run that everybody waits for, and in the one that has the time.
const FEW: u64 = 1_500;
const MANY: u64 = 20_000;
/// Operations of each of the three in a round, after which all are quiet: so few that the server tells of all changes, or so
/// many that it drops most of what it has to tell.
const ROUNDS: [u64; 4] = [3, 200, 4, 3];
/// Changes by others of which it tells. Each may be of two names, and of what is in them.
const TOLD_OF: u64 = 4;

/// How long the server waits for a pause before it tells.
const EVENT_DELAY: Duration = Duration::from_millis(250);
/// What it may take from there until a mount shows it.
const TOLD: Duration = Duration::from_secs(1);
/// How long answers are believed of which nobody tells anything.
const TTL: Duration = Duration::from_secs(3);
/// What a machine may take on top that has other things to do.
const SLACK: Duration = Duration::from_secs(2);
/// The same where both mounts are looked at as a whole, again and again.
const SLACK_OF_ALL: Duration = Duration::from_secs(8);

/// Longest pause between two operations of one.
const PAUSE_MILLIS: u64 = 15;

/// Faults that are told; more of them say nothing new.
const NOTED: usize = 20;

fn path(name: usize) -> String {
    format!("f{}/{}", name / NAMES_IN_EACH, name % NAMES_IN_EACH)
}

/// What the actors share.
struct World {
    server: Server,
    histories: Histories,
    tally: Tally,
    last: AtomicU64,
    wrong: Mutex<Vec<String>>,
}

impl World {
    fn new() -> Self {
        let server = Server::start(Options::default()).unwrap();
        server.configure_events(|events| events.debounce = EVENT_DELAY);
        for folder in 0..FOLDERS {
            server.mkdir(&format!("f{folder}"));
        }
        Self {
            server,
            histories: Histories::new(FOLDERS * NAMES_IN_EACH, TTL + SLACK),
            tally: Tally::default(),
            last: AtomicU64::new(0),
            wrong: Mutex::default(),
        }
    }

    fn fresh(&self) -> u64 {
        self.last.fetch_add(1, Relaxed) + 1
    }

    fn wrong(&self, what: String) {
        let mut wrong = self.wrong.lock().unwrap();
        if wrong.len() < NOTED {
            wrong.push(what);
        }
    }
}

/// Takes the stream away now and then, also with what it had to tell.
fn cut(server: &Server, dice: &mut impl FnMut(u64) -> u64) {
    match dice(4) {
        0 => server.cut_events(),
        1 => server.end_events(),
        2 => server.configure_events(|events| events.loss = true),
        _ => server.configure_events(|events| events.silence = true),
    }
    std::thread::sleep(Duration::from_millis(dice(300)));
    server.configure_events(|events| (events.loss, events.silence) = (false, false));
}

/// In what `mount` shows another thing of a name, or more names, than there must be.
fn amiss(world: &World, mount: &Mounted) -> Vec<String> {
    let mut amiss = Vec::new();
    for name in 0..FOLDERS * NAMES_IN_EACH {
        let (right, path) = (world.histories.newest(name), path(name));
        let found = seen(&mount.path(&path));
        if found.as_ref().ok() != Some(&right) {
            let told = world.histories.told(name, found.as_ref().ok().copied());
            amiss.push(format!("{path} is {found:?}, not {right:?}{told}"));
        }
    }
    for folder in 0..FOLDERS {
        let mut found = names(&mount.path(format!("f{folder}"))).unwrap();
        found.sort();
        let right = right_names(world, folder);
        if found != right {
            amiss.push(format!("f{folder} has {found:?}, not {right:?}"));
        }
    }
    amiss
}

fn right_names(world: &World, folder: usize) -> Vec<String> {
    let names = folder * NAMES_IN_EACH..(folder + 1) * NAMES_IN_EACH;
    let there = names.filter(|name| world.histories.newest(*name) != Value::Absent);
    let mut names: Vec<_> = there
        .map(|name| (name % NAMES_IN_EACH).to_string())
        .collect();
    names.sort();
    names
}

/// The same of what the server has.
fn amiss_there(world: &World) -> Vec<String> {
    let mut amiss = Vec::new();
    for folder in 0..FOLDERS {
        let mut found = world.server.names(&format!("f{folder}")).unwrap();
        found.sort();
        let right = right_names(world, folder);
        if found != right {
            amiss.push(format!(
                "the server has {found:?} in f{folder}, not {right:?}"
            ));
        }
    }
    for name in 0..FOLDERS * NAMES_IN_EACH {
        let right = world.histories.newest(name);
        let path = match right {
            Value::File(_) => path(name),
            Value::Folder(_) => format!("{}/inner", path(name)),
            Value::Absent | Value::Empty => continue,
        };
        let found = world.server.content(&path).and_then(|found| number(&found));
        let is_right =
            matches!(right, Value::File(right) | Value::Folder(right) if Some(right) == found);
        if !is_right {
            let told = world.histories.told(name, found.map(Value::File));
            amiss.push(format!(
                "the server has {found:?} at {path}, not {right:?}{told}"
            ));
        }
    }
    amiss
}

fn play(operations: u64) {
    let seed = seed();
    let mut dice_of_rounds = dice(seed);
    let world = World::new();
    let ttl = format!("--metadata-ttl={}s", TTL.as_secs());
    let mount = |options: &[&str]| {
        Mounted::with(&world.server, "cloudreve://my/", options, |command| {
            command.env("RUST_LOG", "debug");
        })
    };
    let one = mount(&[&ttl, "--durability=server"]);
    let other = mount(&[&ttl, "--upload-delay=200ms"]);
    world.server.wait_for_event_streams(2);
    let actor = |who, mount: Option<&Mounted>| Actor {
        who,
        root: mount.map(|mount| mount.path("")),
        world: &world,
    };
    let actors = [
        actor(Who::One, Some(&one)),
        actor(Who::Other, Some(&other)),
        actor(Who::Client, None),
    ];
    let (mut waits, mut cuts, mut done, mut round) = (Vec::new(), 0, 0, 0);
    while done < operations {
        round += 1;
        let of_each = ROUNDS[round as usize % ROUNDS.len()];
        done += 3 * of_each;
        let is_cut = dice_of_rounds(4) == 0;
        let changes = world.tally.changes.load(Relaxed);
        std::thread::scope(|scope| {
            for (actor, number) in actors.iter().zip(0..) {
                let mut dice = dice(seed + round * 8 + number);
                let other = &other;
                scope.spawn(move || {
                    for operation in 1..=of_each {
                        actor.act(&mut dice);
                        // Not a synchronisation: the moments are meant to be any.
                        std::thread::sleep(Duration::from_millis(dice(PAUSE_MILLIS)));
                        if actor.who == Who::Other && operation.is_multiple_of(25) {
                            deliver(actor.world, other);
                        }
                    }
                });
            }
            if is_cut {
                for _ in 0..1 + dice_of_rounds(3) {
                    cut(&world.server, &mut dice_of_rounds);
                    cuts += 1;
                }
            }
        });
        deliver(&world, &other);
        let quiet = Instant::now();
        let is_told = !is_cut && world.tally.changes.load(Relaxed) - changes <= TOLD_OF;
        let promise = if is_told { EVENT_DELAY + TOLD } else { TTL };
        for (who, mount) in [("one", &one), ("other", &other)] {
            while let amiss = amiss(&world, mount)
                && !amiss.is_empty()
            {
                if quiet.elapsed() > promise + SLACK_OF_ALL {
                    let after = quiet.elapsed();
                    world.wrong(format!(
                        "round {round}, told: {is_told}: after {after:?} of quiet the {who} shows {}",
                        amiss.join("; ")
                    ));
                    break;
                }
                std::thread::sleep(Duration::from_millis(20));
            }
        }
        waits.push((is_told, quiet.elapsed()));
        for amiss in amiss_there(&world) {
            world.wrong(format!("round {round}: {amiss}"));
        }
        let wrong = std::mem::take(&mut *world.wrong.lock().unwrap());
        assert!(
            wrong.is_empty(),
            "{}\n{}",
            wrong.join("\n"),
            [("one", &one), ("other", &other)]
                .map(|(name, mount)| kept_log(seed, name, mount.log()))
                .into_iter()
                .chain([kept_log(seed, "server", asked(&world.server))])
                .collect::<String>()
        );
        world.histories.all_seen();
    }
    for is_told in [false, true] {
        let mut waits: Vec<_> = waits.iter().filter(|wait| wait.0 == is_told).collect();
        waits.sort();
        let (half, most) = (waits.get(waits.len() / 2), waits.last());
        println!(
            "{} rounds, told: {is_told}: all right after {:?} of quiet, at most {:?}",
            waits.len(),
            half.map(|wait| wait.1),
            most.map(|wait| wait.1)
        );
    }
    println!("{:?}, {cuts} cuts", world.tally);
    for mount in [&one, &other] {
        assert_eq!(mount.status()["conflicts"], serde_json::json!([]));
    }
    let [changes, looks] = [&world.tally.changes, &world.tally.looks].map(|it| it.load(Relaxed));
    assert!(changes > operations / 10, "hardly anything changed");
    assert!(looks > operations / 10, "hardly anybody looked");
}

/// Keeps a log for who reads of a failure. Where it is, and what it warns of.
fn kept_log(seed: u64, name: &str, log: String) -> String {
    let path = std::env::temp_dir().join(format!("together-{seed}-{name}.log"));
    let warnings = log
        .lines()
        .filter(|line| line.contains("WARN") || line.contains("ERROR"));
    let warnings: String = warnings.map(|line| format!("\n  {line}")).collect();
    std::fs::write(&path, &log).ok();
    format!("\nlog of {name}: {}{warnings}", path.display())
}

/// What the server was asked, and when, as the daemons' logs have it.
fn asked(server: &Server) -> String {
    let requests = server.requests().into_iter().map(|request| {
        let client = request.header("x-cr-client-id").unwrap_or_default();
        format!(
            "{} {client} {} {}?{}\n",
            clock(request.at),
            request.method,
            request.path,
            request.query
        )
    });
    requests.collect()
}

/// Has the server hear of all that the mount that delivers later was told before.
fn deliver(world: &World, other: &Mounted) {
    let since = Instant::now();
    other.sync();
    world.histories.delivered(Who::Other, since);
}

#[test]
fn two_mounts_and_a_client_never_see_what_is_old() {
    play(FEW);
}

#[test]
#[ignore = "twenty thousand operations take minutes; .ci/run runs this"]
fn two_mounts_and_a_client_never_see_what_is_old_for_twenty_thousand_operations() {
    let given = std::env::var("CLOUDREVE_TEST_TOGETHER_OPERATIONS").ok();
    play(given.and_then(|given| given.parse().ok()).unwrap_or(MANY));
}
