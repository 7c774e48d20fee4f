//! A storage node: a Cloudreve in slave mode, with its own signatures and the envelope of its master.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE;

use super::super::content::{serve_content, with_headers};
use super::stored;
use crate::faults::Effect;
use crate::reply::{Failure, Outcome, Reply};
use crate::serve::Asked;
use crate::site::Site;

/// `POST /api/v4/slave/upload/{session}?chunk={index}`.
pub(super) fn chunk(site: &mut Site, asked: &Asked, session: &str) -> Reply {
    if let Err(failure) = check(site, asked) {
        let mut reply = enveloped(site, Err(failure));
        // Refused before anything that sets it.
        reply.headers.remove(hyper::header::CACHE_CONTROL);
        return reply;
    }
    let index = asked.param("chunk").and_then(|chunk| chunk.parse().ok());
    // Go's zero, where there is no number.
    let outcome = site.receive_chunk(session, index.unwrap_or(0), asked, false);
    enveloped(site, outcome)
}

/// The credential is of the path, and of every header of Cloudreve's: one more, and it is another request.
fn check(site: &Site, asked: &Asked) -> Result<(), Failure> {
    if let Effect::Code(code, msg) = &asked.effect {
        return Err(Failure::new(*code, msg.clone()));
    }
    let header = asked.header("authorization");
    let sign = header.map(|value| value.trim_start_matches("Bearer Cr "));
    site.signer
        .check_path(&format!("POST {}", asked.path), sign, asked.now)?;
    let ours = |name: &hyper::header::HeaderName| name.as_str().starts_with("x-cr-");
    if asked.headers.keys().any(ours) {
        return Err(Failure::new(40071, "invalid sign"));
    }
    Ok(())
}

/// `GET /api/v4/slave/file/content/…`.
pub(super) fn content(site: &mut Site, asked: &Asked, path: &str, key: &str, name: &str) -> Reply {
    let checked = site.signer.check_path(path, asked.param("sign"), asked.now);
    if let Err(failure) = checked {
        return enveloped(site, Err(failure));
    }
    let id = URL_SAFE
        .decode(key)
        .ok()
        .and_then(|key| String::from_utf8(key).ok());
    let id = id.as_deref().and_then(|key| key.strip_prefix("uploads/"));
    match id.and_then(|id| stored(site, id)) {
        // The same for every file (→ api part 2 §2.3).
        Some(content) => {
            let size = content.len();
            with_headers(
                asked,
                serve_content(asked, content, 206),
                "\"nnIq\"",
                name,
                size,
            )
        }
        None => {
            let failure = Failure::new(40016, "Failed to open file");
            let mut reply = enveloped(site, Err(failure));
            reply.status = hyper::StatusCode::BAD_REQUEST;
            reply
        }
    }
}

fn enveloped(site: &mut Site, outcome: Outcome) -> Reply {
    outcome.unwrap_or_else(|failure| Reply::failure(&failure, &site.dice.uuid()))
}
