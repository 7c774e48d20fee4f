//! UPYUN's form upload: one request with everything, of which the server hears later.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde_json::{Value, json};

use super::is_unsized;
use crate::reply::Reply;
use crate::serve::Asked;
use crate::site::Site;

type Refusal = (u16, &'static str);

/// `POST /{bucket}` of a form whose last field is the file.
pub(super) fn form(site: &mut Site, asked: &Asked) -> Reply {
    match accept(site, asked) {
        Ok(session) => {
            let due = asked.now.plus(site.settings.notice_after);
            site.store.notices.push((due, session));
            let answer = json!({"code": 200, "message": "ok"});
            Reply::json(200, answer.to_string())
        }
        Err((status, message)) => {
            let answer = json!({"code": u32::from(status) * 100_000, "message": message});
            Reply::json(status, answer.to_string())
        }
    }
}

fn accept(site: &mut Site, asked: &Asked) -> Result<String, Refusal> {
    if asked.header("authorization").is_some() {
        return Err((401, "account forbidden"));
    }
    if is_unsized(asked) {
        return Err((411, "need content-length"));
    }
    let fields = fields(asked).ok_or((400, "not accept, malformed form"))?;
    let field = |name: &str| fields.iter().find(|(field, _)| field == name);
    let text = |name: &str| {
        let found = field(name).ok_or((400, "not accept, a field is missing"))?;
        String::from_utf8(found.1.to_vec()).map_err(|_| (400, "not accept, not text"))
    };
    let policy = text("policy")?;
    if text("authorization")? != site.upyun_signature(&policy) {
        return Err((403, "signature not match"));
    }
    let policy = STANDARD
        .decode(policy)
        .ok()
        .and_then(|json| serde_json::from_slice::<Value>(&json).ok())
        .ok_or((403, "policy not accept"))?;
    if policy["expiration"].as_i64().unwrap_or(0) < asked.now.unix_seconds() {
        return Err((403, "authorization has expired"));
    }
    let Some((last, file)) = fields.last().filter(|(name, _)| name == "file") else {
        return Err((400, "not accept, file must be last"));
    };
    debug_assert_eq!(last, "file");
    if policy["content-length"].as_u64() != Some(file.len() as u64) {
        return Err((403, "content-length not match"));
    }
    let notify = policy["notify-url"].as_str().unwrap_or_default();
    let session = notify.rsplit('/').nth(1).unwrap_or_default().to_owned();
    site.store.objects.insert(session.clone(), file.clone());
    Ok(session)
}

/// The fields of a `multipart/form-data` body, in their order; none if it is no such body.
fn fields(asked: &Asked) -> Option<Vec<(String, Bytes)>> {
    let boundary = asked
        .header("content-type")?
        .strip_prefix("multipart/form-data; boundary=")?
        .trim_matches('"');
    let (first, between) = (format!("--{boundary}\r\n"), format!("\r\n--{boundary}"));
    let body = &asked.body;
    let mut at = body.starts_with(first.as_bytes()).then_some(first.len())?;
    let mut fields = Vec::new();
    loop {
        let head = find(&body[at..], b"\r\n\r\n")?;
        let head_text = std::str::from_utf8(&body[at..at + head]).ok()?;
        let name = head_text.split("name=\"").nth(1)?.split('"').next()?;
        let start = at + head + 4;
        let length = find(&body[start..], between.as_bytes())?;
        fields.push((name.to_owned(), body.slice(start..start + length)));
        at = start + length + between.len();
        match body.get(at..at + 2)? {
            b"\r\n" => at += 2,
            b"--" => return Some(fields),
            _ => return None,
        }
    }
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes
        .windows(wanted.len())
        .position(|window| window == wanted)
}
