//! Builds the rooms from the ground up, waits, closes them from the top down.
//!
//! Promises: what fails before the mount answers leaves nothing mounted and no socket; what was asked of the server
//! is never hung up on, neither when starting fails nor at the end; whoever ends the mount - a signal, `umount`, a
//! plain umount(8) from outside - it ends in the same order. This room knows the order and nothing else: what is
//! done lies in the rooms below and in its inner ones.

mod background;
mod directories;
mod end;
mod explain;
mod kernel;
mod limits;
mod place;
mod rooms;
mod signals;
mod status;

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::runtime::Runtime;
use tokio::sync::{mpsc, oneshot};

use crate::config::MountPlan;
use crate::control::{self, Answer, Answers, Request};
use crate::failure::Failure;
use crate::systemd::Manager;
use background::Report;
use end::{Draining, heartbeat};
use kernel::Mounted;
use rooms::Rooms;
use signals::Signals;
use status::StatusSource;

/// How long open files are waited for when a signal ends the mount. Less than what a service manager grants before
/// it kills (90 s with systemd), together with [`end::DRAIN_MAX`].
const OPEN_FILES_PATIENCE: Duration = Duration::from_secs(10);

/// How long the last answer on the control socket may take to be read.
const LAST_ANSWER_PATIENCE: Duration = Duration::from_secs(5);

/// Unmount requests that wait to be seen; a second one finds the mount ending.
const QUEUED_REQUESTS: usize = 4;

/// Mounts, serves until the mount ends (umount, SIGTERM, SIGINT), closes in order. With `plan.background`, returns in
/// the parent when the mount answers, or with the reason why not; the child goes on to the end.
///
/// To be called before any other thread exists, since a process with threads cannot be forked.
pub fn run(mut plan: MountPlan) -> Result<(), Failure> {
    place::check(&plan)?;
    directories::prepare(&mut plan)?;
    let mut report = Report::nobody();
    if plan.background {
        match background::fork()? {
            background::Side::Parent(waiting) => return waiting.outcome(),
            background::Side::Child(to_parent) => report = to_parent,
        }
    }
    limits::raise_open_files();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("cloudreve")
        .build()
        .map_err(|err| Failure::failed(format!("no threads can be started: {err}")))?;
    let outcome = runtime.block_on(live(&plan, &runtime, &mut report));
    // All that must not be cut off has been waited for.
    runtime.shutdown_background();
    if let Err(failure) = &outcome {
        report.failed(failure);
    }
    outcome
}

async fn live(plan: &MountPlan, runtime: &Runtime, report: &mut Report) -> Result<(), Failure> {
    let manager = Arc::new(Manager::from_environment());
    let mut signals = Signals::listen()?;
    let draining = Draining::default();
    let mut outcome = start(plan, &draining, &mut signals, &manager, report).await;
    if let Ok(rooms) = outcome {
        let served = serve(plan, rooms, runtime, &mut signals, &manager, report).await;
        outcome = match served {
            Ok(()) => {
                end::drain(&draining, &mut signals, &manager).await;
                return Ok(());
            }
            Err(failure) => Err(failure),
        };
    }
    end::drain(&draining, &mut signals, &manager).await;
    outcome.map(|_| ())
}

/// Signs in and asks for the root, unless somebody loses patience.
async fn start(
    plan: &MountPlan,
    draining: &Draining,
    signals: &mut Signals,
    manager: &Manager,
    report: &mut Report,
) -> Result<Rooms, Failure> {
    manager.status(&format!("asking {}", plan.api.address));
    let gave_up = |who: &str| {
        Failure::failed(format!(
            "{} was not mounted: {who} before the server had answered",
            plan.dir.display()
        ))
    };
    tokio::select! {
        biased;
        signal = signals.next() => Err(gave_up(&format!("{signal} came"))),
        () = report.abandoned() => Err(gave_up("the command that asked for it ended")),
        // Never ends, and is polled only while the others wait.
        never = end::keep_waiting(manager) => match never {},
        rooms = rooms::build(plan, draining) => rooms,
    }
}

