//! Lists: many orders at once, page by page. No page is larger, and no look at the table longer, than a bound that does
//! not depend on how many orders there are.

use async_trait::async_trait;

use super::error::{Damaged, Error};
use crate::order::{Filter, ListCursor, Order, OrderId, Page};

/// Reads many orders. For callers who list orders, and the checker.
#[async_trait]
pub trait Lists: Send + Sync + 'static {
    /// A page of the orders that fit a filter, from behind `after` on, the newest first. Looks at a bounded number of
    /// orders and bytes in a table of any size: a page may be short, or empty, and still have a next one.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    async fn list(&self, filter: &Filter, after: Option<ListCursor>, limit: usize) -> Result<Page, Error>;

    /// Orders by ascending id, from behind `after` on, at most `limit`: a whole-table scan for the checker. A row that
    /// cannot be read stands in its place.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    async fn scan(&self, after: Option<OrderId>, limit: usize) -> Result<Vec<Result<Order, Damaged>>, Error>;
}
