//! Systems under test, and their state at the end: real servers, processes, schemas and topics of one test, and the
//! assertions that hold for every system when its test ends.

pub(crate) mod app;
pub(crate) mod backend;
pub(crate) mod binary;
pub(crate) mod bus;
pub(crate) mod caches;
pub(crate) mod certificates;
pub(crate) mod child;
pub(crate) mod cluster;
pub(crate) mod json_text;
pub(crate) mod kafka;
pub(crate) mod ledger;
pub(crate) mod ports;
pub(crate) mod processors;
pub(crate) mod records;
pub(crate) mod redis;
pub(crate) mod schema;
pub(crate) mod servers;
pub(crate) mod shared;
pub(crate) mod system;
pub(crate) mod wait;
pub(crate) mod witness;
