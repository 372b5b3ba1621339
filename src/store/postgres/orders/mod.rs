//! Orders in Postgres: a batch of commands or completions is one transaction on a connection of its own kind, and
//! single orders are read on the pool of reads. A write is repeated only where nothing of it happened. `commands` and
//! `completions` have the statements; both rely on `transaction`, which makes several statements atomic, and on
//! `locks`, which keeps two batches from a deadlock.

mod command_sql;
pub(super) mod commands;
pub(super) mod completions;
mod locks;
mod refusals;
mod transaction;

use std::sync::Arc;

use async_trait::async_trait;

use self::commands::Commands;
use self::completions::Completions;
use super::reads::Reads;
use super::store::PostgresStore;
use crate::order::{CommandRequest, Order, OrderId, UserId};
use crate::store::{Accepted, Completed, Completion, Error, Orders, Processed, Refusal};

#[async_trait]
impl Orders for PostgresStore {
    async fn apply(&self, batch: Arc<[CommandRequest]>) -> Result<Vec<Result<Accepted, Refusal>>, Error> {
        let apply = |session: Arc<Commands>| {
            let batch = Arc::clone(&batch);
            Box::pin(async move { session.apply(&batch).await })
        };
        self.commands.write(apply).await
    }

    async fn complete(&self, batch: Arc<[Completion]>) -> Result<Vec<Completed>, Error> {
        let complete = |session: Arc<Completions>| {
            let batch = Arc::clone(&batch);
            Box::pin(async move { session.complete(&batch).await })
        };
        self.completions.write(complete).await
    }

    async fn get(&self, order_id: OrderId) -> Result<Option<Order>, Error> {
        self.reads.read(|session| async move { session.get(order_id).await }).await
    }

    async fn find_by_external(&self, external_id: &str, user_id: UserId) -> Result<Option<Order>, Error> {
        let find = |session: Arc<Reads>| async move { session.find_by_external(external_id, user_id).await };
        self.reads.read(find).await
    }

    async fn processed_versions(&self, orders: &[OrderId]) -> Result<Vec<Option<Processed>>, Error> {
        let read = |session: Arc<Reads>| async move { session.processed_versions(orders).await };
        self.reads.read(read).await
    }
}
