//! An index whose keys arrive in random order. Writing each entry with its row would write a page of its own: more
//! bytes than the row itself. So entries of new rows are kept in a memtable, sorted, and are merged into a table many
//! at a time, in slices within the transactions of other writes. A crash loses nothing: a second table stores up to
//! which row the index covers, and the entries of all newer rows are made from the rows when the store is opened.
//!
//! An entry is a hint. The reader must compare the row, which may have another key since, or be deleted.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, PoisonError, RwLock};

use rusqlite::{Connection, Statement};

/// How many entries the memtable holds before they are merged into the table.
const MEMTABLE_ENTRIES: usize = 131_072;

/// How many removed entries are skipped in memory before they are deleted there.
const MAX_REMOVED: usize = 1_024;

/// The fewest entries of a slice; it is larger where more new entries arrive.
const MIN_SLICE: usize = 512;

/// A key, and a row that has or had it.
pub(super) type Entry = (i64, i64);

/// The entries that may not be in the table yet. The writer and the readers share it.
pub(super) struct Memtable {
    // std RwLock: held for a few searches, to merge runs, or shared with readers for a slice; never across .await
    entries: RwLock<Entries>,
}

#[derive(Default)]
struct Entries {
    /// Entries since the last merge began.
    current: Runs,
    /// Entries that are being merged into the table, sorted.
    merging: Vec<Entry>,
    /// Entries whose rows do not have the key any more: they are skipped, and not merged.
    removed: HashSet<Entry>,
    /// How many were removed since they were last deleted from `current`.
    removed_since: usize,
}

/// Entries in sorted runs, each more than twice as long as the next. Adding a batch merges a few adjacent runs, where a
/// tree would search for each entry.
#[derive(Default)]
struct Runs(Vec<Vec<Entry>>);

impl Runs {
    fn add(&mut self, mut run: Vec<Entry>) {
        run.sort_unstable();
        while let Some(longer) = self.0.pop_if(|last| last.len() <= 2 * run.len()) {
            run = merged(longer, &run);
        }
        self.0.push(run);
    }

    fn len(&self) -> usize {
        self.0.iter().map(Vec::len).sum()
    }

    /// Takes all entries, sorted.
    fn take(&mut self) -> Vec<Entry> {
        self.0.drain(..).rev().reduce(|run, longer| merged(longer, &run)).unwrap_or_default()
    }
}

/// Merges two runs into one. The stable sort detects the runs, so it only merges them.
fn merged(mut run: Vec<Entry>, other: &[Entry]) -> Vec<Entry> {
    run.extend_from_slice(other);
    run.sort();
    run.dedup();
    run
}

impl Memtable {
    /// A memtable of the entries that the table does not cover.
    pub(super) fn new(entries: Vec<Entry>) -> Memtable {
        let mut current = Runs::default();
        current.add(entries);
        Memtable { entries: RwLock::new(Entries { current, ..Entries::default() }) }
    }

    /// Rows from `from` on and below `below` that have, or had, that key: the newest first, at most `count`.
    pub(super) fn rows(&self, key: i64, from: i64, below: i64, count: usize) -> Vec<i64> {
        let entries = self.entries.read().unwrap_or_else(PoisonError::into_inner);
        let mut rows = Vec::new();
        for run in entries.current.0.iter().chain([&entries.merging]) {
            let end = run.partition_point(|entry| *entry < (key, below));
            let newest = run[..end].iter().rev().take_while(|entry| **entry >= (key, from));
            let newest = newest.filter(|entry| !entries.removed.contains(entry));
            rows.extend(newest.take(count).map(|(_, row)| *row));
        }
        newest_first(&mut rows, count);
        rows
    }
}

/// Sorts rows, drops duplicates and keeps so many.
pub(super) fn newest_first(rows: &mut Vec<i64>, count: usize) {
    rows.sort_unstable_by(|one, other| other.cmp(one));
    rows.dedup();
    rows.truncate(count);
}

/// The writer's side of an index.
pub(super) struct Index<'c> {
    memtable: Arc<Memtable>,
    insert: Statement<'c>,
    delete: Statement<'c>,
    cover: Statement<'c>,
    select: Statement<'c>,
    /// New entries of the current transaction.
    fresh: Vec<Entry>,
    /// Entries in memory that the current transaction removes (true), or adds again (false).
    changes: HashMap<Entry, bool>,
    /// The newest row of the last merge that began: entries of older rows go directly into the table.
    upto: i64,
    /// The newest row.
    newest: i64,
    /// How many entries of the merge are in the table.
    merged: usize,
    /// The progress of the merge in the current transaction.
    merging: Progress,
}

/// The part of the merge that a transaction contains.
enum Progress {
    Nothing,
    Slice(usize),
    Finish,
}

