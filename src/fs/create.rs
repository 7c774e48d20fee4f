//! Making files and folders.
//!
//! A new file is made here: the server hears of it when it is closed. A folder is made there at once, so that others see it;
//! where the server cannot be reached it is made here, and the server hears of it later (`unheard`).

use std::ffi::OsStr;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use crate::api;
use crate::attributes::{Attributes, KEY, Special};
use crate::crash::{self, Point};
use crate::entry::Entry;
use crate::inodes::Ino;
use crate::model::{FileInfo, FileKind};
use crate::staging::Local;

use super::changes::{End, disk, is_lost, named};
use super::locals::{Shown, differing, local_id};
use super::{Believed, Error, Fs, Maker};

impl Fs {
    /// A new empty file, which is exclusive as far as is known here; counts one lookup. `special` is what it stands for, if
    /// that is no regular file.
    pub async fn create(
        &self,
        parent: Ino,
        name: &OsStr,
        maker: Maker,
        special: Option<Special>,
    ) -> Result<(Believed, Arc<Local>), Error> {
        let _turn = self.turn_in([parent]).await?;
        let end = self.free_end(parent, name).await?;
        let staging = &self.owing()?.staging;
        let told = self.of_maker(parent, maker, FileKind::File, special)?;
        let told = told.map(|told| (Arc::new(told), false));
        let local = staging.create_telling(end.place(), None, SystemTime::now(), told);
        let local = local.map_err(disk)?;
        let shown = Shown {
            key: self.key_in(parent, &local_id(&local))?,
            local: Arc::clone(&local),
        };
        let space = &self.namespace;
        space.locals.show(&end.folder.key, name, shown.clone());
        self.touch(parent);
        Ok((space.count_local(parent, name, &shown)?, local))
    }

    /// mkdir(2), on the server, in the call, where it can be reached; counts one lookup.
    pub async fn make_folder(
        &self,
        parent: Ino,
        name: &OsStr,
        maker: Maker,
    ) -> Result<Believed, Error> {
        let _turn = self.turn_in([parent]).await?;
        self.sent_off(parent, name).await?;
        self.clear(parent, name).await?;
        let end = self.free_end(parent, name).await?;
        let told = self.of_maker(parent, maker, FileKind::Folder, None)?;
        let told = named(told.map(Arc::new), end.full.as_ref());
        let may_wait = self.may_wait(&end);
        if may_wait && self.has_to_wait(&end) {
            let made = self.make_folder_here(&end, told, false).await;
            self.touch(parent);
            return made;
        }
        self.is_cleared(parent, name).await?;
        self.parent_is_there(parent).await?;
        let steady = self.steady(&[&end]).await?;
        let info = match self.folder_made(&end, told.as_deref()).await {
            Ok(info) => {
                crash::pass(Point::FolderMade);
                info
            }
            // Its folder has another place by now: the kernel looks for it once more.
            Err(api::Error::NotFound) => return Err(Error::Gone),
            Err(error) => {
                let error = self.refused(&end.folder, error);
                drop(steady);
                if may_wait && self.namespace.is_of_the_wire(&error) {
                    let made = self.make_folder_here(&end, told, true).await;
                    self.touch(parent);
                    return made;
                }
                self.doubt(&end);
                return Err(error);
            }
        };
        if info.kind != FileKind::Folder {
            self.doubt(&end);
            return Err(Error::Exists);
        }
        let space = &self.namespace;
        let entry = space.entry(info).map(|entry| Entry {
            name: name.into(),
            segment: differing(name, entry.segment()),
            // What was told with it, if the answer does not say (→ api part 1 §6.1).
            attributes: entry.attributes.clone().or(told),
            ..entry
        });
        let entry = Arc::new(entry.ok_or(Error::Exists)?);
        self.believe(&end, Some(Arc::clone(&entry)));
        self.touch(parent);
        let key = self.key_in(parent, &entry.id)?;
        // What was just made is empty: what is made in it next needs no question first.
        space.listings.made(&key, Instant::now());
        let counted = space.inodes.count(parent, &entry, Some(&entry));
        let (ino, _) = counted.ok_or(Error::NotFound)?;
        Ok(space.believed(ino, &entry, None, space.metadata.ttl()))
    }

    /// `name` in `parent`, under which nothing is.
    async fn free_end(&self, parent: Ino, name: &OsStr) -> Result<End, Error> {
        self.sent_off(parent, name).await?;
        let (end, found) = self.end(parent, name).await?;
        self.may_add(&end)?;
        if found.is_some() {
            return Err(Error::Exists);
        }
        self.may_write(&end.folder).await?;
        self.is_told_apart(&end, None).await?;
        Ok(end)
    }

    /// The server makes folders that are missing on the way, and would so bring back one that somebody deleted
    /// (→ api part 1 §8.1).
    async fn parent_is_there(&self, parent: Ino) -> Result<(), Error> {
        let space = &self.namespace;
        let node = space.inodes.node(parent).ok_or(Error::NotFound)?;
        match space.current(parent, &node).await {
            Ok(_) => Ok(()),
            Err(Error::Gone) => Err(Error::NotFound),
            Err(error) => Err(error),
        }
    }

    async fn folder_made(
        &self,
        end: &End,
        told: Option<&Attributes>,
    ) -> Result<FileInfo, api::Error> {
        let uri = end.uri();
        self.api.is_told_apart(&uri).await?;
        let told = told.map(|told| (KEY.to_owned(), told.text()));
        let told = told.into_iter().collect();
        let answer = self.unlocked(|| self.api.create_folder(&uri, &told)).await;
        let Err(error) = answer else {
            return answer;
        };
        if !is_lost(&error) {
            return Err(error);
        }
        // There was nothing of that name a moment ago: a folder that is there now is the one that was asked for.
        match self.whats_at(&uri).await {
            Ok(Some(info)) if info.kind == FileKind::Folder => Ok(info),
            Ok(_) | Err(_) => Err(error),
        }
    }
}
