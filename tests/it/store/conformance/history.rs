//! The history: one event for each accepted command and each recorded outcome, and no others. It is read by order, or
//! by offset, by readers that return. A store may withhold an event for a moment while earlier ones are being written,
//! so the tests read until the event is there.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use orderstream::order::{
    Cause, CommandRequest, HistoryCursor, HistoryEvent, HistoryOffset, Key, OrderId, Scope, Status, UserId,
    Version,
};
use orderstream::store::{
    Accepted, Completed, Completion, Creation, MAX_PAGE_EVENTS, OrderHistoryPage, Precondition, Store,
};
use tokio::task::JoinSet;

use super::{
    accept, amount, apply, complete, create, creation, deletion, done, failed, payload, some_user, update,
};
use crate::harness::wait::until;

/// The content of a history event: version, cause, status, amount, reason.
type Summary = (Version, Cause, Status, Option<String>, Option<String>);

fn summary(event: &HistoryEvent) -> Summary {
    let amount = event.amount.as_ref().map(ToString::to_string);
    (event.version, event.cause, event.status, amount, event.reason.clone())
}

fn command(version: Version, status: Status) -> Summary {
    (version, Cause::Command, status, None, None)
}

fn outcome(version: Version, status: Status, amount: Option<&str>, reason: Option<&str>) -> Summary {
    (version, Cause::Worker, status, amount.map(str::to_owned), reason.map(str::to_owned))
}

pub(super) async fn of_order(store: &dyn Store, order_id: OrderId) -> Vec<HistoryEvent> {
    store.history(order_id, HistoryCursor::default(), 1000).await.expect("the store reads").events
}

/// Reads from an offset, in pages of `limit` events, until at least `count` events have come and the last page is read.
pub(super) async fn read(
    store: &dyn Store,
    of: Scope,
    mut after: HistoryOffset,
    limit: usize,
    count: usize,
) -> Vec<HistoryEvent> {
    let mut events: Vec<HistoryEvent> = Vec::new();
    until("the history events", async || {
        loop {
            let page = store.history_page(of, after, limit).await.expect("the store reads");
            assert!(page.events.len() <= limit && page.upto >= after, "{page:?} after {after}");
            assert!(page.events.iter().all(|event| event.offset > after && event.offset <= page.upto));
            assert!(page.events.iter().all(|event| of.includes(event.order_id, event.user_id)));
            events.extend(page.events);
            after = page.upto;
            if !page.more {
                return (events.len() >= count).then_some(());
            }
        }
    })
    .await;
    assert!(events.is_sorted_by(|a, b| a.offset < b.offset), "{events:?}");
    events
}

/// Asserts that there are no events behind this one.
async fn assert_is_last(store: &dyn Store, of: Scope, event: &HistoryEvent) {
    let page = store.history_page(of, event.offset, 10).await.expect("the store reads");
    assert_eq!((page.events, page.more), (Vec::new(), false));
}

/// `apply` and `complete`: a history event is written with its change, and has the change's content.
pub(crate) async fn each_command_and_outcome_is_a_history_event_of_its_order(store: Arc<dyn Store>) {
    let user = some_user();
    let event = accept(&*store, creation(user, "{}")).await;
    let (id, mut times) = (event.order_id.expect("the event names the order"), vec![event.timestamp]);
    complete(&*store, done(id, 1, "19.80")).await;
    times.push(super::row(&*store, id).await.updated_at);
    times.push(accept(&*store, update(id, "[]")).await.timestamp);
    complete(&*store, failed(id, 2, "no")).await;
    times.push(super::row(&*store, id).await.updated_at);
    times.push(accept(&*store, deletion(id)).await.timestamp);
    // The worker completes the deletion, and the order stays deleted.
    assert_eq!(complete(&*store, done(id, 3, "7")).await, Completed::Applied);
    times.push(super::row(&*store, id).await.updated_at);

    let events = of_order(&*store, id).await;
    assert_eq!(
        events.iter().map(summary).collect::<Vec<_>>(),
        [
            command(1, Status::New),
            outcome(1, Status::Done, Some("19.80"), None),
            command(2, Status::Processing),
            outcome(2, Status::Failed, None, Some("no")),
            command(3, Status::Deleted),
            outcome(3, Status::Deleted, None, None),
        ]
    );
    assert_eq!(events.iter().map(|event| event.at).collect::<Vec<_>>(), times);
    assert!(events.iter().all(|event| (event.order_id, event.user_id) == (id, user)));
    assert!(events.is_sorted_by(|a, b| a.offset < b.offset), "{events:?}");
    assert_eq!(read(&*store, Scope::All, HistoryOffset::default(), 100, 6).await, events);
}

