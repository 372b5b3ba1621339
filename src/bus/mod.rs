//! The bus: carries events from the api to the worker, and ACKs back. The trait [`Bus`] is what the service
//! and the worker rely on; one conformance suite holds every implementation to it.
//!
//! Delivery is at least once: a delivery that is neither settled nor rejected comes again, at the latest
//! after a restart. ACKs are hints and may be lost; the truth is in the store.

mod confirmations;
mod dead_letters;
mod delivery;
mod ends;
mod error;
pub mod kafka;
pub mod local;
mod port;

pub use confirmations::{Answer, Confirmations, Group};
pub use dead_letters::{DeadLetter, DeadLetterSink};
pub use delivery::{Delivery, Record, Reply, Source};
pub(in crate::bus) use delivery::{DeliveryReceipt, Settle};
pub use ends::{Behind, Ends};
pub use error::{PublishError, SubscribeError};
pub use port::{AckSink, Bus, Subscription};
