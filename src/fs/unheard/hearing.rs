//! The server hears of folders made here and of names given here, as soon as it is there again.
//!
//! In the order in which they were made, but each only once its folder is there and its name is free of what was deleted or
//! renamed here. What somebody else put in the way meanwhile stays as it is: a folder that is there already is the one that
//! was made here, beside anything else ours goes, by the name of a conflict; and what somebody else moved or deleted stays
//! where they put it. Each of that is told. What fails is tried again, with longer and longer pauses.

use std::sync::Arc;
use std::time::Instant;

use crate::api;
use crate::asker;
use crate::attributes::KEY;
use crate::entry::{Entry, FileKey};
use crate::fs::changes::{disk, is_lost};
use crate::fs::late::Outcome;
use crate::fs::locals::differing;
use crate::fs::{Error, Fs};
use crate::model::{FileInfo, FileKind};
use crate::names::ServerName;
use crate::staging::Place;
use crate::upload::folder_of;
use crate::uri::FileUri;

use super::{Astray, Change, Pending, key_of};

/// Names that are tried beside one that is taken.
pub(super) const NAMES_BESIDE: u32 = 5;

/// Why the server has not heard.
pub(super) enum Why {
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
        let longest = self.namespace.options.timeout;
        let mut is_any_heard = false;
        let mut goes_on = true;
        while std::mem::take(&mut goes_on) {
            for change in unheard.all() {
                if !is_urgent && change.due > Instant::now() {
                    continue;
                }
                let key = change.key();
                // Others wait for its end.
                let latest = asker::no_later_than(tokio::time::Instant::now() + longest);
                match asker::hurried(latest, self.hear_one(&key)).await {
                    Ok(()) => (is_any_heard, goes_on) = (true, true),
                    Err(Why::Later) => {}
                    Err(Why::Api(error)) => {
                        // Who is in a hurry may have given up before there was time for an answer.
                        let is_patient = !is_urgent && !self.namespace.is_down();
                        let got_through = is_patient || !is_lost(&error);
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
        let Ok(_turn) = self.turn_of_unheard().await else {
            return Err(Why::Later);
        };
        let Some(change) = unheard.keyed(key) else {
            return Err(Why::Later);
        };
        if self.late.has(&key.id)
            || self.removals.any_at(&change.place)
            || !unheard.before(&change).is_empty()
        {
            return Err(Why::Later);
        }
        match &change.home {
            None => self.hear_made(&change).await,
            Some(home) => self.hear_renamed(&change, home).await,
        }
    }

    /// What has the name of `place` may be what an upload of ours left there whose file is no more: that goes first. An error
    /// where it cannot for now.
    pub(super) async fn is_cleared_of_ours(&self, place: &Place) -> Result<(), Why> {
        let uploader = &self.owing()?.uploader;
        if uploader.is_held_at(place) {
            // Who holds it decides what becomes of it.
            return Err(Why::Later);
        }
        uploader.clear_left(&place.folder).await?;
        Ok(())
    }

    /// The folder was made here.
    async fn hear_made(&self, change: &Change) -> Result<(), Why> {
        let folder = folder_of(&self.api, &change.place).await?;
        let told = change.entry.attributes.as_deref();
        let told = told.map(|told| (KEY.to_owned(), told.text()));
        let told = told.into_iter().collect();
        let mut uri = folder.child(change.place.name.clone());
        let (mut nth, mut is_cleared) = (0, false);
        let (info, is_new) = loop {
            self.api.is_told_apart(&uri).await?;
            self.namespace.unheard.is_tried(&change.key());
            match self.unlocked(|| self.api.create_folder(&uri, &told)).await {
                Ok(info) => break (info, true),
                Err(api::Error::Exists) => {}
                Err(error) => return Err(error.into()),
            }
            match self.whats_at(&uri).await? {
                // Somebody else made it, or we did and heard no answer: what is here goes there.
                Some(info) if info.kind == FileKind::Folder => break (info, false),
                _ if !std::mem::replace(&mut is_cleared, true) => {
                    self.is_cleared_of_ours(&change.place).await?;
                }
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
            // A rename may give it another place in this moment.
            let relocated = local.relocate_from(|place| {
                let is_in_it = place.folder == *made;
                is_in_it.then(|| Place {
                    folder: there.clone(),
                    folder_uri: uri.clone(),
                    ..place
                })
            });
            if let Err(error) = relocated {
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

    /// Those that came to something else than was wanted since the mount began, because somebody else was faster: how many, and
    /// the last of them.
    pub fn astray(&self) -> (u64, Vec<Astray>) {
        self.namespace.unheard.astray()
    }

    /// The name under which what belongs in `place` is kept beside what has its name.
    pub(super) fn name_beside(&self, place: &Place, nth: u32) -> Result<ServerName, Error> {
        Ok(self.owing()?.uploader.name_beside(place, nth))
    }
}
