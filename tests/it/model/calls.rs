//! The operations as system calls below one directory, and what is seen of them.

mod bytes;

use std::fs::File;
use std::os::fd::OwnedFd;

use rustix::fs::{
    self, Access, AtFlags, CWD, Dir, FallocateFlags, FileType, Gid, Mode, OFlags, RenameFlags,
    Timespec, Timestamps, Uid, XattrFlags,
};
use rustix::io::{self, Errno};

use super::op::{Node, Op, SLOTS, Text, Time};
use super::seen::{Attr, Outcome, Stamp, has_mtime};
use bytes::read;

/// Longest value and list of extended attributes that Linux knows.
const XATTR_MAX: usize = 64 << 10;

/// One of the two directories that are played in, as one actor has it.
pub(crate) struct Side {
    root: Vec<u8>,
    slots: [Option<File>; SLOTS],
    /// Seconds since 1970; what has a time from then on got it by itself.
    began: i64,
}

type Done = io::Result<Outcome>;

impl Side {
    pub(crate) fn new(root: &std::path::Path, began: i64) -> Self {
        use std::os::unix::ffi::OsStrExt;
        Self {
            root: root.as_os_str().as_bytes().to_vec(),
            slots: Default::default(),
            began,
        }
    }

    pub(crate) fn run(&mut self, op: &Op) -> Outcome {
        self.call(op)
            .unwrap_or_else(|err| Outcome::Failed(err.raw_os_error()))
    }

    /// Closes what it has open, whatever comes of it.
    pub(crate) fn forget(&mut self) {
        self.slots = Default::default();
    }

    /// Undoes what `op` just did, where the other side refuses such things by design.
    pub(crate) fn undo(&mut self, op: &Op) {
        let undone = match op {
            Op::Open {
                slot, path, flags, ..
            } => {
                self.slots[*slot] = None;
                let is_nameless = OFlags::from_bits_retain(*flags).contains(OFlags::TMPFILE);
                if is_nameless {
                    Ok(())
                } else {
                    fs::unlink(self.path(path))
                }
            }
            Op::Mkdir { path, .. } => fs::rmdir(self.path(path)),
            Op::Link { to: path, .. } | Op::Mknod { path, .. } | Op::Symlink { path, .. } => {
                fs::unlink(self.path(path))
            }
            // What is refused is never there, so nothing was replaced.
            Op::Rename { path, to, .. } => fs::rename(self.path(to), self.path(path)),
            _ => unreachable!("{op} is not refused by design"),
        };
        undone.expect("what was made just now can be undone");
    }

    fn path(&self, path: &Text) -> Vec<u8> {
        [&self.root[..], b"/", &path.0].concat()
    }

    fn file(&self, slot: usize) -> io::Result<&File> {
        self.slots[slot].as_ref().ok_or(Errno::BADF)
    }

    /// Which of the open files are the one with this inode number.
    fn same(&self, ino: u64) -> Vec<usize> {
        let is_same = |slot: &usize| {
            let file = self.slots[*slot].as_ref();
            file.is_some_and(|file| fs::fstat(file).is_ok_and(|stat| stat.st_ino == ino))
        };
        (0..SLOTS).filter(is_same).collect()
    }

    fn attr(&self, stat: &fs::Stat) -> Outcome {
        Outcome::Attr(Attr::of(stat, self.began, self.same(stat.st_ino)))
    }

    fn call(&mut self, op: &Op) -> Done {
        match op {
            Op::Open {
                slot,
                path,
                flags,
                mode,
            } => {
                self.slots[*slot] = None;
                let flags = OFlags::from_bits_retain(*flags) | OFlags::CLOEXEC;
                let fd = fs::open(self.path(path), flags, Mode::from_bits_retain(*mode))?;
                self.slots[*slot] = Some(fd.into());
                Ok(Outcome::Done)
            }
            Op::Close { slot } => close(self.slots[*slot].take().ok_or(Errno::BADF)?),
            Op::Dup { slot, to } => {
                let file = io::fcntl_dupfd_cloexec(self.file(*slot)?, 0)?;
                self.slots[*to] = Some(file.into());
                Ok(Outcome::Done)
            }
            Op::Read { .. }
            | Op::Pread { .. }
            | Op::Write { .. }
            | Op::Pwrite { .. }
            | Op::Lseek { .. }
            | Op::Map { .. }
            | Op::Copy { .. } => self.bytes(op),
            Op::Ftruncate { slot, size } => done(fs::ftruncate(self.file(*slot)?, *size)),
            Op::Fsync { slot } => done(fs::fsync(self.file(*slot)?)),
            Op::Fdatasync { slot } => done(fs::fdatasync(self.file(*slot)?)),
            Op::Fstat { slot } => Ok(self.attr(&fs::fstat(self.file(*slot)?)?)),
            Op::Fallocate {
                slot,
                mode,
                at,
                len,
            } => {
                let mode = FallocateFlags::from_bits_retain(*mode);
                done(fs::fallocate(self.file(*slot)?, mode, *at, *len))
            }
            Op::Fchmod { slot, mode } => {
                done(fs::fchmod(self.file(*slot)?, Mode::from_bits_retain(*mode)))
            }
            Op::Futimens { slot, atime, mtime } => {
                fs::futimens(self.file(*slot)?, &timestamps(*atime, *mtime))?;
                let stat = fs::fstat(self.file(*slot)?)?;
                Ok(self.times(&stat, *atime, *mtime))
            }
            Op::Truncate { path, size } => done(truncate(&self.path(path), *size)),
            _ => self.names(op),
        }
    }

