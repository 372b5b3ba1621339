//! The checker: what an operator runs beside a system or on a copy of its store. `verify` walks all orders, `stuck`
//! finds those whose events are nowhere, `redrive` has such orders published again, and `findings` says what can be
//! wrong with one. All but `redrive` only read. This room knows the traits of the store and the bus, and neither the
//! service nor the worker.

pub mod findings;
pub mod redrive;
pub mod stuck;
pub mod verify;
