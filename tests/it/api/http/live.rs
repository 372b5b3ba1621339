//! Live streams: the changes of an order, or of a user's orders, arrive as they happen; a client that reconnects
//! continues behind its last event; and a stream delays no other client, also at its end.

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
use crate::clients::stream::{Stream, Told};
use crate::harness::app::Setup;
use crate::harness::backend::Backend;
use crate::harness::processors::Obedient;
use crate::harness::wait::until;

async fn write(client: &Client, body: String) {
    let answer = client.post("/orders", body).await;
    assert_eq!(answer.status, 200, "{answer:?}");
}

fn changes(told: &[Told]) -> Vec<(i64, String, String)> {
    told.iter().map(Told::change).collect()
}

fn change(version: i64, by: &str, status: &str) -> (i64, String, String) {
    (version, by.to_owned(), status.to_owned())
}

/// The path of a user's stream.
fn of_user(user: &str) -> String {
    format!("/events?user_id={user}")
}

pub(super) async fn an_orders_stream_begins_with_its_newest_step_and_goes_on<B: Backend>() {
    let app = B::start(Setup::new().processor(Arc::new(Obedient))).await;
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
    // Of another order nothing is told.
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

pub(super) async fn a_users_stream_tells_of_their_orders_and_of_nobody_elses<B: Backend>() {
    let app = B::start(Setup::new()).await;
    let path = of_user(USER);
    let mut stream = Stream::open(app.client().address(), &path, None).await;
    let first = create(app.client(), "{}").await;
    let body = format!(r#"{{"user_id":"{STRANGER}","payload":{{}}}}"#);
    assert_eq!(app.client().post("/orders", body).await.status, 201);
    let second = create(app.client(), "{}").await;
    let told: Vec<_> = stream.take(4).await.iter().map(Told::step).collect();
    let step = |id: &str, by: &str, status: &str| (id.to_owned(), 1, by.to_owned(), status.to_owned());
    assert_eq!(
        told,
        [
            step(&first, "create", "new"),
            step(&first, "worker", "done"),
            step(&second, "create", "new"),
            step(&second, "worker", "done"),
        ]
    );
    app.finish().await;
}

pub(super) async fn whoever_comes_back_misses_nothing_and_sees_nothing_twice<B: Backend>() {
    const WRITERS: usize = 5;
    const ORDERS: usize = 6;
    const STEPS: usize = 4;
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
        let mut told = stream.take(1).await;
        for count in (1..=7).cycle() {
            let left = WRITERS * ORDERS * STEPS - told.len();
            if left == 0 {
                break;
            }
            let last = told[told.len() - 1].id.clone();
            stream = Stream::open(address, &path, Some(&last)).await;
            told.extend(stream.take(count.min(left)).await);
        }
        told
    };
    let (_, told) = tokio::join!(join_all(writers), reader);
    assert_eq!(told.iter().map(|one| &one.id).collect::<BTreeSet<_>>().len(), told.len());
    let mut orders: BTreeMap<String, Vec<_>> = BTreeMap::new();
    for one in &told {
        orders.entry(one.step().0).or_default().push(one.change());
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

pub(super) async fn a_stream_that_ended_before_its_first_event_goes_on_where_it_began<B: Backend>() {
    let app = B::start(Setup::new()).await;
    let (address, path) = (app.client().address(), of_user(USER));
    let begun = Stream::open(address, &path, None).await.begun.expect("a place");
    let id = create(app.client(), "{}").await;
    let mut stream = Stream::open(address, &path, Some(&begun)).await;
    assert_eq!(stream.begun.as_deref(), Some(begun.as_str()));
    let told: Vec<_> = stream.take(2).await.iter().map(Told::step).collect();
    assert_eq!(
        told.iter().map(|step| (&*step.0, &*step.3)).collect::<Vec<_>>(),
        [(&*id, "new"), (&*id, "done")]
    );
    // An empty place is none.
    assert!(Stream::open(address, &path, Some("")).await.begun.is_some());
    // The newest step of an order comes at once, and is the place.
    let path = format!("/orders/{id}/events");
    assert_eq!(Stream::open(address, &path, None).await.begun, None);
    app.finish().await;
}

pub(super) async fn what_cannot_be_followed_says_why<B: Backend>() {
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
        for place in ["7", "7-", "a-b", "1-1-1"] {
            let answer = app.client().request("GET", path, &[("last-event-id", place)], "").await;
            let detail = problem(&answer, "invalid_request");
            assert!(detail.starts_with("Last-Event-ID: "), "{place}: {detail}");
        }
        let head = app.client().request("HEAD", path, &[], "").await;
        assert_eq!((head.status, head.header("content-type")), (200, Some("text/event-stream")));
        assert!(head.body.is_empty());
        problem(&app.client().post(path, "").await, "method_not_allowed");
    }
    app.finish().await;
}

pub(super) async fn streams_are_bounded_and_take_no_room_from_requests<B: Backend>() {
    let few = |settings: &mut orderstream::config::Settings| {
        settings.max_streams = NonZeroU32::new(2).expect("two");
        // Room for one request: each counts 8 KiB and its body.
        settings.http_body_limit = 1024;
        settings.http_memory_budget = 9 * 1024;
    };
    let app = B::start(Setup::new().settings(few)).await;
    let id = create(app.client(), "{}").await;
    let (address, path) = (app.client().address(), format!("/orders/{id}/events"));
    // HEAD opens none.
    for _ in 0..3 {
        assert_eq!(app.client().request("HEAD", &path, &[], "").await.status, 200);
    }
    let mut first = Stream::open(address, &path, None).await;
    let second = Stream::open(address, &of_user(USER), None).await;
    for path in [&path, &of_user(STRANGER)] {
        let detail = problem(&app.client().get(path).await, "overloaded");
        assert!(detail.contains("2 streams"), "{detail}");
    }
    // What is wrong with a request is wrong however many streams there are.
    problem(&app.client().get("/events").await, "invalid_request");
    write(app.client(), format!(r#"{{"order_id":"{id}","payload":{{}}}}"#)).await;
    assert_eq!(first.take(3).await.len(), 3);

    drop(second);
    until("room for a stream", async || {
        let head = app.client().request("HEAD", &path, &[], "").await;
        (head.status == 200).then_some(())
    })
    .await;
    let mut third = Stream::open(address, &path, None).await;
    assert_eq!(changes(&third.take(1).await), [change(2, "worker", "done")]);
    app.finish().await;
}

pub(super) async fn a_stop_ends_streams_at_once<B: Backend>() {
    // Longer than the test would be given: a stream that the stop waited for would fail it.
    let patient = |settings: &mut orderstream::config::Settings| settings.shutdown_timeout = 2 * GUARD;
    let app = B::start(Setup::new().settings(patient)).await;
    let id = create(app.client(), "{}").await;
    let address = app.client().address();
    let mut streams = Vec::new();
    for _ in 0..3 {
        streams.push(Stream::open(address, &format!("/orders/{id}/events"), None).await);
        streams.push(Stream::open(address, &of_user(USER), None).await);
    }
    app.finish().await;
    for mut stream in streams {
        // What was told before is there to be read, and then the stream ends in order.
        while stream.next().await.is_some() {}
    }
}

pub(super) async fn a_stream_outlives_the_limit_of_idle_connections<B: Backend>() {
    let impatient = |settings: &mut orderstream::config::Settings| {
        settings.http_header_timeout = Duration::from_secs(1);
        settings.http_body_timeout = Duration::from_secs(1);
    };
    let app = B::start(Setup::new().settings(impatient)).await;
    let address = app.client().address();
    let mut stream = Stream::open(address, &of_user(USER), None).await;
    // The server closes a connection on which nothing is asked; the stream was there before it.
    assert!(crate::clients::http::raw(address, b"").await.is_empty());
    let client = Client::new(address);
    let id = create(&client, "{}").await;
    assert_eq!(stream.take(2).await[1].step().0, id);
    app.finish().await;
}
