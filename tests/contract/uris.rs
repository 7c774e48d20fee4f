//! How the server reads a file URI, and how it writes one.

use serde_json::json;

use crate::runner::{Case, cases};
use crate::subject::{Subject, entries, names_of, text};

pub(crate) const CASES: &[Case] = cases![
    an_unencoded_hash_hides_the_rest_of_the_name,
    an_unencoded_question_mark_hides_the_rest_of_the_name,
    an_encoded_hash_belongs_to_the_name,
    an_encoded_slash_separates,
    dots_are_resolved_encoded_or_not,
    creating_a_dot_answers_with_the_folder_itself,
    double_and_trailing_slashes_vanish,
    a_plus_is_a_plus,
    a_space_may_be_raw,
    an_unknown_host_is_minus_one,
    a_port_is_minus_one,
    another_scheme_or_none_is_40001,
    a_malformed_escape_is_40001,
    scheme_and_host_are_read_without_case,
    the_own_user_id_names_the_same_drive,
    a_user_id_in_wrong_case_is_40016,
    the_root_comes_back_with_a_slash_at_its_end,
    children_come_back_encoded_as_by_encode_uri_component,
    a_deep_path_is_one_request,
    a_request_line_of_18_kilobytes_is_served,
];

async fn an_unencoded_hash_hides_the_rest_of_the_name(subject: &Subject) {
    subject.put("a", b"short").await;
    subject.put("a%23b", b"longer content").await;
    let hidden = subject.info(&subject.at("a#b")).await.data();
    assert_eq!(
        (&hidden["name"], &hidden["size"]),
        (&json!("a"), &json!(5)),
        "{hidden}"
    );
    assert_eq!(hidden["path"], subject.at("a#b"), "the fragment is echoed");
}

async fn an_unencoded_question_mark_hides_the_rest_of_the_name(subject: &Subject) {
    subject.put("a", b"short").await;
    assert_eq!(subject.info(&subject.at("a?b")).await.data()["name"], "a");
}

async fn an_encoded_hash_belongs_to_the_name(subject: &Subject) {
    assert_eq!(subject.put("a%23b", b"x").await["name"], "a#b");
    assert_eq!(
        subject.info(&subject.at("a%23b")).await.data()["path"],
        subject.at("a%23b")
    );
}

async fn an_encoded_slash_separates(subject: &Subject) {
    let made = subject
        .create(&subject.at("outer%2Finner"), "folder")
        .await
        .data();
    assert_eq!(made["name"], "inner", "{made}");
    assert_eq!(subject.names(&subject.at("outer")).await, ["inner"]);
}

async fn dots_are_resolved_encoded_or_not(subject: &Subject) {
    subject.put("d/f", b"x").await;
    for path in [
        "d/./f",
        "d/../d/f",
        "d/%2E/f",
        "d/%2E%2E/d/f",
        "nowhere/../d/f",
    ] {
        assert_eq!(
            subject.info(&subject.at(path)).await.data()["name"],
            "f",
            "{path}"
        );
    }
}

async fn creating_a_dot_answers_with_the_folder_itself(subject: &Subject) {
    subject.folders(&["d"]).await;
    assert_eq!(
        subject.create(&subject.at("d/."), "folder").await.data()["name"],
        "d"
    );
}

async fn double_and_trailing_slashes_vanish(subject: &Subject) {
    subject.put("d/f", b"x").await;
    for path in ["d//f", "d/f/", "//d///f"] {
        assert_eq!(
            subject.info(&subject.at(path)).await.data()["name"],
            "f",
            "{path}"
        );
    }
}

async fn a_plus_is_a_plus(subject: &Subject) {
    assert_eq!(subject.put("a+b", b"x").await["name"], "a+b");
    assert_eq!(
        subject.info(&subject.at("a%2Bb")).await.data()["name"],
        "a+b"
    );
    subject.info(&subject.at("a%20b")).await.expect(40016);
}

async fn a_space_may_be_raw(subject: &Subject) {
    subject.put("a%20b", b"x").await;
    assert_eq!(subject.info(&subject.at("a b")).await.data()["name"], "a b");
}

async fn an_unknown_host_is_minus_one(subject: &Subject) {
    for uri in ["cloudreve://nowhere/x", "cloudreve:///x"] {
        subject.info(uri).await.expect(-1);
        subject.list(uri).await.expect(-1);
    }
}

