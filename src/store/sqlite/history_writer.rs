//! Writes the history in the embedded store. The one writing thread numbers the events, so they become visible in the
//! order of their numbers. A number must never be used twice, even when the newest events have been dropped: the number
//! of the newest dropped event is stored in the transaction that drops it. An event is written in the transaction of
//! its change. Where the store keeps no history, nothing is written, and old events are still dropped.

use jiff::Timestamp;
use rusqlite::{Connection, Statement, params};

use super::clean;
use crate::order::{Cause, Status, Version};
use crate::store::{Completion, Precondition};

/// The writer's side. Without `is_wanted` it writes nothing, and still cleans.
pub(super) struct History<'c> {
    is_wanted: bool,
    command: Statement<'c>,
    completion: Statement<'c>,
    oldest: Statement<'c>,
    drop: Statement<'c>,
    dropped: Statement<'c>,
    /// The number of the next event.
    next: i64,
}

impl<'c> History<'c> {
    pub(super) fn prepare(connection: &'c Connection, is_wanted: bool) -> rusqlite::Result<History<'c>> {
        Ok(History {
            is_wanted,
            command: connection.prepare(
                "INSERT INTO history (seq, order_seq, version, at, cause, status) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            )?,
            // Where the order did not take the status, it took neither amount nor reason.
            completion: connection.prepare(
                "INSERT INTO history (seq, order_seq, version, at, cause, status, amount, reason)
                 SELECT ?1, seq, version, ?3, ?4, status, CASE status WHEN ?5 THEN ?6 END,
                        CASE status WHEN ?5 THEN ?7 END
                   FROM orders WHERE order_id = ?2",
            )?,
            oldest: connection.prepare("SELECT seq, at FROM history ORDER BY seq LIMIT ?1")?,
            drop: connection.prepare("DELETE FROM history WHERE seq <= ?1")?,
            dropped: connection.prepare("UPDATE history_dropped SET seq = max(seq, ?1)")?,
            next: newest(connection)? + 1,
        })
    }

    /// Writes the event of a command that was applied to the order of that row.
    pub(super) fn commanded(
        &mut self,
        row: i64,
        version: Version,
        at: Timestamp,
        status: Status,
    ) -> rusqlite::Result<()> {
        if self.is_wanted {
            let (at, cause) = (at.as_microsecond(), letter(Cause::Command));
            self.command.execute(params![self.next, row, version, at, cause, status.as_str()])?;
            self.next += 1;
        }
        Ok(())
    }

    /// Writes the event of a completion that was applied.
    pub(super) fn completed(
        &mut self,
        completion: &Completion,
        amount: Option<&str>,
        at: Timestamp,
    ) -> rusqlite::Result<()> {
        if self.is_wanted {
            let (id, target) = (completion.order_id.as_bytes(), completion.status.as_str());
            let cause = letter(match completion.precondition {
                Precondition::Version(_) => Cause::Worker,
                Precondition::Unversioned(_) | Precondition::Creation(_) => Cause::Event,
            });
            let at = at.as_microsecond();
            self.completion.execute(params![self.next, id, at, cause, target, amount, completion.reason])?;
            self.next += 1;
        }
        Ok(())
    }

    /// Drops the oldest events, and returns how many.
    pub(super) fn clean(&mut self, before: Timestamp, limit: usize) -> rusqlite::Result<usize> {
        let (count, last) = clean::oldest(&mut self.oldest, before, limit)?;
        if let Some(last) = last {
            self.drop.execute([last])?;
            self.dropped.execute([last])?;
        }
        Ok(count)
    }
}

/// A cause as the table stores it: a single letter, because every row has one.
pub(super) fn letter(cause: Cause) -> &'static str {
    match cause {
        Cause::Command => "c",
        Cause::Worker => "w",
        Cause::Event => "e",
    }
}

/// The number of the newest event ever written.
pub(super) fn newest(connection: &Connection) -> rusqlite::Result<i64> {
    let mut query = connection.prepare_cached(
        "SELECT max(coalesce((SELECT max(seq) FROM history), 0), (SELECT seq FROM history_dropped))",
    )?;
    query.query_row([], |row| row.get(0))
}
