//! Pages of orders, the newest first. A page takes two queries: one for the keys of matching orders, among a bounded
//! number of those that follow in the index; then the orders themselves, in chunks, until the page has enough bytes.
//! Orders without a time of creation, or with one that cannot be read, are not in lists.

use std::collections::HashMap;

use futures_util::future::try_join_all;
use jiff::Timestamp;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Statement};
use uuid::Uuid;

use crate::order::{Filter, ListCursor, Order, OrderId, Page};
use crate::store::Damaged;
use crate::store::damage::DamageLog;
use crate::store::postgres::bounded;
use crate::store::postgres::failure::Failure;
use crate::store::postgres::rows::{COLUMNS, TIMES, order, order_id, readable, user_uuid, uuid, within};

/// The most orders that are scanned for a page.
const MAX_SCANNED: usize = 2_000;

/// The most bytes of payload on a page, unless its first order alone is larger.
const MAX_PAGE_BYTES: usize = 4 << 20;

/// The most bytes of payload that are read at once, in their stored size: compressed where they are long.
const MAX_CHUNK_BYTES: i64 = 256 << 10;

/// The statements that list.
pub(in crate::store::postgres) struct Lists {
    all: Statement,
    users: Statement,
    external: Statement,
    orders: Statement,
    damage: DamageLog,
}

/// The key of an order that matched in the first query.
struct Candidate {
    key: SortKey,
    stored_bytes: i64,
}

/// The sort key of lists: when an order was created, and its id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct SortKey(Timestamp, OrderId);

/// By the index of times. In this and the following, parameters 1 to 3 are the bounds of the sort keys.
const ALL: [&str; 2] = [
    "orders o WHERE (o.created_at, o.order_id) < ($1, $2) AND o.created_at >= $3",
    "o.created_at DESC, o.order_id DESC",
];

/// By the index of users. The comparisons and the order name the user, too: the result is the same, but only this index
/// fits; a scan of another one would read all other users' orders.
const USERS: [&str; 2] = [
    "orders o WHERE (o.user_id, o.created_at, o.order_id) < ($7, $1, $2)
        AND (o.user_id, o.created_at, o.order_id) >= ($7, $3, '00000000-0000-0000-0000-000000000000'::uuid)
        AND o.created_at IS NOT NULL",
    "o.user_id DESC, o.created_at DESC, o.order_id DESC",
];

/// By the index of external ids; OFFSET 0 keeps the planner from choosing another one.
const EXTERNAL: [&str; 2] = [
    "(SELECT * FROM orders o
       WHERE left(o.payload ->> 'id', 500) = left($8, 500) COLLATE \"C\" AND o.user_id = $7 AND o.payload ->> 'id' = $8
         AND jsonb_typeof(o.payload -> 'id') IN ('string', 'number') OFFSET 0) AS o
      WHERE (o.created_at, o.order_id) < ($1, $2) AND o.created_at >= $3",
    "o.created_at DESC, o.order_id DESC",
];

/// The keys of the matching orders. Where they are fewer than requested, also the key at which the scan ended, if the
/// list continues behind it.
fn sql([source, sort]: [&str; 2]) -> String {
    format!(
        "WITH page AS MATERIALIZED (
             SELECT o.created_at, o.order_id, coalesce(pg_column_size(o.payload), 0)::int8 AS size
               FROM (SELECT o.* FROM {source} ORDER BY {sort} LIMIT {MAX_SCANNED}) AS o
              WHERE ($4::text IS NULL OR o.status = $4) AND ($5::bool OR o.status <> 'deleted')
              ORDER BY {sort} LIMIT $6
         )
         SELECT created_at, order_id, size FROM page
         UNION ALL
         SELECT edge.created_at, edge.order_id, NULL
           FROM (SELECT o.created_at, o.order_id FROM {source} ORDER BY {sort} OFFSET {} LIMIT 1) AS edge
          WHERE (SELECT count(*) FROM page) < $6
          ORDER BY 1 DESC, 2 DESC",
        MAX_SCANNED - 1
    )
}

impl Lists {
    pub(in crate::store::postgres) async fn prepare(client: &Client) -> Result<Lists, tokio_postgres::Error> {
        let orders = format!("SELECT {COLUMNS} FROM orders o WHERE o.order_id = ANY($1)");
        let sql = [sql(ALL), sql(USERS), sql(EXTERNAL), orders];
        let statements = try_join_all(sql.iter().map(|sql| client.prepare(sql))).await?;
        let [all, users, external, orders] = statements.try_into().unwrap_or_else(|_| unreachable!());
        Ok(Lists { all, users, external, orders, damage: DamageLog::default() })
    }

