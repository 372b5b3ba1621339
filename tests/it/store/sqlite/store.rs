//! The embedded store: the conformance suite, and the promises of a store in a folder: its orders survive a restart,
//! one process uses it at a time, and an older program does not change it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use orderstream::order::Status;
use orderstream::store::sqlite::{OpenError, SqliteStore};
use orderstream::store::{Completed, Lists, Maintenance, Orders, Outbox};
use tempfile::TempDir;

use crate::store::conformance::{
    Fresh, accept, complete, create, creation, deletion, done, row, some_user, store_conformance, update,
};

/// An empty store in a folder of its own.
async fn fresh() -> Fresh {
    let folder = TempDir::new().expect("a folder");
    let store = SqliteStore::open(folder.path()).expect("a store");
    Fresh { store: Arc::new(store), _keep: Box::new(folder) }
}

store_conformance!(fresh);

#[tokio::test]
async fn a_payload_is_kept_byte_for_byte() {
    crate::store::conformance::fidelity::a_payload_is_kept_byte_for_byte(fresh().await.store).await;
}

#[tokio::test]
async fn pending_orders_are_listed_oldest_first() {
    let fresh = fresh().await;
    let store = &*fresh.store;
    let mut expected = Vec::new();
    for _ in 0..5 {
        expected.push(create(store, some_user(), "{}").await);
    }
    let moved = expected.remove(1);
    accept(store, update(moved, "[]")).await;
    expected.push(moved);
    let page = store.pending(jiff::Timestamp::MAX, None, 10).await.unwrap();
    assert_eq!(page.events.iter().filter_map(|event| event.order_id).collect::<Vec<_>>(), expected);
}

