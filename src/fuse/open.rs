//! Opening, by the way that the kernel has to take to the content.
//!
//! What the kernel reads by itself from the cache cannot show what is written: the file that it was given is the old
//! version, and stays so until the last of those readers is done. So who would write to such an inode is sent back to the
//! name (ESTALE), which leads to an inode of its own from then on; the readers keep the version that they opened.
//!
//! A content that begins anew, by O_CREAT or O_TRUNC, lies here as a whole, and the kernel may write to it by itself. We
//! see none of these writes, so nothing of the file can be uploaded before the last close(2). That is nothing lost for who
//! writes a file from one end to the other, as cp(1) does, and much for who keeps one open for hours: so it is done only
//! for who opens it with O_WRONLY, which no database does, and without O_APPEND, which most logs are written with. Nor
//! with O_SYNC, since what makes a write survive a power cut is more than the content, or O_DIRECT, of which the disk asks
//! more than we do. Whoever else opens the file meanwhile goes the same way.

use std::ffi::OsStr;
use std::io;
use std::os::fd::BorrowedFd;
use std::sync::Arc;

use fuser::{BackingId, FileHandle, FopenFlags, ReplyOpen};

use crate::fs::{Believed, Change, Error, Fs, HandleId, Lookup, Maker, Opened};
use crate::inodes::Ino;

use super::backing::{Backing, Kept, Way, Ways};
use super::errno::logged;

/// How a file is opened that is to be written to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Writing {
    /// Its content goes at once.
    pub(super) truncate: bool,
    /// It may be mapped, to be written to.
    may_map: bool,
    /// It is likely to be written from one end to the other and closed.
    in_one_go: bool,
}

