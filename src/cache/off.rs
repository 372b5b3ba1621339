//! No cache: every read goes to the store, and there is nothing to invalidate.

use async_trait::async_trait;

use super::port::{Cache, Lookup, Ticket, Unavailable};
use crate::order::{Order, OrderId};

/// No cache: every read goes to the store.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoCache;

#[async_trait]
impl Cache for NoCache {
    async fn get(&self, _: OrderId) -> Lookup {
        Lookup::Miss(None)
    }

    async fn fill(&self, _: Ticket, _: &Order) {}

    async fn forget(&self, _: &[OrderId]) {}

    async fn check(&self) -> Result<(), Unavailable> {
        Ok(())
    }

    fn is_off(&self) -> bool {
        true
    }
}
