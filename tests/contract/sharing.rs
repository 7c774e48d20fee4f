//! Making shares: their links, their passwords, and what of them the owner sees.

use reqwest::Method;
use serde_json::{Value, json};

use crate::calls::Call;
use crate::reply::Reply;
use crate::runner::{Case, cases};
use crate::subject::{Subject, text};

pub(crate) const CASES: &[Case] = cases![
    a_share_link_leads_to_its_uri,
    a_password_counts_only_on_a_private_share,
    a_private_share_without_a_password_gets_one,
    a_share_password_is_of_letters_and_digits,
    an_owner_lists_his_shares_in_pages_of_ten_and_more,
    an_owner_may_ask_where_the_source_lies,
    a_share_is_locked_without_its_password,
];

/// Shares a file or folder, and gives the link.
async fn share_link(subject: &Subject, uri: &str, more: Value) -> String {
    text(&try_share(subject, uri, more).await.data())
}

async fn try_share(subject: &Subject, uri: &str, more: Value) -> Reply {
    let mut body = json!({"uri": uri});
    for (name, value) in more.as_object().into_iter().flatten() {
        body[name] = value.clone();
    }
    subject.call(Method::PUT, "/share").json(body).send().await
}

/// Shares a file or folder, and gives the share's id.
pub(crate) async fn share(subject: &Subject, uri: &str, more: Value) -> String {
    let link = share_link(subject, uri, more).await;
    let (_, rest) = link
        .split_once("/s/")
        .unwrap_or_else(|| panic!("not a share link: {link}"));
    rest.split('/').next().unwrap_or_default().to_owned()
}

/// A listing by somebody without an account.
pub(crate) async fn list_anonymously(subject: &Subject, uri: &str) -> Reply {
    let query = [
        ("uri", uri),
        ("page_size", "1000"),
        ("order_by", "name"),
        ("order_direction", "asc"),
    ];
    subject.get("/file").query(&query).anonymous().send().await
}

pub(crate) async fn share_info(subject: &Subject, id: &str, password: &str) -> Reply {
    let call = subject.get(&format!("/share/info/{id}")).anonymous();
    if password.is_empty() {
        call.send().await
    } else {
        call.query(&[("password", password)]).send().await
    }
}

async fn a_share_is_locked_without_its_password(subject: &Subject) {
    subject.put("d/f", b"x").await;
    let id = share(
        subject,
        &subject.at("d"),
        json!({"is_private": true, "password": "secret7"}),
    )
    .await;
    for password in ["", "wrong"] {
        let info = share_info(subject, &id, password).await.data();
        assert_eq!(
            (&info["unlocked"], &info["password_protected"]),
            (&json!(false), &json!(true)),
            "{info}"
        );
        assert_eq!(
            (&info["name"], &info["source_type"]),
            (&json!("d"), &json!(1)),
            "{info}"
        );
    }
    let info = share_info(subject, &id, "secret7").await.data();
    assert_eq!(
        (&info["unlocked"], &info["expired"]),
        (&json!(true), &json!(false)),
        "{info}"
    );
    for field in ["id", "visited", "owner", "created_at", "url", "size"] {
        assert!(!info[field].is_null(), "{field}: {info}");
    }
}

async fn an_owner_may_ask_where_the_source_lies(subject: &Subject) {
    subject.put("d/f", b"content").await;
    let id = share(
        subject,
        &subject.at("d"),
        json!({"is_private": true, "password": "secret7"}),
    )
    .await;
    let path = format!("/share/info/{id}");
    let open = subject
        .get(&path)
        .query(&[("owner_extended", "true"), ("password", "secret7")])
        .send()
        .await
        .data();
    assert!(
        text(&open["source_uri"]).ends_with(&format!("@my/{}/d", subject.folder_name())),
        "{open}"
    );
    subject
        .get(&path)
        .query(&[("owner_extended", "true")])
        .send()
        .await
        .expect(40069);
}

async fn a_share_link_leads_to_its_uri(subject: &Subject) {
    subject.put("d/f", b"x").await;
    for (more, password) in [
        (json!({}), ""),
        (
            json!({"is_private": true, "password": "secret7"}),
            "%3Asecret7",
        ),
    ] {
        let link = share_link(subject, &subject.at("d"), more).await;
        let (_, path) = link.split_once("/s/").unwrap();
        let id = path.split('/').next().unwrap();
        let page = Call::to(
            &subject.site,
            Method::GET,
            format!("{}/s/{path}", subject.site.address),
        );
        let reply = page.anonymous().send().await.expect_status(302);
        let expected = format!("/home?path=cloudreve%3A%2F%2F{id}{password}%40share");
        assert_eq!(reply.header("location"), Some(expected.as_str()), "{link}");
    }
}

async fn a_password_counts_only_on_a_private_share(subject: &Subject) {
    subject.put("d/f", b"x").await;
    let id = share(subject, &subject.at("d"), json!({"password": "secret7"})).await;
    assert!(
        share_info(subject, &id, "")
            .await
            .data()
            .get("password_protected")
            .is_none()
    );
    list_anonymously(subject, &format!("cloudreve://{id}@share"))
        .await
        .expect(0);
}

async fn a_private_share_without_a_password_gets_one(subject: &Subject) {
    subject.put("d/f", b"x").await;
    let link = share_link(subject, &subject.at("d"), json!({"is_private": true})).await;
    let (_, path) = link.split_once("/s/").unwrap();
    let (id, password) = path
        .split_once('/')
        .unwrap_or_else(|| panic!("no password: {link}"));
    list_anonymously(subject, &format!("cloudreve://{id}@share"))
        .await
        .expect(40069);
    list_anonymously(subject, &format!("cloudreve://{id}:{password}@share"))
        .await
        .expect(0);
}

async fn a_share_password_is_of_letters_and_digits(subject: &Subject) {
    subject.put("d/f", b"x").await;
    for password in ["p@ss", "a b", &"x".repeat(33)] {
        let more = json!({"is_private": true, "password": password});
        try_share(subject, &subject.at("d"), more)
            .await
            .expect(40001);
    }
    try_share(subject, &subject.at("missing"), json!({}))
        .await
        .expect(40016);
}

async fn an_owner_lists_his_shares_in_pages_of_ten_and_more(subject: &Subject) {
    subject.put("d/f", b"x").await;
    let id = share(subject, &subject.at("d"), json!({})).await;
    let listed = subject
        .get("/share?page_size=100&order_by=created_at&order_direction=desc")
        .send()
        .await
        .data();
    let shares = listed["shares"].as_array().into_iter().flatten();
    assert!(
        shares.clone().any(|share| share["id"] == id.as_str()),
        "{listed}"
    );
    subject.get("/share?page_size=9").send().await.expect(40001);
    subject.get("/share").send().await.expect(40001);
    subject
        .get("/share?page_size=10")
        .anonymous()
        .send()
        .await
        .expect(401);
}
