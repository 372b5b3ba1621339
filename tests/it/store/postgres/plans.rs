//! Query plans of Postgres: no statement scans a large table, the cost of a page depends on its own rows and not on its
//! position, and the cost of a write does not grow with the table, also where the plan was made when the tables were
//! empty.

use std::sync::Arc;

use jiff::Timestamp;
use orderstream::order::{
    Command, CommandRequest, Filter, HistoryCursor, KeyText, ListCursor, OrderId, Status, UserId,
};
use orderstream::store::postgres::{Options, PostgresStore};
use orderstream::store::{Accepted, Completed, Completion, History, Lists, Maintenance, Orders};
use tokio_postgres::Client;

use crate::harness::schema::Schema;
use crate::harness::wait::until;
use crate::store::conformance::{creation, deletion, done, some_user, update};

/// 40,000 orders of a hundred users, in batches of ten of one time each; every fourth is deleted, and none is
/// cancelled.
const FILL: &str = r#"
INSERT INTO orders (order_id, user_id, status, payload, created_at, updated_at, bucket)
SELECT ('00000000-0000-7000-8000-' || lpad(to_hex(n), 12, '0'))::uuid, ('00000000-0000-4000-8000-' || lpad((n % 100)::text, 12, '0'))::uuid,
       CASE WHEN n % 4 = 0 THEN 'deleted' ELSE 'done' END, jsonb_build_object('id', 'E-' || n % 1000),
       timestamptz '2025-01-01Z' + n / 10 * interval '1 second', timestamptz '2026-01-01Z', 0
  FROM generate_series(1, 40000) AS n;
ANALYZE orders"#;

/// The server's counts of reads of the partitions: sequential scans, and index scans.
async fn reads(client: &Client) -> (i64, i64) {
    let sql =
        "SELECT sum(seq_scan)::int8, sum(idx_scan)::int8, sum(idx_tup_fetch)::int8 FROM pg_stat_user_tables
                WHERE schemaname = current_schema() AND relname LIKE 'orders\\_p_'";
    let row = client.query_one(sql, &[]).await.expect("statistics");
    (row.get(0), row.get(1))
}

/// Reads a list page by page from the start. Answers the numbers of orders and of pages.
async fn walk(store: &PostgresStore, filter: &Filter, limit: usize, pages: usize) -> (usize, usize) {
    let (mut after, mut orders): (Option<ListCursor>, Vec<_>) = (None, Vec::new());
    for page in 1..=pages {
        let list = store.list(filter, after, limit).await.expect("the store lists");
        assert!(list.orders.iter().all(|order| filter.admits(order)));
        orders.extend(list.orders.into_iter().map(|order| (order.created_at, order.id)));
        after = list.next;
        if after.is_none() || page == pages {
            assert!(orders.is_sorted_by(|a, b| a > b), "the newest first, and none twice");
            return (orders.len(), page);
        }
    }
    (0, 0)
}

/// Applies a batch, each command with a key of its own, all of which must be accepted; answers the orders.
async fn send(store: &PostgresStore, name: &str, commands: Vec<Command>) -> Vec<OrderId> {
    let request = |(at, command): (usize, Command)| {
        let key = KeyText::parse(&format!("{name}-{at}")).expect("a key").of(&command);
        CommandRequest { command, key: Some(key) }
    };
    let batch: Arc<[CommandRequest]> = commands.into_iter().enumerate().map(request).collect();
    let answers = store.apply(batch).await.expect("the store takes the batch");
    let order = |answer| match answer {
        Ok(Accepted::Applied(event)) => event.order_id.expect("an id"),
        refused => panic!("the command is not executed: {refused:?}"),
    };
    answers.into_iter().map(order).collect()
}

/// A store whose connections have this application name.
fn named(schema: &Schema, name: &str) -> PostgresStore {
    let options = Options { dsn: format!("{}&application_name={name}", schema.dsn), ..schema.options() };
    PostgresStore::open(&options).expect("a DSN that can be used")
}

/// Closes the store of that name and waits until its connections have ended: before that they report their reads.
async fn closed(store: PostgresStore, name: &str, client: &Client) {
    store.close().await;
    let sessions = "SELECT 1 FROM pg_stat_activity WHERE application_name = $1 LIMIT 1";
    until("the connections to end", async || {
        client.query_opt(sessions, &[&name]).await.expect("the sessions").is_none().then_some(())
    })
    .await;
}

/// How many index entries were read.
async fn entries(client: &Client) -> usize {
    let sql = "SELECT sum(idx_tup_read)::int8 FROM pg_stat_user_indexes WHERE schemaname = current_schema()";
    let read: i64 = client.query_one(sql, &[]).await.expect("statistics").get(0);
    usize::try_from(read).expect("a count")
}

#[tokio::test]
async fn the_index_reads_of_a_write_do_not_grow_with_the_table() {
    const NAME: &str = "orderstream-plans-of-writes";
    const ROUNDS: usize = 20;
    const BATCH: usize = 64;
    let schema = Schema::migrated().await;
    let client = schema.connect().await;
    let store = named(&schema, NAME);
    for round in 0..ROUNDS {
        // The first batch finds the tables almost empty; its plans are used for all later ones.
        let batch = if round == 0 { 1 } else { BATCH };
        let creations = (0..batch).map(|_| creation(some_user(), "{}")).collect();
        let orders = send(&store, &format!("create {round}"), creations).await;
        let finished: Arc<[Completion]> = orders.iter().map(|order| done(*order, 1, "1")).collect();
        assert_eq!(store.complete(finished).await, Ok(vec![Completed::Applied; batch]));
        let updates = orders.iter().map(|order| update(*order, "{}")).collect();
        send(&store, &format!("update {round}"), updates).await;
        let deletions = orders.iter().map(|order| deletion(*order)).collect();
        send(&store, &format!("delete {round}"), deletions).await;
    }
    closed(store, NAME, &client).await;
    let read = entries(&client).await;
    // A statement reads an order by its id, with its older row versions, and the origin of the history once.
    let most = 4 * ROUNDS * BATCH * 2;
    assert!(read <= most, "{read} entries, where {most} are enough");
    // Other indexes contain the id, too, but not as their first column.
    let others = "SELECT sum(idx_scan)::int8 FROM pg_stat_user_indexes WHERE schemaname = current_schema()
                     AND relname LIKE 'orders\\_p_' AND indexrelname NOT LIKE '%\\_pkey'";
    let lookups: i64 = client.query_one(others, &[]).await.expect("statistics").get(0);
    assert_eq!(lookups, 0, "orders are found by their ids");
}

