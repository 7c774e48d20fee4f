//! What changes names and places: sent once, and answered in a way to act on.

use std::collections::BTreeMap;

use super::hangup::until;
use super::*;
use crate::model::{EntityId, FileKind};
use crate::names::ServerName;

fn name(text: &str) -> ServerName {
    ServerName::from_wire(text.as_bytes())
}

fn sent(seen: &Seen) -> serde_json::Value {
    serde_json::from_str(&seen.body).unwrap()
}

/// A server with one answer for everything.
async fn always(answer: Vec<u8>) -> (Responder, Api) {
    let server = Responder::new(move |_| answer.clone()).await;
    let api = server.api(Credentials::AccessToken(Secret::new("token")));
    (server, api)
}

/// A server that gives these answers, one after the other.
async fn answers(answers: Vec<Vec<u8>>) -> (Responder, Api) {
    let left = Mutex::new(answers.into_iter());
    let server = Responder::new(move |_| left.lock().unwrap().next().unwrap_or_default()).await;
    let api = server.api(Credentials::AccessToken(Secret::new("token")));
    (server, api)
}

/// Every call that changes something, in JSON.
async fn everything(api: &Api) -> Vec<Result<(), Error>> {
    let (uri, folder) = (my("a"), my("d"));
    let one = std::slice::from_ref(&uri);
    let metadata = BTreeMap::from([("customize:x".to_owned(), None)]);
    vec![
        api.create_folder(&uri, &Default::default()).await.map(drop),
        api.create_file(&uri, &Default::default()).await.map(drop),
        api.rename(&uri, &name("b")).await.map(drop),
        api.move_into(one, &folder).await,
        api.copy_into(one, &folder).await,
        api.delete(one, Delete::Trash).await.map(drop),
        api.patch_metadata(&uri, &metadata).await,
        api.delete_version(&uri, &EntityId("e".into())).await,
        api.unlock(&[Secret::new("t")]).await,
    ]
}

#[tokio::test]
async fn what_changes_something_is_sent_once_where_its_answer_is_lost_or_is_trouble() {
    for (answer, expected) in [
        (Vec::new(), "Transport"),
        (html(), "Transport"),
        (code(50004), "Trouble"),
        (code(-1), "Trouble"),
        (answer("502 Bad Gateway", "", b""), "Trouble"),
    ] {
        let (server, api) = always(answer).await;
        let outcomes = everything(&api).await;
        assert_eq!(server.seen().len(), outcomes.len(), "{expected}");
        for outcome in outcomes {
            assert_eq!(variant(&outcome.unwrap_err()), expected);
        }
    }
}

#[tokio::test]
async fn what_reached_nobody_is_sent_again_when_the_server_is_back() {
    let port = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = port.local_addr().unwrap();
    drop(port);
    let (server, _) = always(Vec::new()).await;
    let options = Options {
        address: format!("http://{address}").parse().unwrap(),
        ..server.options(Duration::from_secs(10))
    };
    let api = Api::new(options, Credentials::Anonymous).unwrap();
    let (calling, folder) = (api.clone(), my("mut/d1"));
    let call =
        tokio::spawn(async move { calling.create_folder(&folder, &Default::default()).await });
    until(|| api.health().last_error.is_some()).await;
    let listener = TcpListener::bind(address).await.unwrap();
    let (mut stream, _) = listener.accept().await.unwrap();
    stream
        .read_buf(&mut Vec::with_capacity(4096))
        .await
        .unwrap();
    stream
        .write_all(&fixture("api1-create-folder"))
        .await
        .unwrap();
    assert_eq!(&*call.await.unwrap().unwrap().id.0, "ZO4sD");
}

