//! Publishing: hands records to librdkafka and says of each whether a broker has stored it. What is handed over
//! is bounded below librdkafka's own limits, so that it always takes it, and whoever publishes more waits
//! without holding a thread.
//!
//! There are two producers. What is alone leaves at once; what comes as a batch waits a moment for its like,
//! because a broker is paid per request and not per record. A lone record does not overtake a batch that is on
//! its way: it joins it. A producer can fail for good, or lose all brokers for good; it is then replaced.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::thread;
use std::time::Duration;

use rdkafka::ClientContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _, ProducerContext};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot, watch};
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use super::client::{OpenError, Options, logs, not_made, refusal};
use super::link::State;
use super::records::{Outgoing, size};
use crate::bus::PublishError;

/// How long a record of a batch waits for others. Any value above 0 costs a lone record 2 ms and more.
const BATCH_LINGER_MS: &str = "0.5";

/// How long a record may take until a broker has confirmed it.
const DELIVERY_TIMEOUT_MS: &str = "10000";

/// How many bytes of records may be on their way; each counts 512 besides its own.
const ROOM: usize = 64 << 20;

/// How long the last records may take when the producer is closed.
const FLUSH: Duration = Duration::from_secs(5);

type Confirmed = Vec<Result<(), PublishError>>;

/// Publishes records.
pub(super) struct Producer {
    options: Arc<Options>,
    link: watch::Receiver<State>,
    // std RwLock: held to take the pair, or to replace one that failed for good; never across .await
    pair: RwLock<Option<Arc<Pair>>>,
    room: Arc<Semaphore>,
}

/// The two producers. Each belongs to a thread, which ends when nobody else holds the producer.
struct Pair {
    ails: Arc<AtomicBool>,
    lone: Arc<BaseProducer<Confirmations>>,
    batch: Arc<BaseProducer<Confirmations>>,
}

impl Producer {
    /// Makes the producers. They connect in the background.
    pub(super) fn open(options: &Arc<Options>, link: watch::Receiver<State>) -> Result<Producer, OpenError> {
        let pair = RwLock::new(Some(Arc::new(Pair::open(options)?)));
        let room = Arc::new(Semaphore::new(ROOM));
        Ok(Producer { options: Arc::clone(options), link, pair, room })
    }

    /// Publishes records, and answers for each when a broker has stored it.
    pub(super) async fn publish(&self, records: Vec<Outgoing>) -> Confirmed {
        let mut answers = self.publish_together(&records).await;
        if records.len() > 1 {
            // A broker refuses together what came to it together. Which record is at fault is seen alone.
            for (record, answer) in records.iter().zip(&mut answers) {
                if matches!(answer, Err(PublishError::Refused(_))) {
                    let alone = self.publish_together(std::slice::from_ref(record)).await.pop();
                    *answer = alone.unwrap_or_else(|| Err(closed()));
                }
            }
        }
        answers
    }

    async fn publish_together(&self, records: &[Outgoing]) -> Confirmed {
        match self.hand_over(records).await {
            Ok(confirmed) => confirmed.await.unwrap_or_else(|_| vec![Err(closed()); records.len()]),
            Err(error) => vec![Err(error); records.len()],
        }
    }

    /// Hands records over and does not wait for a broker.
    ///
    /// # Errors
    /// Where one of them could not even be handed over.
    pub(super) async fn send(&self, records: Vec<Outgoing>) -> Result<(), PublishError> {
        let mut confirmed = self.hand_over(&records).await?;
        match confirmed.try_recv() {
            Ok(answers) => answers.into_iter().collect(),
            Err(_) => Ok(()),
        }
    }

    async fn hand_over(&self, records: &[Outgoing]) -> Result<oneshot::Receiver<Confirmed>, PublishError> {
        let size: usize = records.iter().map(|it| size(&it.record)).sum();
        // A batch larger than all the room passes alone.
        let permits = u32::try_from(size.min(ROOM)).unwrap_or(u32::MAX);
        let permit = Arc::clone(&self.room).acquire_many_owned(permits).await.map_err(|_| closed())?;
        let mut pair = self.pair().ok_or_else(closed)?;
        // After an outage that is only a precaution; see `pulse` for what else it may be.
        if pair.ails.load(Ordering::Relaxed) && self.link.borrow().is_up() {
            self.replace(&pair);
            pair = self.pair().ok_or_else(closed)?;
        }
        let alone = records.len() == 1 && pair.batch.in_flight_count() == 0;
        let producer = if alone { &pair.lone } else { &pair.batch };
        let (batch, confirmed) = Batch::new(records.len(), permit);
        for (index, record) in records.iter().enumerate() {
            let ticket = Box::new(Ticket { batch: Arc::clone(&batch), index });
            if let Err(error) = enqueue(producer, record, ticket) {
                pair.ails.fetch_or(is_ailing(&error), Ordering::Relaxed);
                batch.answer(index, Err(refusal(&error)));
            }
        }
        Ok(confirmed)
    }

    /// Sends what was handed over, within a limit, and publishes no more.
    pub(super) async fn close(&self) {
        let Some(pair) = self.pair.write().unwrap_or_else(PoisonError::into_inner).take() else { return };
        let flushed = spawn_blocking(move || {
            let rest = pair.lone.flush(FLUSH);
            rest.and(pair.batch.flush(Duration::ZERO).or_else(|_| pair.batch.flush(FLUSH)))
        });
        if !matches!(timeout(2 * FLUSH, flushed).await, Ok(Ok(Ok(())))) {
            tracing::warn!("records were still under way when the time to send them was over");
        }
    }

