//! The conformance suite of the `Bus` port: checks that run on every implementation. Each check gets a fresh bus
//! without subscribers, and its comment names the methods of `Bus` whose promise it tests. Promises that only one
//! implementation makes are tested beside it, in `local` and `kafka`.

use std::any::Any;
use std::ops::DerefMut;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use jiff::Timestamp;
use orderstream::bus::{AckSink, Answer, Bus, Delivery, Record, Reply, Subscription};
use orderstream::order::{Ack, AckStatus, Event, OrderId, Payload, Status, UserId, Version};
use tokio::sync::mpsc;

use crate::harness::wait::within;

/// A fresh bus, a way to put raw records on its event topic, and what must outlive it.
pub(crate) struct Fresh {
    /// The bus.
    pub(crate) bus: Arc<dyn Bus>,
    /// Puts a record on the topic as another program would, and does not wait for a worker.
    pub(crate) produce: Box<dyn Fn(Record) + Send + Sync>,
    /// Dropped last.
    pub(crate) _keep: Box<dyn Any + Send + Sync>,
}

/// Makes one test of each check. The argument is an `async fn() -> Fresh`.
macro_rules! bus_conformance {
    ($fresh:path) => {
        bus_conformance!(@each $fresh,
            published_events_arrive_once_with_the_same_content,
            each_event_of_a_batch_is_answered,
            an_empty_batch_is_answered_with_nothing,
            the_events_of_one_order_arrive_in_their_order,
            a_worker_gets_at_most_its_limit_and_eventually_every_event,
            a_record_of_another_service_arrives_decoded,
            a_record_that_is_not_an_event_arrives_unchanged_and_blocks_no_other,
            a_rejected_record_is_counted_confirmed_and_not_redelivered,
            acks_reach_the_sink,
            the_check_of_a_working_bus_succeeds,
        );
    };
    (@each $fresh:path, $($check:ident,)*) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $check() {
                crate::bus::conformance::$check($fresh().await).await;
            }
        )*
    };
}

pub(crate) use bus_conformance;

/// An event of that version, with the version in its payload.
pub(crate) fn event(order_id: OrderId, version: Version) -> Event {
    let payload = format!(r#"{{"id":"{version}", "n":1.10, "n":12345678901234567890}}"#);
    Event {
        order_id: Some(order_id),
        version: Some(version),
        user_id: Some(UserId::from_bytes([7; 16])),
        payload: Payload::parse(&payload).expect("a payload"),
        status: Status::Processing,
        timestamp: Timestamp::from_microsecond(1_760_000_000_000_000 + version).expect("a time"),
    }
}

/// The output of a future that is ready now; `None` where it would have to wait.
pub(crate) fn now<P>(mut future: Pin<P>) -> Option<<P::Target as Future>::Output>
where
    P: DerefMut<Target: Future>,
{
    match future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => Some(output),
        Poll::Pending => None,
    }
}

/// Receives that many deliveries, in batches of any size.
pub(crate) async fn receive(worker: &mut dyn Subscription, count: usize) -> Vec<Delivery> {
    let mut deliveries = Vec::new();
    while deliveries.len() < count {
        let more = worker.next(count - deliveries.len()).await;
        deliveries.extend(more.expect("the bus still delivers"));
    }
    deliveries
}

/// The events of deliveries, each of which must hold one.
pub(crate) fn events(deliveries: &[Delivery]) -> Vec<Event> {
    deliveries.iter().map(|delivery| delivery.event.clone().expect("an event")).collect()
}

/// A record with a key and headers, one of them not text.
pub(crate) fn record(value: &[u8]) -> Record {
    Record {
        key: Some(b"key".to_vec()),
        headers: vec![
            ("traceparent".to_owned(), b"00-1-2-3".to_vec()),
            ("odd".to_owned(), b"\xff\xfe".to_vec()),
        ],
        value: value.to_vec(),
    }
}

/// Publishes, and waits for all answers.
pub(crate) async fn published(bus: &(impl Bus + ?Sized), batch: Vec<Event>) -> Vec<Answer> {
    bus.publish(batch).await.all().await
}

/// Publishes in a task of its own, because a bus may confirm only what has been settled.
fn publishing(bus: &Arc<dyn Bus>, batch: Vec<Event>) -> tokio::task::JoinHandle<usize> {
    let bus = Arc::clone(bus);
    tokio::spawn(async move {
        let answers = published(&*bus, batch).await;
        answers.into_iter().map(|answer| answer.expect("the event is confirmed")).count()
    })
}

