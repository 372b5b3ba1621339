//! The service with a cache. Reads are monotonic across clients: after an answer about an order, no later read shows an
//! older state. The tests use a cache that never drops anything by itself, and a Redis that fails in many ways while
//! many callers read and write.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use orderstream::cache::{Cache, Lease, RedisCache};
use orderstream::config::Settings;
use orderstream::order::{Command, CommandRequest, Order, OrderId, Status};
use orderstream::worker::AmountProcessor;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::clients::answers::{create, member, order, problem};
use crate::clients::http::Client;
use crate::faults::hooks::{Hook, Pass, Point};
use crate::harness::app::TestApp;
use crate::harness::caches::{Counting, PermanentCache};
use crate::harness::processors::Gate;
use crate::harness::redis::{OwnRedis, in_use};
use crate::harness::system::{System, outcome, settings, update};
use crate::harness::wait::{until, within};
use crate::store::conformance::{complete, deletion, done};

/// The status and the version of an order, as a caller reads them; an [`PermanentCache`] keeps the order after that.
async fn state(client: &Client, id: &str) -> (String, String) {
    let order = order(client, id).await;
    (member(&order, "status"), member(&order, "version"))
}

fn is(status: Status, version: u64) -> (String, String) {
    (status.to_string(), version.to_string())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_sees_the_result_of_the_worker_after_its_ack() {
    let gate = Gate::shut();
    let setup =
        TestApp::embedded().cache(Arc::new(PermanentCache::default())).processor(Arc::<Gate>::clone(&gate));
    let app = setup.settings(|settings| settings.ack_wait = false).start().await;
    let id = create(&app.client, r#"{"amount":1}"#).await;
    assert_eq!(state(&app.client, &id).await, is(Status::New, 1));
    // The answer comes as soon as the update is durable, and a read shows it.
    app.client.post("/orders", update(&id, r#"{"amount":2}"#)).await;
    assert_eq!(state(&app.client, &id).await, is(Status::Processing, 2));
    gate.open();
    app.journal.until(|traffic| traffic.acks_of(&id).len() == 2).await;
    assert_eq!(state(&app.client, &id).await, is(Status::Done, 2));
    app.client.post("/orders", format!(r#"{{"order_id":"{id}","status":"deleted"}}"#)).await;
    assert_eq!(state(&app.client, &id).await, is(Status::Deleted, 2 + 1));
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redelivery_drops_the_stale_copy_of_a_killed_worker() {
    let cache = Arc::new(PermanentCache::default());
    let app = TestApp::embedded().cache(Arc::<PermanentCache>::clone(&cache)).start().await;
    let id = create(&app.client, r#"{"amount":1}"#).await;
    let traffic = app.journal.until(|traffic| !traffic.acks_of(&id).is_empty()).await;
    // The cache keeps the old state of the order: the worker was killed between its write and the invalidation.
    let order_id = OrderId::parse(&id).unwrap();
    let done = app.store.get(order_id).await.unwrap().unwrap();
    assert_eq!(done.status, Status::Done);
    let old = Order { status: Status::New, processed_version: 0, ..done };
    cache.fill(Lease { order_id, token: [0; 32] }, &old).await;
    assert_eq!(state(&app.client, &id).await, is(Status::New, 1));
    app.bus.feed(traffic.events_of(&id).remove(0), 1).await;
    assert_eq!(state(&app.client, &id).await, is(Status::Done, 1));
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_refused_because_of_a_deletion_sees_the_order_deleted() {
    let app = TestApp::embedded().cache(Arc::new(PermanentCache::default())).start().await;
    let id = create(&app.client, r#"{"amount":1}"#).await;
    assert_eq!(state(&app.client, &id).await, is(Status::Done, 1));
    // Another process deletes the order, and has not invalidated it yet.
    let order_id = OrderId::parse(&id).unwrap();
    app.store.apply(Arc::new([deletion(order_id).into()])).await.unwrap();
    let answer = app.client.post("/orders", update(&id, "{}")).await;
    assert_eq!(answer.status, 409, "{answer:?}");
    assert_eq!(state(&app.client, &id).await, is(Status::Deleted, 2));
    complete(&*app.store, done(order_id, 2, "1")).await;
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_answered_from_the_store_sees_the_order_done() {
    let setup = TestApp::embedded().cache(Arc::new(PermanentCache::default())).without_worker();
    let app = setup.start().await;
    let client = Client::new(app.address);
    let creating = tokio::spawn(async move { create(&client, r#"{"amount":7}"#).await });
    let id = until("the commit", async || {
        let page = app.store.pending(app.store.now().await.unwrap(), None, 1).await.unwrap();
        page.events.first().map(|event| event.order_id.unwrap())
    })
    .await;
    assert_eq!(state(&app.client, &id.to_string()).await, is(Status::New, 1));
    // Another process completes the order, and has neither invalidated it nor sent its ACK.
    complete(&*app.store, done(id, 1, "7")).await;
    assert_eq!(within("the answer", creating).await.unwrap(), id.to_string());
    assert_eq!(state(&app.client, &id.to_string()).await, is(Status::Done, 1));
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_an_unknown_outcome_a_read_shows_the_state_of_the_store() {
    let folder = TempDir::new().unwrap();
    let hook: Hook = Arc::new(|point| match point {
        Point::Commit([CommandRequest { command: Command::Update { .. }, .. }]) => Pass::OutcomeLost,
        _ => Pass::On,
    });
    let system = cached(&settings(folder.path()), hook).await;
    let id = create(&system.client, r#"{"amount":1}"#).await;
    assert_eq!(state(&system.client, &id).await, is(Status::Done, 1));
    problem(&system.post(update(&id, r#"{"amount":2}"#)).await, "outcome_unknown");
    let (_, version) = state(&system.client, &id).await;
    assert_eq!(version, "2");
    system.processed(&id).await;
    system.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_order_whose_event_is_refused_is_shown_as_failed() {
    let folder = TempDir::new().unwrap();
    let gate = watch::Sender::new(false);
    let seen = gate.subscribe();
    let hook: Hook = Arc::new(move |point| match point {
        // Withheld until the cache has the state before the failure.
        Point::Publish(_) if *seen.borrow() => Pass::Refused,
        Point::Publish(_) => Pass::Withheld,
        _ => Pass::On,
    });
    let system = cached(&Settings { ack_wait: false, ..settings(folder.path()) }, hook).await;
    let id = create(&system.client, "{}").await;
    assert_eq!(state(&system.client, &id).await, is(Status::New, 1));
    gate.send_replace(true);
    until("the sweep", async || (state(&system.client, &id).await == is(Status::Failed, 1)).then_some(()))
        .await;
    system.stop().await;
}

async fn cached(settings: &Settings, hook: Hook) -> System {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let cache = Arc::new(PermanentCache::default());
    System::cached(settings, Arc::new(AmountProcessor::default()), listener, hook, cache)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unavailable_cache_is_reported_and_does_not_affect_readiness() {
    let redis = OwnRedis::start().await;
    let cache = redis.cache().await;
    let app = TestApp::embedded().cache(Arc::<RedisCache>::clone(&cache)).start().await;
    // The server reuses the result of a check for a moment.
    let ready = async |expected: &str| {
        until("the state of the cache", async || {
            let answer = app.client.get("/health/ready").await;
            assert_eq!(answer.status, 200, "{answer:?}");
            (answer.text() == expected).then_some(())
        })
        .await;
    };
    let all = r#"{"status":"ready","store":"ok","bus":"ok","cache":"ok"}"#;
    ready(all).await;
    redis.kill().await;
    ready(r#"{"status":"degraded","store":"ok","bus":"ok","cache":"not available"}"#).await;
    redis.start_again().await;
    in_use(&*cache).await;
    ready(all).await;
    app.finish().await;
}

/// How many orders are written and read at the same time.
const ORDERS: usize = 4;

/// Callers that update orders, callers that read them, and the confirmed updates.
struct Crowd {
    client: Client,
    ids: Vec<String>,
    /// The newest step of each order that was confirmed as processed.
    confirmed: Vec<AtomicU64>,
    writes: AtomicU64,
    reads: AtomicU64,
    stop: watch::Sender<bool>,
}

impl Crowd {
    async fn write(self: Arc<Self>, index: usize) {
        let mut step = 0;
        while !*self.stop.borrow() {
            step += 1;
            let body = update(&self.ids[index], &format!(r#"{{"step":{step}}}"#));
            assert_eq!(outcome(&self.client.post("/orders", body).await), (200, "updated".to_owned()));
            self.confirmed[index].store(step, Ordering::SeqCst);
            self.writes.fetch_add(1, Ordering::SeqCst);
        }
    }

    async fn read(self: Arc<Self>, index: usize) {
        while !*self.stop.borrow() {
            let confirmed = self.confirmed[index].load(Ordering::SeqCst);
            let order = order(&self.client, &self.ids[index]).await;
            let step: u64 = member(&member(&order, "payload"), "step").parse().unwrap();
            assert!(step >= confirmed, "step {step} is shown after {confirmed} was confirmed: {order}");
            assert!(
                step > confirmed || member(&order, "status") == "done",
                "{confirmed} was processed before the read: {order}"
            );
            self.reads.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// Waits until both counts have grown.
    async fn wait_for_progress(&self) {
        let counts = [&self.writes, &self.reads];
        let goals = counts.map(|count| count.load(Ordering::SeqCst) + 50);
        until("more answers", async || {
            let reached = counts.iter().zip(goals).all(|(count, goal)| count.load(Ordering::SeqCst) >= goal);
            reached.then_some(())
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reads_are_monotonic_while_redis_fails() {
    let redis = OwnRedis::start().await;
    let cache = Arc::new(Counting { inner: redis.short_timeout_cache().await, hits: AtomicU64::new(0) });
    let app = TestApp::embedded().cache(Arc::<Counting>::clone(&cache)).start().await;
    let mut ids = Vec::new();
    for _ in 0..ORDERS {
        ids.push(create(&app.client, r#"{"step":0}"#).await);
    }
    let crowd = Arc::new(Crowd {
        client: Client::new(app.address),
        ids,
        confirmed: (0..ORDERS).map(|_| AtomicU64::new(0)).collect(),
        writes: AtomicU64::new(0),
        reads: AtomicU64::new(0),
        stop: watch::Sender::new(false),
    });
    let mut callers = JoinSet::new();
    for index in 0..ORDERS {
        callers.spawn(Arc::clone(&crowd).write(index));
        callers.spawn(Arc::clone(&crowd).read(index));
        callers.spawn(Arc::clone(&crowd).read(index));
    }
    let works_again = async || {
        let hits = cache.hits.load(Ordering::Relaxed);
        until("hits", async || (cache.hits.load(Ordering::Relaxed) > hits + 20).then_some(())).await;
    };
    let failures = async {
        for _ in 0..2 {
            works_again().await;
            redis.kill().await;
            crowd.wait_for_progress().await;
            redis.start_again().await;
            works_again().await;
            redis.pause().await;
            crowd.wait_for_progress().await;
            redis.resume().await;
            works_again().await;
            for _ in 0..20 {
                let () = redis.command(&["FLUSHALL"]).await;
                crowd.wait_for_progress().await;
            }
            works_again().await;
            let () = redis.command(&["CONFIG", "SET", "maxmemory", "1"]).await;
            crowd.wait_for_progress().await;
            let () = redis.command(&["CONFIG", "SET", "maxmemory", "0"]).await;
        }
        works_again().await;
    };
    tokio::select! {
        () = failures => {}
        Some(ended) = callers.join_next() => ended.expect("a caller that gets its answers"),
    }
    crowd.stop.send_replace(true);
    within("the callers", callers.join_all()).await;
    app.finish().await;
}
