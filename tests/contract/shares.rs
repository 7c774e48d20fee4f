//! Shares as their visitors see them: what they show, what they count, and how they end.

use std::time::Duration;

use reqwest::Method;
use serde_json::json;

use crate::reply::Reply;
use crate::runner::{Case, cases};
use crate::sharing::{list_anonymously, share, share_info};
use crate::subject::{Subject, entries, names_of, text};

pub(crate) const CASES: &[Case] = cases![
    a_share_is_listed_without_an_account,
    a_share_takes_no_writing,
    a_wrong_password_is_40069_for_the_owner_too,
    the_password_comes_back_in_every_path,
    an_unknown_share_is_404,
    a_share_id_that_is_none_is_refused,
    the_root_of_a_share_has_no_info,
    a_single_file_share_lists_its_file,
    a_shared_file_is_read_without_an_account,
    every_url_counts_as_a_download,
    a_failed_url_counts_as_none,
    every_uri_of_a_batch_counts,
    a_share_of_something_in_the_trash_is_404,
    a_share_follows_its_folder,
    a_removed_share_is_404,
];

pub(crate) const ON_TEST_SERVER: &[Case] = cases![
    an_expired_share_is_404,
    where_anonymous_visitors_may_not_open_shares_it_is_40088,
];

async fn url_anonymously(subject: &Subject, uri: &str) -> Reply {
    subject
        .post("/file/url", json!({"uris": [uri]}))
        .anonymous()
        .send()
        .await
}

async fn a_share_is_listed_without_an_account(subject: &Subject) {
    subject.put("d/sub/f", b"content").await;
    let id = share(subject, &subject.at("d"), json!({})).await;
    let root = format!("cloudreve://{id}@share");
    let listed = list_anonymously(subject, &root).await.data();
    assert_eq!(names_of(&listed), ["sub"]);
    let entry = &entries(&listed)[0];
    assert_eq!(entry["path"], format!("{root}/sub"));
    assert!(entry.get("owned").is_none(), "{entry}");
    assert_eq!(
        (&entry["capability"], &listed["props"]["capability"]),
        (&json!("gIaYAQ=="), &json!("gIaYAQ=="))
    );
    let below = list_anonymously(subject, &format!("{root}/sub"))
        .await
        .data();
    assert_eq!(names_of(&below), ["f"]);
    let info = subject
        .get("/file/info")
        .query(&[("uri", &format!("{root}/sub/f"))])
        .anonymous()
        .send()
        .await
        .data();
    assert_eq!(info["size"], 7);
}

async fn a_share_takes_no_writing(subject: &Subject) {
    subject.put("d/f", b"content").await;
    let root = format!(
        "cloudreve://{}@share",
        share(subject, &subject.at("d"), json!({})).await
    );
    subject
        .create(&format!("{root}/new"), "folder")
        .await
        .expect(403);
    subject.put_at(&format!("{root}/f"), b"x").await.expect(403);
    subject.rename(&format!("{root}/f"), "g").await.expect(403);
    subject
        .delete(&[&format!("{root}/f")], true)
        .await
        .expect_nested(403);
    subject
        .patch(
            &format!("{root}/f"),
            json!([{"key": "customize:a", "value": "1"}]),
        )
        .await
        .expect_nested(403);
}

async fn a_wrong_password_is_40069_for_the_owner_too(subject: &Subject) {
    subject.put("d/f", b"x").await;
    let id = share(
        subject,
        &subject.at("d"),
        json!({"is_private": true, "password": "secret7"}),
    )
    .await;
    for authority in [id.clone(), format!("{id}:wrong")] {
        let root = format!("cloudreve://{authority}@share");
        list_anonymously(subject, &root).await.expect(40069);
        subject.list(&root).await.expect(40069);
        url_anonymously(subject, &format!("{root}/f"))
            .await
            .expect_nested(40069);
    }
}

