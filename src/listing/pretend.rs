//! A drive in a few lines for the tests of this floor and the next: answers as the server does, its paging bug
//! included (→ api part 1 §7.5). Holds files by the URI of their folder.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use tokio::sync::Semaphore;

use super::Source;
use crate::api::{self, Boundary, Page, PagePosition};
use crate::model::{Capabilities, EntityId, FileId, FileInfo, FileKind};
use crate::names::ServerName;
use crate::uri::FileUri;

pub(crate) const EMPTY: &str = "empty";

#[derive(Default)]
pub(crate) struct Drive {
    state: Mutex<State>,
    /// Pages are given out one a permit, if there are permits.
    pub(crate) gate: Option<Semaphore>,
}

#[derive(Default)]
pub(crate) struct State {
    folders: HashMap<String, Vec<FileInfo>>,
    next_id: u32,
    /// Requests so far.
    pub(crate) pages: u32,
    pub(crate) infos: u32,
    /// The page of that number (from 0 on, counted over all requests) fails.
    pub(crate) failing_page: Option<u32>,
    pub(crate) failing_infos: bool,
    /// Listings lack these, though they are there.
    pub(crate) unlisted: HashSet<FileId>,
    /// The largest page given.
    pub(crate) page_max: Option<u32>,
    pub(crate) unreadable_tokens: bool,
    pub(crate) numbered: bool,
    pub(crate) single_file: HashSet<String>,
    /// The id that pages tell of their folder; nothing is told without.
    pub(crate) told_as: Option<FileId>,
    /// Each answer takes as long.
    pub(crate) delay: Duration,
}

pub(crate) fn uri(text: &str) -> FileUri {
    FileUri::parse_wire(text).unwrap()
}

impl Drive {
    pub(crate) fn with_gate() -> Arc<Self> {
        Arc::new(Self {
            gate: Some(Semaphore::new(0)),
            ..Self::default()
        })
    }

    pub(crate) fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    pub(crate) fn requests(&self) -> (u32, u32) {
        let state = self.state();
        (state.pages, state.infos)
    }

    pub(crate) fn folder(&self, place: &str) -> FileId {
        let id = self.add(place, FileKind::Folder, 0, |_| {});
        self.state().folders.entry(place.to_owned()).or_default();
        id
    }

    pub(crate) fn file(&self, place: &str, size_bytes: u64) -> FileId {
        self.add(place, FileKind::File, size_bytes, |_| {})
    }

    /// Adds what lies at `place` (a URI as on the wire), changed by `change`.
    pub(crate) fn add(
        &self,
        place: &str,
        kind: FileKind,
        size_bytes: u64,
        change: impl FnOnce(&mut FileInfo),
    ) -> FileId {
        let mut state = self.state();
        state.next_id += 1;
        let id = FileId(format!("id{:06}", state.next_id).into());
        let entity = match size_bytes {
            0 => EMPTY.to_owned(),
            _ => format!("entity of {id}"),
        };
        let place = uri(place);
        let mut info = info(&place, kind, &id, size_bytes);
        info.entity = EntityId(entity.into());
        change(&mut info);
        let folder = place.parent().unwrap().to_wire();
        let folder = folder.trim_end_matches('/').to_owned();
        state.folders.entry(folder).or_default().push(info);
        id
    }

    /// Changes or, where `change` says false, removes the file at `place`.
    pub(crate) fn change(&self, place: &str, mut change: impl FnMut(&mut FileInfo) -> bool) {
        let place = uri(place);
        for files in self.state().folders.values_mut() {
            files.retain_mut(|file| file.uri != place || change(file));
        }
    }

    pub(crate) fn remove(&self, place: &str) {
        self.change(place, |_| false);
        self.state().folders.remove(place);
    }

    async fn delay(&self) {
        let delay = self.state().delay;
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
    }

    pub(crate) fn source(self: &Arc<Self>) -> Source {
        let (lists, tells) = (Arc::clone(self), Arc::clone(self));
        Source {
            page: Arc::new(move |uri, position, size| {
                let drive = Arc::clone(&lists);
                Box::pin(async move {
                    drive.delay().await;
                    if let Some(gate) = &drive.gate {
                        gate.acquire().await.unwrap().forget();
                    }
                    drive.state().page(&uri, &position, size)
                })
            }),
            info: Arc::new(move |uri| {
                let drive = Arc::clone(&tells);
                Box::pin(async move {
                    drive.delay().await;
                    drive.state().info(&uri)
                })
            }),
        }
    }
}

