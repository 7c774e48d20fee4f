//! Content URLs: how one comes by them, and how long they are good for.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use crate::runner::{Case, cases};
use crate::subject::{Subject, text};

pub(crate) const CASES: &[Case] = cases![
    a_url_expires_an_hour_from_now,
    the_same_url_is_given_twice,
    another_content_has_another_url,
    urls_come_in_the_order_of_the_uris,
    no_uris_are_no_urls,
    a_missing_file_fails_the_call,
    a_missing_file_is_an_empty_url_where_errors_are_skipped,
    a_folder_has_no_url,
    a_file_in_the_trash_has_no_url,
    an_entity_of_the_file_can_be_asked_for,
    an_entity_of_another_file_is_refused,
    an_older_version_is_still_served_under_its_url,
    a_url_outlives_the_rename_and_the_trash,
    a_deleted_file_is_40077_under_its_url,
    a_url_can_be_a_redirect,
    an_ugly_name_has_a_url_that_works,
    a_url_spells_a_name_otherwise_than_a_uri_does,
];

pub(crate) const ON_TEST_SERVER: &[Case] = cases![
    an_expired_url_is_40005_under_http_200,
    the_same_url_is_given_until_ten_minutes_before_its_end,
    without_retention_a_replaced_version_is_gone_at_once,
    a_site_that_knows_itself_by_another_name_gives_urls_there,
];

async fn a_url_expires_an_hour_from_now(subject: &Subject) {
    subject.put("f", b"x").await;
    let reply = subject.urls(&[&subject.at("f")], json!({})).await;
    let now = httpdate::parse_http_date(reply.header("date").unwrap()).unwrap();
    let now = now.duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let data = reply.data();
    let url = text(&data["urls"][0]["url"]);
    let (path, sign) = url.split_once("?sign=").unwrap_or_else(|| panic!("{url}"));
    assert!(
        path.contains("/api/v4/file/content/") && path.ends_with("/0/f"),
        "{url}"
    );
    let expiry: u64 = sign.split_once("%3A").unwrap().1.parse().unwrap();
    assert!(
        (now + 3590..=now + 3601).contains(&expiry),
        "{url} at {now}"
    );
    assert!(text(&data["expires"]).contains('T'), "{data}");
}

async fn the_same_url_is_given_twice(subject: &Subject) {
    subject.put("f", b"x").await;
    let one = subject.urls(&[&subject.at("f")], json!({})).await.data();
    let two = subject.urls(&[&subject.at("f")], json!({})).await.data();
    assert_eq!(one["urls"], two["urls"]);
    assert_eq!(text(&one["expires"]), text(&two["expires"]));
}

async fn another_content_has_another_url(subject: &Subject) {
    subject.put("f", b"one").await;
    let one = subject.url(&subject.at("f")).await;
    subject.put("f", b"two").await;
    let two = subject.url(&subject.at("f")).await;
    assert_ne!(one, two);
    assert_eq!(subject.fetch(&two).send().await.body, b"two");
}

async fn urls_come_in_the_order_of_the_uris(subject: &Subject) {
    for name in ["a", "b", "c"] {
        subject.put(name, name.as_bytes()).await;
    }
    let uris = ["c", "a", "b", "a"].map(|name| subject.at(name));
    let data = subject
        .urls(&uris.each_ref().map(String::as_str), json!({}))
        .await
        .data();
    let urls = data["urls"].as_array().unwrap();
    assert_eq!(urls.len(), 4);
    for (url, content) in urls.iter().zip(["c", "a", "b", "a"]) {
        let url = subject.rebased(url["url"].as_str().unwrap());
        assert_eq!(subject.fetch(&url).send().await.text(), content);
    }
}

async fn no_uris_are_no_urls(subject: &Subject) {
    assert_eq!(
        subject.urls(&[], json!({})).await.data(),
        json!({"urls": [], "expires": null})
    );
    subject
        .post("/file/url", json!({}))
        .send()
        .await
        .expect(40001);
}

async fn a_missing_file_fails_the_call(subject: &Subject) {
    subject.put("f", b"x").await;
    let uris = [subject.at("f"), subject.at("missing")];
    let reply = subject.urls(&[&uris[0], &uris[1]], json!({})).await;
    reply.expect_nested(40016);
    assert!(reply.json().get("data").is_none(), "{reply:?}");
}

async fn a_missing_file_is_an_empty_url_where_errors_are_skipped(subject: &Subject) {
    subject.put("f", b"x").await;
    let uris = [subject.at("missing"), subject.at("f")];
    let data = subject
        .urls(&[&uris[0], &uris[1]], json!({"skip_error": true}))
        .await
        .data();
    assert_eq!(data["urls"][0]["url"], "");
    assert!(!text(&data["urls"][1]["url"]).is_empty(), "{data}");
}

async fn a_folder_has_no_url(subject: &Subject) {
    subject.folders(&["d"]).await;
    subject
        .urls(&[&subject.at("d")], json!({}))
        .await
        .expect_nested(40077);
}

async fn a_file_in_the_trash_has_no_url(subject: &Subject) {
    let put = subject.put("f", b"x").await;
    subject.delete(&[&subject.at("f")], false).await.expect(0);
    let there = crate::trash::place_of(subject, &put).await;
    subject.urls(&[&there], json!({})).await.expect_nested(403);
}

async fn an_entity_of_the_file_can_be_asked_for(subject: &Subject) {
    let first = subject.put("f", b"one").await;
    subject.put("f", b"second").await;
    let data = subject
        .urls(
            &[&subject.at("f")],
            json!({"entity": first["primary_entity"]}),
        )
        .await
        .data();
    let url = subject.rebased(data["urls"][0]["url"].as_str().unwrap());
    let reply = subject.fetch(&url).send().await.expect_status(200);
    assert_eq!(
        reply.header("etag"),
        Some(format!("\"{}\"", text(&first["primary_entity"])).as_str())
    );
    assert_eq!(reply.text(), "one");
}

