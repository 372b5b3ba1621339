//! The domain: properties that hold for every input, and the messages that other services read, byte for byte.

pub(crate) mod equal_requests;
pub(crate) mod golden_messages;
pub(crate) mod properties;
