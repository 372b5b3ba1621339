//! The answer to a command: what it did, and how far the worker had come with it when the caller was answered. There is
//! a receipt only for a durable command, so a receipt is never an error, also where the worker could not process the
//! order. The two constructors take the store's answer and read nothing: a replayed receipt has the outcome of the
//! first request, which may not be the order's state now.

use crate::order::{Event, OrderId, Status, Version};
use crate::store::ReplayedOutcome;

/// The answer to a command that was accepted: it is durable and will be processed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CommandReceipt {
    /// The order.
    pub order_id: OrderId,
    /// Its version after the command.
    pub version: Version,
    /// What the command did.
    pub change: Change,
    /// How far it had come when the answer was given.
    pub progress: ProcessingState,
    /// Whether an earlier request of the same idempotency key carried it out.
    pub replayed: bool,
}

/// What a command did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// The order is new.
    Created,
    /// The order has new content.
    Updated,
    /// The order is deleted.
    Deleted,
}

/// How far a command had come when it was answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProcessingState {
    /// The worker has processed it.
    Processed,
    /// The worker could not process it; the order says why.
    Failed,
    /// It is durable, and the worker had not answered when the wait was over.
    Pending,
    /// It is durable, and its caller did not wait.
    NotAwaited,
}

impl CommandReceipt {
    /// The receipt for an event that a store has accepted.
    pub(super) fn of_event(event: &Event, progress: ProcessingState) -> Option<CommandReceipt> {
        let change = Change::to(event.status);
        let (order_id, version) = (event.order_id?, event.version?);
        Some(CommandReceipt { order_id, version, change, progress, replayed: false })
    }

    /// The receipt for a request that was carried out earlier.
    pub(super) fn of_replay(earlier: &ReplayedOutcome) -> CommandReceipt {
        let ReplayedOutcome { order_id, version, status } = *earlier;
        let change = Change::to(status);
        CommandReceipt { order_id, version, change, progress: ProcessingState::NotAwaited, replayed: true }
    }
}

impl Change {
    /// What a command did that left its order with that status.
    fn to(status: Status) -> Change {
        match status {
            Status::New => Change::Created,
            Status::Deleted => Change::Deleted,
            Status::Processing | Status::Done | Status::Failed | Status::Cancelled => Change::Updated,
        }
    }
}
