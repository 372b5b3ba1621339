//! The statements that read orders. Several callers share a connection: the driver pipelines their statements and hands
//! each caller its result. A damaged row must only fail a read of that row: a scan reads fewer and fewer rows until the
//! row at fault is alone, and a look-up by external id falls back to the id. The connection may lead to a standby, and
//! a read is repeated where its connection has ended, so nothing here may write.

use std::collections::HashMap;

use futures_util::future::try_join_all;
use tokio_postgres::{Client, Row, Statement};
use uuid::Uuid;

use super::bounded;
use super::connection::pooled_connection::Prepare;
use super::failure::Failure;
use super::history::reading::History;
use super::lists::pages::Lists;
use super::outbox::survey::Survey;
use super::rows::{COLUMNS, order, order_id, processed_version, readable, status, user_uuid, uuid};
use crate::order::{Order, OrderId, UserId};
use crate::store::damage::DamageLog;
use crate::store::{Damaged, Processed};

/// A user's newest order of an external id. The first comparison uses the index, which holds the beginning of the text
/// in its own collation; the others decide.
const BY_EXTERNAL_ID: &str = "FROM orders o
      WHERE left(o.payload ->> 'id', 500) = left($1, 500) COLLATE \"C\" AND o.user_id = $2 AND o.payload ->> 'id' = $1
        AND jsonb_typeof(o.payload -> 'id') IN ('string', 'number')
      ORDER BY coalesce(o.created_at, o.updated_at, 'epoch') DESC, o.order_id DESC LIMIT 1";

/// A connection that reads.
pub(super) struct Reads {
    client: Client,
    get: Statement,
    find: Statement,
    find_id: Statement,
    processed: Statement,
    scan: Statement,
    scan_on: Statement,
    next: Statement,
    damage: DamageLog,
    pub(super) history: History,
    pub(super) lists: Lists,
    pub(super) survey: Survey,
}

impl Prepare for Reads {
    const WRITES: bool = false;

    async fn prepare(client: Client, _: bool) -> Result<Reads, tokio_postgres::Error> {
        let sql = [
            format!("SELECT {COLUMNS} FROM orders o WHERE o.order_id = $1"),
            format!("SELECT {COLUMNS} {BY_EXTERNAL_ID}"),
            format!("SELECT o.order_id {BY_EXTERNAL_ID}"),
            concat!(
                "SELECT o.order_id, ",
                processed_version!(),
                ", o.status FROM orders o WHERE o.order_id = ANY($1)"
            )
            .to_owned(),
            format!("SELECT {COLUMNS} FROM orders o ORDER BY o.order_id LIMIT $1"),
            format!("SELECT {COLUMNS} FROM orders o WHERE o.order_id > $2 ORDER BY o.order_id LIMIT $1"),
            "SELECT o.order_id FROM orders o WHERE $1::uuid IS NULL OR o.order_id > $1 ORDER BY o.order_id LIMIT 1"
                .to_owned(),
        ];
        let statements = try_join_all(sql.iter().map(|sql| client.prepare(sql))).await?;
        let [get, find, find_id, processed, scan, scan_on, next] =
            statements.try_into().unwrap_or_else(|_| unreachable!());
        let (history, lists, survey) =
            tokio::try_join!(History::prepare(&client), Lists::prepare(&client), Survey::prepare(&client))?;
        let damage = DamageLog::default();
        Ok(Reads {
            client,
            get,
            find,
            find_id,
            processed,
            scan,
            scan_on,
            next,
            damage,
            history,
            lists,
            survey,
        })
    }

    fn client(&self) -> &Client {
        &self.client
    }
}

impl Reads {
    /// The order of an id.
    pub(super) async fn get(&self, id: OrderId) -> Result<Option<Order>, Failure> {
        let row = self.client.query_opt(&self.get, &[&uuid(id)]).await;
        row.map_err(|error| Failure::from(error).about(id))?.as_ref().map(order).transpose()
    }

    /// A user's newest order of an external id.
    pub(super) async fn find_by_external(
        &self,
        external_id: &str,
        user_id: UserId,
    ) -> Result<Option<Order>, Failure> {
        // No payload matches: a text of Postgres cannot hold a NUL, and an external id is never empty.
        if external_id.is_empty() || external_id.contains('\0') {
            return Ok(None);
        }
        let user_id = user_uuid(user_id);
        let failure = match self.client.query_opt(&self.find, &[&external_id, &user_id]).await {
            Ok(found) => return found.as_ref().map(order).transpose(),
            Err(error) => Failure::from(error),
        };
        if !failure.concerns_a_row() {
            return Err(failure);
        }
        // The server can find the id without the damaged value; reading the order by its id returns the damage.
        match self.client.query_opt(&self.find_id, &[&external_id, &user_id]).await? {
            Some(found) => self.get(order_id(found.try_get(0)?)).await,
            None => Ok(None),
        }
    }

    /// The processed versions of orders; `None` for orders that do not exist or are damaged.
    pub(super) async fn processed_versions(
        &self,
        orders: &[OrderId],
    ) -> Result<Vec<Option<Processed>>, Failure> {
        let ids: Vec<Uuid> = orders.iter().copied().map(uuid).collect();
        let rows = self.client.query(&self.processed, &[&ids]).await?;
        let processed = |row: &Row| {
            let id = order_id(row.try_get(0)?);
            Ok((id, Processed { version: row.try_get(1)?, status: status(row, 2, id)? }))
        };
        let mut found = HashMap::with_capacity(rows.len());
        for row in &rows {
            match readable(processed(row))? {
                Ok((id, processed)) => drop(found.insert(id, processed)),
                // A damaged row must not fail the others.
                Err(damaged) => self.damage.log(&damaged, "the processed version of an order cannot be read"),
            }
        }
        Ok(orders.iter().map(|id| found.get(id).copied()).collect())
    }

    /// Orders behind an id, for the checker; a damaged row is an error at its position.
    pub(super) async fn scan(
        &self,
        after: Option<OrderId>,
        limit: usize,
    ) -> Result<Vec<Result<Order, Damaged>>, Failure> {
        let count = limit as i64;
        let read = match after {
            None => bounded::read(&self.client, &self.scan, &[&count]).await,
            Some(after) => bounded::read(&self.client, &self.scan_on, &[&count, &uuid(after)]).await,
        };
        match (read, bounded::fewer(limit)) {
            (Ok(chunk), _) => chunk.rows.iter().map(order).map(readable).collect(),
            // Fewer rows at a time, until the row at fault is alone.
            (Err(failure), Some(fewer)) if failure.may_concern_a_row() => {
                Box::pin(self.scan(after, fewer)).await
            }
            (Err(failure), None) if failure.may_concern_a_row() => {
                let next = self.client.query_opt(&self.next, &[&after.map(uuid)]).await?;
                let order_id = |row: &Row| Ok::<_, Failure>(order_id(row.try_get(0)?));
                let what = format!("the server cannot read it: {failure}");
                let damaged =
                    next.as_ref().map(order_id).transpose()?.map(|order_id| Damaged { order_id, what });
                Ok(damaged.into_iter().map(Err).collect())
            }
            (Err(failure), _) => Err(failure),
        }
    }
}
