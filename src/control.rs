//! A Unix socket for each mount: its status, what it owes, and its end.
//!
//! One request a connection, a line of JSON, and its answer, a line too; where that takes long, lines of progress may come
//! before it. Who asks and goes away stops nothing but his own waiting. The socket is named after the mount point, open to
//! its owner alone, and replaced when the daemon behind it is dead. Whoever asks is checked by the kernel's word on
//! who he is: the daemon's user, or root. This room knows no mount: the answers are made by who binds the socket.

mod ask;
mod place;
mod server;
mod words;

pub use ask::{ask, follow, outlast};
pub use place::{mounts, socket_path};
pub use server::{Answering, Answers, Socket, Tell};
pub use words::{
    BelowPoint, Changes, Deletions, NotFetched, OwedFile, OwedSum, PinStatus, Progress, StaysHere,
    Why,
};

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Longest line that who asked takes. A status is a few kilobytes, and who makes lists of owed files cuts them so that
/// they fit: ten thousand, of some hundred bytes each.
const LINE_MAX_BYTES: u64 = 64 << 20;

/// What can be asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "ask")]
pub enum Request {
    /// How it is.
    Status,
    /// End: answered when the directory is free again.
    Umount {
        /// Longest to wait for what is owed and for open files.
        timeout_ms: u64,
        /// Wait for nothing.
        force: bool,
        /// Whether progress may be told meanwhile; older ones who ask do not understand it.
        #[serde(default)]
        progress: bool,
    },
    /// Wait until what is owed now is on the server. Progress is told meanwhile, again and again, also without any.
    Sync {
        /// Only what lies here or below.
        path: BelowPoint,
    },
    /// What a file or folder is now.
    Why {
        /// Which.
        path: BelowPoint,
    },
    /// Fetch a file, or all files below a folder, to the disk. Progress is told meanwhile, again and again.
    Warm {
        /// Which.
        path: BelowPoint,
    },
    /// Keep a file, or all files below a folder, on the disk from now on. Answered when all is there; progress is told
    /// meanwhile. It is noted before that, and who goes away stops nothing.
    Pin {
        /// Which.
        path: BelowPoint,
    },
    /// Let go of what was pinned.
    Unpin {
        /// Which.
        path: BelowPoint,
    },
}

