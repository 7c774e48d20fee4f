//! Connections: from accept to the last byte of an answer, with all that may go wrong on purpose.
//!
//! A request is received in full, delayed, answered under the lock, and sent. A client that goes between the first
//! and the last of these, before it has its headers, is counted: on SQLite it would have hurt everybody
//! (→ api part 2 §0.1).

use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http_body_util::{BodyExt, Either};
use hyper::body::{Frame, Incoming, SizeHint};
use hyper::header::{CONTENT_LENGTH, HeaderMap};
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::clock::{Clock, Time};
use crate::faults::{Effect, Faults, Verdict};
use crate::line::Line;
use crate::log::{LoggedRequest, RequestLog};
use crate::options::Settings;
use crate::reply::{Body, Reply};
use crate::route::Route;
use crate::routes;
use crate::site::Site;
use crate::stream::EventStream;
use crate::trace;
use crate::uri::percent;

/// Bytes handed to the connection at once: large enough to be fast, small enough to be cut smoothly.
const PIECE: u64 = 128 << 10;

/// How long a piece may take on a slow line: short beside a round trip, so that what is slowed comes smoothly, too.
const PIECE_TIME: Duration = Duration::from_millis(5);

/// Even a very slow line takes so many bytes at once.
const SMALLEST_PIECE: u64 = 4 << 10;

/// How long bytes before a cut get to leave the machine.
const FLUSH_TIME: Duration = Duration::from_millis(20);

/// How long nothing is accepted after accepting failed.
const ACCEPT_PAUSE: Duration = Duration::from_millis(10);

/// How long a hang-up breaks the database for all (→ api part 2 §0.1).
const WEDGE_TIME: Duration = Duration::from_secs(30);

/// What all connections share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) site: Mutex<Site>,
    pub(crate) faults: Mutex<Faults>,
    pub(crate) log: Mutex<RequestLog>,
    /// Told of each request that arrives.
    pub(crate) arrived: Condvar,
    pub(crate) clock: Clock,
    pub(crate) wedge_on_hangup: bool,
    /// Changes whenever faults are cleared, which ends stalls.
    pub(crate) cleared: watch::Sender<u64>,
    /// What all bodies go over, at the set bandwidth.
    pub(crate) line: Line,
    /// It was killed: requests under way end without an answer, and not by their clients.
    pub(crate) stopped: AtomicBool,
}

impl Shared {
    /// Wakes who waits for something that is not in the log.
    pub(crate) fn tell_arrived(&self) {
        // Who has just looked and begins to wait holds the log.
        drop(self.log.lock().unwrap());
        self.arrived.notify_all();
    }
}

/// Which of the two origins a connection belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    Api,
    Store,
}

/// A request as the handlers get it.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) route: Route,
    pub(crate) method: Method,
    /// Still percent-encoded.
    pub(crate) path: String,
    pub(crate) query: Vec<(String, String)>,
    /// The query as it came.
    pub(crate) raw_query: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    pub(crate) now: Time,
    /// The fault in force, for handlers of content.
    pub(crate) effect: Effect,
}

impl Asked {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    pub(crate) fn param(&self, name: &str) -> Option<&str> {
        self.query
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }

    /// Whether a parameter says yes, as Go reads it.
    pub(crate) fn flag(&self, name: &str) -> bool {
        matches!(
            self.param(name),
            Some("true" | "1" | "t" | "T" | "TRUE" | "True")
        )
    }

    /// The path's segments behind `/api/v4`, decoded.
    pub(crate) fn segment(&self, index: usize) -> String {
        let segment = self.path.split('/').nth(index + 3).unwrap_or_default();
        percent::decode(segment).unwrap_or_default()
    }
}

/// Accepts until the runtime ends.
pub(crate) async fn accept(listener: std::net::TcpListener, origin: Origin, shared: Arc<Shared>) {
    let Ok(listener) = TcpListener::from_std(listener) else {
        return;
    };
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            // Out of descriptors, most likely: some will be free in a moment.
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        tokio::spawn(connection(stream, origin, Arc::clone(&shared)));
    }
}

