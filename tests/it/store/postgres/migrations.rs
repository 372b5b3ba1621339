//! The schema of Postgres: created in an empty database, by hand or by several processes at once, and upgraded from
//! each older version. A database that another service created and filled is adopted with all its rows.

use std::process::Command;

use futures_util::future::join_all;
use jiff::Timestamp;
use orderstream::checker::verify::{Confirmed, Options, verify};
use orderstream::order::{Filter, HistoryCursor, HistoryOffset, OrderId, Scope, Status};
use orderstream::store::postgres::{MigrateError, Migrated};
use orderstream::store::{Completed, Completion, History, Lists, Maintenance, Orders, Precondition, Refusal};

use crate::harness::binary::ran;
use crate::harness::schema::Schema;
use crate::harness::wait::until;
use crate::store::conformance::{accept, amount, apply, complete, deletion, done, row, update};

/// The files, in their order.
pub(crate) const FILES: [&str; 8] = [
    "0001_init.up.sql",
    "0002_remove_external_id.up.sql",
    "0003_versions_and_outbox.up.sql",
    "0004_keys_history_and_lists.up.sql",
    "0005_index_of_users.up.sql",
    "0006_own_changes_and_lost_history.up.sql",
    "0007_keys_and_collations.up.sql",
    "0008_dead_letters.up.sql",
];

const ALL: u32 = FILES.len() as u32;

/// The result of a migration that applied that many files; `is_unfinished` where objects of the previous release
/// remain.
fn migrated(applied: u32, is_unfinished: bool) -> Migrated {
    Migrated { applied, version: ALL, is_unfinished }
}

/// Applies a file as an operator would.
pub(crate) fn psql_into(dsn: &str, file: &str) {
    let file = format!("{}/migrations/{file}", env!("CARGO_MANIFEST_DIR"));
    let mut psql = Command::new("psql");
    let ran = ran(psql.args(["-X", "-q", "-v", "ON_ERROR_STOP=1", dsn, "-f", &file]));
    assert_eq!(ran.code, 0, "{file}: {}", ran.stderr);
}

fn psql(schema: &Schema, file: &str) {
    psql_into(&schema.dsn, file);
}

#[tokio::test]
async fn each_file_can_be_applied_by_hand() {
    let schema = Schema::empty().await;
    for (applied, file) in FILES.into_iter().enumerate() {
        psql(&schema, file);
        // A file that was applied by hand is detected, also where no ledger lists it.
        if applied == FILES.len() - 1 {
            assert_eq!(schema.open().migrate().await.unwrap(), migrated(0, true));
        }
    }
}

#[tokio::test]
async fn migration_continues_after_any_file_that_was_applied_by_hand() {
    for by_hand in 0..FILES.len() {
        let schema = Schema::empty().await;
        FILES[..by_hand].iter().for_each(|file| psql(&schema, file));
        let store = schema.open();
        let expected = migrated(ALL - by_hand as u32, by_hand > 2);
        assert_eq!(store.migrate().await.unwrap(), expected, "after {by_hand}");
        assert_eq!(store.check().await, Ok(()));
    }
}

#[tokio::test]
async fn many_processes_may_migrate_at_once() {
    let schema = Schema::empty().await;
    let stores: Vec<_> = (0..8).map(|_| schema.open()).collect();
    let migrated = join_all(stores.iter().map(|store| store.migrate())).await;
    let applied: Vec<u32> = migrated.into_iter().map(|migrated| migrated.unwrap().applied).collect();
    assert_eq!(applied.iter().sum::<u32>(), ALL, "{applied:?}");
}

#[tokio::test]
async fn a_database_of_a_newer_program_is_refused() {
    let schema = Schema::migrated().await;
    schema.execute("INSERT INTO orders_migrations (version) VALUES (99)").await;
    let refused = schema.open().migrate().await.unwrap_err();
    assert!(matches!(refused, MigrateError::TooNew { found: 99, known: ALL }), "{refused}");
    assert!(refused.to_string().contains("newer orderstream"), "{refused}");
}

