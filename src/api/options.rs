//! The options of the api: its listeners and its limits. Limits are in bytes, connections, calls and time; each has a
//! total and the share that one peer may hold. The values come from `config`, which has checked them; nothing here
//! checks them again.

use std::time::Duration;

use ipnet::IpNet;
use tokio::net::TcpListener;

use crate::config::REQUEST_OVERHEAD;
use crate::service::MOST_QUEUED;
use crate::service::quota::{Limit, Resource};

/// The listeners of the api.
#[derive(Debug)]
pub struct Listeners {
    /// HTTP.
    pub http: TcpListener,
    /// gRPC, where it is served.
    pub grpc: Option<TcpListener>,
}

impl From<TcpListener> for Listeners {
    /// HTTP alone.
    fn from(http: TcpListener) -> Listeners {
        Listeners { http, grpc: None }
    }
}

/// The options of the api. A share is the part of a limit that one peer may hold, in percent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// The largest request body, in bytes.
    pub body_limit: usize,
    /// The memory, in bytes, that all requests in flight of both protocols may hold; beyond it they are rejected.
    pub memory_budget: usize,
    /// The share of the memory, and of the queue of commands.
    pub memory_share: u8,
    /// The most connections of a listener at a time; where none of them is idle, more wait in the operating system's
    /// queue.
    pub max_connections: usize,
    /// The share of the connections.
    pub connection_share: u8,
    /// The most gRPC calls at a time, over all connections; beyond it they are rejected.
    pub max_calls: usize,
    /// The share of the calls.
    pub call_share: u8,
    /// The most streams of changes at a time; beyond it a request for one gets 503.
    pub max_streams: usize,
    /// The share of the streams.
    pub stream_share: u8,
    /// The proxies whose forwarding headers count. For any other proxy, the proxy itself is the peer.
    pub trusted_proxies: Vec<IpNet>,
    /// Whether gRPC serves reflection.
    pub reflection: bool,
    /// How long the head of a request may take; for the first one, from the opening of the connection.
    pub header_timeout: Duration,
    /// How long an HTTP connection may be idle between two requests.
    pub idle_timeout: Duration,
    /// How long a body may take.
    pub body_timeout: Duration,
    /// How long the pause between two chunks of a body may be.
    pub body_idle_timeout: Duration,
    /// How long a client may read nothing of its response before the connection is closed.
    pub write_timeout: Duration,
    /// How long the process still serves, with readiness `stopping`, after its stop began.
    pub shutdown_delay: Duration,
    /// How long requests in flight get to finish after that.
    pub shutdown_timeout: Duration,
    /// Whether HTTP answers only to IP addresses, `localhost` and `allowed_hosts`. A list of allowed hosts turns this
    /// on.
    pub checks_host: bool,
    /// Names that HTTP answers to; `*.name` means all names below a name, `*` means every name.
    pub allowed_hosts: Vec<String>,
    /// Origins whose pages may read responses and send changes; `*` means all. CORS is off where the list is empty.
    pub cors_allowed_origins: Vec<String>,
}

/// The most gRPC health checks at a time.
const MAX_CHECKS: usize = 256;

/// The most gRPC calls that are open at a time besides those that may run; most of them are about to be rejected. A
/// connection that opens one more is closed.
const MAX_OPEN_CALLS: usize = 2048;

/// The most long gRPC calls that are not about orders: health watches and reflection.
const MAX_WATCHES: usize = 256;

/// The smallest share of connections, calls or streams: a single client may need that many.
const SMALLEST_SHARE: usize = 16;

/// The smallest share of connections, where that is at most half of them.
const SMALLEST_CONNECTION_SHARE: usize = 256;

/// The smallest share of memory, in requests of the largest size.
const SMALLEST_MEMORY_SHARE: usize = 4;

/// The most commands in a batch.
pub(super) const MAX_BATCH_COMMANDS: usize = 1000;

/// The smallest share of the queue of commands: two of the largest batches.
const SMALLEST_QUEUE_SHARE: usize = 2 * MAX_BATCH_COMMANDS;

impl Options {
    /// The total of a resource, and the part that one peer may hold.
    pub(super) fn limit(&self, resource: Resource) -> Limit {
        let (total, share) = match resource {
            Resource::Memory => {
                let floor =
                    self.body_limit.saturating_add(REQUEST_OVERHEAD).saturating_mul(SMALLEST_MEMORY_SHARE);
                return Limit::shared(self.memory_budget, self.memory_share, floor);
            }
            Resource::HttpConnections | Resource::GrpcConnections => {
                let floor = SMALLEST_CONNECTION_SHARE.min(self.max_connections / 2).max(SMALLEST_SHARE);
                return Limit::shared(self.max_connections, self.connection_share, floor);
            }
            Resource::Calls => (self.max_calls, self.call_share),
            Resource::Watches => (MAX_WATCHES, self.call_share),
            Resource::Checks => (MAX_CHECKS, self.call_share),
            Resource::OpenCalls => (self.max_calls.saturating_add(MAX_OPEN_CALLS), self.call_share),
            Resource::Streams => (self.max_streams, self.stream_share),
            Resource::Commands => {
                return Limit::shared(MOST_QUEUED, self.memory_share, SMALLEST_QUEUE_SHARE);
            }
        };
        Limit::shared(total, share, SMALLEST_SHARE)
    }
}
