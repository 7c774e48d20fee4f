//! Operations at random, such as make sense where the local directory is what it is now.
//!
//! Everything is drawn from the dice and from what the local disk shows, never from the mount: a seed gives the same
//! operations again, whatever the mount makes of them.
//!
//! Longer than other rooms, for the table of all operations is in one place.

mod picks;

use std::collections::HashMap;
use std::path::PathBuf;

use rustix::fs::{Access, FallocateFlags, OFlags, RenameFlags, XattrFlags};

use super::design::Group;
use super::op::{Node, Op, SLOTS, Text, Whence};
use super::seen::Outcome;

/// Where files end, mostly.
const SIZE_MAX: u64 = 300_000;

/// Longest single write or read, mostly.
const LEN_MAX: u64 = 40_000;

/// Entries in all folders together from which on more is removed than made.
const ENTRIES_MAX: usize = 120;

/// Longest path, in bytes: deep enough, and with what stands before it far from the 4096 that the kernel takes.
const PATH_MAX: usize = 2000;

/// Folders in one another, mostly and at most.
const DEPTH: usize = 4;
const DEPTH_MAX: usize = 14;

/// Names that are tried: ordinary ones, and those that servers, other systems and careless programs stumble over.
const NAMES: [&[u8]; 22] = [
    b"a",
    b"b",
    b"c",
    b"d",
    b"e",
    b"f",
    b"A",
    b"a.txt",
    b".hidden",
    b"~$a",
    b"with space",
    b"colon:",
    b"st*r",
    b"wh?t",
    b"\"<|>\\",
    b"dot.",
    b"space ",
    b"\xff\xfe",
    "ü".as_bytes(),
    "u\u{308}".as_bytes(),
    "：‛".as_bytes(),
    b"%41#?&",
];

/// Attributes that are tried.
const XATTRS: [&str; 4] = ["user.a", "user.b", "user.Grüße", "user.with space"];

/// What an actor has open.
#[derive(Debug, Clone, Copy)]
struct Open {
    flags: OFlags,
    is_file: bool,
}

/// What an operation mostly makes sense of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    File,
    Folder,
    Any,
    /// The directory that is played in, too.
    Root,
}

/// Draws operations.
pub(crate) struct Generator<D> {
    dice: D,
    plain: PathBuf,
    groups: Vec<Group>,
    open: HashMap<(usize, usize), Open>,
    entries: usize,
    drawn: usize,
}

type Draw<D> = fn(&mut Generator<D>, usize) -> Op;

impl<D: FnMut(u64) -> u64> Generator<D> {
    pub(crate) fn new(dice: D, plain: PathBuf, groups: Vec<Group>) -> Self {
        Self {
            dice,
            plain,
            groups,
            open: HashMap::new(),
            entries: 0,
            drawn: 0,
        }
    }

    pub(crate) fn dice(&mut self, bound: u64) -> u64 {
        (self.dice)(bound)
    }

