//! The trash: what lies there, under which names, and how it comes back.

use reqwest::Method;
use serde_json::{Value, json};

use crate::reply::Reply;
use crate::runner::{Case, cases};
use crate::subject::{Subject, entries, text};

pub(crate) const CASES: &[Case] = cases![
    an_entry_shows_its_old_name_and_a_uuid_as_its_path,
    a_name_is_free_at_once,
    an_entry_comes_back_to_where_it_was,
    an_entry_does_not_come_back_over_a_taken_name,
    an_entry_does_not_come_back_without_its_folder,
    an_entry_can_be_moved_out_elsewhere,
    an_entry_is_deleted_for_good_only_by_that_word,
    a_folder_in_the_trash_cannot_be_entered,
    nothing_in_the_trash_can_be_renamed,
    the_trash_itself_is_a_folder_without_a_name,
];

/// The entry of the trash that was this file.
async fn entry_of(subject: &Subject, file: &Value) -> Value {
    let listed = subject
        .list_page("cloudreve://trash", "2000", "")
        .await
        .data();
    let found = entries(&listed)
        .iter()
        .find(|entry| entry["id"] == file["id"]);
    found
        .unwrap_or_else(|| panic!("{} is not in the trash: {listed}", file["id"]))
        .clone()
}

/// The URI in the trash of what was this file.
pub(crate) async fn place_of(subject: &Subject, file: &Value) -> String {
    text(&entry_of(subject, file).await["path"])
}

async fn restore(subject: &Subject, place: &str) -> Reply {
    subject
        .post("/file/restore", json!({"uris": [place]}))
        .send()
        .await
}

/// A file that lies in the trash, and its URI there.
async fn trashed(subject: &Subject, path: &str) -> (Value, String) {
    let put = subject.put(path, b"content").await;
    subject.delete(&[&subject.at(path)], false).await.expect(0);
    let place = place_of(subject, &put).await;
    (put, place)
}

async fn an_entry_shows_its_old_name_and_a_uuid_as_its_path(subject: &Subject) {
    let (put, place) = trashed(subject, "d/f%20g").await;
    let uuid = place
        .strip_prefix("cloudreve://trash/")
        .unwrap_or_else(|| panic!("{place}"));
    assert_eq!(uuid.len(), 36, "{place}");
    let entry = entry_of(subject, &put).await;
    assert_eq!(
        (&entry["name"], &entry["size"], &entry["id"]),
        (&json!("f g"), &json!(7), &put["id"])
    );
    assert_eq!(entry["primary_entity"], put["primary_entity"]);
    assert_eq!(entry["metadata"]["sys:restore_uri"], subject.at("d/f%20g"));
    assert!(
        text(&entry["metadata"]["sys:expected_collect_time"])
            .parse::<u64>()
            .is_ok(),
        "{entry}"
    );
    assert_eq!(entry["capability"], "AMIK");
    let info = subject.info(&place).await.data();
    assert_eq!(info["name"], "f g");
    assert!(
        info.get("capability").is_none(),
        "only the listing tells it: {info}"
    );
}

async fn a_name_is_free_at_once(subject: &Subject) {
    let (put, _) = trashed(subject, "f").await;
    subject.info(&subject.at("f")).await.expect(40016);
    assert_ne!(subject.put("f", b"new").await["id"], put["id"]);
}

async fn an_entry_comes_back_to_where_it_was(subject: &Subject) {
    let (put, place) = trashed(subject, "d/f").await;
    restore(subject, &place).await.expect(0);
    let back = subject.info(&subject.at("d/f")).await.data();
    assert_eq!(
        (&back["id"], &back["primary_entity"]),
        (&put["id"], &put["primary_entity"])
    );
    assert_eq!(back["metadata"], json!({}));
    restore(subject, &place).await.expect_nested(40016);
}

async fn an_entry_does_not_come_back_over_a_taken_name(subject: &Subject) {
    let (_, place) = trashed(subject, "f").await;
    subject.put("f", b"new").await;
    restore(subject, &place).await.expect_nested(40004);
}

async fn an_entry_does_not_come_back_without_its_folder(subject: &Subject) {
    let (_, place) = trashed(subject, "d/f").await;
    subject.delete(&[&subject.at("d")], true).await.expect(0);
    restore(subject, &place).await.expect_nested(40016);
}

async fn an_entry_can_be_moved_out_elsewhere(subject: &Subject) {
    let (put, place) = trashed(subject, "d/f").await;
    subject.folders(&["e"]).await;
    subject
        .transfer(&place, &subject.at("e"), false)
        .await
        .expect(0);
    assert_eq!(
        subject.info(&subject.at("e/f")).await.data()["id"],
        put["id"]
    );
}

async fn an_entry_is_deleted_for_good_only_by_that_word(subject: &Subject) {
    let (_, place) = trashed(subject, "f").await;
    subject.delete(&[&place], false).await.expect_nested(403);
    subject.delete(&[&place], true).await.expect(0);
    subject.info(&place).await.expect(40016);
}

async fn a_folder_in_the_trash_cannot_be_entered(subject: &Subject) {
    let folder = subject.create(&subject.at("d"), "folder").await.data();
    subject.put("d/f", b"x").await;
    subject.delete(&[&subject.at("d")], false).await.expect(0);
    let place = place_of(subject, &folder).await;
    subject.list(&place).await.expect(40016);
    subject.info(&format!("{place}/f")).await.expect(40016);
}

async fn nothing_in_the_trash_can_be_renamed(subject: &Subject) {
    let (_, place) = trashed(subject, "f").await;
    subject.rename(&place, "g").await.expect(403);
    subject
        .call(Method::PUT, "/file/content")
        .query(&[("uri", &place)])
        .body("x")
        .send()
        .await
        .expect(403);
    subject
        .create("cloudreve://trash/new", "folder")
        .await
        .expect(403);
}

async fn the_trash_itself_is_a_folder_without_a_name(subject: &Subject) {
    let listed = subject.list_page("cloudreve://trash", "1", "").await.data();
    let parent = &listed["parent"];
    assert_eq!(
        (&parent["id"], &parent["name"]),
        (&json!(""), &json!("")),
        "{listed}"
    );
    assert_eq!(parent["created_at"], "0001-01-01T00:00:00Z");
    assert_eq!(listed["props"]["capability"], "AMIK");
    subject
        .get("/file")
        .query(&[("uri", "cloudreve://trash")])
        .anonymous()
        .send()
        .await
        .expect(401);
}
