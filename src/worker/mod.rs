//! The worker: what worker processes run. It takes events from the bus in batches, asks the [`Processor`] about each,
//! and completes the batch in the store; it sends the ACKs, and only then settles the deliveries. An event may come
//! again at any point and changes nothing the second time. This room knows the traits of the store, the bus and the
//! cache, and neither the service nor the checker.

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
