//! The `Cache` port: one conformance suite, Redis in every kind of trouble, and the service that reads through it.

pub(crate) mod conformance;
pub(crate) mod faults;
pub(crate) mod modes;
pub(crate) mod redis;
pub(crate) mod service;
