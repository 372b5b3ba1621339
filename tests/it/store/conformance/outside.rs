//! Completions of events from outside, which have no version or request a new order: each applies once, in the order of
//! the events' own times, and never against the table of transitions. Services that share the tables or topics send
//! such events, and a bus may deliver each of them more than once.

use std::sync::Arc;

use jiff::Timestamp;
use orderstream::order::{OrderId, Status, UserId};
use orderstream::store::{Completed, Completion, Creation, Precondition, Refusal, Store};

use super::{accept, amount, apply, complete, create, deletion, done, payload, row, some_user, update};

/// A completion of an event without a version, sent that many microseconds after a moment in 2025.
fn sent(order_id: OrderId, microsecond: i64, status: Status, digits: &str) -> Completion {
    let at = Timestamp::from_microsecond(1_760_000_000_000_000 + microsecond).expect("a time");
    let amount = Some(amount(digits));
    Completion { order_id, precondition: Precondition::Unversioned(at), status, amount, reason: None }
}

/// A completion of an event that requests a new order.
fn requested(order_id: OrderId, user_id: UserId, text: &str, digits: &str) -> Completion {
    let precondition = Precondition::Creation(Box::new(Creation { user_id, payload: payload(text) }));
    Completion { order_id, precondition, status: Status::Done, amount: Some(amount(digits)), reason: None }
}

/// `Precondition::Unversioned`: applies unless one of the same or a later time was applied before.
pub(crate) async fn an_event_without_a_version_applies_once_and_its_replay_is_stale(store: Arc<dyn Store>) {
    let id = create(&*store, some_user(), "{}").await;
    let event = sent(id, 5, Status::Done, "4.20");
    assert_eq!(complete(&*store, event.clone()).await, Completed::Applied);
    let order = row(&*store, id).await;
    assert_eq!((order.status, order.amount.to_string().as_str()), (Status::Done, "4.20"));

    // An event of the same time counts as the same event, also with another content.
    for replay in [event, sent(id, 5, Status::Cancelled, "5")] {
        assert_eq!(complete(&*store, replay).await, Completed::Stale);
        assert_eq!(row(&*store, id).await, order);
    }
}

/// `Precondition::Unversioned`: the time of the event decides, not the order of arrival.
pub(crate) async fn a_later_event_without_a_version_applies_and_an_earlier_one_does_not(
    store: Arc<dyn Store>,
) {
    let id = create(&*store, some_user(), "{}").await;
    assert_eq!(complete(&*store, sent(id, 5, Status::Done, "5")).await, Completed::Applied);
    assert_eq!(complete(&*store, sent(id, 6, Status::Done, "6")).await, Completed::Applied);
    let order = row(&*store, id).await;
    assert_eq!((order.status, &order.amount), (Status::Done, &amount("6")));
    for earlier in [5, 4, -1] {
        assert_eq!(complete(&*store, sent(id, earlier, Status::Cancelled, "9")).await, Completed::Stale);
        assert_eq!(row(&*store, id).await, order);
    }
    assert_eq!(complete(&*store, sent(id, 7, Status::Cancelled, "7")).await, Completed::Applied);
    assert_eq!(row(&*store, id).await.status, Status::Cancelled);
}

/// `Precondition::Unversioned`: our own event that is redelivered without its headers is no newer than itself.
pub(crate) async fn an_event_without_a_version_applies_only_after_the_completed_version(
    store: Arc<dyn Store>,
) {
    let id = create(&*store, some_user(), "{}").await;
    let event = accept(&*store, update(id, "[]")).await;
    assert_eq!(complete(&*store, done(id, 2, "2")).await, Completed::Applied);
    let order = row(&*store, id).await;
    let microsecond = event.timestamp.as_microsecond() - 1_760_000_000_000_000;
    for (at, status) in [(microsecond, Status::Done), (microsecond, Status::Cancelled), (5, Status::Done)] {
        assert_eq!(complete(&*store, sent(id, at, status, "1")).await, Completed::Stale, "{status}");
        assert_eq!(row(&*store, id).await, order, "{status}");
    }
    let newer = sent(id, microsecond + 1, Status::Done, "3");
    assert_eq!(complete(&*store, newer).await, Completed::Applied);
    assert_eq!(row(&*store, id).await.amount, amount("3"));
}

