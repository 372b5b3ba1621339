//! The `Store` port: one conformance suite, an entry for each implementation, and what only one of them promises.

pub(crate) mod conformance;
pub(crate) mod long_payloads;
pub(crate) mod postgres;
pub(crate) mod sqlite;
