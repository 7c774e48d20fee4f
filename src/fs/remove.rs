//! Removing files and folders.
//!
//! What only exists here costs no request. What the server has is deleted there in the call; a run of removals in one
//! folder is gathered and sent in batches (`removals`). A folder is asked whether it is empty first, because the server
//! would delete all that is in it.

use std::ffi::OsStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::api::{self, Page, PagePosition};
use crate::crash::{self, Point};
use crate::entry::{Entry, FileKey};
use crate::inodes::Ino;
use crate::model::{EntityId, FileId, FileInfo, FileKind};
use crate::staging::{Local, LocalId, StepsId};
use crate::uri::FileUri;

use super::changes::{End, Found, disk, has_trash, is_lost};
use super::locals::Shown;
use super::namespace::within;
use super::rename::landed;
use super::root::PEEK;
use super::{Error, Fs};

/// What has a name by now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Now {
    /// What was seen there.
    Same,
    /// Nothing.
    Nothing,
    /// Another file, or another version of it.
    Another,
}

/// Content that goes with the file that it is written over, as it is noted.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Going {
    /// Number of the local file.
    unlinked: u64,
    file: String,
    at: String,
}

impl Going {
    /// What goes.
    pub(super) fn file(&self) -> FileId {
        FileId(self.file.as_str().into())
    }

    fn at(&self) -> Result<FileUri, api::Error> {
        FileUri::parse_wire(&self.at)
            .map_err(|_| api::Error::Local("a noted place cannot be read".to_owned()))
    }
}

impl Fs {
    /// unlink(2). Who has the file open goes on with what it was.
    pub async fn unlink(&self, parent: Ino, name: &OsStr) -> Result<(), Error> {
        let _turn = self.turn_in([parent]).await?;
        let (end, found) = self.end(parent, name).await?;
        let found = found.ok_or(Error::NotFound)?;
        if found.kind() == FileKind::File && self.unlink_renamed(&end, &found).await? {
            self.touch(parent);
            return Ok(());
        }
        // The server may have heard of its new name a moment ago.
        let (end, found) = match found.is_on_server() && self.namespace.unheard.is_any() {
            true => self.end(parent, name).await?,
            false => (end, Some(found)),
        };
        match found.ok_or(Error::NotFound)? {
            Found::Local(shown) => self.unlink_local(&end, shown).await?,
            Found::Known(entry) if entry.kind == FileKind::Folder => return Err(Error::IsAFolder),
            Found::Known(entry) => self.unlink_known(&end, &entry).await?,
        }
        self.touch(parent);
        Ok(())
    }

    async fn unlink_local(&self, end: &End, shown: Shown) -> Result<(), Error> {
        let held = self.hold(&shown.local).await?;
        let shown = match self.again(end, Found::Local(shown)).await? {
            Found::Local(shown) => shown,
            Found::Known(entry) => return self.unlink_known(end, &entry).await,
        };
        self.vanishing(&shown.key).await;
        let (mut now, mut noted) = (Now::Nothing, None);
        let before = shown.local.base();
        if let Some(base) = &before {
            match self.unlink_beneath(end, &shown.local, &base.file).await {
                Ok(known) => (now, noted) = known,
                Err(error) => {
                    let (seen, local) = (&base.entity.id, Some(shown.local.id()));
                    // The lock of an upload of ours that could not be taken away goes, and so does the file then.
                    let is_ours =
                        matches!(error, Error::Busy(api::Error::Locked(_))) && held.is_in_vain();
                    let waits =
                        is_ours && self.removals.postpones(self, end, &base.file, seen, local);
                    if !waits {
                        self.postponed(end, &base.file, seen, local, error)?;
                    }
                    return self.retire(&self.key_of(&shown));
                }
            }
        }
        self.retire(&self.key_of(&shown))?;
        crash::pass(Point::Retired);
        if let Some(base) = landed(&shown.local, before.as_ref()) {
            self.removals
                .postpones(self, end, &base.file, &base.entity.id, None);
        }
        if let Some(id) = noted {
            self.owing()?.staging.done(id).await.map_err(disk)?;
        }
        match now {
            Now::Another => self.doubt(end),
            // An upload that was stopped may have left its mark in a listing.
            Now::Same | Now::Nothing => self.believe(end, None),
        }
        drop(held);
        Ok(())
    }

