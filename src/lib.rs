//! OrderStream: order intake that loses no order. An order arrives over HTTP or gRPC, is stored durably, and is
//! processed asynchronously; its caller still gets a synchronous answer with the outcome.
//!
//! # The life of an order
//! 1. [`api`] reads the request within its limits and [`order`] parses it, once, into a command.
//! 2. [`service`]'s intake queues the command; the committer commits all waiting commands as one batch.
//! 3. The [`store`] writes the order, pending, and returns its event.
//! 4. The committer registers the caller as a waiter for that version, and only then passes the event on.
//! 5. The relay publishes the event to the [`bus`]; the bus confirms when it has stored the event.
//! 6. The [`worker`] takes a batch of events, calls the processor for each, and completes the batch in the store: each
//!    order only if its version is still the newest and unprocessed.
//! 7. The worker sends the ACKs, and after them settles the deliveries.
//! 8. The ACK wakes the caller of exactly that version, and `api` answers.
//! 9. If a process dies in between, the order is still pending in the store, and its event is published again.
//!
//! The [`checker`] verifies this: an operator runs it on a live system or on a copy of its store.
//!
//! # The rooms
//! `main -> cli -> app -> api -> {service, worker, checker} -> {store, bus, cache} -> order`: each may import those to
//! its right; rooms in one pair of braces do not see each other. `api` sees no store, bus or cache. [`config`],
//! [`telemetry`], [`shutdown`] and [`backoff`] import no room; [`error`] sees only `order`. A test checks the `use`
//! lines.

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
