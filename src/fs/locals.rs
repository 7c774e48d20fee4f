//! Files whose content is here, by the names and inodes under which programs know them.
//!
//! Joins `staging`, which knows files by number, with the table of inodes and the folders: over what the server's listings
//! say, these files show with the size and time they have here.
//!
//! What shows under a name is held here. What has none any more (delivered, or unlinked) is held by whoever has it open,
//! and found by its key for as long as that. Never asks anybody, and changes no file.

use std::collections::{BTreeMap, HashMap};
use std::ffi::{OsStr, OsString};
use std::sync::{Arc, Mutex, Weak};

use crate::attributes::whole_milliseconds;
use crate::entry::{Entry, FileKey};
use crate::model::{EntityId, FileId, FileKind};
use crate::names::ServerName;
use crate::staging::{Local, LocalId};

/// Keys without a name that are kept before those are looked for of which nobody has the file open.
const LOOSE_MIN: usize = 64;

/// The local files of a mount.
#[derive(Default)]
pub(super) struct Locals {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    folders: HashMap<FileKey, BTreeMap<OsString, FileKey>>,
    keyed: HashMap<FileKey, Kept>,
    numbers: HashMap<LocalId, FileKey>,
    /// What folders that were made here are known as since the server has them.
    became: HashMap<FileKey, FileKey>,
    /// Keys without a name at which they are swept next.
    sweep_at: usize,
}

/// One local file.
#[derive(Clone)]
struct Kept {
    local: Held,
    id: LocalId,
    /// The folder and the name under which it shows.
    at: Option<(FileKey, OsString)>,
}

/// Who keeps it from being dropped.
#[derive(Clone)]
enum Held {
    /// Its name.
    Here(Arc<Local>),
    /// Those who have it open.
    Elsewhere(Weak<Local>),
}

/// One of them, as the table of inodes knows it.
#[derive(Debug, Clone)]
pub(super) struct Shown {
    /// Under what `inodes` knows it: the server's id, or `local:N` of a file that the server has not heard of, or that is
    /// to replace another one's content.
    pub(super) key: FileKey,
    /// The content.
    pub(super) local: Arc<Local>,
}

impl Locals {
    /// Shows `local` as `key` under `name` in `folder`; it replaces what was shown there, and is shown nowhere else.
    pub(super) fn show(&self, folder: &FileKey, name: &OsStr, shown: Shown) {
        let mut state = self.state.lock().unwrap();
        state.take_name(&shown.key);
        let folder = state.now(folder).clone();
        let names = state.folders.entry(folder.clone()).or_default();
        if let Some(before) = names.insert(name.to_owned(), shown.key.clone())
            && before != shown.key
            && let Some(before) = state.keyed.get_mut(&before)
        {
            before.at = None;
            before.let_go();
        }
        let id = shown.local.id();
        state.numbers.insert(id, shown.key.clone());
        let kept = Kept {
            id,
            local: Held::Here(shown.local),
            at: Some((folder, name.to_owned())),
        };
        state.put(shown.key, kept);
    }

    /// Finds `local` as `key` while somebody has it open or it is owed; it takes no name.
    pub(super) fn keep(&self, key: FileKey, local: &Arc<Local>) {
        let mut state = self.state.lock().unwrap();
        let id = local.id();
        let kept = Kept {
            id,
            local: Held::Elsewhere(Arc::downgrade(local)),
            at: None,
        };
        state.numbers.insert(id, key.clone());
        state.put(key, kept);
    }

    /// What shows under `name` in `folder`.
    pub(super) fn named(&self, folder: &FileKey, name: &OsStr) -> Option<Shown> {
        let state = self.state.lock().unwrap();
        let key = state.folders.get(state.now(folder))?.get(name)?;
        state.shown(key)
    }

    /// All that show in `folder`, in the order of their names.
    pub(super) fn in_folder(&self, folder: &FileKey) -> Vec<(OsString, Shown)> {
        let state = self.state.lock().unwrap();
        let names = state.folders.get(state.now(folder)).into_iter().flatten();
        names
            .filter_map(|(name, key)| Some((name.clone(), state.shown(key)?)))
            .collect()
    }

