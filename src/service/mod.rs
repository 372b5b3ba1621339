//! The service: what api processes run, and what both protocols call. An order enters through `intake`, is made durable
//! by the committer, and goes through the relay to the bus; the ACK of a worker wakes its caller. Each hop carries a
//! batch. This room relies on the traits of the store, the bus and the cache. It must never import an implementation of
//! them, a protocol, the worker or the checker.

mod ack_waiters;
mod committer;
mod deadline;
mod follow;
mod intake;
pub mod quota;
mod readiness;
mod reads;
mod receipt;
mod relay;
mod retention;
pub mod turns;
mod wiring;

pub use committer::{MOST_QUEUED, RETRY_AFTER};
pub use deadline::{Deadline, WaitPolicy};
pub use follow::{Following, History, Pages, StreamItem};
pub use intake::PutMode;
pub use readiness::{Checks, Readiness};
pub use reads::Missed;
pub use receipt::{Change, CommandReceipt, ProcessingState};
pub use retention::KEY_RETENTION;
pub use wiring::{Background, Options, Service};
