//! Another user: what of somebody's drive is closed to him, and what a share opens.

use reqwest::Method;
use serde_json::json;

use crate::runner::{Case, cases};
use crate::sharing::share;
use crate::subject::{Subject, entries, text};

pub(crate) const ON_TEST_SERVER: &[Case] = cases![
    the_drive_of_another_is_403,
    a_file_of_another_by_id_is_40082,
    a_share_is_not_owned_by_its_visitor,
    a_share_is_open_only_to_groups_that_may,
    a_share_can_be_removed_only_by_its_owner,
];

/// The access token of a second user.
async fn another(subject: &Subject) -> String {
    let user = subject
        .site
        .server()
        .add_user("another@example.com", "another-password");
    let body = json!({"email": user.email, "password": user.password});
    let data = subject
        .post("/session/token", body)
        .anonymous()
        .send()
        .await
        .data();
    text(&data["token"]["access_token"])
}

/// A file of the first user, by its URI with the owner in it.
async fn file_of_the_first(subject: &Subject) -> String {
    subject.put("d/f", b"content").await;
    let owner = text(&subject.get("/user/me").send().await.data()["id"]);
    format!("cloudreve://{owner}@my/{}/d/f", subject.folder_name())
}

async fn the_drive_of_another_is_403(subject: &Subject) {
    let (token, file) = (another(subject).await, file_of_the_first(subject).await);
    let query = [("uri", file.as_str())];
    subject
        .get("/file")
        .query(&query)
        .bearer(&token)
        .send()
        .await
        .expect(403);
    subject
        .get("/file/info")
        .query(&query)
        .bearer(&token)
        .send()
        .await
        .expect(403);
    subject
        .post("/file/url", json!({"uris": [file]}))
        .bearer(&token)
        .send()
        .await
        .expect_nested(403);
    let put = subject
        .call(Method::PUT, "/file/content")
        .query(&query)
        .bearer(&token);
    put.body("x").send().await.expect(403);
    subject
        .get("/file")
        .query(&query)
        .anonymous()
        .send()
        .await
        .expect(401);
}

async fn a_file_of_another_by_id_is_40082(subject: &Subject) {
    let token = another(subject).await;
    let id = text(&subject.put("f", b"x").await["id"]);
    subject
        .get("/file/info")
        .query(&[("id", &id)])
        .bearer(&token)
        .send()
        .await
        .expect(40082);
}

async fn a_share_is_not_owned_by_its_visitor(subject: &Subject) {
    let token = another(subject).await;
    let put = subject.put("d/f", b"content").await;
    let root = format!(
        "cloudreve://{}@share",
        share(subject, &subject.at("d"), json!({})).await
    );
    let query = [("uri", root.as_str()), ("page_size", "10")];
    let listed = subject
        .get("/file")
        .query(&query)
        .bearer(&token)
        .send()
        .await
        .data();
    assert_eq!(listed["parent"]["path"], format!("{root}/"));
    assert!(
        listed["parent"].get("owned").is_none() && listed.get("view").is_none(),
        "{listed}"
    );
    let entry = &entries(&listed)[0];
    assert!(entry.get("owned").is_none(), "{entry}");
    assert_eq!(
        (&entry["id"], &entry["primary_entity"]),
        (&put["id"], &put["primary_entity"])
    );
    let query = [("uri", root.as_str()), ("folder_summary", "true")];
    subject
        .get("/file/info")
        .query(&query)
        .bearer(&token)
        .send()
        .await
        .expect(403);
}

async fn a_share_is_open_only_to_groups_that_may(subject: &Subject) {
    let token = another(subject).await;
    subject.put("d/f", b"content").await;
    let root = format!(
        "cloudreve://{}@share",
        share(subject, &subject.at("d"), json!({})).await
    );
    subject
        .site
        .server()
        .configure(|settings| settings.users_may_open_shares = false);
    let query = [("uri", root.as_str())];
    subject
        .get("/file")
        .query(&query)
        .bearer(&token)
        .send()
        .await
        .expect(403);
    subject.list(&root).await.expect(0);
}

async fn a_share_can_be_removed_only_by_its_owner(subject: &Subject) {
    let token = another(subject).await;
    subject.put("d/f", b"content").await;
    let path = format!(
        "/share/{}",
        share(subject, &subject.at("d"), json!({})).await
    );
    subject
        .call(Method::DELETE, &path)
        .bearer(&token)
        .send()
        .await
        .expect(404);
    subject.call(Method::DELETE, &path).send().await.expect(0);
}
