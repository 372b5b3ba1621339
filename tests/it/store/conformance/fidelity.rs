//! Stored values are read back unchanged: payloads to the byte, amounts to the digit, times to the microsecond. The
//! times of an order never decrease, and a write without a change leaves them as they are.

use std::sync::Arc;

use jiff::Timestamp;
use orderstream::order::{Command, Order};
use orderstream::store::{Completed, Store};

use super::{accept, apply, complete, create, deletion, done, payload, row, some_user, update};

/// JSON texts that would change in a store that parses and prints them.
const TEXTS: [&str; 12] = [
    r#"{"id":12345678901234567890,"price":0.1,"qty":3}"#,
    r#"{"b":1,"a":2,"a":3}"#,
    "{ \"spaced\" :\t[ 1 ,\r\n 2 ] }",
    r#"[1.10, 1e2, 1E+2, -0, -0.0, 0e5, 1e-400, 123456789.1234567890123456789]"#,
    r#""\u0416\u0436 \ud83d\ude00 \/ \b\f\n\r\t \" \\ \u001f""#,
    r#"{"id":"Ж/%2F 😀","":""," ":null}"#,
    "\"'; DROP TABLE orders; -- \\\\ $1 ?1 {} %s\"",
    "[]",
    "{}",
    "true",
    "7",
    "null",
];

/// `Order::payload`: the caller's text, in the row and in every event, after a creation and an update.
pub(crate) async fn a_payload_is_kept_byte_for_byte(store: Arc<dyn Store>) {
    let user = some_user();
    for text in TEXTS {
        let created = create(&*store, user, text).await;
        assert_eq!(row(&*store, created).await.payload, payload(text));
        let updated = create(&*store, user, r#"{"id":"other"}"#).await;
        assert_eq!(accept(&*store, update(updated, text)).await.payload, payload(text));
        assert_eq!(row(&*store, updated).await.payload, payload(text));
        assert_eq!(accept(&*store, deletion(updated)).await.payload, payload(text));
        assert_eq!(row(&*store, updated).await.payload, payload(text));
    }
}

/// `Order::payload`: a long payload is kept, too.
pub(crate) async fn a_payload_of_a_mebibyte_is_kept(store: Arc<dyn Store>) {
    let text = format!(r#"{{"id": "A", "note": "{}"}}"#, "Ж😀x ".repeat(1024 * 1024 / 8));
    let id = create(&*store, some_user(), &text).await;
    assert!(row(&*store, id).await.payload.as_str() == text);
}

/// `Order::amount`: exact, with its trailing zeros, to the last of a thousand digits.
pub(crate) async fn an_amount_is_kept_exactly(store: Arc<dyn Store>) {
    let long = "9".repeat(1000);
    for digits in [
        "0",
        "0.00",
        "0.1",
        "12.30",
        "-7.5",
        "100",
        "12345678901234567890.12345678901234567890",
        long.as_str(),
        &format!("-{long}.{long}"),
    ] {
        let id = create(&*store, some_user(), "{}").await;
        assert_eq!(complete(&*store, done(id, 1, digits)).await, Completed::Applied);
        assert_eq!(row(&*store, id).await.amount.to_string(), digits);
    }
}

/// Checks the times of an order: none is finer than a microsecond, none is before the order's creation.
fn check_times(order: &Order) {
    for time in [Some(order.created_at), Some(order.updated_at), order.deleted_at].into_iter().flatten() {
        assert_eq!(time.subsec_nanosecond() % 1000, 0, "{time} is finer than a microsecond");
        assert!(time >= order.created_at, "{time} is before {}", order.created_at);
        assert!(time <= order.updated_at, "{time} is after {}", order.updated_at);
    }
}

/// `Store`: all times come from the store's own clock, in microseconds; `created_at` never changes and
/// `updated_at` never runs backwards.
pub(crate) async fn times_are_in_microseconds_and_never_decrease(store: Arc<dyn Store>) {
    let id = create(&*store, some_user(), "{}").await;
    let mut seen = vec![row(&*store, id).await];
    complete(&*store, done(id, 1, "1")).await;
    seen.push(row(&*store, id).await);
    accept(&*store, update(id, "[]")).await;
    seen.push(row(&*store, id).await);
    accept(&*store, deletion(id)).await;
    seen.push(row(&*store, id).await);
    complete(&*store, done(id, 3, "1")).await;
    seen.push(row(&*store, id).await);

    seen.iter().for_each(check_times);
    assert!(seen[0].created_at > Timestamp::UNIX_EPOCH);
    for pair in seen.windows(2) {
        assert_eq!(pair[0].created_at, pair[1].created_at);
        assert!(pair[0].updated_at <= pair[1].updated_at);
    }
}

/// `Order::deleted_at`: set once and never cleared, also not by later commands and completions of the deleted order.
pub(crate) async fn the_time_of_deletion_is_set_once(store: Arc<dyn Store>) {
    let id = create(&*store, some_user(), "{}").await;
    assert_eq!(row(&*store, id).await.deleted_at, None);
    let event = accept(&*store, deletion(id)).await;
    let _ = apply(&*store, deletion(id)).await;
    let _ = apply(&*store, update(id, "[]")).await;
    complete(&*store, done(id, 1, "1")).await;
    complete(&*store, done(id, 2, "1")).await;
    assert_eq!(row(&*store, id).await.deleted_at, Some(event.timestamp));
}

/// `Order::updated_at`: the time of the last change; a refused or stale write is not a change.
pub(crate) async fn a_write_without_a_change_leaves_the_times(store: Arc<dyn Store>) {
    let id = create(&*store, some_user(), "{}").await;
    complete(&*store, done(id, 1, "1")).await;
    let before = row(&*store, id).await;
    complete(&*store, done(id, 1, "2")).await;
    let stranger = Command::Delete { order_id: id, user_id: Some(some_user()), if_version: None };
    assert!(apply(&*store, stranger).await.is_err());
    assert_eq!(row(&*store, id).await, before);
}