/// `apply` and `complete`: a refused, stale or unknown write changes no row, so it is not a history event.
pub(crate) async fn a_write_without_a_change_is_not_a_history_event(store: Arc<dyn Store>) {
    let user = some_user();
    let id = create(&*store, user, "{}").await;
    complete(&*store, done(id, 1, "1")).await;
    let before = of_order(&*store, id).await;
    assert_eq!(before.len(), 2);

    let duplicate =
        orderstream::order::Command::Create { order_id: id, user_id: user, payload: payload("[]") };
    assert!(apply(&*store, duplicate).await.is_err());
    assert!(apply(&*store, update(OrderId::generate(), "[]")).await.is_err());
    let foreign =
        orderstream::order::Command::Delete { order_id: id, user_id: Some(some_user()), if_version: None };
    assert!(apply(&*store, foreign).await.is_err());
    assert_eq!(complete(&*store, done(id, 1, "2")).await, Completed::Stale);
    assert_eq!(complete(&*store, done(id, 2, "2")).await, Completed::Stale);
    assert_eq!(complete(&*store, done(OrderId::generate(), 1, "2")).await, Completed::Unknown);
    assert_eq!(read(&*store, Scope::All, HistoryOffset::default(), 100, 2).await, before);
}

/// `apply`: a repeated request with its key is not executed again, and has no second history event.
pub(crate) async fn a_repeated_request_is_one_history_event(store: Arc<dyn Store>) {
    let key = Some(Key { digest: *OrderId::generate().as_bytes(), content: [7; 16] });
    let mut orders = Vec::new();
    for _ in 0..2 {
        let request = CommandRequest { command: creation(some_user(), "{}"), key };
        let answers = store.apply([request].into()).await.expect("the store takes the batch");
        orders.push(match &answers[0] {
            Ok(Accepted::Applied(event)) => event.order_id.expect("the event names the order"),
            Ok(Accepted::Replayed(replayed) | Accepted::AppliedWithoutEvent(replayed)) => replayed.order_id,
            Err(refusal) => panic!("{refusal}"),
        });
    }
    assert_eq!(orders[0], orders[1]);
    let events = read(&*store, Scope::All, HistoryOffset::default(), 100, 1).await;
    assert_eq!(events.iter().map(summary).collect::<Vec<_>>(), [command(1, Status::New)]);
    assert_eq!(events[0].order_id, orders[0]);
}

/// `complete`: an event from outside is a history event with the cause `Event`, of the order's current version.
pub(crate) async fn an_event_from_outside_is_a_history_event_with_its_own_cause(store: Arc<dyn Store>) {
    let user = some_user();
    let id = create(&*store, user, "{}").await;
    accept(&*store, update(id, "[]")).await;
    let event = |order_id, precondition, status, digits| {
        let amount = Some(amount(digits));
        Completion { order_id, precondition, status, amount, reason: None }
    };
    let sent = Precondition::Unversioned("2100-01-01T00:00:00Z".parse().expect("a time"));
    assert_eq!(complete(&*store, event(id, sent.clone(), Status::Cancelled, "3")).await, Completed::Applied);
    assert_eq!(complete(&*store, event(id, sent, Status::Cancelled, "3")).await, Completed::Stale);

    let created = OrderId::generate();
    let precondition = Precondition::Creation(Box::new(Creation { user_id: user, payload: payload("{}") }));
    assert_eq!(
        complete(&*store, event(created, precondition.clone(), Status::Done, "5")).await,
        Completed::Applied
    );
    assert_eq!(complete(&*store, event(created, precondition, Status::Done, "5")).await, Completed::Stale);

    let event =
        |version, status, digits: &str| (version, Cause::Event, status, Some(digits.to_owned()), None);
    let events = of_order(&*store, id).await;
    assert_eq!(
        events.iter().map(summary).collect::<Vec<_>>(),
        [command(1, Status::New), command(2, Status::Processing), event(2, Status::Cancelled, "3")]
    );
    let events = of_order(&*store, created).await;
    assert_eq!(events.iter().map(summary).collect::<Vec<_>>(), [event(1, Status::Done, "5")]);
    assert_eq!(events[0].user_id, user);
}

