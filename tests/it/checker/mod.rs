//! The checker: the findings of `verify` in damaged stores of both kinds, and orders whose event is neither in the
//! outbox nor on the bus. The tests damage the stores with SQL, past the service.

pub(crate) mod postgres;
pub(crate) mod stuck;
pub(crate) mod verify;
