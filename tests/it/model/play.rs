//! Plays operations in two directories at once, and compares.

use std::collections::BTreeSet;
use std::fmt;
use std::path::PathBuf;
use std::time::{Instant, SystemTime};

use cloudreve_test_server::{Options, Server};
use serde::{Deserialize, Serialize};

use super::actor::{Actor, Pair, Part};
use super::calls::Side;
use super::design::{CACHE_SIZES, Group, UPLOAD_DELAYS};
use super::generate::Generator;
use super::op::{Op, Text};
use super::plain::Plain;
use super::seen::Outcome;
use super::tree;
use crate::support::mounted::Mounted;
use crate::support::shell;

/// Processes that work in the directories.
const ACTORS: usize = 3;

/// Steps that a failure tells; all of them are in a file.
const TOLD: usize = 40;

/// How a mount ends.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) enum End {
    /// In order; the next one begins where it was.
    Ordered,
    /// In order, when nothing is owed; the next one knows nothing but the server.
    Elsewhere,
    /// By SIGKILL.
    Killed,
}

/// One step of a run.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum Step {
    /// An actor does something, and looks at it afterwards if so.
    Act { actor: usize, op: Op, look: bool },
    /// An actor is killed, and another one takes its place.
    Exit { actor: usize },
    /// The daemon ends, and begins anew with these options.
    Remount { end: End, options: Vec<String> },
    /// All is delivered.
    Sync,
    /// Both directories are compared as a whole.
    Compare,
}

impl fmt::Display for Step {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Act { actor, op, look } => {
                let look = if *look { "   (and looks)" } else { "" };
                write!(to, "process {actor}: {op}{look}")
            }
            Self::Exit { actor } => write!(to, "process {actor}: kill -9, and a new one"),
            Self::Remount { end, options } => {
                write!(to, "unmount ({end:?}), mount with {}", options.join(" "))
            }
            Self::Sync => write!(to, "cloudreve-fuse sync"),
            Self::Compare => write!(to, "compare all"),
        }
    }
}

/// The directory that is tried.
enum Tried {
    /// A drive, mounted; the mount goes first, for it delivers what it owes. Boxed: a server is large.
    Mount(Box<(Option<Mounted>, Server)>),
    /// Another local directory, which never differs.
    Plain(Plain),
}

/// A run under way.
pub(crate) struct Play {
    /// First to go, for an unmount waits for what is open.
    actors: Vec<Actor>,
    tried: Tried,
    plain: Plain,
    groups: Vec<Group>,
    began: i64,
    /// What was played, and what the local disk said where it failed there.
    done: Vec<(Step, Option<i32>)>,
    /// Files removed since the daemon began; it may show the last of them again where it is killed.
    removed: BTreeSet<Text>,
    /// Open files with pages that were written to in memory only.
    in_memory: BTreeSet<(usize, usize)>,
    pub(crate) tally: Tally,
}

/// What a run did.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) operations: usize,
    pub(crate) failed_on_both: usize,
    pub(crate) remounts: usize,
    pub(crate) kills: usize,
    pub(crate) shown_again: usize,
    pub(crate) trees: usize,
    pub(crate) entries: usize,
}

impl Play {
    /// A drive that is mounted, and a local directory, both empty.
    pub(crate) fn mounted(groups: Vec<Group>, options: &[String]) -> Self {
        let server = Server::start(Options::default()).unwrap();
        let mount = mount(&server, options);
        Self::new(Tried::Mount(Box::new((Some(mount), server))), groups)
    }

    /// Two local directories.
    pub(crate) fn plain(groups: Vec<Group>) -> Self {
        Self::new(Tried::Plain(Plain::new()), groups)
    }

    fn new(tried: Tried, groups: Vec<Group>) -> Self {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let mut play = Self {
            actors: Vec::new(),
            tried,
            plain: Plain::new(),
            groups,
            began: now.expect("it is after 1970").as_secs() as i64,
            done: Vec::new(),
            removed: BTreeSet::new(),
            in_memory: BTreeSet::new(),
            tally: Tally::default(),
        };
        let part = play.part();
        play.actors = (0..ACTORS).map(|_| Actor::start(&part)).collect();
        play
    }

    pub(crate) fn plain_root(&self) -> PathBuf {
        self.plain.root()
    }

    pub(crate) fn tried_root(&self) -> PathBuf {
        match &self.tried {
            Tried::Mount(world) => world.0.as_ref().expect("it is mounted").path(""),
            Tried::Plain(plain) => plain.root(),
        }
    }

    fn part(&self) -> Part {
        Part {
            tried: self.tried_root(),
            plain: self.plain_root(),
            is_mount: matches!(self.tried, Tried::Mount(_)),
            began: self.began,
        }
    }

