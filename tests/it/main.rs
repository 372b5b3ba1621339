//! The integration tests, in one binary so that they link once. One module per subject; each enters by a front
//! door of its own: the domain's types, a port's trait, the HTTP socket, or the real program. What they share
//! is in `support`.

#![expect(clippy::unwrap_used, reason = "clippy knows tests by their attribute, and helpers have none")]

mod bad_input;
mod binary;
mod bus_conformance;
mod bus_local;
mod cli;
mod cli_orders;
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
mod verify;
