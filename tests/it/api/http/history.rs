//! The history of an order: each version, its cause and its outcome, and the events from outside; the pages of a
//! history, and histories that do not exist.

use std::sync::Arc;

use jiff::Timestamp;
use orderstream::bus::Record;
use serde_json::value::RawValue;

use crate::clients::STRANGER;
use crate::clients::UNKNOWN_ID;
use crate::clients::USER;
use crate::clients::answers::{create, member, names, order, problem, time};
use crate::clients::http::{Answer, Client};
use crate::harness::app::Setup;
use crate::harness::backend::Backend;
use crate::harness::processors::ScriptedProcessor;

/// The entries of a page, as text.
fn entries(answer: &Answer) -> Vec<String> {
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.header("content-type"), Some("application/json"));
    let entries: Vec<Box<RawValue>> =
        serde_json::from_str(&member(answer.text(), "history")).expect("a list of entries");
    entries.iter().map(|entry| entry.get().to_owned()).collect()
}

async fn history(client: &Client, id: &str) -> Vec<String> {
    let answer = client.get(&format!("/orders/{id}/history")).await;
    assert_eq!(names(answer.text()), ["order_id", "history"]);
    assert_eq!(member(answer.text(), "order_id"), id);
    entries(&answer)
}

/// An entry without its times, whose order is checked here.
fn without_times(entry: &str) -> String {
    let mut text = entry.to_owned();
    let requested_at = time(&member(entry, "at"));
    text = text.replace(&format!(r#""at":"{}","#, member(entry, "at")), "");
    let outcome = member(entry, "outcome");
    if outcome != "null" {
        assert!(requested_at <= time(&member(&outcome, "at")), "{entry}");
        text = text.replace(&format!(r#""at":"{}","#, member(&outcome, "at")), "");
    }
    text
}

async fn write(client: &Client, body: String) {
    let answer = client.post("/orders", body).await;
    assert_eq!(answer.status, 200, "{answer:?}");
}

pub(super) async fn a_history_lists_each_version_with_its_outcome<B: Backend>() {
    let app = B::start(Setup::new().processor(Arc::new(ScriptedProcessor))).await;
    let id = create(app.client(), r#"{"amount":12.30}"#).await;
    write(app.client(), format!(r#"{{"order_id":"{id}","payload":{{"fail":"no \"stock\""}}}}"#)).await;
    write(app.client(), format!(r#"{{"order_id":"{id}","payload":{{"amount":0.10}}}}"#)).await;
    write(app.client(), format!(r#"{{"order_id":"{id}","status":"deleted"}}"#)).await;
    let entries = history(app.client(), &id).await;
    assert_eq!(
        entries.iter().map(|entry| without_times(entry)).collect::<Vec<_>>(),
        [
            r#"{"version":1,"by":"create","status":"new","outcome":{"status":"done","amount":12.30}}"#,
            r#"{"version":2,"by":"update","status":"processing","outcome":{"status":"failed","reason":"no \"stock\""}}"#,
            r#"{"version":3,"by":"update","status":"processing","outcome":{"status":"done","amount":0.10}}"#,
            r#"{"version":4,"by":"delete","status":"deleted","outcome":{"status":"deleted"}}"#,
        ]
    );
    let shown = order(app.client(), &id).await;
    assert_eq!(member(&entries[0], "at"), member(&shown, "created_at"));
    assert_eq!(member(&member(&entries[3], "outcome"), "at"), member(&shown, "updated_at"));

    let path = format!("/orders/{}/history/", id.to_uppercase());
    assert_eq!(member(app.client().get(&path).await.text(), "order_id"), id);
    let head = app.client().request("HEAD", &path, &[], "").await;
    assert_eq!((head.status, head.body.len()), (200, 0));
    app.finish().await;
}

pub(super) async fn a_processors_reason_is_recorded_up_to_its_length_limit<B: Backend>() {
    let app = B::start(Setup::new().processor(Arc::new(ScriptedProcessor))).await;
    let id = create(app.client(), &format!(r#"{{"fail":"{}"}}"#, "ж".repeat(1500))).await;
    let entry = history(app.client(), &id).await.remove(0);
    for text in [order(app.client(), &id).await, member(&entry, "outcome")] {
        assert_eq!(member(&text, "reason"), "ж".repeat(1000));
    }
    app.finish().await;
}

pub(super) async fn a_version_that_is_not_processed_yet_has_no_outcome<B: Backend>() {
    let mut app = B::start(Setup::new().settings(|settings| settings.ack_wait = false)).await;
    app.stop_worker().await;
    let id = create(app.client(), "{}").await;
    let entries = history(app.client(), &id).await;
    assert_eq!(without_times(&entries[0]), r#"{"version":1,"by":"create","status":"new","outcome":null}"#);
    assert_eq!(entries.len(), 1);
    app.start_worker().await;
    app.acks(&id, 1).await;
    let outcome = member(&history(app.client(), &id).await[0], "outcome");
    assert_eq!((member(&outcome, "status").as_str(), member(&outcome, "amount").as_str()), ("done", "0"));
    app.finish().await;
}

pub(super) async fn an_event_from_outside_has_an_entry_of_its_own<B: Backend>() {
    let mut app = B::start(Setup::new()).await;
    let outside = |value: String| Record { key: None, headers: Vec::new(), value: value.into_bytes() };
    let id = create(app.client(), r#"{"amount":6}"#).await;
    let now = Timestamp::now();
    let value = format!(
        r#"{{"order_id":"{id}","user_id":"{USER}","payload":{{}},"status":"cancelled","timestamp":"{now}"}}"#
    );
    app.feed(outside(value), 2).await;
    write(app.client(), format!(r#"{{"order_id":"{id}","payload":{{"amount":7}}}}"#)).await;
    let entries = history(app.client(), &id).await;
    let [first, event, second] = entries.as_slice() else { panic!("{entries:?}") };
    let summary = |entry: &str| {
        let outcome = member(entry, "outcome");
        [member(entry, "version"), member(entry, "by"), member(entry, "status"), member(&outcome, "status")]
    };
    assert_eq!(summary(first), ["1", "create", "new", "done"]);
    assert_eq!(summary(event), ["1", "event", "cancelled", "cancelled"]);
    assert_eq!(summary(second), ["2", "update", "processing", "done"]);

    let value = format!(
        r#"{{"order_id":"0","user_id":"{STRANGER}","payload":{{"id":"E-1","amount":4}},"status":"new"}}"#
    );
    app.feed(outside(value), 2).await;
    let found = app.client().get(&format!("/orders/by-external/E-1?user_id={STRANGER}")).await;
    let created = member(&member(found.text(), "order"), "order_id");
    let entries = history(app.client(), &created).await;
    assert_eq!(entries.len(), 1, "{entries:?}");
    assert_eq!(summary(&entries[0]), ["1", "event", "done", "done"]);
    app.finish().await;
}

pub(super) async fn a_history_comes_in_pages_of_versions<B: Backend>() {
    let app = B::start(Setup::new()).await;
    let id = create(app.client(), "{}").await;
    for number in 2..=5 {
        write(app.client(), format!(r#"{{"order_id":"{id}","payload":{number}}}"#)).await;
    }
    let whole = history(app.client(), &id).await;
    assert_eq!(whole.iter().map(|entry| member(entry, "version")).collect::<String>(), "12345");
    for limit in [1, 2, 5, 200] {
        let (mut walked, mut path) = (Vec::new(), format!("/orders/{id}/history?limit={limit}"));
        loop {
            let answer = app.client().get(&path).await;
            walked.extend(entries(&answer));
            if !names(answer.text()).contains(&"next_cursor".to_owned()) {
                break;
            }
            let cursor = member(answer.text(), "next_cursor");
            path = format!("/orders/{id}/history?limit={limit}&cursor={cursor}");
        }
        assert_eq!(walked, whole, "{limit}");
    }
    let beyond = app.client().get(&format!("/orders/{id}/history?cursor={}", i64::MAX)).await;
    assert_eq!(beyond.text(), format!(r#"{{"order_id":"{id}","history":[]}}"#));
    app.finish().await;
}

pub(super) async fn an_unknown_or_disabled_history_is_refused<B: Backend>() {
    let app = B::start(Setup::new()).await;
    let id = create(app.client(), r#"{"id":"history"}"#).await;
    problem(&app.client().get(&format!("/orders/{UNKNOWN_ID}/history")).await, "order_not_found");
    for (path, field) in [
        ("/orders/abc/history".to_owned(), "order_id"),
        (format!("/orders/{id}/history?limit=0"), "limit"),
        (format!("/orders/{id}/history?cursor=-1"), "cursor"),
        (format!("/orders/{id}/history?cursor=1&cursor=1"), "cursor"),
        (format!("/orders/{id}/history?cursor=abc"), "cursor"),
    ] {
        let detail = problem(&app.client().get(&path).await, "invalid_request");
        assert!(detail.starts_with(&format!("{field}: ")), "{path}: {detail}");
    }
    // An external id may equal a part of a path.
    let found = app.client().get(&format!("/orders/by-external/history?user_id={USER}")).await;
    assert_eq!(member(&member(found.text(), "order"), "order_id"), id);
    app.finish().await;

    let app = B::start(Setup::new().settings(|settings| settings.history = false)).await;
    let id = create(app.client(), "{}").await;
    for path in
        [format!("/orders/{id}/history"), format!("/orders/{id}/events"), format!("/events?user_id={USER}")]
    {
        let detail = problem(&app.client().get(&path).await, "history_off");
        assert!(detail.contains("HISTORY=on"), "{detail}");
    }
    app.finish().await;
}
