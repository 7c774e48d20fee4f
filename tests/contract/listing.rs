//! Listings: their order, their pages, and the bug at the boundary of folders and files.

use base64::Engine as _;
use reqwest::Method;
use serde_json::{Value, json};

use crate::runner::{Case, cases};
use crate::subject::{Subject, entries, names_of, text};

pub(crate) const CASES: &[Case] = cases![
    an_empty_folder_lists_an_empty_array,
    folders_come_first_and_each_kind_in_the_order_of_bytes,
    a_descending_listing_still_has_folders_first,
    an_entry_holds_what_stat_needs,
    the_own_metadata_of_an_entry_is_an_object_and_of_the_parent_null,
    a_page_size_beyond_the_limit_is_cut_to_it,
    a_page_size_of_nothing_is_the_default,
    pages_follow_by_token_until_there_is_none,
    a_page_number_is_ignored_where_there_are_tokens,
    a_negative_page_number_is_40001,
    a_token_may_be_used_with_another_page_size,
    a_token_is_base64_of_json,
    a_page_that_ends_with_the_last_folder_loses_files,
    the_same_page_one_smaller_loses_nothing,
    no_page_size_but_a_divisor_of_the_folders_loses_files,
    times_as_keys_repeat_an_entry,
    a_bad_token_is_minus_one,
    a_file_cannot_be_listed,
    what_is_missing_cannot_be_listed,
    an_unknown_order_sorts_by_id,
    a_listing_tells_its_limits_and_its_policy,
    a_listing_without_wishes_is_in_the_order_of_ids,
    a_listing_without_wishes_follows_the_view_of_the_folder,
    a_search_goes_below_the_folder,
];

pub(crate) const ON_TEST_SERVER: &[Case] = cases![pages_by_number_tell_the_total];

/// Seven folders and nine files, in the order in which they are listed.
const FOLDERS: [&str; 7] = ["D", "d1", "d2", "d3", "e", "x", "y"];
const FILES: [&str; 9] = ["0", "C", "a", "b.txt", "c", "m", "w", "z", "~t"];

async fn mixed_folder(subject: &Subject) -> String {
    for name in FILES {
        subject
            .create(&subject.at(&format!("mixed/{name}")), "file")
            .await
            .data();
    }
    for name in FOLDERS {
        subject
            .create(&subject.at(&format!("mixed/{name}")), "folder")
            .await
            .data();
    }
    subject.at("mixed")
}

fn all_in_order() -> Vec<&'static str> {
    FOLDERS.into_iter().chain(FILES).collect()
}

/// The names on all pages, as a client that trusts the tokens sees them; gives up after 40 pages.
async fn walk(subject: &Subject, uri: &str, page_size: usize) -> Vec<String> {
    let (mut names, mut token) = (Vec::new(), String::new());
    for _ in 0..40 {
        let page = subject
            .list_page(uri, &page_size.to_string(), &token)
            .await
            .data();
        names.extend(names_of(&page));
        match page["pagination"]["next_token"].as_str() {
            Some(next) => token = next.to_owned(),
            None => return names,
        }
    }
    panic!("no end of pages of {page_size}");
}

async fn an_empty_folder_lists_an_empty_array(subject: &Subject) {
    let listed = subject.list(&subject.at("")).await.data();
    assert_eq!(listed["files"], json!([]));
    assert_eq!(listed["parent"]["name"], subject.folder_name());
    assert_eq!(
        listed["pagination"],
        json!({"page": 0, "page_size": 1000, "is_cursor": true})
    );
    assert_eq!(listed["mixed_type"], false);
}

async fn folders_come_first_and_each_kind_in_the_order_of_bytes(subject: &Subject) {
    let uri = mixed_folder(subject).await;
    assert_eq!(subject.names(&uri).await, all_in_order());
}

async fn a_descending_listing_still_has_folders_first(subject: &Subject) {
    let uri = mixed_folder(subject).await;
    let query = [
        ("uri", uri.as_str()),
        ("page_size", "100"),
        ("order_by", "name"),
        ("order_direction", "desc"),
    ];
    let listed = subject.get("/file").query(&query).send().await.data();
    let expected: Vec<_> = FOLDERS
        .into_iter()
        .rev()
        .chain(FILES.into_iter().rev())
        .collect();
    assert_eq!(names_of(&listed), expected);
}

