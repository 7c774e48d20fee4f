//! What is told of a file beside its content, changed: chmod(2), chown(2), utimensat(2), the user's extended attributes.
//!
//! Of content that is here it lies with that, and goes to the server with it. Of all else it is journaled in the call, and
//! the server hears of it in the background. Nothing here waits for the network but to know what is there now.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;
use std::time::SystemTime;

use crate::attributes::{
    Attributes, KEY, MODE_BITS, NAME_TEXT_BYTES, Of, ShownTimes, Special, TEXT_MAX_BYTES, Times,
};
use crate::crash::{self, Point};
use crate::entry::Entry;
use crate::inodes::Ino;
use crate::model::{FileId, FileKind};
use crate::staging::{Local, Place, State};

use super::access::Access;
use super::changes::{End, disk};
use super::locals::{Locals, Shown, is_nameless};
use super::namespace::Folder;
use super::pinned;
use super::{Error, Fs};

/// Who makes a file, and with which permission bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Maker {
    /// Permission bits, umask applied.
    pub mode: u32,
    /// Whose it is.
    pub uid: u32,
    /// Of which group.
    pub gid: u32,
}

#[cfg(test)]
impl Maker {
    /// Who mounted, with the bits that show anyway.
    pub(super) fn of_tests(kind: FileKind) -> Self {
        Self {
            mode: match kind {
                FileKind::Folder => 0o755,
                FileKind::File => 0o644,
            },
            uid: 1,
            gid: 2,
        }
    }
}

/// What is told of a file, for who changes it.
pub(super) struct Telling<'a> {
    pub(super) attributes: &'a mut Attributes,
    pub(super) times: &'a mut ShownTimes,
    /// What shows of it so far.
    pub(super) access: Access,
    pub(super) kind: FileKind,
}

/// Times are at most as long as this in what is told.
const TIMES_BYTES: usize = 256;

const SET_UID: u16 = 0o4000;
const SET_GID: u16 = 0o2000;
const GROUP_EXECUTES: u16 = 0o010;

