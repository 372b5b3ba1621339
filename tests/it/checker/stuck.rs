//! The checker on Postgres and Kafka: an order that waits for the worker must have its event in the outbox or on the
//! bus. The checker judges a bus by its offsets; it does not judge orders whose partition may have changed.

use orderstream::bus::Bus;
use orderstream::checker::stuck::find_stuck;
use orderstream::checker::verify::Report;
use orderstream::store::{Outbox, Store};

use crate::bus::conformance::published;
use crate::harness::kafka::TestTopics;
use crate::harness::schema::Schema;
use crate::harness::wait::until;
use crate::store::conformance::{create, some_user};

/// The codes of the findings.
async fn found(store: &dyn Store, bus: &dyn Bus) -> Vec<&'static str> {
    let mut report = Report::default();
    find_stuck(store, bus, &mut report, 10).await.expect("a store that can be read");
    report.findings.iter().map(|finding| finding.fault.code()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn orders_of_a_backlog_are_not_reported_after_partitions_were_added() {
    let (schema, test_topics) = (Schema::migrated().await, TestTopics::new());
    let (store, bus) = (schema.open(), test_topics.bus().await);
    for _ in 0..20 {
        create(&store, some_user(), "{}").await;
    }
    schema.execute("UPDATE orders SET updated_at = now() - interval '1 minute'").await;
    let events = store.pending(jiff::Timestamp::MAX, None, 20).await.unwrap().events;
    let keys: Vec<_> = events.iter().map(|event| (event.order_id.unwrap(), 1)).collect();
    assert!(published(&*bus, events).await.iter().all(Result::is_ok));
    store.published(&keys).await.unwrap();
    test_topics.add_partitions(&test_topics.options.events_topic, 16).await;
    let mut report = Report::default();
    find_stuck(&store, &*bus, &mut report, 10).await.expect("a store that can be read");
    assert_eq!((report.findings, report.not_judged), (Vec::new(), 20));
    bus.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_waiting_order_without_an_event_is_reported() {
    let (schema, test_topics) = (Schema::migrated().await, TestTopics::new());
    let (store, bus) = (schema.open(), test_topics.bus().await);
    let id = create(&store, some_user(), "{}").await;
    schema.execute("UPDATE orders SET updated_at = now() - interval '1 minute'").await;
    assert_eq!(found(&store, &*bus).await, [""; 0], "its event is in the outbox");

    let event = store.pending(jiff::Timestamp::MAX, None, 1).await.unwrap().events.remove(0);
    store.published(&[(id, 1)]).await.unwrap();
    assert_eq!(found(&store, &*bus).await, ["stuck"], "its event is neither in the outbox nor on the bus");

    assert_eq!(published(&*bus, vec![event]).await, [Ok(())]);
    assert_eq!(found(&store, &*bus).await, [""; 0], "its event is on the bus");

    // The event is settled, but the order is not processed.
    let mut worker = bus.subscribe().await.unwrap();
    let deliveries = worker.next(10).await.unwrap();
    bus.settle(deliveries).await;
    until("the commit", async || bus.backlog().await.unwrap().filter(|backlog| *backlog == 0)).await;
    assert_eq!(found(&store, &*bus).await, ["stuck"], "its event is settled and lost");
    worker.close().await;
    bus.close().await;
}
