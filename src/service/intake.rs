//! Intake: takes a command, has it made durable, and answers with what really happened to it.

use std::future::ready;
use std::sync::Arc;
use std::time::Instant;

use futures_util::future::Either;
use tokio::sync::oneshot;
use tokio::time::timeout_at;

use super::committer::{PendingCommand, Slot, Withdrawal};
use super::deadline::{Deadline, WaitPolicy};
use super::quota::{HeldMemory, Permit};
use super::receipt::{CommandReceipt, Progress};
use super::wiring::Service;
use crate::error::Error;
use crate::order::{Command, OrderId, Put, Request, Version, needs_user};

/// What may become of a [`Put`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PutMode {
    /// The order is made, or its content replaced.
    Upsert,
    /// The order is made; one that exists is left alone.
    CreateOnly,
    /// Its content is replaced; one that does not exist is not made.
    UpdateOnly,
}

impl Service {
    /// Carries out a request, whose memory is held until it is committed, refused or withdrawn. Answers when the worker
    /// is done with it, or with [`Progress::Pending`] when the caller's
    /// patience is at its end. A caller who goes away in between loses only the answer. A request of a key that was
    /// used before is answered with what happened then, once the worker is done with that.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Deleted`], [`Error::PreconditionFailed`], [`Error::KeyReused`],
    /// [`Error::Invalid`] where the row cannot be stored; [`Error::Overloaded`] and [`Error::Unavailable`] where
    /// nothing was stored, also because the store had no time for the request before the deadline;
    /// [`Error::OutcomeUnknown`], also where the store has the request and did not answer before the deadline.
    pub async fn submit(
        &self,
        request: Request,
        wait_policy: WaitPolicy,
        memory: HeldMemory,
    ) -> Result<CommandReceipt, Error> {
        self.submit_by(request, self.deadline(wait_policy), memory).await
    }

    /// The same, with a deadline that several calls share. The request is queued at once, whenever its outcome is asked
    /// for.
    ///
    /// # Errors
    /// As [`Service::submit`].
    pub fn submit_by(
        &self,
        request: Request,
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

    /// What becomes of a command that is queued.
    async fn outcome(
        &self,
        order_id: OrderId,
        slot: Arc<Slot>,
        mut answer: oneshot::Receiver<Result<CommandReceipt, Error>>,
        deadline: Deadline,
    ) -> Result<CommandReceipt, Error> {
        let answered = match timeout_at(deadline.answer.into(), &mut answer).await {
            Ok(Ok(answered)) => answered,
            // It is late, or the one who would have answered is gone.
            _ => match slot.withdraw() {
                Withdrawal::NothingStored => Err(Error::Unavailable),
                Withdrawal::Stored(receipt) => Ok(CommandReceipt { progress: Progress::Pending, ..receipt }),
                Withdrawal::NotKnown => answer.try_recv().unwrap_or(Err(Error::OutcomeUnknown { order_id })),
            },
        };
        let mut receipt = answered?;
        if let Some(until) = deadline.ack.filter(|_| receipt.replayed) {
            let of = (receipt.order_id, receipt.version);
            receipt.progress = Box::pin(self.processed(of, until, deadline.answer)).await;
        }
        if deadline.is_async && receipt.progress == Progress::NotAwaited {
            receipt.progress = Progress::Pending;
        }
        Ok(receipt)
    }

    /// Gives an order that its caller named the content that the caller sends. Sending it again makes no second order.
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
            // Another request was faster, or the order is another user's: an update tells which.
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

    /// Waits until the worker is done with that version of an order or a newer one. Asks the store once, and waits for
    /// its answer until `asked_until` also where the wait itself is over before.
    async fn processed(&self, of: (OrderId, Version), until: Instant, asked_until: Instant) -> Progress {
        let (order_id, version) = of;
        // Registered first: what happens between the look and the wait is not missed.
        let mut answer = self.acks.follow(order_id, version, asked_until);
        let (acks, store, cache) = (Arc::clone(&self.acks), Arc::clone(&self.store), Arc::clone(&self.cache));
        // A task of its own: a look that has taken callers out answers them, also where this caller goes away.
        let look = tokio::spawn(async move { acks.look(&[order_id], &*store, &*cache).await });
        let answered = tokio::select! {
            biased;
            answered = &mut answer => Some(answered),
            _ = timeout_at(asked_until.into(), look) => None,
        };
        let answered = match answered {
            Some(answered) => Some(answered),
            None => timeout_at(until.into(), answer).await.ok(),
        };
        answered
            .and_then(Result::ok)
            .and_then(Result::ok)
            .map_or(Progress::Pending, |receipt| receipt.progress)
    }
}
