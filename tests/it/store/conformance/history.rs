//! The history: one step for each command that was accepted and each outcome that was recorded, and none for
//! anything else; read by order, or in the order of its places by readers that come back. A store may hold a step
//! back for a moment, while others are being written; so whoever reads here looks until it is there.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use orderstream::order::{
    Cause, HistoryCursor, HistoryEvent, HistoryOffset, Key, OrderId, Request, Scope, Status, UserId, Version,
};
use orderstream::store::{
    Accepted, Completed, Completion, Creation, MAX_PAGE_EVENTS, OrderHistoryPage, Precondition, Store,
};
use tokio::task::JoinSet;

use super::{
    accept, amount, apply, complete, create, creation, deletion, done, failed, payload, some_user, update,
};
use crate::harness::wait::until;

/// What a step tells of its order: version, cause, status, amount, reason.
type Told = (Version, Cause, Status, Option<String>, Option<String>);

fn told(step: &HistoryEvent) -> Told {
    let amount = step.amount.as_ref().map(ToString::to_string);
    (step.version, step.cause, step.status, amount, step.reason.clone())
}

fn command(version: Version, status: Status) -> Told {
    (version, Cause::Command, status, None, None)
}

fn outcome(version: Version, status: Status, amount: Option<&str>, reason: Option<&str>) -> Told {
    (version, Cause::Worker, status, amount.map(str::to_owned), reason.map(str::to_owned))
}

pub(super) async fn of_order(store: &dyn Store, order_id: OrderId) -> Vec<HistoryEvent> {
    store.history(order_id, HistoryCursor::default(), 1000).await.expect("the store reads").events
}

/// Reads on from a place until so many steps have come, in pages of a size, and a bit further.
pub(super) async fn read(
    store: &dyn Store,
    of: Scope,
    mut after: HistoryOffset,
    limit: usize,
    count: usize,
) -> Vec<HistoryEvent> {
    let mut steps: Vec<HistoryEvent> = Vec::new();
    until("the steps", async || {
        loop {
            let page = store.history_page(of, after, limit).await.expect("the store reads");
            assert!(page.events.len() <= limit && page.upto >= after, "{page:?} after {after}");
            assert!(page.events.iter().all(|step| step.offset > after && step.offset <= page.upto));
            assert!(page.events.iter().all(|step| of.includes(step.order_id, step.user_id)));
            steps.extend(page.events);
            after = page.upto;
            if !page.more {
                return (steps.len() >= count).then_some(());
            }
        }
    })
    .await;
    assert!(steps.is_sorted_by(|a, b| a.offset < b.offset), "{steps:?}");
    steps
}

/// Who waits for the end has nothing more to read.
async fn nothing_behind(store: &dyn Store, of: Scope, step: &HistoryEvent) {
    let page = store.history_page(of, step.offset, 10).await.expect("the store reads");
    assert_eq!((page.events, page.more), (Vec::new(), false));
}

/// `apply` and `complete`: a step is written with what it tells of, and tells it.
pub(crate) async fn each_command_and_each_outcome_is_a_step_of_its_order(store: Arc<dyn Store>) {
    let user = some_user();
    let event = accept(&*store, creation(user, "{}")).await;
    let (id, mut times) = (event.order_id.expect("the event names the order"), vec![event.timestamp]);
    complete(&*store, done(id, 1, "19.80")).await;
    times.push(super::row(&*store, id).await.updated_at);
    times.push(accept(&*store, update(id, "[]")).await.timestamp);
    complete(&*store, failed(id, 2, "no")).await;
    times.push(super::row(&*store, id).await.updated_at);
    times.push(accept(&*store, deletion(id)).await.timestamp);
    // The worker is done with the deletion, and the order stays what it is.
    assert_eq!(complete(&*store, done(id, 3, "7")).await, Completed::Applied);
    times.push(super::row(&*store, id).await.updated_at);

    let steps = of_order(&*store, id).await;
    assert_eq!(
        steps.iter().map(told).collect::<Vec<_>>(),
        [
            command(1, Status::New),
            outcome(1, Status::Done, Some("19.80"), None),
            command(2, Status::Processing),
            outcome(2, Status::Failed, None, Some("no")),
            command(3, Status::Deleted),
            outcome(3, Status::Deleted, None, None),
        ]
    );
    assert_eq!(steps.iter().map(|step| step.at).collect::<Vec<_>>(), times);
    assert!(steps.iter().all(|step| (step.order_id, step.user_id) == (id, user)));
    assert!(steps.is_sorted_by(|a, b| a.offset < b.offset), "{steps:?}");
    assert_eq!(read(&*store, Scope::All, HistoryOffset::default(), 100, 6).await, steps);
}

