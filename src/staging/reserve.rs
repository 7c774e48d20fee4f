//! Room on the disk that is kept for the journal when contents have filled the rest.

use std::fs::File;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::FallocateFlags;

/// Twice what the write-ahead log grows to before it is carried over.
const RESERVE_BYTES: u64 = 8 << 20;

/// A file that takes the room until it is needed.
#[derive(Debug)]
pub(super) struct Reserve {
    path: PathBuf,
    /// The room is in use by the journal: contents may not grow.
    is_used: AtomicBool,
}

impl Reserve {
    /// Takes the room, as far as the disk has it.
    pub(super) fn new(slot: &Path) -> Self {
        let reserve = Self {
            path: slot.join("reserve"),
            is_used: AtomicBool::new(false),
        };
        if let Err(error) = reserve.take() {
            log::debug!("no room is kept for the journal: {error}");
        }
        reserve
    }

    /// Gives back the room of a slot that does not open otherwise.
    pub(super) fn release_at(slot: &Path) {
        let path = slot.join("reserve");
        let is_used = AtomicBool::new(false);
        Self { path, is_used }.release();
    }

    /// Gives the room to the journal.
    pub(super) fn release(&self) {
        match std::fs::remove_file(&self.path) {
            Ok(()) => self.is_used.store(true, Ordering::Relaxed),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => {
                log::warn!("the room kept for the journal cannot be given to it: {error}")
            }
        }
    }

    /// Nothing is left that would need it.
    pub(super) fn remove(&self) {
        if let Err(error) = std::fs::remove_file(&self.path)
            && error.kind() != io::ErrorKind::NotFound
        {
            log::debug!("the room kept for the journal is not given back: {error}");
        }
    }

    /// Whether contents may take room: not while the journal lives on what was kept for it. ENOSPC says so.
    pub(super) fn allow(&self) -> io::Result<()> {
        if !self.is_used.load(Ordering::Relaxed) {
            return Ok(());
        }
        match self.take() {
            Ok(()) => {
                self.is_used.store(false, Ordering::Relaxed);
                Ok(())
            }
            Err(_) => Err(io::Error::from_raw_os_error(libc::ENOSPC)),
        }
    }

    fn take(&self) -> io::Result<()> {
        let file = File::options()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&self.path)?;
        match rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, RESERVE_BYTES) {
            // Where nothing can be reserved, the journal takes its chance.
            Ok(()) | Err(rustix::io::Errno::OPNOTSUPP) => Ok(()),
            Err(error) => {
                std::fs::remove_file(&self.path)?;
                Err(error.into())
            }
        }
    }
}
