//! The in-process bus: a bounded queue between the relay and the one worker of this process. It persists nothing
//! itself, and hands dead letters to a sink. It confirms an event only when the worker has settled it: the events that
//! a killed process had in memory are still pending in the store, and are republished at the next start, or by another
//! process that shares the store.

use std::fmt;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use async_trait::async_trait;
use tokio::sync::{OwnedMutexGuard, OwnedSemaphorePermit, Semaphore, mpsc};

use super::confirmations::Ledger;
use super::dead_letters::{DeadLetter, DeadLetterFile, DeadLetterSink};
use super::{
    AckSink, Bus, Confirmations, Delivery, DeliveryReceipt, PublishError, Record, Reply, Settle, Source,
    SubscribeError, Subscription,
};
use crate::order::Event;

/// How many bytes an event counts besides its payload, so that the number of tiny events is bounded too.
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
    dead_letters: Arc<dyn DeadLetterSink>,
}

impl LocalBus {
    /// Opens the bus with a file for its dead letters, which the first dead letter creates. `capacity` is how many
    /// bytes of events the bus holds before a publish waits.
    ///
    /// # Errors
    /// The error of the file system, where an existing dead-letter file cannot be read.
    pub fn open(dead_letter_file: &Path, topic: &str, capacity: usize) -> io::Result<Arc<LocalBus>> {
        let file = DeadLetterFile::open(dead_letter_file)?;
        Ok(LocalBus::with_dead_letters(Arc::new(file), topic, capacity))
    }

    /// Opens the bus with a sink for its dead letters.
    #[must_use]
    pub fn with_dead_letters(
        dead_letters: Arc<dyn DeadLetterSink>,
        topic: &str,
        capacity: usize,
    ) -> Arc<LocalBus> {
        let (queue, worker) = mpsc::unbounded_channel();
        let capacity = u32::try_from(capacity).unwrap_or(u32::MAX).min(Semaphore::MAX_PERMITS as u32);
        Arc::new(LocalBus {
            topic: topic.into(),
            capacity,
            room: Arc::new(Semaphore::new(capacity as usize)),
            next_offset: AtomicI64::new(0),
            queue,
            worker: Arc::new(tokio::sync::Mutex::new(worker)),
            sink: OnceLock::new(),
            dead_letters,
        })
    }

    /// Hands the worker a record as a broker would: raw bytes, decoded here. Like a published event, the record is
    /// confirmed when it is settled.
    ///
    /// # Errors
    /// [`PublishError::Unavailable`] where the worker dropped it.
    pub async fn feed(&self, source: Source, record: Record) -> Result<(), PublishError> {
        let size = record.value.len();
        let event = Event::decode(&record.value, record.header_pairs(), source.timestamp);
        let make = |receipt| Delivery { event, source, record, reply_to: None, receipt };
        self.deliver(vec![(make, size)]).await.all().await.pop().unwrap_or_else(|| Err(dropped()))
    }

    /// Queues deliveries, each with the size of its payload, as one batch, as soon as the bus has room for them.
    async fn deliver(&self, batch: Vec<(impl FnOnce(DeliveryReceipt) -> Delivery, usize)>) -> Confirmations {
        let count = batch.len();
        if count == 0 {
            return Confirmations::known(Vec::new());
        }
        let sizes: Vec<usize> = batch.iter().map(|(_, size)| size + EVENT_OVERHEAD).collect();
        let size: usize = sizes.iter().sum();
        // A batch larger than the capacity is the only one in the bus.
        let counted = u32::try_from(size).unwrap_or(u32::MAX).min(self.capacity);
        let Ok(permit) = Arc::clone(&self.room).acquire_many_owned(counted).await else {
            return Confirmations::known(vec![Err(dropped()); count]);
        };
        let (ledger, answers) = Ledger::new(count);
        let reserved = Mutex::new(Reservation { permit, beyond: size - counted as usize });
        let batch_of = Arc::new(Batch { ledger, sizes, reserved });
        let deliveries = batch
            .into_iter()
            .enumerate()
            .map(|(index, (make, _))| make(DeliveryReceipt::new(Arc::<Batch>::clone(&batch_of), index)))
            .collect();
        // The receiver lives as long as the bus. While there is no subscription, deliveries wait in the queue.
        let _ = self.queue.send(deliveries);
        Confirmations::new(count, answers)
    }
}

