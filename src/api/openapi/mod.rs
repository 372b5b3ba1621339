//! The builders of the OpenAPI document. A leaf: a handler describes its operation beside itself with what is here, and
//! the document is made of the routes that it is given. Nothing here knows a handler or a route, so that no description
//! can be forgotten in a second place.

pub(super) mod document;
pub(super) mod parameters;
pub(super) mod problems;
pub(super) mod responses;
pub(super) mod schema;
