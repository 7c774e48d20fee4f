//! One fetch: brings the blocks of a claim by ranged GETs, through whatever the network does.
//!
//! Bytes are received into segments, and published as soon as somebody who waits has all it waits for, or the segment is
//! full; then they are kept on disk too. A body that breaks or falls silent is continued from there, a URL that
//! is no longer good is exchanged once, a host that does not answer is tried at the server's own address. Gives up after a
//! bounded number of tries without a block, or when no byte came for the timeout; then all who wait get the error, and a
//! later read begins afresh. Runs in a task of its own: who asked may go away.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::{Buf, Bytes};
use futures_util::StreamExt;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep, timeout_at};

use super::buffers::{Buffer, LARGE_BYTES};
use super::lanes::{Lane, Lanes};
use super::origin::Body;
use super::precedence::First;
use super::route::Route;
use super::tally::Tally;
use super::{Shared, Source, Stream};
use crate::api::Error;
use crate::blocks::Claim;
use crate::cache::Kept;
use crate::entity::BLOCK_SIZE_BYTES;

/// Blocks in the largest segment.
const SEGMENT_BLOCKS: u64 = LARGE_BYTES as u64 / BLOCK_SIZE_BYTES;

/// Bodies that may be received at once into large segments. Of more, each has little memory: together they would take more
/// than what is read is worth.
const LARGE_AT_ONCE: usize = 16;
/// Blocks in a segment then.
const SMALL_SEGMENT_BLOCKS: u64 = 2;

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

/// A body that is being received, counted until it is dropped.
struct Receiving<'a>(&'a AtomicUsize);

