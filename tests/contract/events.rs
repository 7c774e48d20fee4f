//! What is told of which change, to those who follow a folder (→ api part 1 §13.3–13.4).
//!
//! What is done in a case before it asks what was told is told of in one go, a line for each event.

use reqwest::Method;
use serde_json::{Value, json};

use crate::followers::Follower;
use crate::runner::{Case, cases};
use crate::subject::{Subject, text};
use crate::trash::place_of;
use crate::uploads;

pub(crate) const CASES: &[Case] = cases![
    what_is_made_is_told_with_all_that_is_made_for_it,
    new_content_is_a_change,
    a_session_tells_of_its_placeholder_and_of_its_end,
    a_cancelled_session_is_told_of,
    versions_are_changes,
    a_move_is_told_by_the_ends_that_are_followed,
    of_a_folder_only_itself_is_told,
    what_comes_out_of_the_trash_has_no_name,
    many_changes_are_nobodys_news,
    who_does_it_himself_is_not_told,
    an_event_names_its_file,
    names_come_in_clear,
    the_folder_that_is_followed_is_nobodys_news,
    several_changes_of_a_file_are_told_as_one,
    a_rename_hides_a_change_of_content,
    a_name_taken_again_is_two_files,
    a_swap_of_names_is_two_renames,
];

async fn check(follower: &mut Follower<'_>, told: &[&str]) {
    assert_eq!(follower.told().await, told);
}

async fn renamed(subject: &Subject, path: &str, name: &str) {
    subject.rename(&subject.at(path), name).await.expect(0);
}

async fn moved(subject: &Subject, path: &str, folder: &str) {
    let (from, to) = (subject.at(path), subject.at(folder));
    subject.transfer(&from, &to, false).await.expect(0);
}

async fn gone(subject: &Subject, path: &str, for_good: bool) {
    let uri = subject.at(path);
    subject.delete(&[&uri], for_good).await.expect(0);
}

async fn restored(subject: &Subject, place: &str) {
    let body = json!({"uris": [place]});
    subject.post("/file/restore", body).send().await.expect(0);
}

async fn what_is_made_is_told_with_all_that_is_made_for_it(subject: &Subject) {
    let mut follower = Follower::new(subject).await;
    subject.folders(&["d"]).await;
    subject.create(&subject.at("f"), "file").await.data();
    subject.put("a/b/c", b"x").await;
    // It was there.
    subject.folders(&["d"]).await;
    let told = [
        "create /d",
        "create /f",
        "create /a",
        "create /a/b",
        "create /a/b/c",
    ];
    check(&mut follower, &told).await;
}

async fn new_content_is_a_change(subject: &Subject) {
    subject.put("f", b"x").await;
    let mut follower = Follower::new(subject).await;
    subject.put("f", b"y").await;
    subject.put("f", b"z").await;
    check(&mut follower, &["modify /f"]).await;
}

async fn a_session_tells_of_its_placeholder_and_of_its_end(subject: &Subject) {
    let mut follower = Follower::new(subject).await;
    let session = uploads::open(subject, "f", 3, json!({})).await.data();
    check(&mut follower, &["create /f"]).await;
    uploads::send_all(subject, &session, b"abc").await;
    check(&mut follower, &["modify /f"]).await;
}

async fn a_cancelled_session_is_told_of(subject: &Subject) {
    subject.put("old", b"x").await;
    let mut follower = Follower::new(subject).await;
    let session = uploads::open(subject, "f", 3, json!({})).await.data();
    uploads::cancel(subject, &session, "f").await.expect(0);
    check(&mut follower, &[]).await;
    let session = uploads::open(subject, "g", 3, json!({})).await.data();
    check(&mut follower, &["create /g"]).await;
    uploads::cancel(subject, &session, "g").await.expect(0);
    let more = json!({"entity_type": "version"});
    let session = uploads::open(subject, "old", 3, more).await.data();
    uploads::cancel(subject, &session, "old").await.expect(0);
    // The content is as it was.
    check(&mut follower, &["delete /g", "modify /old"]).await;
}

