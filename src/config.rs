//! What we decided: command line, then `-o`, then environment, then files, as plain values for each room.
//!
//! Reads and decides; asks no server, makes and mounts nothing. What cannot be meant is refused here, in the same
//! words whatever its source, before anything else happens.

mod account;
mod credentials;
mod dirs;
pub mod environment;
mod file;
mod mount_options;
pub mod settings;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::accounts::Accounts;
use crate::address::{Address, Target};
use crate::failure::Failure;
use crate::names::NamePolicy;
use crate::secret::Secret;
use crate::tokens::TokenStore;
use crate::uri::{FileSystem, FileUri};
use crate::{api, fs, read, thumbnails};
pub use dirs::{Dirs, Disk, disk_of};
use environment::Environment;
use file::ConfigFile;
use settings::Settings;

/// Most that is kept on disk where nobody said how much; it is less on disks of which this is more than a tenth.
const CACHE_SIZE_MAX_BYTES: u64 = 20 << 30;

/// Everything a mount needs to know, decided. Made by `config`, used by `mount`.
pub struct MountPlan {
    /// As the user gave it, for messages (no password in it).
    pub source: String,
    /// Absolute path of the mount point, symlinks resolved where it exists.
    pub dir: PathBuf,
    /// For `api`.
    pub api: api::Options,
    /// As whom.
    pub account: Account,
    /// For `fs`; `fs.root` is what is mounted.
    pub fs: fs::Options,
    /// For `read`.
    pub read: read::Options,
    /// For `thumbnails`; none where nobody wishes them.
    pub thumbnails: Option<thumbnails::Options>,
    /// How the kernel mounts it.
    pub kernel: KernelOptions,
    /// Directory of control sockets.
    pub control_dir: PathBuf,
    /// What is owed, later; made and checked at mount already.
    pub state_dir: PathBuf,
    /// What may be deleted at any time.
    pub cache_dir: PathBuf,
    /// Most that is kept there, in bytes; 0 keeps nothing.
    pub cache_size_bytes: u64,
    /// Whether the kernel may read complete files of the cache by itself.
    pub passthrough: bool,
    /// Return when the mount answers.
    pub background: bool,
    /// Warnings for the log and the terminal, a line each (`http://` to another host, …).
    pub warnings: Vec<String>,
}

/// As whom a mount speaks to its server.
pub enum Account {
    /// Nobody.
    Anonymous,
    /// A stored profile.
    Profile {
        /// Its name.
        name: String,
        /// Its tokens.
        store: Arc<dyn TokenStore>,
    },
    /// From credentials or the environment.
    Password {
        /// E-mail address.
        email: String,
        /// Password.
        password: Secret,
    },
    /// From credentials or the environment.
    RefreshToken(Secret),
    /// From credentials or the environment; cannot be renewed.
    AccessToken(Secret),
}

/// How the kernel mounts it.
#[derive(Debug, Clone, Default)]
#[expect(missing_docs, reason = "the options of mount(8) of the same names")]
pub struct KernelOptions {
    pub allow_other: bool,
    pub allow_root: bool,
    pub default_permissions: bool,
    pub suid: bool,
    pub dev: bool,
    pub noexec: bool,
    pub noatime: bool,
}

