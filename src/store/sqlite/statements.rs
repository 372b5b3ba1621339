//! The statements that write, prepared once and run within the writer's transaction. Each is conditional on the state
//! that it needs; [`Status::LEGAL`] names the legal changes of a status. No statement may run outside of a transaction
//! of the writer.

use std::sync::Arc;

use jiff::Timestamp;
use rusqlite::{Connection, Statement, params};

use super::clock::{Clock, JumpTable};
use super::external::ExternalIds;
use super::history_writer::History;
use super::index::Memtable;
use super::keys::Keys;
use super::transitions::{finish_sql, may_become, overtake_sql};
use crate::order::{OrderId, Payload, Status, UserId, Version};

/// The parts that the statements share with the rest of the store.
#[derive(Clone)]
pub(super) struct Shared {
    pub(super) clock: Arc<Clock>,
    /// The memtable of the index of users and external ids.
    pub(super) order_memtable: Arc<Memtable>,
    /// The memtable of the index of keys.
    pub(super) key_memtable: Arc<Memtable>,
    /// Whether history events are written.
    pub(super) history: bool,
}

/// The prepared statements of the writing connection, and its clock.
pub(super) struct Statements<'c> {
    begin: Statement<'c>,
    commit: Statement<'c>,
    insert: Statement<'c>,
    pub(super) update: Statement<'c>,
    pub(super) delete: Statement<'c>,
    pub(super) look: Statement<'c>,
    pub(super) external_id: Statement<'c>,
    /// By target status, in the order of [`Status::ALL`].
    pub(super) finish: Vec<Statement<'c>>,
    pub(super) overtake: Vec<Statement<'c>>,
    pub(super) external_ids: ExternalIds<'c>,
    pub(super) keys: Keys<'c>,
    pub(super) history: History<'c>,
    pub(super) clock: Arc<Clock>,
    jumps: JumpTable<'c>,
}

impl<'c> Statements<'c> {
    pub(super) fn prepare(connection: &'c Connection, shared: Shared) -> rusqlite::Result<Statements<'c>> {
        let each = |sql: fn(Status) -> String| -> rusqlite::Result<Vec<Statement<'c>>> {
            Status::ALL.into_iter().map(|status| connection.prepare(&sql(status))).collect()
        };
        Ok(Statements {
            // IMMEDIATE: a reading transaction that begins to write fails at once if another one writes.
            begin: connection.prepare("BEGIN IMMEDIATE")?,
            commit: connection.prepare("COMMIT")?,
            insert: connection.prepare(
                "INSERT INTO orders (order_id, user_id, status, version, processed_version, created_at,
                                     updated_at, amount, reason, external_id, payload)
                 VALUES (?1, ?2, ?3, 1, ?4, ?5, ?5, ?6, ?7, ?8, ?9) ON CONFLICT DO NOTHING",
            )?,
            update: connection.prepare(&format!(
                "UPDATE orders SET status = 'processing', version = version + 1, reason = NULL, touched = NULL,
                     updated_at = max(updated_at, ?4), external_id = ?5, payload = ?6
                 WHERE order_id = ?1 AND (?2 IS NULL OR user_id = ?2) AND (?3 IS NULL OR version = ?3)
                   AND {}
                 RETURNING version, user_id, seq",
                may_become(Status::Processing)
            ))?,
            delete: connection.prepare(&format!(
                "UPDATE orders SET status = 'deleted', version = version + 1, reason = NULL, touched = NULL,
                     updated_at = max(updated_at, ?4), deleted_at = ?4
                 WHERE order_id = ?1 AND (?2 IS NULL OR user_id = ?2) AND (?3 IS NULL OR version = ?3)
                   AND {}
                 RETURNING version, user_id, external_id, payload, seq",
                may_become(Status::Deleted)
            ))?,
            look: connection.prepare("SELECT user_id, version, status FROM orders WHERE order_id = ?1")?,
            external_id: connection.prepare("SELECT external_id FROM orders WHERE order_id = ?1")?,
            finish: each(finish_sql)?,
            overtake: each(overtake_sql)?,
            external_ids: ExternalIds::prepare(connection, shared.order_memtable)?,
            keys: Keys::prepare(connection, shared.key_memtable)?,
            history: History::prepare(connection, shared.history)?,
            clock: shared.clock,
            jumps: JumpTable::prepare(connection)?,
        })
    }

    /// Begins a transaction, without what a failed one has left.
    pub(super) fn begin(&mut self) -> rusqlite::Result<()> {
        self.external_ids.begin();
        self.keys.begin();
        self.begin.execute([]).map(drop)
    }

    /// Called last before the commit: merges a slice of each index into its table, and stores jumps of the clock.
    pub(super) fn merge(&mut self) -> rusqlite::Result<()> {
        self.external_ids.merge()?;
        self.keys.merge()?;
        self.jumps.save(&self.clock)
    }

    /// Commits the transaction, and makes its index entries visible.
    pub(super) fn commit(&mut self) -> rusqlite::Result<()> {
        self.commit.execute([])?;
        self.external_ids.committed();
        self.keys.committed();
        self.jumps.committed(&self.clock);
        Ok(())
    }

    /// Drops old keys and history events; jumps of the clock do not count. Returns how many of each.
    pub(super) fn clean(
        &mut self,
        keys_before: Timestamp,
        events_before: Option<Timestamp>,
        limit: usize,
    ) -> rusqlite::Result<(usize, usize)> {
        let keys_before = self.clock.limit(keys_before);
        let events_before = events_before.map(|before| self.clock.limit(before));
        let oldest = events_before.map_or(keys_before, |before| before.min(keys_before));
        self.jumps.drop_upto(&self.clock, oldest)?;
        let keys = self.keys.clean(keys_before, limit)?;
        let events = events_before.map_or(Ok(0), |before| self.history.clean(before, limit))?;
        Ok((keys, events))
    }

    /// Inserts an order of version 1, with status, processed version, time, amount and reason. Returns the number of
    /// its row; `None` where the id exists already.
    pub(super) fn insert(
        &mut self,
        order_id: OrderId,
        user_id: UserId,
        payload: &Payload,
        (status, processed, at, amount, reason): (Status, Version, Timestamp, &str, Option<&str>),
    ) -> rusqlite::Result<Option<i64>> {
        let (id, user, status) = (order_id.as_bytes(), user_id.as_bytes(), status.as_str());
        let (at, external_id, text) = (at.as_microsecond(), payload.external_id(), payload.as_str());
        let row = params![id, user, status, processed, at, amount, reason, external_id, text];
        match self.insert.insert(row) {
            Ok(seq) => Ok(Some(seq)),
            Err(rusqlite::Error::StatementChangedRows(0)) => Ok(None),
            Err(error) => Err(error),
        }
    }
}
