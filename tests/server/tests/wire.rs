//! The server over its wire: its answers, its quirks, and what it counts.

mod support;

use std::time::Duration;

use cloudreve_test_server::{
    Fault, Options, Route, Server, ShareOptions, Store, Wedge, generated_bytes,
};
use serde_json::{Value, json};

use support::Client;

fn start() -> (Server, Client) {
    let server = Server::start(Options::default()).unwrap();
    let client = Client::signed_in(&server);
    (server, client)
}

/// The signed URL of a file, without its origin.
fn url_of(client: &Client, uri: &str) -> String {
    let answer = client.post("/file/url", &json!({"uris": [uri]}));
    assert_eq!(answer["code"], 0, "{answer}");
    let url = answer["data"]["urls"][0]["url"]
        .as_str()
        .unwrap()
        .to_owned();
    url.split_once("/api/")
        .map_or(url.clone(), |(_, rest)| format!("/api/{rest}"))
}

const LIST: &str =
    "/file?uri=cloudreve%3A%2F%2Fmy&page_size=1000&order_by=name&order_direction=asc";

#[test]
fn an_expired_token_makes_an_anonymous_caller_whose_refusal_is_found_in_different_places() {
    let (server, client) = start();
    let id = server.put("a", b"a".to_vec());
    server.advance_clock(Duration::from_secs(3601));
    assert_eq!(client.get(LIST)["code"], 401);
    assert_eq!(client.get(&format!("/file/info?id={id}"))["code"], 40082);
    assert_eq!(
        client.get("/site/config/basic")["data"]["user"]["anonymous"],
        true
    );
    let nested = |answer: &Value| answer["aggregated_error"]["cloudreve://my/a"]["code"].clone();
    let uris = json!({"uris": ["cloudreve://my/a"]});
    for answer in [
        client.post("/file/url", &uris),
        client.delete("/file", &uris),
    ] {
        assert_eq!(
            (&answer["code"], nested(&answer)),
            (&json!(40081), json!(401)),
            "{answer}"
        );
    }
    let refreshed = client.post(
        "/session/token/refresh",
        &json!({"refresh_token": client.refresh}),
    );
    assert_eq!(refreshed["code"], 0);
    let token = refreshed["data"]["access_token"].as_str().unwrap();
    assert_eq!(client.with_token(token).get(LIST)["code"], 0);
}

#[test]
fn a_refresh_token_dies_with_the_password_and_with_signing_out_and_is_no_access_token() {
    let (server, client) = start();
    let refresh = |token: &str| {
        client
            .anonymous()
            .post("/session/token/refresh", &json!({"refresh_token": token}))
    };
    assert_eq!(
        client.with_token(&client.refresh).get("/site/ping")["code"],
        40020
    );
    assert_eq!(refresh(&client.access)["code"], 40020);
    let other = Client::signed_in(&server);
    assert_eq!(
        client.delete("/session/token", &json!({"refresh_token": client.refresh}))["code"],
        0
    );
    assert_eq!(refresh(&client.refresh)["code"], 40020);
    assert_eq!(refresh(&other.refresh)["code"], 0);
    let user = server.user();
    server.set_password(&user.email, "another-password");
    server.set_password(&user.email, &user.password);
    assert_eq!(
        refresh(&other.refresh)["code"],
        40020,
        "the digest is salted anew"
    );
    server.ban_user(&user.email, true);
    assert_eq!(client.get("/site/ping")["code"], 50001);
}

