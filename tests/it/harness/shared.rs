//! The system as it is deployed on servers: api and worker share only Postgres and Kafka, and each has a store and a
//! bus of its own, as in a process of its own. Here both run in the test's process, in a schema and on topics that no
//! other test uses, and a [`Witness`] reads the records of these topics.
//!
//! A test ends with `finish`, which asserts that all records of the topics are processed, that there are no dead
//! letters, that the outbox is empty, and that the checker finds nothing wrong.

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::sync::Arc;

use orderstream::app::{self, Backends};
use orderstream::bus::Record;
use orderstream::checker::verify::{Confirmed, Options, verify};
use orderstream::config::Settings;
use orderstream::store::Maintenance;
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::clients::grpc::{self, Orders};
use crate::clients::http::Client;
use crate::harness::app::{Role, Setup, Unfinished, listen};
use crate::harness::backend::Backend;
use crate::harness::bus::Traffic;
use crate::harness::kafka::TestTopics;
use crate::harness::schema::Schema;
use crate::harness::wait::until;
use crate::harness::witness::Witness;

/// How many systems run at once: each takes nine connections of Postgres and some fifty threads of Kafka clients.
static ROOM: Semaphore = Semaphore::const_new(4);

/// A running system.
pub(crate) struct Shared {
    pub(crate) client: Client,
    /// The address of gRPC.
    grpc: SocketAddr,
    pub(crate) witness: Witness,
    pub(crate) test_topics: Arc<TestTopics>,
    setup: Setup,
    api: Option<Role>,
    worker: Option<Role>,
    schema: Schema,
    unfinished: Unfinished,
    _room: SemaphorePermit<'static>,
}

/// A test's settings with the addresses of its servers.
fn settings(settings: Settings, schema: &Schema, test_topics: &TestTopics) -> Settings {
    let options = test_topics.options.clone();
    let partitions = |count| NonZeroU32::new(count).expect("a partition");
    Settings {
        postgres_dsn: Some(schema.dsn.clone().into()),
        postgres_write_connections: NonZeroU32::MIN,
        postgres_read_connections: NonZeroU32::MIN,
        kafka_brokers: options.brokers,
        worker_group: options.group,
        orders_events_topic: options.events_topic,
        orders_events_partitions: partitions(options.events_partitions),
        orders_ack_topic: options.ack_topic,
        orders_ack_partitions: partitions(options.ack_partitions),
        ..settings
    }
}

impl Shared {
    /// The backends that a process opens for itself.
    async fn backends(setup: &Setup) -> Backends {
        let backends = Backends::open(&setup.settings, "up").await.expect("settings that can be used");
        Backends { cache: Arc::clone(&setup.cache), processor: Arc::clone(&setup.processor), ..backends }
    }

    async fn check_final_state(&self) {
        let store = self.schema.open();
        let options = Options { idle: true, amounts: true, listed: 10 };
        let report = verify(&store, 0, Confirmed::default(), &options).await;
        assert_eq!(report.expect("a store that can be read").findings, [], "the checker's findings");
        store.close().await;
        let sql = "SELECT count(*) FROM orders_outbox";
        let outbox = self.schema.connect().await.query_one(sql, &[]).await.expect("an outbox");
        assert_eq!(outbox.get::<_, i64>(0), 0, "rows are left in the outbox");
        assert_eq!(self.witness.dead_letters().await, 0, "dead letters");
    }
}

impl Backend for Shared {
    const KEEPS_TEXT: bool = false;

    async fn start(mut setup: Setup) -> Shared {
        let room = ROOM.acquire().await.expect("a semaphore that is never closed");
        let (schema, test_topics) = (Schema::migrated().await, Arc::new(TestTopics::new()));
        setup.settings = settings(setup.settings, &schema, &test_topics);
        let (listeners, address, grpc) = listen().await;
        let client = Client::new(address);
        let (backends, with_worker) = (Shared::backends(&setup).await, setup.worker);
        let own = setup.settings.clone();
        let api =
            Some(Role::start(|stop| async move { app::api_alone(backends, listeners, &own, stop).await }));
        until("an api that is ready", async || {
            (client.get("/health/ready").await.json()["status"] == "ready").then_some(())
        })
        .await;
        let (witness, unfinished) = (Witness::new(&test_topics), Unfinished(true));
        let mut system = Shared {
            client,
            grpc,
            witness,
            test_topics,
            setup,
            api,
            worker: None,
            schema,
            unfinished,
            _room: room,
        };
        if with_worker {
            system.start_worker().await;
        }
        system
    }

    fn client(&self) -> &Client {
        &self.client
    }

    fn grpc(&self) -> Orders {
        grpc::connect(self.grpc)
    }

    async fn events(&self, order_id: &str, count: usize) -> Vec<Record> {
        let traffic = self.witness.journal.until(|traffic| traffic.events_of(order_id).len() >= count).await;
        traffic.events_of(order_id)
    }

    async fn acks(&self, order_id: &str, count: usize) -> Vec<Record> {
        let traffic = self.witness.journal.until(|traffic| traffic.acks_of(order_id).len() >= count).await;
        traffic.acks_of(order_id)
    }

    async fn feed(&mut self, record: Record, deliveries: usize) {
        let offset = self.witness.write(record).await;
        self.witness.caught_up().await;
        for _ in 1..deliveries {
            self.stop_worker().await;
            self.witness.rewind(offset).await;
            self.start_worker().await;
            self.witness.caught_up().await;
        }
    }

    async fn stop_worker(&mut self) {
        self.worker.take().expect("a worker that runs").end().await;
    }

    async fn start_worker(&mut self) {
        assert!(self.worker.is_none(), "the worker runs already");
        let (backends, own) = (Shared::backends(&self.setup).await, self.setup.settings.clone());
        let worker = Role::start(|stop| async move { app::worker_alone(backends, None, &own, stop).await });
        self.worker = Some(worker);
        self.witness.joined().await;
    }

    async fn finish(mut self) -> Traffic {
        self.unfinished.0 = false;
        if self.worker.is_none() {
            self.start_worker().await;
        }
        // The api ends first: it needs the worker to finish the orders that callers wait for.
        self.api.take().expect("an api that runs").end().await;
        self.witness.caught_up().await;
        self.stop_worker().await;
        self.check_final_state().await;
        self.witness.finish().await
    }
}
