//! The promises of every cache, as checks for any implementation, from two processes on one store. A cache may always
//! miss; so each check says what a cache must never return and, for those that keep anything, what it must return.

use std::any::Any;
use std::sync::Arc;

use jiff::Timestamp;
use orderstream::cache::{Cache, Lease, Lookup, NoCache};
use orderstream::order::{Amount, Order, OrderId, Payload, Status, UserId, Version};

/// A fresh cache in two processes, and the resources that must outlive it.
pub(crate) struct Fresh {
    /// One process.
    pub(crate) here: Arc<dyn Cache>,
    /// The other one.
    pub(crate) there: Arc<dyn Cache>,
    /// Dropped last.
    pub(crate) _keep: Box<dyn Any + Send + Sync>,
}

/// Makes one test of each check. The argument is an `async fn() -> Fresh`.
macro_rules! cache_conformance {
    ($fresh:path) => {
        cache_conformance!(@each $fresh,
            a_filled_order_is_found_with_all_digits_in_every_process,
            an_invalidated_order_is_found_in_no_process,
            an_order_read_before_its_invalidation_is_not_kept,
            fills_that_disagree_are_both_discarded,
            fills_that_agree_keep_the_order,
            an_invalidation_affects_only_its_orders,
            invalidating_unknown_orders_or_none_is_harmless,
            a_huge_order_is_not_replaced_by_an_older_version,
        );
    };
    (@each $fresh:path, $($check:ident,)*) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $check() {
                crate::cache::conformance::$check($fresh().await).await;
            }
        )*
    };
}

pub(crate) use cache_conformance;

async fn no_cache() -> Fresh {
    Fresh { here: Arc::new(NoCache), there: Arc::new(NoCache), _keep: Box::new(()) }
}

mod none {
    super::cache_conformance!(super::no_cache);
}

/// An order of that version.
pub(crate) fn order(id: OrderId, version: Version) -> Order {
    let time = Timestamp::from_microsecond(1_760_000_000_123_456 + version).expect("a time");
    let text = format!("{{\"id\":\"A-{version}\",\n \"n\":1.10, \"n\":12345678901234567890}}");
    Order {
        id,
        user_id: UserId::from_bytes([7; 16]),
        amount: Amount::parse("12.3400").expect("an amount"),
        status: Status::Done,
        reason: None,
        payload: Payload::parse(&text).expect("a payload"),
        created_at: time,
        updated_at: time,
        deleted_at: None,
        version,
        processed_version: version,
        touched: false,
        bucket: 0,
    }
}

/// The lease of a miss; `None` after a hit, or without a cache.
pub(crate) async fn miss(cache: &dyn Cache, id: OrderId) -> Option<Lease> {
    match cache.get(id).await {
        Lookup::Hit(_) => None,
        Lookup::Miss(lease) => lease,
    }
}

/// The order that the cache returns.
pub(crate) async fn found(cache: &dyn Cache, id: OrderId) -> Option<Order> {
    match cache.get(id).await {
        Lookup::Hit(order) => Some(*order),
        Lookup::Miss(_) => None,
    }
}

/// Misses an order, and fills it into the cache.
pub(crate) async fn fill(cache: &dyn Cache, order: &Order) {
    if let Some(lease) = miss(cache, order.id).await {
        cache.fill(lease, order).await;
    }
}

/// The order that this cache must return: none if it is off.
fn kept(cache: &Arc<dyn Cache>, order: Order) -> Option<Order> {
    Some(order).filter(|_| !cache.is_off())
}

/// `get`, `fill`.
pub(crate) async fn a_filled_order_is_found_with_all_digits_in_every_process(fresh: Fresh) {
    let order = order(OrderId::generate(), 3);
    fill(&*fresh.here, &order).await;
    for cache in [&fresh.here, &fresh.there] {
        let found = found(&**cache, order.id).await;
        assert_eq!(found, kept(cache, order.clone()));
        if let Some(found) = found {
            assert_eq!(found.amount.to_string(), "12.3400");
            assert_eq!(found.payload.as_str(), order.payload.as_str());
        }
    }
}