#[test]
fn signing_in_asks_for_captcha_and_second_factor_where_they_are_on() {
    let (server, client) = start();
    let user = server.user();
    let sign_in = |extra: Value| {
        let mut body = json!({"email": user.email.to_uppercase(), "password": user.password});
        body.as_object_mut()
            .unwrap()
            .extend(extra.as_object().unwrap().clone());
        client.anonymous().post("/session/token", &body)
    };
    assert_eq!(sign_in(json!({"password": "wrong-one"}))["code"], 40080);
    server.set_captcha(true);
    assert_eq!(
        client.get("/site/config/login")["data"]["login_captcha"],
        true
    );
    assert_eq!(sign_in(json!({}))["code"], 40026);
    let ticket = client.get("/site/captcha")["data"]["ticket"]
        .as_str()
        .unwrap()
        .to_owned();
    let text = server.captcha_answer(&ticket).unwrap();
    assert_eq!(
        sign_in(json!({"ticket": ticket, "captcha": text}))["code"],
        0
    );
    assert_eq!(
        sign_in(json!({"ticket": ticket, "captcha": text}))["code"],
        40026,
        "a ticket is good once"
    );
    server.set_captcha(false);
    server.enable_2fa(&user.email);
    let answer = sign_in(json!({}));
    assert_eq!(answer["code"], 203);
    let second = |otp: &str| {
        client.post(
            "/session/token/2fa",
            &json!({"session_id": answer["data"], "otp": otp}),
        )
    };
    assert_eq!(second("abcdef")["code"], 40022);
    assert_eq!(second(&server.otp(&user.email))["code"], 0);
    assert_eq!(second(&server.otp(&user.email))["code"], 404);
}

#[test]
fn content_is_served_by_ranges_and_the_signature_alone_is_asked_for() {
    let (server, client) = start();
    server.put_generated("a b#.bin", 1_000_000, 7);
    let url = url_of(&client, "cloudreve://my/a%20b%23.bin");
    let anonymous = client.anonymous();
    let all = anonymous.raw("GET", &url, &[], b"");
    assert_eq!(
        (all.status, all.header("accept-ranges")),
        (200, Some("bytes"))
    );
    assert_eq!(all.body, generated_bytes(7, 0..1_000_000));
    let some = anonymous.raw("GET", &url, &[("Range", "bytes=100-199")], b"");
    assert_eq!(
        (some.status, some.header("content-range")),
        (206, Some("bytes 100-199/1000000"))
    );
    assert_eq!(some.body, generated_bytes(7, 100..200));
    let beyond = anonymous.raw("GET", &url, &[("Range", "bytes=1000000-")], b"");
    assert_eq!(
        (beyond.status, beyond.header("content-range")),
        (416, Some("bytes */1000000"))
    );
    let head = anonymous.raw("HEAD", &url, &[], b"");
    assert_eq!(
        (head.status, head.header("content-length"), head.body.len()),
        (200, Some("1000000"), 0)
    );
    let entity = server.entity_id("a b#.bin");
    assert_eq!(all.header("etag"), Some(format!("\"{entity}\"").as_str()));
}

#[test]
fn a_signature_that_is_not_good_comes_as_status_200_and_an_envelope() {
    let (server, client) = start();
    server.put("a", b"content".to_vec());
    let url = url_of(&client, "cloudreve://my/a");
    let code = |url: &str| {
        let answer = client.raw("GET", url, &[], b"");
        assert_eq!(answer.status, 200);
        answer.json()["code"].clone()
    };
    assert_eq!(code(&url.replace("/a?", "/b?")), 40071);
    assert_eq!(code(url.split('?').next().unwrap()), 403);
    server.advance_clock(Duration::from_secs(3602));
    assert_eq!(code(&url), 40005);
    let fresh = url_of(&client.signed_in_again(&server), "cloudreve://my/a");
    server.remove("a");
    assert_eq!(code(&fresh), 40077);
}

#[test]
fn urls_are_handed_out_again_until_ten_minutes_before_their_end() {
    let (server, client) = start();
    server.put("a", b"content".to_vec());
    let first = url_of(&client, "cloudreve://my/a");
    server.advance_clock(Duration::from_secs(2990));
    assert_eq!(url_of(&client, "cloudreve://my/a"), first);
    server.advance_clock(Duration::from_secs(20));
    assert_ne!(url_of(&client, "cloudreve://my/a"), first);
}

