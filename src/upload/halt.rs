//! A stop sign that many can see and wait for, and that nobody takes down again.

use tokio::sync::watch;

/// Down until it is set, once and for all.
#[derive(Debug)]
pub(super) struct Halt(watch::Sender<bool>);

impl Default for Halt {
    fn default() -> Self {
        Self(watch::Sender::new(false))
    }
}

impl Halt {
    /// Sets it.
    pub(super) fn raise(&self) {
        self.0.send_replace(true);
    }

    /// Whether it is set.
    pub(super) fn is_set(&self) -> bool {
        *self.0.borrow()
    }

    /// Resolves when it is.
    pub(super) async fn set(&self) {
        // The sender lives in this value, so the channel does not close while somebody waits here.
        self.0.subscribe().wait_for(|set| *set).await.ok();
    }
}
