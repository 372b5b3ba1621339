//! What the writing statements add to tell of a step. Transactions commit in another order than they begin, so a place
//! begins with the number of the transaction that wrote it.

use crate::order::Cause;

/// The place of a step that this statement writes. No two clusters count alike, so an origin is added; it is found by
/// its key, since write connections may not walk through tables.
pub(in crate::store::postgres) fn own_place() -> &'static str {
    "(SELECT pg_current_xact_id()::text::bigint + origin FROM orders_history_origin WHERE single)"
}

/// Part of an UPDATE of orders: the place of the step. A transaction that began earlier may come to an order later;
/// its step is then at the place of the order's last one, and behind it by its number.
pub(in crate::store::postgres) fn placed(history: bool) -> String {
    match history {
        true => format!(", history_place = greatest(o.history_place, {})", own_place()),
        false => String::new(),
    }
}

/// Part of a statement whose rows `put` are orders after a step: writes it. A step's number is drawn while the order
/// is locked.
pub(in crate::store::postgres) fn told(cause: Cause, amount_and_reason: &str) -> String {
    format!(
        ", told AS (
             INSERT INTO orders_history (place, order_id, user_id, version, at, cause, status, amount, reason)
             SELECT history_place, order_id, user_id, version, updated_at, '{}', status, {amount_and_reason} FROM put
         )",
        cause.as_str()
    )
}
