//! What the checker asks of whole tables, a bounded number of rows in each statement: so that none runs into the limit
//! of time, however large a table is, and little is in memory at a time.

use tokio_postgres::{Client, Row, Statement};
use uuid::Uuid;

use crate::order::{OrderId, Version};
use crate::store::postgres::failure::Failure;
use crate::store::postgres::rows::{order_id, uuid};

/// How many rows of the outbox one statement looks at.
const LOOKED_AT: i64 = 20_000;

/// The statement that looks for rows without an order.
pub(in crate::store::postgres) struct Survey {
    orphans: Statement,
}

/// Where a part of the survey begins: behind that row.
#[derive(Debug, Clone, Copy)]
pub(in crate::store::postgres) struct After(Uuid, Version);

/// In front of every row.
pub(super) const START: After = After(Uuid::nil(), Version::MIN);

/// What one statement found, and where the next one begins; `None` at the end.
pub(in crate::store::postgres) struct Found<T> {
    pub(in crate::store::postgres) rows: Vec<T>,
    pub(in crate::store::postgres) next: Option<After>,
}

/// The last row that is looked at comes in any case, without an order where it has one.
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

    /// The orders of outbox rows whose order is not there.
    pub(super) async fn orphans(
        &self,
        client: &Client,
        After(after, version): After,
    ) -> Result<Found<OrderId>, Failure> {
        let (mut found, mut next) = (Vec::new(), None);
        for row in client.query(&self.orphans, &[&after, &version, &LOOKED_AT]).await? {
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
