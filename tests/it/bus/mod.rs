//! The `Bus` port: one conformance suite, an entry for each implementation, the promises of one implementation alone,
//! and the messages in the topics, byte for byte.

pub(crate) mod conformance;
pub(crate) mod golden_topics;
pub(crate) mod kafka;
pub(crate) mod local;
pub(crate) mod local_dead_letters;
