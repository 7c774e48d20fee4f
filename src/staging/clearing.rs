//! Places that are to be cleared on the server before anything new may get there.
//!
//! What was deleted here and not yet there has its name there still: a new file of that name waits until it is gone.
//! Remembers, and asks nobody.

use std::collections::HashSet;
use std::sync::Mutex;

use crate::uri::FileUri;

/// The places of one mount.
#[derive(Debug, Default)]
pub struct Clearing(Mutex<HashSet<FileUri>>);

impl Clearing {
    /// What is at `place` is to go first.
    pub fn add(&self, place: FileUri) {
        self.0.lock().unwrap().insert(place);
    }

    /// It is gone, or stays for good.
    pub fn done(&self, place: &FileUri) {
        self.0.lock().unwrap().remove(place);
    }

    /// Whether a new file has to wait before it gets to `place`.
    pub fn has(&self, place: &FileUri) -> bool {
        self.0.lock().unwrap().contains(place)
    }
}
