//! Answers compared with those of a live 4.18.0, recorded in `tests/fixtures`: same status, same codes and messages,
//! same fields of the same types. Values differ, as ids and times do.

mod support;

use std::time::Duration;

use cloudreve_test_server::{Options, Server, ShareOptions, StoragePolicy, View, Wedge};
use serde_json::{Value, json};

use support::{Answer, Client};

/// Objects whose keys are data.
const FREE: [&str; 3] = ["metadata", "aggregated_error", "custom_html"];

/// Headers that a live server sets and that mean something to a client.
const HEADERS: [&str; 8] = [
    "accept-ranges",
    "cache-control",
    "content-range",
    "content-length",
    "content-security-policy",
    "content-type",
    "etag",
    "x-content-type-options",
];

/// Where two values differ in shape; empty if they do not.
fn differences(expected: &Value, found: &Value, at: &str, out: &mut Vec<String>) {
    match (expected, found) {
        (Value::Object(expected), Value::Object(found)) => {
            for (key, value) in expected {
                let at = format!("{at}.{key}");
                match found.get(key) {
                    None => out.push(format!("{at} is missing")),
                    Some(_) if FREE.contains(&key.as_str()) => {}
                    Some(same) if (key == "code" && same.is_number()) || key == "msg" => {
                        if same != value {
                            out.push(format!("{at} is {same} instead of {value}"));
                        }
                    }
                    Some(other) => differences(value, other, &at, out),
                }
            }
            let more = found.keys().filter(|key| !expected.contains_key(*key));
            out.extend(more.map(|key| format!("{at}.{key} is too much")));
        }
        (Value::Array(expected), Value::Array(found)) => match (expected.first(), found.first()) {
            (Some(first), Some(other)) => differences(first, other, &format!("{at}[0]"), out),
            (None, None) => {}
            (first, other) => out.push(format!("{at} begins with {other:?} instead of {first:?}")),
        },
        (Value::String(expected), Value::String(found)) => {
            // A secret has any letters in any place.
            let is_time = |text: &str| {
                let bytes = text.as_bytes();
                bytes.len() >= 20 && (bytes[4], bytes[10]) == (b'-', b'T') && text.ends_with('Z')
            };
            if is_time(expected) != is_time(found) {
                out.push(format!("{at} is {found:?}, not like {expected:?}"));
            }
        }
        (expected, found) => {
            if std::mem::discriminant(expected) != std::mem::discriminant(found) {
                out.push(format!("{at} is {found} instead of {expected}"));
            }
        }
    }
}

fn recorded(name: &str) -> Value {
    let path = format!("{}/../fixtures/{name}.json", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|err| panic!("{path}: {err}"));
    serde_json::from_str(&text).unwrap()
}

/// Compares an answer with a recorded one: a bare body, or one with status and headers.
#[track_caller]
fn check(name: &str, answer: &Answer) {
    let recorded = recorded(name);
    let mut out = Vec::new();
    let body = match recorded.get("status") {
        None => Some(&recorded),
        Some(status) => {
            if *status != json!(answer.status) {
                out.push(format!("status {} instead of {status}", answer.status));
            }
            check_headers(&recorded, answer, &mut out);
            recorded.get("body")
        }
    };
    if let Some(body) = body {
        differences(body, &answer.json(), "", &mut out);
    }
    assert!(
        out.is_empty(),
        "{name}: {out:#?}\n{}",
        String::from_utf8_lossy(&answer.body)
    );
}

fn check_headers(recorded: &Value, answer: &Answer, out: &mut Vec<String>) {
    let Some(expected) = recorded["headers"].as_object() else {
        return;
    };
    for name in HEADERS {
        let expected = expected
            .iter()
            .find(|(key, _)| key.eq_ignore_ascii_case(name));
        let found = answer.header(name);
        match (expected, found) {
            // A length of 95 or 96 and an id of a file are values, not shape.
            (Some(_), Some(_)) if name == "content-length" || name == "etag" => {}
            (Some((_, value)), Some(found)) if name == "content-type" => {
                let value = value.as_str().unwrap_or_default();
                if value.split(';').next() != found.split(';').next() {
                    out.push(format!("{name} is {found} instead of {value}"));
                }
            }
            (Some((_, value)), Some(found)) => {
                if value != found {
                    out.push(format!("{name} is {found} instead of {value}"));
                }
            }
            (Some(_), None) => out.push(format!("{name} is missing")),
            (None, Some(found)) if name != "content-length" => {
                out.push(format!("{name}: {found} is too much"))
            }
            (None, _) => {}
        }
    }
}

struct World {
    server: Server,
    client: Client,
}

impl World {
    fn new() -> Self {
        let server = Server::start(Options::default()).unwrap();
        let client = Client::signed_in(&server);
        Self { server, client }
    }

    fn get(&self, path: &str) -> Answer {
        self.client.raw("GET", &format!("/api/v4{path}"), &[], b"")
    }

    fn send(&self, method: &str, path: &str, body: Value) -> Answer {
        self.client.raw(
            method,
            &format!("/api/v4{path}"),
            &[],
            body.to_string().as_bytes(),
        )
    }

    fn post(&self, path: &str, body: Value) -> Answer {
        self.send("POST", path, body)
    }

    /// A listing of a folder, its URI encoded by the caller.
    fn list(&self, uri: &str, query: &str) -> Answer {
        self.get(&format!("/file?uri={uri}&{query}"))
    }

    fn put(&self, path: &str, body: &[u8]) -> Answer {
        self.client.raw(
            "PUT",
            &format!("/api/v4/file/content?uri={path}"),
            &[],
            body,
        )
    }

    /// The signed URL of a file, without its origin.
    fn url(&self, uri: &str) -> String {
        let answer = self.post("/file/url", json!({"uris": [uri]})).json();
        let url = answer["data"]["urls"][0]["url"]
            .as_str()
            .unwrap()
            .to_owned();
        url.replace(&self.server.address(), "")
    }

