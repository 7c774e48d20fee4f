//! The server's JSON, and what it becomes in our words.
//!
//! Lenient about what is there too much or left out, strict about what would be believed wrongly: an answer
//! without the fields that make it one is an error of the wire, never an empty folder.

mod accounts;
mod changes;
mod common;
mod text;

pub(super) use accounts::{
    WireCapacity, WireCaptcha, WireLogin, WireLoginRules, WireOauthApp, WireOauthError,
    WireOauthTokens, WireShare, WireSite, WireTokens, WireUser, token_expiry,
};

pub(super) use changes::{WireExplorer, WireSession, WireSettings};

use std::collections::BTreeMap;
use std::time::SystemTime;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE};
use serde::Deserialize;

use common::Common;
use text::Text;

use super::error::Asked;
use super::time::{moment_or_epoch, rfc3339};
use super::{Boundary, Error, Owner, Page, PagePosition, SignedUrls, Version};
use crate::entity::Entity;
use crate::model::{
    Capabilities, EntityId, FileId, FileInfo, FileKind, FolderSummary, StoragePolicy,
};
use crate::names::ServerName;
use crate::secret::Secret;
use crate::uri::{FileSystem, FileUri};

/// The part of an envelope that says how it went (→ api part 1 §1.2).
#[derive(Debug, Deserialize)]
pub(super) struct Head {
    pub(super) code: i64,
    #[serde(default)]
    msg: Option<String>,
    #[serde(default)]
    aggregated_error: Option<BTreeMap<String, Head>>,
    /// Who holds the lock that was met.
    #[serde(skip)]
    owners: Vec<Owner>,
}

/// Several things failed in one batch (→ api part 1 §1.5).
pub(super) const NOT_FULLY_SUCCESS_BATCH: i64 = 40081;
/// Something is locked; without owners, the session's own lock is lost (→ api part 2 §5.5).
pub(super) const LOCK_CONFLICT: i64 = 40073;

impl Head {
    /// Reads it off a body, which must be a JSON object with a code.
    pub(super) fn read(body: &[u8]) -> Result<Self, Error> {
        let mut head: Self = serde_json::from_slice(body)
            .map_err(|_| Error::transport("the answer is not one of Cloudreve's, or is cut off"))?;
        // Only here is `data` part of how it went, and too rarely to be looked at in each answer.
        if matches!(head.code, LOCK_CONFLICT | NOT_FULLY_SUCCESS_BATCH)
            && let Ok(whole) = serde_json::from_slice(body)
        {
            head.learn_owners(&whole);
        }
        Ok(head)
    }

    fn learn_owners(&mut self, whole: &serde_json::Value) {
        self.owners = changes::owners(&whole["data"]);
        for (item, nested) in self.aggregated_error.iter_mut().flatten() {
            nested.learn_owners(&whole["aggregated_error"][item]);
        }
    }

    /// What failed of a batch, by URIs as the server writes them.
    pub(super) fn items(&self) -> impl Iterator<Item = (&str, &Head)> {
        let items = self.aggregated_error.iter().flatten();
        items.map(|(item, nested)| (item.as_str(), nested))
    }

    /// The code that counts: of a batch, that of what failed in it. A dead token first, since it fails
    /// everything; then whatever does not claim that something is absent.
    pub(super) fn telling(&self) -> &Head {
        let nested = match &self.aggregated_error {
            Some(nested) if self.code == NOT_FULLY_SUCCESS_BATCH => nested,
            _ => return self,
        };
        most_telling(nested.values()).unwrap_or(self)
    }

    /// The error it stands for.
    pub(super) fn error(&self, asked: Asked, sign_in: &str) -> Error {
        let head = self.telling();
        if head.code == LOCK_CONFLICT && !head.owners.is_empty() {
            return Error::Locked(head.owners.clone());
        }
        Error::from_code(
            head.code,
            head.msg.as_deref().unwrap_or_default(),
            asked,
            sign_in,
        )
    }
}

/// Of several failures, the one to act on.
pub(super) fn most_telling<'a>(heads: impl Iterator<Item = &'a Head>) -> Option<&'a Head> {
    heads.min_by_key(|head| match head.code {
        401 => 0,
        50000..=59999 => 1,
        40016 | 40077 => 3,
        _ => 2,
    })
}

/// The `data` of an envelope whose code was 0.
pub(super) fn data<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, Error> {
    #[derive(Deserialize)]
    struct Envelope<T> {
        data: T,
    }
    match serde_json::from_slice::<Envelope<T>>(body) {
        Ok(envelope) => Ok(envelope.data),
        Err(err) => Err(nonsense(&format!(
            "{:?} error at byte {} of {}",
            err.classify(),
            err.column(),
            body.len()
        ))),
    }
}

