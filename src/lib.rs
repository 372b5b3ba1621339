//! OrderStream: order intake that loses nothing. An order comes in over HTTP or gRPC, is made durable, is processed
//! asynchronously, and its caller still gets a synchronous, true answer.
//!
//! # The life of an order
//! 1. [`api`] reads the request within its limits and [`order`] parses it, once, into a command.
//! 2. [`service`]'s intake queues the command; the committer commits all that has arrived as one batch.
//! 3. The [`store`] writes the order, pending, and answers with the event that tells of it.
//! 4. The committer registers the caller as a waiter for that version, and only then lets the event go.
//! 5. The relay publishes the event to the [`bus`]; the bus confirms when it has taken responsibility.
//! 6. The [`worker`] takes a batch of events, asks the processor about each, and completes the batch in the store:
//!    each only if its version is still the newest and unprocessed.
//! 7. The worker sends the ACKs, and after them settles the deliveries.
//! 8. The ACK wakes the caller of exactly that version, and `api` answers.
//! 9. If anything dies in between, the order is still pending in the store and is published again.
//!
//! The [`checker`] proves it: an operator runs it beside a system or on a copy of its store.
//!
//! # The rooms
//! `main -> cli -> app -> api -> {service, worker, checker} -> {store, bus, cache} -> order`: each may import those to
//! its right; rooms in one pair of braces do not see each other. `api` sees no store, bus or cache. [`config`],
//! [`telemetry`], [`shutdown`] and [`backoff`] import no room; [`error`] sees only `order`. A test holds the `use`
//! lines to this.

pub mod api;
pub mod app;
pub mod backoff;
pub mod bus;
pub mod cache;
pub mod checker;
pub mod cli;
pub mod config;
pub mod error;
pub mod order;
pub mod service;
pub mod shutdown;
pub mod store;
pub mod telemetry;
pub mod worker;
