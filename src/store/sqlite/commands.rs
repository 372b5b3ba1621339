//! Applies requests in the writer's transaction: the order's row, then its index entries, key and history event. A
//! refused request must write nothing; a failure after the order's row fails the whole transaction, and a row that
//! SQLite refuses fails alone. All requests of a batch have the same time, from the store's clock. A used key is found
//! before any other reason to refuse. Payloads of deleted orders are returned up to a number of bytes, so the memory of
//! a batch is bounded.

use jiff::Timestamp;
use rusqlite::{ErrorCode, OptionalExtension, params};

use super::rows::readable;
use super::statements::Statements;
use crate::order::{Command, CommandRequest, Event, OrderId, Payload, Status, UserId, Version};
use crate::store::{Accepted, MAX_RETURNED_BYTES, Refusal, ReplayedOutcome};

/// The change of an order by a command.
struct Change {
    user_id: UserId,
    version: Version,
    status: Status,
    /// The order's payload; `None` where the batch has returned enough bytes.
    payload: Option<Payload>,
    /// The number of the order's row.
    row: i64,
    /// The order's previous external id, where it has changed.
    external_before: Option<String>,
}

impl Statements<'_> {
    /// Applies a batch of requests; an error fails the whole transaction.
    pub(super) fn apply(
        &mut self,
        batch: &[CommandRequest],
    ) -> rusqlite::Result<Vec<Result<Accepted, Refusal>>> {
        let (now, mut returned_bytes) = (self.clock.now(), 0);
        batch.iter().map(|request| self.apply_one(request, now, &mut returned_bytes)).collect()
    }

    fn apply_one(
        &mut self,
        request: &CommandRequest,
        now: Timestamp,
        returned_bytes: &mut usize,
    ) -> rusqlite::Result<Result<Accepted, Refusal>> {
        if let Some(key) = &request.key {
            match readable(self.keys.find(&key.digest))? {
                Ok(None) => {}
                Ok(Some(used)) if used.content == key.content => {
                    return Ok(Ok(Accepted::Replayed(used.outcome)));
                }
                Ok(Some(_)) => return Ok(Err(Refusal::KeyReused)),
                Err(damaged) => return Ok(Err(Refusal::BadRow(damaged.to_string()))),
            }
        }
        let order_id = request.command.order_id();
        let Change { user_id, version, status, payload, row, external_before } =
            match bad_row(self.change(&request.command, now, returned_bytes))? {
                Ok(change) => change,
                Err(refusal) => return Ok(Err(refusal)),
            };
        // The order's row is written, so a failure from here on must fail the whole transaction.
        match (&request.command, &payload) {
            (Command::Create { .. }, Some(payload)) => {
                self.external_ids.created(user_id, payload.external_id(), row)?;
            }
            (Command::Update { .. }, Some(payload)) => {
                let external_ids = (external_before.as_deref(), payload.external_id());
                self.external_ids.updated(user_id, external_ids, row)?;
            }
            _ => {}
        }
        let done = ReplayedOutcome { order_id, version, status };
        if let Some(key) = &request.key {
            self.keys.keep(key, &done, now)?;
        }
        self.history.commanded(row, version, now, status)?;
        let Some(payload) = payload else { return Ok(Ok(Accepted::AppliedWithoutEvent(done))) };
        Ok(Ok(Accepted::Applied(Event {
            order_id: Some(order_id),
            version: Some(version),
            user_id: Some(user_id),
            payload,
            status,
            timestamp: now,
        })))
    }

    /// Writes the order's own row, with one statement.
    fn change(
        &mut self,
        command: &Command,
        now: Timestamp,
        returned_bytes: &mut usize,
    ) -> rusqlite::Result<Result<Change, Refusal>> {
        let at = now.as_microsecond();
        let change = match command {
            Command::Create { order_id, user_id, payload } => {
                let (set, user_id) = ((Status::New, 0, now, "0", None), *user_id);
                self.insert(*order_id, user_id, payload, set)?.map(|row| Change {
                    user_id,
                    version: 1,
                    status: Status::New,
                    payload: Some(payload.clone()),
                    row,
                    external_before: None,
                })
            }
            Command::Update { order_id, user_id, payload, if_version } => {
                let user = user_id.as_ref().map(UserId::as_bytes);
                let (external_id, text) = (payload.external_id(), payload.as_str());
                let external_before = self.external_before(*order_id, external_id)?;
                let row = params![order_id.as_bytes(), user, if_version, at, external_id, text];
                let change = self.update.query_row(row, |row| {
                    Ok(Change {
                        user_id: UserId::from_bytes(row.get(1)?),
                        version: row.get(0)?,
                        status: Status::Processing,
                        payload: Some(payload.clone()),
                        row: row.get(2)?,
                        external_before,
                    })
                });
                change.optional()?
            }
            Command::Delete { order_id, user_id, if_version } => {
                let user = user_id.as_ref().map(UserId::as_bytes);
                let change =
                    self.delete.query_row(params![order_id.as_bytes(), user, if_version, at], |row| {
                        let (text, external_id) = (row.get_ref(3)?.as_str()?, row.get_ref(2)?.as_str()?);
                        let is_returned = *returned_bytes + text.len() <= MAX_RETURNED_BYTES;
                        if is_returned {
                            *returned_bytes += text.len();
                        }
                        Ok(Change {
                            user_id: UserId::from_bytes(row.get(1)?),
                            version: row.get(0)?,
                            status: Status::Deleted,
                            payload: is_returned.then(|| Payload::from_store(text, external_id)),
                            row: row.get(4)?,
                            external_before: None,
                        })
                    });
                change.optional()?
            }
        };
        match change {
            Some(change) => Ok(Ok(change)),
            None => self.explain(command).map(Err),
        }
    }

    /// The external id of an order, where it differs from the new one. RETURNING would return only the new one.
    fn external_before(&mut self, order_id: OrderId, external_id: &str) -> rusqlite::Result<Option<String>> {
        let before = self.external_id.query_row([order_id.as_bytes()], |row| {
            // An external id that cannot be read has no entry in the index.
            let before = row.get_ref(0)?.as_str().unwrap_or_default();
            Ok((before != external_id).then(|| before.to_owned()))
        });
        before.optional().map(Option::flatten)
    }

    /// The reason why an order did not take a command. The transaction still sees what the command saw.
    fn explain(&mut self, command: &Command) -> rusqlite::Result<Refusal> {
        let found = self.look.query_row([command.order_id().as_bytes()], |row| {
            Ok((UserId::from_bytes(row.get(0)?), row.get(1)?, row.get(2)?))
        });
        let Some((owner, current, status)) = found.optional()? else { return Ok(Refusal::NotFound) };
        let (current, status): (Version, String) = (current, status);
        let deleted = status == Status::Deleted.as_str();
        Ok(match command {
            Command::Create { .. } => Refusal::Exists { user_id: owner, version: current, deleted },
            Command::Update { user_id: Some(user), .. } | Command::Delete { user_id: Some(user), .. }
                if *user != owner =>
            {
                Refusal::NotFound
            }
            _ if deleted => Refusal::Deleted,
            Command::Update { if_version: Some(version), .. }
            | Command::Delete { if_version: Some(version), .. }
                if *version != current =>
            {
                Refusal::Changed { current }
            }
            _ => Refusal::Damaged(format!("its status {status:?} cannot change")),
        })
    }
}

/// Separates rows that SQLite refuses from failures of the database.
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
