//! Bytes of an entity by its signed URL, and nothing else passed off as them.
//!
//! The server answers an expired URL with status 200 and JSON, some stores answer a range with 200, and networks
//! answer everything with a page of their own: so an answer is content only if its range, length and total are
//! those that were asked for (→ api part 2 §2.4). No credentials: the signature in the URL is the credential.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use reqwest::header::{
    ACCEPT_RANGES, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_RANGE, CONTENT_TYPE, ETAG, HeaderMap,
};
use reqwest::{Method, Response};
use tokio::time::{Instant, sleep_until};
use url::Url;

use super::Error;
use super::error::Asked;
use super::link::{Link, Redirects, Request, is_unreachable, retry_after, text};
use super::pace::Pace;
use super::retry::{Backoff, Failed, Patience, jitter};
use super::wire::Head;
use crate::secret::Secret;

/// The path of content that Cloudreve serves itself, whatever host it names.
const OWN_CONTENT: &str = "/api/v4/file/content/";
/// More than any error envelope has.
const LONGEST_ENVELOPE_BYTES: usize = 64 << 10;
/// More than any thumbnail has; their size box is a few hundred pixels.
const LONGEST_THUMBNAIL_BYTES: usize = 16 << 20;

/// While the limit holds bytes back, an empty piece tells so this often within the timeout.
const SIGNS_OF_LIFE: u32 = 10;

/// The bytes of a range, as they arrive and as the limit lets them through. Dropping it at any time is harmless.
pub struct Content {
    response: Response,
    /// Bytes that have not come yet.
    left: u64,
    timeout: Duration,
    pace: Option<Arc<Pace>>,
    /// Bytes that came and were not handed on yet.
    held: Bytes,
    /// When the first piece of them may be.
    due: Option<Instant>,
}

impl Content {
    /// The next bytes; none at the end. An empty piece says that the sender is well and the limit holds its bytes back,
    /// so that nobody takes the silence for a dead connection. Ends only after exactly the bytes of the range: less is
    /// an error, more is not read. An error after some bytes leaves those bytes good.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        if self.held.is_empty() {
            match self.receive().await? {
                Some(piece) => self.held = piece,
                None => return Ok(None),
            }
        }
        let Some(pace) = &self.pace else {
            return Ok(Some(std::mem::take(&mut self.held)));
        };
        let now = Instant::now();
        let len = self.held.len().min(pace.piece_bytes());
        let due = *self.due.get_or_insert_with(|| pace.take(len, now));
        let sign = now + self.timeout / SIGNS_OF_LIFE;
        if due > sign {
            sleep_until(sign).await;
            return Ok(Some(Bytes::new()));
        }
        sleep_until(due).await;
        self.due = None;
        Ok(Some(self.held.split_to(len)))
    }

    /// The next bytes from the connection, never an empty piece.
    async fn receive(&mut self) -> Result<Option<Bytes>, Error> {
        while self.left > 0 {
            let mut piece = match tokio::time::timeout(self.timeout, self.response.chunk()).await {
                Err(_) => return Err(Error::Timeout(self.timeout)),
                Ok(Err(err)) => return Err(broken_off(err)),
                Ok(Ok(None)) => return Err(Error::transport("the content ended too early")),
                Ok(Ok(Some(piece))) => piece,
            };
            if piece.len() as u64 > self.left {
                piece.truncate(self.left as usize);
            }
            self.left -= piece.len() as u64;
            if !piece.is_empty() {
                return Ok(Some(piece));
            }
        }
        Ok(None)
    }
}

impl fmt::Debug for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Content")
            .field("left", &self.left)
            .finish_non_exhaustive()
    }
}

/// A ranged GET, repeated until headers of content are in, the answer is final, or patience ends.
pub(super) async fn content(
    link: &Arc<Link>,
    url: &Secret,
    range: Range<u64>,
    size_bytes: u64,
    timeout: Duration,
) -> Result<Content, Error> {
    if range.is_empty() || range.end > size_bytes {
        return Err(Error::Refused {
            code: 416,
            said: "the range lies outside of the content".into(),
        });
    }
    let left = range.end - range.start;
    let wanted = Wanted::Range { range, size_bytes };
    Ok(Content {
        response: patiently(link, url, &wanted, timeout).await?,
        left,
        timeout,
        pace: link.pace.clone(),
        held: Bytes::new(),
        due: None,
    })
}

