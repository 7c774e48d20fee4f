//! Opening, by the way that the kernel has to take to the content.
//!
//! What the kernel reads by itself cannot show what is written: the file that it was given is the old version, and stays
//! so until the last of those readers is done. So who would write to such an inode is sent back to the name (ESTALE),
//! which leads to an inode of its own from then on; the readers keep the version that they opened.

use std::ffi::OsStr;
use std::sync::Arc;

use fuser::{FileHandle, FopenFlags, ReplyOpen};

use crate::fs::{Believed, Change, Error, Fs, HandleId, Lookup, Opened};
use crate::inodes::Ino;

use super::backing::{Backing, Way, Ways};
use super::errno::logged;

/// How a file is opened that is to be written to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Writing {
    /// Its content goes at once.
    pub(super) truncate: bool,
}

impl Writing {
    /// What `flags`, those of open(2), say; none where it is opened to be read. Linux truncates also what is opened to
    /// be read.
    pub(super) fn of(flags: i32) -> Option<Self> {
        let truncate = flags & libc::O_TRUNC != 0;
        let writes = flags & libc::O_ACCMODE != libc::O_RDONLY;
        (writes || truncate).then_some(Self { truncate })
    }
}

/// Answers open(2) for reading.
pub(super) async fn to_read(fs: Arc<Fs>, ways: Arc<Ways<Backing>>, ino: Ino, reply: ReplyOpen) {
    let opened = match fs.open(ino).await {
        Ok(opened) => opened,
        Err(err) => return reply.error(logged("open", ino.0, &err)),
    };
    // Nothing was written, so close(2) has nothing to tell.
    let mut flags = FopenFlags::FOPEN_NOFLUSH;
    let handle = FileHandle(opened.handle.0);
    if ways.may_be_files() {
        fs.look(opened.handle).await;
    }
    let way = ways.open(ino, || {
        let whole = fs.whole(opened.handle)?;
        Some(Backing::new(whole, |file| reply.open_backing(&**file)))
    });
    match way {
        Way::Pages => {
            flags.set(FopenFlags::FOPEN_KEEP_CACHE, opened.keep_cache);
            reply.opened(handle, flags);
        }
        // Not with FOPEN_KEEP_CACHE, which the kernel answers with EIO to who opens the file
        // (FOPEN_PASSTHROUGH_MASK in fs/fuse/iomode.c).
        Way::File(file) => reply.opened_passthrough(handle, flags, &file.id),
    }
}

/// Opens `ino` to be written to.
pub(super) async fn to_write<B>(
    fs: &Fs,
    ways: &Ways<B>,
    ino: Ino,
    how: Writing,
) -> Result<Opened, Error> {
    by_pages(fs, ways, ino)?;
    let opened = fs.open_to_write(ino, how.truncate).await;
    if opened.is_err() {
        ways.release(ino);
    }
    opened
}

/// Makes `name` in `parent`, and opens it. Something of that name that the kernel did not know of is opened as it is,
/// unless `flags` want to be the first.
pub(super) async fn create<B>(
    fs: &Fs,
    ways: &Ways<B>,
    (parent, name): (Ino, &OsStr),
    mode: u32,
    flags: i32,
) -> Result<(Believed, Opened), Error> {
    let mut new = None;
    let (made, how) = match fs.create(parent, name, mode).await {
        Ok((made, local)) => {
            new = Some(local);
            (made, Writing { truncate: false })
        }
        Err(Error::Exists) if flags & libc::O_EXCL == 0 => match fs.lookup(parent, name).await? {
            Lookup::Found(found) => (
                found,
                Writing::of(flags).unwrap_or(Writing { truncate: false }),
            ),
            Lookup::Absent { .. } => return Err(Error::Exists),
        },
        Err(err) => return Err(err),
    };
    let ino = made.attr.ino;
    match opened_as_made(fs, ways, made, how).await {
        Ok(done) => Ok(done),
        Err(err) => {
            // The kernel hears nothing of the inode, so it will not give it back.
            fs.forget(ino, 1);
            if let Some(local) = new {
                fs.leave(&local);
            }
            Err(err)
        }
    }
}

async fn opened_as_made<B>(
    fs: &Fs,
    ways: &Ways<B>,
    made: Believed,
    how: Writing,
) -> Result<(Believed, Opened), Error> {
    let ino = made.attr.ino;
    let opened = to_write(fs, ways, ino, how).await?;
    if !how.truncate {
        return Ok((made, opened));
    }
    match fs.attr(ino).await {
        Ok(shown) => Ok((shown, opened)),
        Err(err) => {
            ways.release(ino);
            fs.release(opened.handle);
            Err(err)
        }
    }
}

/// Answers setattr: of an open file, or, as truncate(2) asks for it, of one that is not.
pub(super) async fn change<B>(
    fs: &Fs,
    ways: &Ways<B>,
    ino: Ino,
    change: Change,
    handle: Option<HandleId>,
) -> Result<Believed, Error> {
    if change.size_bytes.is_none() || handle.is_some() {
        return fs.change(ino, change, handle).await;
    }
    by_pages(fs, ways, ino)?;
    let changed = fs.change(ino, change, None).await;
    ways.release(ino);
    changed
}

/// Counts one more who has `ino` open and may write to it; `Gone` where the kernel reads it by itself.
fn by_pages<B>(fs: &Fs, ways: &Ways<B>, ino: Ino) -> Result<(), Error> {
    if ways.open_to_write(ino) {
        return Ok(());
    }
    fs.leave_to_readers(ino);
    Err(Error::Gone)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_opens_to_write_or_to_truncate_is_a_writer() {
        let of = Writing::of;
        assert_eq!(of(libc::O_RDONLY | libc::O_CLOEXEC), None);
        assert_eq!(of(libc::O_WRONLY), Some(Writing { truncate: false }));
        assert_eq!(
            of(libc::O_RDWR | libc::O_APPEND),
            Some(Writing { truncate: false })
        );
        assert_eq!(
            of(libc::O_RDONLY | libc::O_TRUNC),
            Some(Writing { truncate: true })
        );
    }
}