async fn versions_are_changes(subject: &Subject) {
    let mut older = Vec::new();
    for name in ["a", "b"] {
        older.push(subject.put(name, b"old").await["primary_entity"].clone());
        subject.put(name, b"new").await;
    }
    let mut follower = Follower::new(subject).await;
    let body = |name: &str, version: &Value| json!({"uri": subject.at(name), "version": version});
    let current = subject.post("/file/version/current", body("a", &older[0]));
    current.send().await.expect(0);
    let delete = subject.call(Method::DELETE, "/file/version");
    delete.json(body("b", &older[1])).send().await.expect(0);
    check(&mut follower, &["modify /a", "modify /b"]).await;
}

async fn a_move_is_told_by_the_ends_that_are_followed(subject: &Subject) {
    subject.folders(&["in/d", "out"]).await;
    for path in ["in/stays", "in/goes", "out/comes"] {
        subject.put(path, b"x").await;
    }
    let id = crate::followers::client_id();
    let (mut follower, _) = Follower::with_id(subject, "in", &id).await;
    moved(subject, "in/stays", "in/d").await;
    moved(subject, "in/goes", "out").await;
    moved(subject, "out/comes", "in/d").await;
    let body = json!({"uris": [subject.at("in/d/stays")], "dst": subject.at("in"), "copy": true});
    subject.post("/file/move", body).send().await.expect(0);
    let told = follower.told_in("in").await;
    let expected = [
        "rename /stays /d/stays",
        "delete /goes",
        "create /d/comes",
        "create /stays",
    ];
    assert_eq!(told, expected);
}

async fn of_a_folder_only_itself_is_told(subject: &Subject) {
    subject.folders(&["e"]).await;
    for folder in ["moved", "renamed", "copied", "trashed", "deleted"] {
        subject.put(&format!("{folder}/f"), b"x").await;
    }
    let mut follower = Follower::new(subject).await;
    moved(subject, "moved", "e").await;
    renamed(subject, "renamed", "other").await;
    let (from, to) = (subject.at("copied"), subject.at("e"));
    subject.transfer(&from, &to, true).await.expect(0);
    gone(subject, "trashed", false).await;
    gone(subject, "deleted", true).await;
    let told = [
        "rename /moved /e/moved",
        "rename /renamed /other",
        "create /e/copied",
        "delete /trashed",
        "delete /deleted",
    ];
    check(&mut follower, &told).await;
}

async fn what_comes_out_of_the_trash_has_no_name(subject: &Subject) {
    subject.folders(&["d"]).await;
    let mut places = Vec::new();
    for name in ["back", "elsewhere"] {
        let file = subject.put(name, b"x").await;
        gone(subject, name, false).await;
        places.push(place_of(subject, &file).await);
    }
    let mut follower = Follower::new(subject).await;
    restored(subject, &places[0]).await;
    let to = subject.at("d");
    subject.transfer(&places[1], &to, false).await.expect(0);
    let uuid = |place: &String| place.rsplit('/').next().unwrap_or_default().to_owned();
    let told = follower.told().await;
    let expected = [
        format!("create /{}", uuid(&places[0])),
        format!("create /d/{}", uuid(&places[1])),
    ];
    assert_eq!(told, expected);
}

async fn many_changes_are_nobodys_news(subject: &Subject) {
    let trashed = subject.put("trashed", b"x").await;
    subject.put("f", b"x").await;
    gone(subject, "trashed", false).await;
    let place = place_of(subject, &trashed).await;
    let mut follower = Follower::new(subject).await;
    subject.delete(&[&place], true).await.expect(0);
    let patches = json!([{"key": "customize:pp", "value": "x"}]);
    subject.patch(&subject.at("f"), patches).await.expect(0);
    crate::sharing::share(subject, &subject.at("f"), json!({})).await;
    check(&mut follower, &[]).await;
}

