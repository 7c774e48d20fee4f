//! Files and folders as the server tells of them, in our words.
//!
//! Plain values without behaviour: the server's JSON shapes stay inside `api/wire`, what the kernel wants to know
//! is made in `fuse/attr`.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use crate::names::ServerName;
use crate::uri::FileUri;

/// The server's identity of a file or folder: survives rename, move, trash and new content. Opaque, and upper and
/// lower case differ (→ api part 1 §4.6).
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FileId(pub Arc<str>);

/// One unchanging version of a file's content. What has no content (folders, files just created) shares one value.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EntityId(pub Box<str>);

impl fmt::Display for FileId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for EntityId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// File or folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FileKind {
    /// Has content.
    File,
    /// Has children.
    Folder,
}

/// What one answer of the server said of a file or folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileInfo {
    /// Its identity.
    pub id: FileId,
    /// File or folder.
    pub kind: FileKind,
    /// The name it is shown under: of a file in the trash, the one it had; of a root, empty.
    pub name: ServerName,
    /// Where it is.
    pub uri: FileUri,
    /// Bytes of the current version; 0 for folders and unfinished uploads of new files.
    pub size_bytes: u64,
    /// When the server made the record.
    pub created: SystemTime,
    /// When content, name or place last changed, or the time its writer gave it.
    pub updated: SystemTime,
    /// The current version.
    pub entity: EntityId,
    /// Whether it belongs to the signed-in account.
    pub owned: bool,
    /// Whether a share link exists; false also where the server does not say.
    pub shared: bool,
    /// What the file system allows with it.
    pub capabilities: Capabilities,
    /// Public metadata; absent where this kind of answer does not carry it.
    pub metadata: Option<BTreeMap<String, String>>,
}

impl FileInfo {
    /// The upload session that marks it, if one does. Proves nothing alone: copies and restarts leave the mark
    /// behind (→ api part 1 §6.1).
    pub fn upload_session(&self) -> Option<&str> {
        self.metadata
            .as_ref()?
            .get("sys:upload_session_id")
            .map(String::as_str)
    }

    /// Whether the server has given up making thumbnails of this version (→ api part 2 §9).
    pub fn is_thumbless(&self) -> bool {
        let metadata = self.metadata.as_ref();
        metadata.is_some_and(|metadata| metadata.contains_key("thumb:disabled"))
    }

    /// Where a shortcut to a share points, as the server wrote it.
    pub fn shortcut(&self) -> Option<&str> {
        self.metadata
            .as_ref()?
            .get("sys:shared_redirect")
            .map(String::as_str)
    }
}

/// The server's set of numbered permissions, "boolset" in its words (→ api part 1 §5).
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Capabilities(pub Arc<[u8]>);

impl Capabilities {
    /// Make files and folders here.
    pub const CREATE: usize = 0;
    /// Write content.
    pub const UPLOAD: usize = 6;
    /// Read content.
    pub const DOWNLOAD: usize = 7;
    /// List children.
    pub const LIST: usize = 9;

    /// Whether the server allows what the flag stands for.
    pub fn has(&self, flag: usize) -> bool {
        self.0
            .get(flag / 8)
            .is_some_and(|byte| byte & (1 << (flag % 8)) != 0)
    }
}

impl fmt::Debug for Capabilities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list()
            .entries((0..self.0.len() * 8).filter(|flag| self.has(*flag)))
            .finish()
    }
}

/// What a folder's storage policy tells of itself.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StoragePolicy {
    /// Its id.
    pub id: String,
    /// Its name, for people.
    pub name: String,
    /// `local`, `remote`, `s3`, …
    pub kind: String,
    /// Largest file it takes, in bytes; none where it sets no limit.
    pub max_size_bytes: Option<u64>,
}

/// An account's storage, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Capacity {
    /// What the account may hold.
    pub total_bytes: u64,
    /// What it holds: every kept version, the trash and unfinished uploads counted.
    pub used_bytes: u64,
}

/// What lies below a folder, as the server counted it some time ago.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FolderSummary {
    /// Storage used by all versions of all files below it, in bytes.
    pub size_bytes: u64,
    /// Files below it.
    pub files: u64,
    /// Folders below it.
    pub folders: u64,
    /// Whether the server counted to the end.
    pub completed: bool,
}

/// Who is signed in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// The server's id.
    pub id: String,
    /// E-mail address; absent for an anonymous visitor.
    pub email: Option<String>,
    /// The name shown to others.
    pub nickname: String,
    /// Whether nobody is signed in.
    pub anonymous: bool,
}
