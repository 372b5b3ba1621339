//! The port: the promises that each bus keeps and on which the service and the worker rely. A bus carries events and
//! ACKs; it must never import the store. An event is redelivered until its delivery is settled, so it may arrive twice,
//! and the events of one order keep their order. An ACK may be lost: the process that waits for it then asks the store.
//! The conformance suite tests these promises.

use std::sync::Arc;

use async_trait::async_trait;

use super::confirmations::Confirmations;
use super::delivery::{Delivery, Reply};
use super::ends::{Behind, Ends};
use super::error::{PublishError, SubscribeError};
use crate::order::{Ack, Event};

/// Carries events to the worker and ACKs back to the api.
#[async_trait]
pub trait Bus: Send + Sync + 'static {
    /// Publishes events. Waits while the bus is full, and returns when the events are handed over; the events of one
    /// order keep their order. The returned [`Confirmations`] answer each event separately, as soon as the bus has
    /// taken responsibility for it: a broker has stored it, or, in process, the worker has settled it. An event whose
    /// partition has no leader therefore does not delay the answers to others. Dropping the future, or the
    /// confirmations, does not cancel events that were handed over.
    async fn publish(&self, batch: Vec<Event>) -> Confirmations;

    /// Whether the bus can take events, as far as it knows. The sweep asks this before it claims events: events that
    /// this process cannot publish are left to another process.
    ///
    /// # Errors
    /// [`PublishError::Unavailable`] where the bus is known to be down.
    async fn can_publish(&self) -> Result<(), PublishError> {
        Ok(())
    }

    /// Whether a confirmation means that the worker has settled the event, and not only that the bus keeps it.
    fn confirms_processing(&self) -> bool {
        false
    }

    /// Whether open deliveries take so much memory that a delivery which waits for long is better dropped and
    /// redelivered later.
    fn is_crowded(&self) -> bool {
        false
    }

    /// Subscribes to the events, as one of the workers that share them.
    ///
    /// # Errors
    /// [`SubscribeError`] where this bus cannot serve (another) worker in this process.
    async fn subscribe(&self) -> Result<Box<dyn Subscription>, SubscribeError>;

    /// Settles deliveries; they are not redelivered.
    async fn settle(&self, deliveries: Vec<Delivery>);

    /// Writes a record that no worker can process to the dead-letter topic, with its bytes, the reason and its source,
    /// and settles it. A bus that can keep the record meanwhile tries again, with growing pauses, until the record is
    /// written or its partition is assigned to another worker; this call lasts as long as the topic cannot be written.
    ///
    /// # Errors
    /// [`PublishError`] where the record could not be written; it is redelivered.
    async fn reject(&self, delivery: Delivery, reason: &str) -> Result<(), PublishError>;

    /// Sends ACKs to the processes that wait for them.
    ///
    /// # Errors
    /// [`PublishError`] where the bus did not take them; the waiting processes then ask the store.
    async fn acknowledge(&self, replies: Vec<Reply>) -> Result<(), PublishError>;

    /// Sets the sink of the ACKs that reach this process; the first one counts. The sink must return at once.
    fn on_acks(&self, sink: Arc<dyn AckSink>);

    /// How many records the dead-letter topic holds.
    ///
    /// # Errors
    /// [`PublishError::Unavailable`] where the bus cannot be asked.
    async fn dead_letters(&self) -> Result<u64, PublishError>;

    /// How many records of the events' topic the workers have not settled; `None` where only the process of the worker
    /// can know.
    ///
    /// # Errors
    /// [`PublishError::Unavailable`] where the bus cannot be asked.
    async fn backlog(&self) -> Result<Option<u64>, PublishError> {
        Ok(None)
    }

    /// Where the topic of the events ends now; `None` where the bus has no topics.
    ///
    /// # Errors
    /// [`PublishError::Unavailable`] where the bus cannot be asked.
    async fn ends(&self) -> Result<Option<Ends>, PublishError> {
        Ok(None)
    }

    /// The partitions in which the workers have not consumed all records before those ends. In all others the records
    /// are consumed, or lost: an event from there whose order is still pending is never redelivered.
    ///
    /// # Errors
    /// [`PublishError::Unavailable`] where the bus cannot be asked.
    async fn behind(&self, ends: &Ends) -> Result<Behind, PublishError> {
        let _ = ends;
        Ok(Behind::default())
    }

    /// Whether the bus carries events now.
    ///
    /// # Errors
    /// [`PublishError::Unavailable`] where it does not; orders then wait in the store.
    async fn check(&self) -> Result<(), PublishError>;

    /// Waits until a part that the bus cannot work without has ended unexpectedly (a thread that panicked, for
    /// instance), and returns its name.
    async fn failed(&self) -> &'static str {
        std::future::pending().await
    }

    /// Sends the records that were handed over and closes all connections, within a time limit of the bus.
    async fn close(&self) {}
}

/// A worker's subscription to the events of a bus.
#[async_trait]
pub trait Subscription: Send {
    /// The next deliveries: waits for one, then takes all that have arrived, up to `limit`. `None` when the bus has
    /// ended; a worker that was not asked to stop then fails.
    async fn next(&mut self, limit: usize) -> Option<Vec<Delivery>>;

    /// Leaves the group of workers, so that the others need not wait for this one. Settled deliveries stay settled.
    async fn close(self: Box<Self>) {}
}

/// Receives ACKs.
pub trait AckSink: Send + Sync {
    /// Takes ACKs that have arrived.
    fn acked(&self, acks: Vec<Ack>);
}
