//! What a request is, before it is sent.

use std::time::Duration;

use bytes::Bytes;
use reqwest::header::HeaderMap;
use reqwest::{Method, StatusCode};
use url::Url;

use crate::api::Part;
use crate::secret::Secret;

/// Among how many others a request waits for its turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::api) enum Lane {
    /// Answered within milliseconds where all is well.
    Quick,
    /// The server computes for seconds: must not keep listings waiting.
    Slow,
    /// About an upload that begins or has ended: many at once, and neither they nor what a program waits for keep the
    /// other waiting.
    Session,
    /// Content on its way to the server, for as long as that takes.
    Upload,
    /// Content on its way to a store.
    Store,
}

impl Lane {
    /// Whether those who are before somebody here may need any time: then it is no sign of trouble to wait for them.
    pub(super) fn is_long(self) -> bool {
        matches!(self, Self::Upload | Self::Store)
    }
}

/// Where redirects of a request may lead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::api) enum Redirects {
    /// Nowhere: the request changes something, or its body belongs to the server alone.
    Refuse,
    /// To the same origin.
    SameOrigin,
    /// Anywhere, without credentials: content.
    Anywhere,
    /// Nowhere, and it is an answer like any other: a store's, which gets no credentials and no headers of ours.
    Answer,
}

/// One request. No `Debug`: its URL may hold a signature or a share's password.
pub(in crate::api) struct Request {
    pub(in crate::api) method: Method,
    pub(in crate::api) url: Url,
    /// The access token; leaves only for the server's own origin.
    pub(in crate::api) token: Option<Secret>,
    pub(in crate::api) body: Body,
    /// `Range` of a request for content.
    pub(in crate::api) range: Option<String>,
    /// Further headers; values may be secrets.
    pub(in crate::api) headers: HeaderMap,
    pub(in crate::api) redirects: Redirects,
    /// What the log says where the path is a secret.
    pub(in crate::api) alias: Option<&'static str>,
    /// From sending to headers, where that may be longer than usual.
    pub(in crate::api) answer_within: Option<Duration>,
}

impl Request {
    /// A request without body and credentials.
    pub(in crate::api) fn new(method: Method, url: Url, redirects: Redirects) -> Self {
        Self {
            method,
            url,
            token: None,
            body: Body::None,
            range: None,
            headers: HeaderMap::new(),
            redirects,
            alias: None,
            answer_within: None,
        }
    }
}

/// What goes with a request; may hold secrets.
#[derive(Clone)]
pub(in crate::api) enum Body {
    /// Nothing.
    None,
    /// A JSON document.
    Json(Bytes),
    /// A form, encoded.
    Form(Bytes),
    /// Content, of a type that the request's headers tell.
    Part(Part),
}

/// A whole answer. No `Debug`: its body may hold tokens.
pub(in crate::api) struct Answer {
    pub(in crate::api) status: StatusCode,
    pub(in crate::api) headers: HeaderMap,
    pub(in crate::api) body: Bytes,
}
