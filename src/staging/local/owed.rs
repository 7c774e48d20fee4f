//! What becomes of a local file: staged, moved, delivered, unlinked; each written down before it is so.
//!
//! A file is owed as soon as its description lies beside its content, which no killed process takes back. That is why
//! making a file, writing to it and staging it wait for no commit: their rows follow. What takes something back waits.

use std::io;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::{Instant, SystemTime};

use super::{Local, There};
use crate::crash::{self, Point};
use crate::entity::Entity;
use crate::model::{EntityId, FileId};
use crate::staging::about::About;
use crate::staging::journal::{Change, Kept, Row};
use crate::staging::{Base, Delivery, LocalId, Place, State};

impl Local {
    /// Closed: owed from now on, unless nothing changed since it was delivered. Journaled when this returns. What is lent
    /// is owed as well, and stays [`State::Dirty`] as long as others may write to it.
    pub fn stage(&self, now: SystemTime) -> io::Result<State> {
        let _turn = self.turn.lock().unwrap();
        let mut inner = self.inner.write().unwrap();
        if inner.state != State::Dirty {
            return Ok(inner.state.clone());
        }
        if !self.reclaim(&mut inner)? {
            drop(inner);
            self.note()?;
            self.settle_later();
            return Ok(State::Dirty);
        }
        // The kernel's clock for files is coarser than what programs were told.
        let file = self.content()?;
        self.settle_mtime(&file, &mut inner)?;
        inner.state = State::Staged(now);
        drop(inner);
        crash::pass(Point::Closing);
        if let Err(error) = self.note() {
            // Who closes it again tries again.
            self.inner.write().unwrap().state = State::Dirty;
            return Err(error);
        }
        self.settle_later();
        crash::pass(Point::Closed);
        Ok(State::Staged(now))
    }

    /// Data and record are on the disk, not only in its cache; joined with all others who wait.
    pub async fn durable(&self) -> io::Result<()> {
        let Some(me) = self.me.upgrade() else {
            return Ok(());
        };
        tokio::task::spawn_blocking(move || me.sync())
            .await
            .map_err(io::Error::other)?
    }

    fn sync(&self) -> io::Result<()> {
        let wipes = {
            let mut inner = self.inner.write().unwrap();
            if !inner.is_owed() {
                return Ok(());
            }
            if let Some(errno) = inner.failed.take() {
                return Err(io::Error::from_raw_os_error(errno));
            }
            inner.wipes
        };
        self.sync_files().inspect_err(|error| self.fail(error))?;
        self.settled(wipes)?;
        self.slot.journal.flush()?;
        crash::pass(Point::Synced);
        Ok(())
    }

    /// Brings its files to the disk, not its row.
    pub(in crate::staging) fn sync_files(&self) -> io::Result<()> {
        // With its time of modification, which no row has.
        self.content()?.sync_all()?;
        match self.map_file()? {
            Some(map) => map.sync_data(),
            None => Ok(()),
        }
    }

    /// As nobody waits for it: the next call of [`Local::durable`] fails if this does, since the kernel says it once.
    pub(in crate::staging) fn sync_unasked(&self) {
        if let Err(error) = self.sync_files() {
            self.fail_unasked(&error);
        }
    }

    fn fail_unasked(&self, error: &io::Error) {
        self.fail(error);
        let errno = error.raw_os_error().unwrap_or(libc::EIO);
        self.inner.write().unwrap().failed = Some(errno);
    }

    #[cfg(test)]
    pub(in crate::staging) fn fail_to_sync(&self, errno: i32) {
        self.fail_unasked(&io::Error::from_raw_os_error(errno));
    }

    /// The disk did not take it: that it takes it the next time says nothing of what was given up.
    fn fail(&self, error: &io::Error) {
        let _turn = self.turn.lock().unwrap();
        {
            let mut inner = self.inner.write().unwrap();
            log::error!(
                "the disk does not take the content of {}: {error}",
                inner.about.place.uri()
            );
            inner.kept = Kept::Doubtful;
        }
        if let Err(error) = self.note() {
            log::error!("nor does the journal say so: {error}");
        }
    }

    /// Whether it is to be brought to the disk; how often it was wiped, for [`Local::settled`].
    pub(in crate::staging) fn unsettled(&self) -> Option<u64> {
        let inner = self.inner.read().unwrap();
        (inner.is_owed() && inner.kept == Kept::InCache).then_some(inner.wipes)
    }

    /// All of it was on the disk when it had been wiped so often: the journal will say so.
    pub(in crate::staging) fn settled(&self, wipes: u64) -> io::Result<()> {
        let _turn = self.turn.lock().unwrap();
        {
            let mut inner = self.inner.write().unwrap();
            if !inner.is_owed() || inner.kept != Kept::InCache || inner.wipes != wipes {
                return Ok(());
            }
            inner.kept = Kept::OnDisk;
        }
        self.note()
    }