#[tokio::test]
async fn requests_say_what_the_server_reads() {
    let made = recorded("api1-create-folder").replace("mut/d1", "a%20b%23");
    let (server, api) = always(json(&made)).await;
    api.create_folder(&my("a b#"), &Default::default())
        .await
        .unwrap();
    api.rename(&my("a"), &name("ü")).await.unwrap();
    let uris = [my("a"), my("b%3F")];
    api.move_into(&uris, &my("d")).await.unwrap();
    api.copy_into(&uris, &my("d")).await.unwrap();
    api.delete(&uris, Delete::Trash).await.unwrap();
    api.delete(&uris, Delete::Permanent).await.unwrap();
    let changes = [
        ("customize:x".to_owned(), Some("1".to_owned())),
        ("customize:y".to_owned(), None),
    ];
    api.patch_metadata(&my("a"), &BTreeMap::from(changes))
        .await
        .unwrap();
    api.delete_version(&my("a"), &EntityId("e1".into()))
        .await
        .unwrap();
    api.unlock(&[Secret::new("t1")]).await.unwrap();
    let said: Vec<String> = server
        .seen()
        .iter()
        .map(|seen| format!("{} {} {}", seen.method, seen.target, sent(seen)))
        .collect();
    let expected = [
        r#"POST /api/v4/file/create {"err_on_conflict":true,"type":"folder","uri":"cloudreve://my/a%20b%23"}"#,
        r#"POST /api/v4/file/rename {"new_name":"ü","uri":"cloudreve://my/a"}"#,
        r#"POST /api/v4/file/move {"copy":false,"dst":"cloudreve://my/d","uris":["cloudreve://my/a","cloudreve://my/b%3F"]}"#,
        r#"POST /api/v4/file/move {"copy":true,"dst":"cloudreve://my/d","uris":["cloudreve://my/a","cloudreve://my/b%3F"]}"#,
        r#"DELETE /api/v4/file {"skip_soft_delete":false,"uris":["cloudreve://my/a","cloudreve://my/b%3F"]}"#,
        r#"DELETE /api/v4/file {"skip_soft_delete":true,"uris":["cloudreve://my/a","cloudreve://my/b%3F"]}"#,
        r#"PATCH /api/v4/file/metadata {"patches":[{"key":"customize:x","value":"1"},{"key":"customize:y","remove":true}],"uris":["cloudreve://my/a"]}"#,
        r#"DELETE /api/v4/file/version {"uri":"cloudreve://my/a","version":"e1"}"#,
        r#"DELETE /api/v4/file/lock {"tokens":["t1"]}"#,
    ];
    assert_eq!(said, expected);
}

#[tokio::test]
async fn refusals_are_told_apart() {
    for (fixture_name, expected) in [
        ("api1-create-conflict", "Exists"),
        ("api1-rename-conflict", "Exists"),
        ("api1-move-batch-conflict", "Exists"),
        ("api1-create-invalid-name", "NameRefused"),
        ("api1-create-below-a-file", "Denied"),
        ("api1-metadata-partial", "NotFound"),
        ("api1-move-partial", "NotFound"),
        ("api2-version-delete-current", "Denied"),
        ("api1-unlock-unknown-token", "Refused"),
        ("api2-session-create-quota", "Full"),
        ("api2-content-put-previous-stale", "Changed"),
        ("api2-session-create-too-large", "TooLarge"),
        ("api2-session-create-extension-denied", "NameRefused"),
    ] {
        let (server, api) = always(fixture(fixture_name)).await;
        let error = api.move_into(&[my("a")], &my("d")).await.unwrap_err();
        assert_eq!(variant(&error), expected, "{fixture_name}");
        assert_eq!(server.seen().len(), 1, "{fixture_name}");
    }
}

#[tokio::test]
async fn a_change_under_way_or_a_short_lock_is_waited_for() {
    let short = fixture("api1-delete-parent-and-child");
    let ok = fixture("api1-rename-ok");
    let (server, api) = answers(vec![code(409), short.clone(), code(409), ok]).await;
    api.rename(&my("a"), &name("b")).await.unwrap();
    assert_eq!(server.seen().len(), 4);

    let (server, api) = always(short).await;
    let error = api.rename(&my("a"), &name("b")).await.unwrap_err();
    assert_eq!(variant(&error), "Locked");
    assert_eq!(server.seen().len(), 5);
}

#[tokio::test]
async fn a_lock_of_an_upload_is_told_at_once_with_its_owner_and_keeps_its_token_secret() {
    for fixture_name in [
        "api1-lock-conflict-rename-parent",
        "api2-locked-delete-file",
    ] {
        let (server, api) = always(fixture(fixture_name)).await;
        let error = api.delete(&[my("md")], Delete::Trash).await.unwrap_err();
        assert_eq!(server.seen().len(), 1);
        let Error::Locked(owners) = &error else {
            panic!("{error:?}");
        };
        assert_eq!(owners[0].application, "upload");
        let token = owners[0].token.as_ref().unwrap().expose();
        assert!(!format!("{error:?} {error}").contains(token));
        assert!(error.to_string().contains("(upload at cloudreve://my/"));
    }
    // Of somebody else's file nothing but that it is locked.
    let blank = r#"{"code":40073,"data":[{"owner":{"application":{}},"type":0}],"msg":"x"}"#;
    let (server, api) = always(json(blank)).await;
    let error = api
        .create_file(&my("a"), &Default::default())
        .await
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "it is locked on the server (another client)"
    );
    assert_eq!(server.seen().len(), 1);
}

