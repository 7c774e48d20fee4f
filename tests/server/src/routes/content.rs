//! Bytes: the server's content endpoint (→ api part 2 §2.3–2.4).
//!
//! The signature is the only credential. What is wrong with it comes as HTTP 200 and an envelope: a reader that
//! trusts the status takes the envelope for content.

use bytes::Bytes;
use hyper::{Method, StatusCode};

use super::Ctx;
use crate::content::Content;
use crate::faults::Effect;
use crate::ids::Kind;
use crate::options::Store;
use crate::reply::{Body, Failure, Outcome, Reply};
use crate::serve::Asked;
use crate::uri::percent;

/// What a `Range` header asks of content of some size.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    All,
    Parts(Vec<(u64, u64)>),
    /// Begins at or behind the end.
    Beyond,
    Malformed,
}

/// Reads a `Range` header as the server does: ends are clamped, the empty content has no ranges.
fn wanted(header: Option<&str>, size: u64) -> Wanted {
    let Some(header) = header else {
        return Wanted::All;
    };
    let Some(specs) = header.strip_prefix("bytes=") else {
        return Wanted::Malformed;
    };
    if size == 0 {
        return Wanted::All;
    }
    let (mut parts, mut beyond) = (Vec::new(), false);
    for spec in specs
        .split(',')
        .map(str::trim)
        .filter(|spec| !spec.is_empty())
    {
        let Some((first, last)) = spec.split_once('-') else {
            return Wanted::Malformed;
        };
        let (first, last) = (first.trim(), last.trim());
        let part = match (first.parse::<u64>(), last.parse::<u64>()) {
            (Err(_), Ok(suffix)) if first.is_empty() => (size.saturating_sub(suffix), size),
            (Ok(first), Err(_)) if last.is_empty() => (first, size),
            (Ok(first), Ok(last)) if first <= last => (first, last.saturating_add(1).min(size)),
            _ => return Wanted::Malformed,
        };
        if part.0 < size {
            parts.push(part)
        } else {
            beyond = true
        }
    }
    match (parts.is_empty(), beyond) {
        (true, true) => Wanted::Beyond,
        (true, false) => Wanted::Malformed,
        // More than the whole is the whole.
        _ if parts.len() > 1
            && parts.iter().map(|(start, end)| end - start).sum::<u64>() > size =>
        {
            Wanted::All
        }
        _ => Wanted::Parts(parts),
    }
}

fn content_type(name: &str) -> &'static str {
    match name.rsplit_once('.').map_or("", |(_, extension)| extension) {
        "txt" | "log" => "text/plain; charset=utf-8",
        "html" | "htm" => "text/html; charset=utf-8",
        "json" => "application/json",
        "png" => "image/png",
        "jpg" | "jpeg" => "image/jpeg",
        "pdf" => "application/pdf",
        _ => "application/octet-stream",
    }
}

/// Applies the faults that are about what part of the content comes.
fn bend(effect: &Effect, (start, end): (u64, u64), size: u64) -> (u64, u64) {
    match effect {
        Effect::WrongRange if start > 0 => (start - 1, end - 1),
        Effect::WrongRange => (1.min(end), (end + 1).min(size)),
        Effect::ShortContent => (start, start + (end - start) / 2),
        _ => (start, end),
    }
}

/// The part of `content` that was asked for, as status, headers and body; `None` for what is refused by XML or text.
pub(super) fn serve_content(
    asked: &Asked,
    content: Content,
    range_status: u16,
) -> Result<Reply, Wanted> {
    let size = content.len();
    let header = asked
        .header("range")
        .filter(|_| asked.effect != Effect::IgnoreRange);
    let mut reply = Reply::new(200, "application/octet-stream", Bytes::new());
    reply.set("accept-ranges", "bytes");
    match wanted(header, size) {
        Wanted::All => {
            let end = if asked.effect == Effect::ShortContent {
                size / 2
            } else {
                size
            };
            reply.body = Body::Content(content, 0, end);
        }
        Wanted::Parts(parts) if parts.len() == 1 => {
            let (start, end) = bend(&asked.effect, parts[0], size);
            let as_200 = asked.effect == Effect::RangeAs200;
            reply.status =
                StatusCode::from_u16(if as_200 { 200 } else { range_status }).unwrap_or_default();
            let total = size + u64::from(asked.effect == Effect::ChangedLength);
            reply.set(
                "content-range",
                &format!("bytes {start}-{}/{total}", end.saturating_sub(1).max(start)),
            );
            reply.body = Body::Content(content, start, end);
        }
        Wanted::Parts(parts) => {
            reply.status = StatusCode::PARTIAL_CONTENT;
            reply.body = Body::Bytes(multipart(&content, &parts));
            reply.set(
                "content-type",
                &format!("multipart/byteranges; boundary={BOUNDARY}"),
            );
        }
        refused => return Err(refused),
    }
    Ok(reply)
}

const BOUNDARY: &str = "6435da7ab40cf293dcb92474c0d08dc7bf15fd013dbcb73b2755f1e03f28";

fn multipart(content: &Content, parts: &[(u64, u64)]) -> Bytes {
    let mut body = Vec::new();
    for (start, end) in parts {
        let range = format!("bytes {start}-{}/{}", end - 1, content.len());
        let head = format!(
            "--{BOUNDARY}\r\nContent-Range: {range}\r\nContent-Type: application/octet-stream\r\n\r\n"
        );
        body.extend_from_slice(head.as_bytes());
        body.extend_from_slice(&content.read(*start..*end));
        body.extend_from_slice(b"\r\n");
    }
    body.extend_from_slice(format!("--{BOUNDARY}--\r\n").as_bytes());
    body.into()
}

