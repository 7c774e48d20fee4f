//! The root of the mount: it has no parent to be listed in, and the server gives no `info` of a root.

use std::ffi::OsStr;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use crate::api;
use crate::entry::{Entry, FileKey, Tree};
use crate::inodes::{Ino, Node};
use crate::listing::Source;
use crate::metadata::Belief;
use crate::model::{EntityId, FileId, FileInfo, FileKind};
use crate::uri::FileUri;

use super::namespace::{Namespace, within};
use super::questions::is_answered_by_listing;
use super::{Error, Fs, Options};

/// Entries to ask for when only the folder itself is of interest.
pub(super) const PEEK: u32 = 2;

impl Fs {
    /// Where the root of the mount is: behind a shortcut, where that leads.
    pub fn root(&self) -> FileUri {
        let known = self.namespace.inodes.folder_uri(Ino::ROOT);
        // The root is always known; what was asked for is as good an answer as there is.
        known.unwrap_or_else(|| self.namespace.options.root.clone())
    }
}

impl Namespace {
    /// What the root, which is `node`, is now: a page of it tells.
    pub(super) async fn current_root(&self, node: &Node) -> Result<Belief<Arc<Entry>>, Error> {
        let known = |now| {
            let seen = *self.root_seen.lock().unwrap();
            // Its listing says as much, and may be on its way again.
            let listing = || self.listings.believed(&root_key(), now);
            let left = self.metadata.left(seen, now);
            let left = left.or_else(|| listing().map(|(_, asked)| self.belief((), asked).left))?;
            let what = Arc::clone(&node.entry);
            Some(Belief { what, left })
        };
        if let Some(belief) = known(Instant::now()) {
            return Ok(belief);
        }
        let fresh = self.fresh_root(node).await;
        self.or_known(&root_key(), fresh, known).await
    }

    async fn fresh_root(&self, node: &Node) -> Result<Belief<Arc<Entry>>, Error> {
        let folder = self.folder(Ino::ROOT)?;
        let asked = Instant::now();
        let timeout = self.patience();
        let info = if folder.flat || is_answered_by_listing(self.metadata.question(&folder.key)) {
            self.listings
                .list(&folder.key, &folder.uri)
                .folder(timeout)
                .await?
        } else {
            let page = (self.source.page)(folder.uri, api::PagePosition::First, PEEK);
            within(timeout, page).await?.folder
        };
        Ok(self.belief(self.saw_root(node, info, asked), asked))
    }

    /// The root, which was `node`, is what `info` says, which was asked for at `asked`.
    pub(super) fn saw_root(&self, node: &Node, info: FileInfo, asked: Instant) -> Arc<Entry> {
        let entry = Arc::new(Entry {
            updated: root_time(&info, node.entry.updated),
            ..root_entry(info)
        });
        self.inodes.renew(Ino::ROOT, &entry);
        *self.root_seen.lock().unwrap() = asked;
        entry
    }
}

/// The root is kept under a key of its own: that of the trash has no id, and nothing else has an empty one.
pub(super) fn root_key() -> FileKey {
    FileKey {
        tree: Tree::MAIN,
        id: FileId("".into()),
    }
}

/// What is shown for a root of which a page said `folder`.
pub(super) fn root_entry(folder: FileInfo) -> Entry {
    let updated = root_time(&folder, SystemTime::now());
    let created = folder.created.max(SystemTime::UNIX_EPOCH);
    Entry {
        owned: folder.owned,
        shared: folder.shared,
        ..root_entry_of(folder.id, folder.entity, created, updated)
    }
}

/// A root that belongs to somebody else.
pub(super) fn root_entry_of(
    id: FileId,
    entity: EntityId,
    created: SystemTime,
    updated: SystemTime,
) -> Entry {
    Entry {
        id,
        kind: FileKind::Folder,
        name: OsStr::new("").into(),
        segment: None,
        size_bytes: 0,
        created,
        updated,
        entity,
        owned: false,
        shared: false,
        unfinished: false,
        thumbless: false,
        shortcut: None,
        attributes: None,
    }
}

/// The root of the trash has no time of its own; it shows `otherwise`.
fn root_time(folder: &FileInfo, otherwise: SystemTime) -> SystemTime {
    match folder.updated > SystemTime::UNIX_EPOCH {
        true => folder.updated,
        false => otherwise,
    }
}

/// Where to mount instead of a root that cannot be listed: a shortcut leads on; all else is an error.
pub(super) async fn behind(
    source: &Source,
    options: &Options,
    error: api::Error,
) -> Result<FileUri, Error> {
    let refused = matches!(error, api::Error::NotFound | api::Error::Denied { .. });
    if !refused || options.root.is_root() {
        return Err(error.into());
    }
    let info = within(options.timeout, (source.info)(options.root.clone())).await?;
    let target = info.shortcut().and_then(|to| FileUri::parse_wire(to).ok());
    match info.kind {
        FileKind::File => Err(Error::NotAFolder),
        FileKind::Folder => target.ok_or(error.into()),
    }
}
