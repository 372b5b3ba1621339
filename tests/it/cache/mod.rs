//! The `Cache` port: one conformance suite for all caches, the modes and failures of Redis, and the service that reads
//! through the cache. A cache may always miss; it must never return an order that is older than one that was shown.

pub(crate) mod conformance;
pub(crate) mod faults;
pub(crate) mod modes;
pub(crate) mod redis;
pub(crate) mod service;
