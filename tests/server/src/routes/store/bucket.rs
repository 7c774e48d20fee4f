//! S3 and its kin: presigned parts, a request that puts them together, presigned reads.

use hyper::Method;

use super::super::content::serve_content;
use super::{etag, is_unsized, stored, xml_error};
use crate::policy::StoragePolicy;
use crate::presign::{Purpose, Refusal};
use crate::reply::Reply;
use crate::serve::Asked;
use crate::site::Site;
use crate::store::joined;

/// A request to the bucket of this kind; `key` is the object's, by its segments.
pub(super) fn answer(site: &mut Site, asked: &Asked, policy: StoragePolicy, key: &[&str]) -> Reply {
    if asked.header("authorization").is_some() {
        return xml_error(400, "InvalidArgument");
    }
    let purpose = match asked.method {
        Method::PUT => Purpose::Part,
        Method::POST => Purpose::Complete,
        _ => Purpose::Read,
    };
    if is_unsized(asked) && purpose == Purpose::Part {
        return xml_error(411, "MissingContentLength");
    }
    if let Err((status, code)) = site.check_presigned(policy, purpose, asked) {
        return xml_error(status, code);
    }
    let done = match (purpose, &asked.method) {
        (Purpose::Part, _) => part(site, asked),
        (Purpose::Complete, _) => complete(site, asked, policy),
        // Signed for GET: another method has another signature.
        (Purpose::Read, &Method::GET) => read(site, asked, key.first().copied()),
        (Purpose::Read, _) => Err((403, "SignatureDoesNotMatch")),
    };
    done.unwrap_or_else(|(status, code)| xml_error(status, code))
}

fn part(site: &mut Site, asked: &Asked) -> Result<Reply, Refusal> {
    let id = asked.param("uploadId").unwrap_or_default();
    let upload = site.store.multiparts.get_mut(id);
    let upload = upload.ok_or((404, "NoSuchUpload"))?;
    let number = asked.param("partNumber").and_then(|n| n.parse().ok());
    let etag = format!("\"{}\"", etag(&asked.body));
    let part = (etag.clone(), asked.body.clone());
    upload
        .parts
        .insert(number.ok_or((400, "InvalidArgument"))?, part);
    let mut reply = Reply::new(200, "application/xml", "");
    reply.set("etag", &etag);
    Ok(reply)
}

fn complete(site: &mut Site, asked: &Asked, policy: StoragePolicy) -> Result<Reply, Refusal> {
    let id = asked.param("uploadId").unwrap_or_default();
    let upload = site.store.multiparts.get(id);
    let upload = upload.ok_or((404, "NoSuchUpload"))?;
    let parts: Vec<_> = if policy == StoragePolicy::Oss {
        if !asked.body.is_empty() {
            // Everything, or what is listed: not both.
            return Err((400, "InvalidArgument"));
        }
        upload
            .parts
            .values()
            .map(|(_, body)| body.clone())
            .collect()
    } else {
        let mut parts = Vec::new();
        let mut last = 0;
        for (number, etag) in listed(&asked.body).ok_or((400, "MalformedXML"))? {
            let part = upload.parts.get(&number).filter(|part| part.0 == etag);
            parts.push(part.ok_or((400, "InvalidPart"))?.1.clone());
            if number <= last {
                return Err((400, "InvalidPartOrder"));
            }
            last = number;
        }
        parts
    };
    let session = upload.session.clone();
    site.store.multiparts.remove(id);
    site.store
        .objects
        .insert(session.clone(), joined(parts.into_iter()));
    if !matches!(policy, StoragePolicy::Oss | StoragePolicy::Obs) {
        let xml = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<CompleteMultipartUploadResult>\n  <ETag>&#34;0-1&#34;</ETag>\n</CompleteMultipartUploadResult>";
        return Ok(Reply::new(200, "application/xml", xml));
    }
    match site.call_back(&session, asked.now) {
        Ok(()) => Ok(Reply::done()),
        // The object is there all the same.
        Err(_) => Err((203, "CallbackFailed")),
    }
}

/// Numbers and ETags of the parts in a document of S3's, in its order; none if it is no such document.
fn listed(body: &[u8]) -> Option<Vec<(u64, String)>> {
    let text = std::str::from_utf8(body).ok()?;
    let inside = text
        .trim()
        .strip_prefix("<CompleteMultipartUpload>")?
        .strip_suffix("</CompleteMultipartUpload>")?;
    let field = |part: &str, name: &str| {
        let (_, rest) = part.split_once(&format!("<{name}>"))?;
        let (value, _) = rest.split_once(&format!("</{name}>"))?;
        Some(value.replace("&quot;", "\"").replace("&#34;", "\""))
    };
    let parts = inside.split("</Part>").filter(|part| !part.is_empty());
    let parts: Option<Vec<_>> = parts
        .map(|part| {
            Some((
                field(part, "PartNumber")?.parse().ok()?,
                field(part, "ETag")?,
            ))
        })
        .collect();
    parts.filter(|parts| !parts.is_empty())
}

fn read(site: &Site, asked: &Asked, id: Option<&str>) -> Result<Reply, Refusal> {
    let content = id.and_then(|id| stored(site, id));
    let content = content.ok_or((404, "NoSuchKey"))?;
    let status = match site.settings.store_ranges_as_200 {
        true => 200,
        false => 206,
    };
    let mut reply = serve_content(asked, content, status).map_err(|_| (416, "InvalidRange"))?;
    let id = id.unwrap_or_default();
    reply.set("etag", &format!("\"{}\"", etag(id.as_bytes())));
    Ok(reply)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_read_in_the_order_in_which_they_are_listed() {
        let body = b"<CompleteMultipartUpload><Part><PartNumber>2</PartNumber><ETag>\"b\"</ETag></Part><Part><PartNumber>1</PartNumber><ETag>&quot;a&quot;</ETag></Part></CompleteMultipartUpload>";
        let expected = vec![(2, "\"b\"".to_owned()), (1, "\"a\"".to_owned())];
        assert_eq!(listed(body), Some(expected));
        assert_eq!(listed(b"{}"), None);
        assert_eq!(
            listed(b"<CompleteMultipartUpload></CompleteMultipartUpload>"),
            None
        );
    }
}
