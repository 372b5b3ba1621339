//! Publishing: hands records to librdkafka and says of each whether a broker has stored it. What is handed over
//! is bounded below librdkafka's own limits, so that it always takes it, and whoever publishes more waits
//! without holding a thread.
//!
//! There are two producers. What is alone leaves at once; what comes as a batch waits a moment for its like,
//! because a broker is paid per request and not per record. A lone record does not overtake a batch that is on
//! its way: it joins it. A producer can fail for good, or lose all brokers for good; it is then replaced. Each record
//! has its own answer: one whose partition has no leader waits alone, and the producers stay.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::thread;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::DeliveryResult;
use rdkafka::metadata::{Metadata, MetadataTopic};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _, ProducerContext};
use rdkafka::{ClientContext, Message};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use super::client::{OpenError, Options, logs, not_made, refusal};
use super::client_errors::{Activity, ClientErrors};
use super::link::State;
use super::records::{Outgoing, size};
use crate::bus::confirmations::{Answers, Ledger};
use crate::bus::{Answer, PublishError};
use crate::shutdown::Parts;

/// How long a record of a batch waits for others. Any value above 0 costs a lone record 2 ms and more.
const BATCH_LINGER_MS: &str = "0.5";

/// How long a record may take until a broker has confirmed it.
const DELIVERY_TIMEOUT_MS: &str = "10000";

/// How long the answers to a part of a batch may wait to be announced together. No caller waits for them: they end what
/// the store keeps for the relay. The answers to a whole batch do not wait.
const ANNOUNCE_EVERY: Duration = Duration::from_millis(100);

/// How many bytes of records may be on their way; each counts 512 besides its own.
const ROOM: usize = 64 << 20;

/// How long the last records may take when the producer is closed.
const FLUSH: Duration = Duration::from_secs(5);

/// After how long without any confirmation a producer counts as unhealthy whose records time out.
const STALLED: Duration = Duration::from_secs(30);

/// How long a producer may take to answer when it is probed.
const PROBE: Duration = Duration::from_secs(2);

/// Publishes records.
pub(super) struct Producer {
    options: Arc<Options>,
    link: watch::Receiver<State>,
    errors: ClientErrors,
    // std RwLock: held to take the pair, or to replace one that is unhealthy; never across .await
    pair: RwLock<Option<Arc<Pair>>>,
    room: Arc<Semaphore>,
    parts: Parts,
}

/// The two producers. Each belongs to a thread, which ends when nobody else holds the producer.
struct Pair {
    lone: Arc<BaseProducer<Reports>>,
    batch: Arc<BaseProducer<Reports>>,
}

impl Producer {
    /// Makes the producers. They connect in the background.
    pub(super) fn open(
        options: &Arc<Options>,
        link: watch::Receiver<State>,
        errors: ClientErrors,
        parts: &Parts,
    ) -> Result<Arc<Producer>, OpenError> {
        let pair = RwLock::new(Some(Arc::new(Pair::open(options, &link, &errors, parts)?)));
        let room = Arc::new(Semaphore::new(ROOM));
        let (options, parts) = (Arc::clone(options), parts.clone());
        Ok(Arc::new(Producer { options, link, errors, pair, room, parts }))
    }

    /// Publishes a record by itself, and answers when a broker has stored it.
    pub(super) async fn publish(&self, record: &Outgoing) -> Answer {
        let (mut answers, _) = self.hand_over(std::slice::from_ref(record), true).await?;
        let answer = answers.next().await.and_then(|mut group| group.pop());
        answer.map_or_else(|| Err(closed()), |(_, answer)| answer)
    }

    /// Hands records over and does not wait for a broker.
    ///
    /// # Errors
    /// Where one of them could not even be handed over.
    pub(super) async fn send(&self, records: &[Outgoing]) -> Result<(), PublishError> {
        let (answers, _) = self.hand_over(records, false).await?;
        answers.failure().map_or(Ok(()), Err)
    }

