//! Names that are given here, of which the server has not heard.
//!
//! What the server has keeps its home there until it hears, and shows under its new name. What is replaced is deleted there
//! first, if it is the version that was seen.

use std::ffi::OsStr;
use std::sync::Arc;
use std::time::Instant;

use crate::entry::{Entry, FileKey};
use crate::fs::changes::{End, Found, disk, renamed, stored};
use crate::fs::locals::{Locals, Shown};
use crate::fs::removals::Gathered;
use crate::fs::rename::landed;
use crate::fs::{Error, Fs};
use crate::inodes::Ino;
use crate::model::{EntityId, FileId, FileKind};
use crate::staging::{LocalId, Place, is_made};

use super::paths::Folder;
use super::{Change, is_same, key_of, shown_name};

/// One who has a new name.
struct Renamed {
    key: FileKey,
    /// As the server has it.
    entry: Arc<Entry>,
    /// The content of it that is here.
    local: Option<Shown>,
}

impl Fs {
    /// Whether a rename has to wait for the server: it cannot be reached, or has not heard of something that this depends on.
    pub(in crate::fs) fn rename_has_to_wait(
        &self,
        from: &End,
        source: &Found,
        to: &End,
        target: Option<&Found>,
    ) -> bool {
        let unheard = &self.namespace.unheard;
        if !source.is_on_server() || !self.may_wait(from) || !self.may_wait(to) {
            return false;
        }
        let waits = |found: &Found| {
            let id = id_on_server(found);
            id.is_some_and(|id| unheard.keyed(&key_of(&id)).is_some())
        };
        self.has_to_wait(to)
            || unheard.is_unsure(&from.folder.uri)
            || waits(source)
            || target.is_some_and(waits)
            || (source.kind() == FileKind::Folder && unheard.any_below(&from.uri()))
    }

    /// As [`Fs::rename`], of what the server has or is to have, and hears of later.
    pub(in crate::fs) async fn rename_here(
        &self,
        (parent, name): (Ino, &OsStr),
        (new_parent, new_name): (Ino, &OsStr),
    ) -> Result<(), Error> {
        let (owing, space) = (self.owing()?, &self.namespace);
        let _turn = self.turn_of_unheard().await?;
        let (mut to, target) = self.end(new_parent, new_name).await?;
        // At last: news of its delivery may come while anything is waited for.
        let (from, source) = self.end(parent, name).await?;
        let source = self.to_be_renamed(&from, source.ok_or(Error::NotFound)?)?;
        if is_made(&source.key.id) && self.may_be_there(&source.entry) {
            // The server may have it by now: once more, by way of that.
            return Err(Error::Gone);
        }
        if target.is_none() {
            let stored = stored(new_name, space.options.names)?;
            (to.stored, to.full) = (stored.name, stored.full);
        }
        let is_in_whole = to.full.is_none() && from.full.is_none();
        let is_plain = source.entry.shortcut.is_none() && !source.entry.unfinished;
        if !is_plain || !(is_in_whole || is_made(&source.key.id)) {
            return Err(self.removals.unsent());
        }
        if let Some(target) = &target {
            self.may_be_replaced(&to, target)?;
        }
        if self.removals.any_folder_at(&to.place()) {
            // The folder is to go first, and may be the one out of which this comes.
            return Err(self.removals.unsent());
        }
        let before = space.unheard.keyed(&source.key);
        let home = match &before {
            Some(before) => before.home.clone(),
            None => Some(from.place()),
        };
        let place = to.place();
        // It may have left in the meantime, and is to come back then.
        let is_still = |before: &Change| before.elsewhere().is_empty();
        let is_home = home.as_ref().is_some_and(|home| is_same(home, &place))
            && before.as_ref().is_none_or(is_still);
        let entry = renamed(&source.entry, &to, None);
        // What the server has keeps its paths until that hears.
        let made = Some(source.key.clone()).filter(|key| is_made(&key.id));
        let below = made.map(|key| self.all_below(Folder::Made(key)));
        match before.filter(|_| is_home) {
            Some(before) => {
                // What was known there is what shows again, also of what is listed in this moment, which lacks it.
                let back = || {
                    let known = Some(Arc::clone(&entry));
                    let (folder, now) = (&place.folder, Instant::now());
                    space.metadata.change_name(folder, &to.name, known, now);
                };
                back();
                self.is_over(&before);
                back();
            }
            None => self.note(&owing.staging, Arc::clone(&entry), place.clone(), home)?,
        }
        match source.local {
            Some(shown) => self.show_renamed(&shown, &to, &entry)?,
            None => space.inodes.settle(&source.key, to.parent, &entry),
        }
        if let Some(target) = &target {
            self.is_replaced(&to, target)?;
        }
        if let Some(below) = below {
            self.went(below, &from.uri(), &to.uri());
        }
        Ok(())
    }

