//! Many callers on one order at the same time. Every accepted command has a version of its own and every caller
//! the answer to its own command; whoever was told `deleted` was told the truth for ever.

use futures_util::future::join_all;
use jiff::Timestamp;
use orderstream::bus::Bus;
use orderstream::config::Settings;
use orderstream::order::{Ack, AckStatus, OrderId, Status};
use tempfile::TempDir;

use crate::support::ledger;
use crate::support::records::{bare, with_headers};
use crate::support::system::{System, settings, update};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_updates_of_one_order_at_once_get_a_version_each_and_each_caller_its_answer() {
    let folder = TempDir::new().unwrap();
    let system = System::start(folder.path()).await;
    let id = system.create(r#"{"amount":0}"#).await;
    let callers = (0..100).map(|caller| system.posting(update(&id, &format!(r#"{{"amount":{caller}}}"#))));
    for answer in join_all(callers.collect::<Vec<_>>()).await {
        let answer = answer.unwrap();
        assert_eq!((answer.status, answer.text("status").as_str()), (200, "updated"));
        assert_eq!(answer.text("order_id"), id);
    }

    let events = system.history.events();
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
async fn a_deletion_that_a_caller_saw_holds_against_updates_and_a_slow_worker() {
    let folder = TempDir::new().unwrap();
    // Nobody waits for the worker, so a caller sees `deleted` while it still works on an older version.
    let system = System::with(&Settings { ack_wait: false, ..settings(folder.path()) }).await;
    let id = system.create(r#"{"amount":1}"#).await;
    system.processed(&id).await;
    system.gate.close();
    system.update(&id, r#"{"amount":2}"#).await;
    system.gate.reached(2).await;

    let updating = (0..30).map(|caller| system.posting(update(&id, &format!(r#"{{"amount":{caller}}}"#))));
    let updating: Vec<_> = updating.collect();
    system.delete(&id).await;
    assert_eq!(system.get(&id).await.status, Status::Deleted);
    let mut accepted = 0;
    for answer in join_all(updating).await {
        let answer = answer.unwrap();
        match (answer.status, answer.text("status").as_str()) {
            (200, "updated") => accepted += 1,
            (409, "deleted") => {}
            _ => panic!("{answer:?}"),
        }
    }
    let late = system.post(&update(&id, "{}")).await;
    assert_eq!((late.status, late.text("status").as_str()), (409, "deleted"));

    system.gate.open();
    let before = system.processed(&id).await;
    assert_eq!((before.status, before.version), (Status::Deleted, 3 + accepted));
    let history = system.history.events();
    system.stop().await;
    assert_eq!(ledger::settled_orders(folder.path()).await, std::slice::from_ref(&before));

    let system = System::start(folder.path()).await;
    for event in &history {
        let record = with_headers(event);
        system.feed(bare(&record)).await;
        system.feed(record).await;
    }
    let late = system.post(&update(&id, "{}")).await;
    assert_eq!((late.status, late.text("status").as_str()), (409, "deleted"));
    system.stop().await;
    assert_eq!(ledger::settled_orders(folder.path()).await, [before]);
}

#[tokio::test]
async fn two_callers_on_one_order_complete_at_their_own_versions_and_not_at_a_late_older_one() {
    let folder = TempDir::new().unwrap();
    let system = System::start(folder.path()).await;
    let id = system.create("{}").await;
    system.gate.close();
    let second = system.posting(update(&id, r#"{"amount":2}"#));
    system.history.reached(2).await;
    let third = system.posting(update(&id, r#"{"amount":3}"#));
    system.history.reached(3).await;

    // The worker's own ACKs will say `processed`; whoever hears `failed` took one of these.
    for version in [1, 2] {
        system.bus.acknowledge(vec![failed(&id, version)]).await.unwrap();
    }
    let second = second.await.unwrap();
    assert!(second.body.contains(r#""processing":"failed""#), "{second:?}");
    assert!(!third.is_finished(), "answered before its version was processed");

    system.gate.open();
    let third = third.await.unwrap();
    assert_eq!((third.status, third.text("status").as_str()), (200, "updated"));
    assert!(!third.body.contains("failed"), "{third:?}");
    system.stop().await;
    let orders = ledger::settled_orders(folder.path()).await;
    let order = ledger::order(&orders, &id);
    assert_eq!((order.status, order.version, order.amount.to_string().as_str()), (Status::Done, 3, "3"));
}

fn failed(id: &str, version: i64) -> Ack {
    Ack {
        order_id: OrderId::parse(id).expect("an id"),
        version: Some(version),
        status: AckStatus::Failed,
        processed_at: Timestamp::now(),
    }
}
