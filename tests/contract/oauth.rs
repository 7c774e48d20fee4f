//! Signing in by the browser: the parts of it that a client speaks.

use reqwest::Method;
use serde_json::{Value, json};

use crate::reply::Reply;
use crate::runner::{Case, cases};
use crate::subject::{Subject, text};

pub(crate) const CASES: &[Case] = cases![
    the_desktop_client_is_there_on_every_install,
    an_unknown_client_is_404,
    a_consent_gives_a_code_and_the_state,
    a_consent_needs_a_sign_in,
    a_redirect_must_be_a_registered_one,
    scopes_must_be_of_the_client_and_hold_openid,
    a_wrong_secret_is_http_400_without_an_envelope,
    a_failed_exchange_uses_the_code_up,
    another_grant_is_40001_under_http_200,
    a_missing_field_is_40001_under_http_200,
    a_plain_challenge_is_refused,
    a_consent_for_an_unknown_client_is_404,
    a_client_tells_what_was_consented_to,
];

pub(crate) const ON_TEST_SERVER: &[Case] = cases![
    a_code_becomes_tokens_once,
    a_wrong_verifier_is_http_400,
    tokens_are_held_to_their_scopes,
    a_narrower_consent_ends_the_wider_refresh_token,
    without_offline_access_there_is_no_refresh_token,
];

/// The desktop client that every install has: its id and its redirect stand in the server's public source.
const DESKTOP: &str = "393a1839-f52e-498e-9972-e77cc2241eee";
const DESKTOP_REDIRECT: &str = "/callback/desktop";

/// All that the desktop client may ask for. A consent to less would end the sessions of the user's real one.
const DESKTOP_SCOPES: &str =
    "profile email openid offline_access UserInfo.Write Workflow.Write Files.Write Shares.Write";

/// An S256 challenge of some verifier.
const CHALLENGE: &str = "pD-x5KBES7KtcHAha2k1GlFC26Sl50IUO_879QW9qZ0";

async fn consent(subject: &Subject, change: Value) -> Reply {
    let mut body = json!({
        "client_id": DESKTOP,
        "response_type": "code",
        "redirect_uri": DESKTOP_REDIRECT,
        "state": "a state",
        "scope": DESKTOP_SCOPES,
        "code_challenge": CHALLENGE,
        "code_challenge_method": "S256",
    });
    for (name, value) in change.as_object().into_iter().flatten() {
        body[name] = value.clone();
    }
    subject.post("/session/oauth/consent", body).send().await
}

async fn exchange(subject: &Subject, code: &str, grant: &str) -> Reply {
    let form = [
        ("client_id", DESKTOP),
        ("client_secret", "surely not the secret"),
        ("grant_type", grant),
        ("code", code),
        (
            "code_verifier",
            "Rb6o9KTVzPA-nWPPA2CAaQhiYFqJn83oe6dLmo2cjHQ",
        ),
    ];
    subject
        .call(Method::POST, "/session/oauth/token")
        .anonymous()
        .form(&form)
        .send()
        .await
}

async fn the_desktop_client_is_there_on_every_install(subject: &Subject) {
    let app = subject
        .get(&format!("/session/oauth/app/{DESKTOP}"))
        .send()
        .await
        .data();
    assert_eq!(app["id"], DESKTOP);
    assert!(app["name"].is_string(), "{app}");
}

async fn an_unknown_client_is_404(subject: &Subject) {
    subject
        .get("/session/oauth/app/1f6b8b69-1b81-4fd8-9314-02abbb4bc412")
        .send()
        .await
        .expect(404);
}

async fn a_consent_gives_a_code_and_the_state(subject: &Subject) {
    let data = consent(subject, json!({})).await.data();
    assert_eq!(
        (text(&data["code"]).len(), &data["state"]),
        (128, &json!("a state")),
        "{data}"
    );
}

