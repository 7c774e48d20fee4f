//! HTTP as everything above it uses it: one request, in a task of its own, to the end of its headers.
//!
//! Promise: a request that was sent is never hung up on before its headers arrived, whatever becomes of who
//! waits for it: on SQLite such a hang-up breaks the server for all of its users (→ api part 2 §0.1). So the
//! request belongs to a task that only its own generous limit ends, and it holds its place among the few that
//! may be under way until then. Once headers are in, dropping the rest is harmless.
//!
//! In the middle of a body that it sends, hanging up is harmless as well, and is what is done where nobody waits any more.
//!
//! Never sends a token to another origin than the server's, and never on the way to content or to a store.

mod noted;
mod outgoing;
mod pools;
mod request;
mod send;

pub(super) use request::{Answer, Body, Lane, Redirects, Request};

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use bytes::BytesMut;
use reqwest::Response;
use reqwest::header::{AGE, DATE, HeaderMap, HeaderName, RETRY_AFTER};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot, watch};
use tokio::time::Instant;
use url::Url;

use super::pace::Pace;
use super::retry::Patience;
use super::{ClientId, Error, Options};
use crate::address::Address;
use crate::expiry::ServerClock;
pub use noted::Failing;
use noted::Noted;
use pools::Pools;

/// Requests for metadata under way at once. With SQLite all of them share one database connection there, so
/// more would only queue on the other side.
const METADATA_REQUESTS: usize = 8;
/// Of those for which the server computes for seconds (thumbnails, sizes of folders).
const SLOW_REQUESTS: usize = 2;
/// Requests at once by which uploads are opened and looked for. At 50 ms one at a time is twenty a second; the uploader
/// bounds how many there are, and this what it may ask of a server however many files go at once.
const SESSION_REQUESTS: usize = 32;
/// Requests for content that wait for headers at once. Small files come at one a round trip and request, so at 50 ms it
/// takes more than twenty of them for 400 files a second; as many again are left for what is waited for.
const CONTENT_REQUESTS: usize = 64;
/// Requests with content for the server under way at once. A bound of memory: each holds about half a megabyte.
const UPLOAD_REQUESTS: usize = 32;
/// The same for stores, which take parts of several files at once.
const STORE_REQUESTS: usize = 64;
/// From sending to headers; longer where callers wait longer. Only a server that is stuck reaches it.
const HEADER_TIMEOUT: Duration = Duration::from_secs(120);
/// In the middle of content, without a byte that is taken; longer where callers wait longer.
const STALL_TIMEOUT: Duration = Duration::from_secs(60);
/// Between two pieces of a JSON body.
const BODY_IDLE_TIMEOUT: Duration = Duration::from_secs(60);
/// Largest JSON body: a page of 2000 entries with a full set of metadata is far below it.
const LONGEST_BODY_BYTES: usize = 64 << 20;
/// Room made for a JSON body that is told to be as long, before any of it is there.
const BODY_TRUSTED_BYTES: u64 = 4 << 20;
/// What is kept of a store's answer, which is all it ever says, or enough of it.
const STORE_BODY_BYTES: usize = 64 << 10;

/// The server's name in error texts, the clock, the two pools and the places in them.
pub(super) struct Link {
    address: Address,
    pools: Pools,
    metadata: Arc<Semaphore>,
    slow: Arc<Semaphore>,
    sessions: Arc<Semaphore>,
    content: Arc<Semaphore>,
    uploads: Arc<Semaphore>,
    stores: Arc<Semaphore>,
    header_timeout: Duration,
    /// The same at a storage, which no promise protects: what hangs there must not keep its place from others.
    storage_timeout: Duration,
    stall_timeout: Duration,
    in_flight: watch::Sender<usize>,
    requests: AtomicU64,
    clock: ServerClock,
    clock_was_set: AtomicBool,
    /// Whose changes they are that are sent here: its own stream of events does not tell of them.
    client: Mutex<ClientId>,
    /// How the last calls went.
    pub(super) noted: Noted,
    /// How fast content may come; none where that is not limited.
    pub(super) pace: Option<Arc<Pace>>,
    /// How fast it may go.
    pace_up: Option<Arc<Pace>>,
}

/// Counts a request for as long as it is under way.
pub(super) struct UnderWay(Arc<Link>);

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.in_flight.send_modify(|count| *count -= 1);
    }
}

