//! What each kind of object answers to a listing, to info and to the question for its content.
//!
//! One code stands for many situations; this table is what a client may conclude from which.

use reqwest::Method;
use serde_json::json;

use crate::runner::{Case, cases};
use crate::sharing::share;
use crate::subject::{Subject, entries, names_of, text};
use crate::trash::place_of;

pub(crate) const CASES: &[Case] = cases![
    each_kind_in_a_drive_has_its_answers,
    each_kind_in_the_trash_has_its_answers,
    each_kind_in_a_share_has_its_answers,
    a_single_shared_file_lists_itself,
    a_shortcut_to_a_file_reads_as_an_empty_file,
];

/// Expects these codes of list, info and URL; that of the URL is the nested one.
async fn check(subject: &Subject, what: &str, uri: &str, codes: [i64; 3]) {
    let list = subject.list(uri).await.code();
    let info = subject.info(uri).await.code();
    let reply = subject.urls(&[uri], json!({})).await;
    let url = if reply.code() == 40081 {
        reply.nested()["code"].as_i64().unwrap()
    } else {
        reply.code()
    };
    assert_eq!(
        [list, info, url],
        codes,
        "{what}: list, info and url of {uri}"
    );
}

async fn make_shortcut(subject: &Subject, path: &str, kind: &str, target: &str) {
    let metadata = json!({"sys:shared_redirect": target});
    let body = json!({"uri": subject.at(path), "type": kind, "metadata": metadata});
    subject.post("/file/create", body).send().await.expect(0);
}

async fn each_kind_in_a_drive_has_its_answers(subject: &Subject) {
    subject.put("d/f", b"x").await;
    subject.put("f", b"x").await;
    subject.create(&subject.at("empty"), "file").await.expect(0);
    let target = format!(
        "cloudreve://{}@share",
        share(subject, &subject.at("d"), json!({})).await
    );
    make_shortcut(subject, "to-folder", "folder", &target).await;
    make_shortcut(subject, "to-file", "file", &target).await;
    let session = json!({"uri": subject.at("placeholder"), "size": 3});
    subject
        .call(Method::PUT, "/file/upload")
        .json(session)
        .send()
        .await
        .expect(0);
    for (path, codes) in [
        ("f", [40016, 0, 0]),
        ("empty", [40016, 0, 0]),
        ("placeholder", [40016, 0, 0]),
        ("d", [0, 0, 40077]),
        ("missing", [40016, 40016, 40016]),
        ("missing/below", [40016, 40016, 40016]),
        ("f/below", [40016, 40016, 40016]),
        ("placeholder/below", [40016, 40016, 40016]),
        ("to-folder", [403, 0, 40077]),
        ("to-folder/f", [403, 403, 403]),
        ("to-file", [40016, 0, 0]),
        ("to-file/below", [403, 403, 403]),
    ] {
        check(subject, path, &subject.at(path), codes).await;
    }
}

async fn each_kind_in_the_trash_has_its_answers(subject: &Subject) {
    let file = subject.put("f", b"x").await;
    let folder = subject.create(&subject.at("d"), "folder").await.data();
    subject.put("d/f", b"x").await;
    subject
        .delete(&[&subject.at("f"), &subject.at("d")], false)
        .await
        .expect(0);
    let (file, folder) = (
        place_of(subject, &file).await,
        place_of(subject, &folder).await,
    );
    check(subject, "file", &file, [40016, 0, 403]).await;
    check(subject, "folder", &folder, [40016, 0, 403]).await;
    check(
        subject,
        "below the file",
        &format!("{file}/x"),
        [40016, 40016, 403],
    )
    .await;
    check(
        subject,
        "in the folder",
        &format!("{folder}/f"),
        [40016, 40016, 403],
    )
    .await;
}

async fn each_kind_in_a_share_has_its_answers(subject: &Subject) {
    subject.put("d/f", b"x").await;
    subject.folders(&["d/e"]).await;
    let root = format!(
        "cloudreve://{}@share",
        share(subject, &subject.at("d"), json!({})).await
    );
    for (path, codes) in [
        ("f", [40016, 0, 0]),
        ("e", [0, 0, 40077]),
        ("missing", [40016, 40016, 40016]),
        ("f/below", [40016, 40016, 40016]),
    ] {
        check(subject, path, &format!("{root}/{path}"), codes).await;
    }
}

/// Unlike any other file: who takes what can be listed for a folder is mistaken here.
async fn a_single_shared_file_lists_itself(subject: &Subject) {
    subject.put("f", b"x").await;
    let root = format!(
        "cloudreve://{}@share",
        share(subject, &subject.at("f"), json!({})).await
    );
    check(subject, "the file", &format!("{root}/f"), [0, 0, 0]).await;
    check(
        subject,
        "another name",
        &format!("{root}/g"),
        [40016, 40016, 40016],
    )
    .await;
    check(subject, "the root", &root, [0, 403, 40077]).await;
    let listed = subject.list(&format!("{root}/f")).await.data();
    assert_eq!(
        (names_of(&listed), &listed["single_file_view"]),
        (vec!["f".to_owned()], &json!(true))
    );
    assert_eq!(
        listed["pagination"],
        json!({"page": 0, "page_size": 0}),
        "neither cursor nor total"
    );
    assert_eq!(listed["parent"]["id"], entries(&listed)[0]["id"]);
    let listed = subject.list(&root).await.data();
    assert_eq!(
        (&listed["parent"]["type"], &listed["parent"]["name"]),
        (&json!(1), &json!(subject.folder_name()))
    );
    assert_eq!(entries(&listed)[0]["path"], format!("{root}/f"));
}

async fn a_shortcut_to_a_file_reads_as_an_empty_file(subject: &Subject) {
    subject.put("f", b"content").await;
    let target = format!(
        "cloudreve://{}@share",
        share(subject, &subject.at("f"), json!({})).await
    );
    make_shortcut(subject, "to-file", "file", &target).await;
    let info = subject.info(&subject.at("to-file")).await.data();
    assert_eq!(
        (&info["type"], &info["size"]),
        (&json!(0), &json!(0)),
        "{info}"
    );
    assert_eq!(text(&info["metadata"]["sys:shared_redirect"]), target);
    assert!(subject.read(&subject.at("to-file")).await.is_empty());
}
