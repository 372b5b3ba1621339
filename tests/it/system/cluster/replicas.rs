//! Several apis as one service: each caller is answered by the replica that got its request, at the caller's own
//! version, and an order that was confirmed as deleted stays deleted.

use std::collections::BTreeMap;

use futures_util::future::join_all;
use orderstream::bus::Record;
use orderstream::order::{AckStatus, OrderId, Status};

use super::{creation, events, header, posting, text, version};
use crate::clients::answers::{create, member, order_id};
use crate::harness::cluster::Cluster;
use crate::harness::ledger;
use crate::harness::system::{outcome, update};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_callers_at_three_replicas_are_answered_by_their_own_replica() {
    let cluster = Cluster::setup().await.start(3, 1).await;
    let clients = cluster.clients();
    let posting = (0..1000).map(|number| posting(&clients[number % 3], creation(number)));
    let mut confirmed = Vec::new();
    for answer in join_all(posting.collect::<Vec<_>>()).await {
        let answer = answer.unwrap();
        assert_eq!(outcome(&answer), (201, "created".to_owned()));
        confirmed.push((order_id(&answer), "created"));
    }
    // Each ACK is in the partition of the replica that got the request.
    let events = cluster.events();
    let reply_partitions: BTreeMap<_, _> =
        events.iter().map(|event| (&event.key, reply_partition(event))).collect();
    let acks = cluster.records(&cluster.kafka.options.ack_topic);
    for (partition, ack) in &acks {
        assert_eq!(reply_partitions.get(&ack.key), Some(partition), "{ack:?}");
    }
    let orders = cluster.finish(&confirmed, 0).await;
    assert_eq!((orders.len(), acks.len()), (1000, 1000));
    assert!(orders.iter().all(|order| order.status == Status::Done && order.version == 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_updates_of_one_order_at_three_replicas_get_a_version_each() {
    let cluster = Cluster::setup().await.start(3, 1).await;
    let clients = cluster.clients();
    let id = create(&clients[0], r#"{"amount":0}"#).await;
    let updating = (0..100).map(|caller| {
        let body = update(&id, &format!(r#"{{"amount":{caller}}}"#));
        posting(&clients[caller % 3], body)
    });
    for answer in join_all(updating.collect::<Vec<_>>()).await {
        let answer = answer.unwrap();
        assert_eq!(outcome(&answer), (200, "updated".to_owned()));
        assert_eq!(member(answer.text(), "order_id"), id);
    }
    cluster.idle().await;
    let events = cluster.events();
    let mut versions: Vec<i64> = events.iter().map(version).collect();
    versions.sort_unstable();
    assert_eq!(versions, (1..=101).collect::<Vec<_>>());
    let newest = events.iter().find(|event| version(event) == 101).unwrap();
    let amount = member(&member(text(newest), "payload"), "amount");

    let orders = cluster.finish(&[(OrderId::parse(&id).unwrap(), "updated")], 0).await;
    let order = ledger::order(&orders, &id);
    assert_eq!((orders.len(), order.version, order.amount.to_string()), (1, 101, amount));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_confirmed_deletion_survives_races_at_three_replicas_and_a_late_worker() {
    let mut cluster = Cluster::setup().await.set("ACK_WAIT", "off").start(3, 0).await;
    let clients = cluster.clients();
    let id = create(&clients[0], r#"{"amount":1}"#).await;
    let updating: Vec<_> = (0..60)
        .map(|caller| posting(&clients[caller % 3], update(&id, &format!(r#"{{"amount":{caller}}}"#))))
        .collect();
    let delete = format!(r#"{{"order_id":"{id}","status":"deleted"}}"#);
    let deleting: Vec<_> = clients.iter().map(|client| posting(client, delete.clone())).collect();

    let (mut deletions, mut updates) = (0, 0);
    for answer in join_all(deleting).await {
        match outcome(&answer.unwrap()) {
            (200, word) if word == "deleted" => deletions += 1,
            (409, word) if word == "deleted" => {}
            answer => panic!("{answer:?}"),
        }
    }
    for answer in join_all(updating).await {
        match outcome(&answer.unwrap()) {
            (200, word) if word == "updated" => updates += 1,
            (409, word) if word == "deleted" => {}
            answer => panic!("{answer:?}"),
        }
    }
    assert_eq!(deletions, 1);
    for client in &clients {
        assert_eq!(outcome(&client.post("/orders", update(&id, "{}")).await), (409, "deleted".to_owned()));
    }
    // The worker starts with events that end with a deletion; older updates may arrive behind it.
    cluster.start_worker().await;
    let orders = cluster.finish(&[(OrderId::parse(&id).unwrap(), "deleted")], 0).await;
    let order = ledger::order(&orders, &id);
    assert_eq!((order.status, order.version), (Status::Deleted, 2 + updates));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn callers_at_two_replicas_complete_at_their_own_versions_and_ignore_late_acks() {
    let mut cluster = Cluster::setup().await.start(2, 0).await;
    let clients = cluster.clients();
    let first = posting(&clients[0], creation(1));
    let id = member(text(&events(&cluster, 1).await[0]), "order_id");
    let second = posting(&clients[1], update(&id, r#"{"amount":2}"#));
    let events = events(&cluster, 2).await;

    // A caller that took another version's ACK would report that version's outcome, which always differs from its own.
    let of = |number: i64| events.iter().find(|event| version(event) == number).expect("that version");
    let partitions = [reply_partition(of(1)), reply_partition(of(2))];
    for (to, version, status) in [
        (1, 1, AckStatus::Failed),
        (0, 2, AckStatus::Processed),
        (1, 1, AckStatus::Failed),
        (1, 2, AckStatus::Processed),
        (0, 1, AckStatus::Failed),
    ] {
        acknowledge(&cluster, partitions[to], &id, version, status);
    }
    let failed = |answer: &str| answer.contains(r#""processing":"failed""#);
    let (first, second) = (first.await.unwrap(), second.await.unwrap());
    assert!(second.status == 200 && !failed(second.text()), "{second:?}");
    assert!(first.status == 201 && failed(first.text()), "{first:?}");

    cluster.start_worker().await;
    let orders = cluster.finish(&[(OrderId::parse(&id).unwrap(), "updated")], 0).await;
    assert_eq!((orders.len(), orders[0].version, orders[0].amount.to_string()), (1, 2, "2".to_owned()));
}

/// The partition in which the sender of an event waits for its ACK.
fn reply_partition(event: &Record) -> i32 {
    header(event, "reply-partition").parse().expect("a partition")
}

fn acknowledge(cluster: &Cluster, partition: i32, id: &str, version: i64, status: AckStatus) {
    let status = serde_json::to_string(&status).expect("a word");
    let value = format!(r#"{{"order_id":"{id}","status":{status},"processed_at":"2026-01-01T00:00:00Z"}}"#);
    let headers = [("order-version".to_owned(), version.to_string().into_bytes())];
    let topic = &cluster.kafka.options.ack_topic;
    cluster.kafka.write(topic, Some(partition), Some(id.as_bytes()), &headers, Some(value.as_bytes()));
}
