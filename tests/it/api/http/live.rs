//! Live streams: the changes of an order, or of a user's orders, arrive as they happen; a client that reconnects
//! continues after its last event; and a stream delays no other client, also at its end.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;

use crate::clients::STRANGER;
use crate::clients::UNKNOWN_ID;
use crate::clients::USER;
use crate::clients::answers::{create, member, order, problem};
use crate::clients::http::{Client, GUARD};
use crate::clients::stream::{Stream, StreamEvent};
use crate::harness::app::Setup;
use crate::harness::backend::Backend;
use crate::harness::processors::ScriptedProcessor;
use crate::harness::wait::until;

async fn write(client: &Client, body: String) {
    let answer = client.post("/orders", body).await;
    assert_eq!(answer.status, 200, "{answer:?}");
}

fn changes(events: &[StreamEvent]) -> Vec<(i64, String, String)> {
    events.iter().map(StreamEvent::change).collect()
}

fn change(version: i64, by: &str, status: &str) -> (i64, String, String) {
    (version, by.to_owned(), status.to_owned())
}

/// The path of a user's stream.
fn of_user(user: &str) -> String {
    format!("/events?user_id={user}")
}

pub(super) async fn an_orders_stream_begins_with_its_newest_history_event_and_continues<B: Backend>() {
    let app = B::start(Setup::new().processor(Arc::new(ScriptedProcessor))).await;
    let id = create(app.client(), r#"{"amount":12.30}"#).await;
    let mut stream = Stream::open(app.client().address(), &format!("/orders/{id}/events"), None).await;
    let first = stream.take(1).await;
    assert_eq!(changes(&first), [change(1, "worker", "done")]);
    let shown = order(app.client(), &id).await;
    let expected = format!(
        r#"{{"order_id":"{id}","user_id":"{USER}","version":1,"status":"done","by":"worker","at":"{}","amount":12.30}}"#,
        member(&shown, "updated_at")
    );
    assert_eq!(first[0].data, expected);

    write(app.client(), format!(r#"{{"order_id":"{id}","payload":{{"fail":"no\nstock"}}}}"#)).await;
    // The stream does not send changes of another order.
    create(app.client(), "{}").await;
    write(app.client(), format!(r#"{{"order_id":"{id}","status":"deleted"}}"#)).await;
    let rest = stream.take(4).await;
    assert_eq!(
        changes(&rest),
        [
            change(2, "update", "processing"),
            change(2, "worker", "failed"),
            change(3, "delete", "deleted"),
            change(3, "worker", "deleted"),
        ]
    );
    assert_eq!(member(&rest[1].data, "reason"), "no\nstock");
    app.finish().await;
}

pub(super) async fn a_users_stream_sends_the_changes_of_their_orders_alone<B: Backend>() {
    let app = B::start(Setup::new()).await;
    let path = of_user(USER);
    let mut stream = Stream::open(app.client().address(), &path, None).await;
    let first = create(app.client(), "{}").await;
    let body = format!(r#"{{"user_id":"{STRANGER}","payload":{{}}}}"#);
    assert_eq!(app.client().post("/orders", body).await.status, 201);
    let second = create(app.client(), "{}").await;
    let received: Vec<_> = stream.take(4).await.iter().map(StreamEvent::summary).collect();
    let summary = |id: &str, by: &str, status: &str| (id.to_owned(), 1, by.to_owned(), status.to_owned());
    assert_eq!(
        received,
        [
            summary(&first, "create", "new"),
            summary(&first, "worker", "done"),
            summary(&second, "create", "new"),
            summary(&second, "worker", "done"),
        ]
    );
    app.finish().await;
}

pub(super) async fn a_reconnecting_client_misses_no_event_and_receives_none_twice<B: Backend>() {
    const WRITERS: usize = 5;
    const ORDERS: usize = 6;
    const EVENTS: usize = 4;
    let app = B::start(Setup::new()).await;
    let (address, path) = (app.client().address(), of_user(USER));
    let mut stream = Stream::open(address, &path, None).await;
    let writers = (0..WRITERS).map(async |_| {
        for _ in 0..ORDERS {
            let id = create(app.client(), r#"{"amount":1}"#).await;
            write(app.client(), format!(r#"{{"order_id":"{id}","payload":{{"amount":2}}}}"#)).await;
        }
    });
    let reader = async {
        let mut received = stream.take(1).await;
        for count in (1..=7).cycle() {
            let left = WRITERS * ORDERS * EVENTS - received.len();
            if left == 0 {
                break;
            }
            let last = received[received.len() - 1].id.clone();
            stream = Stream::open(address, &path, Some(&last)).await;
            received.extend(stream.take(count.min(left)).await);
        }
        received
    };
    let (_, received) = tokio::join!(join_all(writers), reader);
    assert_eq!(received.iter().map(|event| &event.id).collect::<BTreeSet<_>>().len(), received.len());
    let mut orders: BTreeMap<String, Vec<_>> = BTreeMap::new();
    for event in &received {
        orders.entry(event.summary().0).or_default().push(event.change());
    }
    assert_eq!(orders.len(), WRITERS * ORDERS);
    for changes in orders.values() {
        let life = [
            change(1, "create", "new"),
            change(1, "worker", "done"),
            change(2, "update", "processing"),
            change(2, "worker", "done"),
        ];
        assert_eq!(*changes, life);
    }
    app.finish().await;
}

pub(super) async fn a_stream_that_ended_before_its_first_event_resumes_at_its_start<B: Backend>() {
    let app = B::start(Setup::new()).await;
    let (address, path) = (app.client().address(), of_user(USER));
    let start = Stream::open(address, &path, None).await.start.expect("an offset");
    let id = create(app.client(), "{}").await;
    let mut stream = Stream::open(address, &path, Some(&start)).await;
    assert_eq!(stream.start.as_deref(), Some(start.as_str()));
    let received: Vec<_> = stream.take(2).await.iter().map(StreamEvent::summary).collect();
    assert_eq!(
        received.iter().map(|event| (&*event.0, &*event.3)).collect::<Vec<_>>(),
        [(&*id, "new"), (&*id, "done")]
    );
    // An empty offset means no offset.
    assert!(Stream::open(address, &path, Some("")).await.start.is_some());
    // The newest history event of an order arrives at once, and its id is the offset.
    let path = format!("/orders/{id}/events");
    assert_eq!(Stream::open(address, &path, None).await.start, None);
    app.finish().await;
}

pub(super) async fn a_stream_that_cannot_be_opened_is_refused_with_the_reason<B: Backend>() {
    let app = B::start(Setup::new()).await;
    let id = create(app.client(), r#"{"id":"events"}"#).await;
    let path = format!("/orders/{id}/events");
    problem(&app.client().get(&format!("/orders/{UNKNOWN_ID}/events")).await, "order_not_found");
    let after = [("last-event-id", "1-1")];
    let unknown = format!("/orders/{UNKNOWN_ID}/events/");
    problem(&app.client().request("GET", &unknown, &after, "").await, "order_not_found");
    for (path, field) in [
        ("/orders/abc/events", "order_id"),
        ("/events", "user_id"),
        ("/events/?user_id=me", "user_id"),
        (&format!("/events?user_id={USER}&user_id={USER}"), "user_id"),
    ] {
        let detail = problem(&app.client().get(path).await, "invalid_request");
        assert!(detail.starts_with(&format!("{field}: ")), "{path}: {detail}");
    }
    for path in [&path, &of_user(USER)] {
        for offset in ["7", "7-", "a-b", "1-1-1"] {
            let answer = app.client().request("GET", path, &[("last-event-id", offset)], "").await;
            let detail = problem(&answer, "invalid_request");
            assert!(detail.starts_with("Last-Event-ID: "), "{offset}: {detail}");
        }
        let head = app.client().request("HEAD", path, &[], "").await;
        assert_eq!((head.status, head.header("content-type")), (200, Some("text/event-stream")));
        assert!(head.body.is_empty());
        problem(&app.client().post(path, "").await, "method_not_allowed");
    }
    app.finish().await;
}

pub(super) async fn streams_are_bounded_and_use_no_memory_of_requests<B: Backend>() {
    let two_streams = |settings: &mut orderstream::config::Settings| {
        settings.max_streams = NonZeroU32::new(2).expect("two");
        // Memory for one request: each counts 8 KiB and its body.
        settings.http_body_limit = 1024;
        settings.http_memory_budget = 9 * 1024;
    };
    let app = B::start(Setup::new().settings(two_streams)).await;
    let id = create(app.client(), "{}").await;
    let (address, path) = (app.client().address(), format!("/orders/{id}/events"));
    // `HEAD` opens no stream.
    for _ in 0..3 {
        assert_eq!(app.client().request("HEAD", &path, &[], "").await.status, 200);
    }
    let mut first = Stream::open(address, &path, None).await;
    let second = Stream::open(address, &of_user(USER), None).await;
    for path in [&path, &of_user(STRANGER)] {
        let detail = problem(&app.client().get(path).await, "overloaded");
        assert!(detail.contains("2 streams"), "{detail}");
    }
    // An invalid request is reported as such also while all streams are in use.
    problem(&app.client().get("/events").await, "invalid_request");
    write(app.client(), format!(r#"{{"order_id":"{id}","payload":{{}}}}"#)).await;
    assert_eq!(first.take(3).await.len(), 3);

    drop(second);
    until("a free stream", async || {
        let head = app.client().request("HEAD", &path, &[], "").await;
        (head.status == 200).then_some(())
    })
    .await;
    let mut third = Stream::open(address, &path, None).await;
    assert_eq!(changes(&third.take(1).await), [change(2, "worker", "done")]);
    app.finish().await;
}

pub(super) async fn a_stop_ends_streams_at_once<B: Backend>() {
    // Longer than the test may run: if the stop waited for a stream, the test would fail.
    let long_stop = |settings: &mut orderstream::config::Settings| settings.shutdown_timeout = 2 * GUARD;
    let app = B::start(Setup::new().settings(long_stop)).await;
    let id = create(app.client(), "{}").await;
    let address = app.client().address();
    let mut streams = Vec::new();
    for _ in 0..3 {
        streams.push(Stream::open(address, &format!("/orders/{id}/events"), None).await);
        streams.push(Stream::open(address, &of_user(USER), None).await);
    }
    app.finish().await;
    for mut stream in streams {
        // The client can still read the events that were sent before, and then the stream ends in order.
        while stream.next().await.is_some() {}
    }
}

pub(super) async fn a_stream_outlives_the_limit_of_idle_connections<B: Backend>() {
    let short_timeouts = |settings: &mut orderstream::config::Settings| {
        settings.http_header_timeout = Duration::from_secs(1);
        settings.http_body_timeout = Duration::from_secs(1);
    };
    let app = B::start(Setup::new().settings(short_timeouts)).await;
    let address = app.client().address();
    let mut stream = Stream::open(address, &of_user(USER), None).await;
    // The server closes a connection without requests; the stream is older than that connection.
    assert!(crate::clients::http::raw(address, b"").await.is_empty());
    let client = Client::new(address);
    let id = create(&client, "{}").await;
    assert_eq!(stream.take(2).await[1].summary().0, id);
    app.finish().await;
}
