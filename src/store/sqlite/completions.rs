//! Records completions in the writer's transaction. A completion that is not newer than its order must change nothing.
//! It relies on the conditional statements of `transitions`, and writes a history event for each completion that
//! applied.

use jiff::Timestamp;
use rusqlite::params;

use super::statements::Statements;
use crate::store::{Completed, Completion, Creation, Precondition};

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
        let applied = match &completion.precondition {
            Precondition::Version(version) => {
                self.finish[target as usize].execute(params![id, version, at, amount, reason])? > 0
            }
            Precondition::Unversioned(sent) => {
                let row = params![id, sent.as_microsecond(), at, amount, reason];
                self.overtake[target as usize].execute(row)? > 0
            }
            Precondition::Creation(creation) => self.create(completion, creation, now)?,
        };
        if !applied {
            let exists = self.look.exists([id])?;
            return Ok(if exists { Completed::Stale } else { Completed::Unknown });
        }
        self.history.completed(completion, amount.as_deref(), now)?;
        Ok(Completed::Applied)
    }

    /// Creates the order that an event requests, as processed; `false` where its id exists already.
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
