//! The fronts as clients meet them: the contract over HTTP and gRPC on every backend, bad input, limits, hostile
//! clients, and a proxy in between.

pub(crate) mod bad_input;
pub(crate) mod grpc;
pub(crate) mod hostile;
pub(crate) mod http;
pub(crate) mod limits;
pub(crate) mod nginx;
pub(crate) mod tags;
