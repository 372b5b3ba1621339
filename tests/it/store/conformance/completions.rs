//! Completions by version: they apply once and only to the newest version, so that redelivery, reordering and races of
//! workers are harmless. They never change a status against the table of transitions.

use std::sync::Arc;

use orderstream::order::{OrderId, Status};
use orderstream::store::{Completed, Completion, Store};

use super::{accept, amount, complete, create, deletion, done, failed, row, some_user, update};

/// `complete`: applies while the version is the newest and has not been processed.
pub(crate) async fn a_version_is_completed_once_and_then_stale(store: Arc<dyn Store>) {
    let id = create(&*store, some_user(), "{}").await;
    assert_eq!(complete(&*store, done(id, 1, "12.30")).await, Completed::Applied);
    let order = row(&*store, id).await;
    assert_eq!((order.status, order.amount.to_string().as_str()), (Status::Done, "12.30"));
    assert_eq!((order.version, order.processed_version, order.is_pending()), (1, 1, false));

    assert_eq!(complete(&*store, done(id, 1, "99")).await, Completed::Stale);
    assert_eq!(complete(&*store, failed(id, 1, "late")).await, Completed::Stale);
    assert_eq!(row(&*store, id).await, order);
}

/// `complete`: a version that is not the newest changes nothing, processed or not.
pub(crate) async fn an_older_or_nonexistent_version_is_stale(store: Arc<dyn Store>) {
    let id = create(&*store, some_user(), "{}").await;
    accept(&*store, update(id, "[]")).await;
    let before = row(&*store, id).await;
    for version in [1, 3, 0, -1, i64::MAX] {
        assert_eq!(complete(&*store, done(id, version, "5")).await, Completed::Stale, "{version}");
        assert_eq!(row(&*store, id).await, before, "{version}");
    }
    assert_eq!(complete(&*store, done(id, 2, "5")).await, Completed::Applied);
}

/// `complete`: two versions can arrive in any order; the state is that of the newer one.
pub(crate) async fn the_newest_version_wins_when_it_is_completed_before_an_older_one(store: Arc<dyn Store>) {
    let id = create(&*store, some_user(), "{}").await;
    accept(&*store, update(id, "[]")).await;
    assert_eq!(complete(&*store, done(id, 2, "2")).await, Completed::Applied);
    let order = row(&*store, id).await;
    assert_eq!(complete(&*store, done(id, 1, "1")).await, Completed::Stale);
    assert_eq!(row(&*store, id).await, order);
    assert_eq!((order.amount, order.processed_version), (amount("2"), 2));
}

/// `complete`, then `apply`: the amount stays until the new content has been processed.
pub(crate) async fn an_update_makes_a_done_order_pending_again(store: Arc<dyn Store>) {
    let id = create(&*store, some_user(), "{}").await;
    complete(&*store, done(id, 1, "1.5")).await;
    accept(&*store, update(id, "[]")).await;
    let order = row(&*store, id).await;
    assert_eq!((order.status, order.amount), (Status::Processing, amount("1.5")));
    assert_eq!((order.version, order.processed_version), (2, 1));
    assert_eq!(complete(&*store, done(id, 2, "3")).await, Completed::Applied);
    let order = row(&*store, id).await;
    assert_eq!((order.status, order.amount, order.processed_version), (Status::Done, amount("3"), 2));
}

/// `complete`: one result per completion, in the order of the completions; a completion does not create an order.
pub(crate) async fn a_completion_of_an_unknown_order_is_unknown_and_others_apply(store: Arc<dyn Store>) {
    let user = some_user();
    let (left, right) = (create(&*store, user, "{}").await, create(&*store, user, "{}").await);
    let (old, unknown) = (create(&*store, user, "{}").await, OrderId::generate());
    complete(&*store, done(old, 1, "7")).await;
    let batch = [done(right, 1, "2"), done(unknown, 1, "3"), done(old, 1, "4"), done(left, 1, "1")];
    let answers = store.complete(Arc::new(batch)).await;
    let expected = vec![Completed::Applied, Completed::Unknown, Completed::Stale, Completed::Applied];
    assert_eq!(answers, Ok(expected));
    assert_eq!(row(&*store, left).await.amount, amount("1"));
    assert_eq!(row(&*store, right).await.amount, amount("2"));
    assert_eq!(row(&*store, old).await.amount, amount("7"));
    assert_eq!(store.get(unknown).await, Ok(None));
}

