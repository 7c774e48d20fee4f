//! One call of an endpoint: sent as somebody, judged, repeated where that is right.
//!
//! Promise: what is not Cloudreve's own answer (a proxy's page, HTML, half a body) is an error of the wire and
//! says nothing about any file; and an answer given to a token that had expired is not believed.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use reqwest::header::CONTENT_TYPE;
use reqwest::{Method, StatusCode};
use serde::de::DeserializeOwned;
use tokio::time::Instant;

use super::Error;
use super::auth::Auth;
use super::error::Asked;
use super::link::{Answer, Body, Lane, Link, Redirects, Request, retry_after, text};
use super::retry::{Backoff, Failed, Patience, jitter};
use super::wire::{self, Head};
use crate::secret::Secret;

/// What the framework behind the server says of a route it does not have.
const NO_SUCH_ROUTE: &[u8] = b"404 page not found";

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
    /// Code 40082 may mean an expired token (→ api part 1 §3.1).
    by_id: bool,
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
            by_id: false,
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

    /// By a file's id.
    pub(super) fn by_id(self) -> Self {
        Self {
            by_id: true,
            ..self
        }
    }

    /// The server computes for seconds.
    pub(super) fn slow(self) -> Self {
        Self {
            lane: Lane::Slow,
            ..self
        }
    }

    fn request(&self, link: &Link, token: Option<Secret>) -> Request {
        let mut url = link.address().endpoint(&self.path);
        if !self.query.is_empty() {
            url.query_pairs_mut().extend_pairs(&self.query);
        }
        Request {
            redirects: match self.method {
                Method::GET => Redirects::SameOrigin,
                _ => Redirects::Refuse,
            },
            method: self.method.clone(),
            url,
            token,
            body: self.body.clone(),
            range: None,
        }
    }
}

/// An envelope that came back: its head, and the whole body, which may hold tokens.
pub(super) struct Enveloped {
    pub(super) head: Head,
    pub(super) body: Bytes,
    date: Option<SystemTime>,
}

/// Why one try brought nothing.
enum Tried {
    Failed(Failed),
    /// The token was not accepted.
    TokenDead(Secret),
}

impl From<Error> for Tried {
    fn from(error: Error) -> Self {
        Self::Failed(error.into())
    }
}

impl From<Failed> for Tried {
    fn from(failed: Failed) -> Self {
        Self::Failed(failed)
    }
}

/// Speaks as one account.
pub(super) struct Caller {
    pub(super) link: Arc<Link>,
    pub(super) auth: Arc<Auth>,
    pub(super) timeout: Duration,
}

impl Caller {
    /// The answer's `data`, asked for as whoever is signed in; renews a token that is refused, once.
    pub(super) async fn ask<T: DeserializeOwned>(&self, call: Call) -> Result<T, Error> {
        wire::data(&self.patiently(&call, true).await?.body)
    }

    /// As `ask`, with the envelope, for data that borrows from it.
    pub(super) async fn envelope(&self, call: Call) -> Result<Enveloped, Error> {
        self.patiently(&call, true).await
    }

    /// As `ask`, of an endpoint that shows in its data, not by an error, that a token was not accepted.
    pub(super) async fn ask_unless<T: DeserializeOwned>(
        &self,
        call: impl Fn() -> Call,
        is_anonymous: impl Fn(&T) -> bool,
    ) -> Result<T, Error> {
        let patience = Patience::new(self.timeout, Instant::now());
        let before = self.auth.token(&patience).await?;
        let data: T = self.ask(call()).await?;
        let Some(token) = before.filter(|_| is_anonymous(&data)) else {
            return Ok(data);
        };
        self.auth.renew(&token.access, &patience).await?;
        let data: T = self.ask(call()).await?;
        match is_anonymous(&data) {
            true => Err(Error::SignedOut(self.auth.advice())),
            false => Ok(data),
        }
    }

    /// The answer's `data`, asked for as nobody.
    pub(super) async fn ask_as_nobody<T: DeserializeOwned>(&self, call: Call) -> Result<T, Error> {
        wire::data(&self.patiently(&call, false).await?.body)
    }

