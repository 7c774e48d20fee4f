//! Chunks to a storage node: a Cloudreve itself, with a credential of its own. The node tells the server in the request
//! that brings the last chunk.

use serde::Deserialize;

use super::Transfer;
use super::store::{OCTET_STREAM, no_storage, only_url, refusal, send as send_to};
use crate::api::{Error, Part};

#[derive(Deserialize)]
struct Envelope {
    code: i64,
}

/// Sends what is not there yet.
pub(super) async fn send(t: &Transfer<'_>) -> Result<(), Error> {
    let url = only_url(t)?;
    t.send_to_disk(|index, part| chunk(t, url, index, part))
        .await
}

async fn chunk(t: &Transfer<'_>, url: &str, index: u64, part: Part) -> Result<String, Error> {
    let url = format!("{url}?chunk={index}");
    let headers = [OCTET_STREAM, ("Authorization", &*t.session.credential)];
    let answer = send_to(t, "POST", &url, &headers, part).await?;
    match answer.status {
        // A node answers so whatever it has to say.
        200 => {}
        404 | 410 => return Err(no_storage()),
        _ => return Err(refusal(t, &answer).await),
    }
    match serde_json::from_slice(&answer.body) {
        Ok(Envelope { code: 0 }) => Ok(String::new()),
        Ok(Envelope { code }) => Err(meaning(code)),
        Err(_) => Err(no_storage()),
    }
}

/// What a node's code means. Its words may quote a signed URL, and are left out.
fn meaning(code: i64) -> Error {
    let said = "a storage node refused a piece of the upload".to_owned();
    match code {
        // The session or its lock is gone, or the credential has ended with it.
        40005 | 40011 | 40073 => Error::SessionGone,
        40016 => Error::NotFound,
        -1 | 500..=599 | 50000..=59999 => Error::Trouble { code, said },
        _ => Error::Refused { code, said },
    }
}
