//! Records on their way out, and what is read from those that came in. Whatever bytes a record holds, reading
//! it neither fails nor panics.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use jiff::Timestamp;
use rdkafka::Message;
use rdkafka::message::{BorrowedMessage, Header, Headers, OwnedHeaders};

use crate::bus::{Delivery, PublishError, Receipt, Record, Reply, Source};
use crate::order::header::REPLY_PARTITION;
use crate::order::{Event, OrderId};

/// What a record counts besides its key and value, so that tiny ones are bounded too.
const OVERHEAD: usize = 512;

/// Stands for the name of a header that is not UTF-8.
const UNREADABLE: &str = "(not UTF-8)";

/// A record to be published.
pub(super) struct Outgoing {
    pub(super) topic: Arc<str>,
    /// `None`: where its key belongs.
    pub(super) partition: Option<i32>,
    pub(super) key: Option<Vec<u8>>,
    pub(super) headers: OwnedHeaders,
    pub(super) value: Vec<u8>,
}

impl Outgoing {
    /// An event, and where its ACK is waited for.
    pub(super) fn event(
        topic: &Arc<str>,
        event: &Event,
        reply_to: Option<i32>,
    ) -> Result<Outgoing, PublishError> {
        let mut headers = headers(event.headers());
        if let Some(partition) = reply_to {
            headers = with(headers, REPLY_PARTITION, &partition.to_string());
        }
        let value = event.encode().map_err(unencodable)?;
        Ok(Outgoing {
            topic: Arc::clone(topic),
            partition: None,
            key: event.order_id.map(key),
            headers,
            value,
        })
    }

    /// An ACK for where it is waited for.
    pub(super) fn ack(topic: &Arc<str>, Reply { ack, to }: &Reply) -> Result<Outgoing, PublishError> {
        Ok(Outgoing {
            topic: Arc::clone(topic),
            partition: *to,
            key: Some(key(ack.order_id)),
            headers: headers(ack.headers()),
            value: ack.encode().map_err(unencodable)?,
        })
    }

    /// What it counts where records are bounded.
    pub(super) fn size(&self) -> usize {
        self.key.as_ref().map_or(0, Vec::len) + self.value.len() + OVERHEAD
    }
}

/// A header more.
pub(super) fn with(headers: OwnedHeaders, name: &str, value: &(impl AsRef<[u8]> + ?Sized)) -> OwnedHeaders {
    headers.insert(Header { key: name, value: Some(value.as_ref()) })
}

fn headers(pairs: Vec<(&'static str, String)>) -> OwnedHeaders {
    pairs.into_iter().fold(OwnedHeaders::new(), |headers, (name, value)| with(headers, name, &value))
}

fn key(order_id: OrderId) -> Vec<u8> {
    order_id.to_string().into_bytes()
}

fn unencodable(error: serde_json::Error) -> PublishError {
    PublishError::Refused(format!("it has no JSON: {error}"))
}

/// A record of the events' topic as a worker gets it.
pub(super) fn delivery(message: &BorrowedMessage<'_>, topic: &Arc<str>, receipt: Receipt) -> Delivery {
    let source = Source {
        topic: Arc::clone(topic),
        partition: message.partition(),
        offset: message.offset(),
        timestamp: timestamp(message),
    };
    let record = record(message);
    let event = Event::decode(&record.value, record.header_pairs(), source.timestamp);
    let reply_to = record
        .header_pairs()
        .find(|(name, _)| *name == REPLY_PARTITION)
        .and_then(|(_, digits)| std::str::from_utf8(digits).ok()?.parse().ok())
        .filter(|partition| *partition >= 0);
    Delivery { event, source, record, reply_to, receipt }
}

/// What a delivery counts where deliveries are bounded.
pub(super) fn size(delivery: &Delivery) -> usize {
    let record = &delivery.record;
    let headers: usize = record.headers.iter().map(|(name, value)| name.len() + value.len()).sum();
    record.key.as_ref().map_or(0, Vec::len) + headers + record.value.len() + OVERHEAD
}

/// The bytes of a record. A value that is null is empty here.
pub(super) fn record(message: &BorrowedMessage<'_>) -> Record {
    Record {
        key: message.key().map(<[u8]>::to_vec),
        headers: message.headers().map(read_headers).unwrap_or_default(),
        value: message.payload().unwrap_or_default().to_vec(),
    }
}

fn read_headers(headers: &impl Headers) -> Vec<(String, Vec<u8>)> {
    let read = |index| {
        // The client panics at a name that is not UTF-8, and anybody may write one.
        let header = catch_unwind(AssertUnwindSafe(|| headers.try_get(index)));
        header.map_or_else(
            |_| Some((UNREADABLE.to_owned(), Vec::new())),
            |header| header.map(|it| (it.key.to_owned(), it.value.unwrap_or_default().to_vec())),
        )
    };
    (0..headers.count()).filter_map(read).collect()
}

/// When a record was made. One that does not say so has always the same time, because ids are made of it.
fn timestamp(message: &BorrowedMessage<'_>) -> Timestamp {
    let millis = message.timestamp().to_millis().unwrap_or_default();
    Timestamp::from_millisecond(millis).unwrap_or(Timestamp::UNIX_EPOCH)
}
