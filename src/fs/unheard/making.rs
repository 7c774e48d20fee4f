//! Folders that are made here, and removed or changed before the server has heard of them.

use std::sync::Arc;
use std::time::{Instant, SystemTime};

use crate::attributes::Attributes;
use crate::entry::{Entry, FileKey};
use crate::fs::changes::{End, disk};
use crate::fs::locals::differing;
use crate::fs::{Believed, Error, Fs};
use crate::inodes::Ino;
use crate::model::{EntityId, FileKind};
use crate::staging::{Place, Staging, StepsId, is_made, made_id};
use crate::upload::has_ids;

use super::{Around, Change, is_same, shown_name};

impl Fs {
    pub(super) fn around<'a>(&'a self, staging: &'a Staging) -> Around<'a> {
        let space = &self.namespace;
        Around {
            staging,
            leaving: &space.leaving,
            inodes: &space.inodes,
            names: space.options.names,
        }
    }

    /// Whether a change at `end` may wait for the server: it is found again by its ids.
    pub(in crate::fs) fn may_wait(&self, end: &End) -> bool {
        has_ids(&end.place()) && !end.folder.flat
    }

    /// Whether a new name at `end` has to wait: the server cannot be reached, its folder is not there, or what had the name is
    /// still to leave it.
    pub(in crate::fs) fn has_to_wait(&self, end: &End) -> bool {
        let (space, place) = (&self.namespace, end.place());
        space.is_out_of_reach(&place.folder_uri)
            || is_made(&place.folder.id)
            || space.leaving.has(&place.folder, &end.name)
            || !space.unheard.away_from(&place).is_empty()
    }

    /// A folder at `end`, of which the server hears later; counts one lookup. `told` is told of it. Where it `is_tried`, the server
    /// was asked for it, and did not answer.
    pub(in crate::fs) async fn make_folder_here(
        &self,
        end: &End,
        told: Option<Arc<Attributes>>,
        is_tried: bool,
    ) -> Result<Believed, Error> {
        let (owing, space) = (self.owing()?, &self.namespace);
        let _turn = self.turn_of_unheard().await?;
        // Its folder may have come to be known by another id, and somebody may have taken the name.
        let (end, found) = self.end(end.parent, &end.name).await?;
        if found.is_some() {
            return Err(Error::Exists);
        }
        let number = getrandom::u64().map_err(|error| disk(std::io::Error::other(error)))?;
        let now = SystemTime::now();
        let entry = Arc::new(Entry {
            id: made_id(number),
            kind: FileKind::Folder,
            name: end.name.as_os_str().into(),
            segment: differing(&end.name, end.stored.clone()),
            size_bytes: 0,
            created: now,
            updated: now,
            entity: space.empty.clone().unwrap_or(EntityId("".into())),
            owned: true,
            shared: false,
            unfinished: false,
            thumbless: false,
            shortcut: None,
            attributes: told,
        });
        let order = space.unheard.next();
        let change = Change {
            is_tried,
            ..Change::new(StepsId(0), order, Arc::clone(&entry), end.place(), None)
        };
        self.note_change(&owing.staging, change)?;
        let counted = space.inodes.count(end.parent, &entry, Some(&entry));
        let (ino, _) = counted.ok_or(Error::NotFound)?;
        Ok(space.believed(ino, &entry, None, space.metadata.ttl()))
    }

    /// `entry`, which the server has at `home`, shows at `place`, and waits for the server to hear of that.
    pub(super) fn note(
        &self,
        staging: &Staging,
        entry: Arc<Entry>,
        place: Place,
        home: Option<Place>,
    ) -> Result<(), Error> {
        let order = self.namespace.unheard.next();
        self.note_change(staging, Change::new(StepsId(0), order, entry, place, home))
    }

    fn note_change(&self, staging: &Staging, mut change: Change) -> Result<(), Error> {
        let unheard = &self.namespace.unheard;
        let before = unheard.keyed(&change.key());
        if let Some(before) = &before {
            let been = before.elsewhere();
            change.is_tried |= before.home.is_none() && before.is_tried
                || been.iter().any(|place| is_same(place, &change.place));
            change.tried = been;
        } else if let Some(sent) = unheard.take_sent(&change.entry.id) {
            change.is_tried = is_same(&sent, &change.place);
            change.tried.push(sent);
        }
        change.tried.retain(|place| !is_same(place, &change.place));
        self.is_nowhere_else(&change);
        let text = change.text(None).map_err(disk)?;
        change.noted = match &before {
            Some(before) => {
                let noted = before.noted;
                staging.go_on_lightly(noted, text).map_err(disk)?;
                noted
            }
            None => staging.begin_lightly(text).map_err(disk)?,
        };
        unheard.put(change, &self.around(staging));
        Ok(())
    }

