//! Builds the rooms from the ground up, waits, closes them from the top down.
//!
//! Promises: what fails before the mount answers leaves nothing mounted and no socket; what was asked of the server
//! is never hung up on, neither when starting fails nor at the end; whoever ends the mount - a signal, `umount`, a
//! plain umount(8) from outside - it ends in the same order. This room knows the order and nothing else: what is
//! done lies in the rooms below and in its inner ones.

mod answers;
mod at_hand;
mod background;
mod debts;
mod directories;
mod end;
mod ending;
mod explain;
mod following;
mod kernel;
mod known;
mod limits;
mod place;
mod rooms;
mod signals;
mod standing;
mod status;
mod waking;
mod why;
mod writing;

use std::sync::Arc;
use std::time::Instant;

use tokio::runtime::Runtime;
use tokio::sync::mpsc;

use crate::config::MountPlan;
use crate::control::{self, Answer};
use crate::failure::Failure;
use crate::systemd::Manager;
use answers::{Asked, answers};
use at_hand::AtHand;
use background::Report;
use end::{Draining, heartbeat};
use ending::{End, Ending, Farewell};
use kernel::Mounted;
use rooms::Rooms;
use signals::Signals;
use status::StatusSource;

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
    limits::share_heaps();
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
            Ok(farewell) => {
                end::drain(&draining, &mut signals, &manager).await;
                farewell.say().await;
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

/// From the kernel's mount to the free directory, and to the end of all uploads.
async fn serve(
    plan: &MountPlan,
    mut rooms: Rooms,
    runtime: &Runtime,
    signals: &mut Signals,
    manager: &Arc<Manager>,
    report: &mut Report,
) -> Result<Farewell, Failure> {
    let mut mounted = Mounted::attach(plan, &rooms, runtime.handle())?;
    let (ask_for_end, mut asked_for_end) = mpsc::channel(QUEUED_REQUESTS);
    let status = Arc::new(StatusSource::new(plan, &rooms, mounted.passthrough()));
    let debts = rooms.debts.clone().ok();
    let stream = rooms.stream.take();
    rooms.fs.finish_late_ones();
    let _following = stream.map(|stream| stream.follow(&rooms.fs, mounted.notices()));
    let _forgetting = following::forget_left(&rooms.fs, mounted.notices());
    let at_hand = Arc::new(AtHand::new(plan, &rooms));
    let pinned = rooms.pinning.follow();
    let answers = answers(Arc::clone(&status), debts.clone(), at_hand, ask_for_end);
    let socket = match control::Socket::bind(&plan.control_dir, &plan.dir, answers) {
        Ok(socket) => socket,
        Err(err) => {
            mounted.detach(signals, manager).await;
            if let Some(debts) = &debts {
                debts.close().await;
            }
            return Err(no_socket(&err, plan));
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
    let mut ending = Ending {
        began: Instant::now(),
        ends: vec![end],
        asked: asked_for_end,
        signals,
        manager,
    };
    drop(pinned);
    let freed = ending.free(&mut mounted).await;
    rooms.fs.settle().await;
    rooms.keep_known().await;
    status.ends();
    match &debts {
        Some(debts) => ending.deliver(debts).await,
        // Nothing is kept that a new mount at the same place would miss.
        None => socket.remove(),
    }
    drop(beating);
    let Ending { ends, asked, .. } = ending;
    // Who asks from here on is answered that it ended.
    drop(asked);
    let at_once = |end: &End| debts.is_none() || end.waits_for_nothing();
    let (impatient, patient): (Vec<_>, Vec<_>) = ends.into_iter().partition(at_once);
    let farewell = Farewell {
        socket,
        answer: match &freed {
            None => answers::unmounted(debts.as_deref()),
            Some(why) => Answer::Failed { why: why.clone() },
        },
        waiting: patient,
    };
    for end in impatient {
        end.answer(farewell.answer.clone());
    }
    match freed {
        None => Ok(farewell),
        Some(why) => {
            farewell.say().await;
            Err(Failure::failed(why))
        }
    }
}

fn no_socket(err: &std::io::Error, plan: &MountPlan) -> Failure {
    let dir = plan.dir.display();
    Failure::failed(match err.kind() {
        std::io::ErrorKind::AddrInUse => format!(
            "an earlier mount of {dir} has not ended yet, because files are open in it: close them, or end it with 'cloudreve-fuse umount --force {dir}'"
        ),
        _ => format!(
            "the control socket in {} cannot be made: {err}; choose another directory with --control",
            plan.control_dir.display()
        ),
    })
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
