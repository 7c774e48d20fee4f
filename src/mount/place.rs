//! Whether a directory can be mounted on, and the kernel can mount: found out before anybody is asked for anything.

use std::io;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;
use std::time::Duration;

use crate::config::MountPlan;
use crate::control::{self, Answer, Request};
use crate::failure::Failure;
use crate::mountpoint::{self, Condition};

/// How long the daemon of a mount that is in the way may take to tell who it is.
const PATIENCE: Duration = Duration::from_secs(2);

/// How long an earlier mount may take to end: as long as its last requests may.
const SUCCESSION_MAX: Duration = Duration::from_secs(75);

/// Where the administrator allows `allow_other` to those who are not root.
const FUSE_CONF: &str = "/etc/fuse.conf";

/// Fails with what is to be done; clears away dead mounts of ours.
pub(super) fn check(plan: &MountPlan) -> Result<(), Failure> {
    clear(&plan.dir, &plan.control_dir)?;
    directory(&plan.dir)?;
    device(Path::new(mountpoint::DEVICE))?;
    if plan.kernel.allow_other || plan.kernel.allow_root {
        let option = if plan.kernel.allow_other {
            "allow_other"
        } else {
            "allow_root"
        };
        let conf = std::fs::read_to_string(FUSE_CONF).unwrap_or_default();
        others(option, mountpoint::effective_uid(), &conf)?;
    }
    Ok(())
}

fn clear(dir: &Path, control_dir: &Path) -> Result<(), Failure> {
    let shown = dir.display();
    let cannot = |what: &str, err: io::Error| Failure::failed(format!("{what}: {err}"));
    let condition =
        mountpoint::condition(dir).map_err(|err| cannot("the mount table cannot be read", err))?;
    match condition {
        Condition::Unmounted => succeed(dir, control_dir),
        Condition::Other(_) => Ok(()),
        Condition::Stale(_) => {
            mountpoint::detach_all(dir)
                .map_err(|err| cannot(&format!("the dead mount on {shown} stays"), err))?;
            log::warn!("{shown} was a mount whose daemon had died: it is cleared away");
            // What it lay on may be a living one.
            clear(dir, control_dir)
        }
        Condition::StaleOther(entry) => Err(Failure::failed(format!(
            "{shown} is a dead mount of type {}: clear it away first (umount -l {shown})",
            entry.fs_type
        ))),
        Condition::Ours(_) => Err(Failure::failed(already(dir, control_dir))),
    }
}

/// Where an earlier mount has left the directory and still delivers what it owes: nobody sees its files there any more, and
/// this mount would not show them. So it is asked to stop, and what it owes is taken over.
fn succeed(dir: &Path, control_dir: &Path) -> Result<(), Failure> {
    let socket = control::socket_path(control_dir, dir);
    let Ok(Answer::Status(status)) = control::ask(&socket, &Request::Status, PATIENCE) else {
        // None, or the one of a daemon that died: `control` replaces that.
        return Ok(());
    };
    if !status.ending {
        // It is mounted where this process does not see it, as in a container.
        return Ok(());
    }
    let (shown, pid) = (dir.display(), status.pid);
    log::info!("an earlier mount of {shown} (process {pid}) is asked to end");
    let end = Request::Umount {
        timeout_ms: 0,
        force: true,
        progress: false,
    };
    // However it answers: what counts is that it is gone, and with it its hold on what is owed.
    if let Err(err) = control::ask(&socket, &end, SUCCESSION_MAX) {
        log::debug!("{}: {err}", socket.display());
    }
    match control::outlast(pid, SUCCESSION_MAX) {
        true => Ok(()),
        false => Err(Failure::failed(format!(
            "an earlier mount of {shown} does not end (process {pid}): wait for it, or kill it; what it owes to the server is kept"
        ))),
    }
}

fn already(dir: &Path, control_dir: &Path) -> String {
    let socket = control::socket_path(control_dir, dir);
    let by = match control::ask(&socket, &Request::Status, PATIENCE) {
        Ok(Answer::Status(status)) => format!(" by process {}", status.pid),
        // Its daemon is somebody else's, or busy with its end.
        Ok(_) | Err(_) => String::new(),
    };
    let shown = dir.display();
    format!("{shown} is already mounted{by}; unmount it first: cloudreve-fuse umount {shown}")
}

fn directory(dir: &Path) -> Result<(), Failure> {
    let shown = dir.display();
    Err(match std::fs::metadata(dir) {
        Ok(meta) if meta.is_dir() => return Ok(()),
        Ok(_) => Failure::failed(format!("{shown} is not a directory: name one to mount on")),
        Err(err) if err.kind() == io::ErrorKind::NotFound => Failure::failed(format!(
            "{shown} does not exist: make it first (mkdir -p {shown})"
        )),
        Err(err) if err.kind() == io::ErrorKind::PermissionDenied => Failure::usage(format!(
            "{shown} may not be entered by this user: mount on a directory of your own"
        )),
        Err(err) => Failure::failed(format!("{shown} cannot be mounted on: {err}")),
    })
}

fn device(device: &Path) -> Result<(), Failure> {
    match std::fs::metadata(device) {
        Ok(meta) if meta.file_type().is_char_device() => Ok(()),
        _ => Err(Failure::failed(format!(
            "{} is missing: load the fuse module (modprobe fuse), or give the container the device",
            device.display()
        ))),
    }
}

fn others(option: &str, uid: u32, fuse_conf: &str) -> Result<(), Failure> {
    let allowed = fuse_conf
        .lines()
        .any(|line| line.trim() == "user_allow_other");
    if uid == 0 || allowed {
        return Ok(());
    }
    Err(Failure::usage(format!(
        "{option} is not permitted: let root add the line user_allow_other to {FUSE_CONF}, or mount without it"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::FailureKind;

    fn line(result: Result<(), Failure>) -> String {
        result.unwrap_err().to_string()
    }

    #[test]
    fn a_missing_mount_point_is_told_with_the_command_that_makes_it() {
        let dir = tempfile::tempdir().unwrap();
        let missing = dir.path().join("mnt");
        let said = line(directory(&missing));
        assert!(
            said.contains(&format!("mkdir -p {}", missing.display())),
            "{said}"
        );
        assert!(directory(dir.path()).is_ok());
    }

    #[test]
    fn a_file_is_no_mount_point() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        std::fs::write(&file, "").unwrap();
        assert!(line(directory(&file)).contains("not a directory"));
    }

    #[test]
    fn without_the_device_the_module_is_named() {
        let dir = tempfile::tempdir().unwrap();
        assert!(line(device(&dir.path().join("fuse"))).contains("modprobe fuse"));
        assert!(line(device(dir.path())).contains("modprobe fuse"));
        assert!(device(Path::new("/dev/null")).is_ok());
    }

    #[test]
    fn allow_other_wants_the_administrators_line_from_all_but_root() {
        let refused = others("allow_other", 1000, "#user_allow_other\nmount_max = 9\n");
        let failure = refused.unwrap_err();
        assert_eq!(failure.kind, FailureKind::Usage);
        assert!(failure.to_string().contains("user_allow_other"));
        assert!(others("allow_other", 1000, "x\n  user_allow_other  \n").is_ok());
        assert!(others("allow_root", 0, "").is_ok());
    }

    #[test]
    fn an_ordinary_directory_needs_no_clearing() {
        let dir = tempfile::tempdir().unwrap();
        assert!(clear(&dir.path().canonicalize().unwrap(), dir.path()).is_ok());
    }
}
