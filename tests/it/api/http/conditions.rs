//! Entity tags, and the writes and reads that depend on them (optimistic concurrency): a caller does not overwrite a
//! version that it has not seen. A tag changes with every change of the representation, also with events from outside.

use jiff::Timestamp;
use orderstream::bus::Record;

use crate::clients::STRANGER;
use crate::clients::USER;
use crate::clients::answers::{create, member, order, problem};
use crate::clients::http::{Answer, Client};
use crate::harness::app::Setup;
use crate::harness::backend::Backend;

async fn update(client: &Client, id: &str, fields: &str, headers: &[(&str, &str)]) -> Answer {
    client.request("POST", "/orders", headers, format!(r#"{{"order_id":"{id}"{fields}}}"#)).await
}

/// Asserts a 412 that names the current version of the order.
fn assert_has_version(answer: &Answer, version: &str) {
    problem(answer, "precondition_failed");
    assert_eq!(member(answer.text(), "current_version"), version);
}

pub(super) async fn a_tag_follows_the_version_and_the_status<B: Backend>() {
    let mut app = B::start(Setup::new()).await;
    let body = format!(r#"{{"user_id":"{USER}","payload":[1]}}"#);
    let created = app.client().post("/orders", body).await;
    assert_eq!(created.header("etag"), Some("\"v1\""));
    let id = member(created.text(), "order_id");
    let path = format!("/orders/{id}");
    assert_eq!(app.client().get(&path).await.header("etag"), Some("\"v1\""));
    let updated = update(app.client(), &id, r#","payload":[2]"#, &[]).await;
    assert_eq!(updated.header("etag"), Some("\"v2\""));

    app.stop_worker().await;
    let without_wait = [("prefer", "respond-async")];
    let accepted = update(app.client(), &id, r#","payload":[3]"#, &without_wait).await;
    assert_eq!((accepted.status, accepted.header("etag")), (202, Some("\"v3-processing\"")));
    let shown = app.client().get(&path).await;
    assert_eq!(shown.header("etag"), Some("\"v3-processing\""));
    app.start_worker().await;
    app.acks(&id, 3).await;
    // The representation before the processing is not the current one.
    let again = app.client().request("GET", &path, &[("if-none-match", "\"v3-processing\"")], "").await;
    assert_eq!((again.status, again.header("etag")), (200, Some("\"v3\"")));
    let deleted = update(app.client(), &id, r#","status":"deleted""#, &[]).await;
    assert_eq!(deleted.header("etag"), Some("\"v4\""));
    app.finish().await;
}

pub(super) async fn a_read_with_the_current_tag_is_a_304<B: Backend>() {
    let app = B::start(Setup::new()).await;
    let id = create(app.client(), r#"{"id":"seen"}"#).await;
    for path in [format!("/orders/{id}"), format!("/orders/by-external/seen?user_id={USER}")] {
        let shown = app.client().get(&path).await;
        assert_eq!(shown.header("cache-control"), Some("private, no-cache"), "{shown:?}");
        assert!(shown.header("last-modified").is_some_and(|time| time.ends_with(" GMT")), "{shown:?}");
        for known in ["\"v1\"", "W/\"v1\"", "\"v0\", \"v1\"", "*"] {
            let answer = app.client().request("GET", &path, &[("if-none-match", known)], "").await;
            assert_eq!((answer.status, answer.body.len()), (304, 0), "{known}: {answer:?}");
            assert_eq!(answer.header("etag"), Some("\"v1\""));
            assert_eq!(answer.header("cache-control"), Some("private, no-cache"));
        }
        let answer = app.client().request("GET", &path, &[("if-none-match", "\"v2\"")], "").await;
        assert_eq!(answer.text(), shown.text());
    }
    app.finish().await;
}

pub(super) async fn a_write_for_another_version_changes_nothing<B: Backend>() {
    let app = B::start(Setup::new()).await;
    let id = create(app.client(), "[1]").await;
    let before = order(app.client(), &id).await;
    for (fields, headers) in [
        (r#","payload":[2]"#, &[("if-match", "\"v2\"")][..]),
        (r#","payload":[2]"#, &[("if-match", "W/\"v2\"")]),
        (r#","payload":[2]"#, &[("if-match", "\"v01\"")]),
        (r#","payload":[2]"#, &[("if-match", "\"V1\"")]),
        (r#","payload":[2]"#, &[("if-match", "\"v1-shipped\"")]),
        (r#","payload":[2]"#, &[("if-match", "\"v2\", \"v0\"")]),
        (r#","payload":[2]"#, &[("if-match", "\"of somebody else\"")]),
        (r#","payload":[2],"version":2"#, &[]),
        (r#","payload":[2],"version":0"#, &[]),
        (r#","status":"deleted","version":7"#, &[]),
        (r#","status":"deleted""#, &[("if-match", "\"v3-new\"")]),
    ] {
        assert_has_version(&update(app.client(), &id, fields, headers).await, "1");
    }
    let path = format!("/orders/{id}");
    let put = format!(r#"{{"user_id":"{USER}","payload":[2]}}"#);
    assert_has_version(&app.client().request("PUT", &path, &[("if-match", "\"v2\"")], put).await, "1");
    assert_has_version(&app.client().request("DELETE", &path, &[("if-match", "\"v2\"")], "").await, "1");
    assert_eq!(order(app.client(), &id).await, before);

    // A write with the current version succeeds, in the header or in the body.
    for (version, fields, headers) in [
        (2, r#","payload":[2]"#, &[("if-match", "\"v1\"")][..]),
        (3, r#","payload":[3],"version":2"#, &[]),
        (4, r#","payload":[4],"version":3"#, &[("if-match", "\"v3\"")]),
        (5, r#","payload":[5]"#, &[("if-match", "*")]),
        // The tag as a proxy weakens it that compresses the answer.
        (6, r#","payload":[6]"#, &[("if-match", "W/\"v5\"")]),
        (7, r#","status":"deleted""#, &[("if-match", "\"v6-new\"")]),
    ] {
        let answer = update(app.client(), &id, fields, headers).await;
        assert_eq!(answer.header("etag"), Some(format!("\"v{version}\"").as_str()), "{answer:?}");
    }
    // The deletion takes precedence over the version.
    assert_is_deleted(&update(app.client(), &id, r#","payload":[6],"version":1"#, &[]).await);
    app.finish().await;
}

fn assert_is_deleted(answer: &Answer) {
    assert_eq!((answer.status, member(answer.text(), "status").as_str()), (409, "deleted"), "{answer:?}");
}

pub(super) async fn of_many_writers_with_the_same_version_one_succeeds<B: Backend>() {
    let app = B::start(Setup::new()).await;
    let id = create(app.client(), "[0]").await;
    let writers = (1..=20).map(|n| {
        let fields = format!(r#","payload":[{n}],"version":1"#);
        let (client, id) = (app.client(), &id);
        async move { update(client, id, &fields, &[]).await }
    });
    let answers = futures_util::future::join_all(writers).await;
    assert_eq!(answers.iter().filter(|answer| answer.status == 200).count(), 1);
    for answer in answers.iter().filter(|answer| answer.status != 200) {
        assert_has_version(answer, "2");
    }
    assert_eq!(app.finish().await.events_of(&id).len(), 2);
}

pub(super) async fn a_malformed_or_contradictory_condition_is_a_400<B: Backend>() {
    let app = B::start(Setup::new()).await;
    let id = create(app.client(), "[1]").await;
    for (fields, headers, field) in [
        (r#","payload":[2]"#, &[("if-match", "v1")][..], "If-Match"),
        (r#","payload":[2]"#, &[("if-match", "*, \"v2\"")], "If-Match"),
        (r#","payload":[2]"#, &[("if-match", "\"v1\""), ("if-match", "*")], "If-Match"),
        (r#","payload":[2]"#, &[("if-match", "\"v1\" \"v2\"")], "If-Match"),
        (r#","payload":[2],"version":3"#, &[("if-match", "\"v1\", \"v2\"")], "version"),
        (r#","payload":[2],"version":2"#, &[("if-match", "\"v1\"")], "version"),
        (r#","payload":[2],"version":"1""#, &[], "version"),
        (r#","payload":[2],"version":1.5"#, &[], "version"),
        (r#","payload":[2],"version":-1"#, &[], "version"),
    ] {
        let detail = problem(&update(app.client(), &id, fields, headers).await, "invalid_request");
        assert!(detail.starts_with(&format!("{field}: ")), "{detail}");
    }
    let creation = |fields: &str| format!(r#"{{"user_id":"{USER}","payload":[1]{fields}}}"#);
    let detail = problem(&app.client().post("/orders", creation(r#","version":1"#)).await, "invalid_request");
    assert!(detail.starts_with("version: "), "{detail}");
    for tag in ["*", "\"v1\""] {
        let answer = app.client().request("POST", "/orders", &[("if-match", tag)], creation("")).await;
        problem(&answer, "invalid_request");
    }
    app.finish().await;
}

pub(super) async fn a_stranger_does_not_learn_the_version<B: Backend>() {
    let app = B::start(Setup::new()).await;
    let id = create(app.client(), "[1]").await;
    let fields = format!(r#","user_id":"{STRANGER}","payload":[2],"version":9"#);
    problem(&update(app.client(), &id, &fields, &[]).await, "order_not_found");
    let body = format!(r#"{{"user_id":"{STRANGER}","payload":[2]}}"#);
    let path = format!("/orders/{id}");
    let answer = app.client().request("PUT", &path, &[("if-none-match", "*")], body).await;
    problem(&answer, "precondition_failed");
    assert!(!answer.text().contains("current_version"), "{answer:?}");
    app.finish().await;
}

pub(super) async fn one_matching_tag_of_several_is_enough<B: Backend>() {
    let app = B::start(Setup::new()).await;
    let id = create(app.client(), "[1]").await;
    let path = format!("/orders/{id}");
    let content = format!(r#"{{"user_id":"{USER}","payload":[2]}}"#);
    let lists = [
        &[("if-match", r#""v7", "v1", "of another service""#)][..],
        &[("if-match", r#""v0""#), ("if-match", r#"W/"v2-processing",, "v9""#)],
        &[("if-match", r#""v3","v2""#)],
    ];
    for (headers, version) in lists.iter().zip(2..) {
        let answer = update(app.client(), &id, r#","payload":[1]"#, headers).await;
        assert_eq!(answer.header("etag"), Some(format!("\"v{version}\"").as_str()), "{answer:?}");
        assert_has_version(
            &update(app.client(), &id, r#","payload":[1]"#, headers).await,
            &version.to_string(),
        );
    }
    // A list in the header and a version in the body: both must match.
    let list = [("if-match", r#""v4", "v5""#)];
    assert_has_version(&update(app.client(), &id, r#","payload":[1],"version":5"#, &list).await, "4");
    assert_eq!(update(app.client(), &id, r#","payload":[1],"version":4"#, &list).await.status, 200);
    let answer = app.client().request("PUT", &path, &[("if-match", r#""v9", "v5""#)], content.clone()).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_has_version(
        &app.client().request("PUT", &path, &[("if-match", r#""v9", "v5""#)], content).await,
        "6",
    );
    // A retry under the same key is the same request.
    let keyed = [("if-match", r#""v1", "v6", "v9""#), ("idempotency-key", "one of several")];
    let deleted = app.client().request("DELETE", &path, &keyed, "").await;
    assert_eq!((deleted.status, deleted.header("etag")), (200, Some("\"v7\"")), "{deleted:?}");
    let again = app.client().request("DELETE", &path, &keyed, "").await;
    assert_eq!((again.status, again.header("idempotency-replayed")), (200, Some("true")), "{again:?}");
    app.finish().await;
}

pub(super) async fn a_condition_that_a_write_does_not_evaluate_is_a_400<B: Backend>() {
    let app = B::start(Setup::new()).await;
    let id = create(app.client(), "[1]").await;
    let before = order(app.client(), &id).await;
    let path = format!("/orders/{id}");
    let content = format!(r#"{{"user_id":"{USER}","payload":[2]}}"#);
    let body = format!(r#"{{"order_id":"{id}","payload":[2]}}"#);
    let date = "Thu, 01 Jan 2026 00:00:00 GMT";
    let everywhere = [("If-Unmodified-Since", date), ("If-Modified-Since", date), ("If-Range", "\"v1\"")];
    let writes = [
        ("POST", "/orders", body.clone(), &[("If-None-Match", "*")][..]),
        (
            "POST",
            "/orders:batch",
            format!(r#"{{"orders":[{body}]}}"#),
            &[("If-None-Match", "*"), ("If-Match", "\"v1\"")],
        ),
        ("PUT", &path, content, &[]),
        ("DELETE", &path, String::new(), &[("If-None-Match", "\"v1\"")]),
    ];
    for (method, target, body, own) in writes {
        for (name, value) in everywhere.iter().chain(own) {
            let header = [(&*name.to_ascii_lowercase(), *value)];
            let detail = problem(
                &app.client().request(method, target, &header, body.clone()).await,
                "invalid_request",
            );
            assert!(detail.starts_with(&format!("{name}: ")), "{method}: {detail}");
        }
    }
    assert_eq!(order(app.client(), &id).await, before);
    // RFC 9110: the server ignores the time beside a tag, which it evaluates.
    let both = [("if-unmodified-since", date), ("if-match", "\"v1\"")];
    assert_eq!(app.client().request("DELETE", &path, &both, "").await.status, 200);
    app.finish().await;
}

pub(super) async fn a_tag_changes_with_an_event_from_outside<B: Backend>() {
    let mut app = B::start(Setup::new()).await;
    let id = create(app.client(), r#"{"amount":6}"#).await;
    let path = format!("/orders/{id}");
    let mut tags = vec!["\"v1\"".to_owned()];
    for amount in [7, 8] {
        let event = format!(
            r#"{{"order_id":"{id}","user_id":"{USER}","payload":{{"amount":{amount}}},"status":"processing",
                "timestamp":"{}"}}"#,
            Timestamp::now()
        );
        let record = Record { key: None, value: event.into_bytes(), headers: Vec::new() };
        app.feed(record, 1).await;
        let known = tags.join(", ");
        let shown = app.client().request("GET", &path, &[("if-none-match", &known)], "").await;
        assert_eq!(shown.status, 200, "the representation has changed: {shown:?}");
        assert_eq!(member(&member(shown.text(), "order"), "amount"), amount.to_string());
        let tag = shown.header("etag").expect("a tag").to_owned();
        assert!(tag.starts_with("\"v1-done."), "{tag}");
        let known = app.client().request("GET", &path, &[("if-none-match", &tag)], "").await;
        assert_eq!((known.status, known.header("etag")), (304, Some(&*tag)));
        tags.push(tag);
    }
    // Such a tag is as valid in a condition as any other, and the next change makes it an ordinary one again.
    let last = [("if-match", &*tags[2])];
    let updated = update(app.client(), &id, r#","payload":[2]"#, &last).await;
    assert_eq!((updated.status, updated.header("etag")), (200, Some("\"v2\"")), "{updated:?}");
    assert_eq!(app.client().get(&path).await.header("etag"), Some("\"v2\""));
    app.finish().await;
}
