//! Access and refresh tokens, and what a request with a bad one is taken for.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use crate::reply::Reply;
use crate::runner::{Case, cases};
use crate::subject::{Subject, text};

pub(crate) const CASES: &[Case] = cases![
    a_garbled_token_is_an_anonymous_request,
    a_garbled_token_shows_nowhere_on_site_routes,
    an_anonymous_batch_hides_401_in_40081,
    an_anonymous_single_call_is_401,
    an_anonymous_info_by_id_is_40082,
    routes_of_the_account_demand_a_sign_in,
    a_refresh_token_is_no_access_token,
    an_access_token_is_no_refresh_token,
    a_garbled_refresh_token_is_40020,
    a_refresh_gives_four_fields_and_no_user,
    a_refresh_minds_no_garbled_authorization,
    a_refresh_leaves_the_older_refresh_token_good,
    a_logout_kills_every_refresh_token_of_its_chain,
    a_logout_leaves_other_sign_ins_alone,
    a_logout_leaves_the_access_token_alive,
    a_logout_with_a_garbled_token_is_40020,
];

pub(crate) const ON_TEST_SERVER: &[Case] = cases![
    an_expired_access_token_is_an_anonymous_request,
    an_expired_access_token_does_not_hinder_the_refresh,
    an_expired_refresh_token_is_40020,
    another_password_kills_the_refresh_tokens,
];

/// An access token that was never one.
const GARBLED: &str = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiJ4In0.c2lnbmF0dXJl";

pub(crate) async fn refresh(subject: &Subject, refresh_token: &Value) -> Reply {
    subject
        .post(
            "/session/token/refresh",
            json!({"refresh_token": refresh_token}),
        )
        .anonymous()
        .send()
        .await
}

async fn logout(subject: &Subject, refresh_token: &Value) -> Reply {
    let body = json!({"refresh_token": refresh_token});
    subject
        .call(Method::DELETE, "/session/token")
        .anonymous()
        .json(body)
        .send()
        .await
}

pub(crate) async fn list_as(subject: &Subject, token: &str) -> Reply {
    subject
        .get("/file")
        .query(&[("uri", "cloudreve://my"), ("page_size", "10")])
        .bearer(token)
        .send()
        .await
}

async fn a_garbled_token_is_an_anonymous_request(subject: &Subject) {
    for token in [GARBLED, "nonsense", ""] {
        let reply = list_as(subject, token).await.expect(401);
        assert_eq!(reply.json()["msg"], "Login required", "{reply:?}");
    }
}

async fn a_garbled_token_shows_nowhere_on_site_routes(subject: &Subject) {
    subject
        .get("/site/ping")
        .bearer(GARBLED)
        .send()
        .await
        .expect(0);
    let basic = subject
        .get("/site/config/basic")
        .bearer(GARBLED)
        .send()
        .await
        .data();
    assert_eq!(basic["user"]["anonymous"], true, "{basic}");
    let basic = subject.get("/site/config/basic").send().await.data();
    assert!(basic["user"].get("anonymous").is_none(), "{basic}");
}

async fn an_anonymous_batch_hides_401_in_40081(subject: &Subject) {
    let uris = json!([subject.put("a", b"a").await["path"]]);
    let trashed = json!(["cloudreve://trash/9c2d0d8e-0000-4000-8000-000000000000"]);
    let calls = [
        (Method::POST, "/file/url", json!({"uris": uris})),
        (Method::DELETE, "/file", json!({"uris": uris})),
        (Method::POST, "/file/restore", json!({"uris": trashed})),
        (
            Method::PATCH,
            "/file/metadata",
            json!({"uris": uris, "patches": []}),
        ),
    ];
    for (method, path, body) in calls {
        subject
            .call(method, path)
            .json(body)
            .bearer(GARBLED)
            .send()
            .await
            .expect_nested(401);
    }
}

async fn an_anonymous_single_call_is_401(subject: &Subject) {
    subject.folders(&["d"]).await;
    let uri = subject.at("d");
    subject
        .get("/file/info")
        .query(&[("uri", uri.as_str())])
        .anonymous()
        .send()
        .await
        .expect(401);
    let calls = [
        ("/file/create", json!({"uri": uri, "type": "folder"})),
        ("/file/rename", json!({"uri": uri, "new_name": "e"})),
        ("/file/move", json!({"uris": [uri], "dst": subject.at("")})),
    ];
    for (path, body) in calls {
        subject
            .post(path, body)
            .anonymous()
            .send()
            .await
            .expect(401);
    }
    subject
        .call(Method::PUT, "/file/content")
        .query(&[("uri", &subject.at("f"))])
        .body("x")
        .anonymous()
        .send()
        .await
        .expect(401);
}

async fn an_anonymous_info_by_id_is_40082(subject: &Subject) {
    let file = subject.put("a", b"a").await;
    let query = [("id", file["id"].as_str().unwrap())];
    subject
        .get("/file/info")
        .query(&query)
        .bearer(GARBLED)
        .send()
        .await
        .expect(40082);
    subject
        .get("/file/info")
        .query(&query)
        .anonymous()
        .send()
        .await
        .expect(40082);
}

async fn routes_of_the_account_demand_a_sign_in(subject: &Subject) {
    for path in ["/user/me", "/user/capacity", "/user/setting"] {
        subject.get(path).anonymous().send().await.expect(401);
    }
}

