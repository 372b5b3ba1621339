//! A log of ACKs that lost its end, as after the crash of the only replica that was up to date, or that was made again:
//! old ACKs are not told a second time, and none that is sent after the loss was noticed is missed.

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
async fn acks_that_a_cut_log_still_has_are_not_told_again_and_new_ones_are() {
    let servers = Private::new();
    let test_topics = TestTopics::at(&servers.up(Server::Kafka));
    let bus = KafkaBus::open(test_topics.options.clone()).unwrap();
    let (sink, mut told) = mpsc::unbounded_channel();
    bus.on_acks(Arc::new(AckRecorder(sink)));
    ready(&*bus).await;
    let theirs = test_topics.bus().await;
    // Each is heard before the next is sent, so that each is a batch of its own.
    for version in 1..=ACKS {
        send(&*theirs, version).await.unwrap();
        assert_eq!(within("an ACK", told.recv()).await.unwrap().version, Some(version));
    }
    servers.kill("kafka");
    servers.cut_log(&test_topics.options.ack_topic, 0);
    servers.up(Server::Kafka);
    hears_what_is_sent_now(&test_topics, &mut told).await;
    ready(&*bus).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_of_acks_that_is_made_again_is_read_from_when_that_is_noticed() {
    let test_topics = TestTopics::new();
    let bus = KafkaBus::open(test_topics.options.clone()).unwrap();
    let (sink, mut told) = mpsc::unbounded_channel();
    bus.on_acks(Arc::new(AckRecorder(sink)));
    ready(&*bus).await;
    for version in 1..=ACKS {
        send(&*bus, version).await.unwrap();
    }
    // Each is heard at once, within the process, and from the topic.
    for _ in 0..2 * ACKS {
        within("an ACK", told.recv()).await.unwrap();
    }
    test_topics.delete(&test_topics.options.ack_topic).await;
    let client: BaseConsumer = test_topics.client().create().unwrap();
    until("a topic that was made again", async || {
        let ends = client.fetch_watermarks(&test_topics.options.ack_topic, 0, Duration::from_secs(5));
        (ends.ok()? == (0, 0)).then_some(())
    })
    .await;
    hears_what_is_sent_now(&test_topics, &mut told).await;
    ready(&*bus).await;
}

/// Sends ACKs until one is heard, and expects all that follow it.
async fn hears_what_is_sent_now(test_topics: &TestTopics, told: &mut mpsc::UnboundedReceiver<Ack>) {
    let theirs = test_topics.bus().await;
    let mut version = ACKS;
    let first = until("an ACK that was sent after the loss", async || {
        version += 1;
        send(&*theirs, version).await.unwrap();
        told.try_recv().ok()
    })
    .await;
    assert!(first.version > Some(ACKS), "{first:?} was told before");
    // From now on none is missed.
    let mut last = first.version.unwrap();
    while last < version {
        let next = within("the next ACK", told.recv()).await.unwrap().version.unwrap();
        assert_eq!(next, last + 1);
        last = next;
    }
}

async fn send(bus: &dyn Bus, version: i64) -> Result<(), PublishError> {
    let ack = ack(Some(version), AckStatus::Processed);
    bus.acknowledge(vec![Reply { ack, to: Some(0) }]).await
}
