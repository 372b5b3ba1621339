//! The text of the statements that carry out commands: one for all commands of a kind, which writes all that becomes
//! durable with the orders. What a batch does not need, keys for instance, is not in its statement.

use futures_util::future::try_join_all;
use tokio_postgres::{Client, Statement};

use crate::order::{Cause, Status, Version};
use crate::store::postgres::history::writing::{own_place, placed, told};
use crate::store::postgres::payload_text::payload_text;
use crate::store::postgres::rows::{others, sources};

/// What a statement does beside changing orders and noting them in the outbox.
#[derive(Debug, Clone, Copy)]
pub(super) struct Extras {
    /// Carries out nothing whose key was used before, and keeps the keys of what it carries out. Two columns more.
    pub(in crate::store::postgres) keys: bool,
    /// Writes the history.
    pub(in crate::store::postgres) history: bool,
}

/// A statement for batches without a key, and one for those with keys.
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

    fn step(self, sql: &'static str) -> &'static str {
        if self.history { sql } else { "" }
    }

    fn told(self) -> String {
        if self.history { told(Cause::Command, "NULL, NULL") } else { String::new() }
    }
}

/// Whether a key is new to the statement. One that another transaction uses at the same moment violates its
/// uniqueness, which undoes the statement. NOT EXISTS would say the same, but becomes a join, and the plan of a join
/// that was made for an empty table walks through all keys for each one.
const IS_FRESH: &str = "(SELECT k.digest FROM orders_keys k WHERE k.digest = ANY (ARRAY[c.digest])) IS NULL";

/// Keeps the keys of an UPDATE, whose rows carry them. One that another transaction keeps at the same moment is waited
/// for, so all statements keep them in one order.
const KEPT: &str = ", kept AS (
    INSERT INTO orders_keys (digest, content, order_id, version, status)
    SELECT digest, content, order_id, version, status FROM put WHERE digest IS NOT NULL ORDER BY digest
)";

/// Makes orders whose ids are all new; one that is taken violates its uniqueness, which undoes the statement.
pub(super) fn create(with: Extras) -> String {
    creation(with, "")
}

/// Makes those orders whose ids are new.
pub(super) fn create_if_new(with: Extras) -> String {
    creation(with, "ON CONFLICT (order_id) DO NOTHING")
}

/// The times are the transaction's own: one for the whole batch. Names the orders only where some were refused.
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
             RETURNING order_id{step}
         ), noted AS (
             INSERT INTO orders_outbox (order_id, version) SELECT order_id, 1 FROM put
         ){kept}{told}
         SELECT now(), CASE WHEN count(*) < cardinality($1) THEN coalesce(array_agg(order_id), ARRAY[]::uuid[]) END
           FROM put",
        place_column = with.step(", history_place"),
        digests = with.key(", $5::uuid[]"),
        digest = with.key(", digest"),
        is_fresh = if with.keys { format!(" WHERE {IS_FRESH}") } else { String::new() },
        step = with.step(", user_id, version, updated_at, status, history_place"),
        // IS TRUE keeps the condition a hash table: as a join, it would be a loop in a loop.
        kept = with.key(
            ", kept AS (
                 INSERT INTO orders_keys (digest, content, order_id, version, status)
                 SELECT k.digest, k.content, k.id, 1, 'new'
                   FROM unnest($1::uuid[], $5::uuid[], $6::uuid[]) AS k (id, digest, content)
                  WHERE k.digest IS NOT NULL AND (k.id IN (SELECT order_id FROM put)) IS TRUE
                  ORDER BY k.digest
             )"
        ),
        told = with.told(),
    )
}

/// When a change happens that is not to lie before the last one. A time that none of ours can follow, `infinity` for
/// instance, has been set by another service, and ends here.
const NEXT_TIME: &str =
    "CASE WHEN o.updated_at < '9999-12-01' THEN greatest(o.updated_at, now()) ELSE now() END";

/// When an order was deleted first. A time that cannot be read has been set by another program, and ends here.
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
             RETURNING o.order_id, o.version, o.user_id, o.updated_at, o.status{step}{key}
         ), noted AS (
             INSERT INTO orders_outbox (order_id, version) SELECT order_id, version FROM put
         ){kept}{told}
         SELECT order_id, version, user_id, updated_at FROM put",
        placed = placed(with.history),
        keys = with.key(", $5::uuid[], $6::uuid[]"),
        key = with.key(", digest, content"),
        condition = condition(Status::Processing, with),
        step = with.step(", o.history_place"),
        kept = with.key(KEPT),
        told = with.told(),
    )
}

/// Deletes, and answers what the orders held; NULL where that is too long.
pub(super) fn delete(with: Extras) -> String {
    deletion(with, payload_text!("payload"))
}

/// Deletes orders whose content the server cannot tell, and answers NULL for it.
pub(super) fn delete_unseen(with: Extras) -> String {
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
             RETURNING o.order_id, o.version, o.user_id, o.updated_at, o.status, o.payload{step}{key}
         ), noted AS (
             INSERT INTO orders_outbox (order_id, version) SELECT order_id, version FROM put
         ){kept}{told}
         SELECT order_id, version, user_id, updated_at, {payload},
                CASE WHEN jsonb_typeof(payload -> 'id') IN ('string', 'number') THEN payload ->> 'id' ELSE '' END
           FROM put",
        placed = placed(with.history),
        keys = with.key(", $4::uuid[], $5::uuid[]"),
        key = with.key(", digest, content"),
        condition = condition(Status::Deleted, with),
        step = with.step(", o.history_place"),
        kept = with.key(KEPT),
        told = with.told(),
    )
}

/// What must hold of an order for a command to change it. An order with a status that another program made up takes
/// commands, but no update where `deleted_at` says that it was deleted.
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

/// The lowest version of an order; lower ones are another program's.
pub(super) const FIRST_VERSION: Version = 1;

/// The highest version of an order that a command can raise by one.
pub(super) const LAST_VERSION: Version = Version::MAX - 1;
