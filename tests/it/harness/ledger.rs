//! The orders in a data folder, read row by row when no process works in it, and the rules that every row must follow,
//! no matter what happened before. The tests call it after a stop or a crash; opening the folder shows that no process
//! uses it any more.

use std::path::Path;

use orderstream::checker::verify::{Confirmed, Options, verify};
use orderstream::order::{Amount, Order, OrderId, Status};
use orderstream::store::sqlite::SqliteStore;
use orderstream::store::{Maintenance, Store};

/// How many rows are read at once; small enough that the tests read more than one page.
const PAGE: usize = 100;

/// Every order of a folder, which must be idle: all orders are processed, and no row breaks a rule.
pub(crate) async fn settled_orders(folder: &Path) -> Vec<Order> {
    verified_orders(folder, Confirmed::default()).await
}

/// The same, where callers were answered about orders: the checker compares those answers, too.
pub(crate) async fn verified_orders(folder: &Path, confirmed: Confirmed) -> Vec<Order> {
    let store = SqliteStore::open(folder).expect("a folder that is free and whole");
    let strict = Options { idle: true, amounts: true, listed: 10 };
    let report = verify(&store, 0, confirmed, &strict).await.expect("a store that can be read");
    assert!(report.found == 0, "{:?}", report.findings);
    let orders = scan(&store).await;
    store.close().await;
    assert_eq!(report.total(), orders.len() as u64);
    orders.iter().for_each(check);
    orders
}

/// Every order of a folder that no process has open: opening it for writing proves that.
pub(crate) async fn orders(folder: &Path) -> Vec<Order> {
    let store = SqliteStore::open(folder).expect("the folder is free and whole");
    let orders = scan(&store).await;
    store.close().await;
    orders
}

/// Every order of a store.
pub(crate) async fn scan(store: &dyn Store) -> Vec<Order> {
    let mut orders: Vec<Order> = Vec::new();
    loop {
        let after = orders.last().map(|order| order.id);
        let page = store.scan(after, PAGE).await.expect("the store can be read");
        if page.is_empty() {
            return orders;
        }
        orders.extend(page.into_iter().map(|row| row.unwrap()));
    }
}

/// The order of that id, which must exist once.
pub(crate) fn order(orders: &[Order], id: &str) -> Order {
    let id = OrderId::parse(id).expect("an id");
    let mut found = orders.iter().filter(|order| order.id == id);
    let order = found.next().unwrap_or_else(|| panic!("order {id} is lost")).clone();
    assert_eq!(found.next(), None, "order {id} is there twice");
    order
}

/// The rules of a row that has been processed, independent of the checker.
pub(crate) fn check(order: &Order) {
    assert_eq!(order.processed_version, order.version, "pending: {order:?}");
    match order.status {
        Status::New | Status::Processing => panic!("processed and yet not done: {order:?}"),
        Status::Done => {
            let amount = Amount::of_payload(order.payload.as_str()).expect("it was done");
            assert_eq!(order.amount, amount, "the amount is not its payload's: {order:?}");
        }
        Status::Failed => assert!(order.reason.is_some(), "failed without a reason: {order:?}"),
        Status::Cancelled | Status::Deleted => {}
    }
    assert_eq!(order.deleted_at.is_some(), order.status == Status::Deleted, "{order:?}");
}
