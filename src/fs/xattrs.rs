//! Extended attributes: the user's own, and `user.cloudreve.*`, what the server knows of a file that stat(2) has no place
//! for.
//!
//! Only the user's own are listed. The others are there for who asks by name: `cp -a` and `rsync -X` carry along what is
//! listed, and take away from a copy what its original does not list.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::sync::Arc;

use crate::api;
use crate::attributes::Attributes;
use crate::entry::Entry;
use crate::inodes::{Ino, Node};
use crate::model::FileKind;
use crate::uri::{FileSystem, FileUri};

use super::locals::is_here;
use super::namespace::within;
use super::{Error, Fs};

pub(super) const PREFIX: &str = "user.cloudreve.";

/// Largest attribute that the kernel carries (xattr(7)).
const SIZE_MAX_BYTES: usize = 64 << 10;

impl Fs {
    /// getxattr(2) of `user.cloudreve.*`; `NoAttribute` for what is not there, `NotSupported` for `system.*`,
    /// `security.*`, `trusted.*`.
    pub async fn xattr(&self, ino: Ino, name: &OsStr) -> Result<Vec<u8>, Error> {
        if !name.as_bytes().starts_with(b"user.") {
            return Err(Error::NotSupported);
        }
        let ours = name.to_str().and_then(|name| name.strip_prefix(PREFIX));
        let Some(name) = ours else {
            return self.own_xattr(ino, name).await;
        };
        let node = self.namespace.inodes.node(ino).ok_or(Error::NotFound)?;
        match (name, node.entry.kind) {
            ("pinned", _) => Ok(self.pinned(ino)?.text().into()),
            ("versions", FileKind::File) => self.versions(ino, &node).await,
            ("folder_size", FileKind::Folder) => self.folder_size(ino).await,
            ("thumbnail", FileKind::File) => self.thumbnail(ino, &node).await,
            ("cached", FileKind::File) => {
                let entry = self.content_entry(ino, &node).await?;
                Ok(self.cached(&entry).await.into_bytes())
            }
            ("entity", FileKind::File) => {
                let entry = self.content_entry(ino, &node).await?;
                self.known_xattr(ino, &entry, name)
                    .ok_or(Error::NoAttribute)
            }
            _ => {
                let entry = self.namespace.current(ino, &node).await?.what;
                self.known_xattr(ino, &entry, name)
                    .ok_or(Error::NoAttribute)
            }
        }
    }

    /// listxattr(2): the user's own.
    pub async fn xattr_names(&self, ino: Ino) -> Result<Vec<OsString>, Error> {
        let told = self.attributes(ino).await?;
        let names = told.iter().flat_map(|told| told.xattrs.keys());
        Ok(names
            .map(|name| OsString::from_vec(name.to_vec()))
            .collect())
    }

    async fn own_xattr(&self, ino: Ino, name: &OsStr) -> Result<Vec<u8>, Error> {
        let told = self.attributes(ino).await?;
        let value = told
            .as_ref()
            .and_then(|told| told.xattrs.get(name.as_bytes()));
        Ok(value.ok_or(Error::NoAttribute)?.to_vec())
    }

    /// What is told of `ino` beside what the server knows.
    async fn attributes(&self, ino: Ino) -> Result<Option<Arc<Attributes>>, Error> {
        let space = &self.namespace;
        let node = space.inodes.node(ino).ok_or(Error::NotFound)?;
        let entry = space.current(ino, &node).await?.what;
        Ok(space.with_untold(&entry).attributes.clone())
    }

    /// What memory knows of `entry`.
    fn known_xattr(&self, ino: Ino, entry: &Entry, name: &str) -> Option<Vec<u8>> {
        let is_file = entry.kind == FileKind::File;
        let text = match name {
            "id" => entry.id.to_string(),
            "entity" if is_file => entry.entity.to_string(),
            "uri" => without_password(&self.namespace.inodes.uri(ino)?).to_string(),
            "owner" if entry.owned => match &self.user.email {
                Some(email) => email.clone(),
                None => self.user.id.clone(),
            },
            "share" => if entry.shared { "yes" } else { "no" }.to_owned(),
            "state" if is_here(&entry.entity) => "on this machine".to_owned(),
            "state" if entry.unfinished => "unfinished upload".to_owned(),
            "state" => "on the server".to_owned(),
            _ => return None,
        };
        Some(text)
            .filter(|text| !text.is_empty())
            .map(String::into_bytes)
    }

    /// How much of the content of `entry` is on the disk. Blocks in memory are no promise, and do not count.
    async fn cached(&self, entry: &Entry) -> String {
        let entity = entry.version();
        let size_bytes = entity.size_bytes;
        percent(self.files.cached_bytes(entity).await, size_bytes)
    }