impl Fs {
    /// Changes what is told of `ino`, and when that was.
    pub(super) async fn tell(
        &self,
        ino: Ino,
        change: impl FnOnce(&mut Telling<'_>) -> Result<(), Error>,
    ) -> Result<(), Error> {
        self.owing()?;
        let space = &self.namespace;
        let node = space.inodes.node(ino).ok_or(Error::NotFound)?;
        let folder = space.folder(node.parent)?;
        self.may_write(&folder).await?;
        let believed = space.current(ino, &node).await?.what;
        if believed.shortcut.is_some() {
            return Err(Error::NotPermitted);
        }
        // One after the other: each begins with what the one before left.
        let _turn = self.telling.lock().unwrap();
        if let Some(shown) = space.local_of(&node) {
            let entry = Locals::entry(&shown, &node.entry.name);
            let (attributes, times) = self.changed_telling(&entry, change)?;
            if self.tell_local(ino, &shown.local, &entry, attributes.clone(), times)? {
                return Ok(());
            }
            // Its content is on the server, and nothing newer is here.
            let Some(base) = shown.local.base() else {
                return Err(Error::NotFound);
            };
            let entry = Entry {
                id: base.file,
                entity: base.entity.id,
                ..(*entry).clone()
            };
            return self.tell_server(ino, &entry, attributes, times, &folder);
        }
        let mut entry = space.with_untold(&believed).into_owned();
        if let Some(version) = node.pinned.filter(|_| is_nameless(&entry.id)) {
            // Nobody comes to another version of it any more.
            entry.updated = version.updated;
            entry.size_bytes = version.size_bytes;
            entry.entity = version.entity;
        }
        let (attributes, times) = self.changed_telling(&entry, change)?;
        self.tell_server(ino, &entry, attributes, times, &folder)
    }

    /// What `change` makes of what is told of `entry`.
    fn changed_telling(
        &self,
        entry: &Entry,
        change: impl FnOnce(&mut Telling<'_>) -> Result<(), Error>,
    ) -> Result<(Attributes, ShownTimes), Error> {
        let mut attributes = entry.attributes.as_deref().cloned().unwrap_or_default();
        let mut times = self.namespace.touched.times(entry);
        times.changed = SystemTime::now();
        change(&mut Telling {
            attributes: &mut attributes,
            times: &mut times,
            access: self.namespace.access(entry),
            kind: entry.kind,
        })?;
        let unnamed = Attributes {
            names: Vec::new(),
            ..attributes.clone()
        };
        // Whatever it will be called has room.
        match unnamed.text().len() > TEXT_MAX_BYTES - TIMES_BYTES - NAME_TEXT_BYTES {
            true => Err(no_room()),
            false => Ok((attributes, times)),
        }
    }

    /// Of content that is here. False where the server has that, and is to hear of it apart.
    fn tell_local(
        &self,
        ino: Ino,
        local: &Arc<Local>,
        before: &Entry,
        attributes: Attributes,
        times: ShownTimes,
    ) -> Result<bool, Error> {
        let is_newer = times.modified != before.times().modified;
        match local.state() {
            State::Delivered => local.show_mtime(times.modified),
            _ if is_newer => {
                local.set_mtime(times.modified).map_err(disk)?;
                self.changed(ino, local);
            }
            _ => {}
        }
        let times = Times::sent(times);
        let told = local.set_attributes(|told| {
            *told = Attributes {
                times: (!times.is_plain()).then_some(times),
                // It may have another name by now.
                names: std::mem::take(&mut told.names),
                ..attributes
            };
        });
        let is_here = told.map_err(disk)?;
        if is_here {
            if !self.files.is_written(ino) {
                self.stage(local)?;
            }
            if let Some(base) = local.base() {
                // It goes with the content, which is newer than what was to be told apart.
                let staging = &self.owing()?.staging;
                staging.tell_nothing(&base.file).map_err(disk)?;
            }
        }
        Ok(is_here)
    }

    /// Of what the server has.
    fn tell_server(
        &self,
        ino: Ino,
        entry: &Entry,
        attributes: Attributes,
        times: ShownTimes,
        folder: &Folder,
    ) -> Result<(), Error> {
        let owing = self.owing()?;
        let attributes = Attributes {
            times: Some(times_there(entry, times)),
            ..attributes
        };
        self.namespace.touched.forget(&entry.id);
        if self.tell_made(ino, entry, &attributes)? {
            return Ok(());
        }
        if ino == Ino::ROOT || is_nameless(&entry.id) {
            // The server keeps nothing of either (→ api part 1 §9.3).
            owing.staging.remember(entry.id.clone(), attributes);
            return Ok(());
        }
        let place = Place {
            folder: folder.key.clone(),
            folder_uri: folder.uri.clone(),
            name: entry.segment(),
            full: entry.full(),
        };
        let told = owing.staging.tell(&entry.id, place, attributes);
        told.map_err(disk)?;
        owing.uploader.tell();
        Ok(())
    }

    /// `entry` was renamed by the server, for which that is a change of content, and is at `to` now: it keeps its times.
    pub(super) fn keep_told(&self, entry: &Entry, to: &End) -> Result<(), Error> {
        self.keep_told_at(entry, to.place())
    }

    /// As [`Fs::keep_told`], of what is at `place` now.
    pub(super) fn keep_told_at(&self, entry: &Entry, place: Place) -> Result<(), Error> {
        let owing = self.owing()?;
        let _turn = self.telling.lock().unwrap();
        let entry = self.namespace.with_untold(entry);
        let mut times = self.namespace.touched.times(&entry);
        times.changed = SystemTime::now();
        let attributes = Attributes {
            times: Some(times_there(&entry, times)),
            names: place.full.iter().cloned().collect(),
            ..entry.attributes.as_deref().cloned().unwrap_or_default()
        };
        let told = owing.staging.tell(&entry.id, place, attributes);
        told.map_err(disk)?;
        owing.uploader.tell();
        Ok(())
    }

    /// The server's file `id`, which is at `from`, is about to be renamed to `to`: where that is stored in part, all of the
    /// new name is told before, beside what it is called so far. So it has the one name or the other at each moment, also
    /// for others and after a crash. What is not at `from` any more is told nothing.
    pub(super) async fn foretell(&self, id: &FileId, from: &End, to: &End) -> Result<(), Error> {
        let Some(full) = &to.full else {
            return Ok(());
        };
        let uri = from.uri();
        let found = self.whats_at(&uri).await;
        let found = found.map_err(|error| self.refused(&from.folder, error))?;
        let Some(info) = found.filter(|info| info.id == *id) else {
            return Ok(());
        };
        let with_both = |told: Attributes| {
            let old = told.full_of(&from.stored);
            let names = old.into_iter().chain([full]).cloned().collect();
            Attributes { names, ..told }
        };
        let told = Attributes::of(&info).unwrap_or_default();
        if told.full_of(&to.stored).is_some() {
            // It is moved, or this was tried before.
            return Ok(());
        }
        let told = with_both(told);
        let text = told.text();
        if text.len() > TEXT_MAX_BYTES {
            return Err(no_room());
        }
        {
            // What the server is yet to hear of it must not take back what it hears now.
            let staging = &self.owing()?.staging;
            let _turn = self.telling.lock().unwrap();
            if let Some(untold) = staging.untold(id) {
                let told = with_both((*untold).clone());
                staging.tell(id, from.place(), told).map_err(disk)?;
            }
        }
        let change = BTreeMap::from([(KEY.to_owned(), Some(text))]);
        let heard = self
            .unlocked(|| self.api.patch_metadata(&uri, &change))
            .await;
        heard.map_err(|error| self.refused(&from.folder, error))?;
        crash::pass(Point::Foretold);
        Ok(())
    }

    /// The local file behind `shown` has another name now, which is a change of it, though not of its content.
    pub(super) fn tell_renamed(&self, shown: &Shown) -> Result<(), Error> {
        let _turn = self.telling.lock().unwrap();
        let entry = Locals::entry(shown, OsStr::new(""));
        let times = Times::sent(ShownTimes {
            changed: SystemTime::now(),
            ..entry.times()
        });
        let told = shown.local.set_attributes(|told| told.times = Some(times));
        // Of what was delivered in this moment, the rename that is to come at the server tells it.
        told.map(drop).map_err(disk)
    }

    /// What is told of what `maker` makes in the folder `parent`; none where that is what shows anyway.
    pub(super) fn of_maker(
        &self,
        parent: Ino,
        maker: Maker,
        kind: FileKind,
        special: Option<Special>,
    ) -> Result<Option<Attributes>, Error> {
        let space = &self.namespace;
        let folder = space.inodes.node(parent).ok_or(Error::NotFound)?;
        let above = space.access(&space.with_untold(&folder.entry));
        let mut access = Access {
            mode: maker.mode as u16 & MODE_BITS,
            uid: maker.uid,
            gid: maker.gid,
        };
        if above.mode & SET_GID != 0 {
            access.gid = above.gid;
            if kind == FileKind::Folder {
                access.mode |= SET_GID;
            }
        }
        let mut attributes = Attributes {
            special,
            ..Attributes::default()
        };
        self.set_access(&mut attributes, access, kind);
        Ok((!attributes.is_plain()).then_some(attributes))
    }

    /// `access` shows. What shows anyway is not told: another mount has defaults of its own.
    pub(super) fn set_access(&self, attributes: &mut Attributes, access: Access, kind: FileKind) {
        let options = &self.namespace.options;
        let default = match kind {
            FileKind::Folder => options.dir_mode,
            FileKind::File => options.file_mode,
        };
        attributes.mode = (access.mode != default).then_some(access.mode);
        attributes.uid = (access.uid != options.uid).then_some(access.uid);
        attributes.gid = (access.gid != options.gid).then_some(access.gid);
    }

    /// What was written or given away is not run in another's name any more (→ chown(2), write(2)).
    pub(super) fn without_privileges(access: Access) -> Access {
        let mut mode = access.mode & !SET_UID;
        if mode & GROUP_EXECUTES != 0 {
            mode &= !SET_GID;
        }
        Access { mode, ..access }
    }

    /// readlink(2).
    pub async fn link_target(&self, ino: Ino) -> Result<Vec<u8>, Error> {
        let space = &self.namespace;
        let node = space.inodes.node(ino).ok_or(Error::NotFound)?;
        let entry = space.current(ino, &node).await?.what;
        match space.with_untold(&entry).special() {
            Some(Special::Symlink(target)) => Ok(target.to_vec()),
            _ => Err(Error::Invalid),
        }
    }

    /// setxattr(2) of the user's own; `flags` are those of the call.
    pub async fn set_xattr(
        &self,
        ino: Ino,
        name: &OsStr,
        value: &[u8],
        flags: i32,
    ) -> Result<(), Error> {
        if name == pinned::NAME {
            // It is always there.
            return match flags & libc::XATTR_CREATE {
                0 => self.set_pinned_xattr(ino, value).await,
                _ => Err(Error::Exists),
            };
        }
        may_set(name)?;
        self.tell(ino, |told| {
            let xattrs = &mut told.attributes.xattrs;
            let is_there = xattrs.contains_key(name.as_bytes());
            if flags & libc::XATTR_CREATE != 0 && is_there {
                return Err(Error::Exists);
            }
            if flags & libc::XATTR_REPLACE != 0 && !is_there {
                return Err(Error::NoAttribute);
            }
            xattrs.insert(name.as_bytes().into(), value.into());
            Ok(())
        })
        .await
    }

    /// removexattr(2) of the user's own.
    pub async fn remove_xattr(&self, ino: Ino, name: &OsStr) -> Result<(), Error> {
        if name == pinned::NAME {
            return self.set_pinned_xattr(ino, b"0").await;
        }
        may_set(name)?;
        self.tell(ino, |told| {
            let removed = told.attributes.xattrs.remove(name.as_bytes());
            removed.map(drop).ok_or(Error::NoAttribute)
        })
        .await
    }
}

/// What is told of a file is longer than a server takes.
fn no_room() -> Error {
    Error::Disk(Arc::new(std::io::Error::from_raw_os_error(libc::ENOSPC)))
}

/// What there is to say of `entry`, which the server has, so that `times` show.
fn times_there(entry: &Entry, times: ShownTimes) -> Times {
    match entry.kind {
        FileKind::Folder => Times {
            of: Of::Folder,
            modified: Some(times.modified),
            accessed: Some(times.accessed),
            changed: Some(times.changed),
        },
        FileKind::File => Times::of_content(times, &entry.version()),
    }
}

/// Whether an extended attribute is the user's own.
fn may_set(name: &OsStr) -> Result<(), Error> {
    let name = name.as_bytes();
    match () {
        () if name.starts_with(super::xattrs::PREFIX.as_bytes()) => Err(Error::NotPermitted),
        () if name.starts_with(b"user.") => Ok(()),
        () => Err(Error::NotSupported),
    }
}
