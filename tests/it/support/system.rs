//! The whole system inside the test's own process, on a data folder and a port of its own, with what a test
//! needs to make trouble: a gate before the processor, a record of every event, and a way to the bus.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use orderstream::app::{self, Parts};
use orderstream::bus::local::LocalBus;
use orderstream::bus::{Record, Source};
use orderstream::config::Settings;
use orderstream::order::{Amount, Event, Order, OrderId, Version};
use orderstream::service::{AmountProcessor, ProcessError, Processor};
use orderstream::store::Store;
use orderstream::store::sqlite::SqliteStore;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::hooks::{Hook, HookedBus, HookedStore, Pass, Point};
use super::wire::{Answer, Wire};
use super::{USER, until, within};

/// The dead-letter file in a system's folder.
pub(crate) const DEAD_LETTERS: &str = "orders.events.dlq.jsonl";

/// A running system.
pub(crate) struct System {
    pub(crate) address: SocketAddr,
    pub(crate) store: Arc<SqliteStore>,
    pub(crate) bus: Arc<LocalBus>,
    pub(crate) gate: Gate,
    pub(crate) history: History,
    stop: CancellationToken,
    running: JoinHandle<anyhow::Result<()>>,
}

/// Holds the worker back, at the point where it would process an order.
#[derive(Clone)]
pub(crate) struct Gate {
    open: watch::Sender<bool>,
    /// The newest version that came to the gate.
    reached: watch::Sender<Version>,
}

/// Every event that was published, in its order.
#[derive(Clone)]
pub(crate) struct History {
    events: watch::Sender<Vec<Event>>,
    withheld: watch::Sender<bool>,
}

/// The settings of a system in a folder; a test changes what it is about.
pub(crate) fn settings(folder: &Path) -> Settings {
    Settings {
        data_dir: folder.to_owned(),
        api_port: 0,
        shutdown_timeout: Duration::from_secs(10),
        ..Settings::default()
    }
}

impl System {
    /// Starts a system with the default settings.
    pub(crate) async fn start(folder: &Path) -> System {
        System::with(&settings(folder)).await
    }

    /// Starts a system with these settings.
    pub(crate) async fn with(settings: &Settings) -> System {
        let history = History { events: watch::Sender::default(), withheld: watch::Sender::default() };
        let (events, withheld) = (history.events.clone(), history.withheld.clone());
        let hook: Hook = Arc::new(move |point| {
            if let Point::Publish(batch) = point {
                events.send_modify(|events| events.extend_from_slice(batch));
            }
            if *withheld.borrow() { Pass::Withheld } else { Pass::On }
        });
        System::hooked(settings, hook, history).await
    }

    /// Starts a system that ends where the hook says.
    pub(crate) async fn doomed(settings: &Settings, hook: Hook) -> System {
        let history = History { events: watch::Sender::default(), withheld: watch::Sender::default() };
        System::hooked(settings, hook, history).await
    }

