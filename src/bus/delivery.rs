//! Deliveries: a record that a worker processes, its source, and the receipt that tells the bus whether the record was
//! settled or dropped. A delivery that is dropped unsettled is redelivered; the bus must never lose it. A receipt
//! reports its end exactly once, when it is dropped, so a worker task that panics or is cancelled loses nothing. That
//! report may come from any thread and cannot be awaited: it must only record the end.

use std::sync::Arc;

use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use crate::order::{Ack, Event, Undecodable};

/// A record that a worker processes. A delivery that is dropped unsettled counts as not processed.
#[derive(Debug)]
pub struct Delivery {
    /// The event, or why the record is not an event.
    pub event: Result<Event, Undecodable>,
    /// Where it came from.
    pub source: Source,
    /// The record as it arrived; empty for an event that was only in memory and never encoded.
    pub record: Record,
    /// The partition of the ACK topic where the sender listens, if the record names one.
    pub reply_to: Option<i32>,
    pub(in crate::bus) receipt: DeliveryReceipt,
}

/// An ACK, and where its caller waits for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// The ACK.
    pub ack: Ack,
    /// The partition of the ACK topic where the sender of the event listens; `None`: the partition of its key.
    pub to: Option<i32>,
}

/// Where a record was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// The topic.
    pub topic: Arc<str>,
    /// The partition within the topic.
    pub partition: i32,
    /// The offset within the partition.
    pub offset: i64,
    /// When the record was created.
    pub timestamp: Timestamp,
}

/// A record's bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Record {
    /// The key, if it has one.
    pub key: Option<Vec<u8>>,
    /// The headers, names and values.
    pub headers: Vec<(String, Vec<u8>)>,
    /// The value.
    pub value: Vec<u8>,
}

impl Record {
    /// The headers as borrowed pairs, as the decoders of messages take them.
    pub fn header_pairs(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.headers.iter().map(|(name, value)| (name.as_str(), value.as_slice()))
    }
}

/// Tells the bus whether a delivery was settled or dropped.
#[derive(Debug)]
pub(in crate::bus) struct DeliveryReceipt {
    batch: Arc<dyn Settle>,
    index: usize,
    settled: bool,
}

/// The bus's side of its receipts.
pub(in crate::bus) trait Settle: Send + Sync + std::fmt::Debug {
    /// The delivery of that index was settled, or dropped.
    fn ended(&self, index: usize, settled: bool);

    /// Several deliveries have ended, and the last of them now.
    fn announce(&self) {}

    /// The delivery of that index stays in memory, in so many bytes, until it is a dead letter.
    fn kept(&self, _index: usize, _bytes: usize) {}

    /// The dead-letter topic refuses the delivery of that index, possibly for a long time.
    fn stuck(&self, _index: usize) {}

    /// Cancelled when the deliveries belong to another worker.
    fn unwanted(&self) -> CancellationToken {
        CancellationToken::new()
    }
}

impl DeliveryReceipt {
    pub(in crate::bus) fn new(batch: Arc<dyn Settle>, index: usize) -> DeliveryReceipt {
        DeliveryReceipt { batch, index, settled: false }
    }

    /// The deliveries of the same publish.
    pub(in crate::bus) fn batch(&self) -> &Arc<dyn Settle> {
        &self.batch
    }

    /// Settles the delivery.
    pub(in crate::bus) fn settle(mut self) {
        self.settled = true;
    }

    /// Counts the bytes of a delivery that waits for the dead-letter topic.
    pub(in crate::bus) fn keep(&self, bytes: usize) {
        self.batch.kept(self.index, bytes);
    }

    /// Takes note that the dead-letter topic refuses the delivery.
    pub(in crate::bus) fn stuck(&self) {
        self.batch.stuck(self.index);
    }

    /// Cancelled when the delivery belongs to another worker.
    pub(in crate::bus) fn unwanted(&self) -> CancellationToken {
        self.batch.unwanted()
    }
}

impl Drop for DeliveryReceipt {
    fn drop(&mut self) {
        self.batch.ended(self.index, self.settled);
    }
}
