//! Intake: takes a command, has it made durable, and answers with what really happened to it.

use std::future::ready;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::Either;
use tokio::sync::oneshot;
use tokio::time::{timeout, timeout_at};

use super::Service;
use super::pending::{PendingCommand, Slot, Withdrawal};
use super::quota::{HeldMemory, Permit};
use crate::error::Error;
use crate::order::{Command, Event, OrderId, Put, Request, Status, Version, needs_user};
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

/// How long a commit, or a read of the store, may take at least before its caller is answered: a caller who does not
/// wait for the worker (`wait=0`, or a short limit of the service) still learns what the store says.
const SHORTEST_LIMIT: Duration = Duration::from_secs(1);

/// How much of the time of a caller who is shown the order is left for a last look at the store.
const LAST_LOOK: Duration = Duration::from_millis(200);

/// The longest time that a plain read may take.
const LONGEST_READ: Duration = Duration::from_secs(10);

/// Until when a caller is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deadline {
    /// Until when the caller waits for the ACK; `None`: not at all.
    ack: Option<Instant>,
    /// When the caller is answered at the latest, whatever the store does.
    answer: Instant,
    /// Whether the caller asked not to wait.
    is_async: bool,
}

impl Deadline {
    /// When the caller is answered at the latest.
    #[must_use]
    pub fn answer(&self) -> Instant {
        self.answer
    }

    /// Whether the caller does not wait for the worker any more.
    #[must_use]
    pub fn is_wait_over(&self) -> bool {
        self.ack.is_none_or(|until| until <= Instant::now())
    }

    /// The same for a caller who is shown the order: the wait for the worker ends early enough for a last look at the
    /// store, which is not to make the answer late.
    #[must_use]
    pub fn with_last_look(self) -> Deadline {
        // That is never before now: the answer has SHORTEST_LIMIT at least.
        let look = self.answer - LAST_LOOK;
        Deadline { ack: self.ack.map(|until| until.min(look)), ..self }
    }
}

impl Service {
    /// When a caller of that patience is answered at the latest, counted from now.
    #[must_use]
    pub fn deadline(&self, patience: Patience) -> Deadline {
        let longest = self.ack_wait_timeout;
        let (waits, limit) = match patience {
            Patience::Usual => (self.ack_wait, longest),
            Patience::AtMost(limit) => (true, limit.min(longest)),
            Patience::Within(limit) => (self.ack_wait, limit.min(longest)),
            Patience::None => (false, longest),
        };
        let now = Instant::now();
        Deadline {
            ack: waits.then(|| now + limit),
            answer: now + limit.max(SHORTEST_LIMIT),
            is_async: patience == Patience::None,
        }
    }

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
        patience: Patience,
        memory: HeldMemory,
    ) -> Result<Receipt, Error> {
        self.submit_by(request, self.deadline(patience), memory).await
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
    ) -> impl Future<Output = Result<Receipt, Error>> + Send + '_ {
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
        mut answer: oneshot::Receiver<Result<Receipt, Error>>,
        deadline: Deadline,
    ) -> Result<Receipt, Error> {
        let answered = match timeout_at(deadline.answer.into(), &mut answer).await {
            Ok(Ok(answered)) => answered,
            // It is late, or the one who would have answered is gone.
            _ => match slot.withdraw() {
                Withdrawal::NothingStored => Err(Error::Unavailable),
                Withdrawal::Stored(receipt) => Ok(Receipt { progress: Progress::Pending, ..receipt }),
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
    ) -> Result<Receipt, Error> {
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

    /// Until when a plain read is answered that begins now.
    #[must_use]
    pub fn reads_until(&self) -> Instant {
        Instant::now() + self.longest_read()
    }

    fn longest_read(&self) -> Duration {
        self.ack_wait_timeout.clamp(SHORTEST_LIMIT, LONGEST_READ)
    }

    /// How long a caller waits at most, whatever it asks for.
    #[must_use]
    pub fn longest_wait(&self) -> Duration {
        self.ack_wait_timeout
    }

    /// Bounds a read of the store, for which no caller waits longer than for a write.
    pub(super) async fn in_time<T>(&self, read: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        let limit = self.longest_read();
        timeout(limit, read).await.unwrap_or_else(|_| {
            tracing::debug!(?limit, "a read of the store took too long");
            Err(Error::Unavailable)
        })
    }

    /// Waits until the worker is done with that version of an order or a newer one. Asks the store once, and waits for
    /// its answer until `asked_until` also where the wait itself is over before.
    async fn processed(&self, of: (OrderId, Version), until: Instant, asked_until: Instant) -> Progress {
        let (order_id, version) = of;
        // Registered first: what happens between the look and the wait is not missed.
        let mut answer = self.acks.follow(order_id, version, asked_until);
        let (acks, store, cache) = (Arc::clone(&self.acks), Arc::clone(&self.store), Arc::clone(&self.cache));
        // A task of its own: a look that has taken callers out answers them, whatever becomes of this caller.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_last_look_has_its_time_within_the_wait_and_takes_little_of_it() {
        let now = Instant::now();
        for (wait, least) in [(1_000, 800), (2_000, 1_800), (30_000, 29_800), (900, 800), (400, 400), (0, 0)]
        {
            let [wait, least] = [wait, least].map(Duration::from_millis);
            let deadline =
                Deadline { ack: Some(now + wait), answer: now + wait.max(SHORTEST_LIMIT), is_async: false };
            let shown = deadline.with_last_look();
            let ack = shown.ack.unwrap();
            assert_eq!(shown.answer, deadline.answer);
            assert!(ack < shown.answer && ack >= now + least && ack <= now + wait, "{wait:?}");
        }
        let async_one = Deadline { ack: None, answer: now + SHORTEST_LIMIT, is_async: true };
        assert_eq!(async_one.with_last_look(), async_one);
    }
}