impl<'c> Index<'c> {
    /// The index in the table with that name, of rows up to `newest`.
    pub(super) fn prepare(
        connection: &'c Connection,
        table: &str,
        memtable: Arc<Memtable>,
        newest: i64,
    ) -> rusqlite::Result<Index<'c>> {
        Ok(Index {
            memtable,
            insert: connection
                .prepare(&format!("INSERT OR IGNORE INTO {table} (key, seq) VALUES (?1, ?2)"))?,
            delete: connection.prepare(&format!("DELETE FROM {table} WHERE key = ?1 AND seq = ?2"))?,
            cover: connection.prepare(&format!("UPDATE {table}_upto SET seq = ?1"))?,
            select: connection.prepare(&format!("SELECT seq FROM {table} WHERE key = ?1"))?,
            fresh: Vec::new(),
            changes: HashMap::new(),
            upto: covered(connection, table)?,
            newest,
            merged: 0,
            merging: Progress::Nothing,
        })
    }

    /// Begins a transaction: drops what a failed one has left.
    pub(super) fn begin(&mut self) {
        self.fresh.clear();
        self.changes.clear();
        self.merging = Progress::Nothing;
    }

    /// Adds the entry of a row with that key.
    pub(super) fn add(&mut self, key: i64, row: i64) -> rusqlite::Result<()> {
        self.newest = self.newest.max(row);
        if self.may_be_removed((key, row)) {
            self.changes.insert((key, row), false);
        }
        if row <= self.upto {
            // The next start would not load it into the memtable.
            return self.insert.execute((key, row)).map(drop);
        }
        self.fresh.push((key, row));
        Ok(())
    }

    /// Removes the entry of a row that does not have that key any more, so that look-ups do not read the row.
    pub(super) fn remove(&mut self, key: i64, row: i64) -> rusqlite::Result<()> {
        if row <= self.upto {
            self.delete.execute((key, row))?;
        }
        if row > self.upto || self.is_merging() {
            self.changes.insert((key, row), true);
        }
        Ok(())
    }

    fn is_merging(&self) -> bool {
        !self.memtable.entries.read().unwrap_or_else(PoisonError::into_inner).merging.is_empty()
    }

    fn may_be_removed(&self, entry: Entry) -> bool {
        let entries = self.memtable.entries.read().unwrap_or_else(PoisonError::into_inner);
        self.changes.contains_key(&entry) || entries.removed.contains(&entry)
    }

    /// The rows that have, or had, that key, including those of the current transaction, in no order and with possible
    /// duplicates.
    pub(super) fn rows(&mut self, key: i64) -> rusqlite::Result<Vec<i64>> {
        let mut rows = self.memtable.rows(key, i64::MIN, i64::MAX, usize::MAX);
        rows.extend(self.fresh.iter().filter(|entry| entry.0 == key).map(|entry| entry.1));
        let table = self.select.query_map([key], |row| row.get(0))?;
        for row in table {
            rows.push(row?);
        }
        Ok(rows)
    }

    /// Adds a slice of the merge to the transaction that is about to be committed.
    pub(super) fn merge(&mut self) -> rusqlite::Result<()> {
        let size = MIN_SLICE.max(2 * self.fresh.len());
        let entries = self.memtable.entries.read().unwrap_or_else(PoisonError::into_inner);
        if entries.merging.is_empty() {
            return Ok(());
        }
        let end = entries.merging.len().min(self.merged + size);
        for entry in &entries.merging[self.merged..end] {
            let is_removed = self.changes.get(entry).copied();
            if !is_removed.unwrap_or_else(|| entries.removed.contains(entry)) {
                self.insert.execute(*entry)?;
            }
        }
        self.merging = match end < entries.merging.len() {
            true => Progress::Slice(end),
            false => {
                self.cover.execute([self.upto])?;
                Progress::Finish
            }
        };
        Ok(())
    }

    /// Takes note that the transaction is committed, and makes its entries visible. Begins a merge when the memtable is
    /// full.
    pub(super) fn committed(&mut self) {
        let mut entries = self.memtable.entries.write().unwrap_or_else(PoisonError::into_inner);
        let Entries { current, merging, removed, removed_since } = &mut *entries;
        if !self.changes.is_empty() {
            self.fresh.retain(|entry| self.changes.get(entry) != Some(&true));
            for (entry, is_removed) in self.changes.drain() {
                let changed = if is_removed { removed.insert(entry) } else { removed.remove(&entry) };
                *removed_since += usize::from(changed && is_removed);
            }
        }
        if !self.fresh.is_empty() {
            current.add(std::mem::take(&mut self.fresh));
        }
        if *removed_since >= MAX_REMOVED {
            *removed_since = 0;
            let mut left = current.take();
            left.retain(|entry| !removed.contains(entry));
            current.add(left);
            removed.retain(|entry| merging.binary_search(entry).is_ok());
        }
        match self.merging {
            Progress::Nothing => {}
            Progress::Slice(end) => self.merged = end,
            Progress::Finish => {
                self.merged = 0;
                merging.clear();
                removed.retain(|(_, row)| *row > self.upto);
            }
        }
        if merging.is_empty() && current.len() >= MEMTABLE_ENTRIES {
            *merging = current.take();
            merging.retain(|entry| !removed.remove(entry));
            self.upto = self.newest;
        }
    }
}