#[test]
fn a_replaced_version_is_served_while_retention_keeps_it_and_gone_at_once_without() {
    let (server, client) = start();
    for (retention, code) in [(true, None), (false, Some(40077))] {
        server.set_retention(retention, 10);
        server.put("a", b"old".to_vec());
        let url = url_of(&client, "cloudreve://my/a");
        server.put("a", b"new".to_vec());
        let answer = client.raw("GET", &url, &[], b"");
        match code {
            None => assert_eq!(answer.body, b"old"),
            Some(code) => assert_eq!(answer.json()["code"], code),
        }
    }
}

#[test]
fn each_url_of_a_share_is_a_download_and_a_used_up_share_is_gone() {
    let (server, client) = start();
    server.put("docs/a", b"content".to_vec());
    let share = server.share(
        "docs",
        ShareOptions {
            downloads: Some(2),
            ..Default::default()
        },
    );
    let uri = format!("cloudreve://{share}@share/a");
    let anonymous = client.anonymous();
    assert_eq!(url_of(&anonymous, &uri), url_of(&client, &uri));
    assert_eq!(server.downloads_left(&share), Some(0));
    let answer = anonymous.post("/file/url", &json!({"uris": [uri]}));
    assert_eq!(answer["aggregated_error"][&uri]["code"], 404, "{answer}");
    assert_eq!(anonymous.get(&format!("/share/info/{share}"))["code"], 404);
}

#[test]
fn a_share_with_a_password_opens_to_it_alone_and_anonymous_visitors_may_be_refused() {
    let (server, client) = start();
    server.put("docs/a", b"content".to_vec());
    let share = server.share(
        "docs",
        ShareOptions {
            password: Some("pw1234".to_owned()),
            ..Default::default()
        },
    );
    let anonymous = client.anonymous();
    let list = |user: &str| anonymous.get(&format!("/file?uri=cloudreve%3A%2F%2F{user}%40share"));
    assert_eq!(list(&share)["code"], 40069);
    let answer = list(&format!("{share}%3Apw1234"));
    assert_eq!(
        answer["data"]["files"][0]["path"],
        format!("cloudreve://{share}:pw1234@share/a")
    );
    assert_eq!(
        anonymous.get(&format!("/share/info/{share}"))["data"]["unlocked"],
        false
    );
    server.configure(|settings| settings.anonymous_may_open_shares = false);
    assert_eq!(list(&format!("{share}%3Apw1234"))["code"], 40088);
    server.trash("docs");
    assert_eq!(list(&format!("{share}%3Apw1234"))["code"], 404);
}

#[test]
fn a_listing_that_says_nothing_follows_the_view_of_the_folder() {
    let (server, client) = start();
    server.add_many("docs/below", 60);
    let view = cloudreve_test_server::View {
        page_size: 50,
        order: "name".into(),
        direction: "desc".into(),
    };
    server.set_view("docs", Some(view));
    let answer = client.get("/file?uri=cloudreve%3A%2F%2Fmy%2Fdocs%2Fbelow");
    assert_eq!(answer["data"]["files"].as_array().unwrap().len(), 50);
    assert_eq!(answer["data"]["files"][0]["name"], "file 000059");
    let answer = client.get("/file?uri=cloudreve%3A%2F%2Fmy%2Fdocs%2Fbelow&page_size=9999&order_by=name&order_direction=asc");
    assert_eq!(answer["data"]["pagination"]["page_size"], 2000);
    assert_eq!(answer["data"]["files"][0]["name"], "file 000000");
}

