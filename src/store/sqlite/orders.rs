//! Orders in the embedded store: writes go to the writer's queue, and reads to a reading connection. A call waits for
//! the commit of its batch, or for a free reading connection. A call that is cancelled does not undo its batch, which
//! is committed all the same. No statement may run on the thread of a caller, because SQLite blocks. A damaged row must
//! only fail a read of that row.

use std::sync::Arc;

use async_trait::async_trait;
use rusqlite::{Connection, OptionalExtension};

use super::external;
use super::rows::{COLUMNS, known_status, order, readable};
use super::store::SqliteStore;
use crate::order::{CommandRequest, Order, OrderId, UserId};
use crate::store::damage::DamageLog;
use crate::store::{Accepted, Completed, Completion, Error, Orders, Processed, Refusal};

#[async_trait]
impl Orders for SqliteStore {
    async fn apply(&self, batch: Arc<[CommandRequest]>) -> Result<Vec<Result<Accepted, Refusal>>, Error> {
        self.writer()?.apply(batch).await
    }

    async fn complete(&self, batch: Arc<[Completion]>) -> Result<Vec<Completed>, Error> {
        self.writer()?.complete(batch).await
    }

    async fn get(&self, order_id: OrderId) -> Result<Option<Order>, Error> {
        self.readers.run(move |connection| get(connection, order_id)).await
    }

    async fn find_by_external(&self, external_id: &str, user_id: UserId) -> Result<Option<Order>, Error> {
        let (external_id, memtable) = (external_id.to_owned(), Arc::clone(&self.memtable));
        self.readers.run(move |connection| external::find(connection, &memtable, &external_id, user_id)).await
    }

    async fn processed_versions(&self, orders: &[OrderId]) -> Result<Vec<Option<Processed>>, Error> {
        let (orders, damage) = (orders.to_vec(), Arc::clone(&self.damage));
        self.readers.run(move |connection| processed_versions(connection, &damage, &orders)).await
    }
}

fn get(connection: &Connection, id: OrderId) -> rusqlite::Result<Option<Order>> {
    let sql = format!("SELECT {COLUMNS} FROM orders WHERE order_id = ?1");
    connection.prepare_cached(&sql)?.query_row([id.as_bytes()], order).optional()
}

fn processed_versions(
    connection: &Connection,
    damage: &DamageLog,
    orders: &[OrderId],
) -> rusqlite::Result<Vec<Option<Processed>>> {
    let mut query =
        connection.prepare_cached("SELECT processed_version, status FROM orders WHERE order_id = ?1")?;
    let mut processed = |id: &OrderId| {
        let found = query.query_row([id.as_bytes()], |row| {
            readable(
                known_status(row, 1, *id).and_then(|status| Ok(Processed { version: row.get(0)?, status })),
            )
        });
        Ok(match found.optional()? {
            Some(Ok(processed)) => Some(processed),
            // A damaged row must not fail the others.
            Some(Err(damaged)) => {
                damage.log(&damaged, "the processed version of an order cannot be read");
                None
            }
            None => None,
        })
    };
    orders.iter().map(&mut processed).collect()
}
