//! Callers who wait for an ACK. A waiter is registered after its commit and before its event can be published, so an
//! early ACK is never missed. An ACK is only a hint and may be lost: one watch asks the store about all waiters whose
//! ACK is late, and answers those whose wait is over.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::receipt::{Change, CommandReceipt, ProcessingState};
use crate::bus::AckSink;
use crate::cache::{Cache, invalidate};
use crate::error::Error;
use crate::order::{Ack, AckStatus, OrderId, Status, Version};
use crate::store::{Orders, Processed};
use crate::telemetry::limited;

/// How often the watch looks; also how exact the end of a wait is.
const TICK: Duration = Duration::from_millis(50);

/// How long after the commit, and after each check, the store is asked about a missing ACK: first, second, then always.
const CHECKS: [Duration; 3] =
    [Duration::from_millis(250), Duration::from_millis(750), Duration::from_secs(2)];

/// How often the store is asked about versions whose ACK may go to another process.
const FOLLOW_PERIOD: Duration = Duration::from_millis(100);

/// How many checks of the store run at once. Further callers are checked when one has ended.
const MAX_CHECKS: usize = 4;

/// How long the store may take to answer a check.
const CHECK_TIMEOUT: Duration = Duration::from_secs(5);

/// The waiting callers, by order. Two requests on one order wait for a version each.
#[derive(Default)]
pub(super) struct AckWaiters {
    // std Mutex: held for a few map operations of a whole batch, never across .await
    waiting: Mutex<HashMap<OrderId, Vec<Waiter>>>,
}

/// A caller, from the commit to the answer.
pub(super) struct Waiter {
    receipt: CommandReceipt,
    reply: oneshot::Sender<Result<CommandReceipt, Error>>,
    until: Instant,
    check_at: Instant,
    checks: usize,
    /// Keeps the batch in flight; `None` for a caller whose request did not make the version: a newer one answers it,
    /// too.
    under_way: Option<UnderWay>,
}

/// Held by each caller of a batch who has not been answered.
pub(super) type UnderWay = mpsc::Sender<std::convert::Infallible>;

impl Waiter {
    /// A caller who waits until `until` for more than this receipt.
    pub(super) fn new(
        receipt: CommandReceipt,
        reply: oneshot::Sender<Result<CommandReceipt, Error>>,
        now: Instant,
        until: Instant,
        under_way: UnderWay,
    ) -> Waiter {
        Waiter { receipt, reply, until, check_at: now + CHECKS[0], checks: 1, under_way: Some(under_way) }
    }

    /// Whether the ACK of a version answers it; one without a version answers all.
    fn is_answered_by(&self, acked: Option<Version>) -> bool {
        acked.is_none_or(|acked| match self.under_way {
            Some(_) => acked == self.receipt.version,
            None => acked >= self.receipt.version,
        })
    }

    /// The time of the check after the next.
    fn pause(&self) -> Duration {
        match self.under_way {
            Some(_) => CHECKS[self.checks.min(CHECKS.len() - 1)],
            None => FOLLOW_PERIOD,
        }
    }

    fn answer(self, progress: ProcessingState) {
        // The caller may have left.
        let _ = self.reply.send(Ok(CommandReceipt { progress, ..self.receipt }));
    }
}

impl AckWaiters {
    /// Registers a batch. Must come before the events of the batch go to the relay.
    pub(super) fn register(&self, waiters: Vec<Waiter>) {
        let mut waiting = self.lock();
        for waiter in waiters {
            waiting.entry(waiter.receipt.order_id).or_default().push(waiter);
        }
    }

    /// Registers a caller who waits, until `until`, for a version that another request made.
    pub(super) fn follow(
        &self,
        order_id: OrderId,
        version: Version,
        until: Instant,
    ) -> oneshot::Receiver<Result<CommandReceipt, Error>> {
        let (reply, answer) = oneshot::channel();
        let (change, progress) = (Change::Updated, ProcessingState::Pending);
        let receipt = CommandReceipt { order_id, version, change, progress, replayed: true };
        let check_at = Instant::now() + FOLLOW_PERIOD;
        self.register(vec![Waiter { receipt, reply, until, check_at, checks: 0, under_way: None }]);
        answer
    }

