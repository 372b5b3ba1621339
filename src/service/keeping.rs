//! Has the store keep orders that are to be tried again later. Many fail together, when what they need is away: those
//! that come while a write is under way take the next one together.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::oneshot::{self, error::TryRecvError};

use crate::store::{Postponed, Store};
use crate::telemetry::limited;

/// The most orders in one write.
const BATCH: usize = 1024;

/// Keeps orders in the store.
pub(super) struct Keeper {
    store: Arc<dyn Store>,
    // std Mutex: held to add or take, never across .await
    waiting: Mutex<Vec<(Postponed, oneshot::Sender<bool>)>>,
    /// Held by the one that writes.
    turn: tokio::sync::Mutex<()>,
}

impl Keeper {
    pub(super) fn new(store: Arc<dyn Store>) -> Keeper {
        Keeper { store, waiting: Mutex::default(), turn: tokio::sync::Mutex::default() }
    }

    /// Has the store keep an order; answers whether it does.
    pub(super) async fn keep(&self, order: Postponed) -> bool {
        if !self.store.has_outbox() {
            return false;
        }
        let (tell, mut is_kept) = oneshot::channel();
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).push((order, tell));
        let _turn = self.turn.lock().await;
        loop {
            match is_kept.try_recv() {
                Ok(is_kept) => return is_kept,
                Err(TryRecvError::Empty) => self.write().await,
                // The call that wrote it was given up.
                Err(TryRecvError::Closed) => return false,
            }
        }
    }

    /// Writes what waits, the oldest first.
    async fn write(&self) {
        let batch: Vec<_> = {
            let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            let count = waiting.len().min(BATCH);
            waiting.drain(..count).collect()
        };
        // Deliveries of the same version may be here together.
        let each: HashMap<_, _> = batch.iter().map(|(it, _)| ((it.order_id, it.version), *it)).collect();
        let orders: Vec<Postponed> = each.into_values().collect();
        let is_kept = match self.store.postpone(&orders).await {
            Ok(()) => true,
            Err(error) => {
                limited!(warn, "postponed orders"; %error, "orders that are to be tried again wait in memory");
                false
            }
        };
        for (_, tell) in batch {
            // Its call may have been given up meanwhile.
            let _ = tell.send(is_kept);
        }
    }
}
