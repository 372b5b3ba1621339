//! Intake: takes a command, has it made durable, and answers with what really happened to it.

use std::time::Instant;

use tokio::sync::oneshot;

use super::Service;
use super::lanes::Entry;
use crate::error::Error;
use crate::order::{Command, Event, OrderId, Status, Version};

/// The answer to a command that was accepted: it is durable and will be processed, whatever happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Receipt {
    /// The order.
    pub order_id: OrderId,
    /// Its version after the command.
    pub version: Version,
    /// What the command did.
    pub change: Change,
    /// How far it had come when the answer was given.
    pub progress: Progress,
}

/// What a command did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// A new order is there.
    Created,
    /// The order has new content.
    Updated,
    /// The order is deleted.
    Deleted,
}

/// How far a command had come when it was answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// The worker is done with it.
    Processed,
    /// The worker could not process it; the order says why.
    Failed,
    /// It is durable, and the worker had not answered when the wait was over.
    Pending,
    /// It is durable, and nobody waited.
    NotAwaited,
}

impl Receipt {
    /// The receipt for an event that a store has accepted.
    pub(super) fn of_event(event: &Event, progress: Progress) -> Option<Receipt> {
        let change = match event.status {
            Status::New => Change::Created,
            Status::Deleted => Change::Deleted,
            Status::Processing | Status::Done | Status::Failed | Status::Cancelled => Change::Updated,
        };
        Some(Receipt { order_id: event.order_id?, version: event.version?, change, progress })
    }
}

impl Service {
    /// Carries out a command. With the ACK wait on, answers when the worker is done with it, or with
    /// [`Progress::Pending`] at the limit. A caller who goes away in between loses only the answer.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Deleted`], [`Error::Invalid`] where the row cannot be stored;
    /// [`Error::Overloaded`] and [`Error::Unavailable`] where nothing was stored; [`Error::OutcomeUnknown`].
    pub async fn submit(&self, command: Command) -> Result<Receipt, Error> {
        let order_id = command.order_id();
        let (reply, answer) = oneshot::channel();
        let wait_until = self.ack_wait.map(|limit| Instant::now() + limit);
        self.lanes.submit(Entry { command, wait_until, reply })?;
        answer.await.map_err(|_| Error::OutcomeUnknown { order_id })?
    }
}
