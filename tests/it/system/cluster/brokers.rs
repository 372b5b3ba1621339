//! Kafka is killed, paused, or loses one of its brokers while clients send orders. Accepted orders are in the database
//! and are processed later; no client gets an error for it, and the api stays alive and small.

use std::sync::Arc;

use futures_util::future::join_all;

use crate::api::hostile::assert_small;
use crate::clients::USER;
use crate::clients::answers::{order_id, problem};
use crate::clients::http::Client;
use crate::clients::load::{Ending, Load};
use crate::harness::cluster::Cluster;
use crate::harness::servers::{Private, Server};
use crate::harness::wait::until;

const CLIENTS: usize = 16;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killing_the_broker_under_load_fails_no_request_and_loses_no_order() {
    let setup = Cluster::setup_alone().await;
    let servers = Private::new();
    let brokers = servers.up(Server::Kafka);
    let setup = setup.kafka(&brokers).set("ACK_WAIT_TIMEOUT", "300ms");
    let cluster = setup.start(2, 1).await;
    let mut running = Load::of(CLIENTS).accepting_202().start_on(&cluster.api_addresses);
    running.confirmed(100).await;

    servers.kill("kafka");
    for client in cluster.clients() {
        degraded(&client).await;
    }
    running.discard_confirmations();
    // Each client has had several answers since the broker was killed.
    running.confirmed(CLIENTS * 6).await;
    for client in cluster.clients() {
        degraded(&client).await;
        assert_eq!(client.get("/health/live").await.status, 200);
    }
    servers.up(Server::Kafka);
    cluster.ready().await;
    running.discard_confirmations();
    running.confirmed(CLIENTS).await;

    let load = running.stopped().await;
    assert!(load.late() >= CLIENTS * 4, "{} orders waited for the broker", load.late());
    // Only the broker monitor logs the outage, and not each client of Kafka.
    assert_eq!(["api", "worker"].map(|verb| cluster.logged(verb, "client_errors")), [0, 0]);
    assert!(load.endings().all(|ending| *ending == Ending::Stopped));
    let orders = cluster.finish(&load.confirmed_orders(), 0).await;
    load.check(&orders);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_stops_without_its_broker_does_not_wait_for_it() {
    let setup = Cluster::setup_alone().await;
    let servers = Private::new();
    let brokers = servers.up(Server::Kafka);
    let mut cluster = setup.kafka(&brokers).set("LOG_LEVEL", "info").start(1, 1).await;
    let client = cluster.clients().remove(0);
    let mut confirmed = Vec::new();
    for _ in 0..10 {
        let answer = client.post("/orders", format!(r#"{{"user_id":"{USER}","payload":{{}}}}"#)).await;
        confirmed.push((order_id(&answer), "created"));
    }
    cluster.idle().await;
    servers.kill("kafka");
    until("the worker's notice", async || {
        (cluster.logged("worker", "Kafka is not available") > 0).then_some(())
    })
    .await;
    cluster.workers.remove(0).stop().await;
    // It did not wait for its last commits until its session timed out.
    assert_eq!(
        ["session timed out", "has not left its group"].map(|text| cluster.logged("worker", text)),
        [0, 0]
    );
    servers.up(Server::Kafka);
    cluster.start_worker().await;
    cluster.finish(&confirmed, 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_paused_broker_exhausts_no_memory_and_all_orders_follow_later() {
    let setup = Cluster::setup_alone().await;
    let servers = Private::new();
    let brokers = servers.up(Server::Kafka);
    let setup = setup.kafka(&brokers).set("ACK_WAIT_TIMEOUT", "100ms");
    let cluster = setup.start(1, 1).await;
    let client = cluster.clients().remove(0);

    servers.pause("kafka");
    let mut confirmed = Vec::new();
    // More bytes than the relay and the Kafka client together keep in memory.
    for _ in 0..BATCHES {
        let posting = (0..BATCH).map(|_| {
            let client = Arc::clone(&client);
            tokio::spawn(async move { client.post("/orders", large_order()).await })
        });
        for answer in join_all(posting.collect::<Vec<_>>()).await {
            let answer = answer.unwrap();
            if answer.status == 503 {
                problem(&answer, "overloaded");
                continue;
            }
            assert_eq!(answer.status, 202, "{answer:?}");
            confirmed.push((order_id(&answer), "accepted"));
        }
        assert_eq!(client.get("/health/live").await.status, 200);
    }
    // The waiting orders are in the database and not in memory: they are several times as large as a process ever is.
    assert_small(cluster.apis[0].id());
    assert!(confirmed.len() > BATCHES * BATCH / 2, "{} orders were accepted", confirmed.len());
    let found = client.get(&format!("/orders/{}", confirmed[0].0)).await;
    assert_eq!(found.status, 200);

    servers.resume("kafka");
    let orders = cluster.finish(&confirmed, 0).await;
    assert_eq!(orders.len(), confirmed.len());
    assert!(orders.iter().all(|order| order.status.as_str() == "done"), "an order was given up");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killing_one_of_three_brokers_under_load_stops_no_client() {
    let setup = Cluster::setup_alone().await;
    let servers = Private::new();
    let brokers = servers.three_brokers();
    let setup = setup.kafka(&brokers).set("ACK_WAIT_TIMEOUT", "5s");
    let cluster = setup.start(2, 2).await;
    let mut running = Load::of(CLIENTS).accepting_202().start_on(&cluster.api_addresses);
    running.confirmed(300).await;
    servers.kill("kafka.2");
    running.discard_confirmations();
    running.confirmed(600).await;
    servers.up(Server::Kafka);
    running.discard_confirmations();
    running.confirmed(300).await;
    let load = running.stopped().await;
    assert!(load.endings().all(|ending| *ending == Ending::Stopped));
    cluster.ready().await;
    let orders = cluster.finish(&load.confirmed_orders(), 0).await;
    load.check(&orders);
}

/// How many large orders are sent at a time, and how often.
const BATCH: usize = 40;
const BATCHES: usize = 24;

/// The size of a large order, in KiB.
const LARGE: usize = 512;

fn large_order() -> String {
    format!(r#"{{"user_id":"{USER}","payload":{{"amount":1,"text":"{}"}}}}"#, "x".repeat(LARGE << 10))
}

/// Waits until an api reports that it takes orders, and that the bus is not available.
async fn degraded(client: &Client) {
    until("an api that misses its broker", async || {
        let answer = client.get("/health/ready").await;
        assert_eq!((answer.status, answer.json()["store"].as_str()), (200, Some("ok")), "{answer:?}");
        let health = answer.json();
        (health["status"] == "degraded" && health["bus"] == "not available").then_some(())
    })
    .await;
}