#[tokio::test]
async fn stored_orders_are_there_after_the_folder_is_reopened() {
    let folder = TempDir::new().unwrap();
    let (user, path) = (some_user(), folder.path().join("not/made/yet"));
    let store = SqliteStore::open(&path).unwrap();
    let finished = create(&store, user, r#"{"id":"A"}"#).await;
    complete(&store, done(finished, 1, "1.10")).await;
    let waiting = create(&store, user, r#"{"id":"B"}"#).await;
    let event = accept(&store, update(waiting, r#"{"id":"C", "n":1.10}"#)).await;
    let gone = create(&store, user, "{}").await;
    accept(&store, deletion(gone)).await;
    let rows = store.scan(None, 10).await.unwrap();
    let pending = store.pending(jiff::Timestamp::MAX, None, 10).await.unwrap();
    store.close().await;

    let store = SqliteStore::open(&path).unwrap();
    assert_eq!(store.scan(None, 10).await, Ok(rows));
    assert_eq!(store.pending(jiff::Timestamp::MAX, None, 10).await, Ok(pending.clone()));
    assert!(pending.events.contains(&event));
    assert_eq!(complete(&store, done(waiting, 2, "5")).await, Completed::Applied);
    assert_eq!(row(&store, gone).await.status, Status::Deleted);
    store.close().await;
}

#[tokio::test]
async fn a_store_dropped_without_a_close_loses_no_confirmed_order() {
    let folder = TempDir::new().unwrap();
    let store = SqliteStore::open(folder.path()).unwrap();
    let id = create(&store, some_user(), "{}").await;
    drop(store);
    // The writer's thread may still be releasing the folder.
    let store = SqliteStore::open_read_only(folder.path()).unwrap();
    assert_eq!(row(&store, id).await.version, 1);
}

#[tokio::test]
async fn commands_sent_before_a_close_are_finished() {
    let folder = TempDir::new().unwrap();
    let store = SqliteStore::open(folder.path()).unwrap();
    let command = creation(some_user(), "{}");
    let id = command.order_id();
    // Polled in this order: the command is sent before the store begins to close.
    let (answer, ()) = tokio::join!(biased; store.apply(Arc::new([command.into()])), store.close());
    assert!(answer.unwrap()[0].is_ok());
    let store = SqliteStore::open(folder.path()).unwrap();
    assert_eq!(row(&store, id).await.version, 1);
    store.close().await;
}

#[tokio::test]
async fn a_folder_in_use_is_refused_by_name_until_it_is_closed() {
    let folder = TempDir::new().unwrap();
    let store = SqliteStore::open(folder.path()).unwrap();
    let refusal = SqliteStore::open(folder.path()).err().expect("a refusal");
    assert!(matches!(refusal, OpenError::Locked { .. }), "{refusal:?}");
    assert!(refusal.to_string().contains(&folder.path().display().to_string()), "{refusal}");
    assert_eq!(store.check().await, Ok(()));
    store.close().await;
    SqliteStore::open(folder.path()).unwrap().close().await;
}

#[tokio::test]
async fn a_folder_of_a_newer_program_is_refused_and_left_unchanged() {
    let folder = TempDir::new().unwrap();
    let store = SqliteStore::open(folder.path()).unwrap();
    let id = create(&store, some_user(), "{}").await;
    store.close().await;
    let file = folder.path().join("orders.db");
    let version = |connection: &rusqlite::Connection| -> u32 {
        connection.pragma_query_value(None, "user_version", |row| row.get(0)).expect("a version")
    };
    let connection = rusqlite::Connection::open(&file).unwrap();
    let known = version(&connection);
    connection.pragma_update(None, "user_version", known + 1).unwrap();

    for refusal in [SqliteStore::open(folder.path()).err(), SqliteStore::open_read_only(folder.path()).err()]
    {
        let refusal = refusal.expect("a refusal");
        let expected = (known + 1, known);
        let is_too_new =
            matches!(refusal, OpenError::TooNew { found, known: ours } if (found, ours) == expected);
        assert!(is_too_new, "{refusal:?}");
    }
    assert_eq!(version(&connection), known + 1);
    // The refused open has released the folder.
    connection.pragma_update(None, "user_version", known).unwrap();
    drop(connection);
    let store = SqliteStore::open(folder.path()).unwrap();
    assert_eq!(row(&store, id).await.version, 1);
    store.close().await;
}

#[tokio::test]
async fn a_folder_that_is_a_file_is_refused_by_name() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("file");
    std::fs::write(&path, "").unwrap();
    let refusal = SqliteStore::open(&path).err().expect("a refusal").to_string();
    assert!(refusal.contains(&path.display().to_string()), "{refusal}");
}

#[tokio::test]
async fn a_reader_sees_what_a_writer_commits_and_refuses_to_write() {
    let folder = TempDir::new().unwrap();
    let missing = SqliteStore::open_read_only(folder.path()).err().expect("a refusal").to_string();
    assert!(missing.contains(&folder.path().display().to_string()), "{missing}");
    let writer = SqliteStore::open(folder.path()).unwrap();
    let reader = SqliteStore::open_read_only(folder.path()).unwrap();
    let id = create(&writer, some_user(), "{}").await;
    assert_eq!(row(&reader, id).await, row(&writer, id).await);
    assert_eq!(reader.check().await, Ok(()));
    assert!(reader.apply(Arc::new([deletion(id).into()])).await.is_err());
    assert_eq!(row(&writer, id).await.version, 1);
    writer.close().await;
}

#[tokio::test]
async fn a_closed_folder_can_be_opened_while_other_processes_are_started() {
    let folder = TempDir::new().unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = Arc::clone(&stop);
    // Between its fork and its exec a process holds copies of all our open files.
    let starting = std::thread::spawn(move || {
        while !stopped.load(Ordering::Relaxed) {
            assert!(std::process::Command::new("true").status().unwrap().success());
        }
    });
    for attempt in 0..200 {
        let store =
            SqliteStore::open(folder.path()).unwrap_or_else(|error| panic!("attempt {attempt}: {error}"));
        store.close().await;
    }
    stop.store(true, Ordering::Relaxed);
    starting.join().unwrap();
}
