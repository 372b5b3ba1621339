//! The connections of both protocols: who may open one, what each holds in memory, and when it ends.

pub(super) mod admission;
pub(super) mod connection;
pub(super) mod exchange;
pub(super) mod forwarded;
pub(super) mod listener;
