//! The list of pending events: it is complete, its events equal the accepted ones, it is read in pages, and it is empty
//! when all orders are processed. The relay finds all unpublished events here, also after a crash.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use orderstream::order::{CommandRequest, Event, OrderId, Status};
use orderstream::store::{Accepted, Completed, MAX_RETURNED_BYTES, Store};

use super::{accept, apply_all, complete, create, creation, deletion, done, row, some_user, update};

/// Every event that is pending and older than a time, in pages of that size.
async fn walk(store: &dyn Store, before: Timestamp, limit: usize) -> Vec<Event> {
    let mut events = Vec::new();
    let mut cursor = None;
    loop {
        let page = store.pending(before, cursor, limit).await.expect("the store reads");
        assert!(page.events.len() <= limit, "{} events are more than {limit}", page.events.len());
        events.extend(page.events);
        assert!(page.next.is_none() || page.next != cursor, "the next page begins where this one did");
        match page.next {
            Some(next) => cursor = Some(next),
            None => return events,
        }
    }
}

/// A time after all changes of the store.
fn far() -> Timestamp {
    Timestamp::MAX
}

/// `pending`: an order is on the list while `processed_version` is behind `version`.
pub(crate) async fn an_order_is_pending_until_its_version_is_completed(store: Arc<dyn Store>) {
    assert_eq!(walk(&*store, far(), 10).await, []);
    let id = create(&*store, some_user(), "{}").await;
    let listed = async || -> Vec<_> {
        walk(&*store, far(), 10).await.into_iter().map(|event| (event.order_id, event.version)).collect()
    };
    assert_eq!(listed().await, [(Some(id), Some(1))]);
    complete(&*store, done(id, 1, "1")).await;
    assert_eq!(listed().await, []);

    accept(&*store, update(id, "[]")).await;
    assert_eq!(complete(&*store, done(id, 1, "1")).await, Completed::Stale);
    assert_eq!(listed().await, [(Some(id), Some(2))]);
    accept(&*store, deletion(id)).await;
    assert_eq!(complete(&*store, done(id, 2, "1")).await, Completed::Stale);
    assert_eq!(listed().await, [(Some(id), Some(3))]);
    complete(&*store, done(id, 3, "1")).await;
    assert_eq!(listed().await, []);
}

/// `apply`: the payloads that deletions return are bounded; deletions beyond the bound are executed, too, and their
/// events stay pending.
pub(crate) async fn deletions_that_would_return_too_much_leave_their_events_pending(store: Arc<dyn Store>) {
    const COUNT: usize = 12;
    let text = format!("\"{}\"", "x".repeat(MAX_RETURNED_BYTES / 8));
    let mut ids = Vec::new();
    for _ in 0..COUNT {
        let id = create(&*store, some_user(), &text).await;
        complete(&*store, done(id, 1, "1")).await;
        ids.push(id);
    }
    let small = create(&*store, some_user(), "1").await;
    complete(&*store, done(small, 1, "1")).await;
    ids.push(small);
    let batch = ids.iter().map(|id| CommandRequest::from(deletion(*id))).collect();
    let answers = store.apply(batch).await.expect("the store takes the batch");
    let (mut returned, mut left) = (0, 0);
    for (answer, id) in answers.into_iter().zip(&ids) {
        match answer.expect("nothing is refused") {
            Accepted::Applied(event) if *id == small => assert_eq!(event.payload.as_str(), "1"),
            Accepted::Applied(event) => {
                assert_eq!((event.order_id, event.payload.as_str()), (Some(*id), text.as_str()));
                returned += event.payload.as_str().len();
            }
            Accepted::AppliedWithoutEvent(done) => {
                assert_ne!(*id, small, "its event fits");
                assert_eq!((done.order_id, done.version, done.status), (*id, 2, Status::Deleted));
                left += 1;
            }
            Accepted::Replayed(replayed) => panic!("{replayed:?}"),
        }
    }
    assert!(
        returned > MAX_RETURNED_BYTES / 2 && returned <= MAX_RETURNED_BYTES && left > 0,
        "{returned}, {left} left"
    );
    let mut pending = walk(&*store, far(), COUNT).await;
    assert!(pending.iter().all(|event| event.status == Status::Deleted));
    assert_eq!(pending.iter().filter(|event| event.payload.as_str() == text).count(), COUNT);
    pending.sort_by_key(|event| event.order_id);
    ids.sort_unstable();
    assert_eq!(pending.iter().filter_map(|event| event.order_id).collect::<Vec<_>>(), ids);
}

/// `pending`: the event that is built from the order equals the event in the answer to the command.
pub(crate) async fn a_pending_event_equals_the_one_that_was_accepted(store: Arc<dyn Store>) {
    let user = some_user();
    let text = r#"{"n": 12345678901234567890.10, "id": "A/Ж"}"#;
    let created = accept(&*store, creation(user, text)).await;
    let id = create(&*store, user, r#"{"id": "old"}"#).await;
    let updated = accept(&*store, update(id, text)).await;
    let id = create(&*store, user, text).await;
    complete(&*store, done(id, 1, "5")).await;
    let deleted = accept(&*store, deletion(id)).await;

    let mut expected = [created, updated, deleted];
    let mut listed = walk(&*store, far(), 10).await;
    expected.sort_by_key(|event| event.order_id);
    listed.sort_by_key(|event| event.order_id);
    assert_eq!(listed, expected);
}

/// `pending`: a page begins behind the cursor; orders of one batch share a time, and none is skipped.
pub(crate) async fn pages_walk_every_pending_order_exactly_once(store: Arc<dyn Store>) {
    let mut expected: Vec<OrderId> = Vec::new();
    for size in [1, 25, 3] {
        let batch: Vec<_> = (0..size).map(|_| creation(some_user(), "{}")).collect();
        expected.extend(batch.iter().map(orderstream::order::Command::order_id));
        apply_all(&*store, batch).await;
    }
    // One order was completed, and one moved to the end.
    complete(&*store, done(expected.remove(5), 1, "1")).await;
    accept(&*store, update(expected[2], "[]")).await;
    expected.sort();

    for limit in [1, 7, 14, 28, 100] {
        let listed = walk(&*store, far(), limit).await;
        let mut ids: Vec<OrderId> = listed.iter().filter_map(|event| event.order_id).collect();
        ids.sort();
        assert_eq!(ids, expected, "pages of {limit}");
    }
}

/// `pending`: only orders that have not changed since `before`.
pub(crate) async fn orders_changed_since_a_time_are_left_out(store: Arc<dyn Store>) {
    let user = some_user();
    let old = create(&*store, user, "{}").await;
    let newer = create(&*store, user, "{}").await;
    let moved = create(&*store, user, "{}").await;
    accept(&*store, update(moved, "[]")).await;
    let mut all = Vec::new();
    for id in [old, newer, moved] {
        all.push((row(&*store, id).await.updated_at, Some(id)));
    }
    let moment = SignedDuration::from_micros(1);
    let mut times: Vec<Timestamp> = all.iter().map(|(time, _)| *time).collect();
    times.extend([times[0] - moment, times[2] + moment]);
    for before in times {
        let mut expected: Vec<_> = all.iter().filter(|(time, _)| *time < before).collect();
        expected.sort();
        let listed = walk(&*store, before, 10).await;
        let mut found: Vec<_> = listed.iter().map(|event| (event.timestamp, event.order_id)).collect();
        found.sort();
        assert_eq!(found, expected.into_iter().copied().collect::<Vec<_>>(), "before {before}");
    }
}
