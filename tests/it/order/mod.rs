//! The domain: properties that hold for every input, the equality of requests with an idempotency key, and the messages
//! that other services read, byte for byte. None of these tests needs a store or a bus.

pub(crate) mod equal_requests;
pub(crate) mod golden_messages;
pub(crate) mod properties;
