//! A process that writes is killed at any moment: all that a call of it returned from is there.

use std::collections::BTreeMap;
use std::io::{BufRead, Write};
use std::process::{Child, Command, Stdio};

use super::*;

const THREADS: u64 = 4;

/// Bytes of the base that files are written over.
const OLD_BYTES: u64 = 3000;

/// The base of the file that began as `name`.
fn old(name: &str) -> Vec<u8> {
    let seed = crate::entry::stable_hash([name.as_bytes()]);
    (0..OLD_BYTES)
        .map(|at| (seed.wrapping_mul(at + 1) >> 40) as u8)
        .collect()
}

/// What is written with `seed`.
fn new(seed: u64, len: u64) -> Vec<u8> {
    (0..len)
        .map(|at| (seed.wrapping_mul(at + 7) >> 13) as u8)
        .collect()
}

/// A call, as the log of the killed process has it.
#[derive(Debug, Clone, PartialEq)]
enum Call {
    Create { over: bool },
    Write { range: Range<u64>, seed: u64 },
    Truncate(u64),
    Fill(Range<u64>),
    Stage,
    Session,
    Move(String),
    Unlink,
    Deliver,
}

/// A file as the log has it.
#[derive(Debug, Clone)]
struct File {
    origin: String,
    bytes: Vec<u8>,
    session: bool,
}

impl Call {
    fn text(&self) -> String {
        match self {
            Self::Create { over } => format!("create {}", u8::from(*over)),
            Self::Write { range, seed } => format!("write {} {} {seed}", range.start, range.end),
            Self::Truncate(to) => format!("truncate {to}"),
            Self::Fill(range) => format!("fill {} {}", range.start, range.end),
            Self::Stage => "stage".into(),
            Self::Session => "session".into(),
            Self::Move(to) => format!("move {to}"),
            Self::Unlink => "unlink".into(),
            Self::Deliver => "deliver".into(),
        }
    }

    fn parse(text: &str) -> Self {
        let words: Vec<&str> = text.split(' ').collect();
        let number = |at: usize| words[at].parse::<u64>().unwrap();
        match words[0] {
            "create" => Self::Create {
                over: number(1) == 1,
            },
            "write" => Self::Write {
                range: number(1)..number(2),
                seed: number(3),
            },
            "truncate" => Self::Truncate(number(1)),
            "fill" => Self::Fill(number(1)..number(2)),
            "stage" => Self::Stage,
            "session" => Self::Session,
            "move" => Self::Move(words[1].into()),
            "unlink" => Self::Unlink,
            "deliver" => Self::Deliver,
            other => panic!("{other}"),
        }
    }

    fn throw(dice: &mut Dice, name: &str, at: u64) -> Self {
        let range = dice.range(OLD_BYTES + 1000);
        match dice.below(16) {
            0..=5 => Self::Write {
                range,
                seed: dice.below(1 << 40),
            },
            6 => Self::Truncate(range.start),
            7..=8 => Self::Fill(range),
            9..=10 => Self::Stage,
            11..=12 => Self::Session,
            13 => Self::Move(format!("{}.{at}", name.split('.').next().unwrap())),
            14 => Self::Unlink,
            _ => Self::Deliver,
        }
    }

    /// Does it to the file that began as `origin`.
    fn run(&self, local: &Local, origin: &str) {
        let now = SystemTime::now();
        match self {
            Self::Create { .. } => unreachable!("made by the caller"),
            Self::Write { range, seed } => {
                let bytes = new(*seed, range.end - range.start);
                local.write(range.start, &bytes, now).unwrap();
            }
            Self::Truncate(to) => local.truncate(*to, now).unwrap(),
            Self::Fill(range) => {
                let old = old(origin);
                let range = range.start.min(OLD_BYTES)..range.end.min(OLD_BYTES);
                let bytes = &old[range.start as usize..range.end as usize];
                local.fill(range.start, bytes).unwrap();
            }
            Self::Stage => drop(local.stage(now).unwrap()),
            Self::Session => {
                let delivery = Delivery {
                    session: Some("session".into()),
                    ..Delivery::default()
                };
                local.set_delivery(delivery).unwrap();
            }
            Self::Move(to) => local.relocate(place(to), None).unwrap(),
            Self::Unlink => local.unlink().unwrap(),
            Self::Deliver => {
                local.fill(0, &old(origin)).unwrap();
                let generation = local.generation();
                let file = FileId(format!("file of {origin}").into());
                local
                    .delivered(generation, file, EntityId("new".into()), None)
                    .unwrap();
            }
        }
    }