impl Link {
    /// Fails where the CA file cannot be used.
    pub(super) fn new(options: &Options) -> Result<Self, Error> {
        Ok(Self {
            address: options.address.clone(),
            pools: Pools::new(options)?,
            metadata: Arc::new(Semaphore::new(METADATA_REQUESTS)),
            slow: Arc::new(Semaphore::new(SLOW_REQUESTS)),
            sessions: Arc::new(Semaphore::new(SESSION_REQUESTS)),
            content: Arc::new(Semaphore::new(CONTENT_REQUESTS)),
            uploads: Arc::new(Semaphore::new(UPLOAD_REQUESTS)),
            stores: Arc::new(Semaphore::new(STORE_REQUESTS)),
            header_timeout: HEADER_TIMEOUT.max(options.timeout.saturating_mul(2)),
            storage_timeout: options.timeout,
            stall_timeout: STALL_TIMEOUT.max(options.timeout),
            in_flight: watch::Sender::new(0),
            requests: AtomicU64::new(0),
            clock: ServerClock::new(),
            clock_was_set: AtomicBool::new(false),
            client: Mutex::new(ClientId::random()),
            noted: Noted::default(),
            pace: Pace::new(options.limit_down_bytes, Instant::now()).map(Arc::new),
            pace_up: Pace::new(options.limit_up_bytes, Instant::now()).map(Arc::new),
        })
    }

    /// The server.
    pub(super) fn address(&self) -> &Address {
        &self.address
    }

    /// As whom changes are sent.
    pub(super) fn client(&self) -> ClientId {
        self.client.lock().unwrap().clone()
    }

    /// Sends changes as `client` from now on.
    pub(super) fn set_client(&self, client: &ClientId) {
        *self.client.lock().unwrap() = client.clone();
    }

    /// The server's time.
    pub(super) fn server_now(&self) -> SystemTime {
        self.clock.now(Instant::now().into_std(), SystemTime::now())
    }

    /// Whether an answer has told the server's time yet.
    pub(super) fn knows_the_time(&self) -> bool {
        self.clock_was_set.load(Ordering::Relaxed)
    }

    /// How far the server's clock is ahead, in seconds.
    pub(super) fn skew_seconds(&self) -> i64 {
        let (ahead, behind) = self
            .clock
            .skew(Instant::now().into_std(), SystemTime::now());
        ahead.as_secs() as i64 - behind.as_secs() as i64
    }

    /// Requests sent so far.
    pub(super) fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    /// Resolves when no request is under way.
    pub(super) async fn drain(&self) {
        // The sender lives in `self`, so waiting cannot fail.
        let _ = self.in_flight.subscribe().wait_for(|n| *n == 0).await;
    }

    /// Lets no further request begin.
    pub(super) fn close(&self) {
        self.metadata.close();
        self.slow.close();
        self.sessions.close();
        self.content.close();
        self.uploads.close();
        self.stores.close();
    }

    /// Sends `request` and brings the whole answer. The caller may stop waiting at any time.
    pub(super) async fn fetch(
        self: &Arc<Self>,
        request: Request,
        lane: Lane,
        patience: &mut Patience,
    ) -> Result<Answer, Error> {
        let places = match lane {
            Lane::Quick => &self.metadata,
            Lane::Slow => &self.slow,
            Lane::Session => &self.sessions,
            Lane::Upload => &self.uploads,
            Lane::Store => &self.stores,
        };
        // Counted before it has its place: who closes and drains must not overlook it between the two.
        let under_way = self.count();
        let place = match lane.is_long() {
            true => Self::turn(places).await?,
            false => self.place(places, patience).await?,
        };
        if lane.is_long() {
            patience.extend(Instant::now());
        }
        let (reply, mut answer) = oneshot::channel();
        let (progress, mut pieces) = watch::channel(());
        let link = Arc::clone(self);
        // A task of its own: nothing that happens to the caller reaches it.
        tokio::spawn(async move {
            let result = link.whole(request, progress).await;
            drop(place);
            drop(under_way);
            // The caller may have given up; then nobody wants it.
            let _ = reply.send(result);
        });
        loop {
            let waited = patience
                .wait(async {
                    tokio::select! {
                        biased;
                        result = &mut answer => Some(result),
                        Ok(()) = pieces.changed() => None,
                    }
                })
                .await?;
            match waited {
                Some(result) => return result.unwrap_or_else(|_| Err(lost())),
                None => patience.extend(Instant::now()),
            }
        }
    }

    /// Sends a request for content and brings its headers; what follows may be dropped at any time.
    pub(super) async fn open(
        self: &Arc<Self>,
        request: Request,
        patience: &Patience,
    ) -> Result<Response, Error> {
        // Counted before it has its place: who closes and drains must not overlook it between the two.
        let under_way = self.count();
        let place = self.place(&self.content, patience).await?;
        let (reply, answer) = oneshot::channel();
        let link = Arc::clone(self);
        tokio::spawn(async move {
            let result = link.headers(request, &watch::Sender::new(())).await;
            drop(place);
            drop(under_way);
            // The caller may have given up; headers are in, so dropping the rest is harmless.
            let _ = reply.send(result);
        });
        patience.wait(answer).await?.unwrap_or_else(|_| Err(lost()))
    }

