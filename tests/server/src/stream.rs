//! The body of an answer that tells events, for as long as its client listens.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::Frame;

use crate::hub::{End, Next, StreamId};
use crate::serve::{Cut, Shared};

/// What comes next; none at an end in good order.
type Coming = Pin<Box<dyn Future<Output = Option<Result<Bytes, Cut>>> + Send>>;

/// Follows the hub until it is dropped: then the client is gone.
pub(crate) struct EventStream {
    shared: Arc<Shared>,
    id: StreamId,
    coming: Coming,
}

impl EventStream {
    pub(crate) fn new(shared: &Arc<Shared>, id: StreamId) -> Self {
        Self {
            shared: Arc::clone(shared),
            id,
            coming: Box::pin(next(Arc::clone(shared), id)),
        }
    }
}

async fn next(shared: Arc<Shared>, id: StreamId) -> Option<Result<Bytes, Cut>> {
    let mut changed = shared.site.lock().unwrap().hub.changed.subscribe();
    loop {
        changed.borrow_and_update();
        let now = shared.clock.now();
        let next = {
            let mut site = shared.site.lock().unwrap();
            let manner = site.event_manner();
            site.hub.next(id, manner, now)
        };
        let until = match next {
            Next::Frame(frame) => return Some(Ok(frame.into())),
            Next::End(End::Clean) => return None,
            Next::End(End::Cut) => return Some(Err(Cut)),
            Next::Wait(until) => until,
        };
        let wait = u64::try_from(until.0.saturating_sub(now.0)).unwrap_or(0);
        // Whichever comes first is seen above.
        tokio::time::timeout(Duration::from_nanos(wait), changed.changed())
            .await
            .ok();
    }
}

impl hyper::body::Body for EventStream {
    type Data = Bytes;
    type Error = Cut;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        let came = ready!(self.coming.as_mut().poll(cx));
        self.coming = Box::pin(next(Arc::clone(&self.shared), self.id));
        Poll::Ready(came.map(|bytes| bytes.map(Frame::data)))
    }
}

impl Drop for EventStream {
    fn drop(&mut self) {
        let now = self.shared.clock.now();
        let mut site = self.shared.site.lock().unwrap();
        let is_noticed = !site.settings.events.unnoticed_hangups;
        site.hub.hung_up(self.id, is_noticed, now);
        drop(site);
        self.shared.tell_arrived();
    }
}
