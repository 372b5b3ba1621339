//! The history in Postgres: the statements of commands and completions add its rows, and the pool of reads reads them.
//! `writing` has the SQL that they add, and `reading` the statements that read. Both rely on offsets that begin with
//! the number of the writing transaction.

pub(super) mod reading;
pub(super) mod writing;

use std::sync::Arc;

use async_trait::async_trait;

use super::connection::pooled_connection::Prepare;
use super::reads::Reads;
use super::store::PostgresStore;
use crate::order::{HistoryCursor, HistoryEvent, HistoryOffset, HistoryPage, OrderId, Scope, Version};
use crate::store::{Error, History, OrderHistoryPage};

#[async_trait]
impl History for PostgresStore {
    async fn history(
        &self,
        order_id: OrderId,
        after: HistoryCursor,
        versions: u32,
    ) -> Result<OrderHistoryPage, Error> {
        let read = |reads: Arc<Reads>| async move {
            reads.history.of_order(reads.client(), order_id, after, versions).await
        };
        self.reads.read(read).await
    }

    async fn newest_history_event(
        &self,
        order_id: OrderId,
        version: Version,
    ) -> Result<Option<HistoryEvent>, Error> {
        let read = |reads: Arc<Reads>| async move {
            reads.history.newest_history_event(reads.client(), order_id, version).await
        };
        self.reads.read(read).await
    }

    async fn history_page(
        &self,
        of: Scope,
        after: HistoryOffset,
        limit: usize,
    ) -> Result<HistoryPage, Error> {
        let read = |reads: Arc<Reads>| async move {
            reads.history.history_page(reads.client(), of, after, limit).await
        };
        self.reads.read(read).await
    }

    async fn history_end(&self) -> Result<HistoryOffset, Error> {
        self.reads.read(|reads: Arc<Reads>| async move { reads.history.end(reads.client()).await }).await
    }

    async fn history_newest(&self) -> Result<HistoryOffset, Error> {
        self.reads.read(|reads: Arc<Reads>| async move { reads.history.newest(reads.client()).await }).await
    }

    async fn history_dropped(&self) -> Result<HistoryOffset, Error> {
        self.reads.read(|reads: Arc<Reads>| async move { reads.history.dropped(reads.client()).await }).await
    }
}