    fn anonymous(&self) -> Self {
        // Only to ask: the server is the same, the value below is another.
        Self {
            server: Server::start(Options::default()).unwrap(),
            client: self.client.anonymous(),
        }
    }

    /// The folder that most listings were recorded from.
    fn recorded_folder(&self) {
        for name in ["z9", "B", "ä", "d1", "d2", "m m", "x3"] {
            self.server.mkdir(&format!("pg/{name}"));
        }
        for name in ["0", "C", "a", "b.txt", "c", "m", "z", "~t", "é"] {
            self.server.put(&format!("pg/{name}"), b"x".to_vec());
        }
    }
}

const FIRST: &str = "page=0&page_size=1000&order_by=name&order_direction=asc";
const PG: &str = "cloudreve%3A%2F%2Fmy%2Fpg";

#[test]
fn site_and_user_answers_are_those_of_a_live_server() {
    let world = World::new();
    check("api1-site-ping", &world.get("/site/ping"));
    check("api1-site-config-login", &world.get("/site/config/login"));
    check(
        "api1-site-config-explorer",
        &world.get("/site/config/explorer"),
    );
    check(
        "api1-site-config-basic",
        &world.anonymous().get("/site/config/basic"),
    );
    check("api1-user-me", &world.get("/user/me"));
    check("api1-user-capacity", &world.get("/user/capacity"));
    check("api1-user-setting", &world.get("/user/setting"));
    world.server.set_retention(false, 10);
    check(
        "api2-user-setting-retention-off",
        &world.get("/user/setting"),
    );
    world.server.advance_clock(Duration::from_secs(3601));
    check(
        "api1-expired-token-config-basic",
        &world.get("/site/config/basic"),
    );
    check(
        "api1-expired-token-list",
        &world.list("cloudreve%3A%2F%2Fmy", FIRST),
    );
    world.server.mkdir("tokdir");
    let body = json!({"uris": ["cloudreve://my/tokdir"]});
    check(
        "api1-expired-token-delete",
        &world.send("DELETE", "/file", body),
    );
}

#[test]
fn session_answers_are_those_of_a_live_server() {
    let world = World::new();
    let user = world.server.user();
    let sign_in = |password: &str| {
        let body = json!({"email": user.email, "password": password});
        world.client.anonymous().raw(
            "POST",
            "/api/v4/session/token",
            &[],
            body.to_string().as_bytes(),
        )
    };
    let refresh = |token: &str| {
        world
            .anonymous()
            .post("/session/token/refresh", json!({"refresh_token": token}))
    };
    check(
        "api1-session-prepare",
        &world.get(&format!("/session/prepare?email={}", user.email)),
    );
    check("api1-session-token-user", &sign_in(&user.password));
    check("api1-session-token-badpw", &sign_in("WrongPass1"));
    check("api1-session-refresh", &refresh(&world.client.refresh));
    let as_access = world.client.with_token(&world.client.refresh);
    let listed = as_access.raw(
        "GET",
        &format!("/api/v4/file?uri=cloudreve%3A%2F%2Fmy&{FIRST}"),
        &[],
        b"",
    );
    check("api1-refresh-token-as-access", &listed);
    world.send(
        "DELETE",
        "/session/token",
        json!({"refresh_token": world.client.refresh}),
    );
    check(
        "api1-session-refresh-after-logout",
        &refresh(&world.client.refresh),
    );
    world.server.set_captcha(true);
    check(
        "api1-session-token-captcha-missing",
        &sign_in(&user.password),
    );
    world.server.set_captcha(false);
    world.server.enable_2fa(&user.email);
    let second = sign_in(&user.password);
    check("api1-session-token-2fa-required", &second);
    let body = json!({"session_id": second.json()["data"], "otp": "wrong!"});
    check(
        "api1-session-2fa-wrong",
        &world.post("/session/token/2fa", body),
    );
    world.server.ban_user(&user.email, true);
    check("api1-session-token-banned", &sign_in(&user.password));
    check("api1-banned-user-token", &world.get("/site/ping"));
}

#[test]
fn oauth_answers_are_those_of_a_live_server() {
    let world = World::new();
    let redirect = "http://127.0.0.1:7777/callback";
    let scope = "openid offline_access Files.Write UserInfo.Read";
    let (id, secret) = world.server.add_oauth_client("fuse", &[redirect], scope);
    check(
        "api1-oauth-app",
        &world.anonymous().get(&format!("/session/oauth/app/{id}")),
    );
    let consent = || {
        let body = json!({"client_id": id, "response_type": "code", "redirect_uri": redirect, "state": "st",
            "scope": scope, "code_challenge": "", "code_challenge_method": "S256"});
        world.post("/session/oauth/consent", body)
    };
    let exchange = |secret: &str, grant: &str, code: &Value| {
        let code = code.as_str().unwrap();
        let form = format!(
            "client_id={id}&client_secret={secret}&grant_type={grant}&code={code}&code_verifier=x"
        );
        world
            .client
            .anonymous()
            .raw("POST", "/api/v4/session/oauth/token", &[], form.as_bytes())
    };
    let consented = consent();
    check("api1-oauth-consent", &consented);
    let code = &consented.json()["data"]["code"];
    check(
        "api1-oauth-token-bad-grant",
        &exchange(&secret, "refresh_token", code),
    );
    let wrong = exchange("bad", "authorization_code", code);
    assert_eq!(wrong.status, 400);
    check("api1-oauth-token-wrong-secret", &wrong);
    let tokens = exchange(
        &secret,
        "authorization_code",
        &consent().json()["data"]["code"],
    );
    check("api1-oauth-token", &tokens);
    let token = tokens.json()["access_token"].as_str().unwrap().to_owned();
    let refused =
        world
            .client
            .with_token(&token)
            .raw("GET", "/api/v4/share?page_size=10", &[], b"");
    check("api1-oauth-insufficient-scope", &refused);
}

