//! Changes of several calls that the network interrupted: finished, or taken back, as soon as the server is there again.
//!
//! Until then they are noted, so that the next start finishes them where this process does not come to it. Whoever made the
//! change was told that it failed; what it was about may be under one name or the other for so long.

use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tokio::time::{sleep, timeout};

use crate::api;
use crate::model::{FileId, FileInfo};
use crate::staging::StepsId;
use crate::task::Task;
use crate::uri::FileUri;

use super::Fs;
use super::changes::is_lost;
use super::steps::Plan;

/// Between two tries with a server that does not answer. By then it has done what was on its way to it.
const WAIT: Duration = Duration::from_secs(1);
/// The same where it says no: what is in the way is somebody's, who may take his time.
const LONG_WAIT: Duration = Duration::from_secs(30);

/// What is to be finished.
#[derive(Default)]
pub(super) struct Late {
    plans: Mutex<Vec<(StepsId, Plan)>>,
    /// Held by who finishes them: no two do the same at once.
    finishing: tokio::sync::Mutex<()>,
    added: Arc<Notify>,
    task: Mutex<Option<Task>>,
}

impl Late {
    /// Whether there is anything to finish.
    pub(super) fn is_any(&self) -> bool {
        !self.plans.lock().unwrap().is_empty()
    }

    /// Whether the file `id` may be on its way.
    pub(super) fn has(&self, id: &FileId) -> bool {
        let plans = self.plans.lock().unwrap();
        plans.iter().any(|(_, plan)| plan.is_about(id))
    }
}

impl Fs {
    /// `plan`, which is noted as `id`, is to be finished. Until then no new file goes where it may lead through.
    pub(super) fn is_late(&self, id: StepsId, plan: Plan) {
        if let Some(owing) = &self.owing {
            owing.staging.clearing().add_way(plan.places());
        }
        self.late.plans.lock().unwrap().push((id, plan));
        self.late.added.notify_one();
    }

    /// From now on finishes what the network interrupts, as soon as the server is there again. Must be called within a runtime.
    pub fn finish_late_ones(self: &Arc<Self>) {
        let task = run(Arc::downgrade(self), Arc::clone(&self.late.added));
        *self.late.task.lock().unwrap() = Some(Task::spawn(task));
    }

    /// Tries once to finish what is late, for no longer than any call may wait each. Tells what is left.
    pub(super) async fn finish_late(&self) -> Outcome {
        let space = &self.namespace;
        let Ok(_finishing) = self.in_time_for(self.late.finishing.lock()).await else {
            return Outcome::Lost;
        };
        let plans = self.late.plans.lock().unwrap().clone();
        let mut worst = Outcome::Done;
        for (id, plan) in plans {
            let outcome = match worst {
                // The next one would be waited for as long.
                Outcome::Lost => Outcome::Lost,
                Outcome::Done | Outcome::Refused => self.finish_one(id, &plan).await,
            };
            worst = worst.max(outcome);
            if outcome != Outcome::Done {
                continue;
            }
            for place in plan.places() {
                if let Some((folder, name)) = space.place_of(&place) {
                    space
                        .metadata
                        .others_changed(&folder, &name, Instant::now());
                }
            }
            let is_left = |(late, _): &(StepsId, Plan)| *late != id;
            self.late.plans.lock().unwrap().retain(is_left);
            if let Some(owing) = &self.owing {
                owing.staging.clearing().way_done(plan.places());
                owing.uploader.wake();
            }
        }
        worst
    }

    /// What is at `uri`, where the file `id` was a moment ago. Where it is not there, but half way to it or from it, it goes the rest
    /// first; an error where it cannot.
    pub(super) async fn whats_still_at(
        &self,
        uri: &FileUri,
        id: &FileId,
    ) -> Result<Option<FileInfo>, api::Error> {
        let may_be_on_its_way = self.late.has(id);
        let found = self.whats_at(uri).await?;
        let is_it = |info: &FileInfo| info.id == *id;
        if !may_be_on_its_way || found.as_ref().is_some_and(is_it) {
            return Ok(found);
        }
        self.finish_late().await;
        match self.late.has(id) {
            true => Err(api::Error::Locked(Vec::new())),
            false => self.whats_at(uri).await,
        }
    }

    /// Whether anything is late.
    pub fn has_late(&self) -> bool {
        !self.late.plans.lock().unwrap().is_empty()
    }

    async fn finish_one(&self, id: StepsId, plan: &Plan) -> Outcome {
        match timeout(self.namespace.options.timeout, self.finish(plan)).await {
            Err(_) => return Outcome::Lost,
            Ok(Err(error)) if is_lost(&error) => return Outcome::Lost,
            Ok(Err(error)) => {
                log::warn!("a change that was interrupted cannot be finished: {error}");
                return Outcome::Refused;
            }
            Ok(Ok(())) => {}
        }
        log::info!("a change that was interrupted is finished");
        let noted = match &self.owing {
            Some(owing) => owing.staging.done(id).await,
            None => Ok(()),
        };
        if let Err(error) = noted {
            // Done again, it does nothing.
            log::error!("a finished change could not be noted as such: {error}");
        }
        Outcome::Done
    }
}

/// What came of a try, the better first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Outcome {
    /// It is finished.
    Done,
    /// The server says no, for now.
    Refused,
    /// It does not answer.
    Lost,
}

async fn run(fs: Weak<Fs>, added: Arc<Notify>) {
    loop {
        added.notified().await;
        let mut wait = WAIT;
        loop {
            sleep(wait).await;
            let Some(fs) = fs.upgrade() else { return };
            if fs.api.reach().is_down() {
                // It is looked for all the time.
                continue;
            }
            wait = match fs.finish_late().await {
                Outcome::Done => break,
                Outcome::Refused => LONG_WAIT,
                Outcome::Lost => WAIT,
            };
        }
    }
}
