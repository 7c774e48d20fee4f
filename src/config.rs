//! What we decided: command line, then `-o`, then environment, then files, as plain values for each room.
//!
//! Reads and decides; asks no server, makes and mounts nothing. What cannot be meant is refused here, in the same
//! words whatever its source, before anything else happens.

mod account;
mod credentials;
mod dirs;
mod disk;
pub mod environment;
mod file;
mod mount_options;
pub mod settings;
mod typed;
mod values;

pub use crate::fs::Durability;
pub use dirs::{Dirs, Disk, disk_of};
pub use typed::mount_point;

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;

use crate::accounts::Accounts;
use crate::address::Address;
use crate::failure::Failure;
use crate::secret::Secret;
use crate::staging::LocalOnly;
use crate::tokens::TokenStore;
use crate::{api, fs, read, thumbnails, upload};
use environment::Environment;
use file::ConfigFile;
use settings::Settings;

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
    /// How it is written to.
    pub writing: Writing,
    /// How the kernel mounts it.
    pub kernel: KernelOptions,
    /// Directory of control sockets.
    pub control_dir: PathBuf,
    /// What is owed to the server; a read-only mount makes and checks it, too.
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
        /// Its e-mail address or nickname.
        user: String,
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

/// How a mount is written to.
#[derive(Debug, Clone)]
pub struct Writing {
    /// Not at all: it was asked for.
    pub read_only: bool,
    /// Where deleted files go.
    pub delete: api::Delete,
    /// What close(2) and fsync(2) wait for.
    pub durability: Durability,
    /// Which files never go to the server.
    pub local_only: LocalOnly,
    /// For `upload`.
    pub upload: upload::Options,
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
    let target = typed::target(&request.uri)?;
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
    disk::not_hidden(&dirs, &decided.account, &dir)?;
    let mut warnings = warnings(&settings, &decided.address);
    let (thumbnails, doubt) = disk::thumbnails(&settings, environment, &dir);
    warnings.extend(doubt);
    let (cache_size_bytes, doubt) = disk::cache_size(&settings, &dirs.cache, Some(&dir));
    warnings.extend(doubt);
    Ok(MountPlan {
        source: typed::shown(&request.uri, &target),
        dir,
        warnings,
        thumbnails,
        api: values::api_options(&settings, decided.address),
        account: decided.account,
        read: values::read_options(&settings),
        writing: values::writing(&settings, &target.uri),
        fs: values::fs_options(&settings, environment, target.uri),
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
        disk::cache_size(&self.settings, &self.dirs.cache, None)
    }

    /// The accounts stored here.
    pub fn accounts(&self) -> Accounts {
        Accounts::new(&self.dirs.config)
    }

    /// How to speak to `address`.
    pub fn api_options(&self, address: Address) -> api::Options {
        values::api_options(&self.settings, address)
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

fn warnings(settings: &Settings, address: &Address) -> Vec<String> {
    unsafe_address(address)
        .into_iter()
        .chain(settings.without_effect())
        .collect()
}

#[cfg(test)]
mod tests;
