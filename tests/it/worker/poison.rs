//! Records that no worker can interpret. Each goes to the dead-letter file with its bytes, the reason and its source;
//! the worker continues, and processes the orders after it as usual.

use std::fs;
use std::path::Path;

use jiff::Timestamp;
use orderstream::bus::local::LocalBus;
use orderstream::bus::{Bus, Record, Source};
use orderstream::order::Status;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::clients::USER;
use crate::clients::answers::create;
use crate::harness::ledger;
use crate::harness::system::{DEAD_LETTERS, System};

#[tokio::test]
async fn a_record_that_cannot_be_processed_only_becomes_a_dead_letter() {
    let folder = TempDir::new().unwrap();
    let system = System::start(folder.path()).await;
    let mut created = Vec::new();
    let poison = poison();
    for (offset, (value, reason)) in (0..).zip(&poison) {
        system.feed(record(offset, value)).await;
        assert_eq!(system.bus.dead_letters().await, Ok(offset as u64 + 1), "{reason}");
        created.push(create(&system.client, &format!(r#"{{"amount":{offset}}}"#)).await);
    }
    system.stop().await;

    let letters = dead_letters(folder.path());
    assert_eq!(letters.len(), poison.len());
    for (offset, (letter, (value, reason))) in (0..).zip(letters.iter().zip(&poison)) {
        assert_eq!(bytes(&letter["value"]), *value, "{reason}");
        let given = letter["reason"].as_str().unwrap();
        assert!(given.contains(reason), "{reason:?} is not in {given:?}");
        assert!(given.len() < 1000, "a reason must not repeat the record: {} bytes", given.len());
        assert_eq!((&letter["topic"], &letter["partition"]), (&json!("orders.events"), &json!(3)));
        assert_eq!((&letter["offset"], &letter["timestamp"]), (&json!(offset), &json!(at().to_string())));
        assert_eq!((&letter["key"], &letter["headers"]), (&json!("k"), &json!([["trace", {"hex": "fffe"}]])));
    }
    let bus = LocalBus::open(&folder.path().join(DEAD_LETTERS), "orders.events", 1 << 20).unwrap();
    assert_eq!(bus.dead_letters().await, Ok(poison.len() as u64));
    let orders = ledger::settled_orders(folder.path()).await;
    assert_eq!(orders.len(), created.len(), "a poisoned record created an order");
    for id in &created {
        assert_eq!(ledger::order(&orders, id).status, Status::Done);
    }
}

/// Records that no worker can process, and a part of the reason.
pub(crate) fn poison() -> Vec<(Vec<u8>, &'static str)> {
    let unknown = "0196f1c8-7b1e-7000-8000-00000000000f";
    let event = |members: &str| format!(r#"{{"user_id":"{USER}","payload":{{}},{members}}}"#).into_bytes();
    vec![
        (Vec::new(), "object"),
        (b"null".to_vec(), "object"),
        (b"[]".to_vec(), "object"),
        (b"{\"order_id\":\"\xff\xfe\"}".to_vec(), "UTF-8"),
        (b"\x00\x01\x02".to_vec(), "object"),
        (vec![b'x'; 2 << 20], "object"),
        (format!("[{}]", "7,".repeat(1 << 20)).into_bytes(), "object"),
        (event(r#""order_id":7"#), "order_id"),
        (event(r#""order_id":["0"]"#), "order_id"),
        (event(r#""order_id":"seven""#), "order_id"),
        (event(r#""status":{}"#), "status"),
        (event(r#""order_id":"0","timestamp":"yesterday""#), "timestamp"),
        (event(r#""order_id":"0","timestamp":1760000000"#), "timestamp"),
        (event(&format!(r#""order_id":"0","status":"{}""#, "s".repeat(40))), "status"),
        (event(&format!(r#""order_id":"{unknown}","status":"new""#)), unknown),
        (event(&format!(r#""order_id":"{unknown}","status":"deleted""#)), unknown),
        (event(r#""order_id":"0","payload":{"n":[1e-20000]}"#), "the number at /n/0 has"),
        (event(&format!(r#""payload":[{}]"#, "1e308,".repeat(1000) + "1")), "the number at /848 brings"),
        (br#"{"order_id":"0","payload":{}}"#.to_vec(), "user_id"),
        (br#"{"order_id":"0","user_id":"me","payload":{}}"#.to_vec(), "user_id"),
        (format!(r#"{{"order_id":"0","user_id":"{USER}"}}"#).into_bytes(), "payload"),
        (
            event(&format!(r#""order_id":"0","payload":{}{}"#, "[".repeat(10_000), "]".repeat(10_000))),
            "line 1",
        ),
    ]
}

fn record(offset: i64, value: &[u8]) -> (Source, Record) {
    let source = Source { topic: "orders.events".into(), partition: 3, offset, timestamp: at() };
    let headers = vec![("trace".to_owned(), vec![0xff, 0xfe])];
    (source, Record { key: Some(b"k".to_vec()), headers, value: value.to_vec() })
}

fn at() -> Timestamp {
    Timestamp::from_microsecond(1_760_000_000_123_456).expect("a time")
}

/// The lines of the dead-letter file.
fn dead_letters(folder: &Path) -> Vec<Value> {
    let text = fs::read_to_string(folder.join(DEAD_LETTERS)).expect("there are dead letters");
    text.lines().map(|line| serde_json::from_str(line).expect("a line is JSON")).collect()
}

/// The bytes of the record in a dead letter.
fn bytes(value: &Value) -> Vec<u8> {
    match value.as_str() {
        Some(text) => text.as_bytes().to_vec(),
        None => {
            let hex = value["hex"].as_str().expect("text or hexadecimal digits");
            let digits = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).expect("two digits");
            (0..hex.len()).step_by(2).map(digits).collect()
        }
    }
}
