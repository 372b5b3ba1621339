//! A worker that pauses its partitions, because its inbox is full: meanwhile its partitions move to another worker and
//! return, or the group removes the worker. When its store works again, every partition is read again.

use std::time::Instant;

use crate::clients::USER;
use crate::clients::http::Client;
use crate::faults::lock::Lock;
use crate::harness::cluster::Cluster;
use crate::harness::wait::{until, within};

/// How many orders wait: each partition has more than half of what fits into a worker's inbox.
const ORDERS: usize = 24_000;

/// How many orders are in a request.
const BATCH: usize = 1000;

/// The log line of a worker that pauses a partition.
const PAUSED: &str = "a partition is not fetched";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn partitions_taken_from_a_full_worker_are_read_after_they_return() {
    let (cluster, lock) = full_worker().await;
    let worker = &cluster.workers[0];
    worker.signal("STOP").await;
    until("a group that has removed the worker", async || (cluster.kafka.members() == 0).then_some(())).await;
    worker.signal("CONT").await;
    until("a worker that has joined again", async || (cluster.kafka.members() == 1).then_some(())).await;
    drain(&cluster, lock).await;
    cluster.take_orders(2 * BATCH).await;
    assert_eq!(cluster.finish(&[], 0).await.len(), ORDERS + 2 * BATCH);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn partitions_that_a_full_worker_gave_to_another_are_read_after_it_leaves() {
    let (mut cluster, lock) = full_worker().await;
    let paused = cluster.logged("worker", PAUSED);
    start_worker(&mut cluster).await;
    // The second worker is full, too, so it has its partitions.
    until("a second worker that is full", async || (cluster.logged("worker", PAUSED) > paused).then_some(()))
        .await;
    assert_eq!(cluster.kafka.members(), 2);
    drain(&cluster, lock).await;
    cluster.workers.remove(1).stop().await;
    until("a group of one worker", async || (cluster.kafka.members() == 1).then_some(())).await;
    cluster.take_orders(2 * BATCH).await;
    assert_eq!(cluster.finish(&[], 0).await.len(), ORDERS + 2 * BATCH);
}

/// A worker whose inbox is full, and the lock that prevents it from recording orders.
async fn full_worker() -> (Cluster, Lock) {
    let mut cluster = Cluster::setup().await.set("ACK_WAIT", "off").start(1, 0).await;
    cluster.take_orders(ORDERS).await;
    let lock = Lock::on_table(cluster.sql().await, cluster.sql().await, "orders").await;
    start_worker(&mut cluster).await;
    lock.is_waited_for().await;
    until("a worker that is full", async || (cluster.logged("worker", PAUSED) > 0).then_some(())).await;
    (cluster, lock)
}

async fn start_worker(cluster: &mut Cluster) {
    cluster.start_worker_with(&[("LOG_LEVEL", "warn,orderstream::bus::kafka=debug")]).await;
}

/// Releases the lock, and waits until every order is processed.
async fn drain(cluster: &Cluster, lock: Lock) {
    lock.release().await;
    let begun = Instant::now();
    cluster.idle().await;
    eprintln!("{ORDERS} orders were processed in {:?} after the lock", begun.elapsed());
}

impl Cluster {
    /// Sends `count` orders to the first api.
    pub(super) async fn take_orders(&self, count: usize) {
        let client = Client::new(self.apis[0].address());
        let order = format!(r#"{{"user_id":"{USER}","payload":{{"amount":1}}}}"#);
        let body = format!(r#"{{"orders":[{}]}}"#, vec![order; BATCH].join(","));
        for _ in 0..count / BATCH {
            let answer = within("a batch", client.post("/orders:batch", body.clone())).await;
            assert_eq!(answer.status, 207, "a batch is answered");
        }
    }
}