    /// Whether any shows in `folder`.
    pub(super) fn any_in(&self, folder: &FileKey) -> bool {
        let state = self.state.lock().unwrap();
        state.folders.contains_key(state.now(folder))
    }

    /// The folder `made` is known as `there` from now on, with all that shows in it.
    pub(super) fn refolder(&self, made: &FileKey, there: &FileKey) {
        let mut state = self.state.lock().unwrap();
        state.became.insert(made.clone(), there.clone());
        let Some(names) = state.folders.remove(made) else {
            return;
        };
        for (name, key) in &names {
            if let Some(kept) = state.keyed.get_mut(key) {
                kept.at = Some((there.clone(), name.clone()));
            }
        }
        state
            .folders
            .entry(there.clone())
            .or_default()
            .extend(names);
    }

    /// All that show anywhere.
    pub(super) fn all(&self) -> Vec<Shown> {
        let state = self.state.lock().unwrap();
        let named = state.keyed.iter().filter(|(_, kept)| kept.at.is_some());
        named.filter_map(|(key, _)| state.shown(key)).collect()
    }

    /// The one that `inodes` knows as `key`; also while it is unlinked and open.
    pub(super) fn keyed(&self, key: &FileKey) -> Option<Shown> {
        self.state.lock().unwrap().shown(key)
    }

    /// Whether what is known as `key` shows under a name.
    pub(super) fn shows(&self, key: &FileKey) -> bool {
        let state = self.state.lock().unwrap();
        state.keyed.get(key).is_some_and(|kept| kept.at.is_some())
    }

    /// The one with this number, and where it shows.
    pub(super) fn numbered(&self, id: LocalId) -> Option<(Shown, Option<(FileKey, OsString)>)> {
        let state = self.state.lock().unwrap();
        let key = state.numbers.get(&id)?;
        let kept = state.keyed.get(key).filter(|kept| kept.id == id)?;
        Some((state.shown(key)?, kept.at.clone()))
    }

    /// It is found as `new`, too, until [`Locals::rekey`].
    pub(super) fn alias(&self, key: &FileKey, new: &FileKey) {
        let mut state = self.state.lock().unwrap();
        if key != new
            && let Some(kept) = state.keyed.get(key).cloned()
        {
            state.keyed.insert(new.clone(), kept);
        }
    }

    /// It is known as `new` from now on, wherever it shows. What was known so before is found no more.
    pub(super) fn rekey(&self, key: &FileKey, new: &FileKey) {
        let mut state = self.state.lock().unwrap();
        if key == new {
            return;
        }
        let Some(kept) = state.keyed.remove(key) else {
            return;
        };
        if let Some((folder, name)) = &kept.at
            && let Some(names) = state.folders.get_mut(folder)
        {
            names.insert(name.clone(), new.clone());
        }
        state.numbers.insert(kept.id, new.clone());
        state.put(new.clone(), kept);
    }

    /// It shows nowhere any more, and is found by its key while somebody has it open.
    pub(super) fn hide(&self, key: &FileKey) {
        self.hide_if(key, |_| true);
    }

    /// As [`Locals::hide`], if it is one that `may_hide`, which is asked in the same step. Whether it is hidden.
    pub(super) fn hide_if(&self, key: &FileKey, may_hide: impl FnOnce(&Local) -> bool) -> bool {
        let mut state = self.state.lock().unwrap();
        let local = state.keyed.get(key).and_then(Kept::local);
        if local.is_some_and(|local| !may_hide(&local)) {
            return false;
        }
        state.take_name(key);
        if let Some(kept) = state.keyed.get_mut(key) {
            kept.let_go();
        }
        state.sweep();
        true
    }

    /// What stat(2) and readdir(3) show of it.
    pub(super) fn entry(shown: &Shown, name: &OsStr) -> Arc<Entry> {
        let local = &shown.local;
        let stored = local.place().name;
        let mtime = whole_milliseconds(local.mtime());
        Arc::new(Entry {
            id: shown.key.id.clone(),
            kind: FileKind::File,
            segment: differing(name, stored),
            name: name.into(),
            size_bytes: local.size_bytes(),
            created: mtime,
            updated: mtime,
            entity: content_of(local),
            owned: true,
            shared: false,
            unfinished: false,
            thumbless: true,
            shortcut: None,
            attributes: local.attributes(),
        })
    }
}

