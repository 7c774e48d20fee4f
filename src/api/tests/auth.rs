//! Who we are: renewal, its order, and where tokens go.

use super::*;
use crate::model::FileId;

/// A store that tells when it was written.
#[derive(Default)]
struct Watched {
    inner: MemoryStore,
    saved: Mutex<Vec<String>>,
}

impl TokenStore for Watched {
    fn load(&self) -> io::Result<Option<Tokens>> {
        self.inner.load()
    }

    fn save(&self, tokens: &Tokens) -> io::Result<()> {
        let access = tokens.access.expose().to_owned();
        self.saved.lock().unwrap().push(access);
        self.inner.save(tokens)
    }
}

fn bearer(seen: &Seen) -> Option<String> {
    Some(
        seen.header("authorization")?
            .strip_prefix("Bearer ")?
            .to_owned(),
    )
}

/// Takes only `access-good`; renews to it.
fn strict(seen: &Seen) -> Vec<u8> {
    if seen.path().ends_with("/session/token/refresh") {
        return renewed("good");
    }
    match bearer(seen).as_deref() {
        Some("access-good") if seen.path().ends_with("/file/url") => fixture("api2-url-one"),
        Some("access-good") => fixture("api1-list-root"),
        _ if seen.path().ends_with("/file/url") => fixture("api1-expired-token-delete"),
        _ => fixture("api1-expired-token-list"),
    }
}

#[tokio::test]
async fn one_renewal_serves_all_who_wait_and_is_stored_before_its_token_is_used() {
    let store = Arc::new(Watched::default());
    store.inner.save(&tokens("old", 3600)).unwrap();
    let watched = Arc::clone(&store);
    let server = Responder::new(move |seen| {
        if bearer(&seen).as_deref() == Some("access-good") {
            let saved = watched.saved.lock().unwrap().clone();
            assert_eq!(saved, ["access-good"], "used before it was stored");
        }
        strict(&seen)
    })
    .await;
    let api = server.api(Credentials::Stored(Arc::clone(&store) as _));
    let waiters: Vec<_> = (0..20)
        .map(|_| {
            let api = api.clone();
            tokio::spawn(async move { api.urls(&[my("a")], None).await.map(|_| ()) })
        })
        .collect();
    for waiter in waiters {
        waiter.await.unwrap().unwrap();
    }
    assert_eq!(server.count("/api/v4/session/token/refresh"), 1);
    for seen in server.seen() {
        if seen.path().ends_with("/refresh") {
            assert_eq!(bearer(&seen), None);
        }
    }
}

#[tokio::test]
async fn a_token_near_its_end_is_renewed_before_anything_is_sent_with_it() {
    let server = Responder::new(|seen| strict(&seen)).await;
    let (store, credentials) = stored(tokens("old", 2));
    let api = server.api(credentials);
    api.list_page(&my(""), &PagePosition::First, 9)
        .await
        .unwrap();
    let paths: Vec<String> = server
        .seen()
        .iter()
        .map(|seen| seen.path().into())
        .collect();
    assert_eq!(paths, ["/api/v4/session/token/refresh", "/api/v4/file"]);
    assert_eq!(
        store.load().unwrap().unwrap().access.expose(),
        "access-good"
    );
}

/// The root's page, from a server whose clock is `ahead` seconds ahead of ours.
fn page_from_the_future(ahead: u64) -> Vec<u8> {
    let now = SystemTime::now() + Duration::from_secs(ahead);
    let json = "Content-Type: application/json\r\n";
    answer_at(now, "200 OK", json, recorded("api1-list-root").as_bytes())
}

#[tokio::test]
async fn an_answer_to_a_token_that_the_servers_clock_calls_expired_is_not_believed() {
    // The token looks good by our clock, and a share answers anyone.
    let server = Responder::new(|seen| match seen.path().ends_with("/refresh") {
        true => renewed("good"),
        false => page_from_the_future(7200),
    })
    .await;
    let (_, credentials) = stored(tokens("old", 3600));
    let api = server.api(credentials);
    let share = FileUri::parse("cloudreve://AbCd@share").unwrap();
    api.list_page(&share, &PagePosition::First, 9)
        .await
        .unwrap();
    let sent: Vec<_> = server.seen().iter().map(bearer).collect();
    let expected = [Some("access-old".into()), None, Some("access-good".into())];
    assert_eq!(sent, expected);
    assert!((7100..7300).contains(&api.health().clock_skew_seconds));
}

