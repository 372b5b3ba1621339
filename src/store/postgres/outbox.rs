//! The outbox: which versions are committed and not yet confirmed by the broker. A row lives for milliseconds; what
//! stays is found here by any process. The event itself is made from the order, so a row whose order has moved on,
//! or is done, has nothing more to say and is removed by whoever finds it.

use futures_util::future::try_join_all;
use jiff::Timestamp;
use tokio_postgres::{Client, Row, Statement};
use uuid::Uuid;

use super::link::Prepare;
use super::rows::{COLUMN_COUNT, COLUMNS, order, order_id, readable, uuid, within};
use super::trouble::Trouble;
use crate::order::{OrderId, Version};
use crate::store::{Cursor, PendingPage, Place};
use crate::telemetry::limited;

/// For how long a process that has taken a row up is left alone with it, in seconds: as long as a publish takes to
/// fail.
const CLAIM_SECONDS: u32 = 10;

/// A connection that keeps the outbox.
pub(super) struct Outbox {
    client: Client,
    remove: Statement,
    claim: Statement,
    pending: Statement,
    orphans: Statement,
    now: Statement,
}

impl Prepare for Outbox {
    const WRITES: bool = true;

    async fn prepare(client: Client, _: bool) -> Result<Outbox, tokio_postgres::Error> {
        let sql = [
            REMOVE.to_owned(),
            claim_sql(),
            pending_sql(),
            ORPHANS.to_owned(),
            "SELECT clock_timestamp()".to_owned(),
        ];
        let statements = try_join_all(sql.iter().map(|sql| client.prepare(sql))).await?;
        let [remove, claim, pending, orphans, now] = statements.try_into().unwrap_or_else(|_| unreachable!());
        Ok(Outbox { client, remove, claim, pending, orphans, now })
    }

    fn client(&self) -> &Client {
        &self.client
    }
}

const REMOVE: &str =
    "DELETE FROM orders_outbox b USING unnest($1::uuid[], $2::int8[]) AS k (order_id, version)
                      WHERE b.order_id = ANY (ARRAY[k.order_id]) AND b.version = k.version";

/// Rows that another process is taking up at this moment are its own, and not waited for.
fn claim_sql() -> String {
    format!(
        "UPDATE orders_outbox b SET claimed_until = clock_timestamp() + interval '{CLAIM_SECONDS} seconds'
           FROM (SELECT k.order_id, k.version FROM unnest($1::uuid[], $2::int8[]) AS k (order_id, version)
                   JOIN orders_outbox free USING (order_id, version)
                  WHERE free.claimed_until IS NULL OR free.claimed_until < clock_timestamp()
                    FOR UPDATE OF free SKIP LOCKED) AS mine
          WHERE b.order_id = mine.order_id AND b.version = mine.version
         RETURNING b.order_id, b.version"
    )
}

/// By the key, which grows with time: a table of millions is walked page by page, without an index for it.
fn pending_sql() -> String {
    format!(
        "SELECT {COLUMNS}, b.order_id, b.version, o.version = b.version AND o.processed_version < o.version
           FROM (SELECT order_id, version FROM orders_outbox
                  WHERE created_at < $1 AND (order_id, version) > ($2, $3)
                    AND (claimed_until IS NULL OR claimed_until < clock_timestamp())
                  ORDER BY order_id, version LIMIT $4) AS b
           JOIN orders o ON o.order_id = ANY (ARRAY[b.order_id])
          ORDER BY b.order_id, b.version"
    )
}

const ORPHANS: &str = "SELECT order_id FROM orders_outbox b
                        WHERE NOT EXISTS (SELECT 1 FROM orders o WHERE o.order_id = b.order_id)";

impl Outbox {
    /// Removes rows that have been published.
    pub(super) async fn remove(&self, events: &[(OrderId, Version)]) -> Result<(), Trouble> {
        let mut events = events.to_vec();
        // In one order everywhere, so that two batches never wait for each other in a circle.
        events.sort_unstable();
        let (ids, versions) = columns(&events);
        self.client.execute(&self.remove, &[&ids, &versions]).await?;
        Ok(())
    }

    /// Takes rows up, and answers which.
    pub(super) async fn claim(&self, events: &[(OrderId, Version)]) -> Result<Vec<bool>, Trouble> {
        let (ids, versions) = columns(events);
        let rows = self.client.query(&self.claim, &[&ids, &versions]).await?;
        let key = |row: &Row| Ok((order_id(row.try_get(0)?), row.try_get(1)?));
        let mine: Vec<(OrderId, Version)> = rows.iter().map(key).collect::<Result<_, Trouble>>()?;
        Ok(events.iter().map(|event| mine.contains(event)).collect())
    }

    /// A page of what is pending and nobody has taken up.
    pub(super) async fn pending(
        &self,
        before: Timestamp,
        after: Option<Cursor>,
        limit: usize,
    ) -> Result<PendingPage, Trouble> {
        let (after_id, after_version) = match after {
            Some(Cursor(Place::Key { order_id, version })) => (uuid(order_id), version),
            _ => (Uuid::nil(), 0),
        };
        let before = within(before);
        let rows =
            self.client.query(&self.pending, &[&before, &after_id, &after_version, &(limit as i64)]).await?;
        let (mut events, mut obsolete, mut last) = (Vec::new(), Vec::new(), None);
        for row in &rows {
            let key = (order_id(row.try_get(COLUMN_COUNT)?), row.try_get(COLUMN_COUNT + 1)?);
            match row.try_get(COLUMN_COUNT + 2)? {
                true => match readable(order(row))? {
                    Ok(order) => events.push(order.into_event()),
                    // The others must not wait until somebody mends it.
                    Err(damaged) => limited!(error, "damaged event"; %damaged, "an event cannot be made"),
                },
                false => obsolete.push(key),
            }
            last = Some(key);
        }
        if !obsolete.is_empty() {
            self.remove(&obsolete).await?;
        }
        let next = last.filter(|_| rows.len() == limit);
        let next = next.map(|(order_id, version)| Cursor(Place::Key { order_id, version }));
        Ok(PendingPage { events, next })
    }

    /// The orders of rows whose order is not there.
    pub(super) async fn orphans(&self) -> Result<Vec<OrderId>, Trouble> {
        let rows = self.client.query(&self.orphans, &[]).await?;
        rows.iter().map(|row| Ok(order_id(row.try_get(0)?))).collect()
    }

    /// The server's clock.
    pub(super) async fn now(&self) -> Result<Timestamp, Trouble> {
        Ok(self.client.query_one(&self.now, &[]).await?.try_get(0)?)
    }
}

fn columns(events: &[(OrderId, Version)]) -> (Vec<Uuid>, Vec<Version>) {
    events.iter().map(|(id, version)| (uuid(*id), *version)).unzip()
}