#[test]
fn listings_are_those_of_a_live_server() {
    let world = World::new();
    world.recorded_folder();
    world.server.mkdir("empty");
    check("api1-list-root", &world.list("cloudreve%3A%2F%2Fmy", FIRST));
    check(
        "api1-list-empty-folder",
        &world.list("cloudreve%3A%2F%2Fmy%2Fempty", FIRST),
    );
    check(
        "api1-list-of-a-file",
        &world.list(&format!("{PG}%2Fa"), FIRST),
    );
    let by_name = "order_by=name&order_direction=asc&page_size";
    check(
        "api1-list-cursor-page1",
        &world.list(PG, &format!("{by_name}=3")),
    );
    check(
        "api1-list-bad-page-token",
        &world.list(PG, "page_size=3&next_page_token=garbage"),
    );
    let lossy = world.list(PG, &format!("{by_name}=7"));
    check("api1-list-boundary-bug-page1", &lossy);
    let next = |answer: &Answer| {
        let token = answer.json()["data"]["pagination"]["next_token"]
            .as_str()
            .unwrap()
            .to_owned();
        token
            .replace('=', "%3D")
            .replace('+', "%2B")
            .replace('/', "%2F")
    };
    let second = world.list(PG, &format!("{by_name}=7&next_page_token={}", next(&lossy)));
    check("api1-list-boundary-bug-page2", &second);
    let names = |value: &Value| {
        value["data"]["files"]
            .as_array()
            .unwrap()
            .iter()
            .map(|f| f["name"].clone())
            .collect()
    };
    let (found, expected): (Vec<_>, Vec<_>) = (
        names(&second.json()),
        names(&recorded("api1-list-boundary-bug-page2")),
    );
    assert_eq!(found, expected);
    let by_time = "order_by=updated_at&order_direction=asc&page_size=5";
    let first = world.list(PG, by_time);
    check("api1-list-time-order-repeat-page1", &first);
    let second = world.list(PG, &format!("{by_time}&next_page_token={}", next(&first)));
    check("api1-list-time-order-repeat-page2", &second);
    check(
        "api1-list-search",
        &world.list(
            &format!("{PG}%3Fname%3Db%26case_folding"),
            "page=0&page_size=100",
        ),
    );
    world.server.set_cursor_paging(false);
    check(
        "api1-list-offset-mode-page1",
        &world.list(PG, &format!("page=1&{by_name}=3")),
    );
}

#[test]
fn special_names_metadata_trash_and_shortcuts_list_as_on_a_live_server() {
    let world = World::new();
    let special = recorded("api1-list-special-names");
    let files = special["data"]["files"].as_array().unwrap().iter();
    // One long path was shortened when it was recorded.
    let expected: Vec<_> = files
        .filter(|file| !file["path"].as_str().unwrap().ends_with(" …"))
        .collect();
    for file in &expected {
        let path = file["path"].as_str().unwrap();
        let kind = if file["type"] == 1 { "folder" } else { "file" };
        let made = world
            .post("/file/create", json!({"uri": path, "type": kind}))
            .json();
        assert_eq!(made["code"], 0, "{path}: {made}");
    }
    let listed = world.list("cloudreve%3A%2F%2Fmy%2Fnm", FIRST);
    check("api1-list-special-names", &listed);
    let pick = |file: &Value| (file["name"].clone(), file["path"].clone());
    let found: Vec<_> = listed.json()["data"]["files"]
        .as_array()
        .unwrap()
        .iter()
        .map(pick)
        .collect();
    assert_eq!(
        found,
        expected.iter().map(|file| pick(file)).collect::<Vec<_>>()
    );

    world.server.mkdir("md/d");
    world.server.set_metadata("md/d", "customize:fuse", "dir");
    check(
        "api1-list-with-metadata",
        &world.list("cloudreve%3A%2F%2Fmy%2Fmd", FIRST),
    );

    world.server.trash("md/d");
    check(
        "api1-trash-list",
        &world.list("cloudreve%3A%2F%2Ftrash", FIRST),
    );

    let share = world.server.share("md", ShareOptions::default());
    world
        .server
        .add_shortcut("shortcut", &format!("cloudreve://{share}@share"));
    check(
        "api1-list-shared-with-me",
        &world.list("cloudreve%3A%2F%2Fshared_with_me", FIRST),
    );
    check(
        "api1-share-shortcut-info",
        &world.get("/file/info?uri=cloudreve%3A%2F%2Fmy%2Fshortcut"),
    );
    check(
        "api1-share-shortcut-list-denied",
        &world.list("cloudreve%3A%2F%2Fmy%2Fshortcut", FIRST),
    );
}

