//! The reader of ACKs. It picks one partition of their topic by chance and reads it from its end, without a
//! consumer group: no rebalance can lose an ACK, and the cost for each process does not grow with their number.
//!
//! Where workers of another service answer, which do not heed the partition that an event names, every
//! partition is read.
//!
//! A place that the log does not have any more is noticed by an error. Where the log was cut at its end, reading goes
//! on at the end that it has then, for what is before it is old. Where its beginning has passed the place, reading goes
//! on at the beginning. A topic that was made again is read from its end when that is noticed: callers whose ACKs came
//! before are answered by the store, and no later ACK is missed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::{ClientConfig, ClientContext, Message, Offset, TopicPartitionList};
use tokio::sync::watch;
use uuid::Uuid;

use super::broker_monitor::State;
use super::client::{ANSWER, OpenError, Options, logs, not_made, pauses};
use super::client_errors::{Activity, ClientErrors};
use super::liveness::{LivenessProbe, drop_in_background};
use super::records;
use crate::backoff::random;
use crate::bus::AckSink;
use crate::config::AckRead;
use crate::order::Ack;

/// How long a poll waits for a record; also how soon it is noticed that the reader is to end.
const POLL: Duration = Duration::from_millis(50);

/// How many ACKs are told together, if so many have arrived.
const BATCH: usize = 1024;

/// Whether ACKs are heard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Listening {
    /// ACKs are not read: this process has no sink for them.
    Off,
    /// Soon.
    Finding,
    /// Those of this partition, at least.
    At(i32),
    /// Not now.
    Unavailable(String),
}

/// Reads ACKs on a thread of its own.
pub(super) struct Reader {
    config: ClientConfig,
    consumer: BaseConsumer<Quiet>,
    options: Arc<Options>,
    link: watch::Receiver<State>,
    errors: ClientErrors,
    sink: Arc<dyn AckSink>,
    hearing: watch::Sender<Listening>,
    stop: Arc<AtomicBool>,
}

/// Where each partition is read from next.
type Places = BTreeMap<i32, i64>;

/// Why reading ended.
enum End {
    Stopped,
    /// The partitions are not what they were.
    Changed(String),
    /// The consumer is gone; a new one goes on from there.
    Gone(Places),
}

impl Reader {
    /// A reader that has not begun. It connects in the background.
    pub(super) fn open(
        options: &Arc<Options>,
        (link, errors): (watch::Receiver<State>, ClientErrors),
        sink: Arc<dyn AckSink>,
        hearing: &watch::Sender<Listening>,
        stop: &Arc<AtomicBool>,
    ) -> Result<Reader, OpenError> {
        let mut config = options.client();
        config
            // Nothing is ever joined or committed; the client wants a name all the same.
            .set("group.id", format!("orderstream-acks-{}", Uuid::now_v7()))
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            // Neither end of the log is right in every case.
            .set("auto.offset.reset", "error")
            .set("fetch.min.bytes", "1")
            .set("fetch.wait.max.ms", "100")
            .set("fetch.queue.backoff.ms", "1")
            .set("queued.max.messages.kbytes", "16384");
        let consumer = consumer(&config)?;
        let (options, hearing, stop) = (Arc::clone(options), hearing.clone(), Arc::clone(stop));
        Ok(Reader { config, consumer, options, link, errors, sink, hearing, stop })
    }

    /// Reads until told to stop.
    pub(super) fn run(mut self) {
        let (mut backoff, mut found) = (pauses(), None);
        while !self.stops() {
            match found.take().map_or_else(|| self.find(), |found| Ok(Some(found))) {
                Ok(Some((own, places))) => {
                    backoff.reset();
                    match self.read(own, places) {
                        End::Stopped => return,
                        End::Changed(why) => drop(self.hearing.send_replace(Listening::Unavailable(why))),
                        End::Gone(places) => {
                            tracing::warn!("the reader of ACKs gives no sign of life; a new one takes over");
                            found = Some((own, places));
                            self.renew();
                        }
                    }
                }
                // The link tells of that.
                Ok(None) => drop(self.consumer.poll(POLL)),
                Err(error) => {
                    let reason = format!("ACKs cannot be read from {}: {error}", self.options.ack_topic);
                    self.hearing.send_replace(Listening::Unavailable(reason));
                    self.errors.failed(Activity::ReadAcks, &self.options.ack_topic, &error);
                    let _ = self.consumer.poll(backoff.pause());
                    self.renew();
                }
            }
        }
    }

    /// Puts a new consumer in the place of one that does not work.
    fn renew(&mut self) {
        match consumer(&self.config) {
            Ok(new) => drop_in_background(std::mem::replace(&mut self.consumer, new)),
            Err(error) => tracing::error!(%error, "there is no new reader of ACKs yet"),
        }
    }

