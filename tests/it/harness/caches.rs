//! Caches for tests of their users: one that keeps every entry until it is invalidated, so that a missing invalidation
//! shows, and one that counts the hits of another cache.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use orderstream::cache::{Cache, Lease, Lookup, Unavailable};
use orderstream::order::{Order, OrderId};

/// Keeps every entry until it is invalidated. All its leases are valid, so a test must not read while another task
/// writes.
#[derive(Default)]
pub(crate) struct PermanentCache(Mutex<HashMap<OrderId, Order>>);

impl PermanentCache {
    fn lock(&self) -> MutexGuard<'_, HashMap<OrderId, Order>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Cache for PermanentCache {
    async fn get(&self, order_id: OrderId) -> Lookup {
        match self.lock().get(&order_id) {
            Some(order) => Lookup::Hit(Box::new(order.clone())),
            None => Lookup::Miss(Some(Lease { order_id, token: [0; 32] })),
        }
    }

    async fn fill(&self, lease: Lease, order: &Order) {
        self.lock().insert(lease.order_id, order.clone());
    }

    async fn invalidate(&self, orders: &[OrderId]) {
        self.lock().retain(|id, _| !orders.contains(id));
    }

    async fn check(&self) -> Result<(), Unavailable> {
        Ok(())
    }
}

/// Another cache, and how many hits it had.
pub(crate) struct Counting {
    pub(crate) inner: Arc<dyn Cache>,
    pub(crate) hits: AtomicU64,
}

#[async_trait]
impl Cache for Counting {
    async fn get(&self, order_id: OrderId) -> Lookup {
        let lookup = self.inner.get(order_id).await;
        if matches!(lookup, Lookup::Hit(_)) {
            self.hits.fetch_add(1, Ordering::Relaxed);
        }
        lookup
    }

    async fn fill(&self, lease: Lease, order: &Order) {
        self.inner.fill(lease, order).await;
    }

    async fn invalidate(&self, orders: &[OrderId]) {
        self.inner.invalidate(orders).await;
    }

    async fn check(&self) -> Result<(), Unavailable> {
        self.inner.check().await
    }
}
