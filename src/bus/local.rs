//! The in-process bus: a bounded queue between the relay and the one worker of this process. It keeps nothing
//! on disk but dead letters: a publish is confirmed only when the worker has settled the event, so what a
//! killed process had in memory is still pending in the store and is published again at the next start.

use std::fmt;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use async_trait::async_trait;
use tokio::sync::{OwnedMutexGuard, OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use super::dead_letters::DeadLetters;
use super::{
    AckSink, Bus, Delivery, PublishError, Receipt, Record, Reply, Settle, Source, SubscribeError,
    Subscription,
};
use crate::order::Event;

/// What an event counts besides its payload, so that tiny ones are bounded too.
const EVENT_OVERHEAD: usize = 512;

/// The in-process bus.
pub struct LocalBus {
    topic: Arc<str>,
    capacity: u32,
    room: Arc<Semaphore>,
    next_offset: AtomicI64,
    queue: mpsc::UnboundedSender<Vec<Delivery>>,
    worker: Arc<tokio::sync::Mutex<mpsc::UnboundedReceiver<Vec<Delivery>>>>,
    sink: OnceLock<Arc<dyn AckSink>>,
    dead_letters: DeadLetters,
}

impl LocalBus {
    /// Opens the bus. `capacity` is how many bytes of events it holds before a publish waits; dead letters of
    /// the topic are appended to `dead_letter_file`, which is made when there is a first one.
    ///
    /// # Errors
    /// The file system's own, where an existing dead-letter file cannot be read.
    pub fn open(dead_letter_file: &Path, topic: &str, capacity: usize) -> io::Result<Arc<LocalBus>> {
        let (queue, worker) = mpsc::unbounded_channel();
        let capacity = u32::try_from(capacity).unwrap_or(u32::MAX).min(Semaphore::MAX_PERMITS as u32);
        Ok(Arc::new(LocalBus {
            topic: topic.into(),
            capacity,
            room: Arc::new(Semaphore::new(capacity as usize)),
            next_offset: AtomicI64::new(0),
            queue,
            worker: Arc::new(tokio::sync::Mutex::new(worker)),
            sink: OnceLock::new(),
            dead_letters: DeadLetters::open(dead_letter_file)?,
        }))
    }

    /// Hands the worker a record as a broker would: raw bytes from anywhere, decoded here. Confirmed like a
    /// published event, when it has been settled.
    ///
    /// # Errors
    /// [`PublishError::Unavailable`] where the worker dropped it.
    pub async fn feed(&self, source: Source, record: Record) -> Result<(), PublishError> {
        let size = record.value.len();
        let event = Event::decode(&record.value, record.header_pairs(), source.timestamp);
        let make = |receipt| Delivery { event, source, record, reply_to: None, receipt };
        self.deliver(vec![make], size).await.pop().unwrap_or_else(|| Err(dropped()))
    }

    /// Queues deliveries as one batch and waits until each has ended.
    async fn deliver(
        &self,
        batch: Vec<impl FnOnce(Receipt) -> Delivery>,
        size: usize,
    ) -> Vec<Result<(), PublishError>> {
        let count = batch.len();
        if count == 0 {
            return Vec::new();
        }
        // A batch larger than the bus passes alone.
        let room = u32::try_from(size + count * EVENT_OVERHEAD).unwrap_or(u32::MAX).min(self.capacity);
        let Ok(room) = Arc::clone(&self.room).acquire_many_owned(room).await else {
            return vec![Err(dropped()); count];
        };
        let (done, ended) = oneshot::channel();
        let ledger = Arc::new(Batch {
            state: Mutex::new(BatchState {
                settled: vec![false; count],
                open: count,
                done: Some((done, room)),
            }),
        });
        let deliveries = batch
            .into_iter()
            .enumerate()
            .map(|(index, make)| make(Receipt::new(Arc::<Batch>::clone(&ledger), index)))
            .collect();
        // The receiver lives as long as the bus. While nobody subscribes, deliveries wait in the queue.
        let _ = self.queue.send(deliveries);
        let settled = ended.await.unwrap_or_else(|_| vec![false; count]);
        settled.into_iter().map(|settled| if settled { Ok(()) } else { Err(dropped()) }).collect()
    }
}

fn dropped() -> PublishError {
    PublishError::Unavailable("the worker let go of the event before it was done".to_owned())
}

#[async_trait]
impl Bus for LocalBus {
    async fn publish(&self, batch: Vec<Event>) -> Vec<Result<(), PublishError>> {
        let size = batch.iter().map(|event| event.payload.as_str().len()).sum();
        let first = self.next_offset.fetch_add(batch.len() as i64, Ordering::Relaxed);
        let deliveries = (first..).zip(batch).map(|(offset, event)| {
            let timestamp = event.timestamp;
            let source = Source { topic: Arc::clone(&self.topic), partition: 0, offset, timestamp };
            move |receipt| Delivery {
                event: Ok(event),
                source,
                record: Record::default(),
                reply_to: None,
                receipt,
            }
        });
        self.deliver(deliveries.collect(), size).await
    }

    fn confirms_processing(&self) -> bool {
        true
    }

    async fn subscribe(&self) -> Result<Box<dyn Subscription>, SubscribeError> {
        let queue = Arc::clone(&self.worker).try_lock_owned().map_err(|_| SubscribeError::Taken)?;
        Ok(Box::new(LocalSubscription { queue, rest: Vec::new() }))
    }

    async fn settle(&self, deliveries: Vec<Delivery>) {
        deliveries.into_iter().for_each(|delivery| delivery.receipt.settle());
    }

    async fn reject(&self, delivery: Delivery, reason: &str) -> Result<(), PublishError> {
        self.dead_letters
            .append(&delivery, reason)
            .map_err(|error| PublishError::Unavailable(error.to_string()))?;
        delivery.receipt.settle();
        Ok(())
    }

    async fn acknowledge(&self, replies: Vec<Reply>) -> Result<(), PublishError> {
        if let Some(sink) = self.sink.get() {
            sink.acked(replies.into_iter().map(|reply| reply.ack).collect());
        }
        Ok(())
    }

    fn on_acks(&self, sink: Arc<dyn AckSink>) {
        // There is one api in the process; the first sink stays.
        let _ = self.sink.set(sink);
    }

    async fn dead_letters(&self) -> Result<u64, PublishError> {
        Ok(self.dead_letters.count())
    }

    async fn check(&self) -> Result<(), PublishError> {
        Ok(())
    }
}

struct LocalSubscription {
    queue: OwnedMutexGuard<mpsc::UnboundedReceiver<Vec<Delivery>>>,
    /// What the last batch held beyond the limit, in reverse.
    rest: Vec<Delivery>,
}

#[async_trait]
impl Subscription for LocalSubscription {
    async fn next(&mut self, limit: usize) -> Option<Vec<Delivery>> {
        let mut taken = Vec::new();
        if self.rest.is_empty() {
            self.rest = self.queue.recv().await?;
            self.rest.reverse();
        }
        loop {
            let at = self.rest.len().saturating_sub(limit - taken.len());
            taken.extend(self.rest.drain(at..).rev());
            if taken.len() == limit {
                return Some(taken);
            }
            match self.queue.try_recv() {
                Ok(batch) => {
                    self.rest = batch;
                    self.rest.reverse();
                }
                Err(_) => return Some(taken),
            }
        }
    }
}

/// The deliveries of one publish, until the last of them has ended.
struct Batch {
    // std Mutex: held to note one delivery, never across .await
    state: Mutex<BatchState>,
}

struct BatchState {
    settled: Vec<bool>,
    open: usize,
    done: Option<(oneshot::Sender<Vec<bool>>, OwnedSemaphorePermit)>,
}

impl Settle for Batch {
    fn ended(&self, index: usize, settled: bool) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.settled[index] = settled;
        state.open -= 1;
        if state.open == 0
            && let Some((done, _room)) = state.done.take()
        {
            // Whoever published may not be waiting any more.
            let _ = done.send(std::mem::take(&mut state.settled));
        }
    }
}

impl fmt::Debug for Batch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Batch")
    }
}
