//! What the server answers: the envelope, its failures, and everything that is no envelope.
//!
//! → api part 1 §1.2: HTTP 200 for success and failure alike; `code` is the truth.

use bytes::Bytes;
use hyper::StatusCode;
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderMap, HeaderValue};
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::content::Content;
use crate::hub::StreamId;

/// A failure as the envelope shows it.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    pub(crate) code: i32,
    pub(crate) msg: String,
    pub(crate) data: Option<Value>,
    /// Failures of single items, by URI, of code 40081 (→ api part 1 §1.5).
    pub(crate) items: Vec<(String, Failure)>,
    /// The whole chain of causes; a batch of one tells it, even where nothing else does (→ api part 1 §1.5).
    pub(crate) chain: Option<String>,
    /// Refused before the handler ran: such an answer has no correlation id.
    pub(crate) binding: bool,
}

impl Failure {
    pub(crate) fn new(code: i32, msg: impl Into<String>) -> Self {
        Self {
            code,
            msg: msg.into(),
            data: None,
            items: Vec::new(),
            chain: None,
            binding: false,
        }
    }

    /// With the chain of causes that a batch of one tells.
    pub(crate) fn chained(self, chain: impl Into<String>) -> Self {
        Self {
            chain: Some(chain.into()),
            ..self
        }
    }

    /// A parameter that could not be read.
    pub(crate) fn binding(msg: &str) -> Self {
        Self {
            binding: true,
            ..Self::new(40001, msg)
        }
    }

    /// The server's answer to its own errors that have no code.
    pub(crate) fn unclassified() -> Self {
        Self::new(-1, "")
    }

    pub(crate) fn login_required() -> Self {
        Self::new(401, "Login required").chained("failed to get target file: Login required")
    }

    pub(crate) fn not_supported() -> Self {
        Self::new(403, "Not supported action")
    }

    pub(crate) fn path_not_exist() -> Self {
        Self::new(40016, "Path not exist")
    }

    pub(crate) fn object_existed() -> Self {
        Self::new(40004, "Object existed")
    }

    pub(crate) fn owner_only() -> Self {
        Self::new(40082, "Only owner or administrator can perform this action")
    }

    pub(crate) fn entity_not_exist() -> Self {
        Self::new(40077, "Entity not exist")
    }

    pub(crate) fn insufficient_capacity() -> Self {
        Self::new(40051, "Insufficient capacity")
    }

    pub(crate) fn credential(msg: &str) -> Self {
        Self::new(40020, msg)
    }

    pub(crate) fn lock_conflict(
        path: String,
        token: String,
        application: &str,
        folder: bool,
    ) -> Self {
        let owner = json!({"application": {"type": application}});
        let data =
            json!([{"path": path, "token": token, "owner": owner, "type": u8::from(folder)}]);
        Self {
            data: Some(data),
            ..Self::new(40073, "Lock conflict")
        }
    }

    /// The failures of a batch in one; `msg` is the whole chain for one, a phrase for more.
    pub(crate) fn batch(items: Vec<(String, Failure)>) -> Self {
        let msg = match &items[..] {
            [(_, only)] => only.chain.clone().unwrap_or_else(|| only.msg.clone()),
            _ => "One or more operation failed".to_owned(),
        };
        Self {
            items,
            ..Self::new(40081, msg)
        }
    }

    fn value(&self, correlation: &str) -> Value {
        let mut map = Map::new();
        map.insert("code".to_owned(), self.code.into());
        if let Some(data) = &self.data {
            map.insert("data".to_owned(), data.clone());
        }
        if !self.items.is_empty() {
            let items = self
                .items
                .iter()
                .map(|(uri, failure)| (uri.clone(), failure.value(correlation)));
            map.insert(
                "aggregated_error".to_owned(),
                Value::Object(items.collect()),
            );
        }
        map.insert("msg".to_owned(), self.msg.clone().into());
        if !self.binding {
            map.insert("correlation_id".to_owned(), correlation.into());
        }
        Value::Object(map)
    }
}

/// Where the bytes of a body come from.
#[derive(Debug)]
pub(crate) enum Body {
    Bytes(Bytes),
    /// A part of an entity; the second number is its end.
    Content(Content, u64, u64),
    /// Events, for as long as somebody listens.
    Events(StreamId),
}

impl Body {
    pub(crate) fn len(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::Content(_, start, end) => end - start,
            Self::Events(_) => 0,
        }
    }
}

/// An answer before it meets the wire.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Body,
}

pub(crate) type Outcome = Result<Reply, Failure>;

impl Reply {
    pub(crate) fn new(status: u16, content_type: &'static str, body: impl Into<Bytes>) -> Self {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        Self {
            status,
            headers,
            body: Body::Bytes(body.into()),
        }
    }

    pub(crate) fn json(status: u16, body: impl Into<Bytes>) -> Self {
        let mut reply = Self::new(status, "application/json; charset=utf-8", body);
        reply.set("cache-control", "private, no-cache");
        reply
    }

    /// Success with `data`.
    pub(crate) fn data(data: &impl Serialize) -> Self {
        #[derive(Serialize)]
        struct Envelope<'a, T> {
            code: i32,
            data: &'a T,
            msg: &'static str,
        }
        let envelope = Envelope {
            code: 0,
            data,
            msg: "",
        };
        Self::json(200, serde_json::to_vec(&envelope).unwrap_or_default())
    }

    /// Success without data.
    pub(crate) fn done() -> Self {
        Self::json(200, r#"{"code":0,"msg":""}"#)
    }

    pub(crate) fn failure(failure: &Failure, correlation: &str) -> Self {
        Self::json(200, failure.value(correlation).to_string())
    }

    /// What gin says to a route that this version does not have (→ api part 1 §1.3).
    pub(crate) fn unknown_route() -> Self {
        Self::new(404, "text/plain", "404 page not found")
    }

    /// A handler's panic, caught: 500 and nothing else (→ api part 1 §16.28).
    pub(crate) fn panic() -> Self {
        let mut reply = Self::new(500, "text/plain", Bytes::new());
        reply.headers.clear();
        reply
            .headers
            .insert(CACHE_CONTROL, HeaderValue::from_static("private, no-cache"));
        reply
    }

    pub(crate) fn redirect(location: &str) -> Self {
        let mut reply = Self::panic();
        reply.status = StatusCode::FOUND;
        reply.set("location", location);
        reply
    }

    /// Sets a header; a value that no header may have is left out.
    pub(crate) fn set(&mut self, name: &'static str, value: &str) {
        if let Ok(value) = HeaderValue::from_str(value) {
            self.headers.insert(name, value);
        }
    }
}
