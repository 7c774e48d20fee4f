//! Opening to write, write, truncate, allocate, and the attributes that can be set.
//!
//! Nothing here waits for the network: what is written over stays where it is, and only what is written comes to lie here.

use std::sync::Arc;
use std::time::SystemTime;

use crate::attributes::MODE_BITS;
use crate::fs::changes::disk;
use crate::fs::told::Telling;
use crate::fs::{Believed, Error, Fs, HandleId, Opened};
use crate::inodes::{Ino, Node};
use crate::model::FileKind;
use crate::staging::Local;

use super::File;

/// What setattr is to change; none is left as it is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Change {
    /// Permission bits.
    pub mode: Option<u32>,
    /// Owner.
    pub uid: Option<u32>,
    /// Group.
    pub gid: Option<u32>,
    /// Length, in bytes.
    pub size_bytes: Option<u64>,
    /// Time of the last change of content.
    pub modified: Option<SetTime>,
    /// Time of the last access.
    pub accessed: Option<SetTime>,
    /// What makes a file run in its owner's name is to go: whoever changes the content is not above that.
    pub drops_privileges: bool,
}

/// What a time is set to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SetTime {
    /// This moment.
    Now,
    /// This time.
    At(SystemTime),
}

impl SetTime {
    fn at(self, now: SystemTime) -> SystemTime {
        match self {
            Self::Now => now,
            Self::At(time) => time,
        }
    }
}

impl Change {
    /// Whether anything is told that is not content.
    fn tells(&self) -> bool {
        let content = Self {
            size_bytes: self.size_bytes,
            ..Self::default()
        };
        *self != content
    }

    /// Makes it so, at `now`.
    fn tell(&self, fs: &Fs, told: &mut Telling<'_>, now: SystemTime) {
        let mut access = told.access;
        let is_given = self.uid.is_some() || self.gid.is_some();
        if told.kind == FileKind::File && (is_given || self.drops_privileges) {
            access = Fs::without_privileges(access);
        }
        access.uid = self.uid.unwrap_or(access.uid);
        access.gid = self.gid.unwrap_or(access.gid);
        // Bits that come with it are those that the caller wants.
        if let Some(mode) = self.mode {
            access.mode = mode as u16 & MODE_BITS;
        }
        if access != told.access {
            fs.set_access(told.attributes, access, told.kind);
        }
        if let Some(modified) = self.modified {
            told.times.modified = modified.at(now);
        }
        if let Some(accessed) = self.accessed {
            told.times.accessed = accessed.at(now);
        }
        told.times.changed = now;
    }
}

/// What fallocate(2) is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reserve {
    /// Room on the disk; the file grows to the end of the range.
    Grow,
    /// Room on the disk, also behind the end of the file.
    KeepSize,
    /// Zeros, within the file.
    Punch,
    /// Zeros; the file grows to the end of the range.
    Zero,
}

impl Reserve {
    /// What `mode`, that of fallocate(2), says; none of what is not supported.
    pub fn of(mode: i32) -> Option<Self> {
        const PUNCH: i32 = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
        const ZERO_WITHIN: i32 = libc::FALLOC_FL_ZERO_RANGE | libc::FALLOC_FL_KEEP_SIZE;
        match mode {
            0 => Some(Self::Grow),
            libc::FALLOC_FL_KEEP_SIZE => Some(Self::KeepSize),
            // Zeros behind the end of a file that does not grow are nothing.
            PUNCH | ZERO_WITHIN => Some(Self::Punch),
            libc::FALLOC_FL_ZERO_RANGE => Some(Self::Zero),
            _ => None,
        }
    }
}

impl Fs {
    /// Whether nothing can be written.
    pub fn is_read_only(&self) -> bool {
        self.owing.is_none()
    }

    /// open(2) for writing, with `truncate` as O_TRUNC does it. Nothing is fetched, and nothing changes before something is
    /// written. `Gone` as for [`Fs::open`].
    pub async fn open_to_write(&self, ino: Ino, truncate: bool) -> Result<Opened, Error> {
        self.owing()?;
        let node = self.namespace.inodes.node(ino).ok_or(Error::NotFound)?;
        let folder = self.namespace.folder(node.parent)?;
        self.may_write(&folder).await?;
        let opened = self.open_for(ino, true).await?;
        if truncate && let Err(err) = self.truncate(opened.handle, 0).await {
            self.release(opened.handle);
            return Err(err);
        }
        Ok(opened)
    }

    /// pwrite(2), all of it, to the local disk. With `append` to the end, wherever that is by now.
    pub fn write(
        &self,
        handle: HandleId,
        offset: u64,
        bytes: &[u8],
        append: bool,
    ) -> Result<(), Error> {
        let file = self.files.get(handle)?;
        let local = self.local_to_write(&file)?;
        let offset = match append {
            true => local.size_bytes(),
            false => offset,
        };
        self.changing(&file, &local, |now| local.write(offset, bytes, now))
    }

