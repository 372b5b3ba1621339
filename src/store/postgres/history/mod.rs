//! The history in Postgres: rows that the writing statements add, and the connections that read them.

pub(super) mod steps;
pub(super) mod writing;

use std::sync::Arc;

use async_trait::async_trait;

use super::connection::link::Prepare;
use super::reads::Reads;
use super::store::PostgresStore;
use crate::order::{HistoryCursor, OrderId, Sequence, Step, Stretch, Version, Whose};
use crate::store::{Error, History, Part};

#[async_trait]
impl History for PostgresStore {
    async fn history(&self, order_id: OrderId, after: HistoryCursor, versions: u32) -> Result<Part, Error> {
        let read = |reads: Arc<Reads>| async move {
            reads.history.of_order(reads.client(), order_id, after, versions).await
        };
        self.reads.read(read).await
    }

    async fn newest_step(&self, order_id: OrderId, version: Version) -> Result<Option<Step>, Error> {
        let read = |reads: Arc<Reads>| async move {
            reads.history.newest_step(reads.client(), order_id, version).await
        };
        self.reads.read(read).await
    }

    async fn steps(&self, of: Whose, after: Sequence, limit: usize) -> Result<Stretch, Error> {
        let read =
            |reads: Arc<Reads>| async move { reads.history.steps(reads.client(), of, after, limit).await };
        self.reads.read(read).await
    }

    async fn history_end(&self) -> Result<Sequence, Error> {
        self.reads.read(|reads: Arc<Reads>| async move { reads.history.end(reads.client()).await }).await
    }

    async fn history_newest(&self) -> Result<Sequence, Error> {
        self.reads.read(|reads: Arc<Reads>| async move { reads.history.newest(reads.client()).await }).await
    }

    async fn history_dropped(&self) -> Result<Sequence, Error> {
        self.reads.read(|reads: Arc<Reads>| async move { reads.history.dropped(reads.client()).await }).await
    }
}
