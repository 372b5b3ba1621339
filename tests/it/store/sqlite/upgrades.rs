//! Upgrades of the embedded store, and promises that depend on how it stores rows: a folder of the first version is
//! upgraded with all its orders, times never decrease, an offset in the history is never used twice, and a page scans a
//! bounded number of rows.

use jiff::Timestamp;
use orderstream::order::{
    Amount, Filter, HistoryCursor, HistoryEvent, HistoryOffset, ListCursor, OrderId, Scope, Status, UserId,
};
use orderstream::store::sqlite::{OpenError, SqliteStore};
use orderstream::store::{Completed, Error, History, Lists, Maintenance, OrderHistoryPage, Orders};
use rusqlite::{Connection, params};
use tempfile::TempDir;

use crate::store::conformance::{
    accept, apply_all, complete, create, creation, deletion, done, row, some_user, update,
};

const FIRST_SCHEMA: &str = include_str!("../../../../migrations/sqlite/0001_orders.up.sql");
const SECOND_SCHEMA: &str = include_str!("../../../../migrations/sqlite/0002_keys_history_and_lists.up.sql");

/// All orders that a filter finds, page by page.
async fn walk(store: &SqliteStore, filter: &Filter) -> Vec<OrderId> {
    let (mut ids, mut after) = (Vec::new(), None);
    loop {
        let page = store.list(filter, after, 100).await.unwrap();
        ids.extend(page.orders.iter().map(|order| order.id));
        after = page.next;
        if after.is_none() {
            return ids;
        }
    }
}

fn of(user_id: UserId) -> Filter {
    Filter { user_id: Some(user_id), ..Filter::default() }
}

/// A folder of the first version: six orders of two users in turn, four of which are in the index.
fn first_version(folder: &TempDir, users: [UserId; 2], created_at: i64) -> Vec<OrderId> {
    let file = Connection::open(folder.path().join("orders.db")).unwrap();
    file.execute_batch(FIRST_SCHEMA).unwrap();
    file.execute_batch("UPDATE external_ids_upto SET seq = 4; PRAGMA user_version = 1;").unwrap();
    let ids: Vec<OrderId> = (0..6).map(|_| OrderId::generate()).collect();
    for (n, id) in ids.iter().enumerate() {
        file.execute(
            "INSERT INTO orders (order_id, user_id, status, version, processed_version, created_at, updated_at,
                                 amount, external_id, payload)
             VALUES (?1, ?2, 'new', 1, 0, ?3, ?3, '0', '', '[]')",
            params![id.as_bytes(), users[n % 2].as_bytes(), created_at],
        )
        .unwrap();
    }
    ids
}

