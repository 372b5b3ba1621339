//! Converts rows to values, and values to parameters. Another service may have written a row, so columns that this
//! program always fills may be null, and a value that cannot be read must only fail its own row. Amounts, reasons and
//! payloads have their limits in SQL, so that a huge value is never sent. The columns are read by their index:
//! [`COLUMNS`], [`EVENT_COLUMNS`] and [`order`] must have the same order.

use jiff::Timestamp;
use tokio_postgres::Row;
use uuid::Uuid;

use super::failure::Failure;
use super::payload_text::{TOO_LONG, payload_text};
use crate::order::{Amount, Order, OrderId, Payload, Status, UserId};
use crate::store::Damaged;

/// SQL for the processed version of an order in table `o`. A final status without a mark of our own writes means that
/// another service's worker has finished the order: then its version is processed.
macro_rules! processed_version {
    () => {
        "CASE WHEN o.status IN ('done', 'failed', 'cancelled') AND o.overtaken_version IS DISTINCT FROM o.version \
         THEN o.version ELSE o.processed_version END"
    };
}

pub(super) use processed_version;

/// SQL for the text of an amount: NULL where it is missing, and a text that is not a number where it is longer than
/// this program writes. `numeric` stores `1e131071` in ten bytes, and has NaN and infinity.
macro_rules! amount_text {
    ($amount:literal) => {
        concat!(
            "CASE WHEN ",
            $amount,
            " IS NULL THEN NULL WHEN abs(",
            $amount,
            ") < 1e1000 AND scale(",
            $amount,
            ") <= 1000 THEN ",
            $amount,
            "::text ELSE '-' END"
        )
    };
}

pub(super) use amount_text;

/// The columns that [`order`] reads, in its order, of table `o`.
pub(super) const COLUMNS: &str = concat!(
    "o.order_id, o.user_id, o.status, o.version, ",
    processed_version!(),
    ", \
     coalesce(o.created_at, o.updated_at, 'epoch'), coalesce(o.updated_at, o.created_at, 'epoch'), o.deleted_at, \
     coalesce(",
    amount_text!("o.amount"),
    ", '0'), left(o.reason, 1000), ",
    payload_text!("o.payload"),
    ", CASE WHEN jsonb_typeof(o.payload -> 'id') IN ('string', 'number') THEN o.payload ->> 'id' ELSE '' END, \
     coalesce(o.updated_at <> o.own_at, true), o.bucket"
);

/// The same for an event, which holds only the owner, status, version, payload and last change of an order: an event
/// can be made although the rest of the row, or the time of that change, cannot be read.
pub(super) const EVENT_COLUMNS: &str = concat!(
    "o.order_id, o.user_id, o.status, o.version, o.processed_version, to_timestamp(0), \
     CASE WHEN coalesce(o.updated_at, o.created_at, 'epoch') BETWEEN '0001-01-01' AND '9999-12-01' \
          THEN coalesce(o.updated_at, o.created_at, 'epoch') ELSE now() END, \
     NULL::timestamptz, '0'::text, NULL::text, ",
    payload_text!("o.payload"),
    ", CASE WHEN jsonb_typeof(o.payload -> 'id') IN ('string', 'number') THEN o.payload ->> 'id' ELSE '' END, true, 0"
);

/// [`EVENT_COLUMNS`] without the payload: for an order whose payload the server cannot read.
pub(super) fn event_columns_but_payload() -> String {
    EVENT_COLUMNS.replacen(payload_text!("o.payload"), "NULL::text", 1)
}

/// The index of the payload's text among the columns.
pub(super) const PAYLOAD: usize = 10;

/// The number of columns.
pub(super) const COLUMN_COUNT: usize = 14;

/// Reads an order from a row of [`COLUMNS`]. A value that this program does not know is an error that names the order,
/// and so is a payload that is too long.
pub(super) fn order(row: &Row) -> Result<Order, Failure> {
    match order_but_payload(row)? {
        (order, true) => Ok(order),
        (order, false) => Err(damaged(order.id, TOO_LONG.to_owned())),
    }
}