    fn names(&self, op: &Op) -> Done {
        match op {
            Op::Cat { path } => {
                let fd = fs::open(
                    self.path(path),
                    OFlags::RDONLY | OFlags::NONBLOCK,
                    Mode::empty(),
                )?;
                let size = fs::fstat(&fd)?.st_size as usize;
                // One more, so that the end is seen.
                read(size + 1, |into, _| io::read(&fd, into))
            }
            Op::Mkdir { path, mode } => {
                done(fs::mkdir(self.path(path), Mode::from_bits_retain(*mode)))
            }
            Op::Rmdir { path } => done(fs::rmdir(self.path(path))),
            Op::Unlink { path } => done(fs::unlink(self.path(path))),
            Op::Rename { path, to, flags } => {
                let flags = RenameFlags::from_bits_retain(*flags);
                done(fs::renameat_with(
                    CWD,
                    self.path(path),
                    CWD,
                    self.path(to),
                    flags,
                ))
            }
            Op::Link { path, to } => done(fs::link(self.path(path), self.path(to))),
            Op::Symlink { target, path } => done(fs::symlink(&target.0, self.path(path))),
            Op::Readlink { path } => {
                let target = fs::readlink(self.path(path), Vec::new())?;
                Ok(Outcome::Text(Text(target.into_bytes())))
            }
            Op::Mknod { path, node, mode } => {
                let (kind, device) = match node {
                    Node::File => (FileType::RegularFile, 0),
                    Node::Pipe => (FileType::Fifo, 0),
                    Node::Socket => (FileType::Socket, 0),
                    Node::CharacterDevice => (FileType::CharacterDevice, fs::makedev(1, 3)),
                    Node::BlockDevice => (FileType::BlockDevice, fs::makedev(7, 0)),
                };
                let mode = Mode::from_bits_retain(*mode);
                done(fs::mknodat(CWD, self.path(path), kind, mode, device))
            }
            Op::Readdir { path } => list(&self.path(path)),
            Op::Stat { path } => Ok(self.attr(&fs::stat(self.path(path))?)),
            Op::Lstat { path } => Ok(self.attr(&fs::lstat(self.path(path))?)),
            Op::Statx { path } => {
                let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::STATX_FORCE_SYNC;
                let wanted = fs::StatxFlags::BASIC_STATS;
                let found = fs::statx(CWD, self.path(path), flags, wanted)?;
                if found.stx_mask & wanted.bits() != wanted.bits() {
                    return Ok(Outcome::Broken(format!(
                        "statx(2) told {:#x} only",
                        found.stx_mask
                    )));
                }
                let same = self.same(found.stx_ino);
                Ok(Outcome::Attr(Attr::of_statx(&found, self.began, same)))
            }
            Op::Access { path, mode } => {
                let mode = Access::from_bits_retain(*mode);
                done(fs::access(self.path(path), mode))
            }
            Op::Chmod { path, mode } => {
                done(fs::chmod(self.path(path), Mode::from_bits_retain(*mode)))
            }
            Op::Chown {
                path,
                uid,
                gid,
                follow,
            } => {
                let (uid, gid) = (uid.map(Uid::from_raw), gid.map(Gid::from_raw));
                done(fs::chownat(
                    CWD,
                    self.path(path),
                    uid,
                    gid,
                    at_flags(*follow),
                ))
            }
            Op::Utimens {
                path,
                atime,
                mtime,
                follow,
            } => {
                let (path, flags) = (self.path(path), at_flags(*follow));
                fs::utimensat(CWD, &path[..], &timestamps(*atime, *mtime), flags)?;
                let stat = fs::statat(CWD, &path[..], flags)?;
                Ok(self.times(&stat, *atime, *mtime))
            }
            Op::Setxattr {
                path,
                name,
                value,
                flags,
            } => {
                let flags = XattrFlags::from_bits_retain(*flags);
                done(fs::lsetxattr(self.path(path), &name.0[..], &value.0, flags))
            }
            Op::Getxattr { path, name } => {
                let mut value = vec![0; XATTR_MAX];
                let len = fs::lgetxattr(self.path(path), &name.0[..], &mut value[..])?;
                Ok(Outcome::Text(Text(value[..len].to_vec())))
            }
            Op::Listxattr { path } => {
                let mut list = vec![0; XATTR_MAX];
                let len = fs::llistxattr(self.path(path), &mut list[..])?;
                let names = list[..len].split(|byte| *byte == 0);
                let own = |name: &&[u8]| {
                    name.starts_with(b"user.") && !name.starts_with(b"user.cloudreve.")
                };
                let mut names: Vec<_> = names.filter(own).map(|name| Text(name.to_vec())).collect();
                names.sort();
                Ok(Outcome::Names(names))
            }
            Op::Removexattr { path, name } => done(fs::lremovexattr(self.path(path), &name.0[..])),
            _ => unreachable!("{op} is of an open file"),
        }
    }

