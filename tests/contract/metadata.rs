//! Metadata: which keys are taken, where they show, and what they leave alone.

use serde_json::json;

use crate::runner::{Case, cases};
use crate::subject::{Subject, entries};

pub(crate) const CASES: &[Case] = cases![
    a_key_of_ours_comes_back_in_lists_and_info,
    a_key_of_ours_leaves_the_time_of_change_alone,
    a_key_can_be_removed_also_when_it_is_not_there,
    unknown_categories_are_40001,
    one_bad_key_refuses_all,
    a_value_that_is_no_string_is_40001,
    a_value_may_have_65535_bytes_and_no_more,
    metadata_can_come_with_the_create,
    a_bad_key_at_the_create_makes_nothing,
    metadata_outlives_rename_move_copy_and_new_content,
    a_missing_object_is_reported_and_the_others_are_patched,
    the_root_takes_none,
];

async fn set(subject: &Subject, path: &str, key: &str, value: &str) -> crate::reply::Reply {
    subject
        .patch(&subject.at(path), json!([{"key": key, "value": value}]))
        .await
}

async fn a_key_of_ours_comes_back_in_lists_and_info(subject: &Subject) {
    subject.put("f", b"x").await;
    set(subject, "f", "customize:fuse", "{\"mode\":420}")
        .await
        .expect(0);
    let expected = json!({"customize:fuse": "{\"mode\":420}"});
    assert_eq!(
        subject.info(&subject.at("f")).await.data()["metadata"],
        expected
    );
    let listed = subject.list(&subject.at("")).await.data();
    assert_eq!(entries(&listed)[0]["metadata"], expected);
}

async fn a_key_of_ours_leaves_the_time_of_change_alone(subject: &Subject) {
    let put = subject.put("f", b"x").await;
    set(subject, "f", "customize:fuse", "1").await.expect(0);
    assert_eq!(
        subject.info(&subject.at("f")).await.data()["updated_at"],
        put["updated_at"]
    );
    set(subject, "f", "tag:todo", "#ff0000").await.expect(0);
    assert_ne!(
        subject.info(&subject.at("f")).await.data()["updated_at"],
        put["updated_at"]
    );
}

async fn a_key_can_be_removed_also_when_it_is_not_there(subject: &Subject) {
    subject.put("f", b"x").await;
    set(subject, "f", "customize:fuse", "1").await.expect(0);
    for _ in 0..2 {
        subject
            .patch(
                &subject.at("f"),
                json!([{"key": "customize:fuse", "remove": true}]),
            )
            .await
            .expect(0);
    }
    assert_eq!(
        subject.info(&subject.at("f")).await.data()["metadata"],
        json!({})
    );
}

async fn unknown_categories_are_40001(subject: &Subject) {
    subject.put("f", b"x").await;
    for key in [
        "bogus",
        "exif:x",
        "music:artist",
        "sys:x",
        "sys:upload_session_id",
        "props:nothing",
        "",
    ] {
        set(subject, "f", key, "1").await.expect(40001);
    }
}

async fn one_bad_key_refuses_all(subject: &Subject) {
    subject.put("f", b"x").await;
    let patches = json!([{"key": "customize:a", "value": "1"}, {"key": "bogus:b", "value": "1"}]);
    subject.patch(&subject.at("f"), patches).await.expect(40001);
    assert_eq!(
        subject.info(&subject.at("f")).await.data()["metadata"],
        json!({})
    );
}

async fn a_value_that_is_no_string_is_40001(subject: &Subject) {
    subject.put("f", b"x").await;
    subject
        .patch(
            &subject.at("f"),
            json!([{"key": "customize:a", "value": 1}]),
        )
        .await
        .expect(40001);
    subject
        .patch(&subject.at("f"), json!(null))
        .await
        .expect(40001);
    subject.patch(&subject.at("f"), json!([])).await.expect(0);
}

async fn a_value_may_have_65535_bytes_and_no_more(subject: &Subject) {
    subject.put("f", b"x").await;
    set(subject, "f", "customize:a", &"x".repeat(65535))
        .await
        .expect(0);
    set(subject, "f", "customize:b", &"x".repeat(65536))
        .await
        .expect(-1);
}

async fn metadata_can_come_with_the_create(subject: &Subject) {
    let body =
        json!({"uri": subject.at("d/f"), "type": "file", "metadata": {"customize:fuse": "1"}});
    let made = subject.post("/file/create", body).send().await.data();
    assert!(made["metadata"].is_null(), "{made}");
    assert_eq!(
        subject.info(&subject.at("d/f")).await.data()["metadata"],
        json!({"customize:fuse": "1"})
    );
    assert_eq!(
        subject.info(&subject.at("d")).await.data()["metadata"],
        json!({})
    );
}

async fn a_bad_key_at_the_create_makes_nothing(subject: &Subject) {
    let body = json!({"uri": subject.at("f"), "type": "file", "metadata": {"bogus": "x"}});
    subject
        .post("/file/create", body)
        .send()
        .await
        .expect(40001);
    subject.info(&subject.at("f")).await.expect(40016);
}

async fn metadata_outlives_rename_move_copy_and_new_content(subject: &Subject) {
    subject.put("f", b"x").await;
    subject.folders(&["d", "e"]).await;
    set(subject, "f", "customize:fuse", "1").await.expect(0);
    subject.rename(&subject.at("f"), "g").await.expect(0);
    subject
        .transfer(&subject.at("g"), &subject.at("d"), false)
        .await
        .expect(0);
    subject.put("d/g", b"new content").await;
    subject
        .transfer(&subject.at("d/g"), &subject.at("e"), true)
        .await
        .expect(0);
    for path in ["d/g", "e/g"] {
        let metadata = subject.info(&subject.at(path)).await.data()["metadata"].clone();
        assert_eq!(metadata, json!({"customize:fuse": "1"}), "{path}");
    }
}

async fn a_missing_object_is_reported_and_the_others_are_patched(subject: &Subject) {
    subject.put("f", b"x").await;
    let body = json!({"uris": [subject.at("missing"), subject.at("f")], "patches": [{"key": "customize:a", "value": "1"}]});
    let reply = subject
        .call(reqwest::Method::PATCH, "/file/metadata")
        .json(body)
        .send()
        .await;
    reply.expect_nested(40016);
    assert_eq!(
        subject.info(&subject.at("f")).await.data()["metadata"],
        json!({"customize:a": "1"})
    );
}

async fn the_root_takes_none(subject: &Subject) {
    subject
        .patch(
            "cloudreve://my",
            json!([{"key": "customize:a", "value": "1"}]),
        )
        .await
        .expect_nested(403);
}
