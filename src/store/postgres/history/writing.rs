//! SQL for statements that write history events. Transactions commit in another order than they begin, so an offset
//! begins with the number of the transaction that wrote the event. The column `place` holds that number. A statement
//! must never write an event with an offset below one that readers have passed.

use crate::order::Cause;

/// The place of an event that this statement writes. Clusters count transactions differently, so an origin is added; it
/// is found by its key, because plans of write connections do not scan tables.
pub(in crate::store::postgres) fn own_place() -> &'static str {
    "(SELECT pg_current_xact_id()::text::bigint + origin FROM orders_history_origin WHERE single)"
}

/// A part of an UPDATE of orders: sets the place of the event. A transaction that began earlier may change an order
/// later; its event then has the place of the order's last one, and a higher sequence number.
pub(in crate::store::postgres) fn history_place(history: bool) -> String {
    match history {
        true => format!(", history_place = greatest(o.history_place, {})", own_place()),
        false => String::new(),
    }
}

/// A part of a statement whose rows `put` are changed orders: writes their history events. The sequence number of an
/// event is drawn while the order is locked.
pub(in crate::store::postgres) fn history_insert(cause: Cause, amount_and_reason: &str) -> String {
    format!(
        ", recorded AS (
             INSERT INTO orders_history (place, order_id, user_id, version, at, cause, status, amount, reason)
             SELECT history_place, order_id, user_id, version, updated_at, '{}', status, {amount_and_reason} FROM put
         )",
        cause.as_str()
    )
}
