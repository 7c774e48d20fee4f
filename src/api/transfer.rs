//! Content sent: in one request, by the chunks of an upload session, and to the stores behind the server.
//!
//! Every body has a known length. Nothing of the account goes to a store: neither its token nor headers of Cloudreve's.
//!
//! Who drops one of these futures breaks its request off, but only in the middle of the body, where the receiver does not
//! count it; later it goes on to its end. So what became of a dropped one is known to nobody until somebody looks.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use reqwest::Method;
use reqwest::header::{ETAG, HeaderMap, HeaderName, HeaderValue};
use serde_json::json;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout};
use url::Url;

use super::call::Call;
use super::change::check_metadata;
use super::error::Asked;
use super::files::on;
use super::link::{Body, Lane, Redirects, Request, retry_after, text};
use super::retry::Patience;
use super::wire::{self, WireFile, WireSession};
use super::{Api, Error, segment};
use crate::model::{EntityId, FileInfo};
use crate::secret::Secret;
use crate::uri::FileUri;

/// How long a caller waits for a session, which some stores take their time to prepare.
const OPENING: Duration = Duration::from_secs(60);
/// How long the answer itself is waited for, so that a session nobody wants any more is cancelled.
const OPENING_AT_ALL: Duration = Duration::from_secs(180);
/// How long a store or a completion is waited for without bytes moving.
const STORING: Duration = Duration::from_secs(300);
/// What the server says to a chunk of a session that it does not know, or not of this visitor's (→ api part 2 §5.7).
const SESSION_GONE: i64 = 40011;
/// Entries of metadata that come with content at most (→ api part 2 §5.1).
const MOST_METADATA: usize = 256;
/// The last moment of the year 9999, in milliseconds: a later one is refused only when all is sent (→ api part 2 §5.1).
const LATEST_MILLIS: u64 = 253_402_300_799_999;

/// The one cipher that an upload may be enciphered with, as the server calls it.
pub const CIPHER: &str = "aes-256-ctr";

/// A body, read as it is sent: asked for pieces in order by offset and longest length, on threads that may block unless it
/// is in memory. An error of it breaks the request off in mid-body, so that the receiver does not count it.
#[derive(Clone)]
pub struct Part {
    /// Bytes in all.
    pub len: u64,
    /// The bytes from an offset on, no more than the given number, and not none before the end.
    pub read: Arc<dyn Fn(u64, usize) -> io::Result<Bytes> + Send + Sync>,
    /// They are in memory: [`Part::read`] does not block.
    pub in_memory: bool,
}

impl From<Bytes> for Part {
    fn from(bytes: Bytes) -> Self {
        Self {
            len: bytes.len() as u64,
            read: Arc::new(move |offset, most| {
                // Within `bytes`: who sends asks for nothing behind the end.
                let from = usize::try_from(offset)
                    .unwrap_or(usize::MAX)
                    .min(bytes.len());
                let to = from.saturating_add(most).min(bytes.len());
                Ok(bytes.slice(from..to))
            }),
            in_memory: true,
        }
    }
}

impl fmt::Debug for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Part({} bytes)", self.len)
    }
}

/// A session to be opened.
#[derive(Debug, Clone)]
pub struct NewSession {
    /// Where.
    pub uri: FileUri,
    /// Bytes in all.
    pub size_bytes: u64,
    /// mtime. The server knows milliseconds after 1970 up to the year 9999: another moment becomes the nearest of these.
    pub modified: SystemTime,
    /// Over an existing file (`entity_type: version`), whose current version this is; a new file where none.
    pub over: Option<EntityId>,
    /// Metadata that arrives with the content: at most 256 entries, values up to
    /// [`METADATA_VALUE_MAX_BYTES`](super::METADATA_VALUE_MAX_BYTES).
    pub metadata: BTreeMap<String, String>,
}

/// An open upload session, with all that it takes to go on with it after a restart (→ api part 2 §5.2). `Debug` shows none
/// of its secrets.
#[derive(Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[expect(
    missing_docs,
    reason = "the names are those of the server, where they are described"
)]
pub struct Session {
    pub session_id: String,
    #[serde(default)]
    pub upload_id: String,
    #[serde(default)]
    pub chunk_size: u64,
    /// Unix seconds of the server's clock.
    pub expires: u64,
    #[serde(default)]
    pub upload_urls: Vec<String>,
    #[serde(default)]
    pub credential: String,
    #[serde(default, rename = "completeURL")]
    pub complete_url: String,
    #[serde(default)]
    pub callback_secret: String,
    #[serde(default)]
    pub mime_type: String,
    #[serde(default)]
    pub upload_policy: String,
    /// `local`, `remote`, `s3`, …
    #[serde(default)]
    pub policy: String,
    #[serde(default)]
    pub relay: bool,
    #[serde(default)]
    pub chunk_concurrency: u32,
    /// The storage is to hold nothing in clear.
    #[serde(default)]
    pub encryption: bool,
    /// Where the content has to be enciphered before it is sent, wherever it is sent to.
    #[serde(default)]
    pub encrypt_metadata: Option<Encryption>,
}

