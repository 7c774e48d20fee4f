//! What a test may choose: how a server starts, and what can be set while it runs.

use std::time::Duration;

use crate::policy::StoragePolicy;
use crate::route::Route;

/// How a server starts. The default is a fresh Cloudreve 4.18.0 community with one user and an empty drive.
#[derive(Clone, Debug)]
pub struct Options {
    /// TCP port on 127.0.0.1; 0 lets the system choose one.
    pub port: u16,
    /// What ids, uuids and secrets are made from; none makes each server different from all others.
    pub seed: Option<u64>,
    /// E-mail address of the first user.
    pub email: String,
    /// Password of the first user.
    pub password: String,
    /// A hang-up before the response headers breaks all calls for 30 s of the server's clock, as on SQLite
    /// (→ api part 2 §0.1). Off, a hang-up is only counted.
    pub wedge_on_hangup: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            port: 0,
            seed: None,
            email: "someone@example.com".to_owned(),
            password: "drive-password-1".to_owned(),
            wedge_on_hangup: false,
        }
    }
}

/// A user who can sign in.
#[derive(Clone, Debug)]
pub struct User {
    /// The server's id of the user.
    pub id: String,
    /// E-mail address, which is the user name.
    pub email: String,
    /// Password, in clear.
    pub password: String,
}

/// What a share is like; the default is open to all, without password or limit.
#[derive(Clone, Debug, Default)]
pub struct ShareOptions {
    /// Asked of everyone, the owner included.
    pub password: Option<String>,
    /// How many download URLs may be asked for before the share is gone.
    pub downloads: Option<u32>,
    /// After this time, by the server's clock, the share is gone.
    pub expires_after: Option<Duration>,
    /// Visitors see the view settings of the folder.
    pub share_view: bool,
}

/// What of the server's database is broken (→ api part 2 §0.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Wedge {
    /// All is well.
    #[default]
    None,
    /// Every call of every user answers 50001 `failed to get login user`.
    Reads,
    /// Reads work, every write fails.
    Writes,
}

/// Which names the database of the server takes for the same (→ api part 1 §4.4).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Collation {
    /// None but equal ones, as SQLite and PostgreSQL.
    #[default]
    Binary,
    /// Those that differ in spaces at their ends only, as `utf8mb4_bin` of MySQL.
    PadSpace,
    /// Also those that differ in upper and lower case, as `utf8mb4_general_ci` of MySQL.
    FoldCase,
}

impl Collation {
    /// Whether it takes these two for the same.
    pub(crate) fn is_same(self, one: &str, other: &str) -> bool {
        let padded = |name: &str| name.trim_end_matches(' ').to_owned();
        match self {
            Self::Binary => one == other,
            Self::PadSpace => padded(one) == padded(other),
            Self::FoldCase => padded(one).to_lowercase() == padded(other).to_lowercase(),
        }
    }
}

/// Where the bytes of files come from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Store {
    /// From where the file's storage policy keeps them.
    #[default]
    Own,
    /// The server's URL answers 302 to another origin on loopback.
    Redirect,
    /// URLs point to another origin on loopback, presigned as by S3, with its manners: XML errors, 400 for a
    /// request that carries `Authorization`.
    Direct,
}

/// View settings of a folder, as the web UI stores them; they change what a listing without parameters is
/// (→ api part 1 §7.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct View {
    /// Entries on a page.
    pub page_size: usize,
    /// `name`, `size`, `updated_at` or `created_at`.
    pub order: String,
    /// `asc` or `desc`.
    pub direction: String,
}

/// How changes are told to those who follow a folder (→ api part 1 §13).
#[derive(Clone, Debug)]
pub struct EventSettings {
    /// The administrator lets them be told.
    pub enabled: bool,
    /// Length of the pause, by the server's clock, that lets events go; of subscriptions made from now on.
    pub debounce: Duration,
    /// How long the events of one who is away are kept; of subscriptions made from now on.
    pub max_age: Duration,
    /// Between two signs of life of a stream.
    pub keep_alive: Duration,
    /// All events that are there at once come in one frame, as an array.
    pub array: bool,
    /// Nothing leaves the server on any stream, not even a sign of life, while the connections stay.
    pub silence: bool,
    /// Events are lost before anybody is told.
    pub loss: bool,
    /// The server does not see that clients have gone, as with connections that a network forgot; until
    /// [`crate::Server::notice_hangups`].
    pub unnoticed_hangups: bool,
}

impl Default for EventSettings {
    fn default() -> Self {
        Self {
            enabled: true,
            debounce: Duration::from_secs(5),
            max_age: Duration::from_secs(14 * 86_400),
            keep_alive: Duration::from_secs(30),
            array: false,
            silence: false,
            loss: false,
            unnoticed_hangups: false,
        }
    }
}