impl<'a> Receiving<'a> {
    fn begin(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Receiving<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

pub(super) struct Fetch {
    shared: Arc<Shared>,
    source: Source,
    claim: Claim<Error>,
    /// Told when somebody begins to wait for a part of the claim.
    awaited: Arc<Notify>,
    interest: Interest,
    kept: Arc<Kept>,
    /// Of the stream for which it was begun.
    tally: Option<Arc<Tally>>,
    /// Where is told which host is asked.
    tell_lanes: Option<Arc<Mutex<Arc<Lanes>>>>,
    /// Of the host that is asked.
    lanes: Option<Arc<Lanes>>,
    /// The first bytes of what is owed, if any came.
    segment: Option<Segment>,
    /// Where segments begin, if nobody waits for anything else: so many blocks beyond a multiple of the largest.
    phase: u64,
    patience: Patience,
    /// Where to queue for a lane, if nothing of the claim was demanded when it was made.
    queue: Option<Arc<Lanes>>,
    lane: Option<Lane>,
    /// A program waits for it, or will soon.
    _first: Option<First>,
}

/// Blocks on the way into memory.
struct Segment {
    buffer: Buffer,
    len: usize,
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
        until: Instant,
    ) -> Self {
        Self {
            shared: Arc::clone(shared),
            source: source.clone(),
            kept: shared.cache.entity(claim.entity()),
            awaited: claim.awaited(),
            claim,
            interest,
            tally: None,
            tell_lanes: None,
            lanes: None,
            segment: None,
            phase: 0,
            patience: Patience::new(shared.options.timeout, until),
            queue: None,
            lane: None,
            _first: None,
        }
    }

    /// For `stream`: keeps what it brings where that keeps it, is counted there, and begins segments at `phase` blocks.
    pub(super) fn of_stream(mut self, stream: &Stream, phase: u64) -> Self {
        self.kept = Arc::clone(&stream.kept);
        self.tally = Some(Arc::clone(&stream.tally));
        self.phase = phase % SEGMENT_BLOCKS;
        self.telling(&stream.lanes).for_a_program()
    }

    /// Goes before what is fetched for later.
    pub(super) fn for_a_program(mut self) -> Self {
        self._first = Some(self.shared.precedence.goes_first());
        self
    }

    /// Puts into `lanes` which host is asked.
    pub(super) fn telling(mut self, lanes: &Arc<Mutex<Arc<Lanes>>>) -> Self {
        self.tell_lanes = Some(Arc::clone(lanes));
        self
    }

    /// Waits for a lane before it begins, until somebody waits for what it brings.
    pub(super) fn in_lane(mut self, lanes: &Arc<Lanes>) -> Self {
        self.queue = Some(Arc::clone(lanes));
        self
    }

    pub(super) async fn run(mut self) {
        if !self.find_lane().await {
            return;
        }
        if self.queue.is_some() {
            // The time in a queue is not the network's fault.
            self.patience.until = Instant::now() + self.patience.timeout;
        }
        loop {
            let failure = match self.attempt().await {
                Ok(End::Complete | End::Abandoned) => return,
                Err(failure) => failure,
            };
            if let Some(lanes) = &self.lanes
                && self.queue.is_some()
                && is_trouble(failure.error())
            {
                lanes.trouble(Instant::now());
            }
            let entity = &self.source.entity;
            log::debug!("entity {entity}: {}", failure.error());
            match self.after(failure) {
                Ok(pause) if pause.is_zero() => {}
                Ok(pause) => sleep(pause).await,
                Err(error) => return self.claim.fail(error),
            }
        }
    }

    /// Waits for its turn. Whether anybody still wants what it will bring.
    async fn find_lane(&mut self) -> bool {
        let Some(lanes) = self.queue.clone() else {
            return true;
        };
        tokio::select! {
            biased;
            () = self.awaited.notified() => true,
            lane = lanes.enter() => {
                self.lane = Some(lane);
                true
            }
            () = closed(&mut self.interest) => !self.claim.abandon_if_unawaited(),
        }
    }

    async fn attempt(&mut self) -> Result<End, Failure> {
        let shared = Arc::clone(&self.shared);
        let asked = shared.links.get(&shared.origin, &self.source);
        let signed = self.within(self.patience.until, asked).await;
        let signed = signed.map_err(Failure::Link)?;
        let mut range = self.claim.owed_bytes();
        range.start += self
            .segment
            .as_ref()
            .map_or(0, |segment| segment.buffer.len()) as u64;
        let mut until = self.patience.until;
        let route = shared.routes.take(&signed);
        if route.is_doubtful {
            let doubt = DOUBT.min(shared.options.timeout / 3);
            until = until.min(Instant::now() + doubt);
        }
        let lanes = shared.hosts.of(route.url.expose());
        if let Some(tell) = &self.tell_lanes {
            *tell.lock().unwrap() = Arc::clone(&lanes);
        }
        self.lanes = Some(lanes);
        let size_bytes = self.source.size_bytes;
        let asked_at = Instant::now();
        let answer = (shared.origin.content)(route.url.clone(), range, size_bytes);
        match self.within(until, answer).await {
            Ok(body) => {
                shared.routes.answered(&route);
                self.take_body(body, asked_at).await.map_err(Failure::Body)
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
    async fn take_body(&mut self, mut body: Body, asked: Instant) -> Result<End, Error> {
        let shared = Arc::clone(&self.shared);
        let _receiving = Receiving::begin(&shared.receiving);
        let (mut first_byte, mut bytes) = (None, 0);
        let mut is_left = false;
        let mut silent_until = self.patience.stall_ends(Instant::now());
        while !self.claim.owed().is_empty() {
            let chunk = tokio::select! {
                biased;
                chunk = timeout_at(silent_until, body.next()) => chunk,
                () = self.awaited.notified() => {
                    self.publish_awaited();
                    continue;
                }
                () = closed(&mut self.interest), if !is_left => {
                    is_left = true;
                    match self.claim.abandon_if_unawaited() {
                        true => return Ok(End::Abandoned),
                        false => continue,
                    }
                }
            };
            let chunk = match chunk {
                Ok(Some(chunk)) => chunk?,
                Ok(None) => return Err(broken("the content ended early")),
                Err(_) => return Err(Error::Timeout(self.shared.options.timeout)),
            };
            let now = Instant::now();
            // Also with an empty one, which says that the limit holds bytes back that have come.
            self.patience.bytes_came(now);
            if !chunk.is_empty() {
                first_byte.get_or_insert(now);
                bytes += chunk.len() as u64;
                if let Some(lanes) = &self.lanes {
                    lanes.bytes_came(chunk.len() as u64, now);
                }
            }
            self.take_chunk(chunk)?;
            self.shared.disk_wait.spare(&self.shared.cache).await;
            silent_until = self.patience.stall_ends(Instant::now());
            if is_left && self.claim.abandon_if_unawaited() {
                return Ok(End::Abandoned);
            }
        }
        if let Some(first_byte) = first_byte.filter(|_| bytes >= LARGE_BYTES as u64)
            && let Some(lanes) = &self.lanes
        {
            let time = Instant::now() - first_byte;
            lanes.range_came(first_byte - asked, bytes, time);
        }
        Ok(End::Complete)
    }

    fn take_chunk(&mut self, mut chunk: Bytes) -> Result<(), Error> {
        while !chunk.is_empty() {
            if self.claim.owed().is_empty() {
                return Err(broken("more content than asked for"));
            }
            let mut segment = match self.segment.take() {
                Some(segment) => segment,
                None => self.new_segment(),
            };
            // Copied out of the connection's buffers: a slice would keep the whole buffer.
            let taken = chunk.len().min(segment.len - segment.buffer.len());
            let complete = segment.buffer.len() as u64 / BLOCK_SIZE_BYTES;
            segment.buffer.push(&chunk[..taken]);
            chunk.advance(taken);
            if segment.buffer.len() as u64 / BLOCK_SIZE_BYTES > complete {
                self.patience.block_came();
            }
            match segment.buffer.len() == segment.len {
                true => self.publish(segment.buffer.freeze()),
                false => self.segment = Some(segment),
            }
        }
        self.publish_awaited();
        Ok(())
    }

    /// Memory for the blocks owed next: as far as the first one needs who waits, else up to where the next read of the
    /// kernel probably begins.
    fn new_segment(&self) -> Segment {
        let owed = self.claim.owed();
        let whole = SEGMENT_BLOCKS - (owed.start + SEGMENT_BLOCKS - self.phase) % SEGMENT_BLOCKS;
        let blocks = match self.shared.receiving.load(Ordering::Relaxed) > LARGE_AT_ONCE {
            true => SMALL_SEGMENT_BLOCKS,
            false => SEGMENT_BLOCKS,
        };
        let most = owed.end.min(owed.start + blocks);
        let end = match self.claim.first_stop() {
            Some(stop) => stop.min(most),
            None => most.min(owed.start + whole),
        };
        let bytes = self.claim.entity().bytes_of(&(owed.start..end));
        let len = (bytes.end - bytes.start) as usize;
        let buffer = self.shared.buffers.take(len);
        Segment { buffer, len }
    }

    /// Gives who waits what is complete of the segment, if that is all it waits for.
    fn publish_awaited(&mut self) {
        let Some(segment) = &mut self.segment else {
            return;
        };
        let first = self.claim.owed().start;
        let complete = segment.buffer.len() as u64 / BLOCK_SIZE_BYTES;
        if complete == 0 {
            return;
        }
        let Some(stop) = self.claim.last_stop(first + complete) else {
            return;
        };
        let len = ((stop - first) * BLOCK_SIZE_BYTES) as usize;
        let front = segment.buffer.split_front(len);
        segment.len -= len;
        self.publish(front);
    }

    fn publish(&mut self, bytes: Bytes) {
        let len = bytes.len() as u64;
        self.shared.tally.fetched.add(len);
        if let Some(tally) = &self.tally {
            tally.fetched.add(len);
        }
        self.kept.store(self.claim.owed().start, bytes.clone());
        self.claim.publish(bytes);
        self.patience.block_came();
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

/// Whether the host has enough of us.
fn is_trouble(error: &Error) -> bool {
    matches!(error, Error::Trouble { .. })
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
