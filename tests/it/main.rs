//! The integration tests, in one binary so that they link once. One module per subject: the contract over HTTP and
//! gRPC, input that nobody should send, hostile clients, limits and outages; the faults that a whole system survives; the command line
//! and the checker; what the domain promises, the golden messages; one conformance suite per port with an entry
//! for each implementation; and the rules of the house.

#![expect(clippy::unwrap_used, reason = "clippy knows tests by their attribute, and helpers have none")]

mod bad_input;
mod binary;
mod bus_conformance;
mod bus_kafka;
mod bus_local;
mod cache_conformance;
mod cache_faults;
mod cache_modes;
mod cache_redis;
mod cache_service;
mod cli;
mod cli_backup;
mod cli_events;
mod cli_orders;
mod cli_shared;
mod closed_output;
mod cluster;
mod commit_trouble;
mod contract_grpc;
mod contract_http;
mod crash_points;
mod crash_under_load;
mod dead_letters;
mod domain_properties;
mod ended_parts;
mod equal_requests;
mod external_ids;
mod fairness;
mod following;
mod golden_messages;
mod golden_topics;
mod hostile;
mod house;
mod json_text;
mod limits;
mod long_payloads;
mod migrations;
mod migrations_online;
mod nginx;
mod outages;
mod peers;
mod poison;
mod postgres_hosts;
mod postgres_locks;
mod postgres_plans;
mod postgres_pooler;
mod postgres_replicas;
mod postgres_sessions;
mod postgres_tls;
mod processing;
mod races;
mod redelivery;
mod signals;
mod sqlite_clock;
mod sqlite_copies;
mod sqlite_upgrades;
mod sqlite_wal;
mod stopping;
mod store_conformance;
mod store_postgres;
mod store_sqlite;
mod stuck;
mod support;
mod verify;
mod verify_postgres;
mod waits;