/// `apply` and `complete`: what is refused, stale or unknown changed nothing, and so is no step.
pub(crate) async fn what_changed_nothing_is_no_step(store: Arc<dyn Store>) {
    let user = some_user();
    let id = create(&*store, user, "{}").await;
    complete(&*store, done(id, 1, "1")).await;
    let before = of_order(&*store, id).await;
    assert_eq!(before.len(), 2);

    let taken = orderstream::order::Command::Create { order_id: id, user_id: user, payload: payload("[]") };
    assert!(apply(&*store, taken).await.is_err());
    assert!(apply(&*store, update(OrderId::generate(), "[]")).await.is_err());
    let strange =
        orderstream::order::Command::Delete { order_id: id, user_id: Some(some_user()), if_version: None };
    assert!(apply(&*store, strange).await.is_err());
    assert_eq!(complete(&*store, done(id, 1, "2")).await, Completed::Stale);
    assert_eq!(complete(&*store, done(id, 2, "2")).await, Completed::Stale);
    assert_eq!(complete(&*store, done(OrderId::generate(), 1, "2")).await, Completed::Unknown);
    assert_eq!(read(&*store, Scope::All, HistoryOffset::default(), 100, 2).await, before);
}

/// `apply`: a request that comes again under its key is not carried out again, and is no second step.
pub(crate) async fn a_request_that_comes_again_is_one_step(store: Arc<dyn Store>) {
    let key = Some(Key { digest: *OrderId::generate().as_bytes(), content: [7; 16] });
    let mut orders = Vec::new();
    for _ in 0..2 {
        let request = Request { command: creation(some_user(), "{}"), key };
        let answers = store.apply([request].into()).await.expect("the store takes the batch");
        orders.push(match &answers[0] {
            Ok(Accepted::Applied(event)) => event.order_id.expect("the event names the order"),
            Ok(Accepted::Replayed(earlier) | Accepted::AppliedWithoutEvent(earlier)) => earlier.order_id,
            Err(refusal) => panic!("{refusal}"),
        });
    }
    assert_eq!(orders[0], orders[1]);
    let steps = read(&*store, Scope::All, HistoryOffset::default(), 100, 1).await;
    assert_eq!(steps.iter().map(told).collect::<Vec<_>>(), [command(1, Status::New)]);
    assert_eq!(steps[0].order_id, orders[0]);
}

/// `complete`: an event from outside is a step that says so, of the version that the order has.
pub(crate) async fn an_event_from_outside_is_a_step_that_says_so(store: Arc<dyn Store>) {
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

    let asked = OrderId::generate();
    let precondition = Precondition::Creation(Box::new(Creation { user_id: user, payload: payload("{}") }));
    assert_eq!(
        complete(&*store, event(asked, precondition.clone(), Status::Done, "5")).await,
        Completed::Applied
    );
    assert_eq!(complete(&*store, event(asked, precondition, Status::Done, "5")).await, Completed::Stale);

    let event =
        |version, status, digits: &str| (version, Cause::Event, status, Some(digits.to_owned()), None);
    let steps = of_order(&*store, id).await;
    assert_eq!(
        steps.iter().map(told).collect::<Vec<_>>(),
        [command(1, Status::New), command(2, Status::Processing), event(2, Status::Cancelled, "3")]
    );
    let steps = of_order(&*store, asked).await;
    assert_eq!(steps.iter().map(told).collect::<Vec<_>>(), [event(1, Status::Done, "5")]);
    assert_eq!(steps[0].user_id, user);
}