async fn who_does_it_himself_is_not_told(subject: &Subject) {
    subject.put("f", b"x").await;
    let mut follower = Follower::new(subject).await;
    let body = json!({"uri": subject.at("f"), "new_name": "g"});
    let rename = subject.post("/file/rename", body);
    let rename = rename.header("x-cr-client-id", &follower.id.clone());
    rename.send().await.expect(0);
    let put = subject.call(Method::PUT, "/file/content");
    let uri = subject.at("g");
    let put = put.query(&[("uri", &uri)]).body("y");
    let put = put.header("x-cr-client-id", &follower.id.clone());
    put.send().await.expect(0);
    subject.put("h", b"x").await;
    check(&mut follower, &["create /h"]).await;
}

async fn an_event_names_its_file(subject: &Subject) {
    let mut follower = Follower::new(subject).await;
    let file = subject.put("f", b"x").await;
    follower.let_go();
    let event = follower.event().await;
    let expected = json!({"type": "create", "file_id": file["id"], "from": "/f", "to": ""});
    assert_eq!(event, expected);
}

async fn names_come_in_clear(subject: &Subject) {
    let mut follower = Follower::new(subject).await;
    subject.put("d%20e/%C3%A9%25%23+", b"x").await;
    check(&mut follower, &["create /d e", "create /d e/é%#+"]).await;
}

async fn the_folder_that_is_followed_is_nobodys_news(subject: &Subject) {
    subject.folders(&["d"]).await;
    let id = crate::followers::client_id();
    let (mut follower, _) = Follower::with_id(subject, "d", &id).await;
    renamed(subject, "d", "e").await;
    subject.put("e/f", b"x").await;
    assert_eq!(follower.told_in("e").await, ["create /f"]);
    gone(subject, "e", false).await;
    let uri = subject.at("e");
    let again = subject.get("/file/events").query(&[("uri", &uri)]);
    let again = again.header("x-cr-client-id", &id).send().await;
    let said = text(&again.expect(40016).json()["msg"]);
    assert_eq!(said, "Requested uri not available");
}

async fn several_changes_of_a_file_are_told_as_one(subject: &Subject) {
    for name in ["back", "changed", "deleted"] {
        subject.put(name, b"x").await;
    }
    let mut follower = Follower::new(subject).await;
    subject.put("new", b"x").await;
    renamed(subject, "new", "newer").await;
    subject.put("short", b"x").await;
    gone(subject, "short", true).await;
    renamed(subject, "back", "forth").await;
    renamed(subject, "forth", "back").await;
    renamed(subject, "changed", "once").await;
    renamed(subject, "once", "twice").await;
    renamed(subject, "deleted", "before").await;
    gone(subject, "before", true).await;
    // Of the last one nobody ever saw the name.
    let told = ["create /newer", "rename /changed /twice", "delete /before"];
    check(&mut follower, &told).await;
}

async fn a_rename_hides_a_change_of_content(subject: &Subject) {
    for name in ["a", "b"] {
        subject.put(name, b"x").await;
    }
    let mut follower = Follower::new(subject).await;
    subject.put("a", b"y").await;
    renamed(subject, "a", "a2").await;
    renamed(subject, "b", "b2").await;
    subject.put("b2", b"y").await;
    check(&mut follower, &["rename /a /a2", "rename /b /b2"]).await;
}

async fn a_name_taken_again_is_two_files(subject: &Subject) {
    subject.put("f", b"x").await;
    let restored_one = subject.put("g", b"x").await;
    let mut follower = Follower::new(subject).await;
    gone(subject, "f", true).await;
    subject.put("f", b"y").await;
    gone(subject, "g", false).await;
    let place = place_of(subject, &restored_one).await;
    restored(subject, &place).await;
    let uuid = place.rsplit('/').next().unwrap_or_default();
    let create = format!("create /{uuid}");
    check(&mut follower, &["delete /f", "create /f", &create]).await;
}

async fn a_swap_of_names_is_two_renames(subject: &Subject) {
    for name in ["d", "e"] {
        subject.put(name, b"x").await;
    }
    let mut follower = Follower::new(subject).await;
    renamed(subject, "d", "t").await;
    renamed(subject, "e", "d").await;
    renamed(subject, "t", "e").await;
    check(&mut follower, &["rename /d /e", "rename /e /d"]).await;
}
