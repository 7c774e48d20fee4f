//! Mounting and unmounting: by mount(2) where the kernel lets us, by `fusermount3` where it does not.
//!
//! fuser could do both, but its way in leaves the type of a root's mount without our name, and its way out unmounts
//! the path a second time after somebody else did, which can hit another mount. So the device is opened and mounted
//! here, and fuser is handed what came of it.

use std::ffi::{CString, OsStr, OsString};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::{Condition, DEVICE, condition, sys};

/// The half of our type behind `fuse.`.
const SUBTYPE: &str = "cloudreve-fuse";

/// The setuid helper that mounts for those who may not.
const HELPER: &str = "fusermount3";

/// Where the helper is looked for beside `PATH`: a service may have none.
const HELPER_DIRECTORIES: [&str; 6] = [
    "/usr/bin",
    "/bin",
    "/usr/local/bin",
    "/usr/sbin",
    "/sbin",
    "/run/wrappers/bin", // NixOS keeps its setuid programs here.
];

/// How a directory is mounted. Always with the kernel's permission checks on, since the modes shown are fixed. Programs
/// and device files of the drive have no power unless root asked for it.
#[derive(Debug, Clone, Default)]
pub struct MountOptions {
    /// Named in the mount table: the URI, without any secret.
    pub source: String,
    /// Nothing can be changed.
    pub read_only: bool,
    /// Others than the mounting user may enter.
    pub allow_other: bool,
    /// Set-user-id bits count.
    pub suid: bool,
    /// Device files count.
    pub dev: bool,
    /// Programs cannot be started.
    pub noexec: bool,
    /// Times of access are not kept; they never are, but programs see the option.
    pub noatime: bool,
}

/// Why nothing was mounted.
#[derive(Debug, thiserror::Error)]
pub enum MountError {
    /// There is no FUSE device.
    #[error("{DEVICE} is missing")]
    NoDevice,
    /// The device is there and may not be opened.
    #[error("{DEVICE} may not be opened by this user")]
    DeviceDenied,
    /// mount(2) is not allowed and the helper is not installed.
    #[error("{HELPER} is not installed")]
    NoHelper,
    /// The helper refused; its words.
    #[error("{0}")]
    Refused(String),
    /// Something else failed.
    #[error("{what}: {source}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// How it failed.
        source: io::Error,
    },
}

/// Mounts a FUSE device on `dir` and hands it out, not yet initialised. Closing it ends the mount's life, but does
/// not unmount it.
pub fn mount(dir: &Path, options: &MountOptions) -> Result<OwnedFd, MountError> {
    let device = open_device()?;
    match mount_directly(dir, &device, options) {
        Ok(()) => Ok(device.into()),
        Err(err) if err.raw_os_error() == Some(libc::EPERM) => {
            drop(device);
            mount_by_helper(dir, options)
        }
        Err(source) => Err(MountError::Io {
            what: "mount(2)",
            source,
        }),
    }
}

/// Unmounts `dir`. Lazily: it vanishes from sight at once, and lives on for those who have files open in it.
pub fn unmount(dir: &Path, lazy: bool) -> io::Result<()> {
    let target = c_string(dir.as_os_str())?;
    let flags = libc::UMOUNT_NOFOLLOW | if lazy { libc::MNT_DETACH } else { 0 };
    match sys::umount2(&target, flags) {
        Err(err) if err.raw_os_error() == Some(libc::EPERM) => unmount_by_helper(dir, lazy),
        done => done,
    }
}

/// Takes every dead mount of ours off `dir`, and tells how many there were. Touches no other.
pub fn detach_all(dir: &Path) -> io::Result<usize> {
    let mut detached = 0;
    while let Condition::Stale(entry) = condition(dir)? {
        unmount(&entry.point, true)?;
        detached += 1;
    }
    Ok(detached)
}