#[test]
fn shares_are_those_of_a_live_server() {
    let world = World::new();
    let other = world.server.add_user("bob@example.com", "FakePass123");
    let (bob, _) = world.server.issue_tokens(&other.email);
    let bob = world.client.with_token(&bob);
    world.server.mkdir("sh/sub");
    world.server.put("sh/a.txt", b"abc".to_vec());
    world.server.put("sh/sub/in.txt", b"abcde".to_vec());
    let open = world.server.share("sh", ShareOptions::default());
    let single = world.server.share("sh/a.txt", ShareOptions::default());
    let password = Some("pw1234".to_owned());
    let locked = world.server.share(
        "sh/sub",
        ShareOptions {
            password,
            ..Default::default()
        },
    );
    let list = |client: &Client, user: &str| {
        client.raw(
            "GET",
            &format!("/api/v4/file?uri=cloudreve%3A%2F%2F{user}%40share&{FIRST}"),
            &[],
            b"",
        )
    };
    let info = |client: &Client, query: &str| {
        client.raw("GET", &format!("/api/v4/share/info/{query}"), &[], b"")
    };
    let anonymous = world.client.anonymous();
    check("api1-share-list-anonymous", &list(&anonymous, &open));
    check("api1-share-single-file", &list(&bob, &single));
    check(
        "api1-share-list-pw-bad",
        &list(&bob, &format!("{locked}%3Abad")),
    );
    check(
        "api1-share-list-pw-ok",
        &list(&bob, &format!("{locked}%3Apw1234")),
    );
    check("api1-share-info-locked", &info(&bob, &locked));
    check(
        "api1-share-info-unlocked",
        &info(&bob, &format!("{locked}?password=pw1234")),
    );
    let extended = format!("{locked}?owner_extended=true");
    check(
        "api1-share-info-owner-extended-no-password",
        &info(&world.client, &extended),
    );
    check(
        "api1-share-info-owner-extended",
        &info(&world.client, &format!("{extended}&password=pw1234")),
    );
    check(
        "api1-share-my-list",
        &world.get("/share?page_size=50&order_by=created_at&order_direction=desc"),
    );
    let limited = world.server.share(
        "sh",
        ShareOptions {
            downloads: Some(2),
            ..Default::default()
        },
    );
    let uris = json!({"uris": [format!("cloudreve://{limited}@share/a.txt"), format!("cloudreve://{limited}@share/sub/in.txt")]});
    let urls = || bob.raw("POST", "/api/v4/file/url", &[], uris.to_string().as_bytes());
    check("api2-url-share-two", &urls());
    let one = json!({"uris": [format!("cloudreve://{limited}@share/a.txt")]});
    let used_up = bob.raw("POST", "/api/v4/file/url", &[], one.to_string().as_bytes());
    check("api2-url-share-used-up", &used_up);
    world.server.unshare(&open);
    check("api1-share-unknown", &list(&anonymous, &open));
    world
        .server
        .configure(|settings| settings.anonymous_may_open_shares = false);
    check(
        "api1-share-anonymous-group-denied",
        &list(&anonymous, &single),
    );
}

#[test]
fn infos_are_those_of_a_live_server() {
    let world = World::new();
    world.recorded_folder();
    let id = world.server.file_id("pg/a");
    check(
        "api1-info-file",
        &world.get(&format!("/file/info?uri={PG}%2Fa")),
    );
    check(
        "api1-info-file-extended",
        &world.get(&format!("/file/info?extended=true&uri={PG}%2Fa")),
    );
    let summary = world.get(&format!(
        "/file/info?extended=true&folder_summary=true&uri={PG}"
    ));
    check("api1-info-folder-extended-summary", &summary);
    assert_eq!(summary.json()["data"]["folder_summary"]["files"], 9);
    check(
        "api1-info-root",
        &world.get("/file/info?uri=cloudreve%3A%2F%2Fmy"),
    );
    let by_id = format!("/api/v4/file/info?id={id}");
    check(
        "api1-info-by-id-anonymous",
        &world.client.anonymous().raw("GET", &by_id, &[], b""),
    );
    let other = world.server.add_user("bob@example.com", "FakePass123");
    let bob = world
        .client
        .with_token(&world.server.issue_tokens(&other.email).0);
    check(
        "api1-info-by-id-other-user",
        &bob.raw("GET", &by_id, &[], b""),
    );
    world.server.remove("pg/a");
    check(
        "api1-info-by-id-deleted",
        &world.get(&format!("/file/info?id={id}")),
    );
    world.server.put("pg/two", b"one".to_vec());
    world.server.put("pg/two", b"second".to_vec());
    check(
        "api2-info-extended-two-versions",
        &world.get(&format!("/file/info?extended=true&uri={PG}%2Ftwo")),
    );
}

#[test]
fn mutations_are_those_of_a_live_server() {
    let world = World::new();
    let create = |uri: &str, kind: &str, strict: bool| {
        world.post(
            "/file/create",
            json!({"uri": uri, "type": kind, "err_on_conflict": strict}),
        )
    };
    check(
        "api1-create-folder",
        &create("cloudreve://my/mut/d1", "folder", false),
    );
    check(
        "api1-create-file",
        &create("cloudreve://my/mut/f1", "file", false),
    );
    check(
        "api1-create-conflict",
        &create("cloudreve://my/mut/d1", "folder", true),
    );
    check(
        "api1-create-below-a-file",
        &create("cloudreve://my/mut/f1/x", "folder", false),
    );
    check(
        "api1-create-invalid-name",
        &create("cloudreve://my/nm/a%5Cb", "file", false),
    );
    let bad = json!({"uri": "cloudreve://my/mut/m2", "type": "file", "metadata": {"bogus": "x"}});
    check(
        "api1-create-bad-metadata-key",
        &world.post("/file/create", bad),
    );
    for path in [
        "mut/r_a",
        "mut/r_b",
        "mut/k0",
        "mut/k1",
        "mut/k2",
        "mut/k3",
        "mut/dst/k3",
        "mut/dst/r_c",
    ] {
        world.server.put(path, b"x".to_vec());
    }
    let rename = |name: &str| {
        world.post(
            "/file/rename",
            json!({"uri": "cloudreve://my/mut/r_a", "new_name": name}),
        )
    };
    check("api1-rename-conflict", &rename("r_b"));
    check("api1-rename-ok", &rename("R_A"));
    let transfer = |names: &[&str], dst: &str, copy: bool| {
        let uris: Vec<_> = names
            .iter()
            .map(|name| format!("cloudreve://my/mut/{name}"))
            .collect();
        world.post(
            "/file/move",
            json!({"uris": uris, "dst": format!("cloudreve://my/mut{dst}"), "copy": copy}),
        )
    };
    check(
        "api1-move-batch-conflict",
        &transfer(&["k2", "k3", "nope"], "/dst", false),
    );
    check(
        "api1-move-partial",
        &transfer(&["k0", "nope1", "k1", "nope2"], "/dst", false),
    );
    check(
        "api1-move-same-parent",
        &transfer(&["dst/r_c"], "/dst", false),
    );
    check("api1-move-ok", &transfer(&["k2"], "/dst", false));
    world.server.mkdir("mut/dst/sub");
    check(
        "api1-move-into-descendant",
        &transfer(&["dst"], "/dst/sub", false),
    );
    world
        .server
        .configure(|settings| settings.max_walked_files = 3);
    world.server.mkdir("mut/elsewhere");
    check(
        "api1-copy-walk-limit",
        &transfer(&["dst"], "/elsewhere", true),
    );
    let delete = |uris: Value, hard: bool| {
        world.send(
            "DELETE",
            "/file",
            json!({"uris": uris, "skip_soft_delete": hard}),
        )
    };
    let partial = json!([
        "cloudreve://my/mut/dst/k0",
        "cloudreve://my/mut/gone",
        "cloudreve://my/mut/gone2"
    ]);
    check("api1-delete-partial", &delete(partial, true));
    world.server.put("k/pc/child", b"x".to_vec());
    let own = delete(
        json!(["cloudreve://my/k/pc", "cloudreve://my/k/pc/child"]),
        false,
    );
    check("api1-delete-parent-and-child", &own);
    let many: Vec<_> = (0..3001)
        .map(|number| format!("cloudreve://my/none{number}"))
        .collect();
    check("api1-batch-too-large", &delete(json!(many), false));
    let uuid = world.server.trash("mut/dst/r_c");
    world.server.put("mut/dst/r_c", b"again".to_vec());
    let restore = json!({"uris": [format!("cloudreve://trash/{uuid}")]});
    check(
        "api1-restore-conflict",
        &world.post("/file/restore", restore),
    );
    check(
        "api1-unlock-unknown-token",
        &world.send("DELETE", "/file/lock", json!({"tokens": ["nothing"]})),
    );
}

