//! What a folder shows of a file: the few facts that stat(2), readdir(3) and open(2) need.
//!
//! An [`Entry`] is what remains of a [`FileInfo`](crate::model::FileInfo) once it has a name here. A large drive has
//! a million of them and inodes, listings and handles share each by `Arc`, so it holds nothing that can be computed
//! from its folder: no URI, no metadata.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;
use std::time::SystemTime;

use crate::attributes::{Attributes, ShownTimes, Special};
use crate::entity::Entity;
use crate::model::{EntityId, FileId, FileKind};
use crate::names::ServerName;
use crate::uri::FileUri;

/// A file or folder as its folder shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its identity.
    pub id: FileId,
    /// File or folder.
    pub kind: FileKind,
    /// Its name here; unique in its folder.
    pub name: Box<OsStr>,
    /// The last name of its URI, where that is not byte for byte the name here.
    pub segment: Option<ServerName>,
    /// Bytes of the current version; 0 for folders.
    pub size_bytes: u64,
    /// When the server made the record.
    pub created: SystemTime,
    /// When content, name or place last changed.
    pub updated: SystemTime,
    /// The current version.
    pub entity: EntityId,
    /// Whether it belongs to the signed-in account.
    pub owned: bool,
    /// Whether a share link exists; false also where the server does not say.
    pub shared: bool,
    /// A file of which nothing has arrived yet.
    pub unfinished: bool,
    /// The server has found that it can make no thumbnail of this version.
    pub thumbless: bool,
    /// It stands for something in a share.
    pub shortcut: Option<Box<Shortcut>>,
    /// What is told of it beside that; none where nothing is.
    pub attributes: Option<Arc<Attributes>>,
}

/// What stat(2) and readdir(3) say that it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A regular file.
    File,
    /// A folder.
    Folder,
    /// A symbolic link.
    Symlink,
    /// A named pipe.
    Fifo,
    /// A socket.
    Socket,
}

/// Where a shortcut leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Shortcut {
    /// To a place in a share.
    To(FileUri),
    /// Nowhere: what the server keeps for it is not a place in a share.
    Broken,
}

impl Entry {
    /// The last name of its URI.
    pub fn segment(&self) -> ServerName {
        match &self.segment {
            Some(segment) => segment.clone(),
            None => ServerName::from_wire(self.name.as_bytes()),
        }
    }

    /// What it stands for, where that is no regular file. Content that somebody gave it makes it one.
    pub fn special(&self) -> Option<&Special> {
        let is_empty = self.kind == FileKind::File && self.size_bytes == 0;
        let attributes = self.attributes.as_ref().filter(|_| is_empty)?;
        attributes.special.as_ref()
    }

    /// What stat(2) says that it is.
    pub fn shown_kind(&self) -> Kind {
        match (self.kind, self.special()) {
            (FileKind::Folder, _) => Kind::Folder,
            (FileKind::File, None) => Kind::File,
            (FileKind::File, Some(Special::Symlink(_))) => Kind::Symlink,
            (FileKind::File, Some(Special::Fifo)) => Kind::Fifo,
            (FileKind::File, Some(Special::Socket)) => Kind::Socket,
        }
    }

    /// The times that stat(2) shows.
    pub fn times(&self) -> ShownTimes {
        self.times_of(&self.version(), self.updated)
    }

    /// The times that stat(2) shows to who has a version of it open, which came with the time `updated`.
    pub fn times_of(&self, version: &Entity, updated: SystemTime) -> ShownTimes {
        match &self.attributes {
            Some(attributes) => attributes.shown_times(updated, version),
            None => ShownTimes::all(updated),
        }
    }

    /// The version that it has.
    pub fn version(&self) -> Entity {
        Entity {
            id: self.entity.clone(),
            size_bytes: self.size_bytes,
        }
    }

    /// One of the account's own, empty and as old as can be, for tests that say what else it is.
    #[cfg(test)]
    pub(crate) fn plain(id: &str, name: &str, kind: FileKind) -> Self {
        Self {
            id: FileId(id.into()),
            kind,
            name: OsStr::new(name).into(),
            segment: None,
            size_bytes: 0,
            created: SystemTime::UNIX_EPOCH,
            updated: SystemTime::UNIX_EPOCH,
            entity: EntityId("e".into()),
            owned: true,
            shared: false,
            unfinished: false,
            thumbless: false,
            shortcut: None,
            attributes: None,
        }
    }
}

/// A part of the mount in which each file has one place: what is mounted itself, or what lies behind one shortcut.
///
/// Two shortcuts may lead to the same share, and the kernel allows a folder's inode one parent only; so the way to a
/// file is part of what tells files apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Tree(u64);

impl Tree {
    /// What is mounted.
    pub const MAIN: Self = Self(0);

    /// What lies behind `shortcut`, which lies in this tree. The same for the same way at each mount.
    pub fn behind(self, shortcut: &FileId) -> Self {
        Self(stable_hash([&self.0.to_le_bytes(), shortcut.0.as_bytes()]))
    }

    /// A number that is the same at each mount.
    pub fn number(self) -> u64 {
        self.0
    }

    /// The tree that has this number.
    pub fn of_number(number: u64) -> Self {
        Self(number)
    }
}

/// A file or folder, told apart from each other one in the mount.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct FileKey {
    /// On which way it is reached.
    pub tree: Tree,
    /// The server's identity.
    pub id: FileId,
}

/// FNV-1a over the parts and their lengths, with the mixing step of MurmurHash3 behind it: the same value on each
/// machine and in each version of the program, which the standard library's hashers do not promise.
pub fn stable_hash<const N: usize>(parts: [&[u8]; N]) -> u64 {
    let hash = parts
        .into_iter()
        .fold(StableHash::default(), StableHash::with);
    hash.finish()
}

/// A [`stable_hash`] of which only the first parts are known yet.
#[derive(Debug, Clone, Copy)]
pub struct StableHash(u64);

impl Default for StableHash {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl StableHash {
    /// With one part more.
    pub fn with(self, part: &[u8]) -> Self {
        let length = part.len().to_le_bytes();
        let bytes = part.iter().chain(&length);
        Self(bytes.fold(self.0, |hash, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
        }))
    }

    /// The hash of the parts so far.
    pub fn finish(self) -> u64 {
        let mut hash = self.0;
        hash ^= hash >> 33;
        hash = hash.wrapping_mul(0xff51_afd7_ed55_8ccd);
        hash ^= hash >> 33;
        hash = hash.wrapping_mul(0xc4ce_b9fe_1a85_ec53);
        hash ^ (hash >> 33)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_the_same_in_each_version_of_the_program() {
        // Computed by another program.
        assert_eq!(stable_hash([b"instance", b"kqsa"]), 0x5014_3d0e_0cff_b598);
    }

    #[test]
    fn where_a_part_ends_makes_a_difference() {
        assert_ne!(stable_hash([b"ab", b"c"]), stable_hash([b"a", b"bc"]));
    }

    #[test]
    fn two_shortcuts_lead_to_two_trees() {
        let a = Tree::MAIN.behind(&FileId("a".into()));
        let b = Tree::MAIN.behind(&FileId("b".into()));
        assert_ne!(a, b);
        assert_ne!(a.behind(&FileId("b".into())), b.behind(&FileId("a".into())));
    }
}
