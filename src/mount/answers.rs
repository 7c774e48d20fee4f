//! What the control socket of a mount answers.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::MissedTickBehavior;

use crate::control::{Answer, Answers, Progress, Request, Tell};
use crate::mount::at_hand::AtHand;
use crate::mount::debts::Debts;
use crate::mount::status::StatusSource;

/// How often who waits for the end is told how far it is.
const TICK: Duration = Duration::from_millis(500);

/// A request to end the mount, to be answered when it has.
pub(super) struct Asked {
    /// Longest wait for open files, and for what is owed.
    pub(super) patience: Duration,
    answer: oneshot::Sender<Answer>,
}

impl Asked {
    /// Another mount lies over this one.
    pub(super) fn refuse(self, dir: &Path) {
        let why = format!(
            "another mount lies over {0}: unmount that first (umount {0})",
            dir.display()
        );
        self.give(Answer::Failed { why });
    }

    pub(super) fn give(self, answer: Answer) {
        if self.answer.send(answer).is_err() {
            log::debug!("who asked for the unmount did not wait for the answer");
        }
    }
}

/// Answers from `status` and from what is owed; who asks for the end is handed on to `ask_for_end`.
pub(super) fn answers(
    status: Arc<StatusSource>,
    debts: Option<Arc<Debts>>,
    at_hand: Arc<AtHand>,
    ask_for_end: mpsc::Sender<Asked>,
) -> Answers {
    Arc::new(move |request, tell| {
        let status = Arc::clone(&status);
        let at_hand = Arc::clone(&at_hand);
        let debts = debts.clone();
        let ask_for_end = ask_for_end.clone();
        Box::pin(async move {
            match request {
                Request::Status => Answer::Status(Box::new(status.status().await)),
                Request::Why { path } => status.why(&path).await,
                Request::Warm { path } => at_hand.warm(&path.0, &tell).await,
                Request::Pin { path } => at_hand.pin(&path.0, &tell).await,
                Request::Unpin { path } => at_hand.unpin(&path.0).await,
                Request::Sync { path } => match debts {
                    Some(debts) => debts.sync(&path.0, &tell).await,
                    None => nothing_owed(),
                },
                Request::Umount {
                    timeout_ms,
                    force,
                    progress,
                } => {
                    let patience = if force { 0 } else { timeout_ms };
                    let tell = progress.then_some(tell);
                    unmount(Duration::from_millis(patience), tell, debts, ask_for_end).await
                }
            }
        })
    })
}

/// A read-only mount owes nothing.
fn nothing_owed() -> Answer {
    Answer::Synced {
        files: 0,
        left: Vec::new(),
        more_left: 0,
        conflicts: Vec::new(),
    }
}

/// What stays owed of a mount that has ended.
pub(super) fn unmounted(debts: Option<&Debts>) -> Answer {
    let (stays_queued, more_queued) = debts.map(Debts::stays_queued).unwrap_or_default();
    Answer::Unmounted {
        stays_queued,
        more_queued,
        pid: std::process::id(),
    }
}

async fn unmount(
    patience: Duration,
    tell: Option<Tell>,
    debts: Option<Arc<Debts>>,
    ask_for_end: mpsc::Sender<Asked>,
) -> Answer {
    let (answer, answered) = oneshot::channel();
    let sent = ask_for_end.send(Asked { patience, answer }).await;
    // Held any longer, it would keep the mount waiting for more who ask.
    drop(ask_for_end);
    let answered = async {
        match (sent, answered.await) {
            (Ok(()), Ok(answer)) => answer,
            // It ends by itself, at the wish of somebody who came before.
            (Ok(()) | Err(_), _) => unmounted(debts.as_deref()),
        }
    };
    match tell {
        Some(tell) => telling(&tell, debts.as_deref(), answered).await,
        None => answered.await,
    }
}

/// Waits for `answered`, and tells meanwhile how far the delivery is.
async fn telling(
    tell: &Tell,
    debts: Option<&Debts>,
    answered: impl Future<Output = Answer>,
) -> Answer {
    tokio::pin!(answered);
    let waited_for = debts.map(|debts| (debts, debts.all()));
    let mut tick = tokio::time::interval(TICK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            biased;
            answer = &mut answered => return answer,
            _ = tick.tick() => tell.tell(match &waited_for {
                Some((debts, waited_for)) => debts.progress(waited_for),
                None => Progress::default(),
            }),
        }
    }
}
