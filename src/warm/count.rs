//! How far a fetch is.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use tokio::time::Instant;

use crate::fs::FileBelow;

/// How long bytes come before their pace says something.
const WARM_UP: Duration = Duration::from_secs(1);

/// Counts while files are fetched; read by whoever shows it.
#[derive(Debug, Default)]
pub struct Count {
    began: OnceLock<Instant>,
    files: AtomicU64,
    files_done: AtomicU64,
    bytes: AtomicU64,
    bytes_here: AtomicU64,
    bytes_came: AtomicU64,
}

/// What it came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counted {
    /// Files wanted.
    pub files: u64,
    /// Of those: here as a whole.
    pub files_done: u64,
    /// Bytes wanted.
    pub bytes: u64,
    /// Of those: here.
    pub bytes_done: u64,
    /// Bytes that come in a second; 0 where that is not known yet.
    pub bytes_per_second: u64,
}

impl Count {
    /// `files` are wanted.
    pub(super) fn begins(&self, files: &[FileBelow]) {
        let bytes = files.iter().map(|file| file.source.size_bytes);
        self.bytes.fetch_add(bytes.sum(), Relaxed);
        self.files.fetch_add(files.len() as u64, Relaxed);
        self.began.get_or_init(Instant::now);
    }

    /// So many bytes need not be fetched.
    pub(super) fn here(&self, bytes: u64) {
        self.bytes_here.fetch_add(bytes, Relaxed);
    }

    /// So many bytes were fetched.
    pub(super) fn came(&self, bytes: u64) {
        self.bytes_came.fetch_add(bytes, Relaxed);
    }

    /// One file is here as a whole.
    pub(super) fn file_done(&self) {
        self.files_done.fetch_add(1, Relaxed);
    }

    /// How far it is now.
    pub fn counted(&self) -> Counted {
        let came = self.bytes_came.load(Relaxed);
        let bytes = self.bytes.load(Relaxed);
        let time = self.began.get().map(Instant::elapsed);
        let time = time.filter(|time| *time >= WARM_UP);
        Counted {
            files: self.files.load(Relaxed),
            files_done: self.files_done.load(Relaxed),
            bytes,
            bytes_done: (self.bytes_here.load(Relaxed) + came).min(bytes),
            bytes_per_second: time.map_or(0, |time| (came as f64 / time.as_secs_f64()) as u64),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_pace_is_of_what_came_and_not_of_what_was_here() {
        let count = Count::default();
        count.bytes.store(1000, Relaxed);
        count.began.get_or_init(Instant::now);
        count.here(500);
        count.came(100);
        assert_eq!(count.counted().bytes_per_second, 0, "too soon to tell");
        tokio::time::advance(Duration::from_secs(10)).await;
        let counted = count.counted();
        assert_eq!((counted.bytes_done, counted.bytes_per_second), (600, 10));
    }
}
