//! The port of a cache: what the service relies on, and what each cache promises. A call must neither fail nor take
//! longer than the cache's time budget: a cache that does not answer is a miss, and only `check` reports it, for
//! readiness. A hit is never older than a change whose invalidation has returned, in any process. Leases ensure that
//! for slow readers: an order that was read before a change cannot be filled in after it.

use async_trait::async_trait;

use crate::order::{Order, OrderId};

/// Keeps copies of orders.
#[async_trait]
pub trait Cache: Send + Sync + 'static {
    /// Looks an order up. A hit is not older than any change that a returned call of [`Cache::invalidate`] was about,
    /// in any process, and not older than any order of a returned [`Cache::fill`].
    async fn get(&self, order_id: OrderId) -> Lookup;

    /// Offers the order that the store returned after a miss, before the caller is answered. Kept only where the order
    /// has not been invalidated since that miss; where a different copy was filled in between, neither is kept.
    async fn fill(&self, lease: Lease, order: &Order);

    /// Drops the copies of orders that have changed, and makes every lease for them void. Returns when they cannot be
    /// read any more, in any process, or when the time budget is used up; in that case this process does not read from
    /// the cache before they are dropped.
    async fn invalidate(&self, orders: &[OrderId]);

    /// Whether the cache answers now.
    ///
    /// # Errors
    /// [`Unavailable`] where it does not; reads then go to the store.
    async fn check(&self) -> Result<(), Unavailable>;

    /// Waits until a task that the cache needs has ended by itself, by a panic for instance, and answers its name.
    async fn failed(&self) -> &'static str {
        std::future::pending().await
    }

    /// Whether the cache is off: the other methods then do nothing.
    fn is_off(&self) -> bool {
        false
    }
}

/// What a look-up found.
#[derive(Debug, Clone, PartialEq)]
pub enum Lookup {
    /// A copy of the order.
    Hit(Box<Order>),
    /// Nothing. With the lease to fill the entry, where there is a cache.
    Miss(Option<Lease>),
}

/// The right to fill one entry, given out with a miss. It ends when the order is invalidated, and after some seconds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// The order that was missed.
    pub order_id: OrderId,
    /// Identifies the miss in the cache; readers that miss an order at the same time may share it.
    pub token: [u8; 32],
}

/// The cache does not answer. The text is the reason, for the log and for readiness.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the cache is not available: {0}")]
pub struct Unavailable(pub String);

/// Drops the copies of orders that have changed, before their callers are answered. Costs nothing where there is no
/// cache.
pub async fn invalidate(cache: &dyn Cache, orders: impl Iterator<Item = OrderId>) {
    if cache.is_off() {
        return;
    }
    let orders: Vec<OrderId> = orders.collect();
    if !orders.is_empty() {
        cache.invalidate(&orders).await;
    }
}
