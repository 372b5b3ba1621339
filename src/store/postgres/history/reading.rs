//! The statements that read steps. Transactions
//! commit in another order than they begin, and a reader that comes back asks for what is behind the last place
//! alone. So a place begins with the number of the transaction that wrote it, and no reader goes beyond the oldest
//! transaction that is still under way, anywhere on the server: whatever is before it has been decided.

use futures_util::future::try_join_all;
use tokio_postgres::{Client, Row, Statement};

use crate::order::{
    Amount, Cause, HistoryCursor, HistoryEvent, HistoryOffset, HistoryPage, OrderId, Scope, Version,
};
use crate::store::order_history_page::Found;
use crate::store::postgres::failure::Failure;
use crate::store::postgres::rows::{
    amount_text, damaged, order_id, readable, status, user_id, user_uuid, uuid,
};
use crate::store::{MAX_PAGE_EVENTS, OrderHistoryPage};
use crate::telemetry::limited;

/// How many steps are looked at, at most, for those of a user.
const LOOKED_AT: usize = 10_000;

/// Nothing before it will change any more.
const EDGE: &str = "SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint + origin AS edge
                      FROM orders_history_origin WHERE single";

/// No transaction that is done has a number from there on, whatever is still under way before it. A standby does not
/// know them all.
const NEXT: &str = "SELECT CASE WHEN pg_is_in_recovery() THEN 9223372036854775807
                                ELSE pg_snapshot_xmax(pg_current_snapshot())::text::bigint + origin END
                      FROM orders_history_origin WHERE single";

/// The columns that [`step`] reads.
const COLUMNS: &str = concat!(
    "h.place, h.seq, h.order_id, h.user_id, h.version, h.at, h.cause, h.status, ",
    amount_text!("h.amount"),
    ", left(h.reason, 1000)"
);

/// How many columns stand before them in a page: the edge, and the last place that was looked at.
const BEFORE: usize = 3;

/// The statements that read the history.
pub(in crate::store::postgres) struct History {
    of_order: Statement,
    newest_history_event: Statement,
    all: Statement,
    orders: Statement,
    users: Statement,
    edge: Statement,
    next: Statement,
    dropped: Statement,
}

impl History {
    pub(in crate::store::postgres) async fn prepare(
        client: &Client,
    ) -> Result<History, tokio_postgres::Error> {
        let behind = "(h.place, h.seq) > ($1, $2) AND h.place < (SELECT edge FROM edge)";
        // The edge comes with each row, and also where there is none: it is the snapshot's of the very statement. The
        // texts are made outside, of the rows that are left, and not of all that are sorted.
        let page = |last: &str, steps: &str| {
            format!(
                "WITH edge AS MATERIALIZED ({EDGE}){last}
                 SELECT edge.edge, {}, {COLUMNS} FROM edge LEFT JOIN LATERAL ({steps}) AS h ON true ORDER BY h.place, h.seq",
                if last.is_empty() { "NULL::bigint, NULL::bigint" } else { "(SELECT place FROM last), (SELECT seq FROM last)" }
            )
        };
        let select = format!("SELECT h.* FROM orders_history h WHERE {behind}");
        let last = format!(
            ", last AS MATERIALIZED (
                 SELECT h.place, h.seq FROM orders_history h WHERE {behind}
                  ORDER BY h.place, h.seq OFFSET {} LIMIT 1
             )",
            LOOKED_AT - 1
        );
        let sql = [
            format!(
                "SELECT {COLUMNS}
                   FROM (SELECT * FROM orders_history
                          WHERE order_id = $1 AND (version, place, seq) > ($2, $4, $5) AND version <= $3
                          ORDER BY version, place, seq LIMIT {}) AS h
                  ORDER BY h.version, h.place, h.seq",
                MAX_PAGE_EVENTS + 1
            ),
            format!(
                "SELECT {COLUMNS}
                   FROM (SELECT * FROM orders_history WHERE order_id = $1 AND version >= $2
                          ORDER BY version DESC, place DESC, seq DESC LIMIT 1) AS h"
            ),
            page("", &format!("{select} ORDER BY h.place, h.seq LIMIT $3")),
            // Looks at as many as the order has.
            page("", &format!("{select} AND h.order_id = $4 ORDER BY h.place, h.seq LIMIT $3")),
            page(
                &last,
                &format!(
                    "SELECT h.* FROM ({select} ORDER BY h.place, h.seq LIMIT {LOOKED_AT}) AS h
                      WHERE h.user_id = $4 ORDER BY h.place, h.seq LIMIT $3"
                ),
            ),
            EDGE.to_owned(),
            NEXT.to_owned(),
            "SELECT place, seq FROM orders_history_dropped WHERE single".to_owned(),
        ];
        let statements = try_join_all(sql.iter().map(|sql| client.prepare(sql))).await?;
        let [of_order, newest_history_event, all, orders, users, edge, next, dropped] =
            statements.try_into().unwrap_or_else(|_| unreachable!());
        Ok(History { of_order, newest_history_event, all, orders, users, edge, next, dropped })
    }

    /// The steps of some of an order's versions, also those at places that others are still being written before.
    pub(super) async fn of_order(
        &self,
        client: &Client,
        id: OrderId,
        after: HistoryCursor,
        versions: u32,
    ) -> Result<OrderHistoryPage, Failure> {
        let (first, last, (place, seq)) = (after.version(), after.last_of(versions), numbers(after.after()));
        let rows = client.query(&self.of_order, &[&uuid(id), &first, &last, &place, &seq]).await?;
        let mut found = Vec::with_capacity(rows.len());
        for row in &rows {
            let offset = offset_of(row.try_get(0)?, row.try_get(1)?);
            found.push(Found { version: row.try_get(4)?, offset, step: readable_step(row, 0)? });
        }
        Ok(OrderHistoryPage::of(found))
    }

    /// The newest step of an order, if it is one of that version or a later one.
    pub(super) async fn newest_history_event(
        &self,
        client: &Client,
        id: OrderId,
        version: Version,
    ) -> Result<Option<HistoryEvent>, Failure> {
        match client.query_opt(&self.newest_history_event, &[&uuid(id), &version]).await? {
            Some(row) => readable_step(&row, 0),
            None => Ok(None),
        }
    }

    /// The steps behind a place.
    pub(in crate::store::postgres) async fn history_page(
        &self,
        client: &Client,
        of: Scope,
        after: HistoryOffset,
        limit: usize,
    ) -> Result<HistoryPage, Failure> {
        let ((place, seq), count) = (numbers(after), i64::try_from(limit).unwrap_or(i64::MAX));
        let rows = match of {
            Scope::All => client.query(&self.all, &[&place, &seq, &count]).await?,
            Scope::Order(id) => client.query(&self.orders, &[&place, &seq, &count, &uuid(id)]).await?,
            Scope::User(id) => client.query(&self.users, &[&place, &seq, &count, &user_uuid(id)]).await?,
        };
        let first = rows.first().ok_or_else(no_origin)?;
        let edge: i64 = first.try_get(0)?;
        let looked_at = match (first.try_get(1)?, first.try_get(2)?) {
            (Some(place), Some(seq)) => Some(offset_of(place, seq)),
            _ => None,
        };
        let found: Vec<&Row> =
            rows.iter().filter(|row| matches!(row.try_get::<_, Option<i64>>(BEFORE), Ok(Some(_)))).collect();
        let last = match found.last() {
            Some(row) if found.len() >= limit => {
                Some(offset_of(row.try_get(BEFORE)?, row.try_get(BEFORE + 1)?))
            }
            _ => looked_at,
        };
        let (upto, more) = last.map_or((offset_of(edge - 1, i64::MAX), false), |last| (last, true));
        // Who asks beyond the edge has the place from elsewhere, and keeps it.
        let read = found.into_iter().filter_map(|row| readable_step(row, BEFORE).transpose());
        let events = read.collect::<Result<_, Failure>>()?;
        Ok(HistoryPage { events, upto: upto.max(after), more })
    }

    /// The place that all steps to come are behind.
    pub(in crate::store::postgres) async fn end(&self, client: &Client) -> Result<HistoryOffset, Failure> {
        before(&self.edge, client).await
    }

    /// The place that no step is behind yet.
    pub(in crate::store::postgres) async fn newest(&self, client: &Client) -> Result<HistoryOffset, Failure> {
        before(&self.next, client).await
    }

    /// The place of the newest step that was dropped.
    pub(in crate::store::postgres) async fn dropped(
        &self,
        client: &Client,
    ) -> Result<HistoryOffset, Failure> {
        match client.query_opt(&self.dropped, &[]).await? {
            Some(row) => Ok(offset_of(row.try_get(0)?, row.try_get(1)?)),
            None => Ok(HistoryOffset::default()),
        }
    }
}

