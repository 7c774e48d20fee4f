//! Sends calls as one account, and judges what comes back.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::{Bytes, BytesMut};
use reqwest::header::CONTENT_TYPE;
use reqwest::{Response, StatusCode};
use serde::de::DeserializeOwned;
use tokio::time::Instant;

use super::Call;
use crate::api::auth::Auth;
use crate::api::link::{Answer, Body, Lane, Link, is_unreachable, retry_after, text};
use crate::api::remembered::Remembered;
use crate::api::retry::{Backoff, Failed, Patience, jitter, moment};
use crate::api::wire::{self, Head, LOCK_CONFLICT, NOT_FULLY_SUCCESS_BATCH};
use crate::api::{Error, Owner};
use crate::secret::Secret;

/// What the framework behind the server says of a route it does not have.
const NO_SUCH_ROUTE: &[u8] = b"404 page not found";
/// Longer than any answer that comes instead of a stream.
const LONGEST_REFUSAL_BYTES: usize = 64 << 10;
/// How often something is asked again that met a short lock, or a change that was under way there (→ api part 1 §11).
const MOST_IN_THE_WAY: u32 = 4;
/// A chunk's lock looks lost for a moment where another chunk is just being checked (→ api part 2 §5.7).
const MOST_LOCK_LOST: u32 = 1;

/// An envelope that came back: its head, and the whole body, which may hold tokens.
pub(in crate::api) struct Enveloped {
    pub(in crate::api) head: Head,
    pub(in crate::api) body: Bytes,
    date: Option<SystemTime>,
}

/// Why one try brought nothing.
enum Tried {
    Failed(Failed),
    /// The token was not accepted.
    TokenDead(Secret),
    /// Something was in the way that may be gone in a moment; so nothing was done.
    InTheWay(Error, u32),
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
pub(in crate::api) struct Caller {
    pub(in crate::api) link: Arc<Link>,
    pub(in crate::api) auth: Arc<Auth>,
    pub(in crate::api) timeout: Duration,
    pub(in crate::api) remembered: Remembered,
}

impl Caller {
    /// The answer's `data`, asked for as whoever is signed in; renews a token that is refused, once.
    pub(in crate::api) async fn ask<T: DeserializeOwned>(&self, call: Call) -> Result<T, Error> {
        wire::data(&self.patiently(&call, true).await?.body)
    }

    /// As `ask`, with the envelope, for data that borrows from it.
    pub(in crate::api) async fn envelope(&self, call: Call) -> Result<Enveloped, Error> {
        self.patiently(&call, true).await
    }

