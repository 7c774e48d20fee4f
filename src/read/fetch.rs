//! One fetch: brings the blocks of a claim by ranged GETs, through whatever the network does.
//!
//! Each block is published when its bytes are complete. A body that breaks or falls silent is continued from there, a URL that
//! is no longer good is exchanged once, a host that does not answer is tried at the server's own address. Gives up after a
//! bounded number of tries without a block, or when no byte came for the timeout; then all who wait get the error, and a
//! later read begins afresh. Runs in a task of its own: who asked may go away.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use futures_util::StreamExt;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout_at};

use super::origin::Body;
use super::route::Route;
use super::{AheadSlot, Shared, Source};
use crate::api::Error;
use crate::blocks::Claim;

/// Pauses before the tries that follow a failure; a block that arrives begins the list anew. `api` has tried several
/// times already before it says that a request cannot be sent, so these are for bodies that break.
const PAUSES: [Duration; 4] = [
    Duration::ZERO,
    Duration::from_millis(200),
    Duration::from_secs(1),
    Duration::from_secs(3),
];

/// How long a host has to answer of which it is not known whether it can be reached from here, before the server's own
/// address is tried; never more than a third of the timeout.
const DOUBT: Duration = Duration::from_secs(3);

/// Tells a fetch whether its reader still goes where it is going: closed when it does not.
pub(super) type Interest = watch::Receiver<()>;

pub(super) struct Fetch {
    shared: Arc<Shared>,
    source: Source,
    claim: Claim<Error>,
    interest: Interest,
    /// The first bytes of the next block.
    partial: BytesMut,
    patience: Patience,
    /// Held where nothing of the claim was demanded when it was made.
    _slot: Option<AheadSlot>,
}

/// How a try ended that did not fail.
enum End {
    Complete,
    Abandoned,
}

/// What failed.
enum Failure {
    /// Getting a URL, which is final: `links` and `api` have tried what can be tried.
    Link(Error),
    /// The answer on this route.
    Answer(Route, Error),
    /// The body, after a good answer.
    Body(Error),
}

impl Failure {
    fn error(&self) -> &Error {
        let (Self::Link(error) | Self::Answer(_, error) | Self::Body(error)) = self;
        error
    }
}

impl Fetch {
    /// Will bring what `claim` owes; its first bytes must come before `until`.
    pub(super) fn new(
        shared: &Arc<Shared>,
        source: &Source,
        claim: Claim<Error>,
        interest: Interest,
        slot: Option<AheadSlot>,
        until: Instant,
    ) -> Self {
        Self {
            shared: Arc::clone(shared),
            source: source.clone(),
            claim,
            interest,
            partial: BytesMut::new(),
            patience: Patience::new(shared.options.timeout, until),
            _slot: slot,
        }
    }

    pub(super) async fn run(mut self) {
        loop {
            let failure = match self.attempt().await {
                Ok(End::Complete | End::Abandoned) => return,
                Err(failure) => failure,
            };
            let entity = &self.source.entity;
            log::debug!("entity {entity}: {}", failure.error());
            match self.after(failure) {
                Ok(pause) if pause.is_zero() => {}
                Ok(pause) => sleep(pause).await,
                Err(error) => return self.claim.fail(error),
            }
        }
    }

    async fn attempt(&mut self) -> Result<End, Failure> {
        let shared = Arc::clone(&self.shared);
        let asked = shared.links.get(&shared.origin, &self.source);
        let signed = self.within(self.patience.until, asked).await;
        let signed = signed.map_err(Failure::Link)?;
        let mut range = self.claim.owed_bytes();
        range.start += self.partial.len() as u64;
        let mut until = self.patience.until;
        let route = shared.routes.take(&signed);
        if route.is_doubtful {
            let doubt = DOUBT.min(shared.options.timeout / 3);
            until = until.min(Instant::now() + doubt);
        }
        let size_bytes = self.source.size_bytes;
        let answer = (shared.origin.content)(route.url.clone(), range, size_bytes);
        match self.within(until, answer).await {
            Ok(body) => {
                shared.routes.answered(&route);
                self.take_body(body).await.map_err(Failure::Body)
            }
            // Only a listing or the API itself may say that a file is absent; content proves nothing.
            Err(Error::NotFound) => Err(Failure::Answer(route, Error::UrlExpired)),
            Err(error) => Err(Failure::Answer(route, error)),
        }
    }

    async fn within<T>(
        &self,
        until: Instant,
        answer: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        let answer = timeout_at(until, answer).await;
        answer.unwrap_or(Err(Error::Timeout(self.shared.options.timeout)))
    }

