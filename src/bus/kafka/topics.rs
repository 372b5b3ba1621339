//! The topics of the bus: created where they are missing, and used unchanged where they exist. A difference from the
//! options is reported once and never repaired, because other services may rely on it.
//!
//! These functions block; the broker monitor's thread calls them. They read metadata as a consumer, because a producer
//! that asks for a topic makes the broker create it, with the broker's default of partitions.

use std::time::Duration;

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::types::RDKafkaRespErr;

use super::client::{ANSWER_TIMEOUT, NO_TOKEN, Options, QueryContext};
use super::topic_settings::{Check, Purpose, Topic};

/// The most replicas of a topic where the options do not name a number.
const MAX_DEFAULT_REPLICAS: usize = 3;

/// How often a topic that was just created is looked up before it counts as missing.
const MAX_LOOK_UPS: u32 = 100;

/// A topic that must exist.
struct Wanted {
    topic: Topic,
    partitions: i32,
}

/// A topic that exists.
struct Found {
    partitions: i32,
    replicas: usize,
}

/// The findings about topics that were reported, so that each is reported once.
#[derive(Default)]
pub(super) struct Reported {
    differences: Vec<String>,
    /// The check of the settings of topics that existed already.
    pub(super) settings: Check,
}

/// Creates missing topics, unless the options forbid it, and returns how many partitions the topic of the ACKs has;
/// `None` where it is missing and is not created.
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
    let (found, brokers) = look_up(client, &wanted.topic.name).map_err(failed)?;
    let replicas = match usize::from(options.replication) {
        0 => brokers.clamp(1, MAX_DEFAULT_REPLICAS),
        replicas => replicas,
    };
    if let Some(found) = found {
        // More replicas than the default are not a mistake.
        let enough =
            if options.replication == 0 { found.replicas >= replicas } else { found.replicas == replicas };
        if found.partitions != wanted.partitions || !enough {
            let difference = format!(
                "topic {} has {} partitions and {} replicas, not {} and {replicas}; it is used unchanged",
                wanted.topic.name, found.partitions, found.replicas, wanted.partitions
            );
            if !reported.differences.contains(&difference) {
                tracing::warn!("{difference}");
                reported.differences.push(difference);
            }
        }
        reported.settings.found(&wanted.topic, found.replicas);
        return Ok(Some(found));
    }
    if !options.make_topics {
        return Ok(None);
    }
    create(options, wanted, replicas)?;
    tracing::info!(partitions = wanted.partitions, replicas, "created the topic {}", wanted.topic.name);
    // Every broker must know the topic before a client relies on it.
    for _ in 0..MAX_LOOK_UPS {
        if let (Some(found), _) = look_up(client, &wanted.topic.name).map_err(failed)? {
            return Ok(Some(found));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Err(format!("topic {} was created and is not available yet", wanted.topic.name))
}

/// The topic, once each of its partitions has a leader, and how many brokers there are.
fn look_up<C: ConsumerContext>(
    client: &BaseConsumer<C>,
    name: &str,
) -> Result<(Option<Found>, usize), KafkaError> {
    let metadata = client.fetch_metadata(Some(name), ANSWER_TIMEOUT)?;
    let brokers = metadata.brokers().len();
    let Some(topic) = metadata.topics().first() else { return Ok((None, brokers)) };
    match topic.error() {
        None => {}
        Some(RDKafkaRespErr::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART) => return Ok((None, brokers)),
        Some(error) => return Err(KafkaError::MetadataFetch(error.into())),
    }
    let partitions = topic.partitions();
    let replicas = partitions.iter().map(|partition| partition.replicas().len()).min();
    let (Some(replicas), Ok(count)) = (replicas, i32::try_from(partitions.len())) else {
        return Ok((None, brokers));
    };
    Ok((Some(Found { partitions: count, replicas }), brokers))
}

fn create(options: &Options, wanted: &Wanted, replicas: usize) -> Result<(), String> {
    let failed = |why: String| format!("topic {} cannot be created: {why}", wanted.topic.name);
    if options.security.has_token() {
        return Err(failed(format!("{NO_TOKEN}; create it with {} partitions", wanted.partitions)));
    }
    // A client for this call alone: an admin client does not serve its log, so lines would pile up in it.
    let admin: AdminClient<QueryContext> =
        options.client().create_with_context(QueryContext).map_err(|error| failed(error.to_string()))?;
    let settings = wanted.topic.settings(replicas);
    let replicas = TopicReplication::Fixed(i32::try_from(replicas).unwrap_or(i32::MAX));
    let topic = NewTopic::new(&wanted.topic.name, wanted.partitions, replicas);
    let topic = settings.iter().fold(topic, |topic, (name, value)| topic.set(name, value));
    let options =
        AdminOptions::new().request_timeout(Some(ANSWER_TIMEOUT)).operation_timeout(Some(ANSWER_TIMEOUT));
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    let results = runtime
        .map_err(|error| failed(error.to_string()))?
        .block_on(admin.create_topics([&topic], &options))
        .map_err(|error| failed(error.to_string()))?;
    match results.into_iter().next() {
        // Another process may have created it first.
        Some(Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists))) => Ok(()),
        Some(Err((_, code))) => Err(failed(code.to_string())),
        None => Err(failed("the broker did not answer".to_owned())),
    }
}

/// How many dead letters there are: 0 where their topic does not exist.
pub(super) fn dead_letters<C: ConsumerContext>(
    client: &BaseConsumer<C>,
    options: &Options,
) -> Result<u64, String> {
    let topic = options.dead_letter_topic();
    count(client, &topic).map_err(|error| why(&error, options, &topic))
}

/// How many records a topic holds: 0 where it does not exist.
fn count<C: ConsumerContext>(client: &BaseConsumer<C>, topic: &str) -> Result<u64, KafkaError> {
    let (found, _) = look_up(client, topic)?;
    let mut records = 0;
    for partition in 0..found.map_or(0, |found| found.partitions) {
        let (low, high) = client.fetch_watermarks(topic, partition, ANSWER_TIMEOUT)?;
        records += u64::try_from(high - low).unwrap_or_default();
    }
    Ok(records)
}

/// What the error of a question about a topic means.
fn why(error: &KafkaError, options: &Options, topic: &str) -> String {
    match error.rdkafka_error_code() {
        Some(
            RDKafkaErrorCode::BrokerTransportFailure
            | RDKafkaErrorCode::AllBrokersDown
            | RDKafkaErrorCode::OperationTimedOut
            | RDKafkaErrorCode::Resolve,
        ) => no_answer(&options.brokers.join(",")),
        Some(code) => format!("topic {topic}: {code}"),
        None => format!("topic {topic}: {error}"),
    }
}

/// The text for a Kafka that does not answer.
pub(super) fn no_answer(brokers: &str) -> String {
    format!("no Kafka broker answers at {brokers} (KAFKA_BROKERS)")
}
