//! OneDrive's upload session: fragments strictly one after the other, and a download that was authenticated before.

use hyper::Method;
use serde_json::{Value, json};

use super::super::content::serve_content;
use super::{is_unsized, stored};
use crate::reply::Reply;
use crate::serve::Asked;
use crate::site::Site;

/// Every fragment but the last is a multiple of this.
const UNIT: u64 = 320 << 10;

/// The largest fragment.
const LARGEST: u64 = 60 << 20;

type Refusal = (u16, &'static str, Option<&'static str>);

/// The upload URL: `PUT` a fragment, or `GET` how far it is.
pub(super) fn session(site: &mut Site, asked: &Asked, token: &str) -> Reply {
    let done = match asked.method {
        _ if asked.header("authorization").is_some() => Err((401, "unauthenticated", None)),
        Method::PUT => fragment(site, asked, token),
        Method::GET => status(site, asked, token),
        _ => Err((405, "invalidRequest", None)),
    };
    done.unwrap_or_else(refused)
}

fn refused((status, code, inner): Refusal) -> Reply {
    let mut error = json!({"code": code, "message": code});
    if let Some(inner) = inner {
        error["innererror"] = json!({"code": inner});
    }
    Reply::json(status, json!({"error": error}).to_string())
}

fn expected(received: usize, expires: &str) -> Value {
    json!({"expirationDateTime": expires, "nextExpectedRanges": [format!("{received}-")]})
}

fn status(site: &Site, asked: &Asked, token: &str) -> Result<Reply, Refusal> {
    let upload = site.store.fragments.get(token);
    let upload =
        upload
            .filter(|upload| asked.now < upload.expires)
            .ok_or((404, "itemNotFound", None))?;
    let body = expected(upload.received.len(), &upload.expires.rfc3339());
    Ok(Reply::json(200, body.to_string()))
}

fn fragment(site: &mut Site, asked: &Asked, token: &str) -> Result<Reply, Refusal> {
    let malformed = (400, "invalidRequest", None);
    if is_unsized(asked) {
        return Err((411, "lengthRequired", None));
    }
    let upload = site.store.fragments.get_mut(token);
    let upload =
        upload
            .filter(|upload| asked.now < upload.expires)
            .ok_or((404, "itemNotFound", None))?;
    let (start, end, size) = asked
        .header("content-range")
        .and_then(range)
        .ok_or(malformed)?;
    let length = end - start;
    if length != asked.body.len() as u64 || end > size {
        return Err(malformed);
    }
    if length > LARGEST {
        return Err((413, "requestTooLarge", None));
    }
    let received = upload.received.len() as u64;
    if start < received {
        return Err((416, "invalidRange", Some("fragmentOverlap")));
    }
    if start > received {
        return Err((416, "invalidRange", Some("fragmentOutOfOrder")));
    }
    if end < size && length % UNIT != 0 {
        return Err(malformed);
    }
    upload.received.extend_from_slice(&asked.body);
    if end < size {
        let body = expected(upload.received.len(), &upload.expires.rfc3339());
        return Ok(Reply::json(202, body.to_string()));
    }
    let Some(upload) = site.store.fragments.remove(token) else {
        return Err(malformed);
    };
    site.store
        .objects
        .insert(upload.session, upload.received.freeze());
    let item = json!({"id": "01ITEM", "name": "item", "size": size});
    Ok(Reply::json(201, item.to_string()))
}

/// Start, end (exclusive) and size of `bytes a-b/size`.
fn range(header: &str) -> Option<(u64, u64, u64)> {
    let (range, size) = header.strip_prefix("bytes ")?.split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let (first, last): (u64, u64) = (first.parse().ok()?, last.parse().ok()?);
    (first <= last).then_some((first, last + 1, size.parse().ok()?))
}

/// A download by the token in its URL.
pub(super) fn download(site: &Site, asked: &Asked, id: &str) -> Reply {
    let token = asked.param("tempauth").unwrap_or_default();
    let end = token.split('.').nth(1).and_then(|end| end.parse().ok());
    let good = end.is_some_and(|end: i64| {
        token == site.onedrive_token(id, end) && asked.now.unix_seconds() <= end
    });
    if !good || asked.method != Method::GET || asked.header("authorization").is_some() {
        return refused((401, "unauthenticated", None));
    }
    let Some(content) = stored(site, id) else {
        return refused((404, "itemNotFound", None));
    };
    match serve_content(asked, content, 206) {
        Ok(reply) => reply,
        Err(_) => refused((416, "invalidRange", None)),
    }
}