#[test]
fn a_session_of_chunks_is_a_placeholder_until_the_last_one_and_locks_what_is_above() {
    let (server, client) = start();
    server.configure(|settings| settings.chunk_size = 4);
    server.mkdir("docs");
    let session = client.put(
        "/file/upload",
        &json!({"uri": "cloudreve://my/docs/f", "size": 10, "last_modified": 1_600_000_000_123_i64}),
    );
    assert_eq!(
        (&session["code"], &session["data"]["chunk_size"]),
        (&json!(0), &json!(4)),
        "{session}"
    );
    let id = session["data"]["session_id"].as_str().unwrap();
    let info = || client.get("/file/info?uri=cloudreve%3A%2F%2Fmy%2Fdocs%2Ff");
    assert_eq!(info()["data"]["metadata"]["sys:upload_session_id"], id);
    assert_eq!(info()["data"]["size"], 0);
    let renamed = client.post(
        "/file/rename",
        &json!({"uri": "cloudreve://my/docs", "new_name": "x"}),
    );
    assert_eq!(
        (&renamed["code"], &renamed["data"][0]["path"]),
        (&json!(40073), &json!("cloudreve://my/docs/f"))
    );
    let chunk = |index: u32, bytes: &[u8]| {
        client
            .raw(
                "POST",
                &format!("/api/v4/file/upload/{id}/{index}"),
                &[],
                bytes,
            )
            .json()["code"]
            .clone()
    };
    assert_eq!(chunk(2, b"89"), 0);
    assert_eq!(chunk(0, b"01"), 40013);
    assert_eq!(chunk(3, b"0"), 40012);
    assert_eq!((chunk(0, b"0123"), chunk(1, b"4567")), (json!(0), json!(0)));
    assert_eq!(chunk(1, b"4567"), 40011);
    assert_eq!(server.content("docs/f").unwrap(), b"0123456789");
    assert_eq!(info()["data"]["updated_at"], "2020-09-13T12:26:40.123Z");
    assert_eq!(info()["data"]["metadata"], json!({}));
}

#[test]
fn an_unsized_body_commits_an_empty_file_and_a_stale_base_is_refused() {
    let (server, client) = start();
    let put = |query: &str, headers: &[(&str, &str)], body: &[u8]| {
        client
            .raw(
                "PUT",
                &format!("/api/v4/file/content?uri=cloudreve%3A%2F%2Fmy%2Ff{query}"),
                headers,
                body,
            )
            .json()
    };
    let first = put("", &[], b"one")["data"]["primary_entity"]
        .as_str()
        .unwrap()
        .to_owned();
    assert_eq!(put(&format!("&previous={first}"), &[], b"two")["code"], 0);
    assert_eq!(
        put(&format!("&previous={first}"), &[], b"three")["code"],
        40076
    );
    assert_eq!(server.content("f").unwrap(), b"two");
    let answer = put(
        "",
        &[("Transfer-Encoding", "chunked")],
        b"5\r\nthree\r\n0\r\n\r\n",
    );
    assert_eq!(answer["data"]["size"], 0, "{answer}");
}

#[test]
fn batches_do_what_they_can_and_conflict_with_themselves() {
    let (server, client) = start();
    for path in ["a/1", "a/2", "b/1"] {
        server.put(path, b"x".to_vec());
    }
    let delete = |uris: Value| client.delete("/file", &json!({"uris": uris}));
    assert_eq!(
        delete(json!(["cloudreve://my/a", "cloudreve://my/a/1"]))["code"],
        40073
    );
    let moved = client.post(
        "/file/move",
        &json!({"uris": ["cloudreve://my/a/1"], "dst": "cloudreve://my/b"}),
    );
    assert_eq!(moved["code"], 40004);
    let moved = client.post(
        "/file/move",
        &json!({"uris": ["cloudreve://my/a/1"], "dst": "cloudreve://my/a"}),
    );
    assert_eq!(moved["code"], 40073);
    let partly = delete(json!(["cloudreve://my/a/2", "cloudreve://my/gone"]));
    assert_eq!(
        partly["aggregated_error"]["cloudreve://my/gone"]["code"],
        40016
    );
    assert_eq!(server.names("a").unwrap(), ["1"]);
    let trash = client.get("/file?uri=cloudreve%3A%2F%2Ftrash");
    let entry = &trash["data"]["files"][0];
    assert_eq!(
        (&entry["name"], &entry["metadata"]["sys:restore_uri"]),
        (&json!("2"), &json!("cloudreve://my/a/2"))
    );
    assert_eq!(
        client.post("/file/restore", &json!({"uris": [entry["path"]]}))["code"],
        0
    );
    assert_eq!(server.names("a").unwrap(), ["1", "2"]);
}

