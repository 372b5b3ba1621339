//! Logs rows that cannot be read, each once and not every time that a list or the sweep reads it, because such a row
//! stays until an operator repairs it. One row is logged once for each effect that it has. Memory is bounded: the set
//! of logged rows is cleared when it is full, at 10,000, and the rows are then logged once more.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

use super::error::Damaged;
use crate::order::OrderId;

/// How many rows are remembered; beyond it the memory is cleared, and they are logged once more.
const MAX_REMEMBERED: usize = 10_000;

/// The rows that were logged.
#[derive(Debug, Default)]
pub(super) struct DamageLog {
    // std Mutex: held for a look-up, never across .await
    logged: Mutex<HashSet<(OrderId, &'static str)>>,
}

impl DamageLog {
    /// Logs that a row cannot be read, with the effect of that.
    pub(super) fn log(&self, damaged: &Damaged, effect: &'static str) {
        let mut logged = self.logged.lock().unwrap_or_else(PoisonError::into_inner);
        if logged.len() >= MAX_REMEMBERED {
            logged.clear();
        }
        if logged.insert((damaged.order_id, effect)) {
            tracing::error!(%damaged, "{effect}");
        }
    }
}
