//! Clients of the service under test: HTTP, gRPC, server-sent events, raw bytes, and a load whose clients keep a model
//! of their confirmed orders. The tests know the expected answers; this module checks only what every answer must have.

pub(crate) mod answers;
pub(crate) mod grpc;
pub(crate) mod http;
pub(crate) mod load;
pub(crate) mod model;
pub(crate) mod stream;
pub(crate) mod wire;

/// A user.
pub(crate) const USER: &str = "7e1a3f6c-55aa-4b11-8f5c-0d8b7c1f2a33";

/// Another user.
pub(crate) const STRANGER: &str = "11111111-2222-4333-8444-555555555555";

/// An id that no order has.
pub(crate) const UNKNOWN_ID: &str = "0196f1c8-7b1e-7000-8000-00000000dead";
