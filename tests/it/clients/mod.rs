//! Clients of the service under test: HTTP, gRPC, server-sent events, raw bytes, and load with a model of what each
//! client was told. The tests know what a right answer is; here is only what all of them ask of every answer.

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
