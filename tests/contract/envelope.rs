//! The envelope, its codes, and what comes without one.

use reqwest::Method;
use serde_json::json;

use crate::runner::{Case, cases};
use crate::subject::{Subject, text};

pub(crate) const CASES: &[Case] = cases![
    an_unknown_route_is_404_in_plain_text,
    a_wrong_method_is_404_in_plain_text,
    a_trailing_slash_is_redirected,
    success_is_code_zero_with_data_and_an_empty_message,
    success_without_data_has_no_data_key,
    a_failure_carries_a_correlation_id,
    a_correlation_id_of_ours_is_echoed_in_lower_case,
    a_refused_parameter_carries_no_correlation_id,
    answers_are_uncompressed_and_not_to_be_cached,
    every_answer_tells_the_date,
    json_that_does_not_parse_is_40001,
    a_wrong_json_type_is_40001,
    a_word_outside_of_its_set_is_40001,
    an_empty_batch_is_40001,
    a_batch_beyond_the_limit_is_40074,
    an_unclassified_failure_is_minus_one_without_words,
    one_failed_object_of_a_batch_is_nested_in_40081,
    what_can_be_done_of_a_failing_batch_is_done,
    an_object_twice_in_a_batch_conflicts_with_itself,
    a_folder_and_its_content_in_one_batch_conflict,
];

async fn an_unknown_route_is_404_in_plain_text(subject: &Subject) {
    let reply = subject
        .get("/no/such/route")
        .send()
        .await
        .expect_status(404);
    assert!(
        reply
            .header("content-type")
            .is_some_and(|kind| kind.starts_with("text/plain")),
        "{reply:?}"
    );
    assert_eq!(reply.text(), "404 page not found");
}

async fn a_wrong_method_is_404_in_plain_text(subject: &Subject) {
    let reply = subject
        .call(Method::POST, "/site/ping")
        .send()
        .await
        .expect_status(404);
    assert_eq!(reply.text(), "404 page not found");
}

async fn a_trailing_slash_is_redirected(subject: &Subject) {
    let got = subject
        .get("/file/")
        .query(&[("uri", "cloudreve://my")])
        .send()
        .await;
    assert_eq!(
        (
            got.status.as_u16(),
            got.header("location")
                .map(|to| to.starts_with("/api/v4/file?"))
        ),
        (301, Some(true)),
        "{got:?}"
    );
    subject
        .call(Method::PUT, "/file/content/")
        .body("")
        .send()
        .await
        .expect_status(307);
}

async fn success_is_code_zero_with_data_and_an_empty_message(subject: &Subject) {
    let reply = subject.get("/site/ping").send().await.expect(0);
    assert!(
        reply
            .header("content-type")
            .is_some_and(|kind| kind.starts_with("application/json")),
        "{reply:?}"
    );
    let json = reply.json();
    assert_eq!(json["msg"], "");
    assert!(json["data"].is_string(), "{reply:?}");
}

async fn success_without_data_has_no_data_key(subject: &Subject) {
    subject.folders(&["from", "to"]).await;
    let json = subject
        .transfer(&subject.at("from"), &subject.at("to"), false)
        .await
        .expect(0)
        .json();
    assert_eq!(json, json!({"code": 0, "msg": ""}));
}

async fn a_failure_carries_a_correlation_id(subject: &Subject) {
    let reply = subject.info(&subject.at("missing")).await.expect(40016);
    let json = reply.json();
    assert_eq!(json["msg"], "Path not exist");
    assert_eq!(text(&json["correlation_id"]).len(), 36, "{reply:?}");
    assert!(
        json.get("data").is_none() && json.get("error").is_none(),
        "{reply:?}"
    );
}

async fn a_correlation_id_of_ours_is_echoed_in_lower_case(subject: &Subject) {
    let ours = "5B0F5F05-451e-4dcd-9c65-474315dd7d20";
    let call = subject
        .get("/file/info")
        .query(&[("uri", &subject.at("missing"))]);
    let reply = call
        .header("x-cr-correlation-id", ours)
        .send()
        .await
        .expect(40016);
    assert_eq!(
        reply.json()["correlation_id"],
        ours.to_lowercase(),
        "{reply:?}"
    );
}

async fn a_refused_parameter_carries_no_correlation_id(subject: &Subject) {
    let reply = subject
        .get("/file")
        .query(&[("page_size", "10")])
        .send()
        .await
        .expect(40001);
    assert!(reply.json().get("correlation_id").is_none(), "{reply:?}");
}

