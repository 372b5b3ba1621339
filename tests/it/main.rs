//! The integration tests, one binary, so that they link once. One module per subject, which enters by the
//! front door and reads as a list of sentences: what the domain promises, one conformance suite per port with
//! an entry for each implementation, the contract, and the faults that a whole system survives.

mod bad_input;
mod bus_conformance;
mod bus_local;
mod contract_http;
mod crash_points;
mod crash_under_load;
mod dead_letters;
mod domain_properties;
mod golden_messages;
mod json_text;
mod limits;
mod outages;
mod poison;
mod races;
mod redelivery;
mod stopping;
mod store_conformance;
mod store_sqlite;
mod support;