/// How the content of one session is enciphered. Has no `Debug`: it is a key.
#[derive(Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[expect(
    missing_docs,
    reason = "the names are those of the server, where they are described"
)]
pub struct Encryption {
    #[serde(default)]
    pub algorithm: String,
    /// Base64.
    #[serde(default)]
    pub key_plain_text: String,
    /// Base64.
    #[serde(default)]
    pub iv: String,
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("session_id", &self.session_id)
            .field("policy", &self.policy)
            .field("relay", &self.relay)
            .field("chunk_size", &self.chunk_size)
            .field("expires", &self.expires)
            .finish_non_exhaustive()
    }
}

/// A request to a store behind the server.
#[derive(Debug)]
pub struct PartRequest {
    /// `PUT`, `POST`, `GET`.
    pub method: &'static str,
    /// Signed, so a secret.
    pub url: Secret,
    /// Beside `Content-Length`; values may be secrets.
    pub headers: Vec<(&'static str, Secret)>,
    /// What is sent. Without bytes, a `GET` has no body and others have an empty one.
    pub body: Part,
}

/// What a store answered: any status is an answer here, redirects too.
#[derive(Debug, Clone)]
pub struct PartAnswer {
    /// HTTP.
    pub status: u16,
    /// `ETag`, verbatim.
    pub etag: Option<String>,
    /// `Retry-After`.
    pub retry_after: Option<Duration>,
    /// The first 64 KiB of the body.
    pub body: Bytes,
}

impl Api {
    /// `PUT /file/content`: one request, new file or new version over `previous`. mtime is the server's now. Missing
    /// folders above are made; what a move of ours took away a moment ago is [`Error::NotFound`]. Larger than the site allows here (50 MiB unless it was changed) is [`Error::TooLarge`],
    /// after all of it was sent: take a session then. After a lost answer the caller looks.
    pub async fn put_content(
        &self,
        uri: &FileUri,
        previous: Option<&EntityId>,
        body: Part,
    ) -> Result<FileInfo, Error> {
        let mut call =
            on(Call::content(Method::PUT, "/file/content", body), uri).with("uri", uri.to_wire());
        if let Some(previous) = previous {
            call = call.with("previous", &*previous.0);
        }
        let _sending = self.sending(uri, previous.is_none()).await?;
        let answer = self.0.envelope(call).await?;
        wire::data::<WireFile>(&answer.body)?.into_info()
    }

    /// `PUT /file/upload`. [`Error::Exists`] where a new file's name is taken, [`Error::Changed`] where `over` is not
    /// current. Not for files of no bytes: some stores refuse them. Of a new file the caller knows that its name
    /// [is told apart](Api::is_told_apart). [`Error::NotFound`] where a move of ours took its folder, or the file itself,
    /// away a moment ago.
    ///
    /// The request lives on if the caller does not, since an aborted one would leave a placeholder; a session that comes
    /// then, or after the caller waited long enough, is cancelled.
    pub async fn open_session(&self, new: &NewSession) -> Result<Session, Error> {
        let body = session_json(new)?;
        let (reply, answer) = oneshot::channel();
        let (api, uri, is_new) = (self.clone(), new.uri.clone(), new.over.is_none());
        // Counted over both calls: who closes and drains must not overlook the second one.
        let under_way = self.0.link.count();
        tokio::spawn(async move {
            let call = on(Call::send(Method::PUT, "/file/upload", &body), &uri);
            let opened = async {
                let _sending = api.sending(&uri, is_new).await?;
                api.0.ask(call.patient(OPENING_AT_ALL).session()).await
            };
            let opened = opened.await.and_then(WireSession::into_session);
            let session = opened
                .as_ref()
                .ok()
                .map(|session| session.session_id.clone());
            let (taken, is_taken) = oneshot::channel();
            // Sent is not received: the caller may leave between the two.
            let is_lost = reply.send((opened, taken)).is_err() || is_taken.await.is_err();
            if let Some(session) = session.filter(|_| is_lost) {
                api.discard(&session, &uri).await;
            }
            drop(under_way);
        });
        let patience = self.0.timeout.max(OPENING);
        match timeout(patience, answer).await {
            Ok(Ok((opened, taken))) => {
                // Its task waits for nothing else, and cannot be gone.
                let _ = taken.send(());
                if opened.is_ok() {
                    self.is_there(&new.uri);
                }
                opened
            }
            Ok(Err(_)) => Err(Error::Local("the task that opens a session ended".into())),
            Err(_) => Err(Error::Timeout(patience)),
        }
    }

