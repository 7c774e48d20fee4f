//! What of a mount differs from a local disk on purpose.

use rustix::fs::OFlags;

use super::op::{Node, Op};

/// Operations that belong together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Group {
    /// Open files: open, read, write, seek, map, allocate, copy, close.
    Bytes,
    /// Folders and names: mkdir, rmdir, unlink, rename, mknod of a file, link.
    Names,
    /// What is looked at: stat, statx, access, readdir, reading a file from its beginning to its end.
    Looks,
    /// chmod, fchmod, and modes of what is made other than those that everybody has.
    Modes,
    /// chown and lchown.
    Owners,
    /// utimensat and futimens.
    Times,
    /// symlink, and readlink and lstat of what it made.
    Symlinks,
    /// Pipes and sockets, by mknod.
    Pipes,
    /// setxattr, getxattr, listxattr, removexattr of `user.*`.
    Xattrs,
}

/// Sizes of the cache that mounts are tried with. Not yet: "1G". Of a file that is whole in the cache, who opens it to write may get
/// an inode of his own, and those who read it keep what they opened. That is meant where the kernel reads it by itself
/// (`kernel.rs`), and happens elsewhere too, where a disk shows all of them the same.
pub(crate) const CACHE_SIZES: &[&str] = &["0"];

/// How long mounts that are tried wait before they upload. Not yet: "0s" and "20ms". A rename over a file, or of one, whose upload
/// begins in that moment may be EBUSY, show the old name again, keep a conflict copy of our own bytes, or lose what who has it open
/// writes afterwards.
pub(crate) const UPLOAD_DELAYS: &[&str] = &["1s", "1h"];

/// Something that a local disk does and a mount refuses. Where the disk refuses it too, the disk's reason counts.
pub(crate) struct Refusal {
    is_it: fn(&Op) -> bool,
    pub(crate) errno: i32,
    #[expect(dead_code, reason = "for who reads this table")]
    why: &'static str,
}

/// All that is refused by design. What stat(2) tells differently by design is in [`super::seen::Attr`].
const REFUSED: [Refusal; 3] = [
    Refusal {
        is_it: |op| matches!(op, Op::Link { .. }),
        errno: libc::EPERM,
        why: "the server has one name for a file",
    },
    Refusal {
        is_it: |op| {
            matches!(
                op,
                Op::Mknod {
                    node: Node::CharacterDevice | Node::BlockDevice,
                    ..
                }
            )
        },
        errno: libc::EPERM,
        why: "a device of this machine is none on another",
    },
    Refusal {
        is_it: |op| matches!(op, Op::Open { flags, .. } if OFlags::from_bits_retain(*flags).contains(OFlags::TMPFILE)),
        errno: libc::EOPNOTSUPP,
        why: "the FUSE library knows no file without a name; programs make one and unlink it",
    },
];

/// Why a mount refuses `op`.
pub(crate) fn refusal(op: &Op) -> Option<&'static Refusal> {
    REFUSED.iter().find(|refusal| (refusal.is_it)(op))
}
