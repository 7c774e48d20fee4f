//! Upload sessions on a policy that stores with the server itself.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use crate::reply::Reply;
use crate::runner::{Case, cases};
use crate::subject::{Subject, entries, text};

pub(crate) const CASES: &[Case] = cases![
    a_session_tells_how_to_upload,
    a_new_upload_shows_as_an_empty_file_with_a_mark,
    a_finished_upload_is_the_file,
    chunks_may_come_in_any_order_and_twice,
    an_upload_may_bring_its_time_and_its_metadata,
    a_version_leaves_the_old_content_until_it_is_complete,
    a_file_that_exists_is_40004_without_the_word_version,
    a_second_session_on_the_same_name_is_refused,
    a_chunk_of_a_wrong_length_is_40013,
    a_chunk_that_is_not_there_is_refused,
    an_unknown_session_is_40011,
    an_anonymous_chunk_is_40011,
    a_cancelled_upload_leaves_nothing,
    a_cancelled_version_leaves_the_old_content,
    a_finished_session_can_be_cancelled_without_harm,
    an_upload_locks_its_file_and_all_folders_above,
    an_upload_locks_no_neighbour_and_no_reader,
    a_copied_mark_stays_with_the_copy,
    a_stale_version_is_40076,
    a_lock_can_be_taken_away_by_its_token,
    an_unknown_lock_token_is_40001,
    a_session_refuses_bad_names_and_keys,
];

pub(crate) const ON_TEST_SERVER: &[Case] =
    cases![an_expired_session_leaves_its_placeholder_without_a_lock];

pub(crate) async fn open(subject: &Subject, path: &str, size: usize, more: Value) -> Reply {
    let mut body = json!({"uri": subject.at(path), "size": size, "policy_id": ""});
    for (name, value) in more.as_object().into_iter().flatten() {
        body[name] = value.clone();
    }
    subject
        .call(Method::PUT, "/file/upload")
        .json(body)
        .send()
        .await
}

async fn send(subject: &Subject, session: &Value, index: usize, chunk: &[u8]) -> Reply {
    let path = format!("/file/upload/{}/{index}", text(&session["session_id"]));
    subject.call(Method::POST, &path).body(chunk).send().await
}

/// Sends the whole content by the session's chunks.
pub(crate) async fn send_all(subject: &Subject, session: &Value, content: &[u8]) {
    let size = usize::try_from(session["chunk_size"].as_u64().unwrap()).unwrap();
    let size = if size == 0 { content.len() } else { size };
    for (index, chunk) in content.chunks(size).enumerate() {
        let reply = send(subject, session, index, chunk).await.expect(0);
        assert!(reply.json().get("data").is_none(), "{reply:?}");
    }
}

pub(crate) async fn cancel(subject: &Subject, session: &Value, path: &str) -> Reply {
    let body = json!({"id": session["session_id"], "uri": subject.at(path)});
    subject
        .call(Method::DELETE, "/file/upload")
        .json(body)
        .send()
        .await
}

async fn a_session_tells_how_to_upload(subject: &Subject) {
    let session = open(subject, "f", 10, json!({})).await.data();
    assert_eq!(text(&session["session_id"]).len(), 36, "{session}");
    assert_eq!(session["uri"], subject.at("f"));
    assert!(
        session["chunk_size"].is_u64() && session["expires"].is_u64(),
        "{session}"
    );
    assert!(
        session["callback_secret"].is_string() && session["upload_id"] == "",
        "{session}"
    );
    assert_eq!(session["storage_policy"]["type"], "local", "{session}");
    assert!(session.get("upload_urls").is_none(), "{session}");
    cancel(subject, &session, "f").await.expect(0);
}

async fn a_new_upload_shows_as_an_empty_file_with_a_mark(subject: &Subject) {
    let sentinel =
        subject.create(&subject.at("d"), "folder").await.data()["primary_entity"].clone();
    let session = open(subject, "d/f", 10, json!({})).await.data();
    let listed = subject.list(&subject.at("d")).await.data();
    let entry = &entries(&listed)[0];
    assert_eq!(
        (&entry["size"], &entry["primary_entity"]),
        (&json!(0), &sentinel),
        "{entry}"
    );
    assert_eq!(
        entry["metadata"],
        json!({"sys:upload_session_id": session["session_id"]})
    );
    let reply = subject
        .fetch(&subject.url(&subject.at("d/f")).await)
        .send()
        .await
        .expect_status(200);
    assert!(reply.body.is_empty(), "{reply:?}");
    cancel(subject, &session, "d/f").await.expect(0);
}

