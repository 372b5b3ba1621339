//! Lists: many orders, page by page. The size of a page and the number of rows that are scanned for it have limits that
//! do not depend on the number of orders. A cursor belongs to the store that made it. A row that cannot be read must
//! never fail a whole page.

use async_trait::async_trait;

use super::error::{Damaged, Error};
use crate::order::{Filter, ListCursor, Order, OrderId, Page};

/// Reads many orders. For requests that list orders, and for the checker.
#[async_trait]
pub trait Lists: Send + Sync + 'static {
    /// A page of the orders that match a filter, behind the cursor `after`, the newest first. Scans a bounded number of
    /// orders and bytes: a page may be short, or empty, and still have a next page.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    async fn list(&self, filter: &Filter, after: Option<ListCursor>, limit: usize) -> Result<Page, Error>;

    /// Orders by ascending id, behind `after`, at most `limit`: a whole-table scan for the checker. A row that cannot
    /// be read is an error at its position.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    async fn scan(&self, after: Option<OrderId>, limit: usize) -> Result<Vec<Result<Order, Damaged>>, Error>;
}
