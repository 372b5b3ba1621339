//! The relay between the database and Kafka: events that one process cannot publish, that are confirmed and cannot be
//! marked published, or that Kafka has confirmed and lost. Each is published, and no event is published repeatedly
//! without need.

use std::fs::{self, File};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use jiff::Timestamp;
use orderstream::bus::Record;
use orderstream::order::OrderId;
use rdkafka::consumer::{BaseConsumer, Consumer};
use tempfile::TempDir;
use tokio::sync::oneshot;

use super::{creation, posting};
use crate::clients::answers::{member, order, order_id, time};
use crate::clients::http::Client;
use crate::harness::child::{Child, command};
use crate::harness::cluster::Cluster;
use crate::harness::kafka::TestTopics;
use crate::harness::servers::{Private, Server};
use crate::harness::wait::{until, within};

/// Creates `count` orders at one api, which answers when they are stored.
async fn create(cluster: &Cluster, api: usize, count: usize) -> Vec<(OrderId, &'static str)> {
    let client = cluster.clients().remove(api);
    let mut confirmed = Vec::new();
    for number in 0..count {
        let answer = client.post("/orders", creation(number)).await;
        assert_eq!(answer.status, 201, "{answer:?}");
        confirmed.push((order_id(&answer), "created"));
    }
    confirmed
}

