//! The integration tests, in one binary so that they link once. They mirror the rooms of `src`: `order`, `store`,
//! `bus`, `cache`, `service`, `worker`, `checker`, `api`, `cli`; `system` holds the faults that a whole system
//! survives, and `architecture` the rules that the sources keep; `docs` holds the pages to what the program does.
//! `harness`, `clients` and `faults` are what they share.

#![expect(clippy::unwrap_used, reason = "clippy knows tests by their attribute, and helpers have none")]

mod api;
mod architecture;
mod bus;
mod cache;
mod checker;
mod cli;
mod clients;
mod docs;
mod faults;
mod harness;
mod order;
mod service;
mod store;
mod system;
mod worker;
