//! What close(2), fsync(2) and their like promise: that what was written is owed, or on the server.

use std::ffi::OsStr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::SystemTime;

use futures_util::StreamExt;

use crate::attributes::Special;
use crate::entry::FileKey;
use crate::fs::Maker;
use crate::fs::changes::disk;
use crate::fs::{Believed, Durability, Error, Fs, HandleId};
use crate::inodes::Ino;
use crate::staging::{Local, State};
use crate::upload::{News, Undelivered};

/// Files of a folder that are brought to the disk at once; they share what that takes.
const SYNCED_AT_ONCE: usize = 64;

impl Fs {
    /// close(2), each of them: what was written is owed from here on. Where the server is to have it, waits for that.
    pub async fn flush(&self, handle: HandleId) -> Result<(), Error> {
        let file = self.files.get(handle)?;
        match file.content.local() {
            Some(local) if file.writes => {
                self.stage(&local)?;
                let generation = local.generation();
                self.on_server(&local, generation).await
            }
            _ => Ok(()),
        }
    }

    /// fsync(2): what was written survives a power cut. That it cannot be delivered is told once to each handle, or
    /// each time where the server is to have it.
    pub async fn sync(&self, handle: HandleId) -> Result<(), Error> {
        let file = self.files.get(handle)?;
        let Some(local) = file.content.local() else {
            return self.told_durably().await;
        };
        self.stage(&local)?;
        let generation = local.generation();
        self.told_durably().await?;
        local.durable().await.map_err(disk)?;
        if self.is_server_promised() {
            return self.on_server(&local, generation).await;
        }
        let blocked = local.delivery().blocked;
        let is_told = file.is_told.swap(blocked.is_some(), Relaxed);
        match blocked {
            Some(why) if !is_told => Err(Error::Undelivered(why)),
            _ => Ok(()),
        }
    }

    /// What is told of files survives a power cut.
    async fn told_durably(&self) -> Result<(), Error> {
        match &self.owing {
            Some(owing) => owing.staging.tell_durably().await.map_err(disk),
            None => Ok(()),
        }
    }

    /// fsync(2) of a folder: the names of what is here survive a power cut, too. What the server was told needs none of it.
    pub async fn sync_folder(&self, ino: Ino) -> Result<(), Error> {
        let folder = self.namespace.folder_key(ino)?;
        self.removals.send(&folder).await?;
        self.told_durably().await?;
        let owed = self.namespace.locals.in_folder(&folder);
        let synced = owed
            .into_iter()
            .map(|(_, shown)| async move { shown.local.durable().await });
        let mut synced = futures_util::stream::iter(synced).buffer_unordered(SYNCED_AT_ONCE);
        while let Some(done) = synced.next().await {
            done.map_err(disk)?;
        }
        Ok(())
    }

    /// The last close(2).
    pub fn release(&self, handle: HandleId) {
        // A mapping is written back after the last close(2), and before this.
        let written = self.files.get(handle).ok().filter(|file| file.writes);
        let written = written.and_then(|file| {
            let local = file.content.local()?;
            self.give_back(&file);
            Some(local)
        });
        // Before it is staged: who changes it from here on, as utimensat(2) does, sees that no writer is left to stage it.
        self.files.release(handle);
        if let Some(local) = written {
            if let Err(err) = self.stage(&local) {
                log::error!("what was written last is here, and not owed to the server yet: {err}");
            }
            self.watch(local);
        }
    }

    /// mknod(2), symlink(2): a new file without content that nobody has open.
    pub async fn make_file(
        &self,
        parent: Ino,
        name: &OsStr,
        maker: Maker,
        special: Option<Special>,
    ) -> Result<Believed, Error> {
        let (made, local) = self.create(parent, name, maker, special).await?;
        if let Err(err) = self.stage(&local) {
            self.forget(made.attr.ino, 1);
            return Err(err);
        }
        Ok(made)
    }

    /// A file that [`Fs::create`] made and nobody could open: what is closed is owed.
    pub fn leave(&self, local: &Arc<Local>) {
        if let Err(err) = self.stage(local) {
            log::error!("a new file is here, and not owed to the server yet: {err}");
        }
    }

    /// The file `key` is about to lose its name: those who have it open keep a way to its content.
    pub(in crate::fs) async fn vanishing(&self, key: &FileKey) {
        if let Some(ino) = self.namespace.inodes.find(key) {
            self.files.vanishing(ino).await;
        }
    }

    /// Keeps in the cache what was delivered, if nobody has written to it since.
    pub fn keep_delivered(&self, news: &News) {
        let News::Delivered { local, .. } = news else {
            return;
        };
        if let Some((shown, _)) = self.namespace.locals.numbered(*local) {
            self.files.delivered(shown.local);
        }
    }

    /// What was written to `local` is owed from now on.
    pub(in crate::fs) fn stage(&self, local: &Arc<Local>) -> Result<(), Error> {
        if local.state() != State::Dirty {
            return Ok(());
        }
        if let State::Staged(_) = local.stage(SystemTime::now()).map_err(disk)? {
            self.owing()?.uploader.staged(local);
        }
        Ok(())
    }

    fn is_server_promised(&self) -> bool {
        self.namespace.options.durability == Durability::Server
    }

    /// Waits until the server has the content of `generation` or a later one, if that was promised. What is written to it
    /// meanwhile by others is owed with it.
    async fn on_server(&self, local: &Arc<Local>, generation: u64) -> Result<(), Error> {
        if !self.is_server_promised() {
            return Ok(());
        }
        let uploader = &self.owing()?.uploader;
        loop {
            if local.is_delivered(generation) {
                return Ok(());
            }
            self.stage(local)?;
            match uploader.deliver(local).await {
                Ok(()) => return Ok(()),
                // It was written to once more, which says nothing of whether it can be delivered.
                Err(Undelivered::Blocked(_)) if local.state() == State::Dirty => {}
                Err(Undelivered::Api(err)) => return Err(err.into()),
                Err(Undelivered::Blocked(why)) => return Err(Error::Undelivered(why)),
                Err(Undelivered::Disk(err)) => return Err(Error::Disk(err)),
            }
            tokio::task::yield_now().await;
        }
    }
}
