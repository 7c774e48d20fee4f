//! What is to happen on the server before anything new may get there.
//!
//! What was deleted here and not yet there has its name there still: a new file of that name waits until it is gone. So does
//! one whose name is left by what was renamed here, what lies in a folder that was made here, and the content of a file that
//! was renamed here, until the server has heard of that; and one whose name a file may have that was stopped on its way, until
//! that has come home. Remembers, and asks nobody.

use std::collections::{HashMap, HashSet};
use std::hash::Hash;
use std::sync::Mutex;

use crate::entry::FileKey;
use crate::model::FileId;
use crate::names::ServerName;
use crate::uri::FileUri;

use super::{Base, Place};

/// What the id of a folder begins with that was made here.
const MADE: &str = "local:folder:";

/// The id of a folder that was made here, until the server has given it one.
pub fn made_id(number: u64) -> FileId {
    FileId(format!("{MADE}{number:016x}").into())
}

/// Whether this is the id of a folder that was made here.
pub fn is_made(id: &FileId) -> bool {
    id.0.starts_with(MADE)
}

/// A name in a folder.
type Name = (FileKey, ServerName);

/// The places of one mount.
#[derive(Debug, Default)]
pub struct Clearing(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    places: HashSet<FileUri>,
    folders: HashSet<FileId>,
    /// What is to get another name.
    moves: Leaving,
    /// What is to be deleted.
    removals: Leaving,
    /// By how many ways that were stopped each may be taken.
    passed: HashMap<FileUri, usize>,
}

/// Files that are to leave their names.
#[derive(Debug, Default)]
struct Leaving {
    /// Where the server may have each.
    files: HashMap<FileId, HashSet<Name>>,
    /// By how many files each is to be left.
    names: HashMap<Name, usize>,
}

impl Leaving {
    fn add(&mut self, file: FileId, place: &Place) {
        let name = (place.folder.clone(), place.name.clone());
        if self.files.entry(file).or_default().insert(name.clone()) {
            *self.names.entry(name).or_default() += 1;
        }
    }

    fn done(&mut self, file: &FileId) {
        for name in self.files.remove(file).unwrap_or_default() {
            one_less(&mut self.names, &name);
        }
    }
}

impl Clearing {
    /// What is at `place` is to go first.
    pub fn add(&self, place: FileUri) {
        self.0.lock().unwrap().places.insert(place);
    }

    /// It is gone, or stays for good.
    pub fn done(&self, place: &FileUri) {
        self.0.lock().unwrap().places.remove(place);
    }

    /// Whether a new file has to wait before it gets to `place`.
    pub fn has(&self, place: &FileUri) -> bool {
        self.0.lock().unwrap().places.contains(place)
    }

    /// The folder `id`, which was made here, is to be made there first.
    pub fn add_folder(&self, id: FileId) {
        self.0.lock().unwrap().folders.insert(id);
    }

    /// It is there, or nobody wants it any more.
    pub fn folder_done(&self, id: &FileId) {
        self.0.lock().unwrap().folders.remove(id);
    }

    /// The file `id` is to leave `place` first, where the server has it, or may have it.
    pub fn add_move(&self, id: FileId, place: &Place) {
        self.0.lock().unwrap().moves.add(id, place);
    }

    /// It has left all of them, or stays.
    pub fn move_done(&self, id: &FileId) {
        self.0.lock().unwrap().moves.done(id);
    }

    /// The file `id` is to be deleted first at `place`, where the server has it, or may have it, wherever its folder is.
    pub fn add_removal(&self, id: FileId, place: &Place) {
        self.0.lock().unwrap().removals.add(id, place);
    }

    /// It is deleted, or stays.
    pub fn removal_done(&self, id: &FileId) {
        self.0.lock().unwrap().removals.done(id);
    }

    /// A file that was stopped on its way may be at one of `places`.
    pub fn add_way(&self, places: impl IntoIterator<Item = FileUri>) {
        let mut state = self.0.lock().unwrap();
        for place in places {
            *state.passed.entry(place).or_default() += 1;
        }
    }

    /// It is where it belongs.
    pub fn way_done(&self, places: impl IntoIterator<Item = FileUri>) {
        let mut state = self.0.lock().unwrap();
        for place in places {
            one_less(&mut state.passed, &place);
        }
    }

