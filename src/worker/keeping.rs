//! Has the store keep orders that are to be tried again later. Many fail together, when what they need is away: those
//! that come while a write is under way take the next one together.
//!
//! The writes go on in tasks of their own. A call that waits here may not be polled for a while, and would hold up the
//! others if the write were its own.

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

/// What waits to be written.
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
        let (tell, is_kept) = oneshot::channel();
        let is_first = {
            let mut queue = self.queue();
            queue.waiting.push((order, tell));
            !std::mem::replace(&mut queue.is_writing, true)
        };
        if is_first {
            tokio::spawn(Arc::clone(self).write_all());
        }
        is_kept.await.unwrap_or(false)
    }

    /// Writes until nothing waits, the oldest first.
    async fn write_all(self: Arc<Self>) {
        let _ended = Ended(Arc::clone(&self));
        while let Some(batch) = self.next() {
            // Deliveries of the same version may be here together.
            let each: HashMap<_, _> = batch.iter().map(|(it, _)| ((it.order_id, it.version), *it)).collect();
            let orders: Vec<Postponed> = each.into_values().collect();
            let is_kept = match self.store.postpone(&orders).await {
                Ok(()) => true,
                Err(error) => {
                    limited!(warn, "postponed orders"; %error, "orders that are to be tried again cannot be kept");
                    false
                }
            };
            for (_, tell) in batch {
                // Its call may have been given up meanwhile.
                let _ = tell.send(is_kept);
            }
        }
    }

    /// What is written next; `None` where nothing waits, and then the next order begins anew.
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

/// Has a task that panics leave nothing waiting for it.
struct Ended(Arc<Keeper>);

impl Drop for Ended {
    fn drop(&mut self) {
        if std::thread::panicking() {
            *self.0.queue() = Queue::default();
        }
    }
}
