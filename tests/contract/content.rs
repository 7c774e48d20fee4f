//! The content endpoint: ranges, headers, signatures.

use reqwest::Method;

use crate::calls::Call;
use crate::reply::Reply;
use crate::runner::{Case, cases};
use crate::subject::{Subject, text};

pub(crate) const CASES: &[Case] = cases![
    a_whole_file_comes_with_its_length_and_its_entity,
    a_range_is_exact,
    a_range_is_cut_at_the_end,
    open_and_suffix_ranges_work,
    a_range_beyond_the_end_is_416,
    a_malformed_range_is_416_without_a_content_range,
    several_ranges_are_multipart,
    head_has_the_headers_alone,
    no_credentials_are_needed,
    a_garbled_token_is_ignored,
    a_refresh_token_is_refused,
    an_altered_signature_is_40071_under_http_200,
    an_altered_path_is_40071,
    a_missing_signature_is_403_under_http_200,
    the_signature_is_of_the_path_alone,
    more_in_the_query_does_no_harm,
    an_empty_file_is_200_without_bytes,
    conditions_are_held_against_the_entity,
    content_is_never_compressed,
    no_other_method_is_known,
];

/// Content in which every byte tells its offset, as far as a byte can.
fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at % 251) as u8).collect()
}

async fn seeded(subject: &Subject, length: usize) -> (String, Vec<u8>) {
    let content = pattern(length);
    subject.put("f.bin", &content).await;
    (subject.url(&subject.at("f.bin")).await, content)
}

async fn ranged(subject: &Subject, url: &str, range: &str) -> Reply {
    subject.fetch(url).header("range", range).send().await
}

async fn a_whole_file_comes_with_its_length_and_its_entity(subject: &Subject) {
    let (url, content) = seeded(subject, 1000).await;
    let reply = subject.fetch(&url).send().await.expect_status(200);
    assert_eq!(reply.body, content);
    assert_eq!(reply.header("content-length"), Some("1000"));
    assert_eq!(reply.header("accept-ranges"), Some("bytes"));
    assert_eq!(reply.header("cache-control"), Some("public, max-age=86400"));
    assert_eq!(reply.header("last-modified"), None);
    let entity = text(&subject.info(&subject.at("f.bin")).await.data()["primary_entity"]);
    assert_eq!(reply.header("etag"), Some(format!("\"{entity}\"").as_str()));
}

async fn a_range_is_exact(subject: &Subject) {
    let (url, content) = seeded(subject, 1000).await;
    for (range, from, to) in [
        ("bytes=0-0", 0, 0),
        ("bytes=100-199", 100, 199),
        ("bytes=999-999", 999, 999),
    ] {
        let reply = ranged(subject, &url, range).await.expect_status(206);
        assert_eq!(reply.body, content[from..=to], "{range}");
        assert_eq!(
            reply.header("content-range"),
            Some(format!("bytes {from}-{to}/1000").as_str())
        );
        assert_eq!(
            reply.header("content-length"),
            Some((to - from + 1).to_string().as_str())
        );
    }
}

async fn a_range_is_cut_at_the_end(subject: &Subject) {
    let (url, content) = seeded(subject, 1000).await;
    let reply = ranged(subject, &url, "bytes=990-5000")
        .await
        .expect_status(206);
    assert_eq!(reply.body, content[990..]);
    assert_eq!(reply.header("content-range"), Some("bytes 990-999/1000"));
}

async fn open_and_suffix_ranges_work(subject: &Subject) {
    let (url, content) = seeded(subject, 1000).await;
    let open = ranged(subject, &url, "bytes=600-").await.expect_status(206);
    assert_eq!(
        (open.header("content-range"), &open.body[..]),
        (Some("bytes 600-999/1000"), &content[600..])
    );
    let suffix = ranged(subject, &url, "bytes=-10").await.expect_status(206);
    assert_eq!(
        (suffix.header("content-range"), &suffix.body[..]),
        (Some("bytes 990-999/1000"), &content[990..])
    );
}

async fn a_range_beyond_the_end_is_416(subject: &Subject) {
    let (url, _) = seeded(subject, 1000).await;
    for range in ["bytes=1000-1001", "bytes=5000-"] {
        let reply = ranged(subject, &url, range).await.expect_status(416);
        assert_eq!(
            reply.header("content-range"),
            Some("bytes */1000"),
            "{range}"
        );
    }
}

async fn a_malformed_range_is_416_without_a_content_range(subject: &Subject) {
    let (url, _) = seeded(subject, 1000).await;
    for range in ["bytes=20-10", "bytes=a-b", "lines=1-2"] {
        let reply = ranged(subject, &url, range).await.expect_status(416);
        assert_eq!(reply.header("content-range"), None, "{range}");
    }
}

async fn several_ranges_are_multipart(subject: &Subject) {
    let (url, _) = seeded(subject, 1000).await;
    let reply = ranged(subject, &url, "bytes=0-1,10-11")
        .await
        .expect_status(206);
    assert!(
        reply
            .header("content-type")
            .is_some_and(|kind| kind.starts_with("multipart/byteranges")),
        "{reply:?}"
    );
}

async fn head_has_the_headers_alone(subject: &Subject) {
    let (url, _) = seeded(subject, 1000).await;
    let reply = Call::to(&subject.site, Method::HEAD, url)
        .anonymous()
        .send()
        .await
        .expect_status(200);
    assert_eq!(
        (reply.header("content-length"), reply.body.len()),
        (Some("1000"), 0)
    );
    assert!(reply.header("etag").is_some(), "{reply:?}");
}

