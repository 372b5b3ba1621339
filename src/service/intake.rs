//! Intake: takes a command, has it made durable, and answers with what really happened to it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::Service;
use super::lanes::Entry;
use super::quota::Permit;
use crate::error::Error;
use crate::order::{Command, Event, Order, OrderId, Put, Request, Status, Version, needs_user};
use crate::store::Earlier;

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
    /// Whether it was carried out earlier, when a request of the same key came.
    pub replayed: bool,
}

/// How long a caller waits for the worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Patience {
    /// As long as the service is set to.
    #[default]
    Usual,
    /// No longer than this, nor than the service's limit; also where the service is set not to wait.
    AtMost(Duration),
    /// As long as the service is set to, and no longer than this.
    Within(Duration),
    /// Not at all: an order that is durable is good enough.
    None,
}

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
        let change = Change::to(event.status);
        let (order_id, version) = (event.order_id?, event.version?);
        Some(Receipt { order_id, version, change, progress, replayed: false })
    }

    /// The receipt for a request that was carried out earlier.
    pub(super) fn of_earlier(earlier: &Earlier) -> Receipt {
        let Earlier { order_id, version, status } = *earlier;
        let change = Change::to(status);
        Receipt { order_id, version, change, progress: Progress::NotAwaited, replayed: true }
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

impl Service {
    /// Carries out a request, whose memory is held until it is committed or refused. Answers when the worker is done with it, or with [`Progress::Pending`] when the caller's
    /// patience is at its end. A caller who goes away in between loses only the answer. A request of a key that was
    /// used before is answered with what happened then, once the worker is done with that.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Deleted`], [`Error::PreconditionFailed`], [`Error::KeyReused`],
    /// [`Error::Invalid`] where the row cannot be stored; [`Error::Overloaded`] and [`Error::Unavailable`] where
    /// nothing was stored; [`Error::OutcomeUnknown`].
    pub async fn submit(
        &self,
        request: Request,
        patience: Patience,
        memory: Option<Arc<Permit>>,
    ) -> Result<Receipt, Error> {
        let order_id = request.command.order_id();
        let (reply, answer) = oneshot::channel();
        let wait_until = self.wait_until(patience);
        self.lanes.submit(Entry { request, wait_until, reply, memory })?;
        let mut receipt = answer.await.map_err(|_| Error::OutcomeUnknown { order_id })??;
        if receipt.replayed {
            receipt = self.catch_up(receipt, wait_until).await;
        }
        if patience == Patience::None && receipt.progress == Progress::NotAwaited {
            receipt.progress = Progress::Pending;
        }
        Ok(receipt)
    }

    /// Gives an order that its caller named the content that the caller sends. Sending it again makes no second order.
    ///
    /// # Errors
    /// As [`Service::submit`]; [`Error::PreconditionFailed`] also where an order is there that must not be, or not
    /// there that must.
    pub async fn put(
        &self,
        put: Put,
        mode: PutMode,
        patience: Patience,
        memory: Option<Arc<Permit>>,
    ) -> Result<Receipt, Error> {
        let Put { order_id, user_id, payload, if_version } = put;
        let create = |user_id| Command::Create { order_id, user_id, payload: payload.clone() };
        let update = Command::Update { order_id, user_id, payload: payload.clone(), if_version };
        if mode == PutMode::CreateOnly {
            let user_id = user_id.ok_or_else(needs_user)?;
            return self.submit(create(user_id).into(), patience, memory).await;
        }
        match self.submit(update.clone().into(), patience, memory.clone()).await {
            Err(Error::NotFound { .. }) if mode == PutMode::Upsert => {}
            answer => return answer,
        }
        // Nobody makes an order for nobody, and an order that is there belongs to its owner for ever.
        let user_id = user_id.ok_or_else(needs_user)?;
        match self.submit(create(user_id).into(), patience, memory.clone()).await {
            // Another request was faster, or the order is somebody else's: an update tells which.
            Err(Error::PreconditionFailed { .. }) => self.submit(update.into(), patience, memory).await,
            answer => answer,
        }
    }

    /// The order of that id once the worker has processed that version or a newer one; `None`: the one it has now. As it
    /// is when `limit` is over.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Unavailable`].
    pub async fn get_processed(
        &self,
        order_id: OrderId,
        version: Option<Version>,
        limit: Duration,
    ) -> Result<Order, Error> {
        let order = self.get(order_id).await?;
        let version = version.unwrap_or(order.version);
        if order.processed_version >= version {
            return Ok(order);
        }
        let until = Instant::now() + limit.min(self.ack_wait_timeout);
        self.processed(order_id, version, until).await;
        self.get(order_id).await
    }

    /// Until when a caller waits; `None`: not at all.
    fn wait_until(&self, patience: Patience) -> Option<Instant> {
        let limit = match patience {
            Patience::Usual => self.ack_wait.then_some(self.ack_wait_timeout),
            Patience::AtMost(limit) => Some(limit.min(self.ack_wait_timeout)),
            Patience::Within(limit) => self.ack_wait.then_some(limit.min(self.ack_wait_timeout)),
            Patience::None => None,
        };
        limit.map(|limit| Instant::now() + limit)
    }

    /// How far an earlier request has come, or comes while its caller waits.
    async fn catch_up(&self, receipt: Receipt, wait_until: Option<Instant>) -> Receipt {
        let Some(until) = wait_until else { return receipt };
        let progress = self.processed(receipt.order_id, receipt.version, until).await;
        Receipt { progress, ..receipt }
    }

    /// Waits until the worker is done with that version of an order or a newer one.
    async fn processed(&self, order_id: OrderId, version: Version, until: Instant) -> Progress {
        // Registered first: what happens between the look and the wait is not missed.
        let answer = self.acks.follow(order_id, version, until);
        self.acks.look(&[order_id], &*self.store, &*self.cache).await;
        answer.await.ok().and_then(Result::ok).map_or(Progress::Pending, |receipt| receipt.progress)
    }
}
