//! A complete entity, held as a file.

use std::fs::File;
use std::ops::Deref;

use rustix::fs::FlockOperation;

use crate::cache::index::Stamp;

/// The whole content of an entity as a file that the kernel may read by itself. It stays as it is for as long as this
/// is held.
#[derive(Debug)]
pub struct Whole(File);

impl Deref for Whole {
    type Target = File;

    fn deref(&self) -> &File {
        &self.0
    }
}

impl Whole {
    /// Holds `data`, under a lock that keeps everybody from shrinking it, if it is still what `stamp` says.
    pub(super) fn hold(data: File, stamp: Stamp) -> Option<Self> {
        rustix::fs::flock(&data, FlockOperation::NonBlockingLockShared).ok()?;
        let found = data.metadata().ok()?;
        (Stamp::of(&found) == stamp).then_some(Self(data))
    }
}