#[tokio::test]
async fn a_dead_refresh_token_signs_out_unless_the_store_has_a_newer_one() {
    let server = Responder::new(|seen| match seen.path().ends_with("/refresh") {
        true if seen.body.contains("refresh-newer") => renewed("good"),
        true => code(40020),
        false => strict(&seen),
    })
    .await;
    let (store, credentials) = stored(tokens("old", 0));
    let api = server.api(credentials);
    let error = api.info(&my("a")).await.unwrap_err();
    assert_eq!(variant(&error), "SignedOut");
    let advice = format!("cloudreve-fuse login {}", server.address);
    assert!(error.to_string().contains(&advice), "{error}");
    assert_eq!(api.health().signed_out, Some(error.to_string()));
    // While the verdict stands nobody asks again.
    assert!(api.info(&my("a")).await.is_err());
    assert_eq!(server.seen().len(), 1);

    let (other, credentials) = stored(tokens("old", 0));
    drop(store);
    struct Late(Arc<MemoryStore>, AtomicUsize);
    impl TokenStore for Late {
        fn load(&self) -> io::Result<Option<Tokens>> {
            match self.1.fetch_add(1, Ordering::SeqCst) {
                0 => self.0.load(),
                _ => Ok(Some(tokens("newer", 0))),
            }
        }
        fn save(&self, tokens: &Tokens) -> io::Result<()> {
            self.0.save(tokens)
        }
    }
    drop(credentials);
    let late = Arc::new(Late(Arc::clone(&other), AtomicUsize::new(0)));
    let api = server.api(Credentials::Stored(late));
    api.list_page(&my(""), &PagePosition::First, 9)
        .await
        .unwrap();
    assert_eq!(
        other.load().unwrap().unwrap().access.expose(),
        "access-good"
    );
}

#[tokio::test]
async fn trouble_during_a_renewal_signs_nobody_out() {
    // The first token is near its end, the second one is refused though it looks good.
    for seconds in [0, 3600] {
        let tries = AtomicUsize::new(0);
        let server = Responder::new(move |seen| {
            match seen.path().ends_with("/refresh") && tries.fetch_add(1, Ordering::SeqCst) < 2 {
                true => fixture("api1-banned-user-token"),
                false => strict(&seen),
            }
        })
        .await;
        let (_, credentials) = stored(tokens("old", seconds));
        let api = server.api(credentials);
        api.list_page(&my(""), &PagePosition::First, 9)
            .await
            .unwrap();
        assert_eq!(api.health().signed_out, None);
    }
}

#[tokio::test]
async fn a_second_refusal_after_renewal_is_final() {
    let server = Responder::new(|seen| match seen.path().ends_with("/refresh") {
        true => renewed("new"),
        false => code(401),
    })
    .await;
    let (_, credentials) = stored(tokens("old", 3600));
    let api = server.api(credentials);
    assert_eq!(variant(&api.user().await.unwrap_err()), "SignedOut");
    assert_eq!(server.seen().len(), 3);
}

