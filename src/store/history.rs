//! The history: the accepted commands and outcomes of orders, for callers who read them and streams that follow them.
//! It is empty where the store keeps no history.
//!
//! History events become visible in the order of their offsets: a reader that continues behind its last offset must
//! never miss one.

use async_trait::async_trait;

use super::error::Error;
use super::order_history_page::OrderHistoryPage;
use crate::order::{HistoryCursor, HistoryEvent, HistoryOffset, HistoryPage, OrderId, Scope, Version};

/// Reads the history. For reads of single orders, the feed and its streams.
#[async_trait]
pub trait History: Send + Sync + 'static {
    /// An order's history events behind a cursor that belong to the next so many versions, or the first
    /// [`MAX_PAGE_EVENTS`](crate::store::MAX_PAGE_EVENTS) of them. Empty where the store keeps no history.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    async fn history(
        &self,
        order_id: OrderId,
        after: HistoryCursor,
        versions: u32,
    ) -> Result<OrderHistoryPage, Error>;

    /// The newest history event of an order, if it belongs to that version or a later one. `None` where the store keeps
    /// no history.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    async fn newest_history_event(
        &self,
        order_id: OrderId,
        version: Version,
    ) -> Result<Option<HistoryEvent>, Error>;

    /// History events of a scope behind an offset, by ascending offset, at most `limit`; scans a bounded number of
    /// others. No event ever becomes visible at or before the returned `upto` later.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    async fn history_page(&self, of: Scope, after: HistoryOffset, limit: usize)
    -> Result<HistoryPage, Error>;

    /// The end of the history now: all later events have a higher offset.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    async fn history_end(&self) -> Result<HistoryOffset, Error>;

    /// An offset that no event has exceeded so far. It is higher than [`History::history_end`] where events are visible
    /// while others with lower offsets are still being written.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    async fn history_newest(&self) -> Result<HistoryOffset, Error> {
        self.history_end().await
    }

    /// The offset of the newest event that the retention job dropped: a reader at a lower offset may have missed some.
    /// The lowest offset, where none was dropped.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    async fn history_dropped(&self) -> Result<HistoryOffset, Error>;
}
