//! Content of the server's that comes here to be uploaded onto another file.
//!
//! The copy lies under a name that nothing is delivered under until all of it is on the disk; then it takes its place, and
//! what it was made of is deleted. A note of that finishes it after a crash.

use std::sync::Arc;
use std::time::SystemTime;

use crate::api;
use crate::asker;
use crate::entity::Entity;
use crate::entry::{Entry, FileKey};
use crate::model::FileId;
use crate::read;
use crate::staging::{Base, Local, Place};
use crate::uri::FileUri;

use super::changes::{End, Found, disk, named};
use super::locals::{Shown, local_id};
use super::rename::landed;
use super::steps::{Plan, Step, aside, is_aside};
use super::{Error, Fs};

/// Content up to this size is brought here to be uploaded onto the file that it replaces; it takes a moment, no more.
const SMALL_BYTES: u64 = 1024 * 1024;

/// Brought at once where content is copied.
const PIECE_BYTES: u32 = 1024 * 1024;

/// Whether `local` is a copy of what the server has, which is under way or was given up, and is not to be delivered.
pub fn is_copy(local: &Local) -> bool {
    local.base().is_none() && is_aside(&local.place().name)
}

impl Fs {
    /// Whether the content of `entry` is here in a moment.
    pub(super) async fn can_be_copied(&self, entry: &Entry) -> bool {
        if entry.shortcut.is_some() || entry.unfinished {
            return false;
        }
        if entry.size_bytes <= SMALL_BYTES {
            return true;
        }
        let entity = entry.version();
        let size_bytes = entity.size_bytes;
        self.files.cached_bytes(entity).await == size_bytes
    }

    /// The content of `entry` becomes a new version of the file that it replaces, and `entry` is dropped.
    pub(super) async fn copy_onto(
        &self,
        from: &End,
        entry: &Arc<Entry>,
        to: &End,
        over: Base,
        target: &Found,
    ) -> Result<(), Error> {
        let owing = self.owing()?;
        let entry = &Arc::new(self.namespace.with_untold(entry).into_owned());
        // Under a name that nothing is delivered under: half a copy must not replace anything (→ `Fs::show_owed`).
        let apart = Place {
            name: aside(&entry.id, &to.stored),
            full: None,
            ..to.place()
        };
        let told = self
            .as_told(entry)
            .and_then(|(told, _)| named(Some(told), None));
        let told = told.map(|told| (told, false));
        let modified = entry.times().modified;
        let local = owing.staging.create_telling(apart, None, modified, told);
        let local = local.map_err(disk)?;
        let held = self.hold(&local).await?;
        let before = over.clone();
        let done = match asker::unhurried(self.copied(&local, entry, from)).await {
            Ok(()) => {
                self.copy_replaces(&local, entry, from, to, over, target)
                    .await
            }
            Err(error) => Err(error),
        };
        if let Err(error) = done {
            // Before it replaces anything: what it is a copy of is where it was.
            local.unlink().map_err(disk)?;
            return Err(error);
        }
        let source = self.key_in(from.parent, &entry.id)?;
        let shown = Shown {
            key: FileKey {
                id: local_id(&local),
                ..source.clone()
            },
            local: Arc::clone(&local),
        };
        // The one that it replaces is not owed from here on.
        let retired = target.key(to, self).and_then(|key| self.retire(&key));
        if let Found::Local(old) = target
            && let Some(landed) = landed(&old.local, Some(&before))
        {
            // Its upload got there in the meantime.
            local.relocate(to.place(), Some(landed)).map_err(disk)?;
        }
        self.tell_nothing(Some(&before.file))?;
        let key = self.known_as(&source, shown.key.id.clone());
        if let Some(ino) = self.namespace.inodes.find(&key) {
            self.files.adopt(ino, &entry.entity, &local);
        }
        self.show_moved(from, &shown, to);
        drop(held);
        owing.uploader.staged(&local);
        retired
    }

    /// The copy `local` of `entry` goes where it belongs, and `entry` is deleted. Where that is refused, or `entry` has
    /// another version by now, the copy is dropped and nothing happened: `target` is owed as before.
    async fn copy_replaces(
        &self,
        local: &Local,
        entry: &Entry,
        from: &End,
        to: &End,
        over: Base,
        target: &Found,
    ) -> Result<(), Error> {
        let plan = Plan {
            steps: vec![Step::delete(&entry.id, &from.uri(), Some(&entry.entity))],
            only_if: Some((local.id().0, over.file.to_string())),
        };
        let relocated = || match target {
            Found::Known(_) => local.relocate(to.place(), Some(over)).map_err(disk),
            Found::Local(old) => {
                let placed = local.relocate_before(to.place(), Some(over), &old.local);
                placed.map_err(disk)
            }
        };
        let undo = || local.unlink().map_err(disk);
        self.carry_out_after(&from.folder, &plan, relocated, undo)
            .await
            .map(|_| ())
            .map_err(|error| {
                self.doubt(from);
                match error {
                    Error::Busy(api::Error::Changed) => Error::Gone,
                    error => error,
                }
            })
    }

    /// All of `entry` in `local`, as it would be after a close and an fsync.
    async fn copied(&self, local: &Local, entry: &Entry, from: &End) -> Result<(), Error> {
        let stream = self.stream(&entry.id, entry.version(), from.uri());
        let mut at = 0;
        while at < entry.size_bytes {
            let bytes = stream.read(at, PIECE_BYTES).await?;
            if bytes.is_empty() {
                return Err(Error::Gone);
            }
            local.write(at, &bytes, entry.updated).map_err(disk)?;
            at += bytes.len() as u64;
        }
        local.set_mtime(entry.times().modified).map_err(disk)?;
        local.stage(SystemTime::now()).map_err(disk)?;
        local.durable().await.map_err(disk)
    }

    /// Brings what is only in `base`, which is at `end`.
    pub(super) async fn bring(&self, local: &Local, end: &End, base: &Base) -> Result<(), Error> {
        let stream = self.stream(&base.file, base.entity.clone(), end.uri());
        while let Some(missing) = local.missing() {
            let length = (missing.end - missing.start).min(PIECE_BYTES.into());
            let bytes = stream.read(missing.start, length as u32).await?;
            if bytes.is_empty() {
                return Err(Error::Gone);
            }
            local.fill(missing.start, &bytes).map_err(disk)?;
        }
        Ok(())
    }

    fn stream(&self, file: &FileId, entity: Entity, uri: FileUri) -> read::Stream {
        self.reader.open(read::Source {
            file: file.clone(),
            size_bytes: entity.size_bytes,
            entity: entity.id,
            locate: Arc::new(move || uri.clone()),
        })
    }
}
