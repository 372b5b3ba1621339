//! The worker: takes what has arrived, processes it, records the whole batch in one write, sends the ACKs, and
//! only then settles. A worker killed at any point has its deliveries come again, and they change nothing that
//! was recorded. A bad record goes to the dead-letter topic and the rest moves on; a store that is away stops
//! everything until it is back.

use std::collections::{HashMap, HashSet};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::join_all;
use jiff::Timestamp;
use tokio::sync::Mutex;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::forget;
use super::processor::{ProcessError, Processor};
use super::rejects::Rejects;
use crate::bus::{Bus, Delivery, Reply, SubscribeError, Subscription};
use crate::cache::Cache;
use crate::order::{Ack, AckStatus, Event, OrderId, Status, Version};
use crate::store::{self, Basis, Completed, Completion, Creation, Processed, Store};
use crate::telemetry::limited;

/// The most events in a batch.
const BATCH: usize = 1024;

/// How many events are processed in one future. Where there are more than these, [`join_all`] makes a task of its own of
/// each future.
const GROUP: usize = 30;

/// How many batches are worked on at a time: while one is being recorded, the next is processed and queued. They
/// may be about the same order; its versions keep them apart.
const HANDS: usize = 3;

/// How often a processor that fails for a passing reason is asked.
const ATTEMPTS: u32 = 5;

/// How many characters of a processor's reason are recorded: every list and history repeats them.
const MAX_REASON: usize = 1000;

/// The first pause before something is tried again; each next one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(100);

/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// A delivery, and the order that it is about.
type Task = (OrderId, Delivery);

/// A worker and what it works with.
pub struct Worker {
    store: Arc<dyn Store>,
    bus: Arc<dyn Bus>,
    cache: Arc<dyn Cache>,
    processor: Arc<dyn Processor>,
    rejects: Rejects,
}

impl Worker {
    /// A worker that has not begun.
    #[must_use]
    pub fn new(
        store: Arc<dyn Store>,
        bus: Arc<dyn Bus>,
        cache: Arc<dyn Cache>,
        processor: Arc<dyn Processor>,
    ) -> Worker {
        let rejects = Rejects::new(Arc::clone(&bus));
        Worker { store, bus, cache, processor, rejects }
    }

