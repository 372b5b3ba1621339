//! Dead letters: a record that no worker can deal with, as it was, with headers that say why it is here and
//! where it came from. A letter that is too large for its topic is sent again with its value cut, for nothing
//! may stop the partition behind a record.
//!
//! While the topic cannot be written, the record stays in memory and is tried again with growing pauses; one record
//! tries for all. It is not read again: that would fetch everything behind it again, too. How much is kept is bounded
//! by `flow`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::{Mutex, Semaphore};
use tokio::time::sleep;

use super::client::pauses;
use super::producer::Producer;
use super::records::{Outgoing, header, size};
use crate::backoff::Backoff;
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

/// In how many bytes letters may be under way at a time: while their topic cannot be written they must leave room for
/// events and ACKs.
const UNDER_WAY: usize = 8 << 20;

/// The least that a letter counts for, so that there are not too many small ones under way.
const LEAST: usize = 64 << 10;

/// The topic of the dead letters, and the room for those that are under way.
pub(super) struct DeadLetters {
    topic: Arc<str>,
    room: Semaphore,
    /// Whether the last attempt failed.
    is_shut: AtomicBool,
    /// Held by the record that tries meanwhile.
    probe: Mutex<Backoff>,
}

impl DeadLetters {
    pub(super) fn new(topic: String) -> DeadLetters {
        DeadLetters {
            topic: topic.into(),
            room: Semaphore::new(UNDER_WAY),
            is_shut: AtomicBool::new(false),
            probe: Mutex::new(pauses()),
        }
    }

    /// Puts a record into the topic, as often as it takes, and waits until a broker has it.
    ///
    /// # Errors
    /// [`PublishError::Unavailable`] where the record belongs to another worker before that; that one reads it.
    pub(super) async fn take(
        &self,
        producer: &Producer,
        delivery: &Delivery,
        reason: &str,
    ) -> Result<(), PublishError> {
        delivery.receipt.keep(size(&delivery.record));
        let unwanted = delivery.receipt.unwanted();
        let written = async {
            let mut backoff = pauses();
            while let Err(error) = self.attempt(producer, delivery, reason).await {
                delivery.receipt.stuck();
                let (topic, source) = (&*self.topic, &delivery.source);
                limited!(
                    warn, "stuck dead letter";
                    topic,
                    ?source,
                    %error,
                    "a dead letter was not written; it is kept, and tried again until its topic takes it"
                );
                sleep(backoff.pause()).await;
            }
        };
        tokio::select! {
            biased;
            () = unwanted.cancelled() => {
                Err(PublishError::Unavailable("its partition is not this worker's any more".to_owned()))
            }
            () = written => Ok(()),
        }
    }

    /// Tries once: at once while the topic takes letters, else after a pause and only one record at a time.
    async fn attempt(
        &self,
        producer: &Producer,
        delivery: &Delivery,
        reason: &str,
    ) -> Result<(), PublishError> {
        loop {
            if self.is_shut() {
                delivery.receipt.stuck();
                let mut backoff = self.probe.lock().await;
                if self.is_shut() {
                    sleep(backoff.pause()).await;
                    let answer = publish(producer, &self.topic, delivery, reason).await;
                    if answer.is_ok() {
                        self.is_shut.store(false, Ordering::Relaxed);
                        backoff.reset();
                    }
                    return answer;
                }
            }
            let permits = size(&delivery.record).clamp(LEAST, UNDER_WAY);
            // It is never closed.
            let _room = self.room.acquire_many(u32::try_from(permits).unwrap_or(u32::MAX)).await;
            if !self.is_shut() {
                let answer = publish(producer, &self.topic, delivery, reason).await;
                self.is_shut.fetch_or(answer.is_err(), Ordering::Relaxed);
                return answer;
            }
        }
    }

    fn is_shut(&self) -> bool {
        self.is_shut.load(Ordering::Relaxed)
    }
}

/// Puts a record where dead letters are, and waits until a broker has it.
async fn publish(
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
            // The topic does not take this one; the record stays where it came from.
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
