//! The server hears of folders made here and of names given here, as soon as it is there again.
//!
//! In the order in which they were made, but each only once its folder is there and its name is free of what was deleted or
//! renamed here. What somebody else put in the way meanwhile stays as it is: a folder that is there already is the one that
//! was made here, beside anything else ours goes, by the name of a conflict; and what somebody else moved or deleted stays
//! where they put it. Each of that is told. What fails is tried again, with longer and longer pauses.

use std::sync::Arc;
use std::time::Instant;

use crate::api;
use crate::attributes::KEY;
use crate::entry::{Entry, FileKey};
use crate::fs::changes::{disk, has_trash, is_lost};
use crate::fs::late::Outcome;
use crate::fs::locals::{Locals, Shown, differing};
use crate::fs::namespace::Folder;
use crate::fs::steps::{Plan, aside, is_aside, way};
use crate::fs::{Error, Fs};
use crate::model::{FileInfo, FileKind};
use crate::names::ServerName;
use crate::staging::Place;
use crate::upload::folder_of;
use crate::uri::FileUri;

use super::{Astray, Change, Pending, key_of, shown_name};

/// Names that are tried beside one that is taken.
const NAMES_BESIDE: u32 = 5;

/// Why the server has not heard.
enum Why {
    /// Something else is to happen there first.
    Later,
    /// The server or the wire.
    Api(api::Error),
    /// Our own disk, or what a call says.
    Here(Error),
}

impl From<api::Error> for Why {
    fn from(error: api::Error) -> Self {
        Self::Api(error)
    }
}

impl From<Error> for Why {
    fn from(error: Error) -> Self {
        Self::Here(error)
    }
}

impl Fs {
    /// Tells the server of those changes whose time has come, or of all where that `is_urgent`, if it can be reached.
    pub(in crate::fs) async fn be_heard(&self, is_urgent: bool) {
        let unheard = &self.namespace.unheard;
        self.forget_mapped().await;
        if self.namespace.is_down() || !unheard.is_any() || !self.is_all_finished().await {
            return;
        }
        let mut is_any_heard = false;
        let mut goes_on = true;
        while std::mem::take(&mut goes_on) {
            for change in unheard.all() {
                if !is_urgent && change.due > Instant::now() {
                    continue;
                }
                let key = change.key();
                match self.hear_one(&key).await {
                    Ok(()) => (is_any_heard, goes_on) = (true, true),
                    Err(Why::Later) => {}
                    Err(Why::Api(error)) => {
                        let got_through = !(is_lost(&error) && self.namespace.is_down());
                        unheard.is_to_wait(&key, error.to_string(), got_through);
                    }
                    Err(Why::Here(error)) => unheard.is_to_wait(&key, error.to_string(), true),
                }
                if self.namespace.is_down() {
                    return;
                }
            }
            goes_on = goes_on || self.is_untied().await;
        }
        if is_any_heard && let Some(owing) = &self.owing {
            // What waited for them goes there now.
            owing.uploader.moved();
            owing.uploader.wake();
        }
    }

    async fn hear_one(&self, key: &FileKey) -> Result<(), Why> {
        let unheard = &self.namespace.unheard;
        let _turn = unheard.turn.lock().await;
        let Some(change) = unheard.keyed(key) else {
            return Err(Why::Later);
        };
        let is_in_its_way = |other: Change| other.key() != *key;
        if unheard
            .keyed(&change.place.folder)
            .is_some_and(|above| above.home.is_none())
            || self.removals.any_at(&change.place)
            || unheard.away_from(&change.place).is_some_and(is_in_its_way)
        {
            return Err(Why::Later);
        }
        match &change.home {
            None => self.hear_made(&change).await,
            Some(home) => self.hear_renamed(&change, home).await,
        }
    }

    /// The folder was made here.
    async fn hear_made(&self, change: &Change) -> Result<(), Why> {
        let folder = folder_of(&self.api, &change.place).await?;
        let told = change.entry.attributes.as_deref();
        let told = told.map(|told| (KEY.to_owned(), told.text()));
        let told = told.into_iter().collect();
        let mut uri = folder.child(change.place.name.clone());
        let mut nth = 0;
        let (info, is_new) = loop {
            self.api.is_told_apart(&uri).await?;
            match self.unlocked(|| self.api.create_folder(&uri, &told)).await {
                Ok(info) => break (info, true),
                Err(api::Error::Exists) => {}
                Err(error) => return Err(error.into()),
            }
            match self.whats_at(&uri).await? {
                // Somebody else made it, or we did and heard no answer: what is here goes there.
                Some(info) if info.kind == FileKind::Folder => break (info, false),
                _ if nth < NAMES_BESIDE => {
                    nth += 1;
                    uri = folder.child(self.name_beside(&change.place, nth)?);
                }
                _ => return Err(api::Error::Exists.into()),
            }
        };
        if nth > 0 {
            let words = format!(
                "a file of somebody else's has the name '{}', so the folder that was made here is kept beside it",
                change.place.name
            );
            self.namespace.unheard.is_astray(uri.clone(), words);
        }
        self.became(change, info, &uri, is_new).await?;
        Ok(())
    }

