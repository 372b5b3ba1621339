//! The worker: takes what has arrived, processes it, records the whole batch in one write, sends the ACKs, and
//! only then settles. A worker killed at any point has its deliveries come again, and they change nothing that
//! was recorded. A bad record goes to the dead-letter topic and the rest moves on; a store that is away stops
//! everything until it is back.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use jiff::Timestamp;
use tokio::sync::{Mutex, mpsc};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::options::{Options, WorkError};
use super::processing::{PROMPT, PROMPT_FOR_REPEATED, Processing};
use super::processor::Processor;
use super::rejects::Rejects;
use super::work::{Done, Task, Work, ack, has_failed, newest, repeated, target};
use crate::bus::{Bus, Delivery, Reply, Subscription};
use crate::cache::{Cache, invalidate};
use crate::order::{OrderId, Status};
use crate::store::{self, Basis, Completed, Completion, Processed, Store};
use crate::telemetry::limited;

/// The most events in a batch.
const BATCH: usize = 1024;

/// How many batches are worked on at a time: while one is being recorded, the next is processed and queued. They
/// may be about the same order; its versions keep them apart.
const HANDS: usize = 3;

/// How long a write waits for the orders of other calls that left their batches.
const GATHER: Duration = Duration::from_millis(10);

/// The first pause before something is tried again; each next one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(100);

/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// A worker and what it works with.
pub struct Worker {
    store: Arc<dyn Store>,
    bus: Arc<dyn Bus>,
    cache: Arc<dyn Cache>,
    processor: Arc<dyn Processor>,
    options: Options,
    rejects: Rejects,
    stopping: CancellationToken,
}

impl Worker {
    /// A worker that has not begun.
    #[must_use]
    pub fn new(
        store: Arc<dyn Store>,
        bus: Arc<dyn Bus>,
        cache: Arc<dyn Cache>,
        processor: Arc<dyn Processor>,
        options: Options,
    ) -> Worker {
        let rejects = Rejects::new(Arc::clone(&bus));
        Worker { store, bus, cache, processor, options, rejects, stopping: CancellationToken::new() }
    }

    /// Has the worker try no order again once its process is `stopping`, where other parts of the process wait until
    /// the worker has dealt with what they have published.
    #[must_use]
    pub fn trying_again_until(mut self, stopping: CancellationToken) -> Worker {
        self.stopping = stopping;
        self
    }

