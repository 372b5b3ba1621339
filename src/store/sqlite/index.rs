//! An index whose keys arrive in no order. To write each entry with its row would touch a page of its own: more bytes
//! than the row itself. Entries of young rows are therefore kept in memory, sorted, and go into a table many at a
//! time, in slices that ride on the transactions of other writes. Nothing is lost by that: a table beside it says up
//! to which row it covers, and the entries of all younger rows are made from the rows when the store is opened.
//!
//! An entry is a hint. Whoever follows one compares the row, which may have another key since, or be gone.

use std::collections::BTreeSet;
use std::ops::Bound;
use std::sync::{Arc, PoisonError, RwLock};

use rusqlite::{Connection, Statement};

/// How many young entries are kept before they are merged into the table.
const YOUNG: usize = 131_072;

/// The fewest entries of a slice; more where more new ones arrive than that.
const SLICE: usize = 512;

/// A key, and a row that has or had it.
pub(super) type Entry = (i64, i64);

/// The entries that the table does not hold for certain. Shared by the writer and the readers.
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

impl Young {
    /// Those of the rows that the table does not cover.
    pub(super) fn new(current: BTreeSet<Entry>) -> Young {
        Young { sets: RwLock::new(Sets { current, merging: BTreeSet::new() }) }
    }

    /// Rows from `from` on and below `below` that have, or had, that key: the newest first, at most `count`.
    pub(super) fn rows(&self, key: i64, from: i64, below: i64, count: usize) -> Vec<i64> {
        if from >= below {
            return Vec::new();
        }
        let sets = self.sets.read().unwrap_or_else(PoisonError::into_inner);
        let range = (Bound::Included((key, from)), Bound::Excluded((key, below)));
        let newest = |set: &BTreeSet<Entry>, rows: &mut Vec<i64>| {
            rows.extend(set.range(range).rev().take(count).map(|(_, row)| *row));
        };
        let mut rows = Vec::new();
        newest(&sets.current, &mut rows);
        newest(&sets.merging, &mut rows);
        newest_first(&mut rows, count);
        rows
    }
}

/// Sorts rows, drops those that come twice and keeps so many.
pub(super) fn newest_first(rows: &mut Vec<i64>, count: usize) {
    rows.sort_unstable_by(|one, other| other.cmp(one));
    rows.dedup();
    rows.truncate(count);
}

/// The writer's side of an index.
pub(super) struct Index<'c> {
    young: Arc<Young>,
    insert: Statement<'c>,
    cover: Statement<'c>,
    select: Statement<'c>,
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

impl<'c> Index<'c> {
    /// The index in the table of that name, of rows up to `newest`.
    pub(super) fn prepare(
        connection: &'c Connection,
        table: &str,
        young: Arc<Young>,
        newest: i64,
    ) -> rusqlite::Result<Index<'c>> {
        Ok(Index {
            young,
            insert: connection
                .prepare(&format!("INSERT OR IGNORE INTO {table} (key, seq) VALUES (?1, ?2)"))?,
            cover: connection.prepare(&format!("UPDATE {table}_upto SET seq = ?1"))?,
            select: connection.prepare(&format!("SELECT seq FROM {table} WHERE key = ?1"))?,
            fresh: Vec::new(),
            upto: covered(connection, table)?,
            newest,
            merged: None,
            merging: Progress::Nothing,
        })
    }

    /// Begins a transaction: forgets what one that failed has left.
    pub(super) fn begin(&mut self) {
        self.fresh.clear();
        self.merging = Progress::Nothing;
    }

    /// Notes that a row has, or has got, that key.
    pub(super) fn note(&mut self, key: i64, row: i64) -> rusqlite::Result<()> {
        self.newest = self.newest.max(row);
        if row <= self.upto {
            // At the next start nobody would look for it among the young.
            return self.insert.execute((key, row)).map(drop);
        }
        self.fresh.push((key, row));
        Ok(())
    }

    /// The rows that have, or had, that key, in no order; some may come twice. Those of the transaction under way are
    /// among them.
    pub(super) fn rows(&mut self, key: i64) -> rusqlite::Result<Vec<i64>> {
        let mut rows = self.young.rows(key, i64::MIN, i64::MAX, usize::MAX);
        rows.extend(self.fresh.iter().filter(|entry| entry.0 == key).map(|entry| entry.1));
        let table = self.select.query_map([key], |row| row.get(0))?;
        for row in table {
            rows.push(row?);
        }
        Ok(rows)
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

/// The newest row that the table of that name covers.
pub(super) fn covered(connection: &Connection, table: &str) -> rusqlite::Result<i64> {
    connection.query_row(&format!("SELECT seq FROM {table}_upto"), [], |row| row.get(0))
}