    /// Tries until there is an answer of code 0, a final error, or the caller's patience ends.
    async fn patiently(&self, call: &Call, signed_in: bool) -> Result<Enveloped, Error> {
        let mut patience = Patience::new(self.timeout, Instant::now());
        let mut backoff = Backoff::new(Instant::now(), self.link.noted.is_known_down());
        let mut renewed = false;
        loop {
            let failed = match self.once(call, signed_in, renewed, &mut patience).await {
                Ok(answer) => return Ok(answer),
                Err(Tried::Failed(failed)) => failed,
                Err(Tried::TokenDead(token)) => {
                    // At once and once only: a second refusal is the server's verdict.
                    renewed = true;
                    match self.auth.renew(&token, &patience).await {
                        Ok(()) => continue,
                        Err(error) => error.into(),
                    }
                }
            };
            let plain = matches!(failed.error, Error::Trouble { code, .. } if Some(code) == call.plain_code);
            match plain {
                true => self.link.noted.success(),
                false => self.link.noted.failure(&failed.error),
            }
            let delay = match call.repeatable && !plain {
                true => backoff.delay(&failed, &patience, Instant::now(), jitter()),
                false => None,
            };
            match delay {
                Some(delay) => {
                    log::debug!("{}, again in {delay:?}: {}", call.path, failed.error);
                    tokio::time::sleep(delay).await;
                }
                None => {
                    if call.repeatable && !plain && call.lane == Lane::Quick {
                        self.link.noted.gave_up(&failed.error);
                    }
                    return Err(failed.error);
                }
            }
        }
    }

    async fn once(
        &self,
        call: &Call,
        signed_in: bool,
        renewed: bool,
        patience: &mut Patience,
    ) -> Result<Enveloped, Tried> {
        let token = match signed_in {
            true => self.auth.token(patience).await?,
            false => None,
        };
        let access = token.as_ref().map(|token| token.access.clone());
        let answer = exchange(&self.link, call, access, patience).await?;
        let code = answer.head.telling().code;
        if let Some(token) = token {
            // 40020: a token of another kind. 40082 by id: the server's word for a visitor, as for a stranger.
            let refused = matches!(code, 401 | 40020)
                || (code == 40082 && call.by_id && !self.auth.is_fresh(&token.access));
            let dead = answer.date.is_some_and(|date| token.was_dead(date));
            if (refused || dead) && !renewed {
                return Err(Tried::TokenDead(token.access));
            }
            if dead {
                // Whatever it says was said to an anonymous visitor.
                return Err(Tried::from(Error::Trouble {
                    code,
                    said: "its tokens are expired when they arrive".into(),
                }));
            }
        }
        match answer.head.code {
            0 => {
                self.link.noted.success();
                Ok(answer)
            }
            _ => Err(answer.head.error(call.asked, &self.auth.advice()).into()),
        }
    }
}

/// Sends `call` once and reads the envelope that comes back, whatever its code.
pub(super) async fn exchange(
    link: &Arc<Link>,
    call: &Call,
    token: Option<Secret>,
    patience: &mut Patience,
) -> Result<Enveloped, Failed> {
    let answer = link
        .fetch(call.request(link, token), call.lane, patience)
        .await?;
    check(link, call, &answer)?;
    let head = Head::read(&answer.body)?;
    Ok(Enveloped {
        head,
        // Only now is it known to be the server's: a network's sign-in page has a clock of its own.
        date: link.learn_the_time(&answer.headers),
        body: answer.body,
    })
}

/// Sends `call` once and returns the answer as it is.
pub(super) async fn raw(
    link: &Arc<Link>,
    call: &Call,
    patience: &mut Patience,
) -> Result<Answer, Error> {
    link.fetch(call.request(link, None), call.lane, patience)
        .await
}

/// Whether an answer can be an envelope: status 200 and JSON (→ api part 1 §1.3).
pub(super) fn check(link: &Link, call: &Call, answer: &Answer) -> Result<(), Failed> {
    let host = link.address().host();
    let kind = text(&answer.headers, CONTENT_TYPE).unwrap_or("none");
    let status = answer.status.as_u16();
    if answer.status == StatusCode::OK {
        return match kind.contains("json") {
            true => Ok(()),
            false => Err(Error::transport(format!(
                "{host}: the answer is not Cloudreve's (type {kind}): a proxy's or a network's own page?"
            ))
            .into()),
        };
    }
    // The one text that is compared: nothing else tells a server without the route from a proxy without a server.
    if status == 404 && answer.body.trim_ascii() == NO_SUCH_ROUTE {
        return Err(match call.optional {
            true => Error::Unsupported,
            false => Error::transport(format!(
                "{host} has no Cloudreve V4 at {}: is the address right?",
                link.address()
            )),
        }
        .into());
    }
    if matches!(status, 413 | 414 | 431) {
        return Err(Error::Refused {
            code: status.into(),
            said: "the path is too long for something in front of Cloudreve".into(),
        }
        .into());
    }
    if status == 429 || status >= 500 {
        return Err(Failed {
            error: Error::Trouble {
                code: status.into(),
                said: format!("HTTP {}", answer.status),
            },
            retry_after: retry_after(&answer.headers, link.server_now()),
        });
    }
    Err(Error::transport(format!(
        "{host}: HTTP {} from something in front of Cloudreve",
        answer.status
    ))
    .into())
}
