//! Shortcuts to shares: entries of a drive that the server does not follow.

use serde_json::{Value, json};

use crate::runner::{Case, cases};
use crate::sharing::share;
use crate::subject::{Subject, entries, text};

pub(crate) const CASES: &[Case] = cases![
    a_shortcut_cannot_be_walked_into,
    a_shortcut_shows_in_shared_with_me,
    shared_with_me_has_no_paths_below_it,
    a_redirect_that_is_no_share_is_refused,
];

/// A shortcut in the case's folder to a share of a folder beside it.
async fn shortcut(subject: &Subject) -> Value {
    subject.put("d/f", b"x").await;
    let target = format!(
        "cloudreve://{}@share",
        share(subject, &subject.at("d"), json!({})).await
    );
    let body = json!({"uri": subject.at("shortcut"), "type": "folder", "metadata": {"sys:shared_redirect": target}});
    let made = subject.post("/file/create", body).send().await.data();
    let info = subject.info(&subject.at("shortcut")).await.data();
    assert_eq!(info["metadata"]["sys:shared_redirect"], target, "{info}");
    made
}

async fn a_shortcut_cannot_be_walked_into(subject: &Subject) {
    shortcut(subject).await;
    subject.list(&subject.at("shortcut")).await.expect(403);
    subject.info(&subject.at("shortcut/f")).await.expect(403);
    subject
        .create(&subject.at("shortcut/new"), "folder")
        .await
        .expect(403);
    subject
        .rename(&subject.at("shortcut"), "renamed")
        .await
        .expect(0);
}

async fn a_shortcut_shows_in_shared_with_me(subject: &Subject) {
    let made = shortcut(subject).await;
    let listed = subject
        .list_page("cloudreve://shared_with_me", "2000", "")
        .await
        .data();
    let found = entries(&listed)
        .iter()
        .find(|entry| entry["id"] == made["id"]);
    let found = found.unwrap_or_else(|| panic!("{listed}"));
    assert_eq!(
        found["path"],
        format!("cloudreve://shared_with_me/{}", text(&made["id"]))
    );
    assert!(
        text(&found["metadata"]["sys:shared_redirect"]).ends_with("@share"),
        "{found}"
    );
    assert_eq!(listed["props"]["capability"], "gAKA");
}

async fn shared_with_me_has_no_paths_below_it(subject: &Subject) {
    let made = shortcut(subject).await;
    let uri = format!("cloudreve://shared_with_me/{}", text(&made["id"]));
    subject.info(&uri).await.expect(40016);
    subject.list(&uri).await.expect(40016);
}

async fn a_redirect_that_is_no_share_is_refused(subject: &Subject) {
    let metadata = json!({"sys:shared_redirect": "cloudreve://my/x"});
    let body = json!({"uri": subject.at("shortcut"), "type": "folder", "metadata": metadata});
    subject
        .post("/file/create", body)
        .send()
        .await
        .expect(40001);
}
