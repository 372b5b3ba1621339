//! The messages on the wire, fixed byte for byte by the samples in `tests/golden`. The service writes exactly the
//! sample, and reads the messages of other services, with more, fewer or unusual fields. A record that no worker could
//! interpret is refused with the reason.

use jiff::Timestamp;

use orderstream::order::{Ack, AckStatus, Event, OrderId, Payload, Status, UserId, Version, header};

const ORDER: &str = "0196f1c8-7b1e-7000-8000-00000000002a";
const USER: &str = "7e1a3f6c-55aa-4b11-8f5c-0d8b7c1f2a33";

/// 2025-10-09T08:53:20Z in microseconds.
const SECOND: i64 = 1_760_000_000_000_000;

/// A sample without the newline that ends its file.
macro_rules! golden {
    ($name:literal) => {
        include_str!(concat!("../../golden/", $name, ".json")).trim_end_matches('\n')
    };
}

fn at(microsecond: i64) -> Timestamp {
    Timestamp::from_microsecond(microsecond).expect("a time")
}

fn event(version: Option<Version>, status: Status, payload: &str, timestamp: Timestamp) -> Event {
    let payload = Payload::parse(payload).expect("a payload");
    Event {
        order_id: OrderId::parse(ORDER),
        version,
        user_id: UserId::parse(USER),
        payload,
        status,
        timestamp,
    }
}

/// Decodes a record without headers that was received at the epoch.
fn decode(value: impl AsRef<[u8]>) -> Result<Event, String> {
    Event::decode(value.as_ref(), [], Timestamp::UNIX_EPOCH).map_err(|reason| reason.to_string())
}