#[tokio::test]
async fn a_lock_met_by_one_of_a_batch_says_who_holds_it() {
    let nested = r#"{"code":40081,"aggregated_error":{"cloudreve://my/a":{"code":40073,
        "data":[{"path":"cloudreve://my/a/b","token":"t","owner":{"application":{"type":"upload"}},"type":0}]}}}"#;
    let (_server, api) = always(json(nested)).await;
    let outcomes = api
        .delete(&[my("a"), my("c")], Delete::Trash)
        .await
        .unwrap();
    let Err(Error::Locked(owners)) = &outcomes[0] else {
        panic!("{outcomes:?}");
    };
    assert_eq!(owners[0].uri, Some(my("a/b")));
    assert!(outcomes[1].is_ok());
}

#[tokio::test]
async fn a_batch_refused_for_its_token_is_sent_again_with_a_new_one() {
    let server = Responder::new(|seen| match seen.path() {
        "/api/v4/session/token/refresh" => renewed("new"),
        _ if seen.header("authorization") == Some("Bearer access-new") => {
            json(r#"{"code":0,"msg":""}"#)
        }
        _ => fixture("api1-expired-token-delete"),
    })
    .await;
    let (_, credentials) = stored(tokens("old", 3600));
    let api = server.api(credentials);
    let outcomes = api
        .delete(&[my("tokdir"), my("b")], Delete::Trash)
        .await
        .unwrap();
    assert!(outcomes.iter().all(Result::is_ok));
    assert_eq!(server.count("/api/v4/file"), 2);
}

#[tokio::test]
async fn a_dead_token_deletes_nothing_of_a_batch_and_says_so_for_all_of_it() {
    let (server, api) = always(fixture("api1-expired-token-delete")).await;
    let uris = [my("tokdir"), my("b")];
    let error = api.delete(&uris, Delete::Trash).await.unwrap_err();
    assert_eq!(variant(&error), "SignedOut");
    assert_eq!(server.seen().len(), 1);
}

#[tokio::test]
async fn an_empty_batch_asks_nobody() {
    let (server, api) = always(code(-1)).await;
    api.move_into(&[], &my("d")).await.unwrap();
    assert!(api.delete(&[], Delete::Trash).await.unwrap().is_empty());
    assert!(server.seen().is_empty());
}

#[tokio::test]
async fn a_creation_that_lost_a_race_finds_what_won_it() {
    // The server's database said no, and something is there.
    let (_server, api) = answers(vec![code(50001), fixture("api1-info-file")]).await;
    assert_eq!(
        variant(
            &api.create_file(&my("a"), &Default::default())
                .await
                .unwrap_err()
        ),
        "Exists"
    );
    // Nothing is there: it was trouble.
    let (_server, api) = answers(vec![code(50001), code(40016)]).await;
    assert_eq!(
        variant(
            &api.create_file(&my("a"), &Default::default())
                .await
                .unwrap_err()
        ),
        "Trouble"
    );
    // A file came where a folder was to be.
    let (_server, api) = always(fixture("api1-create-file")).await;
    assert_eq!(
        variant(
            &api.create_folder(&my("mut/f1"), &Default::default())
                .await
                .unwrap_err()
        ),
        "Exists"
    );
    assert_eq!(
        api.create_file(&my("mut/f1"), &Default::default())
            .await
            .unwrap()
            .kind,
        FileKind::File
    );
    // A file of another spelling was there, which the database takes for the same.
    assert!(!api.takes_for_same());
    assert_eq!(
        variant(
            &api.create_file(&my("mut/F1"), &Default::default())
                .await
                .unwrap_err()
        ),
        "Exists"
    );
    assert!(api.takes_for_same());
}

#[tokio::test]
async fn what_the_server_could_not_store_is_refused_here() {
    let (server, api) = always(fixture("api1-rename-ok")).await;
    let bytes = ServerName::from_wire(*b"\xff");
    let error = api.rename(&my("a"), &bytes).await.unwrap_err();
    assert_eq!(variant(&error), "NameRefused");
    let long = "x".repeat(METADATA_VALUE_MAX_BYTES + 1);
    let changes = BTreeMap::from([("customize:x".to_owned(), Some(long))]);
    let error = api.patch_metadata(&my("a"), &changes).await.unwrap_err();
    assert_eq!(variant(&error), "Refused");
    assert!(server.seen().is_empty());
}

#[tokio::test]
async fn whether_versions_are_kept_depends_on_the_ending_and_is_asked_once() {
    async fn check(settings: &str, expected: [(&str, bool); 4]) {
        let (server, api) = always(json(&format!(r#"{{"code":0,"data":{settings}}}"#))).await;
        for (file, kept) in expected {
            let keeps = api.keeps_versions(&name(file)).await.unwrap();
            assert_eq!(keeps, kept, "{file}: {settings}");
        }
        assert_eq!(server.seen().len(), 1);
    }
    let all = [
        ("a.txt", true),
        ("a.TXT", true),
        ("a", true),
        (".b.md", true),
    ];
    check(
        r#"{"version_retention_enabled":true,"version_retention_max":10}"#,
        all,
    )
    .await;
    check(
        r#"{"version_retention_enabled":true,"version_retention_ext":[]}"#,
        all,
    )
    .await;
    let none = all.map(|(file, _)| (file, false));
    check(r#"{"version_retention_enabled":false}"#, none).await;
    // The current one is all that is kept.
    check(
        r#"{"version_retention_enabled":true,"version_retention_max":1}"#,
        none,
    )
    .await;
    let some = [
        ("a.txt", true),
        ("a.b.TXT", true),
        ("txt", false),
        ("a.", false),
    ];
    check(
        r#"{"version_retention_enabled":true,"version_retention_ext":["txt"]}"#,
        some,
    )
    .await;
}

#[tokio::test]
async fn how_many_a_batch_may_have_is_asked_again_after_one_was_too_large() {
    let server = Responder::new(|seen| match seen.path() {
        "/api/v4/site/config/explorer" => fixture("api1-site-config-explorer"),
        _ => fixture("api1-batch-too-large"),
    })
    .await;
    let api = server.api(Credentials::Anonymous);
    let asked = || server.count("/api/v4/site/config/explorer");
    assert_eq!(api.batch_max().await.unwrap(), 3000);
    assert_eq!(api.batch_max().await.unwrap(), 3000);
    assert_eq!(asked(), 1);
    let error = api.delete(&[my("a")], Delete::Trash).await.unwrap_err();
    assert_eq!(variant(&error), "Refused");
    api.batch_max().await.unwrap();
    assert_eq!(asked(), 2);
}

#[tokio::test]
async fn what_is_spelled_otherwise_is_not_what_was_asked_for() {
    let (_server, api) = always(fixture("api1-info-file")).await;
    assert!(api.info(&my("pg/a")).await.is_ok());
    assert!(!api.takes_for_same());
    for uri in [my("pg/A"), my("pg/a%20")] {
        assert_eq!(variant(&api.info(&uri).await.unwrap_err()), "NotFound");
        assert_eq!(variant(&api.history(&uri).await.unwrap_err()), "NotFound");
        assert_eq!(
            variant(&api.is_told_apart(&uri).await.unwrap_err()),
            "Exists"
        );
        let other = api.other_spelling(&uri).await.unwrap().unwrap();
        assert_eq!(other.name.as_bytes(), b"a");
    }
    assert!(api.takes_for_same());
    api.is_told_apart(&my("pg/a")).await.unwrap();
    assert_eq!(api.other_spelling(&my("pg/a")).await.unwrap(), None);
    // What was deleted is named by number there, and its path by something else.
    assert!(
        api.info(&FileUri::parse_wire("cloudreve://trash/x").unwrap())
            .await
            .is_ok()
    );
}

#[tokio::test]
async fn whether_a_server_tells_names_apart_is_found_out_once_and_not_from_what_may_be_gone() {
    let there = || fixture("api1-info-file");
    let absent = || code(40016);
    // `PG` and `pg ` are not there, and neither is `pg`: that says nothing, so the name itself is looked for.
    let asked = vec![absent(), absent(), absent(), absent()];
    // The same with `pg` there: it is known, and nothing is asked of the next one.
    let pg = json(&recorded("api1-info-file").replace("pg/a", "pg"));
    let (server, api) = answers([asked, vec![absent(), absent(), pg, there()]].concat()).await;
    api.is_told_apart(&my("pg/a")).await.unwrap();
    assert_eq!(server.seen().len(), 4);
    api.is_told_apart(&my("pg/a")).await.unwrap();
    assert_eq!(server.seen().len(), 7);
    api.is_told_apart(&my("pg/b")).await.unwrap();
    assert_eq!(server.seen().len(), 7);
    assert!(!api.takes_for_same());
}
