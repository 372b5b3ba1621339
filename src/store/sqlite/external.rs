//! The index of orders by user, and by user and external id: one table of digests, filled as [`Index`] says. An order
//! stands in it under the empty external id from its creation on, and under each external id that it has or had.

use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension, params};
use uuid::Uuid;

use super::index::{self, Entry, Index, Young, newest_first};
use super::rows::{COLUMNS, order};
use crate::order::{Order, UserId};

const TABLE: &str = "external_ids";

/// How many orders are read at once to give those of an older schema their users' entries.
const BACKFILL: i64 = 500_000;

/// Eight bytes of a SHA-1 over user and external id, by way of a UUIDv5: short, whatever the length of the id.
fn digest(user_id: UserId, external_id: &str) -> i64 {
    let digest = Uuid::new_v5(&Uuid::from_bytes(*user_id.as_bytes()), external_id.as_bytes());
    digest.as_u64_pair().0.cast_signed()
}

/// Reads the entries of the orders that the table does not cover.
pub(super) fn load(connection: &Connection) -> rusqlite::Result<Young> {
    let mut query = connection.prepare("SELECT user_id, external_id, seq FROM orders WHERE seq > ?1")?;
    let mut rows = query.query([index::covered(connection, TABLE)?])?;
    let mut entries = Vec::new();
    while let Some(row) = rows.next()? {
        let (user_id, seq) = (UserId::from_bytes(row.get(0)?), row.get(2)?);
        entries.push((digest(user_id, ""), seq));
        entries.push((digest(user_id, row.get_ref(1)?.as_str()?), seq));
    }
    Ok(Young::new(entries))
}

/// Enters the orders that the table covers under their users: version 1 of the schema had no such entries.
pub(super) fn backfill(connection: &Connection) -> rusqlite::Result<()> {
    let upto = index::covered(connection, TABLE)?;
    let mut insert = connection.prepare("INSERT OR IGNORE INTO external_ids (key, seq) VALUES (?1, ?2)")?;
    let mut query = connection.prepare("SELECT user_id, seq FROM orders WHERE seq > ?1 AND seq <= ?2")?;
    let mut after = 0;
    while after < upto {
        let end = upto.min(after + BACKFILL);
        let entries = query
            .query_map([after, end], |row| Ok((digest(UserId::from_bytes(row.get(0)?), ""), row.get(1)?)))?;
        let mut entries = entries.collect::<rusqlite::Result<Vec<Entry>>>()?;
        // Sorted, they touch each page once.
        entries.sort_unstable();
        for entry in entries {
            insert.execute(entry)?;
        }
        after = end;
    }
    Ok(())
}

/// The newest order of that user with that external id.
pub(super) fn find(
    connection: &Connection,
    young: &Young,
    external_id: &str,
    user_id: UserId,
) -> rusqlite::Result<Option<Order>> {
    if external_id.is_empty() {
        return Ok(None);
    }
    let key = digest(user_id, external_id);
    let matches = "external_id = ?2 AND user_id = ?3";
    let row = format!("SELECT {COLUMNS} FROM orders WHERE seq = ?1 AND {matches}");
    let mut row = connection.prepare_cached(&row)?;
    let mut older_than = i64::MAX;
    // Almost always the first one is it; the others have another id by now, or the same digest by chance.
    while let Some(seq) = young.rows(key, i64::MIN, older_than, 1).first().copied() {
        let found = row.query_row(params![seq, external_id, user_id.as_bytes()], order).optional()?;
        if found.is_some() {
            return Ok(found);
        }
        older_than = seq;
    }
    let table = format!(
        "SELECT {COLUMNS} FROM external_ids JOIN orders USING (seq)
         WHERE key = ?1 AND {matches} ORDER BY seq DESC LIMIT 1"
    );
    let mut table = connection.prepare_cached(&table)?;
    table.query_row(params![key, external_id, user_id.as_bytes()], order).optional()
}

/// Rows from `from` on and below `below` that have, or had, that external id, or are that user's where there is none:
/// the newest first, at most `count`.
pub(super) fn rows(
    connection: &Connection,
    young: &Young,
    (user_id, external_id): (UserId, Option<&str>),
    (from, below): (i64, i64),
    count: usize,
) -> rusqlite::Result<Vec<i64>> {
    let key = digest(user_id, external_id.unwrap_or_default());
    // First the young: what is no longer among them is in the table by the time that it is read.
    let mut rows = young.rows(key, from, below, count);
    let mut table = connection.prepare_cached(
        "SELECT seq FROM external_ids WHERE key = ?1 AND seq >= ?2 AND seq < ?3 ORDER BY seq DESC LIMIT ?4",
    )?;
    for row in table.query_map(params![key, from, below, count as i64], |row| row.get(0))? {
        rows.push(row?);
    }
    newest_first(&mut rows, count);
    Ok(rows)
}

/// The writer's side of the index.
pub(super) struct ExternalIds<'c>(Index<'c>);

impl<'c> ExternalIds<'c> {
    pub(super) fn prepare(
        connection: &'c Connection,
        young: Arc<Young>,
    ) -> rusqlite::Result<ExternalIds<'c>> {
        let newest =
            connection.query_row("SELECT coalesce(max(seq), 0) FROM orders", [], |row| row.get(0))?;
        Index::prepare(connection, TABLE, young, newest).map(ExternalIds)
    }

    /// Notes a new order.
    pub(super) fn created(&mut self, user_id: UserId, external_id: &str, seq: i64) -> rusqlite::Result<()> {
        self.0.note(digest(user_id, ""), seq)?;
        self.updated(user_id, external_id, seq)
    }

    /// Notes that an order has, or has got, that external id.
    pub(super) fn updated(&mut self, user_id: UserId, external_id: &str, seq: i64) -> rusqlite::Result<()> {
        // Under the empty one it stands already.
        if external_id.is_empty() { Ok(()) } else { self.0.note(digest(user_id, external_id), seq) }
    }

    /// See [`Index::begin`].
    pub(super) fn begin(&mut self) {
        self.0.begin();
    }

    /// See [`Index::merge`].
    pub(super) fn merge(&mut self) -> rusqlite::Result<()> {
        self.0.merge()
    }

    /// See [`Index::committed`].
    pub(super) fn committed(&mut self) {
        self.0.committed();
    }
}