/// `Precondition::Unversioned`: does not change the versions, so the worker still applies its own event.
pub(crate) async fn an_event_without_a_version_leaves_the_versions_alone(store: Arc<dyn Store>) {
    let id = create(&*store, some_user(), "{}").await;
    accept(&*store, update(id, "[]")).await;
    complete(&*store, sent(id, 5, Status::Done, "5")).await;
    let order = row(&*store, id).await;
    assert_eq!((order.status, order.version, order.processed_version), (Status::Done, 2, 0));
    assert_eq!(order.payload, payload("[]"));
    assert_eq!(complete(&*store, done(id, 2, "5")).await, Completed::Applied);
    let order = row(&*store, id).await;
    assert_eq!((order.status, order.processed_version), (Status::Done, 2));
}

/// `complete`: a version that applies sets its amount, also where the status does not change.
pub(crate) async fn a_version_completed_after_an_event_without_one_takes_its_amount(store: Arc<dyn Store>) {
    let id = create(&*store, some_user(), "{}").await;
    complete(&*store, sent(id, 5, Status::Done, "5")).await;
    assert_eq!(complete(&*store, done(id, 1, "12")).await, Completed::Applied);
    let order = row(&*store, id).await;
    assert_eq!((order.status, order.processed_version), (Status::Done, 1));
    assert_eq!(order.amount, amount("12"));
}

/// `Status::LEGAL`: nothing leads out of deleted.
pub(crate) async fn an_event_without_a_version_never_revives_a_deleted_order(store: Arc<dyn Store>) {
    let id = create(&*store, some_user(), "{}").await;
    accept(&*store, deletion(id)).await;
    let before = row(&*store, id).await;
    for (at, status) in [(5, Status::Done), (6, Status::Cancelled), (7, Status::Failed)] {
        assert_eq!(complete(&*store, sent(id, at, status, "5")).await, Completed::Stale, "{status}");
        assert_eq!(row(&*store, id).await, before, "{status}");
    }
}

/// `Precondition::Unversioned`: a deletion from outside sets the time of deletion, and is final.
pub(crate) async fn an_event_without_a_version_can_delete_an_order_for_ever(store: Arc<dyn Store>) {
    let id = create(&*store, some_user(), "{}").await;
    let event = Completion { amount: None, ..sent(id, 5, Status::Deleted, "0") };
    assert_eq!(complete(&*store, event).await, Completed::Applied);
    let order = row(&*store, id).await;
    assert_eq!((order.status, order.deleted_at), (Status::Deleted, Some(order.updated_at)));
    assert_eq!(complete(&*store, sent(id, 6, Status::Done, "1")).await, Completed::Stale);
    assert_eq!(complete(&*store, done(id, 1, "1")).await, Completed::Applied);
    let after = row(&*store, id).await;
    assert_eq!((after.status, after.deleted_at), (Status::Deleted, order.deleted_at));
}

/// `Order::deleted_at`: set by every deletion, also by an event with a version of ours.
pub(crate) async fn an_event_with_a_version_can_delete_an_order_for_ever(store: Arc<dyn Store>) {
    let id = create(&*store, some_user(), "{}").await;
    let event = Completion { status: Status::Deleted, amount: None, ..done(id, 1, "0") };
    assert_eq!(complete(&*store, event).await, Completed::Applied);
    let order = row(&*store, id).await;
    assert_eq!((order.status, order.processed_version), (Status::Deleted, 1));
    assert_eq!(order.deleted_at, Some(order.updated_at));
    assert_eq!(apply(&*store, update(id, "[]")).await, Err(Refusal::Deleted));
}

/// `Status::Cancelled`: the worker does not change it, but the version counts as processed.
pub(crate) async fn a_cancelled_order_stays_cancelled_when_a_late_worker_completes_it(store: Arc<dyn Store>) {
    let id = create(&*store, some_user(), "{}").await;
    assert_eq!(complete(&*store, sent(id, 5, Status::Cancelled, "0")).await, Completed::Applied);
    assert_eq!(complete(&*store, done(id, 1, "5")).await, Completed::Applied);
    let order = row(&*store, id).await;
    assert_eq!((order.status, order.processed_version), (Status::Cancelled, 1));
    assert_eq!(complete(&*store, sent(id, 6, Status::Done, "6")).await, Completed::Stale);
    assert_eq!(row(&*store, id).await, order);
}

/// `Status::LEGAL`: a cancelled order may be updated, and is then processed like any other.
pub(crate) async fn a_cancelled_order_can_be_updated_and_processed(store: Arc<dyn Store>) {
    let id = create(&*store, some_user(), "{}").await;
    complete(&*store, sent(id, 5, Status::Cancelled, "0")).await;
    accept(&*store, update(id, "[]")).await;
    assert_eq!(row(&*store, id).await.status, Status::Processing);
    assert_eq!(complete(&*store, done(id, 2, "5")).await, Completed::Applied);
    assert_eq!(row(&*store, id).await.status, Status::Done);
}

