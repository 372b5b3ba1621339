//! Lists: the orders that a filter finds, the newest first, each exactly once in a walk through all pages. A store may
//! return pages that are not full; a walk ends where there is no next page.

use std::sync::Arc;

use orderstream::order::{Command, Filter, Order, OrderId, Status, UserId};
use orderstream::store::Store;

use super::{accept, apply_all, complete, create, creation, deletion, done, failed, row, some_user, update};

/// All orders that a filter finds, page by page.
async fn walk(store: &dyn Store, filter: &Filter, limit: usize) -> Vec<Order> {
    let (mut orders, mut after) = (Vec::new(), None);
    loop {
        let page = store.list(filter, after, limit).await.expect("the store reads");
        assert!(page.orders.len() <= limit);
        orders.extend(page.orders);
        after = page.next;
        if after.is_none() {
            return orders;
        }
    }
}

/// The ids of the orders that a filter finds, which are the same in large pages and in pages of two.
async fn found(store: &dyn Store, filter: &Filter) -> Vec<OrderId> {
    let whole: Vec<OrderId> = walk(store, filter, 100).await.iter().map(|order| order.id).collect();
    let pages: Vec<OrderId> = walk(store, filter, 2).await.iter().map(|order| order.id).collect();
    assert_eq!(whole, pages, "{filter:?}");
    whole
}

/// The ids with the last one first.
fn newest_first<const N: usize>(mut ids: [OrderId; N]) -> [OrderId; N] {
    ids.reverse();
    ids
}

fn of(user_id: UserId) -> Filter {
    Filter { user_id: Some(user_id), ..Filter::default() }
}

