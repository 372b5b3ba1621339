//! The index of external ids. Its keys arrive in no order, so to write each with its order would touch a page of
//! its own: more bytes than the order itself. The entries of young orders are therefore kept in memory, sorted,
//! and go into the table `external_ids` many at a time, in slices that ride on the transactions of other writes.
//! Nothing is lost by that: `external_ids_upto` says which orders the table covers, and the entries of all
//! younger ones are read from `orders` when the store is opened.
//!
//! An entry is a hint. Whoever follows one compares the row, which may have another id since.

use std::collections::BTreeSet;
use std::ops::Bound;
use std::sync::{Arc, PoisonError, RwLock};

use rusqlite::{Connection, OptionalExtension, Statement, params};
use uuid::Uuid;

use super::rows::{COLUMNS, order};
use crate::order::{Order, UserId};

/// How many young entries are kept before they are merged into the table.
const YOUNG: usize = 65_536;

/// The fewest entries of a slice; more where more new ones arrive than that.
const SLICE: usize = 512;

/// A digest of user and external id, and the row that had them.
type Entry = (i64, i64);

/// The entries that the table does not hold for certain. Shared by the writer and the readers.
#[derive(Default)]
pub(super) struct Young {
    // std RwLock: held for a few set operations, never across .await
    sets: RwLock<Sets>,
}

#[derive(Default)]
struct Sets {
    /// Since the last merge began.
    current: BTreeSet<Entry>,
    /// On their way into the table.
    merging: BTreeSet<Entry>,
}

/// Eight bytes of a SHA-1 over user and external id, by way of a UUIDv5: short, whatever the length of the id.
fn digest(user_id: UserId, external_id: &str) -> i64 {
    let digest = Uuid::new_v5(&Uuid::from_bytes(*user_id.as_bytes()), external_id.as_bytes());
    digest.as_u64_pair().0.cast_signed()
}

impl Young {
    /// Reads the entries of the orders that the table does not cover.
    pub(super) fn load(connection: &Connection) -> rusqlite::Result<Young> {
        let mut query = connection.prepare(
            "SELECT user_id, external_id, seq FROM orders
             WHERE seq > (SELECT seq FROM external_ids_upto) AND external_id <> ''",
        )?;
        let entries = query.query_map([], |row| {
            Ok((digest(UserId::from_bytes(row.get(0)?), row.get_ref(1)?.as_str()?), row.get(2)?))
        })?;
        let current = entries.collect::<rusqlite::Result<_>>()?;
        Ok(Young { sets: RwLock::new(Sets { current, merging: BTreeSet::new() }) })
    }

    /// The newest order of that user with that external id.
    pub(super) fn find(
        &self,
        connection: &Connection,
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
        while let Some(seq) = self.newest(key, older_than) {
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

    /// The newest row behind `older_than` that has, or had, that key.
    fn newest(&self, key: i64, older_than: i64) -> Option<i64> {
        let sets = self.sets.read().unwrap_or_else(PoisonError::into_inner);
        let range = (Bound::Included((key, i64::MIN)), Bound::Excluded((key, older_than)));
        let newest = |set: &BTreeSet<Entry>| set.range(range).next_back().map(|(_, seq)| *seq);
        newest(&sets.current).max(newest(&sets.merging))
    }
}

/// The writer's side of the index.
pub(super) struct ExternalIds<'c> {
    young: Arc<Young>,
    insert: Statement<'c>,
    cover: Statement<'c>,
    /// Entries of the transaction under way.
    fresh: Vec<Entry>,
    /// The newest row of the last merge that began: entries of older rows go straight into the table.
    upto: i64,
    /// The newest row there is.
    newest: i64,
    /// How far the merge has come: its last entry in the table.
    merged: Option<Entry>,
    /// How far it will have come after the transaction under way.
    merging: Progress,
}

/// What a transaction does for the merge.
enum Progress {
    Nothing,
    Slice(Entry),
    Finish,
}

impl<'c> ExternalIds<'c> {
    pub(super) fn prepare(
        connection: &'c Connection,
        young: Arc<Young>,
    ) -> rusqlite::Result<ExternalIds<'c>> {
        Ok(ExternalIds {
            young,
            insert: connection.prepare("INSERT OR IGNORE INTO external_ids (key, seq) VALUES (?1, ?2)")?,
            cover: connection.prepare("UPDATE external_ids_upto SET seq = ?1")?,
            fresh: Vec::new(),
            upto: connection.query_row("SELECT seq FROM external_ids_upto", [], |row| row.get(0))?,
            newest: connection.query_row("SELECT coalesce(max(seq), 0) FROM orders", [], |row| row.get(0))?,
            merged: None,
            merging: Progress::Nothing,
        })
    }

    /// Begins a transaction: forgets what one that failed has left.
    pub(super) fn begin(&mut self) {
        self.fresh.clear();
        self.merging = Progress::Nothing;
    }

    /// Notes that a row has, or has got, that external id.
    pub(super) fn note(&mut self, user_id: UserId, external_id: &str, seq: i64) -> rusqlite::Result<()> {
        self.newest = self.newest.max(seq);
        if external_id.is_empty() {
            return Ok(());
        }
        let entry = (digest(user_id, external_id), seq);
        if seq <= self.upto {
            // At the next start nobody would look for it among the young.
            return self.insert.execute(entry).map(drop);
        }
        self.fresh.push(entry);
        Ok(())
    }

    /// Adds a slice of the merge to the transaction that is about to be committed.
    pub(super) fn merge(&mut self) -> rusqlite::Result<()> {
        let after = self.merged.map_or(Bound::Unbounded, Bound::Excluded);
        let size = SLICE.max(2 * self.fresh.len());
        let slice: Vec<Entry> = {
            let sets = self.young.sets.read().unwrap_or_else(PoisonError::into_inner);
            sets.merging.range((after, Bound::Unbounded)).take(size).copied().collect()
        };
        for entry in &slice {
            self.insert.execute(*entry)?;
        }
        match slice.last() {
            Some(last) if slice.len() == size => self.merging = Progress::Slice(*last),
            None if self.merged.is_none() => {}
            _ => {
                self.cover.execute([self.upto])?;
                self.merging = Progress::Finish;
            }
        }
        Ok(())
    }

    /// The transaction is committed: its entries may be found now. Begins a merge when there are enough of them.
    pub(super) fn committed(&mut self) {
        let mut sets = self.young.sets.write().unwrap_or_else(PoisonError::into_inner);
        sets.current.extend(self.fresh.drain(..));
        match self.merging {
            Progress::Nothing => {}
            Progress::Slice(last) => self.merged = Some(last),
            Progress::Finish => {
                self.merged = None;
                sets.merging.clear();
            }
        }
        if sets.merging.is_empty() && sets.current.len() >= YOUNG {
            sets.merging = std::mem::take(&mut sets.current);
            self.upto = self.newest;
        }
    }
}
