//! The keys of requests: the outcome of each request, in the order of their arrival, and an [`Index`] of the keys'
//! digests. Keys of one age are in one key segment of the index: a look-up goes through the segments, newest first, and
//! when all keys of a segment have been dropped its entries are deleted, a few pages at a time.

use std::sync::Arc;

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, Statement, params};

use super::clean;
use super::index::{self, Index, Memtable};
use super::rows::known_status;
use crate::order::{Key, OrderId};
use crate::store::ReplayedOutcome;

const TABLE: &str = "key_entries";

/// A segment has two million keys. More would spread a merge over more pages; fewer would spread a day's keys over more
/// segments, each of which costs a look-up.
const SEGMENT_BITS: u32 = 21;

/// How many bits of a digest are in the index.
const DIGEST_BITS: u32 = 48;

/// A key that was used.
pub(super) struct Used {
    /// The digest of the request's content.
    pub(super) content: [u8; 16],
    /// The outcome of the request.
    pub(super) outcome: ReplayedOutcome,
}

/// The keys. Only the writer reads them.
pub(super) struct Keys<'c> {
    index: Index<'c>,
    select: Statement<'c>,
    insert: Statement<'c>,
    oldest: Statement<'c>,
    drop: Statement<'c>,
    clear: Statement<'c>,
    /// The number of the next key.
    next: i64,
    /// The lowest number of a key.
    first: i64,
    /// The same, once the current transaction is committed.
    first_after: Option<i64>,
}

fn segment(seq: i64) -> i64 {
    seq >> SEGMENT_BITS
}

/// The key of a digest in a segment of the index.
fn index_key(segment: i64, digest: &[u8; 16]) -> i64 {
    let digest =
        digest.iter().take(DIGEST_BITS as usize / 8).fold(0, |bits, byte| bits << 8 | i64::from(*byte));
    segment << DIGEST_BITS | digest
}

/// Reads the entries of the keys that the table does not cover.
pub(super) fn load(connection: &Connection) -> rusqlite::Result<Memtable> {
    let mut query = connection.prepare("SELECT seq, digest FROM keys WHERE seq > ?1")?;
    let entries = query.query_map([index::covered(connection, TABLE)?], |row| {
        let seq = row.get(0)?;
        Ok((index_key(segment(seq), &row.get(1)?), seq))
    })?;
    Ok(Memtable::new(entries.collect::<rusqlite::Result<_>>()?))
}