#[test]
fn shortcuts_are_listed_and_cannot_be_walked_into() {
    let (server, client) = start();
    server.put("docs/a", b"content".to_vec());
    let share = server.share("docs", ShareOptions::default());
    let id = server.add_shortcut("here/shortcut", &format!("cloudreve://{share}@share"));
    let listed = client.get("/file?uri=cloudreve%3A%2F%2Fshared_with_me");
    assert_eq!(
        listed["data"]["files"][0]["path"],
        format!("cloudreve://shared_with_me/{id}")
    );
    assert_eq!(
        client.get("/file/info?uri=cloudreve%3A%2F%2Fmy%2Fhere%2Fshortcut")["code"],
        0
    );
    for path in [
        "/file?uri=cloudreve%3A%2F%2Fmy%2Fhere%2Fshortcut",
        "/file/info?uri=cloudreve%3A%2F%2Fmy%2Fhere%2Fshortcut%2Fa",
    ] {
        assert_eq!(client.get(path)["code"], 403);
    }
}

#[test]
fn oauth_takes_one_code_once_with_secret_and_verifier() {
    let (server, client) = start();
    let redirect = "http://127.0.0.1:7777/callback";
    let scopes = "openid offline_access Files.Write UserInfo.Read";
    let (id, secret) = server.add_oauth_client("fuse", &[redirect], scopes);
    assert_eq!(
        client.get(&format!("/session/oauth/app/{id}"))["data"]["name"],
        "fuse"
    );
    // The pair of RFC 7636, appendix B.
    let verifier = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
    let challenge = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";
    assert_eq!(
        server
            .approve_oauth(&id, "http://127.0.0.1:1/", scopes, challenge)
            .unwrap_err()
            .0,
        40001
    );
    let exchange = |code: &str, verifier: &str| {
        let form = format!(
            "client_id={id}&client_secret={secret}&grant_type=authorization_code&code={code}&code_verifier={verifier}"
        );
        client
            .anonymous()
            .raw("POST", "/api/v4/session/oauth/token", &[], form.as_bytes())
    };
    let code = server
        .approve_oauth(&id, redirect, scopes, challenge)
        .unwrap();
    assert_eq!(exchange(&code, "wrong").status, 400);
    assert_eq!(
        exchange(&code, verifier).status,
        400,
        "the code was used up"
    );
    let code = server
        .approve_oauth(&id, redirect, scopes, challenge)
        .unwrap();
    let tokens = exchange(&code, verifier).json();
    let oauth = client.with_token(tokens["access_token"].as_str().unwrap());
    assert_eq!(oauth.get(LIST)["code"], 0);
    assert_eq!(oauth.get("/share?page_size=10")["code"], 40089);
    server.revoke_oauth(&id);
    let refreshed = client.anonymous().post(
        "/session/token/refresh",
        &json!({"refresh_token": tokens["refresh_token"]}),
    );
    assert_eq!(refreshed["code"], 40020);
}

#[test]
fn a_wedged_database_fails_reads_or_writes_as_told() {
    let (server, client) = start();
    server.set_wedge(Wedge::Reads);
    assert_eq!(client.get("/user/capacity")["code"], 50001);
    server.set_wedge(Wedge::Writes);
    assert_eq!(client.get(LIST)["code"], 0);
    assert_eq!(
        client.post(
            "/file/create",
            &json!({"uri": "cloudreve://my/a", "type": "file"})
        )["code"],
        50001
    );
    server.set_wedge(Wedge::None);
    assert_eq!(
        client.post(
            "/file/create",
            &json!({"uri": "cloudreve://my/a", "type": "file"})
        )["code"],
        0
    );
}

