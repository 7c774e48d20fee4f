//! Which names the server takes, and which it tells apart.

use cloudreve_test_server::Collation;
use reqwest::Method;
use serde_json::json;

use crate::runner::{Case, cases};
use crate::subject::{Subject, entries, names_of, text};

pub(crate) const CASES: &[Case] = cases![
    eight_characters_are_forbidden,
    a_name_may_have_255_bytes_and_no_more,
    content_needs_a_name_that_leaves_room_for_that_of_its_blob,
    a_new_name_of_more_than_255_characters_is_40001,
    a_new_name_may_not_be_empty_or_dots_or_hold_a_slash,
    case_tells_names_apart,
    dots_and_spaces_at_the_ends_are_kept,
    unicode_is_not_normalised,
    control_characters_are_kept,
    bytes_that_are_not_utf_8_show_as_replacements_and_stay_in_the_path,
    reserved_words_of_other_systems_are_names,
    what_names_of_bytes_are_exchanged_for_is_kept,
];

/// Beliefs about databases that a server for tests rarely has. They were read in the server's source (`Create`, `Rename` and
/// `PrepareUpload` in `pkg/filemanager/fs/dbfs`, `GetChildFile` in `inventory/file.go`, of 4.18), and never tried.
pub(crate) const ON_TEST_SERVER: &[Case] = cases![
    a_database_that_folds_case_finds_another_spelling_and_says_so_in_the_answer,
    making_another_spelling_is_success_and_makes_nothing,
    what_is_uploaded_to_another_spelling_is_success_and_lost,
    renaming_to_another_spelling_is_taken_unless_it_is_ones_own,
    a_database_that_pads_finds_names_with_and_without_spaces_behind_them,
    a_database_of_text_fails_with_names_that_are_none,
];

async fn eight_characters_are_forbidden(subject: &Subject) {
    subject.folders(&["d"]).await;
    for (encoded, plain) in [
        ("%5C", "\\"),
        ("%3A", ":"),
        ("*", "*"),
        ("%3F", "?"),
        ("%22", "\""),
        ("%3C", "<"),
        ("%3E", ">"),
        ("%7C", "|"),
    ] {
        for kind in ["file", "folder"] {
            subject
                .create(&subject.at(&format!("a{encoded}b")), kind)
                .await
                .expect(40052);
        }
        subject
            .put_at(&subject.at(&format!("a{encoded}b")), b"x")
            .await
            .expect(40052);
        subject
            .rename(&subject.at("d"), &format!("a{plain}b"))
            .await
            .expect(40052);
    }
    assert_eq!(subject.names(&subject.at("")).await, ["d"]);
}

async fn a_name_may_have_255_bytes_and_no_more(subject: &Subject) {
    for kind in ["file", "folder"] {
        let longest = format!("{}{kind}", "x".repeat(255 - kind.len()));
        assert_eq!(
            subject.create(&subject.at(&longest), kind).await.data()["name"],
            longest
        );
        subject
            .create(&subject.at(&format!("{longest}x")), kind)
            .await
            .expect(40052);
    }
    // 127 characters of two bytes and one of one are 255 bytes; 128 of two are 256.
    let umlauts = "%C3%A4".repeat(127);
    subject
        .create(&subject.at(&format!("{umlauts}a")), "file")
        .await
        .expect(0);
    subject
        .create(&subject.at(&format!("{umlauts}%C3%A4")), "file")
        .await
        .expect(40052);
}

/// The stock policy stores a blob under the user's number, eight random characters and the name.
async fn content_needs_a_name_that_leaves_room_for_that_of_its_blob(subject: &Subject) {
    subject
        .put_at(&subject.at(&"x".repeat(230)), b"x")
        .await
        .expect(0);
    subject
        .put_at(&subject.at(&"x".repeat(255)), b"x")
        .await
        .expect(50004);
    assert_eq!(subject.names(&subject.at("")).await, ["x".repeat(230)]);
}

