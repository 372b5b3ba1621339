//! The statements that carry out commands: one for all creations of a batch, one for all updates, one for all
//! deletions, each with its outbox rows. A batch of several kinds is one transaction, so an error always means that
//! nothing of the batch happened.

use std::collections::HashMap;

use futures_util::future::try_join_all;
use jiff::Timestamp;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Row, Statement};
use uuid::Uuid;

use super::link::Prepare;
use super::rows::{order_id, sources, user_uuid, uuid};
use super::transaction;
use super::trouble::Trouble;
use crate::order::{Command, Event, OrderId, Payload, Request, Status, UserId, Version};
use crate::store::{Accepted, Refusal};

type Answers = HashMap<OrderId, Kept>;

/// A connection that carries out commands.
pub(super) struct Commands {
    client: Client,
    create: Statement,
    update: Statement,
    delete: Statement,
    look: Statement,
    check: Statement,
}

/// What a statement says of an order whose command was accepted.
struct Kept {
    version: Version,
    user_id: UserId,
    at: Timestamp,
    /// What a deleted order held.
    payload: Option<Payload>,
}

impl Prepare for Commands {
    const WRITES: bool = true;

    async fn prepare(client: Client) -> Result<Commands, tokio_postgres::Error> {
        let sql = [CREATE.to_owned(), update_sql(), delete_sql(), LOOK.to_owned(), CHECK.to_owned()];
        let statements = try_join_all(sql.iter().map(|sql| client.prepare(sql))).await?;
        let [create, update, delete, look, check] = statements.try_into().unwrap_or_else(|_| unreachable!());
        Ok(Commands { client, create, update, delete, look, check })
    }

    fn client(&self) -> &Client {
        &self.client
    }
}

/// The times are the transaction's own: one for the whole batch. Names the orders only where some were refused.
const CREATE: &str = "
WITH put AS (
    INSERT INTO orders (order_id, user_id, status, payload, created_at, updated_at, bucket, version, processed_version)
    SELECT id, user_id, 'new', payload::jsonb, now(), now(), bucket, 1, 0
      FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::int4[]) AS c (id, user_id, payload, bucket)
    ON CONFLICT (order_id) DO NOTHING
    RETURNING order_id
), noted AS (
    INSERT INTO orders_outbox (order_id, version) SELECT order_id, 1 FROM put
)
SELECT now(), CASE WHEN count(*) < cardinality($1) THEN coalesce(array_agg(order_id), ARRAY[]::uuid[]) END FROM put";

fn update_sql() -> String {
    format!(
        "WITH put AS (
             UPDATE orders o SET status = 'processing', version = o.version + 1, reason = NULL,
                    updated_at = greatest(o.updated_at, now()), payload = c.payload::jsonb
               FROM unnest($1::uuid[], $2::uuid[], $3::text[]) AS c (id, user_id, payload)
              WHERE o.order_id = ANY (ARRAY[c.id]) AND (c.user_id IS NULL OR o.user_id = c.user_id) AND o.status IN ({})
             RETURNING o.order_id, o.version, o.user_id, o.updated_at
         ), noted AS (
             INSERT INTO orders_outbox (order_id, version) SELECT order_id, version FROM put
         )
         SELECT order_id, version, user_id, updated_at FROM put",
        sources(Status::Processing)
    )
}

fn delete_sql() -> String {
    format!(
        "WITH put AS (
             UPDATE orders o SET status = 'deleted', version = o.version + 1, reason = NULL,
                    updated_at = greatest(o.updated_at, now()), deleted_at = now()
               FROM unnest($1::uuid[], $2::uuid[]) AS c (id, user_id)
              WHERE o.order_id = ANY (ARRAY[c.id]) AND (c.user_id IS NULL OR o.user_id = c.user_id) AND o.status IN ({})
             RETURNING o.order_id, o.version, o.user_id, o.updated_at, o.payload
         ), noted AS (
             INSERT INTO orders_outbox (order_id, version) SELECT order_id, version FROM put
         )
         SELECT order_id, version, user_id, updated_at, coalesce(payload, 'null')::text,
                CASE WHEN jsonb_typeof(payload -> 'id') IN ('string', 'number') THEN payload ->> 'id' ELSE '' END
           FROM put",
        sources(Status::Deleted)
    )
}

