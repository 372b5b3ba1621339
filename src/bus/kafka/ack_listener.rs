//! The ACK listener. It picks one partition of the ACK topic at random and reads it from its end, without a consumer
//! group: a rebalance cannot lose an ACK, and the cost of each process does not grow with the number of processes. With
//! `ACK_READ=all` it reads every partition, for workers of another service that ignore the partition that an event
//! names.
//!
//! An offset that the partition does not have any more is an error of the client. Where the partition was cut at its
//! end, the listener continues at the new end, because the records before it are old. Where the beginning has passed
//! the offset, it continues at the beginning. It reads a topic that was made again from the end that it finds: callers
//! whose ACKs arrived earlier are answered by the store, and no later ACK is missed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::{ClientConfig, ClientContext, Message, Offset, TopicPartitionList};
use tokio::sync::watch;
use uuid::Uuid;

use super::broker_monitor::BrokerState;
use super::client::{ANSWER_TIMEOUT, OpenError, Options, logs, not_made, pauses};
use super::client_errors::{Activity, ClientErrors};
use super::liveness::{LivenessProbe, drop_in_background};
use super::records;
use crate::backoff::random;
use crate::bus::AckSink;
use crate::config::AckRead;
use crate::order::Ack;

/// How long a poll waits for a record, and how often the listener checks whether it is to stop.
const POLL: Duration = Duration::from_millis(50);

/// The most ACKs that the sink gets in one call.
const BATCH: usize = 1024;

/// Whether this process listens for ACKs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Listening {
    /// No: this process has no sink for them.
    Off,
    /// Not yet: the listener looks for its partition.
    Finding,
    /// To this partition, at least.
    At(i32),
    /// Not now, and why.
    Unavailable(String),
}

/// Reads ACKs, on a thread of its own.
pub(super) struct AckListener {
    config: ClientConfig,
    consumer: BaseConsumer<ListenerContext>,
    options: Arc<Options>,
    broker_state: watch::Receiver<BrokerState>,
    errors: ClientErrors,
    sink: Arc<dyn AckSink>,
    listening: watch::Sender<Listening>,
    stop: Arc<AtomicBool>,
}

/// The offset that is read next in each partition.
type Offsets = BTreeMap<i32, i64>;

/// Why reading ended.
enum End {
    Stopped,
    /// The partitions have changed, or cannot be read; why.
    Changed(String),
    /// The consumer does not respond; a new one continues at these offsets.
    Unresponsive(Offsets),
}

impl AckListener {
    /// A listener that has not begun. It connects in the background.
    pub(super) fn open(
        options: &Arc<Options>,
        (broker_state, errors): (watch::Receiver<BrokerState>, ClientErrors),
        sink: Arc<dyn AckSink>,
        listening: &watch::Sender<Listening>,
        stop: &Arc<AtomicBool>,
    ) -> Result<AckListener, OpenError> {
        let mut config = options.client();
        config
            // The client demands a group id, though it never joins a group or commits.
            .set("group.id", format!("orderstream-acks-{}", Uuid::now_v7()))
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            // Neither end of the partition is right in every case, so this code decides.
            .set("auto.offset.reset", "error")
            .set("fetch.min.bytes", "1")
            .set("fetch.wait.max.ms", "100")
            .set("fetch.queue.backoff.ms", "1")
            .set("queued.max.messages.kbytes", "16384");
        let consumer = consumer(&config)?;
        let (options, listening, stop) = (Arc::clone(options), listening.clone(), Arc::clone(stop));
        Ok(AckListener { config, consumer, options, broker_state, errors, sink, listening, stop })
    }

    /// Reads until `stop` is set.
    pub(super) fn run(mut self) {
        let (mut backoff, mut found) = (pauses(), None);
        while !self.is_stopped() {
            match found.take().map_or_else(|| self.find_offsets(), |found| Ok(Some(found))) {
                Ok(Some((own, offsets))) => {
                    backoff.reset();
                    match self.read(own, offsets) {
                        End::Stopped => return,
                        End::Changed(why) => drop(self.listening.send_replace(Listening::Unavailable(why))),
                        End::Unresponsive(offsets) => {
                            tracing::warn!("the ACK listener's client does not respond; it is replaced");
                            found = Some((own, offsets));
                            self.replace_consumer();
                        }
                    }
                }
                // The broker monitor logs that.
                Ok(None) => drop(self.consumer.poll(POLL)),
                Err(error) => {
                    let reason = format!("ACKs cannot be read from {}: {error}", self.options.ack_topic);
                    self.listening.send_replace(Listening::Unavailable(reason));
                    self.errors.failed(Activity::ReadAcks, &self.options.ack_topic, &error);
                    let _ = self.consumer.poll(backoff.pause());
                    self.replace_consumer();
                }
            }
        }
    }

    /// Replaces a consumer that does not work.
    fn replace_consumer(&mut self) {
        match consumer(&self.config) {
            Ok(new) => drop_in_background(std::mem::replace(&mut self.consumer, new)),
            Err(error) => {
                tracing::error!(%error, "the ACK listener's client cannot be replaced yet; it is tried again")
            }
        }
    }

    fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// How many partitions the topic has; 0 until it exists.
    fn partitions(&self) -> i32 {
        self.broker_state.borrow().ack_partitions.unwrap_or_default()
    }

    /// Picks a partition, and finds the end of each partition that is to be read; `None` until the topic exists.
    fn find_offsets(&self) -> Result<Option<(i32, Offsets)>, KafkaError> {
        let count = self.partitions();
        let Ok(below @ 1..) = u32::try_from(count) else { return Ok(None) };
        let own = i32::try_from(random(below)).unwrap_or_default();
        let read = match self.options.ack_read {
            AckRead::Own => own..own + 1,
            AckRead::All => 0..count,
        };
        let mut offsets = Offsets::new();
        for partition in read {
            let (_, end) =
                self.consumer.fetch_watermarks(&self.options.ack_topic, partition, ANSWER_TIMEOUT)?;
            offsets.insert(partition, end);
        }
        Ok(Some((own, offsets)))
    }

