//! How files are shown: under which name, which of them, in which order.
//!
//! A name that the server has and that is the one this house would store for what it is called here, is shown as it
//! is. Other names (there are few: bytes that are no UTF-8, quotes with nothing to quote, what a hostile server sends)
//! could clash with those, so they carry the id of their file, always, and mean the same file whatever else is there. In
//! the trash many files may have had one name: there the one with the lowest id has it, and the others carry their ids.
//! Where a folder has a name both in whole and in part, the file that has it in whole is the one that is called so.

use std::cmp::Ordering;
use std::collections::{HashMap, HashSet};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::sync::{Arc, Mutex, OnceLock};

use crate::attributes::Attributes;
use crate::entry::{Entry, Shortcut};
use crate::model::{EntityId, FileId, FileInfo, FileKind};
use crate::names::{NAME_MAX_BYTES, NamePolicy, ServerName};
use crate::uri::{FileSystem, FileUri};

/// How files are shown.
#[derive(Debug, Clone)]
pub struct Options {
    /// How names are exchanged for those the server takes.
    pub names: NamePolicy,
    /// The order in which entries come.
    pub order: Order,
    /// Other clients' unfinished uploads are not shown.
    pub hide_uploading: bool,
    /// What this mount sends: the server learns the rest of a name with the last of its content.
    pub sent: Sent,
    /// What is to be removed since before this mount.
    pub hidden: Hidden,
}

/// Files that show nowhere, wherever the server has them.
#[derive(Clone, Default)]
pub struct Hidden {
    files: Arc<Mutex<HashSet<FileId>>>,
    others: Arc<OnceLock<IsHidden>>,
}

type IsHidden = Box<dyn Fn(&FileInfo) -> bool + Send + Sync>;

impl std::fmt::Debug for Hidden {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        to.debug_tuple("Hidden").field(&self.files).finish()
    }
}

impl Hidden {
    /// These, and no others but those that are [`Hidden::also`].
    pub fn set(&self, files: HashSet<FileId>) {
        *self.files.lock().unwrap() = files;
    }

    /// Those, too, of which `is_hidden` says it when they are met. Once only.
    pub fn also(&self, is_hidden: impl Fn(&FileInfo) -> bool + Send + Sync + 'static) {
        let is_first = self.others.set(Box::new(is_hidden)).is_ok();
        debug_assert!(is_first);
    }

    /// Whether `info` is one of them.
    pub fn has(&self, info: &FileInfo) -> bool {
        let is_other = || self.others.get().is_some_and(|is_hidden| is_hidden(info));
        self.has_file(&info.id) || is_other()
    }

    /// Whether `file` is one of those that were [`Hidden::set`].
    pub fn has_file(&self, file: &FileId) -> bool {
        self.files.lock().unwrap().contains(file)
    }
}

/// Names in whole of which the server is sent a part. It stands for no other name, so none is ever wrong.
#[derive(Debug, Clone, Default)]
pub struct Sent(Arc<Mutex<HashMap<ServerName, Arc<str>>>>);

/// Names that are kept before all are forgotten: of those that are under way then, some show with their ids for a moment.
const SENT_MAX: usize = 20_000;

impl Sent {
    /// `stored` is a part of `full`.
    pub fn note(&self, stored: &ServerName, full: &Arc<str>) {
        let mut known = self.0.lock().unwrap();
        if known.len() >= SENT_MAX {
            known.clear();
        }
        known.insert(stored.clone(), Arc::clone(full));
    }

    fn get(&self, stored: &ServerName) -> Option<Arc<str>> {
        self.0.lock().unwrap().get(stored).cloned()
    }
}

/// The order in which a folder's entries come; folders always come first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Order {
    /// By what.
    pub by: OrderBy,
    /// The other way round.
    pub descending: bool,
}

/// By what a folder's entries are ordered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[expect(missing_docs, reason = "each says itself")]
pub enum OrderBy {
    #[default]
    Name,
    Size,
    UpdatedAt,
    CreatedAt,
}

impl Order {
    /// Whether the server's own order, in which pages arrive, is the one.
    pub(super) fn is_the_servers(self) -> bool {
        self == Self::default()
    }

    /// Puts entries in this order.
    pub(super) fn sort(self, entries: &mut [Arc<Entry>]) {
        entries.sort_by(|a, b| folders_first(a, b).then_with(|| self.compare(a, b)));
    }

    fn compare(self, a: &Entry, b: &Entry) -> Ordering {
        let by_name = || a.name.cmp(&b.name);
        let order = match self.by {
            OrderBy::Name => by_name(),
            OrderBy::Size => a.size_bytes.cmp(&b.size_bytes).then_with(by_name),
            OrderBy::UpdatedAt => a.updated.cmp(&b.updated).then_with(by_name),
            OrderBy::CreatedAt => a.created.cmp(&b.created).then_with(by_name),
        };
        if self.descending {
            order.reverse()
        } else {
            order
        }
    }
}

fn folders_first(a: &Entry, b: &Entry) -> Ordering {
    (a.kind == FileKind::File).cmp(&(b.kind == FileKind::File))
}

impl Options {
    /// What `info` is shown as; `empty` is the entity of whatever has no content. None where it is hidden.
    pub fn entry(&self, info: FileInfo, empty: Option<&EntityId>) -> Option<Entry> {
        let is_hidden = self.hidden.has(&info);
        let entry = self.known(info, empty);
        let is_hidden = is_hidden || entry.unfinished && self.hide_uploading;
        (!is_hidden).then_some(entry)
    }

