//! The topics of the bus: made where they do not exist, and used as they are where they do. A difference from
//! what the options say is reported once and never changed: other services may rely on it.
//!
//! These functions block, and are called by the link's own thread. They ask as a consumer, because a producer
//! that asks for a topic makes the broker create it, with the broker's idea of its partitions.

use std::time::Duration;

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::types::RDKafkaRespErr;

use super::client::{ANSWER, Asking, NO_TOKEN, Options};
use super::topic_settings::{Check, Purpose, Topic};

/// The most copies that are made without being asked for.
const MOST_COPIES: usize = 3;

/// How often a topic that was just made is looked for before it counts as missing.
const LOOKS: u32 = 100;

/// A topic that there must be.
struct Wanted {
    topic: Topic,
    partitions: i32,
}

/// A topic as it is.
struct Found {
    partitions: i32,
    copies: usize,
}

/// What was found out about the topics and was reported, so that it is reported once.
#[derive(Default)]
pub(super) struct Reported {
    differences: Vec<String>,
    /// The settings of the topics that were there already.
    pub(super) settings: Check,
}

/// Makes the topics that are missing, unless the options forbid it, and answers how many partitions that of the ACKs
/// has; `None` where it is missing and stays so.
pub(super) fn ensure<C: ConsumerContext>(
    client: &BaseConsumer<C>,
    options: &Options,
    reported: &mut Reported,
) -> Result<Option<i32>, String> {
    let (event, record) = (options.largest_event(), options.largest_record());
    let mut ensure = |name: &str, purpose, partitions: u32, largest_record| {
        let topic = Topic { name: name.to_owned(), purpose, largest_record };
        let wanted = Wanted { topic, partitions: i32::try_from(partitions).unwrap_or(i32::MAX) };
        ensure_one(client, options, &wanted, reported)
    };
    ensure(&options.events_topic, Purpose::Events, options.events_partitions, event)?;
    ensure(&options.dead_letter_topic(), Purpose::DeadLetters, 1, record)?;
    let acks = ensure(&options.ack_topic, Purpose::Acks, options.ack_partitions, record)?;
    Ok(acks.map(|found| found.partitions))
}