fn open_device() -> Result<File, MountError> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .open(DEVICE)
        .map_err(|err| match (err.kind(), err.raw_os_error()) {
            (io::ErrorKind::NotFound, _) | (_, Some(libc::ENXIO | libc::ENODEV)) => {
                MountError::NoDevice
            }
            (io::ErrorKind::PermissionDenied, _) => MountError::DeviceDenied,
            _ => MountError::Io {
                what: "opening the FUSE device",
                source: err,
            },
        })
}

fn mount_directly(dir: &Path, device: &File, options: &MountOptions) -> io::Result<()> {
    let (uid, gid) = sys::real_ids();
    let data = kernel_data(device.as_raw_fd(), uid, gid, options);
    sys::mount(
        &c_string(OsStr::new(&printable(&options.source)))?,
        &c_string(dir.as_os_str())?,
        c"fuse",
        kernel_flags(options),
        &c_string(OsStr::new(&data))?,
    )
}

/// What FUSE wants to know in the last argument of mount(2) (→ fs/fuse/inode.c, fuse_fs_parameters). Nothing a user
/// typed is in it, so nothing needs escaping.
fn kernel_data(device: i32, uid: u32, gid: u32, options: &MountOptions) -> String {
    let mut data = format!(
        "fd={device},rootmode={:o},user_id={uid},group_id={gid},subtype={SUBTYPE},default_permissions",
        libc::S_IFDIR
    );
    if options.allow_other {
        data.push_str(",allow_other");
    }
    data
}

fn kernel_flags(options: &MountOptions) -> libc::c_ulong {
    let mut flags = 0;
    if options.read_only {
        flags |= libc::MS_RDONLY;
    }
    if !options.suid {
        flags |= libc::MS_NOSUID;
    }
    if !options.dev {
        flags |= libc::MS_NODEV;
    }
    if options.noexec {
        flags |= libc::MS_NOEXEC;
    }
    if options.noatime {
        flags |= libc::MS_NOATIME;
    }
    flags
}

/// Options as the helper takes them in one word. It sets nosuid and nodev by itself.
fn helper_options(options: &MountOptions) -> String {
    let mut words = vec![
        format!("fsname={}", escaped(&printable(&options.source))),
        format!("subtype={SUBTYPE}"),
        "default_permissions".to_owned(),
    ];
    let flags = [
        (options.read_only, "ro"),
        (options.allow_other, "allow_other"),
        (options.noexec, "noexec"),
        (options.noatime, "noatime"),
    ];
    words.extend(
        flags
            .iter()
            .filter(|(set, _)| *set)
            .map(|(_, word)| (*word).to_owned()),
    );
    words.join(",")
}

/// A comma would begin another option, so it hides behind a backslash (→ util/fusermount.c, get_string_opt).
fn escaped(value: &str) -> String {
    value.replace('\\', r"\\").replace(',', r"\,")
}

/// Without what a terminal or a table of one line a mount would stumble over.
fn printable(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).collect()
}

fn mount_by_helper(dir: &Path, options: &MountOptions) -> Result<OwnedFd, MountError> {
    let helper = find_helper().ok_or(MountError::NoHelper)?;
    let failed = |what| move |source| MountError::Io { what, source };
    let (ours, theirs) = UnixStream::pair().map_err(failed("socketpair(2)"))?;
    // The helper finds its end of the socket as its standard input, which needs no descriptor to be inherited. It
    // is given nothing else of our environment.
    let child = Command::new(helper)
        .env_clear()
        .env("_FUSE_COMMFD", "0")
        .arg("-o")
        .arg(helper_options(options))
        .arg("--")
        .arg(dir)
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(failed("starting fusermount3"))?;
    let device = sys::receive_descriptor(&ours);
    drop(ours);
    let output = child
        .wait_with_output()
        .map_err(failed("waiting for fusermount3"))?;
    match device.map_err(failed("asking fusermount3 for the device"))? {
        Some(device) => Ok(device),
        None => Err(MountError::Refused(words_of(&output.stderr))),
    }
}