/// An answer that says it is one and holds what cannot be.
pub(super) fn nonsense(what: &str) -> Error {
    Error::transport(format!("the server's answer makes no sense: {what}"))
}

#[derive(Debug, Deserialize)]
pub(super) struct WireFile<'a> {
    #[serde(rename = "type")]
    kind: i64,
    #[serde(default, borrow)]
    id: Text<'a>,
    #[serde(default, borrow)]
    name: Text<'a>,
    #[serde(default, borrow)]
    created_at: Option<Text<'a>>,
    #[serde(default, borrow)]
    updated_at: Option<Text<'a>>,
    #[serde(default)]
    size: i64,
    #[serde(default)]
    metadata: Option<BTreeMap<String, String>>,
    #[serde(default, borrow)]
    path: Option<Text<'a>>,
    #[serde(default)]
    shared: Option<bool>,
    #[serde(default, borrow)]
    capability: Option<Text<'a>>,
    #[serde(default)]
    owned: Option<bool>,
    #[serde(default, borrow)]
    primary_entity: Option<Text<'a>>,
    #[serde(default)]
    folder_summary: Option<WireSummary>,
    #[serde(default)]
    extended_info: Option<WireExtended>,
}

#[derive(Debug, Deserialize)]
struct WireSummary {
    #[serde(default)]
    size: i64,
    #[serde(default)]
    files: i64,
    #[serde(default)]
    folders: i64,
    #[serde(default)]
    completed: bool,
}

#[derive(Debug, Deserialize)]
struct WireExtended {
    #[serde(default)]
    entities: Option<Vec<WireEntity>>,
}

#[derive(Debug, Deserialize)]
struct WireEntity {
    id: String,
    #[serde(rename = "type")]
    kind: i64,
    #[serde(default)]
    size: i64,
    #[serde(default)]
    created_at: Option<String>,
}

impl<'a> WireFile<'a> {
    /// What `info` tells.
    pub(super) fn into_info(self) -> Result<FileInfo, Error> {
        self.into_entry(&mut Common::default())
    }

    /// An entry of a listing.
    fn into_entry(self, common: &mut Common<'a>) -> Result<FileInfo, Error> {
        if self.id.is_empty() {
            return Err(nonsense("a file without an id"));
        }
        let Some(path) = &self.path else {
            return Err(nonsense("a file without a path"));
        };
        let uri = common.uri(path);
        self.at(uri.map_err(|_| nonsense("a path that is none"))?, common)
    }

    /// The folder that was listed, at `folder`: the trash has neither id nor path, and of a share of a single
    /// file the owner's folder is told.
    fn into_root(mut self, folder: &FileUri) -> Result<FileInfo, Error> {
        // The trash tells nothing of its root. All others say what they are, and a single file shared is one.
        if self.id.is_empty() {
            self.kind = 1;
        }
        let told = self
            .path
            .take()
            .and_then(|path| FileUri::parse_wire(&path).ok())
            .filter(|told| same_kind(told.file_system(), folder.file_system()));
        let uri = told.unwrap_or_else(|| folder.clone());
        self.at(uri, &mut Common::default())
    }

    fn at(self, uri: FileUri, common: &mut Common<'a>) -> Result<FileInfo, Error> {
        let kind = match self.kind {
            0 => FileKind::File,
            1 => FileKind::Folder,
            _ => return Err(nonsense("an entry that is neither file nor folder")),
        };
        let size_bytes = match kind {
            // The server says 0; what it might say another time is no number of bytes to read.
            FileKind::Folder => 0,
            FileKind::File => u64::try_from(self.size).map_err(|_| nonsense("a negative size"))?,
        };
        let entity = EntityId(self.primary_entity.as_deref().unwrap_or_default().into());
        // Content is kept by its version: two files without one would be each other's.
        if size_bytes > 0 && entity.0.is_empty() {
            return Err(nonsense("a file with content and without a version"));
        }
        let time = |text: Option<&str>| text.map_or(SystemTime::UNIX_EPOCH, moment_or_epoch);
        Ok(FileInfo {
            name: shown_name(&uri, &self.name),
            id: FileId((*self.id).into()),
            kind,
            uri,
            size_bytes,
            created: time(self.created_at.as_deref()),
            updated: time(self.updated_at.as_deref()),
            entity,
            owned: self.owned.unwrap_or(false),
            shared: self.shared.unwrap_or(false),
            capabilities: common.capabilities(self.capability),
            metadata: self.metadata,
        })
    }

