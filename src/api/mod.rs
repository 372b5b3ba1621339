//! The two protocols, HTTP and gRPC. `http` and `grpc` hold one each, `server` the connections of both, `openapi` the
//! builders of the published description. The files beside this one belong to both protocols: `problem` is the one
//! table of errors, `submission` the rules of a request's fields, `state` and `reads` the access to the service. This
//! room knows the service and the domain, and never a store, a bus or a cache; no other room knows a protocol.

mod blocking;
mod body;
mod caller;
mod failures;
mod grpc;
mod health;
mod http;
mod openapi;
mod options;
mod outcome;
pub mod problem;
mod problem_body;
mod reads;
mod request_id;
mod serve;
mod server;
mod state;
mod submission;
mod submission_json;
mod uri;

pub use http::docs::ASYNCAPI_JSON;
pub use http::router::openapi_json;
pub use options::{Listeners, Options};
pub use serve::{serve, serve_health};
pub use submission::Submission;
