//! What an actor is told to do: one system call, or a few that make sense together only.
//!
//! `strace` writes them for people; `serde` writes them for the actor, and
//! for a file that `CLOUDREVE_TEST_MODEL_REPLAY` plays again.

mod strace;

use std::fmt;

use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, percent_encode};
use serde::{Deserialize, Serialize};

/// Files that one actor has open at a time at most.
pub(crate) const SLOTS: usize = 6;

/// Bytes of a name, of a path below the directory that is played in, or of an attribute.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub(crate) struct Text(pub(crate) Vec<u8>);

impl From<Text> for String {
    fn from(text: Text) -> Self {
        const ESCAPED: &AsciiSet = &CONTROLS.add(b'%');
        percent_encode(&text.0, ESCAPED).to_string()
    }
}

impl From<String> for Text {
    fn from(text: String) -> Self {
        Self(percent_decode_str(&text).collect())
    }
}

impl From<&str> for Text {
    fn from(text: &str) -> Self {
        Self(text.as_bytes().to_vec())
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(to, "\"")?;
        // Long names are one byte again and again.
        for run in self.0.chunk_by(|one, next| one == next) {
            match run.len() {
                ..16 => write!(to, "{}", run.escape_ascii())?,
                len => write!(to, "\" + \"{}\" * {len} + \"", run[..1].escape_ascii())?,
            }
        }
        write!(to, "\"")
    }
}

/// How an offset is meant.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) enum Whence {
    Set,
    Cur,
    End,
    Data,
    Hole,
}

/// A time that utimensat(2) is told.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) enum Time {
    Now,
    Omit,
    At(i64, u32),
}

/// What mknod(2) makes.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) enum Node {
    File,
    Pipe,
    Socket,
    CharacterDevice,
    BlockDevice,
}

/// One operation. A slot is where an actor keeps an open file; `fill` is what written bytes are made from.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum Op {
    Open {
        slot: usize,
        path: Text,
        flags: u32,
        mode: u32,
    },
    Close {
        slot: usize,
    },
    Dup {
        slot: usize,
        to: usize,
    },
    Read {
        slot: usize,
        len: usize,
    },
    Pread {
        slot: usize,
        at: u64,
        len: usize,
    },
    Write {
        slot: usize,
        len: usize,
        fill: u64,
    },
    Pwrite {
        slot: usize,
        at: u64,
        len: usize,
        fill: u64,
    },
    Lseek {
        slot: usize,
        at: i64,
        whence: Whence,
    },
    Ftruncate {
        slot: usize,
        size: u64,
    },
    Truncate {
        path: Text,
        size: u64,
    },
    Fsync {
        slot: usize,
    },
    Fdatasync {
        slot: usize,
    },
    Fstat {
        slot: usize,
    },
    Map {
        slot: usize,
        at: u64,
        len: u64,
        fill: u64,
        sync: bool,
    },
    Fallocate {
        slot: usize,
        mode: u32,
        at: u64,
        len: u64,
    },
    Copy {
        slot: usize,
        at: u64,
        to: usize,
        to_at: u64,
        len: usize,
    },
    Fchmod {
        slot: usize,
        mode: u32,
    },
    Futimens {
        slot: usize,
        atime: Time,
        mtime: Time,
    },
    Cat {
        path: Text,
    },
    Mkdir {
        path: Text,
        mode: u32,
    },
    Rmdir {
        path: Text,
    },
    Unlink {
        path: Text,
    },
    Rename {
        path: Text,
        to: Text,
        flags: u32,
    },
    Link {
        path: Text,
        to: Text,
    },
    Symlink {
        target: Text,
        path: Text,
    },
    Readlink {
        path: Text,
    },
    Mknod {
        path: Text,
        node: Node,
        mode: u32,
    },
    Readdir {
        path: Text,
    },
    Stat {
        path: Text,
    },
    Lstat {
        path: Text,
    },
    Statx {
        path: Text,
    },
    Access {
        path: Text,
        mode: u32,
    },
    Chmod {
        path: Text,
        mode: u32,
    },
    Chown {
        path: Text,
        uid: Option<u32>,
        gid: Option<u32>,
        follow: bool,
    },
    Utimens {
        path: Text,
        atime: Time,
        mtime: Time,
        follow: bool,
    },
    Setxattr {
        path: Text,
        name: Text,
        value: Text,
        flags: u32,
    },
    Getxattr {
        path: Text,
        name: Text,
    },
    Listxattr {
        path: Text,
    },
    Removexattr {
        path: Text,
        name: Text,
    },
}

impl Op {
    /// The slots that it is about.
    pub(crate) fn slots(&self) -> Vec<usize> {
        use Op::*;
        match self {
            Open { slot, .. } | Close { slot } | Read { slot, .. } | Pread { slot, .. } => {
                vec![*slot]
            }
            Write { slot, .. } | Pwrite { slot, .. } | Lseek { slot, .. } => vec![*slot],
            Ftruncate { slot, .. } | Fsync { slot } | Fdatasync { slot } => vec![*slot],
            Fstat { slot } | Map { slot, .. } | Fallocate { slot, .. } => vec![*slot],
            Fchmod { slot, .. } | Futimens { slot, .. } => vec![*slot],
            Dup { slot, to } | Copy { slot, to, .. } => vec![*slot, *to],
            _ => Vec::new(),
        }
    }

    /// The paths that it is about.
    pub(crate) fn paths(&self) -> Vec<&Text> {
        use Op::*;
        match self {
            Open { path, .. } | Truncate { path, .. } | Cat { path } | Mkdir { path, .. } => {
                vec![path]
            }
            Rmdir { path } | Unlink { path } | Symlink { path, .. } | Readlink { path } => {
                vec![path]
            }
            Mknod { path, .. } | Readdir { path } | Stat { path } | Lstat { path } => vec![path],
            Statx { path } | Access { path, .. } | Chmod { path, .. } => vec![path],
            Chown { path, .. } | Utimens { path, .. } | Setxattr { path, .. } => vec![path],
            Getxattr { path, .. } | Listxattr { path } | Removexattr { path, .. } => vec![path],
            Rename { path, to, .. } | Link { path, to } => vec![path, to],
            _ => Vec::new(),
        }
    }

    /// Whether it may change what a folder lists.
    pub(crate) fn is_of_names(&self) -> bool {
        use Op::*;
        matches!(
            self,
            Open { .. }
                | Mkdir { .. }
                | Rmdir { .. }
                | Unlink { .. }
                | Rename { .. }
                | Link { .. }
                | Symlink { .. }
                | Mknod { .. }
        )
    }
}