async fn a_consent_needs_a_sign_in(subject: &Subject) {
    let body = json!({"client_id": DESKTOP, "response_type": "code", "redirect_uri": DESKTOP_REDIRECT, "state": "s", "scope": "openid"});
    subject
        .post("/session/oauth/consent", body)
        .anonymous()
        .send()
        .await
        .expect(401);
}

async fn a_redirect_must_be_a_registered_one(subject: &Subject) {
    consent(
        subject,
        json!({"redirect_uri": "http://127.0.0.1:7777/callback"}),
    )
    .await
    .expect(40001);
}

async fn scopes_must_be_of_the_client_and_hold_openid(subject: &Subject) {
    consent(subject, json!({"scope": "openid Files.Read"}))
        .await
        .expect(40001);
    consent(subject, json!({"scope": "Files.Write offline_access"}))
        .await
        .expect(40001);
}

async fn a_wrong_secret_is_http_400_without_an_envelope(subject: &Subject) {
    let code = text(&consent(subject, json!({})).await.data()["code"]);
    let reply = exchange(subject, &code, "authorization_code")
        .await
        .expect_status(400);
    let json = reply.json();
    assert_eq!(
        (&json["error"], &json["error_codes"]),
        (&json!("Invalid client secret"), &json!([40020])),
        "{reply:?}"
    );
    assert!(json.get("code").is_none(), "{reply:?}");
}

async fn another_grant_is_40001_under_http_200(subject: &Subject) {
    exchange(subject, "some code", "refresh_token")
        .await
        .expect(40001);
}

async fn a_failed_exchange_uses_the_code_up(subject: &Subject) {
    let code = text(&consent(subject, json!({})).await.data()["code"]);
    for error in [
        "Invalid client secret",
        "Invalid or expired authorization code",
    ] {
        let reply = exchange(subject, &code, "authorization_code")
            .await
            .expect_status(400);
        assert_eq!(reply.json()["error"], error, "{reply:?}");
    }
}

async fn a_missing_field_is_40001_under_http_200(subject: &Subject) {
    let form = [("client_id", DESKTOP), ("grant_type", "authorization_code")];
    let call = subject.call(Method::POST, "/session/oauth/token");
    call.anonymous().form(&form).send().await.expect(40001);
}

async fn a_plain_challenge_is_refused(subject: &Subject) {
    consent(subject, json!({"code_challenge_method": "plain"}))
        .await
        .expect(40001);
}

async fn a_consent_for_an_unknown_client_is_404(subject: &Subject) {
    let change = json!({"client_id": "1f6b8b69-1b81-4fd8-9314-02abbb4bc412"});
    consent(subject, change).await.expect(404);
}

async fn a_client_tells_what_was_consented_to(subject: &Subject) {
    consent(subject, json!({})).await.expect(0);
    let path = format!("/session/oauth/app/{DESKTOP}");
    let scopes = subject.get(&path).send().await.data()["consented_scopes"].clone();
    assert_eq!(scopes, json!(DESKTOP_SCOPES.split(' ').collect::<Vec<_>>()));
    let anonymous = subject.get(&path).anonymous().send().await.data();
    assert!(anonymous.get("consented_scopes").is_none(), "{anonymous}");
}

/// A verifier, whose S256 challenge stands above.
const VERIFIER: &str = "Rb6o9KTVzPA-nWPPA2CAaQhiYFqJn83oe6dLmo2cjHQ";
const REDIRECT: &str = "http://127.0.0.1:7777/callback";
const SCOPES: &str = "openid offline_access Files.Write UserInfo.Read";

/// A client of ours, as an administrator has registered it.
struct Registered {
    id: String,
    secret: String,
}

impl Registered {
    fn on(subject: &Subject) -> Self {
        let (id, secret) = subject
            .site
            .server()
            .add_oauth_client("ours", &[REDIRECT], SCOPES);
        Self { id, secret }
    }

