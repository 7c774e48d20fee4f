//! The commands and their arguments, with the help of each.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgAction, Args, Parser, Subcommand};

use crate::cli::typed::{LOCAL, MOUNT, SERVER, Typed};
use crate::cli::values;

const EXAMPLES: &str = "\
Examples:
  cloudreve-fuse login https://drive.example.com
  cloudreve-fuse mount cloudreve://my/ /mnt/drive
  cloudreve-fuse status
  cloudreve-fuse umount /mnt/drive";

/// Mounts a folder or share of a Cloudreve V4 server as a directory.
#[derive(Debug, Parser)]
#[command(name = "cloudreve-fuse", version, after_help = EXAMPLES, arg_required_else_help = true, disable_help_subcommand = true)]
pub(super) struct Cli {
    /// Say more in the log: -v the mount's life, -vv each request; RUST_LOG has the last word.
    #[arg(short, long, global = true, action = ArgAction::Count)]
    pub(super) verbose: u8,
    #[command(subcommand)]
    pub(super) command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Sign in to a server, and keep the account under a profile.
    Login(LoginArgs),
    /// Revoke a stored account's token on the server, and forget it here.
    Logout(LogoutArgs),
    /// List the stored accounts, and whether they still work.
    Profiles(ProfilesArgs),
    /// Mount a folder or share.
    Mount(MountArgs),
    /// Unmount.
    Umount(UmountArgs),
    /// Show what is mounted, as whom, how the server is doing, and what is owed to it.
    Status(StatusArgs),
    /// Wait until what is owed is on the server.
    Sync(SyncArgs),
    /// Show what a file is now: local or on the server, its version, what happens next.
    Why(WhyArgs),
    /// Fetch a file, or all files below a folder, to the disk now.
    Warm(WarmArgs),
    /// Keep a file, or all files below a folder, on the disk, in each new version.
    Pin(PinArgs),
    /// Let go of what was pinned.
    Unpin(UnpinArgs),
    /// Show or drop the content that is kept on disk.
    Cache(CacheArgs),
    /// Check this machine, a server, a mount; a line each, with the fix.
    Doctor(DoctorArgs),
    /// Print a completion script for a shell.
    Completions(CompletionsArgs),
    /// Called by mount(8); made by `parse`, never typed as a command.
    #[command(skip)]
    Helper(HelperArgs),
    /// Whatever else was typed.
    #[command(external_subcommand)]
    Other(Vec<OsString>),
}

/// Of `login`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  cloudreve-fuse login https://drive.example.com
  pass show drive | cloudreve-fuse login https://drive.example.com --username me@example.com --password-stdin
  cloudreve-fuse login https://drive.example.com --browser")]
pub struct LoginArgs {
    /// The server, as https://host, with :port and /prefix where it has them; the address of any of its pages will do.
    pub address: OsString,
    /// Name to keep the account under [default: the host's name]
    #[arg(long, value_name = "NAME")]
    pub profile: Option<String>,
    /// E-mail address; asked for where it is missing.
    #[arg(long, value_name = "EMAIL")]
    pub username: Option<String>,
    /// Read the password from standard input instead of asking for it.
    #[arg(long, requires = "username")]
    pub password_stdin: bool,
    /// Code of the second factor (2FA), where the account has one.
    #[arg(long, value_name = "CODE")]
    pub otp: Option<String>,
    /// Read a refresh token from standard input.
    #[arg(long, conflicts_with_all = ["username", "password_stdin", "otp", "browser"])]
    pub refresh_token_stdin: bool,
    /// Sign in with the browser (authorization code and PKCE); asks for the pasted answer where it cannot listen for it.
    #[arg(long, conflicts_with_all = ["username", "password_stdin", "otp"])]
    pub browser: bool,
    /// The OAuth client to present with --browser, where the administrator registered one, with the scopes openid
    /// offline_access UserInfo.Write Files.Write Shares.Write; its secret comes from CLOUDREVE_OAUTH_SECRET [default:
    /// the server's own desktop client]
    #[arg(long, value_name = "ID", requires = "browser")]
    pub oauth_client: Option<String>,
    /// A redirect URL registered for that client; one on 127.0.0.1 is listened on.
    #[arg(long, value_name = "URL", requires = "oauth_client")]
    pub oauth_redirect: Option<String>,
    #[command(flatten)]
    #[expect(missing_docs, reason = "the options of the table")]
    pub options: Typed<SERVER>,
}

