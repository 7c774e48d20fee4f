//! Operations as strace(1) writes them, so that a person can do the same by hand.

use std::fmt;

use rustix::fs::{AtFlags, FallocateFlags, OFlags, RenameFlags, XattrFlags};

use super::{Op, Time};

impl fmt::Display for Time {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Now => write!(to, "UTIME_NOW"),
            Self::Omit => write!(to, "UTIME_OMIT"),
            Self::At(seconds, nanoseconds) => write!(to, "{seconds}.{nanoseconds:09}"),
        }
    }
}

fn names(flags: impl fmt::Debug) -> String {
    // `OFlags(CREATE | APPEND)`
    let text = format!("{flags:?}");
    let inner = text
        .split_once('(')
        .map_or(&*text, |(_, rest)| rest.trim_end_matches(')'));
    inner.replace(' ', "")
}

fn open_flags(flags: u32) -> String {
    let way = ["RDONLY", "WRONLY", "RDWR"]
        .get(flags as usize & 3)
        .unwrap_or(&"?");
    match OFlags::from_bits_retain(flags & !3) {
        rest if rest.is_empty() => (*way).to_owned(),
        rest => format!("{way}|{}", names(rest)),
    }
}

impl fmt::Display for Op {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        use Op::*;
        match self {
            Open {
                slot,
                path,
                flags,
                mode,
            } => write!(
                to,
                "fd{slot} = open({path:?}, {}, {mode:#o})",
                open_flags(*flags)
            ),
            Close { slot } => write!(to, "close(fd{slot})"),
            Dup { slot, to: other } => write!(to, "fd{other} = dup(fd{slot})"),
            Read { slot, len } => write!(to, "read(fd{slot}, {len})"),
            Pread { slot, at, len } => write!(to, "pread(fd{slot}, {len}, {at})"),
            Write { slot, len, fill } => write!(to, "write(fd{slot}, bytes({fill}), {len})"),
            Pwrite {
                slot,
                at,
                len,
                fill,
            } => write!(to, "pwrite(fd{slot}, bytes({fill}), {len}, {at})"),
            Lseek { slot, at, whence } => {
                let whence = format!("{whence:?}").to_uppercase();
                write!(to, "lseek(fd{slot}, {at}, SEEK_{whence})")
            }
            Ftruncate { slot, size } => write!(to, "ftruncate(fd{slot}, {size})"),
            Truncate { path, size } => write!(to, "truncate({path:?}, {size})"),
            Fsync { slot } => write!(to, "fsync(fd{slot})"),
            Fdatasync { slot } => write!(to, "fdatasync(fd{slot})"),
            Fstat { slot } => write!(to, "fstat(fd{slot})"),
            Map {
                slot,
                at,
                len,
                fill,
                sync,
            } => {
                let sync = if *sync { "msync(MS_SYNC), " } else { "" };
                write!(
                    to,
                    "mmap(fd{slot}, all of it, MAP_SHARED), memcpy(at {at}, bytes({fill}), {len}), {sync}munmap"
                )
            }
            Fallocate {
                slot,
                mode,
                at,
                len,
            } => {
                let mode = names(FallocateFlags::from_bits_retain(*mode));
                write!(to, "fallocate(fd{slot}, {mode}, {at}, {len})")
            }
            Copy {
                slot,
                at,
                to: other,
                to_at,
                len,
            } => write!(
                to,
                "copy_file_range(fd{slot}, {at}, fd{other}, {to_at}, {len})"
            ),
            Fchmod { slot, mode } => write!(to, "fchmod(fd{slot}, {mode:#o})"),
            Futimens { slot, atime, mtime } => write!(to, "futimens(fd{slot}, {atime}, {mtime})"),
            Cat { path } => write!(to, "cat({path:?})"),
            Mkdir { path, mode } => write!(to, "mkdir({path:?}, {mode:#o})"),
            Rmdir { path } => write!(to, "rmdir({path:?})"),
            Unlink { path } => write!(to, "unlink({path:?})"),
            Rename {
                path,
                to: other,
                flags,
            } => {
                let flags = names(RenameFlags::from_bits_retain(*flags));
                write!(to, "renameat2({path:?}, {other:?}, {flags})")
            }
            Link { path, to: other } => write!(to, "link({path:?}, {other:?})"),
            Symlink { target, path } => write!(to, "symlink({target:?}, {path:?})"),
            Readlink { path } => write!(to, "readlink({path:?})"),
            Mknod { path, node, mode } => write!(to, "mknod({path:?}, {node:?}, {mode:#o})"),
            Readdir { path } => write!(to, "readdir({path:?})"),
            Stat { path } => write!(to, "stat({path:?})"),
            Lstat { path } => write!(to, "lstat({path:?})"),
            Statx { path } => write!(to, "statx({path:?})"),
            Access { path, mode } => write!(to, "access({path:?}, {mode})"),
            Chmod { path, mode } => write!(to, "chmod({path:?}, {mode:#o})"),
            Chown {
                path,
                uid,
                gid,
                follow,
            } => {
                let call = if *follow { "chown" } else { "lchown" };
                write!(to, "{call}({path:?}, {uid:?}, {gid:?})")
            }
            Utimens {
                path,
                atime,
                mtime,
                follow,
            } => {
                let flags = if *follow {
                    AtFlags::empty()
                } else {
                    AtFlags::SYMLINK_NOFOLLOW
                };
                write!(
                    to,
                    "utimensat({path:?}, {atime}, {mtime}, {})",
                    names(flags)
                )
            }
            Setxattr {
                path,
                name,
                value,
                flags,
            } => {
                let flags = names(XattrFlags::from_bits_retain(*flags));
                write!(to, "setxattr({path:?}, {name:?}, {value:?}, {flags})")
            }
            Getxattr { path, name } => write!(to, "getxattr({path:?}, {name:?})"),
            Listxattr { path } => write!(to, "listxattr({path:?})"),
            Removexattr { path, name } => write!(to, "removexattr({path:?}, {name:?})"),
        }
    }
}
