//! The statements that write, prepared once and run inside the writer's transaction. Each is conditional on
//! the state it needs, and what may follow what is taken from [`Status::LEGAL`].

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use jiff::Timestamp;
use rusqlite::{Connection, ErrorCode, OptionalExtension, Statement, params};

use super::external::{ExternalIds, Young};
use crate::order::{Command, Event, OrderId, Payload, Request, Status, UserId, Version};
use crate::store::{Accepted, Basis, Completed, Completion, Creation, Refusal};

/// The prepared statements of the writing connection, and its clock.
pub(super) struct Statements<'c> {
    begin: Statement<'c>,
    commit: Statement<'c>,
    insert: Statement<'c>,
    update: Statement<'c>,
    delete: Statement<'c>,
    look: Statement<'c>,
    /// By target status, in the order of [`Status::ALL`].
    finish: Vec<Statement<'c>>,
    overtake: Vec<Statement<'c>>,
    external_ids: ExternalIds<'c>,
    /// The newest time given out, in microseconds: times never run backwards, even where the clock does. (Across
    /// two runs of the program each row sees to that by itself.)
    last: i64,
}

impl<'c> Statements<'c> {
    pub(super) fn prepare(connection: &'c Connection, young: Arc<Young>) -> rusqlite::Result<Statements<'c>> {
        let each = |sql: fn(Status) -> String| -> rusqlite::Result<Vec<Statement<'c>>> {
            Status::ALL.into_iter().map(|status| connection.prepare(&sql(status))).collect()
        };
        Ok(Statements {
            // IMMEDIATE: a transaction that turns into a writer half-way would fail at once if it met another.
            begin: connection.prepare("BEGIN IMMEDIATE")?,
            commit: connection.prepare("COMMIT")?,
            insert: connection.prepare(
                "INSERT INTO orders (order_id, user_id, status, version, processed_version, created_at,
                                     updated_at, amount, reason, external_id, payload)
                 VALUES (?1, ?2, ?3, 1, ?4, ?5, ?5, ?6, ?7, ?8, ?9) ON CONFLICT DO NOTHING",
            )?,
            update: connection.prepare(&format!(
                "UPDATE orders SET status = 'processing', version = version + 1, reason = NULL,
                     updated_at = max(updated_at, ?3), external_id = ?4, payload = ?5
                 WHERE order_id = ?1 AND (?2 IS NULL OR user_id = ?2) AND status IN ({})
                 RETURNING version, user_id, seq",
                sources(Status::Processing)
            ))?,
            delete: connection.prepare(&format!(
                "UPDATE orders SET status = 'deleted', version = version + 1, reason = NULL,
                     updated_at = max(updated_at, ?3), deleted_at = ?3
                 WHERE order_id = ?1 AND (?2 IS NULL OR user_id = ?2) AND status IN ({})
                 RETURNING version, user_id, external_id, payload",
                sources(Status::Deleted)
            ))?,
            look: connection.prepare("SELECT user_id, status FROM orders WHERE order_id = ?1")?,
            finish: each(finish_sql)?,
            overtake: each(overtake_sql)?,
            external_ids: ExternalIds::prepare(connection, young)?,
            last: 0,
        })
    }

    pub(super) fn begin(&mut self) -> rusqlite::Result<()> {
        self.external_ids.begin();
        self.begin.execute([]).map(drop)
    }

    /// The last step before the commit: a slice of the external ids goes into their table.
    pub(super) fn merge(&mut self) -> rusqlite::Result<()> {
        self.external_ids.merge()
    }

    pub(super) fn commit(&mut self) -> rusqlite::Result<()> {
        self.commit.execute([])?;
        self.external_ids.committed();
        Ok(())
    }

    /// Carries out a batch of commands; an error fails the whole transaction.
    pub(super) fn apply(&mut self, batch: &[Request]) -> rusqlite::Result<Vec<Result<Accepted, Refusal>>> {
        let now = self.now();
        let accepted = |event: Result<Event, Refusal>| event.map(Accepted::Now);
        batch.iter().map(|request| bad_row(self.apply_one(&request.command, now)).map(accepted)).collect()
    }

    fn apply_one(&mut self, command: &Command, now: Timestamp) -> rusqlite::Result<Result<Event, Refusal>> {
        let at = now.as_microsecond();
        let event = |version: Version, user_id: UserId, payload: Payload, status: Status| Event {
            order_id: Some(command.order_id()),
            version: Some(version),
            user_id: Some(user_id),
            payload,
            status,
            timestamp: now,
        };
        let (accepted, user_id) = match command {
            Command::Create { order_id, user_id, payload } => {
                let set = (Status::New, 0, at, "0", None);
                return Ok(match self.insert(*order_id, *user_id, payload, set)? {
                    false => Err(Refusal::Exists { user_id: *user_id, version: 1, deleted: false }),
                    true => Ok(event(1, *user_id, payload.clone(), Status::New)),
                });
            }
            Command::Update { order_id, user_id, payload, .. } => {
                let user = user_id.as_ref().map(UserId::as_bytes);
                let row = params![order_id.as_bytes(), user, at, payload.external_id(), payload.as_str()];
                let accepted = self.update.query_row(row, |row| {
                    let owner = UserId::from_bytes(row.get(1)?);
                    Ok((event(row.get(0)?, owner, payload.clone(), Status::Processing), owner, row.get(2)?))
                });
                let accepted = accepted.optional()?;
                if let Some((_, owner, seq)) = accepted {
                    self.external_ids.note(owner, payload.external_id(), seq)?;
                }
                (accepted.map(|(event, ..)| event), user_id)
            }
            Command::Delete { order_id, user_id, .. } => {
                let user = user_id.as_ref().map(UserId::as_bytes);
                let accepted = self.delete.query_row(params![order_id.as_bytes(), user, at], |row| {
                    let owner = UserId::from_bytes(row.get(1)?);
                    let payload = Payload::from_store(row.get_ref(3)?.as_str()?, row.get_ref(2)?.as_str()?);
                    Ok(event(row.get(0)?, owner, payload, Status::Deleted))
                });
                (accepted.optional()?, user_id)
            }
        };
        match accepted {
            Some(event) => Ok(Ok(event)),
            None => self.explain(command.order_id(), *user_id).map(Err),
        }
    }

    /// Inserts an order of version 1: status, processed version, time, amount and reason. `false` where the id is
    /// taken.
    fn insert(
        &mut self,
        order_id: OrderId,
        user_id: UserId,
        payload: &Payload,
        (status, processed, at, amount, reason): (Status, Version, i64, &str, Option<&str>),
    ) -> rusqlite::Result<bool> {
        let (id, user, status) = (order_id.as_bytes(), user_id.as_bytes(), status.as_str());
        let (external_id, text) = (payload.external_id(), payload.as_str());
        let row = params![id, user, status, processed, at, amount, reason, external_id, text];
        match self.insert.insert(row) {
            Ok(seq) => self.external_ids.note(user_id, external_id, seq).map(|()| true),
            Err(rusqlite::Error::StatementChangedRows(0)) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Why an order did not take a command. The transaction still sees what the command saw.
    fn explain(&mut self, order_id: OrderId, user_id: Option<UserId>) -> rusqlite::Result<Refusal> {
        let found = self.look.query_row([order_id.as_bytes()], |row| Ok(UserId::from_bytes(row.get(0)?)));
        Ok(match found.optional()? {
            Some(owner) if user_id.is_none_or(|user| user == owner) => Refusal::Deleted,
            _ => Refusal::NotFound,
        })
    }

    /// Records a batch of completions; an error fails the whole transaction.
    pub(super) fn complete(&mut self, batch: &[Completion]) -> rusqlite::Result<Vec<Completed>> {
        let now = self.now().as_microsecond();
        batch.iter().map(|completion| self.complete_one(completion, now)).collect()
    }

    fn complete_one(&mut self, completion: &Completion, now: i64) -> rusqlite::Result<Completed> {
        let id = completion.order_id.as_bytes();
        let amount = completion.amount.as_ref().map(ToString::to_string);
        let reason = completion.reason.as_deref();
        let target = completion.status as usize;
        let changed = match &completion.basis {
            Basis::Version(version) => {
                self.finish[target].execute(params![id, version, now, amount, reason])?
            }
            Basis::Unversioned(sent) => {
                self.overtake[target].execute(params![id, sent.as_microsecond(), now, amount, reason])?
            }
            Basis::Creation(creation) => {
                let Creation { user_id, payload } = &**creation;
                let set = (completion.status, 1, now, amount.as_deref().unwrap_or("0"), reason);
                return Ok(match self.insert(completion.order_id, *user_id, payload, set)? {
                    false => Completed::Stale,
                    true => Completed::Applied,
                });
            }
        };
        if changed > 0 {
            return Ok(Completed::Applied);
        }
        let exists = self.look.exists([id])?;
        Ok(if exists { Completed::Stale } else { Completed::Unknown })
    }

    fn now(&mut self) -> Timestamp {
        let elapsed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.last = self.last.max(i64::try_from(elapsed.as_micros()).unwrap_or(i64::MAX));
        Timestamp::from_microsecond(self.last).unwrap_or(Timestamp::MAX)
    }
}

/// A completion of a version: moves `processed_version`, and the rest where the order may take that status. The
/// time of the version is noted, so that an event without a version that is no newer changes nothing.
fn finish_sql(target: Status) -> String {
    let legal = format!("status IN ('{target}', {})", sources(target));
    format!(
        "UPDATE orders SET processed_version = version, updated_at = max(updated_at, ?3),
             source_at = max(coalesce(source_at, updated_at), updated_at),
             status = CASE WHEN {legal} THEN '{target}' ELSE status END,
             amount = CASE WHEN {legal} THEN coalesce(?4, amount) ELSE amount END,
             reason = CASE WHEN {legal} THEN ?5 ELSE reason END{deleted_at}
         WHERE order_id = ?1 AND version = ?2 AND processed_version < version",
        deleted_at = deleted_at(target)
    )
}

/// A completion without a version: in the order of the events' own times, and only where the order may take
/// that status. To stay as it is is no step, but for a deleted order, which nothing touches.
fn overtake_sql(target: Status) -> String {
    format!(
        "UPDATE orders SET source_at = ?2, updated_at = max(updated_at, ?3), status = '{target}',
             amount = coalesce(?4, amount), reason = ?5{deleted_at}
         WHERE order_id = ?1 AND (source_at IS NULL OR source_at < ?2) AND status <> 'deleted'
           AND status IN ('{target}', {sources})",
        deleted_at = deleted_at(target),
        sources = sources(target)
    )
}

/// A deletion notes its time, once.
fn deleted_at(target: Status) -> &'static str {
    if target == Status::Deleted { ", deleted_at = coalesce(deleted_at, ?3)" } else { "" }
}

/// The statuses from which an order may become `target`, as a SQL list.
fn sources(target: Status) -> String {
    // NULL is in no list, and keeps an empty one legal SQL.
    target.sources().map(|status| format!("'{status}', ")).collect::<String>() + "NULL"
}

/// Tells a row that SQLite will not take from a failure of the database.
fn bad_row<T>(result: rusqlite::Result<Result<T, Refusal>>) -> rusqlite::Result<Result<T, Refusal>> {
    match result {
        Err(rusqlite::Error::SqliteFailure(error, message))
            if matches!(
                error.code,
                ErrorCode::TooBig | ErrorCode::ConstraintViolation | ErrorCode::TypeMismatch
            ) =>
        {
            Ok(Err(Refusal::BadRow(message.unwrap_or_else(|| error.to_string()))))
        }
        other => other,
    }
}
