//! The builders of the OpenAPI document. A handler uses them to describe its operation in its own file, and the
//! document is made of the given routes. Nothing here may know a handler or a route, so that a description has only one
//! place.

pub(super) mod document;
pub(super) mod parameters;
pub(super) mod problems;
pub(super) mod responses;
pub(super) mod schema;