async fn a_finished_upload_is_the_file(subject: &Subject) {
    let content: Vec<u8> = (0..100_000_u32).map(|at| (at % 253) as u8).collect();
    let session = open(subject, "new/f", content.len(), json!({}))
        .await
        .data();
    send_all(subject, &session, &content).await;
    let info = subject.info(&subject.at("new/f")).await.data();
    assert_eq!(
        (&info["size"], &info["metadata"]),
        (&json!(content.len()), &json!({})),
        "{info}"
    );
    assert_eq!(subject.read(&subject.at("new/f")).await, content);
    send(subject, &session, 0, &content).await.expect(40011);
}

/// Larger chunks than this would make the case a test of patience; a real server's policy may well have them.
const LARGEST_CHUNK_BYTES: usize = 64 << 20;

async fn chunks_may_come_in_any_order_and_twice(subject: &Subject) {
    let probe = open(subject, "probe", 1, json!({})).await.data();
    cancel(subject, &probe, "probe").await.expect(0);
    let chunk_size = usize::try_from(probe["chunk_size"].as_u64().unwrap()).unwrap();
    assert!(
        (1..=LARGEST_CHUNK_BYTES).contains(&chunk_size),
        "the policy's chunks are of {chunk_size} bytes"
    );
    let first = vec![b'1'; chunk_size];
    let session = open(subject, "f", chunk_size + 4, json!({})).await.data();
    send(subject, &session, 1, b"last").await.expect(0);
    assert_eq!(subject.info(&subject.at("f")).await.data()["size"], 0);
    send(subject, &session, 1, b"LAST").await.expect(0);
    send(subject, &session, 0, &first).await.expect(0);
    assert_eq!(
        subject.info(&subject.at("f")).await.data()["size"],
        chunk_size + 4
    );
    let url = subject.url(&subject.at("f")).await;
    let tail = subject
        .fetch(&url)
        .header("range", "bytes=-6")
        .send()
        .await
        .expect_status(206);
    assert_eq!(tail.body, b"11LAST");
}

async fn an_upload_may_bring_its_time_and_its_metadata(subject: &Subject) {
    let more = json!({"last_modified": 1_600_000_000_123_u64, "metadata": {"customize:fuse": "1"}});
    let session = open(subject, "f", 4, more).await.data();
    // It shows with the content, and not before.
    let info = subject.info(&subject.at("f")).await.data();
    let mark = json!({"sys:upload_session_id": session["session_id"]});
    assert_eq!(info["metadata"], mark);
    send_all(subject, &session, b"four").await;
    let info = subject.info(&subject.at("f")).await.data();
    assert_eq!(info["metadata"], json!({"customize:fuse": "1"}));
    assert_eq!(info["updated_at"], "2020-09-13T12:26:40.123Z");
}

async fn a_version_leaves_the_old_content_until_it_is_complete(subject: &Subject) {
    let uri = subject.at("f");
    let old = subject.put("f", b"old").await;
    let session = open(
        subject,
        "f",
        7,
        json!({"entity_type": "version", "previous": old["primary_entity"]}),
    )
    .await
    .data();
    let info = subject.extended_info(&uri).await;
    assert_eq!(
        (&info["size"], &info["primary_entity"]),
        (&json!(3), &old["primary_entity"])
    );
    assert_eq!(info["updated_at"], old["updated_at"]);
    assert_eq!(
        info["metadata"]["sys:upload_session_id"],
        session["session_id"]
    );
    assert_eq!(
        info["extended_info"]["entities"].as_array().map(Vec::len),
        Some(2),
        "{info}"
    );
    assert_eq!(subject.read(&uri).await, b"old");
    send_all(subject, &session, b"the new").await;
    let info = subject.info(&uri).await.data();
    assert_eq!(
        (&info["id"], &info["size"], &info["metadata"]),
        (&old["id"], &json!(7), &json!({}))
    );
    assert_ne!(info["primary_entity"], old["primary_entity"]);
    assert_eq!(subject.read(&uri).await, b"the new");
}

