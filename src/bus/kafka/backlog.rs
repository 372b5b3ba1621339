//! The backlog: how far the workers' group has come, as the broker has it. Asked from outside the
//! group: by the checker, and before events are published again.

use std::collections::BTreeMap;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::topic_partition_list::{TopicPartitionList, TopicPartitionListElem};

use super::client::{Asking, Options, log_in, not_made, refusal};
use crate::bus::{Behind, Ends, PublishError};

/// How long a broker may take for each answer.
const ANSWER: Duration = Duration::from_secs(10);

/// How many records of the events' topic the group has not committed. Blocks.
pub(super) fn count(options: &Options) -> Result<u64, PublishError> {
    let partitions = ask(options)?;
    Ok(partitions.iter().map(|it| u64::try_from(it.end - it.position).unwrap_or(0)).sum())
}

/// Where each partition of the events' topic ends. Blocks.
pub(super) fn ends(options: &Options) -> Result<Ends, PublishError> {
    Ok(Ends(ask(options)?.iter().map(|it| (it.partition, it.end)).collect()))
}

/// Where the group has not committed all that lay before those ends, as far as it is there. Blocks.
pub(super) fn behind(options: &Options, ends: &Ends) -> Result<Behind, PublishError> {
    let progress: BTreeMap<i32, Progress> =
        ask(options)?.into_iter().map(|progress| (progress.partition, progress)).collect();
    Ok(ends.behind(progress.len(), |partition, end| {
        // A topic that was made anew ends before, or has fewer partitions; what it lost is not waited for.
        progress.get(&partition).is_some_and(|it| it.position < end.min(it.end))
    }))
}

/// How far the group has come in a partition.
struct Progress {
    partition: i32,
    /// The offset that it reads next.
    position: i64,
    /// Behind the last record.
    end: i64,
}

fn ask(options: &Options) -> Result<Vec<Progress>, PublishError> {
    let mut config = options.client();
    config.set("group.id", &options.group);
    // It never subscribes, and so never joins.
    let consumer: BaseConsumer<Asking> = config
        .create_with_context(Asking)
        .map_err(|error| PublishError::Unavailable(not_made(&error).to_string()))?;
    log_in(&consumer, options);
    progress(&consumer, &options.events_topic).map_err(|error| refusal(&error))
}

fn progress(consumer: &BaseConsumer<Asking>, topic: &str) -> Result<Vec<Progress>, KafkaError> {
    let metadata = consumer.fetch_metadata(Some(topic), ANSWER)?;
    let mut list = TopicPartitionList::new();
    for partition in metadata.topics().iter().flat_map(|topic| topic.partitions()) {
        list.add_partition(topic, partition.id());
    }
    let committed = consumer.committed_offsets(list, ANSWER)?;
    let of_partition = |element: &TopicPartitionListElem<'_>| {
        let partition = element.partition();
        let (begin, end) = consumer.fetch_watermarks(topic, partition, ANSWER)?;
        // A group that has committed nothing yet, or whose place is not there any more, begins at the beginning.
        let is_there = |offset: &i64| (begin..=end).contains(offset);
        let position = element.offset().to_raw().filter(is_there).unwrap_or(begin);
        Ok(Progress { partition, position, end })
    };
    committed.elements().iter().map(of_partition).collect()
}
