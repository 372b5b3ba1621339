//! The integration tests, one binary, so that they link once. One module per subject: what the domain promises,
//! the golden messages, one conformance suite per port with an entry for each implementation, and the faults
//! that the whole system survives. What they share is in `support`.

mod bus_conformance;
mod bus_local;
mod crash_points;
mod crash_under_load;
mod dead_letters;
mod domain_properties;
mod golden_messages;
mod json_text;
mod races;
mod store_conformance;
mod store_sqlite;
mod support;