/// A thumbnail's picture, whole. None where there is none behind the URL.
pub(super) async fn picture(
    link: &Arc<Link>,
    url: &Secret,
    timeout: Duration,
) -> Result<Option<Bytes>, Error> {
    let mut response = match patiently(link, url, &Wanted::Picture, timeout).await {
        Ok(response) => response,
        Err(Error::EntityGone | Error::UrlExpired) => return Ok(None),
        Err(error) => return Err(error),
    };
    let picture = body(&mut response, LONGEST_THUMBNAIL_BYTES, timeout).await?;
    if let Some(pace) = &link.pace {
        pace.take(picture.len(), Instant::now());
    }
    Ok(Some(picture).filter(|picture| !picture.is_empty()))
}

/// What an answer is held against.
enum Wanted {
    /// These bytes of an entity of this size.
    Range { range: Range<u64>, size_bytes: u64 },
    /// A whole picture of unknown size.
    Picture,
}

impl Wanted {
    fn range_header(&self) -> Option<String> {
        match self {
            Self::Range { range, .. } => Some(format!("bytes={}-{}", range.start, range.end - 1)),
            Self::Picture => None,
        }
    }

    async fn judge(&self, link: &Link, response: Response) -> Result<Response, Failed> {
        match self {
            Self::Range { range, size_bytes } => verified(link, response, range, *size_bytes).await,
            Self::Picture => verified_picture(link, response).await,
        }
    }
}

async fn patiently(
    link: &Arc<Link>,
    url: &Secret,
    wanted: &Wanted,
    timeout: Duration,
) -> Result<Response, Error> {
    let url = Url::parse(url.expose())
        .ok()
        .filter(|url| matches!(url.scheme(), "http" | "https"))
        .ok_or_else(|| Error::transport("the server gave a download URL that is none"))?;
    let patience = Patience::new(timeout, Instant::now());
    let mut backoff = Backoff::new(Instant::now(), false);
    loop {
        let request = Request {
            range: wanted.range_header(),
            ..Request::new(Method::GET, url.clone(), Redirects::Anywhere)
        };
        let judged = match link.open(request, &patience).await {
            Ok(response) => wanted.judge(link, response).await,
            Err(error) => Err(error.into()),
        };
        let failed = match judged {
            Ok(response) => return Ok(response),
            Err(failed) => failed,
        };
        // The caller may know another way than to a host that cannot be reached from here (→ api part 2 §2.2), and a
        // proxy or a store that is down may be up again: it decides how often to try.
        if is_unreachable(&failed.error) && !link.address().is_origin_of(&url) {
            if !url.path().starts_with(OWN_CONTENT) {
                link.noted.no_content(&failed.error);
            }
            return Err(failed.error);
        }
        match backoff.delay(&failed, &patience, Instant::now(), jitter()) {
            Some(delay) => {
                let host = url.host_str().unwrap_or_default();
                log::debug!("content of {host}, again in {delay:?}: {}", failed.error);
                tokio::time::sleep(delay).await;
            }
            None => {
                link.noted.no_content(&failed.error);
                return Err(failed.error);
            }
        }
    }
}

async fn verified_picture(link: &Link, response: Response) -> Result<Response, Failed> {
    let headers = response.headers();
    let page = text(headers, CONTENT_TYPE).is_some_and(|kind| kind.contains("html"));
    match response.status().as_u16() {
        200 if is_json(headers) => Err(envelope(response).await.into()),
        200 if !page => Ok(response),
        _ => Err(refused(link, &response)),
    }
}

/// The response, if what follows its headers is the range.
async fn verified(
    link: &Link,
    response: Response,
    range: &Range<u64>,
    size_bytes: u64,
) -> Result<Response, Failed> {
    let status = response.status().as_u16();
    let headers = response.headers();
    if !matches!(status, 200 | 206) {
        return Err(refused(link, &response));
    }
    let encoding = text(headers, CONTENT_ENCODING).unwrap_or("identity");
    if !encoding.eq_ignore_ascii_case("identity") {
        return Err(wrong("it is compressed, which nobody asked for"));
    }
    // What says the right range is content whatever its status: some stores send 200 (→ api part 2 §2.3).
    if let Some(told) = headers.get(CONTENT_RANGE) {
        let told = told.to_str().ok().and_then(parse_content_range);
        let length = response.content_length();
        let right = told.is_some_and(|(start, last, total)| {
            (start, last) == (range.start, range.end - 1)
                && total.is_none_or(|total| total == size_bytes)
        });
        return match right && length.is_none_or(|length| length == range.end - range.start) {
            true => Ok(response),
            false => Err(wrong("it is another range than the one asked for")),
        };
    }
    if status == 206 {
        return Err(wrong("it does not say which range it is"));
    }
    // A server that ignores ranges is still of use for the beginning: the rest of its answer is not read.
    let whole = range.start == 0 && response.content_length() == Some(size_bytes);
    if is_json(headers) && (!whole || looks_like_an_envelope(headers)) {
        return Err(envelope(response).await.into());
    }
    match whole {
        true => Ok(response),
        false => Err(wrong("it is not the content (a network's own page?)")),
    }
}

