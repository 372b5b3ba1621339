//! The ACKs that this process waits for. It picks one partition of their topic by chance, reads it from its end
//! without a consumer group, and says in each of its events which one it is. The place to read from is known
//! before any event says so, and no ACK of such an event can lie before it.
//!
//! Where workers of another service answer, which know nothing of that, every partition is read.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::{ClientContext, Message, Offset, TopicPartitionList};
use tokio::sync::watch;
use tokio::time::timeout;
use uuid::Uuid;

use super::backoff::{Backoff, random};
use super::client::{OpenError, Options, logs, not_made};
use super::link::State;
use super::records;
use super::topics::ANSWER;
use crate::bus::{AckSink, PublishError};
use crate::config::AckRead;
use crate::order::Ack;

/// How long a poll waits for a record; also how soon it is noticed that the reader is to end.
const POLL: Duration = Duration::from_millis(50);

/// How many ACKs are told together, if so many have arrived.
const BATCH: usize = 1024;

/// How long a publish waits for the reader to find its place, after the sink was given.
const FIND: Duration = Duration::from_secs(5);

/// Whether ACKs are heard.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Hearing {
    /// Nobody is to be told.
    Off,
    /// Soon.
    Finding,
    /// Those of this partition, at least.
    At(i32),
    /// Not now.
    Deaf(String),
}

/// The reader of ACKs, which begins when there is somebody to be told.
pub(super) struct Acks {
    options: Arc<Options>,
    link: watch::Receiver<State>,
    sink: OnceLock<Arc<dyn AckSink>>,
    hearing: watch::Sender<Hearing>,
    stop: Arc<AtomicBool>,
}

impl Acks {
    pub(super) fn new(options: &Arc<Options>, link: watch::Receiver<State>) -> Acks {
        Acks {
            options: Arc::clone(options),
            link,
            sink: OnceLock::new(),
            hearing: watch::Sender::new(Hearing::Off),
            stop: Arc::default(),
        }
    }

    /// Begins to read, for this sink. A second sink is ignored: there is one api in the process.
    pub(super) fn listen(&self, sink: Arc<dyn AckSink>) {
        if self.sink.set(Arc::clone(&sink)).is_err() {
            return;
        }
        self.hearing.send_replace(Hearing::Finding);
        if let Err(error) = self.start(sink) {
            tracing::error!(%error, "ACKs are not read");
            self.hearing.send_replace(Hearing::Deaf(error.to_string()));
        }
    }

    fn start(&self, sink: Arc<dyn AckSink>) -> Result<(), OpenError> {
        let mut config = self.options.client();
        config
            // Nothing is ever joined or committed; the client wants a name all the same.
            .set("group.id", format!("orderstream-acks-{}", Uuid::now_v7()))
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            // If the topic was made again, what lies in it is new.
            .set("auto.offset.reset", "earliest")
            .set("fetch.min.bytes", "1")
            .set("fetch.wait.max.ms", "100")
            .set("fetch.queue.backoff.ms", "1")
            .set("queued.max.messages.kbytes", "16384");
        let reader = Reader {
            consumer: config.create_with_context(Quiet).map_err(|error| not_made(&error))?,
            options: Arc::clone(&self.options),
            link: self.link.clone(),
            sink,
            hearing: self.hearing.clone(),
            stop: Arc::clone(&self.stop),
        };
        let spawned = thread::Builder::new().name("kafka-acks".to_owned()).spawn(move || reader.run());
        spawned.map(drop).map_err(|error| OpenError(error.to_string()))
    }

    /// The partition whose ACKs are heard, if any; waits a moment where it is being found.
    pub(super) async fn partition(&self) -> Option<i32> {
        let mut hearing = self.hearing.subscribe();
        let found = timeout(FIND, hearing.wait_for(|hearing| *hearing != Hearing::Finding)).await;
        match found.ok()?.ok().as_deref() {
            Some(Hearing::At(partition)) => Some(*partition),
            _ => None,
        }
    }

    /// Tells the sink of ACKs that are on their way to this very process.
    pub(super) fn tell(&self, acks: Vec<Ack>) {
        if let Some(sink) = self.sink.get()
            && !acks.is_empty()
        {
            sink.acked(acks);
        }
    }

    /// Whether ACKs are heard, if anybody is to be told of them.
    pub(super) fn check(&self) -> Result<(), PublishError> {
        match &*self.hearing.borrow() {
            Hearing::Off | Hearing::At(_) => Ok(()),
            Hearing::Finding => Err("the partition of the ACKs is being looked for".to_owned()),
            Hearing::Deaf(reason) => Err(reason.clone()),
        }
        .map_err(PublishError::Unavailable)
    }

    /// Ends the reader.
    pub(super) fn close(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

impl Drop for Acks {
    fn drop(&mut self) {
        self.close();
    }
}

/// The thread that reads.
struct Reader {
    consumer: BaseConsumer<Quiet>,
    options: Arc<Options>,
    link: watch::Receiver<State>,
    sink: Arc<dyn AckSink>,
    hearing: watch::Sender<Hearing>,
    stop: Arc<AtomicBool>,
}

/// Where each partition is read from next.
type Places = BTreeMap<i32, i64>;

impl Reader {
    fn run(self) {
        let mut backoff = Backoff::new();
        while !self.stops() {
            match self.find() {
                Ok(Some((own, places))) => {
                    tracing::debug!(own, partitions = places.len(), "reading ACKs");
                    self.hearing.send_replace(Hearing::At(own));
                    backoff.reset();
                    let trouble = self.read(places);
                    self.hearing.send_replace(Hearing::Deaf(trouble));
                }
                // The link tells of that.
                Ok(None) => {
                    let _ = self.consumer.poll(POLL);
                }
                Err(error) => {
                    let reason = format!("ACKs cannot be read from {}: {error}", self.options.ack_topic);
                    self.hearing.send_replace(Hearing::Deaf(reason));
                    let _ = self.consumer.poll(backoff.next());
                }
            }
        }
    }

    fn stops(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// How many partitions there are; 0 until the topic is there.
    fn partitions(&self) -> i32 {
        self.link.borrow().ack_partitions.unwrap_or_default()
    }

    /// Picks a partition and begins to read at the end of those that are to be read.
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
        self.assign(&places)?;
        Ok(Some((own, places)))
    }

    fn assign(&self, places: &Places) -> Result<(), KafkaError> {
        let mut list = TopicPartitionList::new();
        for (partition, offset) in places {
            list.add_partition_offset(&self.options.ack_topic, *partition, Offset::Offset(*offset))?;
        }
        self.consumer.assign(&list)
    }

    /// Reads until told to stop, or until the partitions are not what they were; answers why.
    fn read(&self, mut places: Places) -> String {
        while !self.stops() {
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
                    Err(error) if is_gone(&error) => return format!("the ACKs' partition is gone: {error}"),
                    Err(error) => tracing::debug!(%error, "reading ACKs"),
                }
                if acks.len() >= BATCH {
                    break;
                }
                polled = self.consumer.poll(Duration::ZERO);
            }
            if !acks.is_empty() {
                self.sink.acked(acks);
            }
            if let Err(error) = self.take_new(&mut places) {
                return error.to_string();
            }
        }
        "the bus is closed".to_owned()
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

/// The log goes where all of it goes; connections are the link's to tell of.
struct Quiet;

impl ClientContext for Quiet {
    logs!();

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(%error, reason, "the connection for ACKs");
    }
}

impl ConsumerContext for Quiet {}
