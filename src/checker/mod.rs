//! The checker: what an operator runs beside a system or on a copy of its store. `verify` walks all orders, `stuck`
//! finds pending orders whose events are missing, `redrive` has such orders published again, and `findings` lists the
//! possible faults. All but `redrive` only read. This room relies on the traits of the store and the bus. It must never
//! import the service or the worker.

pub mod findings;
pub mod redrive;
pub mod stuck;
pub mod verify;