/// The store plans once, while the tables are empty; rows that are added later and are too new to be dropped cost
/// nothing.
#[tokio::test]
async fn cleaning_reads_only_the_oldest_rows() {
    const NAME: &str = "orderstream-plans-of-cleaning";
    const BATCH: usize = 100;
    let schema = Schema::migrated().await;
    let client = schema.connect().await;
    let store = named(&schema, NAME);
    let clean = async || store.clean(Timestamp::UNIX_EPOCH, Some(Timestamp::UNIX_EPOCH), BATCH).await;
    assert_eq!(clean().await, Ok(0));
    schema
        .execute(
            "INSERT INTO orders_history (place, order_id, user_id, version, at, cause, status)
             SELECT n, gen_random_uuid(), gen_random_uuid(), 1, now(), 'command', 'new' FROM generate_series(1, 20000) AS n;
             INSERT INTO orders_keys (digest, content, order_id, version, status)
             SELECT gen_random_uuid(), gen_random_uuid(), gen_random_uuid(), 1, 'new' FROM generate_series(1, 20000)",
        )
        .await;
    let before = entries(&client).await;
    for _ in 0..10 {
        assert_eq!(clean().await, Ok(0));
    }
    closed(store, NAME, &client).await;
    let (read, most) = (entries(&client).await - before, 10 * 2 * BATCH);
    assert!(read <= most, "{read} entries, where {most} are enough");
}

#[tokio::test]
async fn a_page_of_a_long_version_reads_only_its_own_events() {
    const NAME: &str = "orderstream-plans-of-histories";
    const EVENTS: usize = 20_000;
    let schema = Schema::migrated().await;
    let client = schema.connect().await;
    let store = named(&schema, NAME);
    let id = send(&store, "create", vec![creation(some_user(), "{}")]).await[0];
    let fill = format!(
        "INSERT INTO orders_history (place, order_id, user_id, version, at, cause, status)
         SELECT 1000000000 + n, '{id}', gen_random_uuid(), 2, now(), 'event', 'done' FROM generate_series(1, {EVENTS}) n;
         ANALYZE orders_history"
    );
    schema.execute(&fill).await;
    let before = entries(&client).await;
    let (mut after, mut read, mut pages) = (HistoryCursor::default(), 0, 0);
    loop {
        let page = store.history(id, after, 10).await.expect("the store reads");
        (read, pages) = (read + page.events.len(), pages + 1);
        match page.next {
            Some(next) => after = next,
            None => break,
        }
    }
    assert_eq!(read, EVENTS + 1);
    closed(store, NAME, &client).await;
    let (cost, most) = (entries(&client).await - before, EVENTS + pages * 100);
    assert!(cost <= most, "{cost} entries in {pages} pages, where {most} are enough");
}

#[tokio::test]
async fn a_list_reads_an_index_from_its_cursor_and_no_further_than_needed() {
    const NAME: &str = "orderstream-plans-of-lists";
    let schema = Schema::migrated().await;
    schema.execute(FILL).await;
    let client = schema.connect().await;
    let user = UserId::parse("00000000-0000-4000-8000-000000000007");
    let with_deleted = Filter { with_deleted: true, ..Filter::default() };
    let from = Some("2025-01-01T00:16:40Z".parse().unwrap());
    let before = Some("2025-01-01T00:33:20Z".parse().unwrap());
    for (filter, limit, pages, expected, most) in [
        // Many pages, so that the plan that the server chooses after a few is used, too.
        (with_deleted.clone(), 50, 20, (1000, 20), 10_000),
        (Filter::default(), 50, 20, (1000, 20), 10_000),
        (Filter { user_id: user, ..with_deleted.clone() }, 10, 20, (200, 20), 2_000),
        (Filter { user_id: user, ..with_deleted.clone() }, 100, 9, (400, 4), 2_000),
        (
            Filter { created_from: from, created_before: before, ..with_deleted.clone() },
            200,
            60,
            (10_000, 50),
            60_000,
        ),
        // No order matches: a page scans a bounded number, and names the cursor to continue from.
        (Filter { status: Some(Status::Cancelled), ..Filter::default() }, 50, 3, (0, 3), 15_000),
        (Filter { status: Some(Status::Cancelled), ..Filter::default() }, 50, 99, (0, 21), 100_000),
        (
            Filter { user_id: user, external_id: Some("E-7".to_owned()), ..with_deleted.clone() },
            7,
            9,
            (40, 6),
            2_000,
        ),
    ] {
        let before = reads(&client).await;
        let store = named(&schema, NAME);
        assert_eq!(walk(&store, &filter, limit, pages).await, expected, "{filter:?}");
        closed(store, NAME, &client).await;
        let after = reads(&client).await;
        assert_eq!(after.0, before.0, "a scan of the table: {filter:?}");
        assert!(after.1 - before.1 <= most, "{} rows: {filter:?}", after.1 - before.1);
    }
}
