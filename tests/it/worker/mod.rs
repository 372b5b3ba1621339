//! The worker: processors that hang or fail, events that come again, and records that cannot be read.

pub(crate) mod poison;
pub(crate) mod processing;
pub(crate) mod redelivery;