#[tokio::test]
async fn by_id_a_stranger_may_be_ourselves_with_an_old_token() {
    let server = Responder::new(|seen| match seen.path().ends_with("/file/info") {
        true if bearer(&seen).as_deref() != Some("access-good") => {
            fixture("api1-info-by-id-anonymous")
        }
        true => json(r#"{"code":0,"data":{"type":0,"id":"2kHd","path":"cloudreve://my/a"}}"#),
        false => strict(&seen),
    })
    .await;
    let (_, credentials) = stored(tokens("old", 3600));
    let api = server.api(credentials);
    let id = FileId("2kHd".into());
    let found = api.info_by_id(&id).await.unwrap();
    assert_eq!(found.uri, my("a"));
}

#[tokio::test]
async fn an_access_token_that_ended_says_what_to_do_and_never_goes_anonymous() {
    use base64::Engine;
    let claims = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(r#"{"exp":1600000000}"#);
    let server = Responder::new(|_| fixture("api1-list-root")).await;
    let token = Secret::new(format!("e30.{claims}.sig"));
    let api = server.api(Credentials::AccessToken(token));
    let error = api
        .list_page(&my(""), &PagePosition::First, 9)
        .await
        .unwrap_err();
    assert_eq!(variant(&error), "SignedOut");
    assert!(error.to_string().contains("give a new one"), "{error}");
    // By now the server's time is known: nothing more is sent.
    assert!(api.info(&my("a")).await.is_err());
    assert_eq!(server.seen().len(), 1);
}

#[tokio::test]
async fn a_password_signs_in_at_first_use_and_is_not_tried_on_and_on() {
    let server = Responder::new(|seen| match seen.path() {
        "/api/v4/session/token" if seen.body.contains("right") => json(&format!(
            r#"{{"code":0,"data":{{"user":{{"id":"u"}},"token":{}}}}}"#,
            token_json("good")
        )),
        "/api/v4/session/token" if seen.body.contains("factor") => {
            fixture("api1-session-token-2fa-required")
        }
        "/api/v4/session/token" => code(40080),
        _ => strict(&seen),
    })
    .await;
    let password = |password: &str| Credentials::Password {
        email: "me@example.com".into(),
        password: Secret::new(password),
    };
    let api = server.api(password("right"));
    api.list_page(&my(""), &PagePosition::First, 9)
        .await
        .unwrap();
    let api = server.api(password("wrong"));
    let before = server.seen().len();
    for _ in 0..3 {
        assert_eq!(
            variant(&api.info(&my("a")).await.unwrap_err()),
            "WrongPassword"
        );
    }
    assert_eq!(server.seen().len(), before + 1);
    let api = server.api(password("factor"));
    assert_eq!(
        variant(&api.info(&my("a")).await.unwrap_err()),
        "SecondFactor"
    );
}

#[tokio::test]
async fn signing_in_is_sent_once_and_tells_what_is_wanted() {
    let server = Responder::new(|seen| match seen.path() {
        "/api/v4/session/token" if seen.body.contains("captcha") => {
            fixture("api1-session-token-user")
        }
        "/api/v4/session/token" => fixture("api1-session-token-2fa-required"),
        _ => html(),
    })
    .await;
    let api = server.api(Credentials::Anonymous);
    let mut sign_in = SignIn {
        email: "bob@example.com".into(),
        password: Secret::new("hunter22"),
        captcha: None,
    };
    let SignedIn::SecondFactor(session) = api.sign_in(&sign_in).await.unwrap() else {
        panic!("no second factor asked for");
    };
    let error = api
        .sign_in_second_factor(&session, "123456")
        .await
        .unwrap_err();
    assert_eq!(variant(&error), "Transport");
    assert_eq!(server.count("/api/v4/session/token/2fa"), 1);
    sign_in.captcha = Some(("ticket".into(), "text".into()));
    let SignedIn::Done(user, _) = api.sign_in(&sign_in).await.unwrap() else {
        panic!("not signed in");
    };
    assert_eq!(user.nickname, "bob");
    let shown = format!(
        "{sign_in:?} {session:?} {api:?} {:?}",
        Credentials::Anonymous
    );
    assert!(
        !shown.contains("hunter22") && !shown.contains(session.expose()),
        "{shown}"
    );
}

#[tokio::test]
async fn a_token_never_leaves_the_servers_origin() {
    let other = Responder::new(|_| fixture("api1-list-root")).await;
    let away = format!("Location: {}/api/v4/file\r\n", other.address);
    let server = Responder::new(move |seen| match seen.path() {
        "/api/v4/file" => answer("307 Temporary Redirect", &away, b""),
        "/api/v4/user/me" => answer("301 Moved Permanently", "Location: /api/v4/me\r\n", b""),
        _ => json(r#"{"code":0,"data":{"id":"u","nickname":"n"}}"#),
    })
    .await;
    let signed_in = || stored(tokens("good", 3600)).1;
    // That is tried again, so with less patience.
    let api = server.impatient(signed_in(), Duration::from_secs(2));
    let error = api
        .list_page(&my(""), &PagePosition::First, 9)
        .await
        .unwrap_err();
    assert_eq!(variant(&error), "Transport");
    assert!(other.seen().is_empty());
    let api = server.api(signed_in());
    assert_eq!(api.user().await.unwrap().nickname, "n");
    assert!(server.seen().iter().all(|seen| bearer(seen).is_some()));
}

#[tokio::test]
async fn errors_hold_no_secret() {
    let server = Responder::new(|_| html()).await;
    let address: Address = "http://127.0.0.1:9/".parse().unwrap();
    let share = FileUri::parse("cloudreve://AbCd:hunter2@share/x").unwrap();
    let token = || Credentials::AccessToken(Secret::new("hunter2"));
    let options = Options {
        address,
        user_agent: "test/1".into(),
        ca_file: None,
        timeout: Duration::from_millis(300),
        limit_down_bytes: 0,
        limit_up_bytes: 0,
    };
    let dead = Api::new(options, token()).unwrap();
    let api = server.impatient(token(), Duration::from_millis(300));
    let url = Secret::new(format!("{}/c?sign=hunter2", server.address));
    let unreachable = Secret::new("http://127.0.0.1:9/c?sign=hunter2");
    for error in [
        api.list_page(&share, &PagePosition::First, 9)
            .await
            .unwrap_err(),
        dead.list_page(&share, &PagePosition::First, 9)
            .await
            .unwrap_err(),
        api.content(&url, 0..10, 10).await.unwrap_err(),
        api.content(&unreachable, 0..10, 10).await.unwrap_err(),
    ] {
        let shown = format!("{error} {error:?} {:?}", dead.health());
        assert!(!shown.contains("hunter2"), "{shown}");
    }
}

#[tokio::test]
async fn a_token_that_nears_its_end_is_renewed_while_it_still_serves() {
    let (tell, mut renewals) = tokio::sync::mpsc::unbounded_channel();
    let server = Responder::new(move |seen| match seen.path().ends_with("/refresh") {
        true => {
            tell.send(()).unwrap();
            renewed("good")
        }
        false => page_from_the_future(300),
    })
    .await;
    // 400 s by our clock; 100 s are left once the server's clock is known: enough to use it meanwhile.
    let (_, credentials) = stored(tokens("old", 400));
    let api = server.api(credentials);
    let list = async || {
        let page = api.list_page(&my(""), &PagePosition::First, 9).await;
        page.map(|_| ()).unwrap();
    };
    list().await;
    assert_eq!(server.count("/api/v4/session/token/refresh"), 0);
    list().await;
    renewals.recv().await.unwrap();
    let listings = |seen: &Seen| seen.path().ends_with("/file").then(|| bearer(seen));
    let sent: Vec<_> = server.seen().iter().filter_map(listings).collect();
    assert_eq!(sent, [Some("access-old".into()), Some("access-old".into())]);
    assert_eq!(server.count("/api/v4/session/token/refresh"), 1);
}

#[tokio::test]
async fn a_store_that_cannot_be_written_costs_nobody_their_mount() {
    struct Full(Tokens);
    impl TokenStore for Full {
        fn load(&self) -> io::Result<Option<Tokens>> {
            Ok(Some(self.0.clone()))
        }
        fn save(&self, _: &Tokens) -> io::Result<()> {
            Err(io::ErrorKind::StorageFull.into())
        }
    }
    let server = Responder::new(|seen| strict(&seen)).await;
    let api = server.api(Credentials::Stored(Arc::new(Full(tokens("old", 0)))));
    api.list_page(&my(""), &PagePosition::First, 9)
        .await
        .unwrap();
}

#[tokio::test]
async fn a_store_that_nobody_is_signed_in_to_says_how_to_sign_in() {
    let server = Responder::new(|seen| strict(&seen)).await;
    let store = Arc::new(MemoryStore::default());
    let api = server.api(Credentials::Stored(Arc::clone(&store) as _));
    let error = api.info(&my("a")).await.unwrap_err();
    assert!(
        error.to_string().contains("cloudreve-fuse login"),
        "{error}"
    );
    assert!(server.seen().is_empty());
}

#[tokio::test]
async fn a_site_that_sees_a_visitor_where_we_are_signed_in_is_asked_again_with_a_new_token() {
    let server = Responder::new(|seen| {
        if seen.path().ends_with("/refresh") {
            return renewed("good");
        }
        match bearer(&seen).as_deref() {
            Some("access-good") => json(
                r#"{"code":0,"data":{"instance_id":"i","title":"t","user":{"id":"u","nickname":"bob"}}}"#,
            ),
            _ => fixture("api1-site-config-basic"),
        }
    })
    .await;
    let (_, credentials) = stored(tokens("old", 3600));
    let site = server.api(credentials).site().await.unwrap();
    assert_eq!(site.user.nickname, "bob");
    let token = Credentials::AccessToken(Secret::new("old"));
    let error = server.api(token).site().await.unwrap_err();
    assert_eq!(variant(&error), "SignedOut");
}
