//! The embedded store's indexes of external ids, users and keys, at a size at which the memtable is merged: entries are
//! in memory first, are merged into the table in slices, and are found at any moment, also after a restart during a
//! merge.

use std::sync::Arc;

use orderstream::order::{Command, CommandRequest, Filter, Key, OrderId, UserId};
use orderstream::store::sqlite::SqliteStore;
use orderstream::store::{Accepted, Lists, Maintenance, Orders, Refusal};
use tempfile::TempDir;

use crate::harness::wait::within;
use crate::store::conformance::{accept, apply_all, creation, row, some_user, update};

/// More than the store keeps in memory before it begins to merge.
const MANY: usize = 70_000;

/// Orders of one user with the external ids `A-<from>` to `A-<to>`, a thousand in a write.
async fn load(store: &SqliteStore, user: UserId, from: usize, to: usize) -> Vec<OrderId> {
    let mut ids = Vec::new();
    for start in (from..to).step_by(1000) {
        let batch: Vec<Command> = (start..to.min(start + 1000))
            .map(|number| creation(user, &format!(r#"{{"id":"A-{number}"}}"#)))
            .collect();
        ids.extend(batch.iter().map(Command::order_id));
        let answers = apply_all(store, batch).await;
        assert!(answers.iter().all(Result::is_ok));
    }
    ids
}

async fn find(store: &SqliteStore, user: UserId, external_id: &str) -> Option<OrderId> {
    store.find_by_external(external_id, user).await.expect("the store answers").map(|order| order.id)
}

/// Asserts that the user's orders are listed, each once.
async fn all_are_listed(store: &SqliteStore, user: UserId, ids: &[OrderId]) {
    let filter = Filter { user_id: Some(user), ..Filter::default() };
    let (mut listed, mut after) = (Vec::new(), None);
    loop {
        let page = store.list(&filter, after, 2_000).await.expect("the store answers");
        listed.extend(page.orders.iter().map(|order| order.id));
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    listed.reverse();
    assert!(listed == ids, "{} of {} are listed", listed.len(), ids.len());
}

/// Asserts that every hundredth order, the first and the last are found.
async fn all_are_found(store: &SqliteStore, user: UserId, ids: &[OrderId]) {
    for number in (0..ids.len()).step_by(100).chain([ids.len() - 1]) {
        assert_eq!(find(store, user, &format!("A-{number}")).await, Some(ids[number]), "A-{number}");
    }
}

#[tokio::test]
async fn an_external_id_is_found_during_a_merge_and_after_a_restart() {
    let folder = TempDir::new().unwrap();
    let user = some_user();
    let store = SqliteStore::open(folder.path()).unwrap();
    // The last writes of this load begin the merge and leave it unfinished.
    let mut ids = load(&store, user, 0, MANY).await;
    all_are_found(&store, user, &ids).await;
    all_are_listed(&store, user, &ids).await;

    // An order whose entry is being merged gets another external id, and so does an order in the memtable.
    for (at, other) in [(10, "moved"), (MANY - 1, "recent")] {
        accept(&store, update(ids[at], &format!(r#"{{"id":"{other}"}}"#))).await;
        assert_eq!(find(&store, user, other).await, Some(ids[at]));
        assert_eq!(find(&store, user, &format!("A-{at}")).await, None);
        accept(&store, update(ids[at], &format!(r#"{{"id":"A-{at}"}}"#))).await;
        assert_eq!(find(&store, user, other).await, None);
    }
    store.close().await;

    let store = SqliteStore::open(folder.path()).unwrap();
    all_are_found(&store, user, &ids).await;
    all_are_listed(&store, user, &ids).await;
    // These writes end this merge and begin the next.
    ids.extend(load(&store, user, MANY, 2 * MANY + 1000).await);
    all_are_found(&store, user, &ids).await;
    all_are_listed(&store, user, &ids).await;
    accept(&store, update(ids[20], r#"{"id":"long after"}"#)).await;
    store.close().await;

    let store = SqliteStore::open(folder.path()).unwrap();
    assert_eq!(find(&store, user, "long after").await, Some(ids[20]));
    assert_eq!(find(&store, user, "A-20").await, None);
    assert_eq!(find(&store, user, "A-120000").await, Some(ids[120_000]));
    assert_eq!(row(&store, ids[0]).await.version, 1);
    store.close().await;
}

#[tokio::test]
async fn the_newest_order_is_found_before_and_after_a_merge() {
    let folder = TempDir::new().unwrap();
    let user = some_user();
    let store = SqliteStore::open(folder.path()).unwrap();
    let old = accept(&store, creation(user, r#"{"id":"same"}"#)).await.order_id;
    load(&store, user, 0, MANY).await;
    assert_eq!(find(&store, user, "same").await, old);
    load(&store, user, MANY, 2 * MANY).await;
    assert_eq!(find(&store, user, "same").await, old, "it is in the table now");
    let newer = accept(&store, creation(user, r#"{"id":"same"}"#)).await.order_id;
    assert_eq!(find(&store, user, "same").await, newer);
    // The newer order loses the id, and the old one is the newest again.
    accept(&store, update(newer.unwrap(), "{}")).await;
    assert_eq!(find(&store, user, "same").await, old);
    store.close().await;
}

#[tokio::test]
async fn lookups_of_an_external_id_skip_orders_that_no_longer_have_it() {
    let folder = TempDir::new().unwrap();
    let user = some_user();
    let store = SqliteStore::open(folder.path()).unwrap();
    let kept = accept(&store, creation(user, r#"{"id":"basket"}"#)).await.order_id;
    for start in (0..MANY).step_by(1000) {
        let batch: Vec<Command> = (0..1000).map(|_| creation(user, r#"{"id":"basket"}"#)).collect();
        let ids: Vec<OrderId> = batch.iter().map(Command::order_id).collect();
        assert!(apply_all(&store, batch).await.iter().all(Result::is_ok));
        let named = ids.iter().zip(start..).map(|(id, n)| update(*id, &format!(r#"{{"id":"A-{n}"}}"#)));
        assert!(apply_all(&store, named).await.iter().all(Result::is_ok));
    }
    let look_up = async |store: &SqliteStore| {
        for _ in 0..5_000 {
            assert_eq!(find(store, user, "basket").await, kept);
        }
    };
    within("lookups while entries are in memory", look_up(&store)).await;
    load(&store, user, MANY, 2 * MANY + 1000).await;
    within("lookups when they are in the table", look_up(&store)).await;
    assert!(find(&store, user, "A-7").await.is_some());
    store.close().await;
    let store = SqliteStore::open(folder.path()).unwrap();
    within("lookups after a restart", look_up(&store)).await;
    store.close().await;
}

/// A request to create, with the key of that number.
fn keyed(user: UserId, number: u32, content: u8) -> CommandRequest {
    let mut digest = *uuid::Uuid::new_v5(&uuid::Uuid::NAMESPACE_OID, &number.to_be_bytes()).as_bytes();
    // Random, like every digest, and unique.
    digest[12..].copy_from_slice(&number.to_be_bytes());
    CommandRequest { command: creation(user, "{}"), key: Some(Key { digest, content: [content; 16] }) }
}

/// Sends requests with keys, a thousand in a write.
async fn load_keys(store: &SqliteStore, user: UserId, numbers: std::ops::Range<u32>) -> Vec<OrderId> {
    let mut ids = Vec::new();
    for start in numbers.clone().step_by(1000) {
        let batch: Arc<[CommandRequest]> =
            (start..numbers.end.min(start + 1000)).map(|number| keyed(user, number, 1)).collect();
        for answer in store.apply(batch).await.expect("the store takes the batch") {
            let Ok(Accepted::Applied(event)) = answer else { panic!("the key is new: {answer:?}") };
            ids.extend(event.order_id);
        }
    }
    ids
}

/// Asserts that every thousandth key, the first and the last replay their outcomes, and refuse another content.
async fn all_keys_are_known(store: &SqliteStore, user: UserId, ids: &[OrderId]) {
    for number in (0..ids.len()).step_by(1000).chain([ids.len() - 1]) {
        let requests = [1, 2].map(|content| keyed(user, u32::try_from(number).unwrap(), content));
        let [repeated, other] = requests.map(|request| store.apply(Arc::new([request])));
        let repeated = repeated.await.unwrap().remove(0);
        assert!(
            matches!(repeated, Ok(Accepted::Replayed(did)) if did.order_id == ids[number]),
            "{number}: {repeated:?}"
        );
        assert_eq!(other.await.unwrap(), [Err(Refusal::KeyReused)], "{number}");
    }
}

#[tokio::test]
async fn a_key_is_known_during_a_merge_and_after_a_restart() {
    let folder = TempDir::new().unwrap();
    let user = some_user();
    let store = SqliteStore::open(folder.path()).unwrap();
    // The last writes of this load begin the merge and leave it unfinished.
    let mut ids = load_keys(&store, user, 0..140_000).await;
    all_keys_are_known(&store, user, &ids).await;
    store.close().await;

    let store = SqliteStore::open(folder.path()).unwrap();
    all_keys_are_known(&store, user, &ids).await;
    // These writes end this merge.
    ids.extend(load_keys(&store, user, 140_000..220_000).await);
    all_keys_are_known(&store, user, &ids).await;
    store.close().await;
}