const LOOK: &str = "SELECT order_id, user_id, status FROM orders WHERE order_id = ANY($1)";

/// Fails where a table is missing, too.
const CHECK: &str = "SELECT pg_is_in_recovery() OR current_setting('transaction_read_only')::bool
                       FROM (SELECT 1) AS one LEFT JOIN (SELECT 1 FROM orders_outbox LIMIT 1) AS two ON true";

impl Commands {
    /// Carries out a batch.
    pub(super) async fn apply(&self, batch: &[Request]) -> Result<Vec<Result<Accepted, Refusal>>, Trouble> {
        let batch: Vec<&Command> = batch.iter().map(|request| &request.command).collect();
        let (mut creations, mut updates, mut deletions) = (Vec::new(), Vec::new(), Vec::new());
        for command in &batch {
            match command {
                Command::Create { order_id, user_id, payload } => {
                    creations.push((*order_id, *user_id, payload))
                }
                Command::Update { order_id, user_id, payload, .. } => {
                    updates.push((*order_id, *user_id, payload))
                }
                Command::Delete { order_id, user_id, .. } => deletions.push((*order_id, *user_id)),
            }
        }
        // In one order everywhere, so that two batches never wait for each other in a circle.
        updates.sort_unstable_by_key(|(id, ..)| *id);
        deletions.sort_unstable_by_key(|(id, _)| *id);
        let kinds = [creations.is_empty(), updates.is_empty(), deletions.is_empty()];
        let several = kinds.iter().filter(|empty| !**empty).count() > 1;
        let work = async {
            tokio::try_join!(self.create(&creations), self.update(&updates), self.delete(&deletions))
        };
        let (created, updated, deleted) = transaction::around(&self.client, several, work).await?;

        let mut answers = created;
        answers.extend(updated);
        answers.extend(deleted);
        let refused: Vec<Uuid> = batch
            .iter()
            .map(|command| command.order_id())
            .filter(|id| !answers.contains_key(id))
            .map(uuid)
            .collect();
        let known = if refused.is_empty() { HashMap::new() } else { self.look(&refused).await? };
        Ok(batch.iter().map(|command| answer(command, &mut answers, &known).map(Accepted::Now)).collect())
    }

    async fn create(&self, batch: &[(OrderId, UserId, &Payload)]) -> Result<Answers, Trouble> {
        if batch.is_empty() {
            return Ok(Answers::new());
        }
        let ids: Vec<Uuid> = batch.iter().map(|(id, ..)| uuid(*id)).collect();
        let users: Vec<Uuid> = batch.iter().map(|(_, user_id, _)| user_uuid(*user_id)).collect();
        let payloads: Vec<&str> = batch.iter().map(|(.., payload)| payload.as_str()).collect();
        let buckets: Vec<i32> = batch.iter().map(|(id, ..)| i32::from(id.bucket())).collect();
        let row = self.client.query_one(&self.create, &[&ids, &users, &payloads, &buckets]).await?;
        let at: Timestamp = row.try_get(0)?;
        let created: Option<Vec<Uuid>> = row.try_get(1)?;
        let is_created = |id: OrderId| created.as_ref().is_none_or(|created| created.contains(&uuid(id)));
        let accepted = |(id, user_id, _): &(OrderId, UserId, &Payload)| {
            (*id, Kept { version: 1, user_id: *user_id, at, payload: None })
        };
        Ok(batch.iter().filter(|(id, ..)| is_created(*id)).map(accepted).collect())
    }

