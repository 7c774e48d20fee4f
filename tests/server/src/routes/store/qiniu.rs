//! Qiniu's resumable upload, version 2: numbered parts and a list of them, errors in JSON.

use hyper::Method;
use serde::Deserialize;
use serde_json::json;

use super::{etag, is_unsized};
use crate::reply::Reply;
use crate::serve::Asked;
use crate::site::Site;
use crate::store::joined;

type Refusal = (u16, &'static str);

/// The object of the upload could not be told to the server; the object is there all the same.
const CALLBACK_FAILED: u16 = 579;

/// Nothing of this name is there.
const NOT_FOUND: u16 = 612;

/// A part, or, without a number, the end.
pub(super) fn answer(site: &mut Site, asked: &Asked, id: &str, number: Option<&str>) -> Reply {
    let done = check(site, asked, id).and_then(|()| match (&asked.method, number) {
        (&Method::PUT, Some(number)) => part(site, asked, id, number),
        (&Method::POST, None) => complete(site, asked, id),
        _ => Err((405, "method not allowed")),
    });
    done.unwrap_or_else(|(status, error)| Reply::json(status, json!({"error": error}).to_string()))
}

fn check(site: &Site, asked: &Asked, id: &str) -> Result<(), Refusal> {
    let token = asked
        .header("authorization")
        .and_then(|value| value.strip_prefix("UpToken "))
        .ok_or((401, "bad token"))?;
    let upload = site.store.multiparts.get(id);
    let upload = upload.ok_or((NOT_FOUND, "no such uploadId"))?;
    if upload.credential != token {
        return Err((401, "bad token"));
    }
    if upload.expires <= asked.now {
        return Err((401, "expired token"));
    }
    Ok(())
}

fn part(site: &mut Site, asked: &Asked, id: &str, number: &str) -> Result<Reply, Refusal> {
    if is_unsized(asked) {
        return Err((411, "missing content length"));
    }
    let number = number.parse().ok().filter(|n| (1..=10_000).contains(n));
    let number = number.ok_or((400, "invalid part number"))?;
    let etag = etag(&asked.body);
    if let Some(upload) = site.store.multiparts.get_mut(id) {
        upload
            .parts
            .insert(number, (etag.clone(), asked.body.clone()));
    }
    let answer = json!({"etag": etag, "md5": etag});
    Ok(Reply::json(200, answer.to_string()))
}

fn complete(site: &mut Site, asked: &Asked, id: &str) -> Result<Reply, Refusal> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Part {
        etag: String,
        part_number: u64,
    }
    #[derive(Deserialize)]
    struct Parts {
        parts: Vec<Part>,
    }
    let body: Parts = serde_json::from_slice(&asked.body).map_err(|_| (400, "invalid json"))?;
    let upload = site.store.multiparts.get(id);
    let upload = upload.ok_or((NOT_FOUND, "no such uploadId"))?;
    let (mut parts, mut last) = (Vec::new(), 0);
    for listed in body.parts {
        let part = upload.parts.get(&listed.part_number);
        let part = part.filter(|part| part.0 == listed.etag && listed.part_number > last);
        parts.push(part.ok_or((400, "invalid part"))?.1.clone());
        last = listed.part_number;
    }
    let session = upload.session.clone();
    site.store.multiparts.remove(id);
    site.store
        .objects
        .insert(session.clone(), joined(parts.into_iter()));
    match site.call_back(&session, asked.now) {
        Ok(()) => Ok(Reply::done()),
        Err(_) => Err((CALLBACK_FAILED, "callback failed")),
    }
}
