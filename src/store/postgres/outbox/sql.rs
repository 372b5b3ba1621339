//! The statements of the outbox: which rows are removed, taken up, and found by a sweep.

/// For how long a process that has taken a row up is left alone with it, in seconds: as long as a publish takes to
/// fail.
const CLAIM_SECONDS: u32 = 10;

/// Leaves out a row that was postponed, whose two times are equal: a worker has had its event, and is to have it again.
pub(super) const REMOVE: &str =
    "DELETE FROM orders_outbox b USING unnest($1::uuid[], $2::int8[]) AS k (order_id, version)
     WHERE b.order_id = ANY (ARRAY[k.order_id]) AND b.version = k.version
       AND b.claimed_until IS DISTINCT FROM b.created_at";

/// Whether no process has a row now. A claim that ends later than any does was made before the server's clock went
/// back.
macro_rules! unclaimed {
    ($row:literal) => {
        concat!(
            "(",
            $row,
            "claimed_until IS NULL OR ",
            $row,
            "claimed_until < clock_timestamp() OR ",
            $row,
            "claimed_until > clock_timestamp() + interval '10 minutes')"
        )
    };
}

/// Rows that another process is taking up at this moment are its own, and not waited for.
pub(super) fn claim_sql() -> String {
    format!(
        "UPDATE orders_outbox b SET claimed_until = clock_timestamp() + interval '{CLAIM_SECONDS} seconds'
           FROM (SELECT k.order_id, k.version FROM unnest($1::uuid[], $2::int8[]) AS k (order_id, version)
                   JOIN orders_outbox free USING (order_id, version)
                  WHERE {}
                    FOR UPDATE OF free SKIP LOCKED) AS mine
          WHERE b.order_id = mine.order_id AND b.version = mine.version
         RETURNING b.order_id, b.version",
        unclaimed!("free.")
    )
}

/// Rows that no process has taken up, from behind a key on. By the key, which grows with time: a table of millions is
/// walked page by page, without an index for it.
///
/// A row from the future was written before the server's clock went back: it is as old as any.
pub(super) fn waiting(limit: &str) -> String {
    format!(
        "orders_outbox WHERE (created_at < $1 OR created_at > clock_timestamp() + interval '1 minute') AND (order_id, version) > ($2, $3)
            AND {}
          ORDER BY order_id, version LIMIT {limit}",
        unclaimed!("")
    )
}

/// Events that are pending and that no process has taken up, and for each row whether it still is.
pub(super) fn pending_sql(columns: &str) -> String {
    format!(
        "SELECT {columns}, b.order_id, b.version, o.version = b.version AND o.processed_version < o.version
           FROM (SELECT order_id, version FROM {}) AS b
           LEFT JOIN orders o ON o.order_id = ANY (ARRAY[b.order_id])
          ORDER BY b.order_id, b.version",
        waiting("$4")
    )
}
