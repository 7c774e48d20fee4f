//! copy_file_range(2): bytes from one open file to another, which the kernel need not see.
//!
//! They are written here as any others, so that nothing that was acknowledged depends on another file. Besides, it is
//! remembered which version they came from: where all of a new file did, the server may copy it, and nothing is sent.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::File;
use crate::fs::{Error, Fs, HandleId};
use crate::staging::Origin;

/// Copied by one call at most, and …
const CALL_BYTES: u64 = 8 << 20;

/// … how long one goes on that has copied something: nobody can interrupt it, and whoever wants the file that is written
/// waits for it. Who copies asks for the rest.
const CALL_TIME: Duration = Duration::from_millis(250);

/// Read and written at once, in the beginning, and …
const PIECE_BYTES: u64 = 128 << 10;

/// … once it is seen that this goes fast.
const LARGE_PIECE_BYTES: u64 = 1 << 20;

/// A place in an open file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct At {
    /// Which one.
    pub handle: HandleId,
    /// Bytes from its beginning.
    pub offset: u64,
}

impl At {
    /// So many bytes behind it.
    fn behind(self, bytes: u64) -> Result<Self, Error> {
        let offset = self.offset.checked_add(bytes).ok_or(Error::TooLarge)?;
        Ok(Self { offset, ..self })
    }
}

impl Fs {
    /// copy_file_range(2): copies up to `size_bytes`, and tells how many were; fewer are no error, and none are at the end
    /// of the file that is copied from. What fails after some were copied is found by the next call.
    pub async fn copy_range(
        self: &Arc<Self>,
        from: At,
        to: At,
        size_bytes: u64,
    ) -> Result<u64, Error> {
        let source = self.files.get(from.handle)?;
        let target = self.files.get(to.handle)?;
        if !target.writes {
            return Err(Error::BadHandle);
        }
        let (wanted, begun) = (size_bytes.min(CALL_BYTES), Instant::now());
        let mut copied = 0;
        while copied < wanted && (copied == 0 || begun.elapsed() < CALL_TIME) {
            // As much as all before it, and more than nothing.
            let piece = copied.clamp(PIECE_BYTES, LARGE_PIECE_BYTES);
            let piece = piece.min(wanted - copied);
            let (from, to) = (from.behind(copied)?, to.behind(copied)?);
            match self.copy_piece(&source, &target, from, to, piece).await {
                Ok(0) => break,
                Ok(bytes) => copied += bytes,
                Err(error) if copied == 0 => return Err(error),
                Err(error) => {
                    log::debug!("a copy stops after {copied} bytes: {error}");
                    break;
                }
            }
        }
        Ok(copied)
    }

    /// Copies up to `piece` bytes.
    async fn copy_piece(
        self: &Arc<Self>,
        source: &File,
        target: &Arc<File>,
        from: At,
        to: At,
        piece: u64,
    ) -> Result<u64, Error> {
        let bytes = self.files.read(from.handle, from.offset, piece as u32);
        let bytes = bytes.await?;
        if bytes.is_empty() {
            return Ok(0);
        }
        // Asked only now: a file that nothing was written to yet showed its version when it was read.
        let origin = origin(source).filter(|_| from.offset == to.offset);
        let (fs, target) = (Arc::clone(self), Arc::clone(target));
        let write = move || {
            fs.write(to.handle, to.offset, &bytes, false)?;
            if let (Some(origin), Some(local)) = (origin, target.content.local()) {
                local.is_copied(&origin, to.offset, &bytes);
            }
            Ok(bytes.len() as u64)
        };
        let written = tokio::task::spawn_blocking(write).await;
        written.unwrap_or_else(|panic| Err(Error::Disk(Arc::new(std::io::Error::other(panic)))))
    }
}

/// The version of the server's that `file` shows; none where something was written over it.
fn origin(file: &File) -> Option<Origin> {
    let version = file.content.version();
    file.content.is_clean().then(|| Origin {
        file: version.id.clone(),
        entity: version.version(),
    })
}
