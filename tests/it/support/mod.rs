//! What the integration tests share: clients, whole systems to point them at, ways to break these, and eyes to
//! look at what is left. The tests know what a right answer is; here is only what all of them ask of every
//! answer, and of every system at its end.

pub(crate) mod answers;
pub(crate) mod app;
pub(crate) mod backend;
pub(crate) mod bus;
pub(crate) mod cable;
pub(crate) mod caches;
pub(crate) mod certificates;
pub(crate) mod child;
pub(crate) mod client;
pub(crate) mod cluster;
pub(crate) mod grpc;
pub(crate) mod hooks;
pub(crate) mod kafka;
pub(crate) mod ledger;
pub(crate) mod load;
pub(crate) mod lock;
pub(crate) mod processors;
pub(crate) mod records;
pub(crate) mod redis;
pub(crate) mod schema;
pub(crate) mod servers;
pub(crate) mod shared;
pub(crate) mod story;
pub(crate) mod stream;
pub(crate) mod system;
pub(crate) mod wait;
pub(crate) mod wire;
pub(crate) mod witness;

/// A user.
pub(crate) const USER: &str = "7e1a3f6c-55aa-4b11-8f5c-0d8b7c1f2a33";

/// Somebody else.
pub(crate) const STRANGER: &str = "11111111-2222-4333-8444-555555555555";

/// An id that no order has.
pub(crate) const NOBODYS: &str = "0196f1c8-7b1e-7000-8000-00000000dead";
