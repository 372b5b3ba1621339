//! The worker: what worker processes run. It takes events from the bus in batches, calls the [`Processor`] for each,
//! and completes the batch in the store; it sends the ACKs, and only then settles the deliveries. An event may be
//! redelivered at any point and changes nothing the second time. This room relies on the traits of the store, the bus
//! and the cache. It must never import the service or the checker.

mod batches;
mod call;
mod keeping;
mod options;
mod processing;
mod processor;
mod recording;
mod rejects;
mod work;

pub use batches::Worker;
pub use options::{Options, WorkError};
pub use processor::{AmountProcessor, ProcessError, Processor};
