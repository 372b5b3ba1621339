//! The outbox in Postgres: a narrow table whose rows are written with their orders and deleted when the broker has
//! confirmed the events. The sweep has a connection of its own, so that it does not wait for events that are being
//! marked published.

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

/// After how many orphans their search ends.
const MAX_ORPHANS: usize = 1_000;

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
        // Not on the sweep's connection: the sweep must not wait for this.
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
        while let Some(from) = after.filter(|_| found.len() < MAX_ORPHANS) {
            let find = |reads: Arc<Reads>| async move { reads.survey.orphans(reads.client(), from).await };
            let page = self.reads.read(find).await?;
            found.extend(page.rows);
            after = page.next;
        }
        Ok(found)
    }
}
