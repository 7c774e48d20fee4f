//! Create, rename, move, copy and delete: what they do, and what they refuse.

use serde_json::json;

use crate::runner::{Case, cases};
use crate::subject::Subject;

pub(crate) const CASES: &[Case] = cases![
    missing_parents_are_made,
    what_exists_is_made_again_as_a_success,
    an_exclusive_create_of_what_exists_is_40004,
    a_create_of_another_kind_is_40004,
    a_misspelt_exclusive_field_is_ignored,
    a_create_below_a_file_is_403,
    a_create_of_the_root_is_a_success,
    content_for_a_folder_is_40004,
    content_below_a_file_is_403,
    a_rename_never_replaces,
    a_rename_to_the_own_name_is_a_success,
    a_rename_may_change_the_case_alone,
    a_rename_of_the_root_is_403,
    a_rename_of_what_is_missing_is_40016,
    a_move_to_a_missing_folder_is_40016,
    a_move_to_a_file_is_403,
    a_move_never_replaces,
    a_move_into_the_folder_it_is_in_is_40073,
    a_move_into_itself_or_below_is_403,
    a_move_moves_what_it_can,
    a_copy_is_recursive,
    a_copy_into_the_same_folder_is_40004,
    a_delete_is_recursive,
    of_several_exclusive_creates_one_wins,
    nothing_moves_between_file_systems,
];

pub(crate) const ON_TEST_SERVER: &[Case] = cases![a_delete_of_a_root_is_403];

async fn missing_parents_are_made(subject: &Subject) {
    subject
        .create(&subject.at("a/b/c"), "folder")
        .await
        .expect(0);
    subject.put("x/y/f", b"content").await;
    assert_eq!(subject.names(&subject.at("a/b")).await, ["c"]);
    assert_eq!(subject.names(&subject.at("x/y")).await, ["f"]);
}

async fn what_exists_is_made_again_as_a_success(subject: &Subject) {
    let put = subject.put("f", b"content").await;
    let again = subject.create(&subject.at("f"), "file").await.data();
    assert_eq!((&again["id"], &again["size"]), (&put["id"], &json!(7)));
    let folder = subject.create(&subject.at("d"), "folder").await.data();
    assert_eq!(
        subject.create(&subject.at("d"), "folder").await.data()["id"],
        folder["id"]
    );
}

async fn an_exclusive_create_of_what_exists_is_40004(subject: &Subject) {
    for kind in ["file", "folder"] {
        let body = json!({"uri": subject.at(kind), "type": kind, "err_on_conflict": true});
        subject
            .post("/file/create", body.clone())
            .send()
            .await
            .expect(0);
        subject
            .post("/file/create", body)
            .send()
            .await
            .expect(40004);
    }
}

async fn a_create_of_another_kind_is_40004(subject: &Subject) {
    subject.put("f", b"x").await;
    subject.folders(&["d"]).await;
    subject
        .create(&subject.at("f"), "folder")
        .await
        .expect(40004);
    subject.create(&subject.at("d"), "file").await.expect(40004);
}

async fn a_misspelt_exclusive_field_is_ignored(subject: &Subject) {
    subject.folders(&["d"]).await;
    let body = json!({"uri": subject.at("d"), "type": "folder", "error_on_conflict": true});
    subject.post("/file/create", body).send().await.expect(0);
}

async fn a_create_below_a_file_is_403(subject: &Subject) {
    subject.put("f", b"x").await;
    for kind in ["file", "folder"] {
        subject
            .create(&subject.at("f/below"), kind)
            .await
            .expect(403);
    }
}

async fn a_create_of_the_root_is_a_success(subject: &Subject) {
    assert_eq!(
        subject.create("cloudreve://my", "folder").await.data()["name"],
        ""
    );
}

async fn content_for_a_folder_is_40004(subject: &Subject) {
    subject.folders(&["d"]).await;
    subject.put_at(&subject.at("d"), b"x").await.expect(40004);
}

async fn content_below_a_file_is_403(subject: &Subject) {
    subject.put("f", b"x").await;
    subject
        .put_at(&subject.at("f/below"), b"x")
        .await
        .expect(403);
}

async fn a_rename_never_replaces(subject: &Subject) {
    subject.put("f", b"x").await;
    subject.put("g", b"yy").await;
    subject.folders(&["d"]).await;
    subject.rename(&subject.at("f"), "g").await.expect(40004);
    subject.rename(&subject.at("f"), "d").await.expect(40004);
    assert_eq!(subject.info(&subject.at("g")).await.data()["size"], 2);
}

async fn a_rename_to_the_own_name_is_a_success(subject: &Subject) {
    subject.put("f", b"x").await;
    assert_eq!(
        subject.rename(&subject.at("f"), "f").await.data()["name"],
        "f"
    );
}

async fn a_rename_may_change_the_case_alone(subject: &Subject) {
    subject.put("file", b"x").await;
    subject.rename(&subject.at("file"), "FILE").await.expect(0);
    assert_eq!(subject.names(&subject.at("")).await, ["FILE"]);
}