/// `history`: the steps behind a cursor that belong to the next so many versions.
pub(crate) async fn a_history_is_read_by_versions(store: Arc<dyn Store>) {
    let id = create(&*store, some_user(), "{}").await;
    for version in 1..=5 {
        complete(&*store, done(id, version, "1")).await;
        accept(&*store, update(id, "[]")).await;
    }
    // Versions 1 to 5 have two steps each, and 6 has one.
    let all = of_order(&*store, id).await;
    let behind = HistoryCursor::behind;
    let within = |step: usize| HistoryCursor::within(all[step].version, all[step].offset);
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
        let versions: Vec<Version> = part.events.iter().map(|step| step.version).collect();
        assert_eq!(versions, expected, "after {after}");
    }
    assert_eq!(
        store.history(OrderId::generate(), HistoryCursor::default(), 10).await,
        Ok(OrderHistoryPage::default())
    );
}

/// `history`: at most [`MAX_PAGE_EVENTS`] steps at a time, however many a version has; `newest_history_event` reads one
/// alone.
pub(crate) async fn a_version_with_very_many_steps_is_read_in_part(store: Arc<dyn Store>) {
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
    let (mut after, mut lengths, mut steps) = (HistoryCursor::default(), Vec::new(), Vec::new());
    loop {
        let part = store.history(id, after, 10).await.expect("the store reads");
        lengths.push(part.events.len());
        steps.extend(part.events);
        match part.next {
            Some(next) => after = next,
            None => break,
        }
    }
    assert_eq!(lengths, [MAX_PAGE_EVENTS, MAX_PAGE_EVENTS, 2]);
    assert!(steps.is_sorted_by(|a, b| a.offset < b.offset), "a step comes twice");
    let versions = steps.iter().map(|step| step.version);
    assert!(versions.eq(std::iter::repeat_n(1, 2 * MAX_PAGE_EVENTS + 1).chain([2])));

    let newest = async |version| store.newest_history_event(id, version).await.expect("the store reads");
    for version in [1, 2] {
        assert_eq!(newest(version).await.as_ref().map(told), Some(command(2, Status::Processing)));
    }
    assert_eq!(newest(3).await, None);
}

/// `steps`: all, or an order's, or a user's, by ascending place, at most `limit` at a time.
pub(crate) async fn steps_come_in_pages_whoever_asks_for_whose(store: Arc<dyn Store>) {
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
    let mine = |of: Scope| all.iter().filter(move |step| of.includes(step.order_id, step.user_id)).cloned();
    let nobody = [Scope::Order(OrderId::generate()), Scope::User(some_user())];
    let orders = orders.into_iter().map(Scope::Order);
    for of in orders.chain(users.map(Scope::User)).chain(nobody).chain([Scope::All]) {
        let expected: Vec<HistoryEvent> = mine(of).collect();
        for limit in [1, 2, 5, 18, 100] {
            let steps = read(&*store, of, HistoryOffset::default(), limit, expected.len()).await;
            assert_eq!(steps, expected, "{of:?} by {limit}");
        }
        // From the middle on, too.
        let behind: Vec<HistoryEvent> =
            expected.iter().filter(|step| step.offset > all[8].offset).cloned().collect();
        assert_eq!(read(&*store, of, all[8].offset, 2, behind.len()).await, behind, "{of:?}");
        nothing_behind(&*store, of, &all[17]).await;
    }
    // A reader of whom nothing is told comes as far as all others.
    for of in nobody {
        let page = store.history_page(of, HistoryOffset::default(), 10).await.expect("the store reads");
        assert!(page.upto >= all[17].offset && !page.more, "{page:?}");
    }
}

