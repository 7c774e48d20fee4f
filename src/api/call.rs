//! One call of an endpoint: sent as somebody, judged, repeated where that is right.
//!
//! Promise: what is not Cloudreve's own answer (a proxy's page, HTML, half a body) is an error of the wire and
//! says nothing about any file; and an answer given to a token that had expired is not believed. What changes something is
//! sent again only where the server cannot have done it: nothing was sent, the token was refused, or the server itself says
//! that something else was in the way. So after a lost answer nobody but the caller, who looks, knows what became of it.

mod caller;

pub(super) use caller::{Caller, check, exchange, raw};

use std::time::Duration;

use reqwest::Method;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};

use super::Part;
use super::error::Asked;
use super::link::{Body, Lane, Link, Redirects, Request};
use crate::secret::Secret;

/// From the last byte of content to the answer, as far as the caller waits: completing may mean that the server brings the
/// content to its store first.
const STORING_PATIENCE: Duration = Duration::from_secs(300);
/// The same as far as the request waits, of what changes as much as a tree.
const LENGTHY: Duration = Duration::from_secs(900);
/// Who asks, to the server's streams of events.
const CLIENT_ID: HeaderName = HeaderName::from_static("x-cr-client-id");

/// What is asked of which endpoint. No `Debug`: it may hold passwords.
pub(super) struct Call {
    method: Method,
    path: String,
    query: Vec<(&'static str, String)>,
    body: Body,
    pub(super) asked: Asked,
    /// Whether servers exist that do not have it.
    optional: bool,
    /// Whether asking twice changes nothing.
    repeatable: bool,
    /// A code that is this endpoint's plain answer, not trouble.
    plain_code: Option<i64>,
    /// What this endpoint tells a visitor, where that is not 401: it may mean an expired token (→ api part 1 §3.1).
    stranger_code: Option<i64>,
    /// Whether several things may fail by themselves, which is then an answer.
    itemised: bool,
    /// Whether it belongs to an upload session, which holds a lock of its own.
    in_session: bool,
    /// Whether refusals have a status of their own beside their envelope.
    has_statuses: bool,
    /// What the log says where the path is a secret.
    alias: Option<&'static str>,
    /// Longest a caller waits without bytes moving, where that is longer than for others.
    patience: Option<Duration>,
    answer_within: Option<Duration>,
    /// Whether the server is told which client it is that asks.
    names_client: bool,
    lane: Lane,
}

impl Call {
    /// Reads; `path` begins behind `/api/v4`.
    pub(super) fn get(path: impl Into<String>) -> Self {
        Self {
            method: Method::GET,
            path: path.into(),
            query: Vec::new(),
            body: Body::None,
            asked: Asked::Own,
            optional: false,
            repeatable: true,
            plain_code: None,
            stranger_code: None,
            itemised: false,
            in_session: false,
            has_statuses: false,
            alias: None,
            patience: None,
            answer_within: None,
            names_client: false,
            lane: Lane::Quick,
        }
    }

    /// Sends JSON, which changes something: once only.
    pub(super) fn send(method: Method, path: &str, json: &serde_json::Value) -> Self {
        Self {
            method,
            body: Body::Json(json.to_string().into()),
            repeatable: false,
            asked: Asked::Other,
            ..Self::get(path)
        }
    }

    /// Sends JSON only because it is long: changes nothing.
    pub(super) fn ask(path: &str, json: &serde_json::Value) -> Self {
        Self {
            repeatable: true,
            asked: Asked::Own,
            ..Self::send(Method::POST, path, json)
        }
    }

    /// Sends a form, once.
    pub(super) fn form(path: &str, fields: &[(&str, &str)]) -> Self {
        let mut form = url::form_urlencoded::Serializer::new(String::new());
        Self {
            method: Method::POST,
            body: Body::Form(form.extend_pairs(fields).finish().into()),
            repeatable: false,
            asked: Asked::Other,
            ..Self::get(path)
        }
    }

