//! The bus: carries events from the api to the worker, and ACKs back. The trait [`Bus`] is what the service
//! relies on; one conformance suite holds every implementation to it.
//!
//! Delivery is at least once: a delivery that is neither settled nor rejected comes again, at the latest
//! after a restart. ACKs are hints and may be lost; the truth is in the store.

mod confirmations;
mod dead_letters;
mod ends;
pub mod kafka;
pub mod local;

use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;
use thiserror::Error;
use tokio_util::sync::CancellationToken;

pub use confirmations::{Answer, Confirmations, Group};
pub use dead_letters::{DeadLetter, DeadLetterSink};
pub use ends::{Behind, Ends};

use crate::order::{Ack, Event, Undecodable};

/// Carries events to the worker and ACKs back to the api.
#[async_trait]
pub trait Bus: Send + Sync + 'static {
    /// Publishes events. Returns when they are handed over, and waits before that while the bus is full; the events of
    /// one order keep their order. Each event is then answered by itself, as soon as it is known, when the bus has
    /// taken responsibility for it: a broker has stored it, or, in process, the worker has settled it. So an event
    /// whose partition has no leader keeps back no other. Dropping the future, or what it returns, takes nothing back
    /// that was handed over.
    async fn publish(&self, batch: Vec<Event>) -> Confirmations;

    /// Whether the bus can take events, as far as it knows. Asked before events are claimed for it: an event that this
    /// process cannot publish is another one's to publish.
    ///
    /// # Errors
    /// [`PublishError::Unavailable`] where it is known to be down.
    async fn can_publish(&self) -> Result<(), PublishError> {
        Ok(())
    }

    /// Whether a confirmation means that the worker has settled the event, and not only that the bus keeps it.
    fn confirms_processing(&self) -> bool {
        false
    }

    /// Whether open deliveries take so much memory that a delivery which waits for long is better dropped: it comes
    /// again.
    fn is_crowded(&self) -> bool {
        false
    }

    /// Begins to receive events as one of the workers that share them.
    ///
    /// # Errors
    /// [`SubscribeError`] where this bus cannot serve (another) worker here.
    async fn subscribe(&self) -> Result<Box<dyn Subscription>, SubscribeError>;

    /// Marks deliveries as dealt with; they do not come again.
    async fn settle(&self, deliveries: Vec<Delivery>);

    /// Puts a record that no worker can deal with into the dead-letter topic, with its bytes, the reason and
    /// where it came from, and settles it. A bus that can keep the record meanwhile tries again, with growing pauses,
    /// until the record is there or belongs to another worker; so this may take as long as the topic cannot be written.
    ///
    /// # Errors
    /// [`PublishError`] where it could not be put there; the delivery comes again.
    async fn reject(&self, delivery: Delivery, reason: &str) -> Result<(), PublishError>;

    /// Sends ACKs to whoever waits for them.
    ///
    /// # Errors
    /// [`PublishError`] where the bus did not take them; waiters then ask the store.
    async fn acknowledge(&self, replies: Vec<Reply>) -> Result<(), PublishError>;

    /// Says who is told of the ACKs that reach this process. The sink must return at once.
    fn on_acks(&self, sink: Arc<dyn AckSink>);

    /// How many records lie in the dead-letter topic.
    ///
    /// # Errors
    /// [`PublishError::Unavailable`] where the bus cannot say.
    async fn dead_letters(&self) -> Result<u64, PublishError>;

    /// How many records of the events' topic the workers have not settled; `None` where nobody outside the process
    /// can know.
    ///
    /// # Errors
    /// [`PublishError::Unavailable`] where the bus cannot say.
    async fn backlog(&self) -> Result<Option<u64>, PublishError> {
        Ok(None)
    }

    /// Where the topic of the events ends now; `None` where the bus keeps none.
    ///
    /// # Errors
    /// [`PublishError::Unavailable`] where the bus cannot say.
    async fn ends(&self) -> Result<Option<Ends>, PublishError> {
        Ok(None)
    }

    /// Where the workers have not consumed all that lay before those ends. Elsewhere they have, or it is gone: an event
    /// from there whose order is still pending never comes again.
    ///
    /// # Errors
    /// [`PublishError::Unavailable`] where the bus cannot say.
    async fn behind(&self, ends: &Ends) -> Result<Behind, PublishError> {
        let _ = ends;
        Ok(Behind::default())
    }

    /// Whether the bus carries events now.
    ///
    /// # Errors
    /// [`PublishError::Unavailable`] where it does not; orders then wait in the store.
    async fn check(&self) -> Result<(), PublishError>;

    /// Waits until a part that the bus cannot work without has ended by itself, a thread that panicked for instance, and
    /// answers its name.
    async fn failed(&self) -> &'static str {
        std::future::pending().await
    }

    /// Sends what was handed over and lets go of all connections, within a limit of its own.
    async fn close(&self) {}
}

