//! Where things are kept on this machine, where nobody said so.

use std::io;
use std::path::{Path, PathBuf};

use crate::config::environment::Environment;
use crate::config::settings::Settings;
use crate::failure::Failure;

const NAME: &str = "cloudreve-fuse";

/// The four directories of one user's life with the program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dirs {
    /// `config.toml` and `accounts/`.
    pub config: PathBuf,
    /// What is owed to servers.
    pub state: PathBuf,
    /// What may be deleted at any time.
    pub cache: PathBuf,
    /// Control sockets.
    pub control: PathBuf,
}

impl Dirs {
    /// As set; else what systemd gave the unit; else XDG's directories; else `/etc`, `/var` and `/run` as root, and
    /// the usual places below the home directory for others. Makes nothing.
    pub fn decide(settings: &Settings, environment: &Environment) -> Result<Self, Failure> {
        let state = needed(settings, environment, "state-dir", &STATE)?;
        let control = settings
            .path("control")
            .or_else(|| place(environment, &CONTROL));
        Ok(Self {
            config: config_dir(settings, environment)?,
            cache: needed(settings, environment, "cache-dir", &CACHE)?,
            // A login without a runtime directory (cron, su): sockets then live beside the state, as private as it.
            control: control.unwrap_or_else(|| state.join("run")),
            state,
        })
    }
}

/// The disk on which a directory lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Disk {
    /// Bytes in all.
    pub total_bytes: u64,
    /// Bytes that this user may still write.
    pub free_bytes: u64,
}

/// The disk of `dir`, which need not be there yet: that of the nearest directory above it then.
pub fn disk_of(dir: &Path) -> io::Result<Disk> {
    let mut found = Err(io::ErrorKind::NotFound.into());
    for dir in dir.ancestors() {
        found = rustix::fs::statvfs(dir).map_err(io::Error::from);
        match &found {
            Err(err) if err.kind() == io::ErrorKind::NotFound => {}
            _ => break,
        }
    }
    let space = found?;
    Ok(Disk {
        total_bytes: space.f_blocks.saturating_mul(space.f_frsize),
        free_bytes: space.f_bavail.saturating_mul(space.f_frsize),
    })
}

/// Where `config.toml` is, which has to be known before it can be read.
pub(super) fn config_dir(
    settings: &Settings,
    environment: &Environment,
) -> Result<PathBuf, Failure> {
    needed(settings, environment, "config-dir", &CONFIG)
}

/// Where `option` says, or else the place for that `kind`.
fn needed(
    settings: &Settings,
    environment: &Environment,
    option: &str,
    kind: &Kind,
) -> Result<PathBuf, Failure> {
    settings
        .path(option)
        .or_else(|| place(environment, kind))
        .ok_or_else(|| homeless(option))
}

/// Names of one kind of directory.
struct Kind {
    systemd: &'static str,
    xdg: &'static str,
    root: &'static str,
    home: Option<&'static str>,
}

// A unit's CONFIGURATION_DIRECTORY is /etc/NAME, which is the default of root anyway.
const CONFIG: Kind = Kind {
    systemd: "CONFIGURATION_DIRECTORY",
    xdg: "XDG_CONFIG_HOME",
    root: "/etc",
    home: Some(".config"),
};
const STATE: Kind = Kind {
    systemd: "STATE_DIRECTORY",
    xdg: "XDG_STATE_HOME",
    root: "/var/lib",
    home: Some(".local/state"),
};
const CACHE: Kind = Kind {
    systemd: "CACHE_DIRECTORY",
    xdg: "XDG_CACHE_HOME",
    root: "/var/cache",
    home: Some(".cache"),
};
const CONTROL: Kind = Kind {
    systemd: "RUNTIME_DIRECTORY",
    xdg: "XDG_RUNTIME_DIR",
    root: "/run",
    home: None,
};

