//! The faults that the whole service survives: real api and worker processes on Postgres and Kafka, which are killed,
//! stopped, restarted and cut off from their servers while clients continue. After each test the checker runs.

mod brokers;
mod crashes;
mod database;
mod dead_letters;
mod leaderless;
mod legacy_interop;
mod pauses;
mod records;
mod relay;
mod replicas;
mod restarts;
mod topics;

use std::sync::Arc;

use orderstream::bus::Record;
use tokio::task::JoinHandle;

use crate::clients::USER;
use crate::clients::http::{Answer, Client};
use crate::harness::cluster::Cluster;
use crate::harness::wait::until;

/// The request for an order of that number, which is also its amount.
fn creation(number: usize) -> String {
    format!(r#"{{"user_id":"{USER}","payload":{{"id":"A-{number}","amount":{number}}}}}"#)
}

/// A `POST /orders` that the test does not wait for yet.
fn posting(client: &Arc<Client>, body: String) -> JoinHandle<Answer> {
    let client = Arc::clone(client);
    tokio::spawn(async move { client.post("/orders", body).await })
}

/// Waits until `count` events have been published, and answers them.
async fn events(cluster: &Cluster, count: usize) -> Vec<Record> {
    until("events", async || Some(cluster.events()).filter(|events| events.len() == count)).await
}

/// A record's value.
fn text(record: &Record) -> &str {
    str::from_utf8(&record.value).expect("a value in UTF-8")
}

/// A record's header.
fn header<'a>(record: &'a Record, name: &str) -> &'a str {
    let found = record.header_pairs().find(|(header, _)| *header == name);
    let (_, value) = found.unwrap_or_else(|| panic!("no {name} in {:?}", record.headers));
    str::from_utf8(value).expect("a header in UTF-8")
}

/// A record's version of its order.
fn version(record: &Record) -> i64 {
    header(record, "order-version").parse().expect("digits")
}
