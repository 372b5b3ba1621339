//! Why a bus does not take an event, and why a worker cannot subscribe to it. Each error says whether the caller may
//! try again. Both implementations use these errors. The relay publishes an `Unavailable` event again, and marks the
//! order of a `Refused` one failed for good. So a bus must answer `Refused` only where the event itself is the reason.

use thiserror::Error;

/// Why the bus did not take an event.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PublishError {
    /// The bus cannot be reached, or lost the event; publish it again later.
    #[error("the bus is not available: {0}")]
    Unavailable(String),
    /// The bus will never take this event (it is too large, for example).
    #[error("the bus refuses the event: {0}")]
    Refused(String),
}

/// Why a worker cannot subscribe.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SubscribeError {
    /// The in-process bus takes one worker, which has subscribed already.
    #[error("the in-process bus already has its worker")]
    Taken,
    /// The bus cannot be reached.
    #[error("the bus is not available: {0}")]
    Unavailable(String),
}
