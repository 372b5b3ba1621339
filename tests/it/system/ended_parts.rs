//! A thread or a task on which a role depends ends by itself. The process does not continue without it: it stops in
//! order, and fails with the name of the component.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use orderstream::app::{self, Backends};
use orderstream::bus::kafka::KafkaBus;
use orderstream::bus::local::LocalBus;
use orderstream::bus::{
    AckSink, Bus, Confirmations, Delivery, PublishError, Reply, SubscribeError, Subscription,
};
use orderstream::cache::NoCache;
use orderstream::config::Settings;
use orderstream::order::{Ack, AckStatus, Event};
use orderstream::store::Store;
use orderstream::store::sqlite::SqliteStore;
use orderstream::worker::AmountProcessor;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::bus::conformance::ack;
use crate::clients::USER;
use crate::clients::http::Client;
use crate::faults::hooks::{Hook, HookedBus, HookedStore, Pass, Point};
use crate::harness::kafka::{TestTopics, ready};
use crate::harness::ledger;
use crate::harness::system::settings;
use crate::harness::wait::within;

/// The in-process bus, whose deliveries end after the first ones.
struct Ending(Arc<LocalBus>);

struct EndingSubscription(Option<Box<dyn Subscription>>);

#[async_trait]
impl Subscription for EndingSubscription {
    async fn next(&mut self, limit: usize) -> Option<Vec<Delivery>> {
        self.0.take()?.next(limit).await
    }
}

#[async_trait]
impl Bus for Ending {
    async fn publish(&self, batch: Vec<Event>) -> Confirmations {
        self.0.publish(batch).await
    }

    fn confirms_processing(&self) -> bool {
        true
    }

    async fn subscribe(&self) -> Result<Box<dyn Subscription>, SubscribeError> {
        Ok(Box::new(EndingSubscription(Some(self.0.subscribe().await?))))
    }

    async fn settle(&self, deliveries: Vec<Delivery>) {
        self.0.settle(deliveries).await;
    }

    async fn reject(&self, delivery: Delivery, reason: &str) -> Result<(), PublishError> {
        self.0.reject(delivery, reason).await
    }

    async fn acknowledge(&self, replies: Vec<Reply>) -> Result<(), PublishError> {
        self.0.acknowledge(replies).await
    }

    fn on_acks(&self, sink: Arc<dyn AckSink>) {
        self.0.on_acks(sink);
    }

    async fn dead_letters(&self) -> Result<u64, PublishError> {
        self.0.dead_letters().await
    }

    async fn check(&self) -> Result<(), PublishError> {
        self.0.check().await
    }
}

/// The backends of a process in a folder.
fn backends(folder: &TempDir, hook: Hook) -> (Backends, Arc<LocalBus>) {
    let bus = LocalBus::open(&folder.path().join("dlq"), "orders.events", 1 << 20).unwrap();
    let store: Arc<dyn Store> = Arc::new(SqliteStore::open(folder.path()).unwrap());
    let backends = Backends {
        store: Arc::new(HookedStore { inner: store, hook: Arc::clone(&hook) }),
        bus: Arc::new(HookedBus { inner: Arc::<LocalBus>::clone(&bus), hook }),
        cache: Arc::new(NoCache),
        processor: Arc::new(AmountProcessor::default()),
    };
    (backends, bus)
}

/// Settings with short limits: the caller of the order waits for a component that has ended.
fn short_limits(folder: &TempDir) -> Settings {
    let limit = Duration::from_millis(500);
    Settings { ack_wait_timeout: limit, shutdown_timeout: limit, ..settings(folder.path()) }
}

/// Runs both roles until they end by themselves, sends one order meanwhile, and answers why they ended.
async fn failure(folder: &TempDir, backends: Backends) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = Client::new(listener.local_addr().unwrap());
    let settings = short_limits(folder);
    let stop = CancellationToken::new();
    let running = tokio::spawn(async move { app::up(backends, listener, &settings, stop).await });
    let body = format!(r#"{{"user_id":"{USER}","payload":{{"amount":"7.00"}}}}"#);
    let caller = tokio::spawn(async move { client.post("/orders", body).await });
    let ended = within("the end of the process", running).await.expect("the process does not panic");
    caller.abort();
    format!("{:#}", ended.expect_err("an end without a stop is a failure"))
}

#[tokio::test]
async fn a_consumer_that_ends_without_a_stop_fails_the_process() {
    let folder = TempDir::new().unwrap();
    let (mut backends, bus) = backends(&folder, Arc::new(|_| Pass::On));
    backends.bus = Arc::new(Ending(bus));
    let failure = failure(&folder, backends).await;
    assert!(failure.contains("the worker failed: the consumer of the events ended"), "{failure}");
    // Accepted orders are stored, and the folder is free again.
    assert_eq!(ledger::orders(folder.path()).await.len(), 1);
}

#[tokio::test]
async fn a_task_of_the_service_that_panics_fails_the_process() {
    for publishes in [true, false] {
        let folder = TempDir::new().unwrap();
        let panicked = AtomicBool::new(false);
        let (backends, _) = backends(
            &folder,
            Arc::new(move |point| {
                let is_due = match point {
                    Point::Publish(_) => publishes,
                    Point::Commit(_) => !publishes,
                    _ => false,
                };
                assert!(!is_due || panicked.swap(true, Ordering::SeqCst), "by a test");
                Pass::On
            }),
        );
        let failure = failure(&folder, backends).await;
        assert!(failure.contains("the api failed: a background task of the service ended"), "{failure}");
    }
}

#[tokio::test]
async fn a_worker_that_panics_fails_the_process() {
    let folder = TempDir::new().unwrap();
    let (backends, _) = backends(
        &folder,
        Arc::new(|point| {
            assert!(point != Point::Record, "by a test");
            Pass::On
        }),
    );
    let failure = failure(&folder, backends).await;
    assert!(failure.contains("the worker failed: it panicked"), "{failure}");
}

/// A sink that panics on the thread that reads ACKs.
struct Panicking;

impl AckSink for Panicking {
    fn acked(&self, _: Vec<Ack>) {
        panic!("by a test");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_of_acks_that_panics_fails_the_process() {
    let mut test_topics = TestTopics::new();
    test_topics.options.ack_partitions = 1;
    let bus = KafkaBus::open(test_topics.options.clone()).unwrap();
    bus.on_acks(Arc::new(Panicking));
    ready(&*bus).await;
    let folder = TempDir::new().unwrap();
    let (mut backends, _) = backends(&folder, Arc::new(|_| Pass::On));
    backends.bus = Arc::<KafkaBus>::clone(&bus);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let settings = short_limits(&folder);
    let stop = CancellationToken::new();
    let running = tokio::spawn(async move { app::up(backends, listener, &settings, stop).await });
    // The ACK comes from another bus, because a bus passes its own ACKs to its sink directly.
    let other = test_topics.bus().await;
    let replies = vec![Reply { ack: ack(Some(1), AckStatus::Processed), to: Some(0) }];
    other.acknowledge(replies).await.unwrap();
    let ended = within("the end of the process", running).await.expect("the process does not panic");
    let failure = format!("{:#}", ended.expect_err("a thread that ended is a failure"));
    assert!(failure.contains("the backends failed: the ACK listener ended by itself"), "{failure}");
}
