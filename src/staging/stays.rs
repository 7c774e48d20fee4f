//! Which files stay on this machine: those whose own name, or that of a folder above them in the mount, is of a kind that
//! never goes to the server.

use std::ffi::OsStr;

use crate::globs::Glob;
use crate::names::NamePolicy;
use crate::staging::Place;
use crate::uri::FileUri;

/// The kinds of names. By default there is none, and everything that is owed goes.
#[derive(Debug, Clone, Default)]
pub struct LocalOnly {
    /// Matched against names as programs here see them.
    pub globs: Vec<Glob>,
    /// What is mounted: the names above it do not count. None where all do.
    pub root: Option<FileUri>,
    /// How names are exchanged.
    pub names: NamePolicy,
}

impl LocalOnly {
    /// Whether what lies at `place` stays here.
    pub fn has(&self, place: &Place) -> bool {
        if self.globs.is_empty() {
            return false;
        }
        let folders = place.folder_uri.names();
        let above = match &self.root {
            Some(root)
                if root.file_system() == place.folder_uri.file_system()
                    && folders.starts_with(root.names()) =>
            {
                root.names().len()
            }
            _ => 0,
        };
        // Of a folder whose name is stored in part nobody may know here what else it is called.
        let mut folders = folders.iter().skip(above);
        folders.any(|name| self.is_one(&name.to_local(self.names)))
            || self.is_one(&place.local_name(self.names))
    }

    /// Names of these patterns, wherever they are.
    #[cfg(test)]
    pub(crate) fn of(globs: &[&str]) -> Self {
        let globs = globs.iter().map(|glob| Glob::parse(glob).unwrap());
        Self {
            globs: globs.collect(),
            ..Self::default()
        }
    }

    fn is_one(&self, local: &OsStr) -> bool {
        let local = local.as_encoded_bytes();
        self.globs.iter().any(|glob| glob.matches(local))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::{FileKey, Tree};
    use crate::model::FileId;

    fn is_one(globs: &[&str], root: &str, uri: &str) -> bool {
        let uri = FileUri::parse(uri).unwrap();
        let place = Place {
            folder: FileKey {
                tree: Tree::MAIN,
                id: FileId("f".into()),
            },
            folder_uri: uri.parent().unwrap(),
            name: uri.name().unwrap().clone(),
            full: None,
        };
        let globs = globs.iter().map(|glob| Glob::parse(glob).unwrap());
        let kinds = LocalOnly {
            globs: globs.collect(),
            root: Some(FileUri::parse(root).unwrap()),
            names: NamePolicy::Encode,
        };
        kinds.has(&place)
    }

    #[test]
    fn the_name_of_a_file_or_of_a_folder_above_it_counts() {
        let globs = ["*.tmp", ".Trash-*"];
        let is_one = |uri| is_one(&globs, "cloudreve://my/", uri);
        assert!(is_one("cloudreve://my/a.tmp"));
        assert!(is_one("cloudreve://my/b/a.tmp"));
        assert!(is_one("cloudreve://my/.Trash-1000/files/photo.jpg"));
        assert!(!is_one("cloudreve://my/b/a.tmp.txt"));
        assert!(!is_one("cloudreve://my/b/tmp"));
    }

    #[test]
    fn names_above_the_mount_do_not_count() {
        let globs = ["x*"];
        assert!(!is_one(&globs, "cloudreve://my/x1", "cloudreve://my/x1/a"));
        assert!(is_one(
            &globs,
            "cloudreve://my/x1",
            "cloudreve://my/x1/x2/a"
        ));
        // Behind a shortcut.
        assert!(is_one(
            &globs,
            "cloudreve://my/x1",
            "cloudreve://AbCd@share/x/a"
        ));
    }

    #[test]
    fn patterns_are_of_names_as_they_are_seen_here() {
        let stored = "cloudreve://my/a%EF%BC%9Ab.tmp";
        assert!(is_one(&["a:b.*"], "cloudreve://my/", stored));
        assert!(!is_one(&[], "cloudreve://my/", stored));
    }
}
