//! Removes large contents that nobody needs any more, beside everything else: while the disk writes them, this waits.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::thread::JoinHandle;

use crate::staging::folder::Folder;

/// Below it a file is gone in no time.
const LARGE_BYTES: u64 = 1 << 20;

/// The thread that removes. Its drop waits until all is gone.
#[derive(Debug)]
pub(super) struct Remover {
    folder: Arc<Folder>,
    numbers: Option<Sender<u64>>,
    thread: Option<JoinHandle<()>>,
}

impl Remover {
    /// Removes from `folder`.
    pub(super) fn new(folder: &Arc<Folder>) -> io::Result<Self> {
        // As many wait as large files were closed meanwhile, and each is a number.
        let (numbers, next) = channel();
        let theirs = Arc::clone(folder);
        let thread = std::thread::Builder::new()
            .name("remover".into())
            .spawn(move || next.into_iter().for_each(|number| remove(&theirs, number)))?;
        Ok(Self {
            folder: Arc::clone(folder),
            numbers: Some(numbers),
            thread: Some(thread),
        })
    }

    /// The files of local file `number`, which is not owed and which nobody has open, go; soon, if they are large.
    pub(super) fn remove(&self, number: u64, size_bytes: u64) {
        let is_sent = size_bytes >= LARGE_BYTES
            && self
                .numbers
                .as_ref()
                .is_some_and(|numbers| numbers.send(number).is_ok());
        if !is_sent {
            remove(&self.folder, number);
        }
    }
}

impl Drop for Remover {
    fn drop(&mut self) {
        drop(self.numbers.take());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            log::error!("the thread that removes contents ended by a panic");
        }
    }
}

/// What is not removed now is at the next start: it is described nowhere.
fn remove(folder: &Folder, number: u64) {
    if let Err(error) = folder.remove_all(number) {
        log::warn!("a content that nobody needs any more was not removed: {error}");
    }
}
