//! Many records that no worker can process, before and among good ones: the good ones do not wait for them, not even
//! while the dead-letter topic takes no records, and the worker stays small.

use std::time::Instant;

use crate::api::hostile::assert_small;
use crate::bus::kafka::OtherMember;
use crate::clients::http::Client;
use crate::harness::cluster::Cluster;
use crate::harness::servers::{Private, Server};
use crate::harness::wait::until;

/// How many records no worker can process.
const POISON: usize = 20_000;

/// How many orders there are among them.
const ORDERS: usize = 4000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn good_records_are_processed_while_dead_letters_cannot_be_written() {
    let setup = Cluster::setup().await;
    let servers = Private::new();
    let brokers = servers.kafka_with_acls();
    let mut cluster = setup.kafka(&brokers).set("ACK_WAIT", "off").start(1, 0).await;
    let letters = cluster.kafka.dead_letter_topic();
    servers.permit(&brokers, ["--topic", &letters], "Write", false);
    write_poison(&cluster, POISON / 2);
    cluster.take_orders(ORDERS / 2).await;
    write_poison(&cluster, POISON / 2);
    cluster.take_orders(ORDERS / 2).await;
    let begun = Instant::now();
    cluster.start_worker().await;
    cluster.idle().await;
    eprintln!("{ORDERS} orders among {POISON} bad records took {:?}", begun.elapsed());
    assert_eq!(cluster.records(&letters).len(), 0);
    let health = Client::new(cluster.workers[0].address());
    until("a worker that reports it", async || {
        let report = health.get("/health/ready").await.json();
        (report["status"] == "degraded" && report["bus"] == "not available").then_some(())
    })
    .await;
    assert_eq!(
        cluster.logged("worker", &format!("client_errors: publishing to topic {letters} fails since")),
        1
    );
    assert_small(cluster.workers[0].id());

    let begun = Instant::now();
    servers.permit(&brokers, ["--topic", &letters], "Write", true);
    cluster.workers_caught_up().await;
    eprintln!("{POISON} dead letters were written within {:?}", begun.elapsed());
    cluster.ready_worker(0).await;
    assert_eq!(cluster.finish(&[], POISON as u64).await.len(), ORDERS);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_with_more_bad_records_than_it_keeps_stays_small() {
    const MORE: usize = 100_000;
    let setup = Cluster::setup().await;
    let servers = Private::new();
    let brokers = servers.kafka_with_acls();
    let mut cluster = setup.kafka(&brokers).set("ACK_WAIT", "off").start(1, 0).await;
    let letters = cluster.kafka.dead_letter_topic();
    servers.permit(&brokers, ["--topic", &letters], "Write", false);
    write_poison(&cluster, MORE);
    cluster.take_orders(1000).await;
    cluster.start_worker().await;
    let line = "a partition is not fetched until its records that wait";
    until("a worker that keeps no more", async || (cluster.logged("worker", line) > 0).then_some(())).await;
    let begun = Instant::now();
    servers.permit(&brokers, ["--topic", &letters], "Write", true);
    cluster.workers_caught_up().await;
    eprintln!("{MORE} bad records and 1000 orders took {:?}", begun.elapsed());
    assert_small(cluster.workers[0].id());
    assert_eq!(cluster.finish(&[], MORE as u64).await.len(), 1000);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_reports_its_health_over_http() {
    let setup = Cluster::setup().await;
    let servers = Private::new();
    let mut cluster = setup.postgres(&servers.up(Server::Postgres)).start(1, 0).await;
    let other = OtherMember::join(&cluster.kafka).await;
    cluster.start_worker().await;
    let health = Client::new(cluster.workers[0].address());
    assert_eq!(health.get("/health/live").await.status, 200);
    assert_eq!(health.get("/orders").await.status, 404);
    assert_eq!(health.post("/health/ready", "{}".to_owned()).await.status, 405);
    until("a worker that is not in its group", async || {
        let answer = health.get("/health/ready").await;
        assert_eq!(answer.status, 200);
        (answer.json()["bus"] == "not available").then_some(())
    })
    .await;
    let line =
        format!("client_errors: reading as a worker of group {} fails since", cluster.kafka.options.group);
    assert_eq!(cluster.logged("worker", &line), 1);
    drop(other);
    cluster.ready_worker(0).await;
    servers.kill("postgres");
    until("a worker without its store", async || {
        let answer = health.get("/health/ready").await;
        (answer.status == 503 && answer.json()["store"] == "not available").then_some(())
    })
    .await;
    assert_eq!(health.get("/health").await.status, 200);
    servers.up(Server::Postgres);
    cluster.ready_worker(0).await;
    cluster.ready().await;
    cluster.finish(&[], 0).await;
}

/// Writes records that are not events to every partition.
fn write_poison(cluster: &Cluster, count: usize) {
    cluster.kafka.write_many(&cluster.kafka.options.events_topic, b"{", count);
}

impl Cluster {
    /// Waits until a worker reports that it is ready.
    async fn ready_worker(&self, index: usize) {
        let health = Client::new(self.workers[index].address());
        until("a worker that is ready", async || {
            (health.get("/health/ready").await.json()["status"] == "ready").then_some(())
        })
        .await;
    }
}
