//! The worker: takes what has arrived, processes it, records the whole batch in one write, sends the ACKs, and
//! only then settles. A worker killed at any point has its deliveries come again, and they change nothing that
//! was recorded. A bad record goes to the dead-letter topic and the rest moves on; a store that is away stops
//! everything until it is back.

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

/// How many batches are worked on at a time: while one is being recorded, the next is processed and queued. They
/// may be about the same order; its versions keep them apart.
const WORKER_TASKS: usize = 3;

/// How long a write waits for the orders of other calls that left their batches.
const GATHER: Duration = Duration::from_millis(10);

/// A worker and what it works with.
pub struct Worker {
    store: Arc<dyn Store>,
    bus: Arc<dyn Bus>,
    processor: Arc<dyn Processor>,
    options: Options,
    recorder: Recorder,
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
        let recorder = Recorder::new(Arc::<dyn Store>::clone(&store), Arc::clone(&bus), cache);
        Worker { store, bus, processor, options, recorder, stopping: CancellationToken::new() }
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
        let (told, shutdown, components) =
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
        // Before it is closed, which ends the consumer.
        let is_early = !told.is_cancelled();
        subscription.into_inner().close().await;
        self.recorder.rejects.ended().await;
        match components.has_failed() {
            Some(part) => Err(WorkError::Component(part)),
            None if is_early => Err(WorkError::Consumer),
            None => Ok(()),
        }
    }

    /// Takes what has arrived and works on it, again and again.
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
        // Orders that are here once do not wait for those whose newest version is waited for.
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
        // recorded, the older ones are overtaken and take no write of their own.
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