    /// Works until `shutdown`, and finishes the batch in hand.
    ///
    /// # Errors
    /// [`SubscribeError`] where the bus cannot serve this worker.
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), SubscribeError> {
        let subscription = Mutex::new(self.bus.subscribe().await?);
        join_all((0..HANDS).map(|_| self.hand(&subscription, &shutdown))).await;
        subscription.into_inner().close().await;
        self.rejects.ended().await;
        Ok(())
    }

    /// Takes what has arrived and works on it, again and again.
    async fn hand(&self, subscription: &Mutex<Box<dyn Subscription>>, shutdown: &CancellationToken) {
        loop {
            let next = async { subscription.lock().await.next(BATCH).await };
            let deliveries = tokio::select! {
                biased;
                () = shutdown.cancelled() => return,
                deliveries = next => deliveries,
            };
            let Some(deliveries) = deliveries else { return };
            self.work(deliveries, shutdown).await;
        }
    }

    async fn work(&self, deliveries: Vec<Delivery>, shutdown: &CancellationToken) {
        let (mut tasks, mut rejected) = (Vec::with_capacity(deliveries.len()), Vec::new());
        for delivery in deliveries {
            match &delivery.event {
                Ok(event) => tasks.push((target(event, &delivery), delivery)),
                Err(error) => {
                    let reason = error.to_string();
                    rejected.push((delivery, reason));
                }
            }
        }
        self.work_on(tasks, shutdown).await;
        self.rejects.send(rejected);
    }

    async fn work_on(&self, mut tasks: Vec<Task>, shutdown: &CancellationToken) {
        // An order may be in the batch twice, but not in one write. Its newest version goes first: when that is
        // recorded, the older ones are overtaken and take no write of their own.
        let (mut recorded, mut processed) = (Vec::new(), HashMap::new());
        while !tasks.is_empty() {
            let (sub_batch, rest) = newest(tasks);
            if !self.finish(sub_batch, &mut recorded, shutdown).await || rest.is_empty() {
                return;
            }
            processed.extend(recorded.drain(..));
            tasks = self.settle_overtaken(rest, &mut processed).await;
        }
    }

    /// Settles what the store needs not be asked to record, because it has recorded that version of the order or a newer
    /// one. Answers the rest.
    async fn settle_overtaken(
        &self,
        tasks: Vec<Task>,
        processed: &mut HashMap<OrderId, Version>,
    ) -> Vec<Task> {
        let is_open = |(order_id, delivery): &&Task| {
            version_of(delivery).is_some() && !processed.contains_key(order_id)
        };
        let open: HashSet<OrderId> = tasks.iter().filter(is_open).map(|(order_id, _)| *order_id).collect();
        let open: Vec<OrderId> = open.into_iter().collect();
        if !open.is_empty()
            && let Ok(states) = self.store.processed_versions(&open).await
        {
            let known = |(order_id, state): (OrderId, Option<Processed>)| Some((order_id, state?.version));
            processed.extend(open.into_iter().zip(states).filter_map(known));
        }
        let is_overtaken = |order_id: &OrderId, delivery: &Delivery| {
            version_of(delivery) <= processed.get(order_id).copied() && version_of(delivery).is_some()
        };
        let (overtaken, rest): (Vec<_>, Vec<_>) =
            tasks.into_iter().partition(|(order_id, delivery)| is_overtaken(order_id, delivery));
        let completions = self.complete_all(&overtaken).await;
        let (now, mut replies, mut settled) = (Timestamp::now(), Vec::new(), Vec::new());
        for ((order_id, delivery), completion) in overtaken.into_iter().zip(completions) {
            // A version that was overtaken has not failed; one that is here twice may have.
            let failed = completion.status == Status::Failed
                && version_of(&delivery) == processed.get(&order_id).copied()
                && self.has_failed(&completion).await;
            replies.push(Reply { ack: ack(&delivery, &completion, failed, now), to: delivery.reply_to });
            settled.push(delivery);
        }
        self.acknowledge_and_settle(replies, settled).await;
        rest
    }

    async fn acknowledge_and_settle(&self, replies: Vec<Reply>, settled: Vec<Delivery>) {
        if settled.is_empty() {
            return;
        }
        if let Err(error) = self.bus.acknowledge(replies).await {
            // The callers who wait will have the store asked.
            limited!(warn, "ACKs"; %error, "acknowledgements were not sent");
        }
        self.bus.settle(settled).await;
    }

    /// Processes, records, ACKs and settles deliveries of different orders, and adds the versions that it recorded to
    /// `recorded`. `false` where the worker was told to stop before the store took the batch; the deliveries then come
    /// again.
    async fn finish(
        &self,
        round: Vec<Task>,
        recorded: &mut Vec<(OrderId, Version)>,
        shutdown: &CancellationToken,
    ) -> bool {
        let completions: Arc<[Completion]> = self.complete_all(&round).await.into();
        let mut pause = FIRST_PAUSE;
        let outcomes = loop {
            match self.store.complete(Arc::clone(&completions)).await {
                Ok(outcomes) => break outcomes,
                Err(store::Error::BadBatch(reason)) => {
                    return self.split(round, &reason, recorded, shutdown).await;
                }
                Err(error) => {
                    limited!(error, "completion"; %error, "the worker cannot record what it did; it tries again")
                }
            }
            tokio::select! {
                () = shutdown.cancelled() => return false,
                () = sleep(pause) => pause = (pause * 2).min(LONGEST_PAUSE),
            }
        };
        // Stale ones too: they may be here again because a worker died before it came to this.
        let known = completions.iter().zip(&outcomes).filter(|(_, outcome)| **outcome != Completed::Unknown);
        forget(&*self.cache, known.map(|(completion, _)| completion.order_id)).await;
        let now = Timestamp::now();
        let mut replies = Vec::with_capacity(round.len());
        let (mut settled, mut rejected) = (Vec::with_capacity(round.len()), Vec::new());
        for (((order_id, delivery), completion), outcome) in
            round.into_iter().zip(&*completions).zip(outcomes)
        {
            if outcome == Completed::Unknown {
                rejected.push((delivery, format!("there is no order {order_id}")));
                continue;
            }
            if let (Completed::Applied, Basis::Version(version)) = (outcome, &completion.basis) {
                recorded.push((order_id, *version));
            }
            let failed = completion.status == Status::Failed
                && (outcome == Completed::Applied || self.has_failed(completion).await);
            replies.push(Reply { ack: ack(&delivery, completion, failed, now), to: delivery.reply_to });
            settled.push(delivery);
        }
        self.acknowledge_and_settle(replies, settled).await;
        self.rejects.send(rejected);
        true
    }

    /// Goes on with the halves of a batch that one of its rows spoils; a row that is alone goes to the dead letters.
    async fn split(
        &self,
        mut round: Vec<Task>,
        reason: &str,
        recorded: &mut Vec<(OrderId, Version)>,
        shutdown: &CancellationToken,
    ) -> bool {
        let second = round.split_off(round.len() / 2);
        if round.is_empty() {
            let reason = format!("the order cannot be stored: {reason}");
            self.rejects.send(second.into_iter().map(|(_, delivery)| (delivery, reason.clone())).collect());
            return true;
        }
        Box::pin(self.finish(round, recorded, shutdown)).await
            && Box::pin(self.finish(second, recorded, shutdown)).await
    }

    /// Whether a failure that was not applied is on the order all the same, from an earlier delivery. A version
    /// that was overtaken has not failed: the newer one has its own outcome.
    async fn has_failed(&self, completion: &Completion) -> bool {
        let Basis::Version(version) = completion.basis else { return true };
        match self.store.processed_versions(&[completion.order_id]).await.as_deref() {
            Ok([Some(found)]) => found.version == version && found.status == Status::Failed,
            _ => true,
        }
    }

    /// What each event does to its order.
    async fn complete_all<'t>(&'t self, tasks: &'t [Task]) -> Vec<Completion> {
        let complete = |group: &'t [Task]| {
            join_all(group.iter().map(|(order_id, delivery)| self.complete(*order_id, delivery)))
        };
        join_all(tasks.chunks(GROUP).map(complete)).await.into_iter().flatten().collect()
    }

    /// What an event does to its order.
    async fn complete(&self, order_id: OrderId, delivery: &Delivery) -> Completion {
        let Ok(event) = &delivery.event else {
            unreachable!("records that are no events were rejected before")
        };
        let outcome = match event.status {
            Status::New | Status::Processing | Status::Done | Status::Failed => {
                self.process(event).await.map(|amount| (Status::Done, Some(amount)))
            }
            Status::Cancelled | Status::Deleted => Ok((event.status, None)),
        };
        let basis = match (event.order_id, event.version, event.user_id) {
            (Some(_), Some(version), _) => Basis::Version(version),
            (None, _, Some(user_id)) => {
                Basis::Creation(Box::new(Creation { user_id, payload: event.payload.clone() }))
            }
            _ => Basis::Unversioned(event.timestamp),
        };
        match outcome {
            Ok((status, amount)) => Completion { order_id, basis, status, amount, reason: None },
            Err(reason) => {
                let reason: String = reason.chars().take(MAX_REASON).collect();
                limited!(warn, "failed order"; %order_id, version = event.version, reason, "the order cannot be processed");
                Completion { order_id, basis, status: Status::Failed, amount: None, reason: Some(reason) }
            }
        }
    }

    /// Asks the processor, again where that may help. A panic of the processor fails the order and nothing else.
    async fn process(&self, event: &Event) -> Result<crate::order::Amount, String> {
        let mut pause = FIRST_PAUSE;
        for attempt in 1.. {
            match AssertUnwindSafe(self.processor.process(event)).catch_unwind().await {
                Ok(Ok(amount)) => return Ok(amount),
                Ok(Err(ProcessError::Transient(reason))) if attempt < ATTEMPTS => {
                    limited!(warn, "processor"; order_id = ?event.order_id, attempt, reason, "processing failed; trying again");
                    sleep(pause).await;
                    pause *= 2;
                }
                Ok(Err(error)) => return Err(error.to_string()),
                Err(_) => return Err("the processor panicked".to_owned()),
            }
        }
        unreachable!("the last attempt returns")
    }
}

