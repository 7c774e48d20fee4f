//! Places for fetches that read ahead, for each host as many as the link to it can use.
//!
//! What one host is found to bear or to lack says nothing of another, and nobody stands in line behind a host that is
//! slow or silent but who reads from there. What is demanded never stands in this queue, and what comes to be demanded leaves it. First come, first served: the
//! blocks of one reader are fetched in the order in which they will be read.

use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use lru::LruCache;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use super::pace::Pace;

/// Hosts remembered: more than an installation has storages.
const HOSTS: NonZeroUsize = NonZeroUsize::new(32).unwrap();

/// The places of each host.
pub(super) struct Hosts {
    lanes: Mutex<LruCache<String, Arc<Lanes>>>,
}

impl Hosts {
    pub(super) fn new() -> Self {
        Self {
            lanes: Mutex::new(LruCache::new(HOSTS)),
        }
    }

    /// The places for what is asked of the host of `url`.
    pub(super) fn of(&self, url: &str) -> Arc<Lanes> {
        let mut lanes = self.lanes.lock().unwrap();
        Arc::clone(lanes.get_or_insert_ref(host(url), Lanes::new))
    }
}

/// Scheme, host and port; nothing of what makes a URL secret.
fn host(url: &str) -> &str {
    let start = url.find("://").map_or(0, |at| at + 3);
    let end = url[start..].find(['/', '?', '#']);
    &url[..end.map_or(url.len(), |end| start + end)]
}

/// The places, and what is learnt while they are used.
pub(super) struct Lanes {
    free: Arc<Semaphore>,
    state: Mutex<State>,
}

struct State {
    pace: Pace,
    /// Places there are, taken or free.
    places: usize,
    /// Fetches that wait for one.
    queued: usize,
}

/// A place taken.
pub(super) struct Lane {
    lanes: Arc<Lanes>,
    permit: Option<OwnedSemaphorePermit>,
}

/// One who waits for a place.
struct Queued<'a>(&'a Lanes);

impl Drop for Queued<'_> {
    fn drop(&mut self) {
        self.0.state.lock().unwrap().queued -= 1;
    }
}

impl Lanes {
    pub(super) fn new() -> Arc<Self> {
        let pace = Pace::default();
        Arc::new(Self {
            free: Arc::new(Semaphore::new(pace.lanes())),
            state: Mutex::new(State {
                places: pace.lanes(),
                pace,
                queued: 0,
            }),
        })
    }

    /// Bytes in the next range.
    pub(super) fn next_part_bytes(&self) -> u64 {
        self.state.lock().unwrap().pace.next_part_bytes()
    }

    /// Bytes ahead of a reader that keep the lanes busy.
    pub(super) fn window_bytes(&self) -> u64 {
        self.state.lock().unwrap().pace.window_bytes()
    }

    /// A place, as soon as one is free.
    pub(super) async fn enter(self: &Arc<Self>) -> Lane {
        self.state.lock().unwrap().queued += 1;
        let queued = Queued(self);
        // The semaphore is never closed; if it were, nobody should stand before it.
        let permit = Arc::clone(&self.free).acquire_owned().await.ok();
        drop(queued);
        Lane {
            lanes: Arc::clone(self),
            permit,
        }
    }

    /// `bytes` came in a lane.
    pub(super) fn bytes_came(&self, bytes: u64, now: Instant) {
        let mut state = self.state.lock().unwrap();
        let is_full = state.queued > 0;
        if state.pace.bytes_came(bytes, is_full, now) {
            self.adjust(&mut state);
        }
    }

    /// A range was brought (→ [`Pace::range_came`]).
    pub(super) fn range_came(&self, first_byte: Duration, bytes: u64, time: Duration) {
        let mut state = self.state.lock().unwrap();
        state.pace.range_came(first_byte, bytes, time);
    }

    /// The host refused or broke off (→ [`Pace::trouble`]).
    pub(super) fn trouble(&self, now: Instant) {
        let mut state = self.state.lock().unwrap();
        state.pace.trouble(now);
        self.adjust(&mut state);
    }

    /// Makes places, or does away with those that are free.
    fn adjust(&self, state: &mut State) {
        let wanted = state.pace.lanes();
        if wanted > state.places {
            self.free.add_permits(wanted - state.places);
            state.places = wanted;
        } else {
            state.places -= self.free.forget_permits(state.places - wanted);
        }
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        let mut state = self.lanes.state.lock().unwrap();
        if state.places > state.pace.lanes()
            && let Some(permit) = self.permit.take()
        {
            permit.forget();
            state.places -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::super::pace::FEWEST;
    use super::*;

    #[test]
    fn each_host_has_places_of_its_own() {
        let hosts = Hosts::new();
        let one = hosts.of("https://h:1/a?sign=x");
        assert!(Arc::ptr_eq(&one, &hosts.of("https://h:1?b")));
        for other in ["https://h/a", "http://h:1/a", "https://i:1/a", ""] {
            assert!(!Arc::ptr_eq(&one, &hosts.of(other)), "{other}");
        }
        for number in 0..100 {
            hosts.of(&format!("https://{number}"));
        }
        assert_eq!(hosts.lanes.lock().unwrap().len(), HOSTS.get());
    }

    #[tokio::test]
    async fn places_are_handed_on_in_order_and_fewer_after_trouble() {
        let lanes = Lanes::new();
        let mut others = Vec::new();
        for _ in 2..FEWEST {
            others.push(lanes.enter().await);
        }
        let (one, two) = (lanes.enter().await, lanes.enter().await);
        let mut third = lanes.enter().boxed();
        assert!((&mut third).now_or_never().is_none());
        drop(one);
        let third = third.await;
        // Two more, and as few as ever while all are taken: two must leave before one may enter.
        {
            let mut state = lanes.state.lock().unwrap();
            state.places += 2;
            lanes.free.add_permits(2);
        }
        let (four, five) = (lanes.enter().await, lanes.enter().await);
        lanes.trouble(Instant::now());
        drop((two, third));
        assert!(lanes.enter().now_or_never().is_none());
        drop(four);
        assert!(lanes.enter().now_or_never().is_some());
        drop(five);
    }
}
