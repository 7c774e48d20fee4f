//! Shortcuts to shares, which the server shows but does not follow (→ api part 1 §5.4).
//!
//! One to a folder is entered by going on at its target, which `inodes` does. One to a file is shown with the size and
//! times of the file that it leads to, asked for when somebody looks at it. One that leads nowhere is shown as it is and
//! refuses to be opened.

use std::ffi::OsStr;
use std::sync::Arc;
use std::time::Instant;

use crate::api;
use crate::entry::{Entry, FileKey, Shortcut};
use crate::model::{FileId, FileInfo, FileKind};
use crate::uri::FileUri;

use super::Error;
use super::namespace::{Namespace, within};
use super::root::PEEK;

impl Namespace {
    /// What `entry` is to be shown as: a shortcut to a file has that file's size and times, if it leads anywhere.
    pub(super) async fn followed(
        &self,
        folder: &FileKey,
        entry: &Arc<Entry>,
    ) -> Result<Arc<Entry>, Error> {
        match self.target(folder, entry).await {
            Ok(Some((target, _))) => Ok(target),
            Ok(None) | Err(Error::NotFound | Error::Denied(_) | Error::Stale(_)) => {
                Ok(Arc::clone(entry))
            }
            Err(error) => Err(error),
        }
    }

    /// The file that a shortcut in `folder` leads to, and where it is; none where `entry` is no shortcut to a file.
    pub(super) async fn target(
        &self,
        folder: &FileKey,
        entry: &Entry,
    ) -> Result<Option<(Arc<Entry>, FileUri)>, Error> {
        let uri = match entry.shortcut.as_deref() {
            Some(_) if entry.kind == FileKind::Folder => return Ok(None),
            Some(Shortcut::To(uri)) => uri,
            Some(Shortcut::Broken) => return Err(Error::NotFound),
            None => return Ok(None),
        };
        let key = target_key(folder, entry);
        let target = match self.metadata.name(&key, TARGET.as_ref(), Instant::now()) {
            Some(belief) => belief.what,
            None => self.ask_target(&key, uri).await?,
        };
        let target = target.filter(|target| target.kind == FileKind::File);
        let target = target.ok_or(Error::NotFound)?;
        let uri = match uri.is_root() {
            true => uri.child(target.segment()),
            false => uri.clone(),
        };
        Ok(Some((target, uri)))
    }

    async fn ask_target(&self, key: &FileKey, uri: &FileUri) -> Result<Option<Arc<Entry>>, Error> {
        let asked = Instant::now();
        let info = match uri.is_root() {
            true => self.only_file(uri.clone()).await,
            false => self.info(uri.clone()).await,
        };
        let target = match info {
            Ok(info) => self.entry(info).map(Arc::new),
            Err(api::Error::NotFound | api::Error::ShareGone(_)) => None,
            Err(error) => return Err(error.into()),
        };
        let name = OsStr::new(TARGET);
        self.metadata.keep_name(key, name, target.clone(), asked);
        Ok(target)
    }

    /// As [`Namespace::followed`], by what memory knows; none where it does not know where a shortcut leads.
    pub(super) fn glimpse(&self, folder: &FileKey, entry: &Arc<Entry>) -> Option<Arc<Entry>> {
        if entry.shortcut.is_none() || entry.kind == FileKind::Folder {
            return Some(Arc::clone(entry));
        }
        let key = target_key(folder, entry);
        let target = self.metadata.name(&key, OsStr::new(TARGET), Instant::now());
        target?.what
    }

    /// The file of which the share at `root` consists.
    async fn only_file(&self, root: FileUri) -> Result<FileInfo, api::Error> {
        let page = (self.source.page)(root, api::PagePosition::First, PEEK);
        let page = within(self.options.timeout, page).await?;
        let file = page.files.into_iter().next().filter(|_| page.single_file);
        file.ok_or(api::Error::NotFound)
    }
}

/// The only name under the key of a shortcut to a file.
const TARGET: &str = "";

/// Under what the file is kept that the shortcut `entry` in `folder` leads to.
fn target_key(folder: &FileKey, entry: &Entry) -> FileKey {
    FileKey {
        tree: folder.tree.behind(&entry.id),
        id: FileId("".into()),
    }
}
