//! Whether the server can be reached, as those find it who ask it: by failure and by success, not by guesses.

use std::sync::Arc;

use tokio::sync::watch;

/// Shared by who finds out and who goes by it.
#[derive(Debug, Clone)]
pub struct Reach(Arc<watch::Sender<bool>>);

impl Default for Reach {
    /// It can, as far as is known.
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(true)))
    }
}

impl Reach {
    /// The server was asked in vain, as long as somebody had the patience, and has answered nobody since.
    pub fn is_down(&self) -> bool {
        !*self.0.borrow()
    }

    /// Somebody found out whether it can be reached.
    pub fn set(&self, can: bool) {
        self.0.send_if_modified(|could| {
            let is_news = *could != can;
            *could = can;
            is_news
        });
    }

    /// Waits until it cannot be reached.
    pub async fn down(&self) {
        // Its sender is in our hands.
        let _ = self.0.subscribe().wait_for(|can| !*can).await;
    }
}