async fn the_password_comes_back_in_every_path(subject: &Subject) {
    subject.put("d/f", b"x").await;
    let id = share(
        subject,
        &subject.at("d"),
        json!({"is_private": true, "password": "secret7"}),
    )
    .await;
    let root = format!("cloudreve://{id}:secret7@share");
    let listed = list_anonymously(subject, &root).await.data();
    assert_eq!(entries(&listed)[0]["path"], format!("{root}/f"));
}

async fn an_unknown_share_is_404(subject: &Subject) {
    subject.put("d/f", b"x").await;
    let id = share(subject, &subject.at("d"), json!({})).await;
    remove_share(subject, &id).await;
    list_anonymously(subject, &format!("cloudreve://{id}@share"))
        .await
        .expect(404);
    share_info(subject, &id, "").await.expect(404);
}

async fn a_share_id_that_is_none_is_refused(subject: &Subject) {
    share_info(subject, "no-such-id", "").await.expect(40001);
    let code = list_anonymously(subject, "cloudreve://no-such-id@share")
        .await
        .code();
    assert!(matches!(code, 404 | 40016), "{code}");
}

async fn the_root_of_a_share_has_no_info(subject: &Subject) {
    subject.put("d/f", b"x").await;
    let root = format!(
        "cloudreve://{}@share",
        share(subject, &subject.at("d"), json!({})).await
    );
    subject.info(&root).await.expect(403);
    let parent = subject.list(&root).await.data()["parent"].clone();
    assert_eq!(parent["type"], 1, "{parent}");
}

async fn a_single_file_share_lists_its_file(subject: &Subject) {
    subject.put("f%23g", b"content").await;
    let root = format!(
        "cloudreve://{}@share",
        share(subject, &subject.at("f%23g"), json!({})).await
    );
    let listed = list_anonymously(subject, &root).await.data();
    assert_eq!(
        (names_of(&listed), &listed["single_file_view"]),
        (vec!["f#g".to_owned()], &json!(true))
    );
    assert_eq!(entries(&listed)[0]["path"], format!("{root}/f%23g"));
}

async fn a_shared_file_is_read_without_an_account(subject: &Subject) {
    subject.put("d/f", b"content").await;
    let root = format!(
        "cloudreve://{}@share",
        share(subject, &subject.at("d"), json!({})).await
    );
    let data = url_anonymously(subject, &format!("{root}/f")).await.data();
    let url = subject.rebased(data["urls"][0]["url"].as_str().unwrap());
    assert_eq!(
        subject.fetch(&url).send().await.expect_status(200).text(),
        "content"
    );
}

async fn every_url_counts_as_a_download(subject: &Subject) {
    subject.put("d/f", b"content").await;
    let id = share(subject, &subject.at("d"), json!({"downloads": 2})).await;
    let uri = format!("cloudreve://{id}@share/f");
    assert_eq!(
        share_info(subject, &id, "").await.data()["remain_downloads"],
        2
    );
    let one = url_anonymously(subject, &uri).await.data()["urls"].clone();
    assert_eq!(
        share_info(subject, &id, "").await.data()["remain_downloads"],
        1
    );
    let two = subject.urls(&[&uri], json!({})).await.data()["urls"].clone();
    assert_eq!(
        one, two,
        "the owner too pays for a URL that was given before"
    );
    url_anonymously(subject, &uri).await.expect_nested(404);
    list_anonymously(subject, &format!("cloudreve://{id}@share"))
        .await
        .expect(404);
    share_info(subject, &id, "").await.expect(404);
    let url = subject.rebased(one[0]["url"].as_str().unwrap());
    assert_eq!(
        subject.fetch(&url).send().await.text(),
        "content",
        "a URL outlives its share"
    );
}

