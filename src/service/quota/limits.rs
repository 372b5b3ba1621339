//! What there is a limited amount of, how much there is of it, and how much of that one peer may hold.

/// What there is a limited amount of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resource {
    /// Bytes of memory.
    Memory,
    /// Connections to the HTTP port.
    HttpConnections,
    /// Connections to the gRPC port.
    GrpcConnections,
    /// Calls of gRPC under way, over all connections.
    Calls,
    /// Long calls of gRPC that answer no order: health watches and reflection.
    Watches,
    /// Streams of order changes.
    Streams,
    /// Calls of gRPC that ask how the service is.
    Checks,
    /// All calls of gRPC that are there, those that are refused as well.
    OpenCalls,
    /// Commands that are queued to be committed, or wait for an order or a key that is busy.
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
    /// A limit of which one peer may hold a share, in percent, and `floor` units at least: a share of little would keep
    /// a single caller from what it may do.
    #[must_use]
    pub fn shared(total: usize, percent: u8, floor: usize) -> Limit {
        let share = (total as u128 * u128::from(percent.min(100)) / 100) as usize;
        Limit { total, per_peer: share.max(floor).min(total) }
    }
}