async fn a_new_name_of_more_than_255_characters_is_40001(subject: &Subject) {
    subject.folders(&["d"]).await;
    subject
        .rename(&subject.at("d"), &"x".repeat(256))
        .await
        .expect(40001);
    subject
        .rename(&subject.at("d"), &"ä".repeat(128))
        .await
        .expect(40052);
    subject
        .rename(&subject.at("d"), &"x".repeat(255))
        .await
        .expect(0);
}

async fn a_new_name_may_not_be_empty_or_dots_or_hold_a_slash(subject: &Subject) {
    subject.folders(&["d"]).await;
    subject.rename(&subject.at("d"), "").await.expect(40001);
    for name in [".", "..", "a/b"] {
        subject.rename(&subject.at("d"), name).await.expect(40052);
    }
}

async fn case_tells_names_apart(subject: &Subject) {
    for (number, name) in ["Case", "case", "CASE"].into_iter().enumerate() {
        subject.put(name, &vec![b'x'; number]).await;
    }
    assert_eq!(
        subject.names(&subject.at("")).await,
        ["CASE", "Case", "case"]
    );
    assert_eq!(subject.info(&subject.at("CASE")).await.data()["size"], 2);
}

async fn dots_and_spaces_at_the_ends_are_kept(subject: &Subject) {
    for name in ["x", "x.", "x%20", "%20x", "..x", "..."] {
        subject.create(&subject.at(name), "file").await.expect(0);
    }
    assert_eq!(
        subject.names(&subject.at("")).await,
        [" x", "...", "..x", "x", "x ", "x."]
    );
}

async fn unicode_is_not_normalised(subject: &Subject) {
    subject
        .create(&subject.at("%C3%A9"), "file")
        .await
        .expect(0);
    subject
        .create(&subject.at("e%CC%81"), "file")
        .await
        .expect(0);
    assert_eq!(subject.names(&subject.at("")).await, ["e\u{301}", "\u{e9}"]);
}

async fn control_characters_are_kept(subject: &Subject) {
    let made = subject
        .create(&subject.at("line%0Abreak%01"), "file")
        .await
        .data();
    assert_eq!(made["name"], "line\nbreak\u{1}");
    assert_eq!(
        subject.info(&subject.at("line%0Abreak%01")).await.data()["id"],
        made["id"]
    );
}

async fn bytes_that_are_not_utf_8_show_as_replacements_and_stay_in_the_path(subject: &Subject) {
    let made = subject.create(&subject.at("a%FF%FEb"), "file").await.data();
    assert_eq!(made["name"], "a\u{fffd}\u{fffd}b");
    let listed = subject.list(&subject.at("")).await.data();
    assert_eq!(names_of(&listed), ["a\u{fffd}\u{fffd}b"]);
    assert_eq!(entries(&listed)[0]["path"], subject.at("a%FF%FEb"));
    assert_eq!(
        subject.info(&subject.at("a%FF%FEb")).await.data()["id"],
        made["id"]
    );
    subject
        .info(&subject.at("a%EF%BF%BD%EF%BF%BDb"))
        .await
        .expect(40016);
}

async fn reserved_words_of_other_systems_are_names(subject: &Subject) {
    for name in ["CON", "nul.txt", ".hidden", "Thumbs.db"] {
        assert_eq!(
            subject.create(&subject.at(name), "file").await.data()["name"],
            json!(name)
        );
    }
}

async fn what_names_of_bytes_are_exchanged_for_is_kept(subject: &Subject) {
    for name in ["a‛FF‛80", "‛‛FF", "a：b‛：", "begin‛~0123456789abcdef.txt"] {
        subject
            .create(&subject.at(&escaped(name)), "file")
            .await
            .expect(0);
    }
    let mut names = subject.names(&subject.at("")).await;
    names.sort();
    assert_eq!(
        names,
        ["a‛FF‛80", "a：b‛：", "begin‛~0123456789abcdef.txt", "‛‛FF"]
    );
}