    /// Deletes the file that `local` is written over, if it is still there. What is there, and a note as of
    /// [`Fs::delete_beneath`].
    async fn unlink_beneath(
        &self,
        end: &End,
        local: &Local,
        file: &FileId,
    ) -> Result<(Now, Option<StepsId>), Error> {
        if self.namespace.is_out_of_reach(&end.folder.uri) {
            return Err(self.removals.unsent());
        }
        let _steady = self.steady(&[end]).await?;
        // Somebody may have put that elsewhere since, and another file in its place.
        let now = self.now_at(end, file).await?;
        let noted = match now {
            Now::Same => self.delete_beneath(end, local, file).await?,
            Now::Nothing | Now::Another => None,
        };
        Ok((now, noted))
    }

    /// After `error`: where that is of a server that cannot be reached, the removal of the file `id`, seen as `seen` at `end`,
    /// waits for it. With it goes the local file `unlinked`.
    fn postponed(
        &self,
        end: &End,
        id: &FileId,
        seen: &EntityId,
        unlinked: Option<LocalId>,
        error: Error,
    ) -> Result<(), Error> {
        let is_of_reach = self.namespace.is_of_reach(&error, &end.folder.uri);
        match is_of_reach && self.removals.postpones(self, end, id, seen, unlinked) {
            true => Ok(()),
            false => Err(error),
        }
    }

    /// Deletes the file that `local` is written over. Where a part of the content is only there, that comes to be nobody's
    /// with it: so it is noted first that `local` goes, too, for who comes after a crash between the two. The note, which
    /// is to stay until `local` is gone.
    async fn delete_beneath(
        &self,
        end: &End,
        local: &Local,
        file: &FileId,
    ) -> Result<Option<StepsId>, Error> {
        if local.missing().is_none() {
            self.delete(end, file).await?;
            return Ok(None);
        }
        let going = Going {
            unlinked: local.id().0,
            file: file.to_string(),
            at: end.uri().to_wire(),
        };
        let text = serde_json::to_string(&going).map_err(|error| disk(error.into()))?;
        let staging = &self.owing()?.staging;
        let id = staging.begin(text).await.map_err(disk)?;
        crash::pass(Point::StepsNoted);
        if let Err(error) = self.delete(end, file).await {
            // Who asked is told that it stays.
            staging.done(id).await.map_err(disk)?;
            return Err(error);
        }
        Ok(Some(id))
    }

    /// Finishes what [`Fs::delete_beneath`] noted before a crash.
    pub(super) async fn finish_unlink(&self, going: &Going) -> Result<(), Error> {
        let found = self.namespace.locals.numbered(LocalId(going.unlinked));
        let Some((shown, _)) = found else {
            return Ok(());
        };
        let base = shown.local.base();
        if base.is_none_or(|base| *base.file.0 != *going.file) {
            return Ok(());
        }
        let (uri, id) = (going.at()?, FileId(going.file.as_str().into()));
        if let Some(info) = self.whats_at(&uri).await?
            && info.id == id
        {
            self.deleted(&uri, &id).await?;
        }
        self.retire(&self.key_of(&shown))
    }

    /// Under what a local file is known now: that may have changed while it was waited for.
    pub(super) fn key_of(&self, shown: &Shown) -> FileKey {
        let now = self.namespace.locals.numbered(shown.local.id());
        now.map_or_else(|| shown.key.clone(), |(now, _)| now.key)
    }

    async fn unlink_known(&self, end: &End, entry: &Entry) -> Result<(), Error> {
        let key = self.key_in(end.parent, &entry.id)?;
        self.vanishing(&key).await;
        if !self.late.has(&entry.id) && self.removals.takes(self, end, entry).await {
            return self.retire(&key);
        }
        let deleted = self.delete_seen(end, &entry.id).await;
        self.removals.ended(&end.folder.key, deleted.is_ok());
        if let Err(error) = deleted {
            self.postponed(end, &entry.id, &entry.entity, None, error)?;
            return self.retire(&key);
        }
        self.retire(&key)?;
        self.believe(end, None);
        Ok(())
    }

    /// rmdir(2).
    pub async fn remove_folder(&self, parent: Ino, name: &OsStr) -> Result<(), Error> {
        let _turn = self.turn_in([parent]).await?;
        let (mut end, mut found) = self.end(parent, name).await?;
        if let Some(Found::Known(entry)) = &found
            && self.is_to_be_heard_of(&end, entry)
        {
            // What it is, and where, is known then.
            self.be_heard(true).await;
            (end, found) = self.end(parent, name).await?;
        }
        let entry = match found.ok_or(Error::NotFound)? {
            Found::Known(entry) if entry.kind == FileKind::Folder => entry,
            _ => return Err(Error::NotAFolder),
        };
        if self.remove_made(&end, &entry).await? {
            self.touch(parent);
            return Ok(());
        }
        match self.remove_folder_of_servers(&end, &entry).await {
            // What the server cannot be asked for is so here, and there when it is back.
            Err(error)
                if self.namespace.is_of_reach(&error, &end.folder.uri)
                    && self.remove_folder_here(&end, &entry).await? => {}
            done => done?,
        }
        self.touch(parent);
        Ok(())
    }