/// Of `logout`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  cloudreve-fuse logout --profile drive.example.com")]
#[expect(missing_docs, reason = "the help of each is its documentation")]
pub struct LogoutArgs {
    /// The account [default: the only one]
    #[arg(long, value_name = "NAME")]
    pub profile: Option<String>,
    #[command(flatten)]
    pub options: Typed<SERVER>,
}

/// Of `profiles`.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  cloudreve-fuse profiles --json | jq '.[] | select(.state != \"signed_in\")'"
)]
#[expect(missing_docs, reason = "the help of each is its documentation")]
pub struct ProfilesArgs {
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub options: Typed<SERVER>,
}

/// Of `mount`.
#[derive(Debug, Args)]
#[command(after_help = "\
Each option is also -o long_name[=value], CLOUDREVE_LONG_NAME in the environment, and long-name = … under
[profiles.NAME] or [defaults] of config.toml; the first of these that is set counts.

Examples:
  cloudreve-fuse mount cloudreve://my/Photos /mnt/photos
  cloudreve-fuse mount https://drive.example.com/s/AbCd /mnt/share --auth anonymous -d
  cloudreve-fuse mount cloudreve://my/ /mnt/drive --profile work -o allow_other,noatime")]
#[expect(missing_docs, reason = "the help of each is its documentation")]
pub struct MountArgs {
    /// What to mount: cloudreve://my/…, cloudreve://ID@share/…, cloudreve://trash, cloudreve://shared_with_me, or the
    /// address of a page: https://host, https://host/home?path=…, https://host/s/ID
    pub uri: OsString,
    /// Where: an existing directory.
    pub dir: PathBuf,
    /// Return when the mount answers, or with the reason why not.
    #[arg(short = 'd', long)]
    pub background: bool,
    /// Options as mount(8) has them, separated by commas (a comma in a value is written '\,').
    #[arg(short = 'o', value_name = "OPTION[=VALUE],…")]
    pub o: Vec<OsString>,
    #[command(flatten)]
    pub options: Typed<MOUNT>,
}

/// As mount(8) calls its helpers.
#[derive(Debug, Parser)]
#[command(
    name = "mount.cloudreve",
    version,
    after_help = "\
Called by mount(8); 'cloudreve-fuse mount --help' lists the options.

Example:
  mount -t cloudreve cloudreve://my/ /mnt/drive -o profile=home,allow_other"
)]
#[expect(missing_docs, reason = "the help of each is its documentation")]
pub struct HelperArgs {
    /// What to mount, as 'cloudreve-fuse mount' takes it.
    pub uri: OsString,
    /// Where: an existing directory.
    pub dir: PathBuf,
    /// Options, separated by commas.
    #[arg(short = 'o', value_name = "OPTION[=VALUE],…")]
    pub o: Vec<OsString>,
    /// Do everything except the mount itself.
    #[arg(short = 'f')]
    pub fake: bool,
    /// What mount(8) passes along, and nobody here asks for.
    #[arg(short = 'n', hide = true)]
    pub no_mtab: bool,
    #[arg(short = 's', hide = true)]
    pub sloppy: bool,
    #[arg(short = 'v', hide = true, action = ArgAction::Count)]
    pub verbose: u8,
    #[arg(short = 'N', hide = true)]
    pub namespace: Option<OsString>,
    #[arg(short = 't', hide = true)]
    pub fs_type: Option<OsString>,
    #[command(flatten)]
    pub options: Typed<MOUNT>,
}

/// Of `umount`.
#[derive(Debug, Args)]
#[command(after_help = "\
What is still owed to the server when it ends is kept here, named, and delivered by the next mount.

Example:
  cloudreve-fuse umount /mnt/drive --timeout 2m")]
#[expect(missing_docs, reason = "the help of each is its documentation")]
pub struct UmountArgs {
    /// The mounted directory.
    pub dir: PathBuf,
    /// Longest wait for open files and for what is owed to the server.
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = values::duration)]
    pub timeout: Duration,
    /// Detach the directory at once, also while files are open in it or owed.
    #[arg(long)]
    pub force: bool,
    #[command(flatten)]
    pub options: Typed<LOCAL>,
}

/// Of `status`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  cloudreve-fuse status\n  cloudreve-fuse status /mnt/drive --json"
)]
#[expect(missing_docs, reason = "the help of each is its documentation")]
pub struct StatusArgs {
    /// A mounted directory, or a path in it [default: every mount]
    pub dir: Option<PathBuf>,
    /// Print JSON: a list of mounts.
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub options: Typed<LOCAL>,
}

/// Of `sync`.
#[derive(Debug, Args)]
#[command(after_help = "\
What was closed when the command began is waited for; what is written later is not. Ends with 1, and names each file that
cannot be delivered for now. Nothing of those is lost: they stay owed.

