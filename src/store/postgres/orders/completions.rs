//! Records completions: one statement for all completions of a kind that set the same status. [`Status::LEGAL`] names
//! the legal changes of a status. A completion that is not newer than the order must change nothing. A batch of several
//! statements is one transaction: creations run first, because they may wait for another transaction and must not hold
//! changed rows meanwhile; then the rows of all changes are locked in the order of their ids, so that two batches
//! cannot deadlock. It relies on callers that name an order at most once in a batch.

use std::collections::{BTreeMap, HashSet};

use futures_util::future::{join_all, try_join_all};
use jiff::Timestamp;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Statement};
use uuid::Uuid;

use super::locks::Locks;
use super::transaction;
use crate::order::{Cause, OrderId, Status};
use crate::store::postgres::connection::pooled_connection::Prepare;
use crate::store::postgres::failure::Failure;
use crate::store::postgres::history::writing::{history_insert, history_place, own_place};
use crate::store::postgres::rows::{order_id, sources, user_uuid, uuid};
use crate::store::{Completed, Completion, Creation, Precondition};

/// A connection that records completions.
pub(in crate::store::postgres) struct Completions {
    client: Client,
    /// By kind, then by target status in the order of [`Status::ALL`].
    statements: Vec<Statement>,
    locks: Locks,
    exist: Statement,
}

/// The kind of a completion, by its precondition. Statements run in this order: a creation may wait for a transaction
/// that changes the order of its id, and the batch must not hold a changed row meanwhile.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Create,
    Finish,
    Overtake,
}

const KINDS: [Kind; 3] = [Kind::Create, Kind::Finish, Kind::Overtake];

/// The completions of a kind that set the same status, by its index in [`Status::ALL`].
type Group<'a> = ((Kind, usize), Vec<&'a Completion>);

impl Prepare for Completions {
    const WRITES: bool = true;

    async fn prepare(client: Client, history: bool) -> Result<Completions, tokio_postgres::Error> {
        let sql = |kind: Kind| Status::ALL.map(|target| kind.sql(target, history));
        let sql: Vec<String> = KINDS.into_iter().flat_map(sql).collect();
        let statements = try_join_all(sql.iter().map(|sql| client.prepare(sql))).await?;
        let locks = Locks::prepare(&client).await?;
        let exist = client.prepare("SELECT order_id FROM orders WHERE order_id = ANY($1)").await?;
        Ok(Completions { client, statements, locks, exist })
    }

    fn client(&self) -> &Client {
        &self.client
    }
}

impl Kind {
    fn of(completion: &Completion) -> Kind {
        match completion.precondition {
            Precondition::Version(_) => Kind::Finish,
            Precondition::Unversioned(_) => Kind::Overtake,
            Precondition::Creation(_) => Kind::Create,
        }
    }

    fn sql(self, target: Status, history: bool) -> String {
        let (statement, cause) = match self {
            Kind::Finish => (finish_sql(target, history), Cause::Worker),
            Kind::Overtake => (overtake_sql(target, history), Cause::Event),
            Kind::Create => (create_sql(target, history), Cause::Event),
        };
        let (returning, history_insert) = match (history, self) {
            (false, _) => ("order_id".to_owned(), String::new()),
            (true, Kind::Create) => {
                let columns = "order_id, user_id, version, updated_at, status, history_place, amount, reason";
                (columns.to_owned(), history_insert(cause, "amount, reason"))
            }
            // An order that may not take the status takes neither amount nor reason.
            (true, Kind::Finish | Kind::Overtake) => {
                let columns = format!(
                    "o.order_id, o.user_id, o.version, o.updated_at, o.status, o.history_place,
                     CASE WHEN o.status = '{target}' THEN c.amount::numeric END AS step_amount,
                     CASE WHEN o.status = '{target}' THEN c.reason END AS step_reason"
                );
                (columns, history_insert(cause, "step_amount, step_reason"))
            }
        };
        // The result lists the orders only where some were not changed.
        format!(
            "WITH put AS ({statement} RETURNING {returning}){history_insert}
             SELECT CASE WHEN count(*) < cardinality($1) THEN coalesce(array_agg(order_id), ARRAY[]::uuid[]) END FROM put"
        )
    }
}

