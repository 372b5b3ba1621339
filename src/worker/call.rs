//! One call of the processor, with a limit of time, and what follows where it fails for a passing reason: it is made
//! again after growing pauses, or its order waits where it takes no memory.

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

/// How many calls may go on outside of their batches; beyond that the worker takes no more deliveries.
pub(super) const MOST_LATE: usize = 8192;

/// Where fewer may go on than that, none waits in memory to be made again.
const SCARCE: usize = MOST_LATE / 2;

/// The first pause before a call is made again.
const FIRST_PAUSE: Duration = Duration::from_secs(1);

/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(300);

/// How long an order is tried again from memory where the store can keep it, and there is room.
const LONGEST_IN_MEMORY: Duration = Duration::from_secs(15);

/// How long the store keeps an order at least. Longer than any claim: a row that waits for its time is never taken for
/// one that was just published.
const SHORTEST_KEPT: Duration = Duration::from_secs(15);

/// For how long an order is tried again at least, however old its change is.
const LEAST: Duration = Duration::from_secs(60);

/// How long a call may go on after the worker was told to stop.
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
    /// When nothing is tried again any more.
    pub(super) last_tries: CancellationToken,
}

/// A task under way: `None` where it is not to be recorded.
pub(super) type Call = BoxFuture<'static, Option<Done>>;

impl Caller {
    /// Has an order processed; the call has begun when it is polled.
    pub(super) fn call(self: Arc<Self>, (order_id, delivery): Task) -> Call {
        Box::pin(async move {
            let status = match &delivery.event {
                Ok(event) if is_work(event) => return self.process(order_id, delivery).await,
                Ok(event) => event.status,
                // The worker rejects such records before.
                Err(_) => return None,
            };
            Some(done(order_id, delivery, (status, None, None)))
        })
    }

    /// Asks the processor until there is an outcome.
    async fn process(&self, order_id: OrderId, delivery: Delivery) -> Option<Done> {
        let began = Instant::now();
        loop {
            let Ok(event) = &delivery.event else { return None };
            let answer = tokio::select! {
                // First: most calls end at once, and then nothing waits for the stop.
                biased;
                answer = self.ask(event) => answer,
                // The delivery comes again.
                () = self.stopped() => return None,
            };
            let reason = match answer {
                Ok(amount) => return Some(done(order_id, delivery, (Status::Done, Some(amount), None))),
                Err(ProcessError::Permanent(reason)) => return Some(failed(order_id, delivery, &reason)),
                Err(ProcessError::Transient(reason)) => reason,
            };
            let (age, tried, retry_for) = (age(event), began.elapsed(), self.options.retry_for);
            // An event that comes late, behind a backlog, is tried for a while all the same.
            if age >= retry_for && tried >= retry_for.min(LEAST) {
                let reason = format!("{reason} (it was tried again until {retry_for:?} after the change)");
                return Some(failed(order_id, delivery, &reason));
            }
            let pause = (tried / 2).clamp(FIRST_PAUSE, LONGEST_PAUSE);
            limited!(warn, "processor"; %order_id, version = event.version, reason, "processing failed; it is tried again");
            let is_scarce = self.room.available_permits() < SCARCE || self.bus.is_crowded();
            if is_scarce || (age < retry_for && tried >= LONGEST_IN_MEMORY) {
                if self.keep(order_id, event, age).await {
                    self.bus.settle(vec![delivery]).await;
                    return None;
                }
                // Where the bus is in this process, the sweep brings it again.
                if is_scarce && self.bus.confirms_processing() {
                    return None;
                }
            }
            tokio::select! {
                () = sleep(pause) => {}
                // The delivery comes again.
                () = self.last_tries.cancelled() => return None,
                () = self.shutdown.cancelled() => return None,
            }
        }
    }

    /// Ends when the worker was told to stop, and a call has had time to end.
    async fn stopped(&self) {
        self.shutdown.cancelled().await;
        sleep(GRACE).await;
    }

    /// One call. A panic of the processor fails the order and nothing else.
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

/// Whether the processor is to be asked.
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