/// Hands a file over to the kernel.
pub(super) type HandOver<'a> = &'a (dyn Fn(BorrowedFd<'_>) -> io::Result<BackingId> + Sync);

impl Writing {
    /// What `flags`, those of open(2), say; none where it is opened to be read. Linux truncates also what is opened to
    /// be read.
    pub(super) fn of(flags: i32) -> Option<Self> {
        let truncate = flags & libc::O_TRUNC != 0;
        let writes = flags & libc::O_ACCMODE != libc::O_RDONLY;
        (writes || truncate).then_some(Self::as_opened(flags))
    }

    /// Of what is opened with `flags`, also where that is to read only.
    fn as_opened(flags: i32) -> Self {
        const TELLING: i32 = libc::O_ACCMODE | libc::O_APPEND | libc::O_DSYNC | libc::O_DIRECT;
        Self {
            truncate: flags & libc::O_TRUNC != 0,
            may_map: flags & libc::O_ACCMODE == libc::O_RDWR,
            in_one_go: flags & TELLING == libc::O_WRONLY,
        }
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
        let hand_over = |file: BorrowedFd<'_>| reply.open_backing(file);
        Some(Backing::new(Kept::Whole(whole), hand_over))
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

/// Opens `ino` to be written to, and tells the way to it.
pub(super) async fn to_write(
    fs: &Fs,
    ways: &Ways<Backing>,
    ino: Ino,
    how: Writing,
    hand_over: HandOver<'_>,
) -> Result<(Opened, Way<Backing>), Error> {
    let is_anew = how.truncate;
    opened(fs, ways, ino, (how, is_anew), hand_over).await
}

/// As [`to_write`], what is new altogether if `is_anew`.
async fn opened(
    fs: &Fs,
    ways: &Ways<Backing>,
    ino: Ino,
    (how, is_anew): (Writing, bool),
    hand_over: HandOver<'_>,
) -> Result<(Opened, Way<Backing>), Error> {
    let given = counted(fs, ways, ino)?;
    let opened = match fs.open_to_write(ino, how.truncate).await {
        Ok(opened) => opened,
        Err(err) => {
            ways.release(ino);
            return Err(err);
        }
    };
    let handle = opened.handle;
    let way = match given {
        Way::File(file) => match fs.lend(handle, how.may_map) {
            Ok(Some(_)) => Ok(Way::File(file)),
            // The last of those who had the file open closed it in this moment, and the name stands for another version.
            Ok(None) => Err(Error::Gone),
            Err(err) => Err(err),
        },
        Way::Pages if is_anew && how.in_one_go => Ok(ways.write_by(ino, || {
            // What cannot be lent is written by pages.
            let file = fs.lend(handle, how.may_map).ok()??;
            let backing = Backing::new(Kept::Lent(file), hand_over);
            if backing.is_err() {
                fs.unlend(handle);
            }
            Some(backing)
        })),
        Way::Pages => Ok(Way::Pages),
    };
    if way.is_err() {
        ways.release(ino);
        fs.release(handle);
    }
    way.map(|way| (opened, way))
}

/// Makes `name` in `parent`, and opens it. Something of that name that the kernel did not know of is opened as it is,
/// unless `flags` want to be the first.
pub(super) async fn create(
    fs: &Fs,
    ways: &Ways<Backing>,
    (parent, name): (Ino, &OsStr),
    maker: Maker,
    flags: i32,
    hand_over: HandOver<'_>,
) -> Result<(Believed, Opened, Way<Backing>), Error> {
    let mut new = None;
    let how = Writing::as_opened(flags);
    let (made, how) = match fs.create(parent, name, maker, None).await {
        Ok((made, local)) => {
            new = Some(local);
            let truncate = false;
            (made, Writing { truncate, ..how })
        }
        Err(Error::Exists) if flags & libc::O_EXCL == 0 => match fs.lookup(parent, name).await? {
            Lookup::Found(found) => (found, how),
            Lookup::Absent { .. } => return Err(Error::Exists),
        },
        Err(err) => return Err(err),
    };
    let ino = made.attr.ino;
    let is_anew = new.is_some() || how.truncate;
    match opened_as_made(fs, ways, made, (how, is_anew), hand_over).await {
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

async fn opened_as_made(
    fs: &Fs,
    ways: &Ways<Backing>,
    made: Believed,
    (how, is_anew): (Writing, bool),
    hand_over: HandOver<'_>,
) -> Result<(Believed, Opened, Way<Backing>), Error> {
    let ino = made.attr.ino;
    let (opened, way) = opened(fs, ways, ino, (how, is_anew), hand_over).await?;
    if !how.truncate {
        return Ok((made, opened, way));
    }
    match fs.attr(ino).await {
        Ok(shown) => Ok((shown, opened, way)),
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
    counted(fs, ways, ino)?;
    let changed = fs.change(ino, change, None).await;
    ways.release(ino);
    changed
}

/// Counts one more who has `ino` open and may write to it, and gives his way; `Gone` where the kernel reads a file of the
/// cache by itself.
fn counted<B>(fs: &Fs, ways: &Ways<B>, ino: Ino) -> Result<Way<B>, Error> {
    ways.open_to_write(ino).ok_or_else(|| {
        fs.leave_to_readers(ino);
        Error::Gone
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_opens_to_write_or_to_truncate_is_a_writer() {
        let of = |flags| {
            let how = Writing::of(flags)?;
            Some((how.truncate, how.may_map, how.in_one_go))
        };
        assert_eq!(of(libc::O_RDONLY | libc::O_CLOEXEC), None);
        assert_eq!(of(libc::O_WRONLY), Some((false, false, true)));
        assert_eq!(
            of(libc::O_WRONLY | libc::O_TRUNC | libc::O_NONBLOCK),
            Some((true, false, true))
        );
        for slow in [libc::O_APPEND, libc::O_SYNC, libc::O_DSYNC, libc::O_DIRECT] {
            assert_eq!(of(libc::O_WRONLY | slow), Some((false, false, false)));
        }
        assert_eq!(of(libc::O_RDWR), Some((false, true, false)));
        assert_eq!(
            of(libc::O_RDONLY | libc::O_TRUNC),
            Some((true, false, false))
        );
    }
}
