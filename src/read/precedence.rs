//! Who goes first: programs that wait for content, before what is fetched for later.
//!
//! What is fetched for later comes in pieces, and between two of them it stands aside while anybody reads. It goes on, a
//! piece at a time, also beside one who reads without end.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit, watch};
use tokio::time::timeout;

/// Longest that a piece stands aside. With pieces of a few MiB at most that leaves nearly all of a link to who reads, and
/// a file of a gigabyte comes within minutes all the same.
const ASIDE: Duration = Duration::from_secs(1);

/// Pieces under way at once, over all files: while one waits for its first byte others come. No more, for who begins to
/// read shares the link with them.
pub(super) const PIECES_AT_ONCE: usize = 4;

/// The order of precedence of a reader's fetches.
pub(super) struct Precedence {
    /// Fetches under way for programs.
    first: watch::Sender<usize>,
    /// One piece at a time stands aside, so that all of them together do not go on faster than that.
    turn: Semaphore,
    /// Of pieces that are under way.
    places: Semaphore,
}

/// A fetch for a program, until it is dropped.
pub(super) struct First(Arc<Precedence>);

impl Precedence {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            first: watch::Sender::new(0),
            turn: Semaphore::new(1),
            places: Semaphore::new(PIECES_AT_ONCE),
        })
    }

    /// Something is fetched for a program.
    pub(super) fn goes_first(self: &Arc<Self>) -> First {
        self.first.send_modify(|count| *count += 1);
        First(Arc::clone(self))
    }

    /// A place among the pieces that are under way; until it is dropped.
    pub(super) async fn place(&self) -> Option<SemaphorePermit<'_>> {
        // It is never closed; if it were, nobody should stand before it.
        self.places.acquire().await.ok()
    }

    /// Waits while programs read, at most [`ASIDE`] for each who waits.
    pub(super) async fn stand_aside(&self) {
        let mut first = self.first.subscribe();
        if *first.borrow_and_update() == 0 {
            return;
        }
        // It is never closed; if it were, nobody should stand before it.
        let _turn = self.turn.acquire().await;
        // Whoever reads on, it is the turn of this piece then.
        timeout(ASIDE, first.wait_for(|count| *count == 0))
            .await
            .ok();
    }
}

impl Drop for First {
    fn drop(&mut self) {
        self.0.first.send_modify(|count| *count -= 1);
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use tokio::time::Instant;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_piece_waits_for_programs_and_not_for_ever() {
        let precedence = Precedence::new();
        let began = Instant::now();
        precedence.stand_aside().await;
        assert_eq!(began.elapsed(), Duration::ZERO, "nobody reads");

        let (one, other) = (precedence.goes_first(), precedence.goes_first());
        let mut aside = std::pin::pin!(precedence.stand_aside());
        assert!((&mut aside).now_or_never().is_none());
        drop(one);
        assert!((&mut aside).now_or_never().is_none());
        drop(other);
        aside.await;
        assert_eq!(began.elapsed(), Duration::ZERO);

        let _endless = precedence.goes_first();
        let all = (0..4).map(|_| precedence.stand_aside());
        futures_util::future::join_all(all).await;
        assert_eq!(began.elapsed(), 4 * ASIDE, "one after the other");
    }
}
