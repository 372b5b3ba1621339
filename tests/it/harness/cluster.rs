//! The whole service as it runs in production: any number of api and worker processes on one database and one Kafka, in
//! a schema, topics and a group of their own. A test starts, kills and stops them, and ends with `finish`, which
//! asserts that every order is processed, that every process ends in order, and that the checker finds nothing wrong,
//! neither as a command nor as a function.

use std::fs::{self, File};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;

use orderstream::bus::Record;
use orderstream::checker::verify::{Options, verify};
use orderstream::order::{Order, OrderId};
use orderstream::store::postgres::{self, PostgresStore};
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::{Offset, TopicPartitionList};
use serde_json::Value;
use tempfile::TempDir;
use tokio::process::Command;
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::clients::http::{Client, GUARD};
use crate::clients::load::{Addresses, confirmed};
use crate::harness::child::{Child, command};
use crate::harness::kafka::TestTopics;
use crate::harness::ledger;
use crate::harness::schema::{Schema, options};
use crate::harness::wait::{until, within};

/// Two clusters at a time: more would only measure how many processes two processors can run. A cluster waits for most
/// of its time, and a test that waits for its turn occupies a thread that other tests could use.
static TURN: Semaphore = Semaphore::const_new(CLUSTERS);

/// How many clusters run at a time.
const CLUSTERS: usize = 2;

/// The setup of a cluster: on the servers that all tests share, unless a test names others.
pub(crate) struct Setup {
    turn: SemaphorePermit<'static>,
    dsn: Option<String>,
    brokers: Option<String>,
    settings: Vec<(&'static str, String)>,
}

/// A running cluster. Its processes are in the order in which they were started.
pub(crate) struct Cluster {
    pub(crate) apis: Vec<Child>,
    pub(crate) workers: Vec<Child>,
    /// The addresses of the apis, for clients.
    pub(crate) api_addresses: Addresses,
    pub(crate) kafka: TestTopics,
    pub(crate) dsn: String,
    settings: Vec<(&'static str, String)>,
    folder: TempDir,
    logs: Vec<PathBuf>,
    _schema: Option<Schema>,
    _turn: SemaphorePermit<'static>,
}

impl Setup {
    /// On this database, which no other test uses.
    pub(crate) fn postgres(self, dsn: &str) -> Setup {
        Setup { dsn: Some(dsn.to_owned()), ..self }
    }

    /// On this Kafka.
    pub(crate) fn kafka(self, brokers: &str) -> Setup {
        Setup { brokers: Some(brokers.to_owned()), ..self }
    }

    /// With a setting for all processes.
    pub(crate) fn set(mut self, name: &'static str, value: impl Into<String>) -> Setup {
        self.settings.push((name, value.into()));
        self
    }

    /// Migrates the database, and starts the apis and workers.
    pub(crate) async fn start(self, apis: usize, workers: usize) -> Cluster {
        let schema = if self.dsn.is_some() { None } else { Some(Schema::empty().await) };
        let dsn = self.dsn.or_else(|| Some(schema.as_ref()?.dsn.clone())).expect("a database");
        let kafka = self.brokers.as_deref().map_or_else(TestTopics::new, TestTopics::at);
        let mut cluster = Cluster {
            apis: Vec::new(),
            workers: Vec::new(),
            api_addresses: Addresses::default(),
            kafka,
            dsn,
            settings: self.settings,
            folder: TempDir::new().expect("a folder"),
            logs: Vec::new(),
            _schema: schema,
            _turn: self.turn,
        };
        let migrated = within("the migration", cluster.command("migrate").output()).await.expect("it starts");
        assert!(migrated.status.success(), "the migration failed");
        for _ in 0..apis {
            cluster.start_api().await;
        }
        for _ in 0..workers {
            cluster.start_worker().await;
        }
        cluster.ready().await;
        cluster
    }
}

impl Cluster {
    /// The setup of a cluster, when it is its turn. A test starts its own servers after that.
    pub(crate) async fn setup() -> Setup {
        let turn = TURN.acquire().await.expect("a semaphore that is never closed");
        Setup { turn, dsn: None, brokers: None, settings: Vec::new() }
    }

    /// The same for a cluster under load on brokers of its own: no other cluster runs at the same time.
    pub(crate) async fn setup_alone() -> Setup {
        let turn = TURN.acquire_many(CLUSTERS as u32).await.expect("a semaphore that is never closed");
        Setup { turn, dsn: None, brokers: None, settings: Vec::new() }
    }