    async fn place(
        &self,
        places: &Arc<Semaphore>,
        patience: &Patience,
    ) -> Result<OwnedSemaphorePermit, Error> {
        patience.wait(Self::turn(places)).await?
    }

    async fn turn(places: &Arc<Semaphore>) -> Result<OwnedSemaphorePermit, Error> {
        let place = Arc::clone(places).acquire_owned().await;
        place.map_err(|_| Error::Local("the connection to the server was closed here".into()))
    }

    /// Counts something as under way that may have to send more than one request.
    pub(super) fn count(self: &Arc<Self>) -> UnderWay {
        self.in_flight.send_modify(|count| *count += 1);
        UnderWay(Arc::clone(self))
    }

    /// Headers and body of an answer that is not content.
    async fn whole(&self, request: Request, progress: watch::Sender<()>) -> Result<Answer, Error> {
        let is_store = request.redirects == Redirects::Answer;
        let mut response = self.headers(request, &progress).await?;
        progress.send_replace(());
        let host = match is_store {
            true => host_and_port(response.url()),
            false => self.address.host(),
        };
        let told = response.content_length().unwrap_or(0);
        let mut body = BytesMut::with_capacity(told.min(BODY_TRUSTED_BYTES) as usize);
        loop {
            let piece = tokio::time::timeout(BODY_IDLE_TIMEOUT, response.chunk())
                .await
                .map_err(|_| broken(&host, "the answer stopped in the middle", None))?
                .map_err(|err| broken(&host, "the answer broke off", Some(err)))?;
            let Some(mut piece) = piece else { break };
            if is_store && body.len() + piece.len() > STORE_BODY_BYTES {
                piece.truncate(STORE_BODY_BYTES - body.len());
                body.extend_from_slice(&piece);
                break;
            }
            if body.len() + piece.len() > LONGEST_BODY_BYTES {
                let what = "the answer is too long to be one of Cloudreve's";
                return Err(broken(&host, what, None));
            }
            body.extend_from_slice(&piece);
            progress.send_replace(());
        }
        Ok(Answer {
            status: response.status(),
            headers: response.headers().clone(),
            body: body.freeze(),
        })
    }

    /// Learns the server's time from an answer of its own, and returns it; not from one that a cache kept.
    pub(super) fn learn_the_time(&self, headers: &HeaderMap) -> Option<SystemTime> {
        if headers.contains_key(AGE) {
            return None;
        }
        let date = httpdate::parse_http_date(text(headers, DATE)?).ok()?;
        self.clock.observe(Instant::now().into_std(), date);
        self.clock_was_set.store(true, Ordering::Relaxed);
        Some(date)
    }
}

fn broken(host: &str, what: &str, err: Option<reqwest::Error>) -> Error {
    match err {
        None => Error::transport(format!("{host}: {what}")),
        Some(err) => Error::Transport {
            what: format!("{host}: {what}"),
            // The URL may hold a signature or a share's password.
            source: Some(Arc::new(err.without_url())),
        },
    }
}

fn unreached(url: &Url, err: reqwest::Error) -> Error {
    let err = err.without_url();
    let host = host_and_port(url);
    let what = match err.is_connect() {
        true => "cannot be reached",
        false => "closed the connection without an answer",
    };
    let why = match is_no_tls(&err) {
        true => "it does not speak TLS there: is its address http://…, or another port?".into(),
        false => innermost(&err),
    };
    Error::Transport {
        what: format!("{host} {what}: {why}"),
        source: Some(Arc::new(err)),
    }
}

/// The host as error texts name it, with a port that is not its scheme's: one host may serve the API, a storage and a proxy.
fn host_and_port(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    match url.port() {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    }
}

/// Whether `error` is that nothing listens there, so that nothing was sent.
pub(super) fn is_unreachable(error: &Error) -> bool {
    let Error::Transport {
        source: Some(source),
        ..
    } = error
    else {
        return false;
    };
    source
        .downcast_ref::<reqwest::Error>()
        .is_some_and(reqwest::Error::is_connect)
}

/// The value of a header, where it is text.
pub(super) fn text(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    headers.get(name)?.to_str().ok()
}

/// How long the server wants to be left alone; a moment in the past is no time at all.
pub(super) fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let value = text(headers, RETRY_AFTER)?.trim();
    match value.parse::<u64>() {
        Ok(seconds) => Some(Duration::from_secs(seconds)),
        Err(_) => {
            let moment = httpdate::parse_http_date(value).ok()?;
            Some(moment.duration_since(now).unwrap_or_default())
        }
    }
}

