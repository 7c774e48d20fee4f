//! How many files of the cache may stay open.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::process::{Resource, getrlimit};

/// What may stay open at most, whatever the system allows: opening anew costs a few microseconds.
const FILES_MAX: u64 = 4096;

/// Two files for each entity that is being read; beyond that they are opened for each read.
#[derive(Clone)]
pub(super) struct Handles(Arc<AtomicUsize>);

/// The right to keep the files of one entity open.
pub(super) struct Right(Handles);

impl Handles {
    /// A quarter of what the process may open; the rest is for connections and for everybody else.
    pub(super) fn of_process() -> Self {
        let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        Self::new((limit / 4).min(FILES_MAX) as usize / 2)
    }

    pub(super) fn new(entities: usize) -> Self {
        Self(Arc::new(AtomicUsize::new(entities)))
    }

    /// None where too many are open.
    pub(super) fn right(&self) -> Option<Right> {
        let take = |left: usize| left.checked_sub(1);
        let taken = self
            .0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, take);
        taken.is_ok().then(|| Right(self.clone()))
    }
}

impl Drop for Right {
    fn drop(&mut self) {
        self.0.0.fetch_add(1, Ordering::Relaxed);
    }
}
