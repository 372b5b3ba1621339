//! Properties of the domain that hold for every input: amounts are exact, ids mean the same in every form, the text of
//! a payload never changes, and no bytes from outside make a decoder panic.

use jiff::Timestamp;
use proptest::prelude::*;

use orderstream::api::Submission;
use orderstream::order::{Ack, Amount, Command, Event, OrderId, Payload, UserId};

use crate::harness::json_text::json_text;

const USER: &str = "7e1a3f6c-55aa-4b11-8f5c-0d8b7c1f2a33";

/// A decimal as an integer and the number of its decimals.
fn decimal() -> impl Strategy<Value = (i128, u32)> {
    (-1_000_000_000_000_000_000..=1_000_000_000_000_000_000_i128, 0..=20_u32)
}

/// The plain digits of a decimal, made with integers only.
fn plain(value: i128, decimals: u32) -> String {
    let sign = if value < 0 { "-" } else { "" };
    let digits = format!("{:0>width$}", value.unsigned_abs(), width = decimals as usize + 1);
    let (whole, fraction) = digits.split_at(digits.len() - decimals as usize);
    if fraction.is_empty() { format!("{sign}{whole}") } else { format!("{sign}{whole}.{fraction}") }
}

/// Other ways to write the same decimal: a sign, more zeros, spaces around it, an exponent.
fn notations(value: i128, decimals: u32, zeros: usize) -> Vec<String> {
    let digits = plain(value, decimals);
    let (sign, plus) = if value < 0 { ("-", "-") } else { ("", "+") };
    let unsigned = digits.trim_start_matches('-');
    let whole = value.unsigned_abs();
    let more = "0".repeat(zeros);
    vec![
        format!("{plus}{unsigned}"),
        format!("{sign}{more}{unsigned}"),
        format!(" {digits}\n"),
        format!("{sign}{whole}e-{decimals}"),
        format!("{sign}{whole}.{more}E-0{decimals}"),
        format!("{sign}{whole}{more}e-{}", decimals as usize + zeros),
        format!("{sign}.{whole:0>20}e{}", 20 - decimals as i32),
    ]
}

/// One line of an order: price and quantity, each with its number of decimals, and whether they are JSON strings.
fn item() -> impl Strategy<Value = (i64, u32, i64, u32, bool)> {
    (-1_000_000_000..=1_000_000_000_i64, 0..=6_u32, -1000..=1000_i64, 0..=3_u32, any::<bool>())
}

/// The payload that a creation keeps, as text.
fn kept(body: &str) -> String {
    match Submission::from_json(body).and_then(Submission::into_command) {
        Ok(Command::Create { payload, .. }) => payload.as_str().to_owned(),
        other => panic!("{other:?} from {body}"),
    }
}

