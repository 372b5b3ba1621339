//! The worker: processors that hang or fail, events that are delivered again, late or out of order, and records that
//! cannot be read. In each case the other orders are processed.

pub(crate) mod poison;
pub(crate) mod processing;
pub(crate) mod redelivery;
