//! Lists of orders, the newest first. Orders are numbered in the order of their arrival, so a place in a list is a
//! number, for every filter. A page takes two steps: the numbers of orders that may fit, by the index of users and
//! external ids or just one after the other; then the orders themselves, until there are enough of them.

use std::sync::Arc;

use async_trait::async_trait;
use rusqlite::{Connection, OptionalExtension, params};

use super::external;
use super::index::Memtable;
use super::rows::{COLUMNS, ENOUGH, order, readable};
use super::search::created_at;
use super::store::SqliteStore;
use crate::order::{Filter, ListCursor, Order, OrderId, Page, Status, UserId};
use crate::store::damage::DamageLog;
use crate::store::{Damaged, Error, Lists};

/// How many orders are looked at, at most, for a page of those that fit.
const LOOKED_AT: usize = 2_000;

/// A page that has so many bytes of payload is full.
const PAGE_BYTES: usize = 4 << 20;

#[async_trait]
impl Lists for SqliteStore {
    async fn list(&self, filter: &Filter, after: Option<ListCursor>, limit: usize) -> Result<Page, Error> {
        let (filter, memtable, damage) =
            (filter.clone(), Arc::clone(&self.memtable), Arc::clone(&self.damage));
        let list =
            move |connection: &Connection| list(connection, (&memtable, &damage), &filter, after, limit);
        self.readers.run(list).await
    }

    async fn scan(&self, after: Option<OrderId>, limit: usize) -> Result<Vec<Result<Order, Damaged>>, Error> {
        self.readers.run(move |connection| scan(connection, after, limit)).await
    }
}

fn list(
    connection: &Connection,
    (memtable, damage): (&Memtable, &DamageLog),
    filter: &Filter,
    after: Option<ListCursor>,
    limit: usize,
) -> rusqlite::Result<Page> {
    let candidates = candidates(connection, memtable, filter, after)?;
    // Only what fits is read to its end: behind these columns stands the payload.
    let mut query = connection.prepare_cached(&format!(
        "SELECT {COLUMNS} FROM orders
         WHERE seq = ?1 AND (?2 IS NULL OR user_id = ?2) AND (?3 IS NULL OR status = ?3)
           AND (?4 OR status <> 'deleted') AND (?5 IS NULL OR external_id = ?5)"
    ))?;
    let user_id = filter.user_id.as_ref().map(UserId::as_bytes);
    let status = filter.status.map(Status::as_str);
    let (mut orders, mut bytes) = (Vec::new(), 0);
    for (count, seq) in (1..).zip(&candidates) {
        let row = params![seq, user_id, status, filter.with_deleted, filter.external_id];
        match query.query_row(row, |row| readable(order(row))).optional()? {
            Some(Ok(order)) if filter.admits(&order) => {
                bytes += order.payload.as_str().len();
                orders.push(order);
            }
            // The others do not wait until it is mended.
            Some(Err(damaged)) => damage.tell(&damaged, "an order is missing in lists"),
            _ => {}
        }
        let is_last = count == candidates.len();
        let is_full = orders.len() >= limit.max(1) || bytes >= PAGE_BYTES;
        if is_last && count == LOOKED_AT || is_full && !is_last {
            return Ok(Page { orders, next: Some(ListCursor { major: *seq, minor: [0; 16] }) });
        }
    }
    Ok(Page { orders, next: None })
}

/// Numbers of orders that may fit, from behind a place on: the newest first. Only where there are as many as may be
/// looked at can there be more.
fn candidates(
    connection: &Connection,
    memtable: &Memtable,
    filter: &Filter,
    after: Option<ListCursor>,
) -> rusqlite::Result<Vec<i64>> {
    let since = |time: jiff::Timestamp| created_at(connection, time.as_microsecond());
    let from = filter.created_from.map(since).transpose()?.unwrap_or(0);
    let end = filter.created_before.map(since).transpose()?.unwrap_or(i64::MAX);
    let below = end.min(after.map_or(i64::MAX, |place| place.major));
    if let Some(user_id) = filter.user_id {
        let whose = (user_id, filter.external_id.as_deref());
        return external::rows(connection, memtable, whose, (from, below), LOOKED_AT);
    }
    let mut query = connection
        .prepare_cached("SELECT seq FROM orders WHERE seq >= ?1 AND seq < ?2 ORDER BY seq DESC LIMIT ?3")?;
    query.query_map(params![from, below, LOOKED_AT as i64], |row| row.get(0))?.collect()
}

fn scan(
    connection: &Connection,
    after: Option<OrderId>,
    limit: usize,
) -> rusqlite::Result<Vec<Result<Order, Damaged>>> {
    let sql = format!("SELECT {COLUMNS} FROM orders WHERE order_id > ?1 ORDER BY order_id LIMIT ?2");
    // An empty blob sorts before every id.
    let after = after.as_ref().map_or(&[][..], |id| id.as_bytes());
    let mut statement = connection.prepare_cached(&sql)?;
    let mut rows = statement.query_map(params![after, limit as i64], |row| readable(order(row)))?;
    let (mut found, mut bytes) = (Vec::new(), 0);
    while bytes < ENOUGH
        && let Some(row) = rows.next().transpose()?
    {
        bytes += row.as_ref().map_or(0, |order| order.payload.as_str().len());
        found.push(row);
    }
    Ok(found)
}