/// The newest row that the table with that name covers.
pub(super) fn covered(connection: &Connection, table: &str) -> rusqlite::Result<i64> {
    connection.query_row(&format!("SELECT seq FROM {table}_upto"), [], |row| row.get(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_found_in_all_runs() {
        // Batches of many sizes, with keys in no order; one entry in ten is a duplicate.
        let entry = |n: i64| (n * 7_919 % 101, n / 10 * 10 + n % 9);
        let mut runs = Runs::default();
        let mut known = Vec::new();
        for size in (1..60).chain([1, 1, 700, 2, 1]) {
            let first = known.len() as i64;
            let batch: Vec<Entry> = (first..first + size).map(entry).collect();
            known.extend(&batch);
            runs.add(batch);
            assert!(runs.0.windows(2).all(|pair| pair[0].len() > 2 * pair[1].len()));
            assert!(runs.0.iter().all(|run| run.is_sorted()));
        }
        let merging = known.split_off(known.len() / 2);
        let mut current = Runs::default();
        known.iter().for_each(|entry| current.add(vec![*entry]));
        let mut sorted = Runs::default();
        sorted.add(merging.clone());
        let merging = sorted.take();
        known.extend(&merging);
        let memtable = Memtable { entries: RwLock::new(Entries { current, merging, ..Entries::default() }) };
        for key in 0..102 {
            for (from, below, count) in
                [(i64::MIN, i64::MAX, usize::MAX), (100, 900, usize::MAX), (0, 1500, 3)]
            {
                let fits = |entry: &&Entry| entry.0 == key && (from..below).contains(&entry.1);
                let mut expected: Vec<i64> = known.iter().filter(fits).map(|entry| entry.1).collect();
                newest_first(&mut expected, count);
                assert_eq!(memtable.rows(key, from, below, count), expected, "{key} {from} {below}");
            }
        }
    }

    #[test]
    fn a_removed_entry_is_neither_found_nor_merged_unless_it_is_added_again() {
        let connection = Connection::open_in_memory().unwrap();
        connection
            .execute_batch(
                "CREATE TABLE t (key INTEGER, seq INTEGER, PRIMARY KEY (key, seq)) WITHOUT ROWID;
                 CREATE TABLE t_upto (seq INTEGER); INSERT INTO t_upto VALUES (0);",
            )
            .unwrap();
        let memtable = Arc::new(Memtable::new(Vec::new()));
        let mut index = Index::prepare(&connection, "t", Arc::clone(&memtable), 0).unwrap();
        let commit = |index: &mut Index<'_>| {
            index.merge().unwrap();
            index.committed();
            index.begin();
        };
        for row in 1..=(MEMTABLE_ENTRIES as i64) {
            index.add(7, row).unwrap();
        }
        for row in [3, 5, MEMTABLE_ENTRIES as i64] {
            index.remove(7, row).unwrap();
        }
        index.add(7, 5).unwrap();
        commit(&mut index);
        assert_eq!(memtable.rows(7, 0, 7, 10), [6, 5, 4, 2, 1]);
        // More entries: the merge begins, and takes many slices. Meanwhile a merged entry and a later one are removed.
        index.add(7, MEMTABLE_ENTRIES as i64 + 1).unwrap();
        index.add(7, MEMTABLE_ENTRIES as i64 + 2).unwrap();
        commit(&mut index);
        commit(&mut index);
        for row in [1, 100_000, 100_001] {
            index.remove(7, row).unwrap();
        }
        index.add(7, 100_001).unwrap();
        // The removal of a transaction that was rolled back does not count.
        commit(&mut index);
        index.remove(7, 6).unwrap();
        index.begin();
        connection.execute("INSERT OR IGNORE INTO t VALUES (7, 6)", []).unwrap();
        while index.is_merging() {
            commit(&mut index);
        }
        let found: HashSet<i64> = index.rows(7).unwrap().into_iter().collect();
        let missing: Vec<i64> =
            (1..=(MEMTABLE_ENTRIES as i64) + 2).filter(|row| !found.contains(row)).collect();
        assert_eq!(missing, [1, 3, 100_000, MEMTABLE_ENTRIES as i64]);
    }
}
