//! The directories a mount needs: made, private, writable.

use std::fs::{DirBuilder, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use crate::config::MountPlan;
use crate::failure::Failure;

/// Makes what is missing, open to its owner alone, and proves that each takes files. What was there keeps its mode:
/// the person who named it knows why.
///
/// Without a cache a mount is slower and nothing else, so one that cannot be written is warned of: the mount of a
/// machine that starts must not fail for it. The plan keeps nothing on disk then.
pub(super) fn prepare(plan: &mut MountPlan) -> Result<(), Failure> {
    for (what, dir, option) in [
        ("state", &plan.state_dir, "--state-dir"),
        ("control", &plan.control_dir, "--control"),
    ] {
        writable(dir).map_err(|err| Failure::failed(unwritable(what, dir, option, &err)))?;
    }
    if plan.cache_size_bytes > 0
        && let Err(err) = writable(&plan.cache_dir)
    {
        let why = unwritable("cache", &plan.cache_dir, "--cache-dir", &err);
        log::warn!("no content is kept on disk: {why}");
        plan.cache_size_bytes = 0;
    }
    Ok(())
}

fn unwritable(what: &str, dir: &Path, option: &str, err: &io::Error) -> String {
    format!(
        "the {what} directory {} cannot be written: {err}; mend its permissions or choose another with {option} DIR",
        dir.display()
    )
}

fn writable(dir: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    let probe = dir.join(format!(".probe-{}", std::process::id()));
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&probe)?;
    std::fs::remove_file(&probe)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_missing_directory_is_made_for_its_owner_alone() {
        let dir = tempfile::tempdir().unwrap();
        let deep = dir.path().join("a/b");
        writable(&deep).unwrap();
        for made in [&deep, &dir.path().join("a")] {
            let mode = std::fs::metadata(made).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o700);
        }
        assert_eq!(std::fs::read_dir(&deep).unwrap().count(), 0);
    }

    #[test]
    fn a_file_in_its_place_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        std::fs::write(&file, "").unwrap();
        assert!(writable(&file).is_err());
        assert!(writable(&file.join("below")).is_err());
    }
}
