//! Applies commands: one statement for all creations of a batch, one for all updates, one for all deletions, each with
//! its outbox rows, keys and history events. A batch of several kinds is one transaction, so an error always means that
//! nothing of the batch happened. For commands that a statement skipped, [`Refusals`] looks up the reason afterwards.

use std::collections::HashMap;
use std::pin::pin;

use futures_util::TryStreamExt;
use jiff::Timestamp;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Row, RowStream};
use uuid::Uuid;

use super::command_sql::{Pair, create, create_if_new, delete, delete_unread, update};
use super::locks::Locks;
use super::refusals::{Known, Refusals};
use super::transaction;
use crate::order::{Command, CommandRequest, Event, Key, OrderId, Payload, Status, UserId, Version};
use crate::store::postgres::connection::pooled_connection::Prepare;
use crate::store::postgres::failure::Failure;
use crate::store::postgres::rows::{order_id, user_id, user_uuid, uuid};
use crate::store::{Accepted, MAX_RETURNED_BYTES, Refusal, ReplayedOutcome};

/// How often a request is tried whose reason for the refusal is gone when it is looked up.
const MAX_ATTEMPTS: usize = 5;

type Answer = Result<Accepted, Refusal>;
type AcceptedRows = HashMap<OrderId, AcceptedRow>;

/// A connection that applies commands.
pub(in crate::store::postgres) struct Commands {
    client: Client,
    create: Pair,
    create_if_new: Pair,
    update: Pair,
    delete: Pair,
    locks: Locks,
    refusals: Refusals,
    history: bool,
}

/// The parameters of a command.
struct Item<'a> {
    id: OrderId,
    user_id: Option<UserId>,
    if_version: Option<Version>,
    payload: Option<&'a Payload>,
    key: Option<Key>,
}

/// The result row of an accepted command.
struct AcceptedRow {
    version: Version,
    user_id: UserId,
    at: Timestamp,
    content: Content,
}

/// The content of an order whose command was accepted.
enum Content {
    /// The payload of the command.
    Sent,
    /// The payload of a deleted order.
    Returned(Payload),
    /// The payload of a deleted order, left in the store because the batch has returned enough bytes.
    Left,
}

impl Prepare for Commands {
    const WRITES: bool = true;

    async fn prepare(client: Client, history: bool) -> Result<Commands, tokio_postgres::Error> {
        let pair = |sql| Pair::prepare(&client, history, sql);
        let (create, create_if_new, update, delete, locks, refusals) = tokio::try_join!(
            pair(create),
            pair(create_if_new),
            pair(update),
            pair(delete),
            Locks::prepare(&client),
            Refusals::prepare(&client),
        )?;
        Ok(Commands { client, create, create_if_new, update, delete, locks, refusals, history })
    }

    fn client(&self) -> &Client {
        &self.client
    }
}

impl Commands {
    /// Applies a batch.
    pub(super) async fn apply(&self, batch: &[CommandRequest]) -> Result<Vec<Answer>, Failure> {
        let mut answers: Vec<Option<Answer>> = batch.iter().map(|_| None).collect();
        for attempt in 0..MAX_ATTEMPTS {
            let open: Vec<usize> = (0..batch.len()).filter(|at| answers[*at].is_none()).collect();
            if open.is_empty() {
                break;
            }
            let requests: Vec<&CommandRequest> = open.iter().map(|at| &batch[*at]).collect();
            let given = self.attempt(&requests).await;
            // After the first attempt a part of the batch may be durable.
            let given = if attempt == 0 { given? } else { given.map_err(Failure::partly_applied)? };
            for (at, answer) in open.into_iter().zip(given) {
                answers[at] = answer;
            }
        }
        Ok(answers.into_iter().map(|answer| answer.unwrap_or(Err(Refusal::Unsteady))).collect())
    }