    /// A command on this cluster's backends, with a log of its own.
    pub(crate) fn command(&mut self, verb: &str) -> Command {
        let log = self.folder.path().join(format!("{}-{verb}.log", self.logs.len()));
        let mut command = command(env!("CARGO_BIN_EXE_orderstream"), self.folder.path());
        let topics = &self.kafka.options;
        command.arg(verb).stderr(File::create(&log).expect("a log")).envs([
            ("POSTGRES_DSN", self.dsn.as_str()),
            ("KAFKA_BROKERS", &topics.brokers.join(",")),
            ("ORDERS_EVENTS_TOPIC", &topics.events_topic),
            ("ORDERS_ACK_TOPIC", &topics.ack_topic),
            ("WORKER_GROUP", &topics.group),
        ]);
        command.envs(self.settings.iter().map(|(name, value)| (*name, value)));
        self.logs.push(log);
        command
    }

    /// Starts another api.
    pub(crate) async fn start_api(&mut self) {
        let api = self.command("api");
        self.take_api(api).await;
    }

    /// Starts an api with further settings.
    pub(crate) async fn start_api_with(&mut self, settings: &[(&str, &str)]) {
        let mut api = self.command("api");
        api.envs(settings.iter().copied());
        self.take_api(api).await;
    }

    async fn take_api(&mut self, command: Command) {
        self.apis.push(Child::start(command).await);
        self.publish_api_addresses();
    }

    /// Starts another worker.
    pub(crate) async fn start_worker(&mut self) {
        let worker = self.command("worker");
        self.workers.push(Child::start(worker).await);
    }

    /// Starts a worker with further settings.
    pub(crate) async fn start_worker_with(&mut self, settings: &[(&str, &str)]) {
        let mut worker = self.command("worker");
        worker.envs(settings.iter().copied());
        self.workers.push(Child::start(worker).await);
    }

    /// Takes an api out. Clients no longer get its address; those that are connected stay.
    pub(crate) fn take_out_api(&mut self, index: usize) -> Child {
        let api = self.apis.remove(index);
        self.publish_api_addresses();
        api
    }

    /// How many lines of the logs of processes of that verb hold a text.
    pub(crate) fn logged(&self, verb: &str, text: &str) -> usize {
        let of_verb = |log: &&PathBuf| log.to_string_lossy().ends_with(&format!("-{verb}.log"));
        let logs = self.logs.iter().filter(of_verb).map(|log| fs::read_to_string(log).unwrap_or_default());
        logs.map(|log| log.lines().filter(|line| line.contains(text)).count()).sum()
    }

    fn publish_api_addresses(&self) {
        self.api_addresses.set(self.apis.iter().map(Child::address).collect());
    }

    /// Waits until every api is ready, and all its backends are available.
    pub(crate) async fn ready(&self) {
        for client in self.clients() {
            until("an api that is ready", async || {
                let answer = client.get("/health/ready").await;
                (answer.status == 200 && answer.json()["status"] == "ready").then_some(())
            })
            .await;
        }
    }

    /// A client for each api.
    pub(crate) fn clients(&self) -> Vec<Arc<Client>> {
        self.apis.iter().map(|api| Arc::new(Client::new(api.address()))).collect()
    }

    /// A plain connection to the database.
    pub(crate) async fn sql(&self) -> tokio_postgres::Client {
        let connecting = tokio_postgres::connect(&self.dsn, tokio_postgres::NoTls).await;
        let (client, connection) = connecting.expect("a Postgres that listens");
        tokio::spawn(connection);
        client
    }

    /// A number that a statement reads from the database.
    pub(crate) async fn count(&self, sql: &str) -> i64 {
        self.sql().await.query_one(sql, &[]).await.expect("an answer").get(0)
    }

    /// The store of the cluster, opened by the test.
    pub(crate) fn store(&self) -> PostgresStore {
        PostgresStore::open(&postgres::Options { dsn: self.dsn.clone(), ..options() })
            .expect("a DSN that can be used")
    }

    /// Waits until no order is pending and no event is in the outbox.
    pub(crate) async fn idle(&self) {
        let sql = self.sql().await;
        until("every order to be processed", async || {
            let row = sql.query_one(LEFT, &[]).await.expect("an answer");
            ((row.get::<_, i64>(0), row.get::<_, i64>(1)) == (0, 0)).then_some(())
        })
        .await;
    }

    /// Waits until the workers have committed the ends of the events' topic.
    pub(crate) async fn workers_caught_up(&self) {
        let ends: i64 = self.ends(&self.kafka.options.events_topic).iter().map(|(_, end)| end).sum();
        let caught_up = async || (self.kafka.committed().values().sum::<i64>() == ends).then_some(());
        until("the workers to commit every record", caught_up).await;
    }

    /// Lets the workers begin at the first record again; none may run.
    pub(crate) fn rewind(&self) {
        self.commit(|_, _| Some(0));
    }

