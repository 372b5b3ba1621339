//! The backlog: how far the workers' group has come, as the broker has it. Asked from outside the
//! group: by the checker, and before events are published again.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::topic_partition_list::{TopicPartitionList, TopicPartitionListElem};

use super::client::{Asking, Options, log_in, not_made, refusal};
use crate::bus::{Behind, Ends, PublishError};

/// How long a broker may take for each answer.
const ANSWER: Duration = Duration::from_secs(10);

/// How many records of the events' topic the group has not committed. Blocks.
pub(super) fn count(options: &Options) -> Result<u64, PublishError> {
    let left = |(_, progress): (i32, Result<Progress, KafkaError>)| {
        let progress = progress.map_err(|error| refusal(&error))?;
        Ok(u64::try_from(progress.end - progress.position).unwrap_or(0))
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

/// Where the group has not committed all that lay before those ends, as far as it is there. Blocks.
pub(super) fn behind(options: &Options, ends: &Ends) -> Result<Behind, PublishError> {
    let progress: BTreeMap<i32, Result<Progress, KafkaError>> = ask(options)?.into_iter().collect();
    Ok(ends.behind(progress.len(), |partition, end| match progress.get(&partition) {
        // A topic that was made anew ends before, or has fewer partitions; what it lost is not waited for.
        Some(Ok(it)) => it.position < end.min(it.end),
        Some(Err(_)) => true,
        None => false,
    }))
}

/// The partitions by their numbers, each with the group's progress in it; an error where it has no leader.
type Partitions = Vec<(i32, Result<Progress, KafkaError>)>;

/// How far the group has come in a partition.
struct Progress {
    /// The offset that it reads next.
    position: i64,
    /// Behind the last record.
    end: i64,
}

fn ask(options: &Options) -> Result<Partitions, PublishError> {
    let mut config = options.client();
    config.set("group.id", &options.group);
    // It never subscribes, and so never joins.
    let consumer: BaseConsumer<Asking> = config
        .create_with_context(Asking)
        .map_err(|error| PublishError::Unavailable(not_made(&error).to_string()))?;
    log_in(&consumer, options);
    progress(&consumer, &options.events_topic).map_err(|error| refusal(&error))
}

fn progress(consumer: &BaseConsumer<Asking>, topic: &str) -> Result<Partitions, KafkaError> {
    let metadata = consumer.fetch_metadata(Some(topic), ANSWER)?;
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
    let committed = consumer.committed_offsets(list, ANSWER)?;
    let of_partition = |element: &TopicPartitionListElem<'_>| {
        // The client would wait for one.
        if leaderless.contains(&element.partition()) {
            return Err(KafkaError::MetadataFetch(RDKafkaErrorCode::LeaderNotAvailable));
        }
        let (begin, end) = consumer.fetch_watermarks(topic, element.partition(), ANSWER)?;
        // A group that has committed nothing yet, or whose place is not there any more, begins at the beginning.
        let is_there = |offset: &i64| (begin..=end).contains(offset);
        let position = element.offset().to_raw().filter(is_there).unwrap_or(begin);
        Ok(Progress { position, end })
    };
    Ok(committed.elements().iter().map(|element| (element.partition(), of_partition(element))).collect())
}
