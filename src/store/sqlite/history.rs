//! Reads the history in the embedded store. Events become visible in the order of their numbers, which are their
//! offsets, so a reader that continues behind its last offset does not miss one. A damaged event must not hide the
//! others.

use async_trait::async_trait;
use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::history_writer::{letter, newest};
use super::rows::{corrupt, known_status, readable};
use super::search::lowest;
use super::store::SqliteStore;
use crate::order::{
    Amount, Cause, HistoryCursor, HistoryEvent, HistoryOffset, HistoryPage, OrderId, Scope, UserId, Version,
};
use crate::store::order_history_page::Found;
use crate::store::{Error, History, MAX_PAGE_EVENTS, OrderHistoryPage};
use crate::telemetry::limited;

/// The most events that are scanned for a page of one user's events.
const MAX_SCANNED: usize = 10_000;

/// The columns that [`event`] reads, in its order, with their tables.
const EVENTS: &str =
    "SELECT h.seq, o.order_id, o.user_id, h.version, h.at, h.cause, h.status, h.amount, h.reason
                       FROM history h JOIN orders o ON o.seq = h.order_seq";

/// The condition for the events of one order.
const OF_ORDER: &str = "h.order_seq = (SELECT seq FROM orders WHERE order_id = ?1)";

#[async_trait]
impl History for SqliteStore {
    async fn history(
        &self,
        order_id: OrderId,
        after: HistoryCursor,
        versions: u32,
    ) -> Result<OrderHistoryPage, Error> {
        if !self.history {
            return Ok(OrderHistoryPage::default());
        }
        self.readers.run(move |connection| of_order(connection, order_id, after, versions)).await
    }

    async fn newest_history_event(
        &self,
        order_id: OrderId,
        version: Version,
    ) -> Result<Option<HistoryEvent>, Error> {
        if !self.history {
            return Ok(None);
        }
        self.readers.run(move |connection| newest_history_event(connection, order_id, version)).await
    }

    async fn history_page(
        &self,
        of: Scope,
        after: HistoryOffset,
        limit: usize,
    ) -> Result<HistoryPage, Error> {
        if !self.history {
            return Ok(HistoryPage { events: Vec::new(), upto: after, more: false });
        }
        self.readers.run(move |connection| history_page(connection, of, after, limit)).await
    }

    async fn history_end(&self) -> Result<HistoryOffset, Error> {
        self.readers.run(end).await
    }

    async fn history_dropped(&self) -> Result<HistoryOffset, Error> {
        self.readers.run(dropped).await
    }
}

/// The end of the history now.
fn end(connection: &Connection) -> rusqlite::Result<HistoryOffset> {
    newest(connection).map(offset)
}

/// The offset of the newest event that was dropped.
fn dropped(connection: &Connection) -> rusqlite::Result<HistoryOffset> {
    let mut query = connection.prepare_cached("SELECT seq FROM history_dropped")?;
    query.query_row([], |row| row.get(0)).map(offset)
}

/// An order's events behind a cursor that belong to the next so many versions.
fn of_order(
    connection: &Connection,
    order_id: OrderId,
    after: HistoryCursor,
    versions: u32,
) -> rusqlite::Result<OrderHistoryPage> {
    let mut query = connection.prepare_cached(&format!(
        "{EVENTS} WHERE {OF_ORDER} AND h.version >= ?2 AND (h.version > ?2 OR h.seq > ?3) AND h.version <= ?4
          ORDER BY h.version, h.seq LIMIT {}",
        MAX_PAGE_EVENTS + 1
    ))?;
    let range = params![order_id.as_bytes(), after.version(), number(after.after()), after.last_of(versions)];
    let mut rows = query.query(range)?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        found.push(Found { version: row.get(3)?, offset: offset(row.get(0)?), event: event(row)? });
    }
    Ok(OrderHistoryPage::of(found))
}

/// The newest event of an order, if it belongs to that version or a later one.
fn newest_history_event(
    connection: &Connection,
    order_id: OrderId,
    version: Version,
) -> rusqlite::Result<Option<HistoryEvent>> {
    let mut query = connection.prepare_cached(&format!(
        "{EVENTS} WHERE {OF_ORDER} AND h.version >= ?2 ORDER BY h.version DESC, h.seq DESC LIMIT 1"
    ))?;
    query.query_row(params![order_id.as_bytes(), version], event).optional().map(Option::flatten)
}

