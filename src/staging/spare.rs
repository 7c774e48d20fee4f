//! Contents that nobody needs any more, emptied and kept for those to come.
//!
//! Making a file is the dearest part of accepting one where many were made and removed lately: ext4 gives the inode of a
//! removed file to no other for minutes, and looks through all of these each time (`recently_deleted` in
//! fs/ext4/ialloc.c), which takes half a millisecond once a few thousand small files were delivered. A file that was
//! kept has its inode already.
//!
//! A spare is an empty file under a number that no local file had, and is described nowhere: should the process be killed,
//! it is removed at the next start as any other that nobody is owed. It gets that number before it is emptied, so that
//! after a power cut, which may bring back the row of what was delivered, an empty file never passes for that content.
//! Never keeps what somebody else has open, who may read on in it.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::sync::{Arc, Mutex};

use crate::staging::folder::{Folder, Kind};
use crate::staging::lease;

/// So many are kept at most: as many files as a group of inodes has in ext4 by default, beyond which nothing is looked
/// through. They take an inode each, and no blocks.
const MOST: usize = 8192;

/// Above it, in bytes, emptying a file is work for somebody who has the time.
const SMALL_BYTES: u64 = 1 << 20;

/// The spares of a slot. Its drop removes them.
#[derive(Debug)]
pub(super) struct Spares {
    folder: Arc<Folder>,
    /// The oldest first.
    numbers: Mutex<VecDeque<u64>>,
}

impl Spares {
    /// None yet, of those in `folder`.
    pub(super) fn new(folder: &Arc<Folder>) -> Self {
        Self {
            folder: Arc::clone(folder),
            numbers: Mutex::default(),
        }
    }

    /// Keeps the content `number` of `size_bytes`, which is not owed and which nobody here has open, under the number that
    /// `new_number` gives; all that lies beside it goes. False where it is to be removed instead.
    pub(super) fn keep(
        &self,
        number: u64,
        size_bytes: u64,
        new_number: impl FnOnce() -> io::Result<u64>,
    ) -> bool {
        if size_bytes >= SMALL_BYTES || self.numbers.lock().unwrap().len() >= MOST {
            return false;
        }
        match self.emptied(number, new_number) {
            Ok(Some(spare)) => {
                self.numbers.lock().unwrap().push_back(spare);
                true
            }
            Ok(None) => false,
            Err(error) => {
                log::debug!("a content that nobody needs any more is not kept: {error}");
                false
            }
        }
    }

    fn emptied(
        &self,
        number: u64,
        new_number: impl FnOnce() -> io::Result<u64>,
    ) -> io::Result<Option<u64>> {
        let file = self.folder.get(number, Kind::Content)?;
        if !lease::is_ours_alone(&file)? {
            return Ok(None);
        }
        self.folder.undescribe(number, &file)?;
        let spare = new_number()?;
        self.folder.renumber(number, spare)?;
        self.folder.remove_beside(number)?;
        // Whoever closes a file that was emptied waits until ext4 has found room for what was written to it since: it is
        // closed here, before anything is.
        file.set_len(0)?;
        Ok(Some(spare))
    }

    /// A content to be used, and its number; none where there is no spare.
    pub(super) fn take(&self) -> Option<(u64, File)> {
        let spare = self.numbers.lock().unwrap().pop_front()?;
        match self.folder.get(spare, Kind::Content) {
            Ok(file) => Some((spare, file)),
            Err(error) => {
                log::debug!("a content that was kept is of no use: {error}");
                None
            }
        }
    }
}

impl Drop for Spares {
    fn drop(&mut self) {
        let Ok(numbers) = self.numbers.get_mut() else {
            // After a panic the next start removes them.
            return;
        };
        for number in numbers.drain(..) {
            if let Err(error) = self.folder.remove(number, Kind::Content) {
                log::debug!("a spare is left for the next start to remove: {error}");
            }
        }
    }
}
