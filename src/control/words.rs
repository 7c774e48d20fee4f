//! What is said over the socket about files.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// A path below a mount point, of any bytes; empty for the mount itself. JSON has no such thing, so what is not UTF-8
/// goes as a list of bytes.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(from = "Spelled", into = "Spelled")]
pub struct BelowPoint(pub PathBuf);

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Spelled {
    Text(String),
    Bytes(Vec<u8>),
}

impl From<Spelled> for BelowPoint {
    fn from(spelled: Spelled) -> Self {
        Self(match spelled {
            Spelled::Text(text) => text.into(),
            Spelled::Bytes(bytes) => OsString::from_vec(bytes).into(),
        })
    }
}

impl From<BelowPoint> for Spelled {
    fn from(path: BelowPoint) -> Self {
        match path.0.to_str() {
            Some(text) => Self::Text(text.to_owned()),
            None => Self::Bytes(path.0.as_os_str().as_bytes().to_vec()),
        }
    }
}

impl From<&Path> for BelowPoint {
    fn from(path: &Path) -> Self {
        Self(path.to_owned())
    }
}

/// A file whose content is here and not yet on the server. Fields are added, never renamed.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct OwedFile {
    /// Where it is in the mount; where it lies behind a shortcut, its URI.
    pub path: String,
    /// `open`: written to and not closed, so owed only then; `waiting`, `uploading`, `retrying`; `blocked`: of no use to
    /// try before somebody does something; `deleted`: gone here and still on the server; `made`: a folder that is here and
    /// not on the server; `renamed`: of another name or in another folder there.
    pub state: String,
    /// Its size.
    pub size_bytes: u64,
    /// What the server has of it.
    pub sent_bytes: u64,
    /// Tries that failed.
    pub tries: u32,
    /// Why the last one did.
    pub last_reason: Option<String>,
    /// What a person can do.
    pub next_step: Option<String>,
    /// When it is tried next.
    pub next_try: Option<String>,
    /// When it was closed.
    pub owed_since: Option<String>,
    /// In how many seconds it is there, as it goes now.
    pub eta_seconds: Option<u64>,
    /// The version it was written over; none of a new file.
    pub base_entity: Option<String>,
    /// The name it goes by because another version has its place.
    pub kept_as: Option<String>,
    /// Where the server has it, of what is renamed here.
    pub renamed_from: Option<String>,
}

/// A file or folder that could not be fetched. Fields are added, never renamed.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct NotFetched {
    /// Where it is in the mount.
    pub path: String,
    /// Why.
    pub reason: String,
}

/// How something that is pinned stands. Fields are added, never renamed.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct PinStatus {
    /// Where it is in the mount.
    pub path: String,
    /// Files that it is or that are below it, empty ones not counted.
    pub files: u64,
    /// Of those: here as a whole.
    pub files_here: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Of those: here.
    pub bytes_here: u64,
    /// Why not all of it is here, where something stands in the way.
    pub reason: Option<String>,
}

/// All that is owed, in numbers. Fields are added, never renamed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct OwedSum {
    /// Files, those that are still open not counted.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// What the server has of those.
    pub sent_bytes: u64,
    /// How many of them are `blocked`.
    pub blocked: u64,
    /// Files written to and not closed.
    pub open: u64,
    /// In how many seconds all are there that are not blocked, as it goes now.
    pub eta_seconds: Option<u64>,
    /// Bytes on this machine's disk of all of them.
    pub disk_bytes: u64,
    /// Files whose content the server has, and of which it is still to hear mode, owner, times or the like.
    pub untold: u64,
    /// Files deleted here that the server still has.
    pub undeleted: u64,
    /// Folders made here, and files and folders renamed here, of which the server has not heard.
    pub unheard: u64,
}

/// Folders made here, and files and folders renamed here, of which the server has not heard. Fields are added, never renamed.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Changes {
    /// How many wait for the server.
    pub waiting: u64,
    /// Those that wait, a hundred at most.
    pub files: Vec<OwedFile>,
}

/// Files that are deleted here and not on the server. Fields are added, never renamed.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Deletions {
    /// How many wait for the server.
    pub waiting: u64,
    /// Those that wait, a hundred at most.
    pub files: Vec<OwedFile>,
    /// How many the server refused since the mount began, so that they show again.
    pub refused: u64,
    /// The last of those, a hundred at most.
    pub refused_files: Vec<OwedFile>,
}

/// Files that stay on this machine. Fields are added, never renamed.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct StaysHere {
    /// How many.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Where they are, ten thousand at most; where one lies behind a shortcut, its URI.
    pub paths: Vec<String>,
}

/// How far a wait is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Progress {
    /// Files waited for.
    pub files: u64,
    /// Of those: where they are to be, or not waited for any more.
    pub files_done: u64,
    /// Bytes of those that are waited for.
    pub bytes: u64,
    /// Of those: where they are to be.
    pub bytes_done: u64,
    /// Bytes a second, lately; 0 where that is not known yet.
    pub bytes_per_second: u64,
    /// In how many seconds it is done, as it goes now.
    pub eta_seconds: Option<u64>,
}

/// What a file or folder is now. Fields are added, never renamed.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Why {
    /// Where it is in the mount.
    pub path: String,
    /// `file`, `folder`; none where it could not be looked at.
    pub kind: Option<String>,
    /// `on_server`, `owed`, `open`; `local_only`: it stays on this machine.
    pub state: String,
    /// Why the server could not be asked of it.
    pub trouble: Option<String>,
    /// Its size.
    pub size_bytes: Option<u64>,
    /// Where it is on the server.
    pub uri: Option<String>,
    /// The server's identity of it.
    pub file_id: Option<String>,
    /// The version of its content that is shown.
    pub entity: Option<String>,
    /// How much of that is on this machine's disk, as `100%`.
    pub cached: Option<String>,
    /// What is owed of it.
    pub owed: Option<OwedFile>,
    /// What happens next, in a sentence.
    pub next: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_of_any_bytes_arrives_as_it_was_sent() {
        for (bytes, json) in [
            (&b"a/\xc3\xa4 \"x\""[..], "\"a/ä \\\"x\\\"\""),
            (b"a\xff", "[97,255]"),
            (b"", "\"\""),
        ] {
            let path = BelowPoint(OsString::from_vec(bytes.to_vec()).into());
            let sent = serde_json::to_string(&path).unwrap();
            assert_eq!(sent, json);
            assert_eq!(serde_json::from_str::<BelowPoint>(&sent).unwrap(), path);
        }
    }

    #[test]
    fn what_an_older_daemon_leaves_out_is_empty() {
        let file: OwedFile = serde_json::from_str(r#"{"path":"/m/a"}"#).unwrap();
        assert_eq!((file.path.as_str(), file.tries), ("/m/a", 0));
    }
}