fn unmount_by_helper(dir: &Path, lazy: bool) -> io::Result<()> {
    let helper = find_helper().ok_or_else(|| io::Error::from_raw_os_error(libc::EPERM))?;
    let mut command = Command::new(helper);
    command.env_clear().arg("-u");
    if lazy {
        command.arg("-z");
    }
    let output = command.arg("--").arg(dir).stdin(Stdio::null()).output()?;
    if output.status.success() {
        Ok(())
    } else {
        Err(io::Error::other(words_of(&output.stderr)))
    }
}

fn words_of(stderr: &[u8]) -> String {
    let said = String::from_utf8_lossy(stderr);
    let said = said.trim();
    if said.is_empty() {
        format!("{HELPER} ended without a word")
    } else {
        said.to_owned()
    }
}

fn find_helper() -> Option<PathBuf> {
    find_program(HELPER, std::env::var_os("PATH"))
}

fn find_program(name: &str, path: Option<OsString>) -> Option<PathBuf> {
    let listed = path.unwrap_or_default();
    std::env::split_paths(&listed)
        .filter(|directory| directory.is_absolute())
        .chain(HELPER_DIRECTORIES.iter().map(PathBuf::from))
        .map(|directory| directory.join(name))
        .find(|candidate| candidate.is_file())
}

fn c_string(text: &OsStr) -> io::Result<CString> {
    CString::new(text.to_owned().into_vec()).map_err(|_| {
        io::Error::new(
            io::ErrorKind::InvalidInput,
            format!(
                "{:?} has a NUL in it",
                text.as_bytes().escape_ascii().to_string()
            ),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(source: &str) -> MountOptions {
        MountOptions {
            source: source.to_owned(),
            ..MountOptions::default()
        }
    }

    #[test]
    fn a_mount_is_writable_and_without_programs_of_power_unless_asked_for() {
        assert_eq!(
            kernel_flags(&options("x")),
            libc::MS_NOSUID | libc::MS_NODEV
        );
        let asked = MountOptions {
            read_only: true,
            suid: true,
            dev: true,
            noexec: true,
            noatime: true,
            ..options("x")
        };
        assert_eq!(
            kernel_flags(&asked),
            libc::MS_RDONLY | libc::MS_NOEXEC | libc::MS_NOATIME
        );
    }

    #[test]
    fn the_kernel_learns_descriptor_owner_and_subtype() {
        assert_eq!(
            kernel_data(7, 1000, 100, &options("x")),
            "fd=7,rootmode=40000,user_id=1000,group_id=100,subtype=cloudreve-fuse,default_permissions"
        );
        let others = MountOptions {
            allow_other: true,
            ..options("x")
        };
        assert!(kernel_data(7, 0, 0, &others).ends_with(",allow_other"));
    }

    #[test]
    fn a_comma_in_a_name_does_not_become_an_option() {
        assert_eq!(
            helper_options(&options(r"cloudreve://my/a,suid\,dev")),
            r"fsname=cloudreve://my/a\,suid\\\,dev,subtype=cloudreve-fuse,default_permissions"
        );
        let read_only = MountOptions {
            read_only: true,
            ..options("x")
        };
        assert!(helper_options(&read_only).ends_with(",ro"));
    }

    #[test]
    fn control_characters_do_not_reach_the_mount_table() {
        assert_eq!(printable("a\nb\u{1b}c\0"), "abc");
    }

    #[test]
    fn the_helper_is_found_on_the_path_and_never_in_the_working_directory() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("some-helper"), "").unwrap();
        let path = std::env::join_paths([Path::new("."), dir.path()]).unwrap();
        assert_eq!(
            find_program("some-helper", Some(path)),
            Some(dir.path().join("some-helper"))
        );
        assert_eq!(find_program("some-helper", Some(OsString::from("."))), None);
    }

    #[test]
    fn a_name_with_a_nul_is_refused_before_the_kernel_sees_half_of_it() {
        assert!(c_string(OsStr::from_bytes(b"a\0b")).is_err());
    }
}
