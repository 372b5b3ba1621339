//! The checker: what `verify` finds in damaged stores of both kinds, and orders whose event is nowhere.

pub(crate) mod postgres;
pub(crate) mod stuck;
pub(crate) mod verify;
