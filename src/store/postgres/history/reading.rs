//! The statements that read history events. Transactions commit in another order than they begin, and a reader
//! continues behind its last offset. So an offset begins with the number of the transaction that wrote the event, and a
//! reader must not go beyond the oldest transaction in progress anywhere on the server, the edge: all transactions
//! before it have committed or rolled back.

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

/// The most events that are scanned for a page of one user's events.
const MAX_SCANNED: usize = 10_000;

/// The number of the oldest transaction in progress. All events before it are final.
const EDGE: &str = "SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint + origin AS edge
                      FROM orders_history_origin WHERE single";

/// A number that no ended transaction has reached, though some before it may be in progress. A standby does not know
/// all transactions.
const NEXT: &str = "SELECT CASE WHEN pg_is_in_recovery() THEN 9223372036854775807
                                ELSE pg_snapshot_xmax(pg_current_snapshot())::text::bigint + origin END
                      FROM orders_history_origin WHERE single";

/// The columns that [`event`] reads.
const COLUMNS: &str = concat!(
    "h.place, h.seq, h.order_id, h.user_id, h.version, h.at, h.cause, h.status, ",
    amount_text!("h.amount"),
    ", left(h.reason, 1000)"
);

/// How many columns precede them in a page: the edge, and the last offset that was scanned.
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
        // Each row has the edge, and a page without events has one row for it, because it must be from the statement's
        // own snapshot. The texts are made in the outer query, for the rows of the page and not for all that are
        // sorted.
        let page = |last: &str, events: &str| {
            format!(
                "WITH edge AS MATERIALIZED ({EDGE}){last}
                 SELECT edge.edge, {}, {COLUMNS} FROM edge LEFT JOIN LATERAL ({events}) AS h ON true ORDER BY h.place, h.seq",
                if last.is_empty() { "NULL::bigint, NULL::bigint" } else { "(SELECT place FROM last), (SELECT seq FROM last)" }
            )
        };
        let select = format!("SELECT h.* FROM orders_history h WHERE {behind}");
        let last = format!(
            ", last AS MATERIALIZED (
                 SELECT h.place, h.seq FROM orders_history h WHERE {behind}
                  ORDER BY h.place, h.seq OFFSET {} LIMIT 1
             )",
            MAX_SCANNED - 1
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
            // Scans the events of the order alone.
            page("", &format!("{select} AND h.order_id = $4 ORDER BY h.place, h.seq LIMIT $3")),
            page(
                &last,
                &format!(
                    "SELECT h.* FROM ({select} ORDER BY h.place, h.seq LIMIT {MAX_SCANNED}) AS h
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

    /// The history events of some of an order's versions, even beyond the edge.
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
            found.push(Found { version: row.try_get(4)?, offset, event: readable_event(row, 0)? });
        }
        Ok(OrderHistoryPage::of(found))
    }

    /// The newest history event of an order, if it belongs to that version or a later one.
    pub(super) async fn newest_history_event(
        &self,
        client: &Client,
        id: OrderId,
        version: Version,
    ) -> Result<Option<HistoryEvent>, Failure> {
        match client.query_opt(&self.newest_history_event, &[&uuid(id), &version]).await? {
            Some(row) => readable_event(&row, 0),
            None => Ok(None),
        }
    }

    /// The history events of a scope behind an offset.
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
        let last_scanned = match (first.try_get(1)?, first.try_get(2)?) {
            (Some(place), Some(seq)) => Some(offset_of(place, seq)),
            _ => None,
        };
        let found: Vec<&Row> =
            rows.iter().filter(|row| matches!(row.try_get::<_, Option<i64>>(BEFORE), Ok(Some(_)))).collect();
        let last = match found.last() {
            Some(row) if found.len() >= limit => {
                Some(offset_of(row.try_get(BEFORE)?, row.try_get(BEFORE + 1)?))
            }
            _ => last_scanned,
        };
        let (upto, more) = last.map_or((offset_of(edge - 1, i64::MAX), false), |last| (last, true));
        // A reader may be beyond the edge already, with an offset from another node; its offset must not go back.
        let read = found.into_iter().filter_map(|row| readable_event(row, BEFORE).transpose());
        let events = read.collect::<Result<_, Failure>>()?;
        Ok(HistoryPage { events, upto: upto.max(after), more })
    }

    /// The end of the history: all later events have a higher offset.
    pub(in crate::store::postgres) async fn end(&self, client: &Client) -> Result<HistoryOffset, Failure> {
        before(&self.edge, client).await
    }

    /// An offset that no event has exceeded so far.
    pub(in crate::store::postgres) async fn newest(&self, client: &Client) -> Result<HistoryOffset, Failure> {
        before(&self.next, client).await
    }

    /// The offset of the newest event that was dropped.
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

/// The last offset before the transaction whose number the statement returns.
async fn before(transaction: &Statement, client: &Client) -> Result<HistoryOffset, Failure> {
    let row = client.query_opt(transaction, &[]).await?.ok_or_else(no_origin)?;
    Ok(offset_of(row.try_get::<_, i64>(0)? - 1, i64::MAX))
}

/// An offset as parameters.
fn numbers(offset: HistoryOffset) -> (i64, i64) {
    let number = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    (number(offset.0), number(offset.1))
}

fn offset_of(place: i64, seq: i64) -> HistoryOffset {
    HistoryOffset(place.cast_unsigned(), seq.cast_unsigned())
}

/// The history event of a row. A damaged one is logged and skipped, so that it does not hide the others.
fn readable_event(row: &Row, from: usize) -> Result<Option<HistoryEvent>, Failure> {
    let event = readable(event(row, from))?;
    Ok(event
        .inspect_err(
            |damaged| limited!(error, "damaged history event"; %damaged, "a history event cannot be read; it is left out"),
        )
        .ok())
}

/// Reads a history event from the columns of a row, from the column `from` on.
fn event(row: &Row, from: usize) -> Result<HistoryEvent, Failure> {
    let id = order_id(row.try_get(from + 2)?);
    let cause: &str = row.try_get(from + 6)?;
    let amount = match row.try_get::<_, Option<&str>>(from + 8)? {
        None => None,
        Some(text) => Some(Amount::parse(text).ok_or_else(|| {
            damaged(id, "a history event's amount is not a number of at most 1,000 digits".to_owned())
        })?),
    };
    Ok(HistoryEvent {
        offset: offset_of(row.try_get(from)?, row.try_get(from + 1)?),
        order_id: id,
        user_id: user_id(row.try_get(from + 3)?),
        version: row.try_get(from + 4)?,
        at: row
            .try_get(from + 5)
            .map_err(|_| damaged(id, "a history event's time is out of the range of times".to_owned()))?,
        cause: Cause::parse(cause)
            .ok_or_else(|| damaged(id, format!("a history event's cause {cause:?} is unknown")))?,
        status: status(row, from + 7, id)?,
        amount,
        reason: row.try_get(from + 9)?,
    })
}

/// The failure of a table of origins that another program has emptied.
fn no_origin() -> Failure {
    Failure::Missing("the row of orders_history_origin is missing; run `orderstream migrate`")
}
