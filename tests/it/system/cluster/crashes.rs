//! Processes that are killed at the worst moment: between the commit and the publish, before the commit, between the
//! worker's write and its offset, and at any point under load. The remaining processes, or the next ones, finish the
//! work.

use orderstream::order::Status;
use tokio::task::JoinHandle;

use super::creation;
use crate::clients::answers::order_id;
use crate::clients::http::Client;
use crate::clients::load::{Ending, Load};
use crate::clients::wire::{Answer, Broken};
use crate::faults::lock::Lock;
use crate::harness::cluster::Cluster;
use crate::harness::servers::{Private, Server};
use crate::harness::system::{outcome, update};
use crate::harness::wait::until;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_publishes_events_that_a_killed_api_committed() {
    let mut cluster = Cluster::setup().await.set("ACK_WAIT_TIMEOUT", "100ms").start(1, 1).await;
    // Nothing listens at that address: this api can commit, and never publish.
    cluster.start_api_with(&[("KAFKA_BROKERS", "127.0.0.1:1")]).await;
    let doomed = Client::new(cluster.apis[1].address());
    let mut confirmed = Vec::new();
    for number in 0..3 {
        let answer = doomed.post("/orders", creation(number)).await;
        assert_eq!(outcome(&answer), (202, "accepted".to_owned()));
        confirmed.push((order_id(&answer), "accepted"));
    }
    let updated = doomed.post("/orders", update(&confirmed[1].0.to_string(), r#"{"amount":70}"#)).await;
    assert_eq!(outcome(&updated), (202, "accepted".to_owned()));
    let deletion = format!(r#"{{"order_id":"{}","status":"deleted"}}"#, confirmed[2].0);
    assert_eq!(outcome(&doomed.post("/orders", deletion).await), (202, "accepted".to_owned()));
    confirmed[2].1 = "deleted";
    cluster.take_out_api(1).kill_9().await;

    let orders = cluster.finish(&confirmed, 0).await;
    let ends = confirmed.iter().map(|(id, _)| {
        let order = orders.iter().find(|order| order.id == *id).expect("it is there");
        (order.status, order.version, order.amount.to_string())
    });
    let [created, updated, deleted] = ends.collect::<Vec<_>>().try_into().unwrap();
    assert_eq!(created, (Status::Done, 1, "0".to_owned()));
    assert_eq!(updated, (Status::Done, 2, "70".to_owned()));
    assert_eq!((deleted.0, deleted.1), (Status::Deleted, 2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_api_killed_before_its_commit_stores_nothing_and_a_retry_works() {
    let mut cluster = Cluster::setup().await.start(2, 1).await;
    let lock = Lock::on_table(cluster.sql().await, cluster.sql().await, "orders_outbox").await;
    let waiting = send_order(&cluster).await;
    lock.is_waited_for().await;
    cluster.take_out_api(0).kill_9().await;
    assert_eq!(waiting.await.unwrap(), Err(Broken::Silent));
    // A server notices that its client is gone when it sends a response; the test makes it notice now.
    lock.end_waiting_sessions().await;
    lock.release().await;
    assert_eq!(cluster.count("SELECT count(*) FROM orders").await, 0);
    assert_eq!(cluster.count("SELECT count(*) FROM orders_outbox").await, 0);

    let retried = cluster.clients()[0].post("/orders", creation(1)).await;
    assert_eq!(outcome(&retried), (201, "created".to_owned()));
    assert_eq!(cluster.events().len(), 1);
    let orders = cluster.finish(&[(order_id(&retried), "created")], 0).await;
    assert_eq!(orders.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_that_outlives_its_api_is_complete_and_a_peer_publishes_it() {
    let mut cluster = Cluster::setup().await.start(2, 1).await;
    let lock = Lock::on_table(cluster.sql().await, cluster.sql().await, "orders_outbox").await;
    let waiting = send_order(&cluster).await;
    lock.is_waited_for().await;
    cluster.take_out_api(0).kill_9().await;
    assert_eq!(waiting.await.unwrap(), Err(Broken::Silent));
    lock.release().await;
    until("the commit", async || (cluster.count("SELECT count(*) FROM orders").await == 1).then_some(()))
        .await;
    let orders = cluster.finish(&[], 0).await;
    assert_eq!((orders.len(), orders[0].status), (1, Status::Done));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_killed_before_its_offset_gets_the_event_again_without_a_change() {
    let setup = Cluster::setup().await;
    let servers = Private::new();
    let brokers = servers.up(Server::Kafka);
    let setup = setup.kafka(&brokers).set("ACK_WAIT_TIMEOUT", "100ms");
    let mut cluster = setup.start(1, 0).await;
    let answer = cluster.clients()[0].post("/orders", creation(7)).await;
    assert_eq!(outcome(&answer), (202, "accepted".to_owned()));
    let id = order_id(&answer);
    let lock = Lock::on_orders(cluster.sql().await, cluster.sql().await).await;
    cluster.start_worker().await;
    lock.is_waited_for().await;
    servers.kill("kafka");
    lock.release().await;
    // The order is written; without a broker there is no ACK and no committed offset.
    until("the worker's write", async || {
        (cluster.count("SELECT count(*) FROM orders WHERE status = 'done'").await == 1).then_some(())
    })
    .await;
    let before = cluster.sql().await.query_one(ROW, &[]).await.unwrap().get::<_, String>(0);
    cluster.workers.remove(0).kill_9().await;

    servers.up(Server::Kafka);
    cluster.start_worker().await;
    cluster.ready().await;
    until("the second ACK", async || Some(cluster.acks()).filter(|acks| !acks.is_empty())).await;
    let after = cluster.sql().await.query_one(ROW, &[]).await.unwrap().get::<_, String>(0);
    assert_eq!(after, before);
    let orders = cluster.finish(&[(id, "accepted")], 0).await;
    assert_eq!((orders.len(), orders[0].amount.to_string()), (1, "7".to_owned()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn confirmed_orders_survive_apis_and_workers_killed_under_load() {
    let mut cluster = Cluster::setup().await.start(3, 2).await;
    let mut running = Load::of(24).start_on(&cluster.api_addresses);
    for _ in 0..3 {
        running.confirmed(300).await;
        cluster.take_out_api(0).kill_9().await;
        cluster.start_api().await;
    }
    running.confirmed(300).await;
    // The group removes the killed worker only after a while, and its partitions wait for that; no caller waits so long
    // that it gets a 202.
    cluster.workers.remove(0).kill_9().await;
    cluster.start_worker().await;
    running.discard_confirmations();
    running.confirmed(600).await;
    let load = running.stopped().await;
    let broken = load.endings().filter(|ending| matches!(ending, Ending::Broken(_))).count();
    assert!(broken >= 3, "the kills must hit requests in flight, or nothing was tested");
    let orders = cluster.finish(&load.confirmed_orders(), 0).await;
    load.check(&orders);
}

/// The whole row of an order.
const ROW: &str = "SELECT orders::text FROM orders";

/// Sends an order to the first api, on a connection of its own.
async fn send_order(cluster: &Cluster) -> JoinHandle<Result<Answer, Broken>> {
    let mut wire = cluster.apis[0].connect().await;
    tokio::spawn(async move { wire.post(&creation(1)).await })
}