async fn no_credentials_are_needed(subject: &Subject) {
    let (url, content) = seeded(subject, 10).await;
    assert_eq!(
        subject
            .fetch(&url)
            .anonymous()
            .send()
            .await
            .expect_status(200)
            .body,
        content
    );
}

async fn a_garbled_token_is_ignored(subject: &Subject) {
    let (url, content) = seeded(subject, 10).await;
    assert_eq!(
        subject
            .fetch(&url)
            .bearer("garbled")
            .send()
            .await
            .expect_status(200)
            .body,
        content
    );
}

async fn a_refresh_token_is_refused(subject: &Subject) {
    let (url, _) = seeded(subject, 10).await;
    let token = text(&subject.site.sign_in_again().await["token"]["refresh_token"]);
    subject
        .fetch(&url)
        .bearer(&token)
        .send()
        .await
        .expect(40020);
}

/// The URL with the first character of its signature changed.
fn forged(url: &str) -> String {
    let (path, sign) = url.split_once("sign=").expect("a signed URL");
    let other = if sign.starts_with('A') { 'B' } else { 'A' };
    format!("{path}sign={other}{}", &sign[1..])
}

async fn an_altered_signature_is_40071_under_http_200(subject: &Subject) {
    let (url, _) = seeded(subject, 10).await;
    let reply = ranged(subject, &forged(&url), "bytes=0-1")
        .await
        .expect(40071);
    assert!(
        reply
            .header("content-type")
            .is_some_and(|kind| kind.starts_with("application/json")),
        "{reply:?}"
    );
    assert!(
        reply.header("accept-ranges").is_none() && reply.header("etag").is_none(),
        "{reply:?}"
    );
    assert_eq!(reply.header("cache-control"), Some("private, no-cache"));
}

async fn an_altered_path_is_40071(subject: &Subject) {
    let (url, _) = seeded(subject, 10).await;
    subject
        .fetch(&url.replace("/f.bin?", "/g.bin?"))
        .send()
        .await
        .expect(40071);
    subject
        .fetch(&url.replace("/0/f.bin?", "/1/f.bin?"))
        .send()
        .await
        .expect(40071);
}

async fn a_missing_signature_is_403_under_http_200(subject: &Subject) {
    let (url, _) = seeded(subject, 10).await;
    let (path, _) = url.split_once('?').unwrap();
    subject.fetch(path).send().await.expect(403);
}

async fn the_signature_is_of_the_path_alone(subject: &Subject) {
    let (url, content) = seeded(subject, 10).await;
    let reply = subject
        .fetch(&url)
        .header("host", "another.example.com")
        .send()
        .await
        .expect_status(200);
    assert_eq!(reply.body, content);
}

async fn more_in_the_query_does_no_harm(subject: &Subject) {
    let (url, content) = seeded(subject, 10).await;
    let reply = subject
        .fetch(&format!("{url}&download=true"))
        .send()
        .await
        .expect_status(200);
    assert_eq!(reply.body, content);
    assert!(
        reply
            .header("content-disposition")
            .is_some_and(|how| how.starts_with("attachment")),
        "{:?}",
        reply.headers
    );
}

async fn an_empty_file_is_200_without_bytes(subject: &Subject) {
    let made = subject.create(&subject.at("made"), "file").await.data();
    let reply = subject
        .fetch(&subject.url(&subject.at("made")).await)
        .send()
        .await
        .expect_status(200);
    let sentinel = format!("\"{}\"", text(&made["primary_entity"]));
    assert_eq!(
        (reply.body.len(), reply.header("etag")),
        (0, Some(sentinel.as_str()))
    );
    subject.put("put", b"").await;
    let url = subject.url(&subject.at("put")).await;
    assert!(
        ranged(subject, &url, "bytes=0-9")
            .await
            .expect_status(200)
            .body
            .is_empty()
    );
}

async fn conditions_are_held_against_the_entity(subject: &Subject) {
    let (url, content) = seeded(subject, 10).await;
    let entity = format!(
        "\"{}\"",
        text(&subject.info(&subject.at("f.bin")).await.data()["primary_entity"])
    );
    subject
        .fetch(&url)
        .header("if-none-match", &entity)
        .send()
        .await
        .expect_status(304);
    subject
        .fetch(&url)
        .header("if-match", "\"other\"")
        .send()
        .await
        .expect_status(412);
    let stale = subject
        .fetch(&url)
        .header("range", "bytes=0-1")
        .header("if-range", "\"other\"")
        .send()
        .await;
    assert_eq!(stale.expect_status(200).body, content);
}

async fn content_is_never_compressed(subject: &Subject) {
    subject
        .put("text.txt", &b"the same again and again ".repeat(200))
        .await;
    let url = subject.url(&subject.at("text.txt")).await;
    let reply = subject
        .fetch(&url)
        .header("accept-encoding", "gzip, br")
        .send()
        .await
        .expect_status(200);
    assert_eq!(
        (reply.header("content-encoding"), reply.body.len()),
        (None, 5000)
    );
}

async fn no_other_method_is_known(subject: &Subject) {
    let (url, _) = seeded(subject, 10).await;
    Call::to(&subject.site, Method::POST, url)
        .anonymous()
        .send()
        .await
        .expect_status(404);
}
