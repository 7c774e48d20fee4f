//! The gate against a server of a few lines on loopback, which answers what a test tells it.

mod auth;
mod change;
mod content;
mod hangup;
mod judge;
mod transfer;

use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::tokens::{MemoryStore, TokenStore, Tokens};
use crate::uri::FileUri;

/// A request as it arrived.
#[derive(Debug, Clone, Default)]
struct Seen {
    method: String,
    target: String,
    headers: BTreeMap<String, String>,
    body: String,
}

impl Seen {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }

    fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }
}

type Reply = Pin<Box<dyn Future<Output = Vec<u8>> + Send>>;

/// A server on loopback. Closes the connection after an answer that does not fill its `Content-Length`.
struct Responder {
    address: Address,
    seen: Arc<Mutex<Vec<Seen>>>,
    hangups: Arc<AtomicUsize>,
}

impl Responder {
    async fn new(answer: impl Fn(Seen) -> Vec<u8> + Send + Sync + 'static) -> Self {
        Self::waiting(move |seen| {
            let answer = answer(seen);
            Box::pin(async move { answer })
        })
        .await
    }

    async fn waiting(answer: impl Fn(Seen) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let responder = Self {
            address: address.parse().unwrap(),
            seen: Arc::default(),
            hangups: Arc::default(),
        };
        let (seen, hangups) = (Arc::clone(&responder.seen), Arc::clone(&responder.hangups));
        let answer = Arc::new(answer);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (seen, hangups, answer) = (seen.clone(), hangups.clone(), answer.clone());
                tokio::spawn(async move {
                    // A connection that ends is an ordinary end of its task.
                    let _ = serve(stream, &seen, &hangups, &*answer).await;
                });
            }
        });
        responder
    }

    fn api(&self, credentials: Credentials) -> Api {
        self.impatient(credentials, Duration::from_secs(5))
    }

    fn impatient(&self, credentials: Credentials, timeout: Duration) -> Api {
        self.limited(credentials, timeout, 0)
    }

    fn limited(&self, credentials: Credentials, timeout: Duration, limit_down_bytes: u64) -> Api {
        let options = Options {
            limit_down_bytes,
            ..self.options(timeout)
        };
        Api::new(options, credentials).unwrap()
    }

    fn options(&self, timeout: Duration) -> Options {
        Options {
            address: self.address.clone(),
            user_agent: "test/1".into(),
            ca_file: None,
            timeout,
            limit_down_bytes: 0,
            limit_up_bytes: 0,
        }
    }

    fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    fn count(&self, path: &str) -> usize {
        self.seen()
            .iter()
            .filter(|seen| seen.path() == path)
            .count()
    }
}

async fn serve(
    mut stream: TcpStream,
    seen: &Mutex<Vec<Seen>>,
    hangups: &AtomicUsize,
    answer: &(dyn Fn(Seen) -> Reply + Send + Sync),
) -> io::Result<()> {
    let mut buffer = Vec::new();
    loop {
        let request = loop {
            if let Some(request) = take_request(&mut buffer) {
                break request;
            }
            if stream.read_buf(&mut buffer).await? == 0 {
                return Ok(());
            }
        };
        seen.lock().unwrap().push(request.clone());
        let reply = tokio::select! {
            reply = answer(request) => reply,
            _ = stream.read_buf(&mut buffer) => {
                hangups.fetch_add(1, Ordering::SeqCst);
                return Ok(());
            }
        };
        stream.write_all(&reply).await?;
        if !is_whole(&reply) {
            return Ok(());
        }
    }
}

fn take_request(buffer: &mut Vec<u8>) -> Option<Seen> {
    let end = buffer.windows(4).position(|bytes| bytes == b"\r\n\r\n")? + 4;
    let head = String::from_utf8_lossy(&buffer[..end]).into_owned();
    let mut lines = head.split("\r\n");
    let mut first = lines.next()?.split(' ');
    let headers: BTreeMap<String, String> = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
        .collect();
    let length: usize = headers
        .get("content-length")
        .map_or(0, |length| length.parse().unwrap());
    let body = buffer.get(end..end + length)?;
    let request = Seen {
        method: first.next()?.to_owned(),
        target: first.next()?.to_owned(),
        headers,
        body: String::from_utf8_lossy(body).into_owned(),
    };
    buffer.drain(..end + length);
    Some(request)
}

