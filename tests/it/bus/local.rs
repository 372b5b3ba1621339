//! The in-process bus: the conformance suite, and the promises of this bus alone: it confirms settled events and no
//! others, holds no more than its capacity, and serves one worker at a time.

use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use futures_util::StreamExt;
use jiff::Timestamp;
use orderstream::bus::local::LocalBus;
use orderstream::bus::{Bus, PublishError, Reply, Source, SubscribeError};
use orderstream::order::{AckStatus, Event, OrderId, Payload};
use tempfile::TempDir;
use tokio::sync::mpsc;

use crate::bus::conformance::{
    AckRecorder, Fresh, ack, bus_conformance, event, events, now, published, receive, record,
};

/// The topic of the bus.
pub(crate) const TOPIC: &str = "orders.events";
/// Room for everything.
pub(crate) const ROOMY: usize = 64 * 1024 * 1024;

/// A bus in a folder of its own, and the file of its dead letters.
pub(crate) fn open(capacity: usize) -> (Arc<LocalBus>, PathBuf, TempDir) {
    let folder = TempDir::new().expect("a folder");
    let file = folder.path().join("dead-letters.jsonl");
    (LocalBus::open(&file, TOPIC, capacity).expect("a bus"), file, folder)
}

/// A source in another topic.
pub(crate) fn foreign_source(offset: i64) -> Source {
    let timestamp = Timestamp::from_microsecond(1_760_000_000_123_456).expect("a time");
    Source { topic: "other.events".into(), partition: 3, offset, timestamp }
}

async fn fresh() -> Fresh {
    let (bus, _, folder) = open(ROOMY);
    let (feeder, offsets) = (Arc::clone(&bus), AtomicI64::new(0));
    let produce = move |record| {
        let (bus, source) = (Arc::clone(&feeder), foreign_source(offsets.fetch_add(1, Ordering::Relaxed)));
        tokio::spawn(async move { bus.feed(source, record).await });
    };
    Fresh { bus, produce: Box::new(produce), _keep: Box::new(folder) }
}

bus_conformance!(fresh);

/// Whether a publish was answered as unavailable, as when a worker drops the event.
pub(crate) fn unavailable(answer: &Result<(), PublishError>) -> bool {
    matches!(answer, Err(PublishError::Unavailable(_)))
}

#[tokio::test]
async fn a_publish_is_confirmed_when_the_last_event_is_settled_and_not_before() {
    let (bus, ..) = open(ROOMY);
    let id = OrderId::generate();
    let mut publish = pin!(published(&*bus, vec![event(id, 1), event(id, 2)]));
    assert_eq!(now(publish.as_mut()), None, "there is no subscription yet");
    let mut worker = bus.subscribe().await.unwrap();
    let mut deliveries = receive(&mut *worker, 2).await;
    assert_eq!(now(publish.as_mut()), None, "the worker has the events and has settled none");
    bus.settle(vec![deliveries.remove(1)]).await;
    assert_eq!(now(publish.as_mut()), None, "one of the two is settled");
    bus.settle(deliveries).await;
    assert_eq!(now(publish.as_mut()), Some(vec![Ok(()), Ok(())]));
}

#[tokio::test]
async fn each_event_is_answered_with_its_own_outcome() {
    let (bus, _file, _folder) = open(ROOMY);
    let batch: Vec<Event> = (1..=4).map(|version| event(OrderId::generate(), version)).collect();
    let mut publish = pin!(published(&*bus, batch));
    assert_eq!(now(publish.as_mut()), None);
    let mut worker = bus.subscribe().await.unwrap();
    let mut deliveries = receive(&mut *worker, 4).await;
    drop(deliveries.remove(1));
    assert_eq!(bus.reject(deliveries.remove(1), "no such order").await, Ok(()));
    bus.settle(deliveries).await;
    let answers = publish.await;
    let confirmed: Vec<bool> = answers.iter().map(Result::is_ok).collect();
    assert_eq!(confirmed, [true, false, true, true]);
    assert!(unavailable(&answers[1]));
}

#[tokio::test]
async fn an_event_that_a_worker_drops_or_never_took_is_unavailable() {
    let (bus, ..) = open(ROOMY);
    let mut publish = pin!(published(&*bus, (1..=3).map(|n| event(OrderId::generate(), n)).collect()));
    assert_eq!(now(publish.as_mut()), None);
    let mut worker = bus.subscribe().await.unwrap();
    let taken = worker.next(1).await;
    drop(taken);
    drop(worker);
    // The worker is gone: each event of the batch is answered or redelivered, and none is lost silently.
    let mut worker = bus.subscribe().await.unwrap();
    let mut sentinel = pin!(published(&*bus, vec![event(OrderId::generate(), 9)]));
    assert_eq!(now(sentinel.as_mut()), None);
    loop {
        let deliveries = worker.next(10).await.expect("the bus still delivers");
        let last = events(&deliveries).iter().any(|event| event.version == Some(9));
        bus.settle(deliveries).await;
        if last {
            break;
        }
    }
    assert_eq!(sentinel.await, [Ok(())]);
    assert!(unavailable(&publish.await[0]));
}

