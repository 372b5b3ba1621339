//! The port: what the service and the worker rely on of a bus, and what each bus promises.

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

    /// Sends ACKs to the processes that wait for them.
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

    /// How many records of the events' topic the workers have not settled; `None` where no other process
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

    /// Waits until a part that the bus cannot work without has ended by itself, a thread that panicked for instance,
    /// and answers its name.
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