    /// The versions of its content, newest first; unfinished uploads may be among them.
    pub(super) fn versions(mut self) -> Vec<EntityId> {
        let entities = self.take_history().into_iter();
        entities.map(|version| version.entity.id).collect()
    }

    /// The same, with their sizes and moments.
    pub(super) fn take_history(&mut self) -> Vec<Version> {
        const VERSION: i64 = 0;
        let entities = self.extended_info.take().and_then(|info| info.entities);
        entities
            .unwrap_or_default()
            .into_iter()
            .filter(|entity| entity.kind == VERSION)
            .map(|entity| Version {
                created: entity
                    .created_at
                    .as_deref()
                    .map_or(SystemTime::UNIX_EPOCH, moment_or_epoch),
                entity: Entity {
                    id: EntityId(entity.id.into()),
                    size_bytes: u64::try_from(entity.size).unwrap_or(0),
                },
            })
            .collect()
    }

    /// What lies below it, where the server counted.
    pub(super) fn summary(self) -> Option<FolderSummary> {
        let summary = self.folder_summary?;
        let count = |number: i64| u64::try_from(number).unwrap_or(0);
        Some(FolderSummary {
            size_bytes: count(summary.size),
            files: count(summary.files),
            folders: count(summary.folders),
            completed: summary.completed,
        })
    }
}

fn same_kind(one: &FileSystem, other: &FileSystem) -> bool {
    std::mem::discriminant(one) == std::mem::discriminant(other)
}

/// The path's last segment is the name, byte for byte also where it is not UTF-8 (JSON shows U+FFFD then);
/// except where the server names files by number and tells the real name beside.
fn shown_name(uri: &FileUri, name: &str) -> ServerName {
    let by_number = matches!(
        uri.file_system(),
        FileSystem::Trash | FileSystem::SharedWithMe
    );
    match uri.name() {
        Some(last) if !by_number => last.clone(),
        Some(_) => ServerName::from_wire(name.as_bytes()),
        None => ServerName::from_wire(*b""),
    }
}

/// Base64 of a byte string, flag n in bit n % 8 of byte n / 8; nonsense allows nothing (→ api part 1 §5.1).
fn boolset(text: Option<&str>) -> Capabilities {
    let bytes = STANDARD
        .decode(text.unwrap_or_default())
        .unwrap_or_default();
    Capabilities(bytes.into())
}

#[derive(Debug, Deserialize)]
pub(super) struct WireList<'a> {
    // Without `default`: an answer that has no `files` is no listing.
    #[serde(borrow)]
    files: Vec<WireFile<'a>>,
    #[serde(borrow)]
    parent: WireFile<'a>,
    #[serde(default)]
    pagination: Option<WirePagination>,
    #[serde(default)]
    props: Option<WireProps>,
    #[serde(default)]
    single_file_view: Option<bool>,
    #[serde(default)]
    storage_policy: Option<WirePolicy>,
}

#[derive(Debug, Default, Deserialize)]
struct WirePagination {
    #[serde(default)]
    page: i64,
    #[serde(default)]
    page_size: i64,
    #[serde(default)]
    total_items: Option<i64>,
    #[serde(default)]
    next_token: Option<String>,
    #[serde(default)]
    is_cursor: Option<bool>,
}

#[derive(Debug, Deserialize)]
struct WireProps {
    #[serde(default)]
    capability: Option<String>,
    #[serde(default)]
    max_page_size: i64,
}

#[derive(Debug, Deserialize)]
struct WirePolicy {
    #[serde(default)]
    id: String,
    #[serde(default)]
    name: String,
    #[serde(default, rename = "type")]
    kind: String,
    #[serde(default)]
    max_size: i64,
}

