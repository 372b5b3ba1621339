//! The cache: answers reads of single orders without asking the store. The trait [`Cache`] is what the service relies
//! on. A cache is never the source of truth and never delays a caller: a call that exceeds its small time budget counts
//! as a miss. A cache must never return an order that is older than the version that a caller has seen before.
//!
//! Its users keep one rule: code that has changed an order, or has learned from the store of a change, calls
//! [`invalidate`] after the commit and before it answers a caller.

mod off;
mod port;
mod redis;

pub use self::off::NoCache;
pub use self::port::{Cache, Lease, Lookup, Unavailable, invalidate};
pub use self::redis::{BadAddress, RedisCache};
