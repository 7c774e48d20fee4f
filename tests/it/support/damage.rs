//! Damage to a cache directory, as bad memory, a dying disk, a crash and people do it.
//!
//! A file that somebody holds locked, as those are which the kernel reads by itself, is left alone: what is done to an
//! open file shows in it, on any disk.

use std::fs::{DirEntry, File};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use super::dice;

/// Damages one cache directory; the same seed makes the same choices among the same files.
pub(crate) struct Vandal {
    cache: PathBuf,
    dice: Box<dyn FnMut(u64) -> u64 + Send>,
}

/// All that is in `dir`, directories too. What goes meanwhile is left out.
pub(crate) fn entries(dir: &Path) -> Vec<DirEntry> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            found.extend(entries(&entry.path()));
        }
        found.push(entry);
    }
    found
}

/// Bytes on disk of `dir` and of all in it.
pub(crate) fn disk_bytes(dir: &Path) -> u64 {
    let own = std::fs::symlink_metadata(dir).ok();
    let rest = entries(dir).into_iter().map(|entry| entry.metadata().ok());
    rest.chain([own])
        .flatten()
        .map(|found| found.blocks() * 512)
        .sum()
}

impl Vandal {
    pub(crate) fn new(cache: PathBuf, seed: u64) -> Self {
        let dice = Box::new(dice(seed));
        Self { cache, dice }
    }

    fn below(&mut self, bound: u64) -> u64 {
        (self.dice)(bound)
    }

    /// Files whose names end so, in the order of their names.
    pub(crate) fn files(&self, end: &str) -> Vec<PathBuf> {
        let paths = entries(&self.cache).into_iter().map(|entry| entry.path());
        let mut files: Vec<_> = paths
            .filter(|path| path.to_string_lossy().ends_with(end) && path.is_file())
            .collect();
        files.sort();
        files
    }

    fn some_file(&mut self) -> Option<PathBuf> {
        let files = self.files("");
        let chosen = self.below(files.len().max(1) as u64);
        files.get(chosen as usize).cloned()
    }

    /// Does one of all that can be done to a file. Whether it was done.
    pub(crate) fn damage_something(&mut self) -> bool {
        let Some(path) = self.some_file() else {
            return false;
        };
        match self.below(6) {
            0 | 1 => self.flip_bit(&path).is_some(),
            2 => self.truncate(&path),
            3 => self.tear(&path),
            4 => self.swap(&path),
            _ => locked(&path).is_some() && std::fs::remove_file(&path).is_ok(),
        }
    }

    /// Flips one bit. The place of its byte.
    pub(crate) fn flip_bit(&mut self, path: &Path) -> Option<u64> {
        let file = locked(path)?;
        let at = self.below(file.metadata().ok()?.len().max(1));
        let mut byte = [0];
        file.read_exact_at(&mut byte, at).ok()?;
        byte[0] ^= 1 << self.below(8);
        file.write_all_at(&byte, at).ok()?;
        Some(at)
    }

    /// Cuts a file off somewhere.
    pub(crate) fn truncate(&mut self, path: &Path) -> bool {
        locked(path).is_some_and(|file| {
            let length = file.metadata().map_or(0, |found| found.len());
            file.set_len(self.below(length.max(1))).is_ok()
        })
    }

    /// What a power cut leaves: sectors that were never written, or hold what was there before.
    pub(crate) fn tear(&mut self, path: &Path) -> bool {
        locked(path).is_some_and(|file| {
            let length = file.metadata().map_or(0, |found| found.len());
            let sector = self.below(length.div_ceil(512).max(1)) * 512;
            let filled = [self.below(2) as u8 * 0xA5; 4096];
            let torn = (length - sector.min(length)).min(4096) as usize;
            file.write_all_at(&filled[..torn], sector).is_ok()
        })
    }

    /// Exchanges a file with another one.
    fn swap(&mut self, path: &Path) -> bool {
        let Some(other) = self.some_file().filter(|other| other != path) else {
            return false;
        };
        let (Some(_one), Some(_other)) = (locked(path), locked(&other)) else {
            return false;
        };
        let aside = self.cache.join("aside");
        let moves = [(path, &*aside), (&*other, path), (&*aside, &*other)];
        moves
            .into_iter()
            .all(|(from, to)| std::fs::rename(from, to).is_ok())
    }

    /// Removes all there is, and the directory itself.
    pub(crate) fn remove_all(&self) {
        // Somebody may be making files in it.
        while self.cache.exists() {
            std::fs::remove_dir_all(&self.cache).ok();
        }
    }
}

/// The file, if nobody holds it; nobody else does while this lives.
fn locked(path: &Path) -> Option<File> {
    let file = File::options().read(true).write(true).open(path).ok()?;
    #[expect(
        unsafe_code,
        reason = "std has no flock(2) in the oldest version that builds this"
    )]
    // SAFETY: an open descriptor, and no memory of ours.
    let done = unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) };
    (done == 0).then_some(file)
}