fn innermost(err: &dyn std::error::Error) -> String {
    let mut cause = err;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    cause.to_string()
}

/// Whether what answered is no TLS at all, as when `https://` is written before the port of a plain HTTP server.
fn is_no_tls(err: &(dyn std::error::Error + 'static)) -> bool {
    use rustls::{Error, InvalidMessage};
    let mut cause = Some(err);
    while let Some(this) = cause {
        if let Some(Error::InvalidMessage(InvalidMessage::InvalidContentType)) = this.downcast_ref()
        {
            return true;
        }
        // An io::Error's source is that of what it wraps, not what it wraps.
        let wrapped = this
            .downcast_ref::<std::io::Error>()
            .and_then(std::io::Error::get_ref);
        cause = match wrapped {
            Some(wrapped) => Some(wrapped),
            None => this.source(),
        };
    }
    false
}

fn lost() -> Error {
    Error::Local("the request's task ended without an answer".into())
}

#[cfg(test)]
mod tests {
    use reqwest::Method;

    use super::*;
    use crate::secret::Secret;

    fn link() -> Link {
        Link::new(&Options {
            address: "https://h/cloud".parse().unwrap(),
            user_agent: "test/1".into(),
            ca_file: None,
            timeout: Duration::from_secs(1),
            limit_down_bytes: 0,
            limit_up_bytes: 0,
        })
        .unwrap()
    }

    fn request(url: &str, redirects: Redirects) -> Request {
        Request {
            token: Some(Secret::new("token")),
            ..Request::new(Method::GET, Url::parse(url).unwrap(), redirects)
        }
    }

    #[test]
    fn the_log_sees_neither_queries_nor_where_content_lies() {
        let label = |url, redirects| link().label(&request(url, redirects));
        assert_eq!(
            label(
                "https://h/cloud/api/v4/file?uri=secret",
                Redirects::SameOrigin
            ),
            "h/cloud/api/v4/file"
        );
        assert_eq!(
            label(
                "https://cdn/https%3A%2F%2Fh%3Fsign=secret?sign=secret",
                Redirects::Anywhere
            ),
            "content of cdn"
        );
        assert_eq!(
            label("https://s3/bucket/o?sign=secret", Redirects::Answer),
            "content for s3"
        );
        let callback = Request {
            alias: Some("the callback"),
            ..request("https://h/callback/s3/id/secret", Redirects::SameOrigin)
        };
        assert_eq!(link().label(&callback), "the callback of h");
    }

    #[test]
    fn a_token_goes_to_the_servers_own_origin_and_never_with_content() {
        let sent = |url, redirects| {
            let header = link().token_for(&request(url, redirects)).unwrap();
            header.map(|value| (value.to_str().unwrap().to_owned(), value.is_sensitive()))
        };
        let bearer = Some(("Bearer token".to_owned(), true));
        assert_eq!(sent("https://h/api/v4/file", Redirects::SameOrigin), bearer);
        assert_eq!(sent("https://h/api/v4/file", Redirects::Anywhere), None);
        assert_eq!(sent("https://h/api/v4/file", Redirects::Answer), None);
        assert_eq!(sent("http://h/api/v4/file", Redirects::SameOrigin), None);
        assert_eq!(
            sent("https://h:8443/api/v4/file", Redirects::SameOrigin),
            None
        );
        assert_eq!(
            sent("https://evil/api/v4/file", Redirects::SameOrigin),
            None
        );
    }

    #[test]
    fn retry_after_is_seconds_or_a_moment_of_the_servers_clock() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_600_000_000);
        let read = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(RETRY_AFTER, value.parse().unwrap());
            retry_after(&headers, now)
        };
        assert_eq!(read(" 7 "), Some(Duration::from_secs(7)));
        let moment = httpdate::fmt_http_date(now + Duration::from_secs(9));
        assert_eq!(read(&moment), Some(Duration::from_secs(9)));
        let past = httpdate::fmt_http_date(now - Duration::from_secs(9));
        assert_eq!(read(&past), Some(Duration::ZERO));
        assert_eq!(read("soon"), None);
        assert_eq!(read("-1"), None);
    }

    #[test]
    fn a_cached_answer_does_not_set_the_clock() {
        let link = link();
        let mut headers = HeaderMap::new();
        headers.insert(DATE, "Sun, 13 Sep 2020 12:26:40 GMT".parse().unwrap());
        headers.insert(AGE, "5".parse().unwrap());
        assert_eq!(link.learn_the_time(&headers), None);
        assert!(!link.knows_the_time());
        headers.remove(AGE);
        assert!(link.learn_the_time(&headers).is_some());
        assert!(link.skew_seconds() < -1_000_000);
    }
}
