//! Workers on Kafka: they share the partitions, and a worker that leaves hands its own over in order. Settled events
//! are not redelivered; dropped events are. A plain client reads the committed offsets and the members of the group.

use std::collections::BTreeMap;
use std::sync::Arc;

use orderstream::bus::kafka::KafkaBus;
use orderstream::bus::{Bus, Delivery, Subscription};
use orderstream::order::{Event, OrderId};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{orders, publish, worker};
use crate::bus::conformance::{event, events, receive};
use crate::harness::kafka::TestTopics;
use crate::harness::wait::{until, within};

/// A worker that settles every event, and reports it with the worker's name.
struct Settler {
    stop: CancellationToken,
    task: tokio::task::JoinHandle<Box<dyn Subscription>>,
}

type Received = mpsc::UnboundedReceiver<(usize, OrderId)>;

impl Settler {
    async fn start(
        name: usize,
        bus: &Arc<KafkaBus>,
        reports: &mpsc::UnboundedSender<(usize, OrderId)>,
    ) -> Settler {
        let (bus, reports, stop) = (Arc::clone(bus), reports.clone(), CancellationToken::new());
        let (mut worker, stopped) = (worker(&*bus).await, stop.clone());
        let task = tokio::spawn(async move {
            loop {
                let next = tokio::select! {
                    biased;
                    () = stopped.cancelled() => return worker,
                    next = worker.next(100) => next.unwrap(),
                };
                let ids: Vec<_> = events(&next).iter().map(|event| event.order_id.unwrap()).collect();
                bus.settle(next).await;
                ids.into_iter().for_each(|id| reports.send((name, id)).unwrap());
            }
        });
        Settler { stop, task }
    }

    async fn close(self) {
        self.stop.cancel();
        self.task.await.unwrap().close().await;
    }
}

/// Publishes until each of two workers has settled an event; answers the worker of each event.
async fn share(bus: &KafkaBus, received: &mut Received) -> BTreeMap<OrderId, usize> {
    let mut seen = BTreeMap::new();
    within("two workers that share the work", async {
        while ![0, 1].iter().all(|name| seen.values().any(|it| it == name)) {
            expect_reports(&mut seen, publish_new(bus).await, received).await;
        }
    })
    .await;
    seen
}

async fn publish_new(bus: &KafkaBus) -> usize {
    let batch = orders(40);
    publish(bus, &batch).await;
    batch.len()
}

