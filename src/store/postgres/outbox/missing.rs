//! Missing outbox entries: pending orders without a row in the outbox, because the bus has confirmed their events.
//! Where the bus has lost the events since, this file puts the rows back. It scans the orders by their key, a bounded
//! number of rows at a time: an index of pending orders would slow down every command and every completion.

use jiff::Timestamp;
use tokio_postgres::{Client, Row, Statement};
use uuid::Uuid;

use crate::order::{OrderId, Status, Version};
use crate::store::postgres::failure::Failure;
use crate::store::postgres::rows::{order_id, processed_version, user_id, uuid, within};
use crate::store::{CursorKey, MissingEntry, MissingPage, PendingCursor, Postponed};

/// The statements for missing outbox entries.
pub(in crate::store::postgres) struct Missing {
    find: Statement,
    add: Statement,
    postpone: Statement,
}

/// The orders of a page that are pending and have no outbox row; after them the last row of a full page, as the cursor.
const FIND: &str = concat!(
    "WITH o AS (SELECT order_id, version, processed_version, overtaken_version, user_id, status, updated_at
                  FROM orders WHERE order_id > $2 ORDER BY order_id LIMIT $3)
     SELECT o.order_id, o.version, o.user_id, o.status,
            CASE WHEN isfinite(o.updated_at) THEN o.updated_at END, false
       FROM o
      WHERE o.processed_version < o.version AND ",
    processed_version!(),
    " < o.version AND (o.updated_at < $1 OR o.updated_at > now() + interval '1 minute')
        AND NOT EXISTS (SELECT 1 FROM orders_outbox b WHERE b.order_id = o.order_id AND b.version = o.version)
     UNION ALL
     (SELECT order_id, NULL, NULL, NULL, NULL, true FROM o ORDER BY order_id OFFSET $3 - 1 LIMIT 1)"
);

/// Adds rows for versions that are still pending; where another process was faster, its row stays.
const ADD: &str = "INSERT INTO orders_outbox (order_id, version, created_at)
    SELECT o.order_id, o.version, now() - interval '1 minute'
      FROM unnest($1::uuid[], $2::int8[]) AS k (order_id, version)
      JOIN orders o ON o.order_id = ANY (ARRAY[k.order_id])
     WHERE o.version = k.version AND o.processed_version < o.version
     ORDER BY o.order_id
        ON CONFLICT (order_id, version) DO NOTHING";

/// Adds rows that count as claimed until they are due. Their two times are equal, which those of a claimed row never
/// are: so an earlier publish that is marked late does not remove them.
const POSTPONE: &str = "INSERT INTO orders_outbox (order_id, version, created_at, claimed_until)
    SELECT o.order_id, o.version, due, due
      FROM unnest($1::uuid[], $2::int8[], $3::float8[]) AS k (order_id, version, seconds)
           CROSS JOIN LATERAL (SELECT clock_timestamp() + k.seconds * interval '1 second' AS due) AS t
      JOIN orders o ON o.order_id = ANY (ARRAY[k.order_id])
     WHERE o.version = k.version AND o.processed_version < o.version
     ORDER BY o.order_id
        ON CONFLICT (order_id, version)
        DO UPDATE SET created_at = excluded.created_at, claimed_until = excluded.claimed_until";

impl Missing {
    pub(in crate::store::postgres) async fn prepare(
        client: &Client,
    ) -> Result<Missing, tokio_postgres::Error> {
        let (find, add, postpone) =
            tokio::try_join!(client.prepare(FIND), client.prepare(ADD), client.prepare(POSTPONE))?;
        Ok(Missing { find, add, postpone })
    }

    /// The missing entries among so many orders behind the cursor.
    pub(in crate::store::postgres) async fn find(
        &self,
        client: &Client,
        before: Timestamp,
        after: Option<PendingCursor>,
        rows: usize,
    ) -> Result<MissingPage, Failure> {
        let after = match after {
            Some(PendingCursor(CursorKey::Key { order_id, .. })) => uuid(order_id),
            _ => Uuid::nil(),
        };
        let found = client.query(&self.find, &[&within(before), &after, &(rows as i64)]).await?;
        let mut page = MissingPage::default();
        for row in &found {
            match row.try_get(5)? {
                true => {
                    let order_id = order_id(row.try_get(0)?);
                    page.next = Some(PendingCursor(CursorKey::Key { order_id, version: 0 }));
                }
                // The checker reports rows that cannot be read.
                false => page.entries.extend(entry(row)?),
            }
        }
        Ok(page)
    }

    /// Puts rows back into the outbox; returns how many were added.
    pub(in crate::store::postgres) async fn add(
        &self,
        client: &Client,
        keys: &[(OrderId, Version)],
    ) -> Result<usize, Failure> {
        let (ids, versions): (Vec<Uuid>, Vec<Version>) =
            keys.iter().map(|(id, version)| (uuid(*id), *version)).unzip();
        Ok(client.execute(&self.add, &[&ids, &versions]).await? as usize)
    }

    /// Puts rows into the outbox that are due later.
    pub(super) async fn postpone(&self, client: &Client, orders: &[Postponed]) -> Result<(), Failure> {
        let ids: Vec<Uuid> = orders.iter().map(|it| uuid(it.order_id)).collect();
        let versions: Vec<Version> = orders.iter().map(|it| it.version).collect();
        let seconds: Vec<f64> = orders.iter().map(|it| it.by.as_secs_f64()).collect();
        client.execute(&self.postpone, &[&ids, &versions, &seconds]).await?;
        Ok(())
    }
}

fn entry(row: &Row) -> Result<Option<MissingEntry>, Failure> {
    let Some(status) = row.try_get::<_, Option<&str>>(3)?.and_then(Status::parse) else { return Ok(None) };
    let Some(user) = row.try_get::<_, Option<Uuid>>(2)? else { return Ok(None) };
    Ok(Some(MissingEntry {
        order_id: order_id(row.try_get(0)?),
        version: row.try_get(1)?,
        user_id: user_id(user),
        status,
        updated_at: row.try_get(4)?,
    }))
}
