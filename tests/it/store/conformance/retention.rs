//! Retention of history events and of the keys of requests: the oldest are dropped, a limited number at a time, and the
//! orders themselves are not changed. `history_dropped` names the newest dropped offset, so that a stream can report a
//! gap.

use std::sync::Arc;

use jiff::Timestamp;
use orderstream::order::{CommandRequest, HistoryEvent, HistoryOffset, Key, OrderId, Scope};
use orderstream::store::{Accepted, Store};

use super::history::{of_order, read};
use super::{accept, create, creation, some_user, update};

/// `clean`: drops the oldest history events that were written before a time, at most `limit` at once.
pub(crate) async fn the_oldest_history_events_are_dropped_in_batches(store: Arc<dyn Store>) {
    let mut orders = Vec::new();
    for _ in 0..10 {
        orders.push(create(&*store, some_user(), "{}").await);
    }
    let all = read(&*store, Scope::All, HistoryOffset::default(), 100, 10).await;
    let clean = async |all: &[HistoryEvent], before: Option<Timestamp>, limit| {
        let dropped = store.clean(Timestamp::MIN, before, limit).await.expect("the store cleans");
        let left = read(&*store, Scope::All, HistoryOffset::default(), 100, 0).await;
        assert_eq!(left, all[all.len() - left.len()..], "the oldest events are not dropped first");
        (dropped, left.len())
    };
    let lost = async || store.history_dropped().await.expect("the store reads");
    assert_eq!(clean(&all, None, 100).await, (0, 10));
    assert_eq!(clean(&all, Some(all[0].at), 100).await, (0, 10));
    assert_eq!(lost().await, HistoryOffset::default());
    assert_eq!(clean(&all, Some(all[7].at), 4).await, (4, 6));
    assert_eq!(lost().await, all[3].offset, "the newest event that was dropped");
    assert_eq!(clean(&all, Some(all[7].at), 4).await, (3, 3));
    assert_eq!(lost().await, all[6].offset);
    assert_eq!(clean(&all, Some(all[7].at), 4).await, (0, 3));
    assert_eq!(of_order(&*store, orders[6]).await, []);
    assert_eq!(of_order(&*store, orders[7]).await, all[7..8]);
    // The orders themselves are not changed, and can be updated.
    accept(&*store, update(orders[0], "[]")).await;
    assert_eq!(of_order(&*store, orders[0]).await.len(), 1);
    let all = read(&*store, Scope::All, HistoryOffset::default(), 100, 4).await;
    assert_eq!(clean(&all, Some(Timestamp::MAX), 2).await, (2, 2));
    assert_eq!(clean(&all, Some(Timestamp::MAX), 100).await, (2, 0));
    assert_eq!(lost().await, all[3].offset);
}

/// `clean`: drops the oldest keys that were used before a time, at most `limit` at once; a dropped key can be used
/// again.
pub(crate) async fn the_oldest_keys_are_dropped_in_batches(store: Arc<dyn Store>) {
    let keys: Vec<Key> =
        (0..6).map(|n| Key { digest: *OrderId::generate().as_bytes(), content: [n; 16] }).collect();
    let send = async |key: &Key| {
        let request = CommandRequest { command: creation(some_user(), "{}"), key: Some(*key) };
        let answers = store.apply([request].into()).await.expect("the store takes the batch");
        answers.into_iter().next().expect("an answer").expect("the request is accepted")
    };
    let mut times = Vec::new();
    for key in &keys {
        let Accepted::Applied(event) = send(key).await else { panic!("the key is new") };
        times.push(event.timestamp);
    }
    let clean = async |before, limit| store.clean(before, None, limit).await.expect("the store cleans");
    assert_eq!(clean(times[0], 100).await, 0);
    assert_eq!(clean(times[5], 3).await, 3);
    assert_eq!(clean(times[5], 3).await, 2);
    assert_eq!(clean(times[5], 3).await, 0);
    assert!(matches!(send(&keys[5]).await, Accepted::Replayed(_)));
    for key in &keys[..5] {
        assert!(matches!(send(key).await, Accepted::Applied(_)));
    }
    assert_eq!(clean(Timestamp::MAX, 100).await, 6);
}
