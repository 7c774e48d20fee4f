//! A process that does what it is told, in both directories, and says what came of it.
//!
//! Actors are processes and not threads: a process that is killed gives its open files back without asking, each has its own
//! memory, and the kernel keeps locks and mappings by process. An actor is this very test binary, started for the one
//! test that serves as its body; it listens at its standard input, which is a socket.

use std::io::{BufRead, BufReader, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use serde::{Deserialize, Serialize};

use super::calls::Side;
use super::design::refusal;
use super::op::{Op, Text};
use super::seen::Outcome;
use crate::support::shell::{self, PATIENCE};

/// Where an actor finds its [`Part`].
const PART: &str = "CLOUDREVE_TEST_MODEL_ACTOR";

/// What an actor is told once.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Part {
    /// The directory that is tried, usually a mount.
    pub(crate) tried: PathBuf,
    /// The one on the local disk, which is right by definition.
    pub(crate) plain: PathBuf,
    /// Whether the tried one is a mount, of which some things differ by design.
    pub(crate) is_mount: bool,
    /// When the test began, in seconds since 1970.
    pub(crate) began: i64,
}

#[derive(Debug, Serialize, Deserialize)]
enum Order {
    /// Does this, and looks at what it was about if `look`.
    Do { op: Op, look: bool },
    /// Closes all that is open.
    Forget,
}

/// What both sides said to one operation.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Pair {
    pub(crate) op: Op,
    pub(crate) tried: Outcome,
    pub(crate) plain: Outcome,
    /// Where they differ first.
    pub(crate) difference: Option<String>,
}

impl Pair {
    pub(crate) fn of(op: Op, tried: Outcome, plain: Outcome) -> Self {
        let difference = tried.difference(&plain);
        Self {
            op,
            tried,
            plain,
            difference,
        }
    }

    pub(crate) fn is_same(&self) -> bool {
        self.tried.is_as(&self.plain)
    }
}

/// An actor, seen from the test.
pub(crate) struct Actor {
    child: Child,
    socket: BufReader<UnixStream>,
}

impl Actor {
    pub(crate) fn start(part: &Part) -> Self {
        let (ours, its) = UnixStream::pair().expect("a pair of sockets can be made");
        ours.set_read_timeout(Some(PATIENCE))
            .expect("a timeout can be set");
        let child = Command::new(std::env::current_exe().expect("the test has a binary"))
            .args([
                "--exact",
                "model::actor::an_actor_says_what_both_sides_said",
            ])
            .env(PART, serde_json::to_string(part).expect("a part is JSON"))
            .stdin(OwnedFd::from(its))
            .stdout(Stdio::null())
            .spawn()
            .expect("an actor can be started");
        Self {
            child,
            socket: BufReader::new(ours),
        }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What both sides said, first to `op`, then to the looks at what it was about. An error where the actor died, or hangs.
    pub(crate) fn act(&mut self, op: &Op, look: bool) -> Result<Vec<Pair>, String> {
        self.order(&Order::Do {
            op: op.clone(),
            look,
        })
    }

    /// Closes what it has open, whatever comes of it.
    pub(crate) fn forget(&mut self) -> Result<(), String> {
        self.order(&Order::Forget).map(|_| ())
    }

    fn order(&mut self, order: &Order) -> Result<Vec<Pair>, String> {
        let mut line = serde_json::to_string(order).expect("an order is JSON");
        line.push('\n');
        let mut answer = String::new();
        let said = self.socket.get_mut().write_all(line.as_bytes());
        match said.and_then(|()| self.socket.read_line(&mut answer)) {
            Ok(1..) => Ok(serde_json::from_str(&answer).expect("an answer is JSON")),
            Ok(_) => Err(format!("the actor died: {:?}", self.child.wait())),
            Err(err) => Err(format!("the actor does not answer: {err}")),
        }
    }
}

impl Drop for Actor {
    fn drop(&mut self) {
        shell::kill(self.child.id(), libc::SIGKILL);
        self.child.wait().expect("a child can be waited for");
    }
}

/// Both directories, as one actor has them.
struct Stage {
    tried: Side,
    plain: Side,
    is_mount: bool,
}

impl Stage {
    fn new(part: &Part) -> Self {
        Self {
            tried: Side::new(&part.tried, part.began),
            plain: Side::new(&part.plain, part.began),
            is_mount: part.is_mount,
        }
    }