proptest! {
    #[test]
    fn an_amount_is_written_with_the_digits_it_was_read_with((value, decimals) in decimal()) {
        let digits = plain(value, decimals);
        prop_assert_eq!(Amount::parse(&digits).expect("digits").to_string(), digits);
    }

    #[test]
    fn every_notation_of_a_decimal_is_the_same_amount((value, decimals) in decimal(), zeros in 0..20_usize) {
        let amount = Amount::parse(&plain(value, decimals)).expect("digits");
        for text in notations(value, decimals, zeros) {
            let read = Amount::parse(&text);
            prop_assert_eq!(read.as_ref(), Some(&amount), "{}", text);
            let again = Amount::parse(&read.expect("read").to_string());
            prop_assert_eq!(again.as_ref(), Some(&amount), "{}", text);
        }
    }

    #[test]
    fn two_different_decimals_are_two_amounts((value, decimals) in decimal(), (other, others) in decimal()) {
        let scaled = |value: i128, decimals: u32| value.checked_mul(10_i128.pow(20 - decimals));
        let (Some(left), Some(right)) = (scaled(value, decimals), scaled(other, others)) else { return Ok(()) };
        let equal = Amount::parse(&plain(value, decimals)) == Amount::parse(&plain(other, others));
        prop_assert_eq!(equal, left == right);
    }

    #[test]
    fn items_are_summed_exactly_like_integers(items in prop::collection::vec(item(), 0..40)) {
        let mut total = 0_i128;
        let mut lines = Vec::new();
        for (price, price_decimals, qty, qty_decimals, quoted) in items {
            // A missing or zero quantity is one.
            let counted = if qty == 0 { 10_i128.pow(qty_decimals) } else { i128::from(qty) };
            total += i128::from(price) * counted * 10_i128.pow(9 - price_decimals - qty_decimals);
            let quote = if quoted { "\"" } else { "" };
            let (price, qty) = (plain(price.into(), price_decimals), plain(qty.into(), qty_decimals));
            lines.push(format!("{{\"price\":{quote}{price}{quote},\"qty\":{quote}{qty}{quote}}}"));
        }
        let payload = format!("{{\"items\":[{}]}}", lines.join(","));
        let expected = Amount::parse(&plain(total, 9));
        prop_assert_eq!(Amount::of_payload(&payload).ok(), expected, "{}", payload);
    }

    #[test]
    fn any_text_is_an_amount_that_reads_back_or_none(text in "[-+ .eE_0-9a-z]{0,12}|\\PC{0,20}") {
        if let Some(amount) = Amount::parse(&text) {
            prop_assert_eq!(Amount::parse(&amount.to_string()), Some(amount));
        }
    }

    #[test]
    fn an_id_means_the_same_in_every_form(bytes in any::<[u8; 16]>()) {
        let id = OrderId::from_bytes(bytes);
        let text = id.to_string();
        prop_assert_eq!(text.len(), 36);
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        prop_assert_eq!(&text.replace('-', ""), &hex);
        for form in [
            text.clone(), text.to_uppercase(), hex.clone(), hex.to_uppercase(), format!("{{{text}}}"),
            format!("urn:uuid:{text}"), format!("URN:UUID:{}", text.to_uppercase()),
        ] {
            prop_assert_eq!(OrderId::parse(&form), Some(id), "{}", form);
            prop_assert_eq!(UserId::parse(&form), Some(UserId::from_bytes(bytes)), "{}", form);
        }
        prop_assert_eq!(id.as_bytes(), &bytes);
        prop_assert_eq!(id.bucket(), bytes[15] % 4);
    }

    #[test]
    fn any_text_is_an_id_or_none(text in "\\PC{0,50}|[-{}0-9a-fA-Furn:id ]{30,48}") {
        if let Some(id) = OrderId::parse(&text) {
            let digits: String = text.chars().filter(char::is_ascii_hexdigit).collect();
            let hex = id.to_string().replace('-', "");
            prop_assert!(digits.to_lowercase().ends_with(&hex), "{} is not {}", text, id);
        }
    }

    #[test]
    fn a_payload_keeps_its_text_byte_for_byte(text in json_text(), around in "[ \t\r\n]{0,3}") {
        let payload = Payload::parse(&format!("{around}{text}{around}")).expect("a payload");
        prop_assert_eq!(payload.as_str(), &text);
    }

    #[test]
    fn a_request_keeps_its_payload_byte_for_byte_in_either_field(text in json_text(), gap in "[ \t\r\n]{0,2}") {
        prop_assume!(text != "null");
        let user = format!("\"user_id\":\"{USER}\"");
        prop_assert_eq!(&kept(&format!("{{{user},{gap}\"payload\"{gap}:{gap}{text}{gap}}}{gap}")), &text);
        let quoted = serde_json::to_string(&text).expect("a string");
        prop_assert_eq!(&kept(&format!("{{\"payload\":[],\"payload_json\":{gap}{quoted}{gap},{user}}}")), &text);
        if text.starts_with('{') {
            prop_assert_eq!(&kept(&format!("{{\"payload_json\":{gap}{text}{gap},{user}}}")), &text);
        }
    }

    #[test]
    fn an_event_keeps_its_payload_byte_for_byte_on_the_wire(text in json_text(), version in 1..=i64::MAX) {
        let event = Event {
            order_id: Some(OrderId::generate()),
            version: Some(version),
            user_id: UserId::parse(USER),
            payload: Payload::parse(&text).expect("a payload"),
            status: orderstream::order::Status::New,
            timestamp: Timestamp::from_microsecond(1_760_000_000_123_456).expect("a time"),
        };
        let value = event.encode().expect("an encoding");
        let headers = event.headers();
        let headers = headers.iter().map(|(name, value)| (*name, value.as_bytes()));
        prop_assert_eq!(Event::decode(&value, headers, Timestamp::UNIX_EPOCH), Ok(event));
    }

    #[test]
    fn no_payload_makes_the_amount_rule_panic(text in json_text()) {
        prop_assert!(Amount::of_payload(&text).is_ok(), "no number here is beyond an amount's range");
    }

    #[test]
    fn no_bytes_make_a_decoder_panic(bytes in any::<Vec<u8>>(), header in any::<Vec<u8>>()) {
        decode_all(&bytes, &header);
    }

    #[test]
    fn no_message_with_strange_members_makes_a_decoder_panic(
        fields in prop::collection::vec(
            (
                prop::sample::select(vec![
                    "order_id", "external_id", "user_id", "payload", "payload_json", "status", "timestamp",
                    "processed_at", "more",
                ]),
                json_text(),
            ),
            0..8,
        ),
        cut in 0..400_usize,
    ) {
        let members: Vec<String> = fields.iter().map(|(name, value)| format!("\"{name}\":{value}")).collect();
        let text = format!("{{{}}}", members.join(","));
        decode_all(text.as_bytes(), b"1");
        // Cut at any position, also within a character.
        decode_all(&text.as_bytes()[..cut.min(text.len())], b"1");
    }
}

/// Runs every decoder of bytes from outside. Their results do not matter here.
fn decode_all(bytes: &[u8], version: &[u8]) {
    let headers = || [("order-version", version), ("event-id", version)];
    let _ = Event::decode(bytes, headers(), Timestamp::UNIX_EPOCH);
    let _ = Ack::decode(bytes, headers());
    let text = String::from_utf8_lossy(bytes);
    let _ = Submission::from_json(&text).and_then(Submission::into_command);
    let _ = Payload::parse(&text);
    let _ = Amount::of_payload(&text);
}