    /// Does it to the file's model; none when it is owed to nobody any more.
    fn model(&self, mut file: File) -> Option<File> {
        match self {
            Self::Write { range, seed } if !range.is_empty() => {
                let (start, end) = (range.start as usize, range.end as usize);
                let len = file.bytes.len().max(end);
                file.bytes.resize(len, 0);
                file.bytes[start..end].copy_from_slice(&new(*seed, range.end - range.start));
            }
            Self::Truncate(to) => file.bytes.resize(*to as usize, 0),
            Self::Session => file.session = true,
            Self::Unlink | Self::Deliver => return None,
            _ => {}
        }
        Some(file)
    }
}

/// The log, as lines `thread B name call` when a call begins and `thread E` when it returned.
struct Log(std::fs::File);

impl Log {
    fn around<T>(&self, thread: u64, name: &str, call: &Call, run: impl FnOnce() -> T) -> T {
        let say = |line: String| (&self.0).write_all(line.as_bytes()).unwrap();
        say(format!("{thread} B {name} {}\n", call.text()));
        let done = run();
        say(format!("{thread} E\n"));
        done
    }
}

#[test]
#[ignore = "runs in a process that another test kills"]
fn a_writer() {
    let dir = PathBuf::from(std::env::var_os("STAGING_DIR").unwrap());
    let round = std::env::var("STAGING_ROUND").unwrap();
    let (staging, _) = open(&dir);
    let log = std::fs::File::options()
        .append(true)
        .create(true)
        .open(dir.join("log"));
    let log = Log(log.unwrap());
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let (staging, log, round) = (&staging, &log, &round);
            scope.spawn(move || write_for_ever(staging, log, thread, round));
        }
    });
}

fn write_for_ever(staging: &Arc<Staging>, log: &Log, thread: u64, round: &str) {
    let mut dice = Dice::new();
    for file in 0.. {
        let origin = format!("{round}-{thread}-{file}");
        let mut name = origin.clone();
        let over = dice.below(2) == 0;
        let local = log.around(thread, &name, &Call::Create { over }, || {
            let base = over.then(|| base(&origin, OLD_BYTES));
            staging
                .create(place(&origin), base, SystemTime::now())
                .unwrap()
        });
        for at in 0..dice.below(20) {
            let call = Call::throw(&mut dice, &name, at);
            log.around(thread, &name, &call, || call.run(&local, &origin));
            match call {
                Call::Move(to) => name = to,
                // Some are written to after that; the model does not follow them.
                Call::Unlink | Call::Deliver => break,
                _ => {}
            }
        }
    }
}

/// Lets a writer write until its log has `lines` more, and kills it a moment later.
fn write_and_kill(dir: &Path, round: u64, lines: u64, dice: &mut Dice) {
    while !is_free(dir) {
        std::thread::yield_now();
    }
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "--nocapture"])
        .arg("staging::tests::crash::a_writer")
        .env("STAGING_DIR", dir)
        .env("STAGING_ROUND", round.to_string())
        .env_remove("STAGING_SEED")
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let log = dir.join("log");
    let has = || std::fs::metadata(&log).map_or(0, |log| log.len());
    // A line has some twenty bytes.
    let until = has() + lines * 20;
    while has() < until {
        assert!(is_running(&mut child), "the writer ended by itself");
        std::thread::yield_now();
    }
    for _ in 0..dice.below(20_000) {
        std::hint::spin_loop();
    }
    child.kill().unwrap();
    child.wait().unwrap();
}

fn is_running(child: &mut Child) -> bool {
    child.try_wait().unwrap().is_none()
}

/// What the log says: the files that are owed, and the calls that had not returned, by the name they were called with.
fn told(dir: &Path, files: &mut BTreeMap<String, File>) -> Vec<(String, Call)> {
    let log = std::fs::File::open(dir.join("log")).unwrap();
    let mut under_way: BTreeMap<String, (String, Call)> = BTreeMap::new();
    for line in std::io::BufReader::new(log).lines() {
        let line = line.unwrap();
        let mut words = line.splitn(4, ' ');
        let thread = words.next().unwrap().to_owned();
        match words.next().unwrap() {
            "B" => {
                let name = words.next().unwrap().to_owned();
                let call = Call::parse(words.next().unwrap());
                under_way.insert(thread, (name, call));
            }
            _ => {
                let (name, call) = under_way.remove(&thread).unwrap();
                apply(files, &name, &call);
            }
        }
    }
    under_way.into_values().collect()
}

fn apply(files: &mut BTreeMap<String, File>, name: &str, call: &Call) {
    if let Call::Create { over } = call {
        let file = File {
            origin: name.into(),
            bytes: if *over { old(name) } else { Vec::new() },
            session: false,
        };
        files.insert(name.into(), file);
        return;
    }
    let file = files.remove(name).unwrap();
    if let Some(file) = call.model(file) {
        let name = match call {
            Call::Move(to) => to,
            _ => name,
        };
        files.insert(name.into(), file);
    }
}

