//! Uploads to storage that is not the server's own disk: what each kind wants of a client, and what it refuses.
//!
//! Only a test server has all of them; a real one plays the sequence of the policy that its user has. The cases play the
//! sequences of the web client, request by request.

use std::time::Duration;

use cloudreve_test_server::{Fault, Route, StoragePolicy};
use reqwest::Method;
use serde_json::{Value, json};

use crate::calls::Call;
use crate::reply::Reply;
use crate::runner::{Case, cases};
use crate::subject::{Subject, text};

pub(crate) const CASES: &[Case] = cases![an_upload_goes_the_way_that_its_policy_wants];

pub(crate) const ON_TEST_SERVER: &[Case] = cases![
    a_storage_node_takes_chunks_by_its_own_credential,
    a_storage_node_refuses_every_other_credential,
    a_storage_node_completes_once_and_says_success_ever_after,
    s3_takes_parts_a_list_of_them_and_a_callback,
    s3_refuses_what_was_not_signed,
    s3_puts_too_few_parts_together_and_the_callback_finds_it,
    s3_knows_no_upload_that_is_complete,
    a_callback_needs_its_session_its_secret_and_its_type,
    ks3_wants_the_type_that_was_signed,
    cos_wants_the_headers_that_were_signed,
    oss_puts_everything_together_and_tells_the_server,
    oss_that_cannot_tell_the_server_says_203,
    obs_puts_what_is_listed_together_and_tells_the_server,
    a_relayed_upload_is_one_piece_to_the_server,
    a_direct_policy_takes_no_chunks_at_the_server,
    urls_of_a_store_end_with_their_session,
    a_cancelled_upload_leaves_nothing_in_a_store,
    a_cancel_after_completion_fails_and_does_its_work,
    a_new_version_in_a_store_replaces_the_old_one,
];

const OCTET_STREAM: (&str, &str) = ("content-type", "application/octet-stream");

/// Bytes in a chunk of these sessions.
pub(crate) const CHUNK: usize = 1000;

/// Every fragment of OneDrive's but the last is a multiple of it.
pub(crate) const UNIT: usize = 320 << 10;

pub(crate) fn content(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at % 251) as u8).collect()
}

/// A session of an upload to a store of this kind.
pub(crate) async fn open(
    subject: &Subject,
    policy: StoragePolicy,
    path: &str,
    size: usize,
) -> Value {
    let server = subject.site.server();
    server.set_policy(policy);
    server.configure(|settings| {
        settings.chunk_size = match policy {
            StoragePolicy::OneDrive => UNIT as u64,
            _ => CHUNK as u64,
        }
    });
    open_version(subject, path, size, "").await
}

async fn open_version(subject: &Subject, path: &str, size: usize, kind: &str) -> Value {
    let body = json!({"uri": subject.at(path), "size": size, "entity_type": kind});
    let session = subject.call(Method::PUT, "/file/upload").json(body);
    session.send().await.data()
}

async fn cancel(subject: &Subject, session: &Value, path: &str) -> Reply {
    let body = json!({"id": session["session_id"], "uri": subject.at(path)});
    subject
        .call(Method::DELETE, "/file/upload")
        .json(body)
        .send()
        .await
}

/// A request to a store: without the user's token.
pub(crate) fn to_store<'a>(subject: &'a Subject, method: Method, url: &str) -> Call<'a> {
    Call::to(&subject.site, method, url.to_owned()).anonymous()
}

