//! The backlog: the committed offsets of the workers' group, as the brokers have them. The checker and the relay read
//! them from outside the group: before they count the backlog, or republish events. These functions block. They never
//! join the group, so that they cannot cause a rebalance.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::topic_partition_list::{TopicPartitionList, TopicPartitionListElem};

use super::client::{Options, QueryContext, log_in, not_made, refusal};
use crate::bus::{Behind, Ends, PublishError};

/// How long a broker may take for each answer. Longer than other calls, because no caller of the api waits.
const BACKLOG_TIMEOUT: Duration = Duration::from_secs(10);

/// How many records of the events' topic the group has not committed. Blocks.
pub(super) fn count(options: &Options) -> Result<u64, PublishError> {
    let left = |(_, progress): (i32, Result<Progress, KafkaError>)| {
        let progress = progress.map_err(|error| refusal(&error))?;
        Ok(u64::try_from(progress.end - progress.next).unwrap_or(0))
    };
    ask(options)?.into_iter().map(left).sum()
}

/// Where each partition of the events' topic ends. Blocks.
pub(super) fn ends(options: &Options) -> Result<Ends, PublishError> {
    let end = |(partition, progress): (i32, Result<Progress, KafkaError>)| {
        (partition, progress.ok().map(|progress| progress.end))
    };
    Ok(Ends(ask(options)?.into_iter().map(end).collect()))
}

/// The partitions in which the group has not committed all existing records before those ends. Blocks.
pub(super) fn behind(options: &Options, ends: &Ends) -> Result<Behind, PublishError> {
    let progress: BTreeMap<i32, Result<Progress, KafkaError>> = ask(options)?.into_iter().collect();
    Ok(ends.behind(progress.len(), |partition, end| match progress.get(&partition) {
        // A topic that was made again ends earlier, or has fewer partitions; the group does not wait for lost records.
        Some(Ok(it)) => it.next < end.min(it.end),
        Some(Err(_)) => true,
        None => false,
    }))
}

/// The partitions by their numbers, each with the group's progress in it; an error where it has no leader.
type Partitions = Vec<(i32, Result<Progress, KafkaError>)>;

/// The group's progress in a partition.
struct Progress {
    /// The offset that the group reads next.
    next: i64,
    /// The offset behind the last record.
    end: i64,
}

fn ask(options: &Options) -> Result<Partitions, PublishError> {
    let mut config = options.client();
    config.set("group.id", &options.group);
    // This consumer never subscribes, so it never joins the group.
    let consumer: BaseConsumer<QueryContext> = config
        .create_with_context(QueryContext)
        .map_err(|error| PublishError::Unavailable(not_made(&error).to_string()))?;
    log_in(&consumer, options);
    progress(&consumer, &options.events_topic).map_err(|error| refusal(&error))
}

fn progress(consumer: &BaseConsumer<QueryContext>, topic: &str) -> Result<Partitions, KafkaError> {
    let metadata = consumer.fetch_metadata(Some(topic), BACKLOG_TIMEOUT)?;
    let (mut list, mut leaderless) = (TopicPartitionList::new(), BTreeSet::new());
    for found in metadata.topics() {
        if let Some(error) = found.error() {
            return Err(KafkaError::MetadataFetch(error.into()));
        }
        for partition in found.partitions() {
            list.add_partition(topic, partition.id());
            if partition.leader() < 0 {
                leaderless.insert(partition.id());
            }
        }
    }
    let committed = consumer.committed_offsets(list, BACKLOG_TIMEOUT)?;
    let of_partition = |element: &TopicPartitionListElem<'_>| {
        // The client would wait until the partition has a leader.
        if leaderless.contains(&element.partition()) {
            return Err(KafkaError::MetadataFetch(RDKafkaErrorCode::LeaderNotAvailable));
        }
        let (begin, end) = consumer.fetch_watermarks(topic, element.partition(), BACKLOG_TIMEOUT)?;
        // A group begins at the beginning where it has committed nothing, or its offset does not exist any more.
        let is_there = |offset: &i64| (begin..=end).contains(offset);
        let next = element.offset().to_raw().filter(is_there).unwrap_or(begin);
        Ok(Progress { next, end })
    };
    Ok(committed.elements().iter().map(|element| (element.partition(), of_partition(element))).collect())
}
