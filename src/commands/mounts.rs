//! The mounts of this program on this machine, and which of them a path lies on.

use std::path::{Component, Path, PathBuf};

use crate::config::mount_point;
use crate::control;
use crate::failure::Failure;
use crate::mountpoint;

/// Every mount point with a socket in `control_dir`; behind them what else of ours is in the kernel's table.
pub(super) fn points(control_dir: &Path) -> Result<Vec<PathBuf>, Failure> {
    let mut points = with_sockets(control_dir)?;
    points.sort();
    let table = mountpoint::mounts();
    let table = table.map_err(|err| Failure::failed(format!("the mount table: {err}")))?;
    for entry in table.into_iter().filter(|entry| entry.is_ours()) {
        if !points.contains(&entry.point) {
            points.push(entry.point);
        }
    }
    Ok(points)
}

/// Every mount point with a socket in `control_dir`, whether its daemon lives or not.
pub(super) fn with_sockets(control_dir: &Path) -> Result<Vec<PathBuf>, Failure> {
    control::mounts(control_dir)
        .map_err(|err| Failure::failed(format!("{}: {err}", control_dir.display())))
}

/// The mount that `path` lies on: the innermost of those it is below.
pub(super) fn mount_of(path: &Path, points: &[PathBuf]) -> Result<PathBuf, Failure> {
    place_of(path, points).map(|(point, _)| point)
}

/// The mount that `path` lies on, and where below its mount point.
pub(super) fn place_of(path: &Path, points: &[PathBuf]) -> Result<(PathBuf, PathBuf), Failure> {
    // As typed first: to look for links on a mount asks its daemon, which may hang.
    let typed = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let is_plain = !typed
        .components()
        .any(|part| matches!(part, Component::ParentDir));
    is_plain
        .then(|| above(&typed, points))
        .flatten()
        .or_else(|| above(&mount_point(path), points))
        .ok_or_else(|| {
            Failure::failed(format!(
                "{} is on no mount of this program; 'cloudreve-fuse status' lists them",
                path.display()
            ))
        })
}

fn above(path: &Path, points: &[PathBuf]) -> Option<(PathBuf, PathBuf)> {
    let above = points.iter().filter(|point| path.starts_with(point));
    let point = above.max_by_key(|point| point.components().count())?;
    // Put together anew, without slashes and dots that mean nothing.
    let below = path.strip_prefix(point).ok()?.components().collect();
    Some((point.clone(), below))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_belongs_to_the_innermost_mount_above_it() {
        let points = [PathBuf::from("/m"), "/m/inner".into(), "/m/inn".into()];
        let check = |path: &str, point: &str, below: &str| {
            let place = place_of(Path::new(path), &points);
            assert_eq!(place, Ok((point.into(), below.into())), "{path}");
        };
        check("/m/inner/file", "/m/inner", "file");
        check("/m/x", "/m", "x");
        check("/m/a//b/./c/", "/m", "a/b/c");
        check("/m/", "/m", "");
        assert!(mount_of(Path::new("/elsewhere"), &points).is_err());
    }

    #[test]
    fn a_path_with_steps_back_is_understood_where_it_leads() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        std::fs::create_dir_all(root.join("m/a")).unwrap();
        std::os::unix::fs::symlink(root.join("m"), root.join("link")).unwrap();
        let points = [root.join("m")];
        let check = |path: &str, below: &str| {
            let place = place_of(&root.join(path), &points);
            assert_eq!(place, Ok((root.join("m"), below.into())), "{path}");
        };
        check("m/a/../a", "a");
        check("link/a", "a");
        check("link/new", "new");
        assert!(place_of(&root.join("m/.."), &points).is_err());
    }
}
