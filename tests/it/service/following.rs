//! Following orders through restarts: of a single process, and of one of several, which is stopped and killed while
//! clients write at another. A client whose offset is unknown, or whose events retention has dropped, gets a gap event,
//! and then all later events.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use orderstream::order::{OrderId, Status};
use orderstream::store::{Completed, Completion, MAX_PAGE_EVENTS, Precondition};
use orderstream::worker::AmountProcessor;
use serde_json::value::RawValue;
use tempfile::TempDir;
use tokio::net::TcpListener;

use crate::clients::USER;
use crate::clients::answers::{create, member, names, order, order_id};
use crate::clients::stream::{Stream, StreamEvent};
use crate::faults::hooks::{Hook, Pass, Point};
use crate::harness::app::{Setup, TestApp};
use crate::harness::cluster::Cluster;
use crate::harness::system::{System, settings};
use crate::harness::wait::until;

/// The path of a user's stream.
fn of_user() -> String {
    format!("/events?user_id={USER}")
}

/// The history events of each order, in the order of their arrival.
fn by_order(events: &[StreamEvent]) -> BTreeMap<String, Vec<(i64, String)>> {
    let mut orders: BTreeMap<String, Vec<(i64, String)>> = BTreeMap::new();
    for event in events {
        let (id, version, by, _) = event.summary();
        orders.entry(id).or_default().push((version, by));
    }
    orders
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_continues_while_processes_restart_and_others_write() {
    const WRITERS: usize = 4;
    const ORDERS: usize = 30;
    const EVENTS: usize = WRITERS * ORDERS * 4;
    let mut cluster = Cluster::setup().await.start(2, 1).await;
    let writing_at = cluster.clients().remove(0);
    let mut stream = Stream::open(cluster.apis[1].address(), &of_user(), None).await;
    let writers: Vec<_> = (0..WRITERS)
        .map(|_| {
            let client = std::sync::Arc::clone(&writing_at);
            tokio::spawn(async move {
                let mut made = Vec::new();
                for _ in 0..ORDERS {
                    let id = create(&client, r#"{"amount":1}"#).await;
                    let update = format!(r#"{{"order_id":"{id}","payload":{{"amount":2}}}}"#);
                    let answer = client.post("/orders", update).await;
                    assert_eq!(answer.status, 200, "{answer:?}");
                    made.push((order_id(&answer), "updated"));
                }
                made
            })
        })
        .collect();

    // The second process streams what the first one wrote, and stops in order before the end.
    let mut events = stream.take(EVENTS / 8).await;
    let followed = cluster.take_out_api(1);
    followed.stop().await;
    while let Some(event) = stream.next().await {
        events.push(event);
    }
    cluster.start_api().await;
    let last = events[events.len() - 1].id.clone();
    let mut stream = Stream::open(cluster.apis[1].address(), &of_user(), Some(&last)).await;
    events.extend(stream.take(EVENTS / 8).await);
    // The next process is killed; the process to which clients write streams the rest.
    cluster.take_out_api(1).kill_9().await;
    let last = events[events.len() - 1].id.clone();
    let mut stream = Stream::open(cluster.apis[0].address(), &of_user(), Some(&last)).await;
    events.extend(stream.take(EVENTS - events.len()).await);

    let orders = by_order(&events);
    assert_eq!(orders.len(), WRITERS * ORDERS);
    let life = [(1, "create"), (1, "worker"), (2, "update"), (2, "worker")];
    for events in orders.values() {
        assert_eq!(*events, life.map(|(version, by)| (version, by.to_owned())));
    }
    let mut made: Vec<(OrderId, &str)> = Vec::new();
    for writer in writers {
        made.extend(writer.await.expect("a writer that does not fail"));
    }
    assert_eq!(cluster.finish(&made, 0).await.len(), WRITERS * ORDERS);
}

async fn reconnects_after_a_restart(app: TestApp) {
    let mut stream = Stream::open(app.address, &of_user(), None).await;
    let first = create(&app.client, "{}").await;
    let events = stream.take(1).await;
    let app = app.restart().await;
    let second = create(&app.client, "{}").await;
    let mut stream = Stream::open(app.address, &of_user(), Some(&events[0].id)).await;
    let rest = stream.take(3).await;
    let changes = [events, rest]
        .concat()
        .iter()
        .map(StreamEvent::summary)
        .map(|(id, _, by, _)| (id, by))
        .collect::<Vec<_>>();
    let expected = [(&first, "create"), (&first, "worker"), (&second, "create"), (&second, "worker")];
    assert_eq!(changes, expected.map(|(id, by)| (id.clone(), by.to_owned())));
    app.finish().await;
}

#[tokio::test]
async fn a_client_that_reconnects_after_a_restart_misses_no_event() {
    reconnects_after_a_restart(TestApp::embedded().start().await).await;
}

#[tokio::test]
async fn a_client_that_reconnects_after_a_restart_on_postgres_misses_no_event() {
    reconnects_after_a_restart(TestApp::embedded().start_on_postgres().await).await;
}

/// The causes of the history events of that version, up to the worker's, in the next events of a stream.
async fn causes_of(stream: &mut Stream, version: i64) -> Vec<String> {
    let mut by: Vec<String> = Vec::new();
    while by.last().is_none_or(|by| by != "worker") {
        let (_, of, cause, _) = stream.next().await.expect("a stream that continues").summary();
        if of == version {
            by.push(cause);
        }
    }
    by
}

/// Updates the order, and answers the causes of the history events on the stream.
async fn causes_of_an_update(app: &TestApp, id: &str, version: i64, stream: &mut Stream) -> Vec<String> {
    let update = format!(r#"{{"order_id":"{id}","payload":{{}}}}"#);
    assert_eq!(app.client.post("/orders", update).await.status, 200);
    causes_of(stream, version).await
}

/// A client with an offset beyond the end of this history gets a gap event, and then all later events.
async fn reports_an_unknown_offset(app: TestApp) {
    let id = create(&app.client, "{}").await;
    for (path, version) in [(of_user(), 2), (format!("/orders/{id}/events"), 3)] {
        let beyond = "9000000000000000000-7";
        let mut stream = Stream::open(app.address, &path, Some(beyond)).await;
        let (after, upto) = stream.gap.clone().expect("a gap event for the unknown offset");
        assert_eq!(after, beyond);
        assert_eq!(causes_of_an_update(&app, &id, version, &mut stream).await, ["update", "worker"]);
        let reconnected = Stream::open(app.address, &path, Some(&upto)).await;
        assert_eq!((reconnected.gap, reconnected.start), (None, Some(upto)));
    }
    app.finish().await;
}

#[tokio::test]
async fn a_client_with_an_unknown_offset_gets_a_gap_event() {
    reports_an_unknown_offset(TestApp::embedded().start().await).await;
}

#[tokio::test]
async fn a_client_with_an_unknown_offset_on_postgres_gets_a_gap_event() {
    reports_an_unknown_offset(TestApp::embedded().start_on_postgres().await).await;
}

#[tokio::test]
async fn an_offset_after_uncommitted_transactions_is_known() {
    let app = TestApp::embedded().start_on_postgres().await;
    // A stream reads a history event only after all transactions that began before it; this does not hold for the first
    // event of an order's stream.
    let other = app.connect().await;
    other.batch_execute("BEGIN; SELECT pg_current_xact_id()").await.unwrap();
    let id = create(&app.client, "{}").await;
    let path = format!("/orders/{id}/events");
    let first = Stream::open(app.address, &path, None).await.take(1).await;
    let mut reconnected = Stream::open(app.address, &path, Some(&first[0].id)).await;
    assert_eq!((&reconnected.gap, &reconnected.start), (&None, &Some(first[0].id.clone())));
    other.batch_execute("COMMIT").await.unwrap();
    assert_eq!(causes_of_an_update(&app, &id, 2, &mut reconnected).await, ["update", "worker"]);
    app.finish().await;
}

#[tokio::test]
async fn streams_continue_after_the_restore_of_a_backup() {
    let app = TestApp::embedded().start_on_postgres().await;
    app.execute("UPDATE orders_history_origin SET origin = origin + 1000000").await;
    let id = create(&app.client, "{}").await;
    let paths = [of_user(), format!("/orders/{id}/events")];
    let (mut streams, mut last) = (Vec::new(), String::new());
    for path in &paths {
        let mut stream = Stream::open(app.address, path, Some("0-1")).await;
        let events = stream.take(2).await;
        let by: Vec<String> = events.iter().map(|event| event.summary().2).collect();
        assert_eq!(by, ["create", "worker"]);
        last.clone_from(&events[1].id);
        streams.push(stream);
    }
    let other = app.connect().await;
    other.batch_execute("BEGIN; LOCK TABLE orders_history").await.unwrap();
    // A client that reconnects meanwhile reads from an offset, and up to one, that are both lost after the restore.
    streams.push(Stream::open(app.address, &paths[0], Some(&last)).await);
    until("the notifier and that stream to wait", async || {
        let sql = "SELECT 1 FROM pg_locks WHERE relation = 'orders_history'::regclass AND NOT granted";
        (app.connect().await.query(sql, &[]).await.unwrap().len() >= 2).then_some(())
    })
    .await;
    // This is the state after the restore of a backup that is a million transactions old.
    other
        .batch_execute(
            "UPDATE orders_history_origin SET origin = origin - 1000000;
             UPDATE orders_history SET place = place - 1000000;
             UPDATE orders SET history_place = history_place - 1000000;
             COMMIT",
        )
        .await
        .unwrap();
    for stream in &mut streams {
        stream.until_gap().await;
    }
    let update = format!(r#"{{"order_id":"{id}","payload":{{}}}}"#);
    assert_eq!(app.client.post("/orders", update).await.status, 200);
    for stream in &mut streams {
        let events: Vec<(i64, String)> =
            stream.take(2).await.iter().map(StreamEvent::change).map(|it| (it.0, it.1)).collect();
        assert_eq!(events, [(2, "update".to_owned()), (2, "worker".to_owned())]);
    }
    app.finish().await;
}

/// The notifier reads a change from one server, and the stream reads from another that does not have it yet.
#[tokio::test]
async fn a_stream_on_a_lagging_server_misses_no_event() {
    let (lags, reads) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let (is_behind, counter) = (Arc::clone(&lags), Arc::clone(&reads));
    let hook: Hook = Arc::new(move |point| {
        if point != Point::Follow || !is_behind.load(Ordering::Relaxed) {
            return Pass::On;
        }
        counter.fetch_add(1, Ordering::Relaxed);
        Pass::Withheld
    });
    let folder = TempDir::new().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let system =
        System::hooked(&settings(folder.path()), Arc::new(AmountProcessor::default()), listener, hook);
    let id = create(&system.client, "{}").await;
    let mut stream = Stream::open(system.address, &format!("/orders/{id}/events"), None).await;
    let newest = &stream.take(1).await[0];
    assert_eq!(newest.change(), (1, "worker".to_owned(), "done".to_owned()));
    lags.store(true, Ordering::Relaxed);
    let update = format!(r#"{{"order_id":"{id}","payload":[]}}"#);
    assert_eq!(system.post(update).await.status, 200);
    // The stream was called, has found no event, and reads again.
    until("a stream that reads again", async || (reads.load(Ordering::Relaxed) >= 3).then_some(())).await;
    lags.store(false, Ordering::Relaxed);
    let changes: Vec<_> = stream.take(2).await.iter().map(StreamEvent::change).collect();
    let expected = [("update", "processing"), ("worker", "done")];
    assert_eq!(changes, expected.map(|(by, status)| (2, by.to_owned(), status.to_owned())));
    drop(stream);
    system.stop().await;
}

/// Another service changes an order very often, without a new version.
async fn a_long_version_is_paged_to_its_end(app: TestApp) {
    let id = create(&app.client, "{}").await;
    let order_id = OrderId::parse(&id).expect("an id");
    let began: Timestamp = "2100-01-01T00:00:00Z".parse().expect("a time");
    for second in 0..MAX_PAGE_EVENTS {
        let precondition = Precondition::Unversioned(began + Duration::from_secs(second as u64));
        let event =
            Completion { order_id, precondition, status: Status::Cancelled, amount: None, reason: None };
        assert_eq!(app.store.complete([event].into()).await, Ok(vec![Completed::Applied]));
    }
    let (mut path, mut entries, mut pages) = (format!("/orders/{id}/history?limit=1"), Vec::new(), 0);
    loop {
        let answer = app.client.get(&path).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        let page: Vec<Box<RawValue>> =
            serde_json::from_str(&member(answer.text(), "history")).expect("a list of entries");
        entries.extend(page);
        pages += 1;
        if !names(answer.text()).contains(&"next_cursor".to_owned()) {
            break;
        }
        path = format!("/orders/{id}/history?limit=1&cursor={}", member(answer.text(), "next_cursor"));
    }
    // The creation and its outcome are one entry.
    assert_eq!((entries.len(), pages), (1 + MAX_PAGE_EVENTS, 2));
    assert!(entries.iter().all(|entry| member(entry.get(), "version") == "1"));
    app.finish().await;
}

#[tokio::test]
async fn a_history_with_a_long_version_is_paged_to_its_end() {
    a_long_version_is_paged_to_its_end(TestApp::embedded().start().await).await;
}

#[tokio::test]
async fn a_history_with_a_long_version_on_postgres_is_paged_to_its_end() {
    a_long_version_is_paged_to_its_end(TestApp::embedded().start_on_postgres().await).await;
}

/// A service with a history retention of a millisecond.
fn short_retention() -> Setup {
    TestApp::embedded().settings(|settings| settings.history_retention = Duration::from_millis(1))
}

async fn drops_its_history(app: TestApp) {
    let id = create(&app.client, r#"{"amount":7}"#).await;
    let before = order(&app.client, &id).await;
    // The retention job runs for the first time when the process starts.
    let app = app.restart().await;
    let path = format!("/orders/{id}/history");
    until("the history events to be dropped", async || {
        (member(app.client.get(&path).await.text(), "history") == "[]").then_some(())
    })
    .await;
    assert_eq!(order(&app.client, &id).await, before);

    // Followers whose offset is before the dropped events get one gap event, and then all later events.
    for path in [of_user(), format!("/orders/{id}/events")] {
        let answer = Stream::open(app.address, &path, Some("0-1")).await;
        let (after, upto) = answer.gap.clone().expect("a gap event for the dropped events");
        assert_eq!(after, "0-1");
        let reconnected = Stream::open(app.address, &path, Some(&upto)).await;
        assert_eq!((reconnected.gap, reconnected.start), (None, Some(upto)));
    }
    app.finish().await;
}

#[tokio::test]
async fn an_old_history_is_dropped_and_the_orders_stay() {
    drops_its_history(short_retention().start().await).await;
}

#[tokio::test]
async fn an_old_history_on_postgres_is_dropped_and_the_orders_stay() {
    drops_its_history(short_retention().start_on_postgres().await).await;
}