    /// A page of matching orders.
    pub(in crate::store::postgres) async fn page(
        &self,
        client: &Client,
        filter: &Filter,
        after: Option<ListCursor>,
        limit: usize,
    ) -> Result<Page, Failure> {
        // No payload matches: a text of Postgres cannot hold a NUL, and an external id is never empty.
        if filter.external_id.as_deref().is_some_and(|id| id.is_empty() || id.contains('\0')) {
            return Ok(Page { orders: Vec::new(), next: None });
        }
        let (mut candidates, mut edge) = self.candidates(client, filter, after, limit).await?;
        if candidates.len() > limit {
            candidates.truncate(limit);
            edge = candidates.last().map(|candidate| candidate.key);
        }
        let (mut orders, mut bytes) = (Vec::new(), 0);
        let mut rest = &candidates[..];
        let mut last = None;
        while !rest.is_empty() {
            let (mut size, mut found) = (chunk_size(rest), None);
            while found.is_none() {
                found = self.orders(client, &rest[..size]).await?;
                if found.is_none() {
                    size = bounded::fewer(size).unwrap_or(1);
                }
            }
            let (chunk, behind) = rest.split_at(size);
            let mut found = found.unwrap_or_default();
            for candidate in chunk {
                // The order may have changed since the first query.
                if let Some(order) = found.remove(&candidate.key.1).filter(|order| filter.admits(order)) {
                    bytes += order.payload.as_str().len();
                    if bytes > MAX_PAGE_BYTES && !orders.is_empty() {
                        return Ok(Page { orders, next: last.map(SortKey::cursor) });
                    }
                    orders.push(order);
                }
                last = Some(candidate.key);
            }
            rest = behind;
        }
        Ok(Page { orders, next: edge.map(SortKey::cursor) })
    }

    /// The keys of matching orders, one more than requested if they exist; and the key behind which the scan continues,
    /// if they do not and the list has not ended.
    async fn candidates(
        &self,
        client: &Client,
        filter: &Filter,
        after: Option<ListCursor>,
        limit: usize,
    ) -> Result<(Vec<Candidate>, Option<SortKey>), Failure> {
        let lowest = OrderId::from_bytes([0; 16]);
        let before = SortKey(within(filter.created_before.unwrap_or(TIMES[1])), lowest);
        let SortKey(at, id) = after.map_or(before, |after| SortKey::of(after).min(before));
        let (id, from) = (uuid(id), within(filter.created_from.unwrap_or(TIMES[0])));
        let status = filter.status.map(|status| status.as_str());
        let count = i64::try_from(limit).unwrap_or(i64::MAX).saturating_add(1);
        let mut parameters: Vec<&(dyn ToSql + Sync)> =
            vec![&at, &id, &from, &status, &filter.with_deleted, &count];
        let user_id = filter.user_id.map(user_uuid);
        let statement = match (&user_id, &filter.external_id) {
            (None, _) => &self.all,
            (Some(user_id), None) => {
                parameters.push(user_id);
                &self.users
            }
            (Some(user_id), Some(external_id)) => {
                parameters.extend::<[&(dyn ToSql + Sync); 2]>([user_id, external_id]);
                &self.external
            }
        };
        let (mut candidates, mut edge) = (Vec::new(), None);
        for row in &client.query(statement, &parameters).await? {
            let key = SortKey(row.try_get(0)?, order_id(row.try_get(1)?));
            match row.try_get(2)? {
                Some(stored_bytes) => candidates.push(Candidate { key, stored_bytes }),
                None => edge = Some(key),
            }
        }
        Ok((candidates, edge))
    }

    /// The readable orders of a chunk; `None` where the chunk must be smaller, because the payloads are long, or
    /// because the server fails on one of them.
    async fn orders(
        &self,
        client: &Client,
        chunk: &[Candidate],
    ) -> Result<Option<HashMap<OrderId, Order>>, Failure> {
        let ids: Vec<Uuid> = chunk.iter().map(|candidate| uuid(candidate.key.1)).collect();
        let mut orders = HashMap::with_capacity(ids.len());
        let rows = match bounded::read(client, &self.orders, &[&ids]).await {
            Ok(read) if read.is_cut && chunk.len() > 1 => return Ok(None),
            Err(failure) if failure.may_concern_a_row() && chunk.len() > 1 => return Ok(None),
            Err(failure) if failure.may_concern_a_row() => {
                let what = format!("the server cannot read it: {failure}");
                for candidate in chunk {
                    self.missing(&Damaged { order_id: candidate.key.1, what: what.clone() });
                }
                return Ok(Some(orders));
            }
            read => read?.rows,
        };
        for row in &rows {
            match readable(order(row))? {
                Ok(order) => drop(orders.insert(order.id, order)),
                Err(damaged) => self.missing(&damaged),
            }
        }
        Ok(Some(orders))
    }

    fn missing(&self, damaged: &Damaged) {
        self.damage.log(damaged, "an order is missing in lists");
    }
}

/// How many of the candidates to read at once: one, or as many as are small enough together.
fn chunk_size(candidates: &[Candidate]) -> usize {
    let mut bytes = 0;
    let fits = |candidate: &&Candidate| {
        bytes += candidate.stored_bytes;
        bytes <= MAX_CHUNK_BYTES
    };
    candidates.iter().take_while(fits).count().max(1)
}

impl SortKey {
    fn of(cursor: ListCursor) -> SortKey {
        let end = if cursor.major < 0 { TIMES[0] } else { TIMES[1] };
        let at = Timestamp::from_microsecond(cursor.major).unwrap_or(end);
        SortKey(within(at), OrderId::from_bytes(cursor.minor))
    }

    fn cursor(self) -> ListCursor {
        ListCursor { major: self.0.as_microsecond(), minor: *self.1.as_bytes() }
    }
}
