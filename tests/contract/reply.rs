//! An answer of the server, as it came, with the assertions that the cases make of it.
//!
//! Each assertion says the whole exchange when it fails, so that the report alone tells what the server did.

use reqwest::StatusCode;
use reqwest::header::HeaderMap;
use serde_json::Value;

/// One answer.
pub(crate) struct Reply {
    /// What was asked, for the words of a failure.
    pub(crate) asked: String,
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
}

impl Reply {
    /// A header's text, or nothing.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        match serde_json::from_slice(&self.body) {
            Ok(json) => json,
            Err(err) => panic!("not JSON ({err}): {self:?}"),
        }
    }

    /// The envelope's code; an answer that is no envelope fails.
    #[track_caller]
    pub(crate) fn code(&self) -> i64 {
        match self.json()["code"].as_i64() {
            Some(code) => code,
            None => panic!("no envelope: {self:?}"),
        }
    }

    /// Expects HTTP 200 and this code in the envelope.
    #[track_caller]
    pub(crate) fn expect(self, code: i64) -> Self {
        assert_eq!((self.status.as_u16(), self.code()), (200, code), "{self:?}");
        self
    }

    /// Expects success, and gives its `data`; `null` if there is none.
    #[track_caller]
    pub(crate) fn data(self) -> Value {
        let mut json = self.expect(0).json();
        json["data"].take()
    }

    /// Expects a failed batch of one object, and gives the envelope of that object.
    #[track_caller]
    pub(crate) fn nested(&self) -> Value {
        let json = self.json();
        assert_eq!(json["code"], 40081, "{self:?}");
        match json["aggregated_error"].as_object() {
            Some(errors) if errors.len() == 1 => {
                errors.values().next().cloned().unwrap_or_default()
            }
            _ => panic!("not one nested error: {self:?}"),
        }
    }

    /// Expects a failed batch of one object with this code inside.
    #[track_caller]
    pub(crate) fn expect_nested(&self, code: i64) {
        assert_eq!(self.nested()["code"], code, "{self:?}");
    }

    /// Expects a plain HTTP status.
    #[track_caller]
    pub(crate) fn expect_status(self, status: u16) -> Self {
        assert_eq!(self.status.as_u16(), status, "{self:?}");
        self
    }
}

impl std::fmt::Debug for Reply {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let text: String = self.text().chars().take(700).collect();
        write!(
            f,
            "{} -> HTTP {} {:?} {text}",
            self.asked,
            self.status.as_u16(),
            self.header("content-type").unwrap_or("")
        )
    }
}