async fn connection(stream: TcpStream, origin: Origin, shared: Arc<Shared>) {
    // A connection works without it, only slower.
    stream.set_nodelay(true).ok();
    let wire = Arc::new(Wire::default());
    let socket = TokioIo::new(Socket {
        stream,
        wire: Arc::clone(&wire),
    });
    let service = hyper::service::service_fn(move |request| {
        let (shared, wire) = (Arc::clone(&shared), Arc::clone(&wire));
        async move { serve(&shared, &wire, origin, request).await }
    });
    // It ends in error whenever a client goes or a fault cuts it: both are seen where they happen.
    hyper::server::conn::http1::Builder::new()
        .serve_connection(socket, service)
        .await
        .ok();
}

/// What answers on one connection share.
#[derive(Debug, Default)]
struct Wire {
    /// It ends with a reset.
    reset: AtomicBool,
    /// What its bodies go over, at the bandwidth of a connection.
    line: Line,
}

/// A socket that may end with a reset.
struct Socket {
    stream: TcpStream,
    wire: Arc<Wire>,
}

impl Drop for Socket {
    fn drop(&mut self) {
        if self.wire.reset.load(Ordering::Relaxed) {
            // Without it the connection ends in good order, which the test will notice.
            self.stream.set_zero_linger().ok();
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// The end of a connection that a fault, or the client, wanted.
#[derive(Debug)]
pub(crate) struct Cut;

impl std::fmt::Display for Cut {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the connection was cut")
    }
}

impl std::error::Error for Cut {}

impl From<Infallible> for Cut {
    fn from(never: Infallible) -> Self {
        match never {}
    }
}

/// Counts a client that went while its request was being answered, unless disarmed.
struct Waiting<'a> {
    shared: &'a Shared,
    answered: bool,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut log = self.shared.log.lock().unwrap();
        log.in_flight -= 1;
        if self.answered || self.shared.stopped.load(Ordering::SeqCst) {
            return;
        }
        log.hung_up += 1;
        drop(log);
        if self.shared.wedge_on_hangup {
            let until = self.shared.clock.now().plus(WEDGE_TIME);
            self.shared.site.lock().unwrap().wedged_until = Some(until);
        }
    }
}

async fn serve(
    shared: &Arc<Shared>,
    wire: &Arc<Wire>,
    origin: Origin,
    request: Request<Incoming>,
) -> Result<Response<Sent>, Cut> {
    let (head, body) = request.into_parts();
    let route = match origin {
        Origin::Api => Route::of(&head.method, head.uri.path()),
        Origin::Store => Route::of_store(
            &head.method,
            head.uri.path(),
            head.uri.query().unwrap_or_default(),
        ),
    };
    // A client that goes in the middle of its body does no harm: nothing was done yet.
    let body = body.collect().await.map_err(|_| Cut)?.to_bytes();
    shared.log.lock().unwrap().in_flight += 1;
    let mut waiting = Waiting {
        shared,
        answered: false,
    };
    let logged = LoggedRequest {
        at: SystemTime::now(),
        route,
        method: head.method.to_string(),
        path: head.uri.path().to_owned(),
        query: head.uri.query().unwrap_or_default().to_owned(),
        headers: head
            .headers
            .iter()
            .map(|(k, v)| (k.to_string(), String::from_utf8_lossy(v.as_bytes()).into()))
            .collect(),
        body_size: body.len() as u64,
    };
    shared.log.lock().unwrap().note(logged);
    shared.arrived.notify_all();
    // Before it is known whether it stalls: who clears the faults from now on means this one, too.
    let mut cleared = shared.cleared.subscribe();
    let verdict = shared.faults.lock().unwrap().decide(route);
    let latency = shared.site.lock().unwrap().settings.latency
        + verdict.as_ref().map_or(Duration::ZERO, |v| v.delay);
    if latency > Duration::ZERO {
        tokio::time::sleep(latency).await;
    }
    let asked = Asked {
        route,
        method: head.method,
        path: head.uri.path().to_owned(),
        query: percent::pairs(head.uri.query().unwrap_or_default()),
        raw_query: head.uri.query().unwrap_or_default().to_owned(),
        headers: head.headers,
        body,
        now: shared.clock.now(),
        effect: verdict
            .as_ref()
            .map_or(Effect::None, |verdict| verdict.effect.clone()),
    };
    let reply = reply_to(shared, &asked, verdict.as_ref());
    trace::write(&asked, &reply);
    // Whatever becomes of it now: who subscribed by it is known to be gone when it is dropped.
    let response = respond(shared, wire, (&asked, &cleared), reply);
    match asked.effect {
        Effect::ResetBeforeHeaders => {
            waiting.answered = true;
            wire.reset.store(true, Ordering::Relaxed);
            return Err(Cut);
        }
        Effect::Stall => until_changed(&mut cleared).await,
        _ => {}
    }
    waiting.answered = true;
    Ok(response)
}