    async fn code(&self, subject: &Subject, scope: &str) -> String {
        let change = json!({"client_id": self.id, "redirect_uri": REDIRECT, "scope": scope});
        text(&consent(subject, change).await.data()["code"])
    }

    async fn exchange(&self, subject: &Subject, code: &str, verifier: &str) -> Reply {
        let form = [
            ("client_id", self.id.as_str()),
            ("client_secret", &self.secret),
            ("grant_type", "authorization_code"),
            ("code", code),
            ("code_verifier", verifier),
        ];
        subject
            .call(Method::POST, "/session/oauth/token")
            .anonymous()
            .form(&form)
            .send()
            .await
    }

    /// The tokens of a fresh consent; the answer has no envelope.
    async fn tokens(&self, subject: &Subject, scope: &str) -> Value {
        let code = self.code(subject, scope).await;
        self.exchange(subject, &code, VERIFIER)
            .await
            .expect_status(200)
            .json()
    }
}

async fn refresh(subject: &Subject, tokens: &Value) -> Reply {
    let body = json!({"refresh_token": tokens["refresh_token"]});
    subject
        .post("/session/token/refresh", body)
        .anonymous()
        .send()
        .await
}

async fn a_code_becomes_tokens_once(subject: &Subject) {
    let client = Registered::on(subject);
    let code = client.code(subject, SCOPES).await;
    let tokens = client
        .exchange(subject, &code, VERIFIER)
        .await
        .expect_status(200)
        .json();
    assert!(tokens.get("code").is_none(), "{tokens}");
    assert_eq!(
        (&tokens["token_type"], &tokens["scope"]),
        (&json!("Bearer"), &json!(SCOPES))
    );
    assert_eq!(
        (&tokens["expires_in"], &tokens["refresh_token_expires_in"]),
        (&json!(3599), &json!(1_209_599))
    );
    let again = client
        .exchange(subject, &code, VERIFIER)
        .await
        .expect_status(400);
    assert_eq!(
        again.json()["error"],
        "Invalid or expired authorization code",
        "{again:?}"
    );
    let refreshed = refresh(subject, &tokens).await.data();
    assert!(refreshed["access_expires"].is_string(), "{refreshed}");
}

async fn a_wrong_verifier_is_http_400(subject: &Subject) {
    let client = Registered::on(subject);
    for verifier in ["wrong", ""] {
        let code = client.code(subject, SCOPES).await;
        let reply = client
            .exchange(subject, &code, verifier)
            .await
            .expect_status(400);
        assert_eq!(reply.json()["error"], "Invalid code verifier", "{reply:?}");
    }
}

async fn tokens_are_held_to_their_scopes(subject: &Subject) {
    let tokens = Registered::on(subject).tokens(subject, SCOPES).await;
    let token = text(&tokens["access_token"]);
    subject
        .get("/file")
        .query(&[("uri", &subject.at(""))])
        .bearer(&token)
        .send()
        .await
        .expect(0);
    subject
        .get("/user/me")
        .bearer(&token)
        .send()
        .await
        .expect(0);
    subject
        .get("/share?page_size=10")
        .bearer(&token)
        .send()
        .await
        .expect(40089);
    subject
        .get("/share/info/whatever")
        .bearer(&token)
        .send()
        .await
        .expect(40089);
}

async fn a_narrower_consent_ends_the_wider_refresh_token(subject: &Subject) {
    let client = Registered::on(subject);
    let tokens = client.tokens(subject, SCOPES).await;
    client.code(subject, "openid Files.Write").await;
    refresh(subject, &tokens).await.expect(40020);
}

async fn without_offline_access_there_is_no_refresh_token(subject: &Subject) {
    let tokens = Registered::on(subject)
        .tokens(subject, "openid Files.Write")
        .await;
    assert!(tokens.get("refresh_token").is_none(), "{tokens}");
    assert!(
        tokens["refresh_token_expires_in"].is_u64(),
        "told all the same: {tokens}"
    );
}
