//! The inbox: deliveries that have arrived and wait for a worker task. It connects the polling thread with the worker
//! tasks. It is bounded in bytes and in count: it never refuses a delivery, but reports that it is full, and the
//! consumer pauses its partitions.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::records::size;
use crate::bus::Delivery;

/// How many deliveries may wait before no more are fetched.
const MAX_DELIVERIES: usize = 8192;

/// How many bytes of deliveries may wait before no more are fetched.
const MAX_BYTES: usize = 16 << 20;

/// The most bytes that the worker gets in one call, unless one delivery is larger.
const MAX_BATCH_BYTES: usize = 8 << 20;

/// The deliveries that wait.
#[derive(Default)]
pub(super) struct Inbox {
    // std Mutex: held to move deliveries in or out, never across .await
    state: Mutex<State>,
    arrived: Notify,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Delivery>,
    bytes: usize,
    ended: bool,
}

impl Inbox {
    /// Adds a delivery without waking the worker, because more may follow.
    pub(super) fn push(&self, delivery: Delivery) {
        let mut state = self.lock();
        // After the end the delivery is dropped here. That locks its tracker, so it must not happen under this lock.
        if state.ended {
            drop(state);
        } else {
            state.bytes += size(&delivery.record);
            state.waiting.push_back(delivery);
        }
    }

    /// Wakes the worker task that waits for deliveries.
    pub(super) fn announce(&self) {
        self.arrived.notify_one();
    }

    /// Waits for a delivery, then takes up to `limit`; `None` after the end. A dropped future has taken nothing.
    pub(super) async fn next(&self, limit: usize) -> Option<Vec<Delivery>> {
        loop {
            {
                let mut state = self.lock();
                if !state.waiting.is_empty() {
                    return Some(state.take(limit));
                }
                if state.ended {
                    return None;
                }
            }
            // `Notify` keeps an announcement from before the wait, which then ends at once.
            self.arrived.notified().await;
        }
    }

    /// Whether no more should be fetched.
    pub(super) fn is_full(&self) -> bool {
        let state = self.lock();
        state.waiting.len() >= MAX_DELIVERIES || state.bytes >= MAX_BYTES
    }

    /// Whether fetching may resume after the inbox was full.
    pub(super) fn has_room(&self) -> bool {
        let state = self.lock();
        state.waiting.len() < MAX_DELIVERIES / 2 && state.bytes < MAX_BYTES / 2
    }

    /// Drops the waiting deliveries of a partition.
    pub(super) fn discard(&self, partition: i32) {
        let mut state = self.lock();
        let (dropped, waiting): (VecDeque<_>, VecDeque<_>) =
            state.waiting.drain(..).partition(|delivery| delivery.source.partition == partition);
        state.bytes -= dropped.iter().map(|delivery| size(&delivery.record)).sum::<usize>();
        state.waiting = waiting;
        drop(state);
        // Dropping a delivery locks its tracker, so it must not happen under this lock.
        drop(dropped);
    }

    /// Ends the inbox: drops all deliveries, and those that arrive later.
    pub(super) fn end(&self) {
        let mut state = self.lock();
        let dropped = std::mem::take(&mut state.waiting);
        (state.bytes, state.ended) = (0, true);
        drop(state);
        drop(dropped);
        self.arrived.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn take(&mut self, limit: usize) -> Vec<Delivery> {
        let (mut count, mut bytes) = (0, 0);
        for delivery in self.waiting.iter().take(limit) {
            bytes += size(&delivery.record);
            if count > 0 && bytes > MAX_BATCH_BYTES {
                bytes -= size(&delivery.record);
                break;
            }
            count += 1;
        }
        self.bytes -= bytes;
        self.waiting.drain(..count).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use jiff::Timestamp;

    use super::*;
    use crate::bus::{DeliveryReceipt, Record, Settle, Source};
    use crate::order::Event;

    /// Takes no note of what becomes of a delivery.
    #[derive(Debug)]
    struct Unasked;

    impl Settle for Unasked {
        fn ended(&self, _: usize, _: bool) {}
    }

    /// A delivery from a partition with a value of so many bytes.
    fn delivery(partition: i32, bytes: usize) -> Delivery {
        let timestamp = Timestamp::UNIX_EPOCH;
        let record = Record { value: vec![b'x'; bytes], ..Record::default() };
        Delivery {
            event: Event::decode(&record.value, record.header_pairs(), timestamp),
            source: Source { topic: "orders.events".into(), partition, offset: 0, timestamp },
            record,
            reply_to: None,
            receipt: DeliveryReceipt::new(Arc::new(Unasked), 0),
        }
    }

    async fn take(inbox: &Inbox, limit: usize) -> usize {
        inbox.next(limit).await.map_or(0, |taken| taken.len())
    }

    #[tokio::test]
    async fn it_is_full_at_its_count_and_has_room_again_below_half_of_it() {
        let inbox = Inbox::default();
        for _ in 0..8191 {
            inbox.push(delivery(0, 10));
        }
        assert!(!inbox.is_full());
        inbox.push(delivery(0, 10));
        assert!(inbox.is_full() && !inbox.has_room());
        assert_eq!(take(&inbox, 4096).await, 4096);
        assert!(!inbox.is_full() && !inbox.has_room(), "exactly half of it waits");
        assert_eq!(take(&inbox, 1).await, 1);
        assert!(inbox.has_room());
    }

    #[tokio::test]
    async fn it_is_full_at_its_bytes_and_has_room_again_below_half_of_them() {
        let inbox = Inbox::default();
        for _ in 0..16 {
            assert!(!inbox.is_full());
            inbox.push(delivery(0, 1 << 20));
        }
        assert!(inbox.is_full());
        assert_eq!(
            take(&inbox, 8).await,
            7,
            "a task gets 8 MiB at most, and each counts a little more than its MiB"
        );
        assert!(!inbox.is_full() && !inbox.has_room());
        assert_eq!(take(&inbox, 2).await, 2);
        assert!(inbox.has_room());
        // One that is larger than that is taken alone.
        inbox.push(delivery(0, 20 << 20));
        assert!(inbox.is_full());
        assert_eq!((take(&inbox, 100).await, take(&inbox, 100).await), (7, 1));
        assert!(!inbox.is_full() && inbox.has_room());
    }

    #[tokio::test]
    async fn what_is_discarded_makes_room() {
        let inbox = Inbox::default();
        for partition in [0, 1].repeat(8) {
            inbox.push(delivery(partition, 1 << 20));
        }
        assert!(inbox.is_full());
        inbox.discard(1);
        assert!(!inbox.is_full());
        inbox.discard(0);
        assert!(inbox.has_room());
        inbox.push(delivery(0, 1));
        inbox.end();
        assert_eq!(take(&inbox, 1).await, 0, "nothing comes any more");
        inbox.push(delivery(0, 20 << 20));
        assert!(!inbox.is_full(), "what comes after the end is let go of");
    }
}
