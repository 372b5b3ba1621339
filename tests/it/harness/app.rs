//! A whole system in the test's own process: the embedded store in its own folder, or Postgres where a test asks for
//! it, the in-process bus with a journal, and both roles as `app` starts them, on free ports. Every test ends with
//! `finish`, which asserts that the roles end in order, that the checker finds nothing wrong, and that no order is
//! pending.

use std::net::SocketAddr;
use std::sync::Arc;
use std::thread;

use orderstream::api::Listeners;
use orderstream::app::{self, Backends};
use orderstream::bus::local::LocalBus;
use orderstream::cache::{Cache, NoCache};
use orderstream::checker::verify::{Confirmed, Options, Report, verify};
use orderstream::config::Settings;
use orderstream::store::Store;
use orderstream::store::sqlite::SqliteStore;
use orderstream::worker::{AmountProcessor, Processor};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::clients::http::{Client, GUARD};
use crate::harness::bus::{Journal, RecordingBus, Traffic};
use crate::harness::schema::Schema;
use crate::harness::wait::{until, within};

/// More bytes than any test has in flight at once.
const BUS_CAPACITY: usize = 32 << 20;

/// The setup of a system: the default settings, with a worker that computes amounts, unless a test changes them.
#[derive(Clone)]
pub(crate) struct Setup {
    pub(crate) settings: Settings,
    pub(crate) processor: Arc<dyn Processor>,
    pub(crate) cache: Arc<dyn Cache>,
    pub(crate) worker: bool,
}

impl Setup {
    pub(crate) fn new() -> Setup {
        let settings = Settings { history: true, ..Settings::default() };
        let processor = Arc::new(AmountProcessor::default());
        Setup { settings, processor, cache: Arc::new(NoCache), worker: true }
    }

    /// With other settings.
    pub(crate) fn settings(mut self, change: impl FnOnce(&mut Settings)) -> Setup {
        change(&mut self.settings);
        self
    }

    /// With another processor.
    pub(crate) fn processor(self, processor: Arc<dyn Processor>) -> Setup {
        Setup { processor, ..self }
    }

    /// With a cache.
    pub(crate) fn cache(self, cache: Arc<dyn Cache>) -> Setup {
        Setup { cache, ..self }
    }

    /// With a worker that is started later.
    pub(crate) fn without_worker(self) -> Setup {
        Setup { worker: false, ..self }
    }

    /// Starts the system on the embedded backends.
    pub(crate) async fn start(self) -> TestApp {
        TestApp::open(Storage::new(None), self, Journal::new()).await
    }

    /// Starts the system on Postgres and the in-process bus.
    pub(crate) async fn start_on_postgres(self) -> TestApp {
        TestApp::open(Storage::new(Some(Schema::migrated().await)), self, Journal::new()).await
    }
}

/// The storage of a system: it stays when the system is restarted.
struct Storage {
    /// The folder of the dead letters, and of the orders unless they are in Postgres.
    folder: TempDir,
    schema: Option<Schema>,
}

impl Storage {
    fn new(schema: Option<Schema>) -> Storage {
        Storage { folder: TempDir::new().expect("a temporary folder"), schema }
    }

    fn open(&self) -> Arc<dyn Store> {
        match &self.schema {
            Some(schema) => Arc::new(schema.open()),
            None => Arc::new(SqliteStore::open(self.folder.path()).expect("a folder that can be opened")),
        }
    }

    /// Opens the store for reading, after the system has ended.
    fn open_for_reading(&self) -> Arc<dyn Store> {
        match &self.schema {
            Some(schema) => Arc::new(schema.open()),
            None => {
                Arc::new(SqliteStore::open_read_only(self.folder.path()).expect("a folder that can be read"))
            }
        }
    }
}

/// A running system.
pub(crate) struct TestApp {
    pub(crate) address: SocketAddr,
    /// The address of gRPC.
    pub(crate) grpc: SocketAddr,
    pub(crate) client: Client,
    pub(crate) journal: Journal,
    pub(crate) bus: Arc<RecordingBus>,
    pub(crate) store: Arc<dyn Store>,
    storage: Storage,
    setup: Setup,
    api: Option<Role>,
    worker: Option<Role>,
    unfinished: Unfinished,
}

impl TestApp {
    /// The setup of a system on the embedded backends.
    pub(crate) fn embedded() -> Setup {
        Setup::new()
    }

    async fn open(storage: Storage, setup: Setup, journal: Journal) -> TestApp {
        let store = storage.open();
        let dead_letters = storage.folder.path().join("dead-letters.jsonl");
        let topic = &setup.settings.orders_events_topic;
        let local = LocalBus::open(&dead_letters, topic, BUS_CAPACITY).expect("a bus");
        let bus = RecordingBus::new(local, journal.clone());
        let (listeners, address, grpc) = listen().await;
        let backends = Backends {
            store: Arc::clone(&store),
            bus: bus.clone(),
            cache: Arc::clone(&setup.cache),
            processor: Arc::clone(&setup.processor),
        };
        let api = Some(Role::start(|stop| app::api(backends, listeners, &setup.settings, stop)));
        let (client, unfinished) = (Client::new(address), Unfinished(true));
        let with_worker = setup.worker;
        let mut system = TestApp {
            address,
            grpc,
            client,
            journal,
            bus,
            store,
            storage,
            setup,
            api,
            worker: None,
            unfinished,
        };
        if with_worker {
            system.start_worker();
        }
        system
    }