#[test]
fn metadata_answers_are_those_of_a_live_server() {
    let world = World::new();
    world.server.put("md/f", b"x".to_vec());
    let patch = |names: &[&str], key: &str, value: &str| {
        let uris: Vec<_> = names
            .iter()
            .map(|name| format!("cloudreve://my/md/{name}"))
            .collect();
        world.send(
            "PATCH",
            "/file/metadata",
            json!({"uris": uris, "patches": [{"key": key, "value": value}]}),
        )
    };
    check("api1-metadata-forbidden-key", &patch(&["f"], "sys:x", "1"));
    check(
        "api1-metadata-partial",
        &patch(&["f", "nope"], "customize:pp", "1"),
    );
    check(
        "api1-metadata-value-too-long",
        &patch(&["f"], "customize:big", &"x".repeat(65_536)),
    );
}

#[test]
fn content_and_its_urls_are_those_of_a_live_server() {
    let world = World::new();
    world.server.put_generated("a/b.bin", 1_000_000, 1);
    world.server.mkdir("a/d");
    let ask = |body: Value| world.post("/file/url", body);
    let uri = "cloudreve://my/a/b.bin";
    check("api2-url-one", &ask(json!({"uris": [uri]})));
    check(
        "api2-url-missing",
        &ask(json!({"uris": ["cloudreve://my/a/gone.txt"]})),
    );
    check(
        "api2-url-redirect",
        &ask(json!({"uris": [uri], "redirect": true})),
    );
    let three = json!([uri, "cloudreve://my/a/gone.txt", "cloudreve://my/a"]);
    check("api2-url-partial-failure", &ask(json!({"uris": three})));
    check(
        "api2-url-skip-error",
        &ask(json!({"uris": three, "skip_error": true})),
    );
    let garbled = world.client.with_token("garbage");
    let body = json!({"uris": [uri]}).to_string();
    check(
        "api2-url-bad-token",
        &garbled.raw("POST", "/api/v4/file/url", &[], body.as_bytes()),
    );
    let old = world.server.entity_id("a/b.bin");
    world.server.put("a/other", b"x".to_vec());
    let foreign = world.server.entity_id("a/other");
    check(
        "api2-url-entity-gone",
        &ask(json!({"uris": [uri], "entity": foreign})),
    );
    world.server.put_generated("a/b.bin", 1_000_000, 2);
    check(
        "api2-url-old-version",
        &ask(json!({"uris": [uri], "entity": old})),
    );

    let url = world.url(uri);
    let get = |headers: &[(&str, &str)]| world.client.raw("GET", &url, headers, b"");
    check("api2-content-get-full", &get(&[]));
    check(
        "api2-content-head",
        &world.client.raw("HEAD", &url, &[], b""),
    );
    check(
        "api2-content-range-single",
        &get(&[("Range", "bytes=100-199")]),
    );
    check(
        "api2-content-range-beyond-eof",
        &get(&[("Range", "bytes=1000000-1000001")]),
    );
    check(
        "api2-content-range-malformed",
        &get(&[("Range", "bytes=abc")]),
    );
    check(
        "api2-content-range-multiple",
        &get(&[("Range", "bytes=0-1,10-11")]),
    );
    check(
        "api2-content-if-range-mismatch",
        &get(&[("Range", "bytes=0-1"), ("If-Range", "\"xxxx\"")]),
    );
    let (path, _) = url.split_once('?').unwrap();
    check(
        "api2-content-sign-missing",
        &world.client.raw("GET", path, &[], b""),
    );
    let wrong = url.replace("/b.bin?", "/c.bin?");
    check(
        "api2-content-sign-wrong",
        &world.client.raw("GET", &wrong, &[], b""),
    );
    world.server.touch("a/empty.txt");
    let empty = world.url("cloudreve://my/a/empty.txt");
    check(
        "api2-content-entityless",
        &world.client.raw("GET", &empty, &[], b""),
    );
    world.server.lose_blob("a/b.bin");
    check("api2-content-blob-missing", &get(&[]));
    world.server.remove("a/b.bin");
    check("api2-content-after-permanent-delete", &get(&[]));
    world.server.advance_clock(Duration::from_secs(3601));
    check("api2-content-expired", &get(&[]));
}

