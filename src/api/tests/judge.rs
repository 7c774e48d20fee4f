//! What is an answer, and what it says.

use super::*;
use crate::model::{EntityId, FileId, FileKind};
use crate::uri::FileSystem;

/// Errors that may pass are tried again for so long.
const SOON: Duration = Duration::from_millis(600);

async fn list(answer: Vec<u8>) -> Result<Page, Error> {
    let server = Responder::new(move |_| answer.clone()).await;
    let api = server.impatient(Credentials::Anonymous, SOON);
    api.list_page(&my("pg"), &PagePosition::First, 7).await
}

async fn page(name: &str) -> Page {
    list(fixture(name)).await.unwrap()
}

fn names(page: &Page) -> Vec<String> {
    let name = |file: &FileInfo| String::from_utf8_lossy(file.name.as_bytes()).into_owned();
    page.files.iter().map(name).collect()
}

#[tokio::test]
async fn what_is_not_cloudreves_answer_is_an_error_of_the_wire() {
    let json_type = "Content-Type: application/json\r\n";
    let whole = String::from_utf8(fixture("api1-list-root")).unwrap();
    let cut = whole.as_bytes()[..whole.len() - 40].to_vec();
    for (answer, expected) in [
        (html(), "Transport"),
        (answer("200 OK", json_type, b""), "Transport"),
        (answer("200 OK", json_type, b"<html>"), "Transport"),
        (
            answer("200 OK", json_type, b"{\"code\":0,\"da"),
            "Transport",
        ),
        (answer("200 OK", json_type, b"[]"), "Transport"),
        (answer("200 OK", json_type, b"{}"), "Transport"),
        (json(r#"{"code":0,"msg":""}"#), "Transport"),
        (json(r#"{"code":0,"data":{"files":[]}}"#), "Transport"),
        (
            json(r#"{"code":0,"data":{"files":null,"parent":{"type":1}}}"#),
            "Transport",
        ),
        (cut, "Transport"),
        (
            answer(
                "404 Not Found",
                "Content-Type: text/plain\r\n",
                b"404 page not found",
            ),
            "Transport",
        ),
        (
            answer(
                "404 Not Found",
                "Content-Type: text/html\r\n",
                b"<h1>404</h1>",
            ),
            "Transport",
        ),
        (
            answer(
                "403 Forbidden",
                "Content-Type: text/html\r\n",
                b"<h1>no</h1>",
            ),
            "Transport",
        ),
        (answer("401 Unauthorized", "", b"proxy"), "Transport"),
        (
            answer("302 Found", "Location: http://portal.example/\r\n", b""),
            "Transport",
        ),
        (answer("500 Internal Server Error", "", b""), "Trouble"),
        (
            answer("502 Bad Gateway", "Content-Type: text/html\r\n", b"<h1>"),
            "Trouble",
        ),
        (answer("429 Too Many Requests", "", b""), "Trouble"),
        (answer("414 URI Too Long", "", b""), "Refused"),
    ] {
        let text = String::from_utf8_lossy(&answer).into_owned();
        let error = list(answer).await.unwrap_err();
        assert_eq!(variant(&error), expected, "{error}: {text}");
    }
}

#[tokio::test]
async fn codes_arrive_through_every_layer() {
    for (name, expected) in [
        ("api1-list-of-a-file", "NotFound"),
        ("api1-expired-token-list", "SignedOut"),
        ("api1-info-root", "Denied"),
        ("api1-banned-user-token", "Trouble"),
        ("api2-url-entity-gone", "EntityGone"),
    ] {
        let error = list(fixture(name)).await.unwrap_err();
        assert_eq!(variant(&error), expected, "{name}");
    }
    let server = Responder::new(|_| fixture("api1-share-unknown")).await;
    let share = FileUri::parse("cloudreve://AbCd:hunter2@share").unwrap();
    let api = server.api(Credentials::Anonymous);
    let error = api
        .list_page(&share, &PagePosition::First, 5)
        .await
        .unwrap_err();
    assert_eq!(variant(&error), "ShareGone");
}

#[tokio::test]
async fn a_page_is_read_as_the_server_wrote_it() {
    let server = Responder::new(|_| fixture("api1-list-cursor-page1")).await;
    let api = server.api(Credentials::Anonymous);
    let token = PagePosition::Token("a+/=".into());
    let page = api.list_page(&my("pg"), &token, 3).await.unwrap();
    assert_eq!(names(&page), ["B", "d1", "d2"]);
    assert_eq!(page.folder.id, FileId("7ZcV".into()));
    let next = PagePosition::Token("eyJpZCI6IlZaSUwiLCJzdHJpbmciOiJkMiJ9".into());
    assert_eq!(page.next, Some(next));
    assert_eq!(page.boundary, Boundary::Safe);
    assert_eq!((page.page_size, page.max_page_size), (3, 2000));
    assert!(page.capabilities.has(Capabilities::LIST));
    assert_eq!(page.storage_policy.as_ref().unwrap().kind, "local");
    let target = &server.seen()[0].target;
    for part in [
        "uri=cloudreve%3A%2F%2Fmy%2Fpg",
        "page_size=3",
        "order_by=name",
        "order_direction=asc",
        "page=0",
        "next_page_token=a%2B%2F%3D",
    ] {
        assert!(target.contains(part), "{target}");
    }
}

#[tokio::test]
async fn a_page_cut_where_the_server_loses_files_says_so() {
    assert_eq!(
        page("api1-list-boundary-bug-page1").await.boundary,
        Boundary::Lossy
    );
    let last = page("api1-list-boundary-bug-page2").await;
    assert_eq!((last.boundary, last.next), (Boundary::Safe, None));
    let unreadable = String::from_utf8(fixture("api1-list-cursor-page1"))
        .unwrap()
        .replace("eyJpZCI6IlZaSUwiLCJzdHJpbmciOiJkMiJ9", "not/a/token");
    let body = unreadable.split_once("\r\n\r\n").unwrap().1;
    assert_eq!(list(json(body)).await.unwrap().boundary, Boundary::Unknown);
}

#[tokio::test]
async fn servers_without_cursors_are_paged_by_number() {
    let server = Responder::new(|_| fixture("api1-list-offset-mode-page1")).await;
    let api = server.api(Credentials::Anonymous);
    let at = |number| PagePosition::Number(number);
    let page = api.list_page(&my("pg"), &at(4), 3).await.unwrap();
    assert_eq!(page.next, Some(at(5)));
    let page = api.list_page(&my("pg"), &at(5), 3).await.unwrap();
    assert_eq!(page.next, None);
    assert!(server.seen()[0].target.contains("page=4"));
    let endless = r#"{"code":0,"data":{"files":[],"parent":{"type":1},"pagination":{"page":9,"page_size":3,"total_items":99999}}}"#;
    assert_eq!(list(json(endless)).await.unwrap().next, None);
}

#[tokio::test]
async fn names_keep_their_bytes() {
    let page = page("api1-list-special-names").await;
    let last = page.files.last().unwrap();
    assert_eq!(last.name.as_bytes(), b"\xff\xfe");
    for file in page
        .files
        .iter()
        .filter(|file| file.name.as_bytes().len() < 100)
    {
        assert_eq!(file.uri.name(), Some(&file.name));
    }
    assert!(names(&page).contains(&"a%2Fb".to_owned()));
    assert!(names(&page).contains(&" lead".to_owned()));
}

#[tokio::test]
async fn trash_and_shortcuts_show_the_names_files_had() {
    let server = Responder::new(|_| fixture("api1-trash-list")).await;
    let trash = FileUri::root(FileSystem::Trash);
    let api = server.api(Credentials::Anonymous);
    let page = api
        .list_page(&trash, &PagePosition::First, 9)
        .await
        .unwrap();
    assert_eq!(names(&page), ["d2", "k", "k3"]);
    assert_eq!(
        page.files[0].uri.to_wire(),
        "cloudreve://trash/0904d7be-650f-445b-a720-41ffd5632fc1"
    );
    assert_eq!(
        (page.folder.uri, page.folder.kind),
        (trash, FileKind::Folder)
    );
    assert_eq!(page.folder.updated, SystemTime::UNIX_EPOCH);
    let shared = list(fixture("api1-list-shared-with-me")).await.unwrap();
    assert_eq!(names(&shared), ["shortcut"]);
    assert_eq!(shared.files[0].shortcut(), Some("cloudreve://kjCr@share"));
}

#[tokio::test]
async fn a_share_of_one_file_lists_that_file() {
    let server = Responder::new(|_| fixture("api1-share-single-file")).await;
    let share = FileUri::parse("cloudreve://JlcN@share").unwrap();
    let api = server.api(Credentials::Anonymous);
    let page = api
        .list_page(&share, &PagePosition::First, 1)
        .await
        .unwrap();
    assert!(page.single_file);
    assert_eq!((names(&page), page.next), (vec!["a.txt".to_owned()], None));
    assert_eq!(
        (page.folder.uri, page.folder.kind),
        (share, FileKind::Folder)
    );
}

#[tokio::test]
async fn numbers_that_cannot_be_are_not_believed() {
    let file = |fields: &str| {
        json(&format!(
            r#"{{"code":0,"data":{{"files":[{{"type":0,"id":"a","name":"a","path":"cloudreve://my/a"{fields}}}],"parent":{{"type":1}},"unknown":[1]}}}}"#
        ))
    };
    let plain = list(file("")).await.unwrap();
    assert_eq!(
        (plain.files[0].size_bytes, &plain.files[0].metadata),
        (0, &None)
    );
    let odd = list(file(
        r#","metadata":null,"updated_at":"9999999-01-01","capability":"!""#,
    ))
    .await;
    assert_eq!(odd.unwrap().files[0].updated, SystemTime::UNIX_EPOCH);
    for wrong in [
        r#","size":-1"#,
        r#","size":5"#,
        r#","size":1e99"#,
        r#","type":7"#,
        r#","path":"x""#,
        r#","id":"""#,
    ] {
        let error = list(file(wrong)).await.unwrap_err();
        assert_eq!(variant(&error), "Transport", "{wrong}");
    }
}

#[tokio::test]
async fn urls_come_in_order_and_the_reason_for_none_is_told() {
    let server = Responder::new(|seen| match seen.body.contains(r#""skip_error":true"#) {
        true => {
            json(r#"{"code":0,"data":{"urls":[{"url":""},{"url":""}],"expires":null},"msg":""}"#)
        }
        false => fixture("api1-expired-token-delete"),
    })
    .await;
    let api = server.api(Credentials::Anonymous);
    let error = api.urls(&[my("a"), my("b")], None).await.unwrap_err();
    assert_eq!(variant(&error), "SignedOut");

    let server = Responder::new(|seen| match seen.body.contains("gone") {
        true => fixture("api2-url-skip-error"),
        false => fixture("api2-url-one"),
    })
    .await;
    let api = server.api(Credentials::Anonymous);
    let urls = api
        .urls(&[my("a"), my("gone"), my("c")], None)
        .await
        .unwrap();
    let known: Vec<bool> = urls.urls.iter().map(Option::is_some).collect();
    assert_eq!(known, [true, false, false]);
    let entity = EntityId("1osq".into());
    let urls = api.fresh_urls(&[my("a b")], Some(&entity)).await.unwrap();
    assert!(urls.urls[0].as_ref().unwrap().expose().contains("sign="));
    assert!(urls.expires.is_some());
    let sent: serde_json::Value = serde_json::from_str(&server.seen()[1].body).unwrap();
    let expected = r#"{"uris":["cloudreve://my/a%20b"],"entity":"1osq","no_cache":true}"#;
    assert_eq!(
        sent,
        serde_json::from_str::<serde_json::Value>(expected).unwrap()
    );
    assert!(api.urls(&[], None).await.unwrap().urls.is_empty());
}

#[tokio::test]
async fn a_deleted_file_is_absent_by_id_only_when_said_twice() {
    let server = Responder::new(|_| fixture("api1-info-by-id-deleted")).await;
    let api = server.api(Credentials::Anonymous);
    let error = api.info_by_id(&FileId("BBquj".into())).await.unwrap_err();
    assert_eq!(
        (variant(&error), server.seen().len()),
        ("NotFound".into(), 2)
    );
}

#[tokio::test]
async fn versions_summary_capacity_site_and_shares_are_read() {
    let server = Responder::new(|seen| {
        fixture(match seen.path().trim_start_matches("/api/v4") {
            "/file/info" if seen.target.contains("extended") => "api2-info-extended-two-versions",
            "/file/info" => "api2-info-folder-summary",
            "/user/capacity" => "api1-user-capacity",
            "/site/config/basic" => "api1-site-config-basic",
            "/site/config/login" => "api1-site-config-login",
            "/share/info/BMfx" if seen.target.contains("password=pw+1") => {
                "api1-share-info-unlocked"
            }
            _ => "api1-share-info-locked",
        })
    })
    .await;
    let api = server.api(Credentials::Anonymous);
    assert_eq!(api.versions(&my("v")).await.unwrap().len(), 2);
    assert_eq!(api.folder_summary(&my("perf")).await.unwrap().files, 1201);
    assert_eq!(api.capacity().await.unwrap().total_bytes, 1 << 30);
    assert!(api.site().await.unwrap().user.anonymous);
    assert_eq!(api.login_rules().await.unwrap().captcha_kind, "normal");
    assert!(!api.share_info("BMfx", None).await.unwrap().unlocked);
    let password = Secret::new("pw 1");
    assert!(
        api.share_info("BMfx", Some(&password))
            .await
            .unwrap()
            .unlocked
    );
}

#[tokio::test]
async fn a_thumbnail_is_a_picture_or_none() {
    let server = Responder::new(|seen| match seen.path() {
        "/api/v4/file/thumb" if seen.target.contains("none") => fixture("api2-thumb-none"),
        "/api/v4/file/thumb" => {
            let url = format!("http://{}/p?sign=x", seen.header("host").unwrap());
            json(&format!(
                r#"{{"code":0,"data":{{"url":"{url}","expires":null}}}}"#
            ))
        }
        _ => answer(
            "200 OK",
            "Content-Type: application/octet-stream\r\n",
            b"\x89PNG",
        ),
    })
    .await;
    let api = server.api(Credentials::Anonymous);
    let picture = api.thumbnail(&my("pic")).await.unwrap();
    assert_eq!(picture.as_deref(), Some(b"\x89PNG".as_slice()));
    assert_eq!(api.thumbnail(&my("none")).await.unwrap(), None);
    assert_eq!(api.health().last_error, None, "which is no trouble");
}

#[tokio::test]
async fn of_which_files_there_are_thumbnails_is_told_or_unsupported() {
    let server =
        Responder::new(|_| json(r#"{"code":0,"data":{"thumb_exts":["JPG","png"]}}"#)).await;
    let api = server.api(Credentials::Anonymous);
    assert_eq!(api.thumbnail_extensions().await.unwrap(), ["jpg", "png"]);
    let server = Responder::new(|_| json(r#"{"code":0,"data":{"instance_id":"i"}}"#)).await;
    let told = server
        .api(Credentials::Anonymous)
        .thumbnail_extensions()
        .await;
    assert!(matches!(told, Err(Error::Unsupported)), "{told:?}");
}

#[tokio::test]
async fn a_thumbnail_comes_at_once_and_is_owed_to_the_limit() {
    let server = Responder::new(|seen| match seen.path() {
        "/api/v4/file/thumb" => {
            let url = format!("http://{}/p?sign=x", seen.header("host").unwrap());
            json(&format!(r#"{{"code":0,"data":{{"url":"{url}"}}}}"#))
        }
        _ => answer("200 OK", "", &[7; 400]),
    })
    .await;
    let api = server.limited(Credentials::Anonymous, Duration::from_secs(5), 1000);
    let began = tokio::time::Instant::now();
    assert!(api.thumbnail(&my("pic")).await.unwrap().is_some());
    assert!(
        began.elapsed() < Duration::from_millis(390),
        "it was held back"
    );
    api.wait_for_pace().await;
    assert!(began.elapsed() >= Duration::from_millis(380));
}

#[tokio::test]
async fn trouble_that_passes_is_waited_out() {
    let server = Responder::new(|_| unreachable!()).await;
    drop(server);
    let tries = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&tries);
    let server = Responder::new(move |_| match count.fetch_add(1, Ordering::SeqCst) {
        0 => answer(
            "503 Service Unavailable",
            "Content-Type: text/html\r\n",
            b"<h1>",
        ),
        1 => fixture("api1-banned-user-token"),
        2 => html(),
        _ => fixture("api1-list-root"),
    })
    .await;
    let api = server.api(Credentials::Anonymous);
    let page = api
        .list_page(&my(""), &PagePosition::First, 9)
        .await
        .unwrap();
    assert_eq!((names(&page).len(), tries.load(Ordering::SeqCst)), (2, 4));
    assert_eq!(api.health().unreachable_since, None);
    assert!(api.health().last_error.is_some());
}

#[tokio::test]
async fn a_server_known_to_be_down_is_waited_for_once_and_again_after_it_was_back() {
    let down = Arc::new(AtomicUsize::new(usize::MAX));
    let left = Arc::clone(&down);
    let server = Responder::new(move |_| {
        let fails = left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1));
        match fails {
            Ok(_) => answer("503 Service Unavailable", "", b""),
            Err(_) => fixture("api1-list-root"),
        }
    })
    .await;
    let api = server.impatient(Credentials::Anonymous, Duration::from_secs(1));
    let list = async || api.list_page(&my(""), &PagePosition::First, 9).await;
    list().await.unwrap_err();
    let first = server.seen().len();
    list().await.unwrap_err();
    let second = server.seen().len() - first;
    assert!(first >= 3 && second <= 2, "{first} tries, then {second}");

    down.store(0, Ordering::SeqCst);
    list().await.unwrap();
    down.store(2, Ordering::SeqCst);
    list().await.unwrap();
}

#[tokio::test]
async fn a_server_that_wants_to_be_left_alone_longer_than_anyone_waits_is_left_alone() {
    let busy = answer("503 Service Unavailable", "Retry-After: 3600\r\n", b"");
    let server = Responder::new(move |_| busy.clone()).await;
    let api = server.api(Credentials::Anonymous);
    let error = api.info(&my("a")).await.unwrap_err();
    assert_eq!(
        (variant(&error), server.seen().len()),
        ("Trouble".into(), 1)
    );
    assert!(api.health().unreachable_since.is_some());
}

#[tokio::test]
async fn a_server_too_old_for_oauth_says_so_and_a_refused_code_too() {
    let old = || {
        answer(
            "404 Not Found",
            "Content-Type: text/plain\r\n",
            b"404 page not found",
        )
    };
    let server = Responder::new(move |_| old()).await;
    let api = server.api(Credentials::Anonymous);
    assert_eq!(
        variant(&api.oauth_app("x/y").await.unwrap_err()),
        "Unsupported"
    );
    assert_eq!(server.seen()[0].path(), "/api/v4/session/oauth/app/x%2Fy");

    let secret = |text: &str| Secret::new(text);
    for (reply, expected) in [
        (fixture("api1-oauth-token-bad-grant"), "Refused"),
        (
            answer(
                "400 Bad Request",
                "",
                br#"{"error":"Invalid client secret","error_codes":[40020]}"#,
            ),
            "Refused",
        ),
    ] {
        let server = Responder::new(move |_| reply.clone()).await;
        let api = server.api(Credentials::Anonymous);
        let result = api
            .oauth_exchange("id", &secret("s"), &secret("c"), &secret("v"))
            .await;
        assert_eq!(variant(&result.unwrap_err()), expected);
        assert_eq!(server.seen().len(), 1);
    }
    let server = Responder::new(|_| fixture("api1-oauth-token")).await;
    let api = server.api(Credentials::Anonymous);
    let tokens = api
        .oauth_exchange("id", &secret("s&"), &secret("c"), &secret("v"))
        .await
        .unwrap();
    assert!(tokens.access_expires > SystemTime::now() + Duration::from_secs(3000));
    assert!(
        server.seen()[0]
            .body
            .contains("client_secret=s%26&grant_type=authorization_code")
    );
}

#[tokio::test]
async fn an_answer_that_does_not_end_is_given_up_before_it_fills_the_memory() {
    let endless = vec![b' '; (64 << 20) + 1];
    let server =
        Responder::new(move |_| answer("200 OK", "Content-Type: application/json\r\n", &endless))
            .await;
    let api = server.api(Credentials::Anonymous);
    let sign_in = SignIn {
        email: "a@example.com".into(),
        password: Secret::new("p"),
        captcha: None,
    };
    let error = api.sign_in(&sign_in).await.unwrap_err();
    assert!(error.to_string().contains("too long"), "{error}");
}