/// `invalidate`.
pub(crate) async fn an_invalidated_order_is_found_in_no_process(fresh: Fresh) {
    let order = order(OrderId::generate(), 1);
    fill(&*fresh.here, &order).await;
    fresh.there.invalidate(&[order.id]).await;
    for cache in [&fresh.here, &fresh.there] {
        assert_eq!(found(&**cache, order.id).await, None);
    }
}

/// `invalidate`: makes leases invalid, in every process.
pub(crate) async fn an_order_read_before_its_invalidation_is_not_kept(fresh: Fresh) {
    let id = OrderId::generate();
    let (slow, slower) = (miss(&*fresh.here, id).await, miss(&*fresh.there, id).await);
    fresh.here.invalidate(&[id]).await;
    if let Some(slow) = slow {
        fresh.here.fill(slow, &order(id, 1)).await;
    }
    assert_eq!(found(&*fresh.there, id).await, None);
    fill(&*fresh.here, &order(id, 2)).await;
    if let Some(slower) = slower {
        fresh.there.fill(slower, &order(id, 1)).await;
    }
    assert_ne!(found(&*fresh.here, id).await, Some(order(id, 1)));
}

/// `fill`: a caller has seen the newer version, and the order of the fills does not show which one that is.
pub(crate) async fn fills_that_disagree_are_both_discarded(fresh: Fresh) {
    for (first, last) in [(1, 2), (2, 1)] {
        let id = OrderId::generate();
        let leases = (miss(&*fresh.here, id).await, miss(&*fresh.there, id).await);
        if let (Some(one), Some(other)) = leases {
            fresh.here.fill(one, &order(id, first)).await;
            fresh.there.fill(other, &order(id, last)).await;
        }
        assert_eq!(found(&*fresh.here, id).await, None);
    }
}

/// `fill`.
pub(crate) async fn fills_that_agree_keep_the_order(fresh: Fresh) {
    let id = OrderId::generate();
    let leases = (miss(&*fresh.here, id).await, miss(&*fresh.there, id).await);
    if let (Some(one), Some(other)) = leases {
        fresh.here.fill(one, &order(id, 1)).await;
        fresh.there.fill(other, &order(id, 1)).await;
    }
    assert_eq!(found(&*fresh.here, id).await, kept(&fresh.here, order(id, 1)));
}

/// `invalidate`: the other orders stay.
pub(crate) async fn an_invalidation_affects_only_its_orders(fresh: Fresh) {
    let orders: Vec<Order> = (0..5).map(|_| order(OrderId::generate(), 1)).collect();
    for order in &orders {
        fill(&*fresh.here, order).await;
    }
    fresh.here.invalidate(&[orders[1].id, orders[3].id]).await;
    for (index, order) in orders.into_iter().enumerate() {
        let expected = kept(&fresh.there, order.clone()).filter(|_| index % 2 == 0);
        assert_eq!(found(&*fresh.there, order.id).await, expected);
    }
}

/// `invalidate`.
pub(crate) async fn invalidating_unknown_orders_or_none_is_harmless(fresh: Fresh) {
    let order = order(OrderId::generate(), 1);
    fill(&*fresh.here, &order).await;
    fresh.here.invalidate(&[]).await;
    fresh.here.invalidate(&[OrderId::generate(), OrderId::generate()]).await;
    assert_eq!(found(&*fresh.here, order.id).await, kept(&fresh.here, order));
    assert_eq!(fresh.here.check().await, Ok(()));
}

/// `fill`: a cache may keep a huge order or not, but it must not keep an older version of it.
pub(crate) async fn a_huge_order_is_not_replaced_by_an_older_version(fresh: Fresh) {
    let (id, text) = (OrderId::generate(), format!("\"{}\"", "x".repeat(1 << 20)));
    let huge = Order { payload: Payload::parse(&text).expect("a payload"), ..order(id, 2) };
    let slow = miss(&*fresh.there, id).await;
    fill(&*fresh.here, &huge).await;
    if let Some(slow) = slow {
        fresh.there.fill(slow, &order(id, 1)).await;
    }
    assert_ne!(found(&*fresh.here, id).await, Some(order(id, 1)));
    assert_eq!(fresh.here.check().await, Ok(()));
}
