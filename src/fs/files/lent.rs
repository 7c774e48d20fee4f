//! Content that the kernel writes to by itself, for as long as a handle is open.
//!
//! Only a new content is lent, to who can write to it and nothing else: it is written from one end to the other and
//! closed, as by cp(1). What may be open for hours, and is to go to the server meanwhile, is not (→ [`Fs::lend`]).

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::task::JoinSet;

use crate::fs::changes::disk;
use crate::fs::{Durability, Error, Fs, HandleId};
use crate::inodes::Ino;
use crate::staging::{Local, State};
use crate::upload::Uploader;

use super::File;

/// Pause before the first look at who may still write to what nobody has open any more, for those who are just about to
/// end; each further one is twice as long, up to [`PAUSE_MAX`].
const PAUSE: Duration = Duration::from_millis(1);
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// Contents that somebody may write to by a mapping, or by a mount whose daemon is gone. Its drop ends that they are
/// looked at.
#[derive(Default)]
pub(super) struct Lingering(Mutex<JoinSet<()>>);

impl Lingering {
    /// Has `uploader` deliver `local` once nobody may write to it. Must be called inside a tokio runtime.
    fn watch(&self, local: Arc<Local>, uploader: Arc<Uploader>) {
        let mut watched = self.0.lock().unwrap();
        while watched.try_join_next().is_some() {}
        watched.spawn(async move {
            let mut pause = PAUSE;
            // Whoever opens it meanwhile sees to it.
            while local.lingers() && local.state() == State::Dirty {
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(PAUSE_MAX);
                let theirs = Arc::clone(&local);
                let looked = tokio::task::spawn_blocking(move || {
                    let now = std::time::SystemTime::now();
                    theirs.stage(now)
                });
                match looked.await {
                    Ok(Ok(State::Staged(_))) => uploader.staged(&local),
                    Ok(Ok(_)) => {}
                    Ok(Err(err)) => log::debug!("what may be written to is not owed yet: {err}"),
                    Err(err) => log::error!("what may be written to is not looked at: {err}"),
                }
            }
        });
    }
}

impl Fs {
    /// Whether new contents may be lent at all. Not where close(2) waits for the server: it could wait for an upload that
    /// waits for the last close(2).
    pub fn lends(&self) -> bool {
        self.owing.is_some() && self.namespace.options.durability != Durability::Server
    }

    /// The content of `handle`, for the kernel to write to by itself until that is released; a mapping of it, too, if
    /// `may_map`. To be read only: the kernel opens it anew. None where what is open is not, or not all, here.
    pub fn lend(&self, handle: HandleId, may_map: bool) -> Result<Option<std::fs::File>, Error> {
        let file = self.files.get(handle)?;
        let Some(local) = file.content.local().filter(|_| file.writes) else {
            return Ok(None);
        };
        let Some(loan) = local.lend(may_map).map_err(disk)? else {
            return Ok(None);
        };
        let content = loan.file().map_err(disk)?;
        *file.loan.lock().unwrap() = Some(loan);
        // What was delivered is owed again, and shows.
        self.changed(file.content.ino(), &local);
        Ok(Some(content))
    }

    /// The kernel did not take what was lent to `handle`: the daemon writes for it.
    pub fn unlend(&self, handle: HandleId) {
        if let Ok(file) = self.files.get(handle) {
            self.give_back(&file);
        }
    }

    pub(super) fn give_back(&self, file: &File) {
        let loan = file.loan.lock().unwrap().take();
        if let Some(loan) = loan {
            let local = Arc::clone(loan.local());
            drop(loan);
            self.changed(file.content.ino(), &local);
        }
    }

    /// Sees to it that `local` is owed once nobody may write to it, where somebody may whom nobody sees.
    pub(in crate::fs) fn watch(&self, local: Arc<Local>) {
        if local.lingers()
            && let Some(owing) = &self.owing
        {
            let uploader = Arc::clone(&owing.uploader);
            self.files.lingering.watch(local, uploader);
        }
    }

    /// What shows of `ino` is what the kernel wrote by itself.
    pub(in crate::fs) fn look_at_lent(&self, ino: Ino) {
        let content = {
            let contents = self.files.contents.lock().unwrap();
            contents.get(&ino).map(|shared| Arc::clone(&shared.content))
        };
        if let Some(local) = content.and_then(|content| content.local())
            && local.is_lent()
        {
            self.changed(ino, &local);
        }
    }
}
