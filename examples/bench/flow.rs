//! Bytes as they come, to tell how fast they were when.

use std::sync::Mutex;
use std::time::Instant;

use crate::reading::mib;

/// Told of each piece as it comes; may be shared.
pub(crate) struct Flow {
    began: Instant,
    /// Seconds since the begin, and bytes.
    pieces: Mutex<Vec<(f64, u64)>>,
}

impl Flow {
    /// Time runs from here.
    pub(crate) fn begin() -> Self {
        Self {
            began: Instant::now(),
            pieces: Mutex::default(),
        }
    }

    /// Seconds since the begin.
    pub(crate) fn seconds(&self) -> f64 {
        self.began.elapsed().as_secs_f64()
    }

    pub(crate) fn note(&self, bytes: u64) {
        let seconds = self.seconds();
        self.pieces.lock().unwrap().push((seconds, bytes));
    }

    /// MiB a second after `from` and until `to`, in seconds from the begin, or until the last piece if that came
    /// before.
    pub(crate) fn rate(&self, from: f64, to: f64) -> f64 {
        let pieces = self.pieces.lock().unwrap();
        let last = pieces
            .iter()
            .fold(0.0_f64, |last, (at, _)| last.max(*at))
            .min(to);
        let inside = pieces.iter().filter(|(at, _)| *at > from && *at <= to);
        mib(inside.map(|(_, bytes)| bytes).sum()) / (last - from)
    }

    /// Seconds until the first piece; not a number if there was none.
    pub(crate) fn first(&self) -> f64 {
        let pieces = self.pieces.lock().unwrap();
        pieces.first().map_or(f64::NAN, |(at, _)| *at)
    }
}
