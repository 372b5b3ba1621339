//! The cache: answers reads of single orders without asking the store. The trait [`Cache`] is what the service
//! relies on. A cache is never the truth and never in the way: what it cannot do in its small budget of time
//! counts as a miss, and nothing that it answers is older than what a caller was told before.
//!
//! Its users keep one rule: code that has changed an order, or has learned from the store of a change, calls
//! [`invalidate`] after the commit and before it answers a caller.

mod off;
mod port;
mod redis;

pub use self::off::NoCache;
pub use self::port::{Cache, Lease, Lookup, Unavailable, invalidate};
pub use self::redis::{BadAddress, RedisCache};