/// Returns when faults are cleared, or were since they were decided on.
async fn until_changed(cleared: &mut watch::Receiver<u64>) {
    // The sender lives as long as the server; without it there is nothing to wait for.
    cleared.changed().await.ok();
}

/// The answer of the fault if it comes before the server, else that of the server.
fn reply_to(shared: &Shared, asked: &Asked, verdict: Option<&Verdict>) -> Reply {
    let page = "<!DOCTYPE html>\n<html><head><title>Sign in to this network</title></head><body>Welcome!</body></html>\n";
    let mut reply = match &asked.effect {
        Effect::Status(status) => Reply::new(*status, "text/html", page),
        Effect::HtmlPage => Reply::new(200, "text/html; charset=utf-8", page),
        Effect::ErrorDocument => Reply::new(
            200,
            "application/xml",
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>InternalError</Code><Message>We encountered an internal error. Please try again.</Message></Error>",
        ),
        Effect::EmptyBody => Reply::new(200, "text/plain", Bytes::new()),
        Effect::Redirect(location) => Reply::redirect(location),
        _ => return routes::answer(&mut shared.site.lock().unwrap(), asked),
    };
    if let Some(seconds) = verdict.and_then(|verdict| verdict.retry_after) {
        reply.set("retry-after", &seconds.to_string());
    }
    reply
}

fn respond(
    shared: &Arc<Shared>,
    wire: &Arc<Wire>,
    (asked, cleared): (&Asked, &watch::Receiver<u64>),
    mut reply: Reply,
) -> Response<Sent> {
    reply.set("date", &asked.now.http_date());
    if let Body::Events(id) = reply.body {
        shared.tell_arrived();
        let mut response = Response::new(Either::Right(EventStream::new(shared, id)));
        *response.headers_mut() = reply.headers;
        return response;
    }
    let length = reply.body.len();
    if asked.method == Method::HEAD {
        if !reply.headers.contains_key(CONTENT_LENGTH) {
            reply.set("content-length", &length.to_string());
        }
        reply.body = Body::Bytes(Bytes::new());
    }
    let cut = match asked.effect {
        Effect::TruncateAfter(bytes) => Some((bytes, How::End)),
        Effect::ResetAfter(bytes) => Some((bytes, How::Reset)),
        Effect::StallAfter(bytes) => Some((bytes, How::Stall)),
        _ => None,
    };
    let length = reply.body.len();
    let body = Outgoing {
        shared: Arc::clone(shared),
        wire: Arc::clone(wire),
        cleared: cleared.clone(),
        body: reply.body,
        length,
        sent: 0,
        cut: cut.filter(|(bytes, _)| *bytes < length),
        pause: None,
        flushed: false,
        paid: 0,
    };
    let mut response = Response::new(Either::Left(body));
    *response.status_mut() = reply.status;
    *response.headers_mut() = reply.headers;
    response
}

/// The body of an answer.
type Sent = Either<Outgoing, EventStream>;

/// How a body is cut short.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum How {
    End,
    Reset,
    Stall,
}