impl<'c> Keys<'c> {
    pub(super) fn prepare(connection: &'c Connection, memtable: Arc<Memtable>) -> rusqlite::Result<Keys<'c>> {
        // Above what the index covers, even where all keys have been dropped: the memtable holds only newer entries.
        let newest = connection.query_row("SELECT coalesce(max(seq), 0) FROM keys", [], |row| row.get(0))?;
        let newest = index::covered(connection, TABLE)?.max(newest);
        let first: Option<i64> = connection.query_row("SELECT min(seq) FROM keys", [], |row| row.get(0))?;
        Ok(Keys {
            index: Index::prepare(connection, TABLE, memtable, newest)?,
            select: connection.prepare(
                "SELECT content, order_id, version, status FROM keys WHERE seq = ?1 AND digest = ?2",
            )?,
            insert: connection.prepare(
                "INSERT INTO keys (seq, digest, content, order_id, version, status, created_at)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            )?,
            oldest: connection.prepare("SELECT seq, created_at FROM keys ORDER BY seq LIMIT ?1")?,
            drop: connection.prepare("DELETE FROM keys WHERE seq <= ?1")?,
            clear: connection.prepare(
                "DELETE FROM key_entries WHERE (key, seq) IN
                     (SELECT key, seq FROM key_entries WHERE key < ?1 ORDER BY key, seq LIMIT ?2)",
            )?,
            next: newest + 1,
            first: first.unwrap_or(newest + 1),
            first_after: None,
        })
    }

    /// The earlier use of a key, if any.
    pub(super) fn find(&mut self, digest: &[u8; 16]) -> rusqlite::Result<Option<Used>> {
        for segment in (segment(self.first)..=segment(self.next)).rev() {
            for seq in self.index.rows(index_key(segment, digest))? {
                let found = self.select.query_row(params![seq, digest], |row| {
                    let order_id = OrderId::from_bytes(row.get(1)?);
                    let status = known_status(row, 3, order_id)?;
                    let outcome = ReplayedOutcome { order_id, version: row.get(2)?, status };
                    Ok(Used { content: row.get(0)?, outcome })
                });
                if let Some(used) = found.optional()? {
                    return Ok(Some(used));
                }
            }
        }
        Ok(None)
    }

    /// Stores a key with the outcome of its request.
    pub(super) fn keep(&mut self, key: &Key, did: &ReplayedOutcome, at: Timestamp) -> rusqlite::Result<()> {
        let seq = self.next;
        let (order_id, status) = (did.order_id.as_bytes(), did.status.as_str());
        let row = params![seq, key.digest, key.content, order_id, did.version, status, at.as_microsecond()];
        self.insert.execute(row)?;
        self.next += 1;
        self.index.add(index_key(segment(seq), &key.digest), seq)
    }

    /// Drops the oldest keys, and the entries of empty segments. Returns how many keys were dropped.
    pub(super) fn clean(&mut self, before: Timestamp, limit: usize) -> rusqlite::Result<usize> {
        let (count, last) = clean::oldest(&mut self.oldest, before, limit)?;
        if let Some(last) = last {
            self.drop.execute([last])?;
            self.first_after = Some(last + 1);
        }
        let first = self.first_after.unwrap_or(self.first);
        // More entries than keys, so that the deletion keeps up.
        let entries = i64::try_from(limit).unwrap_or(i64::MAX).saturating_mul(2);
        self.clear.execute([index_key(segment(first), &[0; 16]), entries])?;
        Ok(count)
    }

    /// See [`Index::begin`].
    pub(super) fn begin(&mut self) {
        self.first_after = None;
        self.index.begin();
    }

    /// See [`Index::merge`].
    pub(super) fn merge(&mut self) -> rusqlite::Result<()> {
        self.index.merge()
    }

    /// See [`Index::committed`].
    pub(super) fn committed(&mut self) {
        self.first = self.first_after.take().unwrap_or(self.first);
        self.index.committed();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::order::Status;

    fn key(n: u8) -> Key {
        Key { digest: [n; 16], content: [n; 16] }
    }

    #[test]
    fn keys_are_found_in_every_segment_and_an_empty_segment_is_cleared() {
        let connection = Connection::open_in_memory().unwrap();
        for sql in [
            include_str!("../../../migrations/sqlite/0001_orders.up.sql"),
            include_str!("../../../migrations/sqlite/0002_keys_history_and_lists.up.sql"),
        ] {
            connection.execute_batch(sql).unwrap();
        }
        // Entries go directly into the table, as if they had been merged.
        connection.execute("UPDATE key_entries_upto SET seq = ?1", [1_i64 << 40]).unwrap();
        let mut keys = Keys::prepare(&connection, Arc::new(load(&connection).unwrap())).unwrap();
        (keys.first, keys.next) = ((1 << SEGMENT_BITS) - 3, (1 << SEGMENT_BITS) - 3);
        let did = ReplayedOutcome { order_id: OrderId::generate(), version: 1, status: Status::New };
        let at = |n: u8| Timestamp::from_microsecond(i64::from(n)).unwrap();
        for n in 0..6 {
            keys.keep(&key(n), &did, at(n)).unwrap();
        }
        let found = |keys: &mut Keys<'_>| -> Vec<u8> {
            let is_known = |keys: &mut Keys<'_>, n| match keys.find(&[n; 16]).unwrap() {
                Some(used) => used.content == [n; 16] && used.outcome == did,
                None => false,
            };
            (0..7).filter(|n| is_known(keys, *n)).collect()
        };
        let entries = || -> i64 {
            connection.query_row("SELECT count(*) FROM key_entries", [], |row| row.get(0)).unwrap()
        };
        assert_eq!(found(&mut keys), [0, 1, 2, 3, 4, 5]);
        for (before, left, entries_left) in [(2, vec![2, 3, 4, 5], 6), (4, vec![4, 5], 3)] {
            keys.begin();
            keys.clean(at(before), 10).unwrap();
            keys.committed();
            assert_eq!((found(&mut keys), entries()), (left, entries_left));
        }
        // A transaction that is rolled back drops nothing.
        connection.execute_batch("BEGIN").unwrap();
        keys.begin();
        assert_eq!(keys.clean(at(9), 10), Ok(2));
        connection.execute_batch("ROLLBACK").unwrap();
        keys.begin();
        assert_eq!(found(&mut keys), [4, 5]);
    }
}