#[tokio::test]
async fn a_folder_of_the_first_version_is_upgraded_with_all_its_orders() {
    let (folder, users) = (TempDir::new().unwrap(), [some_user(), some_user()]);
    let ids = first_version(&folder, users, 1_700_000_000_000_000);
    let refusal = SqliteStore::open_read_only(folder.path()).err().expect("a refusal");
    assert!(matches!(refusal, OpenError::TooOld { found: 1, .. }), "{refusal:?}");
    assert!(refusal.to_string().contains("orderstream migrate"), "{refusal}");

    let store = SqliteStore::open(folder.path()).unwrap();
    assert_eq!(walk(&store, &of(users[0])).await, [ids[4], ids[2], ids[0]]);
    assert_eq!(walk(&store, &of(users[1])).await, [ids[5], ids[3], ids[1]]);
    assert_eq!(walk(&store, &Filter::default()).await, ids.iter().rev().copied().collect::<Vec<_>>());
    assert_eq!(store.history(ids[0], HistoryCursor::default(), 10).await, Ok(OrderHistoryPage::default()));
    assert_eq!(complete(&store, done(ids[0], 1, "5")).await, Completed::Applied);
    accept(&store, update(ids[1], r#"{"id":"A"}"#)).await;
    let found = store.find_by_external("A", users[1]).await.unwrap();
    assert_eq!(found.map(|order| order.id), Some(ids[1]));
    assert_eq!(store.history(ids[1], HistoryCursor::default(), 10).await.unwrap().events.len(), 1);
    store.close().await;
    let reader = SqliteStore::open_read_only(folder.path()).unwrap();
    assert_eq!(walk(&reader, &of(users[0])).await.len(), 3);
    assert_eq!(reader.history_page(Scope::All, HistoryOffset::default(), 10).await.unwrap().events.len(), 2);
}

#[tokio::test]
async fn the_history_events_of_the_second_version_keep_their_offsets() {
    let (folder, users) = (TempDir::new().unwrap(), [some_user(), some_user()]);
    let ids = first_version(&folder, users, 1_700_000_000_000_000);
    let file = Connection::open(folder.path().join("orders.db")).unwrap();
    file.execute_batch(SECOND_SCHEMA).unwrap();
    for (seq, n, cause, status, amount) in
        [(7, 1, "c", "new", None), (8, 0, "c", "new", None), (9, 1, "w", "done", Some("1.50"))]
    {
        let values = params![
            seq,
            ids[n].as_bytes(),
            users[n].as_bytes(),
            1_700_000_000_000_000_i64 + seq,
            cause,
            status,
            amount
        ];
        file.execute("INSERT INTO history VALUES (?1, ?2, ?3, 1, ?4, ?5, ?6, ?7, NULL)", values).unwrap();
    }
    file.execute_batch("PRAGMA user_version = 2;").unwrap();
    drop(file);

    let store = SqliteStore::open(folder.path()).unwrap();
    let events = store.history_page(Scope::All, HistoryOffset::default(), 10).await.unwrap().events;
    let content = |event: &HistoryEvent| {
        (event.offset.0, event.order_id, event.user_id, event.at.as_microsecond(), event.status)
    };
    let at = |seq: i64| 1_700_000_000_000_000 + seq;
    assert_eq!(
        events.iter().map(content).collect::<Vec<_>>(),
        [
            (7, ids[1], users[1], at(7), Status::New),
            (8, ids[0], users[0], at(8), Status::New),
            (9, ids[1], users[1], at(9), Status::Done),
        ]
    );
    assert_eq!(events[2].amount, Amount::parse("1.50"));
    accept(&store, update(ids[1], "[]")).await;
    let history = store.history(ids[1], HistoryCursor::default(), 10).await.unwrap().events;
    assert_eq!(history.iter().map(|event| event.offset.0).collect::<Vec<_>>(), [7, 9, 10]);
    store.close().await;
}

#[tokio::test]
async fn times_continue_from_the_newest_order_after_the_clock_was_set_back() {
    let (folder, user) = (TempDir::new().unwrap(), some_user());
    let future: Timestamp = "2100-01-01T00:00:00Z".parse().unwrap();
    let ids = first_version(&folder, [user, user], future.as_microsecond());
    let store = SqliteStore::open(folder.path()).unwrap();
    let id = create(&store, user, "{}").await;
    let created_at = row(&store, id).await.created_at;
    assert!(created_at >= future && store.now().await.unwrap() >= created_at);
    let since = Filter { created_from: Some(future), ..Filter::default() };
    assert_eq!(walk(&store, &since).await.len(), ids.len() + 1);
    let before = Filter { created_before: Some(future), ..Filter::default() };
    assert_eq!(walk(&store, &before).await, []);
    store.close().await;
}

#[tokio::test]
async fn history_offsets_keep_growing_after_all_events_were_dropped_and_a_restart() {
    let folder = TempDir::new().unwrap();
    let store = SqliteStore::open(folder.path()).unwrap();
    for _ in 0..3 {
        create(&store, some_user(), "{}").await;
    }
    let end = store.history_end().await.unwrap();
    assert_eq!(store.clean(Timestamp::MAX, Some(Timestamp::MAX), 5_000).await, Ok(3));
    assert_eq!(store.history_end().await, Ok(end));
    store.close().await;

    let store = SqliteStore::open(folder.path()).unwrap();
    assert_eq!(store.history_end().await, Ok(end));
    let id = create(&store, some_user(), "{}").await;
    let events = store.history_page(Scope::All, end, 10).await.unwrap().events;
    assert_eq!(events.iter().map(|event| event.order_id).collect::<Vec<_>>(), [id]);
    store.close().await;
}

#[tokio::test]
async fn a_store_without_a_history_writes_no_event_and_reads_none() {
    let folder = TempDir::new().unwrap();
    let store = SqliteStore::open(folder.path()).unwrap();
    let id = create(&store, some_user(), "{}").await;
    store.close().await;

    let store = SqliteStore::open_with(folder.path(), false).unwrap();
    accept(&store, update(id, "[]")).await;
    complete(&store, done(id, 2, "1")).await;
    assert_eq!(store.history(id, HistoryCursor::default(), 10).await, Ok(OrderHistoryPage::default()));
    let page = store.history_page(Scope::All, HistoryOffset(7, 0), 10).await.unwrap();
    assert_eq!((page.events, page.upto, page.more), (Vec::new(), HistoryOffset(7, 0), false));
    store.close().await;

    let store = SqliteStore::open(folder.path()).unwrap();
    accept(&store, deletion(id)).await;
    let events = store.history(id, HistoryCursor::default(), 10).await.unwrap().events;
    assert_eq!(events.iter().map(|event| event.version).collect::<Vec<_>>(), [1, 3]);
    store.close().await;
}

#[tokio::test]
async fn a_page_scans_a_bounded_number_of_rows_and_names_where_it_stopped() {
    let folder = TempDir::new().unwrap();
    let store = SqliteStore::open(folder.path()).unwrap();
    let wanted = create(&store, some_user(), "{}").await;
    complete(&store, done(wanted, 1, "1")).await;
    let user = row(&store, wanted).await.user_id;
    for _ in 0..10 {
        let batch = (0..1_000).map(|_| creation(some_user(), "{}"));
        assert!(apply_all(&store, batch).await.iter().all(Result::is_ok));
    }
    let finished = Filter { status: Some(Status::Done), ..Filter::default() };
    let (mut after, mut pages): (Option<ListCursor>, Vec<usize>) = (None, Vec::new());
    loop {
        let page = store.list(&finished, after, 10).await.unwrap();
        pages.push(page.orders.len());
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(pages, [0, 0, 0, 0, 0, 1]);

    let last = create(&store, user, "{}").await;
    let first = store.history_page(Scope::User(user), HistoryOffset(2, 0), 10).await.unwrap();
    assert_eq!((first.events, first.upto, first.more), (Vec::new(), HistoryOffset(10_002, 0), true));
    let second = store.history_page(Scope::User(user), first.upto, 10).await.unwrap();
    assert_eq!(second.events.iter().map(|event| event.order_id).collect::<Vec<_>>(), [last]);
    assert!(!second.more);
    store.close().await;
}

#[tokio::test]
async fn a_page_of_large_orders_is_short_and_the_next_page_continues() {
    let folder = TempDir::new().unwrap();
    let store = SqliteStore::open(folder.path()).unwrap();
    let text = format!(r#"{{"text":"{}"}}"#, "x".repeat(1 << 20));
    for _ in 0..6 {
        create(&store, some_user(), &text).await;
    }
    let page = store.list(&Filter::default(), None, 100).await.unwrap();
    assert_eq!(page.orders.len(), 4);
    let rest = store.list(&Filter::default(), page.next, 100).await.unwrap();
    assert_eq!((rest.orders.len(), rest.next), (2, None));
    store.close().await;
}

#[tokio::test]
async fn a_damaged_order_is_skipped_in_lists_and_reported_by_reads() {
    let (folder, user) = (TempDir::new().unwrap(), some_user());
    let store = SqliteStore::open(folder.path()).unwrap();
    let mut ids = Vec::new();
    for _ in 0..3 {
        ids.push(create(&store, user, "{}").await);
    }
    let file = Connection::open(folder.path().join("orders.db")).unwrap();
    file.execute("UPDATE orders SET amount = 'much' WHERE order_id = ?1", [ids[1].as_bytes()]).unwrap();
    for filter in [Filter::default(), of(user)] {
        assert_eq!(walk(&store, &filter).await, [ids[2], ids[0]]);
    }
    let read = store.get(ids[1]).await;
    assert!(matches!(&read, Err(Error::Damaged(damaged)) if damaged.order_id == ids[1]), "{read:?}");
    store.close().await;
}
