//! OneDrive: fragments of one session, strictly one after the other, and a call that tells the server.
//!
//! The server never sees the fragments, only the whole; OneDrive itself knows how far an upload is, and is asked.

use bytes::Bytes;
use serde::Deserialize;

use super::Transfer;
use super::store::{
    OCTET_STREAM, ask, go_on, no_storage, only_url, refusal, send as send_to, tell,
};
use crate::api::{Error, Part, PartAnswer};

/// Every fragment but the last must be a multiple of it.
const UNIT_BYTES: u64 = 320 << 10;

/// The largest fragment that OneDrive takes, as a multiple.
const LARGEST_BYTES: u64 = 60 << 20;

/// How often it may say that it is elsewhere than we are, without getting any further.
const MOST_SURPRISES: u32 = 3;

/// What OneDrive says of an upload under way.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Status {
    #[serde(default)]
    next_expected_ranges: Vec<String>,
}

/// What came of a fragment.
enum Sent {
    /// Goes on at this byte.
    UpTo(u64),
    /// That was the last one.
    Whole,
    /// It wants another fragment: it has more, or less, than we think.
    Elsewhere,
    /// There is no such upload: it is whole, or was given up.
    Gone,
}

/// Sends what is not there yet, and tells the server.
pub(super) async fn send(t: &Transfer<'_>) -> Result<(), Error> {
    let url = only_url(t)?;
    let mut at = match t.progress.done().chunks.is_empty() {
        true => 0,
        false => match position(t, url).await? {
            Some(at) => at,
            None => return tell(t, false).await,
        },
    };
    let mut surprises = 0;
    loop {
        go_on(t)?;
        match fragment(t, url, at).await? {
            Sent::UpTo(next) => at = next,
            Sent::Whole => return tell(t, true).await,
            Sent::Gone => return tell(t, false).await,
            Sent::Elsewhere if surprises == MOST_SURPRISES => return Err(Error::SessionGone),
            Sent::Elsewhere => {
                surprises += 1;
                match position(t, url).await? {
                    Some(next) => at = next,
                    None => return tell(t, false).await,
                }
            }
        }
    }
}

/// Bytes in each fragment but the last: what the session says, made to what OneDrive takes.
fn fragment_bytes(t: &Transfer<'_>) -> u64 {
    let wanted = t.chunk_bytes() / UNIT_BYTES * UNIT_BYTES;
    wanted.clamp(UNIT_BYTES, LARGEST_BYTES)
}

async fn fragment(t: &Transfer<'_>, url: &str, at: u64) -> Result<Sent, Error> {
    let end = at.saturating_add(fragment_bytes(t)).min(t.size_bytes);
    if at >= end {
        // It has all bytes, and does not call that the whole.
        return Err(Error::SessionGone);
    }
    let range = format!("bytes {at}-{}/{}", end - 1, t.size_bytes);
    let sent = t
        .repeat(|| async {
            let headers = [OCTET_STREAM, ("Content-Range", range.as_str())];
            let answer = send_to(t, "PUT", url, &headers, (t.body)(at..end)).await?;
            match answer.status {
                200 | 201 if end == t.size_bytes => Ok(Sent::Whole),
                200..=299 => match next(&answer) {
                    Some(next) if next > at => Ok(Sent::UpTo(next)),
                    // It took the fragment, and wants it again.
                    Some(_) => Ok(Sent::Elsewhere),
                    None => Err(no_storage()),
                },
                // A name that is taken is so by the same upload: no other has this name.
                404 | 409 => Ok(Sent::Gone),
                416 => Ok(Sent::Elsewhere),
                _ => Err(refusal(t, &answer).await),
            }
        })
        .await?;
    if matches!(sent, Sent::UpTo(_) | Sent::Whole) {
        let index = at / fragment_bytes(t);
        t.progress.chunk_done(index, end - at, "").await;
    }
    Ok(sent)
}

/// Where it goes on; none where there is no such upload, or no more.
async fn position(t: &Transfer<'_>, url: &str) -> Result<Option<u64>, Error> {
    let answer = t
        .repeat(|| ask(t, "GET", url, &[], Part::from(Bytes::new())))
        .await;
    match answer {
        Ok(answer) => next(&answer).map(Some).ok_or_else(no_storage),
        Err(Error::SessionGone) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The first byte that it expects.
fn next(answer: &PartAnswer) -> Option<u64> {
    let status: Status = serde_json::from_slice(&answer.body).ok()?;
    let first = status.next_expected_ranges.first()?;
    first.split('-').next()?.parse().ok()
}