async fn an_entry_holds_what_stat_needs(subject: &Subject) {
    let put = subject.put("f", b"four").await;
    subject.folders(&["d"]).await;
    let listed = subject.list(&subject.at("")).await.data();
    let [folder, file] = entries(&listed) else {
        panic!("{listed}")
    };
    for entry in [folder, file] {
        let mut keys: Vec<_> = entry
            .as_object()
            .unwrap()
            .keys()
            .map(String::as_str)
            .collect();
        keys.sort_unstable();
        let expected = [
            "capability",
            "created_at",
            "id",
            "metadata",
            "name",
            "owned",
            "path",
            "primary_entity",
            "size",
            "type",
            "updated_at",
        ];
        assert_eq!(keys, expected);
        assert_eq!(
            (&entry["owned"], &entry["capability"]),
            (&json!(true), &json!("w8edAQ=="))
        );
    }
    assert_eq!((&folder["type"], &folder["size"]), (&json!(1), &json!(0)));
    assert_eq!((&file["type"], &file["size"]), (&json!(0), &json!(4)));
    assert_eq!(
        (&file["id"], &file["primary_entity"]),
        (&put["id"], &put["primary_entity"])
    );
}

async fn the_own_metadata_of_an_entry_is_an_object_and_of_the_parent_null(subject: &Subject) {
    let made = subject.create(&subject.at("f"), "file").await.data();
    assert_eq!(made["metadata"], Value::Null);
    let listed = subject.list(&subject.at("")).await.data();
    assert_eq!(entries(&listed)[0]["metadata"], json!({}));
    assert_eq!(listed["parent"]["metadata"], Value::Null);
    assert_eq!(
        subject.info(&subject.at("f")).await.data()["metadata"],
        json!({})
    );
}

async fn a_page_size_beyond_the_limit_is_cut_to_it(subject: &Subject) {
    let listed = subject.list_page(&subject.at(""), "5000", "").await.data();
    assert_eq!(
        listed["pagination"]["page_size"],
        listed["props"]["max_page_size"]
    );
    assert_eq!(listed["props"]["max_page_size"], 2000);
}

async fn a_page_size_of_nothing_is_the_default(subject: &Subject) {
    for page_size in ["0", "-1"] {
        let listed = subject
            .list_page(&subject.at(""), page_size, "")
            .await
            .data();
        assert_eq!(listed["pagination"]["page_size"], 100, "{page_size}");
    }
    let listed = subject
        .get("/file")
        .query(&[("uri", &subject.at(""))])
        .send()
        .await
        .data();
    assert_eq!(listed["pagination"]["page_size"], 100);
}

async fn pages_follow_by_token_until_there_is_none(subject: &Subject) {
    let uri = mixed_folder(subject).await;
    for page_size in [2, 3, 5, 6, 15] {
        assert_eq!(
            walk(subject, &uri, page_size).await,
            all_in_order(),
            "pages of {page_size}"
        );
    }
    // A page that ends with the last entry is the last one: nobody has to ask for an empty page.
    let page = subject.list_page(&uri, "16", "").await.data();
    assert!(page["pagination"].get("next_token").is_none(), "{page}");
}

async fn a_page_number_is_ignored_where_there_are_tokens(subject: &Subject) {
    let uri = mixed_folder(subject).await;
    let query = [
        ("uri", uri.as_str()),
        ("page", "3"),
        ("page_size", "3"),
        ("order_by", "name"),
        ("order_direction", "asc"),
    ];
    let page = subject.get("/file").query(&query).send().await.data();
    assert_eq!(names_of(&page), &FOLDERS[..3]);
    assert_eq!(page["pagination"]["page"], 0);
}

async fn a_negative_page_number_is_40001(subject: &Subject) {
    let uri = subject.at("");
    let query = [("uri", uri.as_str()), ("page", "-1")];
    subject
        .get("/file")
        .query(&query)
        .send()
        .await
        .expect(40001);
}