#[tokio::test]
async fn an_expansion_of_a_newer_release_is_not_refused() {
    let schema = Schema::migrated().await;
    schema.execute("INSERT INTO orders_expansions (version) VALUES (99)").await;
    assert_eq!(schema.open().migrate().await.unwrap(), migrated(0, false));
    // The previous release reads only this ledger, and knows six versions.
    let client = schema.connect().await;
    let row = client.query_one("SELECT max(version) FROM orders_migrations", &[]).await.unwrap();
    assert_eq!(row.get::<_, i32>(0), 6);
}

#[tokio::test]
async fn objects_of_the_previous_release_are_dropped_on_request() {
    let schema = Schema::empty().await;
    FILES[..6].iter().for_each(|file| psql(&schema, file));
    let store = schema.open();
    assert_eq!(store.migrate().await.unwrap(), migrated(ALL - 6, true));
    assert_eq!(store.migrate().await.unwrap(), migrated(0, true));
    assert_eq!(store.migrate_and_finish().await.unwrap(), migrated(0, false));
    assert_eq!(store.check().await, Ok(()));
}

#[tokio::test]
async fn a_store_without_its_tables_names_the_remedy() {
    let schema = Schema::empty().await;
    let store = schema.open();
    let error = store.check().await.unwrap_err().to_string();
    assert!(error.contains("orderstream migrate"), "{error}");
    // It needs no restart after the migration.
    schema.open().migrate().await.unwrap();
    until("the store", async || store.check().await.ok()).await;
}

#[tokio::test]
async fn a_database_of_the_previous_version_is_upgraded_with_all_its_rows() {
    let schema = Schema::empty().await;
    FILES[..3].iter().for_each(|file| psql(&schema, file));
    schema.execute(ROWS).await;
    let store = schema.open();
    // The check names the remedy, and until the migration every call fails.
    let error = store.check().await.unwrap_err().to_string();
    assert!(error.contains("orderstream migrate"), "{error}");
    let store = schema.open();
    assert_eq!(store.migrate().await.unwrap(), migrated(ALL - 3, true));
    FILES[3..].iter().for_each(|file| psql(&schema, file));
    assert_eq!(store.check().await, Ok(()));
    let with_deleted = Filter { with_deleted: true, ..Filter::default() };
    let page = store.list(&with_deleted, None, 10).await.unwrap();
    let listed: Vec<OrderId> = page.orders.iter().map(|order| order.id).collect();
    // The order without a time of creation is the oldest, as before.
    assert_eq!((listed, page.next), (vec![id(4), id(1), id(2), id(3)], None));
    assert_eq!(row(&store, id(3)).await.created_at, Timestamp::UNIX_EPOCH);
    accept(&store, update(id(1), "[]")).await;
    let events = store.history(id(1), HistoryCursor::default(), 10).await.unwrap().events;
    assert_eq!(events.iter().map(|event| event.version).collect::<Vec<_>>(), [2]);
}

#[tokio::test]
async fn the_index_of_users_of_early_builds_is_replaced() {
    let schema = Schema::empty().await;
    FILES[..4].iter().for_each(|file| psql(&schema, file));
    schema.execute("CREATE INDEX orders_user ON orders (user_id, created_at, order_id)").await;
    assert_eq!(schema.open().migrate().await.unwrap(), migrated(ALL - 4, true));
    let client = schema.connect().await;
    let indexes = "SELECT indexname FROM pg_indexes
                    WHERE schemaname = current_schema() AND tablename = 'orders' AND indexname LIKE '%user'";
    let rows = client.query(indexes, &[]).await.expect("the indexes");
    assert_eq!(rows.iter().map(|row| row.get::<_, String>(0)).collect::<Vec<_>>(), ["orders_by_user"]);
}

