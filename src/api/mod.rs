//! The fronts, HTTP and gRPC. `edge` is what every request of HTTP passes, `http` the routes and their handlers, `grpc`
//! the other protocol, `problem` the one table of errors for both, `docs` what the service tells about itself. This room knows the service and no store or bus;
//! nothing outside it knows a protocol.

mod batch;
mod budget;
mod docs;
mod edge;
mod etag;
mod grpc;
mod health;
mod history;
mod http;
mod listener;
mod lists;
mod live;
mod prefer;
pub mod problem;
mod query;
mod reads;
mod view;
mod writes;

pub use docs::{ASYNCAPI_JSON, openapi_json};
pub use listener::serve;

use std::time::Duration;

use tokio::net::TcpListener;

/// Where the fronts listen.
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

/// The limits of the fronts, in bytes, connections and time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// The largest request body, in bytes.
    pub body_limit: usize,
    /// What all requests in flight, of both protocols, may hold in memory, in bytes; beyond it they are turned away.
    pub memory_budget: usize,
    /// The most connections of a listener at a time; more wait in the operating system's queue.
    pub max_connections: usize,
    /// The most streams of changes at a time; beyond it the front answers 503.
    pub max_streams: usize,
    /// How long the headers of a request may take, counted from the connection's start or its last answer. An
    /// idle connection of HTTP is closed after it; a silent one of gRPC is asked whether anybody is there.
    pub header_timeout: Duration,
    /// How long a body may take.
    pub body_timeout: Duration,
    /// How long to go on serving, and answer "not ready", once told to stop.
    pub shutdown_delay: Duration,
    /// How long requests in flight get to finish after that.
    pub shutdown_timeout: Duration,
}