    fn stops(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// How many partitions there are; 0 until the topic is there.
    fn partitions(&self) -> i32 {
        self.link.borrow().ack_partitions.unwrap_or_default()
    }

    /// Picks a partition, and looks where those that are to be read end.
    fn find(&self) -> Result<Option<(i32, Places)>, KafkaError> {
        let count = self.partitions();
        let Ok(below @ 1..) = u32::try_from(count) else { return Ok(None) };
        let own = i32::try_from(random(below)).unwrap_or_default();
        let read = match self.options.ack_read {
            AckRead::Own => own..own + 1,
            AckRead::All => 0..count,
        };
        let mut places = Places::new();
        for partition in read {
            let (_, end) = self.consumer.fetch_watermarks(&self.options.ack_topic, partition, ANSWER)?;
            places.insert(partition, end);
        }
        Ok(Some((own, places)))
    }

    fn assign(&self, places: &Places) -> Result<(), KafkaError> {
        let mut list = TopicPartitionList::new();
        for (partition, offset) in places {
            list.add_partition_offset(&self.options.ack_topic, *partition, Offset::Offset(*offset))?;
        }
        self.consumer.assign(&list)
    }

    /// Reads from those places, and says so.
    fn read(&self, own: i32, mut places: Places) -> End {
        if let Err(error) = self.assign(&places) {
            return End::Changed(error.to_string());
        }
        tracing::debug!(own, partitions = places.len(), "reading ACKs");
        self.errors.worked(Activity::ReadAcks, &self.options.ack_topic);
        self.hearing.send_replace(Listening::At(own));
        let mut liveness = LivenessProbe::new();
        while !self.stops() {
            match self.poll(&mut places) {
                Ok(acks) if acks.is_empty() => {
                    if liveness.is_gone(&self.consumer, &self.options.ack_topic, &self.link) {
                        return End::Gone(places);
                    }
                }
                Ok(acks) => {
                    liveness.felt();
                    self.errors.worked(Activity::ReadAcks, &self.options.ack_topic);
                    self.sink.acked(acks);
                }
                Err(error) if is_outside(&error) => {
                    if let Err(error) = self.go_back_into_the_log(&mut places) {
                        return End::Changed(error.to_string());
                    }
                }
                Err(error) => return End::Changed(format!("the ACKs' partition is gone: {error}")),
            }
            if let Err(error) = self.take_new(&mut places) {
                return End::Changed(error.to_string());
            }
        }
        End::Stopped
    }

    /// The ACKs that have arrived.
    fn poll(&self, places: &mut Places) -> Result<Vec<Ack>, KafkaError> {
        let mut acks = Vec::new();
        let mut polled = self.consumer.poll(POLL);
        while let Some(result) = polled {
            match result {
                Ok(message) => {
                    places.insert(message.partition(), message.offset() + 1);
                    let record = records::record(&message);
                    match Ack::decode(&record.value, record.header_pairs()) {
                        Ok(ack) => acks.push(ack),
                        Err(error) => tracing::debug!(%error, "a record is no ACK, and is passed over"),
                    }
                }
                Err(error) if is_gone(&error) || is_outside(&error) => {
                    // Those that arrived before it count.
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

    /// Goes on reading where a place is outside of what its log holds now: at the end of a log that was cut at its end,
    /// at the beginning of one that lost its beginning.
    fn go_back_into_the_log(&self, places: &mut Places) -> Result<(), KafkaError> {
        for (partition, place) in &mut *places {
            let topic = &self.options.ack_topic;
            let (begin, end) = self.consumer.fetch_watermarks(topic, *partition, ANSWER)?;
            if !(begin..=end).contains(place) {
                let (from, to) = (*place, if *place < begin { begin } else { end });
                tracing::warn!(topic, partition, from, to, "the log of the ACKs was cut; some may be missed");
                *place = to;
            }
        }
        self.assign(places)
    }

    /// Where every partition is read, those that were added are read from their beginning.
    fn take_new(&self, places: &mut Places) -> Result<(), KafkaError> {
        let count = self.partitions();
        if self.options.ack_read == AckRead::Own || usize::try_from(count).is_ok_and(|it| it <= places.len())
        {
            return Ok(());
        }
        for partition in 0..count {
            places.entry(partition).or_insert(0);
        }
        self.assign(places)
    }
}

fn consumer(config: &ClientConfig) -> Result<BaseConsumer<Quiet>, OpenError> {
    config.create_with_context(Quiet).map_err(|error| not_made(&error))
}

fn is_gone(error: &KafkaError) -> bool {
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

/// Whether the place to read from is not in the log.
fn is_outside(error: &KafkaError) -> bool {
    matches!(
        error.rdkafka_error_code(),
        Some(
            RDKafkaErrorCode::AutoOffsetReset
                | RDKafkaErrorCode::LogTruncation
                | RDKafkaErrorCode::OffsetOutOfRange
        )
    )
}

/// The log goes where all of it goes; connections are the link's to tell of.
struct Quiet;

impl ClientContext for Quiet {
    logs!();

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(%error, reason, "the connection for ACKs");
    }
}

impl ConsumerContext for Quiet {}