    /// Works until `shutdown`, and finishes the batch in hand.
    ///
    /// # Errors
    /// [`WorkError`] where the bus cannot serve this worker, or a part of it ends by itself; then it stops in order.
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), WorkError> {
        let subscription = Mutex::new(self.bus.subscribe().await?);
        let (told, shutdown, parts) = (&shutdown, shutdown.child_token(), self.rejects.parts());
        let last_tries = match self.bus.confirms_processing() {
            true => self.stopping.clone(),
            false => shutdown.clone(),
        };
        let (processing, late) = Processing::new(
            Arc::<dyn Store>::clone(&self.store),
            Arc::clone(&self.bus),
            Arc::clone(&self.processor),
            self.options,
            (last_tries, shutdown.clone(), parts.clone()),
        );
        let ended = CancellationToken::new();
        let hands = async {
            join_all((0..HANDS).map(|_| self.hand(&subscription, &processing, &shutdown))).await;
            processing.ended().await;
            ended.cancel();
        };
        let working = async { tokio::join!(hands, self.record_late(late, &ended, &shutdown)) };
        let watched = async {
            parts.failed().await;
            shutdown.cancel();
            std::future::pending::<()>().await;
        };
        tokio::select! {
            _ = working => {}
            () = watched => {}
        }
        // Before it is closed, which ends the consumer.
        let is_early = !told.is_cancelled();
        subscription.into_inner().close().await;
        self.rejects.ended().await;
        match parts.has_failed() {
            Some(part) => Err(WorkError::Part(part)),
            None if is_early => Err(WorkError::Consumer),
            None => Ok(()),
        }
    }

    /// Takes what has arrived and works on it, again and again.
    async fn hand(
        &self,
        subscription: &Mutex<Box<dyn Subscription>>,
        processing: &Processing,
        shutdown: &CancellationToken,
    ) {
        loop {
            let next = async { subscription.lock().await.next(BATCH).await };
            let deliveries = tokio::select! {
                biased;
                () = shutdown.cancelled() => return,
                deliveries = next => deliveries,
            };
            // Nothing comes any more: the others end, too.
            let Some(deliveries) = deliveries else { return shutdown.cancel() };
            self.work(deliveries, processing, shutdown).await;
        }
    }

    /// Records the orders whose calls of the processor left their batches, until all calls have ended.
    async fn record_late(
        &self,
        mut late: mpsc::UnboundedReceiver<Done>,
        ended: &CancellationToken,
        shutdown: &CancellationToken,
    ) {
        let mut waiting = Vec::new();
        loop {
            tokio::select! {
                biased;
                _ = late.recv_many(&mut waiting, BATCH) => {}
                () = ended.cancelled() => return,
            }
            // Calls that waited for the same thing end together: their orders take one write.
            sleep(GATHER).await;
            while let Ok(done) = late.try_recv() {
                waiting.push(done);
            }
            let (mut recorded, mut processed) = (Vec::new(), HashMap::new());
            while !waiting.is_empty() {
                let (sub_batch, rest) = newest(waiting);
                if !self.record(sub_batch, &mut recorded, shutdown).await {
                    return;
                }
                processed.extend(recorded.drain(..));
                waiting = self.settle_overtaken(rest, &mut processed).await;
            }
        }
    }

    async fn work(&self, deliveries: Vec<Delivery>, processing: &Processing, shutdown: &CancellationToken) {
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
        // Orders that are here once do not wait for those whose newest version is waited for.
        let (repeated, single) = repeated(tasks);
        tokio::join!(
            self.work_on(single, PROMPT, processing, shutdown),
            self.work_on(repeated, PROMPT_FOR_REPEATED, processing, shutdown)
        );
        self.rejects.send(rejected);
    }

    async fn work_on(
        &self,
        mut tasks: Vec<Task>,
        prompt: Duration,
        processing: &Processing,
        shutdown: &CancellationToken,
    ) {
        let began = Instant::now();
        // An order may be in the batch twice, but not in one write. Its newest version goes first: when that is
        // recorded, the older ones are overtaken and take no write of their own.
        let (mut recorded, mut processed) = (Vec::new(), HashMap::new());
        while !tasks.is_empty() {
            let (sub_batch, rest) = newest(tasks);
            let prompt = prompt.saturating_sub(began.elapsed()).max(PROMPT);
            let (done, late) = processing.run(sub_batch, prompt).await;
            let is_recorded = self.record(done, &mut recorded, shutdown).await;
            processing.leave(late).await;
            if !is_recorded || rest.is_empty() {
                return;
            }
            processed.extend(recorded.drain(..));
            tasks = self.settle_overtaken(rest, &mut processed).await;
        }
    }

    /// Settles what the store needs not be asked to record, because it has recorded that version of the order or a newer
    /// one. Answers the rest.
    async fn settle_overtaken<W: Work>(
        &self,
        tasks: Vec<W>,
        processed: &mut HashMap<OrderId, Processed>,
    ) -> Vec<W> {
        let is_open = |task: &&W| task.version().is_some() && !processed.contains_key(&task.order_id());
        let open: HashSet<OrderId> = tasks.iter().filter(is_open).map(Work::order_id).collect();
        let open: Vec<OrderId> = open.into_iter().collect();
        if !open.is_empty()
            && let Ok(states) = self.store.processed_versions(&open).await
        {
            let known = |(order_id, state): (OrderId, Option<Processed>)| Some((order_id, state?));
            processed.extend(open.into_iter().zip(states).filter_map(known));
        }
        let (now, mut replies, mut settled, mut rest) =
            (Timestamp::now(), Vec::new(), Vec::new(), Vec::new());
        for task in tasks {
            let order_id = task.order_id();
            match (task.version(), processed.get(&order_id)) {
                (Some(version), Some(state)) if version <= state.version => {
                    let delivery = task.into_delivery();
                    // A version that was overtaken has not failed; one that is here twice may have.
                    let ack = ack(&delivery, order_id, Some(version), has_failed(version, state), now);
                    replies.push(Reply { ack, to: delivery.reply_to });
                    settled.push(delivery);
                }
                _ => rest.push(task),
            }
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

    /// Records, ACKs and settles deliveries of different orders, and adds the states that it recorded to `recorded`.
    /// `false` where the worker was told to stop before the store took the batch; the deliveries then come again.
    async fn record(
        &self,
        done: Vec<Done>,
        recorded: &mut Vec<(OrderId, Processed)>,
        shutdown: &CancellationToken,
    ) -> bool {
        if done.is_empty() {
            return true;
        }
        let (round, completions): (Vec<Task>, Vec<Completion>) =
            done.into_iter().map(|done| ((done.order_id, done.delivery), done.completion)).unzip();
        let completions: Arc<[Completion]> = completions.into();
        let mut pause = FIRST_PAUSE;
        let outcomes = loop {
            match self.store.complete(Arc::clone(&completions)).await {
                Ok(outcomes) => break outcomes,
                Err(store::Error::BadBatch(reason)) => {
                    let again = round.into_iter().zip(completions.iter().cloned());
                    let done = again.map(|((order_id, delivery), completion)| Done {
                        order_id,
                        delivery,
                        completion,
                    });
                    return self.split(done.collect(), &reason, recorded, shutdown).await;
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
        invalidate(&*self.cache, known.map(|(completion, _)| completion.order_id)).await;
        let states = self.states_of_stale(&completions, &outcomes).await;
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
            let version = match completion.basis {
                Basis::Version(version) => Some(version),
                Basis::Creation(_) => Some(1),
                Basis::Unversioned(_) => None,
            };
            if let Basis::Version(version) = completion.basis {
                let state = match (outcome, states.get(&order_id)) {
                    (Completed::Applied, _) => Processed { version, status: completion.status },
                    (_, Some(state)) if state.version >= version => *state,
                    // A newer command has overtaken it, and with it all older versions.
                    _ => Processed { version, status: Status::Processing },
                };
                recorded.push((order_id, state));
            }
            // What counts is what the store has: an earlier delivery may have ended otherwise.
            let failed = match (states.get(&order_id), &completion.basis) {
                (Some(state), Basis::Version(version)) => has_failed(*version, state),
                _ => completion.status == Status::Failed,
            };
            let ack = ack(&delivery, order_id, version, failed, now);
            replies.push(Reply { ack, to: delivery.reply_to });
            settled.push(delivery);
        }
        self.acknowledge_and_settle(replies, settled).await;
        self.rejects.send(rejected);
        true
    }

    /// Goes on with the halves of a batch that one of its rows spoils; a row that is alone goes to the dead letters.
    async fn split(
        &self,
        mut done: Vec<Done>,
        reason: &str,
        recorded: &mut Vec<(OrderId, Processed)>,
        shutdown: &CancellationToken,
    ) -> bool {
        let second = done.split_off(done.len() / 2);
        if done.is_empty() {
            let reason = format!("the order cannot be stored: {reason}");
            self.rejects.send(second.into_iter().map(|done| (done.delivery, reason.clone())).collect());
            return true;
        }
        Box::pin(self.record(done, recorded, shutdown)).await
            && Box::pin(self.record(second, recorded, shutdown)).await
    }

    /// The states of the orders whose completions changed nothing; of none where the store cannot say.
    async fn states_of_stale(
        &self,
        completions: &[Completion],
        outcomes: &[Completed],
    ) -> HashMap<OrderId, Processed> {
        let is_stale = |(completion, outcome): &(&Completion, &Completed)| {
            **outcome == Completed::Stale && matches!(completion.basis, Basis::Version(_))
        };
        let stale: Vec<OrderId> =
            completions.iter().zip(outcomes).filter(is_stale).map(|(it, _)| it.order_id).collect();
        if stale.is_empty() {
            return HashMap::new();
        }
        let states = self.store.processed_versions(&stale).await.unwrap_or_default();
        stale.into_iter().zip(states).filter_map(|(order_id, state)| Some((order_id, state?))).collect()
    }
}