/// `complete`: an event without a version does not create its order.
pub(crate) async fn an_event_without_a_version_of_an_unknown_order_is_unknown(store: Arc<dyn Store>) {
    let id = OrderId::generate();
    assert_eq!(complete(&*store, sent(id, 5, Status::Done, "5")).await, Completed::Unknown);
    assert_eq!(store.get(id).await, Ok(None));
}

/// `Precondition::Creation`: creates the order as processed, unless that id exists already.
pub(crate) async fn an_event_that_requests_an_order_creates_it_once_as_processed(store: Arc<dyn Store>) {
    let (id, user) = (OrderId::generate(), some_user());
    let event = requested(id, user, r#"{"id": "ext-9", "amount": 3.10}"#, "3.10");
    assert_eq!(complete(&*store, event.clone()).await, Completed::Applied);
    let order = row(&*store, id).await;
    assert_eq!((order.id, order.user_id, order.status), (id, user, Status::Done));
    assert_eq!((order.version, order.processed_version), (1, 1));
    assert_eq!((order.amount.to_string().as_str(), &order.reason), ("3.10", &None));
    assert_eq!(order.payload, payload(r#"{"id": "ext-9", "amount": 3.10}"#));
    assert_eq!((order.created_at, order.deleted_at), (order.updated_at, None));

    assert_eq!(complete(&*store, event).await, Completed::Stale);
    assert_eq!(row(&*store, id).await, order);
    assert_eq!(store.scan(None, 10).await, Ok(vec![Ok(order.clone())]), "one order");
    assert_eq!(store.find_by_external("ext-9", user).await, Ok(Some(order)));
}

/// `Precondition::Creation`: the created order is like any other.
pub(crate) async fn an_order_that_an_event_created_can_be_updated_and_deleted(store: Arc<dyn Store>) {
    let id = OrderId::generate();
    complete(&*store, requested(id, some_user(), "{}", "1")).await;
    assert_eq!(accept(&*store, update(id, "[]")).await.version, Some(2));
    assert_eq!(complete(&*store, done(id, 2, "2")).await, Completed::Applied);
    assert_eq!(accept(&*store, deletion(id)).await.version, Some(3));
    // The record that created the order is redelivered much later.
    let before = row(&*store, id).await;
    assert_eq!(complete(&*store, requested(id, some_user(), "{}", "1")).await, Completed::Stale);
    assert_eq!(row(&*store, id).await, before);
}

/// `Precondition::Creation`: an existing order is not changed, no matter who owns it.
pub(crate) async fn a_creation_event_with_a_duplicate_id_changes_nothing(store: Arc<dyn Store>) {
    let user = some_user();
    let existing = create(&*store, user, "{}").await;
    let (before, fresh) = (row(&*store, existing).await, OrderId::generate());
    let batch = [requested(existing, some_user(), "[]", "1"), requested(fresh, user, "[]", "2")];
    let answers = store.complete(Arc::new(batch)).await;
    assert_eq!(answers, Ok(vec![Completed::Stale, Completed::Applied]));
    assert_eq!(row(&*store, existing).await, before);
    assert_eq!(row(&*store, fresh).await.amount, amount("2"));
}

/// `Order::touched`: set by an event without a version, because its change has a time but no version; cleared by each
/// change of ours.
pub(crate) async fn an_order_records_whether_another_service_changed_it_last(store: Arc<dyn Store>) {
    let id = create(&*store, some_user(), "{}").await;
    assert!(!row(&*store, id).await.touched);
    assert_eq!(complete(&*store, done(id, 1, "1")).await, Completed::Applied);
    let mut before = row(&*store, id).await;
    assert!(!before.touched);
    let future = 1_000_000_000_000_000;
    for later in 0..3 {
        let event = sent(id, future + later, Status::Done, "2");
        assert_eq!(complete(&*store, event).await, Completed::Applied);
        let after = row(&*store, id).await;
        assert!(after.touched && after.updated_at > before.updated_at, "{after:?}");
        before = after;
    }
    accept(&*store, update(id, "[]")).await;
    assert!(!row(&*store, id).await.touched);
    // Also while the order is pending.
    let event = sent(id, future + 5, Status::Done, "3");
    assert_eq!(complete(&*store, event).await, Completed::Applied);
    assert!(row(&*store, id).await.touched);
    assert_eq!(complete(&*store, done(id, 2, "4")).await, Completed::Applied);
    assert!(!row(&*store, id).await.touched);
    accept(&*store, deletion(id)).await;
    assert!(!row(&*store, id).await.touched);

    let new = OrderId::generate();
    assert_eq!(complete(&*store, requested(new, some_user(), "{}", "1")).await, Completed::Applied);
    assert!(!row(&*store, new).await.touched);
}
