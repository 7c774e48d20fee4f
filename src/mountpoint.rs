//! The kernel's mount table, and the two ways into it.
//!
//! Tells what is mounted where and whether the daemon behind it still lives; mounts the FUSE device on a directory,
//! by mount(2) where we may and by the setuid `fusermount3` otherwise; unmounts. It promises to touch no mount but
//! the one it was asked about, and to leave nothing mounted where mounting failed. It never speaks FUSE: the device
//! it hands out has not been initialised, and who unmounts decides elsewhere what becomes of open files.

mod enter;
mod sys;
mod table;

pub use enter::{MountError, MountOptions, detach_all, mount, unmount};
pub use sys::effective_uid;
pub use table::{MountEntry, parse_mountinfo};

use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;

/// Our type in the mount table, as `mount -t` and `findmnt -t` take it.
pub const FS_TYPE: &str = "fuse.cloudreve-fuse";

/// The kernel's FUSE device.
pub const DEVICE: &str = "/dev/fuse";

/// How long a mount may take to show whether it lives. A daemon that is stopped in a debugger answers never, and
/// such a mount must not be taken for a dead one, nor hang who asks.
const PATIENCE: Duration = Duration::from_secs(2);

/// What a directory is to the mount table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Condition {
    /// Nothing is mounted on it.
    Unmounted,
    /// A mount of ours, with a daemon behind it (or one that gives no answer).
    Ours(MountEntry),
    /// A mount of ours whose daemon died: every access answers ENOTCONN.
    Stale(MountEntry),
    /// A FUSE mount of another kind whose daemon died.
    StaleOther(MountEntry),
    /// Something else, in good order.
    Other(MountEntry),
}

/// What is mounted on `dir`, topmost first; `dir` is absolute.
pub fn condition(dir: &Path) -> io::Result<Condition> {
    let Some(entry) = topmost(dir)? else {
        return Ok(Condition::Unmounted);
    };
    let dead = entry.is_fuse() && is_dead(&entry.point);
    Ok(match (entry.is_ours(), dead) {
        (true, true) => Condition::Stale(entry),
        (true, false) => Condition::Ours(entry),
        (false, true) => Condition::StaleOther(entry),
        (false, false) => Condition::Other(entry),
    })
}

/// Every mount in this process's mount namespace, in the order of the table: a later one hides an earlier one of
/// the same place.
pub fn mounts() -> io::Result<Vec<MountEntry>> {
    Ok(parse_mountinfo(&std::fs::read("/proc/self/mountinfo")?))
}

/// The mount that is seen at `dir`, if `dir` is a mount point.
pub fn topmost(dir: &Path) -> io::Result<Option<MountEntry>> {
    Ok(mounts()?.into_iter().rev().find(|entry| entry.point == dir))
}

/// The absolute path of a mount point: its parent resolved, its own name kept, so that it can be told of a place
/// whose daemon died (where resolving the whole path answers ENOTCONN).
pub fn absolute(dir: &Path) -> io::Result<PathBuf> {
    match dir.canonicalize() {
        Ok(resolved) => Ok(resolved),
        Err(err) => match (dir.parent(), dir.file_name()) {
            (Some(parent), Some(name)) => {
                let parent = if parent.as_os_str().is_empty() {
                    Path::new(".")
                } else {
                    parent
                };
                Ok(parent.canonicalize()?.join(name))
            }
            _ => Err(err),
        },
    }
}

/// Sets how far the kernel reads ahead on the mount of `device` (`major:minor`, from the mount table). Needs root.
pub fn set_read_ahead(device: &str, kib: u32) -> io::Result<()> {
    std::fs::write(
        format!("/sys/class/bdi/{device}/read_ahead_kb"),
        kib.to_string(),
    )
}

fn is_dead(dir: &Path) -> bool {
    let (tell, told) = mpsc::sync_channel(1);
    let dir = dir.to_owned();
    let asked = std::thread::Builder::new()
        .name("mount-probe".to_owned())
        .spawn(move || {
            // Who asked may have lost patience; then nobody wants the answer.
            let _ = tell.send(sys::ask_for_attributes(&dir));
        });
    if asked.is_err() {
        return false;
    }
    match told.recv_timeout(PATIENCE) {
        Ok(Err(err)) => err.raw_os_error() == Some(libc::ENOTCONN),
        Ok(Ok(_)) | Err(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_directory_is_unmounted_and_proc_is_a_mount_of_another_kind() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().canonicalize().unwrap();
        assert_eq!(condition(&path).unwrap(), Condition::Unmounted);
        assert!(matches!(
            condition(Path::new("/proc")).unwrap(),
            Condition::Other(_)
        ));
    }

    #[test]
    fn the_place_of_a_mount_is_told_though_its_last_name_leads_nowhere() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().canonicalize().unwrap();
        assert_eq!(
            absolute(&dir.path().join("absent")).unwrap(),
            path.join("absent")
        );
        assert_eq!(absolute(dir.path()).unwrap(), path);
    }
}
