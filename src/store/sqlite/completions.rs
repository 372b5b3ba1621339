//! Completions: what the worker has done, recorded where the order is not past it.

use jiff::Timestamp;
use rusqlite::params;

use super::statements::{Statements, is_or_may_become};
use crate::order::Status;
use crate::store::{Basis, Completed, Completion, Creation};

impl Statements<'_> {
    /// Records a batch of completions; an error fails the whole transaction.
    pub(super) fn complete(&mut self, batch: &[Completion]) -> rusqlite::Result<Vec<Completed>> {
        let now = self.clock.now();
        batch.iter().map(|completion| self.complete_one(completion, now)).collect()
    }

    fn complete_one(&mut self, completion: &Completion, now: Timestamp) -> rusqlite::Result<Completed> {
        let (id, target) = (completion.order_id.as_bytes(), completion.status);
        let at = now.as_microsecond();
        let amount = completion.amount.as_ref().map(ToString::to_string);
        let reason = completion.reason.as_deref();
        let applied = match &completion.basis {
            Basis::Version(version) => {
                self.finish[target as usize].execute(params![id, version, at, amount, reason])? > 0
            }
            Basis::Unversioned(sent) => {
                let row = params![id, sent.as_microsecond(), at, amount, reason];
                self.overtake[target as usize].execute(row)? > 0
            }
            Basis::Creation(creation) => self.create(completion, creation, now)?,
        };
        if !applied {
            let exists = self.look.exists([id])?;
            return Ok(if exists { Completed::Stale } else { Completed::Unknown });
        }
        self.history.completed(completion, amount.as_deref(), now)?;
        Ok(Completed::Applied)
    }

    /// Makes the order that an event asks for, as processed; `false` where its id is taken.
    fn create(
        &mut self,
        completion: &Completion,
        Creation { user_id, payload }: &Creation,
        now: Timestamp,
    ) -> rusqlite::Result<bool> {
        let amount = completion.amount.as_ref().map_or_else(|| "0".to_owned(), ToString::to_string);
        let set = (completion.status, 1, now, amount.as_str(), completion.reason.as_deref());
        let Some(row) = self.insert(completion.order_id, *user_id, payload, set)? else { return Ok(false) };
        self.external_ids.created(*user_id, payload.external_id(), row)?;
        Ok(true)
    }
}

/// A completion of a version: moves `processed_version`, and the rest where the order may take that status. The
/// time of the version is noted, so that an event without a version that is no newer changes nothing.
pub(super) fn finish_sql(target: Status) -> String {
    let legal = is_or_may_become(target);
    format!(
        "UPDATE orders SET processed_version = version, touched = NULL, updated_at = max(updated_at, ?3),
             source_at = max(coalesce(source_at, updated_at), updated_at),
             status = CASE WHEN {legal} THEN '{target}' ELSE status END,
             amount = CASE WHEN {legal} THEN coalesce(?4, amount) ELSE amount END,
             reason = CASE WHEN {legal} THEN ?5 ELSE reason END{deleted_at}
         WHERE order_id = ?1 AND version = ?2 AND processed_version < version",
        deleted_at = deleted_at(target)
    )
}

/// A completion without a version: in the order of the events' own times, and only where the order may take
/// that status. To stay as it is is no step, but for a deleted order, which nothing touches. The time of the change is
/// a new one, by which its entity tag differs.
pub(super) fn overtake_sql(target: Status) -> String {
    format!(
        "UPDATE orders SET source_at = ?2, touched = 1, updated_at = max(updated_at + 1, ?3), status = '{target}',
             amount = coalesce(?4, amount), reason = ?5{deleted_at}
         WHERE order_id = ?1 AND (source_at IS NULL OR source_at < ?2) AND status <> 'deleted'
           AND {legal}",
        deleted_at = deleted_at(target),
        legal = is_or_may_become(target)
    )
}

/// A deletion notes its time, once.
fn deleted_at(target: Status) -> &'static str {
    if target == Status::Deleted { ", deleted_at = coalesce(deleted_at, ?3)" } else { "" }
}