/// The samples of the service's own events, each with its meaning.
fn our_events() -> [(&'static str, Event); 3] {
    let content = r#"{"id": "A-17/\u0416", "items":[{"price":0.10,"qty":3}], "n":12345678901234567890}"#;
    [
        (golden!("event_new"), event(Some(1), Status::New, content, at(SECOND + 123_456))),
        (
            golden!("event_processing"),
            event(Some(2), Status::Processing, r#"{"id":1000000}"#, at(SECOND + 500_000)),
        ),
        (golden!("event_deleted"), event(Some(3), Status::Deleted, "[]", at(SECOND))),
    ]
}

/// The samples of the service's own ACKs, each with its meaning.
fn our_acks() -> [(&'static str, AckStatus); 3] {
    [
        (golden!("ack_processed"), AckStatus::Processed),
        (golden!("ack_updated"), AckStatus::Updated),
        (golden!("ack_failed"), AckStatus::Failed),
    ]
}

fn ack(status: AckStatus, version: Option<Version>, processed_at: Timestamp) -> Ack {
    Ack { order_id: OrderId::parse(ORDER).expect("an id"), version, status, processed_at }
}

#[test]
fn an_event_is_written_exactly_as_its_sample() {
    for (sample, event) in our_events() {
        let value = event.encode().unwrap();
        assert_eq!(std::str::from_utf8(&value).unwrap(), sample);
    }
}

#[test]
fn an_event_is_read_from_its_sample_and_the_version_header() {
    for (sample, event) in our_events() {
        let version = event.version.unwrap();
        let headers =
            [(header::EVENT_ID, format!("{ORDER}/{version}")), (header::ORDER_VERSION, version.to_string())];
        assert_eq!(event.headers(), headers);
        let headers = headers.iter().map(|(name, value)| (*name, value.as_bytes()));
        assert_eq!(Event::decode(sample.as_bytes(), headers, Timestamp::UNIX_EPOCH), Ok(event));
    }
}

#[test]
fn an_event_for_a_new_order_has_an_empty_id_and_no_headers() {
    let without_id = Event { order_id: None, ..event(None, Status::New, "{}", at(SECOND)) };
    let expected = golden!("event_deleted")
        .replace(ORDER, "")
        .replace(r#""payload":[]"#, r#""payload":{}"#)
        .replace("deleted", "new");
    assert_eq!(String::from_utf8(without_id.encode().unwrap()), Ok(expected));
    assert_eq!(without_id.headers(), []);
}

#[test]
fn an_ack_is_written_exactly_as_its_sample() {
    for (sample, status) in our_acks() {
        let value = ack(status, None, at(SECOND + 1)).encode().unwrap();
        assert_eq!(std::str::from_utf8(&value).unwrap(), sample);
    }
}

#[test]
fn an_ack_is_read_from_its_sample_and_the_version_header() {
    for (sample, status) in our_acks() {
        let expected = ack(status, Some(7), at(SECOND + 1));
        assert_eq!(expected.headers(), [(header::ORDER_VERSION, "7".to_owned())]);
        assert_eq!(Ack::decode(sample.as_bytes(), [(header::ORDER_VERSION, b"7".as_slice())]), Ok(expected));
        assert_eq!(Ack::decode(sample.as_bytes(), []), Ok(ack(status, None, at(SECOND + 1))));
    }
}

#[test]
fn an_event_of_the_old_service_is_read_to_the_microsecond() {
    let payload = r#"{"id":"A-17","amount":"12.30"}"#;
    let expected = event(None, Status::Processing, payload, at(SECOND + 123_456));
    assert_eq!(decode(golden!("old_event_update")), Ok(expected));
}

#[test]
fn an_event_of_the_old_service_without_an_id_creates_an_order() {
    let expected =
        Event { order_id: None, ..event(None, Status::New, r#"{"id":"A-18"}"#, at(SECOND + 123_456)) };
    let sample = golden!("old_event_create");
    assert_eq!(decode(sample), Ok(expected.clone()));
    assert_eq!(decode(sample.replace(r#""order_id":"0""#, r#""order_id":"""#)), Ok(expected.clone()));
    assert_eq!(decode(sample.replace(r#""order_id":"0","#, "")), Ok(expected.clone()));
    assert_eq!(decode(sample.replace(r#""status":"new""#, r#""status":"""#)), Ok(expected));
}

#[test]
fn an_ack_of_the_old_service_is_read_without_headers() {
    let expected = ack(AckStatus::Processed, None, at(SECOND + 123_456));
    assert_eq!(Ack::decode(golden!("old_ack").as_bytes(), []), Ok(expected));
}

#[test]
fn unknown_fields_and_headers_are_ignored() {
    let more = |sample: &str| sample.replacen('{', r#"{"more":{"deep":[1,"\ud800"]},"source":7,"#, 1);
    assert_eq!(decode(more(golden!("old_event_update"))), decode(golden!("old_event_update")));
    let headers = [("traceparent", b"00-00-00-00".as_slice()), ("x", b"\xff\xfe".as_slice())];
    let ack = Ack::decode(more(golden!("old_ack")).as_bytes(), headers);
    assert_eq!(ack, Ack::decode(golden!("old_ack").as_bytes(), []));
    assert!(ack.is_ok());
}

#[test]
fn an_event_without_a_timestamp_has_the_time_of_its_receipt() {
    let received = at(SECOND + 42);
    let value = format!(r#"{{"order_id":"{ORDER}","payload":{{}},"status":"cancelled"}}"#);
    let event = Event::decode(value.as_bytes(), [], received).unwrap();
    assert_eq!((event.timestamp, event.status), (received, Status::Cancelled));
}

#[test]
fn a_record_that_no_worker_can_interpret_is_refused_with_a_reason() {
    let sample = golden!("old_event_update");
    let with = |old: &str, new: &str| {
        assert!(sample.contains(old), "{old}");
        sample.replace(old, new).into_bytes()
    };
    let id = format!("\"{ORDER}\"");
    let status = "a-status-of-forty-characters-is-too-long";
    assert_eq!(status.len(), 40);
    for (value, reason) in [
        (Vec::new(), "not a JSON object"),
        (b"  ".to_vec(), "not a JSON object"),
        (b"null".to_vec(), "not a JSON object"),
        (b"[]".to_vec(), "not a JSON object"),
        (b"7".to_vec(), "not a JSON object"),
        (b"\"text\"".to_vec(), "not a JSON object"),
        (format!("[{sample}]").into_bytes(), "not a JSON object"),
        (format!("\u{feff}{sample}").into_bytes(), "not a JSON object"),
        (b"{".to_vec(), "EOF"),
        (format!("{sample}{sample}").into_bytes(), "trailing characters"),
        (b"{\"order_id\":\"\xff\xfe\"}".to_vec(), "not UTF-8"),
        (sample.as_bytes()[..sample.len() - 1].to_vec(), "EOF"),
        (with(&id, "7"), "order_id is not a string"),
        (with(&id, "0"), "order_id is not a string"),
        (with(&id, "true"), "order_id is not a string"),
        (with(&id, r#"["0"]"#), "order_id is not a string"),
        (with(&id, r#""order-17""#), "order_id \"order-17\" is not a UUID"),
        (with(&id, r#"" ""#), "order_id \" \" is not a UUID"),
        (with(&format!("\"{USER}\""), "7"), "user_id is not a string"),
        (with(&format!("\"{USER}\""), r#""me""#), "user_id \"me\" is not a UUID"),
        (with("\"processing\"", "1"), "status is not a string"),
        (with("\"processing\"", "\"Processing\""), "status \"Processing\" is not known"),
        (with("processing", status), "is not known"),
        (with("2025-10-09T", "yesterday "), "timestamp is not an RFC 3339 time"),
        (with("2025-10-09T", "2025-13-09T"), "timestamp is not an RFC 3339 time"),
        (with("+03:00", ""), "timestamp is not an RFC 3339 time"),
        (with("\"2025-10-09T11:53:20.123456789+03:00\"", "\"\""), "timestamp is not an RFC 3339 time"),
        (with("\"2025-10-09T11:53:20.123456789+03:00\"", "1760000000"), "timestamp is not an RFC 3339 time"),
        (with(r#""12.30""#, r#""\u0000""#), "payload: a string holds \\u0000"),
        (with(r#""12.30""#, r#""\ud800""#), "payload: "),
        (with(r#""12.30""#, "1e400"), "payload: number out of range"),
        (with(r#""12.30""#, &format!("{}{}", "[".repeat(10_000), "]".repeat(10_000))), "payload: recursion"),
        (vec![b'x'; 2 * 1024 * 1024], "not a JSON object"),
        (with("A-17", &format!("\\ud800{}", "x".repeat(2 * 1024 * 1024))), "payload: "),
        (with(ORDER, &"0".repeat(2 * 1024 * 1024)), "order_id \"000"),
    ] {
        let shown = String::from_utf8_lossy(&value[..value.len().min(300)]).into_owned();
        match decode(&value) {
            Ok(event) => panic!("{shown} was read as {event:?}"),
            Err(found) => {
                assert!(found.contains(reason), "{shown} was refused because {found:?}, not {reason:?}");
            }
        }
    }
}

#[test]
fn an_event_of_two_mebibytes_is_read_completely() {
    let long = "x".repeat(2 * 1024 * 1024);
    let event = decode(golden!("old_event_update").replace("12.30", &long)).unwrap();
    assert_eq!(event.payload.as_str(), format!(r#"{{"id":"A-17","amount":"{long}"}}"#));
}

#[test]
fn a_malformed_ack_is_refused() {
    let sample = golden!("old_ack");
    for value in [
        String::new(),
        "null".to_owned(),
        "[]".to_owned(),
        "{}".to_owned(),
        sample.replace(&format!("\"{ORDER}\""), "7"),
        sample.replace(ORDER, "0"),
        sample.replace(ORDER, ""),
        sample.replace("processed\"", "done\""),
        sample.replace("2025-10-09T", "yesterday "),
        sample.replace("\"status\":\"processed\",", ""),
    ] {
        assert!(Ack::decode(value.as_bytes(), []).is_err(), "{value}");
    }
    assert!(Ack::decode(b"\xff", []).is_err());
    assert!(Ack::decode(sample.as_bytes(), [(header::ORDER_VERSION, b"x".as_slice())]).is_err());
}
