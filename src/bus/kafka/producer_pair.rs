//! The two producers, each on a thread of its own, and what they report: of each record whether a broker has stored it,
//! and of themselves whether they may recover.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::DeliveryResult;
use rdkafka::metadata::{Metadata, MetadataTopic};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _, ProducerContext};
use rdkafka::{ClientContext, Message};
use tokio::sync::{OwnedSemaphorePermit, watch};

use super::broker_monitor::State;
use super::client::{OpenError, Options, logs, not_made, refusal};
use super::client_errors::{Activity, ClientErrors};
use super::records::Outgoing;
use crate::bus::confirmations::Ledger;
use crate::bus::{Answer, PublishError};
use crate::shutdown::Components;

/// How long a record of a batch waits for others. Any value above 0 costs a lone record 2 ms and more.
const BATCH_LINGER_MS: &str = "0.5";

/// How long a record may take until a broker has confirmed it.
const DELIVERY_TIMEOUT_MS: &str = "10000";

/// How long the answers to a part of a batch may wait to be announced together. No caller waits for them: they end what
/// the store keeps for the relay. The answers to a whole batch do not wait.
const ANNOUNCE_EVERY: Duration = Duration::from_millis(100);

/// After how long without any confirmation a producer counts as unhealthy whose records time out.
const STALLED: Duration = Duration::from_secs(30);

/// How long a producer may take to answer when it is probed.
const PROBE: Duration = Duration::from_secs(2);

/// How long the last records may take when the producer is closed.
pub(super) const FLUSH: Duration = Duration::from_secs(5);

/// The two producers. Each belongs to a thread, which ends when no other part holds the producer.
pub(super) struct Pair {
    pub(super) lone: Arc<BaseProducer<Reports>>,
    pub(super) batch: Arc<BaseProducer<Reports>>,
}

/// A partition that does not exist is a reply to a process that is gone or never was: its key says where else.
pub(super) fn enqueue(
    producer: &BaseProducer<Reports>,
    outgoing: &Outgoing,
    token: Box<DeliveryToken>,
) -> Result<(), (KafkaError, Box<DeliveryToken>)> {
    let Outgoing { topic, partition, record } = outgoing;
    let mut message =
        BaseRecord::with_opaque_to(topic, token).payload(&record.value).headers(outgoing.headers());
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

/// That nothing is published any more.
pub(super) fn closed() -> PublishError {
    PublishError::Unavailable("the bus is closed".to_owned())
}

impl Pair {
    /// Makes the producers. They connect in the background.
    pub(super) fn open(
        options: &Arc<Options>,
        link: &watch::Receiver<State>,
        errors: &ClientErrors,
        components: &Components,
    ) -> Result<Pair, OpenError> {
        let make = |linger_ms| producer(options, linger_ms, (link, errors), components);
        Ok(Pair { lone: make("0")?, batch: make(BATCH_LINGER_MS)? })
    }

    /// Both of them.
    pub(super) fn both(&self) -> [&BaseProducer<Reports>; 2] {
        [&self.lone, &self.batch]
    }

    /// Whether one of them may not recover.
    pub(super) fn is_unhealthy(&self) -> bool {
        self.both().into_iter().any(|it| it.context().health.unhealthy.load(Ordering::Relaxed))
    }
}

fn producer(
    options: &Arc<Options>,
    linger_ms: &str,
    (link, errors): (&watch::Receiver<State>, &ClientErrors),
    components: &Components,
) -> Result<Arc<BaseProducer<Reports>>, OpenError> {
    let mut config = options.client();
    config
        .set("enable.idempotence", "true")
        .set("acks", "all")
        .set("compression.codec", options.compression.as_str())
        .set("linger.ms", linger_ms)
        .set("delivery.timeout.ms", DELIVERY_TIMEOUT_MS)
        // As the Java clients do it, so that an order has one partition for all writers.
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
    let component = components.component("the thread of a producer");
    thread::Builder::new()
        .name("kafka-producer".to_owned())
        .spawn(move || {
            serve(&served, &options.events_topic, &link);
            component.ends_in_order();
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
pub(super) struct Reports {
    errors: ClientErrors,
    pub(super) health: Health,
    /// The ledgers with answers that are to be announced when the burst is over.
    // std Mutex: held to add or to take a ledger, never across .await
    news: Mutex<Vec<Arc<Ledger>>>,
}

/// What the reports say about the producer itself.
#[derive(Default)]
pub(super) struct Health {
    /// A record was confirmed since the thread looked.
    confirmed: AtomicBool,
    /// A record timed out since the thread looked.
    timed_out: AtomicBool,
    /// The producer may not recover.
    unhealthy: AtomicBool,
}

impl Health {
    /// Notes why a record was not taken, or not stored.
    pub(super) fn failed(&self, error: &KafkaError) {
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
    type DeliveryOpaque = Box<DeliveryToken>;

    fn delivery(&self, result: &DeliveryResult<'_>, mut token: Box<DeliveryToken>) {
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
        if let Some(ledger) = token.answer(answer) {
            self.news.lock().unwrap_or_else(PoisonError::into_inner).push(ledger);
        }
    }
}

/// One record of a batch, and the room that it takes.
pub(super) struct DeliveryToken {
    ledger: Option<Arc<Ledger>>,
    index: usize,
    _room: Option<OwnedSemaphorePermit>,
}

impl DeliveryToken {
    /// A record that is about to be handed over, by its place in its batch.
    pub(super) fn new(
        ledger: &Arc<Ledger>,
        index: usize,
        room: Option<OwnedSemaphorePermit>,
    ) -> Box<DeliveryToken> {
        Box::new(DeliveryToken { ledger: Some(Arc::clone(ledger)), index, _room: room })
    }

    /// Notes what became of the record; answers the ledger where it is to be announced.
    pub(super) fn answer(&mut self, answer: Answer) -> Option<Arc<Ledger>> {
        if let Err(error) = &answer {
            tracing::debug!(%error, "a record was not published");
        }
        let ledger = self.ledger.take()?;
        ledger.answer(self.index, answer).then_some(ledger)
    }
}

impl Drop for DeliveryToken {
    /// A record that librdkafka lets go of without a report is not published.
    fn drop(&mut self) {
        if let Some(ledger) = self.answer(Err(closed())) {
            ledger.announce();
        }
    }
}
