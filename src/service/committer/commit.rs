//! Commits one batch: hands it to the store, invalidates the cached orders that it changed, and answers or registers
//! every caller. The events of a batch must go to the relay only after its callers are registered: an ACK that arrives
//! before would be missed.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::mpsc;

use super::pending::{PendingCommand, Slot};
use crate::cache::{Cache, invalidate};
use crate::error::Error;
use crate::order::{Command, CommandRequest, Invalid};
use crate::service::ack_waiters::{AckWaiters, UnderWay, Waiter};
use crate::service::receipt::{CommandReceipt, ProcessingState};
use crate::service::relay::Relay;
use crate::store::{self, Accepted, Orders, Refusal};
use crate::telemetry::limited;

/// What a commit needs.
pub(in crate::service) struct Commit {
    pub(in crate::service) store: Arc<dyn Orders>,
    /// Whether other processes may be working with the same orders.
    pub(in crate::service) is_shared: bool,
    pub(in crate::service) cache: Arc<dyn Cache>,
    pub(in crate::service) acks: Arc<AckWaiters>,
    pub(in crate::service) relay: Relay,
}

/// A command of a batch.
pub(in crate::service) struct Taken {
    pub(in crate::service) command: PendingCommand,
    pub(in crate::service) slot: Arc<Slot>,
}

impl Taken {
    fn request(&self) -> &CommandRequest {
        &self.command.request
    }
}

impl Commit {
    /// Commits a batch and answers, or registers, every caller of it; the channel ends when all have been answered.
    /// Halves a batch that the store refuses for one of its rows, so that only that row fails.
    pub(in crate::service) async fn run(&self, batch: Vec<Taken>) -> mpsc::Receiver<Infallible> {
        let (under_way, answered) = mpsc::channel(1);
        let mut batches = vec![batch];
        while let Some(mut batch) = batches.pop() {
            let requests: Arc<[CommandRequest]> = batch.iter().map(|taken| taken.request().clone()).collect();
            match self.store.apply(requests).await {
                Ok(results) => {
                    self.invalidate(&batch).await;
                    self.forward(batch, results, &under_way);
                }
                Err(store::Error::BadBatch(_)) if batch.len() > 1 => {
                    let second = batch.split_off(batch.len() / 2);
                    batches.extend([second, batch]);
                }
                Err(error) => {
                    if matches!(error, store::Error::OutcomeUnknown(_)) {
                        self.invalidate(&batch).await;
                    }
                    fail(batch, &error);
                }
            }
        }
        answered
    }

    /// Invalidates the orders of the batch, also where a command was refused: a refusal shows its caller the order's
    /// state, too. An order that is being created is not in the cache yet.
    async fn invalidate(&self, batch: &[Taken]) {
        let commands = batch.iter().map(|taken| &taken.request().command);
        let changes = commands.filter(|command| !matches!(command, Command::Create { .. }));
        invalidate(&*self.cache, changes.map(Command::order_id)).await;
    }

    /// Answers refused commands, registers waiting callers, and only then hands the events to the relay.
    fn forward(&self, batch: Vec<Taken>, results: Vec<Result<Accepted, Refusal>>, under_way: &UnderWay) {
        let now = Instant::now();
        let mut waiters = Vec::with_capacity(batch.len());
        let mut events = Vec::with_capacity(batch.len());
        let mut has_unsent = false;
        for (Taken { command, slot }, result) in batch.into_iter().zip(results) {
            let PendingCommand { request, wait_until, reply, memory } = command;
            // From here on the relay counts the payload, as part of the event.
            drop(memory);
            let receipt = match result {
                Ok(Accepted::Applied(event)) => {
                    let receipt = CommandReceipt::of_event(&event, ProcessingState::NotAwaited);
                    events.push(event);
                    receipt
                }
                Ok(Accepted::AppliedWithoutEvent(done)) => {
                    has_unsent = true;
                    Some(CommandReceipt { replayed: false, ..CommandReceipt::of_replay(&done) })
                }
                // The relay publishes, or has published, the event of the first request.
                Ok(Accepted::Replayed(earlier)) => {
                    let _ = reply.send(Ok(CommandReceipt::of_replay(&earlier)));
                    continue;
                }
                Err(refusal) => {
                    let _ = reply.send(Err(refused(refusal, &request.command)));
                    continue;
                }
            };
            match (receipt, wait_until) {
                (Some(receipt), Some(until)) if until > now => {
                    slot.commit(receipt);
                    waiters.push(Waiter::new(receipt, reply, now, until, under_way.clone()));
                }
                (Some(receipt), Some(_)) => {
                    drop(reply.send(Ok(CommandReceipt { progress: ProcessingState::Pending, ..receipt })));
                }
                (Some(receipt), None) => drop(reply.send(Ok(receipt))),
                // A store answers a command with the event of its order and version.
                (None, _) => drop(reply.send(Err(Error::Internal))),
            }
        }
        self.acks.register(waiters);
        self.relay.forward(events);
        if has_unsent {
            self.relay.fetch();
        }
    }
}

fn fail(batch: Vec<Taken>, error: &store::Error) {
    for Taken { command: PendingCommand { request, reply, .. }, .. } in batch {
        let error = match error {
            // The row that a write reports as damaged is not the command's own.
            store::Error::Unavailable(_) | store::Error::Damaged(_) => Error::Unavailable,
            store::Error::OutcomeUnknown(_) => Error::OutcomeUnknown { order_id: request.command.order_id() },
            store::Error::BadBatch(_) => cannot_be_stored(&request.command),
        };
        let _ = reply.send(Err(error));
    }
}

fn refused(refusal: Refusal, command: &Command) -> Error {
    let order_id = command.order_id();
    match refusal {
        Refusal::NotFound => Error::NotFound { order_id: Some(order_id) },
        Refusal::Deleted => Error::Deleted { order_id },
        Refusal::Changed { current } => Error::PreconditionFailed { order_id, current: Some(current) },
        Refusal::KeyReused => Error::KeyReused,
        Refusal::Exists { user_id, version, deleted } => match command {
            Command::Create { user_id: caller, .. } if *caller != user_id => {
                Error::PreconditionFailed { order_id, current: None }
            }
            _ if deleted => Error::Deleted { order_id },
            _ => Error::Exists { order_id, version },
        },
        Refusal::BadRow(reason) => {
            limited!(warn, "bad row"; %order_id, reason, "a row cannot be stored");
            cannot_be_stored(command)
        }
        Refusal::Damaged(what) => {
            limited!(error, "damaged order"; %order_id, what, "the row of an order takes no command");
            Error::Unreadable { order_id }
        }
        Refusal::Unsteady => Error::Unavailable,
    }
}

/// A command without a payload cannot be stored only where its row is damaged.
fn cannot_be_stored(command: &Command) -> Error {
    match command {
        Command::Delete { order_id, .. } => Error::Unreadable { order_id: *order_id },
        Command::Create { .. } | Command::Update { .. } => Error::Invalid(Invalid::new(
            "payload",
            "the order store cannot hold this payload; send a plainer one",
        )),
    }
}