/// A worker's end of the bus.
#[async_trait]
pub trait Subscription: Send {
    /// The next deliveries: waits for one, then takes what has arrived besides, up to `limit`. `None` when the
    /// bus has ended; a worker that was not told to stop then fails.
    async fn next(&mut self, limit: usize) -> Option<Vec<Delivery>>;

    /// Leaves the workers that share the events, so that the others need not wait for this one. What has been
    /// settled stays settled.
    async fn close(self: Box<Self>) {}
}

/// Is told of ACKs.
pub trait AckSink: Send + Sync {
    /// These ACKs have arrived.
    fn acked(&self, acks: Vec<Ack>);
}

/// A record in a worker's hands. One that is dropped unsettled has not been dealt with.
#[derive(Debug)]
pub struct Delivery {
    /// The event, or why the record is none.
    pub event: Result<Event, Undecodable>,
    /// Where it came from.
    pub source: Source,
    /// The record as it came; empty where an event travelled in memory and never was bytes.
    pub record: Record,
    /// The partition of the ACK topic where the sender listens, if it said so.
    pub reply_to: Option<i32>,
    receipt: Receipt,
}

/// An ACK, and where it is waited for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// The ACK.
    pub ack: Ack,
    /// The partition of the ACK topic where the sender of the event listens; `None`: wherever its key belongs.
    pub to: Option<i32>,
}

/// A record's place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// The topic.
    pub topic: Arc<str>,
    /// The partition within the topic.
    pub partition: i32,
    /// The place within the partition.
    pub offset: i64,
    /// When the record was made.
    pub timestamp: Timestamp,
}

/// A record's bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Record {
    /// The key, if it has one.
    pub key: Option<Vec<u8>>,
    /// The headers, names and values.
    pub headers: Vec<(String, Vec<u8>)>,
    /// The value.
    pub value: Vec<u8>,
}

impl Record {
    /// The headers as borrowed pairs, as the messages read them.
    pub fn header_pairs(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.headers.iter().map(|(name, value)| (name.as_str(), value.as_slice()))
    }
}

/// Why the bus did not take an event.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PublishError {
    /// The bus cannot be reached, or lost the event; publish it again later.
    #[error("the bus is not available: {0}")]
    Unavailable(String),
    /// The bus will never take this one (too large, for example).
    #[error("the bus refuses the event: {0}")]
    Refused(String),
}

/// Why a worker cannot be served.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SubscribeError {
    /// The in-process bus has one worker, and it is there already.
    #[error("the in-process bus already has its worker")]
    Taken,
    /// The bus cannot be reached.
    #[error("the bus is not available: {0}")]
    Unavailable(String),
}

/// Tells the bus what became of a delivery: settled, or dropped.
#[derive(Debug)]
pub(in crate::bus) struct Receipt {
    batch: Arc<dyn Settle>,
    index: usize,
    settled: bool,
}

/// The bus's side of its receipts.
pub(in crate::bus) trait Settle: Send + Sync + std::fmt::Debug {
    /// The delivery of that index has been dealt with, or dropped.
    fn ended(&self, index: usize, settled: bool);

    /// Several deliveries have ended, and the last of them now.
    fn announce(&self) {}

    /// The delivery of that index is kept in so many bytes of memory until it can be dealt with.
    fn kept(&self, _index: usize, _bytes: usize) {}

    /// What the delivery of that index waits for does not work, and may not for long.
    fn stuck(&self, _index: usize) {}

    /// Cancelled when the deliveries belong to another worker.
    fn unwanted(&self) -> CancellationToken {
        CancellationToken::new()
    }
}

impl Receipt {
    pub(in crate::bus) fn new(batch: Arc<dyn Settle>, index: usize) -> Receipt {
        Receipt { batch, index, settled: false }
    }

    pub(in crate::bus) fn settle(mut self) {
        self.settled = true;
    }

    pub(in crate::bus) fn keep(&self, bytes: usize) {
        self.batch.kept(self.index, bytes);
    }

    pub(in crate::bus) fn stuck(&self) {
        self.batch.stuck(self.index);
    }

    pub(in crate::bus) fn unwanted(&self) -> CancellationToken {
        self.batch.unwanted()
    }
}

impl Drop for Receipt {
    fn drop(&mut self) {
        self.batch.ended(self.index, self.settled);
    }
}
