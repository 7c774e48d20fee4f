//! What is pinned: `user.cloudreve.pinned`, and what `pin` and `unpin` ask for.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::inodes::Ino;
use crate::pins::Pins;

use super::locals::is_nameless;
use super::{Error, Fs};

/// The attribute's name.
pub(super) const NAME: &str = "user.cloudreve.pinned";

/// Whether a file or folder is pinned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pinned {
    /// It is.
    Itself,
    /// A folder above it is, which is there below the mount point.
    By(PathBuf),
    /// Nothing is that it belongs to.
    No,
}

impl Pinned {
    /// As the attribute tells it.
    pub(super) fn text(&self) -> &'static str {
        match self {
            Self::Itself => "1",
            Self::By(_) => "inherited",
            Self::No => "0",
        }
    }
}

impl Fs {
    /// Whether `ino` is pinned, or a folder above it.
    pub fn pinned(&self, ino: Ino) -> Result<Pinned, Error> {
        let inodes = &self.namespace.inodes;
        let mut at = ino;
        loop {
            let node = inodes.node(at).ok_or(Error::NotFound)?;
            match self.pins.has(&node.entry.id) {
                true if at == ino => return Ok(Pinned::Itself),
                true => return Ok(Pinned::By(inodes.path(at).ok_or(Error::NotFound)?)),
                false if at == Ino::ROOT => return Ok(Pinned::No),
                false => at = node.parent,
            }
        }
    }

    /// Pins `ino`, or lets go of it; whether it was pinned. Noted on disk when this returns. What the server has not
    /// heard of has no identity to be pinned by.
    pub async fn set_pinned(&self, ino: Ino, is_pinned: bool) -> Result<bool, Error> {
        let inodes = &self.namespace.inodes;
        let node = inodes.node(ino).ok_or(Error::NotFound)?;
        let id = node.entry.id.clone();
        if is_nameless(&id) {
            return Err(Error::NotSupported);
        }
        let path = inodes.path(ino).ok_or(Error::NotFound)?;
        let pins = Arc::clone(&self.pins);
        noted(move || match is_pinned {
            true => {
                let was_pinned = pins.has(&id);
                pins.pin(&id, &path).map(|()| was_pinned)
            }
            false => pins.unpin(&id),
        })
        .await
    }

    /// Lets go of what was last seen at `path` and is not there any more; whether there was such a pin.
    pub async fn unpin_lost(&self, path: &Path) -> Result<bool, Error> {
        let Some(pin) = self.pins.all().into_iter().find(|pin| pin.path == path) else {
            return Ok(false);
        };
        let pins = Arc::clone(&self.pins);
        noted(move || pins.unpin(&pin.id)).await
    }

    /// setxattr(2) of the attribute.
    pub(super) async fn set_pinned_xattr(&self, ino: Ino, value: &[u8]) -> Result<(), Error> {
        let is_pinned = match value {
            b"1" => true,
            b"0" => false,
            _ => return Err(Error::Invalid),
        };
        if is_pinned && !self.reader.cache().is_on() {
            return Err(Error::NotSupported);
        }
        self.set_pinned(ino, is_pinned).await.map(drop)
    }

    /// What is pinned in this drive.
    pub fn pins(&self) -> &Arc<Pins> {
        &self.pins
    }

    /// Waits until something may have changed in the drive, by us or by others, since the last call. For one who waits.
    pub async fn news(&self) {
        self.news.notified().await;
    }
}

/// Waits for what is done to the disk.
async fn noted(work: impl FnOnce() -> io::Result<bool> + Send + 'static) -> Result<bool, Error> {
    let noted = tokio::task::spawn_blocking(work).await;
    let noted = noted.unwrap_or_else(|error| Err(error.into()));
    noted.map_err(|error| Error::Disk(Arc::new(error)))
}
