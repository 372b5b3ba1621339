//! The rows of the outbox: versions that are committed and not confirmed by the broker yet. Most rows exist for
//! milliseconds; any process finds those that remain. The event is made from the order, so a row whose order has a
//! newer version, or is processed, is obsolete, and the process that finds it removes it.

use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use futures_util::future::try_join_all;
use jiff::Timestamp;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Row, Statement};
use uuid::Uuid;

use super::floor::{FIRST, Floor};
use super::missing::Missing;
use super::sql::{REMOVE, claim_sql, pending_sql, waiting};
use crate::order::{Order, OrderId, Status, Version};
use crate::store::damage::DamageLog;
use crate::store::postgres::bounded;
use crate::store::postgres::connection::pooled_connection::Prepare;
use crate::store::postgres::failure::Failure;
use crate::store::postgres::payload_text::TOO_LONG;
use crate::store::postgres::rows::{
    COLUMN_COUNT, EVENT_COLUMNS, event_columns_but_payload, order_but_payload, order_id, readable, uuid,
    within,
};
use crate::store::{CursorKey, Damaged, PendingCursor, PendingPage, Unpublishable};

/// A connection that reads and writes the outbox.
pub(in crate::store::postgres) struct Outbox {
    client: Client,
    remove: Statement,
    claim: Statement,
    pending: Statement,
    next: Statement,
    // std Mutex: held to read or to set the floor, never across .await
    floor: Mutex<Floor>,
    damage: DamageLog,
    now: Statement,
    pub(in crate::store::postgres) missing: Missing,
}

impl Prepare for Outbox {
    const WRITES: bool = true;

    async fn prepare(client: Client, _: bool) -> Result<Outbox, tokio_postgres::Error> {
        let sql = [
            REMOVE.to_owned(),
            claim_sql(),
            pending_sql(EVENT_COLUMNS),
            format!("SELECT order_id, version FROM {}", waiting("1")),
            "SELECT clock_timestamp()".to_owned(),
        ];
        let statements = try_join_all(sql.iter().map(|sql| client.prepare(sql))).await?;
        let [remove, claim, pending, next, now] = statements.try_into().unwrap_or_else(|_| unreachable!());
        let missing = Missing::prepare(&client).await?;
        let (floor, damage) = (Mutex::default(), DamageLog::default());
        Ok(Outbox { client, remove, claim, pending, next, floor, damage, now, missing })
    }

    fn client(&self) -> &Client {
        &self.client
    }
}

impl Outbox {
    /// Removes the rows of published events.
    pub(in crate::store::postgres) async fn remove(
        &self,
        events: &[(OrderId, Version)],
    ) -> Result<(), Failure> {
        let mut events = events.to_vec();
        // In the order of the keys, as everywhere, so that two batches cannot deadlock.
        events.sort_unstable();
        let (ids, versions) = columns(&events);
        self.client.execute(&self.remove, &[&ids, &versions]).await?;
        Ok(())
    }

    /// Claims rows, and returns for each whether the caller has it.
    pub(super) async fn claim(&self, events: &[(OrderId, Version)]) -> Result<Vec<bool>, Failure> {
        let (ids, versions) = columns(events);
        let rows = self.client.query(&self.claim, &[&ids, &versions]).await?;
        let key = |row: &Row| Ok((order_id(row.try_get(0)?), row.try_get(1)?));
        let mine: Vec<(OrderId, Version)> = rows.iter().map(key).collect::<Result<_, Failure>>()?;
        Ok(events.iter().map(|event| mine.contains(event)).collect())
    }

    /// A page of pending events that no process has claimed.
    pub(super) async fn pending(
        &self,
        before: Timestamp,
        after: Option<PendingCursor>,
        limit: usize,
    ) -> Result<PendingPage, Failure> {
        if let Some(PendingCursor(CursorKey::Key { order_id, version })) = after {
            return Ok(self.page(before, (uuid(order_id), version), limit).await?.0);
        }
        let began = Instant::now();
        let start = self.floor.lock().unwrap_or_else(PoisonError::into_inner).start(began);
        let (page, first) = self.page(before, start, limit).await?;
        if start == FIRST {
            let (ended, mut floor) =
                (Instant::now(), self.floor.lock().unwrap_or_else(PoisonError::into_inner));
            floor.scanned(ended, ended - began, before, first.map(|(id, version)| (uuid(id), version)));
        }
        Ok(page)
    }

