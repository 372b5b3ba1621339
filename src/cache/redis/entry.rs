//! A copy of an order as bytes: a format number, a checksum, a line of JSON that names every field, and the payload's
//! own text. Amount and payload are decoded digit for digit.
//!
//! The bytes may have been written by another version of this program, or be damaged. Decoding must never panic on
//! them, and never take changed bytes for an order.

use std::str;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::order::{Amount, Order, OrderId, Payload, Status, UserId, Version};

/// The first byte. It must change with the format of the bytes behind it.
const FORMAT: u8 = b'2';

/// How many bytes the checksum has, behind the format number.
const SUM: usize = 8;

/// The outcome of decoding.
#[derive(Debug, PartialEq)]
pub(super) enum Entry {
    /// An order.
    Order(Box<Order>),
    /// Another format: another version of this program may be able to read it.
    Foreign,
    /// Not an entry of any version.
    Damaged,
}

/// All of an order but its payload's text. Times are in microseconds since 1970.
#[derive(Serialize, Deserialize)]
struct Head {
    order_id: String,
    user_id: String,
    amount: String,
    status: String,
    reason: Option<String>,
    external_id: String,
    created_at: i64,
    updated_at: i64,
    deleted_at: Option<i64>,
    version: Version,
    processed_version: Version,
    touched: bool,
    /// Missing in entries of the previous release.
    bucket: Option<i32>,
}

/// The bytes of an order.
pub(super) fn encode(order: &Order) -> Vec<u8> {
    let head = Head {
        order_id: order.id.to_string(),
        user_id: order.user_id.to_string(),
        amount: order.amount.to_string(),
        status: order.status.to_string(),
        reason: order.reason.clone(),
        external_id: order.payload.external_id().to_owned(),
        created_at: order.created_at.as_microsecond(),
        updated_at: order.updated_at.as_microsecond(),
        deleted_at: order.deleted_at.map(Timestamp::as_microsecond),
        version: order.version,
        processed_version: order.processed_version,
        touched: order.touched,
        bucket: Some(order.bucket),
    };
    let mut bytes = vec![FORMAT];
    bytes.extend([0; SUM]);
    // Texts and numbers can always be written as JSON; an empty entry would count as damaged, which is a miss.
    bytes.extend(serde_json::to_vec(&head).unwrap_or_default());
    bytes.push(b'\n');
    bytes.extend(order.payload.as_str().as_bytes());
    let sum = checksum(&bytes[1 + SUM..]);
    bytes[1..=SUM].copy_from_slice(&sum);
    bytes
}

/// The order of that id in these bytes, if it is one.
pub(super) fn decode(bytes: &[u8], order_id: OrderId) -> Entry {
    match bytes.split_first() {
        Some((&FORMAT, rest)) => {
            read(rest, order_id).map_or(Entry::Damaged, |order| Entry::Order(Box::new(order)))
        }
        Some(_) => Entry::Foreign,
        None => Entry::Damaged,
    }
}

fn read(rest: &[u8], order_id: OrderId) -> Option<Order> {
    let (sum, content) = rest.split_at_checked(SUM)?;
    if sum != checksum(content) {
        return None;
    }
    let (head, payload) = str::from_utf8(content).ok()?.split_once('\n')?;
    let head: Head = serde_json::from_str(head).ok()?;
    let time = |micros| Timestamp::from_microsecond(micros).ok();
    let id = OrderId::parse(&head.order_id)?;
    let order = Order {
        id,
        user_id: UserId::parse(&head.user_id)?,
        amount: Amount::parse(&head.amount)?,
        status: Status::parse(&head.status)?,
        reason: head.reason,
        payload: Payload::from_store(payload, &head.external_id),
        created_at: time(head.created_at)?,
        updated_at: time(head.updated_at)?,
        deleted_at: match head.deleted_at {
            Some(micros) => Some(time(micros)?),
            None => None,
        },
        version: head.version,
        processed_version: head.processed_version,
        touched: head.touched,
        bucket: head.bucket.unwrap_or_else(|| i32::from(id.bucket())),
    };
    // A copy under another order's key would be a valid one of the wrong order.
    (order.id == order_id).then_some(order)
}

/// FNV-1a with 64 bits: the standard library's hashes may differ from one compiler to the next.
fn checksum(bytes: &[u8]) -> [u8; SUM] {
    let start = 0xcbf2_9ce4_8422_2325_u64;
    let mix = |sum: u64, byte: &u8| (sum ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
    bytes.iter().fold(start, mix).to_be_bytes()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn order(payload: &str, amount: &str) -> Order {
        let time = |micros| Timestamp::from_microsecond(micros).unwrap();
        Order {
            id: OrderId::generate(),
            user_id: UserId::from_bytes([7; 16]),
            amount: Amount::parse(amount).unwrap(),
            status: Status::Failed,
            reason: Some("line one\nline \"two\" \u{2028}".to_owned()),
            payload: Payload::parse(payload).unwrap(),
            created_at: time(-1),
            updated_at: time(1_760_000_000_123_456),
            deleted_at: Some(time(1_760_000_000_123_457)),
            version: i64::MAX,
            processed_version: 3,
            touched: true,
            bucket: 7,
        }
    }

    #[test]
    fn an_order_is_decoded_digit_for_digit() {
        let text =
            "{\"id\":12345678901234567890,\n \"n\":1.10, \"n\":-0, \"e\":1e300,\"s\":\"\u{1f980}\\n\"}";
        for (payload, amount) in [(text, "12.3400"), ("[]", "0"), ("\"a\"", "-0.50")] {
            for full in [true, false] {
                let mut order = order(payload, amount);
                if !full {
                    (order.reason, order.deleted_at, order.touched) = (None, None, false);
                }
                let Entry::Order(again) = decode(&encode(&order), order.id) else { panic!("{order:?}") };
                assert_eq!(*again, order);
                assert_eq!(again.amount.to_string(), amount);
                assert_eq!(again.payload.as_str(), order.payload.as_str());
                assert_eq!(again.payload.external_id(), order.payload.external_id());
            }
        }
    }

    #[test]
    fn another_format_is_foreign_and_another_order_s_copy_is_damaged() {
        let order = order("{}", "1");
        let mut bytes = encode(&order);
        assert_eq!(decode(&bytes, OrderId::generate()), Entry::Damaged);
        bytes[0] = b'1';
        assert_eq!(decode(&bytes, order.id), Entry::Foreign);
        assert_eq!(decode(b"", order.id), Entry::Damaged);
    }

    proptest! {
        #[test]
        fn changed_bytes_are_not_an_order(at in 1_usize..200, change in 1_u8..) {
            let order = order(r#"{"id":"A-1","n":1.10}"#, "3");
            let mut bytes = encode(&order);
            let at = at.min(bytes.len() - 1);
            bytes[at] ^= change;
            prop_assert_eq!(decode(&bytes, order.id), Entry::Damaged);
            bytes.truncate(at);
            prop_assert_eq!(decode(&bytes, order.id), Entry::Damaged);
        }

        #[test]
        fn any_bytes_are_read_without_a_panic(
            mut bytes in prop::collection::vec(any::<u8>(), 0..80),
            sums in any::<bool>(),
        ) {
            bytes.insert(0, FORMAT);
            if sums && bytes.len() > SUM {
                let sum = checksum(&bytes[1 + SUM..]);
                bytes[1..=SUM].copy_from_slice(&sum);
            }
            prop_assert_eq!(decode(&bytes, OrderId::generate()), Entry::Damaged);
        }
    }
}
