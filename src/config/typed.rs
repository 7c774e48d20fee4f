//! What was typed: what is to be mounted and where, understood and made fit to be shown.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use crate::address::Target;
use crate::failure::Failure;
use crate::uri::FileSystem;

/// What the URI or address `uri` stands for.
pub(super) fn target(uri: &OsString) -> Result<Target, Failure> {
    let text = uri.to_str().ok_or_else(|| {
        Failure::usage(format!(
            "{}: the URI is not UTF-8; write its odd bytes as %XX",
            uri.display()
        ))
    })?;
    text.parse()
        .map_err(|err| Failure::usage(format!("{}: {err}", without_password(text))))
}

/// `uri`, which stands for `target`, without the password of a share.
pub(super) fn shown(uri: &OsString, target: &Target) -> String {
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

/// The text that was typed, unless it may hold a share's password: that has no safe place to be cut out of what could
/// not even be understood, so nothing is left but its scheme.
fn without_password(text: &str) -> String {
    if !["@", "%40", "/s/"].iter().any(|mark| text.contains(mark)) {
        return text.to_owned();
    }
    let is_scheme = |text: &str| text.bytes().all(|byte| byte.is_ascii_lowercase());
    match text.split_once("://") {
        Some((scheme, _)) if is_scheme(scheme) => format!("{scheme}://…"),
        _ => "…".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_point_is_known_by_its_real_place() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        std::fs::create_dir(root.join("real")).unwrap();
        std::os::unix::fs::symlink(root.join("real"), root.join("link")).unwrap();
        assert_eq!(mount_point(&root.join("link/")), root.join("real"));
        assert_eq!(
            mount_point(&root.join("link/absent/")),
            root.join("real/absent")
        );
    }
}