    /// Times that were set just now. The last access is told where it was set, for reads change it on a disk.
    fn times(&self, stat: &fs::Stat, atime: Time, mtime: Time) -> Outcome {
        let stamp = |seconds, nanoseconds| Stamp::of(seconds, nanoseconds as i64, self.began);
        let atime = match atime {
            Time::Omit => None,
            _ => Some(stamp(stat.st_atime, stat.st_atime_nsec)),
        };
        let is_left = matches!(mtime, Time::Omit);
        let is_shown = !is_left || has_mtime(FileType::from_raw_mode(stat.st_mode));
        let mtime = is_shown.then(|| stamp(stat.st_mtime, stat.st_mtime_nsec));
        Outcome::Times(atime, mtime)
    }
}

fn at_flags(follow: bool) -> AtFlags {
    if follow {
        AtFlags::empty()
    } else {
        AtFlags::SYMLINK_NOFOLLOW
    }
}

fn done(result: io::Result<()>) -> Done {
    result.map(|()| Outcome::Done)
}

fn count(result: io::Result<usize>) -> Done {
    result.map(|count| Outcome::Number(count as i64))
}

fn errno(err: std::io::Error) -> Errno {
    Errno::from_io_error(&err).unwrap_or(Errno::IO)
}

#[expect(
    unsafe_code,
    reason = "std and rustix hide what close(2) and truncate(2) say"
)]
fn close(file: File) -> Done {
    use std::os::fd::IntoRawFd;
    // SAFETY: the descriptor is ours, and given up here.
    match unsafe { libc::close(OwnedFd::from(file).into_raw_fd()) } {
        0 => Ok(Outcome::Done),
        _ => Err(errno(std::io::Error::last_os_error())),
    }
}

#[expect(unsafe_code, reason = "std and rustix have no truncate(2)")]
fn truncate(path: &[u8], size: u64) -> io::Result<()> {
    let path = std::ffi::CString::new(path).expect("no NUL in it");
    // SAFETY: the path ends with NUL.
    match unsafe { libc::truncate(path.as_ptr(), size as i64) } {
        0 => Ok(()),
        _ => Err(errno(std::io::Error::last_os_error())),
    }
}

fn list(path: &[u8]) -> Done {
    let fd = fs::open(
        path,
        OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )?;
    let mut entries = Vec::new();
    for entry in Dir::read_from(&fd)? {
        let entry = entry?;
        let kind = format!("{:?}", entry.file_type());
        entries.push((Text(entry.file_name().to_bytes().to_vec()), kind));
    }
    entries.sort();
    Ok(Outcome::Entries(entries))
}

fn timestamps(atime: Time, mtime: Time) -> Timestamps {
    let told = |time| match time {
        Time::Now => (0, fs::UTIME_NOW),
        Time::Omit => (0, fs::UTIME_OMIT),
        Time::At(seconds, nanoseconds) => (seconds, nanoseconds.into()),
    };
    let timespec = |time| {
        let (tv_sec, tv_nsec) = told(time);
        Timespec { tv_sec, tv_nsec }
    };
    Timestamps {
        last_access: timespec(atime),
        last_modification: timespec(mtime),
    }
}

/// What the file at `path` under `side` is like in all that is compared, by way of the operations above.
pub(crate) fn all_of(side: &mut Side, path: &Text, with_xattrs: bool) -> Vec<(Op, Outcome)> {
    let path = || path.clone();
    let lstat = Op::Lstat { path: path() };
    let found = side.run(&lstat);
    let kind = match &found {
        Outcome::Attr(attr) => attr.kind.clone(),
        _ => String::new(),
    };
    let mut all = vec![(lstat, found)];
    let more = match &*kind {
        "RegularFile" => Some(Op::Cat { path: path() }),
        "Directory" => Some(Op::Readdir { path: path() }),
        "Symlink" => Some(Op::Readlink { path: path() }),
        _ => None,
    };
    if let Some(op) = more {
        let found = side.run(&op);
        all.push((op, found));
    }
    // Only files and folders have attributes of one's own (→ xattr(7)).
    if with_xattrs && matches!(&*kind, "RegularFile" | "Directory") {
        let list = Op::Listxattr { path: path() };
        let found = side.run(&list);
        let names = match &found {
            Outcome::Names(names) => names.clone(),
            _ => Vec::new(),
        };
        all.push((list, found));
        for name in names {
            let get = Op::Getxattr { path: path(), name };
            let found = side.run(&get);
            all.push((get, found));
        }
    }
    all
}