fn place(environment: &Environment, kind: &Kind) -> Option<PathBuf> {
    // A unit with several directories gets them all, separated by colons; the first is the one it is about.
    let first = |list: &std::ffi::OsStr| {
        list.to_str()
            .map(|list| PathBuf::from(list.split(':').next().unwrap_or(list)))
    };
    if let Some(dir) = environment.get(kind.systemd).and_then(first) {
        return Some(dir);
    }
    if let Some(base) = absolute(environment, kind.xdg) {
        return Some(base.join(NAME));
    }
    if environment.is_root() {
        return Some(Path::new(kind.root).join(NAME));
    }
    match kind.home {
        Some(below) => absolute(environment, "HOME").map(|home| home.join(below).join(NAME)),
        None => Some(PathBuf::from(format!("/run/user/{}", environment.uid)))
            .filter(|run| run.is_dir())
            .map(|run| run.join(NAME)),
    }
}

/// The thumbnail cache of the desktop, as its specification has it: where XDG's cache directory is, for root too. None
/// where nothing says so.
pub(super) fn thumbnails(environment: &Environment) -> Option<PathBuf> {
    let cache = absolute(environment, "XDG_CACHE_HOME");
    let cache = cache.or_else(|| Some(absolute(environment, "HOME")?.join(".cache")));
    Some(cache?.join("thumbnails"))
}

/// A directory that a variable names. The specification has relative paths ignored.
fn absolute(environment: &Environment, name: &str) -> Option<PathBuf> {
    let path = environment.get(name).map(PathBuf::from);
    path.filter(|path| path.is_absolute())
}

fn homeless(option: &str) -> Failure {
    Failure::failed(format!(
        "HOME is not set, so there is no place for it: set HOME, or CLOUDREVE_{}",
        option.replace('-', "_").to_uppercase()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(variables: &[(&str, &str)], uid: u32, expected: [&str; 4]) {
        let environment = Environment::new(variables.iter().copied(), uid, uid);
        let mut settings = Settings::default();
        settings.add_environment(&environment).unwrap();
        let dirs = Dirs::decide(&settings, &environment).unwrap();
        let found = [&dirs.config, &dirs.state, &dirs.cache, &dirs.control]
            .map(|path| path.to_str().unwrap().to_owned());
        assert_eq!(found, expected);
    }

    #[test]
    fn each_kind_of_user_has_the_places_of_their_kind() {
        check(
            &[("HOME", "/root")],
            0,
            [
                "/etc/cloudreve-fuse",
                "/var/lib/cloudreve-fuse",
                "/var/cache/cloudreve-fuse",
                "/run/cloudreve-fuse",
            ],
        );
        check(
            &[("HOME", "/home/me"), ("XDG_RUNTIME_DIR", "/run/user/7")],
            7,
            [
                "/home/me/.config/cloudreve-fuse",
                "/home/me/.local/state/cloudreve-fuse",
                "/home/me/.cache/cloudreve-fuse",
                "/run/user/7/cloudreve-fuse",
            ],
        );
        check(
            &[
                ("HOME", "/home/me"),
                ("XDG_CONFIG_HOME", "/c"),
                ("XDG_STATE_HOME", "relative"),
            ],
            4_000_000,
            [
                "/c/cloudreve-fuse",
                "/home/me/.local/state/cloudreve-fuse",
                "/home/me/.cache/cloudreve-fuse",
                "/home/me/.local/state/cloudreve-fuse/run",
            ],
        );
    }

    #[test]
    fn what_is_set_comes_before_systemd_and_that_before_xdg() {
        check(
            &[
                ("HOME", "/root"),
                ("CLOUDREVE_CONFIG_DIR", "/mine"),
                ("CLOUDREVE_CONTROL", "/sockets"),
                ("STATE_DIRECTORY", "/var/lib/a:/var/lib/b"),
                ("XDG_STATE_HOME", "/s"),
                ("XDG_CACHE_HOME", "/k"),
                ("RUNTIME_DIRECTORY", "/run/a"),
            ],
            0,
            ["/mine", "/var/lib/a", "/k/cloudreve-fuse", "/sockets"],
        );
    }

    #[test]
    fn without_a_home_the_line_says_what_to_set() {
        let environment = Environment::new([("PATH", "/bin")], 7, 7);
        let said = Dirs::decide(&Settings::default(), &environment)
            .unwrap_err()
            .to_string();
        assert!(
            said.contains("HOME") && said.contains("CLOUDREVE_STATE_DIR"),
            "{said}"
        );
    }
}
