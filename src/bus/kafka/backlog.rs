//! The backlog: how far the workers' group has come, as the broker has it. Asked by the checker, from outside the
//! group.

use std::time::Duration;

use rdkafka::TopicPartitionList;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;

use super::client::{Options, not_made, refusal};
use crate::bus::PublishError;

/// How long a broker may take for each answer.
const ANSWER: Duration = Duration::from_secs(10);

/// How many records of the events' topic the group has not committed. Blocks.
pub(super) fn count(options: &Options) -> Result<u64, PublishError> {
    let mut config = options.client();
    config.set("group.id", &options.group);
    // It never subscribes, and so never joins.
    let consumer: BaseConsumer =
        config.create().map_err(|error| PublishError::Unavailable(not_made(&error).to_string()))?;
    lag(&consumer, &options.events_topic).map_err(|error| refusal(&error))
}

fn lag(consumer: &BaseConsumer, topic: &str) -> Result<u64, KafkaError> {
    let metadata = consumer.fetch_metadata(Some(topic), ANSWER)?;
    let mut list = TopicPartitionList::new();
    for partition in metadata.topics().iter().flat_map(|topic| topic.partitions()) {
        list.add_partition(topic, partition.id());
    }
    let mut lag = 0;
    for element in consumer.committed_offsets(list, ANSWER)?.elements() {
        let (begin, end) = consumer.fetch_watermarks(topic, element.partition(), ANSWER)?;
        // A group that has committed nothing yet begins at the beginning.
        let position = element.offset().to_raw().filter(|offset| *offset >= 0).unwrap_or(begin).max(begin);
        lag += u64::try_from(end - position).unwrap_or(0);
    }
    Ok(lag)
}
