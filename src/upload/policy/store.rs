//! What all storage behind the server has in common: how it is asked, and what its refusals mean.
//!
//! A store is told nothing of the account, and its words go into no error: they may quote a signed URL. Its code does.

use std::time::{Duration, UNIX_EPOCH};

use serde_json::Value;

use super::Transfer;
use crate::api::{Error, Part, PartAnswer, PartRequest, UNCLASSIFIED};
use crate::secret::Secret;

/// The type of every body that is content.
pub(super) const OCTET_STREAM: (&str, &str) = ("Content-Type", "application/octet-stream");

/// The word for more than an upload that is missing: another session would go the same way.
pub(super) const NO_SUCH_BUCKET: &str = "NoSuchBucket";

/// Longest that a storage may ask us to wait before the next try of a piece; the whole upload can wait longer.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// A code of a store's is a word; what is longer is none.
const LONGEST_CODE_CHARS: usize = 64;

/// The server's code for an object whose size is not the declared one.
const SIZE_DIFFERS: i64 = 40055;

/// Sends one request; whatever the store says is an answer. `url` is signed, and headers may hold secrets.
pub(super) async fn send(
    t: &Transfer<'_>,
    method: &'static str,
    url: &str,
    headers: &[(&'static str, &str)],
    body: Part,
) -> Result<PartAnswer, Error> {
    let headers = headers
        .iter()
        .map(|(name, value)| (*name, Secret::new(*value)))
        .collect();
    t.api
        .send_part(PartRequest {
            method,
            url: Secret::new(url),
            headers,
            body,
        })
        .await
}

/// As [`send`], where only a success is of use.
pub(super) async fn ask(
    t: &Transfer<'_>,
    method: &'static str,
    url: &str,
    headers: &[(&'static str, &str)],
    body: Part,
) -> Result<PartAnswer, Error> {
    let answer = send(t, method, url, headers, body).await?;
    match answer.status {
        200..=299 => Ok(answer),
        _ => Err(refusal(t, &answer).await),
    }
}

/// What an answer that is no success means. Where the store wants to be left alone for a while, that has passed.
pub(super) async fn refusal(t: &Transfer<'_>, answer: &PartAnswer) -> Error {
    let (status, code) = (answer.status, i64::from(answer.status));
    let word = code_of(&answer.body);
    let said = match &word {
        Some(word) => format!("its storage says {word}"),
        None => "its storage gives no reason".to_owned(),
    };
    log::debug!("a storage answered {status}: {said}");
    match status {
        // 573 is Qiniu's "too many requests"; 507 and 509 are full disks and used-up traffic, which do not pass soon.
        408 | 425 | 429 | 500..=506 | 510..=599 => {
            if let Some(delay) = answer.retry_after {
                // Cut short where the upload is to end: then nothing is repeated either.
                t.progress.pause(delay.min(LONGEST_PAUSE)).await;
            }
            Error::Trouble { code, said }
        }
        // S3's name for a body that came too slowly.
        400 if word.as_deref() == Some("RequestTimeout") => Error::Trouble { code, said },
        404 | 410 if word.as_deref() != Some(NO_SUCH_BUCKET) => Error::SessionGone,
        401 | 403 if has_ended(t).await => Error::SessionGone,
        413 => Error::TooLarge { said },
        _ => Error::Refused { code, said },
    }
}

/// A success that is not in the words of who should have answered: a network's sign-in page, most likely.
pub(super) fn no_storage() -> Error {
    Error::Transport {
        what: "what answered in the storage's place is none".into(),
        source: None,
    }
}

/// Whether the session, and with it all its URLs and tokens, has ended by the server's clock.
pub(super) async fn has_ended(t: &Transfer<'_>) -> bool {
    // That clock may have been read long ago; without an answer the last reading has to do.
    t.api.ping().await.ok();
    let now = t.api.server_now().duration_since(UNIX_EPOCH);
    now.is_ok_and(|now| t.session.expires <= now.as_secs())
}

/// The word by which a store tells what went wrong: the `Code` of an XML document, or what JSON has in its place.
pub(super) fn code_of(body: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(body).ok()?;
    let code = match serde_json::from_str::<Value>(text) {
        Ok(json) => json_code(&json)?,
        Err(_) => element(text, "Code")?.to_owned(),
    };
    let is_word = |c: char| c.is_ascii_alphanumeric() || "._- ".contains(c);
    let fits = !code.is_empty() && code.len() <= LONGEST_CODE_CHARS && code.chars().all(is_word);
    fits.then_some(code)
}

/// `error.innererror.code` and `error.code` of OneDrive, `error` of Qiniu, `code` of UPYUN.
fn json_code(json: &Value) -> Option<String> {
    let error = &json["error"];
    let text = |value: &Value| match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    };
    text(&error["innererror"]["code"])
        .or_else(|| text(&error["code"]))
        .or_else(|| text(error))
        .or_else(|| text(&json["code"]))
}

/// What is between the tags of the first element of this name.
fn element<'a>(xml: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = xml.split_once(&format!("<{name}>"))?;
    let (inside, _) = rest.split_once(&format!("</{name}>"))?;
    Some(inside.trim())
}

/// Tells the server that its storage has everything. `sure`: the storage just said so itself; otherwise it had no such
/// upload any more, which is so after a completion, and after an abort, too.
pub(super) async fn tell(t: &Transfer<'_>, sure: bool) -> Result<(), Error> {
    go_on(t)?;
    match t.repeat(|| t.api.callback(t.session)).await {
        // What lies there is not what was declared, and nothing mends that but another session.
        Err(Error::Refused {
            code: SIZE_DIFFERS,
            said,
        }) => {
            log::warn!("an upload is begun anew, as its storage has something else: {said}");
            Err(Error::SessionGone)
        }
        // The storage has no such object.
        Err(Error::Trouble {
            code: UNCLASSIFIED, ..
        }) if !sure => Err(Error::SessionGone),
        told => told,
    }
}

/// An error where the upload is to end.
pub(super) fn go_on(t: &Transfer<'_>) -> Result<(), Error> {
    match t.progress.is_halted() {
        true => Err(Error::Local("the upload was stopped".into())),
        false => Ok(()),
    }
}

/// The storage has the upload, and could not tell the server so; it does not try again. The same session leads nowhere,
/// which its next answer says.
pub(super) fn untold(answer: &PartAnswer) -> Error {
    let word = code_of(&answer.body).unwrap_or_else(|| "no reason".to_owned());
    Error::Trouble {
        code: i64::from(answer.status),
        said: format!("its storage has the file, but could not tell the server so ({word})"),
    }
}

/// The URL that a session of this kind has, and only one.
pub(super) fn only_url<'a>(t: &Transfer<'a>) -> Result<&'a str, Error> {
    let url = t.session.upload_urls.first();
    url.map(String::as_str).ok_or_else(|| Error::Refused {
        code: 0,
        said: "it opened an upload without a place to send it to".into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(body: &str, expected: Option<&str>) {
        assert_eq!(code_of(body.as_bytes()).as_deref(), expected, "{body}");
    }

    #[test]
    fn every_store_has_its_word_for_what_went_wrong() {
        check(
            "<?xml version=\"1.0\"?>\n<Error>\n  <Code>NoSuchUpload</Code><Message>x</Message></Error>",
            Some("NoSuchUpload"),
        );
        check(
            r#"{"error":{"code":"invalidRange","innererror":{"code":"fragmentOverlap"}}}"#,
            Some("fragmentOverlap"),
        );
        check(r#"{"error":{"code":"itemNotFound"}}"#, Some("itemNotFound"));
        check(r#"{"error":"expired token"}"#, Some("expired token"));
        check(
            r#"{"code":40300003,"message":"content-length"}"#,
            Some("40300003"),
        );
        check("<html>Welcome</html>", None);
        check("", None);
    }

    #[test]
    fn what_a_store_quotes_of_a_request_is_no_word_of_its() {
        check(r#"{"error":"https://store/x?sign=hunter2"}"#, None);
        check("<Code>a?b=c</Code>", None);
        check(&format!("<Code>{}</Code>", "x".repeat(100)), None);
    }
}