/// From the kernel's mount to the free directory.
async fn serve(
    plan: &MountPlan,
    rooms: Rooms,
    runtime: &Runtime,
    signals: &mut Signals,
    manager: &Arc<Manager>,
    report: &mut Report,
) -> Result<(), Failure> {
    let mut mounted = Mounted::attach(plan, &rooms, runtime.handle())?;
    let (ask_for_end, mut asked_for_end) = mpsc::channel(QUEUED_REQUESTS);
    let status = Arc::new(StatusSource::new(plan, &rooms, mounted.passthrough()));
    let answers = answers(Arc::clone(&status), ask_for_end);
    let socket = match control::Socket::bind(&plan.control_dir, &plan.dir, answers) {
        Ok(socket) => socket,
        Err(err) => {
            mounted.detach(signals, manager).await;
            return Err(Failure::failed(format!(
                "the control socket in {} cannot be made: {err}; choose another directory with --control",
                plan.control_dir.display()
            )));
        }
    };
    let said = format!("{} is mounted on {}", plan.source, plan.dir.display());
    log::info!("{said}");
    manager.ready(&said);
    report.ready();
    let beating = heartbeat(Arc::clone(manager), Arc::clone(&status), said);

    let end = loop {
        let end = wait_for_end(&mut mounted, &mut asked_for_end, signals).await;
        match end {
            End::Asked(asked) if !mounted.can_detach() => asked.refuse(&plan.dir),
            end => break end,
        }
    };
    manager.stopping(&format!("{}: {end}", plan.dir.display()));
    log::info!("{} ends: {end}", plan.dir.display());
    let mut ends = vec![end];
    let freed = free(
        &mut mounted,
        &mut ends,
        &mut asked_for_end,
        signals,
        manager,
    )
    .await;
    drop(beating);
    socket.remove();
    for end in ends {
        end.answer(freed.as_deref());
    }
    // Who asks from here on is answered that it ended.
    drop(asked_for_end);
    socket.close(LAST_ANSWER_PATIENCE).await;
    match freed {
        None => Ok(()),
        Some(why) => Err(Failure::failed(why)),
    }
}

/// Frees the directory, then waits for open files no longer than the least patient of `ends`. Who `asked` meanwhile
/// joins them, so that `umount --force` ends a wait that began before it. Tells why the directory is not free, if it
/// is not.
async fn free(
    mounted: &mut Mounted,
    ends: &mut Vec<End>,
    asked: &mut mpsc::Receiver<Asked>,
    signals: &mut Signals,
    manager: &Manager,
) -> Option<String> {
    let began = Instant::now();
    let stays = mounted.leave().await;
    loop {
        let patience = ends.iter().map(End::patience).min().unwrap_or_default();
        let left = patience.saturating_sub(began.elapsed());
        tokio::select! {
            () = mounted.outlast(left, signals, manager) => return stays,
            Some(also) = asked.recv() => ends.push(End::Asked(also)),
        }
    }
}

/// Why a mount ends.
enum End {
    /// Somebody unmounted it from outside.
    Unmounted,
    /// A signal, by name.
    Signal(&'static str),
    /// The control socket.
    Asked(Asked),
}

/// A request to end the mount, to be answered when it has.
struct Asked {
    patience: Duration,
    answer: oneshot::Sender<Answer>,
}

impl std::fmt::Display for End {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unmounted => f.write_str("it was unmounted"),
            Self::Signal(name) => write!(f, "{name} came"),
            Self::Asked(_) => f.write_str("umount was asked for"),
        }
    }
}

impl End {
    fn patience(&self) -> Duration {
        match self {
            Self::Unmounted => Duration::ZERO,
            Self::Signal(_) => OPEN_FILES_PATIENCE,
            Self::Asked(asked) => asked.patience,
        }
    }

    fn answer(self, failed: Option<&str>) {
        if let Self::Asked(asked) = self {
            asked.give(match failed {
                None => Answer::Unmounted {
                    stays_queued: Vec::new(),
                },
                Some(why) => Answer::Failed {
                    why: why.to_owned(),
                },
            });
        }
    }
}

impl Asked {
    fn refuse(self, dir: &std::path::Path) {
        let why = format!(
            "another mount lies over {0}: unmount that first (umount {0})",
            dir.display()
        );
        self.give(Answer::Failed { why });
    }

    fn give(self, answer: Answer) {
        if self.answer.send(answer).is_err() {
            log::debug!("who asked for the unmount did not wait for the answer");
        }
    }
}

async fn wait_for_end(
    mounted: &mut Mounted,
    asked: &mut mpsc::Receiver<Asked>,
    signals: &mut Signals,
) -> End {
    tokio::select! {
        () = mounted.ended() => End::Unmounted,
        signal = signals.next() => End::Signal(signal),
        Some(asked) = asked.recv() => End::Asked(asked),
    }
}

/// What the control socket answers.
fn answers(status: Arc<StatusSource>, ask_for_end: mpsc::Sender<Asked>) -> Answers {
    Arc::new(move |request| {
        let status = Arc::clone(&status);
        let ask_for_end = ask_for_end.clone();
        Box::pin(async move {
            match request {
                Request::Status => Answer::Status(Box::new(status.status().await)),
                Request::Umount { timeout_ms, force } => {
                    let patience = if force { 0 } else { timeout_ms };
                    unmount(Duration::from_millis(patience), ask_for_end).await
                }
            }
        })
    })
}

async fn unmount(patience: Duration, ask_for_end: mpsc::Sender<Asked>) -> Answer {
    let (answer, answered) = oneshot::channel();
    let sent = ask_for_end.send(Asked { patience, answer }).await;
    match (sent, answered.await) {
        (Ok(()), Ok(answer)) => answer,
        // It ends by itself, at the wish of somebody who came before.
        (Ok(()) | Err(_), _) => Answer::Unmounted {
            stays_queued: Vec::new(),
        },
    }
}
