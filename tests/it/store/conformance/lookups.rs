//! Reads: by id, by the caller's external id, the processed versions of many orders, the scan of all orders, and the
//! errors of a closed store. The checker relies on the scan, which includes deleted orders, and the relay on the
//! processed versions.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use orderstream::order::{Filter, HistoryCursor, HistoryOffset, OrderId, Scope, Status, UserId};
use orderstream::store::{Error, Postponed, Processed, Store};

use super::{accept, apply_all, complete, create, creation, deletion, done, row, some_user, update};

/// The id of the order that an external id finds.
async fn found(store: &dyn Store, external_id: &str, user_id: UserId) -> Option<OrderId> {
    let order = store.find_by_external(external_id, user_id).await.expect("the store reads");
    order.map(|order| order.id)
}

/// A payload with that external id.
fn with_id(external_id: &str) -> String {
    format!(r#"{{"id":{}}}"#, serde_json::to_string(external_id).expect("a JSON string"))
}

/// `get`, `find_by_external`, `processed_versions`: `None` for an order that does not exist.
pub(crate) async fn no_lookup_finds_an_order_that_does_not_exist(store: Arc<dyn Store>) {
    create(&*store, some_user(), r#"{"id":"A"}"#).await;
    let unknown = OrderId::generate();
    assert_eq!(store.get(unknown).await, Ok(None));
    assert_eq!(store.find_by_external("A", some_user()).await, Ok(None));
    assert_eq!(store.processed_versions(&[unknown]).await, Ok(vec![None]));
    assert_eq!(store.processed_versions(&[]).await, Ok(Vec::new()));
}

/// `find_by_external`: the newest order of that user, also where an older one was changed later.
pub(crate) async fn the_newest_order_of_an_external_id_is_found(store: Arc<dyn Store>) {
    let user = some_user();
    let first = create(&*store, user, r#"{"id":"A","n":1}"#).await;
    assert_eq!(found(&*store, "A", user).await, Some(first));
    let second = create(&*store, user, r#"{"id":"A","n":2}"#).await;
    assert_eq!(found(&*store, "A", user).await, Some(second));
    create(&*store, user, r#"{"id":"B"}"#).await;
    accept(&*store, update(first, r#"{"id":"A","n":3}"#)).await;
    complete(&*store, done(first, 2, "1")).await;
    assert_eq!(found(&*store, "A", user).await, Some(second));
    let order = row(&*store, second).await;
    assert_eq!(store.find_by_external("A", user).await, Ok(Some(order)));
}

/// `find_by_external`: any text, compared without a change; a number by its own JSON text; never the empty text.
pub(crate) async fn an_external_id_is_any_text_but_the_empty_one(store: Arc<dyn Store>) {
    let user = some_user();
    // Text that cannot be compressed, so that an index has to hold all of it.
    let mut state = 1_u64;
    let long: String = std::iter::repeat_with(|| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        char::from(b'!' + u8::try_from((state >> 33) % 90).expect("less than 90"))
    })
    .take(4096)
    .collect();
    let texts = [
        "a",
        "A",
        "a ",
        " a",
        "a/b",
        "100%",
        "%",
        "_",
        "a%2Fb",
        "Ж",
        "é",
        "e\u{301}",
        "😀",
        "'",
        "\"",
        "\\",
        "0",
        "null",
        "1.0",
        "1",
        "a\tb",
        "*",
        long.as_str(),
    ];
    let mut orders = Vec::new();
    for text in texts {
        orders.push(create(&*store, user, &with_id(text)).await);
    }
    for (text, id) in texts.into_iter().zip(orders) {
        assert_eq!(found(&*store, text, user).await, Some(id), "{text:?}");
    }

    let number = create(&*store, user, r#"{"id":1000000}"#).await;
    assert_eq!(found(&*store, "1000000", user).await, Some(number));
    for text in [r#"{"id":""}"#, r#"{"id":null}"#, r#"{"id":true}"#, r#"{"id":[]}"#, "{}", "[]", r#""a""#] {
        create(&*store, user, text).await;
    }
    for text in ["", "true", "[]", "aa", "%a%", "b", &long[1..]] {
        assert_eq!(found(&*store, text, user).await, None, "{text:?}");
    }
}

/// `find_by_external`: only orders of that user.
pub(crate) async fn an_external_id_belongs_to_its_user(store: Arc<dyn Store>) {
    let (one, other) = (some_user(), some_user());
    let ones = create(&*store, one, r#"{"id":"A"}"#).await;
    assert_eq!(found(&*store, "A", other).await, None);
    let others = create(&*store, other, r#"{"id":"A"}"#).await;
    assert_eq!(found(&*store, "A", one).await, Some(ones));
    assert_eq!(found(&*store, "A", other).await, Some(others));
}

/// `find_by_external`: the id in the current payload; after an update that changes the id, the old one does not find
/// the order.
pub(crate) async fn an_order_is_found_by_the_external_id_it_has_now(store: Arc<dyn Store>) {
    let user = some_user();
    let older = create(&*store, user, r#"{"id":"old"}"#).await;
    let id = create(&*store, user, r#"{"id":"old"}"#).await;
    accept(&*store, update(id, r#"{"id":"new"}"#)).await;
    assert_eq!(found(&*store, "new", user).await, Some(id));
    assert_eq!(found(&*store, "old", user).await, Some(older));
    accept(&*store, update(older, "{}")).await;
    assert_eq!(found(&*store, "old", user).await, None);
}

/// `get`, `find_by_external`: deleted orders are found, too, and a deleted order hides older ones.
pub(crate) async fn a_deleted_order_is_still_found(store: Arc<dyn Store>) {
    let user = some_user();
    create(&*store, user, r#"{"id":"A"}"#).await;
    let id = create(&*store, user, r#"{"id":"A"}"#).await;
    accept(&*store, deletion(id)).await;
    let order = row(&*store, id).await;
    assert_eq!(order.status, Status::Deleted);
    assert_eq!(store.find_by_external("A", user).await, Ok(Some(order)));
}

/// `processed_versions`: in the requested order, `None` for an order that does not exist; with the current status.
pub(crate) async fn processed_versions_are_in_the_requested_order(store: Arc<dyn Store>) {
    let user = some_user();
    let new = create(&*store, user, "{}").await;
    let finished = create(&*store, user, "{}").await;
    accept(&*store, update(finished, "[]")).await;
    complete(&*store, done(finished, 2, "1")).await;
    let behind = create(&*store, user, "{}").await;
    complete(&*store, done(behind, 1, "1")).await;
    accept(&*store, deletion(behind)).await;

    let requested = [finished, OrderId::generate(), behind, new, finished];
    let processed = |version, status| Some(Processed { version, status });
    let expected = vec![
        processed(2, Status::Done),
        None,
        processed(1, Status::Deleted),
        processed(0, Status::New),
        processed(2, Status::Done),
    ];
    assert_eq!(store.processed_versions(&requested).await, Ok(expected));
}

/// `scan`: by ascending id, from behind `after`, at most `limit` orders, including deleted ones.
pub(crate) async fn a_scan_walks_all_orders_by_ascending_id(store: Arc<dyn Store>) {
    assert_eq!(store.scan(None, 10).await, Ok(Vec::new()));
    let mut batch: Vec<_> = (0..10).map(|n| creation(some_user(), &n.to_string())).collect();
    let ids: Vec<OrderId> = batch.iter().map(orderstream::order::Command::order_id).collect();
    batch.reverse();
    apply_all(&*store, batch).await;
    accept(&*store, deletion(ids[4])).await;

    let mut walked = Vec::new();
    let mut sizes = Vec::new();
    loop {
        let page = store.scan(walked.last().copied(), 4).await.expect("the store reads");
        let page: Vec<_> = page.into_iter().map(|row| row.expect("a row of ours")).collect();
        sizes.push(page.len());
        for order in &page {
            assert_eq!(order, &row(&*store, order.id).await);
        }
        walked.extend(page.iter().map(|order| order.id));
        if page.len() < 4 {
            break;
        }
    }
    assert_eq!((walked, sizes), (ids.clone(), vec![4, 4, 2]));
    assert_eq!(store.scan(Some(ids[9]), 4).await, Ok(Vec::new()));
}

/// `check` and `close`: the check of an open store succeeds; calls after a close fail, and a second close does nothing.
pub(crate) async fn a_closed_store_refuses_every_call(store: Arc<dyn Store>) {
    let id = create(&*store, some_user(), "{}").await;
    assert_eq!(store.check().await, Ok(()));
    store.close().await;
    store.close().await;
    let fails = |result: Result<(), Error>| matches!(result, Err(Error::Unavailable(_)));
    assert!(fails(store.check().await));
    assert!(fails(store.apply(Arc::new([deletion(id).into()])).await.map(drop)));
    assert!(fails(store.complete(Arc::new([done(id, 1, "1")])).await.map(drop)));
    assert!(fails(store.get(id).await.map(drop)));
    assert!(fails(store.find_by_external("A", some_user()).await.map(drop)));
    assert!(fails(store.processed_versions(&[id]).await.map(drop)));
    assert!(fails(store.pending(Timestamp::MAX, None, 1).await.map(drop)));
    assert!(fails(store.scan(None, 1).await.map(drop)));
    assert!(fails(store.list(&Filter::default(), None, 1).await.map(drop)));
    // A store that no other process shares uses the clock of its process.
    assert!(!store.is_shared() || fails(store.now().await.map(drop)));
    assert!(fails(store.history(id, HistoryCursor::default(), 1).await.map(drop)));
    assert!(fails(store.newest_history_event(id, 1).await.map(drop)));
    for of in [Scope::All, Scope::User(some_user()), Scope::Order(id)] {
        assert!(fails(store.history_page(of, HistoryOffset::default(), 1).await.map(drop)), "{of:?}");
    }
    assert!(fails(store.history_end().await.map(drop)));
    assert!(fails(store.history_newest().await.map(drop)));
    assert!(fails(store.history_dropped().await.map(drop)));
    assert!(fails(store.clean(Timestamp::MIN, Some(Timestamp::MIN), 1).await.map(drop)));
    // The outbox's methods do nothing in a store without an outbox.
    if store.has_outbox() {
        assert!(fails(store.published(&[(id, 1)]).await));
        assert!(fails(store.claim(&[(id, 1)]).await.map(drop)));
        assert!(fails(store.missing_outbox_entries(Timestamp::MAX, None, 1).await.map(drop)));
        assert!(fails(store.add_outbox_entries(&[(id, 1)]).await.map(drop)));
        assert!(fails(store.outbox_orphans().await.map(drop)));
        let postponed = Postponed { order_id: id, version: 1, by: Duration::from_secs(60) };
        assert!(fails(store.postpone(&[postponed]).await));
    }
}