    fn serve(&mut self, order: Order) -> Vec<Pair> {
        match order {
            Order::Do { op, look } => {
                let mut all = vec![self.play(&op)];
                if look {
                    all.extend(looks(&op).iter().map(|op| self.play(op)));
                }
                all
            }
            Order::Forget => {
                self.tried.forget();
                self.plain.forget();
                Vec::new()
            }
        }
    }

    fn play(&mut self, op: &Op) -> Pair {
        let tried = self.tried.run(op);
        let mut plain = self.plain.run(op);
        if let Some(refusal) = refusal(op).filter(|_| self.is_mount)
            && !plain.is_error()
        {
            self.plain.undo(op);
            plain = Outcome::Failed(refusal.errno);
        }
        Pair::of(op.clone(), tried, plain)
    }
}

/// What is looked at after `op`.
fn looks(op: &Op) -> Vec<Op> {
    let mut looks: Vec<Op> = op
        .slots()
        .into_iter()
        .map(|slot| Op::Fstat { slot })
        .collect();
    for path in op.paths() {
        looks.push(Op::Lstat { path: path.clone() });
        if op.is_of_names() {
            looks.push(Op::Readdir {
                path: folder_of(path),
            });
        }
    }
    looks
}

fn folder_of(path: &Text) -> Text {
    let end = path.0.iter().rposition(|byte| *byte == b'/');
    Text(path.0[..end.unwrap_or(0)].to_vec())
}

/// Serves at standard input until nobody is there any more.
fn serve(part: &Part) {
    // What a program asks for is what it gets.
    rustix::process::umask(rustix::fs::Mode::from_bits_retain(0o022));
    let stdin = std::io::stdin().as_fd().try_clone_to_owned();
    let socket = UnixStream::from(stdin.expect("standard input can be cloned"));
    let mut answers = socket.try_clone().expect("a socket can be cloned");
    let mut stage = Stage::new(part);
    for line in BufReader::new(socket).lines() {
        let order =
            serde_json::from_str(&line.expect("the test speaks")).expect("an order is JSON");
        let mut answer = serde_json::to_string(&stage.serve(order)).expect("an answer is JSON");
        answer.push('\n');
        // Where nobody listens any more, the next line is the end.
        if answers.write_all(answer.as_bytes()).is_err() {
            return;
        }
    }
}

/// Also the body of every actor. By itself it starts one, so that what is told here is tried.
#[test]
fn an_actor_says_what_both_sides_said() {
    if let Ok(part) = std::env::var(PART) {
        return serve(&serde_json::from_str(&part).expect("a part is JSON"));
    }
    let (tried, plain) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    std::fs::write(tried.path().join("only here"), "x").unwrap();
    let mut actor = Actor::start(&Part {
        tried: tried.path().to_owned(),
        plain: plain.path().to_owned(),
        is_mount: false,
        began: 0,
    });
    let said = actor
        .act(
            &Op::Unlink {
                path: "only here".into(),
            },
            true,
        )
        .unwrap();
    assert!(!said[0].is_same(), "{said:?}");
    assert_eq!(said[0].tried, Outcome::Done);
    assert_eq!(said[0].plain, Outcome::Failed(libc::ENOENT));
    let [_, lstat, readdir] = &said[..] else {
        panic!("{said:?}");
    };
    assert!(lstat.is_same() && readdir.is_same(), "{said:?}");
    assert_eq!(lstat.plain, Outcome::Failed(libc::ENOENT));
    let pid = rustix::process::Pid::from_child(&actor.child);
    drop(actor);
    let is_there = rustix::process::test_kill_process(pid);
    assert_eq!(
        is_there,
        Err(rustix::io::Errno::SRCH),
        "it ends with who started it"
    );
}
