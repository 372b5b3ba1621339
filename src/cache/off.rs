//! The cache of a process without a Redis address: every read goes to the store, and there is nothing to invalidate. A
//! miss comes without a lease, so no reader tries to fill an entry, and `is_off` spares callers and readiness all work
//! for a cache. It must never make a caller wait.

use async_trait::async_trait;

use super::port::{Cache, Lease, Lookup, Unavailable};
use crate::order::{Order, OrderId};

/// No cache: every read goes to the store.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoCache;

#[async_trait]
impl Cache for NoCache {
    async fn get(&self, _: OrderId) -> Lookup {
        Lookup::Miss(None)
    }

    async fn fill(&self, _: Lease, _: &Order) {}

    async fn invalidate(&self, _: &[OrderId]) {}

    async fn check(&self) -> Result<(), Unavailable> {
        Ok(())
    }

    fn is_off(&self) -> bool {
        true
    }
}
