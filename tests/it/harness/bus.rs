//! A bus that keeps a journal. It passes every call on to the in-process bus, and records in order every event that was
//! published and every ACK that was sent, as bytes on the wire. Tests wait for entries of the journal, and not for time
//! to pass. The bus can also be unavailable, as a broker can.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use jiff::Timestamp;
use orderstream::bus::local::LocalBus;
use orderstream::bus::{
    AckSink, Bus, Confirmations, Delivery, PublishError, Record, Reply, Source, SubscribeError, Subscription,
};
use orderstream::order::Event;
use tokio::sync::watch;
use tokio::time::timeout;

use crate::clients::http::GUARD;

/// The records that were sent over a bus, in order; the key of each record is its order's id.
#[derive(Debug, Clone, Default)]
pub(crate) struct Traffic {
    pub(crate) events: Vec<Record>,
    pub(crate) acks: Vec<Record>,
}

impl Traffic {
    /// The events of one order.
    pub(crate) fn events_of(&self, order_id: &str) -> Vec<Record> {
        of(&self.events, order_id)
    }

    /// The ACKs of one order.
    pub(crate) fn acks_of(&self, order_id: &str) -> Vec<Record> {
        of(&self.acks, order_id)
    }
}

fn of(records: &[Record], order_id: &str) -> Vec<Record> {
    let is_its = |record: &&Record| record.key.as_deref() == Some(order_id.as_bytes());
    records.iter().filter(is_its).cloned().collect()
}

/// The traffic so far, and a way to wait for more. Clones share it.
#[derive(Debug, Clone)]
pub(crate) struct Journal(watch::Sender<Traffic>);

impl Journal {
    pub(crate) fn new() -> Journal {
        Journal(watch::Sender::new(Traffic::default()))
    }

    /// Adds to the traffic.
    pub(crate) fn write(&self, entry: impl FnOnce(&mut Traffic)) {
        self.0.send_modify(entry);
    }

    /// The traffic so far.
    pub(crate) fn traffic(&self) -> Traffic {
        self.0.borrow().clone()
    }

    /// Waits until the traffic is as wanted, and answers it.
    pub(crate) async fn until(&self, wanted: impl FnMut(&Traffic) -> bool) -> Traffic {
        let mut reader = self.0.subscribe();
        let seen = timeout(GUARD, reader.wait_for(wanted)).await;
        seen.expect("the traffic that the test waits for").expect("a journal that is not closed").clone()
    }
}

/// The in-process bus with a journal.
pub(crate) struct RecordingBus {
    inner: Arc<LocalBus>,
    journal: Journal,
    away: AtomicBool,
}

impl RecordingBus {
    pub(crate) fn new(inner: Arc<LocalBus>, journal: Journal) -> Arc<RecordingBus> {
        Arc::new(RecordingBus { inner, journal, away: AtomicBool::new(false) })
    }

    /// Makes the bus unavailable, as without a connection to its broker, or available again.
    pub(crate) fn set_away(&self, away: bool) {
        self.away.store(away, Ordering::SeqCst);
    }

    /// Delivers this record that many times, as from one offset of a topic, and waits until each delivery is settled.
    pub(crate) async fn feed(&self, record: Record, deliveries: usize) {
        let source =
            Source { topic: "orders.events".into(), partition: 7, offset: 1, timestamp: Timestamp::now() };
        for _ in 0..deliveries {
            let fed = timeout(GUARD, self.inner.feed(source.clone(), record.clone())).await;
            fed.expect("a worker that takes the record").expect("a record that is settled");
        }
    }

    fn reach(&self) -> Result<(), PublishError> {
        match self.away.load(Ordering::SeqCst) {
            true => Err(PublishError::Unavailable("the broker is away".to_owned())),
            false => Ok(()),
        }
    }
}

fn record(key: Option<String>, headers: Vec<(&str, String)>, value: Vec<u8>) -> Record {
    let headers = headers.into_iter().map(|(name, value)| (name.to_owned(), value.into_bytes())).collect();
    Record { key: key.map(String::into_bytes), headers, value }
}

#[async_trait]
impl Bus for RecordingBus {
    async fn publish(&self, batch: Vec<Event>) -> Confirmations {
        if let Err(away) = self.reach() {
            return Confirmations::known(vec![Err(away); batch.len()]);
        }
        // Recorded first: a test that sees an effect of an event finds it in the journal.
        self.journal.write(|traffic| {
            traffic.events.extend(batch.iter().map(|event| {
                let value = event.encode().expect("an event that can be sent");
                record(event.order_id.map(|id| id.to_string()), event.headers(), value)
            }));
        });
        self.inner.publish(batch).await
    }

    async fn can_publish(&self) -> Result<(), PublishError> {
        self.reach()
    }

    fn confirms_processing(&self) -> bool {
        self.inner.confirms_processing()
    }

    fn is_crowded(&self) -> bool {
        self.inner.is_crowded()
    }

    async fn subscribe(&self) -> Result<Box<dyn Subscription>, SubscribeError> {
        self.inner.subscribe().await
    }

    async fn settle(&self, deliveries: Vec<Delivery>) {
        self.inner.settle(deliveries).await;
    }

    async fn reject(&self, delivery: Delivery, reason: &str) -> Result<(), PublishError> {
        self.inner.reject(delivery, reason).await
    }

    async fn acknowledge(&self, replies: Vec<Reply>) -> Result<(), PublishError> {
        self.reach()?;
        self.journal.write(|traffic| {
            traffic.acks.extend(replies.iter().map(|Reply { ack, .. }| {
                let value = ack.encode().expect("an ACK that can be sent");
                record(Some(ack.order_id.to_string()), ack.headers(), value)
            }));
        });
        self.inner.acknowledge(replies).await
    }

    fn on_acks(&self, sink: Arc<dyn AckSink>) {
        self.inner.on_acks(sink);
    }

    async fn dead_letters(&self) -> Result<u64, PublishError> {
        self.inner.dead_letters().await
    }

    async fn failed(&self) -> &'static str {
        self.inner.failed().await
    }

    async fn check(&self) -> Result<(), PublishError> {
        self.reach()
    }
}
