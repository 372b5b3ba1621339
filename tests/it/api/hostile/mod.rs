//! Hostile clients: each test does to a running process what a careless or malicious client, operator or network does,
//! and asserts what the other callers saw meanwhile: their answers, liveness within a second, and how much memory the
//! process took.
//!
//! [`target`] is the real binary as a process of its own, [`peer`] and [`stalled`] are the clients that misbehave, over
//! HTTP/1 and HTTP/2, and [`bystander`] is the caller who must not notice.

mod bystander;
mod costly;
mod descriptors;
mod logging;
mod memory;
mod mixture;
mod overload;
mod peer;
mod queue;
mod roles;
mod shares;
mod stalled;
mod target;
mod unfinished;
mod useless_links;
mod waiting;
mod worker_logs;

use std::time::Duration;

pub(crate) use target::assert_small;

/// How soon `/health/live` is answered, whatever other clients do: the service promises it, for a probe that waits
/// longer has the process restarted.
const LIVENESS: Duration = Duration::from_secs(1);

/// The most memory that a process takes with the default budget, whatever one peer does.
const MEMORY: u64 = 200 << 20;
