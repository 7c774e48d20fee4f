//! Reading what is kept, from a disk that may not answer.
//!
//! Who reads a file of a server waits for the disk no longer than it is worth: a disk that sleeps, fails or hangs is left
//! alone for a while, and everything comes over the network meanwhile. Never knows what is kept; that is the cache's.

use std::ops::Range;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, timeout};

use crate::cache::{Kept, Now};

/// How long the disk may take for one read; never more than a third of the timeout. A disk that is well answers in a
/// hundredth of that, and the network of most people sooner than this.
const PATIENCE: Duration = Duration::from_secs(3);

/// How long nothing is asked of a disk that did not answer. A read that hangs holds a thread for as long as it does.
const REST: Duration = Duration::from_secs(30);

/// The disk, as far as readers wait for it.
pub(super) struct Disk {
    patience: Duration,
    rests_until: Mutex<Option<Instant>>,
}

impl Disk {
    /// Of a reader whose callers wait for `longest`.
    pub(super) fn new(longest: Duration) -> Self {
        Self {
            patience: PATIENCE.min(longest / 3),
            rests_until: Mutex::default(),
        }
    }

    /// Whether it is to be left alone now.
    pub(super) fn rests(&self) -> bool {
        let rests_until = *self.rests_until.lock().unwrap();
        rests_until.is_some_and(|until| Instant::now() < until)
    }

    /// The bytes of neighbouring `blocks`. None where they are not kept, damaged, or not there in time. Completes at its
    /// first poll where they are in the kernel's page cache.
    pub(super) async fn read(&self, kept: &Arc<Kept>, blocks: Range<u64>) -> Option<Bytes> {
        match kept.read_now(blocks.clone()) {
            Now::Here(bytes) => return Some(bytes),
            Now::Missing => return None,
            Now::OnDisk => {}
        }
        let kept = Arc::clone(kept);
        let read = tokio::task::spawn_blocking(move || kept.read(blocks));
        match timeout(self.patience, read).await {
            Ok(Ok(bytes)) => bytes,
            Ok(Err(error)) => {
                log::error!("reading what is kept ended by itself: {error}");
                None
            }
            Err(_) => {
                self.leave_alone();
                None
            }
        }
    }

    fn leave_alone(&self) {
        let until = Instant::now() + REST;
        let before = self.rests_until.lock().unwrap().replace(until);
        // Those that began side by side all come here.
        if before.is_none_or(|before| before <= Instant::now()) {
            log::warn!(
                "cached content was not read within {:?}: the disk is slow; files are read without for {} s",
                self.patience,
                REST.as_secs()
            );
        }
    }
}
