//! Uploads to stores that speak neither as Cloudreve nor as S3: Qiniu, UPYUN, OneDrive.

use std::time::Duration;

use cloudreve_test_server::StoragePolicy;
use reqwest::Method;
use serde_json::{Value, json};

use crate::policies::{CHUNK, UNIT, assert_stored, callback, chunks, content, open, to_store, url};
use crate::reply::Reply;
use crate::runner::{Case, cases};
use crate::subject::{Subject, text};

pub(crate) const ON_TEST_SERVER: &[Case] = cases![
    qiniu_takes_numbered_parts_by_its_token,
    qiniu_that_cannot_tell_the_server_says_579,
    upyun_takes_a_form_and_tells_the_server_later,
    upyun_refuses_a_form_that_was_not_signed_so,
    onedrive_takes_fragments_in_order,
    onedrive_refuses_what_is_out_of_order_or_of_a_wrong_size,
];

async fn qiniu_parts(subject: &Subject, session: &Value, content: &[u8]) -> Value {
    let token = format!("UpToken {}", text(&session["credential"]));
    let mut parts = Vec::new();
    for (index, part) in chunks(session, content) {
        let target = format!("{}/{}", url(session, 0), index + 1);
        let reply = to_store(subject, Method::PUT, &target)
            .header("authorization", &token)
            .body(part)
            .send()
            .await
            .expect_status(200);
        parts.push(json!({"etag": reply.json()["etag"], "partNumber": index + 1}));
    }
    json!({"parts": parts, "mimeType": session["mime_type"]})
}

async fn qiniu_complete(subject: &Subject, session: &Value, body: Value) -> Reply {
    let token = format!("UpToken {}", text(&session["credential"]));
    to_store(subject, Method::POST, &url(session, 0))
        .header("authorization", &token)
        .json(body)
        .send()
        .await
}

async fn qiniu_takes_numbered_parts_by_its_token(subject: &Subject) {
    let content = content(2 * CHUNK + 1);
    let session = open(subject, StoragePolicy::Qiniu, "f", content.len()).await;
    let target = format!("{}/1", url(&session, 0));
    let bearer = to_store(subject, Method::PUT, &target)
        .bearer(&subject.site.token())
        .body("x");
    bearer.send().await.expect_status(401);
    let parts = qiniu_parts(subject, &session, &content).await;
    qiniu_complete(subject, &session, parts.clone())
        .await
        .expect(0);
    assert_stored(subject, "f", &content).await;
    qiniu_complete(subject, &session, parts)
        .await
        .expect_status(612);
}

async fn qiniu_that_cannot_tell_the_server_says_579(subject: &Subject) {
    let session = open(subject, StoragePolicy::Qiniu, "f", 3).await;
    let parts = qiniu_parts(subject, &session, b"abc").await;
    let server = subject.site.server();
    server.configure(|settings| settings.store_calls_back = false);
    qiniu_complete(subject, &session, parts)
        .await
        .expect_status(579);
}

/// A form with these fields, in their order.
fn form(fields: &[(&str, &str)]) -> String {
    let mut body = String::new();
    for (name, value) in fields {
        body += &format!(
            "--line\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n"
        );
    }
    body + "--line--\r\n"
}

async fn send_form(subject: &Subject, session: &Value, body: String) -> Reply {
    to_store(subject, Method::POST, &url(session, 0))
        .header("content-type", "multipart/form-data; boundary=line")
        .body(body)
        .send()
        .await
}

async fn upyun_takes_a_form_and_tells_the_server_later(subject: &Subject) {
    let server = subject.site.server();
    server.configure(|settings| settings.notice_after = Duration::from_secs(600));
    let session = open(subject, StoragePolicy::Upyun, "f", 7).await;
    assert_eq!(session["chunk_size"], 0, "{session}");
    let fields = [
        ("policy", text(&session["upload_policy"])),
        ("authorization", text(&session["credential"])),
        ("content-type", text(&session["mime_type"])),
        ("file", "content".to_owned()),
    ];
    let fields = fields
        .iter()
        .map(|(name, value)| (*name, value.as_str()))
        .collect::<Vec<_>>();
    send_form(subject, &session, form(&fields))
        .await
        .expect_status(200);
    let info = subject.info(&subject.at("f")).await.data();
    assert_eq!(
        info["metadata"]["sys:upload_session_id"],
        session["session_id"]
    );
    server.advance_clock(Duration::from_secs(601));
    assert_stored(subject, "f", b"content").await;
}

async fn upyun_refuses_a_form_that_was_not_signed_so(subject: &Subject) {
    let session = open(subject, StoragePolicy::Upyun, "f", 7).await;
    let policy = text(&session["upload_policy"]);
    let credential = text(&session["credential"]);
    let send = |fields: &[(&str, &str)]| send_form(subject, &session, form(fields));
    let file = ("file", "content");
    send(&[("policy", &policy), ("authorization", "UPYUN x:y"), file])
        .await
        .expect_status(403);
    send(&[file, ("policy", &policy), ("authorization", &credential)])
        .await
        .expect_status(400);
    let short = ("file", "conten");
    send(&[("policy", &policy), ("authorization", &credential), short])
        .await
        .expect_status(403);
}

async fn fragment(subject: &Subject, session: &Value, range: &str, body: &[u8]) -> Reply {
    to_store(subject, Method::PUT, &url(session, 0))
        .header("content-range", range)
        .body(body)
        .send()
        .await
}

async fn onedrive_takes_fragments_in_order(subject: &Subject) {
    let content = content(UNIT + 7);
    let session = open(subject, StoragePolicy::OneDrive, "f", content.len()).await;
    let status = || to_store(subject, Method::GET, &url(&session, 0)).send();
    let begin = status().await.expect_status(200).json();
    assert_eq!(begin["nextExpectedRanges"], json!(["0-"]));
    let size = content.len();
    let first = format!("bytes 0-{}/{size}", UNIT - 1);
    let reply = fragment(subject, &session, &first, &content[..UNIT]).await;
    let next = json!([format!("{UNIT}-")]);
    assert_eq!(reply.expect_status(202).json()["nextExpectedRanges"], next);
    assert_eq!(status().await.json()["nextExpectedRanges"], next);
    let early = callback(subject, &session, Method::POST, "onedrive").await;
    early.expect(-1);
    let last = format!("bytes {UNIT}-{}/{size}", size - 1);
    fragment(subject, &session, &last, &content[UNIT..])
        .await
        .expect_status(201);
    status().await.expect_status(404);
    callback(subject, &session, Method::POST, "onedrive")
        .await
        .expect(0);
    assert_stored(subject, "f", &content).await;
}

async fn onedrive_refuses_what_is_out_of_order_or_of_a_wrong_size(subject: &Subject) {
    let content = content(2 * UNIT + 7);
    let size = content.len();
    let session = open(subject, StoragePolicy::OneDrive, "f", size).await;
    let send = |start: usize, end: usize| {
        let range = format!("bytes {start}-{}/{size}", end - 1);
        let body = content[start..end].to_vec();
        let session = &session;
        async move { fragment(subject, session, &range, &body).await }
    };
    send(UNIT, 2 * UNIT).await.expect_status(416);
    send(0, 1000).await.expect_status(400);
    send(0, UNIT).await.expect_status(202);
    let again = send(0, UNIT).await.expect_status(416).json();
    assert_eq!(again["error"]["innererror"]["code"], "fragmentOverlap");
    let bearer = to_store(subject, Method::PUT, &url(&session, 0))
        .bearer(&subject.site.token())
        .body("x");
    bearer.send().await.expect_status(401);
}
