//! Sends one request, follows its redirects, and waits for headers as the promise of this room wants it.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use reqwest::header::{
    ACCEPT_ENCODING, AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, HeaderValue, LOCATION, RANGE,
};
use reqwest::{RequestBuilder, Response, StatusCode};
use tokio::sync::watch;
use tokio::time::Instant;
use url::Url;

use super::outgoing::Outgoing;
use super::{Body, Link, Redirects, Request, broken, host_and_port, lost, unreached};
use crate::api::Error;

/// From the last byte of content to headers: the server brings the content to its store meanwhile, or the store makes one
/// object of ten thousand parts and calls the server back.
const STORING_TIMEOUT: Duration = Duration::from_secs(900);
/// Redirects followed for one request.
const MOST_REDIRECTS: usize = 5;
const NEVER_ANSWERED: &str = "it took the request and never answered";

impl Link {
    /// Follows redirects as far as the request allows.
    pub(super) async fn headers(
        &self,
        mut request: Request,
        progress: &watch::Sender<()>,
    ) -> Result<Response, Error> {
        for _ in 0..=MOST_REDIRECTS {
            let response = self.one(&request, progress).await?;
            if !is_redirect(response.status()) || request.redirects == Redirects::Answer {
                return Ok(response);
            }
            request.url = self.redirected(&request, &response)?;
        }
        Err(broken(&self.address.host(), "redirects lead nowhere", None))
    }

    /// Sends one request; `progress` is told of each piece of its content, and where nobody listens to that any more the
    /// request is broken off in the middle of it.
    async fn one(
        &self,
        request: &Request,
        progress: &watch::Sender<()>,
    ) -> Result<Response, Error> {
        let (builder, outgoing) = self.with_body(self.with_headers(request)?, request, progress);
        self.requests.fetch_add(1, Ordering::Relaxed);
        let began = Instant::now();
        let result = match &outgoing {
            Some(outgoing) => {
                self.send_content(request, builder, outgoing, progress)
                    .await
            }
            None => {
                let limit = self.answer_limit(request);
                match tokio::time::timeout(limit, builder.send()).await {
                    Ok(Ok(response)) => Ok(response),
                    Ok(Err(err)) => Err(unreached(&request.url, err)),
                    Err(_) => Err(silent(&request.url, NEVER_ANSWERED)),
                }
            }
        };
        let outcome = match &result {
            Ok(response) => response.status().as_u16().to_string(),
            Err(error) => error.to_string(),
        };
        log::debug!(
            "{} {}: {outcome} in {:?}",
            request.method,
            self.label(request),
            began.elapsed()
        );
        result
    }

    fn with_headers(&self, request: &Request) -> Result<RequestBuilder, Error> {
        let client = self.pools.to(&request.url);
        let mut builder = client.request(request.method.clone(), request.url.clone());
        if let Some(token) = self.token_for(request)? {
            builder = builder.header(AUTHORIZATION, token);
        }
        if let Some(range) = &request.range {
            builder = builder.header(RANGE, range);
        }
        if request.redirects != Redirects::Answer {
            builder = builder.header(ACCEPT_ENCODING, "identity");
        }
        Ok(builder.headers(request.headers.clone()))
    }

    fn with_body(
        &self,
        builder: RequestBuilder,
        request: &Request,
        progress: &watch::Sender<()>,
    ) -> (RequestBuilder, Option<Arc<Outgoing>>) {
        let builder = match &request.body {
            Body::None => builder,
            Body::Json(json) => builder
                .header(CONTENT_TYPE, "application/json")
                .body(json.clone()),
            Body::Form(form) => builder
                .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
                .body(form.clone()),
            // The length must be told also of a body without bytes, and a stream has none of its own: the server commits an
            // empty file where it is not told (→ api part 2 §4.1).
            Body::Part(part) if part.len == 0 => builder.header(CONTENT_LENGTH, 0u64),
            Body::Part(part) => {
                let outgoing = Outgoing::new(part.clone(), self.pace_up.clone(), progress.clone());
                let builder = builder.header(CONTENT_LENGTH, part.len);
                return (builder.body(outgoing.body()), Some(outgoing));
            }
        };
        (builder, None)
    }