    /// A page behind a key, and the key of its first row.
    async fn page(
        &self,
        before: Timestamp,
        (after_id, after_version): (Uuid, Version),
        limit: usize,
    ) -> Result<(PendingPage, Option<(OrderId, Version)>), Failure> {
        let bounds = (within(before), after_id, after_version);
        let parameters: [&(dyn ToSql + Sync); 4] = [&bounds.0, &bounds.1, &bounds.2, &(limit as i64)];
        let read = bounded::read(&self.client, &self.pending, &parameters).await;
        let chunk = match (read, bounded::fewer(limit)) {
            // Fewer rows at a time, until the row at fault is alone.
            (Err(failure), Some(fewer)) if failure.may_concern_a_row() => {
                return Box::pin(self.page(before, (after_id, after_version), fewer)).await;
            }
            (Err(failure), None) if failure.may_concern_a_row() => {
                let [before, after_id, after_version, _] = parameters;
                let page = self.skip_row([before, after_id, after_version], &failure).await?;
                let first = page.next;
                return Ok((page, first.and_then(key_of)));
            }
            (read, _) => read?,
        };
        let (mut page, mut obsolete, mut first, mut last) = (PendingPage::default(), Vec::new(), None, None);
        for row in &chunk.rows {
            let key = (order_id(row.try_get(COLUMN_COUNT)?), row.try_get(COLUMN_COUNT + 1)?);
            match row.try_get(COLUMN_COUNT + 2)? {
                Some(true) => self.pending_row(row, key, &mut page)?,
                Some(false) => obsolete.push(key),
                // A row without its order: the checker reports it, and the sweep skips it.
                None => {}
            }
            first = first.or(Some(key));
            last = Some(key);
        }
        if !obsolete.is_empty() {
            self.remove(&obsolete).await?;
        }
        page.next = last.filter(|_| chunk.is_cut || chunk.rows.len() == limit).map(cursor);
        Ok((page, first))
    }

    /// Adds the event of an order, or the reason why it cannot be published.
    fn pending_row(
        &self,
        row: &Row,
        (order_id, version): (OrderId, Version),
        page: &mut PendingPage,
    ) -> Result<(), Failure> {
        match readable(order_but_payload(row))? {
            // A deletion needs no payload.
            Ok((order, has_payload)) if has_payload || order.status == Status::Deleted => {
                page.events.push(order.into_event());
            }
            Ok(_) => {
                page.unpublishable.push(Unpublishable { order_id, version, reason: TOO_LONG.to_owned() });
            }
            // A damaged row must not delay the others.
            Err(damaged) => self.damage.log(&damaged, "the event of an order cannot be made"),
        }
        Ok(())
    }

    /// A page of the next row alone, whose order the server cannot read. The page is empty, unless that order is
    /// deleted, because a deletion needs no payload. An obsolete row is removed.
    async fn skip_row(
        &self,
        bounds: [&(dyn ToSql + Sync); 3],
        failure: &Failure,
    ) -> Result<PendingPage, Failure> {
        let Some(row) = self.client.query_opt(&self.next, &bounds).await? else {
            return Ok(PendingPage::default());
        };
        let key = (order_id(row.try_get(0)?), row.try_get(1)?);
        let mut page = PendingPage { next: Some(cursor(key)), ..PendingPage::default() };
        match self.without_payload(bounds).await {
            Some((of, _, false)) if of == key => self.remove(&[key]).await?,
            // Only if the row is certainly at fault: after a timeout the next sweep may read the payload.
            Some((of, Some(order), true))
                if of == key && order.status == Status::Deleted && failure.concerns_a_row() =>
            {
                page.events.push(order.into_event());
            }
            _ => {
                let what = format!("the server cannot read it: {failure}");
                self.damage.log(&Damaged { order_id: key.0, what }, "the event of an order cannot be made");
            }
        }
        Ok(page)
    }

    /// The next row, its order without the payload where the rest of it can be read, and whether the row is still
    /// pending.
    async fn without_payload(
        &self,
        [before, after_id, after_version]: [&(dyn ToSql + Sync); 3],
    ) -> Option<((OrderId, Version), Option<Order>, bool)> {
        let sql = pending_sql(&event_columns_but_payload());
        let row = self.client.query_opt(&sql, &[before, after_id, after_version, &1_i64]).await.ok()??;
        let order = order_but_payload(&row).ok().map(|(order, _)| order);
        let key = (order_id(row.try_get(COLUMN_COUNT).ok()?), row.try_get(COLUMN_COUNT + 1).ok()?);
        Some((key, order, row.try_get(COLUMN_COUNT + 2).ok()?))
    }

    /// The server's clock.
    pub(in crate::store::postgres) async fn now(&self) -> Result<Timestamp, Failure> {
        Ok(self.client.query_one(&self.now, &[]).await?.try_get(0)?)
    }
}

fn key_of(cursor: PendingCursor) -> Option<(OrderId, Version)> {
    match cursor {
        PendingCursor(CursorKey::Key { order_id, version }) => Some((order_id, version)),
        PendingCursor(CursorKey::Changed { .. }) => None,
    }
}

fn cursor((order_id, version): (OrderId, Version)) -> PendingCursor {
    PendingCursor(CursorKey::Key { order_id, version })
}

fn columns(events: &[(OrderId, Version)]) -> (Vec<Uuid>, Vec<Version>) {
    events.iter().map(|(id, version)| (uuid(*id), *version)).unzip()
}
