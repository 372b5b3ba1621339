//! What has arrived for a worker and waits for its hands: the one thing between the thread that polls and the
//! tasks that work. It is bounded in bytes and in count, not by refusing but by saying that it is full.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::records::size;
use crate::bus::Delivery;

/// How many deliveries may wait before no more are fetched.
const MOST: usize = 8192;

/// How many bytes of them.
const MOST_BYTES: usize = 16 << 20;

/// How many bytes a hand gets at a time, if it is more than one delivery.
const HANDFUL: usize = 8 << 20;

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
    /// Takes in a delivery, and wakes nobody: there may be more behind it.
    pub(super) fn push(&self, delivery: Delivery) {
        let mut state = self.lock();
        // After the end it is let go of here, which tells its tracker, so not under the lock.
        if state.ended {
            drop(state);
        } else {
            state.bytes += size(&delivery.record);
            state.waiting.push_back(delivery);
        }
    }

    /// Wakes whoever waits for what was taken in.
    pub(super) fn announce(&self) {
        self.arrived.notify_one();
    }

    /// Waits for a delivery, then takes up to `limit`; `None` when nothing comes any more. Dropping the future
    /// takes nothing.
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
            // A push in between has left its mark: the wait ends at once.
            self.arrived.notified().await;
        }
    }

    /// Whether no more should be fetched.
    pub(super) fn is_full(&self) -> bool {
        let state = self.lock();
        state.waiting.len() >= MOST || state.bytes >= MOST_BYTES
    }

    /// Whether fetching may go on after it was full.
    pub(super) fn has_room(&self) -> bool {
        let state = self.lock();
        state.waiting.len() < MOST / 2 && state.bytes < MOST_BYTES / 2
    }

    /// Lets go of what waits from a partition.
    pub(super) fn forget(&self, partition: i32) {
        let mut state = self.lock();
        let (gone, waiting): (VecDeque<_>, VecDeque<_>) =
            state.waiting.drain(..).partition(|delivery| delivery.source.partition == partition);
        state.bytes -= gone.iter().map(|delivery| size(&delivery.record)).sum::<usize>();
        state.waiting = waiting;
        drop(state);
        // Their trackers are told without the lock.
        drop(gone);
    }

    /// Lets go of everything: nothing comes any more.
    pub(super) fn end(&self) {
        let mut state = self.lock();
        let gone = std::mem::take(&mut state.waiting);
        (state.bytes, state.ended) = (0, true);
        drop(state);
        drop(gone);
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
            if count > 0 && bytes > HANDFUL {
                bytes -= size(&delivery.record);
                break;
            }
            count += 1;
        }
        self.bytes -= bytes;
        self.waiting.drain(..count).collect()
    }
}
