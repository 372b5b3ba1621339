//! Records that are delivered again, in another order, or that cannot be processed. Duplicate and late events do not
//! change the table; records that cannot be processed become dead letters, and the others are processed.

use std::collections::BTreeSet;

use orderstream::bus::Record;
use orderstream::order::{OrderId, Status};

use super::{creation, events, header, posting, text, version};
use crate::clients::USER;
use crate::clients::answers::{create, member, order_id};
use crate::clients::http::Client;
use crate::harness::cluster::Cluster;
use crate::harness::kafka::TestTopics;
use crate::harness::ledger;
use crate::harness::system::{outcome, update};
use crate::harness::wait::until;
use crate::worker::poison::poison;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn duplicate_events_and_a_replay_of_the_topic_change_nothing() {
    let mut cluster = Cluster::setup().await.start(1, 2).await;
    let confirmed = live(&cluster.clients()[0]).await;
    // A creation on the topic itself: the record creates one order, no matter how often it is read.
    let foreign_creation =
        format!(r#"{{"order_id":"0","user_id":"{USER}","payload":{{"amount":9}},"status":"new"}}"#);
    let events = cluster.kafka.options.events_topic.clone();
    cluster.kafka.write(&events, None, None, &[], Some(foreign_creation.as_bytes()));
    cluster.workers_caught_up().await;
    let before = ledger::scan(&cluster.store()).await;
    for status in [Status::Done, Status::Failed, Status::Deleted] {
        assert!(before.iter().any(|order| order.status == status), "no order is {status}: {before:?}");
    }
    let history = cluster.records(&events);
    let (foreign, ours): (Vec<_>, Vec<_>) =
        history.iter().partition(|(_, record)| text(record).contains(r#""order_id":"0""#));
    assert_eq!((foreign.len(), before.len()), (1, confirmed.len() + 1));

    let bare = |record: &Record| Record { key: None, headers: Vec::new(), ..record.clone() };
    for (partition, record) in &ours {
        for _ in 0..10 {
            produce(&cluster, Some(*partition), record);
        }
        produce(&cluster, None, &bare(record));
    }
    cluster.workers_caught_up().await;
    assert_eq!(ledger::scan(&cluster.store()).await, before);

    for worker in std::mem::take(&mut cluster.workers) {
        worker.stop().await;
    }
    cluster.rewind();
    let acks = cluster.acks().len();
    cluster.start_worker().await;
    cluster.workers_caught_up().await;
    // Each event was delivered again, and its ACK was sent again.
    let redelivered = history.len() + 11 * ours.len();
    until("the ACKs of the replay", async || (cluster.acks().len() == acks + redelivered).then_some(()))
        .await;
    assert_eq!(ledger::scan(&cluster.store()).await, before);
    assert_eq!(cluster.finish(&confirmed, 0).await, before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_version_delivered_after_its_successor_is_not_applied() {
    // The test delivers the events between this api and that worker, in an order of its own.
    let worker_topics = TestTopics::new();
    let mut cluster = Cluster::setup().await.start(1, 0).await;
    let (topic, group) = (worker_topics.options.events_topic.clone(), worker_topics.options.group.clone());
    cluster.start_worker_with(&[("ORDERS_EVENTS_TOPIC", &topic), ("WORKER_GROUP", &group)]).await;
    let client = cluster.clients().remove(0);
    let creating = posting(&client, creation(1));
    let id = member(text(&events(&cluster, 1).await[0]), "order_id");
    let updating = posting(&client, update(&id, r#"{"amount":2}"#));
    let mut events = events(&cluster, 2).await;
    events.sort_by_key(version);

    until("the topic", async || (worker_topics.partitions(&topic) > 0).then_some(())).await;
    let deliver = |event: &Record| {
        worker_topics.write(&topic, Some(0), event.key.as_deref(), &event.headers, Some(&event.value));
    };
    deliver(&events[1]);
    assert_eq!(outcome(&updating.await.unwrap()), (200, "updated".to_owned()));
    let row = ledger::scan(&cluster.store()).await;
    assert_eq!((row[0].status, row[0].amount.to_string()), (Status::Done, "2".to_owned()));
    deliver(&events[0]);
    deliver(&Record { headers: Vec::new(), ..events[0].clone() });
    assert_eq!(outcome(&creating.await.unwrap()), (201, "created".to_owned()));
    until("a commit", async || (worker_topics.committed().get(&0) == Some(&3)).then_some(())).await;
    assert_eq!(ledger::scan(&cluster.store()).await, row);
    cluster.finish(&[(OrderId::parse(&id).unwrap(), "updated")], 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn poison_records_become_dead_letters_and_records_between_them_are_processed() {
    let cluster = Cluster::setup().await.start(1, 2).await;
    let client = cluster.clients().remove(0);
    let (kafka, mut confirmed) = (&cluster.kafka, Vec::new());
    let topic = &kafka.options.events_topic;
    let trace = [("trace".to_owned(), vec![0xff, 0xfe])];
    let mut poison: Vec<_> = poison().into_iter().map(|(value, reason)| (Some(value), reason)).collect();
    // A tombstone.
    poison.push((None, "object"));
    for (number, (value, _)) in (0..).zip(&poison) {
        kafka.write(topic, Some(number % 4), Some(b"k"), &trace, value.as_deref());
        let answer = client.post("/orders", creation(number as usize)).await;
        assert_eq!(outcome(&answer), (201, "created".to_owned()));
        confirmed.push((order_id(&answer), "created"));
    }
    // The workers have committed the offsets of all records.
    cluster.workers_caught_up().await;
    let letters = cluster.records(&kafka.dead_letter_topic());
    assert_eq!(letters.len(), poison.len());
    let mut sources = BTreeSet::new();
    for (value, reason) in &poison {
        let value = value.clone().unwrap_or_default();
        let is_its =
            |letter: &&Record| letter.value == value && header(letter, "dlq-reason").contains(reason);
        let letter = letters.iter().map(|(_, letter)| letter).find(is_its);
        let letter = letter.unwrap_or_else(|| panic!("no dead letter has the reason {reason:?}"));
        assert!(header(letter, "dlq-reason").len() < 1000, "a reason must not repeat the record");
        assert_eq!(letter.key.as_deref(), Some(b"k".as_slice()));
        assert!(letter.headers.contains(&trace[0]), "{:?}", letter.headers);
        assert_eq!(header(letter, "dlq-topic"), topic);
        sources.insert((header(letter, "dlq-partition"), header(letter, "dlq-offset")));
    }
    // Each came from a source of its own, except for the two that look the same: an empty value and no value.
    assert!(sources.len() >= poison.len() - 1, "{sources:?}");
    let orders = cluster.finish(&confirmed, poison.len() as u64).await;
    assert_eq!(orders.len(), confirmed.len(), "a poison record created an order");
    assert!(orders.iter().all(|order| order.status == Status::Done));
}

/// Some orders in every state that callers can cause.
async fn live(client: &Client) -> Vec<(OrderId, &'static str)> {
    let mut confirmed = Vec::new();
    for number in 0..9 {
        let payload = if number == 3 {
            r#"{"amount":"1e5000"}"#.to_owned()
        } else {
            format!("{{\"amount\":{number}}}")
        };
        let id = create(client, &payload).await;
        if number % 3 == 1 {
            let answer = client.post("/orders", update(&id, r#"{"amount":5}"#)).await;
            assert_eq!(outcome(&answer), (200, "updated".to_owned()));
        }
        let mut word = "created";
        if number > 5 {
            word = "deleted";
            let body = format!(r#"{{"order_id":"{id}","status":"deleted"}}"#);
            assert_eq!(outcome(&client.post("/orders", body).await), (200, "deleted".to_owned()));
        }
        confirmed.push((OrderId::parse(&id).unwrap(), word));
    }
    confirmed
}

fn produce(cluster: &Cluster, partition: Option<i32>, record: &Record) {
    let topic = &cluster.kafka.options.events_topic;
    cluster.kafka.write(topic, partition, record.key.as_deref(), &record.headers, Some(&record.value));
}
