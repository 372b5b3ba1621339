//! The limited resources, the amount of each, and the share of it that one peer may hold. Memory is in bytes, all other
//! resources are counts. A share is never above the total, and is at least a floor where the total allows it. `Quotas`
//! has the amounts in the order in which the resources are declared, because a resource is used as an index.

/// A resource of a limited amount.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resource {
    /// Bytes of memory.
    Memory,
    /// Connections to the HTTP port.
    HttpConnections,
    /// Connections to the gRPC port.
    GrpcConnections,
    /// gRPC calls in flight, over all connections.
    Calls,
    /// Long gRPC calls that are not about orders: health watches and reflection.
    Watches,
    /// Streams of order changes.
    Streams,
    /// gRPC health checks.
    Checks,
    /// All open gRPC calls, also those that are refused.
    OpenCalls,
    /// Commands that are queued to be committed, or wait for an order or a key in flight.
    Commands,
}

/// How many resources there are.
pub(super) const RESOURCES: usize = 9;

/// How much there is of a resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    /// For all peers together.
    pub total: usize,
    /// For one peer.
    pub per_peer: usize,
}

impl Limit {
    /// A limit with a share for one peer, in percent, and `floor` units at least: a share of a small total would be too
    /// little for a single caller.
    #[must_use]
    pub fn shared(total: usize, percent: u8, floor: usize) -> Limit {
        let share = (total as u128 * u128::from(percent.min(100)) / 100) as usize;
        Limit { total, per_peer: share.max(floor).min(total) }
    }
}
