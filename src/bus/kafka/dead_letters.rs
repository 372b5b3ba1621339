//! Dead letters: a record that no worker can deal with, as it was, with headers that say why it is here and
//! where it came from. A letter that is too large for its topic is sent again with its value cut, for nothing
//! may stop the partition behind a record.

use std::sync::Arc;

use super::producer::Producer;
use super::records::{Outgoing, header};
use crate::bus::{Delivery, PublishError, Record, Source};
use crate::telemetry::limited;

/// Names of the headers of a dead letter.
mod name {
    /// Why it is one.
    pub(super) const REASON: &str = "dlq-reason";
    /// Where its record came from.
    pub(super) const TOPIC: &str = "dlq-topic";
    pub(super) const PARTITION: &str = "dlq-partition";
    pub(super) const OFFSET: &str = "dlq-offset";
    /// When its record was made, as RFC 3339.
    pub(super) const TIMESTAMP: &str = "dlq-timestamp";
    /// How long its record's value was, where the letter has only the beginning of it.
    pub(super) const CUT: &str = "dlq-value-length";
}

/// How much of a key and of a value a letter keeps that was too large.
const KEPT: usize = 8 * 1024;

/// Puts a record where dead letters are, and waits until a broker has it.
///
/// # Errors
/// [`PublishError::Unavailable`]; then it is not there.
pub(super) async fn publish(
    producer: &Producer,
    topic: &Arc<str>,
    delivery: &Delivery,
    reason: &str,
) -> Result<(), PublishError> {
    let Delivery { record, source, .. } = delivery;
    match producer.publish(&whole(topic, record, source, reason)).await {
        Err(PublishError::Refused(why)) => {
            limited!(warn, "cut dead letter"; ?source, why, "a dead letter is cut, for it is refused as it is");
        }
        answer => return answer,
    }
    match producer.publish(&cut(topic, record, source, reason)).await {
        Err(PublishError::Refused(why)) => {
            // Whatever the topic takes, it is not this; the record stays where it came from.
            limited!(
                error, "no dead letter";
                ?source,
                reason,
                why,
                "a record has no dead letter, for even its beginning is refused"
            );
            Ok(())
        }
        answer => answer,
    }
}

fn whole(topic: &Arc<str>, record: &Record, source: &Source, reason: &str) -> Outgoing {
    let mut record = record.clone();
    record.headers.extend(labels(source, reason));
    Outgoing { topic: Arc::clone(topic), partition: None, record }
}

/// Without the record's own headers: they may be what is too large.
fn cut(topic: &Arc<str>, record: &Record, source: &Source, reason: &str) -> Outgoing {
    let beginning = |bytes: &Vec<u8>| bytes[..bytes.len().min(KEPT)].to_vec();
    let mut headers = vec![header(name::CUT, record.value.len().to_string())];
    headers.extend(labels(source, reason));
    let record = Record { key: record.key.as_ref().map(beginning), headers, value: beginning(&record.value) };
    Outgoing { topic: Arc::clone(topic), partition: None, record }
}

fn labels(source: &Source, reason: &str) -> [(String, Vec<u8>); 5] {
    [
        header(name::REASON, reason),
        header(name::TOPIC, &*source.topic),
        header(name::PARTITION, source.partition.to_string()),
        header(name::OFFSET, source.offset.to_string()),
        header(name::TIMESTAMP, source.timestamp.to_string()),
    ]
}