/// `list`: without a filter all orders, each as `get` answers it, the newest first.
pub(crate) async fn all_orders_are_listed_the_newest_first(store: Arc<dyn Store>) {
    assert_eq!(walk(&*store, &Filter::default(), 2).await, []);
    let mut ids = Vec::new();
    for n in 0..5 {
        ids.push(create(&*store, some_user(), &format!(r#"{{"id": "A-{n}"}}"#)).await);
    }
    // A change does not change the position of an order.
    accept(&*store, update(ids[1], "[1]")).await;
    complete(&*store, done(ids[2], 1, "2.50")).await;
    let orders = walk(&*store, &Filter::default(), 3).await;
    ids.reverse();
    assert_eq!(orders.iter().map(|order| order.id).collect::<Vec<_>>(), ids);
    for order in orders {
        assert_eq!(order, row(&*store, order.id).await);
    }
}

/// `list`: a user's orders, and no other user's.
pub(crate) async fn a_users_orders_are_listed_and_no_others(store: Arc<dyn Store>) {
    let (one, other) = (some_user(), some_user());
    let mut ids = Vec::new();
    for n in 0..4 {
        ids.push(create(&*store, one, &format!(r#"{{"id": {n}}}"#)).await);
        create(&*store, other, "{}").await;
    }
    ids.reverse();
    assert_eq!(found(&*store, &of(one)).await, ids);
    assert_eq!(found(&*store, &of(other)).await.len(), 4);
    assert_eq!(found(&*store, &of(some_user())).await, []);
}

/// `list`: the orders with a current status, also together with a user.
pub(crate) async fn a_status_filter_uses_the_current_status(store: Arc<dyn Store>) {
    let (user, other) = (some_user(), some_user());
    let new = create(&*store, user, "{}").await;
    let finished = create(&*store, user, "{}").await;
    let broken = create(&*store, user, "{}").await;
    let others = create(&*store, other, "{}").await;
    let updated = create(&*store, user, "{}").await;
    for id in [finished, others, updated] {
        complete(&*store, done(id, 1, "1")).await;
    }
    complete(&*store, failed(broken, 1, "no amount")).await;
    accept(&*store, update(updated, "[]")).await;

    let filter = |user_id, status| Filter { user_id, status: Some(status), ..Filter::default() };
    for (status, of_all, of_user) in [
        (Status::New, vec![new], vec![new]),
        (Status::Done, vec![others, finished], vec![finished]),
        (Status::Failed, vec![broken], vec![broken]),
        (Status::Processing, vec![updated], vec![updated]),
        (Status::Cancelled, vec![], vec![]),
    ] {
        assert_eq!(found(&*store, &filter(None, status)).await, of_all, "{status}");
        assert_eq!(found(&*store, &filter(Some(user), status)).await, of_user, "{status}");
    }
}

/// `list`: every order of a user that has an external id now, not only the newest.
pub(crate) async fn every_order_of_a_user_with_an_external_id_is_listed(store: Arc<dyn Store>) {
    let user = some_user();
    let with_id = |id: &str| Filter { external_id: Some(id.to_owned()), ..of(user) };
    let first = create(&*store, user, r#"{"id": "A"}"#).await;
    let second = create(&*store, user, r#"{"id": "A"}"#).await;
    create(&*store, some_user(), r#"{"id": "A"}"#).await;
    let third = create(&*store, user, r#"{"id": "B"}"#).await;
    assert_eq!(found(&*store, &with_id("A")).await, newest_first([first, second]));
    // One order gets the id and is listed by its age; another loses it.
    accept(&*store, update(third, r#"{"id": "A"}"#)).await;
    accept(&*store, update(first, r#"{"id": "C"}"#)).await;
    assert_eq!(found(&*store, &with_id("A")).await, newest_first([second, third]));
    // An order that gets the id again is listed once.
    accept(&*store, update(first, r#"{"id": "A"}"#)).await;
    assert_eq!(found(&*store, &with_id("A")).await, newest_first([first, second, third]));
    accept(&*store, deletion(second)).await;
    assert_eq!(found(&*store, &with_id("A")).await, newest_first([first, third]));
    let with_deleted = Filter { with_deleted: true, ..with_id("A") };
    assert_eq!(found(&*store, &with_deleted).await, newest_first([first, second, third]));
    for id in ["B", "a", ""] {
        assert_eq!(found(&*store, &with_id(id)).await, [], "{id:?}");
    }
}

/// `list`: deleted orders are hidden unless the filter includes them.
pub(crate) async fn deleted_orders_are_listed_only_on_request(store: Arc<dyn Store>) {
    let user = some_user();
    let first = create(&*store, user, "{}").await;
    let gone = create(&*store, user, "{}").await;
    let last = create(&*store, user, "{}").await;
    accept(&*store, deletion(gone)).await;
    let deleted = Filter { status: Some(Status::Deleted), ..Filter::default() };
    for base in [Filter::default(), of(user)] {
        assert_eq!(found(&*store, &base).await, newest_first([first, last]));
        let with_deleted = Filter { with_deleted: true, ..base };
        assert_eq!(found(&*store, &with_deleted).await, newest_first([first, gone, last]));
    }
    assert_eq!(found(&*store, &deleted).await, []);
    assert_eq!(found(&*store, &Filter { with_deleted: true, ..deleted }).await, [gone]);
}

/// `list`: orders that were created at the first time or later, and before the second time.
pub(crate) async fn a_range_of_creation_includes_its_start_and_excludes_its_end(store: Arc<dyn Store>) {
    let user = some_user();
    let mut ids = [OrderId::generate(); 5];
    for id in &mut ids {
        *id = create(&*store, user, "{}").await;
    }
    let mut times = Vec::new();
    for id in ids {
        times.push(row(&*store, id).await.created_at);
    }
    // A change does not count as a creation.
    accept(&*store, update(ids[0], "[]")).await;
    for base in [Filter::default(), of(user)] {
        let within = |from: Option<usize>, before: Option<usize>| Filter {
            created_from: from.map(|at| times[at]),
            created_before: before.map(|at| times[at]),
            ..base.clone()
        };
        for (from, before) in
            [(None, None), (Some(0), None), (Some(2), None), (Some(4), None), (None, Some(0))]
        {
            let expected = match before {
                None => ids[from.unwrap_or(0)..].iter().rev().copied().collect(),
                Some(_) => Vec::new(),
            };
            assert_eq!(found(&*store, &within(from, before)).await, expected, "{from:?} {before:?}");
        }
        assert_eq!(found(&*store, &within(None, Some(3))).await, newest_first([ids[0], ids[1], ids[2]]));
        assert_eq!(found(&*store, &within(Some(1), Some(3))).await, newest_first([ids[1], ids[2]]));
        assert_eq!(found(&*store, &within(Some(3), Some(3))).await, []);
        assert_eq!(found(&*store, &within(Some(3), Some(1))).await, []);
    }
    let far = jiff::Timestamp::MAX;
    assert_eq!(found(&*store, &Filter { created_from: Some(far), ..of(user) }).await, []);
    let all = Filter { created_from: Some(jiff::Timestamp::MIN), created_before: Some(far), ..of(user) };
    assert_eq!(found(&*store, &all).await.len(), 5);
}

/// `list`: pages walk each order exactly once, also orders of one batch, which share a time. Their sequence is the same
/// in pages of every size.
pub(crate) async fn pages_walk_every_order_exactly_once_also_when_orders_share_a_time(store: Arc<dyn Store>) {
    let user = some_user();
    let mut ids = Vec::new();
    for _ in 0..3 {
        let batch: Vec<Command> = (0..20).map(|n| creation(user, &format!(r#"{{"id": {n}}}"#))).collect();
        ids.extend(batch.iter().map(Command::order_id));
        assert!(apply_all(&*store, batch).await.iter().all(Result::is_ok));
    }
    ids.sort_unstable();
    for filter in [Filter::default(), of(user)] {
        let whole: Vec<OrderId> = walk(&*store, &filter, 61).await.iter().map(|order| order.id).collect();
        for limit in [1, 7, 20, 60, 61] {
            let walked = walk(&*store, &filter, limit).await;
            assert!(walked.is_sorted_by(|one, next| one.created_at >= next.created_at));
            let mut walked: Vec<OrderId> = walked.iter().map(|order| order.id).collect();
            assert_eq!(walked, whole, "pages of {limit}");
            walked.sort_unstable();
            assert_eq!(walked, ids, "pages of {limit}");
        }
    }
}

/// `list`: a page ends where it has enough bytes, and the next page continues behind it.
pub(crate) async fn large_orders_are_listed_in_pages_of_a_bounded_size(store: Arc<dyn Store>) {
    /// The most bytes of payload in a page before its last order.
    const MOST: usize = 4 << 20;
    let user = some_user();
    let mut ids = Vec::new();
    // One of the orders alone is larger than that.
    for bytes in [700_000, 900_000, 1_000_000, MOST + 1, 800_000, 900_000, 900_000, 900_000, 900_000, 900_000]
    {
        ids.push(create(&*store, user, &format!("\"{}\"", "x".repeat(bytes))).await);
    }
    ids.reverse();
    for filter in [Filter::default(), of(user)] {
        let (mut walked, mut after, mut pages) = (Vec::new(), None, 0);
        loop {
            let page = store.list(&filter, after, 100).await.expect("the store reads");
            let bytes = |order: &Order| order.payload.as_str().len();
            let before: usize = page.orders.iter().rev().skip(1).map(bytes).sum();
            assert!(before < MOST, "{before} bytes in a page before its last order");
            walked.extend(page.orders.iter().map(|order| order.id));
            pages += 1;
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        assert_eq!(walked, ids, "{filter:?}");
        assert!(pages >= 3, "{pages} pages");
    }
}

/// `list`: orders that are created during a walk are listed before its beginning, so the walk misses no order and has
/// none twice.
pub(crate) async fn orders_that_arrive_during_a_walk_do_not_change_it(store: Arc<dyn Store>) {
    let user = some_user();
    for filter in [Filter::default(), of(user), Filter { external_id: Some("A".to_owned()), ..of(user) }] {
        for _ in 0..9 {
            create(&*store, user, r#"{"id": "A"}"#).await;
        }
        let before = found(&*store, &filter).await;
        let (mut walked, mut after) = (Vec::new(), None);
        loop {
            let page = store.list(&filter, after, 2).await.expect("the store reads");
            walked.extend(page.orders.iter().map(|order| order.id));
            after = page.next;
            if after.is_none() {
                break;
            }
            create(&*store, user, r#"{"id": "A"}"#).await;
        }
        assert_eq!(walked, before);
    }
}

/// `list`: where an order is deleted during a walk, the orders behind it are still listed.
pub(crate) async fn a_walk_continues_behind_an_order_that_was_deleted_meanwhile(store: Arc<dyn Store>) {
    let user = some_user();
    let mut ids = [OrderId::generate(); 4];
    for id in &mut ids {
        *id = create(&*store, user, "{}").await;
    }
    let page = store.list(&of(user), None, 2).await.expect("the store reads");
    let last = page.orders.last().expect("the page has orders").id;
    let (seen, next) = (page.orders.len(), page.next.expect("there are more"));
    accept(&*store, deletion(last)).await;
    let rest = store.list(&of(user), Some(next), 10).await.expect("the store reads");
    let expected: Vec<OrderId> = ids.iter().rev().skip(seen).copied().collect();
    assert_eq!(rest.orders.iter().map(|order| order.id).collect::<Vec<_>>(), expected);
}
