//! Content fetched to the disk before anybody reads it: what `warm` asks for once.
//!
//! Joins the walk over what is below a place with the reader, which brings whole files. Says before it begins where there
//! is no room for all of it; while it fetches, what it wants is not driven out by anything else. Dropping what it does ends
//! it. Never keeps more than it was asked for, and never looks at who asked.

mod count;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use tokio::task::{JoinError, JoinSet};

pub use self::count::{Count, Counted};

use crate::cache::Fit;
use crate::entity::Entity;
use crate::failure::chain;
use crate::fs::{self, FileBelow, Fs};
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
    pub async fn warm(&self, path: &Path, count: &Arc<Count>) -> Result<Vec<Failed>, Refused> {
        let cache = self.reader.cache();
        if !cache.is_on() {
            return Err(Refused::Off);
        }
        let below = self.fs.files_below(path).await?;
        let entities = entities(&below.files);
        let fit = cache.fit(&entities);
        if !fit.fits() {
            return Err(Refused::NoRoom(fit));
        }
        let _holding = cache.hold(&entities);
        let mut failed: Vec<Failed> = below
            .unread
            .iter()
            .map(|(path, error)| Failed {
                path: path.clone(),
                why: format!("it could not be listed: {}", chain(error)),
            })
            .collect();
        failed.extend(self.fetch(&below.files, count).await);
        Ok(failed)
    }

    /// Fetches `files`, as far as they are not here; those that could not be, in the order of their paths.
    async fn fetch(&self, files: &[FileBelow], count: &Arc<Count>) -> Vec<Failed> {
        count.begins(files);
        let in_vain = Arc::new(AtomicUsize::new(0));
        let (mut under_way, mut failed) = (JoinSet::new(), Vec::new());
        for batch in files.chunks(BATCH) {
            for file in self.wanted(batch, count).await {
                if under_way.len() >= AT_ONCE {
                    failed.extend(outcome(under_way.join_next().await));
                }
                let (count, in_vain) = (Arc::clone(count), Arc::clone(&in_vain));
                under_way.spawn(keep(Arc::clone(&self.reader), file, count, in_vain));
            }
        }
        while let Some(end) = under_way.join_next().await {
            failed.extend(outcome(Some(end)));
        }
        failed.sort_by(|one, other| one.path.cmp(&other.path));
        failed
    }

    /// Those of `batch` that are not here as a whole; their URLs are on their way.
    async fn wanted(&self, batch: &[FileBelow], count: &Count) -> Vec<FileBelow> {
        let mut wanted = Vec::new();
        for file in batch {
            let size_bytes = file.source.size_bytes;
            let here = match file.is_owed {
                true => size_bytes,
                false => {
                    let entity = Arc::new(file.source.version());
                    self.reader.bytes_here(&entity).await
                }
            };
            count.here(here);
            match here == size_bytes {
                true => count.file_done(),
                false => wanted.push(file.clone()),
            }
        }
        if wanted.len() > 1 {
            let sources: Vec<Source> = wanted.iter().map(|file| file.source.clone()).collect();
            self.reader.sign_ahead(&sources).await;
        }
        wanted
    }
}

/// What a task came to.
fn outcome(ended: Option<Result<Option<Failed>, JoinError>>) -> Option<Failed> {
    match ended? {
        Ok(failed) => failed,
        Err(error) => {
            log::error!("fetching a file ended by itself: {error}");
            None
        }
    }
}

/// Brings one file here; why it could not be.
async fn keep(
    reader: Arc<Reader>,
    file: FileBelow,
    count: Arc<Count>,
    in_vain: Arc<AtomicUsize>,
) -> Option<Failed> {
    let failed = |why: String| Failed {
        path: file.path.clone(),
        why,
    };
    if in_vain.load(Relaxed) >= IN_VAIN {
        return Some(failed("not tried: the server is not reached".to_owned()));
    }
    let came = |bytes| count.came(bytes);
    match reader.keep(&file.source, &came).await {
        Ok(()) => {
            in_vain.store(0, Relaxed);
            count.file_done();
            None
        }
        Err(error) => {
            if is_out_of_reach(&error) {
                in_vain.fetch_add(1, Relaxed);
            }
            Some(failed(chain(&error)))
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
