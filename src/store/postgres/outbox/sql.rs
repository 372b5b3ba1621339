//! The SQL of the outbox: statements that remove rows, claim rows, and find rows for the sweep. All of them use the key
//! of the table, which has no other index, and take rows in the order of the key. A statement must not wait for a row
//! that another process has locked for a claim.

/// How long a claim lasts, in seconds: as long as a publish takes to fail.
const CLAIM_SECONDS: u32 = 10;

/// Keeps postponed rows, whose two times are equal: a worker has already received their events, and receives them
/// again.
pub(super) const REMOVE: &str =
    "DELETE FROM orders_outbox b USING unnest($1::uuid[], $2::int8[]) AS k (order_id, version)
     WHERE b.order_id = ANY (ARRAY[k.order_id]) AND b.version = k.version
       AND b.claimed_until IS DISTINCT FROM b.created_at";

/// Whether a row is not claimed now. A claim with an impossibly late end was made before the server's clock went back,
/// and does not count.
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

/// Claims rows. It skips rows that another process is claiming at this moment.
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

/// Unclaimed rows behind a key, by the key, which grows with time: a table of millions is scanned page by page, without
/// a further index.
///
/// A row with a time in the future was written before the server's clock went back, and counts as old.
pub(super) fn waiting(limit: &str) -> String {
    format!(
        "orders_outbox WHERE (created_at < $1 OR created_at > clock_timestamp() + interval '1 minute') AND (order_id, version) > ($2, $3)
            AND {}
          ORDER BY order_id, version LIMIT {limit}",
        unclaimed!("")
    )
}

/// Unclaimed rows with the columns of their events, and for each row whether it is still pending.
pub(super) fn pending_sql(columns: &str) -> String {
    format!(
        "SELECT {columns}, b.order_id, b.version, o.version = b.version AND o.processed_version < o.version
           FROM (SELECT order_id, version FROM {}) AS b
           LEFT JOIN orders o ON o.order_id = ANY (ARRAY[b.order_id])
          ORDER BY b.order_id, b.version",
        waiting("$4")
    )
}
