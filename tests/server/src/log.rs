//! What was asked: counters by route, and the last requests in full.

use std::collections::{HashMap, VecDeque};
use std::time::SystemTime;

use crate::route::Route;
use crate::site::MEMORY;

/// A request, as it arrived.
#[derive(Clone, Debug)]
pub struct LoggedRequest {
    /// When, by this machine's clock.
    pub at: SystemTime,
    /// The route it was for.
    pub route: Route,
    /// HTTP method.
    pub method: String,
    /// Path, still percent-encoded.
    pub path: String,
    /// Query without the question mark, still percent-encoded.
    pub query: String,
    /// Header names in lower case, with their values.
    pub headers: Vec<(String, String)>,
    /// Bytes of its body.
    pub body_size: u64,
}

impl LoggedRequest {
    /// The first value of a header, by its name in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }

    /// Whether it carried a token.
    pub fn had_authorization(&self) -> bool {
        self.header("authorization").is_some()
    }
}

/// Counters and log since the last reset.
#[derive(Debug, Default)]
pub(crate) struct RequestLog {
    counts: HashMap<Route, u64>,
    requests: VecDeque<LoggedRequest>,
    pub(crate) hung_up: u64,
    /// Requests that were received and have no headers yet.
    pub(crate) in_flight: usize,
    pub(crate) body_bytes: u64,
    /// Those of them that are files' own.
    pub(crate) content_bytes: u64,
}

impl RequestLog {
    pub(crate) fn note(&mut self, request: LoggedRequest) {
        *self.counts.entry(request.route).or_default() += 1;
        self.requests.push_back(request);
        if self.requests.len() > MEMORY {
            self.requests.pop_front();
        }
    }

    /// Forgets all but what is still in flight.
    pub(crate) fn reset(&mut self) {
        let in_flight = self.in_flight;
        *self = Self {
            in_flight,
            ..Self::default()
        };
    }

    pub(crate) fn count(&self, route: Route) -> u64 {
        self.counts.get(&route).copied().unwrap_or(0)
    }

    pub(crate) fn total(&self) -> u64 {
        self.counts.values().sum()
    }

    pub(crate) fn requests(&self) -> Vec<LoggedRequest> {
        self.requests.iter().cloned().collect()
    }
}