    fn pair(&self) -> Option<Arc<Pair>> {
        self.pair.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Puts a new pair in the place of one that ails. What that one holds it still sends, if it can.
    fn replace(&self, ailing: &Arc<Pair>) {
        let mut pair = self.pair.write().unwrap_or_else(PoisonError::into_inner);
        if pair.as_ref().is_some_and(|pair| Arc::ptr_eq(pair, ailing)) {
            let fatal = [&ailing.lone, &ailing.batch].into_iter().find_map(|it| it.client().fatal_error());
            match Pair::open(&self.options) {
                Ok(new) => {
                    tracing::info!(?fatal, "records were not confirmed; new producers take over");
                    *pair = Some(Arc::new(new));
                }
                Err(error) => tracing::error!(%error, ?fatal, "the producers ail, and there are no new ones"),
            }
        }
    }
}

/// Whether the error says that the producer may not recover.
fn is_ailing(error: &KafkaError) -> bool {
    matches!(error.rdkafka_error_code(), Some(RDKafkaErrorCode::Fatal | RDKafkaErrorCode::MessageTimedOut))
}

/// A partition that does not exist is a reply to somebody who is gone or never was: its key says where else.
fn enqueue(
    producer: &BaseProducer<Confirmations>,
    outgoing: &Outgoing,
    ticket: Box<Ticket>,
) -> Result<(), KafkaError> {
    let Outgoing { topic, partition, record } = outgoing;
    let mut message =
        BaseRecord::with_opaque_to(topic, ticket).payload(&record.value).headers(outgoing.headers());
    (message.key, message.partition) = (record.key.as_ref(), *partition);
    let (error, mut message) = match producer.send(message) {
        Ok(()) => return Ok(()),
        Err(refused) => refused,
    };
    if message.partition.take().is_some()
        && error.rdkafka_error_code() == Some(RDKafkaErrorCode::UnknownPartition)
    {
        return producer.send(message).map_err(|(error, _)| error);
    }
    Err(error)
}

fn closed() -> PublishError {
    PublishError::Unavailable("the bus is closed".to_owned())
}

impl Pair {
    fn open(options: &Options) -> Result<Pair, OpenError> {
        let ails = Arc::default();
        let (lone, batch) = (producer(options, "0", &ails)?, producer(options, BATCH_LINGER_MS, &ails)?);
        Ok(Pair { ails, lone, batch })
    }
}

fn producer(
    options: &Options,
    linger_ms: &str,
    ails: &Arc<AtomicBool>,
) -> Result<Arc<BaseProducer<Confirmations>>, OpenError> {
    let mut config = options.client();
    config
        .set("enable.idempotence", "true")
        .set("acks", "all")
        .set("compression.codec", "lz4")
        .set("linger.ms", linger_ms)
        .set("delivery.timeout.ms", DELIVERY_TIMEOUT_MS)
        // As the Java clients do it, so that an order has one partition whoever writes.
        .set("partitioner", "murmur2_random")
        .set("message.max.bytes", options.largest_record().to_string())
        // Both beyond what the room holds, and it may hold one batch of any size besides.
        .set("queue.buffering.max.messages", "1000000")
        .set("queue.buffering.max.kbytes", "1048576");
    let confirmations = Confirmations { ails: Arc::clone(ails) };
    let producer: BaseProducer<Confirmations> =
        config.create_with_context(confirmations).map_err(|error| not_made(&error))?;
    let producer = Arc::new(producer);
    let served = Arc::clone(&producer);
    let serve = move || {
        while Arc::strong_count(&served) > 1 {
            served.poll(Duration::from_millis(100));
        }
        // To let go of a producer blocks, so it is done here, where nobody waits.
        let _ = served.flush(FLUSH);
    };
    thread::Builder::new()
        .name("kafka-producer".to_owned())
        .spawn(serve)
        .map_err(|error| OpenError(error.to_string()))?;
    Ok(producer)
}

/// Is told by librdkafka what became of each record.
struct Confirmations {
    ails: Arc<AtomicBool>,
}

impl ClientContext for Confirmations {
    logs!();

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(%error, reason, "a producer's connection");
    }
}

impl ProducerContext for Confirmations {
    type DeliveryOpaque = Box<Ticket>;

    fn delivery(&self, result: &DeliveryResult<'_>, ticket: Box<Ticket>) {
        let answer = result.as_ref().map(|_| ()).map_err(|(error, _)| {
            self.ails.fetch_or(is_ailing(error), Ordering::Relaxed);
            refusal(error)
        });
        ticket.batch.answer(ticket.index, answer);
    }
}

/// One record of a batch.
struct Ticket {
    batch: Arc<Batch>,
    index: usize,
}

/// The records of one publish, until the last of them has its answer.
struct Batch {
    // std Mutex: held to note one answer, never across .await
    state: Mutex<BatchState>,
}

struct BatchState {
    answers: Confirmed,
    open: usize,
    done: Option<(oneshot::Sender<Confirmed>, OwnedSemaphorePermit)>,
}

impl Batch {
    fn new(count: usize, permit: OwnedSemaphorePermit) -> (Arc<Batch>, oneshot::Receiver<Confirmed>) {
        let (done, confirmed) = oneshot::channel();
        let state = BatchState { answers: vec![Ok(()); count], open: count, done: Some((done, permit)) };
        (Arc::new(Batch { state: Mutex::new(state) }), confirmed)
    }

    fn answer(&self, index: usize, answer: Result<(), PublishError>) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = &answer {
            tracing::debug!(%error, "a record was not published");
        }
        state.answers[index] = answer;
        state.open -= 1;
        if state.open == 0
            && let Some((done, _room)) = state.done.take()
        {
            // Whoever published may not be waiting any more.
            let _ = done.send(std::mem::take(&mut state.answers));
        }
    }
}