impl WireList<'_> {
    /// One page of `folder`, asked for at `position` with `size` entries.
    pub(super) fn into_page(
        self,
        folder: &FileUri,
        position: &PagePosition,
        size: u32,
    ) -> Result<Page, Error> {
        let pagination = self.pagination.unwrap_or_default();
        let ends_with_folder = self.files.last().is_some_and(|file| file.kind == 1);
        let single_file = self.single_file_view.unwrap_or(false);
        let next = match single_file {
            true => None,
            false => pagination.next(self.files.len(), position, size),
        };
        // A caller that follows would never arrive.
        if next.as_ref() == Some(position) {
            return Err(nonsense("a next page that is this one"));
        }
        let boundary = match &next {
            Some(PagePosition::Token(token)) if ends_with_folder => boundary(token),
            _ => Boundary::Safe,
        };
        let limit = self.props.as_ref().map_or(0, |props| props.max_page_size);
        let mut common = Common::default();
        Ok(Page {
            files: self
                .files
                .into_iter()
                .map(|file| file.into_entry(&mut common))
                .collect::<Result<_, _>>()?,
            folder: self.parent.into_root(folder)?,
            next,
            boundary,
            page_size: positive(pagination.page_size).unwrap_or(size),
            max_page_size: positive(limit).unwrap_or(size),
            single_file,
            capabilities: boolset(self.props.and_then(|props| props.capability).as_deref()),
            storage_policy: self.storage_policy.map(WirePolicy::into_policy),
        })
    }
}

impl WirePagination {
    /// Cursor or number: the server decides (→ api part 1 §7.3).
    fn next(&self, entries: usize, position: &PagePosition, size: u32) -> Option<PagePosition> {
        if let Some(token) = self.next_token.as_ref().filter(|token| !token.is_empty()) {
            return Some(PagePosition::Token(token.clone()));
        }
        // Neither a cursor's last page nor an empty one has a next. Past the end pages are empty, whatever total is told.
        if self.is_cursor.unwrap_or(false) || entries == 0 {
            return None;
        }
        let asked = match position {
            PagePosition::Number(number) => *number,
            _ => u32::try_from(self.page).unwrap_or(0),
        };
        let page_size = u64::from(positive(self.page_size).unwrap_or(size));
        let seen = (u64::from(asked) + 1) * page_size;
        let more = match self.total_items {
            Some(total) => seen < u64::try_from(total).unwrap_or(0),
            None => entries as u64 >= page_size,
        };
        more.then(|| PagePosition::Number(asked.saturating_add(1)))
    }
}

impl WirePolicy {
    fn into_policy(self) -> StoragePolicy {
        StoragePolicy {
            id: self.id,
            name: self.name,
            kind: self.kind,
            max_size_bytes: u64::try_from(self.max_size).ok().filter(|size| *size > 0),
        }
    }
}

fn positive(number: i64) -> Option<u32> {
    u32::try_from(number).ok().filter(|number| *number > 0)
}

/// Whether the server loses files behind this token: it says that files come next, but carries the key of the
/// last folder, and files before that key never appear (→ api part 1 §7.5a).
fn boundary(token: &str) -> Boundary {
    #[derive(Deserialize)]
    struct Token {
        #[serde(default)]
        start_with_file: bool,
    }
    let engines = [&STANDARD, &STANDARD_NO_PAD, &URL_SAFE];
    let decoded = engines.iter().find_map(|engine| engine.decode(token).ok());
    match decoded.and_then(|json| serde_json::from_slice::<Token>(&json).ok()) {
        Some(token) if token.start_with_file => Boundary::Lossy,
        Some(_) => Boundary::Safe,
        None => Boundary::Unknown,
    }
}

#[derive(Debug, Deserialize)]
pub(super) struct WireUrls {
    urls: Vec<WireUrl>,
    #[serde(default)]
    expires: Option<String>,
}

#[derive(Debug, Deserialize)]
struct WireUrl {
    #[serde(default)]
    url: String,
}

impl WireUrls {
    /// The URLs of `count` files.
    pub(super) fn into_urls(self, count: usize) -> Result<SignedUrls, Error> {
        if self.urls.len() != count {
            return Err(nonsense("another number of URLs than was asked for"));
        }
        let expires = match self.expires.as_deref() {
            None | Some("") => None,
            Some(text) => Some(rfc3339(text).ok_or_else(|| nonsense("an expiry that is none"))?),
        };
        let urls = self.urls.into_iter();
        Ok(SignedUrls {
            urls: urls
                .map(|url| Some(Secret::new(url.url)).filter(|url| !url.is_empty()))
                .collect(),
            expires,
        })
    }
}

#[derive(Debug, Deserialize)]
pub(super) struct WireThumbs {
    /// Absent where the server does not know this section, and tells another one (→ api part 1 §3).
    pub(super) thumb_exts: Option<Vec<String>>,
}

#[derive(Debug, Deserialize)]
pub(super) struct WireThumb {
    #[serde(default)]
    pub(super) url: String,
    /// A permutation of the real URL that only the vendor's own programs can undo.
    #[serde(default)]
    pub(super) obfuscated: bool,
}