pub(crate) fn trouble() -> api::Error {
    api::Error::Trouble {
        code: 503,
        said: "storm".into(),
    }
}

fn info(place: &FileUri, kind: FileKind, id: &FileId, size_bytes: u64) -> FileInfo {
    let time = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
    FileInfo {
        id: id.clone(),
        kind,
        name: place
            .name()
            .cloned()
            .unwrap_or_else(|| ServerName::from_wire(*b"")),
        uri: place.clone(),
        size_bytes,
        created: time,
        updated: time,
        entity: EntityId(EMPTY.into()),
        owned: true,
        shared: false,
        capabilities: Capabilities::default(),
        metadata: Some(BTreeMap::new()),
    }
}

impl State {
    fn info(&mut self, place: &FileUri) -> Result<FileInfo, api::Error> {
        self.infos += 1;
        if self.failing_infos {
            return Err(trouble());
        }
        let mut all = self.folders.values().flatten();
        let found = all.find(|file| file.uri == *place);
        found.cloned().ok_or(api::Error::NotFound)
    }

    fn page(
        &mut self,
        place: &FileUri,
        position: &PagePosition,
        size: u32,
    ) -> Result<Page, api::Error> {
        self.pages += 1;
        if self.failing_page == Some(self.pages - 1) {
            return Err(trouble());
        }
        let size = size.min(self.page_max.unwrap_or(2000)) as usize;
        let key = place.to_wire().trim_end_matches('/').to_owned();
        let files = self.folders.get(&key).ok_or(api::Error::NotFound)?;
        let mut files: Vec<_> = files
            .iter()
            .filter(|file| !self.unlisted.contains(&file.id))
            .collect();
        files.sort_by_key(|file| (file.kind == FileKind::File, file.name.clone()));
        let rest: Vec<&FileInfo> = match position {
            PagePosition::First => files,
            PagePosition::Number(number) => {
                files.into_iter().skip(*number as usize * size).collect()
            }
            PagePosition::Token(token) => {
                let (only_files, after) = token.split_at(1);
                let after = ServerName::from_wire(after.as_bytes());
                let follows = |file: &&FileInfo| match (only_files, file.kind) {
                    // The bug: a cursor that is a folder's name, held against files.
                    ("1", FileKind::File) | ("0", FileKind::Folder) => file.name > after,
                    (_, kind) => kind == FileKind::File,
                };
                files.into_iter().filter(follows).collect()
            }
        };
        let page: Vec<FileInfo> = rest.iter().take(size).map(|file| (*file).clone()).collect();
        let probe = rest.get(size).map(|file| file.kind);
        Ok(self.answer(place, position, size, page, probe))
    }

    fn answer(
        &self,
        place: &FileUri,
        position: &PagePosition,
        size: usize,
        files: Vec<FileInfo>,
        probe: Option<FileKind>,
    ) -> Page {
        let ends_with_folder = files
            .last()
            .is_some_and(|last| last.kind == FileKind::Folder);
        let number = match position {
            PagePosition::Number(number) => *number,
            _ => 0,
        };
        let next = probe.zip(files.last()).map(|(probe, last)| {
            let flag = if probe == FileKind::File { 1 } else { 0 };
            match self.numbered {
                true => PagePosition::Number(number + 1),
                false => PagePosition::Token(format!("{flag}{}", last.name)),
            }
        });
        let boundary = match ends_with_folder && next.is_some() && !self.numbered {
            true if self.unreadable_tokens => Boundary::Unknown,
            true if probe == Some(FileKind::File) => Boundary::Lossy,
            _ => Boundary::Safe,
        };
        let told = self.told_as.clone();
        let root = told.unwrap_or_else(|| FileId("".into()));
        let key = place.to_wire().trim_end_matches('/').to_owned();
        Page {
            files,
            folder: info(place, FileKind::Folder, &root, 0),
            next,
            boundary,
            page_size: size as u32,
            max_page_size: 2000,
            single_file: self.single_file.contains(&key),
            capabilities: Capabilities::default(),
            storage_policy: None,
        }
    }
}
