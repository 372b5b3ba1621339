//! ACKs over Kafka: each process reads those of its own partition, or of all partitions where it is set to. It misses
//! no ACK that is sent after it is ready. The ACKs come from another bus, except where the test is about ACKs within
//! the process.

use std::sync::Arc;

use orderstream::bus::kafka::KafkaBus;
use orderstream::bus::{Bus, Reply, Subscription};
use orderstream::config::AckRead;
use orderstream::order::{Ack, AckStatus};
use tokio::sync::mpsc;

use super::{orders, publish, worker};
use crate::bus::conformance::{AckRecorder, ack, receive};
use crate::harness::kafka::{TestTopics, ready};
use crate::harness::wait::within;

/// The bus of an api process, and the ACKs that it delivers.
struct Api {
    bus: Arc<KafkaBus>,
    received: mpsc::UnboundedReceiver<Ack>,
}

impl Api {
    async fn open(test_topics: &TestTopics) -> Api {
        let bus = KafkaBus::open(test_topics.options.clone()).unwrap();
        let (sink, received) = mpsc::unbounded_channel();
        bus.on_acks(Arc::new(AckRecorder(sink)));
        ready(&*bus).await;
        Api { bus, received }
    }

    /// The partition that its events name, as a worker sees it.
    async fn partition(&self, bus: &KafkaBus, worker: &mut dyn Subscription) -> i32 {
        publish(&*self.bus, &orders(1)).await;
        let deliveries = receive(worker, 1).await;
        let partition = deliveries[0].reply_to.expect("a partition to reply to");
        bus.settle(deliveries).await;
        partition
    }

    async fn next_ack(&mut self) -> Ack {
        within("an ACK", self.received.recv()).await.unwrap()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_ack_reaches_the_process_that_waits_for_it_and_no_other() {
    let mut test_topics = TestTopics::new();
    test_topics.options.ack_partitions = 8;
    let theirs = test_topics.bus().await;
    let mut worker = worker(&*theirs).await;
    let mut one = Api::open(&test_topics).await;
    let first = one.partition(&theirs, &mut *worker).await;
    let (mut other, second) = loop {
        let other = Api::open(&test_topics).await;
        let second = other.partition(&theirs, &mut *worker).await;
        if second != first {
            break (other, second);
        }
    };
    let acks = [1, 2].map(|version| ack(Some(version), AckStatus::Processed));
    for (ack, to) in acks.iter().zip([first, second]) {
        assert_eq!(theirs.acknowledge(vec![Reply { ack: ack.clone(), to: Some(to) }]).await, Ok(()));
    }
    assert_eq!(one.next_ack().await, acks[0]);
    assert_eq!(other.next_ack().await, acks[1]);
    worker.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_ack_within_the_process_arrives_at_once_and_through_kafka() {
    let test_topics = TestTopics::new();
    let mut api = Api::open(&test_topics).await;
    let ack = ack(Some(1), AckStatus::Processed);
    assert_eq!(api.bus.acknowledge(vec![Reply { ack: ack.clone(), to: Some(0) }]).await, Ok(()));
    assert_eq!(api.received.try_recv(), Ok(ack.clone()), "the sink gets the ACK before the answer");
    assert_eq!(api.next_ack().await, ack, "and again, from the topic");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_ack_is_missed_after_readiness() {
    let mut test_topics = TestTopics::new();
    test_topics.options.ack_partitions = 3;
    let theirs = test_topics.bus().await;
    let mut worker = worker(&*theirs).await;
    for version in 1..=5 {
        let mut api = Api::open(&test_topics).await;
        let to = Some(api.partition(&theirs, &mut *worker).await);
        let ack = ack(Some(version), AckStatus::Updated);
        assert_eq!(theirs.acknowledge(vec![Reply { ack: ack.clone(), to }]).await, Ok(()));
        assert_eq!(api.next_ack().await, ack);
        api.bus.close().await;
    }
    worker.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_ack_partitions_are_read_where_workers_ignore_the_header() {
    let mut test_topics = TestTopics::new();
    (test_topics.options.ack_partitions, test_topics.options.ack_read) = (3, AckRead::All);
    let mut api = Api::open(&test_topics).await;
    let topic = &test_topics.options.ack_topic;
    for partition in 0..3 {
        // A record that is not an ACK does not block those behind it.
        test_topics.write(topic, Some(partition), None, &[], Some(b"no ack"));
        test_topics.write(topic, Some(partition), None, &[], None);
        let ack = ack(None, AckStatus::Processed);
        test_topics.write(topic, Some(partition), None, &[], Some(&ack.encode().unwrap()));
        assert_eq!(api.next_ack().await, ack);
    }
}