/// A page of the history behind an offset.
fn history_page(
    connection: &Connection,
    of: Scope,
    after: HistoryOffset,
    limit: usize,
) -> rusqlite::Result<HistoryPage> {
    let (limit, behind) = (limit.max(1), number(after));
    // Read first, so that the query for events sees everything up to there.
    let end = end(connection)?;
    let to_scan = match of {
        Scope::User(_) => MAX_SCANNED.max(limit),
        Scope::All | Scope::Order(_) => limit,
    };
    let count = to_scan as i64;
    let mut query;
    let mut rows = match of {
        Scope::All | Scope::User(_) => {
            query =
                connection.prepare_cached(&format!("{EVENTS} WHERE h.seq > ?1 ORDER BY h.seq LIMIT ?2"))?;
            query.query([behind, count])?
        }
        Scope::Order(id) => {
            // An order's versions grow with the numbers of its events, so the index by version is in the right order.
            query = connection.prepare_cached(&format!(
                "{EVENTS} WHERE {OF_ORDER} AND h.version >= ?2 AND h.seq > ?3 ORDER BY h.version, h.seq LIMIT ?4"
            ))?;
            query.query(params![id.as_bytes(), version_behind(connection, id, behind)?, behind, count])?
        }
    };
    let mut page = HistoryPage { events: Vec::new(), upto: after, more: false };
    let mut scanned = 0;
    while let Some(row) = rows.next()? {
        scanned += 1;
        page.upto = offset(row.get(0)?);
        if of.includes(OrderId::from_bytes(row.get(1)?), UserId::from_bytes(row.get(2)?)) {
            page.events.extend(event(row)?);
        }
        if scanned == to_scan || page.events.len() == limit {
            page.more = true;
            return Ok(page);
        }
    }
    page.upto = page.upto.max(end);
    Ok(page)
}

/// The lowest version of an order that has events behind that number, or one above its newest version.
fn version_behind(connection: &Connection, order_id: OrderId, behind: i64) -> rusqlite::Result<Version> {
    let mut newest = connection.prepare_cached(&format!(
        "SELECT h.version, h.seq FROM history h WHERE {OF_ORDER} AND h.version <= ?2
         ORDER BY h.version DESC, h.seq DESC LIMIT 1"
    ))?;
    let mut newest = |version: Version| {
        let found = newest.query_row(params![order_id.as_bytes(), version], |row| {
            Ok((row.get::<_, Version>(0)?, row.get::<_, i64>(1)?))
        });
        found.optional()
    };
    let Some((last, _)) = newest(Version::MAX)? else { return Ok(0) };
    lowest(1, last + 1, |version| Ok(newest(version)?.is_some_and(|(_, seq)| seq > behind)))
}

/// The number of the event at an offset.
fn number(offset: HistoryOffset) -> i64 {
    i64::try_from(offset.0).unwrap_or(i64::MAX)
}

/// The offset of the event with that number, which is never negative.
fn offset(seq: i64) -> HistoryOffset {
    HistoryOffset(u64::try_from(seq).unwrap_or(0), 0)
}

/// Reads an event from a row of [`EVENTS`]. A damaged one is logged and left out, because it must not delay the others.
fn event(row: &Row<'_>) -> rusqlite::Result<Option<HistoryEvent>> {
    let order_id = OrderId::from_bytes(row.get(1)?);
    let read = || {
        let (letters, amount) = (row.get_ref(5)?.as_str()?, row.get_ref(7)?.as_str_or_null()?);
        let cause = Cause::ALL.into_iter().find(|cause| letter(*cause) == letters);
        let amount =
            amount.map(|text| Amount::parse(text).ok_or_else(|| corrupt(order_id, 7, "is not an amount")));
        Ok(HistoryEvent {
            offset: offset(row.get(0)?),
            order_id,
            user_id: UserId::from_bytes(row.get(2)?),
            version: row.get(3)?,
            at: Timestamp::from_microsecond(row.get(4)?)
                .map_err(|_| corrupt(order_id, 4, "is out of the range of times"))?,
            cause: cause.ok_or_else(|| corrupt(order_id, 5, "is not a cause"))?,
            status: known_status(row, 6, order_id)?,
            amount: amount.transpose()?,
            reason: row.get(8)?,
        })
    };
    let event = readable(read())?;
    Ok(event
        .inspect_err(
            |damaged| limited!(error, "damaged history event"; %damaged, "a history event cannot be read; it is left out"),
        )
        .ok())
}