/// A completion of a version: sets `processed_version`, and the other columns where the order may take the status. It
/// stores the time of the version in `source_at`, so that an event without a version that is not newer changes nothing.
fn finish_sql(target: Status, history: bool) -> String {
    let legal = format!("o.status IN ('{target}', {})", sources(target));
    format!(
        "UPDATE orders o SET processed_version = o.version, updated_at = greatest(o.updated_at, now()),
                own_at = greatest(o.updated_at, now()), source_at = greatest(coalesce(o.source_at, o.updated_at), o.updated_at),
                status = CASE WHEN {legal} THEN '{target}' ELSE o.status END,
                amount = CASE WHEN {legal} THEN coalesce(c.amount::numeric, o.amount) ELSE o.amount END,
                reason = CASE WHEN {legal} THEN c.reason ELSE o.reason END{deleted_at}{placed}
           FROM unnest($1::uuid[], $2::text[], $3::text[], $4::int8[]) AS c (id, amount, reason, version)
          WHERE o.order_id = ANY (ARRAY[c.id]) AND o.version = c.version AND o.processed_version < o.version",
        deleted_at = deleted_at(target),
        placed = history_place(history)
    )
}

/// A completion without a version: applies in the order of the events' own times, and only where the order may take the
/// status or has it already; a deleted order does not change. A row that counts as processed and is still `new` or
/// `processing` was written by another service, and takes its events with any time, because that machine's clock may
/// differ. An order that such a service has deleted gets its time of deletion with the event, once. `updated_at` always
/// increases, so that the entity tag changes.
fn overtake_sql(target: Status, history: bool) -> String {
    let undated = match target {
        Status::Deleted => "OR (o.status = 'deleted' AND o.deleted_at IS NULL)",
        _ => "",
    };
    format!(
        "UPDATE orders o SET source_at = c.sent, overtaken_version = o.version,
                updated_at = greatest(o.updated_at + interval '1 microsecond', now()), status = '{target}',
                amount = coalesce(c.amount::numeric, o.amount), reason = c.reason{deleted_at}{placed}
           FROM unnest($1::uuid[], $2::text[], $3::text[], $4::timestamptz[]) AS c (id, amount, reason, sent)
          WHERE o.order_id = ANY (ARRAY[c.id])
            AND (o.status <> 'deleted' AND o.status IN ('{target}', {sources})
                 AND (o.source_at IS NULL OR o.source_at < c.sent
                      OR (o.processed_version = o.version AND o.status IN ('new', 'processing')))
                 {undated})",
        deleted_at = deleted_at(target),
        placed = history_place(history),
        sources = sources(target)
    )
}

/// Creates the order that an event requests: processed already, and without an event to publish.
fn create_sql(target: Status, history: bool) -> String {
    let (column, place) = match history {
        true => (", history_place", format!(", {}", own_place())),
        false => ("", String::new()),
    };
    format!(
        "INSERT INTO orders (order_id, user_id, status, payload, created_at, updated_at, own_at, bucket, version,
                             processed_version, amount, reason{column})
         SELECT id, user_id, '{target}', payload::jsonb, now(), now(), now(), bucket, 1, 1, coalesce(amount, '0')::numeric,
                reason{place}
           FROM unnest($1::uuid[], $2::text[], $3::text[], $4::uuid[], $5::text[], $6::int4[])
                AS c (id, amount, reason, user_id, payload, bucket)
         ON CONFLICT (order_id) DO NOTHING"
    )
}

/// The column for the time of the first deletion.
fn deleted_at(target: Status) -> &'static str {
    if target == Status::Deleted { ", deleted_at = coalesce(o.deleted_at, now())" } else { "" }
}

impl Completions {
    /// Records a batch.
    pub(super) async fn complete(&self, batch: &[Completion]) -> Result<Vec<Completed>, Failure> {
        let mut groups: BTreeMap<(Kind, usize), Vec<&Completion>> = BTreeMap::new();
        for completion in batch {
            groups.entry((Kind::of(completion), completion.status as usize)).or_default().push(completion);
        }
        let mut groups: Vec<Group<'_>> = groups.into_iter().collect();
        for (_, group) in &mut groups {
            // Every batch locks its rows in the order of their ids, so that two batches cannot deadlock.
            group.sort_unstable_by_key(|completion| completion.order_id);
        }
        let changes = groups.partition_point(|((kind, _), _)| *kind == Kind::Create);
        let (creations, changes) = groups.split_at(changes);
        let ids = changes.iter().map(|(_, group)| group.iter().map(|done| uuid(done.order_id)).collect());
        let work = async {
            // Not try_join: statements behind the one that failed only report that the transaction is aborted.
            let (created, locked, changed) = tokio::join!(
                biased;
                self.run_all(creations),
                self.locks.take(&self.client, ids),
                self.run_all(changes)
            );
            let created = created?;
            locked?;
            Ok([created, changed?].concat())
        };
        let unchanged = transaction::around(&self.client, groups.len() > 1, work).await?;
        let unchanged: HashSet<OrderId> = unchanged.into_iter().collect();
        let existing = if unchanged.is_empty() { HashSet::new() } else { self.existing(&unchanged).await? };
        let outcome = |completion: &Completion| match &completion.order_id {
            id if !unchanged.contains(id) => Completed::Applied,
            id if existing.contains(id) => Completed::Stale,
            _ => Completed::Unknown,
        };
        Ok(batch.iter().map(outcome).collect())
    }

