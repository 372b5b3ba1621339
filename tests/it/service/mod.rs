//! The service that api processes run: waits and deadlines, fairness among callers, failed commits, streams, concurrent
//! commands, retention, and the end of a process.

pub(crate) mod draining;
pub(crate) mod failed_commits;
pub(crate) mod fairness;
pub(crate) mod following;
pub(crate) mod races;
pub(crate) mod retention;
pub(crate) mod waits;
