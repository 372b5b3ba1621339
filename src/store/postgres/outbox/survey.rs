//! Scans of the whole outbox for the checker, with a bounded number of rows in each statement, so that a statement
//! stays within its time limit and its memory with a table of any size. It only reads, on the pool of reads, and locks
//! no row, because the relay removes rows meanwhile. Pages follow the key of the table; one without an orphan may have
//! a next one.

use tokio_postgres::{Client, Row, Statement};
use uuid::Uuid;

use crate::order::{OrderId, Version};
use crate::store::postgres::failure::Failure;
use crate::store::postgres::rows::{order_id, uuid};

/// How many rows of the outbox one statement scans.
const MAX_SCANNED: i64 = 20_000;

/// The statement that finds rows without an order.
pub(in crate::store::postgres) struct Survey {
    orphans: Statement,
}

/// The row behind which a page begins.
#[derive(Debug, Clone, Copy)]
pub(in crate::store::postgres) struct After(Uuid, Version);

/// Before every row.
pub(super) const START: After = After(Uuid::nil(), Version::MIN);

/// A page, and where the next one begins; `None` at the end.
pub(in crate::store::postgres) struct Found<T> {
    pub(in crate::store::postgres) rows: Vec<T>,
    pub(in crate::store::postgres) next: Option<After>,
}

/// The rows without an order, and the last row of a full page as the cursor, marked `false`.
const ORPHANS: &str = "
WITH page AS MATERIALIZED (
    SELECT order_id, version FROM orders_outbox WHERE (order_id, version) > ($1, $2)
     ORDER BY order_id, version LIMIT $3
)
SELECT p.order_id, p.version, true FROM page p
 WHERE NOT EXISTS (SELECT 1 FROM orders o WHERE o.order_id = p.order_id)
UNION ALL
(SELECT p.order_id, p.version, false FROM page p WHERE (SELECT count(*) FROM page) = $3
  ORDER BY p.order_id DESC, p.version DESC LIMIT 1)";

impl Survey {
    pub(in crate::store::postgres) async fn prepare(
        client: &Client,
    ) -> Result<Survey, tokio_postgres::Error> {
        Ok(Survey { orphans: client.prepare(ORPHANS).await? })
    }

    /// The ids in outbox rows whose orders do not exist.
    pub(super) async fn orphans(
        &self,
        client: &Client,
        After(after, version): After,
    ) -> Result<Found<OrderId>, Failure> {
        let (mut found, mut next) = (Vec::new(), None);
        for row in client.query(&self.orphans, &[&after, &version, &MAX_SCANNED]).await? {
            let id = order_id(row.try_get(0)?);
            match is_orphan(&row)? {
                true => found.push(id),
                false => next = Some(After(uuid(id), row.try_get(1)?)),
            }
        }
        Ok(Found { rows: found, next })
    }
}

fn is_orphan(row: &Row) -> Result<bool, Failure> {
    Ok(row.try_get(2)?)
}