    async fn remove_folder_of_servers(&self, end: &End, entry: &Arc<Entry>) -> Result<(), Error> {
        if self.namespace.is_out_of_reach(&end.folder.uri) {
            return Err(self.removals.unsent());
        }
        if self.is_to_be_heard_of(end, entry) {
            return Err(self.removals.unsent());
        }
        let key = self.key_in(end.parent, &entry.id)?;
        self.has_left(&key).await?;
        let _steady = self.steady(&[end]).await?;
        self.is_empty(end, entry).await?;
        self.delete(end, &entry.id).await?;
        self.believe(end, None);
        self.namespace.metadata.forget(&key);
        self.retire(&key)
    }

    /// An error where anything is in the folder `entry`, as the server says now. What leaves it [has left](Fs::has_left) before.
    pub(super) async fn is_empty(&self, end: &End, entry: &Entry) -> Result<(), Error> {
        let space = &self.namespace;
        let key = self.key_in(end.parent, &entry.id)?;
        let inner = match entry.shortcut.is_some() {
            // What it leads to is not what would be deleted, but what shows there must not vanish with it either.
            true => FileKey {
                tree: key.tree.behind(&entry.id),
                ..key.clone()
            },
            false => key.clone(),
        };
        self.is_empty_here(&key)?;
        self.is_empty_here(&inner)?;
        if space.leaving.any_in(&key) {
            return Err(self.removals.unsent());
        }
        let uri = match entry.shortcut.as_deref() {
            Some(crate::entry::Shortcut::To(uri)) => uri.clone(),
            Some(crate::entry::Shortcut::Broken) => return Ok(()),
            None => end.uri(),
        };
        let page = || {
            let page = (space.source.page)(uri.clone(), PagePosition::First, PEEK);
            within(space.options.timeout, page)
        };
        let found = match page().await {
            // What is there may be left of a file that was unlinked here while the server did not answer.
            Ok(found) if !found.files.is_empty() && self.is_cleared_of_left(&inner).await? => {
                page().await
            }
            found => found,
        };
        match found {
            // Another one has its place by now.
            Ok(page) if entry.shortcut.is_none() && is_another(&page, &entry.id) => {
                self.doubt(end);
                Err(Error::NotFound)
            }
            Ok(page) if page.files.is_empty() => Ok(()),
            Ok(_) => Err(Error::NotEmpty),
            // A share that is gone is nothing that could be lost.
            Err(api::Error::ShareGone(_)) if entry.shortcut.is_some() => Ok(()),
            Err(api::Error::NotFound) => {
                self.doubt(end);
                Err(Error::NotFound)
            }
            Err(error) => Err(self.refused(&end.folder, error)),
        }
    }

    /// Whether anything was cleared away in the folder `key` that uploads of ours had left there.
    async fn is_cleared_of_left(&self, key: &FileKey) -> Result<bool, Error> {
        match &self.owing {
            Some(owing) => Ok(owing.uploader.clear_left(key).await?),
            None => Ok(false),
        }
    }

    /// Deletes the file `id`, if it is still at `end`. Another file there stays, for nobody has seen it here.
    async fn delete_seen(&self, end: &End, id: &FileId) -> Result<(), Error> {
        let _steady = self.steady(&[end]).await?;
        // In the trash each file has a place of its own.
        let now = match end.folder.flat {
            true => Now::Same,
            false => self.now_at(end, id).await?,
        };
        match now {
            Now::Same => self.delete(end, id).await,
            Now::Nothing => Ok(()),
            Now::Another => Err(Error::Busy(api::Error::Changed)),
        }
    }

    /// Deletes the file `id`, which is at `end`.
    pub(super) async fn delete(&self, end: &End, id: &FileId) -> Result<(), Error> {
        match self.deleted(&end.uri(), id).await {
            Ok(()) => Ok(()),
            Err(error) => {
                self.doubt(end);
                Err(self.refused(&end.folder, error))
            }
        }
    }

