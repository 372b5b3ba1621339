//! The bus over Kafka: the conformance suite against a real broker, and the promises of this bus alone: its wire
//! format, its workers, its ACKs, its dead letters, and its behaviour while a broker is not available.

mod acks;
mod dead_letters;
mod errors;
mod logins;
mod outages;
mod topics;
mod truncation;
mod wire;
mod workers;

use std::sync::Arc;

pub(crate) use errors::OtherMember;
use orderstream::bus::{Bus, Subscription};
use orderstream::order::{Event, OrderId};

use crate::bus::conformance::{Fresh, bus_conformance, event, events, published, receive};
use crate::harness::kafka::TestTopics;

async fn fresh() -> Fresh {
    let test_topics = Arc::new(TestTopics::new());
    let bus = test_topics.bus().await;
    let producer = Arc::clone(&test_topics);
    let produce = move |record| producer.produce(&record);
    Fresh { bus, produce: Box::new(produce), _keep: Box::new(test_topics) }
}

bus_conformance!(fresh);

/// A worker of a bus.
async fn worker(bus: &dyn Bus) -> Box<dyn Subscription> {
    bus.subscribe().await.expect("a subscription")
}

/// `count` events, each of another order.
fn orders(count: usize) -> Vec<Event> {
    (0..count).map(|_| event(OrderId::generate(), 1)).collect()
}

/// Publishes events that the broker must take.
async fn publish(bus: &dyn Bus, events: &[Event]) {
    for answer in published(bus, events.to_vec()).await {
        answer.expect("the broker takes it");
    }
}

/// Publishes an event, reads it and settles it; answers the event.
async fn pass_one(bus: &dyn Bus, worker: &mut dyn Subscription) -> Vec<Event> {
    let batch = orders(1);
    publish(bus, &batch).await;
    let deliveries = receive(worker, 1).await;
    assert_eq!(events(&deliveries), batch);
    bus.settle(deliveries).await;
    batch
}

/// `length` bytes that cannot be compressed: each digest is of the one before it.
fn noise(length: usize) -> Vec<u8> {
    let mut last = uuid::Uuid::now_v7();
    let digests = std::iter::from_fn(|| {
        last = uuid::Uuid::new_v5(&last, b"");
        Some(last.into_bytes())
    });
    digests.flatten().take(length).collect()
}