#[test]
fn a_client_that_goes_before_its_headers_is_counted_and_one_that_goes_after_is_not() {
    let server = Server::start(Options {
        wedge_on_hangup: true,
        ..Options::default()
    })
    .unwrap();
    let client = Client::signed_in(&server);
    server.put_generated("big", 64 << 20, 1);
    let url = url_of(&client, "cloudreve://my/big");
    // Headers, and some of the body.
    drop(client.begin("GET", &url));
    let before = server.hung_up_before_headers();
    server.set_latency(Duration::from_secs(5));
    let waiting = client.send("GET", "/api/v4/site/ping");
    server.wait_for_requests(1);
    drop(waiting);
    wait_until(|| server.hung_up_before_headers() == 1);
    assert_eq!(before, 0);
    server.set_latency(Duration::ZERO);
    assert_eq!(
        client.get("/user/capacity")["code"],
        50001,
        "it has wedged the database"
    );
    server.advance_clock(Duration::from_secs(31));
    assert_eq!(client.get("/user/capacity")["code"], 0);
}

/// Waits for what another thread is about to do.
#[track_caller]
fn wait_until(done: impl Fn() -> bool) {
    for _ in 0..5_000 {
        if done() {
            return;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    panic!("it did not happen in time");
}

#[test]
fn faults_do_to_an_answer_what_they_say() {
    let (server, client) = start();
    server.put_generated("f", 100_000, 3);
    let url = url_of(&client, "cloudreve://my/f");
    let get = |fault: Fault| {
        server.fail(fault);
        let answer = client.try_raw("GET", &url, &[("Range", "bytes=1000-1999")], b"");
        server.clear_faults();
        answer
    };
    let on = || Fault::on(Route::Content);
    let answer = get(on().status(429).retry_after(Duration::from_secs(7))).unwrap();
    assert_eq!(
        (answer.status, answer.header("retry-after")),
        (429, Some("7"))
    );
    let answer = get(on().html_page()).unwrap();
    assert_eq!(
        (answer.status, answer.header("content-type")),
        (200, Some("text/html; charset=utf-8"))
    );
    assert!(get(on().reset_before_headers()).is_err());
    for fault in [on().truncate_after(100), on().reset_after(100)] {
        let cut = get(fault.clone()).unwrap();
        assert!(
            cut.body.len() <= 100 && cut.header("content-length") == Some("1000"),
            "{fault:?}"
        );
    }
    let answer = get(on().wrong_range()).unwrap();
    assert_eq!(
        answer.header("content-range"),
        Some("bytes 999-1998/100000")
    );
    assert_eq!(answer.body, generated_bytes(3, 999..1999));
    let answer = get(on().ignore_range()).unwrap();
    assert_eq!((answer.status, answer.body.len()), (200, 100_000));
    let answer = get(on().range_as_200()).unwrap();
    assert_eq!(
        (answer.status, answer.header("content-range")),
        (200, Some("bytes 1000-1999/100000"))
    );
    let answer = get(on().short_content()).unwrap();
    assert_eq!(
        answer.header("content-range"),
        Some("bytes 1000-1499/100000")
    );
    assert_eq!(
        get(on().code(40077, "Entity not exist")).unwrap().json()["code"],
        40077
    );
}

#[test]
fn what_was_stalled_comes_when_faults_are_cleared() {
    let (server, client) = start();
    server.put_generated("f", 10_000, 3);
    let url = url_of(&client, "cloudreve://my/f");
    server.fail(Fault::on(Route::Content).stall_after(5_000).times(1));
    std::thread::scope(|scope| {
        let answer = scope.spawn(|| client.raw("GET", &url, &[], b""));
        wait_until(|| server.body_bytes_sent() >= 5_000 && server.count(Route::Content) == 1);
        server.clear_faults();
        assert_eq!(answer.join().unwrap().body, generated_bytes(3, 0..10_000));
    });
}

#[test]
fn bandwidth_is_what_was_set() {
    let (server, client) = start();
    server.put_generated("f", 1 << 20, 3);
    let url = url_of(&client, "cloudreve://my/f");
    server.set_bandwidth(Some(4 << 20));
    let begin = std::time::Instant::now();
    client.raw("GET", &url, &[], b"");
    assert!(
        begin.elapsed() >= Duration::from_millis(240),
        "{:?}",
        begin.elapsed()
    );
}

#[test]
fn a_connection_of_its_own_has_bandwidth_of_its_own() {
    let (server, client) = start();
    server.put_generated("f", 1 << 20, 3);
    let url = url_of(&client, "cloudreve://my/f");
    server.set_connection_bandwidth(Some(4 << 20));
    let begin = std::time::Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| client.raw("GET", &url, &[], b""));
        }
    });
    let elapsed = begin.elapsed();
    assert!(elapsed >= Duration::from_millis(240), "{elapsed:?}");
    assert!(
        elapsed < Duration::from_millis(750),
        "four at once take less than three in turn: {elapsed:?}"
    );
}