/// `complete`: the status changes only where the table allows it, so a deleted order stays deleted; its last version
/// still counts as processed, or it would be pending for ever.
pub(crate) async fn a_deleted_order_stays_deleted_while_its_last_version_is_processed(store: Arc<dyn Store>) {
    for status in [Status::Deleted, Status::Done, Status::Failed] {
        let id = create(&*store, some_user(), "{}").await;
        let event = accept(&*store, deletion(id)).await;
        assert_eq!(complete(&*store, done(id, 1, "5")).await, Completed::Stale);
        assert_eq!(row(&*store, id).await.processed_version, 0);

        let completion = Completion { status, amount: None, ..done(id, 2, "5") };
        assert_eq!(complete(&*store, completion).await, Completed::Applied);
        let order = row(&*store, id).await;
        assert_eq!((order.status, order.processed_version), (Status::Deleted, 2), "{status}");
        assert_eq!((order.deleted_at, order.reason), (Some(event.timestamp), None), "{status}");
    }
}

/// `Completion::amount`: `None` leaves the amount unchanged.
pub(crate) async fn a_completion_without_an_amount_leaves_the_amount(store: Arc<dyn Store>) {
    let id = create(&*store, some_user(), "{}").await;
    complete(&*store, done(id, 1, "8.10")).await;
    accept(&*store, update(id, "[]")).await;
    let completion = Completion { amount: None, ..done(id, 2, "0") };
    assert_eq!(complete(&*store, completion).await, Completed::Applied);
    let order = row(&*store, id).await;
    assert_eq!((order.status, order.amount.to_string().as_str()), (Status::Done, "8.10"));
}

/// `Order::reason`: set only where the status is failed; an update clears it.
pub(crate) async fn a_failed_order_has_a_reason_until_it_is_updated(store: Arc<dyn Store>) {
    let reason = "amount has more than 1000 digits\u{2028}\"'; Ж 😀";
    let id = create(&*store, some_user(), "{}").await;
    assert_eq!(complete(&*store, failed(id, 1, reason)).await, Completed::Applied);
    let order = row(&*store, id).await;
    assert_eq!((order.status, order.reason.as_deref()), (Status::Failed, Some(reason)));
    assert_eq!((order.processed_version, order.is_pending()), (1, false));

    accept(&*store, update(id, "[]")).await;
    let order = row(&*store, id).await;
    assert_eq!((order.status, order.reason), (Status::Processing, None));
}

/// `Order::reason`: set only where the status is failed.
pub(crate) async fn a_deleted_order_has_no_reason_of_an_earlier_failure(store: Arc<dyn Store>) {
    let id = create(&*store, some_user(), "{}").await;
    complete(&*store, failed(id, 1, "no")).await;
    accept(&*store, deletion(id)).await;
    let order = row(&*store, id).await;
    assert_eq!((order.status, order.reason), (Status::Deleted, None));
}

/// `Order::reason`: an order that was processed after a failure has no reason.
pub(crate) async fn a_failed_order_that_is_updated_is_done_without_a_reason(store: Arc<dyn Store>) {
    let id = create(&*store, some_user(), "{}").await;
    complete(&*store, failed(id, 1, "no")).await;
    accept(&*store, update(id, "[]")).await;
    assert_eq!(complete(&*store, done(id, 2, "1")).await, Completed::Applied);
    let order = row(&*store, id).await;
    assert_eq!((order.status, order.reason), (Status::Done, None));
}

/// `complete`: an empty batch has no results.
pub(crate) async fn an_empty_batch_of_completions_is_answered_with_nothing(store: Arc<dyn Store>) {
    assert_eq!(store.complete(Arc::new([])).await, Ok(Vec::new()));
}
