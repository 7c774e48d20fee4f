//! What `/file/info` tells, and of what.

use serde_json::{Value, json};

use crate::runner::{Case, cases};
use crate::subject::{Subject, text};

pub(crate) const CASES: &[Case] = cases![
    a_file_is_found_by_uri_and_by_id,
    a_uri_goes_before_an_id,
    the_root_is_refused_by_uri_and_by_id,
    a_missing_path_is_40016,
    a_path_below_a_file_is_40016,
    neither_uri_nor_id_is_40001,
    an_id_that_is_none_is_40001,
    the_id_of_something_deleted_is_minus_one,
    the_id_of_something_in_the_trash_tells_its_place_there,
    the_id_of_something_within_the_trash_is_40016,
    an_id_finds_what_was_moved,
    extended_info_lists_the_versions,
    extended_info_of_a_folder_has_no_versions,
    a_share_shows_only_where_it_is_asked_for,
    a_folder_summary_counts_all_below,
    a_summary_is_absent_unless_asked_for,
    times_are_rfc_3339,
];

async fn by_id(subject: &Subject, id: &Value) -> crate::reply::Reply {
    subject
        .get("/file/info")
        .query(&[("id", id.as_str().unwrap())])
        .send()
        .await
}

async fn a_file_is_found_by_uri_and_by_id(subject: &Subject) {
    let put = subject.put("d/f", b"content").await;
    let info = subject.info(&subject.at("d/f")).await.data();
    assert_eq!(
        (&info["id"], &info["size"], &info["type"]),
        (&put["id"], &json!(7), &json!(0))
    );
    let info = by_id(subject, &put["id"]).await.data();
    assert_eq!(info["path"], subject.at("d/f"));
}

async fn a_uri_goes_before_an_id(subject: &Subject) {
    let one = subject.put("one", b"1").await;
    let two = subject.put("two", b"22").await;
    let query = [
        ("uri", one["path"].as_str().unwrap()),
        ("id", two["id"].as_str().unwrap()),
    ];
    assert_eq!(
        subject.get("/file/info").query(&query).send().await.data()["id"],
        one["id"]
    );
}

async fn the_root_is_refused_by_uri_and_by_id(subject: &Subject) {
    subject.info("cloudreve://my").await.expect(403);
    let root = subject.list_page("cloudreve://my", "1", "").await.data()["parent"]["id"].clone();
    by_id(subject, &root).await.expect(403);
}

async fn a_missing_path_is_40016(subject: &Subject) {
    subject.info(&subject.at("missing")).await.expect(40016);
    subject
        .info(&subject.at("missing/below"))
        .await
        .expect(40016);
}

async fn a_path_below_a_file_is_40016(subject: &Subject) {
    subject.put("f", b"x").await;
    subject.info(&subject.at("f/below")).await.expect(40016);
}

async fn neither_uri_nor_id_is_40001(subject: &Subject) {
    subject.get("/file/info").send().await.expect(40001);
}

async fn an_id_that_is_none_is_40001(subject: &Subject) {
    by_id(subject, &json!("!!!!")).await.expect(40001);
    let user = subject.get("/user/me").send().await.data()["id"].clone();
    by_id(subject, &user).await.expect(40001);
}

async fn the_id_of_something_deleted_is_minus_one(subject: &Subject) {
    let put = subject.put("f", b"x").await;
    subject.delete(&[&subject.at("f")], true).await.expect(0);
    by_id(subject, &put["id"]).await.expect(-1);
}

async fn the_id_of_something_in_the_trash_tells_its_place_there(subject: &Subject) {
    let put = subject.put("f", b"x").await;
    subject.delete(&[&subject.at("f")], false).await.expect(0);
    let info = by_id(subject, &put["id"]).await.data();
    assert!(
        text(&info["path"]).starts_with("cloudreve://trash/"),
        "{info}"
    );
    assert_eq!(
        info["metadata"]["sys:restore_uri"],
        subject.at("f"),
        "{info}"
    );
    assert!(info.get("capability").is_none(), "{info}");
}

async fn the_id_of_something_within_the_trash_is_40016(subject: &Subject) {
    let put = subject.put("d/f", b"x").await;
    subject.delete(&[&subject.at("d")], false).await.expect(0);
    by_id(subject, &put["id"]).await.expect(40016);
}

