//! The HTTP front. `edge` is what every request passes, `http` the routes and their handlers, `problem` the one
//! table of errors, `docs` what the service tells about itself. This room knows the service and no store or bus; nothing outside it knows HTTP.

mod docs;
mod edge;
mod health;
mod http;
mod listener;
pub mod problem;
mod view;

pub use docs::{ASYNCAPI_JSON, openapi_json};
pub use listener::serve;

use std::time::Duration;

/// The limits of the front, in bytes, connections and time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// The largest request body, in bytes.
    pub body_limit: usize,
    /// What all requests in flight may hold in memory, in bytes; beyond it the front answers 503.
    pub memory_budget: usize,
    /// The most connections at a time; more wait in the operating system's queue.
    pub max_connections: usize,
    /// How long the headers of a request may take, counted from the connection's start or its last answer. An
    /// idle connection is closed after it.
    pub header_timeout: Duration,
    /// How long a body may take.
    pub body_timeout: Duration,
    /// How long to go on serving, and answer "not ready", once told to stop.
    pub shutdown_delay: Duration,
    /// How long requests in flight get to finish after that.
    pub shutdown_timeout: Duration,
}