#[test]
fn a_store_of_another_origin_serves_the_bytes_and_refuses_a_token() {
    let (server, client) = start();
    server.put_generated("f", 1000, 3);
    server.configure(|settings| settings.store = Store::Redirect);
    let own = url_of(&client, "cloudreve://my/f");
    let redirect = client.raw("GET", &own, &[], b"");
    assert_eq!(redirect.status, 302);
    let location = redirect.header("location").unwrap();
    let (path, store) = (
        location.replace(&server.store_address(), ""),
        client.at(&server.store_address()),
    );
    assert!(location.starts_with(&server.store_address()), "{location}");
    assert_eq!(
        store.raw("GET", &path, &[], b"").status,
        400,
        "it does not take a token"
    );
    let store = store.anonymous();
    assert_eq!(
        store.raw("GET", &path, &[("Range", "bytes=5-9")], b"").body,
        generated_bytes(3, 5..10)
    );
    assert_eq!(
        store
            .raw("GET", &path.replace("Signature=", "Signature=0"), &[], b"")
            .status,
        403
    );
    server.configure(|settings| settings.store_ranges_as_200 = true);
    let quirk = store.raw("GET", &path, &[("Range", "bytes=5-9")], b"");
    assert_eq!(
        (quirk.status, quirk.header("content-range")),
        (200, Some("bytes 5-9/1000"))
    );
    let at_store = server
        .requests()
        .into_iter()
        .filter(|request| request.route == Route::Store);
    assert_eq!(
        at_store
            .filter(|request| request.had_authorization())
            .count(),
        1
    );
    server.advance_clock(Duration::from_secs(3601));
    assert_eq!(store.raw("GET", &path, &[], b"").status, 403);
}

#[test]
fn urls_that_lead_straight_to_the_store_are_signed_for_it_until_they_expire() {
    let (server, client) = start();
    server.put_generated("a b#.bin", 1000, 3);
    server.configure(|settings| settings.store = Store::Direct);
    let answer = client.post(
        "/file/url",
        &json!({"uris": ["cloudreve://my/a%20b%23.bin"]}),
    );
    let url = answer["data"]["urls"][0]["url"].as_str().unwrap();
    let path = url.strip_prefix(&server.store_address()).unwrap();
    let store = client.at(&server.store_address()).anonymous();
    assert_eq!(
        store.raw("GET", path, &[], b"").body,
        generated_bytes(3, 0..1000)
    );
    assert_eq!(store.raw("HEAD", path, &[], b"").status, 403);
    assert_eq!(
        store
            .raw("GET", path, &[("Range", "bytes=1000-")], b"")
            .status,
        416
    );
    server.remove("a b#.bin");
    assert_eq!(store.raw("GET", path, &[], b"").status, 404);
    assert_eq!(server.count(Route::Content), 0);
}

#[test]
fn a_lost_answer_is_of_a_request_that_was_done() {
    let (server, client) = start();
    server.fail(Fault::on(Route::Create).reset_before_headers().times(1));
    let body = json!({"uri": "cloudreve://my/made", "type": "folder", "err_on_conflict": true})
        .to_string();
    assert!(
        client
            .try_raw("POST", "/api/v4/file/create", &[], body.as_bytes())
            .is_err()
    );
    assert_eq!(server.names("").unwrap(), ["made"]);
    assert_eq!(
        server.hung_up_before_headers(),
        0,
        "it was the server who hung up"
    );
    let again = client.raw("POST", "/api/v4/file/create", &[], body.as_bytes());
    assert_eq!(again.json()["code"], 40004);
}