    /// Sends content to the server, once.
    pub(super) fn content(method: Method, path: impl Into<String>, part: Part) -> Self {
        Self {
            method,
            body: Body::Part(part),
            repeatable: false,
            patience: Some(STORING_PATIENCE),
            lane: Lane::Upload,
            ..Self::get(path)
        }
    }

    /// With a query parameter.
    pub(super) fn with(mut self, key: &'static str, value: impl Into<String>) -> Self {
        self.query.push((key, value.into()));
        self
    }

    /// About something else than the account's own files.
    pub(super) fn about(self, asked: Asked) -> Self {
        Self { asked, ..self }
    }

    /// Of a route that not every server has.
    pub(super) fn optional(self) -> Self {
        Self {
            optional: true,
            ..self
        }
    }

    /// `code` is not trouble here.
    pub(super) fn plain(self, code: i64) -> Self {
        Self {
            plain_code: Some(code),
            ..self
        }
    }

    /// A visitor hears `code`.
    pub(super) fn strangers_hear(self, code: i64) -> Self {
        Self {
            stranger_code: Some(code),
            ..self
        }
    }

    /// What fails of several is part of the answer: of code 40081, too, there is one.
    pub(super) fn itemised(self) -> Self {
        Self {
            itemised: true,
            ..self
        }
    }

    /// With the lock of an upload session, which may seem lost for a moment.
    pub(super) fn in_session(self) -> Self {
        Self {
            in_session: true,
            ..self
        }
    }

    /// Refused with statuses 400 and 401.
    pub(super) fn with_statuses(self) -> Self {
        Self {
            has_statuses: true,
            ..self
        }
    }

    /// Its path is a secret: the log names it so.
    pub(super) fn called(self, alias: &'static str) -> Self {
        Self {
            alias: Some(alias),
            ..self
        }
    }

    /// Once only: a second time would not find what the first one did.
    pub(super) fn once(self) -> Self {
        Self {
            repeatable: false,
            ..self
        }
    }

    /// The caller waits as long as this, if it would wait shorter otherwise.
    pub(super) fn patient(self, patience: Duration) -> Self {
        Self {
            patience: Some(patience),
            ..self.lengthy()
        }
    }

    /// As the client that follows events. All that changes files is sent so.
    pub(super) fn naming_client(self) -> Self {
        Self {
            names_client: true,
            ..self
        }
    }

    /// May take long there, and is not to be hung up on.
    pub(super) fn lengthy(self) -> Self {
        Self {
            answer_within: Some(LENGTHY),
            ..self
        }
    }

    fn name(&self) -> &str {
        self.alias.unwrap_or(&self.path)
    }

    /// The server computes for seconds.
    pub(super) fn slow(self) -> Self {
        Self {
            lane: Lane::Slow,
            ..self
        }
    }

    /// Opens an upload, or looks what came of one.
    pub(super) fn session(self) -> Self {
        Self {
            lane: Lane::Session,
            ..self
        }
    }

    fn request(&self, link: &Link, token: Option<Secret>) -> Request {
        let mut url = link.address().endpoint(&self.path);
        if !self.query.is_empty() {
            url.query_pairs_mut().extend_pairs(&self.query);
        }
        let redirects = match self.method {
            Method::GET => Redirects::SameOrigin,
            _ => Redirects::Refuse,
        };
        let mut headers = HeaderMap::new();
        if let Body::Part(_) = self.body {
            let kind = HeaderValue::from_static("application/octet-stream");
            headers.insert(CONTENT_TYPE, kind);
        }
        let changes_files = self.method != Method::GET && self.path.starts_with("/file");
        if self.names_client || changes_files {
            headers.insert(CLIENT_ID, link.client().header());
        }
        Request {
            token,
            body: self.body.clone(),
            headers,
            alias: self.alias,
            answer_within: self.answer_within,
            ..Request::new(self.method.clone(), url, redirects)
        }
    }
}
