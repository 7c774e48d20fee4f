//! How many of the threads that take requests may be writing to the local disk at once.
//!
//! A write is done on the thread that took it, since handing it over would cost a copy and half of the rate of small
//! ones. A disk that is full of dirty pages makes writers wait, though, and if all threads did, nobody could look at a
//! folder meanwhile.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// Turns at writing.
#[derive(Debug)]
pub(super) struct Writers {
    free: AtomicUsize,
}

/// A turn; its drop gives it back.
#[derive(Debug)]
pub(super) struct Turn<'a>(&'a Writers);

impl Writers {
    pub(super) fn new(at_once: usize) -> Self {
        Self {
            free: AtomicUsize::new(at_once),
        }
    }

    /// A turn, if one is free.
    pub(super) fn enter(&self) -> Option<Turn<'_>> {
        let taken = self
            .free
            .fetch_update(Relaxed, Relaxed, |free| free.checked_sub(1));
        taken.ok().map(|_| Turn(self))
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.free.fetch_add(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_write_at_once_than_may_and_a_turn_comes_back() {
        let writers = Writers::new(2);
        let (first, second) = (writers.enter(), writers.enter());
        assert!(first.is_some() && second.is_some());
        assert!(writers.enter().is_none());
        drop(first);
        assert!(writers.enter().is_some());
    }
}
