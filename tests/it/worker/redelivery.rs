//! The bus redelivers events, in another order, and without the headers of the service. However often and however late
//! an event is delivered, the orders stay as confirmed to their callers: no status, amount or row changes, and no
//! deleted order returns.

use std::sync::Arc;

use futures_util::future::join_all;
use jiff::Timestamp;
use orderstream::bus::Record;
use orderstream::config::Settings;
use orderstream::order::{Event, Status};
use orderstream::worker::AmountProcessor;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::mpsc::{self, UnboundedReceiver};

use crate::clients::USER;
use crate::clients::answers::{create, member};
use crate::faults::hooks::{Hook, Pass, Point};
use crate::harness::ledger;
use crate::harness::records::{Raw, bare, source, with_headers};
use crate::harness::system::{System, outcome, settings, update};
use crate::harness::wait::within;

#[tokio::test]
async fn redelivering_every_event_and_the_whole_history_changes_nothing() {
    let folder = TempDir::new().unwrap();
    let system = System::start(folder.path()).await;
    let history = produce_history(&system).await;
    let before = ledger::scan(&*system.store).await;
    for status in [Status::Done, Status::Failed, Status::Cancelled, Status::Deleted] {
        assert!(before.iter().any(|order| order.status == status), "no order is {status}: {before:?}");
    }

    for record in &history {
        // All ten at the same time, so that one batch of the worker has several of them.
        within("ten deliveries", join_all((0..10).map(|_| system.feed(record.clone())))).await;
    }
    for record in &history {
        system.feed(record.clone()).await;
    }
    assert_eq!(ledger::scan(&*system.store).await, before);
    for record in &history {
        system.feed(bare(record)).await;
        assert_eq!(ledger::scan(&*system.store).await, before, "{record:?}");
    }
    system.stop().await;
    assert_eq!(ledger::settled_orders(folder.path()).await, before);
}

#[tokio::test]
async fn replaying_the_history_after_a_restart_changes_nothing() {
    let folder = TempDir::new().unwrap();
    let system = System::start(folder.path()).await;
    let history = produce_history(&system).await;
    system.stop().await;
    let before = ledger::settled_orders(folder.path()).await;

    let system = System::start(folder.path()).await;
    for record in history {
        system.feed(bare(&record)).await;
        system.feed(record).await;
    }
    system.stop().await;
    assert_eq!(ledger::settled_orders(folder.path()).await, before);
}