    /// As `ask`, of an endpoint that shows in its data, not by an error, that a token was not accepted.
    pub(in crate::api) async fn ask_unless<T: DeserializeOwned>(
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
    pub(in crate::api) async fn ask_as_nobody<T: DeserializeOwned>(
        &self,
        call: Call,
    ) -> Result<T, Error> {
        wire::data(&self.patiently(&call, false).await?.body)
    }

    /// As `envelope`, asked for as nobody.
    pub(in crate::api) async fn envelope_as_nobody(&self, call: Call) -> Result<Enveloped, Error> {
        self.patiently(&call, false).await
    }

    /// Tries until there is an answer of code 0, a final error, or the caller's patience ends.
    async fn patiently(&self, call: &Call, signed_in: bool) -> Result<Enveloped, Error> {
        let wait = self.timeout.max(call.patience.unwrap_or_default());
        let mut patience = Patience::new(wait, Instant::now());
        let mut backoff = Backoff::new(Instant::now(), self.link.noted.is_known_down());
        let mut renewed = false;
        let mut tries = 0;
        loop {
            let failed = match self.once(call, signed_in, renewed, &mut patience).await {
                Ok(answer) => return Ok(answer),
                Err(Tried::Failed(failed)) => failed,
                Err(Tried::InTheWay(_, most)) if tries < most => {
                    let delay = moment(tries, jitter());
                    tries += 1;
                    log::debug!(
                        "{}, again in {delay:?}: something is in the way",
                        call.name()
                    );
                    tokio::time::sleep(delay).await;
                    continue;
                }
                Err(Tried::InTheWay(error, _)) => error.into(),
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
                true => self.link.noted.success(signed_in),
                false => self.link.noted.failure(&failed.error),
            }
            let again = (call.repeatable || is_unreachable(&failed.error)) && !plain;
            let delay = match again {
                true => backoff.delay(&failed, &patience, Instant::now(), jitter()),
                false => None,
            };
            match delay {
                Some(delay) => {
                    log::debug!("{}, again in {delay:?}: {}", call.name(), failed.error);
                    tokio::time::sleep(delay).await;
                }
                None => {
                    if again && matches!(call.lane, Lane::Quick | Lane::Session) {
                        self.link.noted.gave_up(&failed.error);
                    }
                    return Err(failed.error);
                }
            }
        }
    }

    /// Opens a stream of events and brings what comes of it, its headers read. Once only: who follows it knows when to come
    /// again. Says nothing of how well the server can be reached otherwise: proxies may stop streams and nothing else.
    pub(in crate::api) async fn stream(&self, call: &Call) -> Result<Response, Error> {
        let patience = Patience::new(self.timeout, Instant::now());
        let mut renewed = false;
        loop {
            let token = self.auth.token(&patience).await?;
            let access = token.map(|token| token.access);
            let request = call.request(&self.link, access.clone());
            let response = self.link.open(request, &patience).await?;
            let kind = text(response.headers(), CONTENT_TYPE).unwrap_or_default();
            if response.status() == StatusCode::OK && kind.starts_with("text/event-stream") {
                self.link.learn_the_time(response.headers());
                self.link.noted.success(true);
                return Ok(response);
            }
            let answer = patience.wait(short(response)).await??;
            check(&self.link, call, &answer).map_err(|failed| failed.error)?;
            let head = Head::read(&answer.body)?;
            match (head.telling().code, access) {
                (401 | 40020, Some(access)) if !renewed => {
                    renewed = true;
                    self.auth.renew(&access, &patience).await?;
                }
                (0, _) => return Err(Error::transport("the answer is no event stream")),
                _ => return Err(head.error(call.asked, &self.auth.advice())),
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
        let began = Instant::now();
        let answer = exchange(&self.link, call, access, patience).await?;
        if let Lane::Quick = call.lane {
            self.link.noted.took(began.elapsed());
        }
        let code = answer.head.telling().code;
        let mut refused = false;
        if let Some(token) = token {
            // 40020: a token of another kind. And the endpoint's own word for a visitor, as for a stranger.
            refused = matches!(code, 401 | 40020)
                || (call.stranger_code == Some(code) && !self.auth.is_fresh(&token.access));
            // What was changed was changed as somebody.
            let believed = !call.repeatable && answer.head.code == 0;
            let dead = !believed && answer.date.is_some_and(|date| token.was_dead(date));
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
        let is_batch = answer.head.code == NOT_FULLY_SUCCESS_BATCH;
        let itemised = is_batch && call.itemised && !refused;
        match answer.head.code {
            code if code == 0 || itemised => {
                self.link.noted.success(signed_in);
                Ok(answer)
            }
            _ => {
                let error = answer.head.error(call.asked, &self.auth.advice());
                Err(match in_the_way(call, code, &error) {
                    0 => error.into(),
                    most => Tried::InTheWay(error, most),
                })
            }
        }
    }
}

/// All of an answer that is a few lines at most.
async fn short(mut response: Response) -> Result<Answer, Error> {
    let mut body = BytesMut::new();
    let broken = |_| Error::transport("the answer broke off");
    while let Some(piece) = response.chunk().await.map_err(broken)? {
        if body.len() + piece.len() > LONGEST_REFUSAL_BYTES {
            return Err(Error::transport("the answer is too long"));
        }
        body.extend_from_slice(&piece);
    }
    Ok(Answer {
        status: response.status(),
        headers: response.headers().clone(),
        body: body.freeze(),
    })
}

/// How often it is worth asking again, since what was in the way lasts for milliseconds only.
fn in_the_way(call: &Call, code: i64, error: &Error) -> u32 {
    match error {
        Error::Locked(owners) if owners.iter().all(Owner::is_brief) => MOST_IN_THE_WAY,
        Error::SessionGone if code == LOCK_CONFLICT && call.in_session => MOST_LOCK_LOST,
        _ => 0,
    }
}

/// Sends `call` once and reads the envelope that comes back, whatever its code.
pub(in crate::api) async fn exchange(
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
pub(in crate::api) async fn raw(
    link: &Arc<Link>,
    call: &Call,
    patience: &mut Patience,
) -> Result<Answer, Error> {
    link.fetch(call.request(link, None), call.lane, patience)
        .await
}

/// Whether an answer can be an envelope: status 200 and JSON (→ api part 1 §1.3).
pub(in crate::api) fn check(link: &Link, call: &Call, answer: &Answer) -> Result<(), Failed> {
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
    if call.has_statuses && matches!(status, 400 | 401) && kind.contains("json") {
        return Ok(());
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
    if status == 413 && matches!(call.body, Body::Part(_)) {
        return Err(Error::TooLarge {
            said: "something in front of Cloudreve takes no request as large as this".into(),
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
