//! Postgres: what a store promises that several processes and other services share, on real servers in every state.

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
