//! Work in the background that ends with who holds it.

use tokio::task::AbortHandle;

/// A task that is under way until this is dropped.
#[derive(Debug)]
#[must_use = "what is not held ends at once"]
pub struct Task(AbortHandle);

impl Task {
    /// Begins `work`. Must be called within a runtime.
    pub fn spawn(work: impl Future<Output = ()> + Send + 'static) -> Self {
        Self(tokio::spawn(work).abort_handle())
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::sync::oneshot;

    #[tokio::test]
    async fn the_work_ends_with_who_holds_it() {
        let (kept, ended) = oneshot::channel::<()>();
        let task = Task::spawn(async move {
            std::future::pending::<()>().await;
            drop(kept);
        });
        drop(task);
        // All that it held is dropped, which nothing but its end does.
        assert!(ended.await.is_err());
    }
}