/// The last place before the transaction whose number this statement tells.
async fn before(transaction: &Statement, client: &Client) -> Result<HistoryOffset, Failure> {
    let row = client.query_opt(transaction, &[]).await?.ok_or_else(no_origin)?;
    Ok(offset_of(row.try_get::<_, i64>(0)? - 1, i64::MAX))
}

/// A place as parameters.
fn numbers(place: HistoryOffset) -> (i64, i64) {
    let number = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    (number(place.0), number(place.1))
}

fn offset_of(place: i64, seq: i64) -> HistoryOffset {
    HistoryOffset(place.cast_unsigned(), seq.cast_unsigned())
}

/// The step of a row. One that no version of this program wrote is reported and passed over.
fn readable_step(row: &Row, from: usize) -> Result<Option<HistoryEvent>, Failure> {
    let step = readable(step(row, from))?;
    Ok(step
        .inspect_err(
            |damaged| limited!(error, "damaged step"; %damaged, "a step of the history cannot be read"),
        )
        .ok())
}

/// Reads a step from the columns of a row, from that one on.
fn step(row: &Row, from: usize) -> Result<HistoryEvent, Failure> {
    let id = order_id(row.try_get(from + 2)?);
    let cause: &str = row.try_get(from + 6)?;
    let amount = match row.try_get::<_, Option<&str>>(from + 8)? {
        None => None,
        Some(text) => Some(Amount::parse(text).ok_or_else(|| {
            damaged(id, "a step's amount is not a number of at most 1,000 digits".to_owned())
        })?),
    };
    Ok(HistoryEvent {
        offset: offset_of(row.try_get(from)?, row.try_get(from + 1)?),
        order_id: id,
        user_id: user_id(row.try_get(from + 3)?),
        version: row.try_get(from + 4)?,
        at: row
            .try_get(from + 5)
            .map_err(|_| damaged(id, "a step's time is out of the range of times".to_owned()))?,
        cause: Cause::parse(cause)
            .ok_or_else(|| damaged(id, format!("a step's cause {cause:?} is unknown")))?,
        status: status(row, from + 7, id)?,
        amount,
        reason: row.try_get(from + 9)?,
    })
}

/// The table of the origin has been emptied.
fn no_origin() -> Failure {
    Failure::Missing("the row of orders_history_origin is missing; run `orderstream migrate`")
}