/// `history`: the events behind a cursor that belong to the next `versions` versions.
pub(crate) async fn a_history_is_read_by_versions(store: Arc<dyn Store>) {
    let id = create(&*store, some_user(), "{}").await;
    for version in 1..=5 {
        complete(&*store, done(id, version, "1")).await;
        accept(&*store, update(id, "[]")).await;
    }
    // Versions 1 to 5 have two events each, and version 6 has one.
    let all = of_order(&*store, id).await;
    let behind = HistoryCursor::behind;
    let within = |index: usize| HistoryCursor::within(all[index].version, all[index].offset);
    for (after, versions, expected) in [
        (behind(0), 2, vec![1, 1, 2, 2]),
        (behind(2), 3, vec![3, 3, 4, 4, 5, 5]),
        (behind(4), u32::MAX, vec![5, 5, 6]),
        (behind(5), 1, vec![6]),
        (behind(6), 10, vec![]),
        (behind(0), 0, vec![]),
        (behind(Version::MAX), 10, vec![]),
        (within(0), 1, vec![1]),
        (within(0), 2, vec![1, 2, 2]),
        (within(1), 1, vec![]),
        (within(8), 10, vec![5, 6]),
        (HistoryCursor::within(3, HistoryOffset::default()), 1, vec![3, 3]),
    ] {
        let part = store.history(id, after, versions).await.expect("the store reads");
        assert_eq!(part.next, None);
        let versions: Vec<Version> = part.events.iter().map(|event| event.version).collect();
        assert_eq!(versions, expected, "after {after}");
    }
    assert_eq!(
        store.history(OrderId::generate(), HistoryCursor::default(), 10).await,
        Ok(OrderHistoryPage::default())
    );
}

/// `history`: at most [`MAX_PAGE_EVENTS`] events at a time, also of a version that has more; `newest_history_event`
/// reads only one.
pub(crate) async fn a_version_with_very_many_history_events_is_read_in_pages(store: Arc<dyn Store>) {
    let id = create(&*store, some_user(), "{}").await;
    let began: Timestamp = "2100-01-01T00:00:00Z".parse().expect("a time");
    for second in 0..2 * MAX_PAGE_EVENTS {
        let sent = began + Duration::from_secs(second as u64);
        let (precondition, amount) = (Precondition::Unversioned(sent), Some(amount("3")));
        let event =
            Completion { order_id: id, precondition, status: Status::Cancelled, amount, reason: None };
        assert_eq!(complete(&*store, event).await, Completed::Applied);
    }
    accept(&*store, update(id, "[]")).await;

    // The creation, all events, and the update.
    let (mut after, mut lengths, mut events) = (HistoryCursor::default(), Vec::new(), Vec::new());
    loop {
        let part = store.history(id, after, 10).await.expect("the store reads");
        lengths.push(part.events.len());
        events.extend(part.events);
        match part.next {
            Some(next) => after = next,
            None => break,
        }
    }
    assert_eq!(lengths, [MAX_PAGE_EVENTS, MAX_PAGE_EVENTS, 2]);
    assert!(events.is_sorted_by(|a, b| a.offset < b.offset), "a history event is read twice");
    let versions = events.iter().map(|event| event.version);
    assert!(versions.eq(std::iter::repeat_n(1, 2 * MAX_PAGE_EVENTS + 1).chain([2])));

    let newest = async |version| store.newest_history_event(id, version).await.expect("the store reads");
    for version in [1, 2] {
        assert_eq!(newest(version).await.as_ref().map(summary), Some(command(2, Status::Processing)));
    }
    assert_eq!(newest(3).await, None);
}

/// `history_page`: all events, or an order's, or a user's, by ascending offset, at most `limit` at a time.
pub(crate) async fn history_events_are_paged_in_every_scope(store: Arc<dyn Store>) {
    let users = [some_user(), some_user()];
    let mut orders = Vec::new();
    for n in 0..6 {
        let id = create(&*store, users[n % 2], "{}").await;
        accept(&*store, update(id, "[]")).await;
        complete(&*store, done(id, 2, "1")).await;
        orders.push(id);
    }
    let all = read(&*store, Scope::All, HistoryOffset::default(), 100, 18).await;
    assert_eq!(all.len(), 18);
    let in_scope =
        |of: Scope| all.iter().filter(move |event| of.includes(event.order_id, event.user_id)).cloned();
    let empty = [Scope::Order(OrderId::generate()), Scope::User(some_user())];
    let orders = orders.into_iter().map(Scope::Order);
    for of in orders.chain(users.map(Scope::User)).chain(empty).chain([Scope::All]) {
        let expected: Vec<HistoryEvent> = in_scope(of).collect();
        for limit in [1, 2, 5, 18, 100] {
            let events = read(&*store, of, HistoryOffset::default(), limit, expected.len()).await;
            assert_eq!(events, expected, "{of:?} by {limit}");
        }
        // Also from the middle.
        let behind: Vec<HistoryEvent> =
            expected.iter().filter(|event| event.offset > all[8].offset).cloned().collect();
        assert_eq!(read(&*store, of, all[8].offset, 2, behind.len()).await, behind, "{of:?}");
        assert_is_last(&*store, of, &all[17]).await;
    }
    // A reader of a scope without events reaches the same offset as all others.
    for of in empty {
        let page = store.history_page(of, HistoryOffset::default(), 10).await.expect("the store reads");
        assert!(page.upto >= all[17].offset && !page.more, "{page:?}");
    }
}

