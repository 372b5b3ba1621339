//! Lists of orders, the newest first. Orders are numbered in the order of their arrival, so a cursor is a number, with
//! any filter. A page takes two queries: one for the numbers of orders that may match, from the index of users and
//! external ids or one after the other; then the orders themselves, until the page is full.

use std::sync::Arc;

use async_trait::async_trait;
use rusqlite::{Connection, OptionalExtension, params};

use super::external;
use super::index::Memtable;
use super::rows::{COLUMNS, MAX_READ_BYTES, order, readable};
use super::search::created_at;
use super::store::SqliteStore;
use crate::order::{Filter, ListCursor, Order, OrderId, Page, Status, UserId};
use crate::store::damage::DamageLog;
use crate::store::{Damaged, Error, Lists};

/// The most orders that are scanned for a page.
const MAX_SCANNED: usize = 2_000;

/// A page with so many bytes of payload is full.
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
    // SQL tests the filter, so that the payload, which is behind these columns, is read only of matching rows.
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
            // A damaged row must not hide the others.
            Some(Err(damaged)) => damage.log(&damaged, "an order is missing in lists"),
            _ => {}
        }
        let is_last = count == candidates.len();
        let is_full = orders.len() >= limit.max(1) || bytes >= PAGE_BYTES;
        if is_last && count == MAX_SCANNED || is_full && !is_last {
            return Ok(Page { orders, next: Some(ListCursor { major: *seq, minor: [0; 16] }) });
        }
    }
    Ok(Page { orders, next: None })
}

/// Numbers of orders that may match, behind a cursor, the newest first, at most [`MAX_SCANNED`]. There may be more only
/// where there are so many.
fn candidates(
    connection: &Connection,
    memtable: &Memtable,
    filter: &Filter,
    after: Option<ListCursor>,
) -> rusqlite::Result<Vec<i64>> {
    let since = |time: jiff::Timestamp| created_at(connection, time.as_microsecond());
    let from = filter.created_from.map(since).transpose()?.unwrap_or(0);
    let end = filter.created_before.map(since).transpose()?.unwrap_or(i64::MAX);
    let below = end.min(after.map_or(i64::MAX, |cursor| cursor.major));
    if let Some(user_id) = filter.user_id {
        let owner = (user_id, filter.external_id.as_deref());
        return external::rows(connection, memtable, owner, (from, below), MAX_SCANNED);
    }
    let mut query = connection
        .prepare_cached("SELECT seq FROM orders WHERE seq >= ?1 AND seq < ?2 ORDER BY seq DESC LIMIT ?3")?;
    query.query_map(params![from, below, MAX_SCANNED as i64], |row| row.get(0))?.collect()
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
    while bytes < MAX_READ_BYTES
        && let Some(row) = rows.next().transpose()?
    {
        bytes += row.as_ref().map_or(0, |order| order.payload.as_str().len());
        found.push(row);
    }
    Ok(found)
}
