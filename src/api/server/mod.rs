//! The connections of both protocols. `admission` decides which are admitted, `port` accepts and ends them,
//! `connection` holds the state of one, `exchange` the memory of a request and its response. A file here must know
//! neither a route nor an order.

pub(super) mod admission;
pub(super) mod clock;
pub(super) mod connection;
pub(super) mod exchange;
pub(super) mod forwarded;
pub(super) mod known_host;
pub(super) mod port;
pub(super) mod request_body;
pub(super) mod response_body;
pub(super) mod tcp;