/// `history_page`: a page of one user's events scans a bounded number of other events, and names the offset that it has
/// reached: a reader continues from there until it finds the events behind them.
pub(crate) async fn a_user_sees_a_history_event_behind_ten_thousand_others(store: Arc<dyn Store>) {
    /// More than two pages scan.
    const OTHERS: usize = 21_000;
    let (user, other) = (some_user(), some_user());
    let first = create(&*store, user, "1").await;
    for _ in 0..OTHERS / 1000 {
        let batch: Vec<_> = (0..1000).map(|_| creation(other, "0")).collect();
        assert!(super::apply_all(&*store, batch).await.iter().all(Result::is_ok));
    }
    let last = create(&*store, user, "2").await;
    let of = Scope::User(user);
    let events = read(&*store, of, HistoryOffset::default(), 10, 2).await;
    assert_eq!(events.iter().map(|event| event.order_id).collect::<Vec<_>>(), [first, last]);
    // Page by page: each empty page reaches a higher offset.
    let (mut after, mut pages) = (events[0].offset, 0);
    loop {
        let page = store.history_page(of, after, 10).await.expect("the store reads");
        pages += 1;
        if !page.events.is_empty() {
            assert_eq!(page.events, events[1..]);
            break;
        }
        assert!(page.more && page.upto > after, "{page:?} after {after}");
        after = page.upto;
    }
    assert!(pages >= 3, "a page scans a bounded number of other events: {pages}");
}

/// `history_end`: no event that was read is behind it, and all later events are.
pub(crate) async fn all_later_history_events_are_behind_the_end(store: Arc<dyn Store>) {
    let user = some_user();
    let first = create(&*store, user, "{}").await;
    let seen = read(&*store, Scope::All, HistoryOffset::default(), 10, 1).await;
    for n in 1..20 {
        let end = store.history_end().await.expect("the store reads");
        assert!(end >= seen[0].offset, "{end} is before an event that was read");
        let id = create(&*store, user, "{}").await;
        accept(&*store, update(id, &n.to_string())).await;
        for of in [Scope::All, Scope::User(user), Scope::Order(id)] {
            let events = until("the history events behind the end", async || {
                let page = store.history_page(of, end, 100).await.expect("the store reads");
                (page.events.iter().filter(|event| event.order_id == id).count() == 2).then_some(page.events)
            })
            .await;
            assert!(events.iter().all(|event| event.order_id != first), "{events:?}");
        }
    }
}

/// `history_page`: a reader that has read up to an offset has not missed an event before it, with any number of
/// concurrent writers.
pub(crate) async fn a_returning_reader_sees_each_history_event_once(store: Arc<dyn Store>) {
    const WRITERS: usize = 12;
    const UPDATES: Version = 15;
    const EVENTS: usize = 3 * UPDATES as usize;
    async fn write(store: Arc<dyn Store>, user: UserId) -> OrderId {
        let id = create(&*store, user, "{}").await;
        for version in 1..=UPDATES {
            complete(&*store, done(id, version, "1")).await;
            accept(&*store, update(id, "[]")).await;
            // Another order, so that batches differ in size.
            create(&*store, user, "{}").await;
        }
        id
    }
    let user = some_user();
    let mut writers = JoinSet::new();
    for n in 0..WRITERS {
        writers.spawn(write(Arc::clone(&store), if n == 0 { user } else { some_user() }));
    }
    let (all, users) = tokio::join!(
        read(&*store, Scope::All, HistoryOffset::default(), 7, WRITERS * (EVENTS + 1)),
        read(&*store, Scope::User(user), HistoryOffset::default(), 3, EVENTS + 1),
    );
    let orders = writers.join_all().await;
    assert_eq!((all.len(), users.len()), (WRITERS * (EVENTS + 1), EVENTS + 1));
    assert_eq!(users, all.iter().filter(|event| event.user_id == user).cloned().collect::<Vec<_>>());
    for id in orders {
        let seen: Vec<HistoryEvent> = all.iter().filter(|event| event.order_id == id).cloned().collect();
        assert_eq!(seen.len(), 1 + 2 * UPDATES as usize);
        assert_eq!(
            seen,
            of_order(&*store, id).await,
            "the history events of one order are not in its own order"
        );
    }
}