    /// Hands records over; says besides whether there was one, and none that it could share a request with.
    pub(super) async fn hand_over(
        &self,
        records: &[Outgoing],
        by_itself: bool,
    ) -> Result<(Answers, bool), PublishError> {
        let size: usize = records.iter().map(|it| size(&it.record)).sum();
        // A batch larger than all the room passes alone.
        let permits = u32::try_from(size.min(ROOM)).unwrap_or(u32::MAX);
        let mut room = Arc::clone(&self.room).acquire_many_owned(permits).await.map_err(|_| closed())?;
        let mut pair = self.pair().ok_or_else(closed)?;
        // After an outage that is only a precaution; see `pulse` for what else it may be.
        if pair.is_unhealthy() && self.link.borrow().is_up() {
            self.replace(&pair);
            pair = self.pair().ok_or_else(closed)?;
        }
        let alone = by_itself || (records.len() == 1 && pair.batch.in_flight_count() == 0);
        let producer = if alone { &pair.lone } else { &pair.batch };
        let (ledger, answers) = Ledger::new(records.len());
        for (index, record) in records.iter().enumerate() {
            let room = room.split(self::size(&record.record));
            let ticket = Box::new(Ticket { ledger: Some(Arc::clone(&ledger)), index, _room: room });
            if let Err((error, mut ticket)) = enqueue(producer, record, ticket) {
                producer.context().health.failed(&error);
                self.errors.failed(Activity::Publish, &record.topic, &error);
                ticket.answer(Err(refusal(&error)));
            }
        }
        Ok((answers, alone))
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

    /// Puts a new pair in the place of one that is unhealthy. What that one holds it still sends, if it can.
    fn replace(&self, unhealthy: &Arc<Pair>) {
        let mut pair = self.pair.write().unwrap_or_else(PoisonError::into_inner);
        if pair.as_ref().is_some_and(|pair| Arc::ptr_eq(pair, unhealthy)) {
            let fatal = unhealthy.both().into_iter().find_map(|it| it.client().fatal_error());
            match Pair::open(&self.options, &self.link, &self.errors, &self.parts) {
                Ok(new) => {
                    tracing::info!(?fatal, "records were not confirmed; new producers take over");
                    *pair = Some(Arc::new(new));
                }
                Err(error) => {
                    tracing::error!(%error, ?fatal, "the producers are unhealthy, and no new ones can be made")
                }
            }
        }
    }
}

/// A partition that does not exist is a reply to a process that is gone or never was: its key says where else.
fn enqueue(
    producer: &BaseProducer<Reports>,
    outgoing: &Outgoing,
    ticket: Box<Ticket>,
) -> Result<(), (KafkaError, Box<Ticket>)> {
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
        return producer.send(message).map_err(|(error, message)| (error, message.delivery_opaque));
    }
    Err((error, message.delivery_opaque))
}

fn closed() -> PublishError {
    PublishError::Unavailable("the bus is closed".to_owned())
}

impl Pair {
    fn open(
        options: &Arc<Options>,
        link: &watch::Receiver<State>,
        errors: &ClientErrors,
        parts: &Parts,
    ) -> Result<Pair, OpenError> {
        let make = |linger_ms| producer(options, linger_ms, (link, errors), parts);
        Ok(Pair { lone: make("0")?, batch: make(BATCH_LINGER_MS)? })
    }

    fn both(&self) -> [&BaseProducer<Reports>; 2] {
        [&self.lone, &self.batch]
    }

    fn is_unhealthy(&self) -> bool {
        self.both().into_iter().any(|it| it.context().health.unhealthy.load(Ordering::Relaxed))
    }
}

fn producer(
    options: &Arc<Options>,
    linger_ms: &str,
    (link, errors): (&watch::Receiver<State>, &ClientErrors),
    parts: &Parts,
) -> Result<Arc<BaseProducer<Reports>>, OpenError> {
    let mut config = options.client();
    config
        .set("enable.idempotence", "true")
        .set("acks", "all")
        .set("compression.codec", options.compression.as_str())
        .set("linger.ms", linger_ms)
        .set("delivery.timeout.ms", DELIVERY_TIMEOUT_MS)
        // As the Java clients do it, so that an order has one partition whoever writes.
        .set("partitioner", "murmur2_random")
        .set("message.max.bytes", options.largest_record().to_string())
        // Both beyond what the room holds, and it may hold one batch of any size besides.
        .set("queue.buffering.max.messages", "1000000")
        .set("queue.buffering.max.kbytes", "1048576");
    let reports = Reports { errors: errors.clone(), health: Health::default(), news: Mutex::default() };
    let producer: BaseProducer<Reports> =
        config.create_with_context(reports).map_err(|error| not_made(&error))?;
    let producer = Arc::new(producer);
    let (served, options, link) = (Arc::clone(&producer), Arc::clone(options), link.clone());
    let part = parts.part("the thread of a producer");
    thread::Builder::new()
        .name("kafka-producer".to_owned())
        .spawn(move || {
            serve(&served, &options.events_topic, &link);
            part.ends_in_order();
        })
        .map_err(|error| OpenError(error.to_string()))?;
    Ok(producer)
}

