//! What identifies a file and its content, and what changes with what.

use reqwest::Method;
use serde_json::{Value, json};

use crate::runner::{Case, cases};
use crate::subject::{Subject, text};

pub(crate) const CASES: &[Case] = cases![
    an_id_stays_over_rename_and_move,
    an_overwrite_makes_a_new_entity_of_the_same_file,
    a_copy_is_another_file_of_the_same_entity,
    a_file_made_anew_is_another_file,
    all_that_has_no_content_shares_one_entity_id,
    an_empty_overwrite_is_an_entity_of_its_own,
    an_older_version_can_be_made_the_current_one,
    an_older_version_can_be_deleted_and_the_current_cannot,
    the_expected_entity_guards_an_overwrite,
    an_expected_entity_that_is_none_is_40001,
    a_rename_moves_the_time_of_change,
    a_child_does_not_move_the_time_of_its_folder,
    content_without_a_length_becomes_an_empty_version,
];

async fn an_id_stays_over_rename_and_move(subject: &Subject) {
    let put = subject.put("f", b"x").await;
    subject.folders(&["d"]).await;
    let renamed = subject.rename(&subject.at("f"), "g").await.data();
    assert_eq!(
        (&renamed["id"], &renamed["name"]),
        (&put["id"], &json!("g"))
    );
    assert_eq!(
        (&renamed["path"], &renamed["metadata"]),
        (&json!(subject.at("g")), &Value::Null)
    );
    subject
        .transfer(&subject.at("g"), &subject.at("d"), false)
        .await
        .expect(0);
    let moved = subject.info(&subject.at("d/g")).await.data();
    assert_eq!(
        (&moved["id"], &moved["primary_entity"]),
        (&put["id"], &put["primary_entity"])
    );
}

async fn an_overwrite_makes_a_new_entity_of_the_same_file(subject: &Subject) {
    let first = subject.put("f", b"one").await;
    let second = subject.put("f", b"second").await;
    assert_eq!((&second["id"], &second["size"]), (&first["id"], &json!(6)));
    assert_ne!(second["primary_entity"], first["primary_entity"]);
    assert_eq!(second["created_at"], first["created_at"]);
    assert_eq!(subject.read(&subject.at("f")).await, b"second");
}

async fn a_copy_is_another_file_of_the_same_entity(subject: &Subject) {
    let put = subject.put("f", b"content").await;
    subject.folders(&["d"]).await;
    subject
        .transfer(&subject.at("f"), &subject.at("d"), true)
        .await
        .expect(0);
    let copy = subject.info(&subject.at("d/f")).await.data();
    assert_ne!(copy["id"], put["id"]);
    assert_eq!(
        (&copy["primary_entity"], &copy["size"]),
        (&put["primary_entity"], &put["size"])
    );
    subject.put("f", b"changed").await;
    assert_eq!(subject.read(&subject.at("d/f")).await, b"content");
}

async fn a_file_made_anew_is_another_file(subject: &Subject) {
    let old = subject.put("f", b"x").await;
    subject.delete(&[&subject.at("f")], true).await.expect(0);
    let new = subject.put("f", b"x").await;
    assert_ne!(
        (&new["id"], &new["primary_entity"]),
        (&old["id"], &old["primary_entity"])
    );
    assert_ne!(new["id"], old["id"]);
}

async fn all_that_has_no_content_shares_one_entity_id(subject: &Subject) {
    let file = subject.create(&subject.at("f"), "file").await.data();
    let folder = subject.create(&subject.at("d"), "folder").await.data();
    let root = subject.list_page("cloudreve://my", "1", "").await.data()["parent"].clone();
    assert_eq!(file["primary_entity"], folder["primary_entity"]);
    assert_eq!(file["primary_entity"], root["primary_entity"]);
    assert!(!text(&file["primary_entity"]).is_empty());
    assert_eq!(file["size"], 0);
}

async fn an_empty_overwrite_is_an_entity_of_its_own(subject: &Subject) {
    let sentinel =
        subject.create(&subject.at("d"), "folder").await.data()["primary_entity"].clone();
    subject.put("f", b"full").await;
    let emptied = subject.put("f", b"").await;
    assert_eq!(emptied["size"], 0);
    assert_ne!(emptied["primary_entity"], sentinel);
}

