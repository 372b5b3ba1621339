//! Lists of orders, the newest first. A page is found in two steps: the keys of orders that fit, among a bounded
//! number of those that follow in the index; then the orders themselves, in bites, until there are enough bytes. An
//! order without a time of creation, or with one that is no time we know, is in no list.

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

/// How many orders are looked at, at most, for a page of those that fit.
const LOOKED_AT: usize = 2_000;

/// How many bytes of payload a page holds, at most, unless its first order alone is larger.
const PAGE_BYTES: usize = 4 << 20;

/// How many bytes of payload are read at once, as the server keeps them: compressed where they are long.
const BITE_BYTES: i64 = 256 << 10;

/// The statements that list.
pub(in crate::store::postgres) struct Lists {
    all: Statement,
    users: Statement,
    external: Statement,
    orders: Statement,
    damage: DamageLog,
}

/// An order that fitted when it was looked for.
struct Candidate {
    place: Place,
    stored_bytes: i64,
}

/// When an order was created, and which one it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Place(Timestamp, OrderId);

/// By the index of times. Parameters 1 to 3 say between which places, in this and the following.
const ALL: [&str; 2] = [
    "orders o WHERE (o.created_at, o.order_id) < ($1, $2) AND o.created_at >= $3",
    "o.created_at DESC, o.order_id DESC",
];

/// By the index of users. The comparisons and the order name the user, too: that is the same, and no other index will
/// do, which would be walked past all other users' orders.
const USERS: [&str; 2] = [
    "orders o WHERE (o.user_id, o.created_at, o.order_id) < ($7, $1, $2)
        AND (o.user_id, o.created_at, o.order_id) >= ($7, $3, '00000000-0000-0000-0000-000000000000'::uuid)
        AND o.created_at IS NOT NULL",
    "o.user_id DESC, o.created_at DESC, o.order_id DESC",
];

/// By the index of external ids, and no other.
const EXTERNAL: [&str; 2] = [
    "(SELECT * FROM orders o
       WHERE left(o.payload ->> 'id', 500) = left($8, 500) COLLATE \"C\" AND o.user_id = $7 AND o.payload ->> 'id' = $8
         AND jsonb_typeof(o.payload -> 'id') IN ('string', 'number') OFFSET 0) AS o
      WHERE (o.created_at, o.order_id) < ($1, $2) AND o.created_at >= $3",
    "o.created_at DESC, o.order_id DESC",
];

