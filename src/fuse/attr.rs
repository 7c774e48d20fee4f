//! Our attributes become the kernel's.

use std::time::{Duration, SystemTime};

use fuser::{FileAttr, FileType, INodeNo, TimeOrNow};

use crate::entry::Kind;
use crate::fs::{Attr, SetTime};

/// Unit of `st_blocks`, whatever the file system (→ stat(2)).
const BLOCK_BYTES: u64 = 512;

/// `st_blksize`: a page. Programs that heed it read in larger pieces anyway, and the kernel's read-ahead does not
/// depend on it.
const PREFERRED_IO_BYTES: u32 = 4096;

/// What stat(2) shows.
pub(super) fn file_attr(attr: &Attr) -> FileAttr {
    FileAttr {
        ino: INodeNo(attr.ino.0),
        size: attr.size_bytes,
        blocks: attr.size_bytes.div_ceil(BLOCK_BYTES),
        atime: attr.times.accessed,
        mtime: attr.times.modified,
        ctime: attr.times.changed,
        crtime: attr.created,
        kind: file_type(attr.kind),
        perm: attr.mode,
        nlink: attr.links,
        uid: attr.uid,
        gid: attr.gid,
        rdev: 0,
        blksize: PREFERRED_IO_BYTES,
        flags: 0,
    }
}

pub(super) fn file_type(kind: Kind) -> FileType {
    match kind {
        Kind::File => FileType::RegularFile,
        Kind::Folder => FileType::Directory,
        Kind::Symlink => FileType::Symlink,
        Kind::Fifo => FileType::NamedPipe,
        Kind::Socket => FileType::Socket,
    }
}

/// What utimensat(2) asks for. Of times before 1970 fuser takes the nanoseconds for a part of what they are before it, and
/// not behind the second that they belong to (`system_time_from_time` in its `time.rs`, 0.18).
pub(super) fn set_time(time: TimeOrNow) -> SetTime {
    let time = match time {
        TimeOrNow::SpecificTime(time) => time,
        TimeOrNow::Now => return SetTime::Now,
    };
    let mended = SystemTime::UNIX_EPOCH
        .duration_since(time)
        .ok()
        .map(|before| {
            let second = SystemTime::UNIX_EPOCH - Duration::from_secs(before.as_secs());
            second + Duration::from_nanos(before.subsec_nanos().into())
        });
    SetTime::At(mended.unwrap_or(time))
}

/// The attributes of what is not there: inode 0 makes a lookup's answer one that the kernel remembers as absent.
pub(super) fn absent() -> FileAttr {
    FileAttr {
        ino: INodeNo(0),
        size: 0,
        blocks: 0,
        atime: SystemTime::UNIX_EPOCH,
        mtime: SystemTime::UNIX_EPOCH,
        ctime: SystemTime::UNIX_EPOCH,
        crtime: SystemTime::UNIX_EPOCH,
        kind: FileType::RegularFile,
        perm: 0,
        nlink: 0,
        uid: 0,
        gid: 0,
        rdev: 0,
        blksize: 0,
        flags: 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attributes::ShownTimes;
    use crate::inodes::Ino;

    fn attr(kind: Kind, size_bytes: u64) -> Attr {
        Attr {
            ino: Ino(42),
            kind,
            size_bytes,
            times: ShownTimes {
                modified: SystemTime::UNIX_EPOCH + Duration::from_secs(7),
                accessed: SystemTime::UNIX_EPOCH + Duration::from_secs(8),
                changed: SystemTime::UNIX_EPOCH + Duration::from_secs(9),
            },
            created: SystemTime::UNIX_EPOCH,
            mode: 0o640,
            uid: 1,
            gid: 2,
            links: 1,
        }
    }

    #[test]
    fn du_is_right_for_every_size() {
        for (size, blocks) in [(0, 0), (1, 1), (512, 1), (513, 2), (1 << 20, 2048)] {
            assert_eq!(file_attr(&attr(Kind::File, size)).blocks, blocks);
        }
        assert_eq!(file_attr(&attr(Kind::File, u64::MAX)).size, u64::MAX);
    }

    #[test]
    fn kind_mode_owner_and_times_arrive() {
        let shown = file_attr(&attr(Kind::Folder, 0));
        assert_eq!(shown.kind, FileType::Directory);
        assert_eq!((shown.perm, shown.uid, shown.gid), (0o640, 1, 2));
        assert_eq!(shown.ino, INodeNo(42));
        let seconds = |time: SystemTime| {
            time.duration_since(SystemTime::UNIX_EPOCH)
                .unwrap()
                .as_secs()
        };
        let times = (
            seconds(shown.mtime),
            seconds(shown.atime),
            seconds(shown.ctime),
        );
        assert_eq!(times, (7, 8, 9));
    }
}