/// As `Entry::segment` wants it.
pub(super) fn differing(name: &OsStr, stored: ServerName) -> Option<ServerName> {
    use std::os::unix::ffi::OsStrExt;
    (name.as_bytes() != stored.as_bytes()).then_some(stored)
}

/// The name of its content in the words of entities: of no version that the server has, nor of the same file later.
fn content_of(local: &Local) -> EntityId {
    EntityId(format!("local:{}:{}", local.id().0, local.generation()).into())
}

/// Whether `entity` is content that is here and not on the server, as [`Locals::entry`] names it.
pub(super) fn is_here(entity: &EntityId) -> bool {
    entity.0.starts_with("local:")
}

/// The id of a file that the server has not heard of.
pub(super) fn local_id(local: &Local) -> FileId {
    FileId(format!("local:{}", local.id().0).into())
}

/// Whether `entity` is the content of `local`, as it shows at one time or another, or the version that it is written over.
pub(super) fn is_of(entity: &EntityId, local: &Local) -> bool {
    let own = format!("local:{}:", local.id().0);
    entity.0.starts_with(&own) || local.base().is_some_and(|base| base.entity.id == *entity)
}

/// The id of a file that lost its name while somebody had it open. `number` tells two of one file apart.
pub(super) fn gone_id(id: &FileId, number: u64) -> FileId {
    FileId(format!("gone:{number}:{}", server_id(id)).into())
}

/// Whether this is the id of what lost its name while somebody had it open.
pub(super) fn is_gone(id: &FileId) -> bool {
    id.0.starts_with("gone:")
}

/// Whether this is the id of what lost its name while the kernel held it, where no content is here under that id: a file
/// of ours has none any more once nobody has it open, as nobody ever has a pipe.
pub(super) fn is_nameless(id: &FileId) -> bool {
    is_gone(id) || id.0.starts_with("local:")
}

/// The id that the server has, or had, for what is known as `id`.
pub(super) fn server_id(id: &FileId) -> FileId {
    let gone = id.0.strip_prefix("gone:");
    match gone.and_then(|rest| rest.split_once(':')) {
        Some((_, id)) => FileId(id.into()),
        None => id.clone(),
    }
}

impl Kept {
    fn let_go(&mut self) {
        if let Held::Here(local) = &self.local {
            self.local = Held::Elsewhere(Arc::downgrade(local));
        }
    }

    fn local(&self) -> Option<Arc<Local>> {
        match &self.local {
            Held::Here(local) => Some(Arc::clone(local)),
            Held::Elsewhere(local) => local.upgrade(),
        }
    }
}

impl State {
    fn now<'a>(&'a self, folder: &'a FileKey) -> &'a FileKey {
        self.became.get(folder).unwrap_or(folder)
    }

    fn shown(&self, key: &FileKey) -> Option<Shown> {
        Some(Shown {
            key: key.clone(),
            local: self.keyed.get(key)?.local()?,
        })
    }

    /// Keeps `kept` as `key`. Another file that was known so is found by its number no more.
    fn put(&mut self, key: FileKey, kept: Kept) {
        let id = kept.id;
        if let Some(before) = self.keyed.insert(key.clone(), kept)
            && before.id != id
            && self.numbers.get(&before.id) == Some(&key)
        {
            self.numbers.remove(&before.id);
        }
    }

    fn take_name(&mut self, key: &FileKey) {
        let Some((folder, name)) = self.keyed.get_mut(key).and_then(|kept| kept.at.take()) else {
            return;
        };
        if let Some(names) = self.folders.get_mut(&folder) {
            names.remove(&name);
            if names.is_empty() {
                self.folders.remove(&folder);
            }
        }
    }

    /// Drops what nobody has open, once so many came since the last time that it costs each of them little.
    fn sweep(&mut self) {
        if self.keyed.len() < self.sweep_at.max(LOOSE_MIN) {
            return;
        }
        let numbers = &mut self.numbers;
        self.keyed.retain(|_, kept| {
            let stays = kept.at.is_some() || kept.local().is_some();
            if !stays {
                numbers.remove(&kept.id);
            }
            stays
        });
        self.sweep_at = self.keyed.len() * 2;
    }
}
