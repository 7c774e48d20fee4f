//! Uploads to a policy that wants its storage to hold nothing in clear: who makes the key, who enciphers, who deciphers.
//!
//! A real server plays them as the policy of its user is; only the test server can be told to encrypt.

use aes::Aes256;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ctr::Ctr128BE;
use ctr::cipher::{KeyIvInit, StreamCipher};
use reqwest::Method;
use serde_json::{Value, json};

use crate::policies::{chunks, content};
use crate::runner::{Case, cases};
use crate::subject::{Subject, text};

pub(crate) const CASES: &[Case] = cases![
    an_upload_is_enciphered_where_its_policy_and_the_client_want_it,
    only_the_first_cipher_that_a_client_offers_counts,
    what_comes_in_one_request_is_enciphered_by_the_server,
];

pub(crate) const ON_TEST_SERVER: &[Case] = cases![
    a_policy_that_encrypts_gives_a_key_to_who_asks,
    a_server_that_encrypts_does_so_with_what_comes_in_one_request,
    what_is_relayed_is_enciphered_by_the_server,
];

const CIPHER: &str = "aes-256-ctr";

async fn open(subject: &Subject, path: &str, size: usize, ciphers: Value) -> Value {
    let body = json!({"uri": subject.at(path), "size": size, "encryption_supported": ciphers});
    let session = subject.call(Method::PUT, "/file/upload").json(body);
    session.send().await.data()
}

async fn cancel(subject: &Subject, session: &Value, path: &str) {
    let body = json!({"id": session["session_id"], "uri": subject.at(path)});
    let call = subject.call(Method::DELETE, "/file/upload").json(body);
    call.send().await.expect(0);
}

/// What the policy of the subject's user says.
fn encrypts(session: &Value) -> bool {
    session["storage_policy"]["encryption"] == true
}

/// Whether the session is one whose chunks go to the server.
fn is_sent_here(session: &Value) -> bool {
    session["storage_policy"]["type"] == "local" || session["storage_policy"]["relay"] == true
}

async fn send(subject: &Subject, session: &Value, content: &[u8]) {
    for (index, chunk) in chunks(session, content) {
        let path = format!("/file/upload/{}/{index}", text(&session["session_id"]));
        let call = subject.call(Method::POST, &path).body(chunk);
        call.send().await.expect(0);
    }
}

fn sealed(metadata: &Value, content: &[u8]) -> Vec<u8> {
    assert_eq!(metadata["algorithm"], CIPHER, "{metadata}");
    assert!(metadata["key"].is_null(), "{metadata}");
    let bytes = |name: &str| STANDARD.decode(text(&metadata[name])).expect("base64");
    let (key, iv) = (bytes("key_plain_text"), bytes("iv"));
    let mut sealed = content.to_vec();
    Ctr128BE::<Aes256>::new_from_slices(&key, &iv)
        .expect("a key of 32 bytes and a counter of 16")
        .apply_keystream(&mut sealed);
    sealed
}

/// How the newest version of a file lies at the storage.
async fn sealed_with(subject: &Subject, path: &str) -> Value {
    let info = subject
        .call(Method::GET, "/file/info")
        .query(&[("uri", &subject.at(path)), ("extended", "true")]);
    let info = info.send().await.data();
    info["extended_info"]["entities"][0]["encrypted_with"].clone()
}

async fn assert_reads_as(subject: &Subject, path: &str, expected: &[u8]) {
    assert_eq!(subject.read(&subject.at(path)).await, expected);
    let url = subject.url(&subject.at(path)).await;
    for (range, from, to) in [
        ("bytes=0-0", 0, 1),
        ("bytes=15-20", 15, 21),
        ("bytes=33-", 33, expected.len()),
    ] {
        let part = subject.fetch(&url).header("range", range).send().await;
        assert_eq!(part.body, expected[from..to], "{range}");
    }
}

async fn an_upload_is_enciphered_where_its_policy_and_the_client_want_it(subject: &Subject) {
    let content = content(5000);
    let session = open(subject, "f", content.len(), json!([CIPHER])).await;
    if !is_sent_here(&session) {
        return cancel(subject, &session, "f").await;
    }
    let metadata = &session["encrypt_metadata"];
    let relayed = session["storage_policy"]["relay"] == true;
    assert_eq!(
        !metadata.is_null(),
        encrypts(&session) && !relayed,
        "{session}"
    );
    match metadata.is_null() {
        true => send(subject, &session, &content).await,
        false => send(subject, &session, &sealed(metadata, &content)).await,
    }
    assert_reads_as(subject, "f", &content).await;
    assert_eq!(
        !sealed_with(subject, "f").await.is_null(),
        encrypts(&session)
    );
}

async fn only_the_first_cipher_that_a_client_offers_counts(subject: &Subject) {
    for ciphers in [json!(["rot13", CIPHER]), json!([]), Value::Null] {
        let session = open(subject, "f", 10, ciphers.clone()).await;
        assert!(
            session["encrypt_metadata"].is_null(),
            "{ciphers}: {session}"
        );
        cancel(subject, &session, "f").await;
    }
}

async fn what_comes_in_one_request_is_enciphered_by_the_server(subject: &Subject) {
    let content = content(5000);
    let put = subject
        .call(Method::PUT, "/file/content")
        .query(&[("uri", &subject.at("f"))])
        .body(&content[..]);
    put.send().await.expect(0);
    assert_reads_as(subject, "f", &content).await;
    let session = open(subject, "g", 1, json!([CIPHER])).await;
    cancel(subject, &session, "g").await;
    assert_eq!(
        !sealed_with(subject, "f").await.is_null(),
        encrypts(&session)
    );
}

async fn a_policy_that_encrypts_gives_a_key_to_who_asks(subject: &Subject) {
    subject.site.server().set_encryption(true);
    let session = open(subject, "probe", 1, json!([CIPHER])).await;
    assert!(session["encrypt_metadata"].is_object(), "{session}");
    cancel(subject, &session, "probe").await;
    only_the_first_cipher_that_a_client_offers_counts(subject).await;
    an_upload_is_enciphered_where_its_policy_and_the_client_want_it(subject).await;
}

async fn a_server_that_encrypts_does_so_with_what_comes_in_one_request(subject: &Subject) {
    subject.site.server().set_encryption(true);
    what_comes_in_one_request_is_enciphered_by_the_server(subject).await;
}

async fn what_is_relayed_is_enciphered_by_the_server(subject: &Subject) {
    subject.site.server().set_encryption(true);
    subject.site.server().set_relay(true);
    an_upload_is_enciphered_where_its_policy_and_the_client_want_it(subject).await;
}
