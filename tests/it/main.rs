//! The integration tests, in one binary so that they link once. One module per subject: what the domain
//! promises, the golden messages, and one conformance suite per port with an entry for each implementation.

mod bus_conformance;
mod bus_local;
mod dead_letters;
mod domain_properties;
mod golden_messages;
mod json_text;
mod store_conformance;
mod store_sqlite;
