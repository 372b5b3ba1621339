//! Encodes records to publish, and decodes records that were read. Reading a record never fails and never panics, with
//! any bytes: a record that is not an event is a delivery that says so. That relies on unwinding, because the client
//! panics at a header whose name is not UTF-8. The key of a record is the order's id, so the events of an order are in
//! one partition; an ACK goes to the partition that its event names.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use jiff::Timestamp;
use rdkafka::Message;
use rdkafka::message::{BorrowedMessage, Header, Headers, OwnedHeaders};

use crate::bus::{Delivery, DeliveryReceipt, PublishError, Record, Reply, Source};
use crate::order::header::REPLY_PARTITION;
use crate::order::{Event, OrderId};

/// How many bytes a record counts besides its own, so that the number of tiny records is bounded too.
const OVERHEAD: usize = 512;

/// Replaces the name of a header that is not UTF-8.
const UNREADABLE: &str = "(not UTF-8)";

/// A record to be published.
pub(super) struct Outgoing {
    pub(super) topic: Arc<str>,
    /// `None`: the partition of its key.
    pub(super) partition: Option<i32>,
    pub(super) record: Record,
}

impl Outgoing {
    /// An event, and the partition where its sender listens for the ACK.
    pub(super) fn event(
        topic: &Arc<str>,
        event: &Event,
        reply_to: Option<i32>,
    ) -> Result<Outgoing, PublishError> {
        let mut headers = headers(event.headers());
        headers.extend(reply_to.map(|partition| header(REPLY_PARTITION, partition.to_string())));
        let value = event.encode().map_err(unencodable)?;
        let record = Record { key: event.order_id.map(key), headers, value };
        Ok(Outgoing { topic: Arc::clone(topic), partition: None, record })
    }

    /// An ACK, to the partition where the event's sender listens.
    pub(super) fn ack(topic: &Arc<str>, Reply { ack, to }: &Reply) -> Result<Outgoing, PublishError> {
        let value = ack.encode().map_err(unencodable)?;
        let record = Record { key: Some(key(ack.order_id)), headers: headers(ack.headers()), value };
        Ok(Outgoing { topic: Arc::clone(topic), partition: *to, record })
    }

    /// The headers in the form of the client.
    pub(super) fn headers(&self) -> OwnedHeaders {
        self.record.header_pairs().fold(OwnedHeaders::new(), |headers, (key, value)| {
            headers.insert(Header { key, value: Some(value) })
        })
    }
}

/// A header, owned.
pub(super) fn header(name: &str, value: impl Into<Vec<u8>>) -> (String, Vec<u8>) {
    (name.to_owned(), value.into())
}

fn headers(pairs: Vec<(&'static str, String)>) -> Vec<(String, Vec<u8>)> {
    pairs.into_iter().map(|(name, value)| header(name, value)).collect()
}

fn key(order_id: OrderId) -> Vec<u8> {
    order_id.to_string().into_bytes()
}

fn unencodable(error: serde_json::Error) -> PublishError {
    PublishError::Refused(format!("it cannot be encoded as JSON: {error}"))
}

/// A record of the events' topic as a worker gets it.
pub(super) fn delivery(
    message: &BorrowedMessage<'_>,
    topic: &Arc<str>,
    receipt: DeliveryReceipt,
) -> Delivery {
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

/// How many bytes a record counts where records are bounded.
pub(super) fn size(record: &Record) -> usize {
    let headers: usize = record.header_pairs().map(|(name, value)| name.len() + value.len()).sum();
    record.key.as_ref().map_or(0, Vec::len) + headers + record.value.len() + OVERHEAD
}

/// The bytes of a record. A null value is empty here.
pub(super) fn record(message: &BorrowedMessage<'_>) -> Record {
    Record {
        key: message.key().map(<[u8]>::to_vec),
        headers: message.headers().map(read_headers).unwrap_or_default(),
        value: message.payload().unwrap_or_default().to_vec(),
    }
}

fn read_headers(headers: &impl Headers) -> Vec<(String, Vec<u8>)> {
    let read = |index| {
        // The client panics at a name that is not UTF-8, which any producer may write.
        let header = catch_unwind(AssertUnwindSafe(|| headers.try_get(index)));
        header.map_or_else(
            |_| Some((UNREADABLE.to_owned(), Vec::new())),
            |header| header.map(|it| (it.key.to_owned(), it.value.unwrap_or_default().to_vec())),
        )
    };
    (0..headers.count()).filter_map(read).collect()
}

/// When a record was created. A record without a time has always the same one, because ids are made of it.
fn timestamp(message: &BorrowedMessage<'_>) -> Timestamp {
    let millis = message.timestamp().to_millis().unwrap_or_default();
    Timestamp::from_millisecond(millis).unwrap_or(Timestamp::UNIX_EPOCH)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Three headers; the second makes the client panic, as a name that is not UTF-8 does.
    struct PanickingHeaders;

    impl Headers for PanickingHeaders {
        fn count(&self) -> usize {
            3
        }

        fn try_get(&self, index: usize) -> Option<Header<'_, &[u8]>> {
            assert_ne!(index, 1, "not UTF-8");
            Some(Header { key: "name", value: (index == 0).then_some(b"value") })
        }
    }

    #[test]
    fn a_header_that_cannot_be_read_does_not_hide_others() {
        let expected = [header("name", "value"), header(UNREADABLE, ""), header("name", "")];
        assert_eq!(read_headers(&PanickingHeaders), expected);
    }
}
