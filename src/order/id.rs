//! Identities, and the versions of an order. An order's id is a UUIDv7, so a store's index only ever grows at its end;
//! a user's id is any UUID. Both are read in every form that RFC 9562 tools print and written in one: lower case with
//! dashes.

use std::fmt;

use jiff::Timestamp;
use uuid::Uuid;

/// Namespace of the ids made from a record's partition and offset: the name-based half of [`OrderId::of_record`].
const RECORD_NAMESPACE: Uuid = Uuid::from_u128(0x6f72_6465_7273_7472_6561_6d2e_7265_636f);

/// How many buckets `bucket` counts: the hash partitions of the `orders` table.
const BUCKETS: u8 = 4;

/// The identity of an order.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OrderId(Uuid);

/// The identity of the user who owns an order.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UserId(Uuid);

/// How many commands of an order have been accepted: 1 after its creation, one more with each update and
/// with the deletion. The processed version is the newest one that the worker has applied; an order is
/// pending while it is behind.
pub type Version = i64;

impl OrderId {
    /// A new id: a UUIDv7 (RFC 9562), greater than every one this process made before.
    #[must_use]
    pub fn generate() -> OrderId {
        OrderId(Uuid::now_v7())
    }

    /// The id of the order that a record without an order id creates. It follows from the record's topic, partition,
    /// offset and timestamp alone, so a redelivered record names the same order; the timestamp keeps a topic that was
    /// deleted and recreated from repeating the old one's ids.
    #[must_use]
    pub fn of_record(topic: &str, partition: i32, offset: i64, timestamp: Timestamp) -> OrderId {
        let name = format!("{topic}/{partition}/{offset}/{}", timestamp.as_microsecond());
        let hash = Uuid::new_v5(&RECORD_NAMESPACE, name.as_bytes());
        let mut random = [0; 10];
        random.copy_from_slice(&hash.as_bytes()[..10]);
        let millis = u64::try_from(timestamp.as_millisecond()).unwrap_or(0);
        OrderId(uuid::Builder::from_unix_timestamp_millis(millis, &random).into_uuid())
    }

    /// Whether it is the nil UUID, all zeros, which means that there is no id.
    #[must_use]
    pub fn is_nil(self) -> bool {
        self.0.is_nil()
    }

    /// The bucket, 0 to 3: the id's last byte modulo 4. Not the first byte: in a UUIDv7 that is a clock.
    #[must_use]
    pub fn bucket(self) -> u8 {
        self.0.as_bytes()[15] % BUCKETS
    }
}

/// The methods that both kinds of id share: bytes for the stores, text for the wires.
macro_rules! identity {
    ($name:ident) => {
        impl $name {
            /// Reads a UUID: with or without dashes, braces or `urn:uuid:`, in any case. `None` for any
            /// other text, surrounding spaces included.
            #[must_use]
            pub fn parse(text: &str) -> Option<$name> {
                Uuid::try_parse(text).ok().map($name)
            }

            /// The id of these sixteen bytes.
            #[must_use]
            pub fn from_bytes(bytes: [u8; 16]) -> $name {
                $name(Uuid::from_bytes(bytes))
            }

            /// The sixteen bytes, most significant first.
            #[must_use]
            pub fn as_bytes(&self) -> &[u8; 16] {
                self.0.as_bytes()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.as_hyphenated().fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }
    };
}

identity!(OrderId);
identity!(UserId);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_usual_spelling_names_the_same_order() {
        let id = OrderId::generate();
        let plain = id.to_string();
        for text in [
            plain.to_uppercase(),
            plain.replace('-', ""),
            format!("urn:uuid:{plain}"),
            format!("{{{plain}}}"),
            plain.clone(),
        ] {
            assert_eq!(OrderId::parse(&text), Some(id), "{text}");
        }
    }

    #[test]
    fn other_texts_are_not_an_id() {
        for text in
            ["", "0", " ", "abc", " 0196f1c8-7b1e-7000-8000-000000000000", "0196f1c8-7b1e-7000-8000-00"]
        {
            assert_eq!(OrderId::parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn ids_grow_and_the_bucket_is_the_last_byte_modulo_four() {
        let ids: Vec<OrderId> = (0..1000).map(|_| OrderId::generate()).collect();
        assert!(ids.windows(2).all(|pair| pair[0] < pair[1]));
        let mut bytes = [7; 16];
        bytes[15] = 0xfe;
        assert_eq!(OrderId::from_bytes(bytes).bucket(), 2);
    }

    #[test]
    fn a_redelivered_record_names_the_same_order_and_other_records_do_not() {
        let at = Timestamp::from_microsecond(1_760_000_000_123_456).unwrap();
        let later = Timestamp::from_microsecond(1_760_000_000_123_457).unwrap();
        let id = OrderId::of_record("orders.events", 3, 17, at);
        assert_eq!(id, OrderId::of_record("orders.events", 3, 17, at));
        for other in [
            OrderId::of_record("orders.events", 3, 18, at),
            OrderId::of_record("orders.events", 2, 17, at),
            OrderId::of_record("other.events", 3, 17, at),
            OrderId::of_record("orders.events", 3, 17, later),
        ] {
            assert_ne!(id, other);
        }
    }
}