    /// Runs SQL in its schema, as another service would.
    pub(crate) async fn execute(&self, sql: &str) {
        self.storage.schema.as_ref().expect("a system on Postgres").execute(sql).await;
    }

    /// A session of another service in its schema.
    pub(crate) async fn connect(&self) -> tokio_postgres::Client {
        self.storage.schema.as_ref().expect("a system on Postgres").connect().await
    }

    /// The text that SQL finds in its schema.
    pub(crate) async fn query(&self, sql: &str) -> Option<String> {
        let schema = self.storage.schema.as_ref().expect("a system on Postgres");
        let row = schema.connect().await.query_opt(sql, &[]).await.expect("SQL that can be run");
        row.map(|row| row.get(0))
    }

    /// Starts the worker.
    pub(crate) fn start_worker(&mut self) {
        assert!(self.worker.is_none(), "the worker runs already");
        let (cache, processor) = (Arc::clone(&self.setup.cache), Arc::clone(&self.setup.processor));
        let backends = Backends { store: Arc::clone(&self.store), bus: self.bus.clone(), cache, processor };
        self.worker = Some(Role::start(|stop| app::worker(backends, &self.setup.settings, stop)));
    }

    /// Stops the worker, and waits until it has ended.
    pub(crate) async fn stop_worker(&mut self) {
        self.worker.take().expect("a worker that runs").end().await;
    }

    /// Stops all roles and starts them again on the same storage; the journal continues.
    pub(crate) async fn restart(mut self) -> TestApp {
        self.end().await;
        let TestApp { storage, setup, journal, .. } = self;
        TestApp::open(storage, setup, journal).await
    }

    /// Stops all roles, after a worker has processed all orders, runs the checker, and answers the traffic of the bus.
    pub(crate) async fn finish(mut self) -> Traffic {
        if self.worker.is_none() {
            self.start_worker();
        }
        self.end().await;
        let left = self.storage.open_for_reading();
        let report = checked(&*left).await;
        assert_eq!(report.findings, [], "the checker's findings");
        left.close().await;
        self.journal.traffic()
    }

    /// Waits until the checker finds nothing.
    pub(crate) async fn idle(&self) {
        let store = self.storage.open_for_reading();
        until("every order to be processed", async || {
            checked(&*store).await.findings.is_empty().then_some(())
        })
        .await;
        store.close().await;
    }

    /// The api ends first: it needs the worker to finish the orders that callers wait for.
    async fn end(&mut self) {
        self.unfinished.0 = false;
        for role in [self.api.take(), self.worker.take()].into_iter().flatten() {
            role.end().await;
        }
        within("the store to close", self.store.close()).await;
    }
}

/// The checker's report about an idle store.
async fn checked(store: &dyn Store) -> Report {
    let options = Options { idle: true, amounts: true, listed: 10 };
    verify(store, 0, Confirmed::default(), &options).await.expect("a store that can be read")
}

/// Listens on free ports, and answers the addresses of HTTP and gRPC.
pub(crate) async fn listen() -> (Listeners, SocketAddr, SocketAddr) {
    let http = TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port");
    let grpc = TcpListener::bind(("127.0.0.1", 0)).await.expect("another free port");
    let address = |listener: &TcpListener| listener.local_addr().expect("a listener's address");
    let addresses = (address(&http), address(&grpc));
    (Listeners { http, grpc: Some(grpc) }, addresses.0, addresses.1)
}

/// A running role, and the token that stops it.
pub(crate) struct Role {
    stop: CancellationToken,
    task: JoinHandle<anyhow::Result<()>>,
}

impl Role {
    pub(crate) fn start<R: Future<Output = anyhow::Result<()>> + Send + 'static>(
        role: impl FnOnce(CancellationToken) -> R,
    ) -> Role {
        let stop = CancellationToken::new();
        Role { task: tokio::spawn(role(stop.clone())), stop }
    }

    pub(crate) async fn end(self) {
        self.stop.cancel();
        let ended = timeout(GUARD, self.task).await.expect("a role that ends when it is stopped");
        ended.expect("a role that does not panic").expect("a role that does not fail");
    }
}

/// Fails a test that does not call `finish`.
pub(crate) struct Unfinished(pub(crate) bool);

impl Drop for Unfinished {
    fn drop(&mut self) {
        assert!(!self.0 || thread::panicking(), "end the test with `finish().await`");
    }
}