    /// Before all of it is thrown away: a power cut may leave nothing of what replaces it.
    pub(super) fn unsettle(&self) -> io::Result<()> {
        let _turn = self.turn.lock().unwrap();
        let mut row = self.row();
        if row.kept == Kept::OnDisk {
            row.kept = Kept::InCache;
            // What was unlinked while it is open has no row, and must not have one again.
            if self.inner.read().unwrap().is_owed() {
                self.slot
                    .journal
                    .commit_durably(Change::Put(Box::new(row)))?;
            }
            self.inner.write().unwrap().kept = Kept::InCache;
        }
        Ok(())
    }

    /// The machine went down since it was written. Whether that makes it doubtful.
    pub(in crate::staging) fn doubt(&self) -> bool {
        let mut inner = self.inner.write().unwrap();
        let is_doubtful = inner.kept == Kept::InCache;
        if is_doubtful {
            log::warn!(
                "{} was closed shortly before the machine went down: it may not be whole",
                inner.about.place.uri()
            );
            inner.kept = Kept::Doubtful;
        }
        is_doubtful
    }

    fn settle_later(&self) {
        let now = Instant::now();
        self.slot
            .unsettled
            .add(&self.slot, Weak::clone(&self.me), now);
    }

    /// It lies elsewhere now; with `base`, it replaces what is there (journaled in the same step). Refused while a part
    /// is only in the base it has, unless that is of the same version.
    pub fn relocate(&self, place: Place, base: Option<Base>) -> io::Result<()> {
        self.put(place, base, None)
    }

    /// As [`Local::relocate`], to what `place` makes of the place that it has by then, whoever gave it that a moment before; it
    /// stays there where that is none.
    pub fn relocate_from(&self, place: impl FnOnce(Place) -> Option<Place>) -> io::Result<()> {
        let _turn = self.turn.lock().unwrap();
        match place(self.place()) {
            Some(place) => self.put_in_turn(place, None, None),
            None => Ok(()),
        }
    }

    /// As [`Local::relocate`], into the place of `replaced`, which is unlinked with it: a crash leaves both or none.
    pub fn relocate_over(
        &self,
        place: Place,
        base: Option<Base>,
        replaced: &Local,
    ) -> io::Result<()> {
        self.relocate_before(place, base, replaced)?;
        crash::pass(Point::Replacing);
        if let Err(error) = replaced.unlink() {
            // It is written down that it is replaced: the next start unlinks it.
            log::warn!("a replaced file stays in the journal for now: {error}");
            replaced.let_go();
        }
        Ok(())
    }

    /// The first half of [`Local::relocate_over`]: it lies where `replaced` does, which is to be unlinked once that is
    /// certain. Whoever unlinks this one instead leaves `replaced` as it was. After a crash in between, `replaced` is
    /// unlinked at the next start.
    pub fn relocate_before(
        &self,
        place: Place,
        base: Option<Base>,
        replaced: &Local,
    ) -> io::Result<()> {
        self.put(place, base, Some(replaced.id()))
    }

    /// The local file that had its place before.
    pub(in crate::staging) fn replaces(&self) -> Option<LocalId> {
        self.inner.read().unwrap().about.replaces
    }

    fn put(&self, place: Place, base: Option<Base>, replaces: Option<LocalId>) -> io::Result<()> {
        let _turn = self.turn.lock().unwrap();
        self.put_in_turn(place, base, replaces)
    }

