//! Pending orders in the embedded store. It needs no outbox table: an order whose version is above its processed one is
//! pending, a partial index finds it, and a confirmation of the in-process bus means that the worker has settled the
//! event.

use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;
use rusqlite::{Connection, params};

use super::clock;
use super::rows::{COLUMNS, MAX_READ_BYTES, order, readable};
use super::store::SqliteStore;
use crate::store::damage::DamageLog;
use crate::store::pending::CursorKey;
use crate::store::{Error, Outbox, PendingCursor, PendingPage};

#[async_trait]
impl Outbox for SqliteStore {
    async fn pending(
        &self,
        before: Timestamp,
        after: Option<PendingCursor>,
        limit: usize,
    ) -> Result<PendingPage, Error> {
        let (damage, age) = (Arc::clone(&self.damage), (before, clock::system()));
        self.readers.run(move |connection| pending(connection, &damage, age, after, limit)).await
    }
}

/// Events of orders that are pending since before `before`, or since a time after `ahead`, the time of the system's
/// clock.
fn pending(
    connection: &Connection,
    damage: &DamageLog,
    (before, ahead): (Timestamp, i64),
    after: Option<PendingCursor>,
    limit: usize,
) -> rusqlite::Result<PendingPage> {
    // A time ahead of the system's clock does not show how long the order has waited, so the order counts as old.
    let sql = format!(
        "SELECT {COLUMNS}, seq FROM orders INDEXED BY orders_pending
         WHERE processed_version < version AND (updated_at < ?1 OR updated_at > ?5)
           AND (updated_at, seq) > (?2, ?3)
         ORDER BY updated_at, seq LIMIT ?4"
    );
    let (at, row) = match after {
        Some(PendingCursor(CursorKey::Changed { at, row })) => (at, row),
        // A cursor of another store: from the beginning.
        _ => (i64::MIN, 0),
    };
    let mut statement = connection.prepare_cached(&sql)?;
    let mut rows = statement.query(params![before.as_microsecond(), at, row, limit as i64, ahead])?;
    let (mut events, mut last, mut count, mut bytes) = (Vec::new(), None, 0, 0);
    while bytes < MAX_READ_BYTES
        && let Some(row) = rows.next()?
    {
        match readable(order(row))? {
            Ok(order) => {
                bytes += order.payload.as_str().len();
                events.push(order.into_event());
            }
            // A damaged row must not delay the others.
            Err(damaged) => damage.log(&damaged, "the event of an order cannot be made"),
        }
        last = Some(PendingCursor(CursorKey::Changed { at: row.get(6)?, row: row.get(13)? }));
        count += 1;
    }
    Ok(PendingPage {
        events,
        unpublishable: Vec::new(),
        next: last.filter(|_| count == limit || bytes >= MAX_READ_BYTES),
    })
}
