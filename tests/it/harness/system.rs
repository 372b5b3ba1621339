//! A system for fault tests: both roles in the test's own process, as `app::up` runs them, on a data folder that the
//! test owns, so that another system or the real binary can continue with it. It has a hook before each call of the
//! store and the bus, a journal of all events, and a way to deliver records of other services to the worker.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use orderstream::api::Listeners;
use orderstream::app::{self, Backends};
use orderstream::bus::Record;
use orderstream::bus::local::LocalBus;
use orderstream::cache::{Cache, NoCache};
use orderstream::checker::verify::{Confirmed, Options, verify};
use orderstream::config::Settings;
use orderstream::order::{Event, Order, OrderId};
use orderstream::store::sqlite::SqliteStore;
use orderstream::store::{Maintenance, Orders};
use orderstream::worker::{AmountProcessor, Processor};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::clients::answers::member;
use crate::clients::http::{Answer, Client};
use crate::faults::hooks::{Hook, HookedBus, HookedStore, Pass};
use crate::harness::bus::{Journal, RecordingBus};
use crate::harness::records::Raw;
use crate::harness::wait::{until, within};

/// The dead-letter file in a system's folder.
pub(crate) const DEAD_LETTERS: &str = "orders.events.dlq.jsonl";

/// A running system.
pub(crate) struct System {
    pub(crate) address: SocketAddr,
    pub(crate) client: Arc<Client>,
    pub(crate) store: Arc<SqliteStore>,
    pub(crate) bus: Arc<LocalBus>,
    pub(crate) journal: Journal,
    folder: PathBuf,
    stop: CancellationToken,
    running: JoinHandle<anyhow::Result<()>>,
}

/// The settings of a system in a folder; a test changes those that it is about.
pub(crate) fn settings(folder: &Path) -> Settings {
    let shutdown_timeout = Duration::from_secs(10);
    let data_dir = folder.to_owned();
    Settings { data_dir, api_port: 0, history: true, shutdown_timeout, ..Settings::default() }
}

impl System {
    /// Starts a system with the default settings.
    pub(crate) async fn start(folder: &Path) -> System {
        System::with(&settings(folder), Arc::new(AmountProcessor::default())).await
    }

    /// Starts a system with these settings and this processor.
    pub(crate) async fn with(settings: &Settings, processor: Arc<dyn Processor>) -> System {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        System::hooked(settings, processor, listener, Arc::new(|_| Pass::On))
    }

    /// Starts a system with a hook.
    pub(crate) fn hooked(
        settings: &Settings,
        processor: Arc<dyn Processor>,
        listeners: impl Into<Listeners>,
        hook: Hook,
    ) -> System {
        System::cached(settings, processor, listeners, hook, Arc::new(NoCache))
    }

    /// Starts a system with a hook and a cache.
    pub(crate) fn cached(
        settings: &Settings,
        processor: Arc<dyn Processor>,
        listeners: impl Into<Listeners>,
        hook: Hook,
        cache: Arc<dyn Cache>,
    ) -> System {
        let store = Arc::new(SqliteStore::open(&settings.data_dir).expect("a folder that is free and whole"));
        let dead_letters = settings.data_dir.join(DEAD_LETTERS);
        let bus = LocalBus::open(&dead_letters, &settings.orders_events_topic, 32 << 20).expect("a bus");
        let journal = Journal::new();
        let recording = RecordingBus::new(Arc::clone(&bus), journal.clone());
        let backends = Backends {
            store: Arc::new(HookedStore {
                inner: Arc::<SqliteStore>::clone(&store),
                hook: Arc::clone(&hook),
            }),
            bus: Arc::new(HookedBus { inner: recording, hook }),
            cache,
            processor,
        };
        let listeners = listeners.into();
        let address = listeners.http.local_addr().expect("a listener's address");
        let (client, stop) = (Arc::new(Client::new(address)), CancellationToken::new());
        let (folder, settings, token) = (settings.data_dir.clone(), settings.clone(), stop.clone());
        let running = tokio::spawn(async move { app::up(backends, listeners, &settings, token).await });
        System { address, client, store, bus, journal, folder, stop, running }
    }

    /// `POST /orders`.
    pub(crate) async fn post(&self, body: String) -> Answer {
        self.client.post("/orders", body).await
    }

    /// A `POST /orders` that the test does not wait for yet.
    pub(crate) fn posting(&self, body: String) -> JoinHandle<Answer> {
        let client = Arc::clone(&self.client);
        tokio::spawn(async move { client.post("/orders", body).await })
    }

    /// Updates an order.
    pub(crate) async fn update(&self, id: &str, payload: &str) {
        assert_eq!(outcome(&self.post(update(id, payload)).await), (200, "updated".to_owned()));
    }

    /// Deletes an order.
    pub(crate) async fn delete(&self, id: &str) {
        let body = format!(r#"{{"order_id":"{id}","status":"deleted"}}"#);
        assert_eq!(outcome(&self.post(body).await), (200, "deleted".to_owned()));
    }

    /// Delivers a record of another service to the worker, and waits until it is settled.
    pub(crate) async fn feed(&self, (source, record): Raw) {
        within("a record to be settled", self.bus.feed(source, record)).await.expect("a settled record");
    }

    /// All events that were published, in order.
    pub(crate) fn events(&self) -> Vec<Event> {
        let decode = |record: Record| Event::decode(&record.value, record.header_pairs(), Timestamp::now());
        let events = self.journal.traffic().events;
        events.into_iter().map(|record| decode(record).expect("an event")).collect()
    }

    /// The order as the store has it now.
    pub(crate) async fn get(&self, id: &str) -> Order {
        let id = OrderId::parse(id).expect("an id");
        self.store.get(id).await.expect("a store that can be read").expect("an order of that id")
    }

    /// Waits until the worker has processed the order's newest version, and answers the order.
    pub(crate) async fn processed(&self, id: &str) -> Order {
        until("the worker", async || Some(self.get(id).await).filter(|order| !order.is_pending())).await
    }

    /// Stops the system in order, and runs the checker on its folder. Orders may be pending.
    pub(crate) async fn stop(self) {
        self.stop.cancel();
        within("the stop", self.running).await.expect("no panic").expect("no failure");
        let left = SqliteStore::open_read_only(&self.folder).expect("a folder that can be read");
        let options = Options { idle: false, amounts: true, listed: 10 };
        let report =
            verify(&left, 0, Confirmed::default(), &options).await.expect("a store that can be read");
        assert_eq!(report.findings, [], "the checker's findings");
        left.close().await;
    }
}

/// The request that updates an order.
pub(crate) fn update(id: &str, payload: &str) -> String {
    format!(r#"{{"order_id":"{id}","payload":{payload}}}"#)
}

/// The HTTP status of an answer, and the `status` in its body.
pub(crate) fn outcome(answer: &Answer) -> (u16, String) {
    (answer.status, member(answer.text(), "status"))
}
