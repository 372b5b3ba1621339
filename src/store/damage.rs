//! Rows that cannot be read, in the log: each is told once, not every time that a list or the sweep comes by, since
//! such a row stays until an operator mends it.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

use super::error::Damaged;
use crate::order::OrderId;

/// How many rows are remembered; then all of them are told once more.
const REMEMBERED: usize = 10_000;

/// What was told.
#[derive(Debug, Default)]
pub(super) struct DamageLog {
    // std Mutex: held for a look-up, never across .await
    told: Mutex<HashSet<(OrderId, &'static str)>>,
}

impl DamageLog {
    /// Tells that a row cannot be read, and what does not happen because of it.
    pub(super) fn tell(&self, damaged: &Damaged, effect: &'static str) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.len() >= REMEMBERED {
            told.clear();
        }
        if told.insert((damaged.order_id, effect)) {
            tracing::error!(%damaged, "{effect}");
        }
    }
}