async fn a_token_may_be_used_with_another_page_size(subject: &Subject) {
    let uri = mixed_folder(subject).await;
    let first = subject.list_page(&uri, "3", "").await.data();
    let rest = subject
        .list_page(
            &uri,
            "100",
            first["pagination"]["next_token"].as_str().unwrap(),
        )
        .await
        .data();
    assert_eq!(names_of(&rest), &all_in_order()[3..]);
}

/// A token's fields, as a client reads them that knows the boundary bug.
fn fields_of(token: &str) -> Value {
    let bytes = base64::engine::general_purpose::STANDARD
        .decode(token)
        .unwrap_or_else(|err| panic!("{token}: {err}"));
    serde_json::from_slice(&bytes).unwrap_or_else(|err| panic!("{token}: {err}"))
}

async fn a_token_is_base64_of_json(subject: &Subject) {
    let uri = mixed_folder(subject).await;
    let page = subject.list_page(&uri, "3", "").await.data();
    let fields = fields_of(page["pagination"]["next_token"].as_str().unwrap());
    assert_eq!(fields["id"], entries(&page)[2]["id"]);
    assert_eq!(fields["string"], "d2");
    assert!(fields.get("start_with_file").is_none(), "{fields}");
    let page = subject.list_page(&uri, "9", "").await.data();
    let fields = fields_of(page["pagination"]["next_token"].as_str().unwrap());
    assert_eq!(
        (&fields["string"], &fields["start_with_file"]),
        (&json!("C"), &json!(true)),
        "{fields}"
    );
}

async fn a_page_that_ends_with_the_last_folder_loses_files(subject: &Subject) {
    let uri = mixed_folder(subject).await;
    let page = subject.list_page(&uri, "7", "").await.data();
    let fields = fields_of(page["pagination"]["next_token"].as_str().unwrap());
    assert_eq!(
        (&fields["string"], &fields["start_with_file"]),
        (&json!("y"), &json!(true)),
        "{fields}"
    );
    let names = walk(subject, &uri, 7).await;
    let expected: Vec<_> = FOLDERS.into_iter().chain(["z", "~t"]).collect();
    assert_eq!(
        names, expected,
        "only files behind the last folder's name are listed"
    );
}

async fn the_same_page_one_smaller_loses_nothing(subject: &Subject) {
    let uri = mixed_folder(subject).await;
    let page = subject.list_page(&uri, "6", "").await.data();
    let rest = subject
        .list_page(
            &uri,
            "7",
            page["pagination"]["next_token"].as_str().unwrap(),
        )
        .await
        .data();
    assert_eq!(names_of(&rest), &all_in_order()[6..13]);
}

async fn no_page_size_but_a_divisor_of_the_folders_loses_files(subject: &Subject) {
    let uri = mixed_folder(subject).await;
    let mut lossy = Vec::new();
    for page_size in 1..=16 {
        if walk(subject, &uri, page_size).await != all_in_order() {
            lossy.push(page_size);
        }
    }
    assert_eq!(lossy, [1, 7]);
}

/// On SQLite: the stored text of a time sorts behind the same time in a token.
async fn times_as_keys_repeat_an_entry(subject: &Subject) {
    let uri = mixed_folder(subject).await;
    let query = [
        ("uri", uri.as_str()),
        ("page_size", "5"),
        ("order_by", "updated_at"),
        ("order_direction", "asc"),
    ];
    let first = subject.get("/file").query(&query).send().await.data();
    let token = text(&first["pagination"]["next_token"]);
    let second = subject
        .get("/file")
        .query(&query)
        .query(&[("next_page_token", &token)])
        .send()
        .await
        .data();
    assert_eq!(entries(&second)[0]["id"], entries(&first)[4]["id"]);
}

async fn a_bad_token_is_minus_one(subject: &Subject) {
    subject
        .list_page(&subject.at(""), "10", "garbage")
        .await
        .expect(-1);
}

async fn a_file_cannot_be_listed(subject: &Subject) {
    subject.put("f", b"x").await;
    subject.list(&subject.at("f")).await.expect(40016);
    subject.list(&subject.at("f/below")).await.expect(40016);
}

async fn what_is_missing_cannot_be_listed(subject: &Subject) {
    subject.list(&subject.at("missing")).await.expect(40016);
    subject
        .list(&subject.at("missing/below"))
        .await
        .expect(40016);
}

