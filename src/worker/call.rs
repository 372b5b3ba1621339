//! One call of the processor, with a timeout, and its retries where it fails for a transient reason: after growing
//! pauses, from memory; or later, from the store, which keeps the order meanwhile. A call must never end without an
//! outcome, a retry, or a redelivery of its event.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use jiff::Timestamp;
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::keeping::Keeper;
use super::options::Options;
use super::processor::{ProcessError, Processor};
use super::work::{Done, Task};
use crate::bus::{Bus, Delivery};
use crate::order::{Amount, Event, OrderId, Status};
use crate::store::{Completion, Creation, Postponed, Precondition};
use crate::telemetry::limited;

/// How many calls may run outside of their batches; with more, the worker does not take further deliveries.
pub(super) const MOST_LATE: usize = 8192;

/// Where fewer free permits than this are left, a call does not wait in memory for its retry.
const SCARCE: usize = MOST_LATE / 2;

/// The first pause before a retry.
const FIRST_PAUSE: Duration = Duration::from_secs(1);

/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(300);

/// How long an order is retried from memory where the store can keep it, and there is room.
const LONGEST_IN_MEMORY: Duration = Duration::from_secs(15);

/// How long the store keeps an order at least. Longer than any claim, so that a postponed row is not mistaken for one
/// that was just published.
const SHORTEST_KEPT: Duration = Duration::from_secs(15);

/// For how long an order is retried at least, however old its change is.
const SHORTEST_RETRY: Duration = Duration::from_secs(60);

/// How long a call may run after the worker was asked to stop.
const GRACE: Duration = Duration::from_secs(3);

/// How many characters of a processor's reason are recorded: every list and history repeats them.
const MAX_REASON: usize = 1000;

/// What a call needs.
pub(super) struct Caller {
    pub(super) keeper: Arc<Keeper>,
    pub(super) room: Arc<Semaphore>,
    pub(super) bus: Arc<dyn Bus>,
    pub(super) processor: Arc<dyn Processor>,
    pub(super) options: Options,
    pub(super) shutdown: CancellationToken,
    /// Cancelled when nothing is retried any more.
    pub(super) last_tries: CancellationToken,
}

/// A running task: `None` where it is not to be recorded.
pub(super) type Call = BoxFuture<'static, Option<Done>>;

impl Caller {
    /// Has an order processed. The call begins at the first poll.
    pub(super) fn call(self: Arc<Self>, (order_id, delivery): Task) -> Call {
        Box::pin(async move {
            let status = match &delivery.event {
                Ok(event) if is_work(event) => return self.process(order_id, delivery).await,
                Ok(event) => event.status,
                // The worker has rejected such records before.
                Err(_) => return None,
            };
            Some(done(order_id, delivery, (status, None, None)))
        })
    }

    /// Calls the processor until there is an outcome.
    async fn process(&self, order_id: OrderId, delivery: Delivery) -> Option<Done> {
        let began = Instant::now();
        loop {
            let Ok(event) = &delivery.event else { return None };
            let answer = tokio::select! {
                // The call first: most calls end at once, also when the worker stops.
                biased;
                answer = self.ask(event) => answer,
                // The event is redelivered.
                () = self.stopped() => return None,
            };
            let reason = match answer {
                Ok(amount) => return Some(done(order_id, delivery, (Status::Done, Some(amount), None))),
                Err(ProcessError::Permanent(reason)) => return Some(failed(order_id, delivery, &reason)),
                Err(ProcessError::Transient(reason)) => reason,
            };
            let (age, tried, retry_for) = (age(event), began.elapsed(), self.options.retry_for);
            // An event that arrives late, behind a backlog, is still retried for a while.
            if age >= retry_for && tried >= retry_for.min(SHORTEST_RETRY) {
                let reason = format!("{reason} (it was tried again until {retry_for:?} after the change)");
                return Some(failed(order_id, delivery, &reason));
            }
            let pause = (tried / 2).clamp(FIRST_PAUSE, LONGEST_PAUSE);
            limited!(
                warn, "processor";
                %order_id, version = event.version, reason,
                "processing failed; the worker tries again"
            );
            let is_scarce = self.room.available_permits() < SCARCE || self.bus.is_crowded();
            if is_scarce || (age < retry_for && tried >= LONGEST_IN_MEMORY) {
                if self.keep(order_id, event, age).await {
                    self.bus.settle(vec![delivery]).await;
                    return None;
                }
                // Where the bus is in this process, the sweep republishes the event.
                if is_scarce && self.bus.confirms_processing() {
                    return None;
                }
            }
            tokio::select! {
                () = sleep(pause) => {}
                // The event is redelivered.
                () = self.last_tries.cancelled() => return None,
                () = self.shutdown.cancelled() => return None,
            }
        }
    }

    /// Ends when the worker was asked to stop, and a call has had time to end.
    async fn stopped(&self) {
        self.shutdown.cancelled().await;
        sleep(GRACE).await;
    }

    /// One call. A panic of the processor fails its order alone.
    async fn ask(&self, event: &Event) -> Result<Amount, ProcessError> {
        let call = AssertUnwindSafe(self.processor.process(event)).catch_unwind();
        match timeout(self.options.timeout, call).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(ProcessError::Permanent("the processor panicked".to_owned())),
            Err(_) => {
                let limit = self.options.timeout;
                Err(ProcessError::Transient(format!("the processor did not answer within {limit:?}")))
            }
        }
    }

    /// Has the store keep the event until it is due; answers whether it does.
    async fn keep(&self, order_id: OrderId, event: &Event, age: Duration) -> bool {
        let pause = (age / 2).clamp(SHORTEST_KEPT, LONGEST_PAUSE);
        match (event.order_id, event.version) {
            (Some(_), Some(version)) => self.keeper.keep(Postponed { order_id, version, by: pause }).await,
            _ => false,
        }
    }
}

/// Whether the processor must be called.
fn is_work(event: &Event) -> bool {
    match event.status {
        Status::New | Status::Processing | Status::Done | Status::Failed => true,
        Status::Cancelled | Status::Deleted => false,
    }
}

/// How long ago the order changed.
fn age(event: &Event) -> Duration {
    Duration::try_from(Timestamp::now().duration_since(event.timestamp)).unwrap_or_default()
}

fn failed(order_id: OrderId, delivery: Delivery, reason: &str) -> Done {
    let reason: String = reason.chars().take(MAX_REASON).collect();
    limited!(warn, "failed order"; %order_id, reason, "the order cannot be processed");
    done(order_id, delivery, (Status::Failed, None, Some(reason)))
}

fn done(
    order_id: OrderId,
    delivery: Delivery,
    (status, amount, reason): (Status, Option<Amount>, Option<String>),
) -> Done {
    let precondition = match &delivery.event {
        Ok(Event { order_id: Some(_), version: Some(version), .. }) => Precondition::Version(*version),
        Ok(Event { order_id: None, user_id: Some(user_id), payload, .. }) => {
            Precondition::Creation(Box::new(Creation { user_id: *user_id, payload: payload.clone() }))
        }
        Ok(event) => Precondition::Unversioned(event.timestamp),
        Err(_) => Precondition::Unversioned(delivery.source.timestamp),
    };
    Done { order_id, delivery, completion: Completion { order_id, precondition, status, amount, reason } }
}