async fn answers_are_uncompressed_and_not_to_be_cached(subject: &Subject) {
    for number in 0..20 {
        subject
            .create(
                &subject.at(&format!("a folder with a long name, number {number}")),
                "folder",
            )
            .await
            .data();
    }
    let call = subject.get("/file").query(&[("uri", &subject.at(""))]);
    let reply = call
        .header("accept-encoding", "gzip")
        .send()
        .await
        .expect(0);
    assert_eq!(reply.header("content-encoding"), None, "{reply:?}");
    assert_eq!(
        reply.header("cache-control"),
        Some("private, no-cache"),
        "{reply:?}"
    );
}

async fn every_answer_tells_the_date(subject: &Subject) {
    for path in ["/site/ping", "/file?uri=nonsense", "/no/such/route"] {
        let reply = subject.get(path).send().await;
        let date = reply.header("date").map(httpdate::parse_http_date);
        assert!(matches!(date, Some(Ok(_))), "{path}: {:?}", reply.headers);
    }
}

async fn json_that_does_not_parse_is_40001(subject: &Subject) {
    subject
        .call(Method::POST, "/file/create")
        .body("{\"uri\":")
        .send()
        .await
        .expect(40001);
    subject
        .call(Method::POST, "/file/create")
        .body("")
        .send()
        .await
        .expect(40001);
}

async fn a_wrong_json_type_is_40001(subject: &Subject) {
    subject
        .post("/file/create", json!({"uri": 7, "type": "folder"}))
        .send()
        .await
        .expect(40001);
    subject
        .post("/file/url", json!({"uris": "cloudreve://my/x"}))
        .send()
        .await
        .expect(40001);
}

async fn a_word_outside_of_its_set_is_40001(subject: &Subject) {
    subject
        .post(
            "/file/create",
            json!({"uri": subject.at("x"), "type": "symlink"}),
        )
        .send()
        .await
        .expect(40001);
    assert!(subject.names(&subject.at("")).await.is_empty());
}

async fn an_empty_batch_is_40001(subject: &Subject) {
    subject.delete(&[], true).await.expect(40001);
    subject
        .post("/file/move", json!({"uris": [], "dst": subject.at("")}))
        .send()
        .await
        .expect(40001);
}

async fn a_batch_beyond_the_limit_is_40074(subject: &Subject) {
    let explorer = subject.get("/site/config/explorer").send().await.data();
    let limit = usize::try_from(explorer["max_batch_size"].as_u64().unwrap()).unwrap();
    let uris: Vec<String> = (0..=limit)
        .map(|number| subject.at(&format!("none{number}")))
        .collect();
    let uris: Vec<&str> = uris.iter().map(String::as_str).collect();
    subject.delete(&uris, true).await.expect(40074);
    subject.urls(&uris, json!({})).await.expect(40074);
}

async fn an_unclassified_failure_is_minus_one_without_words(subject: &Subject) {
    let reply = subject.info("cloudreve://nowhere/x").await.expect(-1);
    assert_eq!(reply.json()["msg"], "", "{reply:?}");
}

async fn one_failed_object_of_a_batch_is_nested_in_40081(subject: &Subject) {
    let reply = subject.delete(&[&subject.at("missing")], true).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    reply.expect_nested(40016);
    assert_eq!(reply.nested()["msg"], "Path not exist");
    assert!(!text(&reply.json()["msg"]).is_empty(), "{reply:?}");
}

async fn what_can_be_done_of_a_failing_batch_is_done(subject: &Subject) {
    subject.folders(&["there"]).await;
    let uris = [
        subject.at("there"),
        subject.at("gone"),
        subject.at("gone%20too"),
    ];
    let reply = subject
        .delete(&[&uris[0], &uris[1], &uris[2]], true)
        .await
        .expect(40081);
    let errors = reply.json()["aggregated_error"]
        .as_object()
        .unwrap()
        .clone();
    assert_eq!(errors.len(), 2, "{reply:?}");
    assert!(
        errors.values().all(|error| error["code"] == 40016),
        "{reply:?}"
    );
    subject.info(&uris[0]).await.expect(40016);
}

async fn an_object_twice_in_a_batch_conflicts_with_itself(subject: &Subject) {
    subject.folders(&["twice"]).await;
    let uri = subject.at("twice");
    subject.delete(&[&uri, &uri], true).await.expect(40073);
    subject.info(&uri).await.expect(0);
}

async fn a_folder_and_its_content_in_one_batch_conflict(subject: &Subject) {
    subject.folders(&["above/below"]).await;
    let reply = subject
        .delete(&[&subject.at("above"), &subject.at("above/below")], true)
        .await
        .expect(40073);
    assert!(reply.json()["data"].is_array(), "{reply:?}");
    subject.info(&subject.at("above/below")).await.expect(0);
}
