//! The bus: carries events from the api to the worker, and ACKs back. The service and the worker rely on the trait
//! [`Bus`] alone; one conformance suite tests every implementation.
//!
//! Delivery is at least once: a delivery that is neither settled nor rejected is redelivered, at the latest after a
//! restart. ACKs are hints and may be lost; the store has the truth.

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
