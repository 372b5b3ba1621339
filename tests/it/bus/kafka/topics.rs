//! The topics that a bus creates, with their retention; compression, which a reader does not have to know; and static
//! members of a consumer group, which stay in it while they are away. A plain client reads the settings and the
//! members.

use orderstream::config::Compression;

use super::{pass_one, worker};
use crate::harness::kafka::TestTopics;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_are_kept_for_a_week_acks_for_an_hour_and_dead_letters_for_ever() {
    let test_topics = TestTopics::new();
    let _bus = test_topics.bus().await;
    let dead_letters = test_topics.dead_letter_topic();
    for (topic, setting, value) in [
        (&test_topics.options.events_topic, "retention.ms", "604800000"),
        (&test_topics.options.events_topic, "cleanup.policy", "delete"),
        (&test_topics.options.ack_topic, "retention.ms", "3600000"),
        (&test_topics.options.ack_topic, "segment.ms", "3600000"),
        (&dead_letters, "retention.ms", "-1"),
        (&dead_letters, "retention.bytes", "-1"),
        (&dead_letters, "cleanup.policy", "delete"),
    ] {
        assert_eq!(test_topics.setting(topic, setting).await, value, "{setting} of {topic}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_are_read_with_every_compression() {
    let mut test_topics = TestTopics::new();
    for compression in [Compression::None, Compression::Gzip, Compression::Snappy, Compression::Lz4] {
        test_topics.options.compression = compression;
        let bus = test_topics.bus().await;
        let mut worker = worker(&*bus).await;
        pass_one(&*bus, &mut *worker).await;
        orderstream::bus::Subscription::close(worker).await;
        orderstream::bus::Bus::close(&*bus).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_static_member_stays_in_its_group_while_it_is_away() {
    let mut test_topics = TestTopics::new();
    test_topics.options.group_instance = "worker-0".to_owned();
    test_topics.options.rack = "zone-a".to_owned();
    let bus = test_topics.bus().await;
    for _ in 0..2 {
        let mut worker = worker(&*bus).await;
        pass_one(&*bus, &mut *worker).await;
        assert_eq!(test_topics.members(), 1);
        worker.close().await;
        assert_eq!(test_topics.members(), 1, "a static member does not leave");
    }
}