async fn an_id_finds_what_was_moved(subject: &Subject) {
    let put = subject.put("f", b"x").await;
    subject.folders(&["d"]).await;
    subject
        .transfer(&subject.at("f"), &subject.at("d"), false)
        .await
        .expect(0);
    subject.rename(&subject.at("d/f"), "g").await.expect(0);
    assert_eq!(
        by_id(subject, &put["id"]).await.data()["path"],
        subject.at("d/g")
    );
}

async fn extended_info_lists_the_versions(subject: &Subject) {
    let first = subject.put("f.dat", b"one").await;
    let second = subject.put("f.dat", b"second").await;
    let info = subject.extended_info(&subject.at("f.dat")).await;
    let entities = info["extended_info"]["entities"].as_array().unwrap();
    let seen: Vec<_> = entities
        .iter()
        .map(|entity| (&entity["id"], &entity["size"], &entity["type"]))
        .collect();
    let expected = [
        (&second["primary_entity"], &json!(6), &json!(0)),
        (&first["primary_entity"], &json!(3), &json!(0)),
    ];
    assert_eq!(seen, expected, "newest first");
    assert_eq!(info["extended_info"]["storage_used"], 9);
    assert!(
        info["extended_info"]["storage_policy"]["id"].is_string(),
        "{info}"
    );
    assert!(
        entities[0]["created_at"].is_string() && entities[0]["created_by"]["id"].is_string(),
        "{info}"
    );
    assert!(
        subject
            .info(&subject.at("f.dat"))
            .await
            .data()
            .get("extended_info")
            .is_none()
    );
}

async fn extended_info_of_a_folder_has_no_versions(subject: &Subject) {
    subject.folders(&["d"]).await;
    let info = subject.extended_info(&subject.at("d")).await;
    assert!(info["extended_info"].get("entities").is_none(), "{info}");
    assert_eq!(info["extended_info"]["storage_used"], 0);
}

async fn a_share_shows_only_where_it_is_asked_for(subject: &Subject) {
    subject.put("d/f", b"x").await;
    crate::sharing::share(subject, &subject.at("d"), json!({})).await;
    assert!(
        subject
            .info(&subject.at("d"))
            .await
            .data()
            .get("shared")
            .is_none()
    );
    assert_eq!(
        subject.extended_info(&subject.at("d")).await["shared"],
        true
    );
    let listed = subject.list(&subject.at("")).await.data();
    assert_eq!(listed["files"][0]["shared"], true, "{listed}");
}

async fn a_folder_summary_counts_all_below(subject: &Subject) {
    subject.put("d/f", b"four").await;
    subject.put("d/e/g", b"three").await;
    subject.put("d/e/g", b"two").await;
    let uri = subject.at("d");
    let query = [("uri", uri.as_str()), ("folder_summary", "true")];
    let summary =
        subject.get("/file/info").query(&query).send().await.data()["folder_summary"].clone();
    // The sizes are those of all versions.
    let counted = (
        &summary["size"],
        &summary["files"],
        &summary["folders"],
        &summary["completed"],
    );
    assert_eq!(
        counted,
        (&json!(4 + 5 + 3), &json!(2), &json!(1), &json!(true)),
        "{summary}"
    );
    assert!(summary["calculated_at"].is_string(), "{summary}");
}

async fn a_summary_is_absent_unless_asked_for(subject: &Subject) {
    subject.folders(&["d"]).await;
    let info = subject.info(&subject.at("d")).await.data();
    assert!(
        info.get("folder_summary").is_none() && info.get("extended_info").is_none(),
        "{info}"
    );
}

async fn times_are_rfc_3339(subject: &Subject) {
    let put = subject.put("f", b"x").await;
    for field in ["created_at", "updated_at"] {
        let time = text(&put[field]);
        let (date, clock) = time.split_once('T').unwrap_or_else(|| panic!("{time}"));
        assert_eq!(
            (date.len(), &clock[2..3], &clock[5..6]),
            (10, ":", ":"),
            "{time}"
        );
        assert!(
            clock.ends_with('Z') || clock[8..].contains(['+', '-']),
            "{time}"
        );
    }
}