    /// `found` at `end`, as the server has it.
    fn to_be_renamed(&self, end: &End, found: Found) -> Result<Renamed, Error> {
        match found {
            Found::Known(entry) => {
                let key = self.key_in(end.parent, &entry.id)?;
                Ok(Renamed {
                    local: self.namespace.locals.keyed(&key),
                    key,
                    entry,
                })
            }
            Found::Local(shown) => {
                let base = shown.local.base().ok_or(Error::NotFound)?;
                let key = self.key_in(end.parent, &base.file)?;
                let known = self.namespace.unheard.entry(&key);
                let last = || {
                    let metadata = &self.namespace.metadata;
                    let last = metadata.last_name(&end.folder.key, &end.name);
                    last.filter(|entry| entry.id == base.file)
                };
                let entry = known.or_else(last);
                let entry = entry.unwrap_or_else(|| Locals::entry(&shown, &end.name));
                let entry = Arc::new(Entry {
                    id: base.file.clone(),
                    // What is known of it may be older, of before the last delivery.
                    entity: base.entity.id.clone(),
                    size_bytes: base.entity.size_bytes,
                    ..(*entry).clone()
                });
                Ok(Renamed {
                    key,
                    entry,
                    local: Some(shown),
                })
            }
        }
    }

    /// Content that is here goes with its file.
    fn show_renamed(&self, shown: &Shown, to: &End, entry: &Arc<Entry>) -> Result<(), Error> {
        let space = &self.namespace;
        shown.local.relocate(to.place(), None).map_err(disk)?;
        if !space.locals.shows(&shown.key) {
            // Delivered, and open.
            space.inodes.settle(&shown.key, to.parent, entry);
            return Ok(());
        }
        let shown = Shown {
            key: self.key_of(shown),
            local: Arc::clone(&shown.local),
        };
        let entry = Locals::entry(&shown, &to.name);
        space.inodes.settle(&shown.key, to.parent, &entry);
        space.locals.show(&to.folder.key, &to.name, shown.clone());
        self.tell_renamed(&shown)
    }

    /// An error where nobody can say without the server whether `target` may be replaced.
    fn may_be_replaced(&self, to: &End, target: &Found) -> Result<(), Error> {
        match target {
            Found::Known(entry)
                if entry.kind == FileKind::Folder
                    && is_made(&entry.id)
                    && !self.may_be_there(entry) =>
            {
                self.is_empty_here(&self.key_in(to.parent, &entry.id)?)
            }
            Found::Known(entry) if entry.kind == FileKind::Folder => Err(self.removals.unsent()),
            Found::Known(_) | Found::Local(_) => Ok(()),
        }
    }

    /// `target`, which showed at `to`, has no name any more, and is deleted on the server if it is what was seen here.
    fn is_replaced(&self, to: &End, target: &Found) -> Result<(), Error> {
        let key = target.key(to, self)?;
        match target {
            Found::Known(entry) if is_made(&entry.id) => {
                if let Some(change) = self.namespace.unheard.keyed(&key) {
                    self.is_over(&change);
                }
            }
            Found::Known(entry) => {
                // News of a delivery may have come since it was found.
                let now = self.namespace.unheard.entry(&key);
                let seen = &now.as_ref().unwrap_or(entry).entity;
                self.goes(&to.place(), &entry.id, seen, None)?;
            }
            Found::Local(shown) => {
                let before = shown.local.base();
                if let Some(base) = &before {
                    let local = Some(shown.local.id());
                    self.goes(&to.place(), &base.file, &base.entity.id, local)?;
                }
                self.retire(&key)?;
                return match landed(&shown.local, before.as_ref()) {
                    Some(base) => self.goes(&to.place(), &base.file, &base.entity.id, None),
                    None => Ok(()),
                };
            }
        }
        self.retire(&key)
    }