/// The order that an event is about: the one it names, or the one its record creates.
fn target(event: &Event, delivery: &Delivery) -> OrderId {
    let source = &delivery.source;
    event.order_id.unwrap_or_else(|| {
        OrderId::of_record(&source.topic, source.partition, source.offset, source.timestamp)
    })
}

/// The version of an order that a delivery is about; `None` where its service knows no versions, or it asks for a new
/// order.
fn version_of(delivery: &Delivery) -> Option<Version> {
    let event = delivery.event.as_ref().ok()?;
    event.order_id.and(event.version)
}

/// Splits a batch so that the first part holds no order twice, and of each order the newest version; an event without
/// a version is overtaken by none. The second part keeps the order of what is left.
fn newest(tasks: Vec<Task>) -> (Vec<Task>, Vec<Task>) {
    let mut chosen: HashMap<OrderId, (usize, Option<Version>, bool)> = HashMap::with_capacity(tasks.len());
    for (at, (order_id, delivery)) in tasks.iter().enumerate() {
        let version = version_of(delivery);
        let (choice, newest, is_closed) = chosen.entry(*order_id).or_insert((at, version, version.is_none()));
        *is_closed |= version.is_none();
        if !*is_closed && version > *newest {
            (*choice, *newest) = (at, version);
        }
    }
    if chosen.len() == tasks.len() {
        return (tasks, Vec::new());
    }
    let mut at = 0..;
    tasks.into_iter().partition(|(order_id, _)| {
        let place = at.next();
        chosen.get(order_id).map(|(choice, ..)| *choice) == place
    })
}

fn ack(delivery: &Delivery, completion: &Completion, failed: bool, now: Timestamp) -> Ack {
    let status = match &delivery.event {
        _ if failed => AckStatus::Failed,
        Ok(event) => AckStatus::of_event(event.status),
        Err(_) => AckStatus::Processed,
    };
    let version = match completion.basis {
        Basis::Version(version) => Some(version),
        Basis::Creation(_) => Some(1),
        Basis::Unversioned(_) => None,
    };
    Ack { order_id: completion.order_id, version, status, processed_at: now }
}