    async fn versions(&self, ino: Ino, node: &Node) -> Result<Vec<u8>, Error> {
        let uri = self.content_uri(ino, node).await?;
        let versions = within(self.timeout(), self.api.versions(&uri)).await;
        Ok(asked(versions)?.len().to_string().into_bytes())
    }

    async fn folder_size(&self, ino: Ino) -> Result<Vec<u8>, Error> {
        let uri = self
            .namespace
            .inodes
            .folder_uri(ino)
            .ok_or(Error::NotFound)?;
        let summary = within(self.timeout(), self.api.folder_summary(&uri)).await;
        let summary = asked(summary)?;
        // The server stops counting at some number of files; the sign says that there is more.
        let more = if summary.completed { "" } else { "+" };
        Ok(format!("{}{more}", summary.size_bytes).into_bytes())
    }

    async fn thumbnail(&self, ino: Ino, node: &Node) -> Result<Vec<u8>, Error> {
        let uri = self.content_uri(ino, node).await?;
        let picture = within(self.timeout(), self.api.thumbnail(&uri)).await;
        match asked(picture)? {
            None => Err(Error::NoAttribute),
            Some(picture) if picture.len() > SIZE_MAX_BYTES => Err(Error::AttributeTooLarge),
            Some(picture) => Ok(picture.to_vec()),
        }
    }

    /// The file with the content of `ino`: of a shortcut, what it leads to.
    async fn content_entry(&self, ino: Ino, node: &Node) -> Result<Arc<Entry>, Error> {
        let entry = self.namespace.current(ino, node).await?.what;
        let folder = self.namespace.folder_key(node.parent)?;
        self.namespace.followed(&folder, &entry).await
    }

    /// Where the content of `ino` is: of a shortcut, what it leads to.
    async fn content_uri(&self, ino: Ino, node: &Node) -> Result<FileUri, Error> {
        let folder = self.namespace.folder_key(node.parent)?;
        match self.namespace.target(&folder, &node.entry).await? {
            Some((_, uri)) => Ok(uri),
            None => self.namespace.inodes.uri(ino).ok_or(Error::NotFound),
        }
    }

    fn timeout(&self) -> std::time::Duration {
        self.namespace.options.timeout
    }
}

/// Rounded down, so that only all of it is 100 %; of nothing, all is there.
fn percent(part: u64, whole: u64) -> String {
    let part = u128::from(part.min(whole)) * 100;
    format!("{}%", part.checked_div(u128::from(whole)).unwrap_or(100))
}

/// What the server does not tell this account, or cannot tell, is an attribute that is not there.
fn asked<T>(answer: Result<T, api::Error>) -> Result<T, Error> {
    answer.map_err(|error| match error {
        api::Error::Denied { .. } | api::Error::Unsupported | api::Error::Refused { .. } => {
            Error::NoAttribute
        }
        error => error.into(),
    })
}

fn without_password(uri: &FileUri) -> FileUri {
    match uri.file_system() {
        FileSystem::Share { id, .. } => {
            let share = FileSystem::Share {
                id: id.clone(),
                password: None,
            };
            let names = uri.names().iter().cloned();
            names.fold(FileUri::root(share), |uri, name| uri.child(name))
        }
        _ => uri.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_uri_of_a_file_in_a_share_has_no_password() {
        let uri = FileUri::parse_wire("cloudreve://AbCd:hunter2@share/a%20b/c").unwrap();
        let shown = without_password(&uri);
        assert_eq!(shown.to_wire(), "cloudreve://AbCd@share/a%20b/c");
        let own = FileUri::parse_wire("cloudreve://my/x").unwrap();
        assert_eq!(without_password(&own), own);
    }

    #[test]
    fn a_hundred_percent_are_all_bytes_and_no_byte_less() {
        for (part, whole, shown) in [
            (0, 0, "100%"),
            (0, 10, "0%"),
            (999, 1000, "99%"),
            (1000, 1000, "100%"),
            (u64::MAX - 1, u64::MAX, "99%"),
        ] {
            assert_eq!(percent(part, whole), shown, "{part} of {whole}");
        }
    }

    #[test]
    fn what_the_server_keeps_to_itself_is_an_attribute_that_is_not_there() {
        let denied = api::Error::Denied {
            code: 40082,
            said: String::new(),
        };
        assert!(matches!(asked::<()>(Err(denied)), Err(Error::NoAttribute)));
        let gone = asked::<()>(Err(api::Error::NotFound));
        assert!(matches!(gone, Err(Error::NotFound)));
    }
}