/// A mount as it was asked for, by a person or by mount(8).
#[derive(Debug, Clone, Default)]
pub struct MountRequest {
    /// What to mount, as typed.
    pub uri: OsString,
    /// Where, as typed.
    pub dir: PathBuf,
    /// The texts behind each `-o`.
    pub o: Vec<OsString>,
    /// Options typed as flags.
    pub flags: Vec<(&'static str, OsString)>,
    /// Return when the mount answers.
    pub background: bool,
}

/// What commands other than `mount` work with.
pub struct Local {
    /// What was set.
    pub settings: Settings,
    /// Where things are.
    pub dirs: Dirs,
}

/// Decides what a mount needs.
pub fn plan(request: &MountRequest, environment: &Environment) -> Result<MountPlan, Failure> {
    let target = target(&request.uri)?;
    let mut settings = Settings::default();
    let mut kernel = KernelOptions::default();
    settings.add_flags(&request.flags)?;
    for text in &request.o {
        mount_options::read(text, environment.is_root(), &mut settings, &mut kernel)?;
    }
    settings.add_environment(environment)?;
    let file = ConfigFile::read(&dirs::config_dir(&settings, environment)?)?;
    file.add_defaults(&mut settings)?;
    let dirs = Dirs::decide(&settings, environment)?;
    let sources = account::Sources {
        target: &target,
        environment,
        file: &file,
        dirs: &dirs,
    };
    let decided = account::decide(&mut settings, &sources)?;
    // The profile that was found may have moved them.
    let dirs = Dirs::decide(&settings, environment)?;
    kernel.allow_other = settings.flag("allow-other");
    kernel.allow_root = settings.flag("allow-root");
    if kernel.allow_other && kernel.allow_root {
        return Err(Failure::usage(
            "allow-other and allow-root exclude each other; allow-other lets root in, too",
        ));
    }
    let dir = mount_point(&request.dir);
    let mut warnings = warnings(&settings, &decided.address);
    let (thumbnails, doubt) = thumbnails(&settings, environment, &dir);
    warnings.extend(doubt);
    let (cache_size_bytes, doubt) = cache_size(&settings, &dirs.cache, Some(&dir));
    warnings.extend(doubt);
    Ok(MountPlan {
        source: shown(&request.uri, &target),
        dir,
        warnings,
        thumbnails,
        api: api_options(&settings, decided.address),
        account: decided.account,
        read: read_options(&settings),
        fs: fs_options(&settings, environment, target.uri),
        kernel,
        control_dir: dirs.control,
        state_dir: dirs.state,
        cache_dir: dirs.cache,
        cache_size_bytes,
        passthrough: settings.text("passthrough").as_deref() != Some("off"),
        background: request.background,
    })
}

/// Decides what a command other than `mount` needs, from its flags, the environment and `[defaults]`.
pub fn local(
    flags: &[(&'static str, OsString)],
    environment: &Environment,
) -> Result<Local, Failure> {
    let mut settings = Settings::default();
    settings.add_flags(flags)?;
    settings.add_environment(environment)?;
    ConfigFile::read(&dirs::config_dir(&settings, environment)?)?.add_defaults(&mut settings)?;
    let dirs = Dirs::decide(&settings, environment)?;
    Ok(Local { settings, dirs })
}

impl Local {
    /// Most that a mount made with these settings keeps on disk, in bytes; and why that is nothing where nobody wished
    /// it so.
    pub fn cache_size_bytes(&self) -> (u64, Option<String>) {
        cache_size(&self.settings, &self.dirs.cache, None)
    }

    /// The accounts stored here.
    pub fn accounts(&self) -> Accounts {
        Accounts::new(&self.dirs.config)
    }

    /// How to speak to `address`.
    pub fn api_options(&self, address: Address) -> api::Options {
        api_options(&self.settings, address)
    }
}

/// The path under which the kernel and the control socket know the mount point `dir`: absolute, with symlinks
/// resolved as far as it exists. Asks no mounted file system, so that a dead one at `dir` cannot hang us.
pub fn mount_point(dir: &Path) -> PathBuf {
    let absolute = std::path::absolute(dir).unwrap_or_else(|_| dir.to_owned());
    // realpath(3) reads links only; a dead mount at the end of the path may refuse even that.
    if let Ok(real) = std::fs::canonicalize(&absolute) {
        return real;
    }
    let tidy: PathBuf = absolute.components().collect();
    match (
        tidy.parent()
            .and_then(|parent| std::fs::canonicalize(parent).ok()),
        tidy.file_name(),
    ) {
        (Some(parent), Some(name)) => parent.join(name),
        _ => tidy,
    }
}

/// The line that warns of a server whose traffic anybody on the way can read; none where that is no danger.
pub fn unsafe_address(address: &Address) -> Option<String> {
    address.is_unsafe().then(|| {
        format!(
            "{address} is unsafe: passwords and files cross the network unprotected; use https://"
        )
    })
}

fn target(uri: &OsString) -> Result<Target, Failure> {
    let text = uri.to_str().ok_or_else(|| {
        Failure::usage(format!(
            "{}: the URI is not UTF-8; write its odd bytes as %XX",
            uri.display()
        ))
    })?;
    text.parse()
        .map_err(|err| Failure::usage(format!("{}: {err}", without_password(text))))
}

/// The text that was typed, unless it may hold a share's password: that has no safe place to be cut out of what could
/// not even be understood.
fn without_password(text: &str) -> String {
    match text.contains('@') || text.contains("/s/") {
        true => {
            text.split_inclusive("://")
                .next()
                .unwrap_or_default()
                .to_owned()
                + "…"
        }
        false => text.to_owned(),
    }
}

fn shown(uri: &OsString, target: &Target) -> String {
    match (&target.address, target.uri.file_system()) {
        (None, _) => target.uri.to_string(),
        (
            Some(address),
            FileSystem::Share {
                id,
                password: Some(_),
            },
        ) => format!("{address}/s/{id}/***"),
        (Some(_), _) => uri.to_string_lossy().trim().to_owned(),
    }
}

fn warnings(settings: &Settings, address: &Address) -> Vec<String> {
    unsafe_address(address)
        .into_iter()
        .chain(settings.without_effect())
        .collect()
}

/// Where thumbnails of what is mounted on `mounted` go, if anywhere; and a warning where they cannot.
fn thumbnails(
    settings: &Settings,
    environment: &Environment,
    mounted: &Path,
) -> (Option<thumbnails::Options>, Option<String>) {
    if !settings.flag("thumbnails") {
        return (None, None);
    }
    let Some(cache_dir) = dirs::thumbnails(environment) else {
        let why = "no thumbnails are kept: neither XDG_CACHE_HOME nor HOME says where the desktop looks for them";
        return (None, Some(why.to_owned()));
    };
    if mount_point(&cache_dir).starts_with(mounted) {
        let shown = cache_dir.display();
        let why = format!("no thumbnails are kept: {shown} lies in the mounted directory");
        return (None, Some(why));
    }
    let options = thumbnails::Options {
        cache_dir,
        mount_point: mounted.to_owned(),
    };
    (Some(options), None)
}

/// Most bytes that are kept in `cache`, beside or below what is `mounted`; and a warning where that is nothing although
/// nobody wished it so.
fn cache_size(settings: &Settings, cache: &Path, mounted: Option<&Path>) -> (u64, Option<String>) {
    let shown = cache.display();
    let size = settings.number("cache-size");
    let is_hidden = mounted.is_some_and(|mounted| mount_point(cache).starts_with(mounted));
    if is_hidden && size != Some(0) {
        let why = format!(
            "no content is kept on disk: the cache directory {shown} lies in the mounted directory; choose another with --cache-dir DIR"
        );
        return (0, Some(why));
    }
    if let Some(size) = size {
        return (size, None);
    }
    let why = match disk_of(cache) {
        // What tells no size of itself is not a disk for a tenth of it.
        Ok(Disk { total_bytes: 0, .. }) => "it says nothing of it".to_owned(),
        Ok(disk) => return ((disk.total_bytes / 10).min(CACHE_SIZE_MAX_BYTES), None),
        Err(err) => err.to_string(),
    };
    let why = format!(
        "no content is kept on disk: how large the disk of {shown} is cannot be told ({why}); say how much with --cache-size SIZE"
    );
    (0, Some(why))
}

fn api_options(settings: &Settings, address: Address) -> api::Options {
    api::Options {
        address,
        user_agent: settings.text("user-agent").unwrap_or_default(),
        ca_file: settings.path("ca-file"),
        timeout: settings.time("timeout"),
        limit_down_bytes: settings.number("limit-down").unwrap_or_default(),
    }
}

fn read_options(settings: &Settings) -> read::Options {
    let download = settings.text("download").unwrap_or_default();
    read::Options {
        memory_bytes: settings.number("memory").unwrap_or_default(),
        download: match (download.strip_prefix("proxy="), download.as_str()) {
            (Some(proxy), _) => read::Download::Proxy(proxy.to_owned()),
            (None, "server") => read::Download::Server,
            (None, _) => read::Download::Direct,
        },
        timeout: settings.time("timeout"),
    }
}

fn fs_options(settings: &Settings, environment: &Environment, root: FileUri) -> fs::Options {
    let word = |name: &str| settings.text(name).unwrap_or_default();
    // Within u32 and the mode's nine bits by the table's bounds.
    let id = |name: &str, default: u32| {
        settings
            .number(name)
            .and_then(|id| u32::try_from(id).ok())
            .unwrap_or(default)
    };
    let bits = |name: &str| {
        settings
            .number(name)
            .and_then(|bits| u16::try_from(bits).ok())
    };
    let umask = bits("umask").unwrap_or(0o022);
    fs::Options {
        root,
        metadata_ttl: settings.time("metadata-ttl"),
        metadata_entries: settings
            .number("metadata-entries")
            .and_then(|entries| usize::try_from(entries).ok())
            .unwrap_or(usize::MAX),
        names: match word("names").as_str() {
            "reject" => NamePolicy::Reject,
            _ => NamePolicy::Encode,
        },
        order: fs::Order {
            by: match word("order-by").as_str() {
                "size" => fs::OrderBy::Size,
                "updated_at" => fs::OrderBy::UpdatedAt,
                "created_at" => fs::OrderBy::CreatedAt,
                _ => fs::OrderBy::Name,
            },
            descending: word("order-direction") == "desc",
        },
        hide_uploading: settings.flag("hide-uploading"),
        folder_size: settings.flag("folder-size"),
        uid: id("uid", environment.uid),
        gid: id("gid", environment.gid),
        file_mode: bits("file-mode").unwrap_or(0o666 & !umask),
        dir_mode: bits("dir-mode").unwrap_or(0o777 & !umask),
        timeout: settings.time("timeout"),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// A home with a config directory, in which accounts and a config.toml can be put.
    struct Home {
        root: tempfile::TempDir,
        variables: Vec<(String, String)>,
    }

    impl Home {
        fn new() -> Self {
            let root = tempfile::tempdir().unwrap();
            let path = |name: &str| root.path().join(name).to_str().unwrap().to_owned();
            let variables = ["CONFIG_DIR", "STATE_DIR", "CACHE_DIR", "CONTROL"]
                .map(|name| (format!("CLOUDREVE_{name}"), path(name)));
            Self {
                variables: variables.to_vec(),
                root,
            }
        }

        fn set(mut self, name: &str, value: &str) -> Self {
            self.variables.push((name.to_owned(), value.to_owned()));
            self
        }

        fn account(self, name: &str, address: &str) -> Self {
            let tokens = crate::tokens::Tokens {
                access: Secret::new("a"),
                access_expires: std::time::SystemTime::UNIX_EPOCH,
                refresh: Secret::new("r"),
                refresh_expires: std::time::SystemTime::UNIX_EPOCH,
            };
            let user = format!("{name}@example.com");
            let account = crate::accounts::Account {
                address: address.parse().unwrap(),
                user,
                tokens,
            };
            Accounts::new(&self.root.path().join("CONFIG_DIR"))
                .store(name, &account)
                .unwrap();
            self
        }

        fn file(self, name: &str, text: &str) -> Self {
            use std::os::unix::fs::PermissionsExt;
            let path = self.root.path().join("CONFIG_DIR").join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
            self
        }

        fn plan(&self, uri: &str, flags: &[(&'static str, &str)]) -> Result<MountPlan, Failure> {
            use std::os::unix::fs::MetadataExt;
            let uid = std::fs::metadata(self.root.path()).unwrap().uid();
            let environment = Environment::new(self.variables.clone(), uid, 77);
            let request = MountRequest {
                uri: uri.into(),
                dir: self.root.path().join("mnt"),
                flags: flags
                    .iter()
                    .map(|(name, text)| (*name, (*text).into()))
                    .collect(),
                ..MountRequest::default()
            };
            plan(&request, &environment)
        }
    }

    /// As whom, and where, in a word.
    fn who(plan: Result<MountPlan, Failure>) -> String {
        let plan = match plan {
            Ok(plan) => plan,
            Err(failure) => return format!("{:?}: {failure}", failure.kind),
        };
        let account = match plan.account {
            Account::Anonymous => "nobody".to_owned(),
            Account::Profile { name, .. } => format!("profile {name}"),
            Account::Password { email, .. } => format!("password of {email}"),
            Account::RefreshToken(_) => "refresh token".to_owned(),
            Account::AccessToken(_) => "access token".to_owned(),
        };
        format!("{account} at {}", plan.api.address)
    }

    #[test]
    fn without_a_word_the_stored_account_is_used_that_is_meant() {
        let home = Home::new().account("home", "https://a");
        assert_eq!(
            who(home.plan("cloudreve://my/", &[])),
            "profile home at https://a"
        );
        let home = home.account("work", "https://b").account("b2", "https://b");
        assert_eq!(
            who(home.plan("https://a/home", &[])),
            "profile home at https://a"
        );
        assert_eq!(
            who(home.plan("cloudreve://my/", &[("profile", "work")])),
            "profile work at https://b"
        );
        let said = who(home.plan("https://b", &[]));
        assert!(
            said.contains("b2, work") && said.contains("--profile"),
            "{said}"
        );
        assert_eq!(
            who(home.plan("https://b", &[("username", "b2@example.com")])),
            "profile b2 at https://b"
        );
        let home = home.account("b", "https://b");
        assert_eq!(
            who(home.plan("https://b", &[])),
            "profile b at https://b",
            "by the host's name"
        );
    }

    #[test]
    fn credentials_come_before_an_account_that_nobody_named_and_after_one_named_more_strongly() {
        let home = Home::new()
            .account("home", "https://a")
            .set("CLOUDREVE_REFRESH_TOKEN", "t");
        assert_eq!(
            who(home.plan("https://a", &[])),
            "refresh token at https://a"
        );
        assert_eq!(
            who(home.plan("https://a", &[("profile", "home")])),
            "profile home at https://a"
        );
        let home = home.set("CLOUDREVE_PASSWORD", "p");
        assert_eq!(
            who(home.plan("https://a", &[("username", "me")])),
            "password of me at https://a"
        );
        let home = home
            .file("cred", "access_token=x\n")
            .file("config.toml", "[defaults]\ncredentials = './cred'\n");
        assert_eq!(
            who(home.plan("https://a", &[])),
            "access token at https://a"
        );
    }

    #[test]
    fn a_default_profile_is_not_meant_for_another_server() {
        let home = Home::new()
            .account("home", "https://a")
            .account("work", "https://b")
            .file("config.toml", "[defaults]\nprofile = 'home'\n");
        assert_eq!(
            who(home.plan("cloudreve://my/", &[])),
            "profile home at https://a"
        );
        assert_eq!(
            who(home.plan("https://b", &[])),
            "profile work at https://b"
        );
    }

    #[test]
    fn a_profile_may_live_in_config_toml_alone() {
        let home = Home::new().file("cred", "username=me\npassword=p\n").file(
            "config.toml",
            "[profiles.x]\naddress = 'https://a'\ncredentials = './cred'\nmemory = '16M'\n",
        );
        assert_eq!(
            who(home.plan("cloudreve://my/", &[])),
            "password of me at https://a"
        );
        let plan = home.plan("cloudreve://my/", &[("profile", "x")]).unwrap();
        assert_eq!(plan.read.memory_bytes, 16 << 20);
    }

    #[test]
    fn secrets_of_one_server_never_go_to_another() {
        let home = Home::new()
            .account("home", "https://a")
            .file("cred", "access_token=x\naddress=https://a\n");
        let cred = home.root.path().join("CONFIG_DIR/cred");
        let cred = cred.to_str().unwrap();
        for flags in [
            &[("profile", "home"), ("address", "https://b")][..],
            &[("credentials", cred), ("address", "https://b")],
        ] {
            let said = who(home.plan("cloudreve://my/", flags));
            assert!(
                said.starts_with("Failed")
                    && said.contains("https://a")
                    && said.contains("https://b"),
                "{said}"
            );
        }
        assert_eq!(
            who(home.plan("cloudreve://my/", &[("credentials", cred)])),
            "access token at https://a"
        );
        let said = who(home.plan("https://a", &[("address", "https://b")]));
        assert!(said.starts_with("Usage"), "{said}");
    }

    #[test]
    fn who_is_nobody_hears_how_to_become_somebody() {
        let home = Home::new();
        for (uri, flags, words) in [
            ("cloudreve://my/", &[][..], &["--address", "login"][..]),
            ("https://a", &[], &["login https://a"]),
            (
                "https://a/s/AbCd",
                &[],
                &["login https://a", "--auth anonymous"],
            ),
            ("https://a", &[("auth", "anonymous")], &["login https://a"]),
            ("https://a", &[("username", "me")], &["CLOUDREVE_PASSWORD"]),
            (
                "https://a",
                &[("profile", "nobody")],
                &["nobody", "login https://a --profile nobody"],
            ),
        ] {
            let said = who(home.plan(uri, flags));
            assert!(said.starts_with("Failed"), "{said}");
            assert!(words.iter().all(|word| said.contains(word)), "{said}");
        }
        assert_eq!(
            who(home.plan("https://a/s/AbCd", &[("auth", "anonymous")])),
            "nobody at https://a"
        );
    }

    #[test]
    fn a_user_without_a_password_is_not_taken_for_the_profile_of_another() {
        let home = Home::new().account("home", "https://a");
        let plan = |user| home.plan("https://a", &[("username", user), ("profile", "home")]);
        let said = who(plan("me@example.com"));
        assert!(
            said.starts_with("Usage") && said.contains("'home' is home@example.com"),
            "{said}"
        );
        assert_eq!(who(plan("Home@example.com")), "profile home at https://a");
    }

    #[test]
    fn a_shares_password_is_mounted_and_not_shown() {
        let home = Home::new();
        for uri in [
            "https://a/s/AbCd/hunter2",
            "https://a/home?path=cloudreve://AbCd:hunter2@share/",
        ] {
            let plan = home.plan(uri, &[("auth", "anonymous")]).unwrap();
            assert!(!plan.source.contains("hunter2"), "{}", plan.source);
            assert_eq!(plan.fs.root.to_wire(), "cloudreve://AbCd:hunter2@share/");
        }
        let said = who(home.plan("cloudreve://AbCd:hunter2@shrae/", &[]));
        assert!(
            said.starts_with("Usage") && !said.contains("hunter2"),
            "{said}"
        );
    }

    #[test]
    fn defaults_are_those_of_the_table_and_the_mounting_user() {
        let plan = Home::new()
            .set("CLOUDREVE_ACCESS_TOKEN", "t")
            .plan("https://a", &[("umask", "027"), ("dir-mode", "700")])
            .unwrap();
        assert_eq!(
            (plan.fs.file_mode, plan.fs.dir_mode, plan.fs.gid),
            (0o640, 0o700, 77)
        );
        assert_eq!(
            (plan.fs.metadata_ttl, plan.api.timeout),
            (Duration::from_secs(15), Duration::from_secs(30))
        );
        assert_eq!(plan.read.memory_bytes, 128 << 20);
        assert_eq!(plan.read.download, read::Download::Direct);
        assert!(plan.api.user_agent.starts_with("cloudreve-fuse/"));
        assert!(plan.warnings.is_empty(), "{:?}", plan.warnings);
    }

    #[test]
    fn clear_text_and_options_without_effect_are_warned_of() {
        let home = Home::new().set("CLOUDREVE_ACCESS_TOKEN", "t");
        let plan = home.plan("http://a", &[("overwrite", "version")]).unwrap();
        assert_eq!(plan.warnings.len(), 2, "{:?}", plan.warnings);
        assert!(plan.warnings[0].contains("https") && plan.warnings[1].contains("no effect yet"));
    }

    #[test]
    fn thumbnails_go_where_the_desktop_of_who_mounts_looks_for_them() {
        let plan = |set: &[(&str, &str)], flags: &[(&'static str, &str)]| {
            let home = Home::new().set("CLOUDREVE_ACCESS_TOKEN", "t");
            let home = set
                .iter()
                .fold(home, |home, (name, value)| home.set(name, value));
            home.plan("https://a", flags).unwrap()
        };
        let cache = |plan: MountPlan| plan.thumbnails.map(|options| options.cache_dir);
        let on = [("thumbnails", "yes")];
        assert_eq!(cache(plan(&[("HOME", "/h")], &[])), None);
        let found = cache(plan(&[("HOME", "/h")], &on));
        assert_eq!(found, Some("/h/.cache/thumbnails".into()));
        let found = cache(plan(&[("HOME", "/h"), ("XDG_CACHE_HOME", "/c")], &on));
        assert_eq!(found, Some("/c/thumbnails".into()));
        let homeless = plan(&[("XDG_CACHE_HOME", "relative")], &on);
        assert!(
            homeless.warnings[0].contains("HOME"),
            "{:?}",
            homeless.warnings
        );
        assert_eq!(cache(homeless), None);
    }

    #[test]
    fn nothing_limits_a_download_unless_somebody_says_so() {
        let home = Home::new().set("CLOUDREVE_ACCESS_TOKEN", "t");
        let limit = |flags: &[(&'static str, &str)]| {
            home.plan("https://a", flags).unwrap().api.limit_down_bytes
        };
        assert_eq!(limit(&[]), 0);
        assert_eq!(limit(&[("limit-down", "0")]), 0);
        assert_eq!(limit(&[("limit-down", "2M")]), 2 << 20);
    }

    #[test]
    fn the_cache_takes_a_tenth_of_its_disk_and_20g_at_most_unless_somebody_says_otherwise() {
        let home = Home::new().set("CLOUDREVE_ACCESS_TOKEN", "t");
        let disk = disk_of(home.root.path()).unwrap();
        let plan = |flags: &[(&'static str, &str)]| home.plan("https://a", flags).unwrap();
        let default = (disk.total_bytes / 10).min(20 << 30);
        assert_eq!(plan(&[]).cache_size_bytes, default);
        assert_eq!(plan(&[("cache-size", "3M")]).cache_size_bytes, 3 << 20);
        assert_eq!(plan(&[("cache-size", "0")]).cache_size_bytes, 0);
        let odd = plan(&[("cache-dir", "/proc/is/no/disk")]);
        assert_eq!(odd.cache_size_bytes, 0);
        assert!(
            odd.warnings[0].contains("--cache-size"),
            "{:?}",
            odd.warnings
        );
    }

    #[test]
    fn nothing_is_kept_in_a_directory_that_the_mount_would_hide() {
        let home = Home::new().set("CLOUDREVE_ACCESS_TOKEN", "t");
        let within = home.root.path().join("mnt/cache");
        let flags = |size| {
            [
                ("cache-dir", within.to_str().unwrap()),
                ("cache-size", size),
            ]
        };
        let plan = home.plan("https://a", &flags("1G")).unwrap();
        assert_eq!(plan.cache_size_bytes, 0);
        assert!(
            plan.warnings[0].contains("--cache-dir"),
            "{:?}",
            plan.warnings
        );
        let plan = home.plan("https://a", &flags("0")).unwrap();
        assert!(plan.warnings.is_empty(), "{:?}", plan.warnings);
        let beside = home.root.path().join("mnt2");
        let beside = [("cache-dir", beside.to_str().unwrap())];
        assert_ne!(home.plan("https://a", &beside).unwrap().cache_size_bytes, 0);
    }

    #[test]
    fn the_kernel_may_read_the_cache_unless_it_is_forbidden() {
        let home = Home::new().set("CLOUDREVE_ACCESS_TOKEN", "t");
        let plan = |flags: &[(&'static str, &str)]| home.plan("https://a", flags).unwrap();
        assert!(plan(&[]).passthrough);
        assert!(plan(&[("passthrough", "auto")]).passthrough);
        assert!(!plan(&[("passthrough", "off")]).passthrough);
    }

    #[test]
    fn a_mount_point_is_known_by_its_real_place() {
        let home = Home::new();
        let root = home.root.path().canonicalize().unwrap();
        std::fs::create_dir(root.join("real")).unwrap();
        std::os::unix::fs::symlink(root.join("real"), root.join("link")).unwrap();
        assert_eq!(mount_point(&root.join("link/")), root.join("real"));
        assert_eq!(
            mount_point(&root.join("link/absent/")),
            root.join("real/absent")
        );
    }
}