/// The same, with `null` for a payload that is too long, and whether the payload was read.
pub(super) fn order_but_payload(row: &Row) -> Result<(Order, bool), Failure> {
    let id = order_id(row.try_get(0)?);
    let time = |column, name: &str| {
        let time = row.try_get::<_, Option<Timestamp>>(column);
        time.map_err(|_| damaged(id, format!("its {name} is out of the range of times")))
    };
    let or_epoch = |time: Option<Timestamp>| time.unwrap_or(Timestamp::UNIX_EPOCH);
    let amount: &str = row.try_get(8)?;
    let payload: Option<&str> = row.try_get(PAYLOAD)?;
    let order = Order {
        id,
        user_id: user_id(row.try_get(1)?),
        status: status(row, 2, id)?,
        version: row.try_get(3)?,
        processed_version: row.try_get(4)?,
        created_at: or_epoch(time(5, "created_at")?),
        updated_at: or_epoch(time(6, "updated_at")?),
        deleted_at: time(7, "deleted_at")?,
        amount: Amount::parse(amount).ok_or_else(|| {
            damaged(
                id,
                "its amount is not a number of at most 1,000 digits before and behind its point".to_owned(),
            )
        })?,
        reason: row.try_get(9)?,
        payload: Payload::from_store(payload.unwrap_or("null"), row.try_get(11)?),
        touched: row.try_get(12)?,
        bucket: row.try_get(13)?,
    };
    Ok((order, payload.is_some()))
}

/// Reads a status column of an order's row.
pub(super) fn status(row: &Row, column: usize, id: OrderId) -> Result<Status, Failure> {
    let name: &str = row.try_get(column)?;
    Status::parse(name).ok_or_else(|| damaged(id, format!("its status {name:?} is unknown")))
}

/// The failure of a damaged row.
pub(super) fn damaged(order_id: OrderId, what: String) -> Failure {
    Failure::Damaged(Damaged { order_id, what })
}

/// Separates damaged rows from failures of the whole statement.
pub(super) fn readable<T>(read: Result<T, Failure>) -> Result<Result<T, Damaged>, Failure> {
    match read {
        Ok(value) => Ok(Ok(value)),
        Err(Failure::Damaged(damaged)) => Ok(Err(damaged)),
        Err(failure) => Err(failure),
    }
}

/// An order's id as a parameter.
pub(super) fn uuid(id: OrderId) -> Uuid {
    Uuid::from_bytes(*id.as_bytes())
}

/// A user's id as a parameter.
pub(super) fn user_uuid(id: UserId) -> Uuid {
    Uuid::from_bytes(*id.as_bytes())
}

/// An order's id from a column.
pub(super) fn order_id(id: Uuid) -> OrderId {
    OrderId::from_bytes(id.into_bytes())
}

/// A user's id from a column.
pub(super) fn user_id(id: Uuid) -> UserId {
    UserId::from_bytes(id.into_bytes())
}

/// The statuses from which an order may become `target`, as a SQL list.
pub(super) fn sources(target: Status) -> String {
    // NULL matches nothing, and keeps an empty list legal SQL.
    target.sources().map(|status| format!("'{status}', ")).collect::<String>() + "NULL"
}

/// The statuses from which an order may not become `target`, as a SQL list. It is never empty: a deleted order stays
/// deleted.
pub(super) fn others(target: Status) -> String {
    let sources: Vec<Status> = target.sources().collect();
    let others = Status::ALL.into_iter().filter(|status| !sources.contains(status));
    others.map(|status| format!("'{status}'")).collect::<Vec<_>>().join(", ")
}

/// The range of times that both Postgres and this program can hold: the years 1 to 9999.
pub(super) const TIMES: [Timestamp; 2] =
    [Timestamp::constant(-62_135_596_800, 0), Timestamp::constant(253_370_764_800, 0)];

/// The nearest time that is within [`TIMES`].
pub(super) fn within(time: Timestamp) -> Timestamp {
    time.clamp(TIMES[0], TIMES[1])
}