    /// Deletes the file `id`, which is at `uri`. That it was gone already is not an error: it is what was wanted.
    pub(super) async fn deleted(&self, uri: &FileUri, id: &FileId) -> Result<(), api::Error> {
        let how = self.how_to_delete(uri);
        let answer = self.unlocked(|| self.api.delete_one(uri, how));
        match answer.await {
            Ok(()) | Err(api::Error::NotFound) => {
                crash::pass(Point::Deleted);
                Ok(())
            }
            Err(error) if is_lost(&error) => match self.whats_at(uri).await {
                Ok(Some(info)) if info.id == *id => Err(error),
                Ok(_) => Ok(()),
                Err(_) => Err(error),
            },
            Err(error) => Err(error),
        }
    }

    pub(super) fn how_to_delete(&self, uri: &FileUri) -> api::Delete {
        match has_trash(uri) {
            true => self.namespace.options.delete,
            false => api::Delete::Permanent,
        }
    }

    /// What has the name of the file `id` by now, which was at `end`. Calls to the server go by path, so this comes right before
    /// each that drops or moves what was seen a moment ago.
    pub(super) async fn now_at(&self, end: &End, id: &FileId) -> Result<Now, Error> {
        let (now, _) = self.now_where(end, id, |_| true).await?;
        Ok(now)
    }

    /// As [`Fs::now_at`], for what was seen in the version `seen`, of which an empty one may be seen as well: nothing is lost with
    /// it, and an upload of ours that was stopped may have put it there first. With the version that is there.
    pub(super) async fn now_under(
        &self,
        end: &End,
        id: &FileId,
        seen: &EntityId,
    ) -> Result<(Now, Option<EntityId>), Error> {
        let is_empty = |info: &FileInfo| info.size_bytes == 0 && info.upload_session().is_none();
        let is_seen = |info: &FileInfo| *seen == info.entity || is_empty(info);
        self.now_where(end, id, is_seen).await
    }

    async fn now_where(
        &self,
        end: &End,
        id: &FileId,
        is_seen: impl Fn(&FileInfo) -> bool,
    ) -> Result<(Now, Option<EntityId>), Error> {
        let found = self.whats_still_at(&end.uri(), id).await;
        let found = found.map_err(|error| self.refused(&end.folder, error))?;
        let now = match &found {
            Some(info) if info.id == *id && is_seen(info) => Now::Same,
            Some(info) => {
                log::debug!(
                    "{} is {} in version {} by now",
                    info.uri,
                    info.id.0,
                    info.entity.0
                );
                Now::Another
            }
            None => Now::Nothing,
        };
        if now != Now::Same {
            self.doubt(end);
        }
        Ok((now, found.map(|info| info.entity)))
    }

    /// What was removed from `parent` under `name`, and not yet by the server, is; or it waits for the server, which hears of
    /// it before it hears of anything new under that name.
    pub(super) async fn sent_off(&self, parent: Ino, name: &OsStr) -> Result<(), Error> {
        let space = &self.namespace;
        let key = space.folder_key(parent)?;
        match space.leaving.has(&key, name) {
            true => self.removals.send(&key).await,
            false => Ok(()),
        }
    }

    /// Tells the server of what was removed from `parent` under `name` or renamed here, if it can be reached.
    pub(super) async fn clear(&self, parent: Ino, name: &OsStr) -> Result<(), Error> {
        let space = &self.namespace;
        let key = space.folder_key(parent)?;
        if space.leaving.has(&key, name) {
            self.tell_what_leaves().await;
        }
        Ok(())
    }

    async fn tell_what_leaves(&self) {
        self.finish_waiting(true).await;
        self.be_heard(true).await;
    }

    /// An error where the server has something in the folder `key` still that was removed from it or renamed here: it is told of
    /// that first, if it can be reached.
    pub(super) async fn has_left(&self, key: &FileKey) -> Result<(), Error> {
        self.removals.send(key).await?;
        let leaving = &self.namespace.leaving;
        if leaving.any_in(key) {
            self.tell_what_leaves().await;
        }
        match leaving.any_in(key) {
            true => Err(self.removals.unsent()),
            false => Ok(()),
        }
    }

    /// An error where what was removed from `parent` under `name` waits for the server still.
    pub(super) async fn is_cleared(&self, parent: Ino, name: &OsStr) -> Result<(), Error> {
        self.clear(parent, name).await?;
        let space = &self.namespace;
        let key = space.folder_key(parent)?;
        match space.leaving.has(&key, name) {
            true => Err(self.removals.unsent()),
            false => Ok(()),
        }
    }
}

/// Whether `page` is of another folder than `id`.
fn is_another(page: &Page, id: &FileId) -> bool {
    let told = &page.folder.id;
    !told.0.is_empty() && told != id
}
