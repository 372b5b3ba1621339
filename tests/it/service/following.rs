//! Following orders through restarts: of the one process there is, and of one of several while clients write at another
//! and the follower's own is stopped and killed. And what retention has dropped is gone, and nothing else.

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

/// Each step of each order, in the order in which they came.
fn by_order(told: &[StreamEvent]) -> BTreeMap<String, Vec<(i64, String)>> {
    let mut orders: BTreeMap<String, Vec<(i64, String)>> = BTreeMap::new();
    for one in told {
        let (id, version, by, _) = one.summary();
        orders.entry(id).or_default().push((version, by));
    }
    orders
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_goes_on_while_processes_come_and_go_and_others_write() {
    const WRITERS: usize = 4;
    const ORDERS: usize = 30;
    const STEPS: usize = WRITERS * ORDERS * 4;
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

    // What the first process wrote is told by the second, which stops in order in the middle of it.
    let mut told = stream.take(STEPS / 8).await;
    let followed = cluster.take_out_api(1);
    followed.stop().await;
    while let Some(one) = stream.next().await {
        told.push(one);
    }
    cluster.start_api().await;
    let last = told[told.len() - 1].id.clone();
    let mut stream = Stream::open(cluster.apis[1].address(), &of_user(), Some(&last)).await;
    told.extend(stream.take(STEPS / 8).await);
    // The next one is killed; the rest is told by the process that is written to.
    cluster.take_out_api(1).kill_9().await;
    let last = told[told.len() - 1].id.clone();
    let mut stream = Stream::open(cluster.apis[0].address(), &of_user(), Some(&last)).await;
    told.extend(stream.take(STEPS - told.len()).await);

    let orders = by_order(&told);
    assert_eq!(orders.len(), WRITERS * ORDERS);
    let life = [(1, "create"), (1, "worker"), (2, "update"), (2, "worker")];
    for steps in orders.values() {
        assert_eq!(*steps, life.map(|(version, by)| (version, by.to_owned())));
    }
    let mut made: Vec<(OrderId, &str)> = Vec::new();
    for writer in writers {
        made.extend(writer.await.expect("a writer that does not fail"));
    }
    assert_eq!(cluster.finish(&made, 0).await.len(), WRITERS * ORDERS);
}

async fn comes_back_after_a_restart(app: TestApp) {
    let mut stream = Stream::open(app.address, &of_user(), None).await;
    let first = create(&app.client, "{}").await;
    let told = stream.take(1).await;
    let app = app.restart().await;
    let second = create(&app.client, "{}").await;
    let mut stream = Stream::open(app.address, &of_user(), Some(&told[0].id)).await;
    let rest = stream.take(3).await;
    let steps = [told, rest]
        .concat()
        .iter()
        .map(StreamEvent::summary)
        .map(|(id, _, by, _)| (id, by))
        .collect::<Vec<_>>();
    let expected = [(&first, "create"), (&first, "worker"), (&second, "create"), (&second, "worker")];
    assert_eq!(steps, expected.map(|(id, by)| (id.clone(), by.to_owned())));
    app.finish().await;
}

#[tokio::test]
async fn whoever_comes_back_after_a_restart_has_missed_nothing() {
    comes_back_after_a_restart(TestApp::embedded().start().await).await;
}

#[tokio::test]
async fn whoever_comes_back_after_a_restart_on_postgres_has_missed_nothing() {
    comes_back_after_a_restart(TestApp::embedded().start_on_postgres().await).await;
}

/// What became of a version of the order, among what a stream tells from now on.
async fn told_of(stream: &mut Stream, version: i64) -> Vec<String> {
    let mut by: Vec<String> = Vec::new();
    while by.last().is_none_or(|by| by != "worker") {
        let (_, of, cause, _) = stream.next().await.expect("a stream that goes on").summary();
        if of == version {
            by.push(cause);
        }
    }
    by
}

/// Changes the order, and answers what the stream tells of it.
async fn told_of_an_update(app: &TestApp, id: &str, version: i64, stream: &mut Stream) -> Vec<String> {
    let update = format!(r#"{{"order_id":"{id}","payload":{{}}}}"#);
    assert_eq!(app.client.post("/orders", update).await.status, 200);
    told_of(stream, version).await
}

/// A client with a place that this history has not come to is told so, and then all that happens.
async fn tells_that_a_place_is_not_known(app: TestApp) {
    let id = create(&app.client, "{}").await;
    for (path, version) in [(of_user(), 2), (format!("/orders/{id}/events"), 3)] {
        let beyond = "9000000000000000000-7";
        let mut stream = Stream::open(app.address, &path, Some(beyond)).await;
        let (after, upto) = stream.gap.clone().expect("the word that the place is not known");
        assert_eq!(after, beyond);
        assert_eq!(told_of_an_update(&app, &id, version, &mut stream).await, ["update", "worker"]);
        let back = Stream::open(app.address, &path, Some(&upto)).await;
        assert_eq!((back.gap, back.start), (None, Some(upto)));
    }
    app.finish().await;
}

#[tokio::test]
async fn who_comes_with_a_place_that_was_never_given_out_is_told_so() {
    tells_that_a_place_is_not_known(TestApp::embedded().start().await).await;
}

#[tokio::test]
async fn who_comes_with_a_place_that_was_never_given_out_on_postgres_is_told_so() {
    tells_that_a_place_is_not_known(TestApp::embedded().start_on_postgres().await).await;
}

#[tokio::test]
async fn a_place_that_others_are_still_being_written_before_is_known() {
    let app = TestApp::embedded().start_on_postgres().await;
    // A step is read behind the transactions that began before it; the first step of an order's stream is not.
    let other = app.connect().await;
    other.batch_execute("BEGIN; SELECT pg_current_xact_id()").await.unwrap();
    let id = create(&app.client, "{}").await;
    let path = format!("/orders/{id}/events");
    let first = Stream::open(app.address, &path, None).await.take(1).await;
    let mut back = Stream::open(app.address, &path, Some(&first[0].id)).await;
    assert_eq!((&back.gap, &back.start), (&None, &Some(first[0].id.clone())));
    other.batch_execute("COMMIT").await.unwrap();
    assert_eq!(told_of_an_update(&app, &id, 2, &mut back).await, ["update", "worker"]);
    app.finish().await;
}

#[tokio::test]
async fn streams_go_on_where_a_backup_was_restored_meanwhile() {
    let app = TestApp::embedded().start_on_postgres().await;
    app.execute("UPDATE orders_history_origin SET origin = origin + 1000000").await;
    let id = create(&app.client, "{}").await;
    let paths = [of_user(), format!("/orders/{id}/events")];
    let (mut streams, mut last) = (Vec::new(), String::new());
    for path in &paths {
        let mut stream = Stream::open(app.address, path, Some("0-1")).await;
        let told = stream.take(2).await;
        let by: Vec<String> = told.iter().map(|told| told.summary().2).collect();
        assert_eq!(by, ["create", "worker"]);
        last.clone_from(&told[1].id);
        streams.push(stream);
    }
    let other = app.connect().await;
    other.batch_execute("BEGIN; LOCK TABLE orders_history").await.unwrap();
    // One who comes back meanwhile reads behind a place, and up to one, that are both lost then.
    streams.push(Stream::open(app.address, &paths[0], Some(&last)).await);
    until("the hub and that one to wait", async || {
        let sql = "SELECT 1 FROM pg_locks WHERE relation = 'orders_history'::regclass AND NOT granted";
        (app.connect().await.query(sql, &[]).await.unwrap().len() >= 2).then_some(())
    })
    .await;
    // As where all is back as it was a million transactions ago.
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
        let told: Vec<(i64, String)> =
            stream.take(2).await.iter().map(StreamEvent::change).map(|it| (it.0, it.1)).collect();
        assert_eq!(told, [(2, "update".to_owned()), (2, "worker".to_owned())]);
    }
    app.finish().await;
}

/// The process finds out of a change from one server, and a stream reads from another that does not have it yet.
#[tokio::test]
async fn a_stream_whose_server_lags_behind_misses_nothing() {
    let (lags, asked) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let (is_behind, counter) = (Arc::clone(&lags), Arc::clone(&asked));
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
    // It has been called, has found nothing, and asks again.
    until("a stream that asks again", async || (asked.load(Ordering::Relaxed) >= 3).then_some(())).await;
    lags.store(false, Ordering::Relaxed);
    let changes: Vec<_> = stream.take(2).await.iter().map(StreamEvent::change).collect();
    let expected = [("update", "processing"), ("worker", "done")];
    assert_eq!(changes, expected.map(|(by, status)| (2, by.to_owned(), status.to_owned())));
    drop(stream);
    system.stop().await;
}

/// Another service changes an order very often, and none of its changes is a version.
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

/// A service that keeps its history for as good as no time.
fn forgetful() -> Setup {
    TestApp::embedded().settings(|settings| settings.history_retention = Duration::from_millis(1))
}

async fn forgets_its_history(app: TestApp) {
    let id = create(&app.client, r#"{"amount":7}"#).await;
    let before = order(&app.client, &id).await;
    // The retention job's first turn comes at the start, whatever there was before it.
    let app = app.restart().await;
    let path = format!("/orders/{id}/history");
    until("the steps to be dropped", async || {
        (member(app.client.get(&path).await.text(), "history") == "[]").then_some(())
    })
    .await;
    assert_eq!(order(&app.client, &id).await, before);

    // Followers who were before what was dropped are told so, once; and then all that happens.
    for path in [of_user(), format!("/orders/{id}/events")] {
        let answer = Stream::open(app.address, &path, Some("0-1")).await;
        let (after, upto) = answer.gap.clone().expect("the word that steps are lost");
        assert_eq!(after, "0-1");
        let back = Stream::open(app.address, &path, Some(&upto)).await;
        assert_eq!((back.gap, back.start), (None, Some(upto)));
    }
    app.finish().await;
}

#[tokio::test]
async fn a_history_is_dropped_when_it_is_too_old_and_the_orders_stay() {
    forgets_its_history(forgetful().start().await).await;
}

#[tokio::test]
async fn a_history_on_postgres_is_dropped_when_it_is_too_old_and_the_orders_stay() {
    forgets_its_history(forgetful().start_on_postgres().await).await;
}
