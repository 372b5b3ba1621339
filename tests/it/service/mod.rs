//! What the api processes run: waits and deadlines, fairness among callers, failed commits, streams, and races.

pub(crate) mod failed_commits;
pub(crate) mod fairness;
pub(crate) mod following;
pub(crate) mod races;
pub(crate) mod waits;
