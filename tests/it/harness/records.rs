//! Events as records, as a broker would deliver them: with our headers, and without them, as a service that does not
//! use them would send them. A worker must process both forms of an event.

use jiff::Timestamp;
use orderstream::bus::{Record, Source};
use orderstream::order::Event;

/// A record's source and bytes.
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

/// The same record without headers.
pub(crate) fn bare((source, record): &Raw) -> Raw {
    (source.clone(), Record { headers: Vec::new(), ..record.clone() })
}

/// A source in the events' topic.
pub(crate) fn source(offset: i64, timestamp: Timestamp) -> Source {
    Source { topic: "orders.events".into(), partition: 0, offset, timestamp }
}
