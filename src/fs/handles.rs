//! What is open, by number.
//!
//! Numbers are never used twice, so a late call on a closed handle finds nothing instead of another file.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use super::HandleId;

/// Open things of one kind.
pub(super) struct Handles<T> {
    next: AtomicU64,
    open: Mutex<HashMap<HandleId, Arc<T>>>,
}

impl<T> Handles<T> {
    /// Nothing is open.
    pub(super) fn new() -> Self {
        Self {
            next: AtomicU64::new(1),
            open: Mutex::new(HashMap::new()),
        }
    }

    /// Opens `thing`.
    pub(super) fn insert(&self, thing: T) -> HandleId {
        let handle = HandleId(self.next.fetch_add(1, Ordering::Relaxed));
        self.open.lock().unwrap().insert(handle, Arc::new(thing));
        handle
    }

    /// What is open under this number. A caller keeps it over a close that comes meanwhile.
    pub(super) fn get(&self, handle: HandleId) -> Option<Arc<T>> {
        self.open.lock().unwrap().get(&handle).cloned()
    }

    /// Closes it.
    pub(super) fn remove(&self, handle: HandleId) -> Option<Arc<T>> {
        self.open.lock().unwrap().remove(&handle)
    }

    /// How many are open.
    pub(super) fn count(&self) -> u64 {
        self.open.lock().unwrap().len() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_closed_number_is_not_given_out_again() {
        let handles = Handles::new();
        let first = handles.insert("a");
        assert_eq!(handles.get(first).as_deref(), Some(&"a"));
        handles.remove(first);
        let second = handles.insert("b");
        assert_ne!(first, second);
        assert_eq!((handles.get(first), handles.count()), (None, 1));
    }
}
