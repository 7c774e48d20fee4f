//! How files are shown: under which name, which of them, in which order.
//!
//! A name that the server has and that is the one this house would store for what it is called here, is shown as it
//! is. Other names (there are few: bytes that are no UTF-8, quotes with nothing to quote, what a hostile server sends)
//! could clash with those, so they carry the id of their file, always, and mean the same file whatever else is there. In
//! the trash many files may have had one name: there the one with the lowest id has it, and the others carry their ids.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::sync::Arc;

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
        // The mark alone proves nothing: copies and restarts leave it behind (→ api part 1 §6.1).
        let unfinished = info.kind == FileKind::File
            && info.size_bytes == 0
            && info.upload_session().is_some()
            && empty == Some(&info.entity);
        if unfinished && self.hide_uploading {
            return None;
        }
        let attributes = Attributes::of(&info).map(Arc::new);
        let shortcut = info.shortcut().map(|target| Box::new(shortcut(target)));
        let segment = info.uri.name().unwrap_or(&info.name);
        let name = match is_flat(&info.uri) {
            true => info.name.to_local(self.names).into(),
            false => self.name(segment, &info.id),
        };
        let same = name.as_bytes() == segment.as_bytes();
        Some(Entry {
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
        })
    }

    fn name(&self, server: &ServerName, id: &FileId) -> Box<OsStr> {
        match server.local_of(None, self.names) {
            Some(local) => local.into(),
            None => with_id(&server.to_local(self.names), id).into(),
        }
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