#[tokio::test]
async fn history_events_dropped_before_drops_were_recorded_count_as_lost() {
    for (first, lost) in [(1, HistoryOffset::default()), (8, HistoryOffset(5, 7))] {
        let schema = Schema::empty().await;
        FILES[..5].iter().for_each(|file| psql(&schema, file));
        let rows = format!(
            "ALTER TABLE orders_history ALTER COLUMN seq RESTART WITH {first};
             INSERT INTO orders_history (place, order_id, user_id, version, at, cause, status)
             SELECT place, gen_random_uuid(), gen_random_uuid(), 1, now(), 'command', 'new' FROM generate_series(5, 7) place"
        );
        schema.execute(&rows).await;
        let store = schema.open();
        store.migrate().await.unwrap();
        assert_eq!(store.history_dropped().await, Ok(lost));
    }
}

#[tokio::test]
async fn offsets_keep_growing_on_a_server_that_restored_a_dump() {
    let schema = Schema::migrated().await;
    let store = schema.open();
    let order_id =
        crate::store::conformance::create(&store, crate::store::conformance::some_user(), "{}").await;
    // Another server wrote these rows, with much higher transaction numbers.
    schema
        .execute(
            "UPDATE orders_history SET place = place + 1000000000000;
             UPDATE orders SET history_place = history_place + 1000000000000;
             UPDATE orders_history_origin SET cluster = 1",
        )
        .await;
    store.migrate().await.unwrap();
    let old = until("the old event", async || {
        let page = store.history_page(Scope::All, HistoryOffset::default(), 10).await.unwrap();
        (page.events.len() == 1).then_some(page)
    })
    .await;
    assert!(store.history_end().await.unwrap() >= old.events[0].offset);
    accept(&store, update(order_id, "[]")).await;
    let new = until("the new event", async || {
        let page = store.history_page(Scope::All, old.upto, 10).await.unwrap();
        page.events.first().cloned()
    })
    .await;
    assert_eq!((new.order_id, new.version), (order_id, 2));
    // A second migration does not raise the offsets again.
    let end = store.history_end().await.unwrap();
    store.migrate().await.unwrap();
    assert!(store.history_end().await.unwrap().0 - end.0 < 1_000_000);
}

/// Rows as the other service writes them, in every state, with nulls where it sets no value.
const ROWS: &str = r#"
INSERT INTO orders (order_id, user_id, amount, status, payload, created_at, updated_at, bucket) VALUES
('0f0e0d0c-0b0a-4908-8706-050403020101', '7e1a3f6c-55aa-4b11-8f5c-0d8b7c1f2a33', 12.30, 'done', '{"id": "A-1", "amount": 12.30}', '2024-01-02 03:04:05.123456+00', '2024-01-03 00:00:00+00', 3),
('0f0e0d0c-0b0a-4908-8706-050403020102', '7e1a3f6c-55aa-4b11-8f5c-0d8b7c1f2a33', 0, 'deleted', '{"id": "A-2"}', '2024-01-02 03:04:05+00', '2024-01-03 00:00:00+00', 3),
('0f0e0d0c-0b0a-4908-8706-050403020103', '7e1a3f6c-55aa-4b11-8f5c-0d8b7c1f2a33', NULL, 'new', NULL, NULL, NULL, 3);
INSERT INTO orders (order_id, user_id, status, payload, bucket) VALUES
('0f0e0d0c-0b0a-4908-8706-050403020104', '7e1a3f6c-55aa-4b11-8f5c-0d8b7c1f2a33', 'processing', '{"id": "A-4", "amount": "7.5"}', 3)"#;

fn id(last: u8) -> OrderId {
    OrderId::parse(&format!("0f0e0d0c-0b0a-4908-8706-0504030201{last:02}")).unwrap()
}