#[test]
fn urls_of_the_trash_thumbnails_and_versions_are_those_of_a_live_server() {
    let world = World::new();
    world.server.put("v/f.txt", b"one".to_vec());
    let (first, uri) = (world.server.entity_id("v/f.txt"), "cloudreve://my/v/f.txt");
    world.server.put("v/f.txt", b"second".to_vec());
    let second = world.server.entity_id("v/f.txt");
    let delete = |version: &str| {
        world.send(
            "DELETE",
            "/file/version",
            json!({"uri": uri, "version": version}),
        )
    };
    check("api2-version-delete-current", &delete(&second));
    let current = json!({"uri": uri, "version": first});
    check(
        "api2-version-set-current",
        &world.post("/file/version/current", current),
    );
    check("api2-version-delete", &delete(&second));
    let uuid = world.server.trash("v/f.txt");
    let trashed = json!({"uris": [format!("cloudreve://trash/{uuid}")]});
    check("api2-url-in-trash", &world.post("/file/url", trashed));
    world.server.put("pic.png", b"no real picture".to_vec());
    world.server.put("file.bin", b"no picture".to_vec());
    let thumb = |name: &str| world.get(&format!("/file/thumb?uri=cloudreve%3A%2F%2Fmy%2F{name}"));
    check("api2-thumb", &thumb("pic.png"));
    check("api2-thumb-none", &thumb("file.bin"));
    check("api2-thumb-disabled", &thumb("file.bin"));
}

#[test]
fn content_put_is_that_of_a_live_server() {
    let world = World::new();
    let my = |path: &str| format!("cloudreve%3A%2F%2Fmy%2F{path}");
    let first = world.put(&my("v%2Fg.txt"), b"first");
    check("api2-content-put-new", &first);
    let old = first.json()["data"]["primary_entity"]
        .as_str()
        .unwrap()
        .to_owned();
    check(
        "api2-content-put-overwrite",
        &world.put(&format!("{}&previous={old}", my("v%2Fg.txt")), b"second"),
    );
    check(
        "api2-content-put-previous-stale",
        &world.put(&format!("{}&previous={old}", my("v%2Fg.txt")), b"third"),
    );
    let missing = format!("{}&previous={old}", my("v%2Fnone.txt"));
    check(
        "api2-content-put-previous-target-missing",
        &world.put(&missing, b"x"),
    );
    check(
        "api2-content-put-below-a-file",
        &world.put(&my("v%2Fg.txt%2Fx"), b"x"),
    );
    check("api2-content-put-on-folder", &world.put(&my("v"), b"x"));
    check(
        "api2-content-put-name-255",
        &world.put(&my(&"n".repeat(255)), b"x"),
    );
    world
        .server
        .configure(|settings| settings.max_edit_size = 10);
    check(
        "api2-content-put-too-large",
        &world.put(&my("big"), b"more than ten bytes"),
    );
    let chunked = [("Transfer-Encoding", "chunked")];
    let path = format!("/api/v4/file/content?uri={}", my("un.bin"));
    check(
        "api2-content-put-unsized",
        &world
            .client
            .raw("PUT", &path, &chunked, b"6\r\nsixsix\r\n0\r\n\r\n"),
    );
    world.server.set_quota(world.server.used_bytes() + 5);
    check(
        "api1-quota-put-content",
        &world.put(&my("q20"), b"too much"),
    );
}

#[test]
fn upload_sessions_are_those_of_a_live_server() {
    let world = World::new();
    world
        .server
        .configure(|settings| (settings.chunk_size, settings.chunk_concurrency) = (4, 4));
    let open = |body: Value| world.send("PUT", "/file/upload", body);
    let uri = "cloudreve://my/u/one.bin";
    let first = open(
        json!({"uri": uri, "size": 10, "last_modified": 1_600_000_000_123_i64,
        "metadata": {"customize:sha256": "abc"}}),
    );
    check("api2-session-create-local", &first);
    let session = first.json()["data"]["session_id"]
        .as_str()
        .unwrap()
        .to_owned();
    let info = |query: &str| {
        world.get(&format!(
            "/file/info?uri=cloudreve%3A%2F%2Fmy%2Fu%2Fone.bin{query}"
        ))
    };
    check("api1-info-upload-placeholder", &info(""));
    let locked = world.post(
        "/file/rename",
        json!({"uri": "cloudreve://my/u", "new_name": "u9"}),
    );
    check("api1-lock-conflict-rename-parent", &locked);
    let delete = json!({"uris": [uri], "skip_soft_delete": true});
    check(
        "api2-locked-delete-file",
        &world.send("DELETE", "/file", delete),
    );
    let chunk = |session: &str, index: u32, headers: &[(&str, &str)], body: &[u8]| {
        world.client.raw(
            "POST",
            &format!("/api/v4/file/upload/{session}/{index}"),
            headers,
            body,
        )
    };
    check("api2-chunk-ok", &chunk(&session, 2, &[], b"89"));
    check(
        "api2-chunk-index-beyond-size",
        &chunk(&session, 3, &[], b"89"),
    );
    let expected = "Invalid Content-Length (expected: 4)";
    assert_eq!(chunk(&session, 0, &[], b"0").json()["msg"], expected);
    let unsized_body = chunk(
        &session,
        0,
        &[("Transfer-Encoding", "chunked")],
        b"4\r\n0123\r\n0\r\n\r\n",
    );
    assert_eq!(unsized_body.json()["msg"], expected);
    let path = format!("/api/v4/file/upload/{session}/0");
    check(
        "api2-chunk-bad-token",
        &world
            .client
            .with_token("garbage")
            .raw("POST", &path, &[], b"0123"),
    );
    chunk(&session, 0, &[], b"0123");
    chunk(&session, 1, &[], b"4567");
    check("api2-info-after-upload", &info("&extended=true"));
    let cancel =
        |id: &str, uri: &str| world.send("DELETE", "/file/upload", json!({"id": id, "uri": uri}));
    check("api2-session-cancel-finished", &cancel(&session, uri));
    check(
        "api2-session-create-exists",
        &open(json!({"uri": uri, "size": 5})),
    );
    let version = || open(json!({"uri": uri, "size": 5, "entity_type": "version"}));
    let second = version();
    check("api2-session-create-version", &second);
    check("api2-session-create-target-locked", &version());
    check("api2-info-during-version-upload", &info("&extended=true"));
    check("api1-info-while-uploading-version", &info(""));
    let session = second.json()["data"]["session_id"]
        .as_str()
        .unwrap()
        .to_owned();
    world.server.put("ca.bin", b"x".to_vec());
    check(
        "api2-session-cancel-wrong-file",
        &cancel(&session, "cloudreve://my/ca.bin"),
    );
    check(
        "api2-session-cancel-target-missing",
        &cancel(&session, "cloudreve://my/u/never.bin"),
    );
    check("api2-session-cancel", &cancel(&session, uri));
    let stale = json!({"uri": uri, "size": 5, "entity_type": "version", "previous": world.server.entity_id("ca.bin")});
    check("api2-session-create-previous-stale", &open(stale));
    let long = format!("cloudreve://my/{}", "n".repeat(255));
    check(
        "api2-session-create-name-255",
        &open(json!({"uri": long, "size": 1})),
    );
    let refused = json!({"uri": "cloudreve://my/n", "size": 1, "metadata": {"foo": "bar"}});
    check("api2-session-create-metadata-refused", &open(refused));
    world
        .server
        .configure(|settings| settings.max_file_size = 100);
    check(
        "api2-session-create-too-large",
        &open(json!({"uri": "cloudreve://my/a.bin", "size": 101})),
    );
    world.server.set_quota(world.server.used_bytes() + 5);
    check(
        "api2-session-create-quota",
        &open(json!({"uri": "cloudreve://my/q3.bin", "size": 6})),
    );
}

