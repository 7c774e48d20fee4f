//! Folders that are removed while the server cannot be reached.
//!
//! All that is known to have been in one was removed or renamed here before. The server deletes a folder with all that is in
//! it, so it is looked into first, once what was to leave it has left: what somebody else put there keeps it.

use crate::api::{self, PagePosition};
use crate::entry::{Entry, FileKey};
use crate::fs::changes::End;
use crate::fs::namespace::within;
use crate::fs::root::PEEK;
use crate::fs::{Error, Fs};
use crate::staging::Place;

use super::waiting::{Fate, may_pass};
use super::{Gathered, Removal};

impl Fs {
    /// rmdir(2) of the folder `entry` at `end`, of which the server hears later; whether it is so. An error where something
    /// shows in it, or where nobody knows what does.
    pub(in crate::fs) async fn remove_folder_here(
        &self,
        end: &End,
        entry: &Entry,
    ) -> Result<bool, Error> {
        let space = &self.namespace;
        let is_out_of_reach = space.is_out_of_reach(&end.folder.uri);
        if !is_out_of_reach || entry.shortcut.is_some() || !self.may_wait(end) {
            return Ok(false);
        }
        let _turn = self.turn_of_unheard().await?;
        let key = self.key_in(end.parent, &entry.id)?;
        self.is_empty_here(&key)?;
        match space.shows_any(&key).await {
            Some(false) => {}
            Some(true) => return Err(Error::NotEmpty),
            None => return Err(self.removals.unsent()),
        }
        let gather = |home: &Place| Gathered::of_folder(home, &entry.id);
        self.goes_from(&end.place(), &entry.id, gather)?;
        space.metadata.forget(&key);
        self.retire(&key)?;
        Ok(true)
    }

    /// What becomes of the folder that `removal` is of, now that the server can be asked.
    pub(super) async fn remove_emptied(&self, removal: &Removal) -> Result<Fate, api::Error> {
        let (id, uri) = match self.where_is(removal).await? {
            (Some((info, uri)), _) => (info.id, uri),
            (None, true) => return Ok(Fate::Changed),
            (None, false) => return Ok(Fate::Gone),
        };
        let space = &self.namespace;
        let key = FileKey {
            tree: removal.gathered.tree(),
            id,
        };
        if space.leaving.any_in(&key) {
            // That is to leave it first.
            return Err(api::Error::Locked(Vec::new()));
        }
        let is_empty = async || {
            let page = (space.source.page)(uri.clone(), PagePosition::First, PEEK);
            let page = within(space.options.timeout, page).await?;
            Ok::<_, api::Error>(page.files.is_empty())
        };
        let is_empty = match (is_empty().await, &self.owing) {
            // What is there may be left of an upload of ours.
            (Ok(false), Some(owing)) if owing.uploader.clear_left(&key).await? => is_empty().await,
            (found, _) => found,
        };
        match is_empty {
            Ok(true) => {}
            Ok(false) => return Ok(Fate::Changed),
            Err(api::Error::NotFound) => return Ok(Fate::Gone),
            Err(error) => return Err(error),
        }
        match self.api.delete_one(&uri, removal.how).await {
            Ok(()) | Err(api::Error::NotFound) => Ok(Fate::Gone),
            Err(error) if may_pass(&error) => Err(error),
            Err(error) => Ok(Fate::Refused(error)),
        }
    }
}