/// Site settings and switches; all take effect with the next request.
#[derive(Clone, Debug)]
pub struct Settings {
    /// What ping answers.
    pub version: String,
    /// Routes this server is too old to have: they answer 404 in plain text.
    pub missing_routes: Vec<Route>,
    /// Lifetime of access tokens issued from now on.
    pub access_token_ttl: Duration,
    /// Lifetime of refresh tokens issued from now on.
    pub refresh_token_ttl: Duration,
    /// Lifetime of signed URLs; the server hands out a cached one until 600 s before its end.
    pub url_ttl: Duration,
    /// Lifetime of upload sessions and of their locks.
    pub upload_session_ttl: Duration,
    /// Largest page of a listing.
    pub max_page_size: usize,
    /// Page size of a listing that names none.
    pub default_page_size: usize,
    /// Most URIs in one batch.
    pub max_batch: usize,
    /// Most entries that a copy or a folder summary walks.
    pub max_walked_files: usize,
    /// Pages by cursor; off, by offset.
    pub cursor_paging: bool,
    /// A page that ends exactly with the last folder loses files (→ api part 1 §7.5a), as a real 4.18.0 does.
    pub paging_boundary_bug: bool,
    /// Ascending time keys repeat an entry on each page (→ api part 1 §7.5b), as a real 4.18.0 on SQLite does.
    pub time_keys_repeat: bool,
    /// Signing in with a password needs a captcha.
    pub captcha: bool,
    /// What URLs of the server begin with; none is the address it listens on.
    pub site_url: Option<String>,
    /// Where bytes of files come from.
    pub store: Store,
    /// Where new content goes. What is there already stays where it is.
    pub policy: StoragePolicy,
    /// The server takes uploads for the store itself, in one piece (→ api part 2 §6).
    pub relay: bool,
    /// The storage is to hold nothing in clear (→ api part 2 §2.6).
    pub encryption: bool,
    /// The stores that call the server back can reach it; off, its callbacks fail.
    pub store_calls_back: bool,
    /// How long after an upload the server hears of it, where the store tells it later (UPYUN).
    pub notice_after: Duration,
    /// The store answers a range with status 200 and a right `Content-Range` (→ api part 2 §2.3).
    pub store_ranges_as_200: bool,
    /// Largest body of `PUT /file/content`, in bytes.
    pub max_edit_size: u64,
    /// Largest file of the storage policy, in bytes; 0 is no limit.
    pub max_file_size: u64,
    /// Size of an upload chunk, in bytes; 0 is the whole file in one.
    pub chunk_size: u64,
    /// Chunks may come in any order.
    pub preallocate: bool,
    /// How many chunks of a session the policy invites to send at once; 0 is not said.
    pub chunk_concurrency: u32,
    /// Anonymous visitors may open shares.
    pub anonymous_may_open_shares: bool,
    /// Signed-in users may open the shares of others.
    pub users_may_open_shares: bool,
    /// Time before the response headers of every request.
    pub latency: Duration,
    /// Bytes of bodies a second, all connections together; none is no limit.
    pub bandwidth: Option<u64>,
    /// Bytes of bodies a second on each connection, as TCP over a long way or a server's limit has it; none is no
    /// limit.
    pub connection_bandwidth: Option<u64>,
    /// What of the database is broken.
    pub wedge: Wedge,
    /// How changes are told.
    pub events: EventSettings,
    /// The database takes no names but text, as MySQL and PostgreSQL: of others every request fails.
    pub names_are_text: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            version: "4.18.0".to_owned(),
            missing_routes: Vec::new(),
            access_token_ttl: Duration::from_secs(3600),
            refresh_token_ttl: Duration::from_secs(14 * 86_400),
            url_ttl: Duration::from_secs(3600),
            upload_session_ttl: Duration::from_secs(86_400),
            max_page_size: 2000,
            default_page_size: 100,
            max_batch: 3000,
            max_walked_files: 100_000,
            cursor_paging: true,
            paging_boundary_bug: true,
            time_keys_repeat: true,
            captcha: false,
            site_url: None,
            store: Store::Own,
            policy: StoragePolicy::Local,
            relay: false,
            encryption: false,
            store_calls_back: true,
            notice_after: Duration::from_millis(20),
            store_ranges_as_200: false,
            max_edit_size: 50 << 20,
            max_file_size: 0,
            chunk_size: 25 << 20,
            preallocate: true,
            chunk_concurrency: 0,
            anonymous_may_open_shares: true,
            users_may_open_shares: true,
            latency: Duration::ZERO,
            bandwidth: None,
            connection_bandwidth: None,
            wedge: Wedge::None,
            events: EventSettings::default(),
            names_are_text: false,
        }
    }
}
