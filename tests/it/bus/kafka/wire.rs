//! The wire format: keys, headers and values of events and ACKs, byte for byte; how records of other programs are read;
//! and events that are larger than a limit of the topic or of the client. A plain client reads and writes the records.

use std::sync::Arc;

use orderstream::bus::{Bus, PublishError, Record, Reply};
use orderstream::order::{AckStatus, Event, OrderId, Payload};
use tokio::sync::mpsc;

use super::{noise, orders, publish, worker};
use crate::bus::conformance::{AckRecorder, ack, event, events, published, receive};
use crate::harness::kafka::{TestTopics, ready};

fn header(name: &str, value: &str) -> (String, Vec<u8>) {
    (name.to_owned(), value.as_bytes().to_vec())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_on_the_wire_has_the_agreed_bytes_and_headers() {
    let test_topics = TestTopics::new();
    let bus = test_topics.bus().await;
    let event = event(OrderId::generate(), 3);
    publish(&*bus, std::slice::from_ref(&event)).await;
    bus.on_acks(Arc::new(AckRecorder(mpsc::unbounded_channel().0)));
    ready(&*bus).await;
    publish(&*bus, std::slice::from_ref(&event)).await;

    let id = event.order_id.unwrap().to_string();
    let user = event.user_id.unwrap();
    let value = format!(
        r#"{{"order_id":"{id}","external_id":"3","user_id":"{user}","payload":{{"id":"3", "n":1.10, "n":12345678901234567890}},"status":"processing","timestamp":"2025-10-09T08:53:20.000003Z"}}"#
    );
    let key = Some(id.as_bytes().to_vec());
    let mut headers = vec![header("event-id", &format!("{id}/3")), header("order-version", "3")];
    let records = test_topics.read(&test_topics.options.events_topic, 2);
    let expected = Record { key, headers: headers.clone(), value: value.into_bytes() };
    assert_eq!(records[0].1, expected, "a process that waits for no ACK names no partition");
    headers.push(header("reply-partition", "0"));
    assert_eq!(records[1], (records[0].0, Record { headers, ..expected }));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_ack_on_the_wire_has_the_agreed_bytes_and_headers() {
    let mut test_topics = TestTopics::new();
    test_topics.options.ack_partitions = 3;
    let bus = test_topics.bus().await;
    let ack = ack(Some(7), AckStatus::Processed);
    let reply = |to| Reply { ack: ack.clone(), to };
    let topic = &test_topics.options.ack_topic;
    assert_eq!(bus.acknowledge(vec![reply(None)]).await, Ok(()));
    assert_eq!(test_topics.read(topic, 1).len(), 1);
    // The last two name partitions that do not exist: the key then decides the partition.
    for to in [Some(2), Some(3), Some(i32::MAX)] {
        assert_eq!(bus.acknowledge(vec![reply(to)]).await, Ok(()));
    }
    let records = test_topics.read(topic, 4);
    let id = ack.order_id.to_string();
    let value =
        format!(r#"{{"order_id":"{id}","status":"processed","processed_at":"2025-10-09T08:53:20.000001Z"}}"#);
    let expected = Record {
        key: Some(id.into_bytes()),
        headers: vec![header("order-version", "7")],
        value: value.into_bytes(),
    };
    assert!(records.iter().all(|(_, record)| *record == expected), "{records:?}");
    let at = |partition| records.iter().filter(|(it, _)| *it == partition).count();
    let by_key = (0..3).find(|partition| at(*partition) >= 3).unwrap();
    assert_eq!(at(2), if by_key == 2 { 4 } else { 1 });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_without_headers_is_read_and_an_invalid_one_is_ignored() {
    let test_topics = TestTopics::new();
    let bus = test_topics.bus().await;
    let mut worker = worker(&*bus).await;
    let ours = event(OrderId::generate(), 1);
    let value = ours.encode().unwrap();
    for (headers, reply_to) in [
        (vec![], None),
        (vec![header("reply-partition", "2")], Some(2)),
        (vec![header("reply-partition", "-1")], None),
        (vec![header("reply-partition", "two")], None),
        (vec![("reply-partition".to_owned(), b"\xff".to_vec())], None),
        (vec![header("reply-partition", "99999999999")], None),
    ] {
        test_topics.produce(&Record { key: None, headers: headers.clone(), value: value.clone() });
        let deliveries = receive(&mut *worker, 1).await;
        assert_eq!(events(&deliveries), [Event { version: None, ..ours.clone() }]);
        assert_eq!((deliveries[0].reply_to, deliveries[0].record.key.as_ref()), (reply_to, None));
        assert_eq!(deliveries[0].record.headers, headers);
        bus.settle(deliveries).await;
    }
    worker.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_existing_topic_is_used_unchanged() {
    let test_topics = TestTopics::new();
    test_topics.create(&test_topics.options.events_topic, 2).await;
    let bus = test_topics.bus().await;
    let mut worker = worker(&*bus).await;
    let batch = orders(50);
    publish(&*bus, &batch).await;
    let deliveries = receive(&mut *worker, 50).await;
    assert!(deliveries.iter().all(|delivery| delivery.source.partition < 2));
    assert_eq!(test_topics.partitions(&test_topics.options.events_topic), 2);
    bus.settle(deliveries).await;
    worker.close().await;
}

const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// A payload that cannot be compressed, because the limits are on compressed bytes.
fn incompressible(length: usize) -> Payload {
    let text: String = noise(length).iter().map(|byte| char::from(LETTERS[usize::from(byte % 64)])).collect();
    Payload::parse(&format!("[{text:?}]")).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_that_is_too_large_is_refused_alone() {
    let mut test_topics = TestTopics::new();
    test_topics.options.body_limit = 1024;
    // Another program created it, with one partition and a limit that a batch of small events exceeds, too.
    let topic = test_topics.options.events_topic.clone();
    test_topics.create_with(&topic, 1, &[("max.message.bytes", "65536")]).await;
    let bus = test_topics.bus().await;
    // The first is beyond the topic's limit, the second beyond the client's, which is above 128 KiB.
    for length in [100_000, 400_000] {
        let mut batch = orders(200);
        batch.iter_mut().for_each(|event| event.payload = incompressible(1000));
        batch[17].payload = incompressible(length);
        for (index, answer) in published(&*bus, batch).await.into_iter().enumerate() {
            assert_eq!(matches!(answer, Err(PublishError::Refused(_))), index == 17, "{index}: {answer:?}");
        }
    }
}