    fn put_in_turn(
        &self,
        place: Place,
        base: Option<Base>,
        replaces: Option<LocalId>,
    ) -> io::Result<()> {
        let (old, is_same_version) = {
            let inner = self.inner.read().unwrap();
            let entity = |base: &Option<Base>| base.as_ref().map(|base| base.entity.clone());
            let is_same = base.is_none() || entity(&base) == entity(&inner.about.base);
            if !is_same && inner.missing().is_some() {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidInput,
                    "a part of the content is only in the base that was to be replaced",
                ));
            }
            (inner.about.clone(), is_same)
        };
        let shown = old.base.as_ref().map_or(0, |base| base.visible_bytes);
        let base = base.map(|base| Base {
            // All of it is here, so nothing of another version shows.
            visible_bytes: if is_same_version { shown } else { 0 },
            ..base
        });
        let is_another = base
            .as_ref()
            .is_some_and(|base| old.base.as_ref().is_none_or(|old| old.file != base.file));
        let new = About {
            base: base.clone().or_else(|| old.base.clone()),
            replaces,
            // What is told of the file that gets the content is of the old content.
            untold: old.untold || is_another,
            ..old.clone()
        };
        let new = new.moved_to(place);
        {
            // What was decided for another place, and stood in its way there.
            let mut inner = self.inner.write().unwrap();
            inner.delivery.conflict = None;
            inner.delivery.blocked = None;
        }
        self.write_down(&old, &new)?;
        let mut inner = self.inner.write().unwrap();
        inner.about.place = new.place;
        inner.about.replaces = replaces;
        inner.about.attributes = new.attributes;
        inner.about.untold = new.untold;
        if let Some(base) = base {
            // It may have been truncated meanwhile.
            let visible_bytes = base.visible_bytes.min(inner.visible());
            inner.about.base = Some(Base {
                visible_bytes,
                ..base
            });
        }
        if !is_same_version {
            self.forget_map(&mut inner);
        }
        Ok(())
    }

    /// Nobody is owed it any more; the content stays while somebody holds the value.
    pub fn unlink(&self) -> io::Result<()> {
        let _turn = self.turn.lock().unwrap();
        if self.inner.read().unwrap().is_owed() {
            self.remove_row()?;
        }
        self.let_go();
        Ok(())
    }

    fn let_go(&self) {
        self.inner.write().unwrap().state = State::Unlinked;
        self.slot.forget(self.number);
    }

    /// The content of `generation` is version `entity` of `file` now. It is the base from now on, with all of it here;
    /// `Delivered` unless it was written to since. `there` is what the server tells of the file; what it has not heard
    /// by then, it is to hear. None where nobody looked.
    pub fn delivered(
        &self,
        generation: u64,
        file: FileId,
        entity: EntityId,
        there: Option<There>,
    ) -> io::Result<State> {
        let _turn = self.turn.lock().unwrap();
        let (old, new, is_current, missing) = {
            let mut inner = self.inner.write().unwrap();
            if !inner.is_owed() {
                return Ok(inner.state.clone());
            }
            if inner.missing().is_some() {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidInput,
                    "what was delivered was not all here",
                ));
            }
            let mut new = inner.about.clone();
            let base = Base {
                file,
                entity: Entity {
                    id: entity,
                    // Of an older content nobody knows any more; nothing of it shows.
                    size_bytes: inner.size_bytes,
                },
                visible_bytes: 0,
            };
            let is_current = self.generation() == generation;
            inner.is_leaving = is_current;
            let missing = there.and_then(|there| there.missing(&inner, &base.entity));
            new.untold = missing.is_some() && !is_current;
            new.base = Some(base);
            (inner.about.clone(), new, is_current, missing)
        };
        let slot = &self.slot;
        if let Some(base) = &new.base {
            // What was to be told of it before is of the content that this one replaced.
            slot.untold.forget(&base.file)?;
        }
        if let (true, Some(attributes), Some(base)) = (is_current, missing, &new.base) {
            let note = |change| slot.journal.note(change);
            let place = new.place.clone();
            slot.untold
                .tell(slot, &base.file, place, Arc::new(attributes), note)?;
        }
        let noted = match is_current {
            true => self.remove_row(),
            false => self.write_down(&old, &new),
        };
        let mut inner = self.inner.write().unwrap();
        inner.is_leaving = false;
        noted?;
        inner.about.base = new.base;
        inner.about.untold = new.untold;
        inner.delivery = Delivery {
            conflict: inner.delivery.conflict.take(),
            ..Delivery::default()
        };
        inner.is_guarded = false;
        self.forget_map(&mut inner);
        // What was none of its contents is newer than all of them.
        if generation <= self.generation() {
            inner.delivered = inner.delivered.max(Some(generation));
        }
        if is_current {
            inner.state = State::Delivered;
            inner.kept = Kept::InCache;
        }
        let state = inner.state.clone();
        drop(inner);
        if is_current {
            self.slot.forget(self.number);
            // A power cut would have it delivered twice.
            self.settle_later();
        }
        Ok(state)
    }

    /// Notes how its delivery goes, for the next start.
    pub fn set_delivery(&self, delivery: Delivery) -> io::Result<()> {
        self.put_delivery(delivery, |change| self.slot.journal.commit(change))
    }

    /// As [`Local::set_delivery`], without waiting until it is in the journal: the next change of this file that waits
    /// comes after it. For what may be missing after a crash.
    pub fn set_delivery_soon(&self, delivery: Delivery) -> io::Result<()> {
        self.put_delivery(delivery, |change| self.slot.journal.note(change))
    }

    fn put_delivery(
        &self,
        delivery: Delivery,
        write: impl FnOnce(Change) -> io::Result<()>,
    ) -> io::Result<()> {
        let _turn = self.turn.lock().unwrap();
        let row = {
            let mut inner = self.inner.write().unwrap();
            if !inner.is_owed() {
                inner.delivery = delivery;
                return Ok(());
            }
            // From here on a change waits until this is written, and is written down itself.
            inner.is_guarded |= delivery.session.is_some();
            Row {
                delivery: delivery.clone(),
                ..self.row_of(&inner)
            }
        };
        write(Change::Put(Box::new(row)))?;
        let mut inner = self.inner.write().unwrap();
        inner.is_guarded = delivery.session.is_some();
        inner.delivery = delivery;
        Ok(())
    }

    /// Before the content of a file changes that is delivered, or of which an upload session knows.
    pub(super) fn prepare_change(&self) -> io::Result<()> {
        let _turn = self.turn.lock().unwrap();
        let (about, mut row, state, is_guarded) = {
            let inner = self.inner.read().unwrap();
            let row = self.row_of(&inner);
            (
                inner.about.clone(),
                row,
                inner.state.clone(),
                inner.is_guarded,
            )
        };
        if state == State::Delivered {
            let folder = &self.slot.disk.folder;
            folder.describe(self.number, &*self.content()?, &about)?;
            self.slot.journal.note(Change::Put(Box::new(row)))?;
            if let Some(me) = self.me.upgrade() {
                self.slot.keep(&me);
            }
            self.inner.write().unwrap().state = State::Dirty;
        } else if is_guarded {
            row.generation += 1;
            if state != State::Unlinked {
                self.slot.journal.commit(Change::Put(Box::new(row)))?;
            }
            self.inner.write().unwrap().is_guarded = false;
        }
        Ok(())
    }

    /// Notes its row as it is now, without waiting. The turn is the caller's.
    pub(in crate::staging) fn note(&self) -> io::Result<()> {
        self.slot.journal.note(Change::Put(Box::new(self.row())))
    }

    /// What the journal is to say of it.
    pub(in crate::staging) fn row(&self) -> Row {
        self.row_of(&self.inner.read().unwrap())
    }

    fn row_of(&self, inner: &super::Inner) -> Row {
        Row {
            number: self.number,
            about: inner.about.clone(),
            since: match inner.state {
                State::Staged(since) => Some(since),
                _ => None,
            },
            generation: self.generation.load(Ordering::Acquire),
            kept: inner.kept,
            delivery: inner.delivery.clone(),
        }
    }

    /// What it is changes, if anybody is owed it: beside the content and in the journal, or in neither.
    pub(super) fn write_down(&self, old: &About, new: &About) -> io::Result<()> {
        self.put_about(old, new, |change| self.slot.journal.commit(change))
    }

    /// As `Local::write_down`, where only what is told of it changes: a new start reads that beside the content, so
    /// nobody waits for the journal.
    pub(super) fn write_down_soon(&self, old: &About, new: &About) -> io::Result<()> {
        self.put_about(old, new, |change| self.slot.journal.note(change))
    }

    fn put_about(
        &self,
        old: &About,
        new: &About,
        write: impl FnOnce(Change) -> io::Result<()>,
    ) -> io::Result<()> {
        let row = {
            let inner = self.inner.read().unwrap();
            if !inner.is_owed() {
                return Ok(());
            }
            Row {
                about: new.clone(),
                ..self.row_of(&inner)
            }
        };
        let file = self.content()?;
        let folder = &self.slot.disk.folder;
        folder.describe(self.number, &file, new)?;
        crash::pass(Point::Described);
        let written = write(Change::Put(Box::new(row)));
        if written.is_err() {
            // The journal has the older one, which is right.
            folder.describe(self.number, &file, old)?;
        }
        written
    }

    /// It is owed no more, or as before.
    fn remove_row(&self) -> io::Result<()> {
        let file = self.content()?;
        let folder = &self.slot.disk.folder;
        folder.undescribe(self.number, &file)?;
        crash::pass(Point::Undescribed);
        let committed = self.slot.journal.commit(Change::Remove(self.number));
        if committed.is_err() {
            let about = self.inner.read().unwrap().about.clone();
            folder.describe(self.number, &file, &about)?;
        }
        committed
    }

    /// All is here, and the base shows nowhere.
    fn forget_map(&self, inner: &mut super::Inner) {
        inner.here = Default::default();
        inner.cut_owed = false;
        let settled = match inner.is_filling {
            true => self
                .content()
                .and_then(|file| super::set_mtime(&file, inner.mtime)),
            false => Ok(()),
        };
        inner.is_filling = false;
        if let Err(error) = settled.and_then(|()| self.drop_map()) {
            log::warn!("a map that is not needed any more was not removed: {error}");
        }
    }

    /// Keeps itself from being forgotten as long as it is owed.
    pub(in crate::staging) fn keep(self: &Arc<Self>) {
        self.slot.keep(self);
    }
}