async fn a_refresh_token_is_no_access_token(subject: &Subject) {
    let token = text(&subject.site.sign_in_again().await["token"]["refresh_token"]);
    list_as(subject, &token).await.expect(40020);
    subject
        .get("/site/ping")
        .bearer(&token)
        .send()
        .await
        .expect(40020);
    let body = json!({"refresh_token": token});
    subject
        .post("/session/token/refresh", body)
        .bearer(&token)
        .send()
        .await
        .expect(40020);
}

async fn an_access_token_is_no_refresh_token(subject: &Subject) {
    let token = subject.site.sign_in_again().await["token"]["access_token"].clone();
    refresh(subject, &token).await.expect(40020);
}

async fn a_garbled_refresh_token_is_40020(subject: &Subject) {
    refresh(subject, &json!(GARBLED)).await.expect(40020);
    refresh(subject, &json!("nonsense")).await.expect(40020);
    subject
        .post("/session/token/refresh", json!({}))
        .anonymous()
        .send()
        .await
        .expect(40001);
}

async fn a_refresh_gives_four_fields_and_no_user(subject: &Subject) {
    let token = subject.site.sign_in_again().await["token"]["refresh_token"].clone();
    let data = refresh(subject, &token).await.data();
    let mut fields: Vec<_> = data
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect();
    fields.sort_unstable();
    assert_eq!(
        fields,
        [
            "access_expires",
            "access_token",
            "refresh_expires",
            "refresh_token"
        ]
    );
    list_as(subject, &text(&data["access_token"]))
        .await
        .expect(0);
}

async fn a_refresh_minds_no_garbled_authorization(subject: &Subject) {
    let token = subject.site.sign_in_again().await["token"]["refresh_token"].clone();
    let body = json!({"refresh_token": token});
    subject
        .post("/session/token/refresh", body)
        .bearer(GARBLED)
        .send()
        .await
        .expect(0);
}

async fn a_refresh_leaves_the_older_refresh_token_good(subject: &Subject) {
    let token = subject.site.sign_in_again().await["token"]["refresh_token"].clone();
    refresh(subject, &token).await.expect(0);
    refresh(subject, &token).await.expect(0);
}

async fn a_logout_kills_every_refresh_token_of_its_chain(subject: &Subject) {
    let first = subject.site.sign_in_again().await["token"]["refresh_token"].clone();
    let second = refresh(subject, &first).await.data()["refresh_token"].clone();
    logout(subject, &first).await.expect(0);
    refresh(subject, &first).await.expect(40020);
    refresh(subject, &second).await.expect(40020);
}

async fn a_logout_leaves_other_sign_ins_alone(subject: &Subject) {
    let one = subject.site.sign_in_again().await["token"]["refresh_token"].clone();
    let other = subject.site.sign_in_again().await["token"]["refresh_token"].clone();
    logout(subject, &one).await.expect(0);
    refresh(subject, &other).await.expect(0);
}

async fn a_logout_leaves_the_access_token_alive(subject: &Subject) {
    let token = subject.site.sign_in_again().await["token"].clone();
    logout(subject, &token["refresh_token"]).await.expect(0);
    list_as(subject, &text(&token["access_token"]))
        .await
        .expect(0);
}

async fn a_logout_with_a_garbled_token_is_40020(subject: &Subject) {
    logout(subject, &json!(GARBLED)).await.expect(40020);
}

/// How long an access token lives on a fresh install, and a bit.
const BEYOND_ACCESS: Duration = Duration::from_secs(3600 + 5);

/// How long a refresh token lives on a fresh install, and a bit.
const BEYOND_REFRESH: Duration = Duration::from_secs(14 * 24 * 3600 + 5);

async fn an_expired_access_token_is_an_anonymous_request(subject: &Subject) {
    let file = subject.put("a", b"a").await;
    subject.site.server().advance_clock(BEYOND_ACCESS);
    subject.list(&subject.at("")).await.expect(401);
    subject
        .urls(&[&subject.at("a")], json!({}))
        .await
        .expect_nested(401);
    subject
        .get("/file/info")
        .query(&[("id", file["id"].as_str().unwrap())])
        .send()
        .await
        .expect(40082);
}

async fn an_expired_access_token_does_not_hinder_the_refresh(subject: &Subject) {
    let token = subject.site.sign_in_again().await["token"].clone();
    subject.site.server().advance_clock(BEYOND_ACCESS);
    let body = json!({"refresh_token": token["refresh_token"]});
    let call = subject
        .post("/session/token/refresh", body)
        .bearer(token["access_token"].as_str().unwrap());
    let fresh = call.send().await.data();
    list_as(subject, &text(&fresh["access_token"]))
        .await
        .expect(0);
}

async fn an_expired_refresh_token_is_40020(subject: &Subject) {
    let token = subject.site.sign_in_again().await["token"]["refresh_token"].clone();
    subject.site.server().advance_clock(BEYOND_REFRESH);
    refresh(subject, &token).await.expect(40020);
}

async fn another_password_kills_the_refresh_tokens(subject: &Subject) {
    let token = subject.site.sign_in_again().await["token"].clone();
    subject
        .site
        .server()
        .set_password(&subject.site.email, "another password");
    refresh(subject, &token["refresh_token"])
        .await
        .expect(40020);
    list_as(subject, &text(&token["access_token"]))
        .await
        .expect(0);
}