async fn a_rename_of_the_root_is_403(subject: &Subject) {
    subject.rename("cloudreve://my", "mine").await.expect(403);
}

async fn a_rename_of_what_is_missing_is_40016(subject: &Subject) {
    subject
        .rename(&subject.at("missing"), "there")
        .await
        .expect(40016);
}

async fn a_move_to_a_missing_folder_is_40016(subject: &Subject) {
    subject.put("f", b"x").await;
    subject
        .transfer(&subject.at("f"), &subject.at("missing"), false)
        .await
        .expect(40016);
}

async fn a_move_to_a_file_is_403(subject: &Subject) {
    subject.put("f", b"x").await;
    subject.put("g", b"x").await;
    subject
        .transfer(&subject.at("f"), &subject.at("g"), false)
        .await
        .expect(403);
}

async fn a_move_never_replaces(subject: &Subject) {
    subject.put("f", b"x").await;
    subject.put("d/f", b"yy").await;
    subject
        .transfer(&subject.at("f"), &subject.at("d"), false)
        .await
        .expect(40004);
    assert_eq!(subject.info(&subject.at("d/f")).await.data()["size"], 2);
    subject.info(&subject.at("f")).await.expect(0);
}

async fn a_move_into_the_folder_it_is_in_is_40073(subject: &Subject) {
    subject.put("d/f", b"x").await;
    let reply = subject
        .transfer(&subject.at("d/f"), &subject.at("d"), false)
        .await
        .expect(40073);
    assert_eq!(
        reply.json()["data"][0]["owner"]["application"]["type"],
        "moveCopy",
        "{reply:?}"
    );
}

async fn a_move_into_itself_or_below_is_403(subject: &Subject) {
    subject.folders(&["d/e"]).await;
    subject
        .transfer(&subject.at("d"), &subject.at("d/e"), false)
        .await
        .expect_nested(403);
    subject
        .transfer(&subject.at("d"), &subject.at("d"), false)
        .await
        .expect_nested(403);
}

async fn a_move_moves_what_it_can(subject: &Subject) {
    subject.put("f", b"x").await;
    subject.folders(&["d"]).await;
    let body = json!({"uris": [subject.at("missing"), subject.at("f")], "dst": subject.at("d")});
    subject
        .post("/file/move", body)
        .send()
        .await
        .expect_nested(40016);
    assert_eq!(subject.names(&subject.at("d")).await, ["f"]);
}

async fn a_copy_is_recursive(subject: &Subject) {
    subject.put("from/sub/f", b"content").await;
    subject.put("from/g", b"more").await;
    subject.folders(&["to"]).await;
    subject
        .transfer(&subject.at("from"), &subject.at("to"), true)
        .await
        .expect(0);
    assert_eq!(subject.names(&subject.at("to/from")).await, ["sub", "g"]);
    assert_eq!(subject.read(&subject.at("to/from/sub/f")).await, b"content");
    assert_eq!(subject.names(&subject.at("from")).await, ["sub", "g"]);
}

async fn a_copy_into_the_same_folder_is_40004(subject: &Subject) {
    subject.put("d/f", b"x").await;
    subject
        .transfer(&subject.at("d/f"), &subject.at("d"), true)
        .await
        .expect(40004);
}

async fn a_delete_is_recursive(subject: &Subject) {
    subject.put("d/e/f", b"x").await;
    subject.delete(&[&subject.at("d")], true).await.expect(0);
    subject.info(&subject.at("d/e/f")).await.expect(40016);
    assert!(subject.names(&subject.at("")).await.is_empty());
}

async fn of_several_exclusive_creates_one_wins(subject: &Subject) {
    for kind in ["file", "folder"] {
        let body = json!({"uri": subject.at(kind), "type": kind, "err_on_conflict": true});
        let rivals = (0..6).map(|_| async {
            subject
                .post("/file/create", body.clone())
                .send()
                .await
                .code()
        });
        let codes = futures_util::future::join_all(rivals).await;
        assert_eq!(
            codes.iter().filter(|code| **code == 0).count(),
            1,
            "{codes:?}"
        );
        assert!(
            codes.iter().all(|code| matches!(code, 0 | 40004 | 40073)),
            "{codes:?}"
        );
    }
}

/// Not for a real server: one that mends its ways would empty the drive.
async fn a_delete_of_a_root_is_403(subject: &Subject) {
    for for_good in [false, true] {
        subject
            .delete(&["cloudreve://my"], for_good)
            .await
            .expect_nested(403);
    }
}

async fn nothing_moves_between_file_systems(subject: &Subject) {
    subject.put("d/f", b"x").await;
    subject.folders(&["to"]).await;
    let id = crate::sharing::share(subject, &subject.at("d"), json!({})).await;
    for copy in [true, false] {
        let from = format!("cloudreve://{id}@share/f");
        subject
            .transfer(&from, &subject.at("to"), copy)
            .await
            .expect_nested(403);
    }
}