    /// The server has the folder of `change` as `info` says; with `is_new`, there is nothing in it yet.
    async fn became(
        &self,
        change: &Change,
        info: FileInfo,
        uri: &FileUri,
        is_new: bool,
    ) -> Result<(), Error> {
        let (owing, space) = (self.owing()?, &self.namespace);
        let text = change.text(Some(&info.id)).map_err(disk)?;
        let noted = owing.staging.go_on(change.noted, text).await;
        noted.map_err(disk)?;
        let made = change.key();
        let there = key_of(&info.id);
        let name = match uri.name() {
            Some(name) if *name != change.place.name => name.to_local(space.options.names),
            _ => change.entry.name.to_os_string(),
        };
        let segment = uri.name().cloned().unwrap_or(change.place.name.clone());
        let entry = space.entry(info).map(|entry| Entry {
            segment: differing(&name, segment),
            name: name.as_os_str().into(),
            attributes: entry.attributes.clone().or(change.entry.attributes.clone()),
            ..entry
        });
        let entry = Arc::new(entry.ok_or(Error::Exists)?);
        let (folder, now) = (&change.place.folder, Instant::now());
        if is_new {
            space.listings.made(&there, now);
        }
        let shown = Some(Arc::clone(&entry));
        space.metadata.change_name(folder, &name, shown, now);
        space.unheard.became(change, &there);
        space.locals.refolder(&made, &there);
        self.unheard_in(&made, &there, uri)?;
        self.relocate_in(&made, &there, uri);
        let around = self.around(&owing.staging);
        space.unheard.take(&made, &around);
        let known = space
            .inodes
            .find(&made)
            .and_then(|ino| space.inodes.node(ino));
        if let Some(node) = known {
            space.inodes.settle(&made, node.parent, &entry);
        }
        self.news.notify_one();
        Ok(())
    }

    /// What has its home at `home` was renamed here.
    async fn hear_renamed(&self, change: &Change, home: &Place) -> Result<(), Why> {
        let (space, key) = (&self.namespace, change.key());
        let place = &change.place;
        let info = match self.api.info_by_id(&key.id).await {
            Ok(info) if has_trash(&info.uri) => info,
            Ok(_) | Err(api::Error::NotFound) => {
                let words = format!(
                    "'{}' was renamed here, and somebody else deleted it",
                    home.name
                );
                self.is_given_up(change, home, place.uri(), words);
                return Ok(());
            }
            Err(error) => return Err(error.into()),
        };
        let folder = folder_of(&self.api, place).await?;
        if info.uri != home.uri() && info.uri != folder.child(place.name.clone()) {
            let at_home = folder_of(&self.api, home).await?.child(home.name.clone());
            // A crash may have left it on the way.
            let is_on_its_way = info.uri.name().is_some_and(is_aside);
            if info.uri != at_home && !is_on_its_way {
                let words = format!(
                    "'{}' was renamed here to '{}', and somebody else gave it another place, where it stays",
                    home.name, place.name
                );
                self.is_given_up(change, home, info.uri, words);
                return Ok(());
            }
        }
        let (mut below, mut held) = (Vec::new(), Vec::new());
        if info.kind == FileKind::Folder {
            if self.all_removed(&info.uri).await.is_err() {
                return Err(Why::Later);
            }
            below = self.below(&info.uri);
        }
        for shown in space.locals.keyed(&key).iter().chain(&below) {
            held.push(self.hold(&shown.local).await?);
        }
        let (mut to, mut nth) = (folder.child(place.name.clone()), 0);
        while info.uri != to {
            match self.go(change, &info.uri, &to).await {
                Ok(()) => break,
                Err(Error::Exists) if nth < NAMES_BESIDE => {
                    // An answer may have been lost.
                    let there = self.whats_at(&to).await?;
                    if there.is_some_and(|there| there.id == key.id) {
                        break;
                    }
                    nth += 1;
                    to = folder.child(self.name_beside(place, nth)?);
                }
                Err(error) => return Err(error.into()),
            }
        }
        if nth > 0 {
            let words = format!(
                "somebody else's file has the name '{}', so what was renamed to that here is kept beside it",
                place.name
            );
            space.unheard.is_astray(to.clone(), words);
        }
        self.has_moved(change, home, &info.uri, &to).await?;
        self.relocate_below(below, &info.uri, &to);
        if info.kind == FileKind::Folder {
            self.unheard_below(&info.uri, &to)?;
        }
        drop(held);
        Ok(())
    }

