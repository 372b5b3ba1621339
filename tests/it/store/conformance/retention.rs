//! What is kept for a time only, the steps of the history and the keys of requests: the oldest are dropped, a few at a
//! time, and the orders themselves go on.

use std::sync::Arc;

use jiff::Timestamp;
use orderstream::order::{HistoryEvent, HistoryOffset, Key, OrderId, Request, Scope};
use orderstream::store::{Accepted, Store};

use super::history::{of_order, read};
use super::{accept, create, creation, some_user, update};

/// `clean`: drops the oldest steps, written before a time, at most so many at once.
pub(crate) async fn the_oldest_steps_are_dropped_a_few_at_a_time(store: Arc<dyn Store>) {
    let mut orders = Vec::new();
    for _ in 0..10 {
        orders.push(create(&*store, some_user(), "{}").await);
    }
    let all = read(&*store, Scope::All, HistoryOffset::default(), 100, 10).await;
    let clean = async |all: &[HistoryEvent], before: Option<Timestamp>, limit| {
        let dropped = store.clean(Timestamp::MIN, before, limit).await.expect("the store cleans");
        let left = read(&*store, Scope::All, HistoryOffset::default(), 100, 0).await;
        assert_eq!(left, all[all.len() - left.len()..], "the oldest go first");
        (dropped, left.len())
    };
    let lost = async || store.history_dropped().await.expect("the store reads");
    assert_eq!(clean(&all, None, 100).await, (0, 10));
    assert_eq!(clean(&all, Some(all[0].at), 100).await, (0, 10));
    assert_eq!(lost().await, HistoryOffset::default());
    assert_eq!(clean(&all, Some(all[7].at), 4).await, (4, 6));
    assert_eq!(lost().await, all[3].offset, "the newest that is gone");
    assert_eq!(clean(&all, Some(all[7].at), 4).await, (3, 3));
    assert_eq!(lost().await, all[6].offset);
    assert_eq!(clean(&all, Some(all[7].at), 4).await, (0, 3));
    assert_eq!(of_order(&*store, orders[6]).await, []);
    assert_eq!(of_order(&*store, orders[7]).await, all[7..8]);
    // The orders themselves are not touched, and go on.
    accept(&*store, update(orders[0], "[]")).await;
    assert_eq!(of_order(&*store, orders[0]).await.len(), 1);
    let all = read(&*store, Scope::All, HistoryOffset::default(), 100, 4).await;
    assert_eq!(clean(&all, Some(Timestamp::MAX), 2).await, (2, 2));
    assert_eq!(clean(&all, Some(Timestamp::MAX), 100).await, (2, 0));
    assert_eq!(lost().await, all[3].offset);
}

/// `clean`: drops the oldest keys, used before a time, at most so many at once; such a key is as good as new.
pub(crate) async fn the_oldest_keys_are_dropped_a_few_at_a_time(store: Arc<dyn Store>) {
    let keys: Vec<Key> =
        (0..6).map(|n| Key { digest: *OrderId::generate().as_bytes(), content: [n; 16] }).collect();
    let ask = async |key: &Key| {
        let request = Request { command: creation(some_user(), "{}"), key: Some(*key) };
        let answers = store.apply([request].into()).await.expect("the store takes the batch");
        answers.into_iter().next().expect("an answer").expect("the request is accepted")
    };
    let mut times = Vec::new();
    for key in &keys {
        let Accepted::Applied(event) = ask(key).await else { panic!("the key is new") };
        times.push(event.timestamp);
    }
    let clean = async |before, limit| store.clean(before, None, limit).await.expect("the store cleans");
    assert_eq!(clean(times[0], 100).await, 0);
    assert_eq!(clean(times[5], 3).await, 3);
    assert_eq!(clean(times[5], 3).await, 2);
    assert_eq!(clean(times[5], 3).await, 0);
    assert!(matches!(ask(&keys[5]).await, Accepted::Replayed(_)));
    for key in &keys[..5] {
        assert!(matches!(ask(key).await, Accepted::Applied(_)));
    }
    assert_eq!(clean(Timestamp::MAX, 100).await, 6);
}
