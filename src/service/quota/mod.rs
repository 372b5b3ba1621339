//! Quotas: what all callers may hold together, and what one peer may hold of it.

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