    /// The calls that bring what is at `from` to `to`.
    async fn go(&self, change: &Change, from: &FileUri, to: &FileUri) -> Result<(), Error> {
        let between = from.parent().zip(to.name());
        let between = between.map(|(folder, name)| folder.child(name.clone()));
        let is_one_step = from.parent() == to.parent() || from.name() == to.name();
        let is_free = match between.filter(|_| !is_one_step) {
            Some(uri) => self.whats_at(&uri).await?.is_none(),
            None => true,
        };
        let plan = Plan {
            steps: way(&change.entry.id, from, to, is_free, false),
            only_if: None,
        };
        let folder = Folder {
            key: change.place.folder.clone(),
            uri: to.parent().unwrap_or_else(|| to.clone()),
            flat: false,
        };
        let is_long = plan.steps.len() > 1;
        let done = self.carry_out(&folder, &plan).await.map(drop);
        if is_long {
            // A listing of that moment may show what it passed.
            let now = Instant::now();
            self.namespace.metadata.others_changed_anything(now);
        }
        done
    }

    /// The server has what `change` is of at `to`, and no more at `from`, its home.
    async fn has_moved(
        &self,
        change: &Change,
        home: &Place,
        from: &FileUri,
        to: &FileUri,
    ) -> Result<(), Error> {
        let (space, key, place) = (&self.namespace, change.key(), &change.place);
        let names = space.options.names;
        let name = to.name().cloned().unwrap_or(place.name.clone());
        let shown = match name == place.name {
            true => change.entry.name.to_os_string(),
            false => name.to_local(names),
        };
        let there = self.whats_at(to).await?;
        let told = there.and_then(|info| space.entry(info));
        let entry = Arc::new(Entry {
            segment: differing(&shown, name.clone()),
            name: shown.as_os_str().into(),
            ..told.unwrap_or_else(|| (*change.entry).clone())
        });
        let now = Instant::now();
        let home_name = shown_name(home, &key.id, names);
        let (metadata, known) = (&space.metadata, Some(Arc::clone(&entry)));
        metadata.change_name(&home.folder, &home_name, None, now);
        metadata.change_name(&place.folder, &shown, known, now);
        let place = Place {
            folder_uri: to.parent().unwrap_or_else(|| place.folder_uri.clone()),
            name,
            ..place.clone()
        };
        let is_over_it = |local: &Shown| {
            let base = local.local.base();
            base.is_some_and(|base| base.file == key.id)
        };
        let here = space.locals.named(&place.folder, &change.entry.name);
        let here = here.filter(is_over_it).or_else(|| space.locals.keyed(&key));
        let mut known_as = (key.clone(), Arc::clone(&entry));
        if let Some(here) = here {
            here.local.relocate(place.clone(), None).map_err(disk)?;
            if space.locals.shows(&here.key) {
                known_as = (here.key.clone(), Locals::entry(&here, &shown));
                space.locals.show(&place.folder, &shown, here);
            }
        }
        let (known, entry_now) = known_as;
        if let Some(node) = space
            .inodes
            .find(&known)
            .and_then(|ino| space.inodes.node(ino))
        {
            space.inodes.settle(&known, node.parent, &entry_now);
        }
        self.is_over(change);
        self.news.notify_one();
        log::debug!("{from} is {to} by now");
        self.keep_told_at(&entry, place)
    }

    /// Somebody else was faster: what they made of what `change` is of stays so.
    fn is_given_up(&self, change: &Change, home: &Place, uri: FileUri, words: String) {
        let space = &self.namespace;
        let name = shown_name(home, &change.entry.id, space.options.names);
        space.metadata.doubt(&home.folder, &name);
        space
            .metadata
            .doubt(&change.place.folder, &change.entry.name);
        space.unheard.is_astray(uri, words);
        self.is_over(change);
        self.news.notify_one();
    }

    /// Of names that go round in a circle, one goes aside, so that the next one is free. Whether there was such a circle.
    async fn is_untied(&self) -> bool {
        let unheard = &self.namespace.unheard;
        let _turn = unheard.turn.lock().await;
        let next = |change: &Change| unheard.away_from(&change.place);
        let is_tied = |first: &Change| {
            let mut at = next(first);
            for _ in 0..unheard.all().len() {
                match at {
                    Some(change) if change.key() == first.key() => return true,
                    Some(change) => at = next(&change),
                    None => return false,
                }
            }
            false
        };
        let is_moved =
            |change: &Change| next(change).is_some_and(|next| next.key() != change.key());
        let tied = unheard.all().into_iter();
        let Some(change) = tied.filter(is_moved).find(is_tied) else {
            return false;
        };
        match self.put_aside(&change).await {
            Ok(()) => true,
            Err(error) => {
                unheard.is_to_wait(&change.key(), error.to_string(), true);
                false
            }
        }
    }