/// `publish`, `Subscription::next`, `settle`: a settled event is not redelivered.
pub(crate) async fn published_events_arrive_once_with_the_same_content(fresh: Fresh) {
    let bus = fresh.bus;
    let mut worker = bus.subscribe().await.expect("a subscription");
    let id = OrderId::generate();
    let mut offset = None;
    for version in 1..=3 {
        // The next delivery is the next event, so the one before was delivered only once.
        let confirmed = publishing(&bus, vec![event(id, version)]);
        let mut deliveries = receive(&mut *worker, 1).await;
        assert_eq!(events(&deliveries), [event(id, version)]);
        let delivery = deliveries.remove(0);
        assert!(Some(delivery.source.offset) > offset, "offsets grow");
        offset = Some(delivery.source.offset);
        bus.settle(vec![delivery]).await;
        assert_eq!(confirmed.await.expect("the publisher ends"), 1);
    }
}

/// `publish`: one result per event.
pub(crate) async fn each_event_of_a_batch_is_answered(fresh: Fresh) {
    let bus = fresh.bus;
    let mut worker = bus.subscribe().await.expect("a subscription");
    let batch: Vec<Event> = (1..=20).map(|version| event(OrderId::generate(), version)).collect();
    let confirmed = publishing(&bus, batch.clone());
    let deliveries = receive(&mut *worker, 20).await;
    let mut found = events(&deliveries);
    found.sort_by_key(|event| event.version);
    assert_eq!(found, batch);
    bus.settle(deliveries).await;
    assert_eq!(confirmed.await.expect("the publisher ends"), 20);
}

/// `publish`: an empty batch has no results, and does not wait.
pub(crate) async fn an_empty_batch_is_answered_with_nothing(fresh: Fresh) {
    let publish = std::pin::pin!(published(&*fresh.bus, Vec::new()));
    assert_eq!(now(publish), Some(Vec::new()), "an empty batch waits for a worker");
}

/// `publish`, `Subscription::next`: an order's events keep their order, within a batch and between batches.
pub(crate) async fn the_events_of_one_order_arrive_in_their_order(fresh: Fresh) {
    let bus = fresh.bus;
    let mut worker = bus.subscribe().await.expect("a subscription");
    let orders: Vec<OrderId> = (0..3).map(|_| OrderId::generate()).collect();
    let versions =
        |from, to| (from..=to).flat_map(|version| orders.iter().map(move |id| event(*id, version)));
    let (first, second): (Vec<_>, Vec<_>) = (versions(1, 10).collect(), versions(11, 20).collect());
    let publisher = {
        let bus = Arc::clone(&bus);
        tokio::spawn(async move {
            published(&*bus, first).await;
            published(&*bus, second).await;
        })
    };
    let mut seen = Vec::new();
    while seen.len() < 60 {
        let deliveries = worker.next(7).await.expect("the bus still delivers");
        seen.extend(events(&deliveries));
        bus.settle(deliveries).await;
    }
    publisher.await.expect("the publisher ends");
    for id in orders {
        let of_order = seen.iter().filter(|event| event.order_id == Some(id));
        let found: Vec<_> = of_order.map(|event| event.version).collect();
        assert_eq!(found, (1..=20).map(Some).collect::<Vec<_>>());
    }
}

/// `Subscription::next`: at least one, at most `limit`, and no event is lost in between.
pub(crate) async fn a_worker_gets_at_most_its_limit_and_eventually_every_event(fresh: Fresh) {
    let bus = fresh.bus;
    let mut worker = bus.subscribe().await.expect("a subscription");
    let id = OrderId::generate();
    let confirmed = publishing(&bus, (1..=10).map(|version| event(id, version)).collect());
    let mut held = Vec::new();
    for limit in [1, 2, 3, 4, 5, 6, 7, 8, 9, 10] {
        if held.len() == 10 {
            break;
        }
        let deliveries = worker.next(limit).await.expect("the bus still delivers");
        assert!((1..=limit).contains(&deliveries.len()), "{} of at most {limit}", deliveries.len());
        held.extend(deliveries);
    }
    assert_eq!(events(&held), (1..=10).map(|version| event(id, version)).collect::<Vec<_>>());
    bus.settle(held).await;
    assert_eq!(confirmed.await.expect("the publisher ends"), 10);
}

/// `Delivery::event`: a raw record that is an event is decoded, with our headers and without.
pub(crate) async fn a_record_of_another_service_arrives_decoded(fresh: Fresh) {
    let bus = fresh.bus;
    let mut worker = bus.subscribe().await.expect("a subscription");
    let ours = event(OrderId::generate(), 7);
    let value = ours.encode().expect("an encoding");
    for version in [None, Some(7)] {
        let mut raw = record(&value);
        raw.headers.extend(version.map(|_| ("order-version".to_owned(), b"7".to_vec())));
        (fresh.produce)(raw.clone());
        let deliveries = receive(&mut *worker, 1).await;
        assert_eq!(events(&deliveries), [Event { version, ..ours.clone() }]);
        assert_eq!(deliveries[0].record, raw);
        bus.settle(deliveries).await;
    }
}