/// Whether `local` is what `file` says; where `call` had not returned, before or after it, or with a part of it.
fn is_as(local: &Local, file: &File, call: Option<&Call>) -> bool {
    let bytes = all(local, &old(&file.origin));
    let session = local.delivery().session.is_some();
    let after = call.and_then(|call| call.model(file.clone()));
    let is = |file: &File| bytes == file.bytes && session == file.session;
    if is(file) || after.as_ref().is_some_and(is) {
        return true;
    }
    let (Some(Call::Write { range, .. }), Some(after)) = (call, &after) else {
        return false;
    };
    // A write that was not answered may be there in part.
    let is_one_of = |at: usize| {
        let (old, new) = (file.bytes.get(at), after.bytes.get(at));
        range.contains(&(at as u64)) && (Some(&bytes[at]) == old || Some(&bytes[at]) == new)
            || Some(&bytes[at]) == old
            || at >= file.bytes.len() && bytes[at] == 0
    };
    bytes.len() >= file.bytes.len()
        && bytes.len() <= after.bytes.len()
        && (0..bytes.len()).all(is_one_of)
}

#[test]
fn what_was_answered_is_there_whenever_the_writer_was_killed() {
    let rounds = std::env::var("CRASH_ROUNDS")
        .ok()
        .and_then(|rounds| rounds.parse().ok());
    let mut dice = Dice::new();
    let world = World::new();
    let mut files = BTreeMap::new();
    for round in 0..rounds.unwrap_or(25) {
        let lines = 1 + dice.below(3000);
        write_and_kill(world.dir(), round, lines, &mut dice);
        let under_way = told(world.dir(), &mut files);
        std::fs::remove_file(world.dir().join("log")).unwrap();
        let (staging, owed) = world.open();
        check(&mut files, under_way, &owed);
        // Some are delivered and unlinked; the others stay for the next rounds.
        for local in owed {
            if dice.below(3) > 0 {
                let name = local.place().name.to_string();
                files.remove(&name).unwrap();
                local.unlink().unwrap();
            }
        }
        assert_eq!(staging.owed().len(), files.len());
        drop(staging);
        let kept = kept(&world);
        assert_eq!(
            kept,
            (files.len() as i64, files.len()),
            "nothing is left over"
        );
    }
}

/// Rows and contents in all slots: a process that another test has begun may hold a lock a moment longer than we do.
fn kept(world: &World) -> (i64, usize) {
    let (mut rows, mut contents) = (0, 0);
    for slot in std::fs::read_dir(world.dir().join("drives")).unwrap() {
        let slot = slot.unwrap().path();
        let journal = rusqlite::Connection::open(slot.join("journal.sqlite")).unwrap();
        let count = journal.query_row("SELECT count(*) FROM local", [], |row| row.get::<_, i64>(0));
        rows += count.unwrap();
        let names = std::fs::read_dir(slot.join("content")).unwrap();
        let is_content = |name: &std::ffi::OsString| !name.to_str().unwrap().contains('.');
        let names = names.map(|entry| entry.unwrap().file_name());
        contents += names.filter(is_content).count();
    }
    (rows, contents)
}

/// Compares what is owed with what the log says, which then follows what is.
fn check(files: &mut BTreeMap<String, File>, under_way: Vec<(String, Call)>, owed: &[Arc<Local>]) {
    let mut calls: BTreeMap<String, Call> = under_way.into_iter().collect();
    let mut expected = std::mem::take(files);
    for local in owed {
        let name = local.place().name.to_string();
        let moved = calls
            .iter()
            .find(|(_, call)| **call == Call::Move(name.clone()));
        let before = moved.map_or_else(|| name.clone(), |(from, _)| from.clone());
        let call = calls.remove(&before);
        match (expected.remove(&before), &call) {
            (Some(file), call) => {
                assert!(
                    is_as(local, &file, call.as_ref()),
                    "{name} is not as it was left; under way: {call:?}, said: {}",
                    file.bytes.len()
                );
                let file = File {
                    bytes: all(local, &old(&file.origin)),
                    session: local.delivery().session.is_some(),
                    ..file
                };
                files.insert(name, file);
            }
            (None, Some(Call::Create { over })) => {
                let bytes = all(local, &old(&name));
                let whole = if *over { old(&name) } else { Vec::new() };
                assert!(bytes == whole, "{name}");
                let (origin, session) = (name.clone(), false);
                files.insert(
                    name,
                    File {
                        origin,
                        bytes,
                        session,
                    },
                );
            }
            (None, call) => panic!("{name} was owed to nobody; under way: {call:?}"),
        }
        assert!(matches!(local.state(), State::Staged(_)));
    }
    for (name, _) in expected {
        let call = calls.remove(&name);
        assert!(
            matches!(call, Some(Call::Unlink | Call::Deliver)),
            "{name} is lost; under way: {call:?}"
        );
    }
}
