//! The history: what happened to orders, step by step, for those who read it and those who follow it. Empty where the
//! store keeps none.

use async_trait::async_trait;

use super::error::Error;
use super::order_history_page::OrderHistoryPage;
use crate::order::{HistoryCursor, HistoryEvent, HistoryOffset, HistoryPage, OrderId, Scope, Version};

/// Reads the history. For callers who ask for it, the feed and its followers.
#[async_trait]
pub trait History: Send + Sync + 'static {
    /// The steps of an order's history behind a cursor that belong to the next so many versions, or the first
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

    /// The newest step of an order, if it belongs to that version or a later one. `None` where the store keeps no
    /// history.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    async fn newest_history_event(
        &self,
        order_id: OrderId,
        version: Version,
    ) -> Result<Option<HistoryEvent>, Error>;

    /// Steps behind a place in the history, by ascending sequence, at most `limit`; looks at a bounded number of
    /// others. No step will ever become visible before the place that this answers as `upto`.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    async fn history_page(&self, of: Scope, after: HistoryOffset, limit: usize)
    -> Result<HistoryPage, Error>;

    /// Where the history ends now: all steps to come are behind this place.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    async fn history_end(&self) -> Result<HistoryOffset, Error>;

    /// A place that no step has come behind so far. It is behind [`History::history_end`] where steps can be seen while
    /// others are still being written before them.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    async fn history_newest(&self) -> Result<HistoryOffset, Error> {
        self.history_end().await
    }

    /// The place of the newest step that was dropped: a reader that has come less far may have missed some. The first
    /// place there is, where none was.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    async fn history_dropped(&self) -> Result<HistoryOffset, Error>;
}
