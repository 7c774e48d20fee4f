//! What close(2), fsync(2) and their like promise: that what was written is owed, or on the server.

use std::ffi::OsStr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::SystemTime;

use futures_util::StreamExt;

use crate::entry::FileKey;
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
                self.on_server(&local).await
            }
            _ => Ok(()),
        }
    }

    /// fsync(2): what was written survives a power cut. That it cannot be delivered is told once to each handle.
    pub async fn sync(&self, handle: HandleId) -> Result<(), Error> {
        let file = self.files.get(handle)?;
        let Some(local) = file.content.local() else {
            return Ok(());
        };
        self.stage(&local)?;
        local.durable().await.map_err(disk)?;
        if let Some(why) = local.delivery().blocked {
            let is_told = file.is_told.swap(true, Relaxed);
            return match is_told {
                true => Ok(()),
                false => Err(Error::Undelivered(why)),
            };
        }
        file.is_told.store(false, Relaxed);
        self.on_server(&local).await
    }

    /// fsync(2) of a folder: the names of what is here survive a power cut, too. What the server was told needs none of it.
    pub async fn sync_folder(&self, ino: Ino) -> Result<(), Error> {
        let folder = self.namespace.folder_key(ino)?;
        self.removals.send(&folder).await;
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
        if let Ok(file) = self.files.get(handle)
            && file.writes
            && let Some(local) = file.content.local()
            && let Err(err) = self.stage(&local)
        {
            log::error!("what was written last is here, and not owed to the server yet: {err}");
        }
        self.files.release(handle);
    }

    /// mknod(2): a new empty file that nobody has open.
    pub async fn make_file(&self, parent: Ino, name: &OsStr, mode: u32) -> Result<Believed, Error> {
        let (made, local) = self.create(parent, name, mode).await?;
        if let Err(err) = self.stage(&local) {
            self.forget(made.attr.ino, 1);
            return Err(err);
        }
        Ok(made)
    }

    /// The file `key` is about to lose its name: those who have it open keep a way to its content.
    pub(in crate::fs) async fn vanishing(&self, key: &FileKey) {
        if let Some(ino) = self.namespace.inodes.find(key) {
            self.files.vanishing(ino).await;
        }
    }

    /// Keeps in the cache what was delivered, if nobody has written to it since.
    pub fn keep_delivered(&self, news: &News) {
        let News::Delivered { local, .. } = news;
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

    /// Waits until the server has it, if that was promised.
    async fn on_server(&self, local: &Arc<Local>) -> Result<(), Error> {
        let is_promised = self.namespace.options.durability == Durability::Server;
        if !is_promised || !matches!(local.state(), State::Staged(_)) {
            return Ok(());
        }
        let delivered = self.owing()?.uploader.deliver(local).await;
        delivered.map_err(|err| match err {
            Undelivered::Api(err) => err.into(),
            Undelivered::Blocked(why) => Error::Undelivered(why),
            Undelivered::Disk(err) => Error::Disk(err),
        })
    }
}
