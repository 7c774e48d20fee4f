//! When the whole machine, or the server, stood still: what takes long then is not the mount's doing.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use super::drive::Drive;

/// From one look at the server to the next.
const PERIOD: Duration = Duration::from_millis(50);
/// A server that answers within this, to who is awake in time, stands not still.
const SHORTEST: Duration = Duration::from_millis(250);

/// From when to when.
#[derive(Default)]
pub(super) struct Stalls(Mutex<Vec<(Instant, Instant)>>);

impl Stalls {
    /// Notes them until all is over.
    pub(super) fn note_until(&self, drive: &Drive, is_over: &AtomicBool) {
        while !is_over.load(Relaxed) {
            // Not a synchronisation: how late this wakes is what is measured.
            let due = Instant::now() + PERIOD;
            std::thread::sleep(PERIOD);
            drive.ping();
            let over = Instant::now();
            if over.saturating_duration_since(due) >= SHORTEST {
                self.0.lock().unwrap().push((due, over));
            }
        }
    }

    /// How much of the time from `began` on for `took` that was.
    pub(super) fn within(&self, began: Instant, took: Duration) -> Duration {
        let end = began + took;
        let stalls = self.0.lock().unwrap();
        let parts = stalls.iter().map(|(from, to)| {
            let to = (*to).min(end);
            to.saturating_duration_since((*from).max(began))
        });
        parts.sum()
    }
}