async fn set_current(subject: &Subject, uri: &str, version: &Value) -> crate::reply::Reply {
    subject
        .post(
            "/file/version/current",
            json!({"uri": uri, "version": version}),
        )
        .send()
        .await
}

async fn an_older_version_can_be_made_the_current_one(subject: &Subject) {
    let uri = subject.at("f");
    let first = subject.put("f", b"one").await;
    subject.put("f", b"second").await;
    set_current(subject, &uri, &first["primary_entity"])
        .await
        .expect(0);
    let info = subject.info(&uri).await.data();
    assert_eq!(
        (&info["primary_entity"], &info["size"]),
        (&first["primary_entity"], &json!(3))
    );
    assert_eq!(subject.read(&uri).await, b"one");
    set_current(subject, &uri, &json!("!!!!"))
        .await
        .expect(40001);
}

async fn an_older_version_can_be_deleted_and_the_current_cannot(subject: &Subject) {
    let uri = subject.at("f");
    let first = subject.put("f", b"one").await;
    let second = subject.put("f", b"second").await;
    let delete = async |version: &Value| {
        let body = json!({"uri": uri, "version": version});
        subject
            .call(Method::DELETE, "/file/version")
            .json(body)
            .send()
            .await
    };
    delete(&second["primary_entity"]).await.expect(403);
    delete(&first["primary_entity"]).await.expect(0);
    delete(&first["primary_entity"]).await.expect(40077);
    let info = subject.extended_info(&uri).await;
    assert_eq!(
        info["extended_info"]["entities"].as_array().map(Vec::len),
        Some(1),
        "{info}"
    );
}

async fn put_over(subject: &Subject, uri: &str, previous: &str) -> crate::reply::Reply {
    let query = [("uri", uri), ("previous", previous)];
    subject
        .call(Method::PUT, "/file/content")
        .query(&query)
        .body("new")
        .send()
        .await
}

async fn the_expected_entity_guards_an_overwrite(subject: &Subject) {
    let uri = subject.at("f");
    let first = text(&subject.put("f", b"one").await["primary_entity"]);
    let second = text(&subject.put("f", b"second").await["primary_entity"]);
    put_over(subject, &uri, &first).await.expect(40076);
    assert_eq!(subject.read(&uri).await, b"second");
    put_over(subject, &uri, &second).await.expect(0);
    // Of a file that is not there nothing is expected.
    put_over(subject, &subject.at("other"), &second)
        .await
        .expect(0);
}

async fn an_expected_entity_that_is_none_is_40001(subject: &Subject) {
    subject.put("f", b"one").await;
    put_over(subject, &subject.at("f"), "!!!!")
        .await
        .expect(40001);
}

async fn a_rename_moves_the_time_of_change(subject: &Subject) {
    let put = subject.put("f", b"x").await;
    let renamed = subject.rename(&subject.at("f"), "g").await.data();
    assert_ne!(renamed["updated_at"], put["updated_at"]);
    assert_eq!(renamed["created_at"], put["created_at"]);
}

async fn a_child_does_not_move_the_time_of_its_folder(subject: &Subject) {
    let folder = subject.create(&subject.at("d"), "folder").await.data();
    subject.put("d/f", b"x").await;
    subject.delete(&[&subject.at("d/f")], true).await.expect(0);
    assert_eq!(
        subject.info(&subject.at("d")).await.data()["updated_at"],
        folder["updated_at"]
    );
}

async fn content_without_a_length_becomes_an_empty_version(subject: &Subject) {
    let pieces = futures_util::stream::iter([Ok::<_, std::io::Error>("some "), Ok("content")]);
    let request = subject
        .site
        .http
        .put(format!("{}/api/v4/file/content", subject.site.address));
    let request = request
        .query(&[("uri", subject.at("f"))])
        .bearer_auth(subject.site.token());
    let answer = request
        .body(reqwest::Body::wrap_stream(pieces))
        .send()
        .await
        .unwrap();
    let json: Value = answer.json().await.unwrap();
    assert_eq!(
        (&json["code"], &json["data"]["size"]),
        (&json!(0), &json!(0)),
        "{json}"
    );
}