async fn a_file_that_exists_is_40004_without_the_word_version(subject: &Subject) {
    subject.put("f", b"old").await;
    subject.folders(&["d"]).await;
    open(subject, "f", 3, json!({})).await.expect(40004);
    open(subject, "d", 3, json!({"entity_type": "version"}))
        .await
        .expect(40004);
    open(subject, "g", 3, json!({"entity_type": "nonsense"}))
        .await
        .expect(40001);
}

async fn a_second_session_on_the_same_name_is_refused(subject: &Subject) {
    let session = open(subject, "f", 3, json!({})).await.data();
    open(subject, "f", 3, json!({})).await.expect(40004);
    open(subject, "f", 3, json!({"entity_type": "version"}))
        .await
        .expect(40073);
    cancel(subject, &session, "f").await.expect(0);
}

async fn a_chunk_of_a_wrong_length_is_40013(subject: &Subject) {
    let session = open(subject, "f", 4, json!({})).await.data();
    send(subject, &session, 0, b"five!").await.expect(40013);
    send(subject, &session, 0, b"two").await.expect(40013);
    send(subject, &session, 0, b"four").await.expect(0);
    assert_eq!(subject.read(&subject.at("f")).await, b"four");
}

async fn a_chunk_that_is_not_there_is_refused(subject: &Subject) {
    let session = open(subject, "f", 4, json!({})).await.data();
    send(subject, &session, 1, b"four").await.expect(40012);
    let path = format!("/file/upload/{}/-1", text(&session["session_id"]));
    subject
        .call(Method::POST, &path)
        .body("four")
        .send()
        .await
        .expect(40001);
    cancel(subject, &session, "f").await.expect(0);
}

async fn an_unknown_session_is_40011(subject: &Subject) {
    let session = json!({"session_id": "5940347c-c14f-4795-936a-8debf1c7b46e"});
    send(subject, &session, 0, b"four").await.expect(40011);
}

async fn an_anonymous_chunk_is_40011(subject: &Subject) {
    let session = open(subject, "f", 4, json!({})).await.data();
    let path = format!("/file/upload/{}/0", text(&session["session_id"]));
    subject
        .call(Method::POST, &path)
        .anonymous()
        .body("four")
        .send()
        .await
        .expect(40011);
    send(subject, &session, 0, b"four").await.expect(0);
}

async fn a_cancelled_upload_leaves_nothing(subject: &Subject) {
    let session = open(subject, "f", 4, json!({})).await.data();
    cancel(subject, &session, "f").await.expect(0);
    subject.info(&subject.at("f")).await.expect(40016);
    send(subject, &session, 0, b"four").await.expect(40011);
    cancel(subject, &session, "f").await.expect(40016);
}

async fn a_cancelled_version_leaves_the_old_content(subject: &Subject) {
    let old = subject.put("f", b"old").await;
    let session = open(subject, "f", 7, json!({"entity_type": "version"}))
        .await
        .data();
    cancel(subject, &session, "f").await.expect(0);
    let info = subject.extended_info(&subject.at("f")).await;
    assert_eq!(
        (&info["primary_entity"], &info["metadata"]),
        (&old["primary_entity"], &json!({}))
    );
    assert_eq!(
        info["extended_info"]["entities"].as_array().map(Vec::len),
        Some(1),
        "{info}"
    );
}

async fn a_finished_session_can_be_cancelled_without_harm(subject: &Subject) {
    let session = open(subject, "f", 4, json!({})).await.data();
    send_all(subject, &session, b"four").await;
    cancel(subject, &session, "f").await.expect(0);
    assert_eq!(subject.read(&subject.at("f")).await, b"four");
}

async fn an_upload_locks_its_file_and_all_folders_above(subject: &Subject) {
    let session = open(subject, "a/b/f", 4, json!({})).await.data();
    for path in ["a", "a/b", "a/b/f"] {
        let reply = subject
            .rename(&subject.at(path), "renamed")
            .await
            .expect(40073);
        let held = reply.json()["data"][0].clone();
        assert_eq!(
            (&held["path"], &held["type"]),
            (&json!(subject.at("a/b/f")), &json!(0)),
            "{reply:?}"
        );
        assert_eq!(held["owner"]["application"]["type"], "upload", "{reply:?}");
        assert_eq!(text(&held["token"]).len(), 36, "{reply:?}");
        subject
            .delete(&[&subject.at(path)], true)
            .await
            .expect(40073);
    }
    subject
        .put_at(&subject.at("a/b/f"), b"x")
        .await
        .expect(40073);
    subject
        .patch(
            &subject.at("a/b/f"),
            json!([{"key": "customize:a", "value": "1"}]),
        )
        .await
        .expect(40073);
    cancel(subject, &session, "a/b/f").await.expect(0);
    subject.rename(&subject.at("a"), "renamed").await.expect(0);
}

