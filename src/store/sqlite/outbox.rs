//! Pending orders in the embedded store. It needs no outbox table: an order whose version is above its processed one is
//! pending, a partial index finds it, and a confirmation of the in-process bus means that the worker has settled it.

use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;
use rusqlite::{Connection, params};

use super::clock;
use super::rows::{COLUMNS, ENOUGH, order, readable};
use super::store::SqliteStore;
use crate::store::damage::DamageLog;
use crate::store::pending::Place;
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

/// Events of orders that are pending since `before`, or since a time above `ahead`: that of the system's clock.
fn pending(
    connection: &Connection,
    damage: &DamageLog,
    (before, ahead): (Timestamp, i64),
    after: Option<PendingCursor>,
    limit: usize,
) -> rusqlite::Result<PendingPage> {
    // A time ahead of the clock says nothing about how long the order has waited.
    let sql = format!(
        "SELECT {COLUMNS}, seq FROM orders INDEXED BY orders_pending
         WHERE processed_version < version AND (updated_at < ?1 OR updated_at > ?5)
           AND (updated_at, seq) > (?2, ?3)
         ORDER BY updated_at, seq LIMIT ?4"
    );
    let (at, row) = match after {
        Some(PendingCursor(Place::Changed { at, row })) => (at, row),
        // No cursor of ours: from the beginning.
        _ => (i64::MIN, 0),
    };
    let mut statement = connection.prepare_cached(&sql)?;
    let mut rows = statement.query(params![before.as_microsecond(), at, row, limit as i64, ahead])?;
    let (mut events, mut last, mut count, mut bytes) = (Vec::new(), None, 0, 0);
    while bytes < ENOUGH
        && let Some(row) = rows.next()?
    {
        match readable(order(row))? {
            Ok(order) => {
                bytes += order.payload.as_str().len();
                events.push(order.into_event());
            }
            // The others do not wait until it is mended.
            Err(damaged) => damage.tell(&damaged, "an event cannot be made"),
        }
        last = Some(PendingCursor(Place::Changed { at: row.get(6)?, row: row.get(13)? }));
        count += 1;
    }
    Ok(PendingPage {
        events,
        unpublishable: Vec::new(),
        next: last.filter(|_| count == limit || bytes >= ENOUGH),
    })
}
