//! Fairness: many commands of one order, or with one key, delay no other caller. They are committed in their order, one
//! version each; beyond a limit the service rejects them, and only them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use futures_util::future::join_all;
use serde_json::Value;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::clients::USER;
use crate::clients::answers::{create, member};
use crate::clients::http::{Answer, Client, GUARD};
use crate::faults::hooks::{Hook, Pass, Point};
use crate::harness::app::{Setup, TestApp};
use crate::harness::processors::Gate;
use crate::harness::system::{System, settings};

/// How many other clients create orders meanwhile.
const OTHERS: usize = 32;

/// Clients that create orders, one after the other, until they are stopped.
struct Others {
    stop: Arc<AtomicBool>,
    created: Arc<AtomicU64>,
    clients: Vec<JoinHandle<()>>,
}

impl Others {
    fn start(app: &TestApp) -> Others {
        let (stop, created) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let clients = (0..OTHERS).map(|_| {
            let (client, stop, created) = (Client::new(app.address), Arc::clone(&stop), Arc::clone(&created));
            tokio::spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    let body = format!(r#"{{"user_id":"{USER}","payload":{{"amount":1}}}}"#);
                    let answer =
                        client.request("POST", "/orders", &[("prefer", "respond-async")], body).await;
                    assert_eq!(answer.status, 202, "{answer:?}");
                    created.fetch_add(1, Ordering::Relaxed);
                }
            })
        });
        Others { clients: clients.collect(), stop, created }
    }

    fn created(&self) -> u64 {
        self.created.load(Ordering::Relaxed)
    }

    async fn stop(self) {
        self.stop.store(true, Ordering::Relaxed);
        for client in self.clients {
            client.await.expect("a client that was answered");
        }
    }
}

/// Sends `count` updates of one order in one request.
async fn updates(address: SocketAddr, id: &str, count: usize, key: Option<&str>) -> Answer {
    let item = format!(r#"{{"order_id":"{id}","payload":{{"amount":2}}}}"#);
    let body = format!(r#"{{"orders":[{}]}}"#, vec![item; count].join(","));
    let mut headers = vec![("prefer", "respond-async")];
    headers.extend(key.map(|key| ("idempotency-key", key)));
    Client::new(address).request("POST", "/orders:batch", &headers, body).await
}

/// The versions in the results of an answer.
fn versions(answer: &Answer) -> Vec<i64> {
    assert_eq!(answer.status, 207, "{answer:?}");
    let results: Value = answer.json();
    let version = |item: &Value| {
        assert_eq!(item["status"], 202, "{item}");
        item["version"].as_i64().expect("a version")
    };
    results["results"].as_array().expect("items").iter().map(version).collect()
}

/// How many updates of one order a batch has: two of them are more than a batch of the store holds.
const UPDATES: usize = 520;

/// A system whose callers wait long: each update takes a commit of its own, and all of them take longer than half a
/// minute on a busy machine.
fn with_long_wait() -> Setup {
    Setup::new().settings(|settings| settings.ack_wait_timeout = GUARD)
}

async fn others_are_not_delayed(app: TestApp) {
    let id = create(&app.client, r#"{"amount":1}"#).await;
    let others = Others::start(&app);
    let before = others.created();
    let batches = join_all([(); 2].map(|()| updates(app.address, &id, UPDATES, None))).await;
    let created = others.created() - before;
    others.stop().await;
    // Each update takes a commit of its own, and each commit has room for the other clients' orders. If the waiting
    // updates filled the batch, almost no other order would get in.
    let updates = 2 * UPDATES as u64;
    assert!(created > 4 * updates, "{created} other orders while {updates} updates of one were committed");
    for batch in &batches {
        let versions = versions(batch);
        assert!(versions.is_sorted(), "the items of a batch are not executed in their order");
    }
    let shown = app.client.get(&format!("/orders/{id}")).await;
    assert_eq!(member(&member(shown.text(), "order"), "version"), (updates + 1).to_string());
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn updates_of_one_order_delay_no_others_on_the_embedded_store() {
    others_are_not_delayed(with_long_wait().start().await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn updates_of_one_order_delay_no_others_on_postgres() {
    others_are_not_delayed(with_long_wait().start_on_postgres().await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_equal_batches_are_executed_once() {
    let app = Setup::new().start().await;
    let id = create(&app.client, r#"{"amount":1}"#).await;
    let batches = join_all((0..2).map(|_| updates(app.address, &id, 1000, Some("once")))).await;
    let [first, second] = [0, 1].map(|at| versions(&batches[at]));
    assert_eq!(first, second);
    assert_eq!(first, (2..=1001).collect::<Vec<i64>>());
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn too_many_commands_for_one_order_are_rejected_and_no_others() {
    let app = Setup::new().start().await;
    let id = create(&app.client, r#"{"amount":1}"#).await;
    let batches = join_all((0..5).map(|_| updates(app.address, &id, 1000, None))).await;
    let (mut accepted, mut rejected) = (0, 0);
    for batch in &batches {
        for item in batch.json()["results"].as_array().expect("items") {
            match item["body"]["code"].as_str() {
                None => accepted += 1,
                Some(code) => {
                    assert_eq!(code, "overloaded", "{item}");
                    rejected += 1;
                }
            }
        }
    }
    assert_eq!(accepted + rejected, 5000);
    assert!(accepted >= 2000, "two batches of the largest size have room: {accepted}");
    let shown = app.client.get(&format!("/orders/{id}")).await;
    assert_eq!(member(&member(shown.text(), "order"), "version"), (accepted + 1).to_string());
    create(&app.client, "[1]").await;
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn versions_of_one_order_that_arrive_together_are_recorded_in_one_write() {
    let (folder, gate, writes) = (TempDir::new().unwrap(), Gate::shut(), Arc::new(AtomicU64::new(0)));
    let counter = Arc::clone(&writes);
    let hook: Hook = Arc::new(move |point| {
        counter.fetch_add(u64::from(point == Point::Record), Ordering::Relaxed);
        Pass::On
    });
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let system = System::hooked(&settings(folder.path()), gate.clone(), listener, hook);
    let body = format!(r#"{{"user_id":"{USER}","payload":{{"amount":1}}}}"#);
    let respond_async = [("prefer", "respond-async")];
    let created = system.client.request("POST", "/orders", &respond_async, body.clone()).await;
    let id = member(created.text(), "order_id");
    assert_eq!(versions(&updates(system.address, &id, 500, None).await).len(), 500);
    let other =
        member(system.client.request("POST", "/orders", &respond_async, body).await.text(), "order_id");
    // The worker waits at the gate with the first events; all others queue behind them.
    system.journal.until(|traffic| traffic.events.len() == 502).await;
    gate.open();
    let traffic = system.journal.until(|traffic| traffic.acks.len() == 502).await;
    assert_eq!((traffic.acks_of(&id).len(), traffic.acks_of(&other).len()), (501, 1));
    let writes = writes.load(Ordering::Relaxed);
    assert!(writes < 50, "{writes} writes");
    let order = system.processed(&id).await;
    assert_eq!((order.version, order.amount.to_string().as_str()), (501, "2"));
    system.stop().await;
}