    fn one<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.dice(of.len() as u64) as usize]
    }

    /// What `op` of `actor` did on the local disk.
    pub(crate) fn learn(&mut self, actor: usize, op: &Op, plain: &Outcome) {
        if let Op::Open { slot, .. } = op {
            self.open.remove(&(actor, *slot));
        }
        if plain.is_error() {
            return;
        }
        match op {
            Op::Open {
                slot, path, flags, ..
            } => {
                let flags = OFlags::from_bits_retain(*flags);
                let is_file = self.is_file(path) || flags.contains(OFlags::TMPFILE);
                self.open.insert((actor, *slot), Open { flags, is_file });
            }
            Op::Dup { slot, to } => {
                if let Some(open) = self.open.get(&(actor, *slot)).copied() {
                    self.open.insert((actor, *to), open);
                }
            }
            Op::Close { slot } => drop(self.open.remove(&(actor, *slot))),
            _ => {}
        }
    }

    /// `actor` has nothing open any more.
    pub(crate) fn forget(&mut self, actor: usize) {
        self.open.retain(|(of, _), _| *of != actor);
    }

    /// What `actor` has open.
    pub(crate) fn slots(&self, actor: usize) -> Vec<usize> {
        (0..SLOTS)
            .filter(|slot| self.open.contains_key(&(actor, *slot)))
            .collect()
    }

    /// The next operation of `actor`.
    pub(crate) fn draw(&mut self, actor: usize) -> Op {
        loop {
            let op = self.draw_any(actor);
            if !self.is_too_deep(&op) {
                return op;
            }
        }
    }

    /// Whether `op` may bring something to where its path is too long for the kernel, or would be under a longer mount point.
    fn is_too_deep(&self, op: &Op) -> bool {
        match op {
            Op::Rename { path, to, .. } => {
                to.0.len() + self.reach(path) > PATH_MAX || path.0.len() + self.reach(to) > PATH_MAX
            }
            op => op.paths().iter().any(|path| path.0.len() > PATH_MAX),
        }
    }

    fn draw_any(&mut self, actor: usize) -> Op {
        if self.drawn.is_multiple_of(20) {
            self.entries = self.count(&self.plain.clone());
        }
        self.drawn += 1;
        let table: [(u64, Group, Draw<D>); 41] = [
            (120, Group::Bytes, Self::open),
            (60, Group::Bytes, |me, by| Op::Close { slot: me.slot(by) }),
            (8, Group::Bytes, |me, by| Op::Dup {
                slot: me.slot(by),
                to: me.any_slot(),
            }),
            (30, Group::Bytes, |me, by| Op::Read {
                slot: me.reads(by),
                len: me.len() as usize,
            }),
            (40, Group::Bytes, |me, by| Op::Pread {
                slot: me.reads(by),
                at: me.at(),
                len: me.len() as usize,
            }),
            (40, Group::Bytes, |me, by| Op::Write {
                slot: me.writes(by),
                len: me.len() as usize,
                fill: me.fill(),
            }),
            (60, Group::Bytes, |me, by| Op::Pwrite {
                slot: me.writes(by),
                at: me.at(),
                len: me.len() as usize,
                fill: me.fill(),
            }),
            (30, Group::Bytes, Self::lseek),
            (20, Group::Bytes, Self::holes),
            (25, Group::Bytes, |me, by| Op::Ftruncate {
                slot: me.writes(by),
                size: me.at(),
            }),
            (15, Group::Bytes, |me, _| Op::Truncate {
                path: me.there(What::File),
                size: me.at(),
            }),
            (12, Group::Bytes, |me, by| Op::Fsync { slot: me.slot(by) }),
            (8, Group::Bytes, |me, by| Op::Fdatasync {
                slot: me.slot(by),
            }),
            (20, Group::Bytes, |me, by| Op::Fstat { slot: me.slot(by) }),
            (30, Group::Bytes, |me, by| Op::Map {
                slot: me.writes(by),
                at: me.at() / 2,
                len: me.len(),
                fill: me.fill(),
                sync: me.dice(2) == 0,
            }),
            (30, Group::Bytes, Self::fallocate),
            (25, Group::Bytes, Self::copy),
            (5, Group::Bytes, Self::tmpfile),
            (60, Group::Names, |me, _| Op::Mkdir {
                path: me.path(),
                mode: me.mode(0o777),
            }),
            (25, Group::Names, |me, _| Op::Rmdir {
                path: me.there(What::Folder),
            }),
            (30, Group::Names, |me, _| Op::Unlink {
                path: me.there(What::File),
            }),
            (90, Group::Names, Self::rename),
            (6, Group::Names, |me, _| Op::Link {
                path: me.there(What::File),
                to: me.path(),
            }),
            (8, Group::Names, |me, _| Op::Mknod {
                path: me.path(),
                node: Node::File,
                mode: me.mode(0o666),
            }),
            (3, Group::Names, |me, _| Op::Mknod {
                path: me.path(),
                node: me.one(&[Node::CharacterDevice, Node::BlockDevice]),
                mode: me.mode(0o666),
            }),
            (20, Group::Looks, |me, _| Op::Readdir {
                path: me.there(What::Root),
            }),
            (15, Group::Looks, |me, _| Op::Stat {
                path: me.there(What::Root),
            }),
            (15, Group::Looks, |me, _| Op::Lstat {
                path: me.there(What::Root),
            }),
            (15, Group::Looks, |me, _| Op::Statx {
                path: me.there(What::Root),
            }),
            (15, Group::Looks, Self::access),
            (40, Group::Looks, |me, _| Op::Cat {
                path: me.there(What::File),
            }),
            (5, Group::Looks, |me, _| Op::Readlink {
                path: me.there(What::Any),
            }),
            (30, Group::Modes, |me, _| Op::Chmod {
                path: me.there(What::Any),
                mode: me.any_mode(),
            }),
            (10, Group::Modes, |me, by| Op::Fchmod {
                slot: me.slot(by),
                mode: me.any_mode(),
            }),
            (20, Group::Owners, Self::chown),
            (30, Group::Times, |me, _| Op::Utimens {
                path: me.there(What::Any),
                atime: me.time(),
                mtime: me.time(),
                follow: me.dice(3) > 0,
            }),
            (15, Group::Times, |me, by| Op::Futimens {
                slot: me.slot(by),
                atime: me.time(),
                mtime: me.time(),
            }),
            (30, Group::Symlinks, Self::symlink),
            (10, Group::Pipes, |me, _| Op::Mknod {
                path: me.path(),
                node: me.one(&[Node::Pipe, Node::Socket]),
                mode: me.mode(0o666),
            }),
            (25, Group::Xattrs, Self::setxattr),
            (20, Group::Xattrs, Self::other_xattr),
        ];
        if self.entries > ENTRIES_MAX && self.dice(3) == 0 {
            return self.remove();
        }
        let played: Vec<_> = table
            .iter()
            .filter(|(_, group, _)| self.groups.contains(group))
            .collect();
        let mut left = self.dice(played.iter().map(|(weight, ..)| weight).sum());
        for (weight, group, draw) in played {
            if left < *weight {
                if *group == Group::Bytes && self.slots(actor).len() < 2 && self.dice(4) > 0 {
                    return self.open(actor);
                }
                return draw(self, actor);
            }
            left -= weight;
        }
        unreachable!("it was below the sum")
    }

    /// Removes something that can be: a file, or a folder that is empty.
    fn remove(&mut self) -> Op {
        let mut at = Text(Vec::new());
        loop {
            let names = self.names(&at);
            if names.is_empty() {
                return Op::Rmdir { path: at };
            }
            at = join(&at, &names[self.dice(names.len() as u64) as usize]);
            if !self.is_folder(&at) {
                return Op::Unlink { path: at };
            }
        }
    }

    fn open(&mut self, actor: usize) -> Op {
        let used = self.slots(actor);
        let free = (0..SLOTS).find(|slot| !used.contains(slot));
        let Some(slot) = free else {
            return Op::Close {
                slot: self.slot(actor),
            };
        };
        // Never blocks, where it is a pipe; means nothing of a file.
        let mut flags = self.one(&[OFlags::RDONLY, OFlags::WRONLY, OFlags::RDWR, OFlags::RDWR])
            | OFlags::NONBLOCK;
        for (flag, of) in [
            (OFlags::CREATE, 2),
            (OFlags::EXCL, 6),
            (OFlags::TRUNC, 4),
            (OFlags::APPEND, 4),
            (OFlags::NOFOLLOW, 12),
            (OFlags::DIRECTORY, 25),
            (OFlags::SYNC, 25),
        ] {
            flags.set(flag, self.dice(of) == 0);
        }
        // Without the other it asks to have a block device alone, and all of these nodes are the same one.
        flags.set(OFlags::EXCL, flags.contains(OFlags::CREATE | OFlags::EXCL));
        let path = if flags.contains(OFlags::EXCL) {
            self.path()
        } else {
            self.there(What::File)
        };
        Op::Open {
            slot,
            path,
            flags: flags.bits(),
            mode: self.mode(0o666),
        }
    }

    fn tmpfile(&mut self, _: usize) -> Op {
        let slot = self.any_slot();
        let path = self.folder(DEPTH);
        Op::Open {
            slot,
            path,
            flags: (OFlags::TMPFILE | OFlags::RDWR).bits(),
            mode: self.mode(0o666),
        }
    }

    fn lseek(&mut self, actor: usize) -> Op {
        // Of a folder offsets are the file system's own matter.
        let Some(slot) = self.file(actor, None) else {
            return self.open(actor);
        };
        let at = self.at() as i64;
        let (at, whence) = self.one(&[
            (at, Whence::Set),
            (at / 8, Whence::Cur),
            (-at / 8, Whence::Cur),
            (-at / 2, Whence::End),
            (at / 8, Whence::End),
        ]);
        Op::Lseek { slot, at, whence }
    }

    fn holes(&mut self, actor: usize) -> Op {
        // What is skipped is read.
        let Some(slot) = self.file(actor, Some(OFlags::WRONLY)) else {
            return self.open(actor);
        };
        let whence = self.one(&[Whence::Data, Whence::Hole]);
        let at = self.at() as i64;
        Op::Lseek { slot, at, whence }
    }

    fn fallocate(&mut self, actor: usize) -> Op {
        let (slot, at, len) = (self.writes(actor), self.at(), self.len());
        let keep = FallocateFlags::KEEP_SIZE;
        let mode = self.one(&[
            FallocateFlags::empty(),
            keep,
            keep | FallocateFlags::PUNCH_HOLE,
            FallocateFlags::ZERO_RANGE,
            FallocateFlags::ZERO_RANGE | keep,
        ]);
        Op::Fallocate {
            slot,
            mode: mode.bits(),
            at,
            len,
        }
    }

    fn copy(&mut self, actor: usize) -> Op {
        let (slot, to) = (self.reads(actor), self.writes(actor));
        let (at, to_at, len) = self.one(&[(0, 0, SIZE_MAX), (0, 0, 0)]);
        if len > 0 {
            return Op::Copy {
                slot,
                at,
                to,
                to_at,
                len: len as usize,
            };
        }
        Op::Copy {
            slot,
            at: self.at(),
            to,
            to_at: self.at(),
            len: self.len() as usize,
        }
    }

    fn rename(&mut self, _: usize) -> Op {
        let path = self.there(What::Any);
        let to = match self.dice(20) {
            0 => path.clone(),
            // Into itself, where it is a folder.
            1 => join(&path, b"a"),
            2..=5 => self.there(What::Any),
            _ => self.path(),
        };
        let flags = match self.dice(10) {
            0 => RenameFlags::NOREPLACE,
            1 => RenameFlags::EXCHANGE,
            _ => RenameFlags::empty(),
        };
        Op::Rename {
            path,
            to,
            flags: flags.bits(),
        }
    }

    fn access(&mut self, _: usize) -> Op {
        let path = self.there(What::Root);
        let mode = self.one(&[
            Access::EXISTS,
            Access::READ_OK,
            Access::WRITE_OK,
            Access::EXEC_OK,
            Access::READ_OK | Access::WRITE_OK,
        ]);
        Op::Access {
            path,
            mode: mode.bits(),
        }
    }

    fn chown(&mut self, _: usize) -> Op {
        let ids = [None, Some(0), Some(1000), Some(65534)];
        Op::Chown {
            path: self.there(What::Any),
            uid: self.one(&ids),
            gid: self.one(&ids),
            follow: self.dice(2) == 0,
        }
    }

    fn symlink(&mut self, _: usize) -> Op {
        // Never above the directory that is played in, where the two sides differ.
        let target: Text = match self.dice(5) {
            0 => self.path(),
            1 => "/nowhere/at/all".into(),
            2 => Text(vec![b'n'; 1 + self.dice(4000) as usize]),
            _ => Text(self.one(&NAMES).to_vec()),
        };
        Op::Symlink {
            target,
            path: self.path(),
        }
    }

    fn setxattr(&mut self, _: usize) -> Op {
        let len = self.one(&[0, 1, 30, 300]);
        let value = (0..len).map(|_| self.dice(256) as u8).collect();
        let flags = self.one(&[
            XattrFlags::empty(),
            XattrFlags::empty(),
            XattrFlags::CREATE,
            XattrFlags::REPLACE,
        ]);
        Op::Setxattr {
            path: self.there(What::Any),
            name: self.one(&XATTRS).into(),
            value: Text(value),
            flags: flags.bits(),
        }
    }

    fn other_xattr(&mut self, _: usize) -> Op {
        let (path, name) = (self.there(What::Any), self.one(&XATTRS).into());
        match self.dice(3) {
            0 => Op::Getxattr { path, name },
            1 => Op::Listxattr { path },
            _ => Op::Removexattr { path, name },
        }
    }
}

fn join(folder: &Text, name: &[u8]) -> Text {
    if folder.0.is_empty() {
        return Text(name.to_vec());
    }
    Text([&folder.0[..], b"/", name].concat())
}
