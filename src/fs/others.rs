//! What others changed on the server, as it is told: it is asked for again at its next use.
//!
//! An event is a hint, so nothing of it is believed, only what was believed before is not any more: of the file's id, where
//! that is known, for the path in an event may be one that nobody ever saw; and of the names that it tells. A file that is
//! dirty here is not touched: its delivery meets what is new there. Asks the server for nothing.

use std::ffi::OsString;
use std::time::Instant;

use crate::api::Change;
use crate::entry::{FileKey, Tree};
use crate::inodes::Ino;
use crate::model::FileKind;
use crate::uri::FileUri;
use crate::watch::Happening;

use super::Fs;
use super::namespace::Namespace;
use super::root::root_key;

/// What the kernel is to ask for again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outdated {
    /// A name in a folder.
    Name(Ino, OsString),
    /// A file's attributes and pages.
    Inode(Ino),
}

impl Fs {
    /// Believes nothing any more that this may have changed. Gives what the kernel is not to believe any more either; after
    /// a gap that is nothing, since it believes nothing for long.
    pub fn others_changed(&self, happening: &Happening) -> Vec<Outdated> {
        let outdated = self.namespace.others_changed(happening);
        self.news.notify_one();
        outdated
    }
}

impl Namespace {
    pub(super) fn others_changed(&self, happening: &Happening) -> Vec<Outdated> {
        let now = Instant::now();
        let mut outdated = Vec::new();
        match happening {
            Happening::Gap(gap) => {
                log::debug!("events: all is looked at again ({gap:?})");
                self.metadata.others_changed_anything(now);
            }
            Happening::Changes(changes) => {
                let mut doubt = |change| self.doubt(change, now, &mut outdated);
                changes.iter().for_each(&mut doubt);
            }
        }
        outdated
    }

    fn doubt(&self, change: &Change, now: Instant, outdated: &mut Vec<Outdated>) {
        let key = FileKey {
            tree: Tree::MAIN,
            id: change.id.clone(),
        };
        let ino = self.inodes.find(&key);
        if let Some(node) = ino.and_then(|ino| self.inodes.node(ino))
            && let Ok(folder) = self.folder_key(node.parent)
        {
            self.metadata.others_changed(&folder, &node.entry.name, now);
            let name = node.entry.name.to_os_string();
            outdated.push(Outdated::Name(node.parent, name));
        }
        outdated.extend(ino.map(Outdated::Inode));
        for uri in std::iter::once(&change.from).chain(&change.to) {
            if let Some((folder, name)) = self.place_of(uri) {
                self.metadata.others_changed(&folder, &name, now);
                let ino = self.folder_of(&folder);
                outdated.extend(ino.map(|ino| Outdated::Name(ino, name)));
            }
        }
    }

    /// The folder that was known there last, and the name in it; none where nobody has met that folder.
    pub(super) fn place_of(&self, uri: &FileUri) -> Option<(FileKey, OsString)> {
        let renamed = uri
            .parent()
            .and_then(|above| self.unheard.renamed_above(&above));
        let (mut folder, start) =
            renamed.unwrap_or_else(|| (root_key(), self.options.root.clone()));
        let names = uri.names().get(start.names().len()..)?;
        let (last, above) = names.split_last()?;
        for name in above {
            let name = name.to_local(self.options.names);
            // The server may have given it that name by now.
            let renamed = self.unheard.named(&folder, &name);
            let entry = renamed.or_else(|| self.metadata.last_name(&folder, &name))?;
            if entry.kind != FileKind::Folder {
                return None;
            }
            folder = FileKey {
                tree: Tree::MAIN,
                id: entry.id.clone(),
            };
        }
        Some((folder, last.to_local(self.options.names)))
    }
}
