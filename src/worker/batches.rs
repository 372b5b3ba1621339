//! The worker: takes the deliveries that have arrived, processes them, records the whole batch in one write, sends the
//! ACKs, and only then settles. It must never settle before that: the deliveries of a killed worker are redelivered,
//! and change nothing that was recorded. A bad record goes to the dead-letter topic and the others continue; while the
//! store is unavailable, the worker waits for it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use tokio::sync::{Mutex, mpsc};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::options::{Options, WorkError};
use super::processing::{PROMPT, PROMPT_FOR_REPEATED, Processing};
use super::processor::Processor;
use super::recording::Recorder;
use super::work::{Done, Task, newest, repeated, target};
use crate::bus::{Bus, Delivery, Subscription};
use crate::cache::Cache;
use crate::store::Store;

/// The most events in a batch.
const BATCH: usize = 1024;

/// The worker tasks, each with a batch of its own: while one records its batch, the next processes its own. Two batches
/// may be about the same order; its versions keep them apart.
const WORKER_TASKS: usize = 3;

/// How long the orders of calls that left their batches are coalesced before they are written.
const COALESCE_TIME: Duration = Duration::from_millis(10);

/// A worker and its backends.
pub struct Worker {
    store: Arc<dyn Store>,
    bus: Arc<dyn Bus>,
    processor: Arc<dyn Processor>,
    options: Options,
    recorder: Recorder,
    stopping: CancellationToken,
}

impl Worker {
    /// A worker that has not started.
    #[must_use]
    pub fn new(
        store: Arc<dyn Store>,
        bus: Arc<dyn Bus>,
        cache: Arc<dyn Cache>,
        processor: Arc<dyn Processor>,
        options: Options,
    ) -> Worker {
        let recorder = Recorder::new(Arc::<dyn Store>::clone(&store), Arc::clone(&bus), cache);
        Worker { store, bus, processor, options, recorder, stopping: CancellationToken::new() }
    }

    /// Ends the worker's retries once its process is `stopping`: where the bus is in this process, the relay waits
    /// until the worker has settled its events.
    #[must_use]
    pub fn trying_again_until(mut self, stopping: CancellationToken) -> Worker {
        self.stopping = stopping;
        self
    }

    /// Works until `shutdown`, and finishes the batches in progress.
    ///
    /// # Errors
    /// [`WorkError`] where the bus cannot serve this worker, or a task of it ends by itself; then it stops in order.
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), WorkError> {
        let subscription = Mutex::new(self.bus.subscribe().await?);
        let (requested, shutdown, components) =
            (&shutdown, shutdown.child_token(), self.recorder.rejects.components());
        let last_tries = match self.bus.confirms_processing() {
            true => self.stopping.clone(),
            false => shutdown.clone(),
        };
        let (processing, late) = Processing::new(
            Arc::<dyn Store>::clone(&self.store),
            Arc::clone(&self.bus),
            Arc::clone(&self.processor),
            self.options,
            (last_tries, shutdown.clone(), components.clone()),
        );
        let ended = CancellationToken::new();
        let tasks = async {
            join_all((0..WORKER_TASKS).map(|_| self.worker_task(&subscription, &processing, &shutdown)))
                .await;
            processing.ended().await;
            ended.cancel();
        };
        let working = async { tokio::join!(tasks, self.record_late(late, &ended, &shutdown)) };
        let watched = async {
            components.failed().await;
            shutdown.cancel();
            std::future::pending::<()>().await;
        };
        tokio::select! {
            _ = working => {}
            () = watched => {}
        }
        // Before the subscription is closed, because that ends the consumer.
        let is_early = !requested.is_cancelled();
        subscription.into_inner().close().await;
        self.recorder.rejects.ended().await;
        match components.has_failed() {
            Some(component) => Err(WorkError::Component(component)),
            None if is_early => Err(WorkError::Consumer),
            None => Ok(()),
        }
    }

    /// A worker task: takes a batch and works on it, in a loop.
    async fn worker_task(
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
            // The consumer has ended: the other tasks end, too.
            let Some(deliveries) = deliveries else { return shutdown.cancel() };
            self.work(deliveries, processing, shutdown).await;
        }
    }

    /// Records the orders of processor calls that left their batches, until all calls have ended.
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
            // Calls that waited for the same resource end together: their orders take one write.
            sleep(COALESCE_TIME).await;
            while let Ok(done) = late.try_recv() {
                waiting.push(done);
            }
            let (mut recorded, mut processed) = (Vec::new(), HashMap::new());
            while !waiting.is_empty() {
                let (sub_batch, rest) = newest(waiting);
                if !self.recorder.record(sub_batch, &mut recorded, shutdown).await {
                    return;
                }
                processed.extend(recorded.drain(..));
                waiting = self.recorder.settle_overtaken(rest, &mut processed).await;
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
        // Orders that the batch holds once do not wait for those that it holds more than once.
        let (repeated, single) = repeated(tasks);
        tokio::join!(
            self.work_on(single, PROMPT, processing, shutdown),
            self.work_on(repeated, PROMPT_FOR_REPEATED, processing, shutdown)
        );
        self.recorder.rejects.send(rejected);
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
        // recorded, the older ones are overtaken and need no write of their own.
        let (mut recorded, mut processed) = (Vec::new(), HashMap::new());
        while !tasks.is_empty() {
            let (sub_batch, rest) = newest(tasks);
            let prompt = prompt.saturating_sub(began.elapsed()).max(PROMPT);
            let (done, late) = processing.run(sub_batch, prompt).await;
            let is_recorded = self.recorder.record(done, &mut recorded, shutdown).await;
            processing.leave(late).await;
            if !is_recorded || rest.is_empty() {
                return;
            }
            processed.extend(recorded.drain(..));
            tasks = self.recorder.settle_overtaken(rest, &mut processed).await;
        }
    }
}