/// Every byte of a name as an escape.
fn escaped(name: &str) -> String {
    name.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

fn folding(subject: &Subject) {
    subject.site.server().set_collation(Collation::FoldCase);
}

async fn a_database_that_folds_case_finds_another_spelling_and_says_so_in_the_answer(
    subject: &Subject,
) {
    folding(subject);
    let made = subject.put("name", b"x").await;
    let found = subject.info(&subject.at("NAME")).await.data();
    assert_eq!(
        (&found["id"], &found["name"]),
        (&made["id"], &json!("name"))
    );
    assert_eq!(found["path"], subject.at("name"));
    subject.info(&subject.at("other")).await.expect(40016);
}

async fn making_another_spelling_is_success_and_makes_nothing(subject: &Subject) {
    folding(subject);
    let made = subject.put("name", b"x").await;
    // Whatever is asked for, and though a conflict was to be an error.
    for kind in ["file", "folder"] {
        let body = json!({"uri": subject.at("NAME"), "type": kind, "err_on_conflict": true});
        let told = subject.post("/file/create", body).send().await.data();
        assert_eq!((&told["id"], &told["name"]), (&made["id"], &json!("name")));
        assert_eq!(told["type"], 0);
    }
    assert_eq!(subject.names(&subject.at("")).await, ["name"]);
    let body = json!({"uri": subject.at("name"), "type": "file", "err_on_conflict": true});
    subject
        .post("/file/create", body)
        .send()
        .await
        .expect(40004);
}

async fn what_is_uploaded_to_another_spelling_is_success_and_lost(subject: &Subject) {
    folding(subject);
    let made = subject.put("name", b"x").await;
    let told = subject.put_at(&subject.at("NAME"), b"longer").await.data();
    assert_eq!(told["id"], made["id"]);
    let body = json!({"uri": subject.at("Name"), "size": 6});
    let session = subject.call(Method::PUT, "/file/upload").json(body);
    let session = session.send().await.data();
    let path = format!("/file/upload/{}/0", text(&session["session_id"]));
    let chunk = subject.call(Method::POST, &path).body(&b"longer"[..]);
    chunk.send().await.expect(0);
    let now = subject.info(&subject.at("name")).await.data();
    assert_eq!(
        (&now["size"], &now["primary_entity"]),
        (&json!(1), &made["primary_entity"])
    );
    assert_eq!(subject.names(&subject.at("")).await, ["name"]);
}

async fn renaming_to_another_spelling_is_taken_unless_it_is_ones_own(subject: &Subject) {
    folding(subject);
    subject.put("name", b"x").await;
    subject.put("other", b"y").await;
    subject
        .rename(&subject.at("other"), "NAME")
        .await
        .expect(40004);
    subject.rename(&subject.at("name"), "NAME").await.expect(0);
    assert_eq!(subject.names(&subject.at("")).await, ["NAME", "other"]);
}

async fn a_database_that_pads_finds_names_with_and_without_spaces_behind_them(subject: &Subject) {
    subject.site.server().set_collation(Collation::PadSpace);
    let made = subject.put("name", b"x").await;
    let found = subject.info(&subject.at("name%20")).await.data();
    assert_eq!(found["id"], made["id"]);
    subject.info(&subject.at("NAME")).await.expect(40016);
    subject
        .rename(&subject.at("name"), "name  ")
        .await
        .expect(0);
    assert_eq!(subject.names(&subject.at("")).await, ["name  "]);
}

async fn a_database_of_text_fails_with_names_that_are_none(subject: &Subject) {
    let server = subject.site.server();
    server.configure(|settings| settings.names_are_text = true);
    subject.create(&subject.at("a%FF"), "file").await.expect(-1);
    subject.info(&subject.at("a%FF")).await.expect(-1);
    subject
        .create(&subject.at("a%C3%BF"), "file")
        .await
        .expect(0);
}
