//! The two producers, each served by a thread of its own, and their reports: for each record whether a broker has
//! stored it, and for each producer whether it is unhealthy, so that it must be replaced. Every record gets exactly one
//! answer, even if librdkafka drops it.

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

use super::broker_monitor::BrokerState;
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

/// How long the answers to a part of a batch may wait to be announced together. No caller waits for them: they only
/// shorten the outbox. The answers to a whole batch do not wait.
const ANNOUNCE_EVERY: Duration = Duration::from_millis(100);

/// After how long without a confirmation a producer whose records time out counts as unhealthy.
const STALLED: Duration = Duration::from_secs(30);

/// How long a producer may take to answer a probe.
const PROBE_TIMEOUT: Duration = Duration::from_secs(2);

/// How long the last records may take when the producer is closed.
pub(super) const FLUSH_TIMEOUT: Duration = Duration::from_secs(5);

/// The two producers: one for lone records and one for batches. Each has a thread, which ends when no other part holds
/// the producer.
pub(super) struct Pair {
    pub(super) lone: Arc<BaseProducer<Reports>>,
    pub(super) batch: Arc<BaseProducer<Reports>>,
}

/// Hands a record to librdkafka. Where its partition does not exist (the process that it replies to has ended), the
/// record goes to the partition of its key.
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

/// The error of a bus that is closed.
pub(super) fn closed() -> PublishError {
    PublishError::Unavailable("the bus is closed".to_owned())
}

impl Pair {
    /// Creates the producers. They connect in the background.
    pub(super) fn open(
        options: &Arc<Options>,
        broker_state: &watch::Receiver<BrokerState>,
        errors: &ClientErrors,
        components: &Components,
    ) -> Result<Pair, OpenError> {
        let make = |linger_ms| producer(options, linger_ms, (broker_state, errors), components);
        Ok(Pair { lone: make("0")?, batch: make(BATCH_LINGER_MS)? })
    }

    /// Both of them.
    pub(super) fn both(&self) -> [&BaseProducer<Reports>; 2] {
        [&self.lone, &self.batch]
    }

    /// Whether one of them is unhealthy.
    pub(super) fn is_unhealthy(&self) -> bool {
        self.both().into_iter().any(|it| it.context().health.unhealthy.load(Ordering::Relaxed))
    }
}

fn producer(
    options: &Arc<Options>,
    linger_ms: &str,
    (broker_state, errors): (&watch::Receiver<BrokerState>, &ClientErrors),
    components: &Components,
) -> Result<Arc<BaseProducer<Reports>>, OpenError> {
    let mut config = options.client();
    config
        .set("enable.idempotence", "true")
        .set("acks", "all")
        .set("compression.codec", options.compression.as_str())
        .set("linger.ms", linger_ms)
        .set("delivery.timeout.ms", DELIVERY_TIMEOUT_MS)
        // The partitioner of the Java clients, so that all writers use the same partition for an order.
        .set("partitioner", "murmur2_random")
        .set("message.max.bytes", options.largest_record().to_string())
        // Both limits are beyond `producer::MAX_IN_FLIGHT_BYTES`, which one batch of any size may exceed.
        .set("queue.buffering.max.messages", "1000000")
        .set("queue.buffering.max.kbytes", "1048576");
    let reports = Reports { errors: errors.clone(), health: Health::default(), to_wake: Mutex::default() };
    let producer: BaseProducer<Reports> =
        config.create_with_context(reports).map_err(|error| not_made(&error))?;
    let producer = Arc::new(producer);
    let (served, options, broker_state) = (Arc::clone(&producer), Arc::clone(options), broker_state.clone());
    let component = components.component("the thread of a Kafka producer");
    thread::Builder::new()
        .name("kafka-producer".to_owned())
        .spawn(move || {
            serve(&served, &options.events_topic, &broker_state);
            component.ends_in_order();
        })
        .map_err(|error| OpenError(error.to_string()))?;
    Ok(producer)
}

