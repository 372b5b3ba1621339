//! Intake: takes a command, has the committer make it durable, and answers with its outcome. It promises that an
//! accepted command is durable when the caller is answered, and that a caller who leaves loses only the answer. It must
//! never answer later than the deadline.

use std::future::ready;
use std::sync::Arc;
use std::time::Instant;

use futures_util::future::Either;
use tokio::sync::oneshot;
use tokio::time::timeout_at;

use super::committer::{PendingCommand, Slot, Withdrawal};
use super::deadline::{Deadline, WaitPolicy};
use super::quota::{HeldMemory, Permit};
use super::receipt::{CommandReceipt, ProcessingState};
use super::wiring::Service;
use crate::error::Error;
use crate::order::{Command, CommandRequest, OrderId, Put, Version, needs_user};

/// What a [`Put`] may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PutMode {
    /// It creates the order, or replaces its content.
    Upsert,
    /// It creates the order, and does not change one that exists.
    CreateOnly,
    /// It replaces the order's content, and does not create one.
    UpdateOnly,
}

impl Service {
    /// Carries out a request, whose memory is held until it is committed, refused or withdrawn. Answers when the worker
    /// has processed it, or with [`ProcessingState::Pending`] when the wait is over. A caller who leaves before loses
    /// only the answer. A request whose idempotency key was used before gets the replayed outcome, once the worker has
    /// processed that.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Deleted`], [`Error::PreconditionFailed`], [`Error::KeyReused`],
    /// [`Error::Invalid`] where the row cannot be stored; [`Error::Overloaded`] and [`Error::Unavailable`] where
    /// nothing was stored, also because the store had no time for the request before the deadline;
    /// [`Error::OutcomeUnknown`], also where the store has the request and did not answer before the deadline.
    pub async fn submit(
        &self,
        request: CommandRequest,
        wait_policy: WaitPolicy,
        memory: HeldMemory,
    ) -> Result<CommandReceipt, Error> {
        self.submit_by(request, self.deadline(wait_policy), memory).await
    }

    /// The same, with a deadline that several calls share. The request is queued at once, before the future is polled.
    ///
    /// # Errors
    /// As [`Service::submit`].
    pub fn submit_by(
        &self,
        request: CommandRequest,
        deadline: Deadline,
        memory: HeldMemory,
    ) -> impl Future<Output = Result<CommandReceipt, Error>> + Send + '_ {
        // Queued before the future is made, which would be copied with the request in it.
        let order_id = request.command.order_id();
        let (reply, answer) = oneshot::channel();
        let queued =
            self.committer.submit(PendingCommand { request, wait_until: deadline.ack, reply, memory });
        match queued {
            Ok(slot) => Either::Left(self.outcome(order_id, slot, answer, deadline)),
            Err(error) => Either::Right(ready(Err(error))),
        }
    }

    /// The outcome of a queued command.
    async fn outcome(
        &self,
        order_id: OrderId,
        slot: Arc<Slot>,
        mut answer: oneshot::Receiver<Result<CommandReceipt, Error>>,
        deadline: Deadline,
    ) -> Result<CommandReceipt, Error> {
        let answered = match timeout_at(deadline.answer.into(), &mut answer).await {
            Ok(Ok(answered)) => answered,
            // The deadline has passed, or the committer has ended.
            _ => match slot.withdraw() {
                Withdrawal::NothingStored => Err(Error::Unavailable),
                Withdrawal::Stored(receipt) => {
                    Ok(CommandReceipt { progress: ProcessingState::Pending, ..receipt })
                }
                Withdrawal::NotKnown => answer.try_recv().unwrap_or(Err(Error::OutcomeUnknown { order_id })),
            },
        };
        let mut receipt = answered?;
        if let Some(until) = deadline.ack.filter(|_| receipt.replayed) {
            let of = (receipt.order_id, receipt.version);
            receipt.progress = Box::pin(self.processed(of, until, deadline.answer)).await;
        }
        if deadline.is_async && receipt.progress == ProcessingState::NotAwaited {
            receipt.progress = ProcessingState::Pending;
        }
        Ok(receipt)
    }

    /// Gives the order of that id the content that the caller sends. A repeated put does not create a second order.
    ///
    /// # Errors
    /// As [`Service::submit`]; [`Error::Exists`] where an order is there that must not be, and
    /// [`Error::PreconditionFailed`] where it is another user's.
    pub async fn put(
        &self,
        put: Put,
        mode: PutMode,
        deadline: Deadline,
        memory: Option<&Arc<Permit>>,
    ) -> Result<CommandReceipt, Error> {
        let Put { order_id, user_id, payload, if_version } = put;
        let create = |user_id| Command::Create { order_id, user_id, payload: payload.clone() };
        let update = Command::Update { order_id, user_id, payload: payload.clone(), if_version };
        if mode == PutMode::CreateOnly {
            let user_id = user_id.ok_or_else(needs_user)?;
            return self.submit_by(create(user_id).into(), deadline, memory.into()).await;
        }
        match self.submit_by(update.clone().into(), deadline, memory.into()).await {
            Err(Error::NotFound { .. }) if mode == PutMode::Upsert => {}
            answer => return answer,
        }
        // An order has an owner, and belongs to its owner for ever.
        let user_id = user_id.ok_or_else(needs_user)?;
        match self.submit_by(create(user_id).into(), deadline, memory.into()).await {
            // Another request was faster, or the order is another user's: an update finds out which.
            Err(Error::PreconditionFailed { .. } | Error::Exists { .. }) => {
                self.submit_by(update.into(), deadline, memory.into()).await
            }
            answer => answer,
        }
    }

    /// Waits until the worker has processed that version of an order or a newer one, or the wait is over.
    pub async fn await_version(&self, order_id: OrderId, version: Version, deadline: Deadline) {
        if let Some(until) = deadline.ack {
            self.processed((order_id, version), until, deadline.answer).await;
        }
    }

    /// Waits until the worker has processed that version of an order or a newer one. Asks the store once, and waits for
    /// its answer until `asked_until` also where the wait itself is over before.
    async fn processed(
        &self,
        of: (OrderId, Version),
        until: Instant,
        asked_until: Instant,
    ) -> ProcessingState {
        let (order_id, version) = of;
        // Registered first, so that an ACK between the check and the wait is not missed.
        let mut answer = self.acks.follow(order_id, version, asked_until);
        let (acks, store, cache) = (Arc::clone(&self.acks), Arc::clone(&self.store), Arc::clone(&self.cache));
        // A task of its own: a check that has taken callers out answers them, also where this caller leaves.
        let check = tokio::spawn(async move { acks.check(&[order_id], &*store, &*cache).await });
        let answered = tokio::select! {
            biased;
            answered = &mut answer => Some(answered),
            _ = timeout_at(asked_until.into(), check) => None,
        };
        let answered = match answered {
            Some(answered) => Some(answered),
            None => timeout_at(until.into(), answer).await.ok(),
        };
        answered
            .and_then(Result::ok)
            .and_then(Result::ok)
            .map_or(ProcessingState::Pending, |receipt| receipt.progress)
    }
}