/// An error as Go's `http.Error` writes it.
fn text(status: u16, body: &'static str) -> Reply {
    let mut reply = Reply::new(status, "text/plain; charset=utf-8", body);
    reply.set("x-content-type-options", "nosniff");
    reply
}

/// The form of RFC 6266: a name in ASCII, and the real one beside it where it differs.
fn attachment(name: &str) -> String {
    let plain = |c: char| {
        if (' '..='\x7f').contains(&c) && c != '"' && c != '\\' {
            c
        } else {
            '_'
        }
    };
    let ascii: String = name.chars().map(plain).collect();
    let mut text = format!("attachment; filename=\"{ascii}\"");
    if ascii != name {
        text.push_str("; filename*=UTF-8''");
        percent::escape(name, &mut text);
    }
    text
}

/// The headers that a content endpoint of Cloudreve's adds, its own or a storage node's.
pub(super) fn with_headers(
    asked: &Asked,
    reply: Result<Reply, Wanted>,
    etag: &str,
    name: &str,
    size: u64,
) -> Reply {
    let mut reply = match reply {
        Ok(mut reply) => {
            if !matches!(reply.body, Body::Bytes(_)) {
                reply.set("content-type", content_type(name));
            }
            reply
        }
        Err(Wanted::Beyond) => {
            let mut reply = text(416, "invalid range: failed to overlap\n");
            reply.set("content-range", &format!("bytes */{size}"));
            reply
        }
        Err(_) => text(416, "invalid range\n"),
    };
    reply.set("etag", etag);
    reply.set("cache-control", "public, max-age=86400");
    if asked.flag("download") {
        reply.set("content-disposition", &attachment(name));
    }
    if asked.method != Method::HEAD {
        reply.set("content-security-policy", "sandbox");
    }
    reply
}

impl Ctx<'_> {
    pub(super) fn content(&mut self) -> Outcome {
        let path =
            percent::decode(&self.asked.path).ok_or_else(|| Failure::new(40071, "invalid sign"))?;
        self.site
            .signer
            .check_path(&path, self.asked.param("sign"), self.now)?;
        let (id, name) = (self.asked.segment(2), self.asked.segment(4));
        let invalid = || Failure::new(40001, "Failed to parse object ID");
        let entity = self
            .site
            .ids
            .decode(Kind::Entity, &id)
            .ok_or_else(invalid)?;
        let etag = format!("\"{id}\"");
        if entity == 0 {
            let empty = Content::Kept(Bytes::new());
            return Ok(with_headers(
                self.asked,
                serve_content(self.asked, empty, 206),
                &etag,
                &name,
                0,
            ));
        }
        let found = self
            .site
            .drive
            .entity(entity)
            .ok_or_else(Failure::entity_not_exist)?;
        if found.lost {
            let mut reply = text(404, "Entity data does not exist.\n");
            reply.set("cache-control", "public, max-age=86400");
            reply.set("content-security-policy", "sandbox");
            return Ok(reply);
        }
        let (content, size) = (found.content.clone(), found.content.len());
        if self.site.settings.store == Store::Redirect && !found.encrypted {
            let lifetime = self.site.settings.url_ttl;
            return Ok(Reply::redirect(
                &self.site.store_url(entity, &name, self.now, lifetime),
            ));
        }
        if self
            .asked
            .header("if-match")
            .is_some_and(|tag| tag != etag && tag != "*")
        {
            return Ok(with_headers(
                self.asked,
                Ok(Reply::new(412, "text/plain", Bytes::new())),
                &etag,
                &name,
                size,
            ));
        }
        if self
            .asked
            .header("if-none-match")
            .is_some_and(|tag| tag == etag || tag == "*")
        {
            return Ok(with_headers(
                self.asked,
                Ok(Reply::new(304, "text/plain", Bytes::new())),
                &etag,
                &name,
                size,
            ));
        }
        let reply = if self.asked.header("if-range").is_some_and(|tag| tag != etag) {
            let mut whole = Reply::new(200, "application/octet-stream", Bytes::new());
            whole.set("accept-ranges", "bytes");
            whole.body = Body::Content(content, 0, size);
            Ok(whole)
        } else {
            serve_content(self.asked, content, 206)
        };
        Ok(with_headers(self.asked, reply, &etag, &name, size))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_as_the_server_reads_them() {
        let one = |start, end| Wanted::Parts(vec![(start, end)]);
        for (header, expected) in [
            ("bytes=100-199", one(100, 200)),
            ("bytes=900-", one(900, 1000)),
            ("bytes=-10", one(990, 1000)),
            ("bytes=0-99999", one(0, 1000)),
            ("bytes=0-1,10-11", Wanted::Parts(vec![(0, 2), (10, 12)])),
            ("bytes=0-900,5-900", Wanted::All),
            ("bytes=1000-1001", Wanted::Beyond),
            ("bytes=abc", Wanted::Malformed),
            ("bytes=9-1", Wanted::Malformed),
            ("lines=0-1", Wanted::Malformed),
        ] {
            assert_eq!(wanted(Some(header), 1000), expected, "{header}");
        }
        assert_eq!(wanted(Some("bytes=0-1"), 0), Wanted::All);
        assert_eq!(wanted(None, 10), Wanted::All);
    }
}