async fn an_unknown_order_sorts_by_id(subject: &Subject) {
    let uri = mixed_folder(subject).await;
    let query = [
        ("uri", uri.as_str()),
        ("page_size", "100"),
        ("order_by", "id"),
        ("order_direction", "asc"),
    ];
    let listed = subject.get("/file").query(&query).send().await.data();
    assert_eq!(
        names_of(&listed),
        all_in_order(),
        "they were made in that order"
    );
    assert_eq!(listed["view"]["order"], "id");
}

async fn a_listing_tells_its_limits_and_its_policy(subject: &Subject) {
    let listed = subject.list(&subject.at("")).await.data();
    assert_eq!(listed["props"]["capability"], "w8edAQ==");
    assert_eq!(
        listed["props"]["order_by_options"],
        json!(["name", "size", "updated_at", "created_at"])
    );
    assert_eq!(
        listed["props"]["order_direction_options"],
        json!(["asc", "desc"])
    );
    assert_eq!(text(&listed["context_hint"]).len(), 36);
    for field in ["id", "name", "type"] {
        assert!(listed["storage_policy"][field].is_string(), "{listed}");
    }
    assert!(listed["storage_policy"]["max_size"].is_number(), "{listed}");
    let view = &listed["view"];
    assert_eq!(
        (&view["page_size"], &view["order"], &view["order_direction"]),
        (&json!(1000), &json!("name"), &json!("asc"))
    );
}

async fn a_listing_without_wishes_is_in_the_order_of_ids(subject: &Subject) {
    for name in ["z", "a", "m"] {
        subject.create(&subject.at(name), "file").await.data();
    }
    let listed = subject
        .get("/file")
        .query(&[("uri", &subject.at(""))])
        .send()
        .await
        .data();
    assert_eq!(names_of(&listed), ["z", "a", "m"]);
    let view = &listed["view"];
    assert!(
        view.get("order").is_none() && view.get("order_direction").is_none(),
        "{view}"
    );
}

async fn a_listing_without_wishes_follows_the_view_of_the_folder(subject: &Subject) {
    let uri = mixed_folder(subject).await;
    let view = json!({"page_size": 50, "order": "name", "order_direction": "desc", "view": "list", "thumbnail": false, "gallery_width": 220});
    subject
        .call(Method::PATCH, "/file/view")
        .json(json!({"uri": uri, "view": view}))
        .send()
        .await
        .expect(0);
    let listed = subject
        .get("/file")
        .query(&[("uri", &uri)])
        .send()
        .await
        .data();
    assert_eq!(names_of(&listed)[..2], ["y", "x"]);
    assert_eq!(listed["pagination"]["page_size"], 50);
    let listed = subject.list(&uri).await.data();
    assert_eq!(
        names_of(&listed),
        all_in_order(),
        "wishes go before the view"
    );
}

async fn a_search_goes_below_the_folder(subject: &Subject) {
    subject.folders(&["needle", "a/b"]).await;
    subject.put("a/b/needle.txt", b"x").await;
    subject.put("a/hay", b"x").await;
    let uri = format!("{}?name=needle", subject.at(""));
    let (mut names, mut token) = (Vec::new(), String::new());
    for _ in 0..10 {
        let page = subject.list_page(&uri, "100", &token).await.data();
        names.extend(names_of(&page));
        match page["pagination"]["next_token"].as_str() {
            Some(next) => token = next.to_owned(),
            None => break,
        }
    }
    assert_eq!(names, ["needle", "needle.txt"]);
}

async fn pages_by_number_tell_the_total(subject: &Subject) {
    subject.site.server().set_cursor_paging(false);
    let uri = mixed_folder(subject).await;
    let mut names = Vec::new();
    for page in 0..3 {
        let number = page.to_string();
        let query = [
            ("uri", uri.as_str()),
            ("page", &number),
            ("page_size", "7"),
            ("order_by", "name"),
            ("order_direction", "asc"),
        ];
        let listed = subject.get("/file").query(&query).send().await.data();
        assert_eq!(
            listed["pagination"],
            json!({"page": page, "page_size": 7, "total_items": 16})
        );
        names.extend(names_of(&listed));
    }
    assert_eq!(names, all_in_order());
}