/// The keys of the orders that fit. Where they are fewer than asked for, also the place up to which was looked, if the
/// list goes on behind it.
fn sql([source, sort]: [&str; 2]) -> String {
    format!(
        "WITH page AS MATERIALIZED (
             SELECT o.created_at, o.order_id, coalesce(pg_column_size(o.payload), 0)::int8 AS size
               FROM (SELECT o.* FROM {source} ORDER BY {sort} LIMIT {LOOKED_AT}) AS o
              WHERE ($4::text IS NULL OR o.status = $4) AND ($5::bool OR o.status <> 'deleted')
              ORDER BY {sort} LIMIT $6
         )
         SELECT created_at, order_id, size FROM page
         UNION ALL
         SELECT edge.created_at, edge.order_id, NULL
           FROM (SELECT o.created_at, o.order_id FROM {source} ORDER BY {sort} OFFSET {} LIMIT 1) AS edge
          WHERE (SELECT count(*) FROM page) < $6
          ORDER BY 1 DESC, 2 DESC",
        LOOKED_AT - 1
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

    /// A page of the orders that fit.
    pub(in crate::store::postgres) async fn page(
        &self,
        client: &Client,
        filter: &Filter,
        after: Option<ListCursor>,
        limit: usize,
    ) -> Result<Page, Failure> {
        // No payload has it: Postgres's texts hold no NUL, and ours no empty external id.
        if filter.external_id.as_deref().is_some_and(|id| id.is_empty() || id.contains('\0')) {
            return Ok(Page { orders: Vec::new(), next: None });
        }
        let (mut candidates, mut edge) = self.candidates(client, filter, after, limit).await?;
        if candidates.len() > limit {
            candidates.truncate(limit);
            edge = candidates.last().map(|candidate| candidate.place);
        }
        let (mut orders, mut bytes) = (Vec::new(), 0);
        let mut rest = &candidates[..];
        let mut last = None;
        while !rest.is_empty() {
            let (mut size, mut found) = (bite(rest), None);
            while found.is_none() {
                found = self.orders(client, &rest[..size]).await?;
                if found.is_none() {
                    size = bounded::fewer(size).unwrap_or(1);
                }
            }
            let (bite, behind) = rest.split_at(size);
            let mut found = found.unwrap_or_default();
            for candidate in bite {
                // It may have changed since.
                if let Some(order) = found.remove(&candidate.place.1).filter(|order| filter.admits(order)) {
                    bytes += order.payload.as_str().len();
                    if bytes > PAGE_BYTES && !orders.is_empty() {
                        return Ok(Page { orders, next: last.map(Place::position) });
                    }
                    orders.push(order);
                }
                last = Some(candidate.place);
            }
            rest = behind;
        }
        Ok(Page { orders, next: edge.map(Place::position) })
    }

    /// The orders that fit, one more than asked for if there are; and where to go on if there are not, unless that is
    /// the end.
    async fn candidates(
        &self,
        client: &Client,
        filter: &Filter,
        after: Option<ListCursor>,
        limit: usize,
    ) -> Result<(Vec<Candidate>, Option<Place>), Failure> {
        let nobody = OrderId::from_bytes([0; 16]);
        let before = Place(within(filter.created_before.unwrap_or(TIMES[1])), nobody);
        let Place(at, id) = after.map_or(before, |after| Place::of(after).min(before));
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
            let place = Place(row.try_get(0)?, order_id(row.try_get(1)?));
            match row.try_get(2)? {
                Some(stored_bytes) => candidates.push(Candidate { place, stored_bytes }),
                None => edge = Some(place),
            }
        }
        Ok((candidates, edge))
    }

    /// Those of the orders that can be read; `None` where they are too many, because they are long, or because the
    /// server fails on one of them.
    async fn orders(
        &self,
        client: &Client,
        bite: &[Candidate],
    ) -> Result<Option<HashMap<OrderId, Order>>, Failure> {
        let ids: Vec<Uuid> = bite.iter().map(|candidate| uuid(candidate.place.1)).collect();
        let mut orders = HashMap::with_capacity(ids.len());
        let rows = match bounded::read(client, &self.orders, &[&ids]).await {
            Ok(read) if read.is_cut && bite.len() > 1 => return Ok(None),
            Err(failure) if failure.may_be_about_a_row() && bite.len() > 1 => return Ok(None),
            Err(failure) if failure.may_be_about_a_row() => {
                let what = format!("the server cannot read it: {failure}");
                for candidate in bite {
                    self.missing(&Damaged { order_id: candidate.place.1, what: what.clone() });
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
        self.damage.tell(damaged, "an order is missing in lists");
    }
}

/// How many of the candidates to read at once: one, or as many as are small enough together.
fn bite(candidates: &[Candidate]) -> usize {
    let mut bytes = 0;
    let fits = |candidate: &&Candidate| {
        bytes += candidate.stored_bytes;
        bytes <= BITE_BYTES
    };
    candidates.iter().take_while(fits).count().max(1)
}

impl Place {
    fn of(position: ListCursor) -> Place {
        let end = if position.major < 0 { TIMES[0] } else { TIMES[1] };
        let at = Timestamp::from_microsecond(position.major).unwrap_or(end);
        Place(within(at), OrderId::from_bytes(position.minor))
    }

    fn position(self) -> ListCursor {
        ListCursor { major: self.0.as_microsecond(), minor: *self.1.as_bytes() }
    }
}
