//! Converts rows to values. A value that this program does not know is an error that names the order, and must only
//! fail its own row. Such an error goes through the driver as a failed conversion with a [`Damaged`] inside, and
//! `readable` takes it out. The columns are read by their index: [`COLUMNS`] and [`order`] must have the same order.

use jiff::Timestamp;
use rusqlite::Row;
use rusqlite::types::Type;

use crate::order::{Amount, Order, OrderId, Payload, Status, UserId};
use crate::store::Damaged;

/// At how many bytes of payload a page ends.
pub(super) const MAX_READ_BYTES: usize = 8 << 20;

/// The columns that [`order`] reads, in its order.
pub(super) const COLUMNS: &str = "order_id, user_id, status, version, processed_version, created_at, \
     updated_at, deleted_at, amount, reason, external_id, payload, touched IS NOT NULL";

/// Reads an order from a row of [`COLUMNS`].
pub(super) fn order(row: &Row<'_>) -> rusqlite::Result<Order> {
    let id = OrderId::from_bytes(row.get(0)?);
    let time = |column: usize, micros| {
        Timestamp::from_microsecond(micros).map_err(|_| corrupt(id, column, "is out of the range of times"))
    };
    Ok(Order {
        id,
        user_id: UserId::from_bytes(row.get(1)?),
        status: known_status(row, 2, id)?,
        version: row.get(3)?,
        processed_version: row.get(4)?,
        created_at: time(5, row.get(5)?)?,
        updated_at: time(6, row.get(6)?)?,
        deleted_at: row.get::<_, Option<i64>>(7)?.map(|micros| time(7, micros)).transpose()?,
        amount: Amount::parse(row.get_ref(8)?.as_str()?).ok_or_else(|| corrupt(id, 8, "is not an amount"))?,
        reason: row.get(9)?,
        payload: Payload::from_store(row.get_ref(11)?.as_str()?, row.get_ref(10)?.as_str()?),
        touched: row.get(12)?,
        bucket: i32::from(id.bucket()),
    })
}

/// Reads a status column of an order's row.
pub(super) fn known_status(row: &Row<'_>, column: usize, id: OrderId) -> rusqlite::Result<Status> {
    Status::parse(row.get_ref(column)?.as_str()?).ok_or_else(|| corrupt(id, column, "is not a status"))
}

/// The error of a damaged row.
pub(super) fn corrupt(order_id: OrderId, column: usize, what: &str) -> rusqlite::Error {
    let damaged = Damaged { order_id, what: format!("column {column} of its row {what}") };
    rusqlite::Error::FromSqlConversionFailure(column, Type::Text, Box::new(damaged))
}

/// Separates damaged rows from failures of the whole query.
pub(super) fn readable<T>(read: rusqlite::Result<T>) -> rusqlite::Result<Result<T, Damaged>> {
    match read {
        Ok(value) => Ok(Ok(value)),
        Err(rusqlite::Error::FromSqlConversionFailure(column, kind, error)) => match error.downcast() {
            Ok(damaged) => Ok(Err(*damaged)),
            Err(error) => Err(rusqlite::Error::FromSqlConversionFailure(column, kind, error)),
        },
        Err(error) => Err(error),
    }
}
