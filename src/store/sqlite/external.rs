//! The index of orders by user, and by user and external id: one table of digests, filled by an [`Index`]. An order has
//! an entry under the empty external id, for its user, and one under its external id.
//!
//! Orders of one age are in one key segment, of some millions: a merge only touches the pages of the newest segment,
//! with any number of orders, so the writer never waits long for it. A look-up goes through the segments, newest first,
//! and ends with the first match. Orders from before this layout are in a table of their own without segments.

use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension, Statement, params};
use uuid::Uuid;

use super::index::{self, Entry, Index, Memtable, newest_first};
use super::rows::{COLUMNS, order};
use crate::order::{Order, UserId};

const TABLE: &str = "order_entries";

/// The table of orders from before the segments.
const OLD_TABLE: &str = "external_ids";

/// A segment has four million orders. More would spread a merge over more pages, fewer would cost more look-ups.
const SEGMENT_BITS: u32 = 22;

/// How many bits of a digest are in a key, below the number of the segment.
const DIGEST_BITS: u32 = 48;

/// How many orders of an older schema are read at once to add their users' entries.
const BACKFILL: i64 = 500_000;

/// How many further candidates are read at once where the first one does not match.
const CANDIDATES: usize = 64;

/// Eight bytes of a SHA-1 over user and external id, by way of a UUIDv5: short with an id of any length.
fn digest(user_id: UserId, external_id: &str) -> i64 {
    let digest = Uuid::new_v5(&Uuid::from_bytes(*user_id.as_bytes()), external_id.as_bytes());
    digest.as_u64_pair().0.cast_signed()
}

/// The segment of an order.
fn segment(seq: i64) -> i64 {
    seq >> SEGMENT_BITS
}

/// The key of a digest in a segment.
fn key(segment: i64, digest: i64) -> i64 {
    segment << DIGEST_BITS | digest & ((1 << DIGEST_BITS) - 1)
}

/// Reads the entries of the orders that the table does not cover.
pub(super) fn load(connection: &Connection) -> rusqlite::Result<Memtable> {
    let mut query = connection.prepare("SELECT user_id, external_id, seq FROM orders WHERE seq > ?1")?;
    let mut rows = query.query([index::covered(connection, TABLE)?])?;
    let mut entries = Vec::new();
    while let Some(row) = rows.next()? {
        let (user_id, seq) = (UserId::from_bytes(row.get(0)?), row.get(2)?);
        entries.push((key(segment(seq), digest(user_id, "")), seq));
        entries.push((key(segment(seq), digest(user_id, row.get_ref(1)?.as_str()?)), seq));
    }
    Ok(Memtable::new(entries))
}

