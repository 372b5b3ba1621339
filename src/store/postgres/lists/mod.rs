//! Lists in Postgres: pages of orders that match a filter, and the checker's scan. Both run on the pool of reads. The
//! size of a page and the rows that are scanned for it have limits, so that a statement stays within its timeout with a
//! table of any size.

pub(super) mod pages;

use std::sync::Arc;

use async_trait::async_trait;

use super::connection::pooled_connection::Prepare;
use super::reads::Reads;
use super::store::PostgresStore;
use crate::order::{Filter, ListCursor, Order, OrderId, Page};
use crate::store::{Damaged, Error, Lists};

#[async_trait]
impl Lists for PostgresStore {
    async fn list(&self, filter: &Filter, after: Option<ListCursor>, limit: usize) -> Result<Page, Error> {
        let list =
            |reads: Arc<Reads>| async move { reads.lists.page(reads.client(), filter, after, limit).await };
        self.reads.read(list).await
    }

    async fn scan(&self, after: Option<OrderId>, limit: usize) -> Result<Vec<Result<Order, Damaged>>, Error> {
        self.reads.read(|session| async move { session.scan(after, limit).await }).await
    }
}
