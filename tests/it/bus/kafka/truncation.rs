//! A log of ACKs that lost its end, as after the crash of the only replica that was up to date, or whose topic was
//! recreated: the listener does not deliver old ACKs a second time, and misses no ACK that is sent after it noticed the
//! loss.

use std::sync::Arc;
use std::time::Duration;

use orderstream::bus::kafka::KafkaBus;
use orderstream::bus::{Bus, PublishError, Reply};
use orderstream::order::{Ack, AckStatus};
use rdkafka::consumer::{BaseConsumer, Consumer};
use tokio::sync::mpsc;

use crate::bus::conformance::{AckRecorder, ack};
use crate::harness::kafka::{TestTopics, ready};
use crate::harness::servers::{Private, Server};
use crate::harness::wait::{until, within};

/// How many ACKs there are before the loss.
const ACKS: i64 = 40;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acks_of_a_truncated_log_are_not_redelivered_and_new_acks_are_delivered() {
    let servers = Private::new();
    let test_topics = TestTopics::at(&servers.up(Server::Kafka));
    let bus = KafkaBus::open(test_topics.options.clone()).unwrap();
    let (sink, mut received) = mpsc::unbounded_channel();
    bus.on_acks(Arc::new(AckRecorder(sink)));
    ready(&*bus).await;
    let theirs = test_topics.bus().await;
    // Each is received before the next is sent, so that each is a batch of its own.
    for version in 1..=ACKS {
        send(&*theirs, version).await.unwrap();
        assert_eq!(within("an ACK", received.recv()).await.unwrap().version, Some(version));
    }
    servers.kill("kafka");
    servers.cut_log(&test_topics.options.ack_topic, 0);
    servers.up(Server::Kafka);
    expect_new_acks(&test_topics, &mut received).await;
    ready(&*bus).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_recreated_topic_of_acks_is_read_after_it_is_noticed() {
    let test_topics = TestTopics::new();
    let bus = KafkaBus::open(test_topics.options.clone()).unwrap();
    let (sink, mut received) = mpsc::unbounded_channel();
    bus.on_acks(Arc::new(AckRecorder(sink)));
    ready(&*bus).await;
    for version in 1..=ACKS {
        send(&*bus, version).await.unwrap();
    }
    // Each arrives twice: at once, within the process, and from the topic.
    for _ in 0..2 * ACKS {
        within("an ACK", received.recv()).await.unwrap();
    }
    test_topics.delete(&test_topics.options.ack_topic).await;
    let client: BaseConsumer = test_topics.client().create().unwrap();
    until("a recreated topic", async || {
        let ends = client.fetch_watermarks(&test_topics.options.ack_topic, 0, Duration::from_secs(5));
        (ends.ok()? == (0, 0)).then_some(())
    })
    .await;
    expect_new_acks(&test_topics, &mut received).await;
    ready(&*bus).await;
}

/// Sends ACKs until one arrives, and expects all that follow it.
async fn expect_new_acks(test_topics: &TestTopics, received: &mut mpsc::UnboundedReceiver<Ack>) {
    let theirs = test_topics.bus().await;
    let mut version = ACKS;
    let first = until("an ACK that was sent after the loss", async || {
        version += 1;
        send(&*theirs, version).await.unwrap();
        received.try_recv().ok()
    })
    .await;
    assert!(first.version > Some(ACKS), "{first:?} was delivered before");
    // No later ACK is missed.
    let mut last = first.version.unwrap();
    while last < version {
        let next = within("the next ACK", received.recv()).await.unwrap().version.unwrap();
        assert_eq!(next, last + 1);
        last = next;
    }
}

async fn send(bus: &dyn Bus, version: i64) -> Result<(), PublishError> {
    let ack = ack(Some(version), AckStatus::Processed);
    bus.acknowledge(vec![Reply { ack, to: Some(0) }]).await
}
