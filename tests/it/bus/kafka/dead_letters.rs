//! Dead letters on Kafka: the topic keeps the bytes of a record unchanged, with the reason and the source, and the
//! partition advances. Any bytes are possible, also those that are not text. A plain client writes the bad records and
//! reads the dead letters.

use std::collections::BTreeMap;

use orderstream::bus::Bus;

use super::{noise, pass_one, worker};
use crate::bus::conformance::receive;
use crate::harness::kafka::TestTopics;
use crate::harness::wait::until;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_poison_record_is_kept_unchanged_in_the_dead_letter_topic() {
    let test_topics = TestTopics::new();
    let bus = test_topics.bus().await;
    let mut worker = worker(&*bus).await;
    let long = vec![b'x'; 2 << 20];
    let own = ("mine".to_owned(), b"\xff".to_vec());
    let poison: [Option<&[u8]>; 5] = [Some(b""), None, Some(b"\xff\xfe"), Some(b"[]"), Some(&long)];
    for (count, value) in poison.into_iter().enumerate() {
        let topic = &test_topics.options.events_topic;
        test_topics.write(topic, Some(3), Some(b"key"), std::slice::from_ref(&own), value);
        let delivery = receive(&mut *worker, 1).await.remove(0);
        let source = delivery.source.clone();
        let reason = delivery.event.clone().unwrap_err().to_string();
        assert_eq!(bus.reject(delivery, &reason).await, Ok(()));
        assert_eq!(bus.dead_letters().await, Ok(count as u64 + 1));

        let letter = test_topics.read(&test_topics.dead_letter_topic(), count + 1).pop().unwrap().1;
        assert_eq!(letter.key.as_deref(), Some(b"key".as_slice()));
        assert!(letter.value == value.unwrap_or_default(), "the value has changed");
        let mut headers: BTreeMap<_, _> = letter.headers.into_iter().collect();
        assert_eq!(headers.remove(&own.0), Some(own.1.clone()));
        let expected = [
            ("dlq-reason", reason),
            ("dlq-topic", topic.clone()),
            ("dlq-partition", "3".to_owned()),
            ("dlq-offset", source.offset.to_string()),
            ("dlq-timestamp", source.timestamp.to_string()),
        ];
        assert_eq!(headers, expected.map(|(name, value)| (name.to_owned(), value.into_bytes())).into());
    }
    until("a commit", async || (test_topics.committed().get(&3) == Some(&5)).then_some(())).await;
    worker.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_letter_above_the_limit_of_its_topic_is_cut() {
    let test_topics = TestTopics::new();
    // Another program created it, with the broker's own limit of about 1 MiB.
    test_topics.create(&test_topics.dead_letter_topic(), 1).await;
    let bus = test_topics.bus().await;
    let mut worker = worker(&*bus).await;
    // The limit is on compressed bytes, and noise cannot be compressed.
    let noise = noise(2_000_000);
    test_topics.write(&test_topics.options.events_topic, Some(0), None, &[], Some(&noise));
    let delivery = receive(&mut *worker, 1).await.remove(0);
    assert_eq!(bus.reject(delivery, "it is no event").await, Ok(()));
    let letter = test_topics.read(&test_topics.dead_letter_topic(), 1).remove(0).1;
    assert!(!letter.value.is_empty() && noise.starts_with(&letter.value));
    let length = ("dlq-value-length".to_owned(), noise.len().to_string().into_bytes());
    assert!(letter.headers.contains(&length), "{:?}", letter.headers);

    pass_one(&*bus, &mut *worker).await;
    worker.close().await;
}