    /// The same of what is known for a file that shows.
    pub fn known(&self, info: FileInfo, empty: Option<&EntityId>) -> Entry {
        // The mark alone proves nothing: copies and restarts leave it behind (→ api part 1 §6.1).
        let unfinished = info.kind == FileKind::File
            && info.size_bytes == 0
            && info.upload_session().is_some()
            && empty == Some(&info.entity);
        let attributes = Attributes::of(&info).map(Arc::new);
        let shortcut = info.shortcut().map(|target| Box::new(shortcut(target)));
        let segment = info.uri.name().unwrap_or(&info.name);
        let full_of = |name| attributes.as_ref()?.full_of(name).map(|full| &**full);
        let name: Box<OsStr> = match is_flat(&info.uri) {
            true => match info.name.local_of(full_of(&info.name), self.names) {
                Some(own) => own.into(),
                None => info.name.to_local(self.names).into(),
            },
            false => {
                let is_on_its_way = info.upload_session().is_some();
                let sent = is_on_its_way.then(|| self.sent.get(segment)).flatten();
                let full = full_of(segment).or(sent.as_deref());
                name_of(segment, full, &info.id, self.names).into()
            }
        };
        let same = name.as_bytes() == segment.as_bytes();
        Entry {
            segment: (!same).then(|| segment.clone()),
            thumbless: info.is_thumbless(),
            id: info.id,
            kind: info.kind,
            name,
            size_bytes: info.size_bytes,
            created: info.created,
            updated: info.updated,
            entity: info.entity,
            owned: info.owned,
            shared: info.shared,
            unfinished,
            shortcut,
            attributes,
        }
    }
}

/// What the file `id` is called here, whose name on the server is `server`, and `full` in whole if that is told.
pub fn name_of(
    server: &ServerName,
    full: Option<&str>,
    id: &FileId,
    names: NamePolicy,
) -> OsString {
    match server.local_of(full, names) {
        Some(local) => local,
        None => with_id(&server.to_local(names), id),
    }
}

/// Whether what lies there has names of its own making, and is not asked for by the name it shows.
pub fn is_flat(uri: &FileUri) -> bool {
    matches!(
        uri.file_system(),
        FileSystem::Trash | FileSystem::SharedWithMe
    )
}

/// Gives all but one of the entries that share a name their ids.
pub(super) fn tell_apart(entries: &mut [Entry]) {
    let mut first: HashMap<Box<OsStr>, FileId> = HashMap::new();
    for entry in entries.iter() {
        let first = first
            .entry(entry.name.clone())
            .or_insert_with(|| entry.id.clone());
        if entry.id < *first {
            *first = entry.id.clone();
        }
    }
    for entry in entries {
        if first.get(&entry.name) != Some(&entry.id) {
            let segment = entry.segment();
            entry.name = with_id(&entry.name, &entry.id).into();
            entry.segment = Some(segment);
        }
    }
}

/// Gives those their ids whose name is stored in part, and has another file in whole.
pub(super) fn yield_names(entries: &mut [Arc<Entry>]) {
    let is_in_part = |entry: &Entry| {
        let full = entry.full();
        full.is_some_and(|full| full.len() <= NAME_MAX_BYTES) && entry.segment.is_some()
    };
    let in_part: HashSet<Box<OsStr>> = entries
        .iter()
        .filter(|entry| is_in_part(entry))
        .map(|entry| entry.name.clone())
        .collect();
    if in_part.is_empty() {
        return;
    }
    let taken: HashSet<Box<OsStr>> = entries
        .iter()
        .filter(|entry| in_part.contains(&entry.name) && !is_in_part(entry))
        .map(|entry| entry.name.clone())
        .collect();
    for entry in entries {
        if taken.contains(&entry.name) && is_in_part(entry) {
            let mut apart = (**entry).clone();
            apart.name = with_id(&entry.name, &entry.id).into();
            *entry = Arc::new(apart);
        }
    }
}

/// Whether a name may be one that carries an id, which the server does not know it by.
pub fn carries_id(name: &OsStr) -> bool {
    let name = name.as_bytes();
    name.ends_with(b")") && name.windows(2).any(|pair| pair == b" (")
}

fn with_id(name: &OsStr, id: &FileId) -> OsString {
    // An id is a few letters; a hostile one is not allowed more of a name than that, nor what no name may hold.
    let id: String =
        id.0.chars()
            .filter(char::is_ascii_alphanumeric)
            .take(64)
            .collect();
    let suffix = format!(" ({id})");
    let mut bytes = name.as_bytes().to_vec();
    let mut end = bytes.len().min(NAME_MAX_BYTES - suffix.len());
    // A letter of several bytes is not cut in two.
    while end < bytes.len() && end > 0 && bytes[end] & 0xc0 == 0x80 {
        end -= 1;
    }
    bytes.truncate(end);
    bytes.extend_from_slice(suffix.as_bytes());
    OsString::from_vec(bytes)
}

fn shortcut(target: &str) -> Shortcut {
    match FileUri::parse_wire(target) {
        Ok(uri) if matches!(uri.file_system(), FileSystem::Share { .. }) => Shortcut::To(uri),
        _ => Shortcut::Broken,
    }
}
