//! The directories a mount needs: made, private, writable.

use std::fs::{DirBuilder, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use crate::config::MountPlan;
use crate::failure::Failure;

/// Makes what is missing, open to its owner alone, and proves that each takes files. What was there keeps its mode:
/// the person who named it knows why.
pub(super) fn prepare(plan: &MountPlan) -> Result<(), Failure> {
    for (what, dir, option) in [
        ("state", &plan.state_dir, "--state-dir"),
        ("cache", &plan.cache_dir, "--cache-dir"),
        ("control", &plan.control_dir, "--control"),
    ] {
        writable(dir).map_err(|err| {
            Failure::failed(format!(
                "the {what} directory {} cannot be written: {err}; mend its permissions or choose another with {option} DIR",
                dir.display()
            ))
        })?;
    }
    Ok(())
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
