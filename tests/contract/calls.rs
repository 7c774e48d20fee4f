//! One request, built word by word: who asks, what, with which headers and which body.

use reqwest::Method;
use reqwest::header::{AUTHORIZATION, HeaderName, HeaderValue};
use serde_json::Value;

use crate::reply::Reply;
use crate::subject::Site;

/// A request that is not sent yet.
pub(crate) struct Call<'a> {
    site: &'a Site,
    method: Method,
    url: String,
    asks: Asks,
    headers: Vec<(HeaderName, String)>,
    json: Option<Value>,
    form: Option<Vec<(&'static str, String)>>,
    body: Option<Vec<u8>>,
}

/// Who asks.
enum Asks {
    /// The site's own user.
    User,
    Nobody,
    /// The bearer of this token.
    Bearer(String),
}

impl<'a> Call<'a> {
    /// A request to a path below `/api/v4`, which begins with a slash and may bring a query.
    pub(crate) fn new(site: &'a Site, method: Method, path: &str) -> Self {
        Self::to(site, method, format!("{}/api/v4{path}", site.address))
    }

    /// A request to a whole URL.
    pub(crate) fn to(site: &'a Site, method: Method, url: String) -> Self {
        Self {
            site,
            method,
            url,
            asks: Asks::User,
            headers: Vec::new(),
            json: None,
            form: None,
            body: None,
        }
    }

    pub(crate) fn query(mut self, pairs: &[(&str, &str)]) -> Self {
        for (name, value) in pairs {
            self.url
                .push(if self.url.contains('?') { '&' } else { '?' });
            self.url.push_str(
                &url::form_urlencoded::Serializer::new(String::new())
                    .append_pair(name, value)
                    .finish(),
            );
        }
        self
    }

    pub(crate) fn anonymous(mut self) -> Self {
        self.asks = Asks::Nobody;
        self
    }

    pub(crate) fn bearer(mut self, token: &str) -> Self {
        self.asks = Asks::Bearer(token.to_owned());
        self
    }

    pub(crate) fn header(mut self, name: &'static str, value: &str) -> Self {
        self.headers
            .push((HeaderName::from_static(name), value.to_owned()));
        self
    }

    pub(crate) fn json(mut self, json: Value) -> Self {
        self.json = Some(json);
        self
    }

    pub(crate) fn form(mut self, pairs: &[(&'static str, &str)]) -> Self {
        self.form = Some(
            pairs
                .iter()
                .map(|(name, value)| (*name, (*value).to_owned()))
                .collect(),
        );
        self
    }

    pub(crate) fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = Some(body.into());
        self
    }

    /// Sends it, and waits for the whole answer. A broken connection fails the case.
    pub(crate) async fn send(self) -> Reply {
        let (asked, answer) = self.open().await;
        let (status, headers) = (answer.status(), answer.headers().clone());
        let body = answer
            .bytes()
            .await
            .unwrap_or_else(|err| panic!("{asked}: {err:?}"))
            .to_vec();
        Reply {
            asked,
            status,
            headers,
            body,
        }
    }

    /// Sends it, and waits for the headers of the answer. Gives what was asked, too.
    pub(crate) async fn open(self) -> (String, reqwest::Response) {
        let asked = format!(
            "{} {} {}",
            self.method,
            self.url.trim_start_matches(&self.site.address),
            self.json.as_ref().map(Value::to_string).unwrap_or_default()
        );
        let mut request = self.site.http.request(self.method, &self.url);
        let token = match self.asks {
            Asks::User => Some(self.site.token()),
            Asks::Nobody => None,
            Asks::Bearer(token) => Some(token),
        };
        if let Some(token) = token {
            let value = HeaderValue::from_str(&format!("Bearer {token}"))
                .expect("a token that fits a header");
            request = request.header(AUTHORIZATION, value);
        }
        for (name, value) in self.headers {
            request = request.header(name, value);
        }
        if let Some(json) = self.json {
            request = request.json(&json);
        } else if let Some(form) = self.form {
            request = request.form(&form);
        } else if let Some(body) = self.body {
            request = request.body(body);
        }
        let answer = request
            .send()
            .await
            .unwrap_or_else(|err| panic!("{asked}: {err:?}"));
        (asked, answer)
    }
}
