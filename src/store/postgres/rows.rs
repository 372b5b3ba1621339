//! Rows to values and back. Another service may have written a row, so columns that we always fill may be null.

use jiff::Timestamp;
use tokio_postgres::Row;
use uuid::Uuid;

use super::failure::Failure;
use super::payload_text::{TOO_LONG, payload_text};
use crate::order::{Amount, Order, OrderId, Payload, Status, UserId};
use crate::store::Damaged;

/// The processed version of an order in a table that is called `o`. Where another service's worker has finished it,
/// which our own writes never do without saying so, that is its version.
macro_rules! processed_version {
    () => {
        "CASE WHEN o.status IN ('done', 'failed', 'cancelled') AND o.overtaken_version IS DISTINCT FROM o.version \
         THEN o.version ELSE o.processed_version END"
    };
}

pub(super) use processed_version;

/// SQL for the text of an amount: NULL where there is none, and a text that is not a number where it is longer than any
/// that this program writes. `numeric` keeps `1e131071` in ten bytes, and has NaN and infinity.
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

/// The columns that [`order`] reads, in its order, of a table that is called `o`.
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

/// The same for an event, which tells no more of an order than its owner, status, version, payload and last change:
/// an event can be made although the rest of the row, or the time of that change, cannot be read.
pub(super) const EVENT_COLUMNS: &str = concat!(
    "o.order_id, o.user_id, o.status, o.version, o.processed_version, to_timestamp(0), \
     CASE WHEN coalesce(o.updated_at, o.created_at, 'epoch') BETWEEN '0001-01-01' AND '9999-12-01' \
          THEN coalesce(o.updated_at, o.created_at, 'epoch') ELSE now() END, \
     NULL::timestamptz, '0'::text, NULL::text, ",
    payload_text!("o.payload"),
    ", CASE WHEN jsonb_typeof(o.payload -> 'id') IN ('string', 'number') THEN o.payload ->> 'id' ELSE '' END, true, 0"
);

/// [`EVENT_COLUMNS`] without a look at the payload's content: for an order whose payload the server cannot read.
pub(super) fn event_columns_but_payload() -> String {
    EVENT_COLUMNS.replacen(payload_text!("o.payload"), "NULL::text", 1)
}

/// Which of them is the text of the payload.
pub(super) const PAYLOAD: usize = 10;

/// How many columns they are.
pub(super) const COLUMN_COUNT: usize = 14;

/// Reads an order from a row of [`COLUMNS`]. A value that no version of this program wrote is an error that names
/// the order, and so is a payload that is too long.
pub(super) fn order(row: &Row) -> Result<Order, Failure> {
    match order_but_payload(row)? {
        (order, true) => Ok(order),
        (order, false) => Err(damaged(order.id, TOO_LONG.to_owned())),
    }
}

/// The same, with `null` for a payload that is too long, and whether it is there.
pub(super) fn order_but_payload(row: &Row) -> Result<(Order, bool), Failure> {
    let id = order_id(row.try_get(0)?);
    let time = |column, name: &str| {
        let time = row.try_get::<_, Option<Timestamp>>(column);
        time.map_err(|_| damaged(id, format!("its {name} is out of the range of times")))
    };
    let there = |time: Option<Timestamp>| time.unwrap_or(Timestamp::UNIX_EPOCH);
    let amount: &str = row.try_get(8)?;
    let payload: Option<&str> = row.try_get(PAYLOAD)?;
    let order = Order {
        id,
        user_id: user_id(row.try_get(1)?),
        status: status(row, 2, id)?,
        version: row.try_get(3)?,
        processed_version: row.try_get(4)?,
        created_at: there(time(5, "created_at")?),
        updated_at: there(time(6, "updated_at")?),
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

/// What is wrong with an order's row.
pub(super) fn damaged(order_id: OrderId, what: String) -> Failure {
    Failure::Damaged(Damaged { order_id, what })
}

/// A value, or what is wrong with its row. Only what concerns the whole batch is an error.
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
    // NULL is in no list, and keeps an empty one legal SQL.
    target.sources().map(|status| format!("'{status}', ")).collect::<String>() + "NULL"
}

/// The statuses from which an order may not become `target`, as a SQL list. There is always one: what is deleted stays
/// so.
pub(super) fn others(target: Status) -> String {
    let sources: Vec<Status> = target.sources().collect();
    let others = Status::ALL.into_iter().filter(|status| !sources.contains(status));
    others.map(|status| format!("'{status}'")).collect::<Vec<_>>().join(", ")
}

/// The times that Postgres and we can both hold, the years 1 to 9999: for whoever asks for everything.
pub(super) const TIMES: [Timestamp; 2] =
    [Timestamp::constant(-62_135_596_800, 0), Timestamp::constant(253_370_764_800, 0)];

/// The nearest time that is within [`TIMES`].
pub(super) fn within(time: Timestamp) -> Timestamp {
    time.clamp(TIMES[0], TIMES[1])
}