fn wrong(what: &str) -> Failed {
    Error::transport(format!("the answer for content is wrong: {what}")).into()
}

/// `bytes FIRST-LAST/TOTAL`; the total may be `*`.
fn parse_content_range(text: &str) -> Option<(u64, u64, Option<u64>)> {
    let (unit, rest) = text.trim().split_once(' ')?;
    let (range, total) = rest.split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let total = match total.trim() {
        "*" => None,
        total => Some(total.parse().ok()?),
    };
    let number = |text: &str| text.trim().parse::<u64>().ok();
    unit.eq_ignore_ascii_case("bytes")
        .then_some((number(first)?, number(last)?, total))
}

fn is_json(headers: &HeaderMap) -> bool {
    text(headers, CONTENT_TYPE).is_some_and(|kind| kind.contains("json"))
}

/// A JSON *file* has the same type, but the marks of content as well (→ api part 2 §2.4).
fn looks_like_an_envelope(headers: &HeaderMap) -> bool {
    let uncached = text(headers, CACHE_CONTROL).is_some_and(|value| value.contains("no-cache"));
    uncached || !(headers.contains_key(ETAG) || headers.contains_key(ACCEPT_RANGES))
}

/// The error in an envelope (an expired signature has status 200, → api part 2 §2.4) that came where content was asked for.
async fn envelope(mut response: Response) -> Error {
    const WAIT: Duration = Duration::from_secs(5);
    let body = match body(&mut response, LONGEST_ENVELOPE_BYTES, WAIT).await {
        Ok(body) => body,
        Err(error) => return error,
    };
    match Head::read(&body) {
        Ok(head) if head.telling().code != 0 => {
            head.error(Asked::Other, "the server wants an account for this content")
        }
        _ => Error::transport("the answer for content is JSON that is not it"),
    }
}

/// What a status other than 200 and 206 means, by who sent it.
fn refused(link: &Link, response: &Response) -> Failed {
    let status = response.status().as_u16();
    let page = text(response.headers(), CONTENT_TYPE).is_some_and(|kind| kind.contains("html"));
    let master = link.address().is_origin_of(response.url());
    let said = || format!("HTTP {} for content", response.status());
    let code = i64::from(status);
    let error = match status {
        429 | 500.. => {
            return Failed {
                error: Error::Trouble { code, said: said() },
                retry_after: retry_after(response.headers(), link.server_now()),
            };
        }
        416 => Error::Refused {
            code,
            said: "the content is shorter than the server's own records".into(),
        },
        // Stores speak of an expired signature in each of these, some in HTML.
        400 | 401 | 403 | 404 | 410 if !master => Error::UrlExpired,
        // The server itself: the record is there, the bytes are not. A new URL would bring the same.
        404 if !page => Error::Refused {
            code,
            said: "the server lost this content".into(),
        },
        200..400 => Error::transport(format!("{}, which is not content", said())),
        _ if page => Error::transport(format!("{} from something in front of it", said())),
        _ => Error::Refused { code, said: said() },
    };
    error.into()
}

async fn body(response: &mut Response, most: usize, idle: Duration) -> Result<Bytes, Error> {
    let mut body = BytesMut::new();
    loop {
        match tokio::time::timeout(idle, response.chunk()).await {
            Err(_) => return Err(Error::Timeout(idle)),
            Ok(Err(err)) => return Err(broken_off(err)),
            Ok(Ok(None)) => return Ok(body.freeze()),
            Ok(Ok(Some(piece))) if body.len() + piece.len() <= most => {
                body.extend_from_slice(&piece);
            }
            Ok(Ok(Some(_))) => return Err(Error::transport("the answer is too long")),
        }
    }
}

fn broken_off(err: reqwest::Error) -> Error {
    Error::Transport {
        what: "the content broke off".into(),
        // The URL holds the signature.
        source: Some(Arc::new(err.without_url())),
    }
}