    /// The server's file `id`, seen as `seen` at `place`, is to be deleted there, and whatever was to be told of it is not. With
    /// it goes the local file `unlinked`.
    fn goes(
        &self,
        place: &Place,
        id: &FileId,
        seen: &EntityId,
        unlinked: Option<LocalId>,
    ) -> Result<(), Error> {
        self.goes_from(place, id, |home| Gathered::of(home, id, seen, unlinked))
    }

    /// As [`Fs::goes`], of what is to be removed from its home as `gather` says.
    pub(in crate::fs) fn goes_from(
        &self,
        place: &Place,
        id: &FileId,
        gather: impl FnOnce(&Place) -> Gathered,
    ) -> Result<(), Error> {
        let (staging, unheard) = (&self.owing()?.staging, &self.namespace.unheard);
        let change = unheard.keyed(&key_of(id));
        let home = change.as_ref().and_then(|change| change.home.as_ref());
        let home = home.unwrap_or(place);
        let name = shown_name(home, id, self.namespace.options.names);
        let elsewhere = change.as_ref().map(Change::elsewhere).unwrap_or_default();
        let gathered = gather(home).or_at(&elsewhere);
        if !self.removals.postpones_at(self, home, &name, gathered) {
            return Err(self.removals.unsent());
        }
        if let Some(change) = &change {
            unheard.take_leaving(&change.key(), &self.around(staging), true);
            if let Err(error) = staging.done_soon(change.noted) {
                log::error!("a change could not be noted as done: {error}");
            }
        }
        Ok(())
    }

    /// Unlinks `found` at `end` if it has a name of which the server has not heard; whether that was so.
    pub(in crate::fs) async fn unlink_renamed(
        &self,
        end: &End,
        found: &Found,
    ) -> Result<bool, Error> {
        let unheard = &self.namespace.unheard;
        let waits = || {
            let id = id_on_server(found)?;
            unheard.keyed(&key_of(&id))
        };
        if waits().is_none() {
            return Ok(false);
        }
        let held = match found {
            Found::Local(shown) => Some(self.hold(&shown.local).await?),
            Found::Known(_) => None,
        };
        let _turn = self.turn_of_unheard().await?;
        let is_so = waits().is_some();
        if is_so {
            let key = found.key(end, self)?;
            self.vanishing(&key).await;
            self.is_replaced(end, found)?;
        }
        drop(held);
        Ok(is_so)
    }

    /// Where the server has `file` until it hears of its new name; none where it has heard of all.
    pub(in crate::fs) fn home_of(&self, file: &FileId) -> Option<Place> {
        let change = self.namespace.unheard.keyed(&key_of(file))?;
        change.home
    }

    /// Whether something waits of the folder `entry` at `end` itself, so that the server has it elsewhere, or may have.
    pub(in crate::fs) fn is_to_be_heard_of(&self, end: &End, entry: &Entry) -> bool {
        let waits = self.namespace.unheard.keyed(&key_of(&entry.id));
        match is_made(&entry.id) {
            true => self.may_be_there(entry),
            false => waits.is_some() || is_made(&end.folder.key.id),
        }
    }

    /// An error where something waits of `found` at `end`, or of its folder: the server is told first, if it can be reached.
    pub(in crate::fs) async fn is_heard_of(&self, end: &End, found: &Found) -> Result<(), Error> {
        let unheard = &self.namespace.unheard;
        let waits = || {
            let id = id_on_server(found);
            let is_unheard = id.is_some_and(|id| unheard.keyed(&key_of(&id)).is_some());
            is_unheard || is_made(&end.folder.key.id)
        };
        if waits() {
            self.be_heard(true).await;
        }
        match waits() {
            true => Err(self.removals.unsent()),
            false => Ok(()),
        }
    }
}

/// What the server has of it, or is to have.
fn id_on_server(found: &Found) -> Option<FileId> {
    match found {
        Found::Known(entry) => Some(entry.id.clone()),
        Found::Local(shown) => shown.local.base().map(|base| base.file),
    }
}
