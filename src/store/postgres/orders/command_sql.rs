//! The SQL of the statements that apply commands: one statement for all commands of a kind, which writes everything
//! that becomes durable with the orders: outbox rows, keys, history events. Parts that a batch does not need, keys for
//! instance, are not in its statement.

use futures_util::future::try_join_all;
use tokio_postgres::{Client, Statement};

use crate::order::{Cause, Status, Version};
use crate::store::postgres::history::writing::{history_insert, history_place, own_place};
use crate::store::postgres::payload_text::payload_text;
use crate::store::postgres::rows::{others, sources};

/// The parts of a statement beside the change of orders and their outbox rows.
#[derive(Debug, Clone, Copy)]
pub(super) struct Extras {
    /// Skips commands whose keys were used before, and stores the keys of the others. Two more parameters.
    pub(in crate::store::postgres) keys: bool,
    /// Writes history events.
    pub(in crate::store::postgres) history: bool,
}

/// A statement for batches without keys, and one for batches with keys.
pub(super) struct Pair(pub(super) [Statement; 2]);

impl Pair {
    /// Prepares both.
    pub(in crate::store::postgres) async fn prepare(
        client: &Client,
        history: bool,
        sql: fn(Extras) -> String,
    ) -> Result<Pair, tokio_postgres::Error> {
        let sql = [false, true].map(|keys| sql(Extras { keys, history }));
        let statements = try_join_all(sql.iter().map(|sql| client.prepare(sql))).await?;
        Ok(Pair(statements.try_into().unwrap_or_else(|_| unreachable!())))
    }
}

impl Extras {
    fn key(self, sql: &'static str) -> &'static str {
        if self.keys { sql } else { "" }
    }

    fn history(self, sql: &'static str) -> &'static str {
        if self.history { sql } else { "" }
    }

    fn history_insert(self) -> String {
        if self.history { history_insert(Cause::Command, "NULL, NULL") } else { String::new() }
    }
}

/// Whether a key is new. A key that another transaction uses at the same moment violates the uniqueness, which undoes
/// the statement. NOT EXISTS would mean the same but becomes a join, and a join that was planned for an empty table
/// scans all keys for each command.
const IS_FRESH: &str = "(SELECT k.digest FROM orders_keys k WHERE k.digest = ANY (ARRAY[c.digest])) IS NULL";

/// Stores the keys of an UPDATE, whose rows contain them. The insert waits for another transaction that stores the same
/// key, so all statements insert in the same order, or they could deadlock.
const STORE_KEYS: &str = ", kept AS (
    INSERT INTO orders_keys (digest, content, order_id, version, status)
    SELECT digest, content, order_id, version, status FROM put WHERE digest IS NOT NULL ORDER BY digest
)";

/// Creates orders whose ids are all new; a duplicate key undoes the statement.
pub(super) fn create(with: Extras) -> String {
    creation(with, "")
}

/// Creates those orders whose ids are new.
pub(super) fn create_if_new(with: Extras) -> String {
    creation(with, "ON CONFLICT (order_id) DO NOTHING")
}

/// All times are the transaction's. The result lists the orders only where some were refused.
fn creation(with: Extras, on_conflict: &str) -> String {
    let place = if with.history { format!(", {}", own_place()) } else { String::new() };
    format!(
        "WITH put AS (
             INSERT INTO orders (order_id, user_id, status, payload, created_at, updated_at, own_at, bucket, version,
                                 processed_version{place_column})
             SELECT id, user_id, 'new', payload::jsonb, now(), now(), now(), bucket, 1, 0{place}
               FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::int4[]{digests})
                    AS c (id, user_id, payload, bucket{digest}){is_fresh}
             {on_conflict}
             RETURNING order_id{history_columns}
         ), noted AS (
             INSERT INTO orders_outbox (order_id, version) SELECT order_id, 1 FROM put
         ){kept}{history_insert}
         SELECT now(), CASE WHEN count(*) < cardinality($1) THEN coalesce(array_agg(order_id), ARRAY[]::uuid[]) END
           FROM put",
        place_column = with.history(", history_place"),
        digests = with.key(", $5::uuid[]"),
        digest = with.key(", digest"),
        is_fresh = if with.keys { format!(" WHERE {IS_FRESH}") } else { String::new() },
        history_columns = with.history(", user_id, version, updated_at, status, history_place"),
        // IS TRUE keeps the condition a hash table: as a join, it would be a nested loop.
        kept = with.key(
            ", kept AS (
                 INSERT INTO orders_keys (digest, content, order_id, version, status)
                 SELECT k.digest, k.content, k.id, 1, 'new'
                   FROM unnest($1::uuid[], $5::uuid[], $6::uuid[]) AS k (id, digest, content)
                  WHERE k.digest IS NOT NULL AND (k.id IN (SELECT order_id FROM put)) IS TRUE
                  ORDER BY k.digest
             )"
        ),
        history_insert = with.history_insert(),
    )
}

