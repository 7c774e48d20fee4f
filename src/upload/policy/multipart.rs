//! Parts with a signed URL each, and a request that puts them together: what S3 and its kin have in common.

use bytes::Bytes;
use serde::de::IgnoredAny;

use super::Transfer;
use super::store::{NO_SUCH_BUCKET, OCTET_STREAM, ask, code_of, go_on, no_storage, refusal, send};
use crate::api::{Error, Part, PartAnswer};

/// Codes of a store that has other parts than we were told.
const OTHER_PARTS: [&str; 2] = ["InvalidPart", "InvalidPartOrder"];

/// The status of an upload that is complete, but of which the store could not tell the server.
const UNTOLD: u16 = 203;

/// What a store says to a completion, which tells it from whoever else may answer in its place.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Says {
    /// The document of S3.
    Result,
    /// In JSON, what the server said to the store.
    Callback,
}

/// How a store is asked to put the parts together.
pub(super) struct Ending {
    /// Headers beside the content type; they are signed.
    pub(super) headers: &'static [(&'static str, &'static str)],
    /// Whether the parts are listed.
    pub(super) lists: bool,
    /// What it answers.
    pub(super) says: Says,
}

/// What came of it.
pub(super) enum Completed {
    /// It is complete.
    Now,
    /// There is no such upload: it was completed before, or aborted.
    Before,
    /// It is complete, and the store could not tell the server.
    Untold(PartAnswer),
}

/// Sends the parts that are not there yet. [`Error::SessionGone`] where the store has no such upload, or no more.
pub(super) async fn send_parts(t: &Transfer<'_>) -> Result<(), Error> {
    let urls = &t.session.upload_urls;
    if urls.len() as u64 != t.chunks() {
        let said = format!("it gave {} places for {} parts", urls.len(), t.chunks());
        return Err(Error::Refused { code: 0, said });
    }
    t.send_chunks(0..t.chunks(), t.streams(), |index, part| async move {
        // As many as there are parts, so the index fits.
        let url = &urls[index as usize];
        let answer = ask(t, "PUT", url, &[OCTET_STREAM], part).await?;
        let etag = answer.etag.filter(|etag| !etag.is_empty());
        etag.ok_or_else(no_storage)
    })
    .await
}

/// Puts the parts together, all of which the store has.
pub(super) async fn complete(t: &Transfer<'_>, ending: &Ending) -> Result<Completed, Error> {
    go_on(t)?;
    let document = match ending.lists {
        true => document(t)?,
        false => String::new(),
    };
    let headers: Vec<_> = [OCTET_STREAM]
        .into_iter()
        .chain(ending.headers.iter().copied())
        .collect();
    t.repeat(|| async {
        let body = Part::from(Bytes::from(document.clone()));
        let answer = send(t, "POST", &t.session.complete_url, &headers, body).await?;
        outcome(t, ending.says, answer).await
    })
    .await
}

async fn outcome(t: &Transfer<'_>, says: Says, answer: PartAnswer) -> Result<Completed, Error> {
    let word = code_of(&answer.body);
    let word = word.as_deref();
    match answer.status {
        UNTOLD => Ok(Completed::Untold(answer)),
        // A store may begin to answer before it knows how it ends.
        200..=299 if is_error(&answer.body) => Err(Error::Trouble {
            code: i64::from(answer.status),
            said: format!("its storage says {}", word.unwrap_or("nothing more")),
        }),
        200..=299 if is_said(says, &answer.body) => Ok(Completed::Now),
        200..=299 => Err(no_storage()),
        404 if word != Some(NO_SUCH_BUCKET) => Ok(Completed::Before),
        400 if word.is_some_and(|word| OTHER_PARTS.contains(&word)) => {
            log::warn!("an upload is begun anew, as its storage has other parts of it");
            Err(Error::SessionGone)
        }
        _ => Err(refusal(t, &answer).await),
    }
}

/// Whether a document tells of an error.
fn is_error(body: &[u8]) -> bool {
    has(body, b"<Error>")
}

/// Whether the store itself says that it is complete.
fn is_said(says: Says, body: &[u8]) -> bool {
    match says {
        Says::Result => has(body, b"<CompleteMultipartUploadResult"),
        Says::Callback => serde_json::from_slice::<IgnoredAny>(body).is_ok(),
    }
}

fn has(body: &[u8], text: &[u8]) -> bool {
    body.windows(text.len()).any(|window| window == text)
}

/// The list of the parts, in order. All must be there: with a few only, a store puts those few together.
fn document(t: &Transfer<'_>) -> Result<String, Error> {
    let done = t.progress.done();
    let mut xml = String::from("<CompleteMultipartUpload>");
    for index in 0..t.chunks() {
        let etag = done.chunks.get(&index).filter(|etag| !etag.is_empty());
        let etag = etag.ok_or_else(|| Error::Local(format!("part {index} was not sent")))?;
        let (number, etag) = (index + 1, escaped(etag));
        xml += &format!("<Part><PartNumber>{number}</PartNumber><ETag>{etag}</ETag></Part>");
    }
    xml += "</CompleteMultipartUpload>";
    Ok(xml)
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}