    /// Takes bytes until the claim is fulfilled or nobody wants the rest any more.
    async fn take_body(&mut self, mut body: Body) -> Result<End, Error> {
        while !self.claim.owed().is_empty() {
            let until = self.patience.stall_ends(Instant::now());
            let chunk = tokio::select! {
                biased;
                chunk = timeout_at(until, body.next()) => chunk,
                () = closed(&mut self.interest) => match self.claim.abandon_if_unawaited() {
                    true => return Ok(End::Abandoned),
                    false => timeout_at(until, body.next()).await,
                },
            };
            match chunk {
                Ok(Some(Ok(chunk))) => self.take_chunk(chunk)?,
                Ok(Some(Err(error))) => return Err(error),
                Ok(None) => return Err(broken("the content ended early")),
                Err(_) => return Err(Error::Timeout(self.shared.options.timeout)),
            }
        }
        Ok(End::Complete)
    }

    fn take_chunk(&mut self, mut chunk: Bytes) -> Result<(), Error> {
        // Also an empty one, which says that the limit holds bytes back that have come.
        self.patience.bytes_came(Instant::now());
        while !chunk.is_empty() {
            let len = self.claim.next_len() as usize;
            if len == 0 {
                return Err(broken("more content than asked for"));
            }
            if self.partial.capacity() == 0 {
                // Blocks are copied out of the connection's buffers: a slice would keep the whole buffer.
                self.partial = BytesMut::with_capacity(len);
            }
            let taken = chunk.len().min(len - self.partial.len());
            self.partial.extend_from_slice(&chunk[..taken]);
            chunk.advance(taken);
            if self.partial.len() == len {
                let block = std::mem::take(&mut self.partial).freeze();
                self.claim.publish(block);
                self.patience.block_came();
            }
        }
        Ok(())
    }

    /// After how long to try again, or the error to end with.
    fn after(&mut self, failure: Failure) -> Result<Duration, Error> {
        let error = match failure {
            Failure::Link(error) => return Err(error),
            Failure::Body(error) => error,
            // Of trouble, `api` has waited out what can be: it wants to be left alone for longer than we are waited for.
            Failure::Answer(_, error @ (Error::EntityGone | Error::Trouble { .. })) => {
                return Err(error);
            }
            Failure::Answer(route, error) => {
                let routes = &self.shared.routes;
                if routes.failed(&route) && self.patience.turn() {
                    return Ok(Duration::ZERO);
                }
                if is_of_the_url(&error) {
                    let links = &self.shared.links;
                    links.forget(&self.source.entity, &route.signed);
                    return self.patience.renew().ok_or(error);
                }
                error
            }
        };
        match is_passing(&error) {
            true => self.patience.pause(Instant::now()).ok_or(error),
            false => Err(error),
        }
    }
}

/// Resolves when the reader went elsewhere.
async fn closed(interest: &mut Interest) {
    while interest.changed().await.is_ok() {}
}

fn broken(what: &str) -> Error {
    Error::Transport {
        what: what.to_owned(),
        source: None,
    }
}

/// Whether another URL may help.
fn is_of_the_url(error: &Error) -> bool {
    matches!(
        error,
        Error::UrlExpired | Error::Refused { .. } | Error::Denied { .. }
    )
}

/// Whether the same request may succeed a little later.
pub(super) fn is_passing(error: &Error) -> bool {
    matches!(
        error,
        Error::Transport { .. } | Error::Timeout(_) | Error::Trouble { .. }
    )
}

/// How much longer a fetch goes on.
struct Patience {
    timeout: Duration,
    /// When to give up if no byte comes.
    until: Instant,
    /// Failures since a block came.
    failures: usize,
    /// The URL was exchanged since a block came.
    renewed: bool,
    /// Another host was tried since a block came.
    turned: bool,
}

impl Patience {
    fn new(timeout: Duration, until: Instant) -> Self {
        Self {
            timeout,
            until,
            failures: 0,
            renewed: false,
            turned: false,
        }
    }

    fn bytes_came(&mut self, now: Instant) {
        self.until = now + self.timeout;
    }

    /// Until when a body may stay silent that was silent until `now`. The connection may be dead without our being told
    /// (a router that forgot it), and a new one works while there is still patience: so only a third of it.
    fn stall_ends(&self, now: Instant) -> Instant {
        self.until.min(now + self.timeout / 3)
    }

    fn block_came(&mut self) {
        self.failures = 0;
        self.renewed = false;
        self.turned = false;
    }

    /// Leave to exchange the URL, once.
    fn renew(&mut self) -> Option<Duration> {
        let first = !std::mem::replace(&mut self.renewed, true);
        first.then_some(Duration::ZERO)
    }

    /// Leave to try another host, once.
    fn turn(&mut self) -> bool {
        !std::mem::replace(&mut self.turned, true)
    }

    /// The pause before the next try, if there is one.
    fn pause(&mut self, now: Instant) -> Option<Duration> {
        let pause = *PAUSES.get(self.failures)?;
        self.failures += 1;
        (now + pause < self.until).then_some(pause)
    }
}
