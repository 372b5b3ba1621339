//! Postgres: the promises of a store that several processes and other services share. The tests use real servers in
//! many states: standbys, poolers, TLS, old schemas, locks, crashes and broken connections.

pub(crate) mod hosts;
pub(crate) mod locks;
pub(crate) mod migrations;
pub(crate) mod migrations_online;
pub(crate) mod plans;
pub(crate) mod pooler;
pub(crate) mod replicas;
pub(crate) mod sessions;
pub(crate) mod store;
pub(crate) mod tls;
pub(crate) mod unknown_outcomes;