#[tokio::test]
async fn a_database_of_another_service_is_adopted_with_all_its_rows() {
    let schema = Schema::empty().await;
    FILES[..2].iter().for_each(|file| psql(&schema, file));
    schema.execute(ROWS).await;
    let store = schema.open();
    assert_eq!(store.migrate().await.unwrap(), migrated(ALL - 2, false));

    let finished = row(&store, id(1)).await;
    assert_eq!((finished.status, finished.amount.to_string()), (Status::Done, "12.30".to_owned()));
    assert_eq!(finished.created_at, "2024-01-02T03:04:05.123456Z".parse().unwrap());
    assert_eq!((finished.payload.external_id(), finished.is_pending()), ("A-1", false));
    assert!(finished.touched, "another service changed it last");
    assert_eq!(finished.bucket, 3, "as that service stored it, and not as the id implies");
    let found = store.find_by_external("A-1", finished.user_id).await.unwrap().unwrap();
    assert_eq!(found, finished);
    let deleted = row(&store, id(2)).await;
    assert_eq!((deleted.status, deleted.deleted_at), (Status::Deleted, Some(deleted.updated_at)));
    let bare = row(&store, id(3)).await;
    assert_eq!((bare.status, bare.payload.as_str(), bare.amount), (Status::New, "null", amount("0")));
    assert_eq!(store.scan(None, 10).await.unwrap().len(), 4);
    // Orders that it has not processed, or processed by its own rules, are not findings.
    let strict = Options { idle: true, amounts: true, listed: 10 };
    let report = verify(&store, 0, Confirmed::default(), &strict).await.unwrap();
    assert_eq!((report.found, report.foreign, report.total()), (0, 2, 4), "{report:?}");

    // The orders can be used like our own.
    assert_eq!(accept(&store, update(id(1), r#"{"id": "B-1"}"#)).await.version, Some(2));
    assert_eq!(complete(&store, done(id(1), 2, "5")).await, Completed::Applied);
    assert_eq!(row(&store, id(1)).await.status, Status::Done);
    assert_eq!(apply(&store, update(id(2), "{}")).await, Err(Refusal::Deleted));
    accept(&store, update(id(3), "[]")).await;
    accept(&store, deletion(id(3))).await;
    assert_eq!(row(&store, id(3)).await.status, Status::Deleted);
}

#[tokio::test]
async fn an_event_of_another_service_completes_its_row_with_any_clock() {
    let schema = Schema::migrated().await;
    schema.execute(ROWS).await;
    let store = schema.open();
    let long_ago = "2001-01-01T00:00:00Z".parse().unwrap();
    let event = Completion {
        order_id: id(4),
        precondition: Precondition::Unversioned(long_ago),
        status: Status::Done,
        amount: Some(amount("7.5")),
        reason: None,
    };
    assert_eq!(complete(&store, event.clone()).await, Completed::Applied);
    let order = row(&store, id(4)).await;
    assert_eq!((order.status, order.amount.clone()), (Status::Done, amount("7.5")));
    assert_eq!(complete(&store, event).await, Completed::Stale);
    assert_eq!(row(&store, id(4)).await, order);
}

#[tokio::test]
async fn a_worker_of_another_service_finishes_an_order_of_ours() {
    let schema = Schema::migrated().await;
    let store = schema.open();
    let order_id =
        crate::store::conformance::create(&store, crate::store::conformance::some_user(), "{}").await;
    accept(&store, update(order_id, "[]")).await;
    // That worker updates by id, without versions.
    let sql = format!(
        "UPDATE orders SET status = 'done', amount = 3, updated_at = now() WHERE order_id = '{order_id}'"
    );
    schema.execute(&sql).await;
    let states = store.processed_versions(&[order_id]).await.unwrap();
    assert_eq!(states[0].map(|state| (state.version, state.status)), Some((2, Status::Done)));
    assert!(!row(&store, order_id).await.is_pending());
    // The next command makes it pending again.
    accept(&store, update(order_id, "{}")).await;
    assert!(row(&store, order_id).await.is_pending());
}