    /// Plays `step`; what the local disk said where it was an operation. An error says in what the sides differ.
    pub(crate) fn step(&mut self, step: Step) -> Result<Option<Outcome>, String> {
        self.done.push((step.clone(), None));
        match step {
            Step::Act { actor, op, look } => self.act(actor, op, look).map(Some),
            Step::Exit { actor } => {
                let part = self.part();
                self.actors[actor] = Actor::start(&part);
                self.in_memory.retain(|(of, _)| *of != actor);
                Ok(None)
            }
            Step::Remount { end, options } => self.remount(end, &options).map(|()| None),
            Step::Sync => self.sync().map(|()| None),
            Step::Compare => self.compare(false).map(|()| None),
        }
    }

    fn act(&mut self, actor: usize, op: Op, look: bool) -> Result<Outcome, String> {
        let said = self.actors[actor].act(&op, look)?;
        self.tally.operations += 1;
        let differ: Vec<_> = said.iter().filter(|pair| !pair.is_same()).collect();
        if !differ.is_empty() {
            return Err(differ.into_iter().map(told).collect());
        }
        let plain = said[0].plain.clone();
        if let Outcome::Failed(errno) = plain {
            self.done.last_mut().expect("this is a step").1 = Some(errno);
            self.tally.failed_on_both += 1;
            return Ok(plain);
        }
        match &op {
            Op::Unlink { path } => drop(self.removed.insert(path.clone())),
            Op::Map {
                slot, sync: false, ..
            } => drop(self.in_memory.insert((actor, *slot))),
            Op::Close { slot } | Op::Fsync { slot } => drop(self.in_memory.remove(&(actor, *slot))),
            _ => {}
        }
        Ok(plain)
    }

    fn mount(&self) -> &Mounted {
        match &self.tried {
            Tried::Mount(world) => world.0.as_ref().expect("it is mounted"),
            Tried::Plain(_) => unreachable!("a local directory is not mounted"),
        }
    }

    /// Waits until what was closed is delivered. What is open is not waited for.
    fn sync(&self) -> Result<(), String> {
        let mount = self.mount();
        let output = shell::output(mount.home.program().arg("sync").arg(mount.path("")));
        let owed = mount.status()["owed_files"].clone();
        let mut owed = owed.as_array().into_iter().flatten();
        // Of these it says the truth, too: they are not on the server.
        let are_open = owed.all(|file| file["state"] == "open");
        match output.status.success() || are_open {
            true => Ok(()),
            false => Err(format!(
                "  cloudreve-fuse sync: {}\n  {}\n",
                String::from_utf8_lossy(&output.stderr),
                mount.status()["owed_files"]
            )),
        }
    }

    fn remount(&mut self, end: End, options: &[String]) -> Result<(), String> {
        if matches!(end, End::Killed) {
            // What lies in pages of a mapping is the kernel's until somebody asks for it to be written.
            for (actor, slot) in std::mem::take(&mut self.in_memory) {
                self.act(actor, Op::Fsync { slot }, false)?;
            }
        }
        let pid = self.mount().pid();
        match end {
            End::Killed => shell::kill(pid, libc::SIGKILL),
            End::Ordered => {}
            End::Elsewhere => {
                for actor in &mut self.actors {
                    actor.forget()?;
                }
                self.sync()?;
            }
        }
        let Tried::Mount(world) = &mut self.tried else {
            unreachable!("a local directory is not mounted")
        };
        let (mounted, server) = &mut **world;
        let mut before = mounted.take().expect("it is mounted");
        if matches!(end, End::Killed) {
            before.wait();
        }
        for actor in &mut self.actors {
            actor.forget()?;
        }
        if !matches!(end, End::Killed) {
            let ended = before.end();
            if !ended.success() {
                return Err(format!("the daemon ended with {ended}: {}", before.log()));
            }
        }
        let after = match end {
            End::Elsewhere => mount(server, options),
            _ => before.again(server, "cloudreve://my/", &strs(options)),
        };
        *mounted = Some(after);
        self.in_memory.clear();
        self.tally.remounts += 1;
        self.tally.kills += usize::from(matches!(end, End::Killed));
        // Where the new one is.
        let part = self.part();
        for actor in &mut self.actors {
            *actor = Actor::start(&part);
        }
        self.compare(matches!(end, End::Killed))?;
        self.removed.clear();
        Ok(())
    }

    /// Both directories as a whole. After a kill the last files that were removed in a row may show again (README, Deleting and
    /// moving); they are removed once more.
    fn compare(&mut self, after_a_kill: bool) -> Result<(), String> {
        let (tried, plain) = (self.tried_root(), self.plain_root());
        let (mut tried, mut plain) = (Side::new(&tried, self.began), Side::new(&plain, self.began));
        let with_xattrs = self.groups.contains(&Group::Xattrs);
        let mut tree = tree::compare(&mut tried, &mut plain, with_xattrs);
        if after_a_kill && !tree.only_tried.is_empty() {
            for path in &tree.only_tried {
                if !self.removed.contains(path) {
                    return Err(format!(
                        "{path:?} shows after a kill, and was not removed just before"
                    ));
                }
                let again = tried.run(&Op::Unlink { path: path.clone() });
                if again != Outcome::Done {
                    return Err(format!("{path:?} shows again, and unlink says {again:?}"));
                }
                self.tally.shown_again += 1;
            }
            tree = tree::compare(&mut tried, &mut plain, with_xattrs);
        }
        self.tally.trees += 1;
        self.tally.entries += tree.entries;
        match tree.differ.is_empty() {
            true => Ok(()),
            false => Err(tree.differ.iter().map(told).collect()),
        }
    }

