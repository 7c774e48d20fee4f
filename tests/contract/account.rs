//! The user, the quota, and what the site tells of itself.

use serde_json::json;

use crate::runner::{Case, cases};
use crate::subject::{Subject, text};

pub(crate) const CASES: &[Case] = cases![
    the_user_is_who_signed_in,
    the_quota_counts_every_version,
    retention_is_on_for_a_new_user,
    a_site_has_an_instance_id,
    an_unknown_section_of_the_configuration_is_the_basic_one,
    the_login_section_tells_whether_a_captcha_is_wanted,
    a_captcha_can_be_fetched_at_any_time,
    the_version_is_a_word,
    a_thumbnail_of_what_has_none_is_refused,
    a_picture_has_a_thumbnail_whose_bytes_tell_what_it_is,
    the_thumb_section_tells_of_which_files_there_are_thumbnails,
];

async fn the_user_is_who_signed_in(subject: &Subject) {
    let me = subject.get("/user/me").send().await.data();
    assert_eq!(
        text(&me["email"]).to_lowercase(),
        subject.site.email.to_lowercase()
    );
    assert!(
        me["id"].is_string() && me["group"]["permission"].is_string(),
        "{me}"
    );
}

async fn the_quota_counts_every_version(subject: &Subject) {
    // Other cases use the quota at the same time: what is counted is told for this folder alone.
    let capacity = subject.get("/user/capacity").send().await.data();
    assert!(
        capacity["total"].is_u64() && capacity["used"].is_u64(),
        "{capacity}"
    );
    subject.put("f", b"one").await;
    subject.put("f", b"second").await;
    assert_eq!(
        subject.extended_info(&subject.at("f")).await["extended_info"]["storage_used"],
        9
    );
}

async fn retention_is_on_for_a_new_user(subject: &Subject) {
    let setting = subject.get("/user/setting").send().await.data();
    assert_eq!(setting["version_retention_enabled"], true, "{setting}");
}

async fn a_site_has_an_instance_id(subject: &Subject) {
    let basic = subject
        .get("/site/config/basic")
        .anonymous()
        .send()
        .await
        .data();
    assert_eq!(text(&basic["instance_id"]).len(), 36, "{basic}");
    let again = subject.get("/site/config/basic").send().await.data();
    assert_eq!(again["instance_id"], basic["instance_id"]);
    assert_eq!(
        text(&again["user"]["email"]).to_lowercase(),
        subject.site.email.to_lowercase()
    );
    let anonymous = &basic["user"];
    assert_eq!(
        (&anonymous["anonymous"], &anonymous["nickname"]),
        (&json!(true), &json!("")),
        "{basic}"
    );
}

async fn an_unknown_section_of_the_configuration_is_the_basic_one(subject: &Subject) {
    let data = subject
        .get("/site/config/no-such-section")
        .send()
        .await
        .data();
    assert!(data["instance_id"].is_string(), "{data}");
}

async fn the_login_section_tells_whether_a_captcha_is_wanted(subject: &Subject) {
    let login = subject
        .get("/site/config/login")
        .anonymous()
        .send()
        .await
        .data();
    assert!(login.get("instance_id").is_none(), "{login}");
    assert!(
        login["login_captcha"].is_null() || login["login_captcha"].is_boolean(),
        "{login}"
    );
}

async fn a_captcha_can_be_fetched_at_any_time(subject: &Subject) {
    let captcha = subject.get("/site/captcha").anonymous().send().await.data();
    assert!(
        text(&captcha["image"]).starts_with("data:image/png;base64,"),
        "{captcha}"
    );
    assert!(!text(&captcha["ticket"]).is_empty());
}

async fn the_version_is_a_word(subject: &Subject) {
    assert!(subject.site.version().await.split('.').count() >= 3);
}

async fn a_thumbnail_of_what_has_none_is_refused(subject: &Subject) {
    subject.put("f.bin", b"no picture").await;
    let uri = subject.at("f.bin");
    let thumb = async || {
        subject
            .get("/file/thumb")
            .query(&[("uri", &uri)])
            .send()
            .await
            .code()
    };
    let first = thumb().await;
    assert!(matches!(first, -1 | 40077), "{first}");
    assert_eq!(thumb().await, 40077);
    assert!(subject.info(&uri).await.data()["metadata"]["thumb:disabled"].is_string());
}

/// A red picture of eight by eight pixels.
const PICTURE: &[u8] = &[
    137, 80, 78, 71, 13, 10, 26, 10, 0, 0, 0, 13, 73, 72, 68, 82, 0, 0, 0, 8, 0, 0, 0, 8, 8, 2, 0,
    0, 0, 75, 109, 41, 220, 0, 0, 0, 17, 73, 68, 65, 84, 120, 218, 99, 248, 207, 192, 128, 21, 49,
    12, 45, 9, 0, 40, 255, 63, 193, 206, 119, 200, 79, 0, 0, 0, 0, 73, 69, 78, 68, 174, 66, 96,
    130,
];

/// The type of the answer says JPEG or nothing, whatever the picture is.
async fn a_picture_has_a_thumbnail_whose_bytes_tell_what_it_is(subject: &Subject) {
    let put = subject.put("p.png", PICTURE).await;
    for _ in 0..2 {
        let thumb = subject
            .get("/file/thumb")
            .query(&[("uri", &subject.at("p.png"))])
            .send()
            .await
            .data();
        assert!(text(&thumb["expires"]).contains('T'), "{thumb}");
        let url = subject.rebased(thumb["url"].as_str().unwrap());
        let picture = subject.fetch(&url).send().await.expect_status(200).body;
        assert!(
            picture.starts_with(b"\x89PNG") || picture.starts_with(b"\xff\xd8\xff"),
            "{picture:?}"
        );
    }
    let info = subject.extended_info(&subject.at("p.png")).await;
    assert_eq!(
        (&info["primary_entity"], &info["size"]),
        (&put["primary_entity"], &put["size"])
    );
    let kinds: Vec<_> = info["extended_info"]["entities"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|entity| &entity["type"])
        .collect();
    assert_eq!(kinds, [1, 0], "{info}");
}

async fn the_thumb_section_tells_of_which_files_there_are_thumbnails(subject: &Subject) {
    let section = subject.get("/site/config/thumb").send().await.data();
    let told = section["thumb_exts"].as_array().expect("a list");
    let is_told = |extension: &str| told.iter().any(|one| one == extension);
    assert!(is_told("jpg") && is_told("png"), "{section}");
}