    /// Asks the store about late ACKs and ends waits that are over. Never returns. A store that does not answer does
    /// not delay the end of a wait.
    pub(super) async fn watch(&self, store: &dyn Orders, cache: &dyn Cache) {
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut checks = FuturesUnordered::new();
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                Some(()) = checks.next() => continue,
            }
            let now = Instant::now();
            for waiter in self.take(|waiter| waiter.until <= now || waiter.reply.is_closed()) {
                waiter.answer(ProcessingState::Pending);
            }
            if checks.len() < MAX_CHECKS {
                let late = self.late(now);
                if !late.is_empty() {
                    checks.push(async move { self.check(&late, store, cache).await });
                }
            }
        }
    }

    /// Asks the store about orders, and answers those whose version has been processed. The callers whom it takes out
    /// lose their answer where this is dropped; let it end.
    pub(super) async fn check(&self, orders: &[OrderId], store: &dyn Orders, cache: &dyn Cache) {
        let checked = timeout(CHECK_TIMEOUT, store.processed_versions(orders)).await;
        let checked = checked.map_err(|_| "it did not answer in time".to_owned());
        let states = match checked.and_then(|checked| checked.map_err(|error| error.to_string())) {
            Ok(states) => states,
            Err(reason) => {
                // Later ACKs and checks may still answer these callers.
                limited!(warn, "late ACKs"; reason, "the store cannot be asked about late acknowledgements");
                return;
            }
        };
        let found: Vec<(Waiter, ProcessingState)> =
            orders.iter().zip(states).flat_map(|(id, state)| self.found(*id, state)).collect();
        // The worker may not have invalidated these orders yet.
        invalidate(cache, found.iter().map(|(waiter, _)| waiter.receipt.order_id)).await;
        found.into_iter().for_each(|(waiter, progress)| waiter.answer(progress));
    }

    /// The orders whose waiters are due for a check, which is noted as made.
    fn late(&self, now: Instant) -> Vec<OrderId> {
        let mut late = Vec::new();
        for (id, waiters) in self.lock().iter_mut() {
            let mut due = false;
            for waiter in waiters.iter_mut().filter(|waiter| waiter.check_at <= now) {
                waiter.check_at = now + waiter.pause();
                waiter.checks += 1;
                due = true;
            }
            if due {
                late.push(*id);
            }
        }
        late
    }

    /// Takes the waiters whose version has been processed, each with its outcome.
    fn found(&self, order_id: OrderId, state: Option<Processed>) -> Vec<(Waiter, ProcessingState)> {
        let Some(Processed { version, status }) = state else { return Vec::new() };
        let taken = self.take_of(order_id, |waiter| waiter.receipt.version <= version).into_iter();
        let with_progress = |waiter: Waiter| match status {
            Status::Failed if waiter.receipt.version == version => (waiter, ProcessingState::Failed),
            // An older version counts as processed, also where the newest has failed.
            _ => (waiter, ProcessingState::Processed),
        };
        taken.map(with_progress).collect()
    }

    fn take(&self, which: impl Fn(&Waiter) -> bool) -> Vec<Waiter> {
        let mut taken = Vec::new();
        self.lock().retain(|_, waiters| {
            taken.extend(waiters.extract_if(.., |waiter| which(waiter)));
            !waiters.is_empty()
        });
        taken
    }

    fn take_of(&self, order_id: OrderId, which: impl Fn(&Waiter) -> bool) -> Vec<Waiter> {
        let mut waiting = self.lock();
        let Some(waiters) = waiting.get_mut(&order_id) else { return Vec::new() };
        let taken = waiters.extract_if(.., |waiter| which(waiter)).collect();
        if waiters.is_empty() {
            waiting.remove(&order_id);
        }
        taken
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<OrderId, Vec<Waiter>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl AckSink for AckWaiters {
    /// An ACK answers the waiter of its version, and callers who follow the order up to that version. An ACK without a
    /// version comes from a worker that knows none, and answers all waiters of its order.
    fn acked(&self, acks: Vec<Ack>) {
        for ack in acks {
            let progress = match ack.status {
                AckStatus::Processed | AckStatus::Updated => ProcessingState::Processed,
                AckStatus::Failed => ProcessingState::Failed,
            };
            for waiter in self.take_of(ack.order_id, |waiter| waiter.is_answered_by(ack.version)) {
                waiter.answer(progress);
            }
        }
    }
}