/// Waits until the outbox has that many rows, all of them older than `age`.
async fn wait_for_outbox(cluster: &Cluster, rows: i64, age: &str) {
    let sql = format!(
        "SELECT count(*) FILTER (WHERE created_at < clock_timestamp() - interval '{age}')
              - count(*) FILTER (WHERE created_at >= clock_timestamp() - interval '{age}') FROM orders_outbox"
    );
    until("old rows in the outbox", async || (cluster.count(&sql).await == rows).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_api_with_a_broker_publishes_the_events_of_one_without() {
    let setup = Cluster::setup().await.set("ACK_WAIT", "off");
    let mut cluster = setup.start(0, 0).await;
    cluster.start_api_with(&[("KAFKA_BROKERS", "127.0.0.1:1")]).await;
    let confirmed = create(&cluster, 0, 100).await;
    // The events are old enough for several sweeps.
    wait_for_outbox(&cluster, 100, "9 seconds").await;
    let claimed = "SELECT count(*) FROM orders_outbox WHERE claimed_until IS NOT NULL";
    assert_eq!(cluster.count(claimed).await, 0, "events are claimed by a process that cannot publish them");
    cluster.start_api().await;
    cluster.start_worker().await;
    cluster.idle().await;
    drop(cluster.take_out_api(0));
    cluster.finish(&confirmed, 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hanging_connection_of_the_sweep_delays_no_order() {
    let setup = Cluster::setup().await;
    let servers = Private::new();
    let dsn = servers.up(Server::Postgres);
    let cluster = setup.postgres(&dsn).set("ACK_WAIT_TIMEOUT", "20s").start(1, 1).await;
    let sweep = "SELECT pid::int8 FROM pg_stat_activity WHERE pid <> pg_backend_pid()
                    AND (query = 'SELECT clock_timestamp()' OR query LIKE 'SELECT%orders_outbox%')";
    let sql = cluster.sql().await;
    let backend: i64 = until("the sweep's connection", async || {
        sql.query_opt(sweep, &[]).await.expect("one connection at most").map(|row| row.get(0))
    })
    .await;
    let signal = |name: &str| {
        let sent = Command::new("kill").args([name, &backend.to_string()]).status().expect("kill runs");
        assert!(sent.success(), "{name} to {backend}");
    };
    signal("-STOP");
    let client = cluster.clients().remove(0);
    let mut confirmed = Vec::new();
    // Orders are sent until the sweep has certainly used the connection.
    let old = "SELECT count(*) FROM orders WHERE created_at < clock_timestamp() - interval '5 seconds'";
    let mut number = 0;
    within("orders that are answered", async {
        while cluster.count(old).await == 0 {
            let answer = posting(&client, creation(number)).await.expect("an answer");
            assert_eq!(answer.status, 201, "{answer:?}");
            confirmed.push((order_id(&answer), "created"));
            number += 1;
        }
    })
    .await;
    signal("-CONT");
    cluster.finish(&confirmed, 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_that_cannot_be_marked_published_is_not_published_again() {
    let cluster = Cluster::setup().await.set("ACK_WAIT", "off").start(1, 0).await;
    let sql = cluster.sql().await;
    sql.batch_execute(
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'by a test'; END $$;
         CREATE TRIGGER refuse BEFORE DELETE ON orders_outbox FOR EACH ROW EXECUTE FUNCTION refuse()",
    )
    .await
    .expect("a trigger");
    let confirmed = create(&cluster, 0, 20).await;
    wait_for_outbox(&cluster, 20, "12 seconds").await;
    assert!(cluster.logged("api", "events cannot be marked published") > 0);
    sql.batch_execute("DROP TRIGGER refuse ON orders_outbox").await.expect("no trigger");
    until("marks", async || (cluster.count("SELECT count(*) FROM orders_outbox").await == 0).then_some(()))
        .await;
    assert_eq!(cluster.events().len(), 20);
    let mut cluster = cluster;
    cluster.start_worker().await;
    cluster.idle().await;
    cluster.finish(&confirmed, 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lost_events_are_republished_and_events_in_a_backlog_are_not() {
    let setup = Cluster::setup().await.set("ACK_WAIT", "off").set("REPUBLISH_AFTER", "1s");
    let mut cluster = setup.start(1, 0).await;
    let confirmed = create(&cluster, 0, 50).await;
    let old = "SELECT count(*) FROM orders WHERE updated_at < clock_timestamp() - interval '8 seconds'";
    until("orders that wait for long", async || (cluster.count(old).await == 50).then_some(())).await;
    assert_eq!(cluster.events().len(), 50, "no worker runs, and no event is lost");

    cluster.kafka.delete_records(&cluster.kafka.options.events_topic).await;
    cluster.start_worker().await;
    cluster.idle().await;
    let is_logged = async || (cluster.logged("api", "the bus had confirmed and lost") > 0).then_some(());
    until("a log line about lost events", is_logged).await;
    cluster.finish(&confirmed, 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stuck_partition_does_not_delay_lost_events_of_another() {
    let setup = Cluster::setup().await.set("ACK_WAIT", "off").set("REPUBLISH_AFTER", "1s");
    let mut cluster = setup.start(1, 0).await;
    let topic = cluster.kafka.options.events_topic.clone();
    let confirmed = create(&cluster, 0, 50).await;
    until("marks", async || (cluster.count("SELECT count(*) FROM orders_outbox").await == 0).then_some(()))
        .await;
    let before = cluster.records(&topic);
    let (backlog, in_backlog) = (before[0].0, |(partition, _): &(i32, Record)| *partition == before[0].0);
    let lost = before.iter().filter(|record| !in_backlog(record)).count();
    assert!(lost > 0, "50 orders in one partition");
    cluster.skip_records(|partition| partition != backlog);
    until("the lost events", async || (cluster.events().len() >= 50 + lost).then_some(())).await;
    let after = cluster.records(&topic);
    assert_eq!(after.iter().filter(|record| in_backlog(record)).count(), 50 - lost);
    assert_eq!(after.len(), 50 + lost);
    cluster.start_worker().await;
    cluster.idle().await;
    cluster.finish(&confirmed, 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn orders_of_a_deleted_topic_are_processed_after_it_is_recreated() {
    let setup = Cluster::setup().await.set("ACK_WAIT", "off").set("REPUBLISH_AFTER", "1s");
    let mut cluster = setup.start(1, 1).await;
    let mut confirmed = create(&cluster, 0, 20).await;
    cluster.idle().await;
    cluster.workers.remove(0).stop().await;
    confirmed.extend(create(&cluster, 0, 50).await);
    until("marks", async || (cluster.count("SELECT count(*) FROM orders_outbox").await == 0).then_some(()))
        .await;
    cluster.kafka.delete_topic(&cluster.kafka.options.events_topic).await;
    cluster.start_worker().await;
    cluster.idle().await;
    cluster.finish(&confirmed, 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn orders_in_a_backlog_are_republished_after_their_topic_is_recreated() {
    let setup = Cluster::setup().await.set("ACK_WAIT", "off").set("REPUBLISH_AFTER", "1s");
    let mut cluster = setup.start(1, 0).await;
    let confirmed = create(&cluster, 0, 50).await;
    // The relay has searched several times, and knows that the events are before the topic's current end.
    let old = "SELECT count(*) FROM orders WHERE updated_at < clock_timestamp() - interval '8 seconds'";
    until("orders that wait for long", async || (cluster.count(old).await == 50).then_some(())).await;
    assert_eq!(cluster.events().len(), 50, "no worker runs, and no event is lost");
    // The new topic ends before that offset, so no worker will ever reach it.
    cluster.kafka.delete_topic(&cluster.kafka.options.events_topic).await;
    cluster.start_worker().await;
    cluster.idle().await;
    cluster.finish(&confirmed, 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_recreated_topic_is_read_after_its_leaders_had_changed() {
    let setup = Cluster::setup().await;
    let servers = Private::new();
    let brokers = servers.up(Server::Kafka);
    let setup = setup.kafka(&brokers).set("ACK_WAIT", "off").set("REPUBLISH_AFTER", "1s");
    let cluster = setup.start(1, 1).await;
    let mut confirmed = create(&cluster, 0, 50).await;
    cluster.idle().await;
    // A restart raises the epochs of the leaders.
    servers.kill("kafka");
    servers.up(Server::Kafka);
    confirmed.extend(create(&cluster, 0, 50).await);
    cluster.idle().await;
    cluster.kafka.delete_topic(&cluster.kafka.options.events_topic).await;
    confirmed.extend(create(&cluster, 0, 50).await);
    cluster.idle().await;
    assert!(cluster.logged("worker", "waits beyond the end of its topic") > 0);
    assert!(cluster.logged("api", "Kafka is not available") <= 2, "each change is logged once");
    cluster.finish(&confirmed, 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redrive_publishes_lost_events_and_only_lists_them_in_a_dry_run() {
    let setup = Cluster::setup().await.set("ACK_WAIT", "off").set("REPUBLISH_AFTER", "0s");
    let mut cluster = setup.start(1, 0).await;
    let confirmed = create(&cluster, 0, 30).await;
    until("marks", async || (cluster.count("SELECT count(*) FROM orders_outbox").await == 0).then_some(()))
        .await;
    let (code, text) = redrive(&mut cluster, &["--older-than", "0", "--wait", "0"]).await;
    assert_eq!((code, text.starts_with("30 orders are pending, and the workers")), (1, true), "{text}");

    cluster.kafka.delete_records(&cluster.kafka.options.events_topic).await;
    cluster.start_worker().await;
    let one = confirmed[0].0.to_string();
    for (arguments, count) in [
        (&["--older-than=3600"][..], 0),
        (&["--older-than=0", "--status=processing"][..], 0),
        (&["--older-than=0", "--order", &one][..], 1),
        (&["--older-than=0", "--limit=7"][..], 7),
        (&["--older-than=0"][..], 30),
    ] {
        let arguments: Vec<&str> = ["--dry-run"].into_iter().chain(arguments.iter().copied()).collect();
        let (code, text) = redrive(&mut cluster, &arguments).await;
        let last = format!("{count} orders would be published again");
        assert_eq!((code, text.lines().last()), (0, Some(last.as_str())), "{arguments:?}: {text}");
    }
    assert_eq!(cluster.count("SELECT count(*) FROM orders WHERE processed_version = 0").await, 30);
    let (code, text) = redrive(&mut cluster, &["--older-than", "0", "--rate", "1000"]).await;
    assert_eq!((code, text.as_str()), (0, "30 of 30 orders will be published again\n"));
    cluster.idle().await;
    cluster.finish(&confirmed, 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_embedded_store_publishes_each_event_to_kafka_once() {
    let (test_topics, folder) = (TestTopics::new(), TempDir::new().expect("a folder"));
    test_topics.create(&test_topics.options.events_topic, 1).await;
    let other = OtherWorker::join(&test_topics).await;
    let mut up = command(env!("CARGO_BIN_EXE_orderstream"), folder.path());
    let log = folder.path().join("log");
    up.arg("up").env("ACK_WAIT", "off").env("REPUBLISH_AFTER", "1s").envs(test_topics.environment());
    up.stderr(File::create(&log).expect("a log"));
    let up = Child::start(up).await;
    let client = Client::new(up.address());
    let mut last = String::new();
    for number in 0..100 {
        last = order_id(&client.post("/orders", creation(number)).await).to_string();
    }
    // The events are old enough for several sweeps.
    let changed = time(&member(&order(&client, &last).await, "updated_at"));
    let aged = async |seconds: i64| {
        until("an order that is so old", async || {
            (Timestamp::now().duration_since(changed).as_secs() > seconds).then_some(())
        })
        .await
    };
    aged(8).await;
    assert_eq!(test_topics.read(&test_topics.options.events_topic, 100).len(), 100);
    assert_eq!(test_topics.end(&test_topics.options.events_topic), 100);
    other.leave();
    until("the order to be processed", async || {
        (member(&order(&client, &last).await, "status") == "done").then_some(())
    })
    .await;
    // An order that was just processed does not count as lost.
    aged(14).await;
    assert_eq!(test_topics.end(&test_topics.options.events_topic), 100);
    assert!(!fs::read_to_string(&log).expect("a log").contains("confirmed and lost"));
    up.stop().await;
}

/// A worker of another program that has the group's only partition, and processes no event.
struct OtherWorker {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl OtherWorker {
    async fn join(test_topics: &TestTopics) -> OtherWorker {
        let mut config = test_topics.client();
        let consumer: BaseConsumer =
            config.set("partition.assignment.strategy", "cooperative-sticky").create().expect("a consumer");
        consumer.subscribe(&[&test_topics.options.events_topic]).expect("a topic");
        let (stop, (assigned, is_assigned)) = (Arc::new(AtomicBool::new(false)), oneshot::channel());
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let mut assigned = Some(assigned);
            while !stopped.load(Ordering::SeqCst) {
                drop(consumer.poll(Duration::from_millis(20)));
                if consumer.assignment().is_ok_and(|list| list.count() == 1)
                    && let Some(assigned) = assigned.take()
                {
                    assigned.send(()).expect("a test that waits");
                }
            }
        });
        within("an assignment", is_assigned).await.expect("a worker");
        OtherWorker { stop, thread }
    }

    fn leave(self) {
        self.stop.store(true, Ordering::SeqCst);
        self.thread.join().expect("a worker that ends");
    }
}

/// Runs the command; answers its exit code and its output.
async fn redrive(cluster: &mut Cluster, arguments: &[&str]) -> (i32, String) {
    let mut command = cluster.command("redrive");
    command.args(arguments).stdout(std::process::Stdio::piped());
    let output = within("redrive", command.output()).await.expect("it starts");
    (output.status.code().expect("a code"), String::from_utf8(output.stdout).expect("text"))
}