    async fn update(&self, batch: &[(OrderId, Option<UserId>, &Payload)]) -> Result<Answers, Trouble> {
        if batch.is_empty() {
            return Ok(Answers::new());
        }
        let ids: Vec<Uuid> = batch.iter().map(|(id, ..)| uuid(*id)).collect();
        let users: Vec<Option<Uuid>> = batch.iter().map(|(_, user_id, _)| user_id.map(user_uuid)).collect();
        let payloads: Vec<&str> = batch.iter().map(|(.., payload)| payload.as_str()).collect();
        self.changed(&self.update, &[&ids, &users, &payloads]).await
    }

    async fn delete(&self, batch: &[(OrderId, Option<UserId>)]) -> Result<Answers, Trouble> {
        if batch.is_empty() {
            return Ok(Answers::new());
        }
        let ids: Vec<Uuid> = batch.iter().map(|(id, _)| uuid(*id)).collect();
        let users: Vec<Option<Uuid>> = batch.iter().map(|(_, user_id)| user_id.map(user_uuid)).collect();
        self.changed(&self.delete, &[&ids, &users]).await
    }

    async fn changed(
        &self,
        statement: &Statement,
        batch: &[&(dyn ToSql + Sync)],
    ) -> Result<Answers, Trouble> {
        self.client.query(statement, batch).await?.iter().map(accepted).collect()
    }

    /// Which of these orders exist: whose they are, and whether they are deleted.
    async fn look(&self, ids: &[Uuid]) -> Result<HashMap<OrderId, (UserId, bool)>, Trouble> {
        let rows = self.client.query(&self.look, &[&ids]).await?;
        let known = |row: &Row| {
            let user_id = UserId::from_bytes(row.try_get::<_, Uuid>(1)?.into_bytes());
            let status: &str = row.try_get(2)?;
            Ok((order_id(row.try_get(0)?), (user_id, status == Status::Deleted.as_str())))
        };
        rows.iter().map(known).collect()
    }

    /// Whether this server takes writes, and has the tables.
    pub(super) async fn check(&self) -> Result<(), Trouble> {
        let row = self.client.query_one(&self.check, &[]).await?;
        match row.try_get(0)? {
            true => Err(Trouble::ReadOnly),
            false => Ok(()),
        }
    }
}

/// A row of an update or a deletion.
fn accepted(row: &Row) -> Result<(OrderId, Kept), Trouble> {
    let payload = match row.len() {
        6 => Some(Payload::from_store(row.try_get(4)?, row.try_get(5)?)),
        _ => None,
    };
    let user_id = UserId::from_bytes(row.try_get::<_, Uuid>(2)?.into_bytes());
    let (version, at) = (row.try_get(1)?, row.try_get(3)?);
    Ok((order_id(row.try_get(0)?), Kept { version, user_id, at, payload }))
}

/// What a command's caller is told.
fn answer(
    command: &Command,
    answers: &mut Answers,
    known: &HashMap<OrderId, (UserId, bool)>,
) -> Result<Event, Refusal> {
    let id = command.order_id();
    let (status, payload, named) = match command {
        Command::Create { payload, .. } => (Status::New, Some(payload), None),
        Command::Update { payload, user_id, .. } => (Status::Processing, Some(payload), *user_id),
        Command::Delete { user_id, .. } => (Status::Deleted, None, *user_id),
    };
    let Some(accepted) = answers.remove(&id) else {
        return Err(match (status, known.get(&id)) {
            (Status::New, _) => {
                Refusal::Exists { user_id: UserId::from_bytes([0; 16]), version: 1, deleted: false }
            }
            (_, Some((owner, true))) if named.is_none_or(|named| named == *owner) => Refusal::Deleted,
            _ => Refusal::NotFound,
        });
    };
    let Kept { version, user_id, at, payload: kept } = accepted;
    Ok(Event {
        order_id: Some(id),
        version: Some(version),
        user_id: Some(user_id),
        payload: payload.cloned().or(kept).unwrap_or_else(|| Payload::from_store("null", "")),
        status,
        timestamp: at,
    })
}