/// Serves a producer until no other part of the bus holds it.
fn serve(producer: &Arc<BaseProducer<Reports>>, topic: &str, broker_state: &watch::Receiver<BrokerState>) {
    let reports = producer.context();
    let mut last_confirmed = Instant::now();
    while Arc::strong_count(producer) > 1 {
        producer.poll(ANNOUNCE_EVERY);
        reports.announce();
        if reports.health.confirmed.swap(false, Ordering::Relaxed) {
            last_confirmed = Instant::now();
        }
        // Records also time out while their partition has no leader; a new producer would not help then.
        if reports.health.timed_out.load(Ordering::Relaxed) && broker_state.borrow().is_up() {
            reports.health.timed_out.store(false, Ordering::Relaxed);
            let is_unhealthy = match producer.client().fetch_metadata(Some(topic), PROBE_TIMEOUT) {
                Ok(found) => last_confirmed.elapsed() > STALLED && has_leaders(&found),
                Err(_) => true,
            };
            if is_unhealthy {
                reports.health.unhealthy.store(true, Ordering::Relaxed);
            }
        }
    }
    // Dropping a producer blocks, so it happens on this thread, for which nothing else waits.
    let _ = producer.flush(FLUSH_TIMEOUT);
    reports.announce();
}

/// Whether each partition has a leader, so that records to it should be confirmed.
fn has_leaders(found: &Metadata) -> bool {
    found.topics().iter().flat_map(MetadataTopic::partitions).all(|partition| partition.leader() >= 0)
}

/// Receives librdkafka's report about each record.
pub(super) struct Reports {
    errors: ClientErrors,
    pub(super) health: Health,
    /// The ledgers that are to be announced when the burst of reports is over.
    // std Mutex: held to add or to take a ledger, never across .await
    to_wake: Mutex<Vec<Arc<Ledger>>>,
}

/// What the reports show about the producer itself.
#[derive(Default)]
pub(super) struct Health {
    /// A record was confirmed since the thread's last look.
    confirmed: AtomicBool,
    /// A record timed out since the thread's last look.
    timed_out: AtomicBool,
    /// The producer will probably not recover, and must be replaced.
    unhealthy: AtomicBool,
}

impl Health {
    /// Takes note of the error of a record that was not accepted, or not stored.
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
        let ledgers = std::mem::take(&mut *self.to_wake.lock().unwrap_or_else(PoisonError::into_inner));
        ledgers.iter().for_each(|ledger| ledger.announce());
    }
}

impl ClientContext for Reports {
    logs!();

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(%error, reason, "an error of a producer's connection");
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
            self.to_wake.lock().unwrap_or_else(PoisonError::into_inner).push(ledger);
        }
    }
}

/// One record of a batch, and the bytes in flight that it takes.
pub(super) struct DeliveryToken {
    ledger: Option<Arc<Ledger>>,
    index: usize,
    _room: Option<OwnedSemaphorePermit>,
}

impl DeliveryToken {
    /// A record that is about to be handed over, by its index in its batch.
    pub(super) fn new(
        ledger: &Arc<Ledger>,
        index: usize,
        room: Option<OwnedSemaphorePermit>,
    ) -> Box<DeliveryToken> {
        Box::new(DeliveryToken { ledger: Some(Arc::clone(ledger)), index, _room: room })
    }

    /// Records the answer; returns the ledger if it is to be announced.
    pub(super) fn answer(&mut self, answer: Answer) -> Option<Arc<Ledger>> {
        if let Err(error) = &answer {
            tracing::debug!(%error, "a record was not published");
        }
        let ledger = self.ledger.take()?;
        ledger.answer(self.index, answer).then_some(ledger)
    }
}

impl Drop for DeliveryToken {
    /// A record that librdkafka drops without a report is not published.
    fn drop(&mut self) {
        if let Some(ledger) = self.answer(Err(closed())) {
            ledger.announce();
        }
    }
}
