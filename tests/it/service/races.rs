//! Many callers on one order at the same time. Every accepted command has a version of its own, and every caller gets
//! the answer to its own command. An order that was confirmed as deleted stays deleted.

use std::sync::Arc;

use futures_util::future::join_all;
use jiff::Timestamp;
use orderstream::bus::{Bus, Reply};
use orderstream::config::Settings;
use orderstream::order::{Ack, AckStatus, OrderId, Status};
use tempfile::TempDir;

use crate::clients::USER;
use crate::clients::answers::{create, member};
use crate::harness::ledger;
use crate::harness::processors::Gate;
use crate::harness::records::{bare, with_headers};
use crate::harness::system::{System, outcome, settings, update};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_concurrent_updates_get_a_version_each_and_their_own_answers() {
    let folder = TempDir::new().unwrap();
    let system = System::start(folder.path()).await;
    let id = create(&system.client, r#"{"amount":0}"#).await;
    let callers: Vec<_> =
        (0..100).map(|caller| system.posting(update(&id, &format!(r#"{{"amount":{caller}}}"#)))).collect();
    for answer in join_all(callers).await {
        let answer = answer.unwrap();
        assert_eq!(outcome(&answer), (200, "updated".to_owned()));
        assert_eq!(member(answer.text(), "order_id"), id);
    }

    let events = system.events();
    let mut versions: Vec<i64> = events.iter().filter_map(|event| event.version).collect();
    versions.sort_unstable();
    assert_eq!(versions, (1..=101).collect::<Vec<_>>());
    let mut payloads: Vec<&str> = events[1..].iter().map(|event| event.payload.as_str()).collect();
    payloads.sort_unstable();
    payloads.dedup();
    assert_eq!(payloads.len(), 100, "two versions hold one caller's payload");
    system.stop().await;

    let orders = ledger::settled_orders(folder.path()).await;
    let order = ledger::order(&orders, &id);
    assert_eq!((orders.len(), order.version, order.status), (1, 101, Status::Done));
    let newest = events.iter().find(|event| event.version == Some(101)).unwrap();
    assert_eq!(order.payload, newest.payload);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_confirmed_deletion_survives_later_updates_and_a_slow_worker() {
    let folder = TempDir::new().unwrap();
    // No caller waits for the worker, so a caller sees `deleted` while older versions are still pending.
    let without_ack_wait = Settings { ack_wait: false, ..settings(folder.path()) };
    let gate = Gate::shut();
    let system = System::with(&without_ack_wait, Arc::<Gate>::clone(&gate)).await;
    let id = create(&system.client, r#"{"amount":1}"#).await;
    system.update(&id, r#"{"amount":2}"#).await;

    let updating: Vec<_> =
        (0..30).map(|caller| system.posting(update(&id, &format!(r#"{{"amount":{caller}}}"#)))).collect();
    system.delete(&id).await;
    assert_eq!(system.get(&id).await.status, Status::Deleted);
    let mut accepted = 0;
    for answer in join_all(updating).await {
        match outcome(&answer.unwrap()) {
            (200, word) if word == "updated" => accepted += 1,
            (409, word) if word == "deleted" => {}
            answer => panic!("{answer:?}"),
        }
    }
    assert_eq!(outcome(&system.post(update(&id, "{}")).await), (409, "deleted".to_owned()));

    gate.open();
    let deleted = system.processed(&id).await;
    assert_eq!((deleted.status, deleted.version), (Status::Deleted, 3 + accepted));
    let history = system.events();
    system.stop().await;
    assert_eq!(ledger::settled_orders(folder.path()).await, std::slice::from_ref(&deleted));

    let system = System::start(folder.path()).await;
    for record in history.iter().map(with_headers) {
        system.feed(bare(&record)).await;
        system.feed(record).await;
    }
    assert_eq!(outcome(&system.post(update(&id, "{}")).await), (409, "deleted".to_owned()));
    system.stop().await;
    assert_eq!(ledger::settled_orders(folder.path()).await, [deleted]);
}

#[tokio::test]
async fn callers_complete_at_their_own_versions_and_ignore_late_acks() {
    let folder = TempDir::new().unwrap();
    let gate = Gate::shut();
    let system = System::with(&settings(folder.path()), Arc::<Gate>::clone(&gate)).await;
    let first = system.posting(format!(r#"{{"user_id":"{USER}","payload":{{}}}}"#));
    // A published event already has its waiter.
    system.journal.until(|traffic| traffic.events.len() == 1).await;
    let id = system.events()[0].order_id.unwrap();
    let second = system.posting(update(&id.to_string(), r#"{"amount":2}"#));
    system.journal.until(|traffic| traffic.events.len() == 2).await;
    let third = system.posting(update(&id.to_string(), r#"{"amount":"1e5000"}"#));
    system.journal.until(|traffic| traffic.events.len() == 3).await;

    // A caller that took another version's ACK would report that version's outcome, which always differs from its own.
    for (version, status) in [(1, AckStatus::Failed), (1, AckStatus::Failed), (2, AckStatus::Processed)] {
        system.bus.acknowledge(vec![Reply { ack: ack(id, version, status), to: None }]).await.unwrap();
    }
    let failed = |answer: &str| answer.contains(r#""processing":"failed""#);
    let (first, second) = (first.await.unwrap(), second.await.unwrap());
    assert!(first.status == 201 && failed(first.text()), "{first:?}");
    assert!(second.status == 200 && !failed(second.text()), "{second:?}");
    gate.open();
    let third = third.await.unwrap();
    assert!(third.status == 200 && failed(third.text()), "{third:?}");

    system.stop().await;
    let orders = ledger::settled_orders(folder.path()).await;
    assert_eq!((orders.len(), orders[0].status, orders[0].version), (1, Status::Failed, 3));
}

fn ack(order_id: OrderId, version: i64, status: AckStatus) -> Ack {
    Ack { order_id, version: Some(version), status, processed_at: Timestamp::now() }
}