    async fn put_aside(&self, change: &Change) -> Result<(), Error> {
        let (owing, space) = (self.owing()?, &self.namespace);
        let Some(home) = &change.home else {
            return Ok(());
        };
        let info = self.api.info_by_id(&change.entry.id).await?;
        let folder = folder_of(&self.api, home).await?;
        if info.uri != folder.child(home.name.clone()) {
            // Its own turn finds out.
            return Err(Error::Busy(api::Error::Changed));
        }
        let place = Place {
            folder_uri: folder.clone(),
            name: aside(&change.entry.id, &home.name),
            ..home.clone()
        };
        // First: wherever a crash leaves it, it is at one of the two, and the name tells whose it is.
        self.go(change, &info.uri, &place.uri()).await?;
        let name = shown_name(home, &change.entry.id, space.options.names);
        space
            .metadata
            .change_name(&home.folder, &name, None, Instant::now());
        let moved = Change {
            home: Some(place),
            ..change.clone()
        };
        let text = moved.text(None).map_err(disk)?;
        let noted = owing.staging.go_on(change.noted, text).await;
        noted.map_err(disk)?;
        space.unheard.rehome(moved, &self.around(&owing.staging));
        Ok(())
    }

    /// What waits in the folder `made` waits in `there`, which is at `uri`.
    fn unheard_in(&self, made: &FileKey, there: &FileKey, uri: &FileUri) -> Result<(), Error> {
        let staging = &self.owing()?.staging;
        for change in self.namespace.unheard.all() {
            if change.place.folder == *made {
                let place = Place {
                    folder: there.clone(),
                    folder_uri: uri.clone(),
                    ..change.place
                };
                self.note(staging, change.entry, place, change.home)?;
            }
        }
        Ok(())
    }

    /// Content that belongs in the folder `made` belongs in `there`, which is at `uri`.
    fn relocate_in(&self, made: &FileKey, there: &FileKey, uri: &FileUri) {
        let Ok(owing) = self.owing() else { return };
        for local in owing.staging.owed() {
            let place = local.place();
            if place.folder != *made {
                continue;
            }
            let place = Place {
                folder: there.clone(),
                folder_uri: uri.clone(),
                ..place
            };
            if let Err(error) = local.relocate(place, None) {
                log::warn!("the place of a file could not be noted: {error}");
            }
        }
    }

    /// Notes of folders that the server has by now, once nothing that is here is known to lie in their old id.
    async fn forget_mapped(&self) {
        let (Ok(owing), unheard) = (self.owing(), &self.namespace.unheard) else {
            return;
        };
        let (mapped, became) = {
            let mut state = unheard.state.lock().unwrap();
            (std::mem::take(&mut state.mapped), state.became.clone())
        };
        if mapped.is_empty() {
            return;
        }
        for local in owing.staging.owed() {
            let place = local.place();
            if let Some(there) = became.get(&place.folder) {
                // It was made in the moment in which its folder came to be.
                self.relocate_in(&place.folder, there, &place.folder_uri);
            }
        }
        for noted in mapped {
            if let Err(error) = owing.staging.done_soon(noted) {
                log::error!("a change could not be noted as done: {error}");
            }
        }
    }

    /// Whether nothing is left half done of earlier changes, which may have any of these on its way.
    async fn is_all_finished(&self) -> bool {
        self.finish_steps().await;
        let is_late = self.late.is_any() && self.finish_late().await != Outcome::Done;
        !is_late && self.unfinished.lock().unwrap().is_empty()
    }

    /// Folders made here, and names given here, of which the server has not heard.
    pub fn unheard(&self) -> Vec<Pending> {
        self.namespace.unheard.pending()
    }

    /// Where what the server has at `uri` shows here, also below a folder of whose new name it has not heard.
    pub fn shown_at(&self, uri: &FileUri) -> FileUri {
        self.namespace.unheard.shown_at(uri)
    }

    /// Those that came to something else than was wanted since the mount began, because somebody else was faster: how many, and
    /// the last of them.
    pub fn astray(&self) -> (u64, Vec<Astray>) {
        self.namespace.unheard.astray()
    }

    /// The name under which what belongs in `place` is kept beside what has its name.
    fn name_beside(&self, place: &Place, nth: u32) -> Result<ServerName, Error> {
        Ok(self.owing()?.uploader.name_beside(place, nth))
    }
}