#[test]
fn a_chunk_of_a_wrong_length_is_refused_as_by_a_live_server() {
    let world = World::new();
    world
        .server
        .configure(|settings| settings.chunk_size = 4 << 20);
    let body = json!({"uri": "cloudreve://my/f", "size": 5 << 20});
    let session = world.send("PUT", "/file/upload", body).json();
    let path = format!(
        "/api/v4/file/upload/{}/0",
        session["data"]["session_id"].as_str().unwrap()
    );
    check(
        "api2-chunk-wrong-length",
        &world.client.raw("POST", &path, &[], &[0; 100]),
    );
    let chunked = [("Transfer-Encoding", "chunked")];
    check(
        "api2-chunk-unsized-body",
        &world
            .client
            .raw("POST", &path, &chunked, b"4\r\n0123\r\n0\r\n\r\n"),
    );
}

#[test]
fn uploads_that_fail_late_fail_as_on_a_live_server() {
    let world = World::new();
    world
        .server
        .configure(|settings| (settings.chunk_size, settings.preallocate) = (4, false));
    let open = |uri: &str, size: u64, value: &str| {
        let body = json!({"uri": uri, "size": size, "metadata": {"customize:x": value}});
        let answer = world.send("PUT", "/file/upload", body).json();
        answer["data"]["session_id"].as_str().unwrap().to_owned()
    };
    let chunk = |session: &str, index: u32, body: &[u8]| {
        world.client.raw(
            "POST",
            &format!("/api/v4/file/upload/{session}/{index}"),
            &[],
            body,
        )
    };
    let session = open("cloudreve://my/ml.bin", 2, &"x".repeat(70_000));
    check("api2-chunk-completion-failed", &chunk(&session, 0, b"12"));
    check(
        "api2-chunk-retry-after-failed-completion",
        &chunk(&session, 0, b"12"),
    );
    let session = open("cloudreve://my/order.bin", 10, "");
    check(
        "api2-chunk-out-of-order-refused",
        &chunk(&session, 2, b"89"),
    );
    let locked = world
        .post(
            "/file/rename",
            json!({"uri": "cloudreve://my/order.bin", "new_name": "x"}),
        )
        .json();
    world.send(
        "DELETE",
        "/file/lock",
        json!({"tokens": [locked["data"][0]["token"]]}),
    );
    check("api2-chunk-lock-expired", &chunk(&session, 0, b"0123"));
}

#[test]
fn a_wedged_database_answers_as_a_live_one_did() {
    let world = World::new();
    world.server.set_wedge(Wedge::Reads);
    check(
        "api2-error-50001-after-aborted-requests",
        &world.get("/user/capacity"),
    );
    world.server.set_wedge(Wedge::Writes);
    let create = json!({"uri": "cloudreve://my/wr/probe.bin", "type": "file"});
    check(
        "api2-error-write-wedge-create",
        &world.post("/file/create", create),
    );
    let session = json!({"uri": "cloudreve://my/wr/s.bin", "size": 5});
    check(
        "api2-error-write-wedge-session",
        &world.send("PUT", "/file/upload", session),
    );
}

#[test]
fn an_unreachable_site_url_is_handed_out_as_by_a_live_server() {
    let world = World::new();
    world.server.put("a/b.bin", b"x".to_vec());
    world.server.set_view(
        "a",
        Some(View {
            page_size: 50,
            order: "name".into(),
            direction: "asc".into(),
        }),
    );
    world.server.set_site_url(Some("http://localhost:5212"));
    let answer = world.post("/file/url", json!({"uris": ["cloudreve://my/a/b.bin"]}));
    check("api2-url-one-siteurl-unset", &answer);
    let url = answer.json()["data"]["urls"][0]["url"]
        .as_str()
        .unwrap()
        .to_owned();
    assert!(
        url.starts_with("http://localhost:5212/api/v4/file/content/"),
        "{url}"
    );
    let path = url.replace("http://localhost:5212", "");
    assert_eq!(
        world.client.raw("GET", &path, &[], b"").body,
        b"x",
        "the path is all that is signed"
    );
}