async fn a_port_is_minus_one(subject: &Subject) {
    subject.list("cloudreve://my:80").await.expect(-1);
}

async fn another_scheme_or_none_is_40001(subject: &Subject) {
    for uri in ["http://my/x", "my/x", "/x"] {
        subject.info(uri).await.expect(40001);
    }
}

async fn a_malformed_escape_is_40001(subject: &Subject) {
    for path in ["100%", "a%zz", "a%2"] {
        subject.info(&subject.at(path)).await.expect(40001);
        subject
            .create(&subject.at(path), "folder")
            .await
            .expect(40001);
    }
}

async fn scheme_and_host_are_read_without_case(subject: &Subject) {
    subject.put("f", b"x").await;
    let folder = subject.folder_name();
    let listed = subject
        .list(&format!("cloudreve://MY/{folder}"))
        .await
        .data();
    assert_eq!(
        entries(&listed)[0]["path"],
        format!("cloudreve://MY/{folder}/f"),
        "{listed}"
    );
    subject
        .info(&format!("CloudReve://my/{folder}/f"))
        .await
        .expect(0);
}

async fn the_own_user_id_names_the_same_drive(subject: &Subject) {
    subject.put("f", b"x").await;
    let user = text(&subject.get("/user/me").send().await.data()["id"]);
    let folder = format!("cloudreve://{user}@my/{}", subject.folder_name());
    let listed = subject.list(&folder).await.data();
    assert_eq!(names_of(&listed), ["f"]);
    assert_eq!(entries(&listed)[0]["path"], format!("{folder}/f"));
}

async fn a_user_id_in_wrong_case_is_40016(subject: &Subject) {
    let user = text(&subject.get("/user/me").send().await.data()["id"]);
    let other = if user.to_lowercase() == user {
        user.to_uppercase()
    } else {
        user.to_lowercase()
    };
    // A word in another case may happen to be somebody else's id, which is then not ours to see.
    let code = subject
        .list(&format!("cloudreve://{other}@my"))
        .await
        .code();
    assert!(matches!(code, 40016 | 403), "{code}");
    subject.list("cloudreve://!!!!@my").await.expect(40016);
}

async fn the_root_comes_back_with_a_slash_at_its_end(subject: &Subject) {
    let listed = subject.list_page("cloudreve://my", "1", "").await.data();
    let root = &listed["parent"];
    assert_eq!(root["path"], "cloudreve://my/", "{listed}");
    assert_eq!((&root["name"], &root["type"]), (&json!(""), &json!(1)));
    assert!(text(&entries(&listed)[0]["path"]).starts_with("cloudreve://my/"));
}

async fn children_come_back_encoded_as_by_encode_uri_component(subject: &Subject) {
    let encoded = "%20a%23%25%26%2B%3D%3B%2C%40%24%5E%60~%5B%5D%7B%7D!'()-_.%C3%A4%F0%9F%A6%80";
    subject.create(&subject.at(encoded), "file").await.data();
    let listed = subject.list(&subject.at("")).await.data();
    assert_eq!(names_of(&listed), [" a#%&+=;,@$^`~[]{}!'()-_.ä🦀"]);
    assert_eq!(entries(&listed)[0]["path"], subject.at(encoded));
}

async fn a_deep_path_is_one_request(subject: &Subject) {
    let deep = vec!["d"; 40].join("/");
    assert_eq!(
        subject.create(&subject.at(&deep), "folder").await.data()["name"],
        "d"
    );
    assert_eq!(
        subject.info(&subject.at(&deep)).await.data()["path"],
        subject.at(&deep)
    );
}

/// A byte of a name of ours grows to five in the query of a listing, where its URI is encoded once more.
async fn a_request_line_of_18_kilobytes_is_served(subject: &Subject) {
    let deep = vec!["%C3%A4".repeat(60); 30].join("/");
    subject.create(&subject.at(&deep), "folder").await.expect(0);
    let listed = subject.list(&subject.at(&deep)).await;
    assert!(listed.asked.len() > 18_000, "{}", listed.asked.len());
    assert_eq!(listed.data()["parent"]["name"], "ä".repeat(60));
}
