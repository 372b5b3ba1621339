//! Hostile clients: each test treats a running process like a careless or malicious client, operator or network does.
//! It asserts the effect on the other callers and on the process: their answers, liveness within a second, and the
//! memory that the process took.
//!
//! [`target`] is the real binary as its own process, [`peer`] and [`stalled`] are the clients that misbehave, over
//! HTTP/1 and HTTP/2, and [`bystander`] is the caller that must not notice.

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
mod unavailable_connections;
mod unfinished;
mod waiting;
mod worker_logs;

use std::time::Duration;

pub(crate) use target::assert_small;

/// How soon `/health/live` is answered under any load: the service promises it, because a probe that waits longer has
/// the process restarted.
const LIVENESS: Duration = Duration::from_secs(1);

/// The most memory that a process takes with the default budget while one peer misbehaves.
const MEMORY: u64 = 200 << 20;
