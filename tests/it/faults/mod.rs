//! Means to break a system at an exact point: hooks before each call of the store and the bus, locks in the database,
//! and a network that stops. A test waits until its fault is reached, and does not depend on timing.

pub(crate) mod hooks;
pub(crate) mod lock;
pub(crate) mod network;