fn dropped() -> PublishError {
    PublishError::Unavailable("the worker dropped the event before it was processed".to_owned())
}

#[async_trait]
impl Bus for LocalBus {
    async fn publish(&self, batch: Vec<Event>) -> Confirmations {
        let first = self.next_offset.fetch_add(batch.len() as i64, Ordering::Relaxed);
        let deliveries = (first..).zip(batch).map(|(offset, event)| {
            let (timestamp, size) = (event.timestamp, event.payload.as_str().len());
            let source = Source { topic: Arc::clone(&self.topic), partition: 0, offset, timestamp };
            let make = move |receipt| Delivery {
                event: Ok(event),
                source,
                record: Record::default(),
                reply_to: None,
                receipt,
            };
            (make, size)
        });
        self.deliver(deliveries.collect()).await
    }

    fn confirms_processing(&self) -> bool {
        true
    }

    fn is_crowded(&self) -> bool {
        self.room.available_permits() < self.capacity as usize / 4 * 3
    }

    async fn subscribe(&self) -> Result<Box<dyn Subscription>, SubscribeError> {
        let queue = Arc::clone(&self.worker).try_lock_owned().map_err(|_| SubscribeError::Taken)?;
        Ok(Box::new(LocalSubscription { queue, rest: Vec::new() }))
    }

    async fn settle(&self, deliveries: Vec<Delivery>) {
        let mut last: Option<Arc<dyn Settle>> = None;
        for delivery in deliveries {
            let batch = Arc::clone(delivery.receipt.batch());
            delivery.receipt.settle();
            if let Some(before) = last.replace(Arc::clone(&batch))
                && !Arc::ptr_eq(&before, &batch)
            {
                before.announce();
            }
        }
        if let Some(batch) = last {
            batch.announce();
        }
    }

    async fn reject(&self, delivery: Delivery, reason: &str) -> Result<(), PublishError> {
        self.dead_letters.keep(DeadLetter::of(&delivery, reason)?).await?;
        self.settle(vec![delivery]).await;
        Ok(())
    }

    async fn acknowledge(&self, replies: Vec<Reply>) -> Result<(), PublishError> {
        if let Some(sink) = self.sink.get() {
            sink.acked(replies.into_iter().map(|reply| reply.ack).collect());
        }
        Ok(())
    }

    fn on_acks(&self, sink: Arc<dyn AckSink>) {
        // A process has one api; the first sink stays.
        let _ = self.sink.set(sink);
    }

    async fn dead_letters(&self) -> Result<u64, PublishError> {
        self.dead_letters.count().await
    }

    async fn check(&self) -> Result<(), PublishError> {
        Ok(())
    }
}

struct LocalSubscription {
    queue: OwnedMutexGuard<mpsc::UnboundedReceiver<Vec<Delivery>>>,
    /// The deliveries of the last batch beyond the limit, in reverse order.
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

/// The deliveries of one publish.
struct Batch {
    ledger: Arc<Ledger>,
    sizes: Vec<usize>,
    // std Mutex: held to release bytes, never across .await
    reserved: Mutex<Reservation>,
}

/// The bytes of the bus's capacity that the open deliveries of a batch take.
struct Reservation {
    permit: OwnedSemaphorePermit,
    /// How many bytes of the batch are beyond the capacity of the bus.
    beyond: usize,
}

impl Reservation {
    fn release(&mut self, size: usize) {
        let beyond = size.min(self.beyond);
        self.beyond -= beyond;
        drop(self.permit.split(size - beyond));
    }
}

impl Settle for Batch {
    fn ended(&self, index: usize, settled: bool) {
        self.reserved.lock().unwrap_or_else(PoisonError::into_inner).release(self.sizes[index]);
        let answer = if settled { Ok(()) } else { Err(dropped()) };
        self.ledger.answer(index, answer);
        // `settle` announces the settled deliveries, once per call and not once per delivery.
        if !settled {
            self.ledger.announce();
        }
    }

    fn announce(&self) {
        self.ledger.announce();
    }
}

impl fmt::Debug for Batch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Batch")
    }
}
