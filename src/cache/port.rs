//! The port: what the service relies on of a cache, and what each cache promises.

use async_trait::async_trait;

use crate::order::{Order, OrderId};

/// Keeps copies of orders.
#[async_trait]
pub trait Cache: Send + Sync + 'static {
    /// Looks an order up. A hit is no older than any change whose [`Cache::forget`] had returned before, in
    /// whichever process, and than any order whose [`Cache::fill`] had.
    async fn get(&self, order_id: OrderId) -> Lookup;

    /// Offers what the store said after a miss, before the caller is told. Kept only where the order has not been
    /// forgotten since that miss; where another copy has come in between that is not the same, neither is kept.
    async fn fill(&self, lease: Lease, order: &Order);

    /// Drops the copies of orders that have been changed, and makes every ticket for them void. Returns when nobody
    /// can find them any more, or when the budget of time is spent; this process then does not read from the
    /// cache before they are dropped.
    async fn invalidate(&self, orders: &[OrderId]);

    /// Whether the cache answers now.
    ///
    /// # Errors
    /// [`Unavailable`] where it does not; reads then go to the store.
    async fn check(&self) -> Result<(), Unavailable>;

    /// Waits until a part that the cache cannot work without has ended by itself, a thread that panicked for instance,
    /// and answers its name.
    async fn failed(&self) -> &'static str {
        std::future::pending().await
    }

    /// Whether there is no cache, and nothing to call the other verbs for.
    fn is_off(&self) -> bool {
        false
    }
}

/// What a look-up found.
#[derive(Debug, Clone, PartialEq)]
pub enum Lookup {
    /// A copy of the order.
    Hit(Box<Order>),
    /// Nothing; with the right to offer what the store says, where there is a cache to offer it to.
    Miss(Option<Lease>),
}

/// The right to fill one entry, given out with a miss. It ends when the order is forgotten, and after some seconds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// The order that was missed.
    pub order_id: OrderId,
    /// What the cache knows the miss by; readers that miss an order at the same time may share it.
    pub token: [u8; 32],
}

/// The cache does not answer; the text says why, for the log and the readiness.
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