/// Receives the reports of `count` events, none of which was reported before.
async fn expect_reports(seen: &mut BTreeMap<OrderId, usize>, count: usize, received: &mut Received) {
    for _ in 0..count {
        let (name, id) = within("a settled event", received.recv()).await.unwrap();
        assert_eq!(seen.insert(id, name), None, "a settled event was redelivered");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn workers_share_the_partitions_and_a_leaving_worker_hands_over_its_own() {
    let test_topics = TestTopics::new();
    let buses = [test_topics.bus().await, test_topics.bus().await];
    let (reports, mut received) = mpsc::unbounded_channel();
    let first = Settler::start(0, &buses[0], &reports).await;
    let second = Settler::start(1, &buses[1], &reports).await;
    let mut seen = share(&buses[0], &mut received).await;
    first.close().await;
    assert_eq!(test_topics.members(), 1, "a closed worker is still in the group");
    let count = publish_new(&buses[0]).await;
    expect_reports(&mut seen, count, &mut received).await;
    second.close().await;
    assert_eq!(test_topics.members(), 0);
    assert_eq!(test_topics.committed().values().sum::<i64>(), seen.len() as i64);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dropped_worker_leaves_and_its_events_are_delivered_to_the_next() {
    let test_topics = TestTopics::new();
    let bus = test_topics.bus().await;
    let mut first = worker(&*bus).await;
    let id = OrderId::generate();
    publish(&*bus, &[event(id, 1), event(id, 2), event(id, 3)]).await;
    let mut held = receive(&mut *first, 2).await;
    bus.settle(vec![held.remove(0)]).await;
    drop(first);
    until("a group without workers", async || (test_topics.members() == 0).then_some(())).await;
    drop(held);
    let mut second = worker(&*bus).await;
    let deliveries = receive(&mut *second, 2).await;
    assert_eq!(events(&deliveries), [event(id, 2), event(id, 3)]);
    bus.settle(deliveries).await;
    second.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dropped_event_is_redelivered_and_settled_ones_around_it_are_not() {
    let test_topics = TestTopics::new();
    let bus = test_topics.bus().await;
    let mut worker = worker(&*bus).await;
    let id = OrderId::generate();
    let batch: Vec<Event> = (1..=4).map(|version| event(id, version)).collect();
    publish(&*bus, &batch).await;
    let mut held = receive(&mut *worker, 4).await;
    let last = held.pop().unwrap();
    drop(held.remove(1));
    bus.settle(held).await;
    let again = receive(&mut *worker, 1).await;
    assert_eq!(events(&again), [event(id, 2)]);
    drop(again);
    let again = receive(&mut *worker, 1).await;
    assert_eq!(events(&again), [event(id, 2)]);
    bus.settle(again).await;
    // The next delivery is the next event, so no other was redelivered.
    publish(&*bus, &[event(id, 5)]).await;
    let next = receive(&mut *worker, 1).await;
    assert_eq!(events(&next), [event(id, 5)]);
    bus.settle(next).await;
    bus.settle(vec![last]).await;
    until("a commit of all", async || (test_topics.committed().values().sum::<i64>() == 5).then_some(()))
        .await;
    worker.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_offset_is_committed_when_no_unsettled_event_is_before_it() {
    let test_topics = TestTopics::new();
    let bus = test_topics.bus().await;
    let mut worker = worker(&*bus).await;
    let id = OrderId::generate();
    publish(&*bus, &(1..=4).map(|version| event(id, version)).collect::<Vec<_>>()).await;
    let mut held = receive(&mut *worker, 4).await;
    let partition = held[0].source.partition;
    let rest = held.split_off(1);
    bus.settle(rest).await;
    // An event of another partition, settled after those, is committed with them or later.
    let other = from_another_partition(&*bus, &mut *worker, partition).await;
    let witness = (other.source.partition, other.source.offset + 1);
    bus.settle(vec![other]).await;
    let committed = until("a commit of the witness", async || {
        Some(test_topics.committed()).filter(|committed| committed.get(&witness.0) == Some(&witness.1))
    })
    .await;
    assert_eq!(committed.get(&partition).copied().unwrap_or(0), 0, "{committed:?}");
    bus.settle(held).await;
    until("a commit of all", async || (test_topics.committed().get(&partition) >= Some(&4)).then_some(()))
        .await;
    worker.close().await;
}

/// A delivery from another partition than that one.
async fn from_another_partition(bus: &dyn Bus, worker: &mut dyn Subscription, partition: i32) -> Delivery {
    loop {
        publish(bus, &orders(1)).await;
        let delivery = receive(worker, 1).await.remove(0);
        if delivery.source.partition != partition {
            return delivery;
        }
        bus.settle(vec![delivery]).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_with_a_backlog_larger_than_its_inbox_misses_no_event() {
    let test_topics = TestTopics::new();
    let bus = test_topics.bus().await;
    let mut worker = worker(&*bus).await;
    // The inbox holds a third of that at most; its own tests check the limit.
    let mut expected = std::collections::BTreeSet::new();
    for _ in 0..12 {
        let batch = orders(2000);
        publish(&*bus, &batch).await;
        expected.extend(batch.iter().map(|event| event.order_id));
    }
    let first = within("a delivery", worker.next(1)).await.unwrap();
    let mut seen: Vec<_> = events(&first);
    bus.settle(first).await;
    while seen.len() < 24_000 {
        let next = within("the rest", worker.next(1024)).await.unwrap();
        seen.extend(events(&next));
        bus.settle(next).await;
    }
    let seen: std::collections::BTreeSet<_> = seen.iter().map(|event| event.order_id).collect();
    assert_eq!(seen, expected);
    worker.close().await;
}
