//! Postgres is killed, paused, ends a session during a commit, or takes no writes. The answers say what is known: not
//! stored, stored, or an unknown outcome; and the service recovers by itself.

use std::sync::Arc;

use tokio::task::JoinHandle;

use super::{creation, posting};
use crate::clients::answers::{member, problem};
use crate::clients::http::{Answer, Client};
use crate::clients::load::{Ending, Load};
use crate::faults::lock::Lock;
use crate::harness::cluster::Cluster;
use crate::harness::servers::{Private, Server};
use crate::harness::system::outcome;
use crate::harness::wait::until;

const CLIENTS: usize = 16;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_killed_under_load_loses_no_confirmed_order() {
    let setup = Cluster::setup().await;
    let servers = Private::new();
    let cluster = setup.postgres(&servers.up(Server::Postgres)).start(2, 1).await;
    let mut running = Load::of(CLIENTS).start_on(&cluster.api_addresses);
    for _ in 0..2 {
        running.confirmed(200).await;
        servers.kill("postgres");
        for client in cluster.clients() {
            not_ready(&client).await;
        }
        servers.up(Server::Postgres);
        cluster.ready().await;
        running.discard_confirmations();
    }
    running.confirmed(200).await;
    let load = running.stopped().await;
    let mut rejected = 0;
    for ending in load.endings() {
        match ending {
            Ending::Rejected(code) => {
                assert!(["store_unavailable", "outcome_unknown"].contains(&code.as_str()), "{code}");
                rejected += 1;
            }
            Ending::Stopped => {}
            Ending::Refused | Ending::Broken(_) | Ending::Exhausted => panic!("{ending:?}"),
        }
    }
    assert!(rejected > 0, "the kills must hit requests, or nothing was tested");
    let orders = cluster.finish(&load.confirmed_orders(), 0).await;
    load.check(&orders);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_paused_database_is_reported_and_used_again_after_it_resumes() {
    let setup = Cluster::setup().await;
    let servers = Private::new();
    let setup = setup.postgres(&servers.up(Server::Postgres));
    let cluster = setup.set("POSTGRES_STATEMENT_TIMEOUT", "1s").start(2, 1).await;
    let mut running = Load::of(CLIENTS).start_on(&cluster.api_addresses);
    running.confirmed(100).await;
    servers.pause("postgres");
    for client in cluster.clients() {
        not_ready(&client).await;
        assert_eq!(client.get("/health/live").await.status, 200);
    }
    servers.resume("postgres");
    cluster.ready().await;
    running.discard_confirmations();
    running.confirmed(100).await;
    let load = running.stopped().await;
    for ending in load.endings() {
        assert!(matches!(ending, Ending::Rejected(_) | Ending::Stopped), "{ending:?}");
    }
    let orders = cluster.finish(&load.confirmed_orders(), 0).await;
    load.check(&orders);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_ended_during_its_commit_is_an_unknown_outcome() {
    let cluster = Cluster::setup().await.start(1, 1).await;
    let client = cluster.clients().remove(0);
    let lock = Lock::on_table(cluster.sql().await, cluster.sql().await, "orders_outbox").await;
    let waiting: JoinHandle<Answer> = posting(&client, creation(1));
    lock.is_waited_for().await;
    lock.end_waiting_sessions().await;
    let answer = waiting.await.unwrap();
    problem(&answer, "outcome_unknown");
    let id = member(answer.text(), "order_id");
    lock.release().await;
    // Here the order was not stored, and the caller can find that out.
    problem(&client.get(&format!("/orders/{id}")).await, "order_not_found");
    let again = client.post("/orders", creation(1)).await;
    assert_eq!(outcome(&again), (201, "created".to_owned()));
    let orders = cluster.finish(&[], 0).await;
    assert_eq!(orders.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_read_only_database_stores_nothing_and_is_used_again_when_writable() {
    let setup = Cluster::setup().await;
    let servers = Private::new();
    let setup = setup.postgres(&servers.up(Server::Postgres));
    let cluster = setup.set("ACK_WAIT_TIMEOUT", "20s").start(2, 1).await;
    let clients: Vec<Arc<Client>> = cluster.clients();
    let first = clients[0].post("/orders", creation(1)).await;
    assert_eq!(outcome(&first), (201, "created".to_owned()));
    let id = member(first.text(), "order_id");

    read_only(&cluster, "on").await;
    for client in &clients {
        for _ in 0..3 {
            problem(&client.post("/orders", creation(2)).await, "store_unavailable");
        }
        assert_eq!(client.get(&format!("/orders/{id}")).await.status, 200);
        assert_eq!(client.get("/health/live").await.status, 200);
    }
    assert_eq!(cluster.count("SELECT count(*) FROM orders").await, 1);
    read_only(&cluster, "off").await;
    for client in &clients {
        until("a write", async || {
            let answer = client.post("/orders", creation(3)).await;
            (answer.status == 201).then_some(()).or_else(|| {
                problem(&answer, "store_unavailable");
                None
            })
        })
        .await;
    }
    let orders = cluster.finish(&[], 0).await;
    assert_eq!(orders.len(), 3);
}

/// Makes the server refuse writes, as a primary that has become a replica; or take them again.
async fn read_only(cluster: &Cluster, to: &str) {
    let sql = cluster.sql().await;
    sql.batch_execute(&format!("ALTER SYSTEM SET default_transaction_read_only = {to}")).await.unwrap();
    sql.batch_execute("SELECT pg_reload_conf()").await.unwrap();
    // A new session shows whether the server has read the setting.
    until("the server's new setting", async || {
        let row = cluster.sql().await.query_one("SHOW default_transaction_read_only", &[]).await.unwrap();
        (row.get::<_, &str>(0) == to).then_some(())
    })
    .await;
}

/// Waits until an api reports that its store is not available.
async fn not_ready(client: &Client) {
    until("an api that misses its database", async || {
        let answer = client.get("/health/ready").await;
        (answer.status == 503 && answer.json()["store"] == "not available").then_some(())
    })
    .await;
}
