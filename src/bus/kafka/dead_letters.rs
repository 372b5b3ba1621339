//! Dead letters: records that no worker can process, unchanged, with headers for the reason and the source. A letter
//! that is too large for its topic is written with its value cut, because a single record must never stop the partition
//! behind it.
//!
//! While the topic cannot be written, the record stays in memory and is written again with growing pauses; one record
//! probes the topic for all. Reading it again from its partition instead would fetch all records behind it, too. `flow`
//! bounds how much is kept.

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
    /// Why the record is a dead letter.
    pub(super) const REASON: &str = "dlq-reason";
    /// Where the record was read.
    pub(super) const TOPIC: &str = "dlq-topic";
    pub(super) const PARTITION: &str = "dlq-partition";
    pub(super) const OFFSET: &str = "dlq-offset";
    /// When the record was created, as RFC 3339.
    pub(super) const TIMESTAMP: &str = "dlq-timestamp";
    /// The length of the record's value, where the letter has only its beginning.
    pub(super) const CUT: &str = "dlq-value-length";
}

/// How many bytes of the key and of the value a cut letter keeps.
const CUT_BYTES: usize = 8 * 1024;

/// The most bytes of letters in flight: while their topic cannot be written they must leave room for events and ACKs.
const MAX_IN_FLIGHT_BYTES: usize = 8 << 20;

/// How many bytes a letter counts at least, which bounds the number of small letters in flight.
const MIN_COUNTED_BYTES: usize = 64 << 10;

/// The topic of the dead letters, and the limit of those in flight.
pub(super) struct DeadLetters {
    topic: Arc<str>,
    room: Semaphore,
    /// Whether the last attempt failed.
    is_failing: AtomicBool,
    /// Held by the record that probes the topic while it fails.
    probe: Mutex<Backoff>,
}

impl DeadLetters {
    pub(super) fn new(topic: String) -> DeadLetters {
        DeadLetters {
            topic: topic.into(),
            room: Semaphore::new(MAX_IN_FLIGHT_BYTES),
            is_failing: AtomicBool::new(false),
            probe: Mutex::new(pauses()),
        }
    }

    /// Writes a record to the topic, with retries, and returns when a broker has stored it.
    ///
    /// # Errors
    /// [`PublishError::Unavailable`] where the record's partition is assigned to another worker first, which reads it.
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
                    "a dead letter was not written; it is kept in memory and written again until its topic accepts it"
                );
                sleep(backoff.pause()).await;
            }
        };
        tokio::select! {
            biased;
            () = unwanted.cancelled() => {
                Err(PublishError::Unavailable("its partition is not assigned to this worker any more".to_owned()))
            }
            () = written => Ok(()),
        }
    }

    /// Tries once: without a pause while the topic accepts letters, else after a pause and only one record at a time.
    async fn attempt(
        &self,
        producer: &Producer,
        delivery: &Delivery,
        reason: &str,
    ) -> Result<(), PublishError> {
        loop {
            if self.is_failing() {
                delivery.receipt.stuck();
                let mut backoff = self.probe.lock().await;
                if self.is_failing() {
                    sleep(backoff.pause()).await;
                    let answer = publish(producer, &self.topic, delivery, reason).await;
                    if answer.is_ok() {
                        self.is_failing.store(false, Ordering::Relaxed);
                        backoff.reset();
                    }
                    return answer;
                }
            }
            let permits = size(&delivery.record).clamp(MIN_COUNTED_BYTES, MAX_IN_FLIGHT_BYTES);
            // The semaphore is never closed, so this cannot fail.
            let _room = self.room.acquire_many(u32::try_from(permits).unwrap_or(u32::MAX)).await;
            if !self.is_failing() {
                let answer = publish(producer, &self.topic, delivery, reason).await;
                self.is_failing.fetch_or(answer.is_err(), Ordering::Relaxed);
                return answer;
            }
        }
    }

    fn is_failing(&self) -> bool {
        self.is_failing.load(Ordering::Relaxed)
    }
}

/// Writes a record to the topic once, whole or else cut, and waits until a broker has stored it.
async fn publish(
    producer: &Producer,
    topic: &Arc<str>,
    delivery: &Delivery,
    reason: &str,
) -> Result<(), PublishError> {
    let Delivery { record, source, .. } = delivery;
    match producer.publish(&whole(topic, record, source, reason)).await {
        Err(PublishError::Refused(why)) => {
            limited!(
                warn, "cut dead letter";
                ?source,
                why,
                "a dead letter is cut, because its topic refuses it whole"
            );
        }
        answer => return answer,
    }
    match producer.publish(&cut(topic, record, source, reason)).await {
        Err(PublishError::Refused(why)) => {
            // The record is still settled, or its partition would stop. It stays in its source topic.
            limited!(
                error, "no dead letter";
                ?source,
                reason,
                why,
                "a record has no dead letter, because the topic refuses even its beginning"
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

/// A letter without the record's own headers, which may be the part that is too large.
fn cut(topic: &Arc<str>, record: &Record, source: &Source, reason: &str) -> Outgoing {
    let beginning = |bytes: &Vec<u8>| bytes[..bytes.len().min(CUT_BYTES)].to_vec();
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