/// Serves a producer until no other part of the bus holds it.
fn serve(producer: &Arc<BaseProducer<Reports>>, topic: &str, link: &watch::Receiver<State>) {
    let reports = producer.context();
    let mut last_confirmed = Instant::now();
    while Arc::strong_count(producer) > 1 {
        producer.poll(ANNOUNCE_EVERY);
        reports.announce();
        if reports.health.confirmed.swap(false, Ordering::Relaxed) {
            last_confirmed = Instant::now();
        }
        // One partition without a leader makes records time out, too, and no new producer would help there.
        if reports.health.timed_out.load(Ordering::Relaxed) && link.borrow().is_up() {
            reports.health.timed_out.store(false, Ordering::Relaxed);
            let is_unhealthy = match producer.client().fetch_metadata(Some(topic), PROBE) {
                Ok(found) => last_confirmed.elapsed() > STALLED && has_leaders(&found),
                Err(_) => true,
            };
            if is_unhealthy {
                reports.health.unhealthy.store(true, Ordering::Relaxed);
            }
        }
    }
    // To let go of a producer blocks, so it is done here, where nothing else waits.
    let _ = producer.flush(FLUSH);
    reports.announce();
}

/// Whether each partition has a leader, so that records to it should be confirmed.
fn has_leaders(found: &Metadata) -> bool {
    found.topics().iter().flat_map(MetadataTopic::partitions).all(|partition| partition.leader() >= 0)
}

/// Is told by librdkafka what became of each record.
struct Reports {
    errors: ClientErrors,
    health: Health,
    /// The ledgers with answers that are to be announced when the burst is over.
    // std Mutex: held to add or to take a ledger, never across .await
    news: Mutex<Vec<Arc<Ledger>>>,
}

/// What the reports say about the producer itself.
#[derive(Default)]
struct Health {
    /// A record was confirmed since the thread looked.
    confirmed: AtomicBool,
    /// A record timed out since the thread looked.
    timed_out: AtomicBool,
    /// The producer may not recover.
    unhealthy: AtomicBool,
}

impl Health {
    fn failed(&self, error: &KafkaError) {
        match error.rdkafka_error_code() {
            Some(RDKafkaErrorCode::Fatal) => self.unhealthy.store(true, Ordering::Relaxed),
            Some(RDKafkaErrorCode::MessageTimedOut) => self.timed_out.store(true, Ordering::Relaxed),
            _ => {}
        }
    }
}

impl Reports {
    fn announce(&self) {
        let news = std::mem::take(&mut *self.news.lock().unwrap_or_else(PoisonError::into_inner));
        news.iter().for_each(|ledger| ledger.announce());
    }
}

impl ClientContext for Reports {
    logs!();

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(%error, reason, "a producer's connection");
    }
}

impl ProducerContext for Reports {
    type DeliveryOpaque = Box<Ticket>;

    fn delivery(&self, result: &DeliveryResult<'_>, mut ticket: Box<Ticket>) {
        let answer = match result {
            Ok(message) => {
                self.health.confirmed.store(true, Ordering::Relaxed);
                if self.errors.is_any() {
                    self.errors.worked(Activity::Publish, message.topic());
                }
                Ok(())
            }
            Err((error, message)) => {
                self.health.failed(error);
                self.errors.failed(Activity::Publish, message.topic(), error);
                Err(refusal(error))
            }
        };
        if let Some(ledger) = ticket.answer(answer) {
            self.news.lock().unwrap_or_else(PoisonError::into_inner).push(ledger);
        }
    }
}

/// One record of a batch, and the room that it takes.
struct Ticket {
    ledger: Option<Arc<Ledger>>,
    index: usize,
    _room: Option<OwnedSemaphorePermit>,
}

impl Ticket {
    /// Notes what became of the record; answers the ledger where it is to be announced.
    fn answer(&mut self, answer: Answer) -> Option<Arc<Ledger>> {
        if let Err(error) = &answer {
            tracing::debug!(%error, "a record was not published");
        }
        let ledger = self.ledger.take()?;
        ledger.answer(self.index, answer).then_some(ledger)
    }
}

impl Drop for Ticket {
    /// A record that librdkafka lets go of without a report is not published.
    fn drop(&mut self) {
        if let Some(ledger) = self.answer(Err(closed())) {
            ledger.announce();
        }
    }
}