    async fn hooked(settings: &Settings, hook: Hook, history: History) -> System {
        let store = Arc::new(SqliteStore::open(&settings.data_dir).expect("the folder is free and whole"));
        let dead_letters = settings.data_dir.join(DEAD_LETTERS);
        let bus = LocalBus::open(&dead_letters, &settings.orders_events_topic, 32 << 20).expect("a bus");
        let gate = Gate { open: watch::Sender::new(true), reached: watch::Sender::default() };
        let parts = Parts {
            store: Arc::new(HookedStore {
                inner: Arc::<SqliteStore>::clone(&store),
                hook: Arc::clone(&hook),
            }),
            bus: Arc::new(HookedBus { inner: Arc::<LocalBus>::clone(&bus), hook }),
            processor: Arc::new(gate.clone()),
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("a port");
        let stop = CancellationToken::new();
        let (settings, token) = (settings.clone(), stop.clone());
        let running = tokio::spawn(async move { app::up(parts, listener, &settings, token).await });
        System { address, store, bus, gate, history, stop, running }
    }

    /// Sends one request on a connection of its own.
    pub(crate) async fn post(&self, body: &str) -> Answer {
        post(self.address, body).await
    }

    /// Creates an order and answers its id.
    pub(crate) async fn create(&self, payload: &str) -> String {
        let answer = self.post(&format!(r#"{{"user_id":"{USER}","payload":{payload}}}"#)).await;
        assert_eq!(answer.status, 201, "{answer:?}");
        answer.text("order_id")
    }

    /// Updates an order.
    pub(crate) async fn update(&self, id: &str, payload: &str) {
        let answer = self.post(&update(id, payload)).await;
        assert_eq!((answer.status, answer.text("status").as_str()), (200, "updated"));
    }

    /// Deletes an order.
    pub(crate) async fn delete(&self, id: &str) {
        let answer = self.post(&deletion(id)).await;
        assert_eq!((answer.status, answer.text("status").as_str()), (200, "deleted"));
    }

    /// Sends a request that the test goes on without.
    pub(crate) fn posting(&self, body: String) -> JoinHandle<Answer> {
        let address = self.address;
        tokio::spawn(async move { post(address, &body).await })
    }

    /// Hands the worker a record from outside, and waits until it has been dealt with.
    pub(crate) async fn feed(&self, (source, record): (Source, Record)) {
        within("a record to be dealt with", self.bus.feed(source, record)).await.expect("it is settled");
    }

    /// The order as it is.
    pub(crate) async fn get(&self, id: &str) -> Order {
        let id = OrderId::parse(id).expect("an id");
        self.store.get(id).await.expect("the store can be read").expect("it is there")
    }

    /// The order, when the worker has dealt with its newest version.
    pub(crate) async fn processed(&self, id: &str) -> Order {
        until("the worker", async || Some(self.get(id).await).filter(|order| !order.is_pending())).await
    }

    /// Stops the system in order.
    pub(crate) async fn stop(self) {
        self.stop.cancel();
        within("the stop", self.running).await.expect("no panic").expect("no failure");
    }
}

/// The request that updates an order.
pub(crate) fn update(id: &str, payload: &str) -> String {
    format!(r#"{{"order_id":"{id}","payload":{payload}}}"#)
}

/// The request that deletes an order.
pub(crate) fn deletion(id: &str) -> String {
    format!(r#"{{"order_id":"{id}","status":"deleted"}}"#)
}

async fn post(address: SocketAddr, body: &str) -> Answer {
    let mut wire = Wire::connect(address).await.expect("it listens");
    within("an answer", wire.post(body)).await.expect("an answer")
}

impl Gate {
    /// Lets nothing pass any more.
    pub(crate) fn close(&self) {
        self.open.send_replace(false);
    }

    /// Lets everything pass.
    pub(crate) fn open(&self) {
        self.open.send_replace(true);
    }

    /// Waits until the worker has come to the gate with that version of an order.
    pub(crate) async fn reached(&self, version: Version) {
        let mut reached = self.reached.subscribe();
        within("the worker", reached.wait_for(|reached| *reached == version)).await.expect("the gate lives");
    }
}

#[async_trait]
impl Processor for Gate {
    async fn process(&self, event: &Event) -> Result<Amount, ProcessError> {
        // The gate outlives its processor, which holds it.
        self.reached.send_replace(event.version.unwrap_or_default());
        let _ = self.open.subscribe().wait_for(|open| *open).await;
        AmountProcessor.process(event).await
    }
}

impl History {
    /// The events so far.
    pub(crate) fn events(&self) -> Vec<Event> {
        self.events.borrow().clone()
    }

    /// Keeps events from the worker from now on.
    pub(crate) fn withhold(&self) {
        self.withheld.send_replace(true);
    }

    /// Waits until so many events have been published. Whoever waits for their ACKs is registered by then.
    pub(crate) async fn reached(&self, count: usize) -> Vec<Event> {
        let mut events = self.events.subscribe();
        let seen = within("events", events.wait_for(|events| events.len() >= count)).await;
        seen.expect("the history lives").clone()
    }
}