#[tokio::test]
async fn events_that_wait_when_a_worker_leaves_are_delivered_to_the_next() {
    let (bus, ..) = open(ROOMY);
    drop(bus.subscribe().await.unwrap());
    let id = OrderId::generate();
    let mut publish = pin!(published(&*bus, vec![event(id, 1)]));
    assert_eq!(now(publish.as_mut()), None);
    drop(bus.subscribe().await.unwrap());
    let mut worker = bus.subscribe().await.unwrap();
    let deliveries = receive(&mut *worker, 1).await;
    assert_eq!(events(&deliveries), [event(id, 1)]);
    bus.settle(deliveries).await;
    assert_eq!(publish.await, [Ok(())]);
}

#[tokio::test]
async fn there_is_one_worker_at_a_time() {
    let (bus, ..) = open(ROOMY);
    let worker = bus.subscribe().await.unwrap();
    assert_eq!(bus.subscribe().await.err(), Some(SubscribeError::Taken));
    drop(worker);
    assert!(bus.subscribe().await.is_ok());
}

#[tokio::test]
async fn a_worker_takes_arrived_events_up_to_its_limit_and_waits_for_others() {
    let (bus, ..) = open(ROOMY);
    let mut worker = bus.subscribe().await.unwrap();
    assert!(now(worker.next(4)).is_none(), "nothing has arrived");
    let batch = |range: std::ops::RangeInclusive<i64>| range.map(|n| event(OrderId::generate(), n)).collect();
    let mut publishes = [Box::pin(published(&*bus, batch(1..=3))), Box::pin(published(&*bus, batch(4..=10)))];
    for publish in &mut publishes {
        assert_eq!(now(publish.as_mut()), None);
    }
    // A delivery may span both batches.
    for (limit, expected) in [(4, 1..=4), (2, 5..=6), (100, 7..=10)] {
        let deliveries = worker.next(limit).await.expect("the bus still delivers");
        let versions: Vec<_> = events(&deliveries).iter().filter_map(|event| event.version).collect();
        assert_eq!(versions, expected.collect::<Vec<_>>());
        bus.settle(deliveries).await;
    }
    assert!(now(worker.next(4)).is_none(), "nothing is left");
}

#[tokio::test]
async fn a_worker_that_stops_waiting_loses_nothing() {
    let (bus, ..) = open(ROOMY);
    let mut worker = bus.subscribe().await.unwrap();
    assert!(now(worker.next(4)).is_none());
    let id = OrderId::generate();
    let mut publish = pin!(published(&*bus, vec![event(id, 1)]));
    assert_eq!(now(publish.as_mut()), None);
    let deliveries = receive(&mut *worker, 1).await;
    assert_eq!(events(&deliveries), [event(id, 1)]);
}

#[tokio::test]
async fn a_publish_beyond_the_capacity_waits_until_an_event_is_settled() {
    let (bus, ..) = open(2048);
    let mut worker = bus.subscribe().await.unwrap();
    let large = |version| {
        let payload = Payload::parse(&format!("\"{}\"", "x".repeat(1500))).expect("a payload");
        vec![Event { payload, ..event(OrderId::generate(), version) }]
    };
    let (mut first, mut second) = (pin!(published(&*bus, large(1))), pin!(published(&*bus, large(2))));
    assert_eq!(now(first.as_mut()), None);
    assert_eq!(now(second.as_mut()), None);
    let deliveries = receive(&mut *worker, 1).await;
    assert!(now(worker.next(10)).is_none(), "there is no room for the second one");
    assert_eq!(now(second.as_mut()), None, "the worker holds the first one and has not settled it");
    assert!(now(worker.next(10)).is_none());
    bus.settle(deliveries).await;
    assert_eq!(first.await, [Ok(())]);
    assert_eq!(now(second.as_mut()), None);
    let deliveries = receive(&mut *worker, 1).await;
    bus.settle(deliveries).await;
    assert_eq!(second.await, [Ok(())]);
}

#[tokio::test]
async fn a_record_beyond_the_capacity_waits_like_an_event() {
    let (bus, ..) = open(2048);
    let mut worker = bus.subscribe().await.unwrap();
    let mut first = pin!(bus.feed(foreign_source(1), record(&[b'x'; 2000])));
    let mut second = pin!(bus.feed(foreign_source(2), record(b"x")));
    assert_eq!(now(first.as_mut()), None);
    assert_eq!(now(second.as_mut()), None);
    let deliveries = worker.next(10).await.expect("the bus still delivers");
    assert_eq!(deliveries.len(), 1);
    drop(deliveries);
    assert!(unavailable(&first.await));
    assert_eq!(now(second.as_mut()), None);
    assert_eq!(receive(&mut *worker, 1).await[0].source, foreign_source(2));
}

