//! Servers whose database takes some names for the same: those that differ in upper and lower case, or in spaces at their
//! ends (→ api part 1 §4.4).
//!
//! Such a server finds `a` where it is asked for `A`. To make `A` beside it then answers with success and `a`, and of what
//! is uploaded to `A` nothing is left (`Cloudreve:pkg/filemanager/fs/dbfs`, Create and PrepareUpload, which compare the
//! spelling only after the database found the file). So nothing of another spelling is ever taken for what was asked for,
//! and before something new is made there the place is looked at. Where the database tells names apart that look would be
//! in vain: two questions for a file that is there, under a name spelled otherwise, find that out once.

use std::sync::atomic::{AtomicU8, Ordering};

use super::files::info_of;
use super::{Api, Error};
use crate::model::FileInfo;
use crate::names::{NAME_MAX_BYTES, ServerName};
use crate::uri::{FileSystem, FileUri};

const UNKNOWN: u8 = 0;
const TELLS_APART: u8 = 1;
const TAKES_FOR_SAME: u8 = 2;

/// What is known of the database.
#[derive(Debug, Default)]
pub(super) struct Spelling {
    known: AtomicU8,
    /// Something that is there, by which it can be found out; whoever holds it asks.
    example: tokio::sync::Mutex<Option<FileUri>>,
}

impl Api {
    /// Whether the server was found to take names of other spelling for the same.
    pub fn takes_for_same(&self) -> bool {
        self.spelling().known.load(Ordering::Relaxed) == TAKES_FOR_SAME
    }

    /// What the server has of another spelling where it is asked for `uri`; none where it has nothing there, or what was
    /// asked for.
    pub async fn other_spelling(&self, uri: &FileUri) -> Result<Option<FileInfo>, Error> {
        match self.file(info_of(uri)).await {
            Ok(info) if is_other(uri, &info) => {
                self.noticed(uri, &info);
                Ok(Some(info))
            }
            Ok(_) | Err(Error::NotFound) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// `info`, if that is what was asked for.
    pub(super) fn spelled(&self, uri: &FileUri, info: FileInfo) -> Result<FileInfo, Error> {
        if is_other(uri, &info) {
            self.noticed(uri, &info);
            return Err(Error::NotFound);
        }
        Ok(info)
    }

    /// An error where something new at `uri` would be taken for something else: [`Error::Exists`]. What is there under this
    /// very name is for the server to tell. To be asked before anything is made by name.
    pub async fn is_told_apart(&self, uri: &FileUri) -> Result<(), Error> {
        if self.tells_apart(uri).await {
            return Ok(());
        }
        match self.other_spelling(uri).await? {
            Some(other) => {
                log::warn!(
                    "{uri}: the server takes this name for that of '{}', which is there",
                    other.name
                );
                Err(Error::Exists)
            }
            None => Ok(()),
        }
    }

    /// `uri` is there: by it can be found out what the database does.
    pub(super) fn is_there(&self, uri: &FileUri) {
        let spelling = self.spelling();
        if spelling.known.load(Ordering::Relaxed) == UNKNOWN
            && has_case(uri)
            && let Ok(mut example) = spelling.example.try_lock()
        {
            *example = Some(uri.clone());
        }
    }

    /// Whether the database is known to tell all names apart; finds it out where something is known to be there.
    async fn tells_apart(&self, uri: &FileUri) -> bool {
        let spelling = self.spelling();
        let known = || spelling.known.load(Ordering::Relaxed);
        if known() != UNKNOWN {
            return known() == TELLS_APART;
        }
        let mut example = spelling.example.lock().await;
        let above = uri.parent().filter(has_case);
        let Some(there) = example.clone().or(above).filter(|_| known() == UNKNOWN) else {
            return known() == TELLS_APART;
        };
        for other in other_spellings(&there) {
            match self.other_spelling(&other).await {
                Ok(None) => {}
                // Known by now, or not to be found out at this moment.
                Ok(Some(_)) | Err(_) => return false,
            }
        }
        // It may have been renamed, and then the answers said nothing.
        let is_there = self.file(info_of(&there)).await;
        *example = None;
        if is_there.is_ok_and(|info| !is_other(&there, &info)) {
            let (to, from) = (TELLS_APART, UNKNOWN);
            let order = Ordering::Relaxed;
            let _ = spelling.known.compare_exchange(from, to, order, order);
        }
        known() == TELLS_APART
    }

    fn noticed(&self, uri: &FileUri, info: &FileInfo) {
        let known = &self.spelling().known;
        if known.swap(TAKES_FOR_SAME, Ordering::Relaxed) != TAKES_FOR_SAME {
            log::warn!(
                "the server takes names of different spelling for the same: asked for {uri} it has '{}'",
                info.name
            );
        }
    }

    fn spelling(&self) -> &Spelling {
        &self.0.remembered.spelling
    }
}

/// Whether `info` is of a file that is called otherwise than `uri`. Where files are named by number that says nothing.
fn is_other(uri: &FileUri, info: &FileInfo) -> bool {
    let is_named = |uri: &FileUri| {
        matches!(
            uri.file_system(),
            FileSystem::My { .. } | FileSystem::Share { .. }
        )
    };
    let both = uri.name().zip(info.uri.name());
    is_named(uri) && is_named(&info.uri) && both.is_some_and(|(asked, told)| asked != told)
}

fn has_case(uri: &FileUri) -> bool {
    let name = uri.name().map_or(&b""[..], ServerName::as_bytes);
    name.iter().any(u8::is_ascii_alphabetic) && name.len() < NAME_MAX_BYTES
}

/// `uri` in another case, and with a space behind it.
fn other_spellings(uri: &FileUri) -> Vec<FileUri> {
    let (Some(folder), Some(name)) = (uri.parent(), uri.name()) else {
        return Vec::new();
    };
    let swapped = |byte: &u8| match byte.is_ascii_lowercase() {
        true => byte.to_ascii_uppercase(),
        false => byte.to_ascii_lowercase(),
    };
    let swapped: Vec<u8> = name.as_bytes().iter().map(swapped).collect();
    let padded = [name.as_bytes(), b" "].concat();
    [swapped, padded]
        .into_iter()
        .map(|name| folder.child(ServerName::from_wire(name)))
        .collect()
}