    /// Runs the statements of groups, and returns the orders that they did not change.
    async fn run_all(&self, groups: &[Group<'_>]) -> Result<Vec<OrderId>, Failure> {
        let done = join_all(groups.iter().map(|group| self.run(group))).await;
        Ok(done.into_iter().collect::<Result<Vec<_>, _>>()?.concat())
    }

    /// Runs the statement of a group, and returns the orders that it did not change.
    async fn run(&self, ((kind, target), group): &Group<'_>) -> Result<Vec<OrderId>, Failure> {
        let ids: Vec<Uuid> = group.iter().map(|completion| uuid(completion.order_id)).collect();
        let amounts: Vec<Option<String>> =
            group.iter().map(|completion| completion.amount.as_ref().map(ToString::to_string)).collect();
        let reasons: Vec<Option<String>> = group.iter().map(|completion| reason(completion)).collect();
        let statement = &self.statements[*kind as usize * Status::ALL.len() + target];
        let run = async |precondition: &[&(dyn ToSql + Sync)]| {
            let mut parameters: Vec<&(dyn ToSql + Sync)> = vec![&ids, &amounts, &reasons];
            parameters.extend(precondition);
            self.client.query_one(statement, &parameters).await
        };
        let row = match kind {
            Kind::Finish => {
                run(&[&group.iter().filter_map(|c| c.precondition.version()).collect::<Vec<i64>>()]).await?
            }
            Kind::Overtake => {
                run(&[&group.iter().filter_map(|c| c.precondition.sent()).collect::<Vec<Timestamp>>()])
                    .await?
            }
            Kind::Create => {
                let creations: Vec<&Creation> =
                    group.iter().filter_map(|c| c.precondition.creation()).collect();
                let users: Vec<Uuid> = creations.iter().map(|creation| user_uuid(creation.user_id)).collect();
                let payloads: Vec<&str> =
                    creations.iter().map(|creation| creation.payload.as_str()).collect();
                let buckets: Vec<i32> = group.iter().map(|c| i32::from(c.order_id.bucket())).collect();
                run(&[&users, &payloads, &buckets]).await?
            }
        };
        let Some(changed) = row.try_get::<_, Option<Vec<Uuid>>>(0)? else { return Ok(Vec::new()) };
        let changed: HashSet<OrderId> = changed.into_iter().map(order_id).collect();
        Ok(group.iter().map(|completion| completion.order_id).filter(|id| !changed.contains(id)).collect())
    }

    /// Which of these orders exist.
    async fn existing(&self, ids: &HashSet<OrderId>) -> Result<HashSet<OrderId>, Failure> {
        let ids: Vec<Uuid> = ids.iter().copied().map(uuid).collect();
        let rows = self.client.query(&self.exist, &[&ids]).await?;
        rows.iter().map(|row| Ok(order_id(row.try_get(0)?))).collect()
    }
}

/// The processor's reason; a text of Postgres cannot hold a NUL.
fn reason(completion: &Completion) -> Option<String> {
    completion.reason.as_ref().map(|reason| reason.replace('\0', "\u{fffd}"))
}

impl Precondition {
    fn version(&self) -> Option<i64> {
        if let Precondition::Version(version) = self { Some(*version) } else { None }
    }

    fn sent(&self) -> Option<Timestamp> {
        if let Precondition::Unversioned(sent) = self { Some(*sent) } else { None }
    }

    fn creation(&self) -> Option<&Creation> {
        if let Precondition::Creation(creation) = self { Some(creation) } else { None }
    }
}
