//! Reads of single orders and of lists: from the cache where it has a copy, else from the store, within a limit of
//! time. A read never waits longer for the store than a write does, nor longer than ten seconds. Only single orders by
//! their id are cached; a read from the store fills the cache under the lease of its miss, before the caller is
//! answered. The reason why the store cannot be read is for the log, and must never reach a caller.

use std::time::{Duration, Instant};

use tokio::time::timeout;

use super::deadline::SHORTEST_LIMIT;
use super::wiring::Service;
use crate::cache::{Lease, Lookup};
use crate::error::Error;
use crate::order::{Filter, ListCursor, Order, OrderId, Page, UserId};
use crate::store;
use crate::telemetry::limited;

/// The longest time that a plain read may take.
const LONGEST_READ: Duration = Duration::from_secs(10);

/// The cache's answer for an order that it does not hold.
#[derive(Debug)]
pub struct Missed(Option<Lease>);

impl Service {
    /// The copy of an order that the cache holds, deleted or not; else what [`Service::get`] needs.
    ///
    /// # Errors
    /// [`Missed`] where there is no copy, or no cache.
    pub async fn cached(&self, order_id: OrderId) -> Result<Order, Missed> {
        match self.cache.get(order_id).await {
            Lookup::Hit(order) => Ok(*order),
            Lookup::Miss(lease) => Err(Missed(lease)),
        }
    }

    /// Whether there is a cache.
    #[must_use]
    pub fn has_cache(&self) -> bool {
        !self.cache.is_off()
    }

    /// The order of that id, deleted or not, from the store. Fills the cache with it.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Unreadable`], [`Error::Unavailable`].
    pub async fn get(&self, order_id: OrderId, missed: Missed) -> Result<Order, Error> {
        self.in_time(async {
            let found = self.store.get(order_id).await.map_err(read_failed)?;
            let order = found.ok_or(Error::NotFound { order_id: Some(order_id) })?;
            if let Missed(Some(lease)) = missed {
                self.cache.fill(lease, &order).await;
            }
            Ok(order)
        })
        .await
    }

    /// The newest order of a user whose payload carries that external id, deleted or not.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Unreadable`], [`Error::Unavailable`].
    pub async fn find_by_external(&self, external_id: &str, user_id: UserId) -> Result<Order, Error> {
        let read = async { self.store.find_by_external(external_id, user_id).await.map_err(read_failed) };
        self.in_time(read).await?.ok_or(Error::NotFound { order_id: None })
    }

    /// A page of the orders that fit a filter, from behind `after` on, the newest first.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    pub async fn list(
        &self,
        filter: &Filter,
        after: Option<ListCursor>,
        limit: usize,
    ) -> Result<Page, Error> {
        self.in_time(async { self.store.list(filter, after, limit).await.map_err(read_failed) }).await
    }

    /// The latest time of the answer to a plain read that begins now.
    #[must_use]
    pub fn reads_until(&self) -> Instant {
        Instant::now() + self.longest_read()
    }

    fn longest_read(&self) -> Duration {
        self.ack_wait_timeout.clamp(SHORTEST_LIMIT, LONGEST_READ)
    }

    /// Bounds a read of the store: a caller does not wait longer for it than for a write.
    pub(super) async fn in_time<T>(&self, read: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        let limit = self.longest_read();
        timeout(limit, read).await.unwrap_or_else(|_| {
            tracing::debug!(?limit, "a read of the store took too long");
            Err(Error::Unavailable)
        })
    }
}

/// The answer to a caller where the store cannot be read. The log has the reason.
pub(super) fn read_failed(error: store::Error) -> Error {
    limited!(error, "read"; %error, "a read failed");
    match error {
        store::Error::Damaged(damaged) => Error::Unreadable { order_id: damaged.order_id },
        store::Error::Unavailable(_) | store::Error::OutcomeUnknown(_) | store::Error::BadBatch(_) => {
            Error::Unavailable
        }
    }
}
