//! One partition of the events' topic loses its leader, and the others keep theirs. Orders of the other partitions are
//! processed, answered and published once, as before; those of the broken one wait in the database, and are processed
//! when its broker is back.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures_util::future::join_all;
use orderstream::bus::{Bus, Record};
use orderstream::order::{OrderId, Status};
use rdkafka::consumer::{BaseConsumer, Consumer};

use super::{creation, posting};
use crate::clients::answers::order_id;
use crate::clients::http::{Client, GUARD};
use crate::harness::cluster::Cluster;
use crate::harness::servers::{Private, Server};
use crate::harness::system::{outcome, update};
use crate::harness::wait::until;

/// How many orders there are.
const ORDERS: usize = 64;

/// The broker of each partition of the events' topic. There is one replica: without its broker a partition has no
/// leader.
const BROKERS: [&[i32]; 4] = [&[1], &[2], &[3], &[1]];

/// The broker that is killed, and the partition that only this broker has.
const BROKEN: (&str, i32) = ("kafka.2", 1);

/// The log line of an api whose sweep finds pending events.
const SWEPT: &str = "republishing orders that were left pending";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_partition_without_a_leader_delays_only_its_own_orders() {
    let setup = Cluster::setup_alone().await;
    let servers = Private::new();
    let brokers = servers.three_brokers();
    let setup = setup.kafka(&brokers).set("ACK_WAIT_TIMEOUT", "10s").set("LOG_LEVEL", "info");
    let mut cluster = setup.start(0, 0).await;
    let topic = cluster.kafka.options.events_topic.clone();
    cluster.kafka.create_on(&topic, &BROKERS, &[("min.insync.replicas", "1")]).await;
    for _ in 0..2 {
        cluster.start_api().await;
    }
    cluster.start_worker().await;
    cluster.ready().await;
    let clients = cluster.clients();

    let creating: Vec<_> =
        (0..ORDERS).map(|number| posting(&clients[number % 2], creation(number))).collect();
    for answer in join_all(creating).await {
        assert_eq!(outcome(&answer.unwrap()), (201, "created".to_owned()));
    }
    cluster.idle().await;
    let partitions: BTreeMap<String, i32> =
        cluster.records(&topic).iter().map(|(partition, record)| (key(record), *partition)).collect();
    assert_eq!(partitions.values().collect::<BTreeSet<_>>().len(), BROKERS.len(), "{partitions:?}");
    let is_broken = |id: &str| partitions[id] == BROKEN.1;
    let (broken, healthy): (Vec<&str>, Vec<&str>) =
        partitions.keys().map(String::as_str).partition(|id| is_broken(id));

    servers.kill(BROKEN.0);
    without_leader(&cluster, &topic).await;
    let waiting: Vec<_> = updates(&clients, &broken, 1);
    // These are sent together with the ones before: the batches of the relay hold orders of all partitions.
    all_processed(&clients, &healthy, 1).await;
    // The api marks events published without waiting for those that are not.
    until("an outbox of the broken partition's orders", async || {
        (cluster.count("SELECT count(*) FROM orders_outbox").await == broken.len() as i64).then_some(())
    })
    .await;
    for answer in join_all(waiting).await {
        let answer = answer.unwrap();
        assert_eq!(answer.status, 202, "{answer:?}");
    }
    // By the third sweep that finds them, records of the broken partition have timed out.
    until("sweeps", async || (cluster.logged("api", SWEPT) >= 3).then_some(())).await;
    all_processed(&clients, &healthy, 2).await;
    // Lost events of the other partitions are found, too.
    let bus = cluster.kafka.bus().await;
    let behind = bus.ends().await.expect("an answer").expect("a topic").unknown();
    assert!(
        partitions.keys().all(|id| behind.may_hold(OrderId::parse(id).unwrap()) == is_broken(id)),
        "{behind:?}"
    );
    bus.close().await;
    assert_eq!(cluster.logged("api", "new producers take over"), 0, "the producers work");

    servers.up(Server::Kafka);
    cluster.idle().await;
    let mut published: BTreeMap<String, usize> = BTreeMap::new();
    for (_, record) in cluster.records(&topic) {
        *published.entry(key(&record)).or_default() += 1;
    }
    for id in healthy {
        assert_eq!(published[id], 3, "the order {id} was published more than once per version");
    }
    let confirmed: Vec<_> = partitions.keys().map(|id| (OrderId::parse(id).unwrap(), "created")).collect();
    let orders = cluster.finish(&confirmed, 0).await;
    assert_eq!(orders.len(), ORDERS);
    assert!(orders.iter().all(|order| order.status == Status::Done), "an order was given up");
}

fn key(record: &Record) -> String {
    String::from_utf8(record.key.clone().expect("a key")).expect("an id")
}

/// One update of each order to that amount, all at once.
fn updates(
    clients: &[Arc<Client>],
    ids: &[&str],
    amount: usize,
) -> Vec<tokio::task::JoinHandle<crate::clients::http::Answer>> {
    let body = |id: &str| update(id, &format!(r#"{{"amount":{amount}}}"#));
    ids.iter().enumerate().map(|(number, id)| posting(&clients[number % clients.len()], body(id))).collect()
}

async fn all_processed(clients: &[Arc<Client>], ids: &[&str], amount: usize) {
    for answer in join_all(updates(clients, ids, amount)).await {
        let answer = answer.unwrap();
        assert_eq!(outcome(&answer), (200, "updated".to_owned()), "{}", order_id(&answer));
    }
}

/// Waits until the brokers report that the broken partition has no leader.
async fn without_leader(cluster: &Cluster, topic: &str) {
    let client: BaseConsumer = cluster.kafka.client().create().expect("a consumer");
    until("a partition without a leader", async || {
        let metadata = client.fetch_metadata(Some(topic), GUARD).expect("metadata");
        let partitions = metadata.topics()[0].partitions();
        let leaderless = partitions.iter().filter(|it| it.leader() == -1).map(|it| it.id());
        (leaderless.collect::<Vec<_>>() == [BROKEN.1]).then_some(())
    })
    .await;
}