#[test]
fn a_fault_before_the_server_leaves_nothing_done() {
    let (server, client) = start();
    server.fail(Fault::everywhere().status(502));
    let body = json!({"uri": "cloudreve://my/made", "type": "folder"}).to_string();
    let answer = client.raw("POST", "/api/v4/file/create", &[], body.as_bytes());
    assert_eq!((answer.status, server.names("").unwrap().len()), (502, 0));
}

#[test]
fn the_date_of_an_answer_is_the_servers_own_time() {
    let (server, client) = start();
    let date = || {
        client
            .raw("GET", "/api/v4/site/ping", &[], b"")
            .header("date")
            .unwrap()
            .to_owned()
    };
    let before = date();
    server.advance_clock(Duration::from_secs(86_400 * 40));
    assert_ne!(before[..16], date()[..16]);
}

#[test]
fn a_missing_route_and_one_of_a_newer_version_answer_in_plain_text() {
    let (server, client) = start();
    server.configure(|settings| settings.missing_routes = vec![Route::OAuthApp, Route::Events]);
    for path in [
        "/api/v4/file/events?uri=cloudreve%3A%2F%2Fmy",
        "/api/v4/session/oauth/app/x",
        "/nothing",
    ] {
        let answer = client.raw("GET", path, &[], b"");
        assert_eq!(
            (answer.status, answer.body.as_slice()),
            (404, b"404 page not found".as_slice())
        );
    }
}

#[test]
fn a_folder_of_100_000_entries_lists_fast() {
    let (server, client) = start();
    server.add_many("big", 100_000);
    let (mut token, mut names, begin) = (String::new(), 0, std::time::Instant::now());
    loop {
        let path = format!(
            "/file?uri=cloudreve%3A%2F%2Fmy%2Fbig&page_size=2000&order_by=name&order_direction=asc{token}"
        );
        let answer = client.get(&path);
        names += answer["data"]["files"].as_array().unwrap().len();
        let Some(next) = answer["data"]["pagination"]["next_token"].as_str() else {
            break;
        };
        token = format!(
            "&next_page_token={}",
            next.replace('+', "%2B")
                .replace('/', "%2F")
                .replace('=', "%3D")
        );
    }
    assert_eq!((names, server.count(Route::List)), (100_000, 50));
    // Generous: this machine parses the JSON in debug mode, too.
    assert!(
        begin.elapsed() < Duration::from_secs(20),
        "{:?}",
        begin.elapsed()
    );
}

#[test]
fn secrets_that_were_issued_are_known() {
    let (server, client) = start();
    server.put("a", b"content".to_vec());
    let url = url_of(&client, "cloudreve://my/a");
    let secrets = server.secrets_issued();
    assert!(secrets.contains(&client.access) && secrets.contains(&client.refresh));
    assert!(
        secrets.iter().any(|secret| url.contains(secret.as_str())),
        "the signature of {url}"
    );
}

#[test]
fn a_server_that_was_killed_refuses_until_it_runs_again_with_all_that_it_held() {
    let (server, client) = start();
    server.put("a", b"a".to_vec());
    let address = server.address();
    let address = address.trim_start_matches("http://");
    server.fail(Fault::on(Route::List).stall());
    std::thread::scope(|scope| {
        let stalled = scope
            .spawn(|| std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| client.get(LIST))));
        server.wait_for_requests(1);
        server.stop();
        assert!(stalled.join().unwrap().is_err(), "its connection is cut");
    });
    let refused = std::net::TcpStream::connect(address).unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
    server.clear_faults();
    server.restart().unwrap();
    assert_eq!(client.get(LIST)["data"]["files"][0]["name"], "a");
    assert_eq!(server.hung_up_before_headers(), 0, "no client went");
}