/// The body of an answer: sent in pieces, at the set bandwidth, until a fault cuts it.
pub(crate) struct Outgoing {
    shared: Arc<Shared>,
    wire: Arc<Wire>,
    /// Changes when faults are cleared.
    cleared: watch::Receiver<u64>,
    body: Body,
    length: u64,
    sent: u64,
    cut: Option<(u64, How)>,
    pause: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    flushed: bool,
    /// Bytes whose time on the line has passed, but which were not handed over yet.
    paid: u64,
}

impl Outgoing {
    /// Bytes of the next piece, before `end`.
    fn piece_length(&self, end: u64) -> u64 {
        let slowest = match self.rates() {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        };
        let most = slowest.map_or(PIECE, |rate| {
            let in_time = (rate as f64 * PIECE_TIME.as_secs_f64()) as u64;
            in_time.clamp(SMALLEST_PIECE, PIECE)
        });
        (end - self.sent).min(most)
    }

    /// Until when a piece of this size has to wait for the lines it goes over, if they are limited.
    fn reserve(&self, bytes: u64) -> Option<Instant> {
        let now = Instant::now();
        let (all, own) = self.rates();
        let all = all.map(|rate| self.shared.line.take(bytes, rate, now));
        let own = own.map(|rate| self.wire.line.take(bytes, rate, now));
        all.max(own)
    }

    /// Bytes a second: of all connections together, and of this one.
    fn rates(&self) -> (Option<u64>, Option<u64>) {
        let site = self.shared.site.lock().unwrap();
        let Settings {
            bandwidth,
            connection_bandwidth,
            ..
        } = site.settings;
        (bandwidth, connection_bandwidth)
    }

    fn piece(&self, length: u64) -> Bytes {
        match &self.body {
            Body::Bytes(bytes) => bytes.slice(self.sent as usize..(self.sent + length) as usize),
            Body::Content(content, start, _) => {
                content.read(start + self.sent..start + self.sent + length)
            }
            // They have a body of their own.
            Body::Events(_) => Bytes::new(),
        }
    }

    /// What to do at the place of the cut: pause, or end with an error.
    fn at_cut(&mut self, how: How) -> Option<Cut> {
        if how == How::Stall {
            let mut cleared = self.cleared.clone();
            self.cut = None;
            self.pause = Some(Box::pin(async move { until_changed(&mut cleared).await }));
            return None;
        }
        if !self.flushed {
            self.flushed = true;
            self.pause = Some(Box::pin(tokio::time::sleep(FLUSH_TIME)));
            return None;
        }
        if how == How::Reset {
            self.wire.reset.store(true, Ordering::Relaxed);
        }
        Some(Cut)
    }
}

impl hyper::body::Body for Outgoing {
    type Data = Bytes;
    type Error = Cut;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        loop {
            if let Some(pause) = &mut self.pause {
                std::task::ready!(pause.as_mut().poll(cx));
                self.pause = None;
            }
            let mut end = self.length;
            if let Some((at, how)) = self.cut {
                end = at;
                if self.sent == at {
                    match self.at_cut(how) {
                        Some(cut) => return Poll::Ready(Some(Err(cut))),
                        None => continue,
                    }
                }
            }
            if self.sent == end {
                return Poll::Ready(None);
            }
            let paid = std::mem::take(&mut self.paid);
            let length = match paid {
                0 => self.piece_length(end),
                length => length.min(end - self.sent),
            };
            if paid == 0
                && let Some(at) = self.reserve(length)
            {
                self.paid = length;
                self.pause = Some(Box::pin(tokio::time::sleep_until(at)));
                continue;
            }
            let piece = self.piece(length);
            self.sent += length;
            let mut log = self.shared.log.lock().unwrap();
            log.body_bytes += length;
            if let Body::Content(..) = self.body {
                log.content_bytes += length;
            }
            drop(log);
            return Poll::Ready(Some(Ok(Frame::data(piece))));
        }
    }

    fn is_end_stream(&self) -> bool {
        self.sent == self.length
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.length - self.sent)
    }
}