    /// ftruncate(2).
    pub async fn truncate(&self, handle: HandleId, size_bytes: u64) -> Result<(), Error> {
        let file = self.files.get(handle)?;
        if file.content.is_clean() && file.content.version().size_bytes == size_bytes {
            if !file.writes {
                return Err(Error::BadHandle);
            }
            // The server need not get the same once more, but the time is that of the call (→ ftruncate(3p), open(3p)).
            let touch = |told: &mut Telling<'_>| {
                told.times.modified = told.times.changed;
                Ok(())
            };
            return self.tell(file.content.ino(), touch).await;
        }
        let local = self.local_to_write(&file)?;
        if size_bytes > 0 || !local.is_settled() {
            return self.changing(&file, &local, |now| local.truncate(size_bytes, now));
        }
        let wiped = Arc::clone(&local);
        let wipe = move || wiped.truncate(size_bytes, SystemTime::now());
        let done = tokio::task::spawn_blocking(wipe).await;
        done.unwrap_or_else(|panic| Err(std::io::Error::other(panic)))
            .map_err(disk)?;
        self.changed(file.content.ino(), &local);
        Ok(())
    }

    /// fallocate(2).
    pub fn allocate(
        &self,
        handle: HandleId,
        offset: u64,
        size_bytes: u64,
        how: Reserve,
    ) -> Result<(), Error> {
        let end = offset.checked_add(size_bytes).ok_or(Error::TooLarge)?;
        if size_bytes == 0 {
            return Err(Error::Invalid);
        }
        let file = self.files.get(handle)?;
        let local = self.local_to_write(&file)?;
        self.changing(&file, &local, |now| {
            let within = offset..end.min(local.size_bytes());
            match how {
                Reserve::Grow => local.allocate(offset..end, true, now),
                Reserve::KeepSize => local.allocate(offset..end, false, now),
                Reserve::Punch if within.is_empty() => Ok(()),
                Reserve::Punch => local.zero(within, now),
                Reserve::Zero => {
                    if local.size_bytes() < end {
                        local.truncate(end, now)?;
                    }
                    local.zero(offset..end, now)
                }
            }?;
            // Also where no byte changed, as on a local disk.
            local.set_mtime(now)
        })
    }

    /// chmod(2), chown(2), truncate(2), utimensat(2): by `handle` where the file is open by one.
    pub async fn change(
        &self,
        ino: Ino,
        mut change: Change,
        handle: Option<HandleId>,
    ) -> Result<Believed, Error> {
        self.owing()?;
        let node = self.namespace.inodes.node(ino).ok_or(Error::NotFound)?;
        if let Some(size_bytes) = change.size_bytes {
            if node.entry.kind == FileKind::Folder {
                return Err(Error::IsAFolder);
            }
            match handle {
                Some(handle) => self.truncate(handle, size_bytes).await?,
                None => self.truncate_closed(ino, size_bytes).await?,
            }
        }
        if change == Change::default() && node.entry.kind == FileKind::File {
            // chown(2) that leaves owner and group as they are.
            change.drops_privileges = self.is_privileged(&node);
        }
        if change.size_bytes.is_some() && change.modified == Some(SetTime::Now) {
            // So it was, by the change of content.
            change.modified = None;
        }
        if change.tells() {
            let (fs, now) = (self, SystemTime::now());
            self.tell(ino, |told| {
                change.tell(fs, told, now);
                Ok(())
            })
            .await?;
        }
        self.attr(ino).await
    }

    /// Content is about to be changed by who is not above it: what makes the file run in its owner's name goes.
    pub async fn drop_privileges(&self, ino: Ino) -> Result<(), Error> {
        let node = self.namespace.inodes.node(ino).ok_or(Error::NotFound)?;
        if !self.is_privileged(&node) {
            return Ok(());
        }
        let change = Change {
            drops_privileges: true,
            ..Change::default()
        };
        self.change(ino, change, None).await.map(drop)
    }

    /// Whether it runs in its owner's or its group's name.
    fn is_privileged(&self, node: &Node) -> bool {
        let access = self.namespace.shown_access(node);
        Self::without_privileges(access) != access
    }

    /// truncate(2): as who opens, truncates and closes.
    async fn truncate_closed(&self, ino: Ino, size_bytes: u64) -> Result<(), Error> {
        let handle = self.open_to_write(ino, false).await?.handle;
        let done = self.truncate(handle, size_bytes).await;
        let flushed = self.flush(handle).await;
        self.release(handle);
        done.and(flushed)
    }

    /// Keeps what shows in step with a change of `local`, which `change` makes.
    fn changing(
        &self,
        file: &File,
        local: &Arc<Local>,
        change: impl FnOnce(SystemTime) -> std::io::Result<()>,
    ) -> Result<(), Error> {
        change(SystemTime::now()).map_err(disk)?;
        self.changed(file.content.ino(), local);
        Ok(())
    }

    /// The local file behind `file`. Where there is none yet it is made, over the version that was opened.
    fn local_to_write(&self, file: &File) -> Result<Arc<Local>, Error> {
        if !file.writes {
            return Err(Error::BadHandle);
        }
        let content = &file.content;
        content.local_or(|| {
            let version = content.version();
            let modified = self.namespace.with_untold(version).times().modified;
            let local = self.write_over(content.ino(), version.version(), modified)?;
            self.namespace.inodes.soil(content.ino());
            Ok(local)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_mode_of_fallocate_is_what_the_manual_says_or_refused() {
        let (keep, punch) = (libc::FALLOC_FL_KEEP_SIZE, libc::FALLOC_FL_PUNCH_HOLE);
        let zero = libc::FALLOC_FL_ZERO_RANGE;
        assert_eq!(Reserve::of(0), Some(Reserve::Grow));
        assert_eq!(Reserve::of(keep), Some(Reserve::KeepSize));
        assert_eq!(Reserve::of(punch | keep), Some(Reserve::Punch));
        assert_eq!(Reserve::of(zero), Some(Reserve::Zero));
        assert_eq!(Reserve::of(zero | keep), Some(Reserve::Punch));
        for refused in [
            punch,
            libc::FALLOC_FL_COLLAPSE_RANGE,
            libc::FALLOC_FL_INSERT_RANGE,
            libc::FALLOC_FL_UNSHARE_RANGE,
        ] {
            assert_eq!(Reserve::of(refused), None);
        }
    }
}