    /// Tries each request once. `None` for a request that was refused and whose reason is gone.
    async fn attempt(&self, requests: &[&CommandRequest]) -> Result<Vec<Option<Answer>>, Failure> {
        let (mut creations, mut updates, mut deletions) = (Vec::new(), Vec::new(), Vec::new());
        for request in requests {
            let item = Item::of(request);
            match request.command {
                Command::Create { .. } => creations.push(item),
                Command::Update { .. } => updates.push(item),
                Command::Delete { .. } => deletions.push(item),
            }
        }
        // Every batch locks its rows in the order of their ids, so that two batches cannot deadlock. The creations come
        // first: a creation with a duplicate key waits for a transaction that changes that order, and the batch must
        // not hold a changed row meanwhile.
        for kind in [&mut creations, &mut updates, &mut deletions] {
            kind.sort_unstable_by_key(|item| item.id);
        }
        let kinds = [creations.is_empty(), updates.is_empty(), deletions.is_empty()];
        let several = kinds.iter().filter(|empty| !**empty).count() > 1;
        let work = async {
            // Not try_join: statements behind the one that failed only report that the transaction is aborted.
            let (created, locked, updated, deleted) = tokio::join!(
                biased;
                self.create(&creations, several),
                self.locks.take(&self.client, [ids(&updates), ids(&deletions)]),
                self.change(&self.update, &updates, true),
                self.delete(&deletions, several)
            );
            let created = created?;
            locked?;
            Ok((created, updated?, deleted?))
        };
        let (created, updated, deleted) = transaction::around(&self.client, several, work).await?;

        let mut accepted = created;
        accepted.extend(updated);
        accepted.extend(deleted);
        let refused: Vec<&CommandRequest> = requests
            .iter()
            .filter(|request| !accepted.contains_key(&request.command.order_id()))
            .copied()
            .collect();
        let known = match refused.is_empty() {
            true => Known::default(),
            false => match self.refusals.look_up(&self.client, &refused).await {
                Err(failure) if !accepted.is_empty() => return Err(failure.partly_applied()),
                known => known?,
            },
        };
        Ok(requests
            .iter()
            .map(|request| match accepted.remove(&request.command.order_id()) {
                Some(row) => Some(Ok(row.outcome(&request.command))),
                None => known.answer(request),
            })
            .collect())
    }

    /// Creates orders. Duplicate keys are very rare, and ON CONFLICT makes every insert slower. So it is only used for
    /// a batch that has a duplicate key, or for one within a transaction, which a duplicate key would roll back.
    async fn create(&self, batch: &[Item<'_>], in_transaction: bool) -> Result<AcceptedRows, Failure> {
        if batch.is_empty() {
            return Ok(AcceptedRows::new());
        }
        let ids = ids(batch);
        let users: Vec<Option<Uuid>> = batch.iter().map(|item| item.user_id.map(user_uuid)).collect();
        let payloads = payloads(batch);
        let buckets: Vec<i32> = batch.iter().map(|item| i32::from(item.id.bucket())).collect();
        let create = async |statements| -> Result<Vec<Row>, Failure> {
            let rows = self.run(statements, batch, vec![&ids, &users, &payloads, &buckets]).await?;
            Ok(rows.try_collect().await?)
        };
        let row = match in_transaction {
            true => create(&self.create_if_new).await?,
            false => match create(&self.create).await {
                Err(failure) if failure.is_duplicate_id() => create(&self.create_if_new).await?,
                made => made?,
            },
        };
        let row = row.first().ok_or(Failure::Timeout)?;
        let at: Timestamp = row.try_get(0)?;
        let created: Option<Vec<Uuid>> = row.try_get(1)?;
        let is_created = |id: OrderId| created.as_ref().is_none_or(|created| created.contains(&uuid(id)));
        let accepted = |item: &Item<'_>| {
            Some((item.id, AcceptedRow { version: 1, user_id: item.user_id?, at, content: Content::Sent }))
        };
        Ok(batch.iter().filter(|item| is_created(item.id)).filter_map(accepted).collect())
    }