    /// Sends content. In the middle of it the request ends with whoever waits for it, or where no byte is taken any more:
    /// the receiver does not count what it has of it. Behind its end nothing but an answer or a long time does.
    async fn send_content(
        &self,
        request: &Request,
        builder: RequestBuilder,
        outgoing: &Outgoing,
        progress: &watch::Sender<()>,
    ) -> Result<Response, Error> {
        let sending = builder.send();
        tokio::pin!(sending);
        loop {
            let is_out = outgoing.is_all_out();
            let limit = match is_out {
                true => self.answer_limit(request),
                false => self.stall_timeout,
            };
            tokio::select! {
                biased;
                sent = &mut sending => {
                    return sent.map_err(|err| {
                        outgoing.failure().unwrap_or_else(|| unreached(&request.url, err))
                    });
                }
                () = outgoing.moved() => {}
                () = progress.closed(), if !is_out => {
                    if outgoing.abandon() {
                        return Err(lost());
                    }
                }
                () = tokio::time::sleep(limit) => match is_out {
                    true => return Err(silent(&request.url, NEVER_ANSWERED)),
                    false if outgoing.abandon() => {
                        return Err(silent(&request.url, "it takes no more of what is sent"));
                    }
                    // The last piece went out at this very moment.
                    false => {}
                },
            }
        }
    }

    /// How long a request may be under way without headers, once all of it is out.
    fn answer_limit(&self, request: &Request) -> Duration {
        let usual = match (&request.body, request.redirects) {
            (Body::Part(_), _) | (_, Redirects::Answer) => STORING_TIMEOUT,
            _ if self.address.is_origin_of(&request.url) => self.header_timeout,
            _ => self.storage_timeout,
        };
        request
            .answer_within
            .map_or(usual, |within| usual.max(within))
    }

    /// The token as a header, where this hop may see it.
    pub(super) fn token_for(&self, request: &Request) -> Result<Option<HeaderValue>, Error> {
        let Some(token) = &request.token else {
            return Ok(None);
        };
        let elsewhere = matches!(request.redirects, Redirects::Anywhere | Redirects::Answer);
        if elsewhere || !self.address.is_origin_of(&request.url) {
            return Ok(None);
        }
        let mut value =
            HeaderValue::try_from(format!("Bearer {}", token.expose())).map_err(|_| {
                Error::Local("the access token holds characters that no token has".into())
            })?;
        value.set_sensitive(true);
        Ok(Some(value))
    }

    fn redirected(&self, request: &Request, response: &Response) -> Result<Url, Error> {
        let target = response
            .headers()
            .get(LOCATION)
            .and_then(|location| location.to_str().ok())
            .and_then(|location| request.url.join(location).ok())
            .filter(|url| matches!(url.scheme(), "http" | "https"));
        let Some(target) = target else {
            return Err(broken(
                &self.address.host(),
                "a redirect leads nowhere",
                None,
            ));
        };
        let moved = matches!(response.status().as_u16(), 301 | 307 | 308);
        let allowed = match request.redirects {
            Redirects::Refuse | Redirects::Answer => false,
            Redirects::SameOrigin => moved && self.address.is_origin_of(&target),
            Redirects::Anywhere => true,
        };
        match allowed {
            true => Ok(target),
            // Typical of a network that wants a sign-in of its own first, or of http:// where https:// is meant.
            false => Err(broken(
                &self.address.host(),
                &format!(
                    "the answer is a redirect to {}, which no API answer is (a network's sign-in page, or http:// instead of https://?)",
                    target.host_str().unwrap_or("another place")
                ),
                None,
            )),
        }
    }

    /// What the log may know of a request: neither queries (passwords of shares) nor paths of signed URLs.
    pub(super) fn label(&self, request: &Request) -> String {
        let host = request.url.host_str().unwrap_or_default();
        match (request.redirects, request.alias) {
            (_, Some(alias)) => format!("{alias} of {host}"),
            (Redirects::Anywhere, _) => format!("content of {host}"),
            (Redirects::Answer, _) => format!("content for {host}"),
            _ => format!("{host}{}", request.url.path()),
        }
    }
}

fn silent(url: &Url, what: &str) -> Error {
    Error::transport(format!("{}: {what}", host_and_port(url)))
}

fn is_redirect(status: StatusCode) -> bool {
    matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308)
}