/// `Delivery`: a record that is not an event arrives with its bytes and its source, and does not block those behind it.
pub(crate) async fn a_record_that_is_not_an_event_arrives_unchanged_and_blocks_no_other(fresh: Fresh) {
    let bus = fresh.bus;
    let mut worker = bus.subscribe().await.expect("a subscription");
    let long = vec![b'x'; 2 * 1024 * 1024];
    let poison: [&[u8]; 6] = [b"", b"null", b"[]", b"\xff\xfe", b"{\"order_id\":7}", &long];
    let mut offset = None;
    for value in poison {
        (fresh.produce)(record(value));
        let deliveries = receive(&mut *worker, 1).await;
        assert!(deliveries[0].event.is_err(), "{:?} is not an event", deliveries[0].event);
        assert!(deliveries[0].record == record(value), "the record has changed");
        assert!(Some(deliveries[0].source.offset) > offset, "offsets grow");
        offset = Some(deliveries[0].source.offset);
        assert!(!deliveries[0].source.topic.is_empty());
        bus.settle(deliveries).await;
    }
    let id = OrderId::generate();
    let confirmed = publishing(&bus, vec![event(id, 1)]);
    let deliveries = receive(&mut *worker, 1).await;
    assert_eq!(events(&deliveries), [event(id, 1)]);
    bus.settle(deliveries).await;
    assert_eq!(confirmed.await.expect("the publisher ends"), 1);
}

/// `reject`, `dead_letters`: a rejected record is settled and counted, whether it is an event or not.
pub(crate) async fn a_rejected_record_is_counted_confirmed_and_not_redelivered(fresh: Fresh) {
    let bus = fresh.bus;
    let mut worker = bus.subscribe().await.expect("a subscription");
    assert_eq!(bus.dead_letters().await, Ok(0));
    (fresh.produce)(record(b"no event"));
    let raw = receive(&mut *worker, 1).await.remove(0);
    assert_eq!(bus.reject(raw, "it is no event").await, Ok(()));
    assert_eq!(bus.dead_letters().await, Ok(1));

    let id = OrderId::generate();
    let confirmed = publishing(&bus, vec![event(id, 1)]);
    let delivery = receive(&mut *worker, 1).await.remove(0);
    assert_eq!(bus.reject(delivery, "there is no such order").await, Ok(()));
    assert_eq!(confirmed.await.expect("the publisher ends"), 1);
    assert_eq!(bus.dead_letters().await, Ok(2));

    let confirmed = publishing(&bus, vec![event(id, 2)]);
    let deliveries = receive(&mut *worker, 1).await;
    assert_eq!(events(&deliveries), [event(id, 2)]);
    bus.settle(deliveries).await;
    assert_eq!(confirmed.await.expect("the publisher ends"), 1);
    assert_eq!(bus.dead_letters().await, Ok(2));
}

/// Sends every ACK to a channel.
pub(crate) struct AckRecorder(pub(crate) mpsc::UnboundedSender<Ack>);

impl AckSink for AckRecorder {
    fn acked(&self, acks: Vec<Ack>) {
        for ack in acks {
            self.0.send(ack).expect("the test listens");
        }
    }
}

/// An ACK of that version.
pub(crate) fn ack(version: Option<Version>, status: AckStatus) -> Ack {
    let processed_at = Timestamp::from_microsecond(1_760_000_000_000_001).expect("a time");
    Ack { order_id: OrderId::generate(), version, status, processed_at }
}

/// `acknowledge`, `on_acks`: the ACKs reach the sink of this process unchanged.
pub(crate) async fn acks_reach_the_sink(fresh: Fresh) {
    let (sink, mut received) = mpsc::unbounded_channel();
    fresh.bus.on_acks(Arc::new(AckRecorder(sink)));
    let sent = [
        ack(Some(1), AckStatus::Processed),
        ack(None, AckStatus::Updated),
        ack(Some(i64::MAX), AckStatus::Failed),
    ];
    let replies = |acks: &[Ack]| acks.iter().map(|ack| Reply { ack: ack.clone(), to: None }).collect();
    assert_eq!(fresh.bus.acknowledge(replies(&sent[..2])).await, Ok(()));
    assert_eq!(fresh.bus.acknowledge(replies(&sent[2..])).await, Ok(()));
    for ack in sent {
        assert_eq!(within("an ACK", received.recv()).await, Some(ack));
    }
}

/// `check`: whether the bus can carry events now.
pub(crate) async fn the_check_of_a_working_bus_succeeds(fresh: Fresh) {
    assert_eq!(fresh.bus.check().await, Ok(()));
}