fn is_whole(reply: &[u8]) -> bool {
    let text = String::from_utf8_lossy(reply).into_owned();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("Content-Length: ")?.parse().ok());
    length == Some(body.len())
}

fn answer(status: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    answer_at(SystemTime::now(), status, headers, body)
}

/// As `answer`, of a server whose clock says `now`.
fn answer_at(now: SystemTime, status: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let date = httpdate::fmt_http_date(now);
    let mut answer = format!(
        "HTTP/1.1 {status}\r\nDate: {date}\r\nContent-Length: {}\r\n{headers}\r\n",
        body.len()
    )
    .into_bytes();
    answer.extend_from_slice(body);
    answer
}

fn json(body: &str) -> Vec<u8> {
    answer(
        "200 OK",
        "Content-Type: application/json; charset=utf-8\r\n",
        body.as_bytes(),
    )
}

fn code(code: i64) -> Vec<u8> {
    json(&format!(r#"{{"code":{code},"msg":"said"}}"#))
}

fn html() -> Vec<u8> {
    answer("200 OK", "Content-Type: text/html\r\n", b"<html>Welcome")
}

fn fixture(name: &str) -> Vec<u8> {
    json(&recorded(name))
}

/// The body of a recorded answer.
fn recorded(name: &str) -> String {
    let path = format!("{}/tests/fixtures/{name}.json", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(path).unwrap();
    let value: serde_json::Value = serde_json::from_str(&text).unwrap();
    // Recordings of the second part hold the request beside the body.
    value.get("body").unwrap_or(&value).to_string()
}

fn tokens(name: &str, seconds: u64) -> Tokens {
    let now = SystemTime::now();
    Tokens {
        access: Secret::new(format!("access-{name}")),
        access_expires: now + Duration::from_secs(seconds),
        refresh: Secret::new(format!("refresh-{name}")),
        refresh_expires: now + Duration::from_secs(86_400),
    }
}

/// What signing in and renewing answer.
fn token_json(name: &str) -> String {
    format!(
        r#"{{"access_token":"access-{name}","refresh_token":"refresh-{name}","access_expires":"2099-01-01T00:00:00Z","refresh_expires":"2099-02-01T00:00:00Z"}}"#
    )
}

fn renewed(name: &str) -> Vec<u8> {
    json(&format!(
        r#"{{"code":0,"data":{},"msg":""}}"#,
        token_json(name)
    ))
}

fn stored(tokens: Tokens) -> (Arc<MemoryStore>, Credentials) {
    let store = Arc::new(MemoryStore::default());
    store.save(&tokens).unwrap();
    (Arc::clone(&store), Credentials::Stored(store))
}

fn my(path: &str) -> FileUri {
    FileUri::parse(&format!("cloudreve://my/{path}")).unwrap()
}

fn variant(error: &Error) -> String {
    let debug = format!("{error:?}");
    let end = debug.find([' ', '(']).unwrap_or(debug.len());
    debug[..end].to_owned()
}

#[test]
fn every_future_can_be_spawned() {
    fn is_send<T: Send>(_: T) {}
    fn never_run(api: &Api, content: &mut Content) {
        let uri = FileUri::my();
        is_send(api.list_page(&uri, &PagePosition::First, 1));
        is_send(api.info(&uri));
        is_send(api.urls(&[], None));
        is_send(api.thumbnail(&uri));
        is_send(api.content(&Secret::new(""), 0..1, 1));
        is_send(api.site());
        is_send(api.create_folder(&uri, &Default::default()));
        is_send(api.delete(&[], Delete::Trash));
        is_send(api.put_content(&uri, None, Part::from(bytes::Bytes::new())));
        is_send(api.send_chunk("", 0, Part::from(bytes::Bytes::new())));
        is_send(api.drain());
        is_send(content.next());
    }
    let _: fn(&Api, &mut Content) = never_run; // being compiled is the test
}