/// The pieces of a session, with their indices.
pub(crate) fn chunks<'a>(
    session: &Value,
    content: &'a [u8],
) -> impl Iterator<Item = (usize, &'a [u8])> + use<'a> {
    let size = session["chunk_size"].as_u64().expect("a chunk size");
    let size = match usize::try_from(size).expect("a chunk size") {
        0 => content.len(),
        size => size,
    };
    content.chunks(size).enumerate()
}

pub(crate) fn url(session: &Value, index: usize) -> String {
    text(&session["upload_urls"][index])
}

/// Sends all parts to their signed URLs, and gives their ETags.
async fn put_parts(subject: &Subject, session: &Value, content: &[u8]) -> Vec<String> {
    let mut etags = Vec::new();
    for (index, chunk) in chunks(session, content) {
        let reply = to_store(subject, Method::PUT, &url(session, index))
            .header(OCTET_STREAM.0, OCTET_STREAM.1)
            .body(chunk)
            .send()
            .await
            .expect_status(200);
        etags.push(reply.header("etag").expect("an ETag").to_owned());
    }
    etags
}

fn list_of(etags: &[String]) -> String {
    let part = |(index, etag): (usize, &String)| {
        format!(
            "<Part><PartNumber>{}</PartNumber><ETag>{etag}</ETag></Part>",
            index + 1
        )
    };
    let parts: String = etags.iter().enumerate().map(part).collect();
    format!("<CompleteMultipartUpload>{parts}</CompleteMultipartUpload>")
}

async fn complete(
    subject: &Subject,
    session: &Value,
    headers: &[(&'static str, &str)],
    body: String,
) -> Reply {
    let mut call = to_store(subject, Method::POST, &text(&session["completeURL"])).body(body);
    for (name, value) in headers {
        call = call.header(name, value);
    }
    call.send().await
}

pub(crate) async fn callback(
    subject: &Subject,
    session: &Value,
    method: Method,
    kind: &str,
) -> Reply {
    let (id, secret) = (&session["session_id"], &session["callback_secret"]);
    let path = format!("/callback/{kind}/{}/{}", text(id), text(secret));
    subject.call(method, &path).anonymous().send().await
}

/// The file is whole, and can be read from where it is, by a range as well.
#[track_caller]
fn assert_same(read: &[u8], expected: &[u8]) {
    assert!(
        read == expected,
        "{} bytes instead of {}",
        read.len(),
        expected.len()
    );
}

pub(crate) async fn assert_stored(subject: &Subject, path: &str, expected: &[u8]) {
    let uri = subject.at(path);
    let info = subject.info(&uri).await.data();
    assert_eq!(info["size"], expected.len(), "{info}");
    assert!(
        info["metadata"].get("sys:upload_session_id").is_none(),
        "{info}"
    );
    let data = subject.urls(&[&uri], json!({})).await.data();
    let mut url = text(&data["urls"][0]["url"]);
    if url.contains("/api/v4/file/content/") {
        url = subject.rebased(&url);
    }
    let whole = to_store(subject, Method::GET, &url).send().await;
    assert_same(&whole.expect_status(200).body, expected);
    let range = to_store(subject, Method::GET, &url).header("range", "bytes=1-2");
    assert_same(&range.send().await.body, &expected[1..3]);
}

/// Largest content that is sent to a server which is not ours.
const MOST: usize = 8 << 20;

async fn an_upload_goes_the_way_that_its_policy_wants(subject: &Subject) {
    let probe = open_version(subject, "f", 1, "").await;
    cancel(subject, &probe, "f").await;
    let chunk = probe["chunk_size"].as_u64().expect("a chunk size");
    let chunk = usize::try_from(chunk).expect("a chunk size");
    let content = match chunk {
        0 => content(3 * CHUNK),
        chunk => content((chunk + 1).min(MOST)),
    };
    for kind in ["", "version"] {
        let session = open_version(subject, "f", content.len(), kind).await;
        let kind = text(&session["storage_policy"]["type"]);
        if kind == "local" || session["storage_policy"]["relay"] == true {
            for (index, part) in chunks(&session, &content) {
                let path = format!("/file/upload/{}/{index}", text(&session["session_id"]));
                let send = subject.call(Method::POST, &path).body(part);
                send.send().await.expect(0);
            }
        } else if kind == "remote" {
            let credential = text(&session["credential"]);
            for (index, part) in chunks(&session, &content) {
                chunk_of(subject, &session, index, &credential, part)
                    .await
                    .expect(0);
            }
        } else {
            let etags = put_parts(subject, &session, &content).await;
            complete(subject, &session, &[OCTET_STREAM], list_of(&etags))
                .await
                .expect_status(200);
            callback(subject, &session, Method::GET, &kind)
                .await
                .expect(0);
        }
        assert_stored(subject, "f", &content).await;
    }
}

/// Uploads to a bucket and reads it back.
async fn store_in_bucket(
    subject: &Subject,
    policy: StoragePolicy,
    headers: &[(&'static str, &str)],
) {
    let content = content(2 * CHUNK + 500);
    let session = open(subject, policy, "a b%23%25.bin", content.len()).await;
    assert_eq!(session["upload_urls"].as_array().map(Vec::len), Some(3));
    assert_eq!(session["chunk_size"], CHUNK, "{session}");
    let etags = put_parts(subject, &session, &content).await;
    let list = match policy {
        StoragePolicy::Oss => String::new(),
        _ => list_of(&etags),
    };
    let reply = complete(subject, &session, headers, list).await;
    reply.expect_status(200);
    if !matches!(policy, StoragePolicy::Oss | StoragePolicy::Obs) {
        callback(subject, &session, Method::GET, policy.name())
            .await
            .expect(0);
    }
    assert_stored(subject, "a b%23%25.bin", &content).await;
    callback(subject, &session, Method::GET, "s3")
        .await
        .expect_status(401);
}

async fn chunk_of(
    subject: &Subject,
    session: &Value,
    index: usize,
    credential: &str,
    chunk: &[u8],
) -> Reply {
    to_store(
        subject,
        Method::POST,
        &format!("{}?chunk={index}", url(session, 0)),
    )
    .header("authorization", credential)
    .body(chunk)
    .send()
    .await
}

async fn a_storage_node_takes_chunks_by_its_own_credential(subject: &Subject) {
    let content = content(CHUNK + 1);
    let session = open(subject, StoragePolicy::Remote, "f", content.len()).await;
    let credential = text(&session["credential"]);
    assert!(credential.starts_with("Bearer Cr "), "{session}");
    for (index, part) in content.chunks(CHUNK).enumerate() {
        chunk_of(subject, &session, index, &credential, part)
            .await
            .expect(0);
    }
    assert_stored(subject, "f", &content).await;
    chunk_of(subject, &session, 0, &credential, &content[..CHUNK])
        .await
        .expect(40011);
}

async fn a_storage_node_refuses_every_other_credential(subject: &Subject) {
    let session = open(subject, StoragePolicy::Remote, "f", 3).await;
    let credential = text(&session["credential"]);
    let target = format!("{}?chunk=0", url(&session, 0));
    let call = |headers: &[(&'static str, &str)]| {
        let mut call = to_store(subject, Method::POST, &target).body("abc");
        for (name, value) in headers {
            call = call.header(name, value);
        }
        call
    };
    call(&[]).send().await.expect(403);
    let user = format!("Bearer {}", subject.site.token());
    call(&[("authorization", &user)]).send().await.expect(40071);
    call(&[("authorization", &credential), ("x-cr-client-id", "x")])
        .send()
        .await
        .expect(40071);
    chunk_of(subject, &session, 0, &credential, b"ab")
        .await
        .expect(40013);
    chunk_of(subject, &session, 1, &credential, b"abc")
        .await
        .expect(40013);
    let server = subject.site.server();
    server.advance_clock(Duration::from_secs(86_405));
    call(&[("authorization", &credential)])
        .send()
        .await
        .expect(40005);
}

async fn a_storage_node_completes_once_and_says_success_ever_after(subject: &Subject) {
    let session = open(subject, StoragePolicy::Remote, "f", 3).await;
    let credential = text(&session["credential"]);
    subject.site.server().lose_upload_locks();
    chunk_of(subject, &session, 0, &credential, b"abc")
        .await
        .expect(40073);
    chunk_of(subject, &session, 0, &credential, b"abc")
        .await
        .expect(0);
    let info = subject.info(&subject.at("f")).await.data();
    assert_eq!(info["size"], 0, "{info}");
}

async fn s3_takes_parts_a_list_of_them_and_a_callback(subject: &Subject) {
    store_in_bucket(subject, StoragePolicy::S3, &[]).await;
}

async fn s3_refuses_what_was_not_signed(subject: &Subject) {
    let session = open(subject, StoragePolicy::S3, "f", 10).await;
    let url = url(&session, 0);
    let put = |url: &str, body: &'static str| to_store(subject, Method::PUT, url).body(body);
    put(&url, "0123456789")
        .bearer(&subject.site.token())
        .send()
        .await
        .expect_status(400);
    let short = put(&url, "012345678").send().await.expect_status(403);
    assert!(short.text().contains("SignatureDoesNotMatch"), "{short:?}");
    put(&url.replace("partNumber=1", "partNumber=2"), "0123456789")
        .send()
        .await
        .expect_status(403);
    put(url.split('?').next().unwrap_or_default(), "0123456789")
        .send()
        .await
        .expect_status(403);
    put(&url, "0123456789").send().await.expect_status(200);
}

async fn s3_puts_too_few_parts_together_and_the_callback_finds_it(subject: &Subject) {
    let content = content(2 * CHUNK);
    let session = open(subject, StoragePolicy::S3, "f", content.len()).await;
    let early = callback(subject, &session, Method::GET, "s3").await;
    assert_eq!((early.status.as_u16(), early.code()), (400, -1));
    let etags = put_parts(subject, &session, &content).await;
    complete(subject, &session, &[], list_of(&etags[..1]))
        .await
        .expect_status(200);
    let late = callback(subject, &session, Method::GET, "s3").await;
    assert_eq!((late.status.as_u16(), late.code()), (400, 40055));
}

async fn s3_knows_no_upload_that_is_complete(subject: &Subject) {
    let session = open(subject, StoragePolicy::S3, "f", 3).await;
    let etags = put_parts(subject, &session, b"abc").await;
    let wrong = complete(subject, &session, &[], list_of(&["\"0\"".to_owned()])).await;
    assert!(
        wrong.expect_status(400).text().contains("InvalidPart"),
        "another ETag is another part"
    );
    complete(subject, &session, &[], list_of(&etags))
        .await
        .expect_status(200);
    let again = complete(subject, &session, &[], list_of(&etags)).await;
    assert!(again.expect_status(404).text().contains("NoSuchUpload"));
    let part = to_store(subject, Method::PUT, &url(&session, 0)).body("abc");
    part.send().await.expect_status(404);
    callback(subject, &session, Method::GET, "s3")
        .await
        .expect(0);
    assert_stored(subject, "f", b"abc").await;
}

async fn a_callback_needs_its_session_its_secret_and_its_type(subject: &Subject) {
    let session = open(subject, StoragePolicy::S3, "f", 3).await;
    let id = text(&session["session_id"]);
    let ask = |path: String| subject.call(Method::GET, &path).anonymous().send();
    let wrong = ask(format!("/callback/s3/{id}/x")).await;
    assert_eq!((wrong.status.as_u16(), wrong.code()), (401, 40020));
    let unknown = ask("/callback/s3/9c2d0d8e-0000-4000-8000-000000000000/x".to_owned()).await;
    assert_eq!((unknown.status.as_u16(), unknown.code()), (401, 40011));
    let other = callback(subject, &session, Method::GET, "cos").await;
    assert_eq!((other.status.as_u16(), other.code()), (401, 40006));
    callback(subject, &session, Method::POST, "s3")
        .await
        .expect_status(404);
}

async fn ks3_wants_the_type_that_was_signed(subject: &Subject) {
    store_in_bucket(subject, StoragePolicy::Ks3, &[OCTET_STREAM]).await;
    let session = open(subject, StoragePolicy::Ks3, "g", 3).await;
    let bare = to_store(subject, Method::PUT, &url(&session, 0)).body("abc");
    bare.send().await.expect_status(403);
    let etags = put_parts(subject, &session, b"abc").await;
    complete(subject, &session, &[], list_of(&etags))
        .await
        .expect_status(403);
}

async fn cos_wants_the_headers_that_were_signed(subject: &Subject) {
    let header = ("x-cos-forbid-overwrite", "true");
    store_in_bucket(subject, StoragePolicy::Cos, &[header]).await;
    let session = open(subject, StoragePolicy::Cos, "g", 3).await;
    let etags = put_parts(subject, &session, b"abc").await;
    complete(subject, &session, &[], list_of(&etags))
        .await
        .expect_status(403);
}

const OSS_HEADERS: &[(&str, &str)] = &[
    OCTET_STREAM,
    ("x-oss-complete-all", "yes"),
    ("x-oss-forbid-overwrite", "true"),
];

async fn oss_puts_everything_together_and_tells_the_server(subject: &Subject) {
    store_in_bucket(subject, StoragePolicy::Oss, OSS_HEADERS).await;
    let session = open(subject, StoragePolicy::Oss, "g", 3).await;
    let etags = put_parts(subject, &session, b"abc").await;
    complete(subject, &session, OSS_HEADERS, list_of(&etags))
        .await
        .expect_status(400);
    complete(subject, &session, &OSS_HEADERS[..1], String::new())
        .await
        .expect_status(403);
}

async fn oss_that_cannot_tell_the_server_says_203(subject: &Subject) {
    let session = open(subject, StoragePolicy::Oss, "f", 3).await;
    put_parts(subject, &session, b"abc").await;
    let server = subject.site.server();
    server.configure(|settings| settings.store_calls_back = false);
    complete(subject, &session, OSS_HEADERS, String::new())
        .await
        .expect_status(203);
    let info = subject.info(&subject.at("f")).await.data();
    assert_eq!(
        info["metadata"]["sys:upload_session_id"],
        session["session_id"]
    );
    complete(subject, &session, OSS_HEADERS, String::new())
        .await
        .expect_status(404);
}

async fn obs_puts_what_is_listed_together_and_tells_the_server(subject: &Subject) {
    store_in_bucket(subject, StoragePolicy::Obs, &[OCTET_STREAM]).await;
}

async fn a_relayed_upload_is_one_piece_to_the_server(subject: &Subject) {
    subject.site.server().set_relay(true);
    let content = content(3 * CHUNK);
    let session = open(subject, StoragePolicy::S3, "f", content.len()).await;
    assert_eq!(session["storage_policy"]["relay"], true, "{session}");
    assert_eq!(session["chunk_size"], 0, "{session}");
    assert!(session.get("upload_urls").is_none(), "{session}");
    let path = format!("/file/upload/{}/0", text(&session["session_id"]));
    let send = subject.call(Method::POST, &path).body(&content[..]);
    send.send().await.expect(0);
    assert_stored(subject, "f", &content).await;
}

async fn a_direct_policy_takes_no_chunks_at_the_server(subject: &Subject) {
    for policy in StoragePolicy::ALL {
        if policy == StoragePolicy::Local {
            continue;
        }
        let session = open(subject, policy, policy.name(), 3).await;
        let path = format!("/file/upload/{}/0", text(&session["session_id"]));
        let send = subject.call(Method::POST, &path).body("abc");
        send.send().await.expect(40006);
        // Qiniu's answers otherwise, and is cancelled all the same.
        cancel(subject, &session, policy.name()).await;
    }
}

async fn urls_of_a_store_end_with_their_session(subject: &Subject) {
    let mut sessions = Vec::new();
    for policy in [
        StoragePolicy::S3,
        StoragePolicy::Ks3,
        StoragePolicy::Oss,
        StoragePolicy::Cos,
        StoragePolicy::Obs,
    ] {
        sessions.push(open(subject, policy, policy.name(), 3).await);
    }
    let server = subject.site.server();
    server.advance_clock(Duration::from_secs(86_401));
    for session in sessions {
        let part = to_store(subject, Method::PUT, &url(&session, 0))
            .header(OCTET_STREAM.0, OCTET_STREAM.1)
            .body("abc");
        let reply = part.send().await.expect_status(403);
        assert!(reply.text().contains("AccessDenied"), "{reply:?}");
    }
}

async fn a_cancelled_upload_leaves_nothing_in_a_store(subject: &Subject) {
    let session = open(subject, StoragePolicy::S3, "f", 3).await;
    put_parts(subject, &session, b"abc").await;
    cancel(subject, &session, "f").await.expect(0);
    subject.info(&subject.at("f")).await.expect(40016);
    let part = to_store(subject, Method::PUT, &url(&session, 0)).body("abc");
    part.send().await.expect_status(404);
    // Qiniu's cannot be cancelled there, and the server says so after it cancelled it here.
    let session = open(subject, StoragePolicy::Qiniu, "g", 3).await;
    cancel(subject, &session, "g").await.expect(-1);
    subject.info(&subject.at("g")).await.expect(40016);
}

async fn a_cancel_after_completion_fails_and_does_its_work(subject: &Subject) {
    let session = open(subject, StoragePolicy::S3, "f", 3).await;
    let etags = put_parts(subject, &session, b"abc").await;
    complete(subject, &session, &[], list_of(&etags))
        .await
        .expect_status(200);
    cancel(subject, &session, "f").await.expect(-1);
    subject.info(&subject.at("f")).await.expect(40016);
}

async fn a_new_version_in_a_store_replaces_the_old_one(subject: &Subject) {
    let before = subject.put("f", b"old").await;
    open(subject, StoragePolicy::S3, "other", 1).await;
    let session = open_version(subject, "f", 7, "version").await;
    let etags = put_parts(subject, &session, b"content").await;
    let server = subject.site.server();
    server.fail(Fault::on(Route::StoreComplete).error_document().times(1));
    let refused = complete(subject, &session, &[], list_of(&etags)).await;
    assert!(refused.expect_status(200).text().contains("<Error>"));
    complete(subject, &session, &[], list_of(&etags))
        .await
        .expect_status(200);
    callback(subject, &session, Method::GET, "s3")
        .await
        .expect(0);
    let info = subject.info(&subject.at("f")).await.data();
    assert_eq!(info["id"], before["id"]);
    assert_stored(subject, "f", b"content").await;
}
