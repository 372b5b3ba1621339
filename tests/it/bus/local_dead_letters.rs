//! The dead letters of the in-process bus: a file of JSON lines, each with a record that could not be processed, the
//! reason and the source. The file survives restarts and crashes; where it cannot be written, the record stays
//! unsettled.

use std::path::Path;
use std::pin::pin;

use jiff::Timestamp;
use orderstream::bus::local::LocalBus;
use orderstream::bus::{Bus, PublishError, Record};
use orderstream::order::{Event, OrderId};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::bus::conformance::{event, now, published, receive, record};
use crate::bus::local::{ROOMY, TOPIC, foreign_source, open, unavailable};

/// The dead letters in a file.
fn letters(file: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(file).expect("a file of dead letters");
    assert!(text.ends_with('\n'), "the last line is whole");
    text.lines().map(|line| serde_json::from_str(line).expect(line)).collect()
}

#[tokio::test]
async fn a_dead_letter_holds_the_record_the_reason_and_the_source() {
    let (bus, file, _folder) = open(ROOMY);
    assert!(!file.exists(), "the first dead letter creates the file");
    let mut worker = bus.subscribe().await.unwrap();
    for (value, keyless) in [(b"tex\"t\n".as_slice(), false), (b"\xff\x00\x7f".as_slice(), true)] {
        let key = Some(b"k".to_vec()).filter(|_| !keyless);
        let mut feed = pin!(bus.feed(foreign_source(17), Record { key, ..record(value) }));
        assert_eq!(now(feed.as_mut()), None);
        let delivery = receive(&mut *worker, 1).await.remove(0);
        assert_eq!(bus.reject(delivery, "a \"reason\"\nof two lines").await, Ok(()));
    }
    let headers = json!([["traceparent", "00-1-2-3"], ["odd", {"hex": "fffe"}]]);
    let letter = |key: Value, value: Value| {
        json!({
            "topic": "other.events", "partition": 3, "offset": 17, "timestamp": "2025-10-09T08:53:20.123456Z",
            "reason": "a \"reason\"\nof two lines", "key": key, "headers": headers, "value": value,
        })
    };
    let expected = [letter(json!("k"), json!("tex\"t\n")), letter(Value::Null, json!({"hex": "ff007f"}))];
    assert_eq!(letters(&file), expected);
}

#[tokio::test]
async fn a_dead_letter_of_an_event_in_memory_holds_its_encoded_bytes() {
    let (bus, file, _folder) = open(ROOMY);
    let mut worker = bus.subscribe().await.unwrap();
    let sent = event(OrderId::generate(), 5);
    let mut publish = pin!(published(&*bus, vec![sent.clone()]));
    assert_eq!(now(publish.as_mut()), None);
    let delivery = receive(&mut *worker, 1).await.remove(0);
    assert_eq!(bus.reject(delivery, "no such order").await, Ok(()));
    let letter = letters(&file).remove(0);
    assert_eq!((&letter["topic"], &letter["reason"]), (&json!(TOPIC), &json!("no such order")));
    assert_eq!(letter["key"], json!(sent.order_id.map(|id| id.to_string())));
    let headers: Vec<(String, String)> = serde_json::from_value(letter["headers"].clone()).unwrap();
    let headers = headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes()));
    let value = letter["value"].as_str().unwrap();
    assert_eq!(Event::decode(value.as_bytes(), headers, Timestamp::UNIX_EPOCH), Ok(sent));
}

/// Feeds a record that is not an event to a bus, and has it rejected.
async fn reject_one(bus: &LocalBus) -> Result<(), PublishError> {
    let mut worker = bus.subscribe().await.expect("a subscription");
    let mut feed = pin!(bus.feed(foreign_source(1), record(b"no event")));
    assert_eq!(now(feed.as_mut()), None);
    let delivery = receive(&mut *worker, 1).await.remove(0);
    let answer = bus.reject(delivery, "it is no event").await;
    assert_eq!(unavailable(&feed.await), answer.is_err(), "the feed is settled if the letter is written");
    answer
}

#[tokio::test]
async fn dead_letters_are_counted_and_appended_after_the_file_is_reopened() {
    let (bus, file, _folder) = open(ROOMY);
    for expected in 1..=2 {
        assert_eq!(reject_one(&bus).await, Ok(()));
        assert_eq!(bus.dead_letters().await, Ok(expected));
    }
    let bus = LocalBus::open(&file, TOPIC, ROOMY).unwrap();
    assert_eq!(bus.dead_letters().await, Ok(2));
    assert_eq!(reject_one(&bus).await, Ok(()));
    assert_eq!((bus.dead_letters().await, letters(&file).len()), (Ok(3), 3));
}

#[tokio::test]
async fn a_line_torn_by_a_crash_does_not_corrupt_the_next_dead_letter() {
    let (bus, file, _folder) = open(ROOMY);
    assert_eq!(reject_one(&bus).await, Ok(()));
    let whole = std::fs::read(&file).unwrap();
    let torn = [whole.as_slice(), &whole[..whole.len() / 2]].concat();
    std::fs::write(&file, torn).unwrap();
    let bus = LocalBus::open(&file, TOPIC, ROOMY).unwrap();
    assert_eq!(reject_one(&bus).await, Ok(()));
    let text = std::fs::read_to_string(&file).unwrap();
    let readable = text.lines().filter(|line| serde_json::from_str::<Value>(line).is_ok()).count();
    assert_eq!(readable, 2, "{text}");
}

#[tokio::test]
async fn a_dead_letter_that_cannot_be_written_leaves_the_delivery_unsettled() {
    let folder = TempDir::new().unwrap();
    let nowhere = folder.path().join("missing/dead-letters.jsonl");
    let bus = LocalBus::open(&nowhere, TOPIC, ROOMY).unwrap();
    assert!(unavailable(&reject_one(&bus).await));
    assert_eq!(bus.dead_letters().await, Ok(0));
    // It works again as soon as the folder is there.
    std::fs::create_dir(folder.path().join("missing")).unwrap();
    assert_eq!(reject_one(&bus).await, Ok(()));
    assert_eq!((bus.dead_letters().await, letters(&nowhere).len()), (Ok(1), 1));
}

#[tokio::test]
async fn a_removed_dead_letter_file_is_recreated() {
    let (bus, file, _folder) = open(ROOMY);
    assert_eq!(reject_one(&bus).await, Ok(()));
    let bus = LocalBus::open(&file, TOPIC, ROOMY).unwrap();
    std::fs::remove_file(&file).unwrap();
    assert_eq!(reject_one(&bus).await, Ok(()));
    assert_eq!(letters(&file).len(), 1);
}
