//! The history: what happened to orders, step by step, for those who read it and those who follow it. Empty where the
//! store keeps none.

use async_trait::async_trait;

use super::error::Error;
use super::part::Part;
use crate::order::{HistoryCursor, OrderId, Sequence, Step, Stretch, Version, Whose};

/// Reads the history. For callers who ask for it, the feed and its followers.
#[async_trait]
pub trait History: Send + Sync + 'static {
    /// The steps of an order's history behind a cursor that belong to the next so many versions, or the first
    /// [`MAX_PART`](crate::store::MAX_PART) of them. Empty where the store keeps no history.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    async fn history(&self, order_id: OrderId, after: HistoryCursor, versions: u32) -> Result<Part, Error>;

    /// The newest step of an order, if it belongs to that version or a later one. `None` where the store keeps no
    /// history.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    async fn newest_step(&self, order_id: OrderId, version: Version) -> Result<Option<Step>, Error>;

    /// Steps behind a place in the history, by ascending sequence, at most `limit`; looks at a bounded number of
    /// others. No step will ever become visible before the place that this answers as `upto`.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    async fn steps(&self, of: Whose, after: Sequence, limit: usize) -> Result<Stretch, Error>;

    /// Where the history ends now: all steps to come are behind this place.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    async fn history_end(&self) -> Result<Sequence, Error>;

    /// A place that no step has come behind so far. It is behind [`History::history_end`] where steps can be seen while
    /// others are still being written before them.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    async fn history_newest(&self) -> Result<Sequence, Error> {
        self.history_end().await
    }

    /// The place of the newest step that was dropped: a reader that has come less far may have missed some. The first
    /// place there is, where none was.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    async fn history_dropped(&self) -> Result<Sequence, Error>;
}
