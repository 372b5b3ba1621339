//! The writer's side of the history: steps are numbered by the one thread that writes, so they become visible in the
//! order of their numbers. A number is never given out twice, also when the newest steps have been dropped.

use jiff::Timestamp;
use rusqlite::{Connection, Statement, params};

use super::clean;
use crate::order::{Cause, Status, Version};
use crate::store::{Completion, Precondition};

/// The writer's side. Cleans, but writes nothing, where no history is wanted.
pub(super) struct History<'c> {
    is_wanted: bool,
    command: Statement<'c>,
    completion: Statement<'c>,
    oldest: Statement<'c>,
    drop: Statement<'c>,
    dropped: Statement<'c>,
    /// The number of the next step.
    next: i64,
}

impl<'c> History<'c> {
    pub(super) fn prepare(connection: &'c Connection, is_wanted: bool) -> rusqlite::Result<History<'c>> {
        Ok(History {
            is_wanted,
            command: connection.prepare(
                "INSERT INTO history (seq, order_seq, version, at, cause, status) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            )?,
            // Where the status stayed another one, so did amount and reason.
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

    /// Writes the step of a command that was carried out on the order of that row.
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

    /// Writes the step of a completion that the order has taken.
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

    /// Drops the oldest steps, and answers how many.
    pub(super) fn clean(&mut self, before: Timestamp, limit: usize) -> rusqlite::Result<usize> {
        let (count, last) = clean::oldest(&mut self.oldest, before, limit)?;
        if let Some(last) = last {
            self.drop.execute([last])?;
            self.dropped.execute([last])?;
        }
        Ok(count)
    }
}

/// A cause as the table has it: there is one in every row.
pub(super) fn letter(cause: Cause) -> &'static str {
    match cause {
        Cause::Command => "c",
        Cause::Worker => "w",
        Cause::Event => "e",
    }
}

/// The number of the newest step there ever was.
pub(super) fn newest(connection: &Connection) -> rusqlite::Result<i64> {
    let mut query = connection.prepare_cached(
        "SELECT max(coalesce((SELECT max(seq) FROM history), 0), (SELECT seq FROM history_dropped))",
    )?;
    query.query_row([], |row| row.get(0))
}
