//! Dead letters: a record that no worker can deal with, as it was, with headers that say why it is here and
//! where it came from. A letter that is too large for its topic is sent again with its value cut, for nothing
//! may stop the partition behind a record.

use std::sync::Arc;

use rdkafka::message::OwnedHeaders;

use super::producer::Producer;
use super::records::{Outgoing, with};
use crate::bus::{Delivery, PublishError, Record, Source};

/// Names of the headers of a dead letter.
mod header {
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
    match send(producer, whole(topic, record, source, reason)).await {
        Err(PublishError::Refused(why)) => {
            tracing::warn!(?source, why, "a dead letter is cut, for it is refused as it is");
        }
        answer => return answer,
    }
    match send(producer, cut(topic, record, source, reason)).await {
        Err(PublishError::Refused(why)) => {
            // Whatever the topic takes, it is not this; the record stays where it came from.
            tracing::error!(
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

async fn send(producer: &Producer, letter: Outgoing) -> Result<(), PublishError> {
    let answer = producer.publish(vec![letter]).await.pop();
    answer.unwrap_or_else(|| Err(PublishError::Unavailable("no answer".to_owned())))
}

fn whole(topic: &Arc<str>, record: &Record, source: &Source, reason: &str) -> Outgoing {
    let headers =
        record.header_pairs().fold(OwnedHeaders::new(), |headers, (name, value)| with(headers, name, value));
    Outgoing {
        topic: Arc::clone(topic),
        partition: None,
        key: record.key.clone(),
        headers: labelled(headers, source, reason),
        value: record.value.clone(),
    }
}

/// Without the record's own headers: they may be what is too large.
fn cut(topic: &Arc<str>, record: &Record, source: &Source, reason: &str) -> Outgoing {
    let beginning = |bytes: &Vec<u8>| bytes[..bytes.len().min(KEPT)].to_vec();
    let headers = with(OwnedHeaders::new(), header::CUT, &record.value.len().to_string());
    Outgoing {
        topic: Arc::clone(topic),
        partition: None,
        key: record.key.as_ref().map(beginning),
        headers: labelled(headers, source, reason),
        value: beginning(&record.value),
    }
}

fn labelled(headers: OwnedHeaders, source: &Source, reason: &str) -> OwnedHeaders {
    let headers = with(headers, header::REASON, reason);
    let headers = with(headers, header::TOPIC, &*source.topic);
    let headers = with(headers, header::PARTITION, &source.partition.to_string());
    let headers = with(headers, header::OFFSET, &source.offset.to_string());
    with(headers, header::TIMESTAMP, &source.timestamp.to_string())
}
