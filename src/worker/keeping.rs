//! Postpones orders in the store that are retried later. Many fail at the same time, when a service that they need is
//! unavailable. So the orders that arrive during a write share the next write.
//!
//! The writes run in tasks of their own: a call that waits here may not be polled for a while, and would delay the
//! others if it did the write itself.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use crate::store::{Outbox, Postponed};
use crate::telemetry::limited;

/// The most orders in one write.
const BATCH: usize = 1024;

/// Keeps orders in the store.
pub(super) struct Keeper {
    store: Arc<dyn Outbox>,
    // std Mutex: held to add or take, never across .await
    queue: Mutex<Queue>,
}

/// The orders that wait to be written.
#[derive(Default)]
struct Queue {
    waiting: Vec<(Postponed, oneshot::Sender<bool>)>,
    is_writing: bool,
}

impl Keeper {
    pub(super) fn new(store: Arc<dyn Outbox>) -> Arc<Keeper> {
        Arc::new(Keeper { store, queue: Mutex::default() })
    }

    /// Has the store keep an order; answers whether it does.
    pub(super) async fn keep(self: &Arc<Self>, order: Postponed) -> bool {
        if !self.store.has_outbox() {
            return false;
        }
        let (reply, is_kept) = oneshot::channel();
        let is_first = {
            let mut queue = self.queue();
            queue.waiting.push((order, reply));
            !std::mem::replace(&mut queue.is_writing, true)
        };
        if is_first {
            tokio::spawn(Arc::clone(self).write_all());
        }
        is_kept.await.unwrap_or(false)
    }

    /// Writes until the queue is empty, the oldest first.
    async fn write_all(self: Arc<Self>) {
        let _ended = Ended(Arc::clone(&self));
        while let Some(batch) = self.next() {
            // There may be several deliveries of the same version.
            let each: HashMap<_, _> = batch.iter().map(|(it, _)| ((it.order_id, it.version), *it)).collect();
            let orders: Vec<Postponed> = each.into_values().collect();
            let is_kept = match self.store.postpone(&orders).await {
                Ok(()) => true,
                Err(error) => {
                    limited!(
                        warn, "postponed orders";
                        %error,
                        "orders cannot be postponed in the store; they are retried from memory"
                    );
                    false
                }
            };
            for (_, reply) in batch {
                // The call may have been dropped meanwhile.
                let _ = reply.send(is_kept);
            }
        }
    }

    /// The next batch; `None` where the queue is empty: the next order then starts a new task.
    fn next(&self) -> Option<Vec<(Postponed, oneshot::Sender<bool>)>> {
        let mut queue = self.queue();
        let count = queue.waiting.len().min(BATCH);
        queue.is_writing = count > 0;
        (count > 0).then(|| queue.waiting.drain(..count).collect())
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Empties the queue where the writing task panics, so that its callers do not wait for ever.
struct Ended(Arc<Keeper>);

impl Drop for Ended {
    fn drop(&mut self) {
        if std::thread::panicking() {
            *self.0.queue() = Queue::default();
        }
    }
}
