//! The roots of the four file systems, and what is asked of them as of any folder.

use reqwest::Method;
use serde_json::json;

use crate::reply::Reply;
use crate::runner::{Case, cases};
use crate::sharing::share;
use crate::subject::Subject;

pub(crate) const CASES: &[Case] = cases![
    a_root_can_be_listed_and_has_no_info,
    a_root_has_no_content,
    nothing_can_be_written_outside_of_the_own_drive,
    what_a_file_system_cannot_do_is_403_before_all_else,
    a_name_that_is_not_there_is_40016_in_each,
    a_share_without_an_id_is_404,
];

/// The roots of drive, trash, shared_with_me and of a share.
async fn roots(subject: &Subject) -> [String; 4] {
    subject.put("d/f", b"x").await;
    let id = share(subject, &subject.at("d"), json!({})).await;
    let root = |fs: &str| format!("cloudreve://{fs}");
    [
        root("my"),
        root("trash"),
        root("shared_with_me"),
        root(&format!("{id}@share")),
    ]
}

async fn thumb(subject: &Subject, uri: &str) -> Reply {
    subject
        .get("/file/thumb")
        .query(&[("uri", uri)])
        .send()
        .await
}

async fn a_root_can_be_listed_and_has_no_info(subject: &Subject) {
    for root in roots(subject).await {
        subject.list_page(&root, "1", "").await.expect(0);
        subject
            .list_page(&format!("{root}/"), "1", "")
            .await
            .expect(0);
        subject.info(&root).await.expect(403);
        let query = [
            ("uri", root.as_str()),
            ("extended", "true"),
            ("folder_summary", "true"),
        ];
        subject
            .get("/file/info")
            .query(&query)
            .send()
            .await
            .expect(403);
    }
}

async fn a_root_has_no_content(subject: &Subject) {
    let [my, trash, shared_with_me, share] = roots(subject).await;
    for root in [my, shared_with_me, share] {
        subject.urls(&[&root], json!({})).await.expect_nested(40077);
        thumb(subject, &root).await.expect(40077);
    }
    subject.urls(&[&trash], json!({})).await.expect_nested(403);
    thumb(subject, &trash).await.expect(-1);
}

async fn nothing_can_be_written_outside_of_the_own_drive(subject: &Subject) {
    let [_, trash, shared_with_me, share] = roots(subject).await;
    for root in [trash, shared_with_me, share] {
        let below = format!("{root}/new");
        for uri in [&root, &below] {
            subject.create(uri, "folder").await.expect(403);
            subject.put_at(uri, b"x").await.expect(403);
            let session = json!({"uri": uri, "size": 1});
            subject
                .call(Method::PUT, "/file/upload")
                .json(session)
                .send()
                .await
                .expect(403);
            subject.rename(uri, "other").await.expect(403);
            subject
                .patch(uri, json!([{"key": "customize:a", "value": "1"}]))
                .await
                .expect_nested(403);
            subject
                .call(Method::PUT, "/share")
                .json(json!({"uri": uri}))
                .send()
                .await
                .expect(403);
        }
    }
}

/// Before the object is looked for, before a share is, and before anybody asks who asks.
async fn what_a_file_system_cannot_do_is_403_before_all_else(subject: &Subject) {
    let [_, trash, shared_with_me, share] = roots(subject).await;
    for root in [&trash, &shared_with_me, &share, "cloudreve://none@share"] {
        let uri = format!("{root}/9c2d0d8e-0000-4000-8000-000000000000");
        let body = json!({"uri": uri, "type": "file", "new_name": "x", "size": 1});
        for path in ["/file/create", "/file/rename"] {
            subject
                .post(path, body.clone())
                .anonymous()
                .send()
                .await
                .expect(403);
        }
        let put = subject
            .call(Method::PUT, "/file/content")
            .query(&[("uri", &uri)]);
        put.body("x").anonymous().send().await.expect(403);
        subject
            .call(Method::PUT, "/share")
            .json(body)
            .anonymous()
            .send()
            .await
            .expect(401);
        let soft = json!({"uris": [uri]});
        subject
            .call(Method::DELETE, "/file")
            .json(soft)
            .anonymous()
            .send()
            .await
            .expect_nested(403);
    }
    let missing = format!("{trash}/9c2d0d8e-0000-4000-8000-000000000000");
    subject
        .post("/file/url", json!({"uris": [missing]}))
        .anonymous()
        .send()
        .await
        .expect_nested(403);
    subject.delete(&[&missing], true).await.expect_nested(40016);
    subject
        .delete(&[&format!("{share}/missing")], true)
        .await
        .expect_nested(403);
    subject
        .transfer(&missing, &subject.at(""), true)
        .await
        .expect_nested(403);
    subject
        .transfer(&missing, &subject.at(""), false)
        .await
        .expect_nested(40016);
    subject
        .post("/file/restore", json!({"uris": [subject.at("d")]}))
        .send()
        .await
        .expect_nested(403);
}

async fn a_name_that_is_not_there_is_40016_in_each(subject: &Subject) {
    for root in roots(subject).await {
        let uri = format!("{root}/9c2d0d8e-0000-4000-8000-000000000000");
        subject.info(&uri).await.expect(40016);
        subject.list(&uri).await.expect(40016);
        thumb(subject, &uri).await.expect(40016);
    }
}

async fn a_share_without_an_id_is_404(subject: &Subject) {
    for root in ["cloudreve://share", "cloudreve://@share"] {
        subject.list(root).await.expect(404);
        subject.info(&format!("{root}/f")).await.expect(404);
    }
}