/// A session at a store of this kind, and its `data`.
fn store_session(world: &World, policy: StoragePolicy, name: &str, size: usize) -> (Answer, Value) {
    world.server.set_policy(policy);
    let body = json!({"uri": format!("cloudreve://my/s/{name}"), "size": size});
    let answer = world.send("PUT", "/file/upload", body);
    let data = answer.json()["data"].clone();
    (answer, data)
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

#[test]
fn a_storage_node_is_that_of_a_live_server() {
    let world = World::new();
    world
        .server
        .configure(|settings| (settings.chunk_size, settings.chunk_concurrency) = (4, 2));
    let node = world.client.at(&world.server.store_address()).anonymous();
    let chunk = |session: &Value, index: u32, headers: &[(&str, &str)], body: &[u8]| {
        let url = text(&session["upload_urls"][0]);
        let path = url.replace(&world.server.store_address(), "");
        node.raw("POST", &format!("{path}?chunk={index}"), headers, body)
    };
    let (answer, session) = store_session(&world, StoragePolicy::Remote, "a%20b%23.bin", 6);
    check("api2-session-create-slave", &answer);
    let credential = text(&session["credential"]);
    let own = [("Authorization", credential.as_str())];
    let user = format!("Bearer {}", world.client.access);
    let wrong = chunk(&session, 0, &[("Authorization", &user)], b"0123");
    check("api2-slave-chunk-wrong-auth", &wrong);
    let more = [own[0], ("X-Cr-Client-Id", "x")];
    check(
        "api2-slave-chunk-with-x-cr-header",
        &chunk(&session, 0, &more, b"0123"),
    );
    check("api2-slave-chunk-ok", &chunk(&session, 0, &own, b"0123"));
    chunk(&session, 1, &own, b"45");
    check(
        "api2-slave-chunk-session-gone",
        &chunk(&session, 1, &own, b"45"),
    );
    world.server.put_generated("s/large.bin", 10_485_760, 1);
    let uris = json!({"uris": ["cloudreve://my/s/large.bin"]});
    let url = text(&world.post("/file/url", uris).json()["data"]["urls"][0]["url"]);
    let path = url.replace(&world.server.store_address(), "");
    check(
        "api2-slave-get-range",
        &node.raw("GET", &path, &[("Range", "bytes=5-9")], b""),
    );
    let (_, session) = store_session(&world, StoragePolicy::Remote, "lost", 2);
    world.server.lose_upload_locks();
    let credential = text(&session["credential"]);
    let lost = chunk(&session, 0, &[("Authorization", &credential)], b"01");
    check("api2-slave-chunk-callback-failed", &lost);
}

#[test]
fn a_store_behind_the_server_is_that_of_a_live_server() {
    let world = World::new();
    world
        .server
        .configure(|settings| (settings.chunk_size, settings.chunk_concurrency) = (4, 3));
    let store = world.client.at(&world.server.store_address()).anonymous();
    let at_store = |method: &str, url: &Value, body: &[u8]| {
        let path = text(url).replace(&world.server.store_address(), "");
        store.raw(method, &path, &[], body)
    };
    let callback = |session: &Value, kind: &str, secret: &str| {
        let id = text(&session["session_id"]);
        let path = format!("/api/v4/callback/{kind}/{id}/{secret}");
        world.client.anonymous().raw("GET", &path, &[], b"")
    };
    let (answer, session) = store_session(&world, StoragePolicy::S3, "ab1.bin", 6);
    check("api2-session-create-s3", &answer);
    let secret = text(&session["callback_secret"]);
    check(
        "api2-callback-s3-before-complete",
        &callback(&session, "s3", &secret),
    );
    check(
        "api2-callback-wrong-secret",
        &callback(&session, "s3", "wrong"),
    );
    check(
        "api2-callback-wrong-type",
        &callback(&session, "cos", &secret),
    );
    let chunk = format!("/file/upload/{}/0", text(&session["session_id"]));
    check(
        "api2-chunk-on-direct-policy",
        &world.send("POST", &chunk, json!({})),
    );
    let complete = |session: &Value, etags: &[String]| {
        let part = |(index, etag): (usize, &String)| {
            let number = index + 1;
            format!("<Part><PartNumber>{number}</PartNumber><ETag>{etag}</ETag></Part>")
        };
        let parts: String = etags.iter().enumerate().map(part).collect();
        let body = format!("<CompleteMultipartUpload>{parts}</CompleteMultipartUpload>");
        at_store("POST", &session["completeURL"], body.as_bytes()).status
    };
    let put = |session: &Value, index: usize, body: &[u8]| {
        let answer = at_store("PUT", &session["upload_urls"][index], body);
        answer.header("etag").unwrap().to_owned()
    };
    let etags = [put(&session, 0, b"0123"), put(&session, 1, b"45")];
    assert_eq!(complete(&session, &etags), 200);
    check("api2-callback-s3", &callback(&session, "s3", &secret));

    world
        .server
        .configure(|settings| settings.chunk_size = 5 << 20);
    let (_, session) = store_session(&world, StoragePolicy::S3, "ab.bin", 12_582_912);
    let part = vec![0; 5 << 20];
    let etags = [put(&session, 0, &part), put(&session, 1, &part)];
    assert_eq!(complete(&session, &etags), 200);
    let secret = text(&session["callback_secret"]);
    check(
        "api2-callback-s3-size-mismatch",
        &callback(&session, "s3", &secret),
    );
    let cancel = json!({"id": session["session_id"], "uri": "cloudreve://my/s/ab.bin"});
    check(
        "api2-session-cancel-s3-completed",
        &world.send("DELETE", "/file/upload", cancel),
    );
    world.server.set_relay(true);
    let (answer, _) = store_session(&world, StoragePolicy::S3, "r.bin", 10);
    check("api2-session-create-s3relay", &answer);
}
