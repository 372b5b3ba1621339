//! The times of the embedded store when the clock jumps: pending orders with future times are published, times keep
//! growing after the clock was set back, and a jump forward does not expire idempotency keys. The tests move the times
//! in the file, and not the clock.

use std::path::Path;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use orderstream::order::{CommandRequest, Key, OrderId};
use orderstream::store::sqlite::SqliteStore;
use orderstream::store::{Accepted, Maintenance, Orders, Outbox};
use rusqlite::Connection;
use serde_json::Value;
use tempfile::TempDir;

use crate::harness::child::Child;
use crate::harness::wait::until;
use crate::store::conformance::{create, creation, row, some_user};

const DAY: i64 = 24 * 3_600_000_000;
const YEAR: i64 = 365 * DAY;

/// How long the retention job keeps keys.
const KEPT: SignedDuration = SignedDuration::from_hours(24);

/// Changes the files of a store that is closed.
fn with_file(folder: &Path, sql: &str) {
    let file = Connection::open(folder.join("orders.db")).unwrap();
    file.execute_batch(sql).unwrap();
}

/// Moves every time in the store by that many microseconds, as if the clock had been wrong by that.
fn shift(folder: &Path, by: i64) {
    with_file(
        folder,
        &format!(
            "UPDATE orders SET created_at = created_at + {by}, updated_at = updated_at + {by};
             UPDATE keys SET created_at = created_at + {by};
             UPDATE history SET at = at + {by};"
        ),
    );
}

fn key(number: u8) -> Key {
    Key { digest: [number; 16], content: [number; 16] }
}

/// Sends a creation with a key. Answers whether the key was new.
async fn is_new(store: &SqliteStore, number: u8) -> bool {
    let request = CommandRequest { command: creation(some_user(), "{}"), key: Some(key(number)) };
    let answers = store.apply([request].into()).await.expect("the store answers");
    match answers.into_iter().next().expect("an answer").expect("the request is accepted") {
        Accepted::Applied(_) => true,
        Accepted::Replayed(_) | Accepted::AppliedWithoutEvent(_) => false,
    }
}

/// Drops the keys that are older than the retention, as the retention job does.
async fn clean(store: &SqliteStore) -> usize {
    let before = store.now().await.expect("a time").checked_sub(KEPT).expect("a time");
    store.clean(before, None, 1000).await.expect("the store cleans")
}

#[tokio::test]
async fn orders_with_future_times_are_published_at_the_start() {
    let folder = TempDir::new().unwrap();
    let store = SqliteStore::open(folder.path()).unwrap();
    let mut ids = Vec::new();
    for _ in 0..200 {
        ids.push(create(&store, some_user(), r#"{"amount":"1"}"#).await);
    }
    store.close().await;
    with_file(folder.path(), &format!("UPDATE orders SET updated_at = updated_at + {YEAR} WHERE seq > 1"));

    let store = SqliteStore::open(folder.path()).unwrap();
    let mut found = Vec::<OrderId>::new();
    let mut after = None;
    loop {
        let page = store.pending(Timestamp::now(), after, 64).await.unwrap();
        found.extend(page.events.iter().filter_map(|event| event.order_id));
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(found, ids);
    store.close().await;

    let child = Child::up(folder.path()).await;
    let mut wire = child.connect().await;
    for id in [ids[0], ids[1], ids[199]] {
        until("an order to be processed", async || {
            let answer = wire.get(&format!("/orders/{id}")).await.expect("an answer");
            let body: Value = serde_json::from_str(&answer.body).expect("the body is JSON");
            (body["order"]["status"] == "done").then_some(())
        })
        .await;
    }
    child.stop().await;
}

#[tokio::test]
async fn times_keep_growing_after_the_clock_was_set_back() {
    let folder = TempDir::new().unwrap();
    let store = SqliteStore::open(folder.path()).unwrap();
    create(&store, some_user(), "{}").await;
    store.close().await;
    shift(folder.path(), YEAR);

    let store = SqliteStore::open(folder.path()).unwrap();
    let mut times = Vec::new();
    for _ in 0..3 {
        let id = create(&store, some_user(), "{}").await;
        times.push(row(&store, id).await.created_at);
    }
    assert!(times.windows(2).all(|pair| pair[0] < pair[1]), "the times do not grow: {times:?}");
    let ahead = times[0].duration_since(Timestamp::now());
    assert!(ahead > SignedDuration::from_hours(24 * 364), "{ahead}");
    assert_eq!(store.pending(Timestamp::now(), None, 10).await.unwrap().events.len(), 4);
    store.close().await;
}

#[tokio::test]
async fn a_clock_jump_does_not_expire_keys_and_old_keys_are_dropped() {
    let folder = TempDir::new().unwrap();
    let store = SqliteStore::open(folder.path()).unwrap();
    for number in 0..4 {
        assert!(is_new(&store, number).await);
    }
    store.close().await;
    // The clock was a year behind. Two keys were already two days old then.
    shift(folder.path(), -YEAR);
    with_file(folder.path(), &format!("UPDATE keys SET created_at = created_at - 2 * {DAY} WHERE seq <= 2"));

    for _ in 0..3 {
        let store = SqliteStore::open(folder.path()).unwrap();
        clean(&store).await;
        assert!(!is_new(&store, 2).await && !is_new(&store, 3).await, "the jump expired keys");
        // An order after the jump: the next start finds its time.
        create(&store, some_user(), "{}").await;
        store.close().await;
    }
    let store = SqliteStore::open(folder.path()).unwrap();
    assert_eq!(clean(&store).await, 0);
    assert!(is_new(&store, 0).await && is_new(&store, 1).await, "old keys were kept");
    store.close().await;
}

#[tokio::test]
async fn keys_are_dropped_when_they_have_been_kept_long_enough_after_a_jump() {
    let folder = TempDir::new().unwrap();
    let store = SqliteStore::open(folder.path()).unwrap();
    assert!(is_new(&store, 0).await);
    store.close().await;
    shift(folder.path(), -YEAR);
    let store = SqliteStore::open(folder.path()).unwrap();
    create(&store, some_user(), "{}").await;
    let jumped = store.now().await.unwrap();
    let soon = jumped + Duration::from_secs(60);
    assert_eq!(store.clean(jumped - Duration::from_secs(60), None, 10).await, Ok(0));
    // The retention job calls it in this way when the retention has passed since the jump.
    assert_eq!(store.clean(soon, None, 10).await, Ok(1));
    store.close().await;
}
