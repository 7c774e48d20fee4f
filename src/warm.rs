//! Content fetched to the disk before anybody reads it: what `warm` asks for once, and what is pinned for as long as it is.
//!
//! Joins the walk over what is below a place with the reader, which brings whole files. Says before it begins where there
//! is no room for all of it; while it fetches, what it wants is not driven out by anything else. Dropping what it does ends
//! it. Fetches nothing that it was not asked for.

mod fitting;
mod following;
mod wanted;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use tokio::task::{JoinError, JoinSet};

pub use self::following::{PinState, Pinning};
pub use self::wanted::{Counted, Wanted, count};

use crate::cache::Fit;
use crate::entity::Entity;
use crate::failure::chain;
use crate::fs::{self, Below, FileBelow, Fs};
use crate::read::{NotKept, Reader, Source};

/// Files whose URLs are asked for in one request.
const BATCH: usize = 50;

/// Files fetched at once.
const AT_ONCE: usize = 4;

/// After so many files in a row for which the server was not reached the others are not tried.
const IN_VAIN: usize = 8;

/// Fetches files of one mount.
#[derive(Clone)]
pub struct Warmer {
    fs: Arc<Fs>,
    reader: Arc<Reader>,
}

/// Why nothing is fetched.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// Nothing is kept on disk.
    #[error("nothing is kept on disk here: mount with a larger --cache-size")]
    Off,
    /// It is more than the cache has room for.
    #[error("it does not fit into the cache")]
    NoRoom(Fit),
    /// Nothing can be told of the place.
    #[error(transparent)]
    Place(#[from] fs::Error),
}

/// What could not be fetched, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failed {
    /// Below the mount point.
    pub path: PathBuf,
    /// In a line.
    pub why: String,
}

impl Warmer {
    /// Fetches files of `fs` by `reader`.
    pub fn new(fs: &Arc<Fs>, reader: &Arc<Reader>) -> Self {
        Self {
            fs: Arc::clone(fs),
            reader: Arc::clone(reader),
        }
    }

    /// Brings all of the file at `path` below the mount point, or of all files below it, to the disk; what could not be.
    /// What that is goes to `list` as soon as it is known.
    pub async fn warm(
        &self,
        path: &Path,
        list: &OnceLock<Vec<Arc<Wanted>>>,
    ) -> Result<Vec<Failed>, Refused> {
        self.is_possible()?;
        let below = self.fs.files_below(path).await?;
        let entities = entities(&below.files);
        let fit = self.fit(None, entities.clone()).await;
        if !fit.fits() {
            return Err(Refused::NoRoom(fit));
        }
        let _holding = self.reader.cache().hold(&entities);
        let mut failed = unread(&below);
        let files = below.files.into_iter().map(Wanted::new).map(Arc::new);
        let files = list.get_or_init(|| files.collect());
        self.fetch(files).await;
        failed.extend(not_fetched(files));
        Ok(failed)
    }

    fn is_possible(&self) -> Result<(), Refused> {
        match self.reader.cache().is_on() {
            true => Ok(()),
            false => Err(Refused::Off),
        }
    }

    /// What `entities` need, and what there is for them beside what others than `owner` have pinned.
    async fn fit(&self, owner: Option<&str>, entities: Vec<Arc<Entity>>) -> Fit {
        let (cache, owner) = (Arc::clone(self.reader.cache()), owner.map(str::to_owned));
        let fit = tokio::task::spawn_blocking(move || cache.fit(owner.as_deref(), &entities));
        fit.await.unwrap_or_else(|error| {
            log::error!("looking for room ended by itself: {error}");
            Fit::default()
        })
    }

    /// Fetches `files`, as far as they are not here. Each is told how that ended.
    async fn fetch(&self, files: &[Arc<Wanted>]) {
        let in_vain = Arc::new(AtomicUsize::new(0));
        let mut under_way = JoinSet::new();
        for batch in files.chunks(BATCH) {
            for file in self.missing(batch).await {
                if under_way.len() >= AT_ONCE {
                    is_over(under_way.join_next().await);
                }
                let (reader, in_vain) = (Arc::clone(&self.reader), Arc::clone(&in_vain));
                under_way.spawn(async move {
                    let why = keep(&reader, &file, &in_vain).await;
                    file.set_here(reader.bytes_here(&file.entity).await);
                    file.tried(why);
                });
            }
        }
        while let Some(end) = under_way.join_next().await {
            is_over(Some(end));
        }
    }

    /// Those of `batch` that are not here as a whole; their URLs are known.
    async fn missing(&self, batch: &[Arc<Wanted>]) -> Vec<Arc<Wanted>> {
        let mut missing = Vec::new();
        for file in batch.iter().filter(|file| !file.file.is_owed) {
            file.set_here(self.reader.bytes_here(&file.entity).await);
            match file.is_here() {
                true => file.tried(None),
                false => missing.push(Arc::clone(file)),
            }
        }
        if missing.len() > 1 {
            let sources = missing.iter().map(|file| file.file.source.clone());
            let sources: Vec<Source> = sources.collect();
            self.reader.sign_ahead(&sources).await;
        }
        missing
    }
}

fn is_over(ended: Option<Result<(), JoinError>>) {
    if let Some(Err(error)) = ended {
        log::error!("fetching a file ended by itself: {error}");
    }
}

/// Brings one file here; why it could not be.
async fn keep(reader: &Arc<Reader>, file: &Wanted, in_vain: &AtomicUsize) -> Option<String> {
    if in_vain.load(Relaxed) >= IN_VAIN {
        return Some("not tried: the server is not reached".to_owned());
    }
    match reader
        .keep(&file.file.source, &|bytes| file.came(bytes))
        .await
    {
        Ok(()) => {
            in_vain.store(0, Relaxed);
            None
        }
        Err(error) => {
            if is_out_of_reach(&error) {
                in_vain.fetch_add(1, Relaxed);
            }
            Some(chain(&error))
        }
    }
}

fn is_out_of_reach(error: &NotKept) -> bool {
    use crate::api::Error as Api;
    matches!(
        error,
        NotKept::Fetch(Api::Transport { .. } | Api::Timeout(_))
    )
}

/// What `files` are cached by.
fn entities(files: &[FileBelow]) -> Vec<Arc<Entity>> {
    let fetched = files.iter().filter(|file| !file.is_owed);
    fetched
        .map(|file| Arc::new(file.source.version()))
        .collect()
}

/// The folders of which nothing can be told.
fn unread(below: &Below) -> Vec<Failed> {
    let unread = below.unread.iter();
    unread
        .map(|(path, error)| Failed {
            path: path.clone(),
            why: format!("it could not be listed: {}", chain(error)),
        })
        .collect()
}

/// Those of `files` that are not here as a whole.
fn not_fetched(files: &[Arc<Wanted>]) -> Vec<Failed> {
    let missing = files.iter().filter(|file| !file.is_here());
    missing
        .map(|file| Failed {
            path: file.file.path.clone(),
            why: file.why().unwrap_or_else(|| "not fetched".to_owned()),
        })
        .collect()
}