    /// Why content that belongs in `place`, over `base`, cannot go to the server yet; none where it can.
    pub fn waits(&self, place: &Place, base: Option<&Base>) -> Option<&'static str> {
        let state = self.0.lock().unwrap();
        if state.folders.contains(&place.folder.id) {
            return Some("its folder is to be made first");
        }
        match base {
            Some(base) if state.moves.files.contains_key(&base.file) => {
                Some("it is to get its new name first")
            }
            Some(_) => None,
            None => {
                let name = (place.folder.clone(), place.name.clone());
                if state.passed.contains_key(&place.uri()) {
                    return Some("a rename that was interrupted is to be finished first");
                }
                if state.removals.names.contains_key(&name) {
                    return Some("what was deleted under its name is to go from the server first");
                }
                let is_left = state.moves.names.contains_key(&name);
                is_left.then_some("what had its name is to get its new one first")
            }
        }
    }
}

/// `counts` has one `of` these less.
fn one_less<K: Eq + Hash>(counts: &mut HashMap<K, usize>, of: &K) {
    if let Some(count) = counts.get_mut(of) {
        *count -= 1;
        if *count == 0 {
            counts.remove(of);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entity::Entity;
    use crate::entry::Tree;
    use crate::model::EntityId;

    fn place(folder: &FileId, name: &str) -> Place {
        Place {
            folder: FileKey {
                tree: Tree::MAIN,
                id: folder.clone(),
            },
            folder_uri: FileUri::my(),
            name: ServerName::from_wire(name.as_bytes()),
            full: None,
        }
    }

    #[test]
    fn content_waits_for_its_folder_for_its_files_name_and_for_who_leaves_its_own() {
        let clearing = Clearing::default();
        let (made, there, file) = (made_id(7), FileId("d".into()), FileId("f".into()));
        let base = Base {
            file: file.clone(),
            entity: Entity {
                id: EntityId("e".into()),
                size_bytes: 0,
            },
            visible_bytes: 0,
        };
        assert!(is_made(&made) && !is_made(&there));
        let (inner, old) = (place(&made, "a"), place(&there, "old"));
        clearing.add_folder(made.clone());
        assert!(clearing.waits(&inner, None).is_some());
        clearing.folder_done(&made);
        assert!(clearing.waits(&inner, None).is_none());
        clearing.add_move(file.clone(), &old);
        assert!(clearing.waits(&old, None).is_some());
        assert!(clearing.waits(&place(&there, "new"), Some(&base)).is_some());
        assert!(clearing.waits(&place(&there, "new"), None).is_none());
        clearing.move_done(&file);
        assert!(clearing.waits(&old, Some(&base)).is_none());
        assert!(clearing.waits(&old, None).is_none());
    }

    #[test]
    fn a_new_file_waits_for_all_that_may_be_at_its_name() {
        let clearing = Clearing::default();
        let folder = FileId("d".into());
        let (here, beside) = (place(&folder, "here"), place(&folder, "beside"));
        let (one, other) = (FileId("f".into()), FileId("g".into()));
        for place in [&here, &here, &beside] {
            clearing.add_move(one.clone(), place);
        }
        clearing.add_move(other.clone(), &here);
        clearing.move_done(&one);
        assert!(clearing.waits(&here, None).is_some());
        assert!(clearing.waits(&beside, None).is_none());
        clearing.move_done(&other);
        assert!(clearing.waits(&here, None).is_none());
        clearing.add_removal(one.clone(), &here);
        assert!(clearing.waits(&here, None).is_some());
        clearing.removal_done(&one);
        assert!(clearing.waits(&here, None).is_none());
    }

    #[test]
    fn a_new_file_waits_for_all_that_may_pass_by_its_name() {
        let clearing = Clearing::default();
        let here = place(&FileId("d".into()), "here");
        for _ in 0..2 {
            clearing.add_way([here.uri()]);
        }
        assert!(clearing.waits(&here, None).is_some());
        clearing.way_done([here.uri()]);
        assert!(clearing.waits(&here, None).is_some());
        clearing.way_done([here.uri()]);
        assert!(clearing.waits(&here, None).is_none());
    }
}