/// Adds the users' entries of the orders that the old table covers: version 1 of the schema had no such entries.
pub(super) fn backfill(connection: &Connection) -> rusqlite::Result<()> {
    let upto = index::covered(connection, OLD_TABLE)?;
    let mut insert = connection.prepare("INSERT OR IGNORE INTO external_ids (key, seq) VALUES (?1, ?2)")?;
    let mut query = connection.prepare("SELECT user_id, seq FROM orders WHERE seq > ?1 AND seq <= ?2")?;
    let mut after = 0;
    while after < upto {
        let end = upto.min(after + BACKFILL);
        let entries = query
            .query_map([after, end], |row| Ok((digest(UserId::from_bytes(row.get(0)?), ""), row.get(1)?)))?;
        let mut entries = entries.collect::<rusqlite::Result<Vec<Entry>>>()?;
        // Sorted entries touch each page once.
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
    memtable: &Memtable,
    external_id: &str,
    user_id: UserId,
) -> rusqlite::Result<Option<Order>> {
    if external_id.is_empty() {
        return Ok(None);
    }
    let mut row = connection.prepare_cached(&format!(
        "SELECT {COLUMNS} FROM orders WHERE seq = ?1 AND external_id = ?2 AND user_id = ?3"
    ))?;
    // The first candidate matches almost always; others have another id since, or the same digest by chance.
    let (mut below, mut count) = (i64::MAX, 1);
    loop {
        let candidates = rows(connection, memtable, (user_id, Some(external_id)), (0, below), count)?;
        for seq in &candidates {
            let found = row.query_row(params![seq, external_id, user_id.as_bytes()], order).optional()?;
            if found.is_some() {
                return Ok(found);
            }
        }
        let Some(last) = candidates.last() else { return Ok(None) };
        (below, count) = (*last, CANDIDATES);
    }
}

/// Rows from `from` on and below `below` that have, or had, that external id of that user, or belong to the user where
/// none is named: the newest first, at most `count`.
pub(super) fn rows(
    connection: &Connection,
    memtable: &Memtable,
    (user_id, external_id): (UserId, Option<&str>),
    (from, below): (i64, i64),
    count: usize,
) -> rusqlite::Result<Vec<i64>> {
    let digest = digest(user_id, external_id.unwrap_or_default());
    let (base, newest): (i64, i64) = connection
        .prepare_cached(
            "SELECT (SELECT seq FROM external_ids_upto), (SELECT coalesce(max(seq), 0) FROM orders)",
        )?
        .query_row([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let mut table = connection.prepare_cached(
        "SELECT seq FROM order_entries WHERE key = ?1 AND seq >= ?2 AND seq < ?3 ORDER BY seq DESC LIMIT ?4",
    )?;
    let (lowest, mut found) = (from.max(base + 1), Vec::new());
    for segment in (segment(lowest)..=segment(newest.min(below.saturating_sub(1)))).rev() {
        let (key, left) = (key(segment, digest), count - found.len());
        // The memtable first: an entry that has left it is in the table by the time that the table is read.
        let mut rows = memtable.rows(key, lowest, below, left);
        for row in table.query_map(params![key, lowest, below, left as i64], |row| row.get(0))? {
            rows.push(row?);
        }
        newest_first(&mut rows, left);
        found.append(&mut rows);
        if found.len() == count {
            return Ok(found);
        }
    }
    if from <= base {
        let mut table = connection.prepare_cached(
            "SELECT seq FROM external_ids WHERE key = ?1 AND seq >= ?2 AND seq < ?3 ORDER BY seq DESC LIMIT ?4",
        )?;
        let (below, left) = (below.min(base + 1), (count - found.len()) as i64);
        for row in table.query_map(params![digest, from, below, left], |row| row.get(0))? {
            found.push(row?);
        }
    }
    Ok(found)
}

/// The writer's side of the index.
pub(super) struct ExternalIds<'c> {
    index: Index<'c>,
    /// The newest order in the old table.
    base: i64,
    insert_old: Statement<'c>,
    remove_old: Statement<'c>,
}

impl<'c> ExternalIds<'c> {
    pub(super) fn prepare(
        connection: &'c Connection,
        memtable: Arc<Memtable>,
    ) -> rusqlite::Result<ExternalIds<'c>> {
        let newest =
            connection.query_row("SELECT coalesce(max(seq), 0) FROM orders", [], |row| row.get(0))?;
        Ok(ExternalIds {
            index: Index::prepare(connection, TABLE, memtable, newest)?,
            base: index::covered(connection, OLD_TABLE)?,
            insert_old: connection
                .prepare("INSERT OR IGNORE INTO external_ids (key, seq) VALUES (?1, ?2)")?,
            remove_old: connection.prepare("DELETE FROM external_ids WHERE key = ?1 AND seq = ?2")?,
        })
    }

    /// Adds the entries of a new order.
    pub(super) fn created(&mut self, user_id: UserId, external_id: &str, seq: i64) -> rusqlite::Result<()> {
        self.add(digest(user_id, ""), seq)?;
        // The user's entry is the one of an empty external id.
        if external_id.is_empty() { Ok(()) } else { self.add(digest(user_id, external_id), seq) }
    }

    /// Replaces the entry of an order whose external id has changed; `None` where it has not.
    pub(super) fn updated(
        &mut self,
        user_id: UserId,
        (before, now): (Option<&str>, &str),
        seq: i64,
    ) -> rusqlite::Result<()> {
        let Some(before) = before else { return Ok(()) };
        if !before.is_empty() {
            let digest = digest(user_id, before);
            if seq <= self.base {
                self.remove_old.execute([digest, seq])?;
            } else {
                self.index.remove(key(segment(seq), digest), seq)?;
            }
        }
        if now.is_empty() { Ok(()) } else { self.add(digest(user_id, now), seq) }
    }

    fn add(&mut self, digest: i64, seq: i64) -> rusqlite::Result<()> {
        if seq <= self.base {
            return self.insert_old.execute([digest, seq]).map(drop);
        }
        self.index.add(key(segment(seq), digest), seq)
    }

    /// See [`Index::begin`].
    pub(super) fn begin(&mut self) {
        self.index.begin();
    }

    /// See [`Index::merge`].
    pub(super) fn merge(&mut self) -> rusqlite::Result<()> {
        self.index.merge()
    }

    /// See [`Index::committed`].
    pub(super) fn committed(&mut self) {
        self.index.committed();
    }
}