Examples:
  cloudreve-fuse sync
  cloudreve-fuse sync /mnt/drive/Photos")]
#[expect(missing_docs, reason = "the help of each is its documentation")]
pub struct SyncArgs {
    /// A file or folder on a mount [default: all of every mount]
    pub path: Option<PathBuf>,
    #[command(flatten)]
    pub options: Typed<LOCAL>,
}

/// Of `why`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  cloudreve-fuse why /mnt/drive/report.odt")]
#[expect(missing_docs, reason = "the help of each is its documentation")]
pub struct WhyArgs {
    /// A file or folder on a mount.
    pub path: PathBuf,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub options: Typed<LOCAL>,
}

/// Of `warm`.
#[derive(Debug, Args)]
#[command(after_help = "\
What is fetched is kept as if it had been read, and leaves the cache when room is needed for what is used more. Programs
that read meanwhile go first. Ends with 1, and names each file that could not be fetched.

Examples:
  cloudreve-fuse warm /mnt/drive/Photos/2026
  cloudreve-fuse warm /mnt/drive/film.mkv")]
#[expect(missing_docs, reason = "the help of each is its documentation")]
pub struct WarmArgs {
    /// A file or folder on a mount.
    pub path: PathBuf,
    #[command(flatten)]
    pub options: Typed<LOCAL>,
}

/// Of `pin`.
#[derive(Debug, Args)]
#[command(after_help = "\
What is pinned is fetched now, and stays whatever else is read; new versions of it are fetched in the background, and so is
what comes to lie below a pinned folder. Renamed or moved it stays pinned. After Ctrl-C it goes on in the background, and
'cloudreve-fuse status' shows how far it is. It lasts until it is unpinned, also over restarts.

Examples:
  cloudreve-fuse pin /mnt/drive/Work
  cloudreve-fuse status")]
#[expect(missing_docs, reason = "the help of each is its documentation")]
pub struct PinArgs {
    /// A file or folder on a mount.
    pub path: PathBuf,
    #[command(flatten)]
    pub options: Typed<LOCAL>,
}

/// Of `unpin`.
#[derive(Debug, Args)]
#[command(after_help = "\
What is let go of stays in the cache until room is needed for something else.

Example:
  cloudreve-fuse unpin /mnt/drive/Work")]
#[expect(missing_docs, reason = "the help of each is its documentation")]
pub struct UnpinArgs {
    /// A file or folder on a mount.
    pub path: PathBuf,
    #[command(flatten)]
    pub options: Typed<LOCAL>,
}

/// Of `cache`.
#[derive(Debug, Args)]
#[command(
    disable_help_subcommand = true,
    after_help = "\
Content of files, kept so that they need not be fetched again; what is owed to the server is never among it.

Examples:
  cloudreve-fuse cache show
  cloudreve-fuse cache clear"
)]
pub struct CacheArgs {
    /// What to do with it.
    #[command(subcommand)]
    pub what: CacheCommand,
}

/// What can be done with the cache.
#[derive(Debug, Subcommand)]
pub enum CacheCommand {
    /// Show what is kept, site by site.
    Show(CacheShowArgs),
    /// Drop all of it. Mounts go on, and fetch again what is read.
    Clear(CacheClearArgs),
}

/// Of `cache show`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  cloudreve-fuse cache show\n  cloudreve-fuse cache show --cache-dir /big/cache --json"
)]
#[expect(missing_docs, reason = "the help of each is its documentation")]
pub struct CacheShowArgs {
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub options: Typed<LOCAL>,
}

/// Of `cache clear`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  cloudreve-fuse cache clear")]
pub struct CacheClearArgs {
    #[command(flatten)]
    #[expect(missing_docs, reason = "the options of the table")]
    pub options: Typed<LOCAL>,
}

/// Of `doctor`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  cloudreve-fuse doctor\n  cloudreve-fuse doctor https://drive.example.com\n  cloudreve-fuse doctor /mnt/drive"
)]
#[expect(missing_docs, reason = "the help of each is its documentation")]
pub struct DoctorArgs {
    /// A server's address, or a mounted directory [default: the servers of the stored accounts]
    #[arg(value_name = "ADDRESS|DIR")]
    pub what: Option<OsString>,
    #[command(flatten)]
    pub options: Typed<SERVER>,
}

/// Of `completions`.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  cloudreve-fuse completions bash > /etc/bash_completion.d/cloudreve-fuse"
)]
pub struct CompletionsArgs {
    /// The shell.
    pub shell: clap_complete::Shell,
}
