//! Signing in with a password: what it gives, what it refuses, and what may be wanted besides.

use serde_json::json;

use crate::reply::Reply;
use crate::runner::{Case, cases};
use crate::subject::{Subject, text};
use crate::tokens::{list_as, refresh};

pub(crate) const CASES: &[Case] = cases![
    a_sign_in_gives_the_user_and_four_token_fields,
    an_email_is_matched_without_case,
    a_wrong_password_is_40080,
    an_unknown_email_is_40080,
    a_sign_in_without_an_email_address_is_40001,
    a_password_of_three_characters_is_40001,
    prepare_tells_whether_a_password_may_be_used,
    prepare_of_an_unknown_user_is_404,
];

pub(crate) const ON_TEST_SERVER: &[Case] = cases![
    where_a_captcha_is_wanted_a_password_alone_is_40026,
    a_captcha_is_good_for_one_try,
    a_second_factor_is_203_with_a_session,
    a_banned_user_is_refused_everywhere,
];

async fn sign_in(subject: &Subject, email: &str, password: &str) -> Reply {
    let body = json!({"email": email, "password": password});
    subject
        .post("/session/token", body)
        .anonymous()
        .send()
        .await
}

async fn a_sign_in_gives_the_user_and_four_token_fields(subject: &Subject) {
    let data = subject.site.sign_in_again().await;
    assert_eq!(
        text(&data["user"]["email"]).to_lowercase(),
        subject.site.email.to_lowercase()
    );
    for field in ["id", "nickname", "created_at"] {
        assert!(data["user"][field].is_string(), "{data}");
    }
    assert!(
        data["user"]["group"]["id"].is_string() && data["user"]["group"]["name"].is_string(),
        "{data}"
    );
    let token = data["token"].as_object().unwrap();
    assert_eq!(token.len(), 4, "{data}");
    for name in ["access_token", "refresh_token"] {
        assert_eq!(text(&token[name]).split('.').count(), 3, "{name}");
    }
    assert!(
        text(&token["access_expires"]) < text(&token["refresh_expires"]),
        "{data}"
    );
    assert!(text(&token["access_expires"]).contains('T'), "{data}");
}

async fn an_email_is_matched_without_case(subject: &Subject) {
    sign_in(
        subject,
        &subject.site.email.to_uppercase(),
        &subject.site.password,
    )
    .await
    .expect(0);
}

async fn a_wrong_password_is_40080(subject: &Subject) {
    sign_in(subject, &subject.site.email, "not the password")
        .await
        .expect(40080);
}

async fn an_unknown_email_is_40080(subject: &Subject) {
    sign_in(
        subject,
        "nobody-of-that-name@example.com",
        "not the password",
    )
    .await
    .expect(40080);
}

async fn a_sign_in_without_an_email_address_is_40001(subject: &Subject) {
    sign_in(subject, "not an address", "some password")
        .await
        .expect(40001);
}

async fn a_password_of_three_characters_is_40001(subject: &Subject) {
    sign_in(subject, &subject.site.email, "abc")
        .await
        .expect(40001);
}

async fn prepare_tells_whether_a_password_may_be_used(subject: &Subject) {
    let call = subject
        .get("/session/prepare")
        .query(&[("email", &subject.site.email)])
        .anonymous();
    assert_eq!(call.send().await.data()["password_enabled"], true);
}

async fn prepare_of_an_unknown_user_is_404(subject: &Subject) {
    let query = [("email", "nobody-of-that-name@example.com")];
    subject
        .get("/session/prepare")
        .query(&query)
        .anonymous()
        .send()
        .await
        .expect(404);
}

async fn where_a_captcha_is_wanted_a_password_alone_is_40026(subject: &Subject) {
    let token = subject.site.sign_in_again().await["token"]["refresh_token"].clone();
    subject.site.server().set_captcha(true);
    let login = subject
        .get("/site/config/login")
        .anonymous()
        .send()
        .await
        .data();
    assert_eq!(login["login_captcha"], true, "{login}");
    sign_in(subject, &subject.site.email, &subject.site.password)
        .await
        .expect(40026);
    refresh(subject, &token).await.expect(0);
}

/// A new captcha's ticket, and what a person would read in its picture.
async fn captcha(subject: &Subject) -> (String, String) {
    let ticket = text(&subject.get("/site/captcha").anonymous().send().await.data()["ticket"]);
    let answer = subject.site.server().captcha_answer(&ticket).unwrap();
    (ticket, answer)
}

async fn sign_in_with_captcha(subject: &Subject, ticket: &str, answer: &str) -> Reply {
    let (email, password) = (&subject.site.email, &subject.site.password);
    let body = json!({"email": email, "password": password, "ticket": ticket, "captcha": answer});
    subject
        .post("/session/token", body)
        .anonymous()
        .send()
        .await
}

async fn a_captcha_is_good_for_one_try(subject: &Subject) {
    subject.site.server().set_captcha(true);
    let (ticket, answer) = captcha(subject).await;
    sign_in_with_captcha(subject, &ticket, "wrong")
        .await
        .expect(40026);
    sign_in_with_captcha(subject, &ticket, &answer)
        .await
        .expect(40026);
    let (ticket, answer) = captcha(subject).await;
    sign_in_with_captcha(subject, &ticket, &answer)
        .await
        .expect(0);
    sign_in_with_captcha(subject, &ticket, &answer)
        .await
        .expect(40026);
}

async fn a_second_factor_is_203_with_a_session(subject: &Subject) {
    let (server, email) = (subject.site.server(), &subject.site.email);
    server.enable_2fa(email);
    let asked = sign_in(subject, &subject.site.email, &subject.site.password)
        .await
        .expect(203);
    let session = text(&asked.json()["data"]);
    let answer = async |code: &str| {
        let body = json!({"otp": code, "session_id": session});
        subject
            .post("/session/token/2fa", body)
            .anonymous()
            .send()
            .await
    };
    answer("000000").await.expect(40022);
    let code = server.otp(email);
    let data = answer(&code).await.data();
    list_as(subject, &text(&data["token"]["access_token"]))
        .await
        .expect(0);
    answer(&code).await.expect(404);
}

async fn a_banned_user_is_refused_everywhere(subject: &Subject) {
    let token = subject.site.sign_in_again().await["token"].clone();
    subject.site.server().ban_user(&subject.site.email, true);
    sign_in(subject, &subject.site.email, &subject.site.password)
        .await
        .expect(40017);
    refresh(subject, &token["refresh_token"])
        .await
        .expect(40020);
    for path in [
        "/site/ping",
        "/site/config/basic",
        "/user/me",
        "/file?uri=cloudreve%3A%2F%2Fmy",
    ] {
        subject.get(path).send().await.expect(50001);
    }
}
