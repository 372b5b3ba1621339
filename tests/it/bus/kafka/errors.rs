//! Errors of single activities while Kafka is available: the check of the bus names the activity that fails, the reason
//! and the remedy, and succeeds again when the activity works. A member with another assignment strategy, ACLs and a
//! setting of a topic cause the errors.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use orderstream::bus::Bus;
use orderstream::bus::kafka::KafkaBus;
use rdkafka::consumer::{BaseConsumer, Consumer};

use super::{orders, pass_one, worker};
use crate::harness::kafka::{TestTopics, ready};
use crate::harness::servers::Private;
use crate::harness::wait::{until, within};

/// Another service's member of the workers' group, with an assignment strategy of its own. Leaves when dropped.
pub(crate) struct OtherMember {
    stop: Arc<AtomicBool>,
    thread: Option<thread::JoinHandle<()>>,
}

impl OtherMember {
    /// Joins, and waits until it is the only member.
    pub(crate) async fn join(test_topics: &TestTopics) -> OtherMember {
        let mut config = test_topics.client();
        let consumer: BaseConsumer =
            config.set("partition.assignment.strategy", "range").create().expect("a consumer");
        consumer.subscribe(&[&test_topics.options.events_topic]).expect("a subscription");
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                drop(consumer.poll(Duration::from_millis(50)));
            }
        });
        until("a member of the group", async || (test_topics.members() == 1).then_some(())).await;
        OtherMember { stop, thread: Some(thread) }
    }
}

impl Drop for OtherMember {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = self.thread.take().map(thread::JoinHandle::join);
    }
}

/// Waits until a check fails, and answers its reason.
async fn unhealthy(bus: &KafkaBus) -> String {
    until("a check that fails", async || bus.check().await.err()).await.to_string()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_check_names_the_group_that_refuses_the_worker_until_it_accepts() {
    let test_topics = TestTopics::new();
    let bus = test_topics.bus().await;
    let other = OtherMember::join(&test_topics).await;
    let mut worker = worker(&*bus).await;
    let reason = unhealthy(&bus).await;
    assert!(reason.contains(&format!("group {} fails since", test_topics.options.group)), "{reason}");
    assert!(reason.contains("assignment strategy") && reason.contains("WORKER_GROUP"), "{reason}");
    drop(other);
    ready(&*bus).await;
    pass_one(&*bus, &mut *worker).await;
    worker.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_check_names_a_topic_without_write_permission_until_it_is_granted() {
    let servers = Private::new();
    let brokers = servers.kafka_with_acls();
    let test_topics = TestTopics::at(&brokers);
    let topic = &test_topics.options.events_topic;
    let bus = test_topics.bus().await;
    servers.permit(&brokers, ["--topic", topic], "Write", false);
    assert!(within("a publish", bus.publish(orders(1))).await.all().await[0].is_err());
    let reason = unhealthy(&bus).await;
    assert!(reason.contains(&format!("publishing to topic {topic} fails since")), "{reason}");
    assert!(reason.contains("the ACL that is missing"), "{reason}");
    servers.permit(&brokers, ["--topic", topic], "Write", true);
    until("an event that is taken", async || bus.publish(orders(1)).await.all().await.remove(0).ok()).await;
    ready(&*bus).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_check_names_a_group_without_read_permission_until_it_is_granted() {
    let servers = Private::new();
    let brokers = servers.kafka_with_acls();
    let test_topics = TestTopics::at(&brokers);
    let group = &test_topics.options.group;
    let bus = test_topics.bus().await;
    servers.permit(&brokers, ["--group", group], "Read", false);
    let mut worker = worker(&*bus).await;
    let reason = unhealthy(&bus).await;
    assert!(reason.contains(&format!("group {group} fails since")), "{reason}");
    assert!(reason.contains("the ACL that is missing"), "{reason}");
    servers.permit(&brokers, ["--group", group], "Read", true);
    ready(&*bus).await;
    pass_one(&*bus, &mut *worker).await;
    worker.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_check_names_the_remedy_where_the_topic_refuses_a_timestamp() {
    let test_topics = TestTopics::new();
    let topic = &test_topics.options.events_topic;
    // A record is older than that as soon as it arrives.
    test_topics.create_with(topic, 4, &[("message.timestamp.before.max.ms", "0")]).await;
    let bus = test_topics.bus().await;
    let reason = until("a refusal", async || {
        let _ = bus.publish(orders(1)).await;
        bus.check().await.err()
    })
    .await
    .to_string();
    assert!(reason.contains(&format!("publishing to topic {topic}")), "{reason}");
    assert!(reason.contains("message.timestamp.after.max.ms"), "{reason}");
    test_topics.alter(topic, "message.timestamp.before.max.ms", "9223372036854775807").await;
    until("an event that is taken", async || bus.publish(orders(1)).await.all().await.remove(0).ok()).await;
    ready(&*bus).await;
}
