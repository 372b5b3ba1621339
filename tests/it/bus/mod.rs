//! The `Bus` port: one conformance suite, an entry for each implementation, what only one of them promises, and the
//! messages as they lie in the topics.

pub(crate) mod conformance;
pub(crate) mod golden_topics;
pub(crate) mod kafka;
pub(crate) mod local;
pub(crate) mod local_dead_letters;
