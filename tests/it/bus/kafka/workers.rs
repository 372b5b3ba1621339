//! Workers on Kafka: they share the partitions and hand them over in order, what they settle never comes again,
//! and what they drop does.

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

/// A worker that settles whatever comes, and tells of it with its name.
struct Settler {
    stop: CancellationToken,
    task: tokio::task::JoinHandle<Box<dyn Subscription>>,
}

type Received = mpsc::UnboundedReceiver<(usize, OrderId)>;

impl Settler {
    async fn start(
        name: usize,
        bus: &Arc<KafkaBus>,
        tell: &mpsc::UnboundedSender<(usize, OrderId)>,
    ) -> Settler {
        let (bus, tell, stop) = (Arc::clone(bus), tell.clone(), CancellationToken::new());
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
                ids.into_iter().for_each(|id| tell.send((name, id)).unwrap());
            }
        });
        Settler { stop, task }
    }

    async fn close(self) {
        self.stop.cancel();
        self.task.await.unwrap().close().await;
    }
}

/// Publishes until each of two workers has dealt with something; answers who dealt with what.
async fn share(bus: &KafkaBus, told: &mut Received) -> BTreeMap<OrderId, usize> {
    let mut seen = BTreeMap::new();
    within("two workers that share the work", async {
        while ![0, 1].iter().all(|name| seen.values().any(|it| it == name)) {
            hear(&mut seen, publish_new(bus).await, told).await;
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

/// Hears of so many events, none of which was heard of before.
async fn hear(seen: &mut BTreeMap<OrderId, usize>, count: usize, told: &mut Received) {
    for _ in 0..count {
        let (name, id) = within("an event that is dealt with", told.recv()).await.unwrap();
        assert_eq!(seen.insert(id, name), None, "an event that was settled came again");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn workers_share_the_partitions_and_one_that_leaves_hands_its_own_over() {
    let test_topics = TestTopics::new();
    let buses = [test_topics.bus().await, test_topics.bus().await];
    let (tell, mut told) = mpsc::unbounded_channel();
    let first = Settler::start(0, &buses[0], &tell).await;
    let second = Settler::start(1, &buses[1], &tell).await;
    let mut seen = share(&buses[0], &mut told).await;
    first.close().await;
    assert_eq!(test_topics.members(), 1, "a closed worker is still in the group");
    let count = publish_new(&buses[0]).await;
    hear(&mut seen, count, &mut told).await;
    second.close().await;
    assert_eq!(test_topics.members(), 0);
    assert_eq!(test_topics.committed().values().sum::<i64>(), seen.len() as i64);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_is_dropped_leaves_too_and_what_it_held_comes_to_the_next() {
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
async fn what_is_dropped_comes_again_and_what_is_settled_around_it_does_not() {
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
    // That the next event is the next delivery shows that nothing else came again.
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
async fn only_what_has_nothing_unsettled_before_it_is_committed() {
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
    let other = elsewhere(&*bus, &mut *worker, partition).await;
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

/// A delivery from any other partition than that one.
async fn elsewhere(bus: &dyn Bus, worker: &mut dyn Subscription, partition: i32) -> Delivery {
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
async fn a_worker_that_is_behind_by_more_than_waits_for_it_at_a_time_misses_nothing() {
    let test_topics = TestTopics::new();
    let bus = test_topics.bus().await;
    let mut worker = worker(&*bus).await;
    // The most that waits for a worker is a third of that; how much it is, the tests of the inbox say.
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
