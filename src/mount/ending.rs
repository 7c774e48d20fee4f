//! A mount in its end: the directory is freed, open files are waited for, what is owed is delivered, and all who asked are
//! answered.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use crate::control::{self, Answer};
use crate::crash::{self, Point};
use crate::mount::answers::Asked;
use crate::mount::debts::Debts;
use crate::mount::end;
use crate::mount::kernel::Mounted;
use crate::mount::signals::Signals;
use crate::systemd::Manager;

/// How long open files are waited for when a signal ends the mount.
const OPEN_FILES_PATIENCE: Duration = Duration::from_secs(10);

/// How long the delivery of what is owed is waited for then, the time for open files included. Without ending uploads and
/// requests, less than what a service manager grants before it kills (90 s with systemd); it is asked for more all the time.
const SIGNAL_PATIENCE: Duration = Duration::from_secs(20);

/// The same where somebody unmounted it from outside: he cannot say how long, and may think that all is done. As long as
/// `umount` waits unless it is told otherwise; a new mount at the same place ends it.
const UNMOUNTED_PATIENCE: Duration = Duration::from_secs(30);

/// How long the server may take to hear of what was deleted just before the end, also where somebody waits for nothing:
/// what is gone here must not come back.
const SETTLE_PATIENCE: Duration = Duration::from_secs(5);

/// How long the last answer on the control socket may take to be read.
const LAST_ANSWER_PATIENCE: Duration = Duration::from_secs(5);

/// What is left to be said when the process is about to end. Until then the socket tells a new mount at the same place that
/// this one still has what is owed.
pub(super) struct Farewell {
    pub(super) socket: control::Socket,
    pub(super) answer: Answer,
    pub(super) waiting: Vec<End>,
}

impl Farewell {
    pub(super) async fn say(self) {
        self.socket.remove();
        for end in self.waiting {
            end.answer(self.answer.clone());
        }
        self.socket.close(LAST_ANSWER_PATIENCE).await;
    }
}

/// A mount in its end.
pub(super) struct Ending<'a> {
    pub(super) began: Instant,
    /// All who wish it.
    pub(super) ends: Vec<End>,
    pub(super) asked: mpsc::Receiver<Asked>,
    pub(super) signals: &'a mut Signals,
    pub(super) manager: &'a Manager,
}

impl Ending<'_> {
    /// Frees the directory, then waits for open files no longer than the least patient of those who wish the end. Who asks
    /// meanwhile joins them, so that `umount --force` ends a wait that began before it. Tells why the directory is not
    /// free, if it is not.
    pub(super) async fn free(&mut self, mounted: &mut Mounted) -> Option<String> {
        let stays = mounted.leave().await;
        loop {
            let left = self.left(End::patience);
            tokio::select! {
                () = mounted.outlast(left, self.signals, self.manager) => return stays,
                Some(also) = self.asked.recv() => self.ends.push(End::Asked(also)),
            }
        }
    }

    /// Waits until what is owed is on the server or cannot be for now, no longer than the least patient, and until the next
    /// signal; then stops the uploads. What is not there stays owed.
    pub(super) async fn deliver(&mut self, debts: &Arc<Debts>) {
        crash::pass(Point::Ending);
        let settled = tokio::time::timeout(SETTLE_PATIENCE, debts.settle());
        tokio::select! {
            settled = settled => if settled.is_err() {
                log::warn!("the server was not told of the last files that were deleted: they may show again");
            },
            never = end::keep_waiting(self.manager) => match never {},
        }
        let delivered = debts.delivered();
        tokio::pin!(delivered);
        loop {
            let left = self.left(End::delivery_patience);
            tokio::select! {
                biased;
                () = &mut delivered => break,
                Some(also) = self.asked.recv() => self.ends.push(End::Asked(also)),
                signal = self.signals.next() => {
                    log::info!("{signal}: what is not delivered yet stays owed");
                    break;
                }
                () = tokio::time::sleep(left) => break,
                never = end::keep_delivering(self.manager, debts) => match never {},
            }
        }
        tokio::select! {
            () = debts.close() => crash::pass(Point::Ended),
            never = end::keep_waiting(self.manager) => match never {},
        }
        if let Some(owed) = debts.in_short() {
            log::warn!("{owed}, at the next mount");
        }
    }

    fn left(&self, patience: impl Fn(&End) -> Duration) -> Duration {
        let patience = self.ends.iter().map(patience).min().unwrap_or_default();
        patience.saturating_sub(self.began.elapsed())
    }
}

/// Why a mount ends.
pub(super) enum End {
    /// Somebody unmounted it from outside.
    Unmounted,
    /// A signal, by name.
    Signal(&'static str),
    /// The control socket.
    Asked(Asked),
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
    /// For open files.
    fn patience(&self) -> Duration {
        match self {
            Self::Unmounted => Duration::ZERO,
            Self::Signal(_) => OPEN_FILES_PATIENCE,
            Self::Asked(asked) => asked.patience,
        }
    }

    /// For what is owed, from the same beginning.
    fn delivery_patience(&self) -> Duration {
        match self {
            Self::Unmounted => UNMOUNTED_PATIENCE,
            Self::Signal(_) => SIGNAL_PATIENCE,
            Self::Asked(asked) => asked.patience,
        }
    }

    /// Not even for the requests that are under way.
    pub(super) fn waits_for_nothing(&self) -> bool {
        matches!(self, Self::Asked(asked) if asked.patience.is_zero())
    }

    pub(super) fn answer(self, answer: Answer) {
        if let Self::Asked(asked) = self {
            asked.give(answer);
        }
    }
}