    /// Lets the workers skip all records in these partitions of the events' topic; none may run.
    pub(crate) fn skip_records(&self, partitions: impl Fn(i32) -> bool) {
        self.commit(|partition, end| partitions(partition).then_some(end));
    }

    /// Commits an offset for each partition, by its number and its end; none may run.
    fn commit(&self, offset: impl Fn(i32, i64) -> Option<i64>) {
        let topic = &self.kafka.options.events_topic;
        let mut offsets = TopicPartitionList::new();
        for (partition, (_, end)) in (0..).zip(self.ends(topic)) {
            if let Some(offset) = offset(partition, end) {
                offsets.add_partition_offset(topic, partition, Offset::Offset(offset)).expect("an offset");
            }
        }
        let client: BaseConsumer = self.kafka.client().create().expect("a consumer");
        client.commit(&offsets, CommitMode::Sync).expect("a group without members");
    }

    /// The first offset and the end of each partition of a topic.
    fn ends(&self, topic: &str) -> Vec<(i64, i64)> {
        let client: BaseConsumer = self.kafka.client().create().expect("a consumer");
        let ends = |partition| client.fetch_watermarks(topic, partition, GUARD).expect("watermarks");
        (0..self.kafka.partitions(topic)).map(ends).collect()
    }

    /// All records of a topic, with their partitions.
    pub(crate) fn records(&self, topic: &str) -> Vec<(i32, Record)> {
        let count: i64 = self.ends(topic).iter().map(|(low, high)| high - low).sum();
        self.kafka.read(topic, usize::try_from(count).expect("a count"))
    }

    /// All records of the events' topic.
    pub(crate) fn events(&self) -> Vec<Record> {
        let topic = &self.kafka.options.events_topic;
        self.records(topic).into_iter().map(|(_, record)| record).collect()
    }

    /// All records of the ACKs' topic.
    pub(crate) fn acks(&self) -> Vec<Record> {
        let topic = &self.kafka.options.ack_topic;
        self.records(topic).into_iter().map(|(_, record)| record).collect()
    }

    /// Waits until every order is processed, stops all processes in order, runs the checker, and answers all orders.
    /// `answered` are the orders of which callers have an answer, and `dead_letters` is their expected count.
    pub(crate) async fn finish(mut self, answered: &[(OrderId, &str)], dead_letters: u64) -> Vec<Order> {
        self.idle().await;
        self.stop().await;
        self.idle().await;
        self.run_checker(answered, dead_letters).await;
        let store = self.store();
        let options = Options { idle: true, amounts: true, listed: 10 };
        let report =
            verify(&store, dead_letters, confirmed(answered), &options).await.expect("a readable store");
        assert_eq!(report.findings, []);
        let orders = ledger::scan(&store).await;
        orders.iter().for_each(ledger::check);
        orders
    }

    /// Stops all processes: the apis first, because the workers finish what the apis have accepted.
    pub(crate) async fn stop(&mut self) {
        self.api_addresses.set(Vec::new());
        for mut role in [std::mem::take(&mut self.apis), std::mem::take(&mut self.workers)] {
            for child in &role {
                child.terminate().await;
            }
            for child in &mut role {
                assert_eq!(child.exit().await.code(), Some(0), "a stop in order");
            }
        }
    }

    async fn run_checker(&mut self, answered: &[(OrderId, &str)], dead_letters: u64) {
        let lines: String = answered.iter().map(|(id, status)| format!("{id} {status}\n")).collect();
        let file = self.folder.path().join("confirmed.txt");
        fs::write(&file, lines).expect("a file");
        let mut checker = self.command("verify");
        let checked = checker.args(["--idle", "--json", "--confirmed"]).arg(&file).output();
        let checked = within("the checker", checked).await.expect("it starts");
        let report = String::from_utf8_lossy(&checked.stdout);
        assert_eq!(checked.status.code(), Some(0), "{report}");
        let report: Value = serde_json::from_str(&report).expect("a report in JSON");
        assert_eq!(
            (&report["found"], &report["dead_letters"]),
            (&0.into(), &dead_letters.into()),
            "{report}"
        );
    }
}

/// How many orders are pending, and how many events are in the outbox.
const LEFT: &str = "SELECT (SELECT count(*) FROM orders WHERE processed_version < version),
                           (SELECT count(*) FROM orders_outbox)";

impl Drop for Cluster {
    /// Prints the logs of the processes of a failing test.
    fn drop(&mut self) {
        if !thread::panicking() {
            return;
        }
        for log in &self.logs {
            let text = fs::read_to_string(log).unwrap_or_default();
            let lines: Vec<&str> = text.lines().collect();
            let rest = lines.len().saturating_sub(30);
            eprintln!("--- {}, the last of {} lines", log.display(), lines.len());
            lines[rest..].iter().for_each(|line| eprintln!("{line}"));
        }
    }
}