    /// Notes `change`, which is noted already, as it is now.
    pub(super) fn note_again(&self, change: &Change) -> Result<(), Error> {
        let text = change.text(None).map_err(disk)?;
        let staging = &self.owing()?.staging;
        staging.go_on_lightly(change.noted, text).map_err(disk)
    }

    /// What was seen of what `change` is of, where the server had just brought it unheard, shows there no more.
    fn is_nowhere_else(&self, change: &Change) {
        let space = &self.namespace;
        for place in &change.tried {
            let name = shown_name(place, &change.entry.id, space.options.names);
            let seen = space.metadata.last_name(&place.folder, &name);
            if seen.is_some_and(|seen| seen.id == change.entry.id) {
                let now = Instant::now();
                space.metadata.change_name(&place.folder, &name, None, now);
            }
        }
    }

    /// Nothing is to be told of `change` any more.
    pub(super) fn is_over(&self, change: &Change) {
        let Ok(owing) = self.owing() else {
            return;
        };
        let around = self.around(&owing.staging);
        self.namespace.unheard.take(&change.key(), &around);
        if let Err(error) = owing.staging.done_soon(change.noted) {
            log::error!("a change could not be noted as done: {error}");
        }
    }

    /// Whether `entry` is a folder that was made here, and that the server may have: it was asked for it.
    pub(in crate::fs) fn may_be_there(&self, entry: &Entry) -> bool {
        let change = self.namespace.unheard.keyed(&super::key_of(&entry.id));
        change.is_some_and(|change| change.home.is_none() && change.is_tried)
    }

    /// Removes the folder `entry` at `end` if the server has not heard of it; whether that was so. An error where it may have.
    pub(in crate::fs) async fn remove_made(&self, end: &End, entry: &Entry) -> Result<bool, Error> {
        let space = &self.namespace;
        if !is_made(&entry.id) {
            return Ok(false);
        }
        let _turn = self.turn_of_unheard().await?;
        let key = self.key_in(end.parent, &entry.id)?;
        let Some(change) = space.unheard.keyed(&key) else {
            // The server has it by now.
            return Err(Error::Gone);
        };
        if self.may_be_there(entry) {
            return Err(self.removals.unsent());
        }
        self.is_empty_here(&key)?;
        self.is_over(&change);
        self.retire(&key)?;
        Ok(true)
    }

    /// The server heard `attributes` of `key`, which show by what waits of that, if anything does.
    pub(in crate::fs) fn retell(&self, key: &FileKey, attributes: &Arc<Attributes>) {
        if let Some(change) = self.namespace.unheard.keyed(key) {
            let entry = Entry {
                attributes: Some(Arc::clone(attributes)),
                ..(*change.entry).clone()
            };
            self.shows_as(key, Arc::new(entry));
        }
    }

    /// What shows of the server's `entry` if it was renamed here, which that has not heard of.
    pub(in crate::fs) fn renamed_here(&self, entry: &Entry) -> Option<Arc<Entry>> {
        let key = super::key_of(&entry.id);
        let change = self.namespace.unheard.keyed(&key)?;
        let shows = Arc::new(Entry {
            name: change.entry.name.clone(),
            segment: change.entry.segment.clone(),
            ..entry.clone()
        });
        self.shows_as(&key, Arc::clone(&shows)).then_some(shows)
    }

    /// What waits of `key` shows as `entry` from now on; whether anything does.
    fn shows_as(&self, key: &FileKey, entry: Arc<Entry>) -> bool {
        let Some(change) = self.namespace.unheard.shows_as(key, entry) else {
            return false;
        };
        if let Err(error) = self.note_again(&change) {
            log::error!("what shows of a file that was renamed could not be noted: {error}");
        }
        true
    }

    /// An error where anything that is here shows in the folder `key`.
    pub(in crate::fs) fn is_empty_here(&self, key: &FileKey) -> Result<(), Error> {
        let space = &self.namespace;
        match space.locals.any_in(key) || space.unheard.any_in(key) {
            true => Err(Error::NotEmpty),
            false => Ok(()),
        }
    }

    /// `attributes` are told of the folder `entry` when the server hears of it. Whether that waits.
    pub(in crate::fs) fn tell_made(
        &self,
        ino: Ino,
        entry: &Entry,
        attributes: &Attributes,
    ) -> Result<bool, Error> {
        let (owing, space) = (self.owing()?, &self.namespace);
        let key = super::key_of(&entry.id);
        let Some(change) = space.unheard.keyed(&key).filter(|_| is_made(&entry.id)) else {
            return Ok(false);
        };
        let entry = Arc::new(Entry {
            attributes: Some(Arc::new(attributes.clone())),
            ..(*change.entry).clone()
        });
        space.inodes.renew(ino, &entry);
        self.note(&owing.staging, entry, change.place, None)?;
        Ok(true)
    }
}
