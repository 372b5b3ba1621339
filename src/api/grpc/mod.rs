//! The gRPC front, over the same service as HTTP. `front` serves connections, `middleware` is what every call passes,
//! `orders` the methods and `status` what a problem looks like here. The messages are an older service's and stay as
//! they are: what they have no field for travels as metadata.

mod deadline;
mod front;
mod health;
mod message;
mod metadata;
mod middleware;
mod orders;
mod preface;
mod proto;
mod reflection;
mod size;
mod socket;
mod status;
mod until;

pub(super) use front::Grpc;