    fn assign(&self, offsets: &Offsets) -> Result<(), KafkaError> {
        let mut list = TopicPartitionList::new();
        for (partition, offset) in offsets {
            list.add_partition_offset(&self.options.ack_topic, *partition, Offset::Offset(*offset))?;
        }
        self.consumer.assign(&list)
    }

    /// Reads from those offsets on, and publishes that it listens.
    fn read(&self, own: i32, mut offsets: Offsets) -> End {
        if let Err(error) = self.assign(&offsets) {
            return End::Changed(error.to_string());
        }
        tracing::debug!(own, partitions = offsets.len(), "reading ACKs");
        self.errors.worked(Activity::ReadAcks, &self.options.ack_topic);
        self.listening.send_replace(Listening::At(own));
        let mut liveness = LivenessProbe::new();
        while !self.is_stopped() {
            match self.poll(&mut offsets) {
                Ok(acks) if acks.is_empty() => {
                    if liveness.is_unresponsive(&self.consumer, &self.options.ack_topic, &self.broker_state) {
                        return End::Unresponsive(offsets);
                    }
                }
                Ok(acks) => {
                    liveness.responded();
                    self.errors.worked(Activity::ReadAcks, &self.options.ack_topic);
                    self.sink.acked(acks);
                }
                Err(error) if is_out_of_range(&error) => {
                    if let Err(error) = self.move_into_range(&mut offsets) {
                        return End::Changed(error.to_string());
                    }
                }
                Err(error) => return End::Changed(format!("the partition of ACKs does not exist: {error}")),
            }
            if let Err(error) = self.add_partitions(&mut offsets) {
                return End::Changed(error.to_string());
            }
        }
        End::Stopped
    }

    /// The ACKs that have arrived.
    fn poll(&self, offsets: &mut Offsets) -> Result<Vec<Ack>, KafkaError> {
        let mut acks = Vec::new();
        let mut polled = self.consumer.poll(POLL);
        while let Some(result) = polled {
            match result {
                Ok(message) => {
                    offsets.insert(message.partition(), message.offset() + 1);
                    let record = records::record(&message);
                    match Ack::decode(&record.value, record.header_pairs()) {
                        Ok(ack) => acks.push(ack),
                        Err(error) => tracing::debug!(%error, "a record is not an ACK, and is skipped"),
                    }
                }
                Err(error) if is_missing(&error) || is_out_of_range(&error) => {
                    // The ACKs that arrived before the error count.
                    self.sink.acked(acks);
                    return Err(error);
                }
                Err(error) => self.errors.failed(Activity::ReadAcks, &self.options.ack_topic, &error),
            }
            if acks.len() >= BATCH {
                break;
            }
            polled = self.consumer.poll(Duration::ZERO);
        }
        Ok(acks)
    }

    /// Moves each offset that its partition does not have any more: to the end where the partition was cut at its end,
    /// to the beginning where it lost its beginning.
    fn move_into_range(&self, offsets: &mut Offsets) -> Result<(), KafkaError> {
        for (partition, offset) in &mut *offsets {
            let topic = &self.options.ack_topic;
            let (begin, end) = self.consumer.fetch_watermarks(topic, *partition, ANSWER_TIMEOUT)?;
            if !(begin..=end).contains(offset) {
                let (from, to) = (*offset, if *offset < begin { begin } else { end });
                tracing::warn!(
                    topic,
                    partition,
                    from,
                    to,
                    "the topic of ACKs was cut; callers whose ACKs are missed are answered from the store"
                );
                *offset = to;
            }
        }
        self.assign(offsets)
    }

    /// Where every partition is read, begins to read partitions that were added, at their beginning.
    fn add_partitions(&self, offsets: &mut Offsets) -> Result<(), KafkaError> {
        let count = self.partitions();
        if self.options.ack_read == AckRead::Own || usize::try_from(count).is_ok_and(|it| it <= offsets.len())
        {
            return Ok(());
        }
        for partition in 0..count {
            offsets.entry(partition).or_insert(0);
        }
        self.assign(offsets)
    }
}

fn consumer(config: &ClientConfig) -> Result<BaseConsumer<ListenerContext>, OpenError> {
    config.create_with_context(ListenerContext).map_err(|error| not_made(&error))
}

/// Whether the partition does not exist.
fn is_missing(error: &KafkaError) -> bool {
    matches!(
        error.rdkafka_error_code(),
        Some(
            RDKafkaErrorCode::UnknownPartition
                | RDKafkaErrorCode::UnknownTopic
                | RDKafkaErrorCode::UnknownTopicOrPartition
                | RDKafkaErrorCode::UnknownTopicId
        )
    )
}

/// Whether the partition does not have the offset to read from.
fn is_out_of_range(error: &KafkaError) -> bool {
    matches!(
        error.rdkafka_error_code(),
        Some(
            RDKafkaErrorCode::AutoOffsetReset
                | RDKafkaErrorCode::LogTruncation
                | RDKafkaErrorCode::OffsetOutOfRange
        )
    )
}

/// The context of the listener's client. Its connection errors are logged for debugging alone, because the broker
/// monitor logs outages.
struct ListenerContext;

impl ClientContext for ListenerContext {
    logs!();

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(%error, reason, "an error of the ACK listener's connection");
    }
}

impl ConsumerContext for ListenerContext {}