async fn an_upload_locks_no_neighbour_and_no_reader(subject: &Subject) {
    subject.put("d/g", b"neighbour").await;
    let session = open(subject, "d/f", 4, json!({})).await.data();
    subject.put("d/g", b"changed").await;
    subject.rename(&subject.at("d/g"), "h").await.expect(0);
    subject.create(&subject.at("d/f"), "file").await.expect(0);
    subject.info(&subject.at("d/f")).await.expect(0);
    subject
        .patch(
            &subject.at("d"),
            json!([{"key": "customize:a", "value": "1"}]),
        )
        .await
        .expect(0);
    cancel(subject, &session, "d/f").await.expect(0);
}

async fn a_copied_mark_stays_with_the_copy(subject: &Subject) {
    subject.put("f", b"old").await;
    subject.folders(&["d"]).await;
    let session = open(subject, "f", 7, json!({"entity_type": "version"}))
        .await
        .data();
    subject
        .transfer(&subject.at("f"), &subject.at("d"), true)
        .await
        .expect(0);
    cancel(subject, &session, "f").await.expect(0);
    let info = subject.info(&subject.at("d/f")).await.data();
    assert_eq!(
        info["metadata"]["sys:upload_session_id"], session["session_id"],
        "{info}"
    );
    assert_eq!(subject.read(&subject.at("d/f")).await, b"old");
}

async fn a_stale_version_is_40076(subject: &Subject) {
    let first = subject.put("f", b"one").await;
    subject.put("f", b"two").await;
    let more = json!({"entity_type": "version", "previous": first["primary_entity"]});
    open(subject, "f", 3, more).await.expect(40076);
    assert_eq!(
        subject.info(&subject.at("f")).await.data()["metadata"],
        json!({})
    );
}

async fn a_lock_can_be_taken_away_by_its_token(subject: &Subject) {
    let session = open(subject, "f", 4, json!({})).await.data();
    let reply = subject.rename(&subject.at("f"), "g").await.expect(40073);
    let token = reply.json()["data"][0]["token"].clone();
    subject
        .call(Method::DELETE, "/file/lock")
        .json(json!({"tokens": [token]}))
        .send()
        .await
        .expect(0);
    subject.rename(&subject.at("f"), "g").await.expect(0);
    cancel(subject, &session, "g").await.expect(0);
}

async fn an_unknown_lock_token_is_40001(subject: &Subject) {
    let body = json!({"tokens": ["9c2d0d8e-0000-4000-8000-000000000000"]});
    subject
        .call(Method::DELETE, "/file/lock")
        .json(body)
        .send()
        .await
        .expect(40001);
}

async fn a_session_refuses_bad_names_and_keys(subject: &Subject) {
    open(subject, "a%3Ab", 4, json!({})).await.expect(40052);
    open(subject, "f", 4, json!({"metadata": {"sys:x": "1"}}))
        .await
        .expect(40001);
    let body = json!({"uri": subject.at("f"), "size": -1});
    subject
        .call(Method::PUT, "/file/upload")
        .json(body)
        .send()
        .await
        .expect(40001);
    assert!(subject.names(&subject.at("")).await.is_empty());
}

async fn an_expired_session_leaves_its_placeholder_without_a_lock(subject: &Subject) {
    let session = open(subject, "f", 4, json!({})).await.data();
    subject
        .site
        .server()
        .advance_clock(Duration::from_secs(24 * 3600 + 5));
    subject.site.renew_token().await;
    send(subject, &session, 0, b"four").await.expect(40011);
    let info = subject.info(&subject.at("f")).await.data();
    assert_eq!(
        (&info["size"], &info["metadata"]["sys:upload_session_id"]),
        (&json!(0), &session["session_id"])
    );
    open(subject, "f", 4, json!({})).await.expect(40004);
    subject.rename(&subject.at("f"), "g").await.expect(0);
    cancel(subject, &session, "g").await.expect(0);
    subject.info(&subject.at("g")).await.expect(40016);
}
