//! Events as records, the way a broker would deliver them: with our headers, and as a service that knows none
//! of them would have sent them.

use jiff::Timestamp;
use orderstream::bus::{Record, Source};
use orderstream::order::Event;

/// A record: where it lies, and its bytes.
pub(crate) type Raw = (Source, Record);

/// An event of ours.
pub(crate) fn with_headers(event: &Event) -> Raw {
    let headers = event.headers().into_iter().map(|(name, value)| (name.to_owned(), value.into_bytes()));
    let record = Record {
        key: event.order_id.map(|id| id.to_string().into_bytes()),
        headers: headers.collect(),
        value: event.encode().expect("an event that can be sent"),
    };
    (source(0, event.timestamp), record)
}

/// The same record from a service that knows no headers.
pub(crate) fn bare((source, record): &Raw) -> Raw {
    (source.clone(), Record { headers: Vec::new(), ..record.clone() })
}

/// A place in the events' topic.
pub(crate) fn source(offset: i64, timestamp: Timestamp) -> Source {
    Source { topic: "orders.events".into(), partition: 0, offset, timestamp }
}
