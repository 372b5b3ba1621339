//! HTTP and gRPC as clients use them: the contract on every backend, bad input, limits, hostile clients, and a proxy
//! between client and server.

pub(crate) mod bad_input;
pub(crate) mod grpc;
pub(crate) mod hostile;
pub(crate) mod http;
pub(crate) mod limits;
pub(crate) mod nginx;
pub(crate) mod tags;