    /// Cancels a session that nobody took.
    async fn discard(&self, session: &str, uri: &FileUri) {
        match self.cancel_session(session, uri).await {
            Ok(()) => log::debug!("upload session {session} came too late and is cancelled"),
            Err(err) => log::warn!("upload session {session} is left behind: {err}"),
        }
    }

    /// `POST /file/upload/ID/INDEX` (local, relay). The last one completes, which may take long. A chunk may be sent again
    /// until the session has all of them.
    ///
    /// A code 0 proves no upload: after any failure a completing chunk is answered so without completing. Only `info`
    /// tells. [`Error::SessionGone`] with an access token that was renewed for it; [`Error::Trouble`] with code 50004 where
    /// the storage takes chunks in their order only.
    pub async fn send_chunk(&self, session: &str, index: u64, body: Part) -> Result<(), Error> {
        let path = format!("/file/upload/{}/{index}", segment(session));
        let call = Call::content(Method::POST, path, body)
            .about(Asked::Other)
            .strangers_hear(SESSION_GONE)
            .in_session();
        self.0.envelope(call).await.map(drop)
    }

    /// `DELETE /file/upload`. Fine where the session is finished or unknown. Another answer is for the caller to re-stat:
    /// it may come after the session was cancelled, and [`Error::NotFound`] where nothing is at `uri` any more.
    /// [`Error::Locked`]: another session is open there. Of a file without content, made by [`Api::create_file`], this
    /// deletes the file.
    pub async fn cancel_session(&self, session: &str, uri: &FileUri) -> Result<(), Error> {
        let body = json!({ "id": session, "uri": uri.to_wire() });
        let cancel = || {
            let call = Call::send(Method::DELETE, "/file/upload", &body);
            self.0.envelope(call.patient(OPENING))
        };
        match cancel().await {
            // Twice does no harm, and a session that is left behind does.
            Err(Error::Transport { .. }) => cancel().await.map(drop),
            answer => answer.map(drop),
        }
    }

    /// `GET|POST /callback/TYPE/ID/SECRET` (s3, ks3, cos; onedrive): the content is all at the store. Sent once; it may be
    /// repeated while the session lives. [`Error::SessionGone`] also where an earlier one arrived: look.
    pub async fn callback(&self, session: &Session) -> Result<(), Error> {
        let path = format!(
            "/callback/{}/{}/{}",
            segment(&session.policy),
            segment(&session.session_id),
            segment(&session.callback_secret)
        );
        let call = match session.policy.as_str() {
            "onedrive" => Call::send(Method::POST, &path, &json!({})),
            _ => Call::get(path).once(),
        };
        let call = call
            .about(Asked::Other)
            .with_statuses()
            .called("the callback")
            .patient(STORING);
        match self.0.envelope_as_nobody(call).await {
            Ok(_) => Ok(()),
            // The secret was not accepted, which says nothing of any account.
            Err(Error::SignedOut(_)) => Err(Error::Refused {
                code: 401,
                said: "the server does not take this callback's secret".into(),
            }),
            Err(error) => Err(error),
        }
    }