#[tokio::test]
async fn a_batch_larger_than_the_bus_passes_alone() {
    let (bus, ..) = open(1);
    let mut worker = bus.subscribe().await.unwrap();
    let batch = || (1..=5).map(|version| event(OrderId::generate(), version)).collect();
    for mut publish in [Box::pin(published(&*bus, batch())), Box::pin(published(&*bus, batch()))] {
        assert_eq!(now(publish.as_mut()), None);
        let deliveries = receive(&mut *worker, 5).await;
        bus.settle(deliveries).await;
        assert_eq!(publish.await, vec![Ok(()); 5]);
    }
}

#[tokio::test]
async fn a_publisher_that_goes_away_revokes_no_event_and_frees_its_room() {
    let (bus, ..) = open(1);
    let mut worker = bus.subscribe().await.unwrap();
    let id = OrderId::generate();
    for version in 1..=3 {
        let mut publish = Box::pin(published(&*bus, vec![event(id, version)]));
        assert_eq!(now(publish.as_mut()), None);
        drop(publish);
        let deliveries = receive(&mut *worker, 1).await;
        assert_eq!(events(&deliveries), [event(id, version)]);
        bus.settle(deliveries).await;
    }
}

#[tokio::test]
async fn a_record_keeps_its_source_and_is_confirmed_by_settle_or_reject() {
    let (bus, _file, _folder) = open(ROOMY);
    let mut worker = bus.subscribe().await.unwrap();
    for rejected in [false, true] {
        let mut feed = pin!(bus.feed(foreign_source(17), record(b"no event")));
        assert_eq!(now(feed.as_mut()), None);
        let delivery = receive(&mut *worker, 1).await.remove(0);
        assert_eq!((&delivery.source, &delivery.record), (&foreign_source(17), &record(b"no event")));
        assert_eq!(now(feed.as_mut()), None);
        if rejected {
            assert_eq!(bus.reject(delivery, "it is no event").await, Ok(()));
        } else {
            bus.settle(vec![delivery]).await;
        }
        assert_eq!(now(feed.as_mut()), Some(Ok(())));
    }
}

#[tokio::test]
async fn acks_without_a_listener_are_dropped() {
    let (bus, ..) = open(ROOMY);
    assert_eq!(
        bus.acknowledge(vec![Reply { ack: ack(Some(1), AckStatus::Processed), to: None }]).await,
        Ok(())
    );
    let (sink, mut received) = mpsc::unbounded_channel();
    bus.on_acks(Arc::new(AckRecorder(sink)));
    let second = ack(Some(2), AckStatus::Processed);
    assert_eq!(bus.acknowledge(vec![Reply { ack: second.clone(), to: None }]).await, Ok(()));
    assert_eq!(received.try_recv(), Ok(second));
    assert!(received.try_recv().is_err());
}

#[tokio::test]
async fn an_event_frees_its_room_while_another_of_its_batch_is_held() {
    let (bus, ..) = open(2 * 1500 + 1024);
    let large = |version| {
        let payload = Payload::parse(&format!("\"{}\"", "x".repeat(1400))).expect("a payload");
        Event { payload, ..event(OrderId::generate(), version) }
    };
    let mut worker = bus.subscribe().await.unwrap();
    let mut answers = bus.publish(vec![large(1), large(2)]).await;
    let mut held = receive(&mut *worker, 2).await;
    assert_eq!(now(pin!(answers.next())), None, "the worker has the events and has settled none");
    let mut next = pin!(published(&*bus, vec![large(3)]));
    assert_eq!(now(next.as_mut()), None);
    assert!(now(worker.next(10)).is_none(), "there is no room for a third one");
    bus.settle(vec![held.remove(1)]).await;
    assert_eq!(now(pin!(answers.next())), Some(Some(vec![(1, Ok(()))])));
    assert_eq!(now(next.as_mut()), None);
    let third = receive(&mut *worker, 1).await;
    bus.settle(third).await;
    assert_eq!(now(next.as_mut()), Some(vec![Ok(())]));
    assert_eq!(now(pin!(answers.next())), None, "the first is still held");
    drop(held);
    let first = now(pin!(answers.next())).flatten().expect("an answer");
    assert!(first[0].0 == 0 && unavailable(&first[0].1), "{first:?}");
    assert_eq!(now(pin!(answers.next())), Some(None), "each event is answered once");
}