async fn an_entity_of_another_file_is_refused(subject: &Subject) {
    let other = subject.put("other", b"o").await;
    subject.put("f", b"x").await;
    for entity in [&other["primary_entity"], &json!("!!!!")] {
        subject
            .urls(&[&subject.at("f")], json!({"entity": entity}))
            .await
            .expect_nested(40077);
    }
}

async fn an_older_version_is_still_served_under_its_url(subject: &Subject) {
    subject.put("f", b"one").await;
    let url = subject.url(&subject.at("f")).await;
    subject.put("f", b"second").await;
    assert_eq!(
        subject.fetch(&url).send().await.expect_status(200).text(),
        "one"
    );
}

async fn a_url_outlives_the_rename_and_the_trash(subject: &Subject) {
    subject.put("f", b"content").await;
    let url = subject.url(&subject.at("f")).await;
    subject.rename(&subject.at("f"), "g").await.expect(0);
    assert_ne!(subject.url(&subject.at("g")).await, url);
    assert_eq!(subject.fetch(&url).send().await.text(), "content");
    subject.delete(&[&subject.at("g")], false).await.expect(0);
    assert_eq!(subject.fetch(&url).send().await.text(), "content");
}

async fn a_deleted_file_is_40077_under_its_url(subject: &Subject) {
    subject.put("f", b"content").await;
    let url = subject.url(&subject.at("f")).await;
    subject.delete(&[&subject.at("f")], true).await.expect(0);
    subject.fetch(&url).send().await.expect(40077);
}

async fn a_url_can_be_a_redirect(subject: &Subject) {
    subject.put("f", b"content").await;
    let reply = subject
        .urls(&[&subject.at("f")], json!({"redirect": true}))
        .await
        .expect_status(302);
    let to = subject.rebased(reply.header("location").unwrap());
    assert_eq!(subject.fetch(&to).send().await.text(), "content");
}

async fn an_ugly_name_has_a_url_that_works(subject: &Subject) {
    let long = "%C3%A4".repeat(110);
    let names = [
        "%20a%20b%20",
        "%23%25%26",
        "%25%34%31",
        "%2B%3D%3B%24",
        "%5B~%5D!()",
        "x%0Ay",
        "%FF%FE",
        "...",
        &long,
    ];
    for name in names {
        subject.put(name, name.as_bytes()).await;
        let url = subject.url(&subject.at(name)).await;
        assert_eq!(
            subject.fetch(&url).send().await.expect_status(200).text(),
            name
        );
    }
}

/// As Go escapes a segment of a path: less than JavaScript in one place, more in another.
async fn a_url_spells_a_name_otherwise_than_a_uri_does(subject: &Subject) {
    for (name, spelled) in [
        ("%24%26%2B%3D%40", "$&+=@"),
        ("%3B%2C%23%25%20", "%3B%2C%23%25%20"),
        ("!'()~-_.", "%21%27%28%29~-_."),
        ("%5B%5D%7B%7D%5E%60", "%5B%5D%7B%7D%5E%60"),
    ] {
        subject.put(name, b"x").await;
        let url = subject.url(&subject.at(name)).await;
        let (path, _) = url.split_once('?').unwrap();
        assert_eq!(path.rsplit('/').next(), Some(spelled));
    }
}

async fn an_expired_url_is_40005_under_http_200(subject: &Subject) {
    subject.put("f", b"content").await;
    let url = subject.url(&subject.at("f")).await;
    subject
        .site
        .server()
        .advance_clock(Duration::from_secs(3605));
    let reply = subject
        .fetch(&url)
        .header("range", "bytes=0-3")
        .send()
        .await
        .expect(40005);
    assert!(
        reply.header("accept-ranges").is_none() && reply.header("etag").is_none(),
        "{reply:?}"
    );
}

async fn the_same_url_is_given_until_ten_minutes_before_its_end(subject: &Subject) {
    subject.put("f", b"content").await;
    let one = subject.url(&subject.at("f")).await;
    subject
        .site
        .server()
        .advance_clock(Duration::from_secs(2990));
    assert_eq!(subject.url(&subject.at("f")).await, one);
    subject.site.server().advance_clock(Duration::from_secs(20));
    let two: Value = json!(subject.url(&subject.at("f")).await);
    assert_ne!(two, one);
}

async fn without_retention_a_replaced_version_is_gone_at_once(subject: &Subject) {
    let body = json!({"version_retention_enabled": false});
    subject
        .call(Method::PATCH, "/user/setting")
        .json(body)
        .send()
        .await
        .expect(0);
    subject.put("f", b"one").await;
    let url = subject.url(&subject.at("f")).await;
    subject.put("f", b"second").await;
    subject.fetch(&url).send().await.expect(40077);
    assert_eq!(
        subject.extended_info(&subject.at("f")).await["extended_info"]["storage_used"],
        6
    );
}

/// A fresh install knows itself as `http://localhost:5212`, wherever it listens.
async fn a_site_that_knows_itself_by_another_name_gives_urls_there(subject: &Subject) {
    subject.put("f", b"content").await;
    subject
        .site
        .server()
        .set_site_url(Some("http://localhost:5212"));
    let data = subject.urls(&[&subject.at("f")], json!({})).await.data();
    let url = text(&data["urls"][0]["url"]);
    assert!(
        url.starts_with("http://localhost:5212/api/v4/file/content/"),
        "{url}"
    );
    assert_eq!(
        subject.fetch(&subject.rebased(&url)).send().await.text(),
        "content"
    );
}