/// The time of a change, never before the last one. A time that cannot be exceeded, `infinity` for instance, was
/// written by another service, and is replaced.
const NEXT_TIME: &str =
    "CASE WHEN o.updated_at < '9999-12-01' THEN greatest(o.updated_at, now()) ELSE now() END";

/// The time of an order's first deletion. A time that cannot be read was written by another program, and is replaced.
const FIRST_DELETION: &str =
    "CASE WHEN o.deleted_at BETWEEN '0001-01-01' AND '9999-12-01' THEN o.deleted_at ELSE now() END";

/// Replaces contents.
pub(in crate::store::postgres) fn update(with: Extras) -> String {
    format!(
        "WITH put AS (
             UPDATE orders o SET status = 'processing', version = o.version + 1, reason = NULL,
                    updated_at = {NEXT_TIME}, own_at = {NEXT_TIME},
                    payload = c.payload::jsonb{placed}
               FROM unnest($1::uuid[], $2::uuid[], $3::int8[], $4::text[]{keys})
                    AS c (id, user_id, version, payload{key})
              WHERE {condition}
             RETURNING o.order_id, o.version, o.user_id, o.updated_at, o.status{history_columns}{key}
         ), noted AS (
             INSERT INTO orders_outbox (order_id, version) SELECT order_id, version FROM put
         ){kept}{history_insert}
         SELECT order_id, version, user_id, updated_at FROM put",
        placed = history_place(with.history),
        keys = with.key(", $5::uuid[], $6::uuid[]"),
        key = with.key(", digest, content"),
        condition = condition(Status::Processing, with),
        history_columns = with.history(", o.history_place"),
        kept = with.key(STORE_KEYS),
        history_insert = with.history_insert(),
    )
}

/// Deletes, and returns the payloads of the orders; NULL where a payload is too long.
pub(super) fn delete(with: Extras) -> String {
    deletion(with, payload_text!("payload"))
}

/// Deletes orders whose payloads the server cannot read, and returns NULL for them.
pub(super) fn delete_unread(with: Extras) -> String {
    deletion(with, "NULL::text")
}

fn deletion(with: Extras, payload: &str) -> String {
    format!(
        "WITH put AS (
             UPDATE orders o SET status = 'deleted', version = o.version + 1, reason = NULL,
                    updated_at = {NEXT_TIME}, own_at = {NEXT_TIME},
                    deleted_at = {FIRST_DELETION}{placed}
               FROM unnest($1::uuid[], $2::uuid[], $3::int8[]{keys}) AS c (id, user_id, version{key})
              WHERE {condition}
             RETURNING o.order_id, o.version, o.user_id, o.updated_at, o.status, o.payload{history_columns}{key}
         ), noted AS (
             INSERT INTO orders_outbox (order_id, version) SELECT order_id, version FROM put
         ){kept}{history_insert}
         SELECT order_id, version, user_id, updated_at, {payload},
                CASE WHEN jsonb_typeof(payload -> 'id') IN ('string', 'number') THEN payload ->> 'id' ELSE '' END
           FROM put",
        placed = history_place(with.history),
        keys = with.key(", $4::uuid[], $5::uuid[]"),
        key = with.key(", digest, content"),
        condition = condition(Status::Deleted, with),
        history_columns = with.history(", o.history_place"),
        kept = with.key(STORE_KEYS),
        history_insert = with.history_insert(),
    )
}

/// The condition for a command to change an order. An order with an unknown status, written by another program, takes
/// commands, but no update where `deleted_at` is set.
fn condition(target: Status, with: Extras) -> String {
    let not_deleted = match target {
        Status::Deleted => String::new(),
        _ => format!(" AND (o.deleted_at IS NULL OR o.status IN ({}))", sources(target)),
    };
    format!(
        "o.order_id = ANY (ARRAY[c.id]) AND (c.user_id IS NULL OR o.user_id = c.user_id)
         AND o.status NOT IN ({}){not_deleted}
         AND (c.version IS NULL OR o.version = c.version) AND o.version BETWEEN {FIRST_VERSION} AND {LAST_VERSION}{}",
        others(target),
        if with.keys { format!(" AND {IS_FRESH}") } else { String::new() }
    )
}

/// The lowest version of an order; only another program writes lower ones.
pub(super) const FIRST_VERSION: Version = 1;

/// The highest version that a command can increase.
pub(super) const LAST_VERSION: Version = Version::MAX - 1;