    async fn delete(&self, batch: &[Item<'_>], in_transaction: bool) -> Result<AcceptedRows, Failure> {
        match self.change(&self.delete, batch, false).await {
            // A failure of a larger batch is not handled here: the caller halves the batch until the row is alone.
            Err(failure) if batch.len() == 1 && !in_transaction && failure.concerns_a_row() => {
                let unread = Pair::prepare(&self.client, self.history, delete_unread).await?;
                self.change(&unread, batch, false).await
            }
            deleted => deleted,
        }
    }

    async fn change(
        &self,
        statements: &Pair,
        batch: &[Item<'_>],
        with_payloads: bool,
    ) -> Result<AcceptedRows, Failure> {
        if batch.is_empty() {
            return Ok(AcceptedRows::new());
        }
        let ids = ids(batch);
        let users: Vec<Option<Uuid>> = batch.iter().map(|item| item.user_id.map(user_uuid)).collect();
        let versions: Vec<Option<Version>> = batch.iter().map(|item| item.if_version).collect();
        let payloads = payloads(batch);
        let mut parameters: Vec<&(dyn ToSql + Sync)> = vec![&ids, &users, &versions];
        if with_payloads {
            parameters.push(&payloads);
        }
        // One row at a time: the payloads of deleted orders may be large together.
        let mut rows = pin!(self.run(statements, batch, parameters).await?);
        let (mut answers, mut returned_bytes) = (AcceptedRows::with_capacity(batch.len()), 0);
        while let Some(found) = rows.try_next().await? {
            let (id, row) = changed(&found, &mut returned_bytes)?;
            answers.insert(id, row);
        }
        Ok(answers)
    }

    /// Runs the statement with keys, or the one without, as the batch needs.
    async fn run(
        &self,
        Pair([plain, keyed]): &Pair,
        batch: &[Item<'_>],
        mut parameters: Vec<&(dyn ToSql + Sync)>,
    ) -> Result<RowStream, Failure> {
        if batch.iter().all(|item| item.key.is_none()) {
            return Ok(self.client.query_raw(plain, parameters).await?);
        }
        let column = |part: fn(Key) -> [u8; 16]| -> Vec<Option<Uuid>> {
            batch.iter().map(|item| item.key.map(|key| Uuid::from_bytes(part(key)))).collect()
        };
        let (digests, contents) = (column(|key| key.digest), column(|key| key.content));
        parameters.extend::<[&(dyn ToSql + Sync); 2]>([&digests, &contents]);
        Ok(self.client.query_raw(keyed, parameters).await?)
    }
}

impl<'a> Item<'a> {
    fn of(request: &'a CommandRequest) -> Item<'a> {
        let id = request.command.order_id();
        let (user_id, if_version, payload) = match &request.command {
            Command::Create { user_id, payload, .. } => (Some(*user_id), None, Some(payload)),
            Command::Update { user_id, payload, if_version, .. } => (*user_id, *if_version, Some(payload)),
            Command::Delete { user_id, if_version, .. } => (*user_id, *if_version, None),
        };
        Item { id, user_id, if_version, payload, key: request.key }
    }
}

fn ids(batch: &[Item<'_>]) -> Vec<Uuid> {
    batch.iter().map(|item| uuid(item.id)).collect()
}

fn payloads<'a>(batch: &[Item<'a>]) -> Vec<Option<&'a str>> {
    batch.iter().map(|item| item.payload.map(Payload::as_str)).collect()
}

/// Reads a result row of an update or a deletion.
fn changed(row: &Row, returned_bytes: &mut usize) -> Result<(OrderId, AcceptedRow), Failure> {
    let content = match row.len() {
        // An order whose payload is too long to be read is deleted like any other.
        6 => {
            let text = row.try_get::<_, Option<&str>>(4)?.unwrap_or("null");
            if *returned_bytes + text.len() <= MAX_RETURNED_BYTES {
                *returned_bytes += text.len();
                Content::Returned(Payload::from_store(text, row.try_get(5)?))
            } else {
                Content::Left
            }
        }
        _ => Content::Sent,
    };
    let (version, user_id, at) = (row.try_get(1)?, user_id(row.try_get(2)?), row.try_get(3)?);
    Ok((order_id(row.try_get(0)?), AcceptedRow { version, user_id, at, content }))
}

impl AcceptedRow {
    /// The outcome of the accepted command.
    fn outcome(self, command: &Command) -> Accepted {
        let (order_id, version) = (command.order_id(), self.version);
        let (status, sent) = match command {
            Command::Create { payload, .. } => (Status::New, Some(payload)),
            Command::Update { payload, .. } => (Status::Processing, Some(payload)),
            Command::Delete { .. } => (Status::Deleted, None),
        };
        let payload = match (sent, self.content) {
            (Some(sent), _) => sent.clone(),
            (None, Content::Returned(returned)) => returned,
            (None, Content::Sent | Content::Left) => {
                return Accepted::AppliedWithoutEvent(ReplayedOutcome { order_id, version, status });
            }
        };
        Accepted::Applied(Event {
            order_id: Some(order_id),
            version: Some(version),
            user_id: Some(self.user_id),
            payload,
            status,
            timestamp: self.at,
        })
    }
}