fn ensure_one<C: ConsumerContext>(
    client: &BaseConsumer<C>,
    options: &Options,
    wanted: &Wanted,
    reported: &mut Reported,
) -> Result<Option<Found>, String> {
    let failed = |error: KafkaError| why(&error, options, &wanted.topic.name);
    let (found, brokers) = look(client, &wanted.topic.name).map_err(failed)?;
    let copies = match usize::from(options.replication) {
        0 => brokers.clamp(1, MOST_COPIES),
        copies => copies,
    };
    if let Some(found) = found {
        // More copies than there would be by default are not a mistake.
        let enough = if options.replication == 0 { found.copies >= copies } else { found.copies == copies };
        if found.partitions != wanted.partitions || !enough {
            let difference = format!(
                "topic {} has {} partitions in {} copies, not {} in {copies}; it is used as it is",
                wanted.topic.name, found.partitions, found.copies, wanted.partitions
            );
            if !reported.differences.contains(&difference) {
                tracing::warn!("{difference}");
                reported.differences.push(difference);
            }
        }
        reported.settings.found(&wanted.topic, found.copies);
        return Ok(Some(found));
    }
    if !options.make_topics {
        return Ok(None);
    }
    create(options, wanted, copies)?;
    tracing::info!(partitions = wanted.partitions, copies, "made the topic {}", wanted.topic.name);
    // Every broker must have heard of it before a client relies on it.
    for _ in 0..LOOKS {
        if let (Some(found), _) = look(client, &wanted.topic.name).map_err(failed)? {
            return Ok(Some(found));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Err(format!("topic {} was made and is not there yet", wanted.topic.name))
}

/// The topic, once each of its partitions has a leader, and how many brokers there are.
fn look<C: ConsumerContext>(
    client: &BaseConsumer<C>,
    name: &str,
) -> Result<(Option<Found>, usize), KafkaError> {
    let metadata = client.fetch_metadata(Some(name), ANSWER)?;
    let brokers = metadata.brokers().len();
    let Some(topic) = metadata.topics().first() else { return Ok((None, brokers)) };
    match topic.error() {
        None => {}
        Some(RDKafkaRespErr::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART) => return Ok((None, brokers)),
        Some(error) => return Err(KafkaError::MetadataFetch(error.into())),
    }
    let partitions = topic.partitions();
    let copies = partitions.iter().map(|partition| partition.replicas().len()).min();
    let (Some(copies), Ok(count)) = (copies, i32::try_from(partitions.len())) else {
        return Ok((None, brokers));
    };
    Ok((Some(Found { partitions: count, copies }), brokers))
}

fn create(options: &Options, wanted: &Wanted, copies: usize) -> Result<(), String> {
    let failed = |why: String| format!("topic {} cannot be made: {why}", wanted.topic.name);
    if options.security.has_token() {
        return Err(failed(format!("{NO_TOKEN}; make it with {} partitions", wanted.partitions)));
    }
    // Its own client, for a moment: an admin client serves no log, so its lines would pile up.
    let admin: AdminClient<Asking> =
        options.client().create_with_context(Asking).map_err(|error| failed(error.to_string()))?;
    let settings = wanted.topic.settings(copies);
    let copies = TopicReplication::Fixed(i32::try_from(copies).unwrap_or(i32::MAX));
    let topic = NewTopic::new(&wanted.topic.name, wanted.partitions, copies);
    let topic = settings.iter().fold(topic, |topic, (name, value)| topic.set(name, value));
    let patience = AdminOptions::new().request_timeout(Some(ANSWER)).operation_timeout(Some(ANSWER));
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    let results = runtime
        .map_err(|error| failed(error.to_string()))?
        .block_on(admin.create_topics([&topic], &patience))
        .map_err(|error| failed(error.to_string()))?;
    match results.into_iter().next() {
        // Another process may have been faster.
        Some(Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists))) => Ok(()),
        Some(Err((_, code))) => Err(failed(code.to_string())),
        None => Err(failed("the broker did not answer".to_owned())),
    }
}

/// How many dead letters there are: 0 where their topic is not there.
pub(super) fn dead_letters<C: ConsumerContext>(
    client: &BaseConsumer<C>,
    options: &Options,
) -> Result<u64, String> {
    let topic = options.dead_letter_topic();
    count(client, &topic).map_err(|error| why(&error, options, &topic))
}

/// How many records lie in a topic: 0 where there is none.
fn count<C: ConsumerContext>(client: &BaseConsumer<C>, topic: &str) -> Result<u64, KafkaError> {
    let (found, _) = look(client, topic)?;
    let mut records = 0;
    for partition in 0..found.map_or(0, |found| found.partitions) {
        let (low, high) = client.fetch_watermarks(topic, partition, ANSWER)?;
        records += u64::try_from(high - low).unwrap_or_default();
    }
    Ok(records)
}

/// What an error means that came of asking about a topic.
fn why(error: &KafkaError, options: &Options, topic: &str) -> String {
    match error.rdkafka_error_code() {
        Some(
            RDKafkaErrorCode::BrokerTransportFailure
            | RDKafkaErrorCode::AllBrokersDown
            | RDKafkaErrorCode::OperationTimedOut
            | RDKafkaErrorCode::Resolve,
        ) => silence(&options.brokers.join(",")),
        Some(code) => format!("topic {topic}: {code}"),
        None => format!("topic {topic}: {error}"),
    }
}

/// That Kafka is not there.
pub(super) fn silence(brokers: &str) -> String {
    format!("no Kafka broker answers at {brokers} (KAFKA_BROKERS)")
}