    /// All steps until now, in files to be read and to be played again, and the last ones and `why` as text.
    pub(crate) fn failure(&self, why: &str) -> String {
        // Of the actors that played them, of whom there are no others.
        let by = self.actors[0].pid();
        let path = std::env::temp_dir().join(format!("cloudreve-model-{by}"));
        let (to_play, to_read) = (path.with_extension("jsonl"), path.with_extension("txt"));
        let json = |step| serde_json::to_string(step).expect("a step is JSON") + "\n";
        let lines: String = self.done.iter().map(|(step, _)| json(step)).collect();
        std::fs::write(&to_play, lines).expect("a file can be written");
        let line = |(number, (step, errno)): (usize, &(Step, Option<i32>))| {
            let failed = errno.map(|errno| format!(" = errno {errno}"));
            format!("{number:>6}  {step}{}\n", failed.unwrap_or_default())
        };
        let lines: Vec<_> = self.done.iter().enumerate().map(line).collect();
        std::fs::write(&to_read, lines.concat()).expect("a file can be written");
        let log = match &self.tried {
            Tried::Mount(world) => world.0.as_ref().map(Mounted::log).unwrap_or_default(),
            Tried::Plain(_) => String::new(),
        };
        let log: Vec<_> = log.lines().rev().take(TOLD).collect();
        let log: String = log
            .into_iter()
            .rev()
            .map(|line| format!("  {line}\n"))
            .collect();
        format!(
            "the last of {} steps, all of which are in {}:\n{}which differed:\n{why}\nthe daemon's log ends with:\n{log}\
             CLOUDREVE_TEST_MODEL_REPLAY={} plays all of them again",
            lines.len(),
            to_read.display(),
            lines[lines.len().saturating_sub(TOLD)..].concat(),
            to_play.display()
        )
    }

    /// What was played a second.
    pub(crate) fn speed(&self, since: Instant) -> f64 {
        self.tally.operations as f64 / since.elapsed().as_secs_f64()
    }
}

fn told(pair: &Pair) -> String {
    let Pair {
        op,
        tried,
        plain,
        difference,
    } = pair;
    let difference = difference.as_deref().unwrap_or("");
    format!("  {op}\n    is       {tried:?}\n    should be {plain:?}\n    {difference}\n")
}

fn strs(options: &[String]) -> Vec<&str> {
    options.iter().map(String::as_str).collect()
}

fn mount(server: &Server, options: &[String]) -> Mounted {
    Mounted::new(server, "cloudreve://my/", &strs(options))
}

/// What comes next in a random run.
pub(crate) fn next<D: FnMut(u64) -> u64>(random: &mut Generator<D>, is_mount: bool) -> Step {
    let actor = random.dice(ACTORS as u64) as usize;
    match random.dice(2000) {
        0..=3 => Step::Exit { actor },
        4..=6 => Step::Compare,
        7 if is_mount => Step::Sync,
        8..=12 if is_mount => {
            let end = match random.dice(5) {
                0..=1 => End::Killed,
                2 => End::Elsewhere,
                _ => End::Ordered,
            };
            let options = options(random);
            Step::Remount { end, options }
        }
        _ => Step::Act {
            actor,
            op: random.draw(actor),
            look: random.dice(3) == 0,
        },
    }
}

/// What a random run learns from a step that was played.
pub(crate) fn learn<D: FnMut(u64) -> u64>(
    random: &mut Generator<D>,
    step: &Step,
    plain: Option<&Outcome>,
) {
    match (step, plain) {
        (Step::Act { actor, op, .. }, Some(plain)) => random.learn(*actor, op, plain),
        (Step::Exit { actor }, _) => random.forget(*actor),
        (Step::Remount { .. }, _) => (0..ACTORS).for_each(|actor| random.forget(actor)),
        _ => {}
    }
}

/// Options of a mount, of those that change which way names and bytes go.
pub(crate) fn options<D: FnMut(u64) -> u64>(random: &mut Generator<D>) -> Vec<String> {
    let choices = [
        ("--passthrough", &["auto", "off"][..]),
        ("--upload-delay", UPLOAD_DELAYS),
        ("--metadata-ttl", &["100ms", "15s", "15s", "15s"]),
        ("--cache-size", CACHE_SIZES),
        ("--delete", &["trash", "permanent"]),
        ("--overwrite", &["replace", "version"]),
    ];
    let mut options = Vec::new();
    for (name, values) in choices {
        let value = values[random.dice(values.len() as u64) as usize];
        options.extend([name.to_owned(), value.to_owned()]);
    }
    options
}