/// What a mount says of itself; printed by `status --json` as it stands. Fields are added, never renamed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[expect(
    missing_docs,
    reason = "the names are the documentation of a stable JSON"
)]
pub struct Status {
    pub mount_point: PathBuf,
    pub uri: String,
    pub address: String,
    pub version: String,
    pub pid: u32,
    pub mounted_since: String,
    /// The directory is free again, and what is owed is still being delivered.
    #[serde(default)]
    pub ending: bool,
    pub read_only: bool,
    /// Why writing is refused.
    pub read_only_reason: String,
    pub account: AccountStatus,
    pub server: ServerStatus,
    /// Of the share that is mounted, if one is: `there`, `gone`, `locked` (it wants another password).
    #[serde(default)]
    pub share: Option<String>,
    pub cache: CacheStatus,
    /// Bytes read since the mount began; none where they are not counted.
    #[serde(default)]
    pub reading: Option<ReadingStatus>,
    /// Open files and folders.
    pub open_handles: u64,
    /// Paths of the files not yet on the server, in the order of `owed_files`.
    pub owed: Vec<String>,
    /// The same files in detail, those first that want somebody to do something. Ten thousand at most; `owed_sum` counts
    /// all.
    #[serde(default)]
    pub owed_files: Vec<OwedFile>,
    #[serde(default)]
    pub owed_sum: OwedSum,
    /// What is deleted here and not on the server.
    #[serde(default)]
    pub deletions: Deletions,
    /// What is made or renamed here and not on the server.
    #[serde(default)]
    pub changes: Changes,
    /// What is here and owed to nobody, because of its name.
    #[serde(default)]
    pub local_only: StaysHere,
    /// What is pinned, in the order in which it was.
    #[serde(default)]
    pub pins: Vec<PinStatus>,
    /// A line for each file of ours that was put beside another version since the mount began, or is about to be.
    pub conflicts: Vec<String>,
    /// What a person should do now, most important first; empty where all is well.
    pub next_steps: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[expect(
    missing_docs,
    reason = "the names are the documentation of a stable JSON"
)]
pub struct AccountStatus {
    /// Stored profile it uses, if one.
    pub profile: Option<String>,
    /// E-mail, if signed in.
    pub user: Option<String>,
    /// `signed_in`, `anonymous`, `signed_out`, `refused` (the server does not let it in any more).
    pub state: String,
    pub total_bytes: Option<u64>,
    pub used_bytes: Option<u64>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[expect(
    missing_docs,
    reason = "the names are the documentation of a stable JSON"
)]
pub struct ServerStatus {
    /// `online`; `degraded`: it answers, and fails, is slow, or tells of no changes; `offline`.
    pub state: String,
    /// Since when it is not online, where that is known.
    #[serde(default)]
    pub since: Option<String>,
    pub version: Option<String>,
    pub last_error: Option<String>,
    pub clock_skew_seconds: i64,
    /// `none` until events are followed.
    pub event_stream: String,
    pub requests: u64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[expect(
    missing_docs,
    reason = "the names are the documentation of a stable JSON"
)]
pub struct CacheStatus {
    pub known_entries: u64,
    pub inodes: u64,
    pub memory_bytes: u64,
    pub memory_budget_bytes: u64,
    /// Where content is kept on disk.
    #[serde(default)]
    pub dir: PathBuf,
    /// Bytes there, of all sites and all mounts that use the directory.
    #[serde(default)]
    pub disk_bytes: u64,
    /// Most bytes there; 0 where nothing is kept.
    #[serde(default)]
    pub disk_limit_bytes: u64,
    /// Blocks found damaged on disk since the mount began, and fetched again.
    #[serde(default)]
    pub damaged_blocks: u64,
    /// Bytes not kept since then: the disk was full, failing, or slower than the link.
    #[serde(default)]
    pub unkept_bytes: u64,
    /// Whether the kernel reads complete files of the cache by itself: `on`, `off`.
    #[serde(default)]
    pub passthrough: String,
    /// Files that it reads so now.
    #[serde(default)]
    pub passthrough_files: u64,
    /// Why not.
    #[serde(default)]
    pub passthrough_off_reason: Option<String>,
}

/// Bytes of content since the mount began, without those that the kernel had.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ReadingStatus {
    /// Given to programs.
    pub asked_bytes: u64,
    /// Of those: here in memory.
    pub memory_bytes: u64,
    /// Of those: read from the disk.
    pub disk_bytes: u64,
    /// Of those: waited for from the network.
    pub network_bytes: u64,
    /// Brought over the network, for those who asked and ahead of them.
    pub fetched_bytes: u64,
    /// Of what was brought ahead of a reader, small files included: given up before it was read.
    pub wasted_ahead_bytes: u64,
    /// Small files brought ahead of programs that go through a folder.
    #[serde(default)]
    pub swept_bytes: u64,
    /// Of those: given up before they were read.
    #[serde(default)]
    pub swept_wasted_bytes: u64,
}

/// Answer to a request.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "answer")]
#[expect(missing_docs, reason = "each says itself")]
pub enum Answer {
    Status(Box<Status>),
    /// One of several lines before the answer.
    Progress(Progress),
    Unmounted {
        /// Paths of what is still owed; the next mount delivers it.
        stays_queued: Vec<String>,
        /// How many more there are than are listed.
        #[serde(default)]
        more_queued: u64,
        /// The process that is about to end; 0 where it does not say.
        #[serde(default)]
        pid: u32,
    },
    Synced {
        /// Files that were waited for.
        files: u64,
        /// Those of them that could not be delivered for now, each with the reason.
        left: Vec<OwedFile>,
        /// How many more there are than are listed.
        more_left: u64,
        /// A line for each that was put beside another version.
        conflicts: Vec<String>,
    },
    Why(Box<Why>),
    Fetched {
        /// Files that are here.
        files: u64,
        /// Their bytes.
        bytes: u64,
        /// What could not be fetched.
        failed: Vec<NotFetched>,
        /// How many more there are than are listed.
        more_failed: u64,
    },
    Unpinned {
        /// Whether there was anything to let go of.
        was_pinned: bool,
    },
    Failed {
        why: String,
    },
}