    /// To a store. No token, no header of ours but `User-Agent`, no redirect followed. The chunks of a storage node
    /// (`remote`) go here, too. Sent once: whether it may be repeated is known to who knows the store.
    pub async fn send_part(&self, part: PartRequest) -> Result<PartAnswer, Error> {
        let request = store_request(part)?;
        let link = &self.0.link;
        let mut patience = Patience::new(self.0.timeout.max(STORING), Instant::now());
        let answer = link.fetch(request, Lane::Store, &mut patience).await;
        let answer = answer.inspect_err(|error| link.noted.no_content(error))?;
        Ok(PartAnswer {
            status: answer.status.as_u16(),
            etag: text(&answer.headers, ETAG).map(str::to_owned),
            retry_after: retry_after(&answer.headers, link.server_now()),
            body: answer.body,
        })
    }
}

fn store_request(part: PartRequest) -> Result<Request, Error> {
    let wrong = |what: &str| Error::transport(format!("the server gave {what} for an upload"));
    let method = Method::from_bytes(part.method.as_bytes())
        .map_err(|_| Error::Local("a store is spoken to by a method that is none".into()))?;
    let url = Url::parse(part.url.expose())
        .ok()
        .filter(|url| matches!(url.scheme(), "http" | "https"))
        .ok_or_else(|| wrong("a URL that is none"))?;
    let mut headers = HeaderMap::new();
    for (name, value) in &part.headers {
        let name = HeaderName::try_from(*name).map_err(|_| wrong("a header that is none"))?;
        let mut value =
            HeaderValue::try_from(value.expose()).map_err(|_| wrong("a header that is none"))?;
        value.set_sensitive(true);
        headers.append(name, value);
    }
    let body = match method == Method::GET && part.body.len == 0 {
        true => Body::None,
        false => Body::Part(part.body),
    };
    Ok(Request {
        headers,
        body,
        ..Request::new(method, url, Redirects::Answer)
    })
}

fn session_json(new: &NewSession) -> Result<serde_json::Value, Error> {
    let metadata = new.metadata.iter();
    check_metadata(metadata.map(|(key, value)| (key.as_str(), value.as_str())))?;
    if new.metadata.len() > MOST_METADATA {
        return Err(Error::Refused {
            code: 0,
            said: "the server takes no more than 256 entries of metadata".into(),
        });
    }
    let mut body = json!({
        "uri": new.uri.to_wire(),
        "size": new.size_bytes,
        "last_modified": millis(new.modified),
        // Who does not say so has everything stored in clear, also where the storage's policy is not to.
        "encryption_supported": [CIPHER],
    });
    if !new.metadata.is_empty() {
        body["metadata"] = json!(new.metadata);
    }
    if let Some(over) = &new.over {
        body["entity_type"] = "version".into();
        body["previous"] = (*over.0).into();
    }
    Ok(body)
}

/// Milliseconds since 1970, at least 1: the server takes 0 for "not told", and then its own time.
fn millis(moment: SystemTime) -> u64 {
    let since = moment.duration_since(SystemTime::UNIX_EPOCH);
    let millis = since.unwrap_or_default().as_millis();
    u64::try_from(millis)
        .unwrap_or(LATEST_MILLIS)
        .clamp(1, LATEST_MILLIS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_the_server_cannot_store_becomes_the_nearest_that_it_can() {
        let epoch = SystemTime::UNIX_EPOCH;
        let after = |millis| millis_of(epoch + Duration::from_millis(millis));
        fn millis_of(moment: SystemTime) -> u64 {
            millis(moment)
        }
        assert_eq!(after(1_600_000_000_123), 1_600_000_000_123);
        assert_eq!(after(0), 1);
        assert_eq!(millis(epoch - Duration::from_secs(86_400)), 1);
        assert_eq!(after(LATEST_MILLIS + 1), LATEST_MILLIS);
    }

    #[test]
    fn debug_output_of_a_session_shows_no_secret() {
        let session = Session {
            session_id: "id".into(),
            upload_id: "hunter2".into(),
            chunk_size: 1,
            expires: 2,
            upload_urls: vec!["https://h/?hunter2".into()],
            credential: "hunter2".into(),
            complete_url: "https://h/?hunter2".into(),
            callback_secret: "hunter2".into(),
            mime_type: String::new(),
            upload_policy: "hunter2".into(),
            policy: "s3".into(),
            relay: false,
            chunk_concurrency: 3,
            encryption: true,
            encrypt_metadata: Some(Encryption {
                algorithm: CIPHER.into(),
                key_plain_text: "hunter2".into(),
                iv: "hunter2".into(),
            }),
        };
        assert!(!format!("{session:?}").contains("hunter2"));
        let kept = serde_json::to_string(&session).unwrap();
        assert_eq!(serde_json::from_str::<Session>(&kept).unwrap(), session);
    }

    #[test]
    fn bytes_are_a_part_that_can_be_read_anywhere() {
        let part = Part::from(Bytes::from_static(b"0123456789"));
        assert_eq!(part.len, 10);
        assert_eq!((part.read)(7, 2).unwrap(), "78");
        assert_eq!((part.read)(8, 100).unwrap(), "89");
        assert_eq!((part.read)(11, 100).unwrap(), "");
    }
}
