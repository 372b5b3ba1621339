//! The outbox in Postgres: a narrow table whose rows are written with their orders and deleted when the broker has
//! confirmed. Two connections of one kind: what the sweep asks for does not wait for the marks of what was published.

pub(super) mod entries;
mod floor;
mod missing;
mod sql;
pub(super) mod survey;

use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;

use super::connection::pooled_connection::Prepare;
use super::reads::Reads;
use super::store::PostgresStore;
use crate::order::{OrderId, Version};
use crate::store::{Error, MissingPage, Outbox, PendingCursor, PendingPage, Postponed};

/// After how many rows the search for rows that are missing ends.
const MOST_FOUND: usize = 1_000;

#[async_trait]
impl Outbox for PostgresStore {
    fn has_outbox(&self) -> bool {
        true
    }

    async fn pending(
        &self,
        before: Timestamp,
        after: Option<PendingCursor>,
        limit: usize,
    ) -> Result<PendingPage, Error> {
        self.sweep.read(|session| async move { session.pending(before, after, limit).await }).await
    }

    async fn claim(&self, events: &[(OrderId, Version)]) -> Result<Vec<bool>, Error> {
        self.sweep.read(|session| async move { session.claim(events).await }).await
    }

    async fn published(&self, events: &[(OrderId, Version)]) -> Result<(), Error> {
        if events.is_empty() {
            return Ok(());
        }
        self.outbox.read(|session| async move { session.remove(events).await }).await
    }

    async fn postpone(&self, orders: &[Postponed]) -> Result<(), Error> {
        let postpone = |session: Arc<entries::Outbox>| async move {
            session.missing.postpone(session.client(), orders).await
        };
        // The sweep does not wait for them.
        self.outbox.read(postpone).await
    }

    async fn missing_outbox_entries(
        &self,
        before: Timestamp,
        after: Option<PendingCursor>,
        orders: usize,
    ) -> Result<MissingPage, Error> {
        let find = |session: Arc<entries::Outbox>| async move {
            session.missing.find(session.client(), before, after, orders).await
        };
        self.sweep.read(find).await
    }

    async fn add_outbox_entries(&self, events: &[(OrderId, Version)]) -> Result<usize, Error> {
        let add = |session: Arc<entries::Outbox>| async move {
            session.missing.add(session.client(), events).await
        };
        self.sweep.read(add).await
    }

    async fn outbox_orphans(&self) -> Result<Vec<OrderId>, Error> {
        let (mut found, mut after) = (Vec::new(), Some(survey::START));
        while let Some(from) = after.filter(|_| found.len() < MOST_FOUND) {
            let look = |reads: Arc<Reads>| async move { reads.survey.orphans(reads.client(), from).await };
            let part = self.reads.read(look).await?;
            found.extend(part.rows);
            after = part.next;
        }
        Ok(found)
    }
}