async fn a_failed_url_counts_as_none(subject: &Subject) {
    subject.put("d/f", b"content").await;
    let id = share(subject, &subject.at("d"), json!({"downloads": 1})).await;
    url_anonymously(subject, &format!("cloudreve://{id}@share/missing"))
        .await
        .expect_nested(40016);
    url_anonymously(subject, &format!("cloudreve://{id}@share/f"))
        .await
        .expect(0);
}

async fn every_uri_of_a_batch_counts(subject: &Subject) {
    subject.put("d/f", b"content").await;
    let id = share(subject, &subject.at("d"), json!({"downloads": 5})).await;
    let uri = format!("cloudreve://{id}@share/f");
    subject.urls(&[&uri, &uri, &uri], json!({})).await.expect(0);
    assert_eq!(
        share_info(subject, &id, "").await.data()["remain_downloads"],
        2
    );
}

async fn a_share_of_something_in_the_trash_is_404(subject: &Subject) {
    subject.put("above/d/f", b"x").await;
    let root = format!(
        "cloudreve://{}@share",
        share(subject, &subject.at("above/d"), json!({})).await
    );
    let above = subject.info(&subject.at("above")).await.data();
    subject
        .delete(&[&subject.at("above")], false)
        .await
        .expect(0);
    list_anonymously(subject, &root).await.expect(404);
    let place = crate::trash::place_of(subject, &above).await;
    subject
        .post("/file/restore", json!({"uris": [place]}))
        .send()
        .await
        .expect(0);
    list_anonymously(subject, &root).await.expect(0);
}

async fn a_share_follows_its_folder(subject: &Subject) {
    subject.put("d/f", b"x").await;
    subject.folders(&["e"]).await;
    let id = share(subject, &subject.at("d"), json!({})).await;
    subject
        .transfer(&subject.at("d"), &subject.at("e"), false)
        .await
        .expect(0);
    subject.rename(&subject.at("e/d"), "g").await.expect(0);
    assert_eq!(share_info(subject, &id, "").await.data()["name"], "g");
    list_anonymously(subject, &format!("cloudreve://{id}@share/f"))
        .await
        .expect(40016);
    assert_eq!(
        names_of(
            &list_anonymously(subject, &format!("cloudreve://{id}@share"))
                .await
                .data()
        ),
        ["f"]
    );
}

async fn remove_share(subject: &Subject, id: &str) {
    subject
        .call(Method::DELETE, &format!("/share/{id}"))
        .send()
        .await
        .expect(0);
}

async fn a_removed_share_is_404(subject: &Subject) {
    subject.put("d/f", b"x").await;
    let id = share(subject, &subject.at("d"), json!({})).await;
    remove_share(subject, &id).await;
    url_anonymously(subject, &format!("cloudreve://{id}@share/f"))
        .await
        .expect_nested(404);
}

async fn an_expired_share_is_404(subject: &Subject) {
    subject.put("d/f", b"x").await;
    let id = share(subject, &subject.at("d"), json!({"expire": 60})).await;
    let info = share_info(subject, &id, "").await.data();
    assert!(
        text(&info["expires"]).contains('T') && info["expired"] == false,
        "{info}"
    );
    subject.site.server().advance_clock(Duration::from_secs(61));
    share_info(subject, &id, "").await.expect(404);
    list_anonymously(subject, &format!("cloudreve://{id}@share"))
        .await
        .expect(404);
    url_anonymously(subject, &format!("cloudreve://{id}@share/f"))
        .await
        .expect_nested(404);
}

async fn where_anonymous_visitors_may_not_open_shares_it_is_40088(subject: &Subject) {
    subject.put("d/f", b"x").await;
    let root = format!(
        "cloudreve://{}@share",
        share(subject, &subject.at("d"), json!({})).await
    );
    subject
        .site
        .server()
        .configure(|settings| settings.anonymous_may_open_shares = false);
    list_anonymously(subject, &root).await.expect(40088);
    url_anonymously(subject, &format!("{root}/f"))
        .await
        .expect_nested(40088);
    subject.list(&root).await.expect(0);
}