/// `steps`: a page of one user's steps looks at a bounded number of others, and says where it has come to: a reader
/// goes on there until it finds what is behind them.
pub(crate) async fn a_user_is_told_of_a_step_behind_ten_thousand_of_others(store: Arc<dyn Store>) {
    /// More than a page looks at, twice.
    const OTHERS: usize = 21_000;
    let (user, other) = (some_user(), some_user());
    let first = create(&*store, user, "1").await;
    for _ in 0..OTHERS / 1000 {
        let batch: Vec<_> = (0..1000).map(|_| creation(other, "0")).collect();
        assert!(super::apply_all(&*store, batch).await.iter().all(Result::is_ok));
    }
    let last = create(&*store, user, "2").await;
    let of = Scope::User(user);
    let steps = read(&*store, of, HistoryOffset::default(), 10, 2).await;
    assert_eq!(steps.iter().map(|step| step.order_id).collect::<Vec<_>>(), [first, last]);
    // Page by page: each one that finds nothing comes nearer.
    let (mut after, mut pages) = (steps[0].offset, 0);
    loop {
        let page = store.history_page(of, after, 10).await.expect("the store reads");
        pages += 1;
        if !page.events.is_empty() {
            assert_eq!(page.events, steps[1..]);
            break;
        }
        assert!(page.more && page.upto > after, "{page:?} after {after}");
        after = page.upto;
    }
    assert!(pages >= 3, "a page looks at a bounded number of others: {pages}");
}

/// `history_end`: nothing that was read lies behind it, and all that is to come does.
pub(crate) async fn all_steps_to_come_are_behind_the_end(store: Arc<dyn Store>) {
    let user = some_user();
    let first = create(&*store, user, "{}").await;
    let seen = read(&*store, Scope::All, HistoryOffset::default(), 10, 1).await;
    for n in 1..20 {
        let end = store.history_end().await.expect("the store reads");
        assert!(end >= seen[0].offset, "{end} is before what was read");
        let id = create(&*store, user, "{}").await;
        accept(&*store, update(id, &n.to_string())).await;
        for of in [Scope::All, Scope::User(user), Scope::Order(id)] {
            let steps = until("the steps behind the end", async || {
                let page = store.history_page(of, end, 100).await.expect("the store reads");
                (page.events.iter().filter(|step| step.order_id == id).count() == 2).then_some(page.events)
            })
            .await;
            assert!(steps.iter().all(|step| step.order_id != first), "{steps:?}");
        }
    }
}

/// `steps`: whoever has read up to a place has missed nothing before it, however many write meanwhile.
pub(crate) async fn a_reader_that_comes_back_misses_nothing_and_sees_nothing_twice(store: Arc<dyn Store>) {
    const WRITERS: usize = 12;
    const ROUNDS: Version = 15;
    const STEPS: usize = 3 * ROUNDS as usize;
    async fn write(store: Arc<dyn Store>, user: UserId) -> OrderId {
        let id = create(&*store, user, "{}").await;
        for version in 1..=ROUNDS {
            complete(&*store, done(id, version, "1")).await;
            accept(&*store, update(id, "[]")).await;
            // A bystander, so that batches differ in size.
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
        read(&*store, Scope::All, HistoryOffset::default(), 7, WRITERS * (STEPS + 1)),
        read(&*store, Scope::User(user), HistoryOffset::default(), 3, STEPS + 1),
    );
    let orders = writers.join_all().await;
    assert_eq!((all.len(), users.len()), (WRITERS * (STEPS + 1), STEPS + 1));
    assert_eq!(users, all.iter().filter(|step| step.user_id == user).cloned().collect::<Vec<_>>());
    for id in orders {
        let seen: Vec<HistoryEvent> = all.iter().filter(|step| step.order_id == id).cloned().collect();
        assert_eq!(seen.len(), 1 + 2 * ROUNDS as usize);
        assert_eq!(seen, of_order(&*store, id).await, "the steps of one order come in its own order");
    }
}
