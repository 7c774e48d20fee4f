//! Qiniu: numbered parts below one URL, a list that puts them together; Qiniu itself tells the server.

use bytes::Bytes;
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};

use super::Transfer;
use super::store::{OCTET_STREAM, go_on, no_storage, only_url, refusal, send as send_to, untold};
use crate::api::{Error, Part, PartAnswer};

/// Qiniu's status for an upload that is complete, but of which it could not tell the server.
const UNTOLD: u16 = 579;

/// Qiniu's status for an upload that there is not, or no more.
const NO_SUCH_UPLOAD: u16 = 612;

/// What Qiniu says of a part.
#[derive(Deserialize)]
struct Received {
    #[serde(default)]
    etag: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Listed<'a> {
    etag: &'a str,
    part_number: u64,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Ending<'a> {
    parts: Vec<Listed<'a>>,
    #[serde(skip_serializing_if = "str::is_empty")]
    mime_type: &'a str,
}

/// Sends what is not there yet, and ends the upload.
pub(super) async fn send(t: &Transfer<'_>) -> Result<(), Error> {
    let url = only_url(t)?;
    let token = format!("UpToken {}", t.session.credential);
    let token = token.as_str();
    t.send_chunks(0..t.chunks(), t.streams(), |index, part| async move {
        let url = format!("{url}/{}", index + 1);
        let headers = [OCTET_STREAM, ("Authorization", token)];
        let answer = send_to(t, "PUT", &url, &headers, part).await?;
        etag(&accepted(t, answer).await?)
    })
    .await?;
    end(t, url, token).await
}

async fn end(t: &Transfer<'_>, url: &str, token: &str) -> Result<(), Error> {
    go_on(t)?;
    let document = document(t)?;
    let answer = t
        .repeat(|| async {
            let headers = [
                ("Content-Type", "application/json"),
                ("Authorization", token),
            ];
            let body = Part::from(document.clone());
            let answer = send_to(t, "POST", url, &headers, body).await?;
            match answer.status {
                UNTOLD => Ok(answer),
                _ => accepted(t, answer).await.and_then(said_so),
            }
        })
        .await?;
    match answer.status {
        200 => Ok(()),
        _ => Err(untold(&answer)),
    }
}

/// An answer that is a success. That there is no such upload may also say that it is complete: the file tells.
async fn accepted(t: &Transfer<'_>, answer: PartAnswer) -> Result<PartAnswer, Error> {
    match answer.status {
        200..=299 => Ok(answer),
        NO_SUCH_UPLOAD => Err(Error::SessionGone),
        _ => Err(refusal(t, &answer).await),
    }
}

/// Qiniu passes on what the server said to it, which is JSON.
fn said_so(answer: PartAnswer) -> Result<PartAnswer, Error> {
    match serde_json::from_slice::<IgnoredAny>(&answer.body) {
        Ok(_) => Ok(answer),
        Err(_) => Err(no_storage()),
    }
}

fn etag(answer: &PartAnswer) -> Result<String, Error> {
    match serde_json::from_slice::<Received>(&answer.body) {
        Ok(Received { etag }) if !etag.is_empty() => Ok(etag),
        _ => Err(no_storage()),
    }
}

/// The list of all parts, in order.
fn document(t: &Transfer<'_>) -> Result<Bytes, Error> {
    let done = t.progress.done();
    let missing = |index| Error::Local(format!("part {index} was not sent"));
    let listed = |index| {
        let etag = done.chunks.get(&index).ok_or_else(|| missing(index))?;
        Ok(Listed {
            etag,
            part_number: index + 1,
        })
    };
    let ending = Ending {
        parts: (0..t.chunks()).map(listed).collect::<Result<_, Error>>()?,
        mime_type: &t.session.mime_type,
    };
    serde_json::to_vec(&ending)
        .map(Bytes::from)
        .map_err(|err| Error::Local(err.to_string()))
}
