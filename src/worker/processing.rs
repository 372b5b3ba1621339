//! Calls of the processor: each with a limit of time, and again after growing pauses where it fails for a passing
//! reason. Most calls end at once, and their orders are recorded together. A call that takes longer leaves its batch:
//! it goes on in a task of its own, so that it delays no other order, and its order is recorded when it ends.
//!
//! An order that fails for long, or with many others, does not wait in memory. A store with an outbox keeps it until it
//! is due, and its delivery is settled; the sweep of any process then publishes it again. Without an outbox, a bus in
//! this process has it dropped, for the sweep to find; only on a broker it waits in memory all the same.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesUnordered, StreamExt};
use jiff::Timestamp;
use tokio::sync::{Semaphore, mpsc};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::keeping::Keeper;
use super::options::Options;
use super::processor::{ProcessError, Processor};
use super::work::{Done, Task};
use crate::bus::{Bus, Delivery};
use crate::order::{Amount, Event, OrderId, Status};
use crate::shutdown::Parts;
use crate::store::{Basis, Completion, Creation, Outbox, Postponed};
use crate::telemetry::limited;

/// How long a batch waits for the calls of its orders.
pub(super) const PROMPT: Duration = Duration::from_millis(100);

/// How long a batch waits for the calls of orders that it holds more than once: when the newest version is recorded,
/// the older ones need no call.
pub(super) const PROMPT_FOR_REPEATED: Duration = Duration::from_secs(5);

/// How many calls may go on outside of their batches; beyond that the worker takes no more deliveries.
const MOST_LATE: usize = 8192;

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

/// Calls the processor.
pub(super) struct Processing {
    caller: Arc<Caller>,
    late: TaskTracker,
    finished: mpsc::UnboundedSender<Done>,
    parts: Parts,
}

/// What a call needs.
struct Caller {
    keeper: Arc<Keeper>,
    room: Arc<Semaphore>,
    bus: Arc<dyn Bus>,
    processor: Arc<dyn Processor>,
    options: Options,
    shutdown: CancellationToken,
    /// When nothing is tried again any more.
    last_tries: CancellationToken,
}

/// A task under way: `None` where it is not to be recorded.
pub(super) type Call = BoxFuture<'static, Option<Done>>;

impl Processing {
    /// Ready to call; what leaves its batch arrives at the receiver.
    pub(super) fn new(
        store: Arc<dyn Outbox>,
        bus: Arc<dyn Bus>,
        processor: Arc<dyn Processor>,
        options: Options,
        (last_tries, shutdown, parts): (CancellationToken, CancellationToken, Parts),
    ) -> (Processing, mpsc::UnboundedReceiver<Done>) {
        let (finished, late) = mpsc::unbounded_channel();
        let (keeper, room) = (Keeper::new(store), Arc::new(Semaphore::new(MOST_LATE)));
        let caller = Arc::new(Caller { keeper, room, bus, processor, options, shutdown, last_tries });
        (Processing { caller, late: TaskTracker::new(), finished, parts }, late)
    }

    /// Processes tasks for so long; answers those that ended, and the calls of the others.
    pub(super) async fn run(&self, tasks: Vec<Task>, prompt: Duration) -> (Vec<Done>, Vec<Call>) {
        let (mut done, mut calls) = (Vec::with_capacity(tasks.len()), FuturesUnordered::new());
        for task in tasks {
            // Most calls end at once: they need no place among the others.
            let mut call = Arc::clone(&self.caller).call(task);
            match futures_util::poll!(&mut call) {
                std::task::Poll::Ready(ended) => done.extend(ended),
                std::task::Poll::Pending => calls.push(call),
            }
        }
        if calls.is_empty() {
            return (done, Vec::new());
        }
        let ending = async {
            while let Some(ended) = calls.next().await {
                done.extend(ended);
            }
        };
        // What has not ended by then is still among the calls.
        drop(timeout(prompt, ending).await);
        (done, calls.into_iter().collect())
    }

    /// Has calls go on by themselves, as far as there is room for them; their tasks arrive at the receiver one by one.
    pub(super) async fn leave(&self, calls: Vec<Call>) {
        for call in calls {
            let room = tokio::select! {
                room = Arc::clone(&self.caller.room).acquire_owned() => room,
                // Their deliveries come again.
                () = self.caller.shutdown.cancelled() => return,
            };
            let finished = self.finished.clone();
            let part = self.parts.part("a task that processes an order");
            self.late.spawn(async move {
                let (_room, part) = (room, part);
                if let Some(done) = call.await {
                    // The receiver lives until all calls have ended.
                    drop(finished.send(done));
                }
                part.ends_in_order();
            });
        }
    }

    /// Waits until no call goes on.
    pub(super) async fn ended(&self) {
        self.late.close();
        self.late.wait().await;
    }
}

impl Caller {
    fn call(self: Arc<Self>, (order_id, delivery): Task) -> Call {
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
    let basis = match &delivery.event {
        Ok(Event { order_id: Some(_), version: Some(version), .. }) => Basis::Version(*version),
        Ok(Event { order_id: None, user_id: Some(user_id), payload, .. }) => {
            Basis::Creation(Box::new(Creation { user_id: *user_id, payload: payload.clone() }))
        }
        Ok(event) => Basis::Unversioned(event.timestamp),
        Err(_) => Basis::Unversioned(delivery.source.timestamp),
    };
    Done { order_id, delivery, completion: Completion { order_id, basis, status, amount, reason } }
}
