//! Quotas: what all callers may hold together, and what one peer may hold of it. A permit counts until it is dropped,
//! so that nothing is counted twice or forgotten. A peer must never hold more than its share, except one that speaks
//! for others, which counts for the total alone.

mod limits;
mod peers;
mod permit;
#[cfg(test)]
mod tests;
mod turn;

pub use limits::{Limit, Resource};
pub use peers::{Peer, Quotas};
pub use permit::{HeldMemory, Permit};
pub use turn::Turn;
