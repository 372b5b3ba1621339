//! The `Store` port: one conformance suite, an entry for each implementation, and the promises of one implementation
//! alone. `long_payloads` tests rows that older versions or other services wrote and that cannot be read as a whole.

pub(crate) mod conformance;
pub(crate) mod long_payloads;
pub(crate) mod postgres;
pub(crate) mod sqlite;