#[tokio::test]
async fn an_older_version_delivered_late_does_not_undo_a_newer_one() {
    let folder = TempDir::new().unwrap();
    let without_wait = Settings { ack_wait: false, ..settings(folder.path()) };
    let (system, mut published) = behind_a_broker(&without_wait).await;
    let id = create(&system.client, r#"{"amount":1}"#).await;
    system.update(&id, r#"{"amount":2}"#).await;
    let deleted = create(&system.client, r#"{"amount":3}"#).await;
    system.delete(&deleted).await;

    let mut events = Vec::new();
    while events.len() < 4 {
        events.push(next(&mut published).await);
    }
    for event in events.iter().rev() {
        system.feed(with_headers(event)).await;
    }
    let order = system.get(&id).await;
    assert_eq!((order.status, order.processed_version), (Status::Done, 2));
    assert_eq!(order.amount.to_string(), "2");
    assert_eq!(system.get(&deleted).await.status, Status::Deleted);
    system.stop().await;
    assert_eq!(ledger::settled_orders(folder.path()).await.len(), 2);
}

#[tokio::test]
async fn an_old_event_without_headers_does_not_complete_a_newer_version() {
    let folder = TempDir::new().unwrap();
    let (system, mut published) = behind_a_broker(&settings(folder.path())).await;
    let creating = system.posting(format!(r#"{{"user_id":"{USER}","payload":{{"amount":1}}}}"#));
    let first = with_headers(&next(&mut published).await);
    system.feed(first.clone()).await;
    let id = member(creating.await.unwrap().text(), "order_id");

    // The old event is redelivered while the newer version is committed and not yet processed.
    let updating = system.posting(update(&id, r#"{"amount":2}"#));
    let second = with_headers(&next(&mut published).await);
    system.feed(bare(&first)).await;
    system.feed(second).await;
    assert_eq!(outcome(&updating.await.unwrap()), (200, "updated".to_owned()));
    system.feed(bare(&first)).await;

    let order = system.get(&id).await;
    assert_eq!((order.status, order.amount.to_string().as_str()), (Status::Done, "2"));
    system.stop().await;
    ledger::settled_orders(folder.path()).await;
}

#[tokio::test]
async fn a_record_without_an_id_creates_one_order_however_often_delivered() {
    let folder = TempDir::new().unwrap();
    let system = System::start(folder.path()).await;
    system.feed(creation_from_outside(0)).await;
    system.feed(creation_from_outside(0)).await;
    within("ten deliveries", join_all((0..10).map(|_| system.feed(creation_from_outside(0))))).await;
    // The same bytes at another offset are another creation.
    system.feed(creation_from_outside(1)).await;
    system.stop().await;

    let system = System::start(folder.path()).await;
    system.feed(creation_from_outside(0)).await;
    system.stop().await;
    let orders = ledger::settled_orders(folder.path()).await;
    assert_eq!(orders.len(), 2, "{orders:?}");
    for order in orders {
        assert_eq!((order.status, order.version), (Status::Done, 1));
        assert_eq!((order.payload.external_id(), order.amount.to_string().as_str()), ("wished", "4.5"));
    }
}

/// Creates, changes, deletes and cancels orders, and returns the records of that. In the end there is an order in every
/// final status.
async fn produce_history(system: &System) -> Vec<Raw> {
    for number in 0..10 {
        let id = create(&system.client, &format!(r#"{{"id":{number},"amount":{number}}}"#)).await;
        if number >= 2 {
            let payload = format!(r#"{{"id":{number},"items":[{{"price":"0.10","qty":{number}}}]}}"#);
            system.update(&id, &payload).await;
        }
        if number >= 5 {
            system.update(&id, r#"{"amount":5}"#).await;
        }
        if number >= 7 {
            system.delete(&id).await;
        }
    }
    create(&system.client, r#"{"amount":"1e5000"}"#).await;
    let (cancelled, revived) = (create(&system.client, "{}").await, create(&system.client, "{}").await);
    let foreign = [
        creation_from_outside(77),
        cancellation_from_outside(&cancelled),
        cancellation_from_outside(&revived),
    ];
    for record in &foreign {
        system.feed(record.clone()).await;
    }
    let so_far = system.events().len();
    system.update(&revived, r#"{"amount":8}"#).await;
    let mut history: Vec<Raw> = system.events().iter().map(with_headers).collect();
    history.splice(so_far..so_far, foreign);
    history
}

/// A system whose events do not reach its worker: the test is the broker, and delivers them itself.
async fn behind_a_broker(settings: &Settings) -> (System, UnboundedReceiver<Event>) {
    let (sender, published) = mpsc::unbounded_channel();
    let hook: Hook = Arc::new(move |point| {
        if let Point::Publish(events) = point {
            // At the end of the test the receiver is gone.
            events.iter().for_each(|event| drop(sender.send(event.clone())));
        }
        Pass::Withheld
    });
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    (System::hooked(settings, Arc::new(AmountProcessor::default()), listener, hook), published)
}

async fn next(published: &mut UnboundedReceiver<Event>) -> Event {
    within("an event", published.recv()).await.expect("a system that runs")
}

/// The record of another service that creates an order.
fn creation_from_outside(offset: i64) -> Raw {
    let at = Timestamp::from_microsecond(1_760_000_000_000_000).expect("a time");
    let value = format!(
        r#"{{"order_id":"0","user_id":"{USER}","payload":{{"id":"wished","items":[{{"price":1.5,"qty":3}}]}}}}"#
    );
    (source(offset, at), Record { value: value.into_bytes(), ..Record::default() })
}

/// The record of another service that cancels an order, with the current time.
fn cancellation_from_outside(id: &str) -> Raw {
    let at = Timestamp::now();
    let value = format!(
        r#"{{"order_id":"{id}","user_id":"{USER}","payload":{{}},"status":"cancelled","timestamp":"{at}"}}"#
    );
    (source(0, at), Record { value: value.into_bytes(), ..Record::default() })
}
