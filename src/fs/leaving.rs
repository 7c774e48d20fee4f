//! Names that are on their way out: removed here, and not yet by the server.
//!
//! A run of removals in one folder (`rm -r`) goes to the server in batches; until the server has confirmed one, what was
//! removed must not show again, whatever a listing says. Remembers, and asks nobody.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::sync::Mutex;

use crate::entry::FileKey;
use crate::model::FileId;

/// The names that show no more, by folder.
#[derive(Debug, Default)]
pub(super) struct Leaving {
    folders: Mutex<HashMap<FileKey, HashMap<Box<OsStr>, FileId>>>,
}

impl Leaving {
    /// `name` in `folder`, which stands for `id`, shows no more.
    pub(super) fn add(&self, folder: &FileKey, name: &OsStr, id: FileId) {
        let mut folders = self.folders.lock().unwrap();
        let names = folders.entry(folder.clone()).or_default();
        names.insert(name.into(), id);
    }

    /// `name` in `folder` may show again, where it stands for `id`.
    pub(super) fn take_of(&self, folder: &FileKey, name: &OsStr, id: &FileId) {
        let mut folders = self.folders.lock().unwrap();
        if let Some(names) = folders.get_mut(folder) {
            if names.get(name) == Some(id) {
                names.remove(name);
            }
            if names.is_empty() {
                folders.remove(folder);
            }
        }
    }

    /// Whether `name` in `folder` shows no more.
    pub(super) fn has(&self, folder: &FileKey, name: &OsStr) -> bool {
        let folders = self.folders.lock().unwrap();
        folders
            .get(folder)
            .is_some_and(|names| names.contains_key(name))
    }

    /// Whether anything of `folder` is on its way out.
    pub(super) fn any_in(&self, folder: &FileKey) -> bool {
        self.folders.lock().unwrap().contains_key(folder)
    }
}
