//! The stores behind the server, each with its own manners; which one a request is for is in its path.
//!
//! → api part 2 §6. What they have in common: the signature or token is theirs, never the user's, and a body has a
//! known length.

mod bucket;
mod node;
mod onedrive;
mod qiniu;
mod upyun;

use crate::content::Content;
use crate::ids::Kind;
use crate::policy::StoragePolicy;
use crate::reply::Reply;
use crate::serve::Asked;
use crate::site::Site;
use crate::uri::percent;

/// Answers a request to the stores' origin.
pub(super) fn answer(site: &mut Site, asked: &Asked) -> Reply {
    let path = percent::decode(&asked.path).unwrap_or_default();
    let segments: Vec<_> = path.split('/').skip(1).collect();
    match &segments[..] {
        ["api", "v4", "slave", "upload", session] => node::chunk(site, asked, session),
        ["api", "v4", "slave", "file", "content", _, key, _, name] => {
            node::content(site, asked, &path, key, name)
        }
        [
            "qiniu-up",
            "buckets",
            _,
            "objects",
            _,
            "uploads",
            id,
            rest @ ..,
        ] => qiniu::answer(site, asked, id, rest.first().copied()),
        ["upyun-form", _] => upyun::form(site, asked),
        ["onedrive", "session", token] => onedrive::session(site, asked, token),
        ["onedrive", "download", id] => onedrive::download(site, asked, id),
        [bucket, rest @ ..] => match bucket.strip_suffix("-bucket") {
            Some(kind) => match StoragePolicy::of_name(kind) {
                Some(policy) => bucket::answer(site, asked, policy, rest),
                None => xml_error(404, "NoSuchBucket"),
            },
            None => xml_error(404, "NoSuchBucket"),
        },
        [] => xml_error(404, "NoSuchBucket"),
    }
}

/// An error as S3 and its kin write it.
fn xml_error(status: u16, code: &str) -> Reply {
    let xml = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>{code}</Code><Message>{code}</Message></Error>"
    );
    Reply::new(status, "application/xml", xml)
}

/// The content of an entity that is kept here under its id.
fn stored(site: &Site, id: &str) -> Option<Content> {
    let entity = site.drive.entity(site.ids.decode(Kind::Entity, id)?)?;
    (!entity.lost).then(|| entity.content.clone())
}

/// Whether the body came without a length before it.
fn is_unsized(asked: &Asked) -> bool {
    asked.header("content-length").is_none()
}

/// An ETag, without quotes: of the same bytes it is the same.
fn etag(body: &[u8]) -> String {
    use sha2::Digest;
    let digest = sha2::Sha256::digest(body);
    digest
        .iter()
        .take(16)
        .map(|byte| format!("{byte:02x}"))
        .collect()
}
